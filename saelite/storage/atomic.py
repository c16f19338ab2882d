"""Files and folders that appear whole or not at all.

They are written beside their place and moved there in one step, so that a run that is killed half-way leaves nothing
that could be taken for a result.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saelite.storage.checksums import crc32, sums_file
from saelite.storage.disk import in_words

STALE_AFTER = 24 * 3600  # seconds after which an abandoned temporary file cannot belong to a live run


@contextmanager
def atomic_folder(path, checksums: bool = False) -> Iterator[Path]:
    """Fill a folder that appears at `path` only once it is whole.

    If another process has put a folder there meanwhile, that one stays and ours is dropped: under one key both hold
    the same result.

    Parameters
    ----------
    path : str or pathlib.Path
        Where the folder is to appear.
    checksums : bool
        Keep the checksums of its files in it, for :func:`saelite.storage.checksums.fault`.

    Yields
    ------
    pathlib.Path
        An empty temporary folder beside `path`, to be filled. It is removed if the block raises.

    Raises
    ------
    OSError
        In words if the disk is full or cannot be written to.
    """
    path = Path(path)
    with in_words(path):
        temporary = _temporary(path)
        temporary.mkdir()
        try:
            yield temporary
            if checksums:
                keep_checksums(temporary)
            for inside in temporary.rglob("*"):
                _to_disk(inside)
            _to_disk(temporary)
            try:
                os.replace(temporary, path)
            except OSError:
                if not path.is_dir():
                    raise
            _to_disk(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # nothing is left of it after a successful move


@contextmanager
def atomic_file(path, checksums: bool = False) -> Iterator[Path]:
    """Write a file that appears at `path` only once it is whole, in place of one that is there.

    Parameters
    ----------
    path : str or pathlib.Path
        Where the file is to appear.
    checksums : bool
        Keep its checksum in a file beside it, for :func:`saelite.storage.checksums.fault`.

    Yields
    ------
    pathlib.Path
        A temporary path beside `path` with the same suffix, to be written. It is removed if the block raises.

    Raises
    ------
    OSError
        In words if the disk is full or cannot be written to.
    """
    path = Path(path)
    with in_words(path):
        temporary = _temporary(path)
        try:
            yield temporary
            _to_disk(temporary)
            if checksums:
                # Of the new file and of the one that is there: whoever is killed before the next line keeps the latter.
                there = [file for file in (temporary, path) if file.exists()]
                sums = [number for file in there for number in (file.stat().st_size, crc32(file))]
                with atomic_file(sums_file(path)) as made:
                    made.write_text(json.dumps({path.name: sums}), encoding="utf-8")
            os.replace(temporary, path)
            _to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def keep_checksums(folder, names=None) -> None:
    """Write sizes and checksums of a folder's files, or of those with some names, into it; see
    `saelite.storage.checksums`."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != sums_file(folder))
    files = [path for path in files if names is None or path.name in names]
    sums = {path.relative_to(folder).as_posix(): [path.stat().st_size, crc32(path)] for path in files}
    with atomic_file(sums_file(folder)) as made:
        made.write_text(json.dumps(sums, indent=1), encoding="utf-8")


def _temporary(path: Path) -> Path:
    """Name a sibling of `path`, and clear what a killed run left there long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".tmp-*-{path.name}"):
        try:
            if time.time() - old.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        except OSError:
            pass  # another process cleared it first
    return path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")


def _to_disk(path: Path) -> None:
    """Have the system write a file, or the list of a folder's names, to the disk itself."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

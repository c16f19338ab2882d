"""Where results are kept between runs, and how they get there whole.

A result (a harvest, a trained SAE, a table) lives under a key made of everything that went into it, so that asking
twice with the same settings computes once. It is written beside its place and moved there in one step, so that a run
that is killed half-way leaves nothing that could be taken for a result.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

STALE_AFTER = 24 * 3600  # seconds after which an abandoned temporary file cannot belong to a live run


def folder() -> Path:
    """Return the folder that keeps results, made if it is missing.

    Returns
    -------
    pathlib.Path
        The folder named by the environment variable ``SAELITE_CACHE``; without it ``saelite`` under
        ``XDG_CACHE_HOME``, which is ``~/.cache`` unless set.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """
    chosen = os.environ.get("SAELITE_CACHE")
    path = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "saelite"
    path = path.expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The cache folder {path} cannot be made ({error.strerror}): set SAELITE_CACHE to a writable folder."
        ) from None
    return path


def key(**settings) -> str:
    """Return a short name for a result that follows from its settings alone.

    Parameters
    ----------
    **settings
        Everything that went into the result: numbers, strings, booleans, None, and lists and dictionaries of them.
        Their order does not matter; a tuple counts as a list.

    Returns
    -------
    str
        16 hexadecimal characters: the start of the SHA-256 of the settings as canonical JSON.

    Raises
    ------
    TypeError
        If a setting is not plain JSON, such as a tensor, a function, NaN or infinity.
    """
    for name, value in settings.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise TypeError(
                f"The setting {name!r} ({type(value).__name__}) cannot be part of a cache key: "
                "give it as finite numbers, strings, lists or dictionaries."
            ) from None
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@contextmanager
def only_maker(path) -> Iterator[None]:
    """Be the only process that makes what is to appear at `path`; others that want to wait here.

    Whoever comes after should look first whether it is there by now. The system takes the lock from a process that
    dies, so that none can be left behind; the file beside `path` that it hangs on stays and means nothing.

    Parameters
    ----------
    path : str or pathlib.Path
        What is to be made once.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f"{path.name}.lock")):
        yield


@contextmanager
def atomic_folder(path) -> Iterator[Path]:
    """Fill a folder that appears at `path` only once it is whole.

    If another process has put a folder there meanwhile, that one stays and ours is dropped: under one key both hold
    the same result.

    Parameters
    ----------
    path : str or pathlib.Path
        Where the folder is to appear.

    Yields
    ------
    pathlib.Path
        An empty temporary folder beside `path`, to be filled. It is removed if the block raises.
    """
    path = Path(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
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
def atomic_file(path) -> Iterator[Path]:
    """Write a file that appears at `path` only once it is whole, in place of one that is there.

    Parameters
    ----------
    path : str or pathlib.Path
        Where the file is to appear.

    Yields
    ------
    pathlib.Path
        A temporary path beside `path` with the same suffix, to be written. It is removed if the block raises.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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

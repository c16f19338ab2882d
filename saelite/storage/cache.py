"""Where results are kept between runs.

A result (a harvest, a trained SAE, a table) lives under a key made of everything that went into it, so that asking
twice with the same settings computes once. It appears whole (:mod:`saelite.storage.atomic`), and with checksums
(:mod:`saelite.storage.checksums`), so that one that the disk has spoilt since is found and made again.
"""

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from saelite.storage.checksums import fault, sums_file
from saelite.storage.disk import NOT_WRITABLE, in_cache, in_words


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
def only_maker(path) -> Iterator[bool]:
    """Be the only process that makes, or opens, what is at `path`; others that want to wait here.

    What is there but damaged, as :func:`saelite.storage.checksums.fault` finds, is removed with a warning, so that it
    is made again. The system takes the lock from a process that dies, so that none can be left behind; the file beside
    `path` that it hangs on stays, and its time says when `path` was last asked for.

    Parameters
    ----------
    path : str or pathlib.Path
        A result, or what is to become one.

    Yields
    ------
    bool
        Whether it is missing and has to be made. In a cache that cannot be written to, what is there is yielded as it
        is, without a lock.

    Raises
    ------
    OSError
        If it is missing, or damaged, and the cache cannot be written to.
    """
    path = Path(path)
    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        os.utime(lock.lock_file)
    except OSError as error:
        lock.release()
        if error.errno not in NOT_WRITABLE:
            with in_words(path):
                raise
        found = fault(path) if path.exists() else "it is not there"
        if found:
            why = f"{in_cache(path)} has to be made ({found}), and the cache folder cannot be written to"
            mend = "set SAELITE_CACHE to a folder that can"
            raise OSError(error.errno, f"{why}: {mend}", str(path.parent)) from None
        yield False
        return
    try:
        for ending in ("", ".*"):  # of a killed run: the lock is ours now
            for left in path.parent.glob(f".tmp-????????-{path.name}{ending}"):
                _remove(left)
        if path.exists() and (found := fault(path)):
            warnings.warn(f"{in_cache(path)} in the cache is damaged ({found}): it is made again.", stacklevel=3)
            remove(path)
        with in_words(path):
            yield not path.exists()
    except KeyboardInterrupt as stopped:
        stopped.add_note("Stopped. What had finished is kept: the same call goes on from there.")
        raise
    finally:
        lock.release()


def remove(path) -> None:
    """Remove a result with its checksums; it is gone in one step, so that a kill leaves no half of it."""
    path = Path(path)
    if not path.is_dir():
        sums_file(path).unlink(missing_ok=True)
    aside = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        os.replace(path, aside)
    except FileNotFoundError:
        return
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

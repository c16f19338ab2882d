"""Where results are kept between runs: under a key made of all that went into them, so that each is made once."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from saelite.storage.files import NOT_WRITABLE, clear, fault, in_words, remove


def folder() -> Path:
    """The folder that keeps results, made if it is missing; OSError if it cannot be made.

    It is what the environment variable ``SAELITE_CACHE`` names, else ``saelite`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(os.environ.get("SAELITE_CACHE") or f"{base}/saelite").expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        words = f"The cache folder {path} cannot be made ({error.strerror}): set SAELITE_CACHE to a writable folder."
        raise OSError(words) from None
    return path


def key(**settings: Any) -> str:
    """A short name for a result: 16 hexadecimal characters, from the SHA-256 of its settings as canonical JSON.

    Settings are all that went into it: finite numbers, strings, booleans, None, and lists and dictionaries of them.
    Their order does not matter; a tuple counts as a list. Anything else, such as a tensor, is a TypeError.
    """
    for name, value in settings.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            why = f"The setting {name!r} ({type(value).__name__}) cannot be part of a cache key"
            raise TypeError(f"{why}: give it as finite numbers, strings, lists or dictionaries.") from None
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@contextmanager
def only_maker(path: Path | str) -> Iterator[bool]:
    """Be the only process that makes, or opens, the result at `path`; others that want to wait here.

    Yields whether it is missing and has to be made. One with a :func:`~saelite.storage.files.fault` is first removed
    with a warning. The system takes the lock from a process that dies; the time of its file says when `path` was last
    asked for. A cache that cannot be written to is read without a lock; what it lacks or holds damaged is an OSError.
    """
    path = Path(path)
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire()
        os.utime(lock.lock_file)
    except OSError as error:
        lock.release()
        with in_words(path):
            if error.errno not in NOT_WRITABLE or not path.exists() or fault(path):
                raise
        yield False
        return
    try:
        clear(path)  # the lock is ours now
        if path.exists() and (found := fault(path)):
            where = "/".join(path.parts[-2:])  # not where the cache is: a warning may end up on a page
            warnings.warn(f"{where} in the cache is damaged ({found}): it is made again.", stacklevel=3)
            remove(path)
        with in_words(path):
            yield not path.exists()
    except KeyboardInterrupt as stopped:
        stopped.add_note("Stopped. What had finished is kept: the same call goes on from there.")
        raise
    finally:
        lock.release()

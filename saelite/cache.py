"""Where results are kept between runs, and how they get there whole.

A result (a harvest, a trained SAE, a table) lives under a key made of everything that went into it, so that asking
twice with the same settings computes once. It is written beside its place and moved there in one step, so that a run
that is killed half-way leaves nothing that could be taken for a result. Checksums are kept with it, so that one that
the disk has spoilt since is found and made again.
"""

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

STALE_AFTER = 24 * 3600  # seconds after which an abandoned temporary file cannot belong to a live run
NO_ROOM = errno.ENOSPC, errno.EDQUOT
NOT_WRITABLE = errno.EROFS, errno.EACCES, errno.EPERM


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

    What is there but damaged, as `fault` finds, is removed with a warning, so that it is made again. The system takes
    the lock from a process that dies, so that none can be left behind; the file beside `path` that it hangs on stays,
    and its time says when `path` was last asked for.

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
            with _in_words(path):
                raise
        found = fault(path) if path.exists() else "it is not there"
        if found:
            why = f"{_named(path)} has to be made ({found}), and the cache folder cannot be written to"
            mend = "set SAELITE_CACHE to a folder that can"
            raise OSError(error.errno, f"{why}: {mend}", str(path.parent)) from None
        yield False
        return
    try:
        for ending in ("", ".*"):  # of a killed run: the lock is ours now
            for left in path.parent.glob(f".tmp-????????-{path.name}{ending}"):
                _remove(left)
        if path.exists() and (found := fault(path)):
            warnings.warn(f"{_named(path)} in the cache is damaged ({found}): it is made again.", stacklevel=3)
            remove(path)
        with _in_words(path):
            yield not path.exists()
    except KeyboardInterrupt as stopped:
        stopped.add_note("Stopped. What had finished is kept: the same call goes on from there.")
        raise
    finally:
        lock.release()


def fault(path) -> str | None:
    """Look whether a result is what was written, by its checksums.

    Sizes are compared first, then the CRC-32 of every byte, at some 1 GB a second where the system has the file in
    memory: half a second for the book's largest store of 460 MB, when it is opened. This finds a file that is missing,
    cut short or longer, every run of up to 32 flipped bits, and of all other damage all but one part in four billion.
    It does not find damage on purpose: whoever can change a file can change its checksum. Nor can it judge what was
    written with no checksums, by an earlier version or in the moment before a kill: that passes.

    Parameters
    ----------
    path : str or pathlib.Path
        What `atomic_file` or `atomic_folder` made.

    Returns
    -------
    str or None
        What is wrong in a few words; None if nothing is found.
    """
    path = Path(path)
    try:
        sums = json.loads(_sums_file(path).read_text(encoding="utf-8"))
        for name, (size, checksum) in sums.items():
            file = path / name if path.is_dir() else path
            found = file.stat().st_size
            if found != size:
                return f"{name} has {found:,} bytes of {size:,}"
            if crc32(file) != checksum:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return None if Path(error.filename) == _sums_file(path) else f"{Path(error.filename).name} is missing"
    except (ValueError, TypeError, AttributeError):
        return "its checksums cannot be read"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return "the disk cannot read it"
    return None


def remove(path) -> None:
    """Remove a result with its checksums; it is gone in one step, so that a kill leaves no half of it."""
    path = Path(path)
    if not path.is_dir():
        _sums_file(path).unlink(missing_ok=True)
    aside = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        os.replace(path, aside)
    except FileNotFoundError:
        return
    _remove(aside)


def need_room(path, wanted: float, what: str) -> None:
    """Refuse what the disk has no room for, before the work starts.

    Parameters
    ----------
    path : str or pathlib.Path
        A folder on that disk.
    wanted : float
        Bytes.
    what : str
        What needs them, for the message.

    Raises
    ------
    OSError
        If fewer bytes are free.
    """
    free = shutil.disk_usage(path).free
    if free < wanted:
        words = f"{what} needs {wanted / 1e9:.2f} GB and {free / 1e9:.2f} GB are free"
        raise OSError(errno.ENOSPC, f"No room on the disk: {words}. {MEND}", str(path))


MEND = "Free some space, or set SAELITE_CACHE to a folder on a larger disk"


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
        Keep the checksums of its files in it, for `fault`.

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
    with _in_words(path):
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
        Keep its checksum in a file beside it, for `fault`.

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
    with _in_words(path):
        temporary = _temporary(path)
        try:
            yield temporary
            _to_disk(temporary)
            if checksums:
                sums = {path.name: [temporary.stat().st_size, crc32(temporary)]}
                # None for a moment, rather than one that does not fit: whoever is killed here loses no whole file.
                _sums_file(path).unlink(missing_ok=True)
            os.replace(temporary, path)
            if checksums:
                with atomic_file(_sums_file(path)) as made:
                    made.write_text(json.dumps(sums), encoding="utf-8")
            _to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def keep_checksums(folder, names=None) -> None:
    """Write the sizes and checksums of a folder's files, or of those with some names, into it, for `fault`."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != _sums_file(folder))
    files = [path for path in files if names is None or path.name in names]
    sums = {path.relative_to(folder).as_posix(): [path.stat().st_size, crc32(path)] for path in files}
    with atomic_file(_sums_file(folder)) as made:
        made.write_text(json.dumps(sums, indent=1), encoding="utf-8")


def crc32(path) -> int:
    """The CRC-32 of a file's bytes, read a megabyte at a time."""
    checksum = 0
    with open(path, "rb", buffering=0) as file:
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _sums_file(path: Path) -> Path:
    return path / "checksums.json" if path.is_dir() else path.with_name(f"{path.name}.checksum")


def _named(path: Path) -> str:
    """Kind and key, without where the cache is: a warning may end up on a page."""
    return f"{path.parent.name}/{path.name}"


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Say in a sentence that a disk is full or read-only; safetensors has an error of its own that tells the number."""
    try:
        yield
    except Exception as error:
        number, place = getattr(error, "errno", None), str(getattr(error, "filename", None))
        if (number in NO_ROOM or f"(os error {errno.ENOSPC})" in str(error)) and "No room" not in str(error):
            words = f"No room on the disk for {_named(path)}. {MEND}"
            raise OSError(errno.ENOSPC, words, str(path.parent)) from error
        if number in NOT_WRITABLE and place.startswith(str(path.parent)) and "SAELITE_CACHE" not in str(error):
            words = f"{_named(path)} cannot be written ({error.strerror}): set SAELITE_CACHE to a writable folder"
            raise OSError(number, words, str(path.parent)) from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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

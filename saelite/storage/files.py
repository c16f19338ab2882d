"""Files and folders that appear whole or not at all, what a disk has spoilt since, and full or read-only disks."""

import errno
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE_AFTER = 24 * 3600  # seconds after which what is half-made cannot belong to a live run
NOT_WRITABLE = errno.EROFS, errno.EACCES, errno.EPERM
MEND = "Free some space, or set SAELITE_CACHE to a folder on a larger disk"


@contextmanager
def atomic_file(path: Path | str, checksums: bool = False) -> Iterator[Path]:
    """Write a file that appears at `path`, in place of one that is there, once the block has ended without an error.

    Yields the temporary path to be written, of the same name in a folder beside `path`, and moves it in one step. With
    `checksums`, its CRC-32 is kept in a file beside it, for :func:`fault`. A full or read-only disk is an OSError in a
    sentence.
    """
    path = Path(path).absolute()
    with in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(path, older=STALE_AFTER)
        with _beside(path) as temporary:
            made = Path(temporary, path.name)
            yield made
            if checksums:
                keep_checksums(made if made.is_dir() else path, new=made)
            for one in (*made.rglob("*"), made):
                _to_disk(one)
            if not (made.is_dir() and path.is_dir()):  # a folder that is there stays: one key, one result
                os.replace(made, path)
        _to_disk(path.parent)


@contextmanager
def atomic_folder(path: Path | str, checksums: bool = False) -> Iterator[Path]:
    """Fill a folder that appears at `path` as a file does with :func:`atomic_file`; its checksums are kept in it."""
    with atomic_file(path, checksums) as temporary:
        temporary.mkdir()
        yield temporary


def clear(path: Path, older: float = 0) -> None:
    """Remove what killed runs left half-made of `path` so many seconds ago; 0: all, for whoever holds its lock."""
    for left in path.parent.glob(".tmp-????????-*"):
        with suppress(OSError):  # another process removed it first, or it is not ours
            ours = f"{left.name[14:]}.".startswith(f"{path.name}.")  # what lies beside it under its name as well
            if ours and (not older or time.time() - left.stat().st_mtime > older):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def remove(path: Path | str) -> None:
    """Remove a file or folder with its checksums, in one step, so that a kill leaves no half of it."""
    path = Path(path)
    if not path.is_dir():
        sums_file(path).unlink(missing_ok=True)
    with _beside(path) as temporary, suppress(FileNotFoundError):
        os.replace(path, Path(temporary, path.name))


def keep_checksums(path: Path, names: Container[str] | None = None, new: Path | None = None) -> None:
    """Keep the CRC-32 of all files in a folder, or of those with some names; or of a file and its `new` version."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and (names is None or file.name in names))
        sums = {file.relative_to(path).as_posix(): [_crc32(file)] for file in files}
    else:  # both, since the old one stays if we are killed before it is replaced
        sums = {path.name: [_crc32(file) for file in (new, path) if file.exists()]}
    with atomic_file(sums_file(path)) as made:
        made.write_text(json.dumps(sums), encoding="utf-8")


def fault(path: Path | str) -> str | None:
    """What is wrong with a file or folder that was written with checksums, in a few words; None if nothing is found.

    It reads all, about 2 GB a second from memory, and misses one change in four billion, none within 32 bits in a row,
    and those made on purpose: whoever can change a file can change its checksum. What has no checksums passes.
    """
    path = Path(path)
    try:
        for name, sums in json.loads(sums_file(path).read_text(encoding="utf-8")).items():
            if _crc32(path / name if path.is_dir() else path) not in sums:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return None if Path(error.filename) == sums_file(path) else f"{Path(error.filename).name} is missing"
    except (ValueError, TypeError, AttributeError):
        return "its checksums cannot be read"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return "the disk cannot read it"


def sums_file(path: Path) -> Path:
    return path / "checksums.json" if path.is_dir() else path.with_name(f"{path.name}.checksum")


def need_room(path: Path | str, wanted: float, what: str) -> None:
    """Raise OSError, before long work, if `what` needs more bytes than are free on the disk of the folder `path`."""
    free = shutil.disk_usage(path).free
    if free < wanted:
        words = f"{what} needs {wanted / 1e9:.2f} GB and {free / 1e9:.2f} GB are free"
        raise OSError(errno.ENOSPC, f"No room on the disk: {words}. {MEND}", str(path))


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Say in a sentence that a disk is full or read-only; safetensors has an error of its own that tells the number."""
    try:
        yield
    except Exception as error:
        number = errno.ENOSPC if f"(os error {errno.ENOSPC})" in str(error) else getattr(error, "errno", None)
        place, said = "/".join(path.parts[-2:]), "SAELITE_CACHE" in str(error)
        if number in (errno.ENOSPC, errno.EDQUOT) and not said:
            raise OSError(number, f"No room on the disk for {place}. {MEND}", str(path.parent)) from error
        if number in NOT_WRITABLE and not said and str(error.filename).startswith(str(path.parent)):
            words = f"{place} cannot be written ({error.strerror}): set SAELITE_CACHE to a writable folder"
            raise OSError(number, words, str(path.parent)) from error
        raise


def _beside(path: Path) -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(f"-{path.name}.part", ".tmp-", path.parent, ignore_cleanup_errors=True)


def _crc32(file: Path) -> int:
    checksum = 0
    with open(file, "rb", buffering=0) as opened:
        while part := opened.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _to_disk(path: Path) -> None:
    """Have the system write a file, or the list of a folder's names, to the disk itself."""
    if os.name != "nt" or path.is_file():  # Windows opens no folders
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

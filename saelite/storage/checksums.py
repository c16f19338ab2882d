"""Whether a file is still what was written: sizes and checksums, kept beside a file or in a folder."""

import errno
import json
import zlib
from pathlib import Path


def fault(path) -> str | None:
    """Look whether a result is what was written, by its checksums.

    Sizes are compared first, then the CRC-32 of every byte, at some 1 GB a second where the system has the file in
    memory: half a second for the book's largest store of 460 MB, when it is opened. This finds a file that is missing,
    cut short or longer, every run of up to 32 flipped bits, and of all other damage all but one part in four billion.
    It does not find damage on purpose: whoever can change a file can change its checksum. Nor can it judge what was
    written with no checksums, by an earlier version: that passes, as does what a file held before it was replaced.

    Parameters
    ----------
    path : str or pathlib.Path
        What :mod:`saelite.storage.atomic` made.

    Returns
    -------
    str or None
        What is wrong in a few words; None if nothing is found.
    """
    path = Path(path)
    try:
        sums = json.loads(sums_file(path).read_text(encoding="utf-8"))
        for name, known in sums.items():
            file = path / name if path.is_dir() else path
            size, sizes = file.stat().st_size, known[::2]
            if size not in sizes:
                return f"{name} has {size:,} bytes of {sizes[0]:,}"
            if (size, crc32(file)) not in zip(sizes, known[1::2], strict=True):
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return None if Path(error.filename) == sums_file(path) else f"{Path(error.filename).name} is missing"
    except (ValueError, TypeError, AttributeError, LookupError):
        return "its checksums cannot be read"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return "the disk cannot read it"
    return None


def crc32(path) -> int:
    """The CRC-32 of a file's bytes, read a megabyte at a time."""
    checksum = 0
    with open(path, "rb", buffering=0) as file:
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    return checksum


def sums_file(path: Path) -> Path:
    return path / "checksums.json" if path.is_dir() else path.with_name(f"{path.name}.checksum")

"""Disks that are full or cannot be written to, said in a sentence, and before long work where it can be foreseen."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = errno.ENOSPC, errno.EDQUOT
NOT_WRITABLE = errno.EROFS, errno.EACCES, errno.EPERM
MEND = "Free some space, or set SAELITE_CACHE to a folder on a larger disk"


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


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Say in a sentence that a disk is full or read-only; safetensors has an error of its own that tells the number."""
    try:
        yield
    except Exception as error:
        number, place = getattr(error, "errno", None), str(getattr(error, "filename", None))
        if (number in NO_ROOM or f"(os error {errno.ENOSPC})" in str(error)) and "No room" not in str(error):
            words = f"No room on the disk for {in_cache(path)}. {MEND}"
            raise OSError(errno.ENOSPC, words, str(path.parent)) from error
        if number in NOT_WRITABLE and place.startswith(str(path.parent)) and "SAELITE_CACHE" not in str(error):
            words = f"{in_cache(path)} cannot be written ({error.strerror}): set SAELITE_CACHE to a writable folder"
            raise OSError(number, words, str(path.parent)) from error
        raise


def in_cache(path: Path) -> str:
    """Kind and key, without where the cache is: a warning may end up on a page."""
    return f"{path.parent.name}/{path.name}"

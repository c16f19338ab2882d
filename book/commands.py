"""What the commands of the book share: how they refuse, fail and stop, each in one line, and how they write files."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path
from typing import Any

from saelite import arguments
from saelite.storage import files

ROOT = Path(__file__).resolve().parent.parent


class Refused(ValueError):
    """What was asked for cannot be run; the message is one sentence for the reader."""


class NotebookFailed(RuntimeError):
    """A notebook stopped with an error; the message says in which cell."""


def guarded(command) -> int:
    """Run a command; end in one line and an exit code where it is refused, fails or is stopped."""
    heard = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]

    def stop(*_):
        for one in heard:  # a second would leave running what is being ended; one ignored would be so in a new process
            signal.signal(one, lambda *_: None)
        raise KeyboardInterrupt

    for one in heard:
        signal.signal(one, stop)
    try:
        return command() or 0
    except Refused as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    except NotebookFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        if isinstance(error.__cause__, OSError):  # the cache's sentence names another folder to set
            error = error.__cause__
        mend = "free some space or name another folder, and give the same command again; what had finished is kept"
        print(f"error: {error.filename or 'A file'} cannot be written ({error.strerror}): {mend}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What had finished is kept: the same command resumes.", file=sys.stderr)
        return 130


def refuse_credentials(**texts: Any) -> None:
    """Refuse addresses with a password or a token in them: parameters and commands are kept with what they made."""
    try:
        arguments.no_credentials(**texts)
    except ValueError as error:
        raise Refused(str(error)) from None


def write_atomically(content: str | bytes, path: Path) -> None:
    files.clear(path)  # of a run that was killed: one command at a time writes into a folder
    with files.atomic_file(path) as made:
        made.write_bytes(content if isinstance(content, bytes) else content.encode())


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

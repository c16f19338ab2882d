"""One unit of a sweep in a process of its own; `sweep_engine.py` starts it.

It reads what to run as a line of JSON from its standard input. The end of that input is the end of whoever started it,
and then it ends too: a worker that is killed leaves no notebook running that another worker is about to run. All that
is printed goes to the unit's log; why a unit failed goes to the standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import commands
import execute


def stop_when_alone() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    job = json.loads(sys.stdin.readline())
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else this process and its kernel print is for the log
    threading.Thread(target=stop_when_alone, daemon=True).start()
    commands.ROOT = Path(job["root"])
    folder = Path(job["folder"])

    def command():
        try:
            # It waits for what a killed worker left, which may take a moment to end, and for another sweep that is
            # making the same unit.
            execute.run_all([(Path(job["notebook"]), job["parameters"])], folder, unit=job["label"])
        except commands.NotebookFailed as failure:
            print(str(failure)[:10_000], file=answer, flush=True)
            raise

    return commands.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

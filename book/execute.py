"""Run notebooks with papermill, and check first what papermill lets pass.

    python book/execute.py                                       every notebook, with its defaults
    python book/execute.py 05_frozen_decoder -p tokens 1000000   one notebook, one parameter changed
    python book/execute.py -f book/params/quick.yaml --out DIR   parameters from a file, keyed by notebook
    python book/execute.py -f book/params/paper.yaml --dry-run   what would run with which parameters; nothing runs

Before anything runs, an unknown parameter or a value of the wrong type is refused (papermill warns and goes on with the
default). Then the notebooks run, each in a process of its own, one at a time or as many as `--at-once` says, and leave
in DIR (`_build/reruns`):

NAME.ipynb
    the executed notebook, free of times and paths, so that two runs are byte-identical
NAME.run.json
    how it was made: parameters, seconds, date, machine, and the key that decides whether it must run again
NAME.failed.ipynb
    only after a failure: the notebook as far as it got, with the error

A notebook is skipped when its key matches (`run_records.py`): its cells, its parameters, all code and tables of
`saelite/`, the locked versions, the code that runs it and the reference runs in `book/results/` are then what they
were. Stop with Ctrl-C and resume with the same command: what had finished stays finished.

A notebook may leave small files (JSON, Markdown, SVG) for the pages of the book, in the folder that the environment
variable SAELITE_RESULTS names while it runs. They move to `DIR/results`, or where `--results` says, and are recorded
with the run: a file that is missing or was changed makes its notebook run again. No notebook reads them, so that any
two can run side by side; what they share is in the cache, where one waits for what the other is making.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

import commands
import filelock
import nbformat
import papermill
from commands import clock, guarded, refuse_credentials, write_atomically
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT
from notebook_parameters import described, plan
from notebook_run import Progress, Run, clean
from run_records import is_current, records, run_key

LOCK = ".lock"  # in a folder, held by whoever runs notebooks into it, until their kernels have ended
MEMORY_OF_A_NOTEBOOK = 4e9  # bytes; room for one that reads the embedded language model


def prepare(notebook: Path, parameters: dict[str, Any], out: Path) -> None:
    """Write the notebook with its parameters to `out`, without running it."""
    prepared = papermill.execute_notebook(str(notebook), None, parameters, prepare_only=True)
    write_atomically(nbformat.writes(clean(prepared)) + "\n", out / notebook.name)


def that_fit() -> int:
    """How many notebooks this machine has the cores and the memory to run side by side; four are enough."""
    return int(max(1, min(CPU_COUNT, MEMORY_LIMIT // MEMORY_OF_A_NOTEBOOK, 4)))


def run_all(
    jobs: list[tuple[Path, dict[str, Any]]],
    out: Path,
    results: Path | None = None,
    unit: str | None = None,
    at_once: int = 1,
) -> int:
    """Run what is not current, begun in the given order, and stop at the first failure.

    Parameters
    ----------
    jobs : list of (notebook, parameters), as `plan` makes it
    out : folder of the executed notebooks and their records
    results : folder of the files that notebooks leave, default `out/results`
    unit : what to call a run that is one unit of a sweep (`sweep.py`). What it prints is for its log, so its lines
        stand by themselves; and reference runs are left out of its key, since they are made of such units.
    at_once : how many run side by side; they share the cores, unless OMP_NUM_THREADS says how many threads each has

    Returns
    -------
    int
        How many notebooks had to run.

    Raises
    ------
    NotebookFailed
        At the first notebook that fails; those beside it are stopped.
    """
    out = out.resolve()
    results = (results or out / "results").resolve()
    out.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, CPU_COUNT // at_once))
    ran, waiting, running = 0, list(enumerate(jobs, start=1)), []
    with alone_in(out):
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    number, (notebook, parameters) = waiting.pop(0)
                    label = unit or f"[{number}/{len(jobs)}] {notebook.stem}"
                    key = run_key(notebook, parameters, references=unit is None)
                    if is_current(notebook, key, out, results):
                        print(f"{label}: nothing changed since it ran", flush=True)
                        continue
                    last = next((old["wall_seconds"] for old in records(out) if old["notebook"] == notebook.stem), None)
                    progress = Progress(label, last, beside_others=at_once > 1 or unit is not None)
                    one = Run(notebook, parameters, key, out, results, progress, threads, log=unit is not None)
                    running.append(one)
                connection.wait([one.channel for one in running], timeout=1)
                for one in list(running):
                    one.hear()
                    one.progress.show(len(waiting))
                    if one.outcome is not None:
                        one.end()
                        one.keep()
                        one.progress.end(f"done in {clock(one.progress.seconds())}")
                        running.remove(one)
                        ran += 1
        except BaseException:
            for one in running:
                one.progress.end(f"stopped after {clock(one.progress.seconds())}")
            raise
        finally:
            for one in running:
                one.end()
    return ran


@contextlib.contextmanager
def alone_in(out: Path, name: str = LOCK) -> Iterator[None]:
    """Write to a folder as the only process that holds its lock; another that does is waited for, in a word."""
    lock = filelock.FileLock(out / name)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print("Another run writes to the same folder: waiting for it to end.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _end_with_input() -> None:
    """Stop once whoever holds the other end of the input is gone: a unit may be run again now by another worker."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if refused := guarded(lambda: refuse_credentials(**{"The command": words})):  # before anything repeats them
        return refused
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], epilog="More at the head of this file.")
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="path or name; default: all of notebooks/")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-f", type=Path, metavar="PARAMS.yaml", help="parameters by notebook")
    reruns = commands.ROOT / "_build" / "reruns"
    parser.add_argument("--out", type=Path, default=reruns, metavar="DIR", help="_build/reruns")
    parser.add_argument("--results", type=Path, metavar="DIR", help="for what notebooks leave; default: OUT/results")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="notebooks side by side; default: 1")
    parser.add_argument("--prepare-only", action="store_true", help="write the notebooks with parameters, run nothing")
    parser.add_argument("--dry-run", action="store_true", help="check and list notebooks and parameters, run nothing")
    parser.add_argument("--unit", metavar="NAME", help="run as a unit of a sweep, which ends when its input ends")
    options = parser.parse_intermixed_args(arguments)

    def command():
        if options.unit:
            threading.Thread(target=_end_with_input, daemon=True).start()
        notebooks = options.notebooks or sorted((commands.ROOT / "notebooks").glob("*.ipynb"))
        jobs = plan(notebooks, dict(options.p), options.f)
        if options.dry_run:
            print("\n".join(described(jobs)))
            return
        if not options.prepare_only:
            run_all(jobs, options.out, options.results, options.unit, options.at_once)
            return
        options.out.mkdir(parents=True, exist_ok=True)
        for notebook, parameters in jobs:
            prepare(notebook, parameters, options.out)

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())

"""Run notebooks with papermill, and check first what papermill lets pass.

    python book/execute.py                                       every notebook, with its defaults
    python book/execute.py 05_frozen_decoder -p tokens 1000000   one notebook, one parameter changed
    python book/execute.py -f book/params/quick.yaml --out DIR   parameters from a file, keyed by notebook
    python book/execute.py -f book/params/paper.yaml --dry-run   what would run with which parameters; nothing runs

Before anything runs, an unknown parameter or a value of the wrong type is refused (papermill warns and goes on with the
default). Then the notebooks run one after the other, each in a process of its own, and leave in DIR (`_build/reruns`):

NAME.ipynb
    the executed notebook, free of times and paths, so that two runs are byte-identical
NAME.run.json
    how it was made: parameters, seconds, date, machine, and the key that decides whether it must run again
NAME.failed.ipynb
    only after a failure: the notebook as far as it got, with the error

A notebook is skipped when its key matches (`run_records.py`): its cells, its parameters, all code and tables of
`saelite/`, the locked versions, the code that runs it, the reference runs in `book/results/`, and the results of the
notebooks before it are then what they were. Stop with Ctrl-C and resume with the same command: what had finished stays
finished.

A notebook may leave small files (JSON, Markdown, SVG) for later notebooks and for the pages of the book, in the folder
that the environment variable SAELITE_RESULTS names (`DIR/results`, or what `--results` says). They are recorded with
the run: a file that is missing or was changed makes its notebook run again.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import filelock
import nbformat
import papermill
import psutil
from commands import NotebookFailed, clock, count, guarded, refuse_credentials, write_atomically
from notebook_parameters import described, plan
from papermill.engines import NBClientEngine, papermill_engines
from run_records import file_hash, is_current, machine, records, run_key

LOCK = ".lock"  # in a folder, held by whoever runs notebooks into it, until their kernels have ended

# Progress bars write times, so no two runs would be alike; a fixed hash seed keeps the order of sets.
KERNEL_ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm misses a widget that pages do not want
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs between two runs or tells of the machine: times, papermill's notes, random ids."""
    notebook.metadata = nbformat.from_dict(
        {name: notebook.metadata[name] for name in ("kernelspec", "language_info") if name in notebook.metadata}
    )
    for cell in notebook.cells:
        for name in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
            cell.metadata.tags = ["injected-parameters", "hide-input"]
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
    return notebook


def prepare(notebook: Path, parameters: dict[str, Any], out: Path) -> None:
    """Write the notebook with its parameters to `out`, without running it."""
    prepared = papermill.execute_notebook(str(notebook), None, parameters, prepare_only=True)
    write_atomically(nbformat.writes(clean(prepared)) + "\n", out / notebook.name)


def _work(notebook: Path, parameters: dict[str, Any], unfinished: Path, results: Path, channel, log: bool) -> None:
    """What a notebook's own process does: run it, telling of each cell, and write it cleaned to `unfinished`."""
    if log:
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    os.setsid()  # Ctrl-C is the parent's to hear; it ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= KERNEL_ENVIRONMENT | {"SAELITE_RESULTS": str(results)}

    class TellingEngine(NBClientEngine):
        """papermill's engine, with a word to the parent before each cell."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            code_cells = [index for index, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]
            start = nb_man.cell_start

            def cell_start(cell, cell_index=None, **options):
                if cell_index in code_cells:
                    channel.send(("cell", code_cells.index(cell_index), len(code_cells), cell.source))
                start(cell, cell_index=cell_index, **options)

            nb_man.cell_start = cell_start
            super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("telling", TellingEngine)
    try:
        executed = papermill.execute_notebook(
            str(notebook),
            str(unfinished),
            parameters,
            engine_name="telling",
            cwd=str(notebook.parent),
            progress_bar=False,
            log_output=log,
            coalesce_streams=True,  # in how many pieces a cell's print arrives is chance
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # how a kernel starts and ends is no news
        )
        unfinished.write_text(nbformat.writes(clean(executed)) + "\n", encoding="utf-8")
        channel.send(("done",))
    except papermill.PapermillExecutionError as error:
        channel.send(("failed", f"{error.ename}: {error.evalue}"))
    except BrokenPipeError:
        pass  # the parent is gone, and with it the wish for this run
    except Exception as error:
        channel.send(("failed", f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """Once the parent is gone, even by kill -9, end the kernel and this process: its notebook may be run again now."""
    multiprocessing.parent_process().join()
    end(psutil.Process().children(recursive=True))
    os._exit(1)


def end(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they have ended."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    latest = time.monotonic() + 20
    while time.monotonic() < latest and not all(has_ended(process) for process in processes):
        time.sleep(0.02)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process runs no more, though nobody may have asked yet how it ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Progress:
    """One line about the notebook at work: in place on a terminal, now and then a new line elsewhere.

    Where others print beside it, every line is a new one, and they come seldom.
    """

    def __init__(self, label: str, notebooks_left: int, seconds_last_time: float | None, beside_others: bool = False):
        self.label, self.notebooks_left, self.seconds_last_time = label, notebooks_left, seconds_last_time
        self.start = self.printed = time.monotonic()
        self.in_place = sys.stdout.isatty() and not os.environ.get("CI") and not beside_others
        self.pause = 60 if beside_others else 10
        self.done, self.cells = 0, 0
        if not self.in_place:
            print(f"{label}: starts", flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def show(self) -> None:
        # On paper a line now and then says enough, on a terminal the clock should be seen to run.
        if not self.cells or not (self.in_place or time.monotonic() - self.printed >= self.pause):
            return
        self.printed = time.monotonic()
        line = f"{self.label}: {self.done} of {self.cells} cells, {clock(self.seconds())}"
        if self.seconds_last_time:
            line += f" (last time {clock(self.seconds_last_time)} in all)"
        line += f"; left: {count(self.cells - self.done, 'cell')}"
        if self.notebooks_left:
            line += f", then {count(self.notebooks_left, 'notebook')}"
        print(f"\r\033[K{line}" if self.in_place else line, end="" if self.in_place else "\n", flush=True)

    def end(self, line: str) -> None:
        print(("\r\033[K" if self.in_place else "") + f"{self.label}: {line}", flush=True)


def run(
    notebook: Path,
    parameters: dict[str, Any],
    key: str,
    out: Path,
    results: Path,
    progress: Progress,
    log: bool = False,
) -> None:
    """Run one notebook in a process of its own and record it; with `log`, print what its cells print.

    Raises
    ------
    NotebookFailed
        If a cell raises or the process dies; what there is of the notebook is then NAME.failed.ipynb.
    """
    executed, failed, record = (out / f"{notebook.stem}.{end}" for end in ("ipynb", "failed.ipynb", "run.json"))
    unfinished = out / f".{notebook.stem}.unfinished.ipynb"
    for old in [old for old in records(out) if old["notebook"] == notebook.stem]:
        for name in old["results"]:
            (results / name).unlink(missing_ok=True)
    for path in (record, failed, unfinished):
        path.unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}

    fresh = multiprocessing.get_context("spawn")
    receiver, sender = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_work, args=(notebook, parameters, unfinished, results, sender, log), daemon=True)
    process.start()
    sender.close()
    source, outcome, started = "", None, []
    try:
        while outcome is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                started = psutil.Process(process.pid).children(recursive=True) or started
            if receiver.poll(1):
                try:
                    kind, *told = receiver.recv()
                except EOFError:
                    outcome = "failed", "its process died without a word, which is often want of memory"
                    break
                if kind == "cell":
                    progress.done, progress.cells, source = told
                else:
                    outcome = kind, *told
            progress.show()
    finally:
        if outcome is None:
            process.terminate()
        process.join(20)
        process.kill()
        end(started)  # a kernel sees only after a second that it is alone, and would write beside the next run
        if outcome is None:
            unfinished.unlink(missing_ok=True)

    if outcome[0] == "failed":
        if unfinished.is_file():
            os.replace(unfinished, failed)
        first_line = next((line for line in source.splitlines() if line.strip()), "")
        where = f"code cell {progress.done + 1} of {progress.cells} ({first_line})" if progress.cells else "its start"
        reason = " ".join(outcome[1].split())
        raise NotebookFailed(f"{notebook.stem} failed in {where}: {reason}. Half-executed copy: {failed}")

    os.replace(unfinished, executed)
    written = [path for path in results.rglob("*") if path.is_file() and before.get(path) != path.stat().st_mtime_ns]
    about = {
        "notebook": notebook.stem,
        "key": key,
        "parameters": parameters,
        "wall_seconds": round(progress.seconds(), 1),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "executed": file_hash(executed),
        "results": {path.relative_to(results).as_posix(): file_hash(path) for path in sorted(written)},
    }
    write_atomically(json.dumps(about, indent=2) + "\n", record)


def run_all(
    jobs: list[tuple[Path, dict[str, Any]]], out: Path, results: Path | None = None, unit: str | None = None
) -> int:
    """Run what is not current, in the given order, and stop at the first failure.

    Parameters
    ----------
    jobs : list of (notebook, parameters), as `plan` makes it
    out : folder of the executed notebooks and their records
    results : folder that the notebooks find in SAELITE_RESULTS, default `out/results`
    unit : what to call a run that is one unit of a sweep (`sweep.py`). What it prints is for its log, so its lines
        stand by themselves; and reference runs are left out of its key, since they are made of such units.

    Returns
    -------
    int
        How many notebooks had to run.

    Raises
    ------
    NotebookFailed
        At the first notebook that fails.
    """
    out = out.resolve()
    results = (results or out / "results").resolve()
    out.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    ran = 0
    with alone_in(out):
        for number, (notebook, parameters) in enumerate(jobs, start=1):
            label = unit or f"[{number}/{len(jobs)}] {notebook.stem}"
            key = run_key(notebook, parameters, out, references=unit is None)
            if is_current(notebook, key, out, results):
                print(f"{label}: nothing changed since it ran", flush=True)
                continue
            last_time = [record["wall_seconds"] for record in records(out) if record["notebook"] == notebook.stem]
            progress = Progress(label, len(jobs) - number, last_time[0] if last_time else None, unit is not None)
            try:
                run(notebook, parameters, key, out, results, progress, log=unit is not None)
            except BaseException:
                progress.end(f"stopped after {clock(progress.seconds())}")
                raise
            progress.end(f"done in {clock(progress.seconds())}")
            ran += 1
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
    parser.add_argument("--results", type=Path, metavar="DIR", help="what SAELITE_RESULTS names; default: OUT/results")
    parser.add_argument("--prepare-only", action="store_true", help="write the notebooks with parameters, run nothing")
    parser.add_argument("--dry-run", action="store_true", help="check and list notebooks and parameters, run nothing")
    options = parser.parse_intermixed_args(arguments)

    def command():
        notebooks = options.notebooks or sorted((commands.ROOT / "notebooks").glob("*.ipynb"))
        jobs = plan(notebooks, dict(options.p), options.f)
        if options.dry_run:
            print("\n".join(described(jobs)))
            return
        if not options.prepare_only:
            run_all(jobs, options.out, options.results)
            return
        options.out.mkdir(parents=True, exist_ok=True)
        for notebook, parameters in jobs:
            prepare(notebook, parameters, options.out)

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())

"""One notebook at work in a process of its own: what that process does, what is told of it, what it leaves."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import multiprocessing
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from commands import NotebookFailed, clock, count, write_atomically
from papermill.engines import NBClientEngine, papermill_engines
from run_records import file_hash, machine, records

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


def _work(
    notebook: Path, parameters: dict[str, Any], unfinished: Path, results: Path, threads: int, channel, log: bool
) -> None:
    """What a notebook's own process does: run it, telling of each cell, and write it cleaned to `unfinished`."""
    if log:
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    os.setsid()  # Ctrl-C is the parent's to hear; it ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= KERNEL_ENVIRONMENT | {"SAELITE_RESULTS": str(results), "OMP_NUM_THREADS": str(threads)}

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

    def __init__(self, label: str, seconds_last_time: float | None, beside_others: bool = False):
        self.label, self.seconds_last_time = label, seconds_last_time
        self.start = self.printed = time.monotonic()
        self.in_place = sys.stdout.isatty() and not os.environ.get("CI") and not beside_others
        self.pause = 60 if beside_others else 10
        self.done, self.cells = 0, 0
        if not self.in_place:
            print(f"{label}: starts", flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def show(self, notebooks_left: int) -> None:
        # On paper a line now and then says enough, on a terminal the clock should be seen to run.
        if not self.cells or not (self.in_place or time.monotonic() - self.printed >= self.pause):
            return
        self.printed = time.monotonic()
        line = f"{self.label}: {self.done} of {self.cells} cells, {clock(self.seconds())}"
        if self.seconds_last_time:
            line += f" (last time {clock(self.seconds_last_time)} in all)"
        line += f"; left: {count(self.cells - self.done, 'cell')}"
        if notebooks_left:
            line += f", then {count(notebooks_left, 'notebook')}"
        print(f"\r\033[K{line}" if self.in_place else line, end="" if self.in_place else "\n", flush=True)

    def end(self, line: str) -> None:
        print(("\r\033[K" if self.in_place else "") + f"{self.label}: {line}", flush=True)


class Run:
    """One notebook at work in a process of its own, from its start to its record.

    Parameters
    ----------
    notebook, parameters, key : as `plan` and `run_key` make them
    out, results : folders of what it becomes and of the files that it leaves
    progress : Progress
    threads : int
        How many threads its kernel computes with.
    log : bool
        Print what its cells print.
    """

    def __init__(
        self,
        notebook: Path,
        parameters: dict[str, Any],
        key: str,
        out: Path,
        results: Path,
        progress: Progress,
        threads: int,
        log: bool = False,
    ):
        self.notebook, self.parameters, self.key, self.out, self.results = notebook, parameters, key, out, results
        self.progress, self.threads = progress, threads
        self.unfinished = out / f".{notebook.stem}.unfinished.ipynb"
        self.leaves = out / f".{notebook.stem}.results"
        self.failed = out / f"{notebook.stem}.failed.ipynb"
        self.source, self.outcome, self.started = "", None, []
        for old in [old for old in records(out) if old["notebook"] == notebook.stem]:
            for name in old["results"]:
                (results / name).unlink(missing_ok=True)
        for path in (out / f"{notebook.stem}.run.json", self.failed, self.unfinished):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.leaves, ignore_errors=True)
        self.leaves.mkdir()
        fresh = multiprocessing.get_context("spawn")
        self.channel, sender = fresh.Pipe(duplex=False)
        work = (notebook, parameters, self.unfinished, self.leaves, threads, sender, log)
        self.process = fresh.Process(target=_work, args=work, daemon=True)
        self.process.start()
        sender.close()

    def hear(self) -> None:
        """Take in what its process has told since."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.started = psutil.Process(self.process.pid).children(recursive=True) or self.started
        while self.outcome is None and self.channel.poll():
            try:
                kind, *told = self.channel.recv()
            except EOFError:
                kind, told = "failed", ["its process died without a word, which is often want of memory"]
            if kind == "cell":
                self.progress.done, self.progress.cells, self.source = told
            else:
                self.outcome = kind, *told

    def end(self) -> None:
        """End its process and its kernel; without an outcome they are stopped, and nothing is left of them."""
        if self.outcome is None:
            self.process.terminate()
        self.process.join(20)
        self.process.kill()
        end(self.started)  # a kernel sees only after a second that it is alone, and would write beside the next run
        if self.outcome is None:
            self.unfinished.unlink(missing_ok=True)
            shutil.rmtree(self.leaves, ignore_errors=True)

    def keep(self) -> None:
        """Put what it made in place, and record it.

        Raises
        ------
        NotebookFailed
            If a cell raised or the process died; what there is of the notebook is then NAME.failed.ipynb.
        """
        names = moved(self.leaves, self.results)
        if self.outcome[0] == "failed":
            if self.unfinished.is_file():
                os.replace(self.unfinished, self.failed)
            cells = self.progress.cells
            first_line = next((line for line in self.source.splitlines() if line.strip()), "")
            where = f"code cell {self.progress.done + 1} of {cells} ({first_line})" if cells else "its start"
            reason = " ".join(self.outcome[1].split())
            raise NotebookFailed(f"{self.notebook.stem} failed in {where}: {reason}. Half-executed copy: {self.failed}")
        os.replace(self.unfinished, self.out / self.notebook.name)
        seconds = self.progress.seconds()
        write_record(
            self.notebook, self.parameters, self.key, self.out, self.results, names, seconds, threads=self.threads
        )


def moved(leaves: Path, results: Path) -> list[str]:
    """Move the files that a notebook left to those of all notebooks; return their names."""
    names = sorted(path.relative_to(leaves) for path in leaves.rglob("*") if path.is_file())
    for name in names:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(leaves / name, results / name)
    shutil.rmtree(leaves)
    return [name.as_posix() for name in names]


def write_record(
    notebook: Path,
    parameters: dict[str, Any],
    key: str,
    out: Path,
    results: Path,
    names: list[str],
    seconds: float,
    threads: int,
) -> None:
    """Write down how the notebook that lies executed in `out`, and the files that it left in `results`, were made."""
    about = {
        "notebook": notebook.stem,
        "key": key,
        "parameters": parameters,
        "wall_seconds": round(seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": threads,
        "executed": file_hash(out / notebook.name),
        "results": {name: file_hash(results / name) for name in names},
    }
    write_atomically(json.dumps(about, indent=2) + "\n", out / f"{notebook.stem}.run.json")

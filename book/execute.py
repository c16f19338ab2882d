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

A notebook is skipped when its key matches: its cells, its parameters, all of `saelite/*.py`, the locked versions, this
file, the reference runs in `book/results/`, and the results of the notebooks before it are then what they were. Stop
with Ctrl-C and resume with the same command: what had finished stays finished.

A notebook may leave small files (JSON, Markdown, SVG) for later notebooks and for the pages of the book, in the folder
that the environment variable SAELITE_RESULTS names (`DIR/results`, or what `--results` says). They are recorded with
the run: a file that is missing or was changed makes its notebook run again.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import errno
import hashlib
import importlib.metadata
import json
import logging
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import filelock
import jupytext
import nbformat
import papermill
import psutil
import yaml
from papermill.engines import NBClientEngine, papermill_engines
from pydantic import TypeAdapter, ValidationError

from saelite import checks

ROOT = Path(__file__).resolve().parent.parent
LOCK = ".lock"  # held by whoever runs notebooks into a folder, until their kernels have ended

# Progress bars write times, so no two runs would be alike; a fixed hash seed keeps the order of sets.
KERNEL_ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm misses a widget that pages do not want
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


class Refused(ValueError):
    """What was asked for cannot be run; the message is one sentence for the reader."""


class NotebookFailed(RuntimeError):
    """A notebook stopped with an error; the message says in which cell."""


# What is asked for, and whether it can be run


def find_notebook(name: str | Path) -> Path:
    """The .ipynb that `name` means: a path to it or to its paired .py, or the bare name of one in `notebooks/`.

    Raises
    ------
    Refused
        If there is none, or if it and the .py beside it hold different cells (the .py is the source).
    """
    candidates = [Path(name).with_suffix(".ipynb"), ROOT / "notebooks" / f"{Path(name).stem}.ipynb"]
    found = next((path.resolve() for path in candidates if path.is_file()), None)
    if found is None:
        known = ", ".join(sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
        raise Refused(f"There is no notebook {str(name)!r}; notebooks/ holds {known or 'none'}.")
    source = found.with_suffix(".py")
    if source.is_file() and cell_sources(source) != cell_sources(found):
        raise Refused(f"{found.name} and {source.name} differ: run `jupytext --sync` on the one that you changed.")
    return found


def cell_sources(path: Path) -> list[tuple[str, str]]:
    """Type and source of each cell of a notebook or of its paired .py."""
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """The names in the cell tagged `parameters`, each with the type of its annotation (Any where it has none).

    Read from the syntax rather than with `papermill.inspect_notebook`, which overlooks `name: int | None = None`.
    """
    declared: dict[str, Any] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.AnnAssign):
                    declared[line.target.id] = eval(ast.unparse(line.annotation), {"Literal": Literal})
                elif isinstance(line, ast.Assign):
                    declared |= {target.id: Any for target in line.targets}
    return declared


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as values of their declared types.

    Text is read as the type asks, so that `1e-3`, which YAML takes for text, serves as a float.

    Raises
    ------
    Refused
        For a name that the notebook does not declare, a value that does not fit its type, or one that holds an address
        with a secret in it.
    """
    declared = declared_parameters(notebook)
    fitted = {}
    refuse_credentials(**parameters)
    for name, value in parameters.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise Refused(f"{notebook.stem} has no parameter {name!r}; it knows {known}.")
        adapter = TypeAdapter(declared[name])
        try:
            try:
                fitted[name] = adapter.validate_python(value, strict=not isinstance(value, str))
            except ValidationError:
                # The command line gives text, whatever the type; and YAML has lists where the notebook may have tuples.
                value_again = yaml.safe_load(value) if isinstance(value, str) else value
                fitted[name] = adapter.validate_json(json.dumps(value_again), strict=True)
            # papermill writes lists, but no tuples
            fitted[name] = adapter.dump_python(fitted[name], mode="json")
        except (ValidationError, yaml.YAMLError, TypeError):
            kind = declared[name]
            kind = kind.__name__ if type(kind) is type else str(kind).replace("typing.", "")
            raise Refused(f"{notebook.stem}: {name} must be {kind}, and {value!r} is not.") from None
    return fitted


def refuse_credentials(**texts: Any) -> None:
    """Refuse addresses with a password or a token in them: parameters and commands are kept with what they made."""
    try:
        checks.no_credentials(**texts)
    except ValueError as error:
        raise Refused(str(error)) from None


def read_parameters(path: Path, notebooks: list[Path]) -> dict[str, dict[str, Any]]:
    """Parameters by notebook from a YAML file such as `02_synthetic_recovery: {samples: 1000}`.

    Raises
    ------
    Refused
        If the file is missing or no such mapping, or names a notebook that does not exist.
    """
    try:
        by_notebook = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise Refused(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(by_notebook, dict) or not all(isinstance(value, dict) for value in by_notebook.values()):
        raise Refused(f"{path} must hold one entry a notebook, such as `02_synthetic_recovery: {{samples: 1000}}`.")
    known = {beside.stem for notebook in notebooks for beside in notebook.parent.glob("*.ipynb")}
    for stem in by_notebook:
        if stem not in known:
            raise Refused(f"{path} names a notebook {stem!r}; there are {', '.join(sorted(known))}.")
    return by_notebook


def plan(
    notebooks: list[str | Path], given: dict[str, Any] | None = None, file: Path | None = None
) -> list[tuple[Path, dict[str, Any]]]:
    """Every notebook to run with its checked parameters: those of the file, overruled by those given for all."""
    paths = [find_notebook(name) for name in notebooks]
    by_notebook = read_parameters(file, paths) if file else {}
    return [(path, check_parameters(path, by_notebook.get(path.stem, {}) | (given or {}))) for path in paths]


def described(jobs: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """A line for each notebook, and below it one for each parameter, with what it is by default where that differs."""
    lines = []
    for notebook, given in jobs:
        defaults = default_parameters(notebook)
        lines.append(f"{notebook.stem}: {sum(given.get(name, value) != value for name, value in defaults.items())} of "
                     f"{len(defaults)} parameters are not the default")  # fmt: skip
        for name, value in defaults.items():
            changed = f"  (default {value!r})" if given.get(name, value) != value else ""
            lines.append(f"    {name} = {given.get(name, value)!r}{changed}")
    return lines


def default_parameters(notebook: Path) -> dict[str, Any]:
    """The values in the cell tagged `parameters`, by name; one that is no literal as its source."""
    values: dict[str, Any] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            for line in ast.parse(cell.source).body:
                for target in [line.target] if isinstance(line, ast.AnnAssign) else getattr(line, "targets", []):
                    try:
                        values[target.id] = ast.literal_eval(line.value)
                    except ValueError:
                        values[target.id] = ast.unparse(line.value)
    return values


# Whether a notebook must run again


def run_key(notebook: Path, parameters: dict[str, Any], out: Path, references: bool = True) -> str:
    """Hash of everything that a notebook's outcome follows from, with the reference runs or without."""
    cells = [(cell.cell_type, cell.source, cell.metadata) for cell in nbformat.read(notebook, as_version=4).cells]
    files = [*sorted((ROOT / "saelite").glob("*.py")), ROOT / "requirements.lock", ROOT / "requirements-data.txt"]
    sources = {path.name: file_hash(path) for path in [*files, Path(__file__)] if path.is_file()}
    earlier = {record["notebook"]: record["results"] for record in records(out) if record["notebook"] < notebook.stem}
    folder = ROOT / "book" / "results"
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file()] if references else []
    reference_runs = {path.relative_to(folder).as_posix(): file_hash(path) for path in kept}
    everything = [cells, parameters, sources, earlier, reference_runs]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records(out: Path) -> list[dict[str, Any]]:
    """What is recorded in `out` about finished runs; a record that is damaged counts as none."""
    found = []
    for path in sorted(out.glob("*.run.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["notebook"], record["key"], record["wall_seconds"], dict(record["results"])
            found.append(record)
        except (ValueError, KeyError, TypeError):
            print(f"The record {path.name} is damaged: its notebook counts as not run.", file=sys.stderr)
    return found


def is_current(notebook: Path, key: str, out: Path, results: Path) -> bool:
    """Whether the notebook has run with this key, and all that it left is still there."""
    record = next((record for record in records(out) if record["notebook"] == notebook.stem), None)
    return (
        record is not None
        and record["key"] == key
        and (out / notebook.name).is_file()
        and file_hash(out / notebook.name) == record.get("executed", file_hash(out / notebook.name))
        and all(
            (results / name).is_file() and file_hash(results / name) == digest
            for name, digest in record["results"].items()
        )
    )


def machine() -> dict[str, Any]:
    """What a reader needs to judge the seconds; no names and no paths."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy", "saelite")}
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), **versions}


# Running


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


def write_atomically(text: str, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # or a power cut might leave the name without the text
    os.replace(unfinished, path)


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


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
def alone_in(out: Path) -> Iterator[None]:
    """Run notebooks into a folder as the only process that does; another that does is waited for, in a word."""
    lock = filelock.FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print("Another run writes to the same folder: waiting for it to end.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def guarded(command) -> int:
    """Run a command; end in one line and an exit code where it is refused, fails or is stopped."""

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
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
        mend = "free some space or name another folder, and give the same command again; what had finished is kept"
        print(f"error: {error.filename or 'A file'} cannot be written ({error.strerror}): {mend}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What had finished is kept: the same command resumes.", file=sys.stderr)
        return 130


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if refused := guarded(lambda: refuse_credentials(**{"The command": words})):  # before anything repeats them
        return refused
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], epilog="More at the head of this file.")
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="path or name; default: all of notebooks/")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-f", type=Path, metavar="PARAMS.yaml", help="parameters by notebook")
    parser.add_argument("--out", type=Path, default=ROOT / "_build/reruns", metavar="DIR", help="_build/reruns")
    parser.add_argument("--results", type=Path, metavar="DIR", help="what SAELITE_RESULTS names; default: OUT/results")
    parser.add_argument("--prepare-only", action="store_true", help="write the notebooks with parameters, run nothing")
    parser.add_argument("--dry-run", action="store_true", help="check and list notebooks and parameters, run nothing")
    options = parser.parse_intermixed_args(arguments)

    def command():
        notebooks = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
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

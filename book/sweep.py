"""Run one notebook once for every combination of some parameters' values, and keep what it found in small tables.

    python book/sweep.py 02_synthetic_recovery -g "cells=[constant TopK],[variable TopK]" -g seed=0,1,2 \\
        -p samples 50000000 --out book/results/synthetic --jobs 2

This makes *reference runs*: what takes too long for every build of the book is run once, and later notebooks and pages
read it from `book/results/`. Each combination is a *unit*, run by `execute.py` in a folder of its own under `--work`
(`_build/sweeps/NOTEBOOK`). When all units are done, there are in `--out`:

NAME.csv
    for every JSON file of flat records that the notebook leaves in SAELITE_RESULTS, the records of all units in one
    table: first a column for each parameter of the grid, then theirs
record.json
    how they were made: command, parameters, commit, date, machine, seconds

Stop with Ctrl-C and resume with the same command: units that had finished are not run again, unless the notebook or the
code has changed. If a unit fails, the others still run, and no table is written: one with holes would mislead. Two
sweeps of one notebook at the same time need each a `--work` of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import execute
import pandas as pd

CLOSING = {"[": "]", "(": ")", "{": "}", "'": "'", '"': '"'}
CHANGES = " + changes"

# What is asked for


def split_values(text: str) -> list[str]:
    """The values in `1,2` or `[a,b],[c]`: split at commas that are not inside brackets or quotes.

    Quotes around a whole value are taken off, so that `'a,b',c` is two values.
    """
    values, awaited = [""], []
    for sign in text:
        if awaited and sign == awaited[-1]:
            awaited.pop()
        elif sign in CLOSING and not (awaited and awaited[-1] in "'\""):
            awaited.append(CLOSING[sign])
        if sign == "," and not awaited:
            values.append("")
        else:
            values[-1] += sign
    if awaited:
        raise execute.Refused(f"The values {text!r} lack a closing {awaited[-1]}.")
    return [re.sub(r"""^(['"])((?:(?!\1).)*)\1$""", r"\2", value.strip()) for value in values]


def read_grid(notebook: Path, given: list[str]) -> dict[str, list[Any]]:
    """The values of each parameter of the grid, checked, from arguments such as `seed=0,1,2`.

    Raises
    ------
    Refused
        If there is no grid, a name or value comes twice, or the notebook does not take it.
    """
    if not given:
        raise execute.Refused("A sweep needs a grid: name a parameter and its values, such as -g seed=0,1,2.")
    grid: dict[str, list[Any]] = {}
    for argument in given:
        name, _, text = argument.partition("=")
        if not name or not text.strip():
            raise execute.Refused(f"-g {argument} must name a parameter and its values, such as -g seed=0,1,2.")
        if name in grid:
            raise execute.Refused(f"-g names {name} twice: put all its values into one, such as -g {name}=1,2.")
        grid[name] = []
        for value in split_values(text):
            checked = execute.check_parameters(notebook, {name: value})[name]
            if as_text(checked) in map(as_text, grid[name]):  # as text, since True == 1
                raise execute.Refused(f"-g {argument} gives the value {value} twice.")
            grid[name].append(checked)
    return grid


def units(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Every combination of the grid's values, the last parameter changing fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def describe(unit: dict[str, Any]) -> str:
    return ", ".join(f"{name}={as_text(value)}" for name, value in unit.items())


def folder_of(unit: dict[str, Any], work: Path) -> Path:
    """The unit's own folder: readable, safe as a file name, and made unique by a hash."""
    unit = dict(sorted(unit.items()))
    readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", describe(unit))[:80]
    return work / f"{readable}-{hashlib.sha256(json.dumps(unit).encode()).hexdigest()[:8]}"


# Running


def run_unit(notebook: Path, fixed: dict[str, Any], unit: dict[str, Any], work: Path, label: str) -> None:
    """Run one unit in its folder, unless it is done already.

    Raises
    ------
    NotebookFailed
        If the notebook fails.
    """
    execute.run_all([(notebook, fixed | unit)], folder_of(unit, work), unit=label)


def run_units(notebook: Path, fixed: dict[str, Any], todo: list[dict[str, Any]], work: Path, jobs: int) -> None:
    """Run the units, `jobs` at a time.

    Raises
    ------
    NotebookFailed
        At the end, if any unit failed; the message names each.
    """
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # for the processes to inherit
    labels = [f"[{number}/{len(todo)}] {describe(unit)}" for number, unit in enumerate(todo, start=1)]
    # A thread for each is enough: it only waits for the process that execute.py starts for the notebook.
    pool = ThreadPoolExecutor(jobs)
    runs = [pool.submit(run_unit, notebook, fixed, unit, work, label) for unit, label in zip(todo, labels, strict=True)]
    try:
        wait(runs)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop(runs)
        raise
    failures = []
    for run, label in zip(runs, labels, strict=True):
        if isinstance(run.exception(), execute.NotebookFailed):
            failures.append(f"\n  {label}: {run.exception()}")
        else:
            run.result()  # raises what is not the notebook's fault
    if failures:
        share = f"{len(failures)} of {execute.count(len(todo), 'unit')}"
        raise execute.NotebookFailed(f"{share} failed, so no table was written.{''.join(failures)}")


def stop(runs: list[Future]) -> None:
    """End the processes of all runs. Signals reach the main thread only, so the others cannot do it themselves."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A second Ctrl-C would leave some of them running. SIG_IGN will not do: a process that starts now inherits it.
        signal.signal(number, lambda *_: None)
    for seconds in itertools.count():
        for process in multiprocessing.active_children():
            # asked to, a process ends its kernel too, which takes a moment
            process.terminate() if seconds < 20 else process.kill()
        if not wait(runs, timeout=1).not_done:
            return


# What is kept


def record_of(notebook: Path, unit: dict[str, Any], work: Path) -> dict[str, Any]:
    """What execute.py has recorded about a finished unit."""
    return next(record for record in execute.records(folder_of(unit, work)) if record["notebook"] == notebook.stem)


def flat_records(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON file that is a list of flat records; none of any other file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else None
    except ValueError:
        return []
    flat = isinstance(rows, list) and all(
        isinstance(row, dict) and not any(isinstance(value, (list, dict)) for value in row.values()) for row in rows
    )
    return rows if flat else []


def gather(notebook: Path, done: list[dict[str, Any]], work: Path) -> dict[str, pd.DataFrame]:
    """One tidy table for each file of records that the finished units left, by name; rows in the order of the units."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for unit in done:
        first = {name: as_text(value) if isinstance(value, (list, dict)) else value for name, value in unit.items()}
        # Only what the record names: the folder may hold files of a run that was killed.
        for name in record_of(notebook, unit, work)["results"]:
            for row in flat_records(folder_of(unit, work) / "results" / name):
                tables.setdefault(name.removesuffix(".json"), []).append(first | row | first)
    # as objects, or whole numbers would become floats wherever a value is missing
    return {name: pd.DataFrame(rows, dtype=object) for name, rows in tables.items()}


def commit() -> str | None:
    """The commit that the checkout is at, and whether tracked files differ; reference runs do not count as changes."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(execute.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if not (execute.ROOT / ".git").exists():  # or git would answer for a checkout further up
        return None
    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)book/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + CHANGES if changed else head


def without_machine(path: Path) -> str:
    """The path from the root of the project, or only its name where it lies elsewhere."""
    path = path.resolve()
    return path.relative_to(execute.ROOT).as_posix() if path.is_relative_to(execute.ROOT) else path.name


def command_of(options: argparse.Namespace, notebook: Path) -> str:
    """The command as it would be typed at the root of the project."""
    words = ["python", "book/sweep.py", without_machine(notebook)]
    words += [word for argument in options.g for word in ("-g", argument)]
    words += [word for name, value in options.p for word in ("-p", name, value)]
    words += ["-f", without_machine(options.f)] if options.f else []
    words += ["--out", without_machine(options.out), "--jobs", str(options.jobs)]
    words += ["--work", without_machine(options.work)] if options.work else []
    return shlex.join(words)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], epilog="More at the head of this file.")
    parser.add_argument("notebook", metavar="NOTEBOOK", help="path or name")
    parser.add_argument("-g", action="append", default=[], metavar="NAME=V1,V2", help="a parameter and all its values")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-f", type=Path, metavar="PARAMS.yaml", help="parameters by notebook")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the tables and the record")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many units run at a time; default: 1")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder of the units; _build/sweeps/NOTEBOOK")
    options = parser.parse_intermixed_args(arguments)

    def command():
        if options.jobs < 1:
            raise execute.Refused(f"--jobs must be 1 or more, not {options.jobs}.")
        ((notebook, fixed),) = execute.plan([options.notebook], dict(options.p), options.f)
        grid = read_grid(notebook, options.g)
        for name in dict(options.p):
            if name in grid:
                raise execute.Refused(f"{name} is both in -g and in -p: leave out one.")
        fixed = {name: value for name, value in fixed.items() if name not in grid}
        work = (options.work or execute.ROOT / "_build" / "sweeps" / notebook.stem).resolve()
        todo = units(grid)
        commit_before = commit()
        run_units(notebook, fixed, todo, work, options.jobs)

        records = [record_of(notebook, unit, work) for unit in todo]
        if commit_before != commit():  # then later units may have run with other code than earlier ones
            commit_before = f"{str(commit_before).removesuffix(CHANGES)}{CHANGES}"
        about = {
            "command": command_of(options, notebook),
            "notebook": notebook.stem,
            "fixed_parameters": fixed,
            "grid": grid,
            "commit": commit_before,
            # when the last unit finished, so that the same command, with nothing to do, leaves the same record
            "date": max(record["date"] for record in records),
            "machine": execute.machine(),
            "jobs": options.jobs,
            "units": [unit | {"wall_seconds": r["wall_seconds"]} for unit, r in zip(todo, records, strict=True)],
            "total_seconds": round(sum(record["wall_seconds"] for record in records), 1),
        }
        options.out.mkdir(parents=True, exist_ok=True)
        for name, table in gather(notebook, todo, work).items():
            path = options.out / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            execute.write_atomically(table.to_csv(index=False, lineterminator="\n"), path)
            holding = len(table[list(grid)].drop_duplicates())
            print(f"{path}: {execute.count(len(table), 'row')} from {holding} of {execute.count(len(todo), 'unit')}")
        execute.write_atomically(json.dumps(about, indent=2) + "\n", options.out / "record.json")

    return execute.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

"""Run one notebook once for every combination of some parameters' values, and keep what it found in small tables.

    python book/sweep.py notebooks/06_soft_frozen_decoder.ipynb -g tau=0.5,0.8,0.95 -g seed=0,1,2 --out runs/tau
    python book/sweep.py 02_synthetic_recovery -g "cells=[constant TopK],[variable TopK]" -p samples 50000000 \\
        --grid seeds.yaml --out book/results/synthetic --workers 2

Each combination is a *unit*, run with papermill in a process and a folder of its own under `--work`
(`_build/sweeps/NOTEBOOK`), with its log beside it. Several run at a time, on workers of this machine or, with
`--scheduler`, on those of a Dask scheduler elsewhere. `--dry-run` lists the units, what is done, and what the rest will
take. When all are done, there are in `--out`, a folder or a remote place that papermill can write:

NAME.csv
    for every JSON file of flat records that the notebook leaves in SAELITE_RESULTS, the records of all units in one
    table: first a column for each parameter of the grid, then theirs
record.json
    how they were made: command, parameters, commit, date, machine, threads, seconds
comparison/
    index.html, a page with a figure and a table for each NAME; results.csv and results.parquet, all records of all
    units in one table with every parameter, the versions and the times

Stop with Ctrl-C and resume with the same command: units that had finished are not run again, unless the notebook or the
code has changed. If a unit fails it is tried again as often as `--retries` says, and keeps its half-executed notebook;
the others still run, and no table is written: one with holes would mislead. If a worker dies, its unit runs again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import commands
import notebook_parameters
import run_records
import sweep_engine
import sweep_places
from sweep_grid import describe, folder_of, read_grid, units
from sweep_tables import everything, gather, record_of

CHANGES = " + changes"


class Plan:
    """What is to be run: the notebook, its parameters, and where each unit stands."""

    def __init__(self, notebook: Path, fixed: dict[str, Any], grid: dict[str, list[Any]], work: Path):
        self.notebook, self.fixed, self.grid, self.work = notebook, fixed, grid, work
        self.units = units(grid)
        self.folders = [folder_of(unit, work) for unit in self.units]
        self.labels = [f"[{i}/{len(self.units)}] {describe(unit)}" for i, unit in enumerate(self.units, start=1)]
        self.keys = [run_records.run_key(notebook, fixed | u, references=False) for u in self.units]
        self.current = [
            run_records.is_current(notebook, key, folder, folder / "results")
            for key, folder in zip(self.keys, self.folders, strict=True)
        ]

    def with_folders(self) -> list[tuple[dict[str, Any], Path]]:
        return list(zip(self.units, self.folders, strict=True))

    def seconds(self) -> tuple[list[float | None], int]:
        """What each unit took, or should take, and how many finished units of this notebook say so.

        A unit that never ran takes the median of those that had the same parameters outside the grid.
        """
        earlier = {
            path.parent: record
            for path in self.work.glob(f"*/{self.notebook.stem}.run.json")
            for record in run_records.records(path.parent)
            if record["notebook"] == self.notebook.stem
        }
        alike = [
            record["wall_seconds"]
            for record in earlier.values()
            if {k: v for k, v in record["parameters"].items() if k not in self.grid} == self.fixed
        ]
        usual = statistics.median(alike) if alike else None
        took = [earlier[folder]["wall_seconds"] if folder in earlier else usual for folder in self.folders]
        return took, len(alike)

    def show(self, workers: int) -> None:
        """List the units, what is done, and what the rest will take."""
        seconds, told_by = self.seconds()
        for label, done, takes in zip(self.labels, self.current, seconds, strict=True):
            cost = "at a cost that no finished unit tells" if takes is None else f"about {commands.clock(takes)}"
            print(f"{label}: {f'done, in {commands.clock(takes)}' if done else f'to run, {cost}'}")
        left = [takes for done, takes in zip(self.current, seconds, strict=True) if not done]
        line = f"{commands.count(len(self.units), 'unit')}: {len(self.units) - len(left)} done, {len(left)} to run"
        if left and None not in left:
            total = sum(left) / max(1, min(workers, len(left)))
            line += f", about {commands.clock(total)} on {commands.count(workers, 'worker')}"
            line += f", by {commands.count(told_by, 'finished unit')} of this notebook" if told_by else ""
        print(f"{line}.")


def run(plan: Plan, scheduler: str | None, workers: int, threads: int, retries: int) -> None:
    """Run what is not done.

    Raises
    ------
    NotebookFailed
        At the end, if any unit failed; the message names each.
    """
    seconds, _ = plan.seconds()
    jobs = []
    for i, (unit, folder) in enumerate(plan.with_folders()):
        if plan.current[i]:
            print(f"{plan.labels[i]}: nothing changed since it ran", flush=True)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        jobs.append(
            {
                "number": i,
                "label": plan.labels[i],
                "program": str(Path(__file__).resolve().with_name("unit.py")),
                "root": str(commands.ROOT),
                "notebook": str(plan.notebook),
                "parameters": plan.fixed | unit,
                "folder": str(folder),
                # the same for all, or the last digits of a sum would tell how many ran side by side
                "environment": {name: str(threads) for name in names},
            }
        )
    if not jobs:
        return
    progress = sweep_engine.Progress(
        {job["number"]: job["label"] for job in jobs}, {job["number"]: seconds[job["number"]] for job in jobs}
    )
    with sweep_engine.connected(scheduler, min(workers, len(jobs))) as client:
        sweep_engine.run_units(client, jobs, retries, progress)
    if progress.failures:
        share = f"{len(progress.failures)} of {commands.count(len(plan.units), 'unit')}"
        why = "".join(f"\n  {plan.labels[i]}: {reason}" for i, reason in sorted(progress.failures.items()))
        raise commands.NotebookFailed(f"{share} failed, so no table was written.{why}")


def commit() -> str | None:
    """The commit that the checkout is at, and whether tracked files differ; reference runs do not count as changes."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(commands.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if not (commands.ROOT / ".git").exists():  # or git would answer for a checkout further up
        return None
    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)book/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + CHANGES if changed else head


def without_machine(path: Path | str) -> str:
    """The path from the root of the project, or only its name where it lies elsewhere; a remote place as it is."""
    if sweep_places.is_remote(path):
        return str(path)
    path = Path(path).resolve()
    return path.relative_to(commands.ROOT).as_posix() if path.is_relative_to(commands.ROOT) else path.name


def command_of(options: argparse.Namespace, notebook: Path | str) -> str:
    """The command as it would be typed at the root of the project."""
    words = ["python", "book/sweep.py", without_machine(notebook)]
    words += [word for argument in options.g for word in ("-g", argument)]
    words += ["--grid", without_machine(options.grid)] if options.grid else []
    words += [word for name, value in options.p for word in ("-p", name, value)]
    words += ["-f", without_machine(options.f)] if options.f else []
    words += ["--out", without_machine(options.out)]
    words += ["--scheduler", "ADDRESS"] if options.scheduler else ["--workers", str(options.workers)]
    words += ["--threads", str(options.threads)] if options.threads != 1 else []
    words += ["--work", without_machine(options.work)] if options.work else []
    return shlex.join(words)


def keep(plan: Plan, options: argparse.Namespace, notebook: Path | str, commit: str | None) -> None:
    """Write the tables, the record and the comparison."""
    import sweep_page  # it draws, which takes a second to load; the workers load this file too

    records = [record_of(plan.notebook, unit, plan.work) for unit in plan.units]
    machines = [record["machine"] for record in records]
    defaults = notebook_parameters.default_parameters(plan.notebook)
    fixed = {name: value for name, value in (defaults | plan.fixed).items() if name not in plan.grid}
    about = {
        "command": command_of(options, notebook),
        "notebook": plan.notebook.stem,
        "fixed_parameters": plan.fixed,
        "defaults": {name: value for name, value in fixed.items() if name not in plan.fixed},
        "grid": plan.grid,
        "commit": commit,
        # when the last unit finished, so that the same command, with nothing to do, leaves the same record
        "date": max(record["date"] for record in records),
        "machine": machines[0],
        "other_machines": [m for i, m in enumerate(machines) if m not in machines[:i]][1:],
        "jobs": None if options.scheduler else options.workers,
        "units": [
            unit | {"wall_seconds": record["wall_seconds"], "threads": record["threads"]}
            for unit, record in zip(plan.units, records, strict=True)
        ],
        "total_seconds": round(sum(record["wall_seconds"] for record in records), 1),
    }
    tables = gather(plan.notebook, plan.units, plan.work)
    files: dict[str, str | bytes] = {}
    for name, table in tables.items():
        files[f"{name}.csv"] = table.to_csv(index=False, lineterminator="\n")
        holding = len(table[list(plan.grid)].drop_duplicates())
        whole = commands.count(len(plan.units), "unit")
        print(f"{options.out}/{name}.csv: {commands.count(len(table), 'row')} from {holding} of {whole}")
    results = everything(plan.notebook, plan.units, fixed, plan.work)
    files["comparison/results.csv"] = results.to_csv(index=False, lineterminator="\n")
    if sweep_places.is_remote(options.out):  # papermill writes text there, and nothing else
        for folder in plan.folders:
            executed = (folder / plan.notebook.name).read_text(encoding="utf-8")
            files[f"units/{folder.name}/{plan.notebook.name}"] = executed
    else:
        files["comparison/results.parquet"] = results.to_parquet(index=False)
    made = {
        "Made by": about["command"],
        "From": f"commit {commit or 'unknown'}, {about['date']}, {commands.count(len(plan.units), 'unit')}, "
        f"{about['total_seconds']:g} s in all",
        "On": json.dumps([about["machine"], *about["other_machines"]], indent=1),
        "Parameters that all share": json.dumps(fixed, indent=1),
    }
    files["comparison/index.html"] = sweep_page.page(f"Sweep of {plan.notebook.stem}", made, plan.grid, tables)
    # a folder with a record is whole, so the old record goes first, with the tables that are not written again
    if not sweep_places.is_remote(options.out) and (old := Path(options.out) / "record.json").is_file():
        old.unlink()
        for table in old.parent.glob("*.csv"):
            if table.name not in files:
                table.unlink()
    files["record.json"] = json.dumps(about, indent=2) + "\n"
    for name, content in files.items():
        sweep_places.keep(content, options.out, name)
    print(f"{options.out}/comparison/index.html compares them")


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if refused := commands.guarded(lambda: commands.refuse_credentials(**{"The command": words})):
        return refused
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], epilog="More at the head of this file.")
    parser.add_argument("notebook", metavar="NOTEBOOK", help="path, name, or an address such as s3://BUCKET/NAME.ipynb")
    parser.add_argument("-g", action="append", default=[], metavar="NAME=V1,V2", help="a parameter and all its values")
    parser.add_argument("--grid", type=Path, metavar="GRID.yaml", help="lists of values by notebook and parameter")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-f", type=Path, metavar="PARAMS.yaml", help="parameters by notebook")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder or address of the tables and the record")
    parser.add_argument(
        "--workers", "--jobs", type=int, metavar="N", help="units at a time; default: as fits the machine"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each unit; default: 1")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, such as tls://HOST:8786")
    parser.add_argument("--retries", type=int, default=0, metavar="N", help="how often to try a failed unit again")
    parser.add_argument("--dry-run", action="store_true", help="list the units and what they will take, run nothing")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder of the units; _build/sweeps/NOTEBOOK")
    options = parser.parse_intermixed_args(arguments)

    def command():
        for name, least in (("workers", 1), ("threads", 1), ("retries", 0)):
            value = getattr(options, name)
            if value is not None and value < least:
                raise commands.Refused(f"--{name} must be {least} or more, not {value}.")
        if options.scheduler and options.workers:
            raise commands.Refused("--workers is for this machine: with --scheduler, its own workers do the work.")
        options.workers = options.workers or sweep_engine.workers_that_fit(options.threads)
        if sweep_places.is_remote(options.out):
            sweep_places.check(options.out)
        notebook = options.notebook
        if sweep_places.is_remote(notebook):
            notebook = sweep_places.fetch(notebook, commands.ROOT / "_build" / "sweeps" / "fetched")
        ((path, fixed),) = notebook_parameters.plan([notebook], dict(options.p), options.f)
        grid = read_grid(path, options.g, options.grid)
        for name in dict(options.p):
            if name in grid:
                raise commands.Refused(f"{name} is both in the grid and in -p: leave out one.")
        fixed = {name: value for name, value in fixed.items() if name not in grid}
        work = (options.work or commands.ROOT / "_build" / "sweeps" / path.stem).resolve()
        plan = Plan(path, fixed, grid, work)
        if options.dry_run:
            plan.show(options.workers)
            return
        commit_before = commit()
        run(plan, options.scheduler, options.workers, options.threads, options.retries)
        records = [record_of(path, unit, work) for unit in plan.units]
        same_code = all(record["key"] == key for record, key in zip(records, plan.keys, strict=True))
        if commit_before != commit() or not same_code:  # then units may have run with other code than this
            commit_before = f"{str(commit_before).removesuffix(CHANGES)}{CHANGES}"
        keep(plan, options, options.notebook if sweep_places.is_remote(options.notebook) else path, commit_before)

    return commands.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

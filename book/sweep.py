"""Run one notebook once for every combination of some parameters' values, and keep what it found in small tables.

    python book/sweep.py notebooks/06_soft_frozen_decoder.ipynb -g tau=0.5,0.8,0.95 -g seed=0,1,2 --out runs/tau

Each combination is a *unit*, run in a process and a folder of its own under `--work`, with its log beside it. When all
are done, `--out` holds NAME.csv for every JSON file of flat records that the notebook leaves in SAELITE_RESULTS,
record.json, which says how they were made, and a page and tables in comparison/ that hold all of it.

Stop with Ctrl-C and resume with the same command: units that had finished are not run again, unless the notebook or the
code has changed. If a unit fails, the others still run, and no table is written: one with holes would mislead.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import re
import shlex
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import execute
import fsspec
import notebook_parameters
import run_records
import sweep_engine
import yaml


@dataclass(frozen=True)
class Unit:
    """One run of the notebook: what the grid gives it, all its parameters, its name, its folder and its key."""

    notebook: Path
    values: dict[str, Any]
    parameters: dict[str, Any]
    label: str
    folder: Path
    key: str

    def record(self) -> dict[str, Any]:
        """What `execute.py` has recorded; the unit must have finished."""
        return next(one for one in run_records.records(self.folder) if one["notebook"] == self.notebook.stem)

    def is_done(self) -> bool:
        return run_records.is_current(self.notebook, self.key, self.folder, self.folder / "results")

    def job(self) -> tuple[list[str], str]:
        """The words of a command that runs the unit, and its folder, which is made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        given = self.folder / "parameters.yaml"
        given.write_text(yaml.safe_dump({self.notebook.stem: self.parameters}), encoding="utf-8")
        words = [execute.__file__, self.notebook, "-f", given, "--out", self.folder, "--unit", self.label]
        return list(map(str, words)), str(self.folder)


def units_of(notebook: Path, fixed: dict[str, Any], grid: dict[str, list[Any]], work: Path) -> list[Unit]:
    """A unit for every combination of the grid's values, the last parameter changing fastest."""
    units, combinations = [], list(itertools.product(*grid.values()))
    for number, combination in enumerate(combinations, start=1):
        values = dict(zip(grid, combination, strict=True))
        texts = [f"{name}={one if isinstance(one, str) else json.dumps(one)}" for name, one in values.items()]
        # readable, safe as a name, and made unique by a hash; the order of the grid does not matter
        readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", ", ".join(sorted(texts)))[:80]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
        folder, label = work / f"{readable}-{digest}", f"[{number}/{len(combinations)}] {', '.join(texts)}"
        key = run_records.run_key(notebook, fixed | values, references=False)
        units.append(Unit(notebook, values, fixed | values, label, folder, key))
    return units


def summary(units: list[Unit], workers: int, failed: int = 0) -> str:
    """How many units are done and left, and how long these will take by what others of the same notebook took."""
    done = sum(unit.is_done() for unit in units)
    left = len(units) - done - failed
    said = f"{commands.count(len(units), 'unit')}: {done} done, {left} to run" + (
        f", {failed} failed" if failed else ""
    )
    earlier = [record for folder in units[0].folder.parent.glob("*/") for record in run_records.records(folder)]
    if earlier and left:
        seconds = statistics.median(record["wall_seconds"] for record in earlier) * left / min(workers, left)
        said += f", about {commands.clock(seconds)} on {commands.count(workers, 'worker')}"
    return f"{said}."


def run(units: list[Unit], scheduler: str | None, workers: int, threads: int, retries: int) -> None:
    """Run what is not done; NotebookFailed, at the end, names the units that failed."""
    left, failures = [unit for unit in units if not unit.is_done()], []
    print(summary(units, workers), flush=True)
    if not left:
        return
    with sweep_engine.connected(scheduler, min(workers, len(left))) as client:
        for number, why in sweep_engine.ended(client, [unit.job() for unit in left], threads, retries):
            failures += [f"\n  {left[number].label}: {why}"] if why else []
            said = f"{left[number].label}: {'failed' if why else 'done'}"
            print(f"{said}; {summary(units, workers, len(failures))}", flush=True)
    if failures:
        share = f"{len(failures)} of {commands.count(len(units), 'unit')}"
        raise commands.NotebookFailed(f"{share} failed, so no table was written.{''.join(sorted(failures))}")


@contextlib.contextmanager
def reached(place: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """The file system of a folder or of an address such as `s3://BUCKET/FOLDER`, and the path there."""
    try:
        yield fsspec.url_to_fs(place)
    except Exception as error:
        if "://" not in place:
            raise
        raise commands.Refused(f"{place} cannot be reached: {' '.join(str(error).split())}.") from None


def command_of(words: list[str], options: argparse.Namespace) -> str:
    """The command as it was typed, but for an address and for paths outside the project, which tell of this machine."""
    given, root = (options.notebook, options.out, options.grid, options.f, options.work), commands.ROOT
    paths = [Path(one) for one in given if one and Path(one).is_absolute()]
    hidden = {str(one): str(one.relative_to(root)) if one.is_relative_to(root) else one.name for one in paths}
    for what, instead in (hidden | ({options.scheduler: "ADDRESS"} if options.scheduler else {})).items():
        words = [word.replace(what, instead) for word in words]
    return shlex.join(["python", "book/sweep.py", *words])


def keep(units: list[Unit], out: str, about: dict[str, Any]) -> None:
    """Write the tables, the record, which begins with `about`, and the comparison."""
    import sweep_page  # it draws, which takes seconds to load

    records = [unit.record() for unit in units]
    machines = [record["machine"] for record in records]
    took = [{name: record[name] for name in ("wall_seconds", "threads")} for record in records]
    about |= {
        # when the last unit finished, so that the same command, with nothing to do, leaves the same record
        "date": max(record["date"] for record in records),
        "machine": machines[0],
        "other_machines": [m for i, m in enumerate(machines) if m not in machines[:i]][1:],
        "units": [unit.values | seconds for unit, seconds in zip(units, took, strict=True)],
        "total_seconds": round(sum(record["wall_seconds"] for record in records), 1),
    }
    tables, results = sweep_page.collect(units, about["defaults"] | about["fixed_parameters"])
    files = {f"{name}.csv": table.to_csv(index=False, lineterminator="\n").encode() for name, table in tables.items()}
    files["comparison/results.csv"] = results.to_csv(index=False, lineterminator="\n").encode()
    files["comparison/results.parquet"] = results.to_parquet(index=False)
    files["comparison/index.html"] = sweep_page.page(about, tables).encode()
    with reached(out) as (system, folder):
        # A folder with a record is whole: the old one goes first, with the tables of its sweep, the new one comes last.
        if system.exists(f"{folder}/record.json"):
            old = [path for path in system.ls(folder, detail=False) if path.endswith(".csv")]
            system.rm([f"{folder}/record.json", *old])
        system.makedirs(f"{folder}/comparison", exist_ok=True)
        for name, content in files.items():
            system.pipe_file(f"{folder}/{name}", content)
        system.pipe_file(f"{folder}/.record.json", json.dumps(about, indent=2).encode() + b"\n")
        system.mv(f"{folder}/.record.json", f"{folder}/record.json")
    print(f"{out} holds {', '.join(files)} and record.json")


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if refused := commands.guarded(lambda: commands.refuse_credentials(**{"The command": words})):
        return refused
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], epilog="More at the head of this file.")
    add = parser.add_argument
    add("notebook", metavar="NOTEBOOK", help="path, name, or an address such as s3://BUCKET/NAME.ipynb")
    add("-g", action="append", default=[], metavar="NAME=V1,V2", help="a parameter and all its values")
    add("--grid", type=Path, metavar="GRID.yaml", help="lists of values by notebook and parameter")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    add("-f", type=Path, metavar="PARAMS.yaml", help="parameters by notebook")
    add("--out", required=True, metavar="DIR", help="folder or address of the tables and the record")
    add("--workers", "--jobs", type=int, metavar="N", help="units at a time; default: as fits the machine")
    add("--threads", type=int, default=1, metavar="N", help="threads of each unit; default: 1")
    add("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, such as tls://HOST:8786")
    add("--retries", type=int, default=0, metavar="N", help="how often to try a failed unit again")
    add("--dry-run", action="store_true", help="check and list the units and what they will take, run nothing")
    add("--work", type=Path, metavar="DIR", help="folder of the units; _build/sweeps/NOTEBOOK")
    options = parser.parse_intermixed_args(arguments)

    def command():
        for name, least in (("workers", 1), ("threads", 1), ("retries", 0)):
            if getattr(options, name) is not None and getattr(options, name) < least:
                raise commands.Refused(f"--{name} must be {least} or more, not {getattr(options, name)}.")
        if options.scheduler and options.workers:
            raise commands.Refused("--workers is for this machine: with --scheduler, its own workers do the work.")
        workers = options.workers or sweep_engine.workers_that_fit(options.threads)
        with reached(options.out):
            pass  # refused now rather than when all have run
        work = (options.work or commands.ROOT / "_build" / "sweeps" / Path(options.notebook).stem).resolve()
        if "://" in options.notebook:
            with reached(options.notebook) as (system, path):
                options.notebook = work / Path(path).name
                system.get_file(path, str(options.notebook))
        ((notebook, fixed),) = notebook_parameters.plan([options.notebook], dict(options.p), options.f)
        grid = notebook_parameters.read_grid(notebook, options.g, options.grid)
        if both := [name for name in dict(options.p) if name in grid]:
            raise commands.Refused(f"{both[0]} is both in the grid and in -p: leave out one.")
        fixed = {name: value for name, value in fixed.items() if name not in grid}
        units = units_of(notebook, fixed, grid, work)
        if options.dry_run:
            lines = [f"{unit.label}: {'done' if unit.is_done() else 'to run'}" for unit in units]
            return print(*lines, summary(units, workers), sep="\n")
        commit = run_records.commit()
        run(units, options.scheduler, workers, options.threads, options.retries)
        if commit != run_records.commit() or any(unit.record()["key"] != unit.key for unit in units):
            commit = f"{str(commit).removesuffix(run_records.CHANGES)}{run_records.CHANGES}"  # or units differ in code
        defaults = notebook_parameters.default_parameters(notebook)
        about = {
            "command": command_of(words, options),
            "notebook": notebook.stem,
            "fixed_parameters": fixed,
            "defaults": {name: value for name, value in defaults.items() if name not in fixed | grid},
            "grid": grid,
            "commit": commit,
            "jobs": None if options.scheduler else workers,
        }
        keep(units, options.out, about)

    return commands.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

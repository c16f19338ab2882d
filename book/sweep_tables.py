"""What the finished units of a sweep left, as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import run_records
from sweep_grid import as_text, folder_of


def record_of(notebook: Path, unit: dict[str, Any], work: Path) -> dict[str, Any]:
    """What execute.py has recorded about a finished unit."""
    return next(record for record in run_records.records(folder_of(unit, work)) if record["notebook"] == notebook.stem)


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


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """With lists as text, since a cell of a table holds one value."""
    return {name: as_text(value) if isinstance(value, (list, dict)) else value for name, value in values.items()}


def rows_of(notebook: Path, unit: dict[str, Any], work: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each file of records that a unit left, by name; its parameters stand first."""
    first = plain(unit)
    # Only what the record names: the folder may hold files of a run that was killed.
    return {
        name.removesuffix(".json"): [first | row | first for row in rows]
        for name in record_of(notebook, unit, work)["results"]
        if (rows := flat_records(folder_of(unit, work) / "results" / name))
    }


def gather(notebook: Path, done: list[dict[str, Any]], work: Path) -> dict[str, pd.DataFrame]:
    """One tidy table for each file of records that the finished units left, by name; rows in the order of the units."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for unit in done:
        for name, rows in rows_of(notebook, unit, work).items():
            tables.setdefault(name, []).extend(rows)
    # as objects, or whole numbers would become floats wherever a value is missing
    return {name: pd.DataFrame(rows, dtype=object) for name, rows in tables.items()}


def everything(notebook: Path, done: list[dict[str, Any]], fixed: dict[str, Any], work: Path) -> pd.DataFrame:
    """All records of all units in one table, with how each was made.

    Returns
    -------
    pandas.DataFrame, one row a record (or one for a unit that left none): `table`, the name of the file that held it;
    the parameters of the grid; what the record says; `fixed_` and the name of every other parameter; and of its run
    `run_seconds`, `run_date`, `run_threads`, and of the machine `run_cpu`, `run_torch` and the like.
    """
    others = plain({f"fixed_{name}": value for name, value in fixed.items()})
    rows = []
    for unit in done:
        record = record_of(notebook, unit, work)
        about = {"seconds": record["wall_seconds"], "date": record["date"], "threads": record["threads"]}
        run = others | {f"run_{name}": value for name, value in (about | record["machine"]).items()}
        for name, records in (rows_of(notebook, unit, work) or {None: [plain(unit)]}).items():
            rows += [{"table": name} | row | run for row in records]
    table = pd.DataFrame(rows, dtype=object)
    made = [name for name in table.columns if name.startswith(("fixed_", "run_"))]
    table = table[[name for name in table.columns if name not in made] + made].convert_dtypes()
    for name in table.select_dtypes(object):  # of several types; a file of columns takes one
        table[name] = table[name].map(as_text, na_action="ignore").astype("string")
    return table

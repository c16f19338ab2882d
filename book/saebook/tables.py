"""Tables as the pages show them, and tables of reference runs, read with how they were made."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from IPython.display import HTML

from saelite.plots import html_table


def show(table: pd.DataFrame) -> HTML:
    """A table for a notebook's page: :func:`saelite.plots.html_table`, shown."""
    return HTML(html_table(table))


@dataclass(frozen=True)
class ReferenceRun:
    """What a sweep left in a folder: its tables by name, and a label that says that this build did not make them."""

    tables: dict[str, pd.DataFrame]
    label: str

    def __bool__(self):
        return bool(self.tables)


def reference_run(folder: Path | str, *wanted: str) -> ReferenceRun:
    """Read the tables of a reference run and its record.

    Parameters
    ----------
    folder : path
        With CSV tables and a ``record.json``, or with several such folders, whose tables of one name are put below each
        other; empty for no reference run.
    wanted : str
        Names of the tables that it must hold.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no such table in it, in a sentence that says where it comes from.
    """
    if not folder:
        return ReferenceRun({}, "")
    folder = Path(folder)
    parts = [folder] if (folder / "record.json").is_file() else sorted(p.parent for p in folder.glob("*/record.json"))
    if not parts:
        raise FileNotFoundError(
            f"There is no reference run in {folder}; it comes with the book's repository, so run this notebook there."
        )
    tables = {}
    for part in parts:
        for path in sorted(part.glob("*.csv")):
            tables.setdefault(path.stem, []).append(pd.read_csv(path))
    if missing := [name for name in wanted if name not in tables]:
        raise FileNotFoundError(
            f"The reference run in {folder} holds {', '.join(tables) or 'no table'}, and not {missing[0]}: name "
            "another folder, or leave the parameter empty."
        )
    labels = "\n\n".join(_label(json.loads((part / "record.json").read_text(encoding="utf-8"))) for part in parts)
    return ReferenceRun({name: pd.concat(some, ignore_index=True) for name, some in tables.items()}, labels)


def _label(record):
    machine, commit = record["machine"], (record["commit"] or "unknown")[:10]
    return (
        f"**Reference run, not made by this build.** Made on {record['date'][:10]} from commit `{commit}` in "
        f"{record['total_seconds'] / 60:.0f} minutes on {machine['cores']} cores "
        f"({machine['cpu']}, torch {machine['torch']}), by\n\n```\n{record['command']}\n```"
        + (f"\n\n{record['remark']}" if "remark" in record else "")
    )


def whole_rows(history: pd.DataFrame) -> pd.DataFrame:
    """A training history without a last row that covers fewer steps than the others do.

    Shares of dead latents and cosines to the start are over the latents that fired since the row before. Those that
    fire in a batch or two are the frequent ones alone, so a short last row is not comparable with the others.

    Parameters
    ----------
    history : pandas.DataFrame
        As :func:`saelite.training.train` gives it.

    Returns
    -------
    pandas.DataFrame
        The same if all rows cover as many steps, or if there is only one.
    """
    steps = history["step"]
    return history[:-1] if len(steps) > 1 and steps.iloc[-1] - steps.iloc[-2] < steps.iloc[0] else history

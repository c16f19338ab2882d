"""What a sweep is asked for: a grid of parameters' values, read and checked, and its units."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import commands
import notebook_parameters

CLOSING = {"[": "]", "(": ")", "{": "}", "'": "'", '"': '"'}


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
        raise commands.Refused(f"The values {text!r} lack a closing {awaited[-1]}.")
    return [re.sub(r"""^(['"])((?:(?!\1).)*)\1$""", r"\2", value.strip()) for value in values]


def read_grid(notebook: Path, given: list[str], file: Path | None = None) -> dict[str, list[Any]]:
    """The values of each parameter of the grid, checked.

    Parameters
    ----------
    notebook : the notebook that takes them
    given : arguments such as `seed=0,1,2`
    file : a YAML file such as `06_soft_frozen_decoder: {tau: [0.5, 0.8], seed: [0, 1]}`; what is given overrules it

    Raises
    ------
    Refused
        If there is no grid, a name or value comes twice, or the notebook does not take it.
    """
    asked: dict[str, list[Any]] = {}
    by_notebook = notebook_parameters.read_parameters(file, [notebook]) if file else {}
    for name, values in by_notebook.get(notebook.stem, {}).items():
        if not isinstance(values, list) or not values:
            raise commands.Refused(f"{file} must give {name} a list of values, such as `{name}: [1, 2]`.")
        asked[name] = values
    named = set()
    for argument in given:
        name, _, text = argument.partition("=")
        if not name or not text.strip():
            raise commands.Refused(f"-g {argument} must name a parameter and its values, such as -g seed=0,1,2.")
        if name in named:
            raise commands.Refused(f"-g names {name} twice: put all its values into one, such as -g {name}=1,2.")
        named.add(name)
        asked[name] = split_values(text)
    if not asked:
        raise commands.Refused("A sweep needs a grid: name a parameter and its values, such as -g seed=0,1,2.")
    grid: dict[str, list[Any]] = {}
    for name, values in asked.items():
        grid[name] = []
        for value in values:
            checked = notebook_parameters.check_parameters(notebook, {name: value})[name]
            if as_text(checked) in map(as_text, grid[name]):  # as text, since True == 1
                raise commands.Refused(f"The grid gives {name} the value {value} twice.")
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

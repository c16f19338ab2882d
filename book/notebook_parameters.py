"""The notebooks and their parameters: which there are, what a notebook declares, and whether a value fits.

papermill warns of a parameter that a notebook does not have, and takes any value; here both are refused before anything
runs.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Literal

import commands
import jupytext
import nbformat
import yaml
from commands import Refused, refuse_credentials
from pydantic import TypeAdapter, ValidationError

# What the types of parameters are made of.
TYPES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict, tuple)} | {"Literal": Literal, "Any": Any}


def find_notebook(name: str | Path) -> Path:
    """The .ipynb that `name` means: a path to it or to its paired .py, or the bare name of one in `notebooks/`.

    Raises
    ------
    Refused
        If there is none, or if it and the .py beside it hold different cells (the .py is the source).
    """
    candidates = [Path(name).with_suffix(".ipynb"), commands.ROOT / "notebooks" / f"{Path(name).stem}.ipynb"]
    found = next((path.resolve() for path in candidates if path.is_file()), None)
    if found is None:
        known = ", ".join(sorted(path.stem for path in (commands.ROOT / "notebooks").glob("*.ipynb")))
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

    Raises
    ------
    Refused
        For an annotation that is more than a type: a notebook is looked at here, and must not run.
    """
    declared: dict[str, Any] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.AnnAssign):
                    if not is_type(line.annotation):
                        kind, known = ast.unparse(line.annotation), ", ".join(TYPES)
                        raise Refused(f"{notebook.stem}: {kind} is no type of a parameter; use None, {known}.")
                    declared[line.target.id] = eval(ast.unparse(line.annotation), {"__builtins__": {}} | TYPES)
                elif isinstance(line, ast.Assign):
                    declared |= {target.id: Any for target in line.targets}
    return declared


def is_type(annotation: ast.expr) -> bool:
    """Whether an annotation is made of `TYPES` alone, so that nothing else runs when it is evaluated.

    Text is a value of a Literal and nothing else: elsewhere pydantic would take it for an annotation and evaluate it.
    """
    match annotation:
        case ast.Name(id=name):
            return name in TYPES
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            values = values.elts if isinstance(values, ast.Tuple) else [values]
            return all(isinstance(value, ast.Constant) for value in values)
        case ast.Subscript(value=ast.Name(id="list" | "dict" | "tuple") as value, slice=items):
            return is_type(value) and is_type(items)
        case ast.Tuple(elts=items):
            return all(map(is_type, items))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return is_type(left) and is_type(right)
    return isinstance(annotation, ast.Constant) and annotation.value in (None, ...)


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


def split_values(text: str) -> list[Any]:
    """The values in `1,2` or `[a,b],[c]` or `'a,b',c`, as YAML reads a list, but text where it sees a number."""
    try:
        texts, values = (yaml.load(f"[{text}]", loader) for loader in (yaml.BaseLoader, yaml.SafeLoader))
    except (yaml.YAMLError, ValueError):
        raise Refused(f"The values {text!r} are no list: put commas between them, and quotes around signs.") from None
    return [one if isinstance(one, str) else value for one, value in zip(texts, values, strict=True)]


def read_grid(notebook: Path, given: list[str], file: Path | None = None) -> dict[str, list[Any]]:
    """The checked values of each parameter to sweep over: from arguments such as `seed=0,1,2`, and else from a file.

    Raises
    ------
    Refused
        If there are none, a value comes twice, or the notebook does not take it.
    """
    named: dict[str, list[Any]] = {}
    for argument in given:
        name, _, text = argument.partition("=")
        named.setdefault(name, []).extend(split_values(text))
    by_notebook = read_parameters(file, [notebook]) if file else {}
    grid = by_notebook.get(notebook.stem, {}) | named
    if not grid:
        raise Refused("A sweep needs a grid: name a parameter and its values, such as -g seed=0,1,2.")
    for name, values in grid.items():
        if not name or not values or not isinstance(values, list):
            raise Refused(f"{name or 'A parameter'} needs values: -g seed=0,1,2, or `seed: [0, 1, 2]` in a file.")
        grid[name] = [check_parameters(notebook, {name: value})[name] for value in values]
        texts = [json.dumps(value) for value in grid[name]]  # since True == 1
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise Refused(f"The grid gives {name} the value {twice[0]} twice.")
    return grid


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

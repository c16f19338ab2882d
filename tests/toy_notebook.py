"""A notebook for the tests of sweeps, which needs no torch and runs in a second."""

from pathlib import Path

import nbformat

PARAMETERS = """\
samples: int = 3  # how many
rate: float = 0.5  # how fast
name: str = "a"  # what
depths: list = [1]  # how deep"""

# Leaves one file of records and three of other kinds.
LEAVES = """\
import json, os, pathlib
results = pathlib.Path(os.environ["SAELITE_RESULTS"])
rows = [{"name": name, "score": samples * rate, "draw": draw, "whole": draw or None} for draw in range(2)]
(results / "scores.json").write_text(json.dumps(rows))
(results / "nested.json").write_text(json.dumps([{"scores": rows}]))
(results / "one.json").write_text(json.dumps(rows[0]))
(results / "note.md").write_text("no table")"""


def write_notebook(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells.append(nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)
    return path

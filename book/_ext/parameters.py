"""Show on each notebook's page what it was run with, how long it took and on what, and how to run it with other values.

What is shown comes from the record that execute.py keeps beside an executed notebook. It is added when Sphinx reads the
page, so the notebook itself, which readers download, stays the same from build to build.
"""

import ast
import json
import shlex
from pathlib import Path

import nbformat

PLACE = "parameters"  # the tag of the cell below which the box stands


def add_box(app, docname, source):
    """Put a box below the parameters of a notebook that has a record."""
    record_file = Path(app.srcdir, f"{docname}.run.json")
    if not record_file.is_file():
        return
    app.env.note_dependency(str(record_file))  # a new record makes the page anew
    record = json.loads(record_file.read_text(encoding="utf-8"))
    notebook = nbformat.reads(source[0], as_version=4)
    for place, cell in enumerate(notebook.cells):
        if PLACE in cell.metadata.get("tags", []):
            extra = Path(app.srcdir, "extra")
            offered = [
                f'<a href="../{path}" download>{words}</a>'
                if path.endswith(".ipynb")
                else f'<a href="../{path}">{words}</a>'
                for path, words in (
                    (f"student/{record['notebook']}.ipynb", "this notebook without solutions"),
                    (f"slides/{record['notebook']}.html", "its slides"),
                )
                if (extra / path).is_file()
            ]
            text = box(cell.source, record, offered)
            notebook.cells.insert(place + 1, nbformat.v4.new_markdown_cell(text, id="parameters-box"))
            source[0] = nbformat.writes(notebook)
            return


def box(parameters, record, offered):
    """The box as MyST Markdown.

    Parameters
    ----------
    parameters : str
        Source of the cell of parameters: lines ``name: type = value  # what it means``.
    record : dict
        As execute.py writes it.
    offered : list of str
        Links to what else the site holds of this chapter.
    """
    rows = [
        f"| `{name}` | `{kind}` | {_code(record['parameters'].get(name, value))} | {_cell(meaning)} |"
        for name, kind, value, meaning in declared(parameters)
    ]
    name, machine = record["notebook"], record["machine"]
    changed = record["parameters"] | ({} if "seed" in record["parameters"] else {"seed": 1})
    changed = {key: value for key, value in changed.items() if key in {row[0] for row in declared(parameters)}}
    took = f"{int(record['wall_seconds'] // 60)} min {int(record['wall_seconds'] % 60)} s"
    lines = [
        "````{dropdown} Parameters of this build, its time, and how to run it with others",
        "",
        "| name | type | value here | meaning |",
        "|---|---|---|---|",
        *rows,
        "",
        f"This page took {took} on {record['threads']} of {machine['cores']} cores ({machine['cpu']}, "
        f"{machine['system']}, Python {machine['python']}, torch {machine['torch']}) on {record['date'][:10]}; what "
        "earlier pages had made was not made again. With another value:",
        "",
        "```bash",
        # papermill runs a notebook in the caller's folder, and ours read `../book/results`
        f".venv/bin/papermill --cwd notebooks notebooks/{name}.ipynb my_run.ipynb {_options(changed, plain=True)}",
        "```",
        "",
        f"or, refusing a misspelt name, `.venv/bin/python book/execute.py {name} {_options(changed)}`.",
    ]
    if offered:
        lines += ["", f"To work through it or to teach from it: {', '.join(offered)}."]
    return "\n".join([*lines, "````"])


def declared(parameters):
    """Name, type, default and comment of every parameter."""
    lines = parameters.splitlines()
    for line in ast.parse(parameters).body:
        comment = lines[line.end_lineno - 1].encode()[line.end_col_offset :].decode().strip().removeprefix("#").strip()
        yield line.target.id, ast.unparse(line.annotation), ast.literal_eval(line.value), comment


def _options(changed, plain=False):
    """Parameters as options of a command; plain papermill takes lists in YAML only."""
    words = []
    for name, value in changed.items():
        if plain and isinstance(value, (list, dict)):
            words += ["-y", f"{name}: {json.dumps(value)}"]
        else:
            words += ["-p", name, value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def _code(value):
    return f"`{_cell(json.dumps(value) if not isinstance(value, str) else repr(value))}`"


def _cell(text):
    """Text that does not end the cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def setup(app):
    app.connect("source-read", add_box)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""One page that compares the units of a sweep: a figure and a table for each file of records.

The page stands alone: opened from the file system it asks nothing of any other place, and whatever comes from the
notebook or its parameters is text, never markup.
"""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_bool_dtype, is_numeric_dtype

PANELS = 12  # figures of a table that are drawn; the table holds the others
LINES = 8  # more cannot be told apart by colour
ROWS = 200  # of a table that are shown; results.csv holds all

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
td, th { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; border-bottom: 1px solid #8884; white-space: nowrap; }
img { max-width: 100%; background: white; }
pre { white-space: pre-wrap; }
"""


def split_columns(table: pd.DataFrame, grid: dict[str, list[Any]]) -> tuple[str, list[str], list[str]]:
    """What to draw along, what tells lines apart, and what to draw.

    Along: the first parameter of the grid with several values that is no seed, else the first. Lines: the other
    parameters that vary, without seeds, whose runs are points of one line, and the columns of text. Drawn: the numbers.
    """
    varied = [name for name, values in grid.items() if len(values) > 1 and name != "seed"]
    along = (varied or list(grid))[0]
    texts = [name for name in table.columns if name not in grid and not is_numeric_dtype(table[name])]
    texts = [name for name in texts if 1 < table[name].nunique() <= LINES]
    numbers = [name for name in table.columns if name not in grid and is_numeric_dtype(table[name])]
    numbers = [name for name in numbers if not is_bool_dtype(table[name]) and table[name].notna().any()]
    return along, [name for name in varied if name != along] + texts, numbers


def draw(table: pd.DataFrame, grid: dict[str, list[Any]]) -> tuple[Figure | None, str]:
    """A panel for each figure: every value a point, and a line through the means of the points above one value.

    Returns
    -------
    (figure, in words what it shows); no figure where there are no numbers.
    """
    along, apart, numbers = split_columns(table, grid)
    while apart and table[apart].drop_duplicates().shape[0] > LINES:
        apart = apart[:-1]
    drawn = numbers[:PANELS]
    if not drawn:
        return None, "No figures to draw."
    in_order = is_numeric_dtype(table[along]) and not is_bool_dtype(table[along])
    values = sorted(table[along].dropna().unique()) if in_order else [str(value) for value in table[along].unique()]
    places = dict(zip(values, values if in_order else range(len(values)), strict=True))
    across = min(3, len(drawn))
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(4 * across, 3 * down + 0.6), layout="constrained")
    lines = list(table.groupby(apart, sort=False, dropna=False)) if apart else [((), table)]
    for number, name in enumerate(drawn, start=1):
        axes = figure.add_subplot(down, across, number)
        for values_apart, rows in lines:
            rows = rows[[along, name]].dropna()
            x = rows[along].map(lambda value: places[value if in_order else str(value)]).astype(float)
            y = rows[name].astype(float)
            means = y.groupby(x).mean()
            label = ", ".join(as_label(value) for value in values_apart)
            (line,) = axes.plot(means.index, means.to_numpy(), label=label)
            axes.plot(x, y, "o", color=line.get_color(), alpha=0.6, markersize=4)
        if not in_order:
            axes.set_xticks(range(len(values)), [as_label(value) for value in values], rotation=20, ha="right")
        axes.set_xlabel(as_label(along))
        axes.set_title(as_label(name), fontsize="medium")
    if apart:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, title=as_label(", ".join(apart)), loc="outside lower center", ncols=min(4, len(labels))
        )
    said = f"Each point is a value of a record, the line goes through the means at each {along}"
    said += f"; lines are told apart by {', '.join(apart)}" if apart else ""
    left_out = numbers[PANELS:]
    return figure, said + (f". Not drawn: {', '.join(left_out)}." if left_out else ".")


def as_label(value: Any) -> str:
    """Short text that matplotlib does not take for a formula."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return (text if len(text) <= 40 else text[:39] + "…").replace("$", r"\$")


def as_image(figure: Figure, alt: str) -> str:
    """The same for the same figure, to the byte; as an image, since what an image holds is never run."""
    held = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "sweep"}):
        figure.savefig(held, format="svg", metadata={"Date": None})
    coded = base64.b64encode(held.getvalue()).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/svg+xml;base64,{coded}">'


def page(title: str, about: dict[str, str], grid: dict[str, list[Any]], tables: dict[str, pd.DataFrame]) -> str:
    """The page.

    Parameters
    ----------
    title : of the page, plain text
    about : how the sweep was made, plain text by what it is
    grid : the values of each parameter
    tables : the records of all units by the name of their file, a column for each parameter of the grid among them
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(name)}</p><pre>{html.escape(text)}</pre>" for name, text in about.items()]
    for name, table in tables.items():
        table = table.convert_dtypes()
        figure, said = draw(table, grid)
        parts.append(f"<h2>{html.escape(name)}</h2>")
        if figure:
            parts.append(as_image(figure, f"The figures of {name} along the grid, as in the table below. {said}"))
        parts.append(f"<p>{html.escape(said)}</p>")
        # pandas escapes names and values
        shown = table.head(ROWS).to_html(index=False, border=0, na_rep="-", float_format="{:.4g}".format, escape=True)
        parts.append(f'<div class="wide">{shown}</div>')
        if len(table) > ROWS:
            parts.append(f"<p>The first {ROWS} of {len(table)} rows; results.csv holds all.</p>")
    if not tables:
        parts.append("<p>The notebook left no file of records to compare; results.csv says how its units ran.</p>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        # the browser is told, too, to ask nothing of any other place
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; """
        'img-src data:">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )

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
LINES = 10  # more cannot be told apart by colour
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
    parameters that vary, without seeds, whose runs are points of one line, and the columns of text, as far as colours
    go. Drawn: the numbers.
    """
    varied = [name for name, values in grid.items() if len(values) > 1 and name != "seed"]
    along = (varied or list(grid))[0]
    texts = [name for name in table.columns if name not in grid and not is_numeric_dtype(table[name])]
    numbers = [name for name in table.columns if name not in grid and is_numeric_dtype(table[name])]
    numbers = [name for name in numbers if not is_bool_dtype(table[name]) and table[name].notna().any()]
    apart: list[str] = []
    for name in [name for name in varied if name != along] + [name for name in texts if name != "metric"]:
        lines = table[apart].drop_duplicates().shape[0] if apart else 1
        if lines < table[[*apart, name]].drop_duplicates().shape[0] <= LINES:
            apart.append(name)
    return along, apart, numbers


def draw(table: pd.DataFrame, grid: dict[str, list[Any]]) -> tuple[Figure | None, str]:
    """A panel for each figure, or for each metric of a table with a column `metric`; every value is a point.

    Returns
    -------
    (figure, in words what it shows); no figure where there are no numbers.
    """
    table = table.reset_index(drop=True)
    along, apart, numbers = split_columns(table, grid)
    panels = [(name, name, table) for name in numbers]
    if "metric" in table and numbers:
        panels = [(str(metric), numbers[0], rows) for metric, rows in table.groupby("metric", sort=False)]
    same = [*grid, *apart, *(["metric"] if "metric" in table else [])]
    mixed = table.duplicated(list(dict.fromkeys(same))).any()
    drawn, left_out = panels[:PANELS], panels[PANELS:]
    if not drawn:
        return None, "No figures to draw."
    in_order = is_numeric_dtype(table[along]) and not is_bool_dtype(table[along]) and table[along].notna().all()
    values = sorted(table[along].unique()) if in_order else list(map(str, table[along].unique()))
    across = min(3, len(drawn))
    down = -(-len(drawn) // across)
    upright = not in_order and len(values) > 3
    height = 3 + (0.08 * max(len(as_label(value)) for value in values) if upright else 0)  # inches; labels take room
    figure = Figure(figsize=(4 * across, height * down + 1), layout="constrained")
    told_apart = pd.Series("", index=table.index)
    if apart:
        told_apart = table[apart].astype("string").fillna("-").agg(", ".join, axis=1)
    colours = {label: f"C{number}" for number, label in enumerate(told_apart.unique())}
    drawn_as = {}
    for number, (title, name, rows) in enumerate(drawn, start=1):
        axes = figure.add_subplot(down, across, number)
        rows = rows.dropna(subset=[name])
        for label, of_label in rows.groupby(told_apart.loc[rows.index], sort=False):
            x = of_label[along] if in_order else of_label[along].map(lambda value: values.index(str(value)))
            x, y = x.astype(float), of_label[name].astype(float)
            dots = {"alpha": 0.6, "markersize": 4, "rasterized": len(rows) > 500}  # or the page is megabytes
            (drawn_as[label],) = axes.plot(x, y, "o", color=colours[label], **dots)
            if not mixed:  # a mean over what is not told apart would mean nothing
                means = y.groupby(x).mean()
                axes.plot(means.index, means.to_numpy(), color=colours[label], linewidth=1)
        if not in_order:
            axes.set_xticks(range(len(values)), map(as_label, values), rotation=90 if upright else 0)
        elif len(values) <= 8:
            axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xlabel(as_label(along))
        axes.set_title(as_label(title), fontsize="medium")
    if apart:
        labels = list(map(as_label, drawn_as))
        head = as_label(", ".join(apart))
        figure.legend(drawn_as.values(), labels, title=head, loc="outside lower center", ncols=min(4, len(labels)))
    said = f"Each point is a value of a record, above its {along}"
    said += f"; colours tell {', '.join(apart)} apart" if apart else ""
    said += "; several records share a colour and place" if mixed else "; lines go through the means"
    not_drawn = [title for title, _, _ in left_out] + (numbers[1:] if drawn[0][1] != drawn[0][0] else [])
    return figure, said + (f". Not drawn: {', '.join(not_drawn)}." if not_drawn else ".")


def as_label(value: Any) -> str:
    """Short text that matplotlib does not take for a formula."""
    text = str(value).strip("[]").replace('"', "")  # a list of one is shown as that one
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
    for name, table in tables.items():
        table = table.convert_dtypes()
        figure, said = draw(table, grid)
        parts.append(f"<h2>{html.escape(name)}</h2>")
        if figure:
            parts.append(as_image(figure, f"The figures of {name} along the grid, as in the table below. {said}"))
        parts.append(f"<p>{html.escape(said)}</p>")
        shown = table.head(ROWS).astype(object)
        # pandas escapes names and values
        shown = shown.where(shown.notna(), "-").to_html(
            index=False, border=0, float_format="{:.4g}".format, escape=True
        )
        parts.append(f'<div class="wide">{shown}</div>')
        if len(table) > ROWS:
            parts.append(f"<p>The first {ROWS} of {len(table)} rows; results.csv holds all.</p>")
    if not tables:
        parts.append("<p>The notebook left no file of records to compare; results.csv says how its units ran.</p>")
    parts.append("<h2>How it was made</h2>")
    parts += [f"<p>{html.escape(name)}</p><pre>{html.escape(text)}</pre>" for name, text in about.items()]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        # the browser is told, too, to ask nothing of any other place
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; """
        'img-src data:">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )

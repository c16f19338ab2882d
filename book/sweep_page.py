"""What the units of a sweep left, as tables and as a page that stands alone, where text from them is never markup."""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from saelite.checking.report import STYLE

ROWS = 200  # of a table that are shown; results.csv holds all
# The browser is told, too, to ask nothing of any other place.
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>{style}</style></head><body><h1>{title}</h1>
{tables}<h2>How it was made</h2><pre style="white-space: pre-wrap">{about}</pre></body></html>
"""


def flat_records(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON file that is a list of flat records; none of any other file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else []
        cells = [cell for row in rows for cell in row.values()]
    except (ValueError, AttributeError, TypeError):
        return []
    return [] if any(isinstance(cell, list | dict) for cell in cells) else rows


def collect(units: list[Any], fixed: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The records of finished units: a table for each file of records, by its name; and one of all of them.

    The latter begins with `table`, the name of the file, and ends with `fixed_NAME` for parameters outside the grid,
    `run_seconds`, `run_date`, `run_threads`, `run_cpu` and the like. A unit without records has a row there, too.
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    rows, made = [], []
    for unit in units:
        record, before = unit.record(), len(rows)
        about = {"seconds": record["wall_seconds"], "date": record["date"], "threads": record["threads"]}
        last = {f"fixed_{name}": value for name, value in fixed.items()}
        last |= {f"run_{name}": value for name, value in (about | record["machine"]).items()}
        for name in record["results"]:  # the folder may hold files of a run that was killed, too
            found = [unit.values | row | unit.values for row in flat_records(unit.folder / "results" / name)]
            tables.setdefault(name.removesuffix(".json"), []).extend(found)
            rows += [{"table": name.removesuffix(".json")} | row for row in found]
        rows += [] if rows[before:] else [{"table": None} | unit.values]
        made += [last] * (len(rows) - before)
    whole = pd.concat([as_table(rows), as_table(made)], axis=1).convert_dtypes()
    for name in whole.select_dtypes(object):  # of several types; a column of a parquet file takes one
        whole[name] = whole[name].map(str, na_action="ignore").astype("string")
    return {name: as_table(found) for name, found in tables.items() if found}, whole


def as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table of objects, or whole numbers would become floats where one is missing; lists are text in it."""
    plain = lambda one: json.dumps(one) if isinstance(one, list | dict) else one  # noqa: E731
    return pd.DataFrame([{name: plain(one) for name, one in row.items()} for row in rows], dtype=object)


def draw(table: pd.DataFrame, grid: dict[str, list[Any]]) -> tuple[sns.FacetGrid | None, str]:
    """A panel for each column of numbers, or each metric of a column `metric`, if any; and in words what it shows.

    Every value is a point, along the first parameter of the grid with several values that is no seed. Colours tell the
    other such parameters and the columns of text apart, as far as ten colours go.
    """
    varied = [name for name, values in grid.items() if len(values) > 1 and name != "seed"] or list(grid)
    along, found, metric = varied[0], table.drop(columns=list(grid)), ["metric"] if "metric" in table else []
    numbers = list(found.dropna(axis=1, how="all").select_dtypes("number"))
    if not numbers:
        return None, "No figures to draw."
    apart: list[str] = []
    for name in varied[1:] + [name for name in found if name not in [*numbers, *metric]]:
        lines = len(table[apart].drop_duplicates()) if apart else 1
        if lines < len(table[[*apart, name]].drop_duplicates()) <= 10:
            apart.append(name)
    mixed = table.duplicated(list({*grid, *apart, *metric})).any()
    words = table.astype("string").fillna("-").apply(lambda column: column.str.strip('[]"').str[:40])
    in_order = along in table.select_dtypes("number") and table[along].notna().all()
    drawn = {numbers[0]: words["metric"]} if metric else {name: name for name in numbers}
    parts = [pd.DataFrame({"y": table[name], "figure": title}) for name, title in drawn.items()]
    long = pd.concat(parts).assign(x=table[along].astype(float) if in_order else words[along])
    long["colour"] = words[apart].agg(", ".join, axis=1) if apart else ""
    long = long.dropna().astype({"y": float}).reset_index(drop=True)
    colour = {"hue": "colour", "hue_order": list(long["colour"].unique())} if apart else {}
    how = {"height": 3, "alpha": 0.6, "rasterized": len(long) > 500, "facet_kws": {"sharey": False}}
    figure = sns.relplot(long, x="x", y="y", col="figure", col_wrap=3, **colour, **how)
    if not mixed:  # a mean over what is not told apart would mean nothing
        figure.map_dataframe(sns.lineplot, "x", "y", errorbar=None, **colour)
    if apart:
        figure.legend.set_title(", ".join(apart))
    figure.set_titles("{col_name}").set_axis_labels(along, "")
    figure.tick_params(axis="x", rotation=0 if in_order or long["x"].nunique() <= 3 else 90)
    said = f"Each point is a value of a record, above its {along}"
    said += f"; colours tell {', '.join(apart)} apart" if apart else ""
    said += "; several records share a colour and place." if mixed else "; lines go through the means."
    return figure, said + (f" Not drawn: {', '.join(numbers[1:])}." if metric and numbers[1:] else "")


def page(about: dict[str, Any], tables: dict[str, pd.DataFrame]) -> str:
    """The page, as HTML: a figure and the rows of each table, by name; then `about`, the record of the sweep."""
    parts = [] if tables else ["<p>The notebook left no file of records; results.csv says how its units ran.</p>"]
    for name, table in tables.items():
        table, picture = table.convert_dtypes(), io.BytesIO()
        parts.append(f"<h2>{html.escape(name)}</h2>")
        # text is no formula, whatever signs it holds; and the same figure is the same picture, to the byte
        with plt.rc_context({"text.parse_math": False, "svg.hashsalt": "sweep"}):
            figure, said = draw(table, about["grid"])
            if figure:
                figure.savefig(picture, format="svg", metadata={"Date": None})
                plt.close(figure.figure)
                alt = html.escape(f"The figures of {name} along the grid, as in the table below. {said}")
                held = base64.b64encode(picture.getvalue()).decode()  # as an image, whose content is never run
                parts.append(f'<img alt="{alt}" src="data:image/svg+xml;base64,{held}">')
        rows = table.head(ROWS).astype(object).fillna("-").to_html(index=False, border=0, float_format="{:.4g}".format)
        more = f"<p>The first {ROWS} of {len(table)} rows; results.csv holds all.</p>" if len(table) > ROWS else ""
        parts.append(f'<p>{html.escape(said)}</p><div class="wide">{rows}</div>{more}')
    title, made = html.escape(f"Sweep of {about['notebook']}"), html.escape(json.dumps(about, indent=1))
    return PAGE.format(title=title, style=STYLE, tables="\n".join(parts), about=made)

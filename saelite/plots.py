"""How a scorecard is drawn and written as a table, and the look that all figures share."""

from __future__ import annotations

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; always paired with a marker or a label.
COLOURS = {
    "fully trained": "#0072B2",
    "Frozen Decoder": "#D55E00",
    "Frozen Decoder (cov)": "#E69F00",
    "Soft-Frozen Decoder": "#009E73",
    "Frozen Encoder": "#CC79A7",
    "your SAE": "#000000",
    "trained here": "#56B4E9",
}
GREY = "#6b6b6b"
PAPER = {"marker": "D", "linestyle": "", "mfc": "none", "mec": GREY}  # the paper's values


def style() -> None:
    """One look for every figure: transparent SVG without a date, so that a second run gives the same bytes."""
    sns.set_theme(context="notebook", style="ticks", font="DejaVu Sans")
    mpl.rcParams.update(
        {
            "svg.hashsalt": "saelite",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
            "figure.facecolor": "none",  # pages are light or dark
            "axes.facecolor": "none",
        }
    )
    if "IPython" in sys.modules:  # only a notebook shows figures by itself, and has the package that says how
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})


def scorecard(card: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Every metric of a scorecard in a panel of its own: SAEs as dots with intervals, between floor and ceiling.

    Parameters
    ----------
    card : DataFrame
        From :func:`saelite.evaluations.scorecard.scorecard`.
    paper : DataFrame with columns architecture, baseline, metric, score; optional
        The paper's scores, as open diamonds.
    """
    metrics, baselines, architectures = (list(card[name].unique()) for name in ("metric", "baseline", "architecture"))
    rows = -(-len(metrics) // 2)
    size = (7, 0.9 + rows * (0.95 + 0.33 * len(baselines)))
    figure, grid = plt.subplots(rows, 2, figsize=size, sharey=True, squeeze=False)
    offsets = dict(zip(architectures, np.linspace(-0.18, 0.18, len(architectures)), strict=True))
    marks = dict(zip(architectures, "osvP*X" * len(architectures), strict=False))
    for axes, metric in zip(grid.flat, metrics, strict=False):
        panel = card[card["metric"] == metric]
        for row in panel.itertuples():
            y = baselines.index(row.baseline) + offsets[row.architecture]
            dot(axes, row.score, y, row, fmt=marks[row.architecture], ms=5)
        if paper is not None:
            known = paper["baseline"].isin(baselines) & paper["architecture"].isin(architectures)
            for row in paper[known & (paper["metric"] == metric)].itertuples():
                axes.plot(row.score, baselines.index(row.baseline) + offsets[row.architecture], **PAPER, ms=4)
        for name, line in (("floor", ":"), ("ceiling", "--")):
            axes.axvline(panel[name].iloc[0], color=GREY, linestyle=line, linewidth=1.2)  # NaN draws nothing
        axes.set_title(metric, fontsize=11, fontweight="bold")
        axes.set_xlabel("score", fontsize=10)
        axes.tick_params(labelsize=10)
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    grid[0, 0].set_yticks(range(len(baselines)), baselines)
    grid[0, 0].set_ylim(len(baselines) - 0.5, -0.5)
    looks = {name: {"marker": marks[name], "linestyle": "", "color": GREY} for name in architectures}
    looks |= {"floor": {"color": GREY, "linestyle": ":"}, "ceiling": {"color": GREY, "linestyle": "--"}}
    looks |= {} if paper is None else {"paper, Gemma-2-2B layer 12": PAPER}
    for name, look in looks.items():
        grid[0, 0].plot([], [], **look, label=name)
    return legend(figure, 3)


def dot(axes: Axes, value: float, y: float, row: object, **look: object) -> None:
    """A score with its interval, in the colour of its baseline."""
    spread = np.nan_to_num([[value - row.low], [row.high - value]])
    axes.errorbar(value, y, xerr=spread, color=COLOURS.get(row.baseline, GREY), **look)


def legend(figure: Figure, ncols: int) -> Figure:
    """The figure with one legend below it, in which every label of its panels comes once."""
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=ncols, fontsize=10)
    return figure


# How a column is written; any other number gets three places. (30 million samples are 29.999 in whole batches.)
FORMATS = {"dead": "{:.1%}", "l0": "{:.1f}", "million_samples": "{:.1f}"}


def html_table(table: pd.DataFrame) -> str:
    """A table for a page: the same for the same table, to the byte; what pandas styles carries a random name.

    Columns whose name starts with ``recovered`` are shares and are written as percentages. Values are escaped.
    """
    formats = FORMATS | {name: "{:.2%}" for name in table.columns if name.startswith("recovered")}
    formatters = {name.replace("_", " "): form.format for name, form in formats.items() if name in table}
    named = table.rename(columns=lambda name: name.replace("_", " ")).rename_axis(columns=None)
    return named.to_html(
        index=False, border=0, justify="left", classes="table", float_format="{:z.3f}".format, formatters=formatters,
        na_rep="-",
    )  # fmt: skip

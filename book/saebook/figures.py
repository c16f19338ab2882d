"""Figures that chapters share. Each takes a table and returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy.typing import ArrayLike

from saelite.plots import COLOURS, GREY, PAPER, dot, legend

DASHES = ("-", "--", "-.", ":", (0, (5, 1)))
# An architecture looks the same in all curves of recovery and training.
LOOKS = {
    "TopK": ("#0072B2", "-"),
    "BatchTopK": ("#D55E00", "--"),
    "JumpReLU": ("#009E73", "-."),
    "Matryoshka": ("#CC79A7", ":"),
    "RelativeBatchTopK": ("#E69F00", (0, (5, 1))),
    "ReLU": ("#56B4E9", (0, (3, 1, 1, 1))),
}
# So does a null, which begins with one of these words; a ceiling is solid.
LINES = {"mean": "-.", "random": ":", "untrained": ":", "PCA": "--", "learned": "-"}
BEHIND_TEXT = [withStroke(linewidth=3, foreground="white")]  # figures are turned to black in the dark theme


def thousands() -> EngFormatter:
    """Axis labels such as 400k and 1.2M."""
    return EngFormatter(sep="")


def scores_by_variant(
    table: pd.DataFrame,
    lines: Mapping[str, float],
    paper: Mapping[tuple[str, str], float] | None = None,
    *,
    score: str = "score",
    xlabel: str,
    xlim: tuple[float, float] = (0, 1),
) -> Figure:
    """A score of each SAE with its interval, floors and ceilings as lines, the paper's values as open marks.

    Parameters
    ----------
    table : DataFrame with columns architecture, baseline, low, high and `score`
    lines : dict of str to float
        Floors, ceilings and nulls by name.
    paper : dict of (architecture, baseline) to float, optional
        The paper's values for Gemma-2-2B, layer 12, L0 160.
    score, xlabel : str
    xlim : (float, float)
        The least that the axis spans; it grows to hold every interval.
    """
    places = {names: i for i, names in enumerate(zip(table["architecture"], table["baseline"], strict=True))}
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.42 * len(places)))
    for row in table.rename(columns={score: "value"}).itertuples():
        y = places[row.architecture, row.baseline]
        dot(axes, row.value, y, row, fmt="o", capsize=3, markersize=7)
        above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{row.value:.2f}", (row.value, y), **above, fontsize=10, path_effects=BEHIND_TEXT)
        if paper and (row.architecture, row.baseline) in paper:
            axes.plot(paper[row.architecture, row.baseline], y, **PAPER, ms=6, zorder=3)
    if paper:
        axes.plot([], [], **PAPER, ms=6, label="paper, Gemma-2-2B layer 12, L0 160")
    others = iter([(0, (1, 4)), (0, (8, 4, 1, 4, 1, 4)), (0, (12, 6))] * len(lines))
    for name, value in lines.items():
        line = LINES.get(name.split()[0]) or next(others)
        axes.axvline(value, color=GREY, linestyle=line, linewidth=1.2, label=f"{name}: {value:z.2f}", zorder=1)
    axes.set_yticks(list(places.values()), [f"{a}, {b}" for a, b in places])
    axes.set_ylim(len(places) - 0.4, -0.8)
    low, high = np.nanmin(table[["low", score]]), np.nanmax(table[["high", score]])
    axes.set(xlim=(min(xlim[0], low) - 0.03, max(xlim[1], high)), xlabel=xlabel)
    return legend(figure, 2)


# seaborn's grids lay themselves out
@mpl.rc_context({"figure.constrained_layout.use": False})
def scores_by_seed(table: pd.DataFrame) -> Figure:
    """Scores of several seeds as dots, a panel for each metric.

    Parameters
    ----------
    table : DataFrame with columns metric, architecture, baseline and score, a row for each seed
    """
    palette = {name: colour for name, (colour, _) in LOOKS.items()}
    grid = sns.catplot(
        table, x="score", y="baseline", hue="architecture", palette=palette, col="metric", col_wrap=2, kind="strip",
        dodge=True, jitter=False, sharex=False, height=3.4, aspect=1.2,
    )  # fmt: skip
    grid.set_titles("{col_name}", size=10).set(ylabel="")
    for axes in grid.axes.flat:
        for edge in axes.get_yticks()[:-1]:
            axes.axhline(edge + 0.5, color=GREY, linewidth=0.5)
    sns.move_legend(grid, "lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, title="")
    return grid.figure


@mpl.rc_context({"figure.constrained_layout.use": False})
def scores_by_l0(table: pd.DataFrame) -> Figure:
    """Scores against L0: a column of panels for each metric, a row for each architecture, a line for each variant.

    Parameters
    ----------
    table : DataFrame with columns metric, architecture, baseline, l0 and score
        Several rows for the same make a band of their range.
    """
    grid = sns.relplot(
        table, x="l0", y="score", hue="baseline", style="baseline", palette=COLOURS, col="metric", row="architecture",
        kind="line", markers=True, errorbar=("pi", 100), height=2.0, aspect=1.7, facet_kws={"sharey": "col"},
    )  # fmt: skip
    grid.set_titles("{row_name}: {col_name}", size=10).set(xlabel="L0", xticks=sorted(table["l0"].unique()))
    sns.move_legend(grid, "lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, title="")
    return grid.figure


def over_training(curves: Mapping[tuple[str, str], pd.DataFrame], columns: Mapping[str, str]) -> Figure:
    """Curves over training, a row for each column and a panel for each setting; several seeds become a band.

    Parameters
    ----------
    curves : dict of (setting, name) to DataFrame with `columns`, `samples` and perhaps `seed`
        A name is an architecture, or a baseline where settings are architectures.
    columns : dict of str to str
        The columns to draw, and what to write beside each row.
    """
    settings, names = (list(dict.fromkeys(each)) for each in zip(*curves, strict=True))
    shape, size = (len(columns), len(settings)), (3.6 * max(1.6, len(settings)), 0.4 + 2.6 * len(columns))
    figure, grid = plt.subplots(*shape, figsize=size, sharex=True, sharey="row", squeeze=False)
    others = zip(names, sns.color_palette("colorblind", len(names)), cycle(DASHES), strict=False)
    other_looks = {name: (COLOURS.get(name, colour), line) for name, colour, line in others}
    looks = LOOKS if set(names) <= set(LOOKS) else other_looks
    for (setting, name), curve in curves.items():
        for axes, column in zip(grid[:, settings.index(setting)], columns, strict=True):
            by_samples = curve.groupby("samples")[column]
            mean, (colour, line) = by_samples.mean(), looks[name]
            axes.plot(mean, color=colour, linestyle=line, label=name)
            axes.fill_between(mean.index, by_samples.min(), by_samples.max(), color=colour, alpha=0.2, linewidth=0)
    for first, last, setting in zip(grid[0], grid[-1], settings, strict=True):
        first.set_title(setting)
        last.set_xlabel("samples seen")
        last.xaxis.set_major_formatter(thousands())
    for axes, (column, label) in zip(grid[:, 0], columns.items(), strict=True):
        axes.set_ylabel(label)
        if column.startswith("recovered"):
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    return legend(figure, min(3, len(names)))


def cosine_histogram(cosines: Mapping[str, ArrayLike], xlabel: str, marks: Mapping[str, float] | None = None) -> Figure:
    """Distributions of cosines, one outline per group.

    Parameters
    ----------
    cosines : dict of str to tensor or array
        By "architecture, baseline", or any other name.
    xlabel : str
    marks : dict of str to float, optional
        Values to mark with a vertical line.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    bins = np.linspace(min(0.0, *(np.asarray(values).min() for values in cosines.values())), 1, 61)
    for (name, values), line in zip(cosines.items(), DASHES[:4] * len(cosines), strict=False):
        look = {"histtype": "step", "linewidth": 1.8, "linestyle": line, "color": COLOURS.get(name.split(", ")[-1])}
        axes.hist(np.asarray(values), bins, weights=np.full(len(values), 1 / len(values)), label=name, **look)
    for name, value in (marks or {}).items():
        axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
        axes.text(value, 1, f"{name} ", transform=axes.get_xaxis_transform(), va="top", ha="right", color=GREY)
    axes.set(xlabel=xlabel, ylabel="share of latents", yscale="log")  # one bin may hold nearly all
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    return legend(figure, 2)


def recovery_curve(best: Mapping[str, ArrayLike], threshold: float, random_best: ArrayLike) -> Figure:
    """Share of true features with a cosine above each threshold, against what a random dictionary gives.

    Parameters
    ----------
    best : dict of str to tensor of shape (n_features,)
        By "setting, architecture".
    threshold : float
    random_best : tensor of shape (n_features,)
        The same cosines for a random dictionary.
    """
    thresholds = np.linspace(0, 1, 201)
    figure, axes = plt.subplots(figsize=(7, 4))

    def share(values: ArrayLike) -> np.ndarray:
        return (np.asarray(values)[None, :] > thresholds[:, None]).mean(axis=1)

    settings = list(dict.fromkeys(name.split(", ")[0] for name in best))
    for name, values in best.items():
        setting, architecture = name.split(", ")
        line = DASHES[settings.index(setting) % 4]
        axes.plot(thresholds, share(values), label=name, color=LOOKS[architecture][0], linestyle=line)
    axes.fill_between(thresholds, share(random_best), color=GREY, alpha=0.25, label="random dictionary")
    axes.axvline(threshold, color=GREY, linewidth=1, linestyle=":", label=f"threshold {threshold}")
    axes.set(xlabel="cosine above which a feature counts as recovered", ylabel="share of true features")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return legend(figure, 2)

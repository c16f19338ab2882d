"""Figures that the notebooks share. Each takes a table and returns a matplotlib figure."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import EngFormatter, PercentFormatter
from matplotlib_inline.backend_inline import set_matplotlib_formats

# Okabe and Ito's palette, which colour-blind readers can tell apart; always paired with a marker or a label.
COLOURS = {
    "fully trained": "#0072B2",
    "Frozen Decoder": "#D55E00",
    "Frozen Decoder (cov)": "#E69F00",
    "Soft-Frozen Decoder": "#009E73",
    "Frozen Encoder": "#CC79A7",
}
GREY = "#6b6b6b"


def style():
    """One look for every figure, as SVG without a date, so that a second run gives the same bytes."""
    sns.set_theme(context="notebook", style="ticks", font="DejaVu Sans")
    mpl.rcParams.update(
        {
            "svg.hashsalt": "saelite",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
        }
    )
    set_matplotlib_formats("svg", metadata={"Date": None})


def thousands():
    """Axis labels such as 400k and 1.2M."""
    return EngFormatter(sep="")


def explained_variance_by_variant(table, nulls, paper=None):
    """Explained variance of each SAE with its interval, the nulls as lines, the paper's values as open marks.

    Parameters
    ----------
    table : DataFrame with columns architecture, baseline, explained_variance, low, high
    nulls : DataFrame with columns null, explained_variance
    paper : dict of (architecture, baseline) to float, optional
    """
    architectures = list(dict.fromkeys(table["architecture"]))
    baselines = list(dict.fromkeys(table["baseline"]))
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.42 * len(architectures) * len(baselines)))
    places = {}
    for architecture in architectures:
        for baseline in baselines:
            if ((table["architecture"] == architecture) & (table["baseline"] == baseline)).any():
                places[architecture, baseline] = len(places)
    for row in table.itertuples():
        y = places[row.architecture, row.baseline]
        colour = COLOURS.get(row.baseline, GREY)
        spread = [[row.explained_variance - row.low], [row.high - row.explained_variance]]
        axes.errorbar(row.explained_variance, y, xerr=spread, fmt="o", color=colour, capsize=3, markersize=7)
        axes.annotate(
            f"{row.explained_variance:.2f}", (row.explained_variance, y), xytext=(0, 7),
            textcoords="offset points", ha="center", fontsize=9, color=colour,
        )  # fmt: skip
        if paper and (row.architecture, row.baseline) in paper:
            axes.plot(paper[row.architecture, row.baseline], y, "D", mfc="none", mec=GREY, ms=6)
    if paper:
        axes.plot([], [], "D", mfc="none", mec=GREY, ms=6, label="paper, Gemma-2-2B layer 12, L0 160")
    for line, null in zip((":", "--", "-."), nulls.itertuples(), strict=False):
        label = f"{null.null}: {null.explained_variance:z.2f}"
        axes.axvline(null.explained_variance, color=GREY, linestyle=line, linewidth=1.2, label=label)
    axes.set_yticks(list(places.values()), [f"{a}, {b}" for a, b in places])
    axes.set_ylim(len(places) - 0.4, -0.8)
    axes.set_xlim(min(-0.03, table["low"].min() - 0.03), 1)
    axes.set_xlabel("explained variance on held-out activations")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def training_curves(histories, y, ylabel):
    """One column of several training histories against samples seen, one line a variant.

    Parameters
    ----------
    histories : dict of (architecture, baseline) to DataFrame
    y : str
        Column of the histories.
    ylabel : str
    """
    architectures = list(dict.fromkeys(architecture for architecture, _ in histories))
    size = (3.6 * len(architectures), 3)
    figure, grid = plt.subplots(1, len(architectures), figsize=size, sharey=True, squeeze=False)
    for axes, architecture in zip(grid[0], architectures, strict=True):
        styles = iter(("-", "--", "-.", ":", (0, (5, 1))))
        for (name, baseline), history in histories.items():
            if name == architecture:
                axes.plot(
                    history["samples"], history[y], linestyle=next(styles), label=baseline,
                    color=COLOURS.get(baseline, GREY),
                )  # fmt: skip
        axes.set(title=architecture, xlabel="activations seen in training")
        axes.xaxis.set_major_formatter(thousands())
    grid[0, 0].set_ylabel(ylabel)
    grid[0, -1].legend(fontsize=9)
    return figure


def cosine_histogram(cosines, xlabel, marks=None):
    """Distributions of cosines, one outline a group.

    Parameters
    ----------
    cosines : dict of str to tensor or array
    xlabel : str
    marks : dict of str to float, optional
        Values to mark with a vertical line.
    """
    figure, axes = plt.subplots(figsize=(7, 3))
    low = min(float(np.min(np.asarray(values))) for values in cosines.values())
    bins = np.linspace(min(0.0, low), 1, 61)
    for (name, values), line in zip(cosines.items(), ("-", "--", "-.", ":") * 3, strict=False):
        weights = np.full(len(values), 1 / len(values))
        colour = COLOURS.get(name.split(", ")[-1])
        look = {"histtype": "step", "linewidth": 1.8, "linestyle": line, "color": colour}
        axes.hist(np.asarray(values), bins, weights=weights, label=name, **look)
    for name, value in (marks or {}).items():
        axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
        axes.text(value, 1, f"{name} ", fontsize=9, va="top", ha="right", color=GREY)
    axes.set(xlabel=xlabel, ylabel="share of latents", yscale="log")  # one bin may hold nearly all
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize=9, loc="upper left")
    return figure


def recovery_curve(best, threshold, random_best):
    """Share of true features with a cosine above each threshold, against what a random dictionary gives.

    Parameters
    ----------
    best : dict of str to tensor of shape (n_features,)
    threshold : float
    random_best : tensor of shape (n_features,)
        The same cosines for a random dictionary.
    """
    thresholds = np.linspace(0, 1, 201)
    figure, axes = plt.subplots(figsize=(7, 3.2))

    def share(values):
        return (np.asarray(values)[None, :] > thresholds[:, None]).mean(axis=1)

    for (name, values), line in zip(best.items(), ("-", "--", "-.", ":") * 3, strict=False):
        axes.plot(thresholds, share(values), line, label=name)
    axes.fill_between(thresholds, share(random_best), color=GREY, alpha=0.25, label="random dictionary")
    axes.axvline(threshold, color=GREY, linewidth=1, linestyle="--")
    axes.set(xlabel="cosine above which a feature counts as recovered", ylabel="share of true features")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def over_training(curves, columns):
    """Curves over training, a row for each column and a panel for each setting; several seeds become a band.

    Parameters
    ----------
    curves : dict of (setting, architecture) to DataFrame with `columns`, `samples` and perhaps `seed`
    columns : dict of str to str
        The columns to draw, and what to write beside each row.
    """
    settings = list(dict.fromkeys(setting for setting, _ in curves))
    names = list(dict.fromkeys(name for _, name in curves))
    shape = len(columns), len(settings)
    size = 3.6 * max(1.6, len(settings)), 2.6 * len(columns)
    figure, grid = plt.subplots(*shape, figsize=size, sharex=True, sharey="row", squeeze=False)
    palette = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    lines = dict(zip(names, ("-", "--", "-.", ":") * len(names), strict=False))
    for (setting, name), curve in curves.items():
        for row, column in enumerate(columns):
            axes = grid[row, settings.index(setting)]
            by_samples = curve.groupby("samples")[column]
            axes.plot(by_samples.mean(), color=palette[name], linestyle=lines[name], label=name)
            axes.fill_between(
                by_samples.mean().index, by_samples.min(), by_samples.max(), color=palette[name], alpha=0.2, linewidth=0
            )
    for axes, setting in zip(grid[0], settings, strict=True):
        axes.set_title(setting)
    for axes in grid[-1]:
        axes.set_xlabel("samples seen")
        axes.xaxis.set_major_formatter(thousands())
    for axes, (column, label) in zip(grid[:, 0], columns.items(), strict=True):
        axes.set_ylabel(label)
        if column.startswith("recovered"):
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    handles = {label: h for axes in grid.flat for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(4, len(handles)), fontsize=9)
    return figure

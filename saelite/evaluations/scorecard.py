"""The scorecard: every score beside its floor and ceiling, and what it allows one to say of trained against frozen."""

import numpy as np
import pandas as pd

from saelite import reuse
from saelite.evaluations.reconstruction import KL, LOSS
from saelite.statistics import contrast, rescaled, summarise

TRAINED = "fully trained"
LOWER_IS_BETTER = (LOSS, KL)


def scorecard(saes, measured, *, against=TRAINED, progress=True):
    """Put SAEs through evaluations and read each score against its floor, its ceiling and the fully trained SAE.

    Parameters
    ----------
    saes : dict of (architecture, baseline) to SAE
        One of each architecture is called `against`; see :func:`saelite.grid.fit`.
    measured : list of (evaluation, dict of metric to margin)
        An evaluation of :mod:`saelite.evaluations`, which of its metrics to take, and for each the largest difference
        that is of no interest.
    against : str
        What the others are compared with, the trained SAE.

    Returns
    -------
    pandas.DataFrame, one row an SAE and metric
        architecture, baseline, metric, score, low, high, items; floor and ceiling (the highest and the lowest that were
        measured for the metric), with their names; rescaled (0 at the floor, 1 at the ceiling, NaN where these two
        cannot be told apart); and against the trained SAE of the architecture difference, difference_low,
        difference_high, detectable, margin and verdict, as :func:`saelite.statistics.contrast` has them; but where the
        trained SAE's interval reaches down to the floor or lies below it, equivalent becomes "nothing to match", and so
        does better, unless the baseline itself is above the floor. Worse and not told apart are no matches, and stay.

    Raises
    ------
    ValueError
        If an evaluation has no item for any of the SAEs or lacks a metric, or a metric is better where it is lower.
    """
    tables = []
    for evaluation, margins in measured:
        _refuse_lower_is_better(margins)
        items = reuse.over(saes, evaluation, progress=progress)
        if items.empty:
            raise ValueError(
                f"{type(evaluation).__name__} has no item that could be scored for any of the SAEs: give it more "
                "activations or texts, or leave this evaluation out."
            )
        limits = summarise(reuse.references(evaluation), ["metric", "kind", "reference"])
        for metric, margin in margins.items():
            of_metric = items[items["metric"] == metric]
            if of_metric.empty:
                raise ValueError(
                    f"{type(evaluation).__name__} has no metric {metric!r}; it has {sorted(set(items['metric']))}."
                )
            table = summarise(of_metric, ["architecture", "baseline", "metric"])
            table = table.merge(
                against_trained(of_metric, margin=margin, paired=evaluation.paired, against=against), how="left"
            )
            tables.append(_without_hollow_matches(_within(table, limits[limits["metric"] == metric]), against))
    return pd.concat(tables, ignore_index=True)


def against_trained(items, *, margin, paired, against=TRAINED):
    """How every baseline's score differs from that of the trained SAE of its architecture.

    Parameters
    ----------
    items : pandas.DataFrame
        As :func:`saelite.reuse.over` gives them.
    margin, paired
        As in :func:`saelite.statistics.contrast`.
    against : str
        What the trained SAE is called in column baseline.

    Returns
    -------
    pandas.DataFrame, one row a metric, architecture and baseline
        metric, architecture, baseline, difference, verdict, difference_low, difference_high, detectable, margin. An
        architecture without a trained SAE, or whose items are none, is left out.

    Raises
    ------
    ValueError
        If a metric is better where it is lower, so that "better" would mean worse.
    """
    _refuse_lower_is_better(set(items["metric"]))
    rows = []
    for (metric, architecture), group in items.groupby(["metric", "architecture"], sort=False):
        trained = group[group["baseline"] == against]
        for baseline, own in group[group["baseline"] != against].groupby("baseline", sort=False):
            if len(trained):
                found = contrast(own, trained, margin=margin, paired=paired)
                found |= {"difference_low": found.pop("low"), "difference_high": found.pop("high")}
                rows.append(
                    {"metric": metric, "architecture": architecture, "baseline": baseline, "margin": margin} | found
                )
    columns = ["metric", "architecture", "baseline", "difference", "verdict", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=[*columns, "detectable", "margin"])


def no_better_than_floor(trained):
    """Which trained SAEs a metric finds no better than its floor, in a sentence or two.

    Parameters
    ----------
    trained : pandas.DataFrame
        Rows of one metric: architecture, low, high, floor, floor_is.

    Returns
    -------
    str
        Empty if the intervals of all lie above the floor, or there is no floor.
    """
    below = trained["high"] < trained["floor"]
    reaches = (trained["low"] <= trained["floor"]) & ~below
    said = []
    for which, where in (
        (below, "lies wholly below the floor: it does worse than *{}*, so there is nothing to match"),
        (reaches, "reaches down to the floor (*{}*), so there is little that a baseline could lack"),
    ):
        if which.any():
            names = " and ".join(trained.loc[which, "architecture"])
            where = where.format(trained.loc[which, "floor_is"].iloc[0])
            said.append(f"For {names} the trained SAE's own interval {where}.")
    return " ".join(said)


def _refuse_lower_is_better(metrics):
    for metric in LOWER_IS_BETTER:
        if metric in metrics:
            raise ValueError(
                f"The metric {metric!r} is better where it is lower, so its verdicts would be the wrong way round: "
                "take loss recovered instead."
            )


def _within(table, limits):
    """Add to the scores of one metric the highest floor, the lowest ceiling, and where between them each stands."""
    floors, ceilings = limits[limits["kind"] == "floor"], limits[limits["kind"] == "ceiling"]
    floor = floors.loc[floors["score"].idxmax()] if len(floors) else None
    ceiling = ceilings.loc[ceilings["score"].idxmin()] if len(ceilings) else None
    for name, limit in (("floor", floor), ("ceiling", ceiling)):
        table[name] = np.nan if limit is None else limit["score"]
        table[f"{name}_is"] = None if limit is None else limit["reference"]
    both = floor is not None and ceiling is not None
    return table.assign(rescaled=[rescaled(score, floor, ceiling) if both else np.nan for score in table["score"]])


def _without_hollow_matches(table, against):
    """A baseline that matches a trained SAE which is itself at the floor has matched nothing."""
    at_floor = ~(table["low"] > table["floor"]) & table["floor"].notna()
    trained = at_floor & (table["baseline"] == against)
    nothing = table["architecture"].isin(table.loc[trained, "architecture"])  # where the trained SAE is at the floor
    hollow = nothing & ((table["verdict"] == "equivalent") | (table["verdict"] == "better") & at_floor)
    return table.assign(verdict=table["verdict"].mask(hollow, "nothing to match"))

"""The scorecard: every score beside its floor and ceiling, and what it allows one to say of trained against frozen."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from saelite import reuse
from saelite.evaluations import Evaluation
from saelite.evaluations.reconstruction import KL, LOSS
from saelite.statistics import contrast, rescaled, summarise

TRAINED = "fully trained"


def scorecard(
    saes: Mapping[tuple[str, str], torch.nn.Module], measured: Sequence[tuple[Evaluation, Mapping[str, float]]], *,
    against: str = TRAINED, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Put SAEs through evaluations and read each score against its floor, its ceiling and the fully trained SAE.

    Parameters
    ----------
    saes : dict of (architecture, baseline) to SAE
        One of each architecture is called `against`: the trained SAE that the others are compared with.
    measured : list of (:class:`saelite.evaluations.Evaluation`, dict of metric to margin)
        Of each metric to take, the largest difference that is of no interest.
    against, progress : str, bool

    Returns
    -------
    pandas.DataFrame, one row per SAE and metric
        architecture, baseline, metric, score, low, high, items; floor and ceiling (the highest and the lowest that were
        measured), floor_is and ceiling_is; rescaled (0 at the floor, 1 at the ceiling, NaN where these two cannot be
        told apart); and the columns of :func:`against_trained`. Where the trained SAE's interval does not lie above the
        floor, equivalent becomes "nothing to match", and so does better, unless the baseline itself is above it.

    Raises
    ------
    ValueError
        If an evaluation has no item or lacks a metric, or a metric is better where it is lower.

    Examples
    --------
    >>> import saelite as sl
    >>> from saelite.evaluations.concepts import load_concepts
    >>> lm, texts = sl.language_model("smollm2"), load_concepts(["sentiment"], per_label=15)
    >>> probing = sl.Probing(lm, texts, layer=2, context=8, k=[1], progress=False)
    >>> saes = {("TopK", name): sl.SAE(lm.d_model, 64, sl.TopK(4)) for name in ("fully trained", "the same")}
    >>> sl.scorecard(saes, [(probing, {"probe k=1": 0.02})], progress=False)["difference"].tolist()
    [nan, 0.0]
    """
    if not isinstance(saes, Mapping) or not all(isinstance(name, tuple) and len(name) == 2 for name in saes):
        raise ValueError('saes must be a dict such as {("TopK", "fully trained"): sae}, with one SAE or more.')
    for _, margins in measured:
        _refuse_lower_is_better(margins)
    tables = []
    for evaluation, margins in measured:
        name, items = type(evaluation).__name__, reuse.over(saes, evaluation, progress=progress)
        if items.empty:
            raise ValueError(f"{name} has no item that could be scored for any of the SAEs: give more or leave it out.")
        limits = summarise(reuse.references(evaluation), ["metric", "kind", "reference"])
        for metric, margin in margins.items():
            of_metric = items[items["metric"] == metric]
            if of_metric.empty:
                raise ValueError(f"{name} has no metric {metric!r}; it has {sorted(set(items['metric']))}.")
            table = summarise(of_metric, ["architecture", "baseline", "metric"])
            differences = against_trained(of_metric, margin=margin, paired=evaluation.paired, against=against)
            tables.append(_within(table.merge(differences, how="left"), limits[limits["metric"] == metric], against))
    return pd.concat(tables, ignore_index=True)


def against_trained(items: pd.DataFrame, *, margin: float, paired: bool, against: str = TRAINED) -> pd.DataFrame:
    """How every baseline's score differs from that of the trained SAE of its architecture, where there is one.

    Parameters
    ----------
    items : pandas.DataFrame
        As :func:`saelite.reuse.over` gives them; ValueError if a metric is better where it is lower.
    margin, paired
        As in :func:`saelite.statistics.contrast`.
    against : str
        What the trained SAE is called in column baseline.

    Returns
    -------
    pandas.DataFrame, one row per metric, architecture and baseline
        metric, architecture, baseline, difference, verdict, difference_low, difference_high, detectable, margin.
    """
    _refuse_lower_is_better(set(items["metric"]))
    columns = ["metric", "architecture", "baseline", "difference", "verdict", "low", "high", "detectable", "margin"]
    rows = []
    for (metric, architecture), group in items.groupby(["metric", "architecture"], sort=False):
        trained = group[group["baseline"] == against]
        for baseline, own in group[group["baseline"] != against].groupby("baseline", sort=False):
            if len(trained):
                found = contrast(own, trained, margin=margin, paired=paired) | {"margin": margin}
                rows.append({"metric": metric, "architecture": architecture, "baseline": baseline} | found)
    return pd.DataFrame(rows, columns=columns).rename(columns={"low": "difference_low", "high": "difference_high"})


def _refuse_lower_is_better(metrics):
    for metric in set(metrics) & {LOSS, KL}:
        raise ValueError(f"The metric {metric!r} is better where it is lower: take loss recovered instead.")


def _within(table, limits, against):
    """Add to the scores of one metric the highest floor, the lowest ceiling, and where between them each stands."""
    found = {}
    for name, extreme in (("floor", "idxmax"), ("ceiling", "idxmin")):
        scores = limits.loc[limits["kind"] == name, "score"]
        found[name] = limits.loc[getattr(scores, extreme)()] if len(scores) else None
        table[name] = np.nan if found[name] is None else found[name]["score"]
        table[f"{name}_is"] = None if found[name] is None else found[name]["reference"]
    both = all(limit is not None for limit in found.values())
    table["rescaled"] = [rescaled(score, **found) if both else np.nan for score in table["score"]]
    # a baseline that matches a trained SAE which is itself at the floor has matched nothing
    at_floor = ~(table["low"] > table["floor"]) & table["floor"].notna()
    nothing = table["architecture"].isin(table.loc[at_floor & (table["baseline"] == against), "architecture"])
    hollow = nothing & ((table["verdict"] == "equivalent") | (table["verdict"] == "better") & at_floor)
    return table.assign(verdict=table["verdict"].mask(hollow, "nothing to match"))

"""Intervals, differences and verdicts: what a table of items lets one say, and what it does not.

Every evaluation gives one row per item. A score is a weighted mean over items, ``sum(weight * score) / sum(weight)``:
the weight is 1 where items count alike, and an item's variance where the score is a share of variance. Intervals come
from the bootstrap over clusters of items that are not independent of each other, such as the tokens of one text. They
speak of other items like these. They do not speak of other seeds: seeds are shown as points. Nor are they 95%
intervals where there are two to four clusters: they end at the lowest and the highest of these, between which the true
score lies in half of all cases with two clusters, and in seven of eight with four. Read verdicts from so few as a
sketch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, norm

from saelite import arguments

RESAMPLES = 2000
LEVEL = 0.95
TAILS = (1 - LEVEL) / 2, (1 + LEVEL) / 2
POWER = 0.8


def summarise(items: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Score, interval and number of items of every group of rows.

    Parameters
    ----------
    items : pandas.DataFrame
        Columns item and score; weight (1 if missing) and cluster (the item if missing).
    by : list of str
        The columns that tell groups apart.

    Returns
    -------
    pandas.DataFrame
        `by`, then score, low, high (a 95% bootstrap interval over clusters; NaN from a single cluster), items.
    """
    _need(items, by)
    rows = []
    for names, group in items.groupby(by, sort=False, dropna=False):
        sums, weights = _clustered(group).to_numpy().T
        rows.append([*names, _ratio(sums, weights), *ratio_interval(sums, weights), group["item"].nunique()])
    return pd.DataFrame(rows, columns=[*by, "score", "low", "high", "items"])


def contrast(items: pd.DataFrame, reference: pd.DataFrame, *, margin: float, paired: bool) -> dict[str, Any]:
    """How an SAE's score differs from another's, with an interval, and what that allows one to say.

    Parameters
    ----------
    items, reference : pandas.DataFrame
        Items of the two, as for :func:`summarise`.
    margin : float, above 0
        A difference smaller than this is of no interest.
    paired : bool
        Whether both were scored on the same items, as texts and entities are; latents of two SAEs do not pair. Pairs
        are drawn by cluster.

    Returns
    -------
    dict
        difference (of `items` from `reference`), verdict (see :func:`verdict`), low, high (95% bootstrap interval),
        detectable (the smallest true difference that a test at this level would have found with 80% power on items as
        many and as varied as these).

    Raises
    ------
    ValueError
        If the items of the two are said to pair and are not the same.
    """
    arguments.above(0, margin=margin)
    ours, theirs = _clustered(items), _clustered(reference)
    if paired:
        if set(items["item"]) != set(reference["item"]) or set(ours.index) != set(theirs.index):
            raise ValueError(
                "These two were not scored on the same items, so they do not pair: score them again on one set of "
                "items, or pass paired=False."
            )
        theirs = theirs.loc[ours.index]
        data = (*ours.to_numpy().T, *theirs.to_numpy().T)
        draws = _draws(data, lambda a, b, c, d, axis=-1: _ratio(a, b, axis) - _ratio(c, d, axis))
    else:
        draws = _draws(ours.to_numpy().T, _ratio) - _draws(theirs.to_numpy().T, _ratio, seed=1)
    low, high = np.quantile(draws, TAILS)
    return {
        "difference": _ratio(*ours.to_numpy().T) - _ratio(*theirs.to_numpy().T),
        "verdict": verdict(low, high, margin),
        "low": low,
        "high": high,
        "detectable": (norm.ppf(TAILS[1]) + norm.ppf(POWER)) * draws.std(ddof=1),
    }


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of a difference allows one to say, in words.

    - *equivalent*: the whole interval lies within the margin on both sides of zero. This alone is a match.
    - *better* or *worse*: the whole interval lies on one side of zero, and not all of it within the margin.
    - *not told apart*: zero is possible and so is a difference beyond the margin. Not a match: too few items to say.
    - *not measured*: there is no interval.
    """
    if not low <= high:
        return "not measured"
    if -margin < low and high < margin:
        return "equivalent"
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def rescaled(score: float, floor: Mapping[str, float], ceiling: Mapping[str, float]) -> float:
    """``(score - floor) / (ceiling - floor)``: where a score lies between what no skill and the best known skill get.

    Parameters
    ----------
    score : float
    floor, ceiling : mapping with score, low and high
        Rows of :func:`summarise`.

    Returns
    -------
    float
        0 at the floor, 1 at the ceiling; NaN where the intervals of the two overlap: then there is nothing between.
    """
    if not floor["high"] < ceiling["low"]:
        return np.nan
    return (score - floor["score"]) / (ceiling["score"] - floor["score"])


def ratio_interval(sums: np.ndarray, weights: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """A 95% bootstrap interval of ``sums.sum() / weights.sum()`` over clusters, (n_clusters,) each; NaN from one."""
    low, high = np.quantile(_draws((sums, weights), _ratio, resamples=resamples), TAILS)
    return low, high


def _need(items: pd.DataFrame, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in items:
            raise ValueError(
                f"The items have no column {column!r}, only {', '.join(map(str, items))}: name that one so."
            )


def _clustered(items: pd.DataFrame) -> pd.DataFrame:
    """Weighted sums and weights of every cluster, so that a score is the ratio of their totals."""
    _need(items, ["item", "score"])
    weight = items["weight"] if "weight" in items else pd.Series(1.0, items.index)
    cluster = items["cluster"] if "cluster" in items else items["item"]
    table = pd.DataFrame({"sum": items["score"].astype(float) * weight, "weight": weight.astype(float)})
    if table.empty or not np.isfinite(table.to_numpy()).all():
        raise ValueError(
            "There are no items, or a score is missing or infinite: leave out items that could not be scored."
        )
    return table.groupby(cluster.to_numpy(), sort=False).sum()


def _ratio(sums: np.ndarray, weights: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis=axis) / weights.sum(axis=axis)


def _draws(data: Sequence[np.ndarray], statistic: Callable, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """The bootstrap's draws of a statistic of arrays with a number per cluster; NaN where there is only one."""
    if len(data[0]) == 1:
        return np.full(resamples, np.nan)
    made = bootstrap(
        tuple(data), statistic, paired=True, vectorized=True, n_resamples=resamples, batch=100,
        method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return made.bootstrap_distribution

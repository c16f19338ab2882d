"""Checks for the exercises of the chapter *Scorecard*."""

import numpy as np
import pandas as pd

from saebook.exercises import compare
from saelite.statistics import LEVEL, contrast, verdict

VERDICTS = ["worse", "not told apart", "equivalent", "better"]
MARGIN = 0.02
INTERVALS = [
    (-0.01, 0.015), (0.005, 0.015), (0.03, 0.06), (0.005, 0.05),
    (-0.08, -0.03), (-0.05, 0.03), (-0.05, 0.001), (-0.03, -0.004),
]  # fmt: skip


def check_verdict_of(answer: object) -> None:
    """``answer(low, high, margin)``: better, worse, equivalent or not told apart, from an interval of a difference."""

    def verdicts():
        return _numbered(answer)

    verdicts.__name__ = getattr(answer, "__name__", "the answer")
    right = _numbered(verdict)
    mistakes = [
        (
            _numbered(_difference_first),
            "An interval above zero but all within the margin is equivalent: a difference that "
            "is there, and too small to matter. Ask for equivalence first.",
        ),
        (
            _numbered(_zero_is_a_match),
            "That zero lies in the interval is no match: so may a difference beyond the margin.",
        ),
        (_numbered(_middle), "The middle of the interval is not enough: all of it must lie within the margin."),
        (
            _numbered(_beyond_margin),
            "Better and worse ask that the interval leaves out zero; the margin is for a match.",
        ),
        (
            _numbered(lambda low, high, margin: verdict(-high, -low, margin)),
            "Better and worse are the wrong way round: above zero is better.",
        ),
    ]
    compare(verdicts, (), right, mistakes + _first_wrong(answer, right), said="Right. Only equivalent is a match.")


def check_kept_and_picked(answer: object) -> None:
    """``answer(gaps)``: the largest gap of the best baseline kept for all metrics, and of the nearest one for each."""
    gaps = np.array([[0.40, 0.02, 0.06], [0.04, 0.08, 0.30], [0.25, 0.12, 0.01]])
    kept, picked = gaps.max(axis=1).min(), gaps.min(axis=0).max()
    compare(
        answer,
        (gaps,),
        [kept, picked],
        [
            ([picked, kept], "The two are in the wrong order: first one baseline for all metrics, then one for each."),
            (
                [gaps.max(axis=0).min(), gaps.min(axis=1).max()],
                "Rows are baselines and columns metrics; this takes them the other way round.",
            ),
            (
                [gaps.mean(axis=1).min(), gaps.min(axis=0).mean()],
                "These are means over metrics: a match has to hold on every metric, so take the largest gap.",
            ),
            (
                [picked, picked],
                "The first should keep one baseline: find each baseline's largest gap, then the least of those.",
            ),
            (
                [gaps.max(), gaps.min()],
                "These are the extremes of the whole table: go by baseline first, then by metric.",
            ),
        ],
        said="Right. Picking can only make the gap smaller, never larger: the least of a column is below every row.",
    )


def check_paired_interval(answer: object) -> None:
    """``answer(ours, theirs)``: 95% interval (low, high) of the mean difference of two SAEs on the same items (n,)."""
    rng = np.random.default_rng(3)
    easy = 200 * _standard(rng.normal(size=80))  # how easy an item is, for either SAE
    apart = 60 * _standard(rng.normal(size=80)) + 2
    theirs = 600 + easy
    ours = theirs + apart
    own, other = (pd.DataFrame({"item": range(80), "score": scores}) for scores in (ours, theirs))
    found, unpaired = (contrast(own, other, margin=1, paired=paired) for paired in (True, False))
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    reach = 1.96 * 200 / 80**0.5  # of one mean's interval, to either side
    compare(
        answer,
        (ours, theirs),
        [found["low"], found["high"]],
        [
            (
                [unpaired["low"], unpaired["high"]],
                "The two were drawn apart: draw items, and take both SAEs' scores of each.",
            ),
            (np.quantile(apart, tails), "These hold 95% of the items' differences; the question is for their mean."),
            (
                [2 - 2 * reach, 2 + 2 * reach],
                "This asks whether two intervals overlap, which is too much to ask of a pair.",
            ),
            ([-found["high"], -found["low"]], "The sign is wrong: a positive difference says that ours is higher."),
        ],
        tolerance=0.15,  # two bootstraps differ by chance
        said="Right. What makes an item easy for both drops out of the difference.",
    )


def _numbered(answer):
    """A function's verdicts on the intervals as numbers."""
    words = [answer(low, high, MARGIN) for low, high in INTERVALS]
    if all(word is None or word is Ellipsis for word in words):
        return None
    for word in words:
        if word not in VERDICTS:
            raise ValueError(f"{word!r} is no verdict; they are {', '.join(VERDICTS)}.")
    return [VERDICTS.index(word) for word in words]


def _first_wrong(answer, right):
    """What to say to a mistake that is none of the likely ones: the first interval that it gets wrong, in words."""
    try:
        said = _numbered(answer)
    except Exception:
        return []  # compare() reports it
    if said is None or said == right:
        return []
    i = next(i for i, (one, other) in enumerate(zip(said, right, strict=True)) if one != other)
    low, high = INTERVALS[i]
    told = f"For the interval from {low} to {high} and a margin of {MARGIN}, {VERDICTS[right[i]]} is right."
    return [(said, told)]


def _difference_first(low, high, margin):
    return "better" if low > 0 else "worse" if high < 0 else verdict(low, high, margin)


def _zero_is_a_match(low, high, margin):
    return "equivalent" if low <= 0 <= high else verdict(low, high, margin)


def _middle(low, high, margin):
    return "equivalent" if abs(low + high) / 2 < margin else verdict(low, high, margin)


def _beyond_margin(low, high, margin):
    found = verdict(low, high, margin)
    return "not told apart" if found in ("better", "worse") and low < margin and high > -margin else found


def _standard(values):
    return (values - values.mean()) / values.std()

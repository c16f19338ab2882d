"""Checks for the exercises of the chapter *Auto-interpretability*."""

import numpy as np
from scipy.stats import norm
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from saebook.exercises import compare
from saelite.statistics import LEVEL, POWER


def check_always_no(answer: object) -> None:
    """``answer(firing, silent)``: what a judge who always says no scores, as plain accuracy and by kind of passage."""
    firing, silent = 4, 10
    fires, said = np.arange(firing + silent) < firing, np.zeros(firing + silent, dtype=bool)
    plain, by_kind = accuracy_score(fires, said), balanced_accuracy_score(fires, said)
    compare(
        answer,
        (firing, silent),
        [plain, by_kind],
        [
            ([by_kind, plain], "The two are in the wrong order: the plain accuracy comes first."),
            ([1 - plain, by_kind], "That is the judge who always says yes; no is right on the silent passages."),
            ([by_kind, by_kind], "Plain accuracy counts every passage alike, and most of these are silent."),
            ([plain, plain], "For the second, take the accuracy on each kind of passage, then the mean of the two."),
            ([plain, 1.0], "Silent passages alone are answered right; the firing ones count for half of the second."),
        ],
        said="Right. With unequal kinds, plain accuracy pays a judge who reads nothing; the mean of the two does not.",
    )


def check_score_on_strongest(answer: object) -> None:
    """``answer(recognised, on_silent, n)``: the score, had only the n strongest deciles been tested."""
    recognised, on_silent, n = np.array([0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.85, 0.95]), 0.8, 3
    strongest = recognised[-n:].mean()
    compare(
        answer,
        (recognised, on_silent, n),
        (strongest + on_silent) / 2,
        [
            ((recognised[:n].mean() + on_silent) / 2, "These are the weakest deciles: the strongest stand last."),
            ((recognised.mean() + on_silent) / 2, "This is the score over all deciles: test the strongest n alone."),
            (strongest, "A judge who says yes to everything would get 1 here: silent passages count for half."),
            (
                (recognised[-n:].sum() + on_silent) / (n + 1),
                "Each kind of passage counts for half, however many deciles are tested.",
            ),
            ((strongest + 1 - on_silent) / 2, "on_silent is the share answered right already, not the false alarms."),
        ],
        said="Right. The silent half is as it was; only the firing half has been made easier.",
    )


def check_latents_needed(answer: object) -> None:
    """``answer(spread, difference)``: latents of each SAE that find a difference with 80% power."""
    spread, difference = 0.12, 0.03
    two_sided, power = norm.ppf((1 + LEVEL) / 2), norm.ppf(POWER)
    ratio = spread / difference
    right = 2 * ((two_sided + power) * ratio) ** 2
    compare(
        answer,
        (spread, difference),
        right,
        [
            (right / 2, "Both means are uncertain: the variance of their difference is twice that of one."),
            (2 * (two_sided * ratio) ** 2, "That many would find it half the time: add the 0.84 for 80% power."),
            (
                2 * ((norm.ppf(LEVEL) + power) * ratio) ** 2,
                "An interval of 95% leaves 2.5% on each side: 1.96, not 1.64.",
            ),
            (
                2 * (two_sided + power) * ratio,
                "The standard error falls with the root of the number: square the ratio.",
            ),
            (
                2 * ((two_sided + power) / difference) ** 2 * spread,
                "The spread enters squared: it is a standard deviation.",
            ),
        ],
        tolerance=5e-3,  # 1.96 and 0.84 are rounded, and so may the answer be, to whole latents
        said="Right. Half the difference takes four times as many latents.",
    )

"""Checks for the exercises of the chapter *The baselines where the truth is known*."""

import numpy as np

from saebook.exercises import compare


def check_bar_of_chance(answer: object) -> None:
    """``answer(random_best, share)``: the cosine that only this share of the features' best random cosines exceed."""
    random_best, share = np.array([0.31, 0.42, 0.28, 0.36, 0.33, 0.51, 0.30, 0.39, 0.35, 0.34, 0.46]), 0.2
    compare(
        answer,
        (random_best, share),
        np.quantile(random_best, 1 - share),
        [
            (
                np.quantile(random_best, share),
                "This is the lower end: most random cosines exceed it.",
            ),
            (
                random_best.max(),
                "Nothing passes this, but it hangs on the luckiest one: leave `share` above.",
            ),
            (random_best.mean(), "About half of the features pass the mean by chance alone."),
            (np.median(random_best), "Half of the features pass the median by chance alone."),
            (share, "`share` counts features; the bar is a cosine."),
            (1 - share, "1 - share counts features; the bar is the cosine that so many of them do not exceed."),
            (
                (1 - share) * random_best.max(),
                "It is a share of the features, not a share of the largest cosine.",
            ),
        ],
        said="Right. A bar from the null asks for more than chance; 0.8 asks for nearly the feature itself.",
    )


def check_largest_tau(answer: object) -> None:
    """``answer(start, bar)``: the largest tau whose cone reaches the bar, for starts with these cosines."""
    start, bar = np.array([0.2, 0.35, 0.6, 0.9]), 0.8  # the last has passed the bar before it turns
    apart = np.arccos(start) - np.arccos(bar)
    right = np.cos(np.clip(apart, 0, None))
    compare(
        answer,
        (start, bar),
        right,
        [
            (np.cos(apart), "A start that is past the bar already need not turn: its largest tau is 1."),
            (np.cos(np.arccos(start) + np.arccos(bar)), "It turns *towards* the feature: subtract the bar's angle."),
            (np.minimum(1, 1 - (bar - start)), "Cosines do not add up. Angles do: go through arccos and back."),
            (np.minimum(1, start / bar), "Cosines do not divide. Angles add up: go through arccos and back."),
            (np.clip(apart, 0, None), "This is the angle it has to turn by; tau is the cosine of that angle."),
            (start * bar, "The cosine of a difference has two terms: this one, and the product of the sines."),
        ],
        said="Right. Above this τ the rule itself forbids recovery; below it, training may get there or not.",
    )

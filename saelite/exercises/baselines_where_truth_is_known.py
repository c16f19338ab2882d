"""Checks for the exercises of the chapter *The baselines where the truth is known*."""

import numpy as np

from saelite.exercises import compare


def check_found_by_luck(answer):
    """``answer(p, n)``: how likely one or more of n directions are near enough, if each is with probability p."""
    p, n = 0.05, 40
    compare(
        answer,
        (p, n),
        1 - (1 - p) ** n,
        [
            (n * p, "This is how many are near enough on average; a probability does not pass 1."),
            (min(1, n * p), "This bound is safe but loose: it counts a feature twice that two are near."),
            ((1 - p) ** n, "This is how likely *none* is near enough."),
            (p**n, "This is how likely *all* of them are near enough; one is sufficient."),
            (p, "This is the probability for a single direction; there are n."),
        ],
        said="Right. Luck grows with the dictionary, and falls with the dimension, which is in p.",
    )


def check_largest_tau(answer):
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
        said="Right. Above this tau the rule itself forbids recovery; below it, training may get there or not.",
    )

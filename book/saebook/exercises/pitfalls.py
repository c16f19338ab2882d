"""Checks for the exercises of the chapter *Pitfalls*."""

import numpy as np

from saebook.exercises import compare


def check_looks_dead(answer: object) -> None:
    """``answer(frequencies, n)``: share of latents that are expected to fire on none of n samples."""
    frequencies, n = np.array([0.0, 0.5, 0.02, 0.02, 0.001, 0.01]), 50
    silent = (1 - frequencies) ** n
    compare(
        answer,
        (frequencies, n),
        silent.mean(),
        [
            (
                (frequencies == 0).mean(),
                "These are the latents that never fire. A rare one may be silent on all n samples too.",
            ),
            (
                (frequencies < 1 / n).mean(),
                "One in n is no border: a latent with that frequency is still silent on n samples more than one time "
                "in three.",
            ),
            (
                (1 - frequencies.mean()) ** n,
                "The frequencies were averaged first. Latents differ: take each one's chance, then the mean.",
            ),
            (1 - silent.mean(), "Turned round: this is the share that fires at least once."),
            (
                np.clip(1 - n * frequencies, 0, 1).mean(),
                "The chances of n samples do not add up: to be silent on all of them, multiply.",
            ),
            ((1 - n * frequencies).mean(), "The chances of n samples do not add up, and a share is not below 0."),
            ((1 - frequencies).mean(), "This is the chance to be silent on one sample; there are n of them."),
            ((frequencies**n).mean(), "This is the chance to fire on every sample."),
            (silent.sum(), "This is a number of latents: a share is asked for."),
        ],
        said="Right. A latent that was silent is dead only where the sample was long enough.",
    )


def check_to_look_at(answer: object) -> None:
    """``answer(values, wanted, sure)``: latents to look at until one reaches `wanted` with probability `sure`."""
    values = np.array([1.0, 0.95, 0.9, *np.linspace(0.1, 0.8, 37)])
    wanted, sure = 0.9, 0.95
    share, above = (values >= wanted).mean(), (values > wanted).mean()
    exact = np.log(1 - sure) / np.log(1 - share)
    compare(
        answer,
        (values, wanted, sure),
        np.ceil(exact),
        [
            (exact, "Latents are whole: round up."),
            (np.floor(exact), "Rounded down, the probability is not quite reached: round up."),
            (
                np.ceil(np.log(1 - sure) / np.log(1 - above)),
                "A latent that has just the wanted value counts: reach it or more.",
            ),
            *(
                (made, "One over the share is how many it takes on average; one is surer after more.")
                for made in (1 / share, np.ceil(1 / share))
            ),
            *(
                (made, "Chances do not add up: the share times n is no probability. How likely do all n fall short?")
                for made in (sure / share, np.ceil(sure / share))
            ),
            (
                np.ceil(np.log(sure) / np.log(1 - share)),
                "That is how many one may look at and still most likely see none: all fall short with probability "
                "1 - sure.",
            ),
            (
                np.ceil(np.log(1 - sure) / np.log(share)),
                "The share that reaches it and the share that falls short are mixed up.",
            ),
        ],
        said="Right. The number to print beside a hand-picked latent is how many were looked at.",
    )


def check_lean_of(answer: object) -> None:
    """``answer(p_one, p_two, p_both)``: cosine of the best decoder direction of feature one's latent to feature two."""
    one, two, both = 0.2, 0.1, 0.06
    slope = both / one - (two - both) / (1 - one)

    def cosine(part):
        return part / (1 + part**2) ** 0.5

    correlation = (both - one * two) / (one * (1 - one) * two * (1 - two)) ** 0.5
    compare(
        answer,
        (one, two, both),
        cosine(slope),
        [
            (
                cosine(both / one),
                "This is the mean of the samples on which it fires. The bias already gives the mean of the others: "
                "take that off.",
            ),
            (
                cosine(both / one - two),
                "The mean of all samples was taken off. The bias stands alone where the latent is silent: take off "
                "the mean of those.",
            ),
            (
                cosine(both / one - two / (1 - one)),
                "Where feature one is absent, feature two is present without it: p_two - p_both, not p_two.",
            ),
            (slope, "This is how much of feature two the direction holds; divide by the direction's length."),
            (
                1 / (1 + slope**2) ** 0.5,
                "This is the cosine to feature one, its own; asked for is the one to feature two.",
            ),
            (
                cosine((both - one * two) / (two * (1 - two))),
                "One and two are mixed up: the latent fires where feature *one* is present.",
            ),
            (correlation, "This is the correlation of the two; the error is smallest at the regression's slope."),
            (cosine(correlation), "This uses the correlation of the two; the error is smallest at the slope."),
            (cosine(two), "How often feature two is present at all does not say how often it comes with feature one."),
            (
                cosine(both - one * two),
                "This is a covariance: divide it by the variance of the latent's activation to get the slope.",
            ),
        ],
        said="Right. Least squares bends the direction wherever the two are correlated, and nowhere else.",
    )

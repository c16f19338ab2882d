"""Checks for the exercises of the chapter *Vision*."""

import numpy as np

from saebook.exercises import compare


def check_chance_of(answer: object) -> None:
    """``answer(counts)``: share of pairs of images that have the same label, from how many images each label has."""
    counts = np.array([7, 3, 2])
    n = counts.sum()
    alike = (counts * (counts - 1)).sum()
    compare(
        answer,
        (counts,),
        alike / (n * (n - 1)),
        [
            (
                ((counts / n) ** 2).sum(),
                "This pairs an image with itself too: the second is drawn from those that are left.",
            ),
            (1 / len(counts), "One over the number of labels would be right if each had as many images."),
            (
                counts.max() / n,
                "This is how often an image has the commonest label; asked is how often two have the same.",
            ),
            (
                alike / 2 / (n * (n - 1)),
                "Pairs with the same label are counted once and all pairs twice: count both in one way.",
            ),
            (alike / n**2, "Once an image is drawn, one fewer is left for the second."),
            (
                ((counts - 1) / (n - 1)).mean(),
                "Every label counts alike here; an image of a common label is drawn more often.",
            ),
            (1 - alike / (n * (n - 1)), "Turned round: this is the share of pairs with different labels."),
        ],
        said="Right. That is the floor, and it depends on the image set, not on the SAE.",
    )


def check_like_for_like(answer: object) -> None:
    """``answer(scores, groups, trained_scores, trained_groups)``: mean difference between latents of like frequency."""
    groups, trained_groups = np.repeat([0, 1, 2], [6, 3, 1]), np.repeat([1, 2, 3], [2, 5, 4])
    scores = np.array([0.20, 0.25, 0.15, 0.20, 0.30, 0.10, 0.35, 0.25, 0.30, 0.55])
    trained_scores = np.array([0.40, 0.50, 0.60, 0.70, 0.50, 0.60, 0.60, 0.80, 0.90, 0.70, 0.90])
    both = (1, 2)
    apart = np.array([scores[groups == g].mean() - trained_scores[trained_groups == g].mean() for g in both])
    own, trained = (np.array([(of == g).sum() for g in both]) for of in (groups, trained_groups))
    at_once = scores[np.isin(groups, both)].mean() - trained_scores[np.isin(trained_groups, both)].mean()
    compare(
        answer,
        (scores, groups, trained_scores, trained_groups),
        np.average(apart, weights=trained),
        [
            (scores.mean() - trained_scores.mean(), "This is the difference of the two means, whatever the frequency."),
            (apart.mean(), "Every group counts alike here: a group counts as often as it has trained latents."),
            (
                np.average(apart, weights=own),
                "The groups are weighted by the baseline's latents: weight them by the trained SAE's.",
            ),
            (
                np.average(apart, weights=own + trained),
                "The groups are weighted by the latents of both: weight them by the trained SAE's.",
            ),
            (
                -np.average(apart, weights=trained),
                "The sign is wrong: a baseline below the trained SAE has a negative difference.",
            ),
            (
                at_once,
                "Groups that only one has were left out, but the rest was compared at once: compare group by group.",
            ),
            (
                (apart * trained).sum() / len(trained_groups),
                "The weights do not sum to 1: divide by the trained latents that were compared, not by all.",
            ),
            (apart.sum(), "This is a sum over groups: a mean is asked for."),
        ],
        said="Right. What is left is no longer a matter of how often latents fire.",
    )


def check_above_chance(answer: object) -> None:
    """``answer(scores, by_chance, rate)``: how many latents are above chance, by Benjamini and Hochberg."""
    scores, by_chance, rate = _latents_and_chance()
    p = _p_values(scores, by_chance)
    compare(
        answer,
        (scores, by_chance, rate),
        _kept(p, rate),
        [
            (
                (p <= rate).sum(),
                "No correction: among many latents that fire by chance, this share of them passes. Use the line that "
                "rises with the rank.",
            ),
            (
                (p <= rate / len(p)).sum(),
                "This divides the rate by all latents (Bonferroni), so that likely none is false: few may be.",
            ),
            (
                _until_the_first_fails(p, rate),
                "You stopped at the first p-value above the line. Take the last one below it, and all before it.",
            ),
            (
                (np.sort(p) <= rate * np.arange(1, len(p) + 1) / len(p)).sum(),
                "Those above the line that stand before the last one below it are kept as well.",
            ),
            (
                _kept(((by_chance > scores[:, None]).sum(axis=1) + 1) / (len(by_chance) + 1), rate),
                "A set by chance that scores just as high counts against the latent: at least as high, not higher.",
            ),
            (
                _kept((by_chance >= scores[:, None]).mean(axis=1), rate),
                "Count the latent itself among the sets, above and below the line: no p-value is 0 after so few draws.",
            ),
            (
                _kept(1 - p, rate),
                "The wrong tail: count the sets that score at least as high as the latent, not those below.",
            ),
            ((scores > by_chance.mean()).sum(), "Half of all latents lie above the mean of chance by chance."),
            ((scores > by_chance.max()).sum(), "These beat every set that was drawn: draw more, and fewer remain."),
            (_kept(p, rate) / len(p), "This is a share: a number of latents is asked for."),
        ],
        said="Right. Of those that are kept, about so many at most are there by luck.",
    )


def _latents_and_chance():
    """Scores of 20 latents and of 499 sets by chance, for which each likely mistake gives another number."""
    by_chance = 1 - np.arange(1, 500) / 500
    by_chance[27:34] = 0.938
    below = np.array([0, 1, 1, 8, 13, 13, 18, 18, 21, 26, 27, 34, 44, 47, 100, 150, 200, 350, 495, 499])
    scores = 1 - (below + 0.5) / 500  # so many of the sets are above
    scores[below == 34] = 0.938
    return scores, by_chance, 0.1


def _p_values(scores, by_chance):
    """The share of sets that score at least as high, the latent itself among them."""
    return ((by_chance >= scores[:, None]).sum(axis=1) + 1) / (len(by_chance) + 1)


def _kept(p, rate):
    passed = np.flatnonzero(np.sort(p) <= rate * np.arange(1, len(p) + 1) / len(p))
    return passed[-1] + 1 if len(passed) else 0


def _until_the_first_fails(p, rate):
    fails = np.flatnonzero(np.sort(p) > rate * np.arange(1, len(p) + 1) / len(p))
    return fails[0] if len(fails) else len(p)

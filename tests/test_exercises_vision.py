"""Likely mistakes in the exercises of the chapter on vision: each is told what is wrong with it."""

import numpy as np
import pytest
from saebook.exercises import Wrong, vision
from scipy.stats import false_discovery_control

chance_of, like_for_like, above_chance = vision.check_chance_of, vision.check_like_for_like, vision.check_above_chance


def by_group(scores, groups, trained_scores, trained_groups):
    """The groups that both have: differences, and how many latents of each."""
    both = np.intersect1d(groups, trained_groups)
    apart = np.array([scores[groups == g].mean() - trained_scores[trained_groups == g].mean() for g in both])
    return apart, *(np.array([(of == g).sum() for g in both]) for of in (groups, trained_groups))


def averaged(weigh):
    def answer(*four):
        apart, own, trained = by_group(*four)
        return np.average(apart, weights=weigh(own, trained))

    return answer


def shared_at_once(scores, groups, trained_scores, trained_groups):
    theirs = trained_scores[np.isin(trained_groups, groups)]
    return scores[np.isin(groups, trained_groups)].mean() - theirs.mean()


def over_all_trained(*four):
    apart, _, trained = by_group(*four)
    return (apart * trained).sum() / len(four[3])


def p_values(scores, by_chance):
    return ((by_chance >= scores[:, None]).sum(axis=1) + 1) / (len(by_chance) + 1)


def kept(p, rate):
    return int((false_discovery_control(p) <= rate + 1e-12).sum())


def stops_early(scores, by_chance, rate):
    found = 0
    for p in np.sort(p_values(scores, by_chance)):
        if p > rate * (found + 1) / len(scores):
            break
        found += 1
    return found


def only_below_the_line(scores, by_chance, rate):
    m = len(scores)
    return (np.sort(p_values(scores, by_chance)) <= rate * np.arange(1, m + 1) / m).sum()


def strictly_higher(scores, by_chance, rate):
    return kept(((by_chance > scores[:, None]).sum(axis=1) + 1) / (len(by_chance) + 1), rate)


@pytest.mark.parametrize(
    "check, answer, told",
    [
        (chance_of, lambda c: ((c / c.sum()) ** 2).sum(), "pairs an image with itself"),
        (chance_of, lambda c: 1 / len(c), "if each had as many images"),
        (chance_of, lambda c: c.max() / c.sum(), "the commonest label"),
        (chance_of, lambda c: (c * (c - 1) / 2).sum() / (c.sum() * (c.sum() - 1)), "counted once and all pairs twice"),
        (chance_of, lambda c: (c * (c - 1)).sum() / c.sum() ** 2, "one fewer is left"),
        (chance_of, lambda c: ((c - 1) / (c.sum() - 1)).mean(), "Every label counts alike"),
        (chance_of, lambda c: 1 - (c * (c - 1)).sum() / (c.sum() * (c.sum() - 1)), "Turned round"),
        (like_for_like, lambda s, g, t, h: s.mean() - t.mean(), "difference of the two means"),
        (like_for_like, averaged(lambda own, trained: None), "Every group counts alike"),
        (like_for_like, averaged(lambda own, trained: own), "by the baseline's latents"),
        (like_for_like, averaged(lambda own, trained: own + trained), "by the latents of both"),
        (like_for_like, lambda s, g, t, h: averaged(lambda own, trained: own)(t, h, s, g), "sign is wrong"),
        (like_for_like, shared_at_once, "compare group by group"),
        (like_for_like, over_all_trained, "do not sum to 1"),
        (like_for_like, lambda *four: by_group(*four)[0].sum(), "a mean is asked for"),
        (like_for_like, lambda *four: by_group(*four)[0], r"a single number, and gave shape \(2,\)"),
        (above_chance, lambda s, c, rate: (p_values(s, c) <= rate).sum(), "No correction"),
        (above_chance, lambda s, c, rate: (p_values(s, c) <= rate / len(s)).sum(), "Bonferroni"),
        (above_chance, stops_early, "stopped at the first"),
        (above_chance, only_below_the_line, "are kept as well"),
        (above_chance, strictly_higher, "at least as high, not higher"),
        (above_chance, lambda s, c, rate: kept((c >= s[:, None]).mean(axis=1), rate), "no p-value is 0"),
        (above_chance, lambda s, c, rate: kept(1 - p_values(s, c), rate), "wrong tail"),
        (above_chance, lambda s, c, rate: (s > c.mean()).sum(), "above the mean of chance"),
        (above_chance, lambda s, c, rate: (s > c.max()).sum(), "draw more, and fewer remain"),
        (above_chance, lambda s, c, rate: kept(p_values(s, c), rate) / len(s), "a number of latents is asked for"),
    ],
)
def test_a_likely_mistake_is_named(check, answer, told):
    with pytest.raises(Wrong, match=told):
        check(answer)


def pairs_counted(counts):
    """Chance by going through all pairs."""
    labels = np.repeat(np.arange(len(counts)), counts)
    alike = labels[:, None] == labels
    return alike[np.triu_indices(len(labels), 1)].mean()


@pytest.mark.parametrize(
    "check, answer",
    [
        (chance_of, pairs_counted),
        (like_for_like, averaged(lambda own, trained: trained / trained.sum())),
        (above_chance, lambda s, c, rate: kept(p_values(s, c), rate)),
    ],
)
def test_another_right_way_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")

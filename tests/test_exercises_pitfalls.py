"""Likely mistakes in the exercises of the chapter on pitfalls: each is told what is wrong with it."""

import numpy as np
import pytest
import torch
from saebook.exercises import Wrong, pitfalls
from torch.nn.functional import normalize

from saelite.evaluations.absorption import hedging
from saelite.synthetic import FeatureWorld

looks_dead, to_look_at, lean_of = pitfalls.check_looks_dead, pitfalls.check_to_look_at, pitfalls.check_lean_of


def cosine(part):
    return part / np.hypot(1, part)


def slope(one, two, both):
    return (both - one * two) / (one * (1 - one))


def correlation(one, two, both):
    return (both - one * two) / np.sqrt(one * (1 - one) * two * (1 - two))


@pytest.mark.parametrize(
    "check, answer, told",
    [
        (looks_dead, lambda f, n: (f == 0).mean(), "may be silent on all n samples too"),
        (looks_dead, lambda f, n: (f < 1 / n).mean(), "One in n is no border"),
        (looks_dead, lambda f, n: (1 - f.mean()) ** n, "averaged first"),
        (looks_dead, lambda f, n: 1 - ((1 - f) ** n).mean(), "Turned round"),
        (looks_dead, lambda f, n: np.maximum(0, 1 - n * f).mean(), "to be silent on all of them, multiply"),
        (looks_dead, lambda f, n: (1 - n * f).mean(), "a share is not below 0"),
        (looks_dead, lambda f, n: (1 - f).mean(), "there are n of them"),
        (looks_dead, lambda f, n: (f**n).mean(), "fire on every sample"),
        (looks_dead, lambda f, n: ((1 - f) ** n).sum(), "a share is asked for"),
        (looks_dead, lambda f, n: (1 - f) ** n, r"a single number, and gave shape \(6,\)"),
        (to_look_at, lambda v, w, sure: np.log(1 - sure) / np.log((v < w).mean()), "whole: round up"),
        (to_look_at, lambda v, w, sure: int(np.log(1 - sure) / np.log((v < w).mean())), "Rounded down"),
        (to_look_at, lambda v, w, sure: np.ceil(np.log(1 - sure) / np.log((v <= w).mean())), "just the wanted value"),
        (to_look_at, lambda v, w, sure: 1 / (v >= w).mean(), "on average"),
        (to_look_at, lambda v, w, sure: np.ceil(1 / (v >= w).mean()), "on average"),
        (to_look_at, lambda v, w, sure: sure / (v >= w).mean(), "do not add up"),
        (to_look_at, lambda v, w, sure: np.ceil(sure / (v >= w).mean()), "do not add up"),
        (to_look_at, lambda v, w, sure: np.ceil(np.log(sure) / np.log((v < w).mean())), "still most likely see none"),
        (to_look_at, lambda v, w, sure: np.ceil(np.log(1 - sure) / np.log((v >= w).mean())), "mixed up"),
        (lean_of, lambda one, two, both: cosine(both / one), "bias already gives the mean of the others"),
        (lean_of, lambda one, two, both: cosine(both / one - two), "mean of all samples was taken off"),
        (lean_of, lambda one, two, both: cosine(both / one - two / (1 - one)), "p_two - p_both, not p_two"),
        (lean_of, slope, "divide by the direction's length"),
        (lean_of, lambda *p: 1 / np.hypot(1, slope(*p)), "cosine to feature one"),
        (lean_of, lambda one, two, both: cosine(slope(two, one, both)), "One and two are mixed up"),
        (lean_of, correlation, "This is the correlation"),
        (lean_of, lambda *p: cosine(correlation(*p)), "uses the correlation"),
        (lean_of, lambda one, two, both: cosine(two), "how often it comes with feature one"),
        (lean_of, lambda one, two, both: cosine(both - one * two), "This is a covariance"),
    ],
)
def test_a_likely_mistake_is_named(check, answer, told):
    with pytest.raises(Wrong, match=told):
        check(answer)


def least_squares(one, two, both):
    """The same by fitting a direction and a bias to samples in these proportions."""
    present = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    often = np.array([both, one - both, two - both, 1 - one - two + both])
    inputs = np.stack([present[:, 0], np.ones(4)], axis=1)
    weight = np.sqrt(often)[:, None]
    direction = np.linalg.lstsq(inputs * weight, present * weight, rcond=None)[0][0]
    return direction[1] / np.linalg.norm(direction)


def counted(values, wanted, sure):
    """The same by trying one number after another."""
    n = 1
    while 1 - (values < wanted).mean() ** n < sure:
        n += 1
    return n


@pytest.mark.parametrize(
    "check, answer",
    [
        (looks_dead, lambda f, n: np.mean([np.prod([1 - one] * n) for one in f])),
        (to_look_at, counted),
        (lean_of, lambda *p: cosine(slope(*p))),
        (lean_of, least_squares),
    ],
)
def test_another_right_way_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")


def test_a_pair_of_a_world_leans_as_the_exercise_says():
    """The chapter takes the probability of both from the world's groups, and its lean from `hedging`."""
    world = FeatureWorld(torch.tensor([0.12, 0.08]), d_in=64, groups=1, open_probability=0.15)
    one, two = world.probabilities.tolist()
    support, _ = world.sample_code(200_000, torch.Generator().manual_seed(0))
    present = torch.zeros(support.shape, dtype=torch.bool)
    present[support.rows, support.latents] = True
    both = one * two / world.open_probability
    assert present.all(dim=1).double().mean().item() == pytest.approx(both, abs=0.002)
    fires = present[:, 0]
    held = present.float()
    direction = held[fires].mean(dim=0) - held[~fires].mean(dim=0)
    at_right_angles = torch.eye(2)
    lean = hedging(at_right_angles, normalize(direction[None], dim=1), [1, 0])["lean"].item()
    assert lean == pytest.approx(least_squares(one, two, both), abs=0.01)

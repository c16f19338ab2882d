"""Likely mistakes in the exercises of the chapters on baselines and controls: each is told what is wrong with it."""

import numpy as np
import pytest
import torch
from saebook.exercises import (
    Wrong,
    baselines_where_truth_is_known,
    controls,
    frozen_encoder,
    soft_frozen_decoder,
)
from torch.nn.functional import normalize


def at_the_edge(vectors, starts, tau):
    unit = normalize(vectors, dim=1)
    across = normalize(unit - (unit * starts).sum(dim=1, keepdim=True) * starts, dim=1)
    return tau * starts + (1 - tau**2) ** 0.5 * across


def inside(vectors, starts, tau):
    return (normalize(vectors, dim=1) * starts).sum(dim=1, keepdim=True) >= tau


def outside(move):
    """What leaves vectors inside their cone alone and moves the others in a wrong way."""

    def moved(vectors, starts, tau):
        unit = normalize(vectors, dim=1)
        along = (unit * starts).sum(dim=1, keepdim=True)
        return torch.where(inside(vectors, starts, tau), unit, move(unit, starts, tau, along))

    return moved


def in_place(x, seed):
    x.copy_(x.flip(0))
    return x


held_back = soft_frozen_decoder.check_held_back
nearest = soft_frozen_decoder.check_nearest_in_cone
gain = frozen_encoder.check_best_gain
alike = frozen_encoder.check_pairs_alike
bar = baselines_where_truth_is_known.check_bar_of_chance
largest_tau = baselines_where_truth_is_known.check_largest_tau
above_null = controls.check_above_null
shuffled = controls.check_shuffled


@pytest.mark.parametrize(
    "check, answer, told",
    [
        (held_back, lambda cosines, fires, tau: (cosines < tau + 1e-3).float().mean(), "never fire are counted"),
        (held_back, lambda cosines, fires, tau: (cosines < tau)[fires].float().mean(), "None is below tau"),
        (held_back, lambda cosines, fires, tau: (cosines <= tau)[fires].float().mean(), "Rounding"),
        (held_back, lambda cosines, fires, tau: ((cosines < tau + 1e-3) & fires).float().mean(), "Divide by"),
        (held_back, lambda cosines, fires, tau: (cosines > tau + 1e-3)[fires].float().mean(), "inside the cone"),
        (held_back, lambda cosines, fires, tau: (cosines < tau + 1e-3)[fires].sum(), "how many"),
        (nearest, at_the_edge, "leaves it where it is"),
        (nearest, outside(lambda unit, s, tau, along: normalize(tau * s + (1 - tau) * unit, dim=1)), "mixes"),
        (nearest, outside(lambda unit, s, tau, a: normalize(tau * s + (1 - tau**2) ** 0.5 * unit)), "take that off"),
        (nearest, outside(lambda unit, s, tau, a: tau * s + (1 - tau**2) ** 0.5 * (unit - a * s)), "length of its own"),
        (nearest, outside(lambda unit, s, tau, a: s), "back on its start"),
        (nearest, lambda v, s, tau: torch.where(inside(v, s, tau), v, at_the_edge(v, s, tau)), "gets length 1"),
        (gain, lambda x, x_hat: x.norm() / x_hat.norm(), "equally long"),
        (gain, lambda x, x_hat: x_hat.square().sum() / (x * x_hat).sum(), "upside down"),
        (gain, lambda x, x_hat: (x * x_hat).sum() / x.square().sum(), "the wrong one"),
        (gain, lambda x, x_hat: (x * x_hat).sum() / (x.norm() * x_hat.norm()), "a cosine"),
        (gain, lambda x, x_hat: ((x * x_hat).sum(1) / x_hat.square().sum(1)).mean(), "sum before you divide"),
        (gain, lambda x, x_hat: (x * x_hat).sum(1) / x_hat.square().sum(1), "a single number"),
        (alike, lambda tokens: sum(tokens.count(t) for t in tokens) / len(tokens) ** 2, "paired with itself"),
        (alike, lambda tokens: sum(tokens.count(t) - 1 for t in tokens) / len(tokens) ** 2, "not n squared"),
        (alike, lambda tokens: sum(tokens.count(t) - 1 for t in tokens) / 2 / (7 * 6), "in one way"),
        (alike, lambda tokens: max(tokens.count(t) for t in tokens) / len(tokens), "commonest"),
        (alike, lambda tokens: 1 - len(set(tokens)) / len(tokens), "how few different"),
        (alike, lambda tokens: sum(tokens.count(t) - 1 for t in tokens) / 2, "how many pairs"),
        (bar, lambda best, share: np.quantile(best, share), "lower end"),
        (bar, lambda best, share: max(best), "luckiest"),
        (bar, lambda best, share: best.mean(), "the mean by chance"),
        (bar, lambda best, share: np.median(best), "the median by chance"),
        (bar, lambda best, share: share, "counts features; the bar is a cosine"),
        (bar, lambda best, share: 1 - share, "do not exceed"),
        (bar, lambda best, share: (1 - share) * best.max(), "not a share of the largest"),
        (largest_tau, lambda start, bar: np.cos(np.arccos(start) - np.arccos(bar)), "need not turn"),
        (largest_tau, lambda start, bar: np.cos(np.arccos(start) + np.arccos(bar)), "subtract"),
        (largest_tau, lambda start, bar: np.minimum(1, 1 - (bar - start)), "do not add up"),
        (largest_tau, lambda start, bar: np.minimum(1, start / bar), "do not divide"),
        (largest_tau, lambda start, bar: np.clip(np.arccos(start) - np.arccos(bar), 0, None), "cosine of that angle"),
        (largest_tau, lambda start, bar: start * bar, "two terms"),
        (above_null, lambda score, nulls: score - max(nulls), "divide it by the room"),
        (above_null, lambda score, nulls: (score - max(nulls)) / score, "not by the score"),
        (above_null, lambda score, nulls: (score - min(nulls)) / (1 - min(nulls)), "weakest"),
        (above_null, lambda score, nulls: (score - np.mean(nulls)) / (1 - np.mean(nulls)), "flatters"),
        (above_null, lambda score, nulls: (1 - score) / (1 - max(nulls)), "missing"),
        (shuffled, lambda x, seed: x, "Nothing"),
        (shuffled, lambda x, seed: x[torch.randperm(len(x))], "move together"),
        (shuffled, lambda x, seed: x[:, [1, 2, 3, 4, 5, 0]], "within tokens"),
        (shuffled, lambda x, seed: torch.stack([row[torch.randperm(len(row))] for row in x]), "within tokens"),
        (shuffled, lambda x, seed: x.flatten()[torch.randperm(x.numel())].view_as(x), "lost their values"),
        (shuffled, lambda x, seed: x[torch.randint(len(x), x.shape), torch.arange(x.shape[1])], "draw none twice"),
        (shuffled, lambda x, seed: x[:10], "shape of those given"),
        (shuffled, in_place, "have changed"),
        (shuffled, lambda x, seed: ..., "not answered yet"),
    ],
)
def test_a_likely_mistake_is_named(check, answer, told):
    with pytest.raises(Wrong, match=told):
        check(answer)

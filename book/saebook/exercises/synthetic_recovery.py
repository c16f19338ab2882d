"""Checks for the exercises of the chapter *Synthetic recovery*."""

import functools

import torch

from saebook.exercises import compare
from saelite.activation_functions import TopK
from saelite.metrics import explained_variance
from saelite.sae import SAE


def check_by_occurrence(answer: object) -> None:
    """``answer(best, probabilities, bar)``: the share of all occurrences of features that belong to recovered ones."""
    best = torch.tensor([0.95, 0.30, 0.85, 0.50, 0.40], dtype=torch.float64)
    probabilities = torch.tensor([0.40, 0.20, 0.10, 0.05, 0.01], dtype=torch.float64)
    bar = 0.8
    found = best > bar
    compare(
        answer,
        (best, probabilities, bar),
        probabilities[found].sum() / probabilities.sum(),
        [
            (found.double().mean(), "This counts every feature once; count it as often as it occurs."),
            (
                probabilities[found].sum(),
                "This is how many recovered features a sample holds; divide by how many features it holds in all.",
            ),
            (
                probabilities[found].mean(),
                "This is the mean frequency of recovered features; their share of all occurrences is asked for.",
            ),
            (
                (best * probabilities).sum() / probabilities.sum(),
                "This is a mean of cosines: a feature is recovered or not, by whether its cosine is above the bar.",
            ),
            (1 - probabilities[found].sum() / probabilities.sum(), "This is the share of those that are missed."),
        ],
        said="Right. The few features that occur most decide this share, and the many rare ones decide the plain one.",
    )


def check_perfect_and_empty(answer: object) -> None:
    """``answer(d_in)``: directions (m, d_in) under which a TopK SAE with k = d_in loses nothing of any activation."""
    d_in = 3
    x = torch.randn(200, d_in, generator=torch.Generator().manual_seed(0)) + 0.5

    def explained(directions):
        directions = torch.as_tensor(directions, dtype=torch.float32)
        if directions.ndim != 2 or directions.shape[1] != d_in or len(directions) < d_in:
            raise ValueError(
                f"directions must have shape (m, {d_in}) with m of {d_in} or more, not {tuple(directions.shape)}"
            )
        return explained_variance(x, SAE(d_in, len(directions), TopK(d_in), init=directions)(x).detach())

    @functools.wraps(answer)
    def score(d_in):
        directions = answer(d_in)
        return None if directions is None or directions is Ellipsis else explained(directions)

    axes = torch.eye(d_in)
    compare(
        score,
        (d_in,),
        1.0,
        [
            (
                explained(axes),
                "A latent is never negative, so with one direction for each axis all that is below 0 is lost. What "
                "else must the dictionary hold?",
            ),
            (explained(-axes), "Now all that is above 0 is lost: keep both signs of each axis."),
            (
                explained(torch.cat([axes, axes])),
                "Each axis twice in the same sense counts a positive part twice and a negative one never.",
            ),
        ],
        said="Right. Nothing is lost, and no feature of any data went into it.",
    )

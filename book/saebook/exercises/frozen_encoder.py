"""Checks for the exercises of the chapter *Frozen Encoder*."""

import torch

from saebook.exercises import compare


def check_best_gain(answer: object) -> None:
    """``answer(x, x_hat)``: the one factor g for which ``||x - g x_hat||^2`` is least."""
    x = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 3.0, 0.5], [0.0, -2.0, 4.0]])
    x_hat = torch.tensor([[0.5, 0.2, 0.1], [-0.2, 0.6, 0.4], [0.3, -0.9, 0.8]])
    product, own = (x * x_hat).sum(), x_hat.square().sum()
    by_row = (x * x_hat).sum(dim=1) / x_hat.square().sum(dim=1)
    compare(
        answer,
        (x, x_hat),
        product / own,
        [
            (x.norm() / own.sqrt(), "This makes both equally long. Where they differ in direction, that is too long."),
            (own / product, "This is upside down: it would be divided by, not multiplied with."),
            (product / x.square().sum(), "This scales x to fit x_hat: it divides by the length of the wrong one."),
            (product / (x.norm() * own.sqrt()), "This is a cosine: how alike the two are, not how long to make one."),
            (by_row.mean(), "The mean of each sample's own gain is not the best for all: sum before you divide."),
        ],
        said="Right. Every SAE of this book begins with such a gain: what is a matter of scale alone is no skill.",
    )


def check_pairs_alike(answer: object) -> None:
    """``answer(tokens)``: of all pairs of different places in a list, the share that holds the same token twice."""
    tokens = [" in", " of", " in", " the", " in", " of", " of"]
    counts = [3, 3, 1]
    n, same = len(tokens), sum(c * (c - 1) for c in counts)
    compare(
        answer,
        (tokens,),
        same / (n * (n - 1)),
        [
            (
                sum(c * c for c in counts) / n**2,
                "A token is paired with itself here, and always alike: leave those pairs out.",
            ),
            (same / n**2, "Of n tokens there are n (n - 1) ordered pairs of different places, not n squared."),
            (same / (n * (n - 1)) / 2, "Pairs are counted once above and twice below the line: count both in one way."),
            (max(counts) / n, "This is the share of the commonest token; pairs of the others count as well."),
            (1 - len(counts) / n, "This counts how few different tokens there are; the question is for pairs."),
            (same // 2, "This is how many pairs are alike; divide by how many pairs there are."),
        ],
        said="Right. Text drawn at random has such pairs too, since some tokens are common: that is the floor.",
    )

"""Checks for the exercises of the chapter *Controls*."""

import functools

import torch

from saebook.exercises import Wrong, compare


def check_above_null(answer: object) -> None:
    """``answer(score, nulls)``: of the room between the best null and 1, the share that a score has."""
    score, nulls = 0.6, [0.0, 0.45, 0.3]
    best = max(nulls)
    compare(
        answer,
        (score, nulls),
        (score - best) / (1 - best),
        [
            (score - best, "This is how far the score lies above the best null; divide it by the room up to 1."),
            ((score - best) / score, "Divide by the room from the best null up to 1, not by the score."),
            (score, "The weakest null is taken, which is 0 for explained variance: take the strongest."),
            ((score - sum(nulls) / 3) / (1 - sum(nulls) / 3), "The mean of the nulls flatters: take the strongest."),
            ((1 - score) / (1 - best), "This is what is missing: 1 minus it is the share that is there."),
        ],
        said="Right. Now scores on different data stand on one scale: 0 is the best null there, 1 is perfect.",
    )


def check_shuffled(answer: object) -> None:
    """``answer(x, seed)``: activations (n, d) with every coordinate shuffled over tokens on its own."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, generator=generator) + 0.1 * torch.randn(400, 6, generator=generator)
    before = x.clone()

    @functools.wraps(answer)
    def what_is_kept(x, seed):
        y = answer(x, seed)
        if y is None or y is Ellipsis:
            return y
        y = torch.as_tensor(y, dtype=x.dtype)
        if y.shape != x.shape:
            raise Wrong(f"Shuffled activations have the shape of those given, {tuple(x.shape)}, not {tuple(y.shape)}.")
        if not torch.equal(x, before):
            raise Wrong("The activations that were given have changed: leave them, and return shuffled ones.")
        values = torch.equal(y.sort(dim=0).values, x.sort(dim=0).values)
        moved = not torch.equal(x, y)
        within = torch.equal(y.sort(dim=1).values, x.sort(dim=1).values)
        correlation = torch.corrcoef(y.T.double()).fill_diagonal_(0).abs().max()
        return torch.tensor([values, moved, within, correlation > 0.5]).double()

    compare(
        what_is_kept,
        (x, 1),
        [1, 1, 0, 0],
        [
            ([1, 0, 1, 1], "Nothing was shuffled."),
            ([1, 1, 0, 1], "Coordinates move together, so each token keeps its vector: no structure is lost."),
            ([0, 1, 1, 0], "Values moved within tokens: then no coordinate keeps its own values. Shuffle over tokens."),
            ([0, 1, 1, 1], "Values moved within tokens: then no coordinate keeps its own values. Shuffle over tokens."),
            ([0, 1, 0, 0], "Coordinates have lost their values: shuffle those there are, draw none twice or anew."),
        ],
        said="Right. Each coordinate keeps its values, and has nothing to do with the others any more.",
    )

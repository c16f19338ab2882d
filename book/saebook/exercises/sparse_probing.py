"""Checks for the exercises of the chapter *Sparse probing*."""

import numpy as np

from saebook.exercises import compare

# Mean codes of eight texts, four with the concept: the latent that differs most is one that falls silent.
IS_YES = np.arange(8) < 4
CODES = np.array(
    [
        [9.0, 3.0, 0.1, 0.5, 0.0, 2.0],
        [8.0, 0.0, 0.0, 0.5, 0.0, 0.1],
        [9.5, 2.6, 0.0, 0.6, 0.0, 1.9],
        [8.5, 0.4, 0.3, 0.5, 0.0, 0.8],
        [9.1, 0.4, 3.0, 0.1, 0.0, 0.2],
        [8.1, 0.9, 1.5, 0.0, 0.0, 0.9],
        [9.4, 0.3, 2.4, 0.1, 0.0, 0.1],
        [8.6, 0.4, 1.9, 0.1, 0.0, 0.4],
    ]
)


def check_most_different(answer: object) -> None:
    """``answer(codes, is_yes, k)``: the k latents (columns) whose means differ most between two sets of texts."""
    k = 3
    yes, no = CODES[IS_YES], CODES[~IS_YES]
    difference = yes.mean(axis=0) - no.mean(axis=0)
    spread = CODES.std(axis=0) + 1e-9
    first = np.argsort(-abs(difference), kind="stable")[:k]
    compare(
        answer,
        (CODES, IS_YES, k),
        first,
        [
            (
                np.argsort(-difference, kind="stable")[:k],
                "A latent that falls silent is evidence too: take absolute values.",
            ),
            (np.argsort(abs(difference), kind="stable")[:k], "These differ least: turn the order round."),
            (np.argsort(abs(difference), kind="stable")[-k:], "The right latents, but the best one should come first."),
            (
                np.argsort(-abs(difference) / spread, kind="stable")[:k],
                "These differ most in units of their own spread; the "
                "chapter, as the paper and SAEBench, takes the plain difference of means.",
            ),
            (
                np.argsort(-yes.mean(axis=0), kind="stable")[:k],
                "These are strongest on texts with the concept; they may be as strong on the others.",
            ),
            (
                abs(difference)[first],
                "These are the differences themselves: give the latents' numbers, that is the columns.",
            ),
        ],
        said="Right. Labels are used here, so whatever is chosen has to be tested on other texts.",
    )


def check_honest_accuracy(answer: object) -> None:
    """``answer(train, train_is, test, test_is)``: test accuracy of the latent that differs most in training."""
    rng = np.random.default_rng(66)
    train_is, test_is = np.arange(24) < 12, np.arange(16) < 8
    train, test = rng.gamma(1, 1, (24, 40)), rng.gamma(1, 1, (16, 40))
    train[train_is, 5] *= 0.3  # weaker where the concept is; the other latents are noise
    test[test_is, 5] *= 0.5
    compare(
        answer,
        (train, train_is, test, test_is),
        _accuracy(train, train_is, test, test_is),
        [
            (_accuracy(test, test_is, test, test_is), "Latent and threshold were chosen on the texts that test them."),
            (
                _accuracy(train, train_is, test, test_is, choose=(test, test_is)),
                "The latent was chosen on the test texts: among many latents one fits any labels.",
            ),
            (
                _accuracy(train, train_is, test, test_is, threshold=(test, test_is)),
                "The threshold was set on the test texts: set it on the training texts, as the latent.",
            ),
            (
                _accuracy(train, train_is, train, train_is),
                "This is the accuracy on the training texts: use the test texts.",
            ),
            (
                _accuracy(train, train_is, test, test_is, signed=False),
                "Say yes on the side of the threshold where the mean of "
                "the yes texts lies: this latent is lower there.",
            ),
        ],
        said="Right. No label of a test text was used but to count how often the answer is right.",
    )


def _accuracy(train, train_is, test, test_is, choose=None, threshold=None, signed=True):
    codes, is_yes = choose or (train, train_is)
    latent = np.argmax(abs(codes[is_yes].mean(axis=0) - codes[~is_yes].mean(axis=0)))
    codes, is_yes = threshold or (train, train_is)
    yes, no = codes[is_yes, latent].mean(), codes[~is_yes, latent].mean()
    above = test[:, latent] > (yes + no) / 2
    return ((above if yes > no or not signed else ~above) == test_is).mean()

"""Checks for the exercises of the chapter *Superposition and SAEs*."""

import math

import torch
from torch.nn.functional import normalize, relu

from saebook.exercises import compare


def check_share_explained(answer: object) -> None:
    """``answer(x, x_hat)``: explained variance of activations (n, d) by their reconstruction (n, d), one number."""
    x = torch.tensor([[1.0, 10.0], [2.0, 14.0], [6.0, 12.0], [4.0, 17.0]])
    x_hat = torch.tensor([[1.5, 11.0], [3.0, 13.0], [6.0, 13.0], [5.0, 16.5]])
    errors, centred = x - x_hat, x - x.mean(dim=0)
    error, variance = errors.square().sum(), centred.square().sum()
    each = 1 - errors.square().sum(dim=1) / centred.square().sum(dim=1)
    spread = (errors - errors.mean(dim=0)).square().sum()
    compare(
        answer,
        (x, x_hat),
        1 - error / variance,
        [
            (error / variance, "This is the share that is lost: 1 minus it is the share that is explained."),
            (
                1 - error / x.square().sum(),
                "This counts from 0. Count from the mean of x, so that always answering with the mean scores 0.",
            ),
            (
                1 - error / (x - x.mean()).square().sum(),
                "x.mean() is one number for all dimensions; each dimension has a mean of its own: x.mean(dim=0).",
            ),
            (
                each.mean(),
                "This averages a share over samples, so one sample near the mean can spoil it. Sum the squared errors "
                "and the squared distances over all samples first, then divide.",
            ),
            (1 - (error / variance).sqrt(), "These are lengths; square them before you divide."),
            (
                1 - spread / variance,
                "This takes the mean error out first, so a reconstruction that is always off by the same vector would "
                "look perfect.",
            ),
        ],
        said="Right. Libraries do disagree here: some of the wrong answers that this check knows are in use.",
    )


def check_encode(answer: object) -> None:
    """``answer(x, directions, k)``: the code (n, m) of activations (n, d): each sample's k largest positive matches."""
    x = torch.tensor([[3.0, 1.0], [-0.5, -0.4], [0.5, 0.45]])
    directions = normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.2]]), dim=1)
    k = 2
    matches = x @ directions.T
    top = matches.topk(k, dim=1)
    kept = torch.zeros_like(matches).scatter(1, top.indices, top.values)
    right = relu(kept)
    large = torch.zeros_like(matches).scatter(1, matches.abs().topk(k, dim=1).indices, 1.0) * matches
    cosines = normalize(x, dim=1) @ directions.T
    by_cosine = relu(torch.zeros_like(matches).scatter(1, top.indices, cosines.gather(1, top.indices)))
    whole = relu(matches) * (matches >= matches.flatten().topk(k * len(x)).values.min())
    compare(
        answer,
        (x, directions, k),
        right,
        [
            (kept, "A latent is never negative: where a match among the k largest is below 0, the latent stays at 0."),
            (relu(matches), "These are all positive matches; keep only the k largest of each sample."),
            (large, "A strong negative match says that the direction is absent; choose by the value, not by its size."),
            (
                relu(large),
                "You chose the k largest by size, sign left out; choose by the value, then drop what is below 0.",
            ),
            (
                by_cosine,
                "These are cosines: they do not say how strongly a direction is present. Do not divide by x's length.",
            ),
            (
                whole,
                "You chose over all samples at once, which is BatchTopK: there large samples take latents from small "
                "ones. TopK chooses in each sample.",
            ),
            ((right > 0).float(), "This says which latents are active, but not how strongly."),
        ],
        said="Right. With decoding, `code @ directions`, that is an SAE; training adds biases and better directions.",
    )


def check_found_by_luck(answer: object) -> None:
    """``answer(n, bar)``: the chance that one of n random directions in the plane is within bar of a feature."""
    n, bar = 4, 0.9
    near = math.acos(bar) / math.pi
    compare(
        answer,
        (n, bar),
        1 - (1 - near) ** n,
        [
            ((1 - near) ** n, "This is the chance that none of them is near: 1 minus it is the answer."),
            (near, "This is the chance for one direction; there are n, and one that is near is enough."),
            (n * near, "Added up, the cases where two are near count twice: take 1 minus the chance that all miss."),
            (near**n, "This is the chance that all of them are near; one is enough."),
            (
                1 - (1 - near / 2) ** n,
                "A direction may lie on either side of the feature: the arc of near directions is twice the angle.",
            ),
            (
                1 - (1 - (1 - bar) / 2) ** n,
                "It is the angle that is uniform, not the cosine; arccos turns the bar into an angle.",
            ),
        ],
        said="Right. This is the floor of the toy: what a dictionary that learned nothing would find.",
    )

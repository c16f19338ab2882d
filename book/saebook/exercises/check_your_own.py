"""Checks for the exercises of the chapter *Check your own SAE*."""

import numpy as np
import torch

from saebook.exercises import compare
from saelite.activation_functions import TopK
from saelite.checking.foreign_sae import by_scale
from saelite.metrics import explained_variance
from saelite.sae import SAE


def check_factor(answer: object) -> None:
    """``answer(activations)``: what to multiply activations (n, d) by, so that their mean norm is the root of d."""
    sae, x = _example()
    norms, d = x.norm(dim=1), x.shape[1]
    compare(
        answer,
        (x,),
        by_scale(sae, x).set_index("convention").at["mean norm sqrt(d_in)", "factor"],
        [
            (1 / norms.mean(), "This gives a mean norm of 1: the convention asks for the root of the width."),
            (
                d**0.5 / norms.square().mean().sqrt(),
                "This is the root of the mean square norm; take the mean of the norms.",
            ),
            (
                norms.mean() / d**0.5,
                "Turned round: this is what the mean norm is now, in units of the root of the width.",
            ),
            (len(x) ** 0.5 / norms.mean(), "The width is the number of columns, not of activations."),
            (d**0.5 / x.mean(dim=0).norm(), "This is the norm of the mean activation; take the mean of the norms."),
        ],
        said="Right. One number, measured on some thousand activations, and stored with the SAE.",
    )


def check_fair_gap(answer: object) -> None:
    """``answer(l0s, scores, l0, score)``: how far an SAE's score lies above a baseline's at the SAE's own L0."""
    l0s, scores, l0, score = np.array([160.0, 80.0, 40.0, 20.0]), np.array([0.70, 0.62, 0.52, 0.40]), 50.0, 0.66
    order = np.argsort(l0s)
    level = np.interp(l0, l0s[order], scores[order])
    compare(
        answer,
        (l0s, scores, l0, score),
        score - level,
        [
            (
                score - scores[np.argmin(abs(l0s - l0))],
                "This takes the baseline at the nearest L0; draw a line between the two neighbours.",
            ),
            (score - scores.max(), "The best score of the baseline has another L0: more active latents explain more."),
            (score - scores.mean(), "A mean over L0s is the baseline at none of them."),
            (level - score, "The sign is wrong: above the baseline is positive."),
            (
                score - np.interp(l0, np.sort(l0s), scores),
                "The L0s were sorted and the scores were not: sort both alike.",
            ),
            (
                score - np.interp(l0, l0s, scores),
                "np.interp wants L0s that rise: sort them first, and the scores with them.",
            ),
            (level, "This is the baseline's score at that L0; how far is the SAE above it?"),
        ],
        said="Right. Compare at one L0, or the difference is that of the L0s.",
    )


def check_explained_at(answer: object) -> None:
    """``answer(sae, x, factor)``: explained variance with activations multiplied before and divided after."""
    sae, x = _example()
    factor = 4.0
    with torch.no_grad():
        there, as_given = sae(x * factor), sae(x)
        compare(
            answer,
            (sae, x, factor),
            by_scale(sae, x).set_index("convention").at["times 4", "explained_variance"],
            [
                (
                    explained_variance(x, there),
                    "The reconstruction is in the SAE's scale: divide before you compare with x.",
                ),
                (explained_variance(x, as_given), "The SAE read x as it is: multiply before it reads."),
                (
                    explained_variance(x, sae(x / factor) * factor),
                    "The wrong way round: multiply before, divide after.",
                ),
                (explained_variance(x * factor, as_given), "Only what is compared was scaled, not what the SAE read."),
            ],
            said="Right. Nothing stops an SAE at the wrong scale: it gives a score, and the score is wrong.",
        )


def _example():
    """A small SAE, calibrated to activations whose norms differ and whose mean is not 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=generator) * torch.rand(200, 1, generator=generator) * 3 + torch.arange(8.0) / 4
    sae = SAE(8, 32, TopK(4)).eval()
    sae.calibrate(x)
    return sae, x

"""Checks for the exercises of the chapter *Soft-Frozen Decoder*."""

import torch
from torch.nn.functional import normalize

from saebook.exercises import compare
from saelite.baselines import project_to_cone


def check_held_back(answer: object) -> None:
    """``answer(cosines, fires, tau)``: of the latents that fire, the share that lies on the edge of its cone."""
    tau = 0.8
    cosines = torch.tensor([0.8, 0.9, 0.8, 0.8, 1.0, 0.8005, 1.0, 0.95, 0.8002, 0.99])
    fires = torch.tensor([True, True, True, False, False, True, False, True, True, True])
    edge = cosines < tau + 1e-3
    compare(
        answer,
        (cosines, fires, tau),
        edge[fires].double().mean(),
        [
            (edge.double().mean(), "Latents that never fire are counted too; they matter to no score."),
            ((cosines < tau)[fires].double().mean(), "None is below tau: that is the rule. Allow 0.001 above it."),
            ((cosines <= tau)[fires].double().mean(), "Rounding moves some a hair above tau: allow 0.001."),
            ((edge & fires).double().mean(), "Divide by the number of latents that fire, not by that of all latents."),
            ((~edge)[fires].double().mean(), "This is the share inside the cone, which the rule did not hold back."),
            (edge[fires].double().sum(), "This is how many; the question is for a share."),
        ],
        said="Right. Where this share is small, the rule held little back: an equal score is no surprise.",
    )


def check_nearest_in_cone(answer: object) -> None:
    """``answer(vectors, starts, tau)``: for every row the unit vector with cosine of at least tau to its start."""
    tau = 0.8
    starts = normalize(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), dim=1)
    vectors = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.3, 0.0], [2.0, -1.0, 1.5]])  # the second lies inside
    right = project_to_cone(vectors, starts, tau)
    unit = normalize(vectors, dim=1)
    along = (unit * starts).sum(dim=1, keepdim=True)
    across = normalize(unit - along * starts, dim=1)
    edge = tau * starts + (1 - tau**2) ** 0.5 * across
    inside = along >= tau

    def where_outside(moved):
        return torch.where(inside, unit, moved)

    compare(
        answer,
        (vectors, starts, tau),
        right,
        [
            (edge, "A vector that lies inside its cone is moved to the edge too: the rule leaves it where it is."),
            (
                where_outside(normalize(tau * starts + (1 - tau) * unit, dim=1)),
                "This mixes start and vector; its cosine to the start is not tau. Use the part *across* the start.",
            ),
            (
                where_outside(normalize(tau * starts + (1 - tau**2) ** 0.5 * unit, dim=1)),
                "The vector still holds a part along its start: take that off before you scale the rest.",
            ),
            (
                where_outside(tau * starts + (1 - tau**2) ** 0.5 * (unit - along * starts)),
                "The part across the start has a length of its own: divide by it before you scale.",
            ),
            (where_outside(starts), "This puts a vector that has left back on its start, not on the edge of the cone."),
            (
                torch.where(inside, vectors, edge),
                "Directions have unit norm: a vector inside its cone keeps its direction and gets length 1.",
            ),
        ],
        said="Right. The nearest point keeps the side to which the vector leans, and gives up the rest.",
    )

"""Checks for the exercises of the chapter *Beyond independence*."""

import functools
import math

import numpy as np
import torch

from saebook.exercises import compare
from saelite.synthetic import FeatureWorld, constant_probabilities


def check_largest_lean(answer: object) -> None:
    """``answer(bar)``: the largest cosine to a leader of a direction that still has cosine `bar` to its own feature."""
    bar = 0.9
    right = math.sqrt(1 - bar**2)
    compare(
        answer,
        (bar,),
        right,
        [
            (1 - bar, "Cosines do not add up to 1; for two features at right angles their squares may add up to 1."),
            (1 - bar**2, "This is the square of the lean; take the root."),
            (
                right / bar,
                "This is how much of the leader comes with each unit of the member; divide by the length of the mix.",
            ),
            (math.acos(bar), "This is the angle to the member; the lean is the cosine to the leader."),
        ],
        said="Right. A direction can pass a high bar and still hold a good part of another feature.",
    )


def check_best_l0(answer: object) -> None:
    """``answer(l0s, trained, floor)``: the L0 at which the trained score is furthest above the floor at the same L0."""
    l0s, trained, floor = (
        np.array([4, 8, 16, 32]),
        np.array([0.30, 0.55, 0.70, 0.75]),
        np.array([0.10, 0.20, 0.45, 0.65]),
    )
    compare(
        answer,
        (l0s, trained, floor),
        l0s[np.argmax(trained - floor)],
        [
            (
                l0s[np.argmax(trained)],
                "This is where the score is highest; with more active latents its floor is, too.",
            ),
            (np.argmax(trained - floor), "This is the place in the list; return the L0 that stands there."),
            (
                l0s[np.argmax(trained / floor)],
                "A ratio makes much of small floors: here take the difference, in shares of the variance.",
            ),
            ((trained - floor).max(), "This is the largest distance; return the L0 at which it is reached."),
        ],
        said="Right. A score is read against what nothing scores at the same L0.",
    )


def check_control_world(answer: object) -> None:
    """``answer(world)``: a FeatureWorld with the same features and frequencies, in which all come independently."""
    settings = {"d_in": 6, "seed": 3, "groups": 4, "open_probability": 0.3}
    world = FeatureWorld(constant_probabilities(12, 1.5), **settings, leaders=True)

    def facts(made):
        if not isinstance(made, FeatureWorld):
            raise TypeError(f"it should give a FeatureWorld, not {type(made).__name__}")
        same = torch.equal(made.features, world.features) if made.features.shape == world.features.shape else False
        return np.array([*made.probabilities.tolist(), made.groups, made.noise, same], dtype=float)

    @functools.wraps(answer)
    def described(world):
        made = answer(world)
        return None if made is None or made is Ellipsis else facts(made)

    n = len(world.probabilities)
    even = constant_probabilities(n, world.probabilities.sum().item())
    compare(
        described,
        (world,),
        facts(FeatureWorld(world.probabilities, world.d_in, world.sigma, world.seed)),
        [
            (
                facts(FeatureWorld(even, world.d_in, world.sigma, world.seed)),
                "Here all features are equally frequent, so two things differ; keep the frequencies of the world.",
            ),
            (facts(world), "This world still has its groups: leave them out, so that features come independently."),
            (
                facts(FeatureWorld(world.probabilities, world.d_in, world.sigma, world.seed + 1)),
                "The features differ: they follow from world.seed and world.d_in, so pass both.",
            ),
        ],
        said="Right. What still differs between the two worlds is the hierarchy alone.",
    )

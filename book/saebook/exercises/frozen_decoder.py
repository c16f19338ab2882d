"""Checks for the exercises of the chapter *Frozen Decoder*."""

import torch

from saebook.exercises import compare


def check_share_of_room(answer: object) -> None:
    """``answer(trained, frozen, floor)``: where the frozen score lies, from the floor (0) to the trained (1)."""
    trained, frozen, floor = 0.8, 0.5, 0.3
    compare(
        answer,
        (trained, frozen, floor),
        (frozen - floor) / (trained - floor),
        [
            (frozen / trained, "This is frozen / trained, which takes the floor for something that was learned."),
            (frozen - floor, "This is how far the frozen score is above the floor; divide it by the room there is."),
            ((trained - frozen) / (trained - floor), "This is what is missing: 1 minus it is the share that is there."),
            ((frozen - floor) / trained, "The room ends at the trained score but begins at the floor, not at 0."),
        ],
        said="Right. At 0 frozen directions do no better than the floor; at 1 training them gains nothing.",
    )


def check_best_cosine(answer: object) -> None:
    """``answer(directions, target)``: the largest cosine of any direction (n, d) to one target (d,)."""
    directions = torch.tensor([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0], [-1.0, -1.0, -1.0]])
    target = torch.tensor([0.5, 0.5, 0.5])
    cosines = torch.nn.functional.cosine_similarity(directions, target[None])
    compare(
        answer,
        (directions, target),
        cosines.max(),
        [
            ((directions @ target).max(), "These are dot products: divide by both lengths to get cosines."),
            ((directions @ target / directions.norm(dim=1)).max(), "The directions are normalised, the target is not."),
            ((directions @ target / target.norm()).max(), "The target is normalised, the directions are not."),
            (cosines.abs().max(), "A direction that points the other way is no match: leave the sign in."),
            (cosines.mean(), "This is the mean over directions; the question is for the nearest one."),
        ],
        said="Right. Take the maximum over directions for one target; recovery then asks how many targets pass a bar.",
    )

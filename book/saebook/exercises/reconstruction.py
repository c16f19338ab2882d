"""Checks for the exercises of the chapter *Reconstruction, and what the model makes of it*."""

import numpy as np
import pandas as pd

from saebook.exercises import compare
from saelite.statistics import summarise


def check_loss_recovered(answer: object) -> None:
    """``answer(loss, model, ablated)``: the avoided share of an ablation's damage, from losses in nats."""
    loss, model, ablated = 4.1, 3.6, 8.6
    compare(
        answer,
        (loss, model, ablated),
        (ablated - loss) / (ablated - model),
        [
            (
                (loss - model) / (ablated - model),
                "This is the share of the damage that is left: 1 minus it is avoided.",
            ),
            ((ablated - loss) / ablated, "The best loss to be had is the model's own, not 0: the room ends there."),
            (ablated - loss, "This is the damage that is avoided, in nats; divide it by all the damage there was."),
            (model / loss, "A ratio of two losses does not say what an ablation would have done: where is its loss?"),
            ((loss - ablated) / (ablated - model), "The sign is wrong: a loss below that of the ablation is a gain."),
        ],
        said="Right. It is 0 for the ablation and 1 for the model itself, and it hangs on which ablation that is.",
    )


def check_against_mean(answer: object) -> None:
    """``answer(recovered, model, zero, mean)``: loss recovered compared with the mean, from that compared with zero."""
    recovered, model, zero, mean = 0.9, 3.6, 11.6, 6.6
    loss = zero - recovered * (zero - model)
    compare(
        answer,
        (recovered, model, zero, mean),
        (mean - loss) / (mean - model),
        [
            (recovered, "That is the share of zero's damage; the mean does less damage, so the share of it differs."),
            (loss, "This is the loss with the reconstruction in place; now compare it with the mean's."),
            (
                (zero - loss) / (mean - model),
                "The damage that is avoided now counts from the mean's loss, not from zero's.",
            ),
            ((loss - model) / (mean - model), "This is the share of the mean's damage that is left."),
        ],
        said="Right. The same reconstruction, the same loss, another number: only the comparison has changed.",
    )


def check_one_number(answer: object) -> None:
    """``answer(saved, lost)``: loss recovered over many texts, from sums in nats of each text (n,)."""
    saved, lost = np.array([4.5, 3.4, 5.4, -0.6]), np.array([5.0, 4.0, 6.0, 0.2])
    items = pd.DataFrame({"score": saved / lost, "weight": lost, "item": range(4), "metric": "loss recovered"})
    compare(
        answer,
        (saved, lost),
        summarise(items, ["metric"])["score"].iloc[0],
        [
            (
                (saved / lost).mean(),
                "This is the mean of the texts' shares: the last text, with little to lose, decides it.",
            ),
            (
                np.median(saved / lost),
                "A median of shares drops just the texts that are odd; weigh texts by what they lose.",
            ),
            ((saved / lost).clip(0, 1).mean(), "Clipping hides a text that got worse; count it, at its own weight."),
            (saved.sum(), "This is the loss saved in all; divide it by the loss that there was to save."),
        ],
        said="Right. A ratio of sums is the mean of the texts' shares, each weighted by what its ablation costs.",
    )

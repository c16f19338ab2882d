"""Checks for the exercises of the chapter *Why would TopK recover features and BatchTopK not?*"""

import torch
from torch.nn.functional import normalize

from saebook.exercises import compare


def check_active_per_sample(answer: object) -> None:
    """``answer(pre, k)``: how many latents of each sample BatchTopK keeps, from pre-activations (n, m). Shape (n,)."""
    pre = torch.tensor([[9.0, 8.0, 7.0, 1.0], [3.0, 2.0, 0.5, 0.1], [6.0, 0.4, 0.3, -1.0]])
    k = 2
    n = len(pre)

    def kept(number):
        return pre >= pre.flatten().topk(number).values.min()

    compare(
        answer,
        (pre, k),
        kept(n * k).sum(dim=1),
        [
            (torch.full((n,), k), "This is TopK, where every sample gets k; in BatchTopK samples compete for them."),
            (
                kept(k).sum(dim=1),
                "These are the k largest of the whole batch; there are k for each sample, so n times k.",
            ),
            (kept(n * k).sum(dim=1) / n, "These are shares; the number of active latents of each sample is asked for."),
            (
                (pre > 0).sum(dim=1),
                "These are all positive pre-activations, as a ReLU keeps them; keep the n times k largest.",
            ),
        ],
        said="Right. The first sample is large, and takes latents that TopK would have given to the others.",
    )


def check_best_of_the_living(answer: object) -> None:
    """``answer(features, W_dec, fired)``: each feature's (n, d) best cosine to a direction (m, d) that fired."""
    features = normalize(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, -0.2, -0.3]]), dim=1)
    W_dec = torch.tensor([[2.0, 0.1, 0.0], [0.1, 3.0, 0.3], [1.0, 2.0, 0.5], [0.5, 0.5, 1.0], [-1.0, 0.0, 0.0]])
    fired = torch.tensor([True, False, True, True, False])
    cosines = features @ normalize(W_dec, dim=1).T
    compare(
        answer,
        (features, W_dec, fired),
        cosines[:, fired].max(dim=1).values,
        [
            (
                cosines.max(dim=1).values,
                "Dead latents are still among these: their directions stay where they started, and may lie near a "
                "feature that they never stand for.",
            ),
            (cosines[:, ~fired].max(dim=1).values, "These are the dead latents; take those that fired."),
            (
                (cosines * fired).max(dim=1).values,
                "A dead latent's cosine set to 0 can still be the largest, if all others are negative: leave it out.",
            ),
            (
                (features @ W_dec[fired].T).max(dim=1).values,
                "These are scalar products: divide each direction by its length to get cosines.",
            ),
        ],
        said="Right. A direction that no sample uses should not count as found.",
    )

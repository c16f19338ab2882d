"""Untrained and shuffled things: what a score means nothing at, since nothing was learned to reach it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.functional import normalize

from saelite.activation_functions import ActivationFunction, TopK
from saelite.metrics import evaluate, explained_variance_interval
from saelite.sae import SAE, check_finite

if TYPE_CHECKING:
    from saelite.data.language_models import LanguageModel


def nulls(
    fit: torch.Tensor, x: torch.Tensor, *, l0: int, d_sae: int, seed: int = 0, groups: Any = None
) -> pd.DataFrame:
    """Three scores of explained variance that need no learned dictionary.

    - *mean prediction*: always the mean of `fit`.
    - *random dictionary*: an untrained SAE, `iso` directions, the `l0` largest matches of each sample, one gain.
    - *PCA*: the first `l0` principal components of `fit`, as many numbers per sample as the SAE has active latents.

    Parameters
    ----------
    fit : tensor of shape (m, d_in)
        What the nulls may look at.
    x : tensor of shape (n, d_in)
        What they are tested on.
    l0 : int
    d_sae : int
        Size of the random dictionary.
    seed : int
    groups : as in :func:`evaluate`

    Returns
    -------
    pandas.DataFrame with columns null, explained_variance, low, high; l0 and dead for the random dictionary

    Examples
    --------
    >>> x = torch.randn(600, 8) * torch.tensor([4.0, 3, 1, 1, 1, 1, 1, 1])
    >>> nulls(x[:500], x[500:], l0=2, d_sae=16)["null"].tolist()
    ['random dictionary', 'mean prediction', 'PCA with 2 components']
    """
    check_finite(fit)
    check_finite(x)
    rows = [{"null": "random dictionary"} | evaluate(untrained(TopK(l0), fit, d_sae, seed), x, groups).row()]
    exact = x.double()  # in float32 a mean far above the spread would swallow the principal components
    pca = PCA(min(l0, fit.shape[1]), svd_solver="covariance_eigh").fit(
        (fit.double() - fit.double().mean(dim=0)).numpy()
    )
    centred = exact - fit.double().mean(dim=0)
    projected = torch.from_numpy(pca.inverse_transform(pca.transform(centred.numpy())))
    for name, left_over in {
        "mean prediction": centred,
        f"PCA with {pca.n_components_} components": centred - projected,
    }.items():
        error = left_over.square().sum(dim=1).numpy()
        value, low, high = explained_variance_interval(x, error, groups)
        rows.append({"null": name, "explained_variance": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def untrained(activation: ActivationFunction, sample: torch.Tensor, d_sae: int, seed: int = 0) -> SAE:
    """An SAE that was never trained: random directions, and the few scalars that a first sample sets.

    It is the floor of every evaluation: what a score is worth that an untrained SAE reaches shows nothing learned.

    Parameters
    ----------
    activation : ActivationFunction
    sample : tensor of shape (n, d_in)
        Activations to calibrate on (:meth:`saelite.sae.SAE.calibrate`); the first 4,096 are used.
    d_sae : int
    seed : int
        Of the `iso` directions.
    """
    sae = SAE(sample.shape[1], d_sae, activation, seed=seed).eval()
    sae.calibrate(sample[:4096])
    return sae


class Neurons(nn.Module):
    """The coordinates of an activation taken for latents: what there is without an SAE.

    Each coordinate is standardised and counts as two latents, one per sign. They are active above one threshold for
    all, set so that `l0` of them are on average. There is no decoder.

    Parameters
    ----------
    sample : tensor of shape (n, d_in)
        Sets means, standard deviations and the threshold.
    l0 : int
        Below ``2 * d_in``.
    """

    def __init__(self, sample: torch.Tensor, l0: int):
        super().__init__()
        self.register_buffer("mean", sample.mean(dim=0))
        self.register_buffer("std", sample.std(dim=0).clamp(min=1e-12))
        self.register_buffer("threshold", torch.zeros(()))
        standard = self.encode(sample)
        kept = min(l0 * len(sample), standard.numel())
        self.threshold.copy_(standard.flatten().topk(kept, sorted=True).values[-1].clamp(min=0))

    def encode(self, activations: torch.Tensor) -> torch.Tensor:
        """Shapes (batch, d_in) to (batch, 2 * d_in), non-negative."""
        standard = (activations - self.mean) / self.std
        standard = torch.cat([standard, -standard], dim=1)
        return standard * (standard > self.threshold)


def reinitialised(lm: LanguageModel, seed: int = 0) -> LanguageModel:
    """The same architecture and tokenizer with all weights drawn anew, as before any training (Heap et al.,
    arXiv:2501.17727, who also try milder forms that keep some weights).

    Parameters
    ----------
    lm : LanguageModel
    seed : int

    Returns
    -------
    LanguageModel
    """
    from transformers import AutoModelForCausalLM  # seconds to import, and nothing else here needs it

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(lm.model.config, trust_remote_code=False)
    model = model.to(lm.device, lm.dtype).eval().requires_grad_(False)
    return dataclasses.replace(lm, model=model, name=f"{lm.name}, re-initialised with seed {seed}")


def permuted(x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Activations whose coordinates are each permuted over samples, independently of one another.

    Every coordinate keeps its distribution; what coordinates had to do with each other is gone, and with it any
    direction that stood for something. Explained variance still means what it did. What is scored through a model or
    a text (cross-entropy, probing, descriptions) means nothing here: a sample belongs to no token any more.

    Parameters
    ----------
    x : tensor of shape (n, d_in)
    seed : int

    Returns
    -------
    tensor of shape (n, d_in)
    """
    rng = np.random.default_rng(seed)
    return torch.stack([column[torch.from_numpy(rng.permutation(len(x)))] for column in x.T], dim=1)


def shared_latents(sae: SAE, other: SAE, threshold: float = 0.7) -> dict[str, float]:
    """The share of an SAE's latents that another SAE has too (Paulo & Belrose, arXiv:2501.16615).

    Latents are matched one to one, so that the sum of the cosines between decoder directions is largest. A latent is
    shared if the decoder directions of its pair, and also their encoder directions, have a cosine above `threshold`.

    Parameters
    ----------
    sae, other : SAE
        Of the same width.
    threshold : float
        0.7 in that paper.

    Returns
    -------
    dict
        shared: share of latents; mean_cosine: of the matched decoder directions.
    """
    decoder = normalize(sae.W_dec.detach(), dim=1) @ normalize(other.W_dec.detach(), dim=1).T
    encoder = normalize(sae.W_enc.detach(), dim=0).T @ normalize(other.W_enc.detach(), dim=0)
    pairs = linear_sum_assignment(decoder.numpy(), maximize=True)
    decoder, encoder = decoder[pairs], encoder[pairs]
    both = (decoder > threshold) & (encoder > threshold)
    return {"shared": both.double().mean().item(), "mean_cosine": decoder.double().mean().item()}

"""How well an SAE reconstructs, how sparse it is, and what it recovers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from saelite import arguments
from saelite.data.batches import rows
from saelite.sae import SAE, check_finite
from saelite.statistics import ratio_interval

if TYPE_CHECKING:
    from saelite.data.store import ActivationStore

Array = torch.Tensor | np.ndarray

MOST_DRAWN = 50_000  # of more samples, or groups of them, the bootstrap draws so many sets of about equal size
RESAMPLES = 999


def explained_variance(x: Array, x_hat: Array) -> float:
    """Share of the variance that a reconstruction explains: ``1 - sum ||x - x_hat||^2 / sum ||x - mean||^2``.

    Equation 5 of Korznikov et al. 2026; the mean is over all samples, sums are in float64. Predicting the mean scores
    0, a perfect reconstruction 1, and there is no lower end. Shifting or scaling x and x_hat together changes nothing.

    Parameters
    ----------
    x, x_hat : tensors or arrays of shape (..., d_in)

    Returns
    -------
    float
        NaN or minus infinity where all activations are the same: there is no variance to explain.

    Raises
    ------
    ValueError
        If the two differ in shape, are empty, or hold NaN or infinity.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> explained_variance(x, x), explained_variance(x, x.mean(dim=0).expand(2, 2))
    (1.0, 0.0)
    """
    x, x_hat = torch.as_tensor(x), torch.as_tensor(x_hat)
    if x.shape != x_hat.shape:
        raise ValueError(f"x_hat has shape {tuple(x_hat.shape)} but x has {tuple(x.shape)}; they must match.")
    x, x_hat = (one.flatten(0, -2) if one.ndim > 2 else one for one in (x, x_hat))
    check_finite(x)
    if not x_hat.isfinite().all():
        raise ValueError("The reconstruction has NaN or infinity in it: look for them in the SAE's weights.")
    x, x_hat = x.double(), x_hat.double()
    return 1 - ((x - x_hat).square().sum() / (x - x.mean(dim=0)).square().sum()).item()


@dataclass(frozen=True)
class Scores:
    """What :func:`evaluate` measures.

    Attributes
    ----------
    explained_variance : float
    low, high : float
        95% bootstrap interval of the explained variance over samples (or groups of them); NaN from a single one. It
        speaks of the sample that the SAE was tested on, not of other seeds.
    l0 : float
        Mean number of active latents per sample.
    dead : float in [0, 1]
        Share of latents that fired on none of the samples.
    firing_frequency : tensor of shape (d_sae,), values in [0, 1]
        Share of samples on which each latent fired.
    error : float64 array of shape (n,)
        Squared error of each sample.
    """

    explained_variance: float
    low: float
    high: float
    l0: float
    dead: float
    firing_frequency: torch.Tensor
    error: np.ndarray

    def row(self) -> dict[str, float]:
        """The scalars, for a table."""
        return {name: value for name, value in vars(self).items() if name not in ("firing_frequency", "error")}


@torch.no_grad()
def evaluate(
    sae: SAE | torch.nn.Module,
    x: Array | ActivationStore | Iterable[torch.Tensor],
    groups: Array | None = None,
    chunk: int = 4096,
) -> Scores:
    """Explained variance, L0, dead latents and firing frequencies of an SAE on activations it was not trained on.

    A latent fires on a sample if its code is not 0, whatever its sign.

    Parameters
    ----------
    sae : SAE
        Or any module with ``encode`` and ``decode``.
    x : tensor, array or memory map of shape (..., d_in), or what else :func:`saelite.data.batches.rows` takes
        Of any floating type. It is read twice, `chunk` samples at a time, so it may be larger than memory.
    groups : int array of shape (n,), optional
        What the bootstrap draws: tokens of one text are not independent, so give the number of each token's text.
    chunk : int
        Samples at a time.

    Raises
    ------
    ValueError
        If `x` holds no activations, or NaN or infinity, or is of another width than the SAE, or `groups` of another
        length.

    Examples
    --------
    >>> from saelite.activation_functions import TopK
    >>> sae, x = SAE(8, 64, TopK(4)), torch.randn(5, 200, 8)
    >>> sae.calibrate(x[0])
    >>> scores = evaluate(sae, x.half().numpy())
    >>> scores.l0, scores.firing_frequency.shape
    (4.0, torch.Size([64]))
    """
    x = rows(x)
    n, device = len(x), next(sae.parameters()).device
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups holds {len(groups)} numbers for {n} activations; it needs one for each.")
    parts = [slice(i, i + chunk) for i in range(0, n, chunk)]
    mean = sum(x[part].double().sum(dim=0) for part in parts) / n
    if not mean.isfinite().all():
        raise ValueError("Some activations have NaN or infinity in them; drop those rows.")
    errors, variances, fired = [], [], 0
    for part in parts:
        code = sae.encode(given := x[part].to(device))
        errors.append((given - sae.decode(code)).double().square().sum(dim=1).cpu())
        variances.append((given.double() - mean.to(device)).square().sum(dim=1).cpu())
        fired = fired + (code != 0).sum(dim=0).cpu()
    error, frequency = torch.cat(errors).numpy(), fired.double() / n
    interval = _with_interval(error, torch.cat(variances).numpy(), groups)
    return Scores(*interval, fired.sum().item() / n, (fired == 0).double().mean().item(), frequency, error)


def explained_variance_interval(
    x: torch.Tensor, error: np.ndarray, groups: Array | None = None
) -> tuple[float, float, float]:
    """Explained variance from squared errors (n,) of x (n, d_in), with a bootstrap interval over groups of samples.

    Returns
    -------
    (value, low, high)
        low and high are NaN from a single group: nothing tells how much another would differ.
    """
    variance = (x.double() - x.double().mean(dim=0)).square().sum(dim=1).numpy()
    return _with_interval(error, variance, groups)


def _with_interval(error: np.ndarray, variance: np.ndarray, groups: Array | None) -> tuple[float, float, float]:
    groups = np.arange(len(error)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    error, variance = (np.bincount(groups % MOST_DRAWN, values) for values in (error, variance))
    return 1 - error.sum() / variance.sum(), *ratio_interval(variance - error, variance, RESAMPLES)


def best_cosines(features: Array, W_dec: Array) -> torch.Tensor:
    """For each true feature the largest cosine to any decoder direction: ``max_j cos(f_i, W_dec_j)``, equation 6.

    Parameters
    ----------
    features : tensor of shape (n_features, d_in)
    W_dec : tensor of shape (d_sae, d_in)

    Returns
    -------
    tensor of shape (n_features,), values in [-1, 1]
    """
    return _cosines(features, W_dec).max(dim=1).values


def matched_cosines(features: Array, W_dec: Array) -> torch.Tensor:
    """For each true feature the cosine to a decoder direction of its own: no direction may serve two features.

    The matching is the one with the largest sum of cosines (``scipy.optimize.linear_sum_assignment``). A feature left
    over, when there are more features than latents, gets -1. Shapes and range as in :func:`best_cosines`.
    """
    cosines = _cosines(features, W_dec)
    taken, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    matched = torch.full((len(features),), -1.0)
    matched[taken] = cosines[taken, columns]
    return matched


def recovery(
    features: Array, W_dec: Array, threshold: float = 0.8, probabilities: torch.Tensor | None = None
) -> dict[str, float]:
    """How many true features a dictionary holds.

    Parameters
    ----------
    features : tensor of shape (n_features, d_in)
    W_dec : tensor of shape (d_sae, d_in)
    threshold : float in [-1, 1]
        A feature is recovered when its cosine is above this; 0.8 in the paper.
    probabilities : tensor of shape (n_features,), optional
        How often each feature is present; without it the weighted score is left out.

    Returns
    -------
    dict
        recovered: share of features recovered by equation 6; recovered_one_to_one: the same with every direction used
        at most once; mean_best_cosine; recovered_by_frequency: share of all *occurrences* of features that belong to
        recovered ones.

    Raises
    ------
    ValueError
        If features and directions differ in width, or are none, or a number is out of range.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> recovery(axes, 2 * axes[:3])
    {'recovered': 0.75, 'recovered_one_to_one': 0.75, 'mean_best_cosine': 0.75}
    """
    arguments.between(-1, 1, threshold=threshold)
    if probabilities is not None and len(probabilities) != len(features):
        raise ValueError(f"There are {len(probabilities)} probabilities for {len(features)} features; give each one.")
    best, matched = best_cosines(features, W_dec), matched_cosines(features, W_dec)
    scores = {
        "recovered": (best > threshold).double().mean().item(),
        "recovered_one_to_one": (matched > threshold).double().mean().item(),
        "mean_best_cosine": best.double().mean().item(),
    }
    if probabilities is not None:
        scores["recovered_by_frequency"] = (probabilities[best > threshold].sum() / probabilities.sum()).item()
    return scores


class WatchRecovery:
    """Follows recovery over training: ``train(..., watch=WatchRecovery(features))`` adds it to the history.

    Parameters
    ----------
    features : tensor of shape (n_features, d_in)
    threshold : float
        As in :func:`recovery`.
    """

    def __init__(self, features: torch.Tensor, threshold: float = 0.8) -> None:
        self.features, self.threshold = features, threshold

    def settings(self) -> dict[str, Any]:
        """What it follows from, for the key of a result in the cache."""
        return {"features": hashlib.sha256(self.features.numpy().tobytes()).hexdigest(), "threshold": self.threshold}

    def __call__(self, sae: SAE) -> dict[str, float]:
        """Columns of the history: two of :func:`recovery`, and the standard deviation of log encoder norms."""
        best = best_cosines(self.features, sae.W_dec.cpu())
        return {
            "recovered": (best > self.threshold).double().mean().item(),
            "mean_best_cosine": best.mean().item(),
            "spread_of_encoder_norms": sae.W_enc.detach().norm(dim=0).log().std().item(),
        }


def _cosines(features: Array, W_dec: Array) -> torch.Tensor:
    features, W_dec = torch.as_tensor(features), torch.as_tensor(W_dec)
    for name, directions in (("features", features), ("W_dec", W_dec)):
        if directions.ndim != 2 or not len(directions) or not directions.isfinite().all():
            raise ValueError(
                f"{name} must be finite directions of shape (n, d_in), with n of 1 or more, not {name} of shape "
                f"{tuple(directions.shape)}{' with NaN or infinity' if len(directions) else ''}."
            )
    if features.shape[1] != W_dec.shape[1]:
        raise ValueError(
            f"Features have {features.shape[1]} dimensions and W_dec has {W_dec.shape[1]}; they must match."
        )
    return normalize(features, dim=1) @ normalize(W_dec.detach().to(features), dim=1).T

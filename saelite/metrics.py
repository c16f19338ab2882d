"""How well an SAE reconstructs, how sparse it is, and what it recovers."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import bootstrap
from torch.nn.functional import normalize

from saelite import arguments
from saelite.sae import check_finite


def explained_variance(x, x_hat):
    """Share of the variance that a reconstruction explains: ``1 - sum ||x - x_hat||^2 / sum ||x - mean||^2``.

    Equation 5 of Korznikov et al. 2026; the mean is over all samples, sums are in float64. Predicting the mean scores
    0, a perfect reconstruction 1, and there is no lower end. Shifting or scaling x and x_hat together changes nothing.

    Parameters
    ----------
    x, x_hat : tensors of shape (n, d_in)

    Returns
    -------
    float
        NaN or minus infinity where all activations are the same: there is no variance to explain.

    Raises
    ------
    ValueError
        If the two differ in shape, are empty, or hold NaN or infinity.
    """
    check_finite(x)
    if x.shape != x_hat.shape:
        raise ValueError(f"A reconstruction of shape {tuple(x_hat.shape)} is none of activations {tuple(x.shape)}.")
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

    def row(self):
        """The scalars, for a table."""
        return {
            "explained_variance": self.explained_variance,
            "low": self.low,
            "high": self.high,
            "l0": self.l0,
            "dead": self.dead,
        }


@torch.no_grad()
def evaluate(sae, x, groups=None, chunk=4096):
    """Explained variance, L0, dead latents and firing frequencies of an SAE on activations it was not trained on.

    Parameters
    ----------
    sae : SAE
    x : tensor of shape (n, d_in)
    groups : int array of shape (n,), optional
        What the bootstrap draws: tokens of one text are not independent, so give the number of each token's text.
    chunk : int
        Samples at a time.

    Returns
    -------
    Scores
    """
    check_finite(x)
    if groups is not None and len(groups) != len(x):
        raise ValueError(f"groups holds {len(groups)} numbers for {len(x)} activations; it needs one for each.")
    errors, fired, active = [], torch.zeros(sae.d_sae, dtype=torch.float64), 0
    for part in x.split(chunk):
        code = sae.encode(part.to(sae.W_dec.device))
        errors.append((part - sae.decode(code).cpu()).double().square().sum(dim=1))
        fires = code != 0
        fired += fires.sum(dim=0).cpu()
        active += fires.sum().item()
    error = torch.cat(errors).numpy()
    value, low, high = explained_variance_interval(x, error, groups)
    return Scores(value, low, high, active / len(x), (fired == 0).double().mean().item(), fired / len(x), error)


def best_cosines(features, W_dec):
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


def matched_cosines(features, W_dec):
    """For each true feature the cosine to a decoder direction of its own: no direction may serve two features.

    The matching is the one with the largest sum of cosines (``scipy.optimize.linear_sum_assignment``). A feature left
    over, when there are more features than latents, gets -1.

    Returns
    -------
    tensor of shape (n_features,), values in [-1, 1]
    """
    cosines = _cosines(features, W_dec)
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    matched = torch.full((len(features),), -1.0)
    matched[rows] = cosines[rows, columns]
    return matched


def recovery(features, W_dec, threshold=0.8, probabilities=None):
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
        hit = (best > threshold).to(probabilities.dtype)
        scores["recovered_by_frequency"] = ((hit * probabilities).sum() / probabilities.sum()).item()
    return scores


class WatchRecovery:
    """Follows recovery over training: ``train(..., watch=WatchRecovery(features))`` adds it to the history.

    Parameters
    ----------
    features : tensor of shape (n_features, d_in)
    threshold : float
        As in :func:`recovery`.
    """

    def __init__(self, features, threshold=0.8):
        self.features, self.threshold = features, threshold

    def settings(self):
        return {"features": hashlib.sha256(self.features.numpy().tobytes()).hexdigest(), "threshold": self.threshold}

    def __call__(self, sae):
        best = best_cosines(self.features, sae.W_dec.cpu())
        spread = sae.W_enc.detach().norm(dim=0).log().std().item()
        return {
            "recovered": (best > self.threshold).double().mean().item(),
            "mean_best_cosine": best.mean().item(),
            "spread_of_encoder_norms": spread,  # standard deviation of their logarithms
        }


def _cosines(features, W_dec):
    for name, directions in (("features", features), ("W_dec", W_dec)):
        if directions.ndim != 2 or not len(directions) or not directions.isfinite().all():
            raise ValueError(
                f"{name} must be finite directions of shape (n, d_in), with n of 1 or more, not {name} of shape "
                f"{tuple(directions.shape)}{' with NaN or infinity' if len(directions) else ''}."
            )
    if features.shape[1] != W_dec.shape[1]:
        raise ValueError(
            f"Features have {features.shape[1]} dimensions and W_dec has {W_dec.shape[1]}: they must agree."
        )
    return normalize(features, dim=1) @ normalize(W_dec.detach().to(features), dim=1).T


def explained_variance_interval(x, error, groups=None, level=0.95, resamples=999):
    """Explained variance from squared errors (n,) of x (n, d_in), with a bootstrap interval over groups of samples.

    Returns
    -------
    (value, low, high)
        low and high are NaN from a single group: nothing tells how much another would differ.
    """
    variance = (x.double() - x.double().mean(dim=0)).square().sum(dim=1).numpy()
    groups = np.arange(len(error)) if groups is None else np.unique(groups, return_inverse=True)[1]
    error, variance = np.bincount(groups, error), np.bincount(groups, variance)

    def statistic(e, v, axis):
        return 1 - e.sum(axis=axis) / v.sum(axis=axis)

    if len(error) == 1:
        return statistic(error, variance, 0), np.nan, np.nan
    interval = bootstrap(
        (error, variance), statistic, paired=True, vectorized=True, n_resamples=resamples, batch=100,
        confidence_level=level, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return statistic(error, variance, 0), interval.low, interval.high

"""The three baselines: what training may not change (Korznikov et al. 2026, section 4.1).

Each one is a rule of two parts. ``freeze`` runs once, when the SAE is made, and takes parameters out of training.
``constrain`` runs after every optimiser step and puts the decoder back where it has to be. An SAE without a baseline is
the fully trained one; its only rule is that decoder directions have unit norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from saelite.sae import SAE


class Baseline:
    """A rule for training. Derive your own from it: what it is made with are its attributes.

    Examples
    --------
    >>> class Thawing(Baseline):
    ...     name = "Thawing Decoder"
    ...     def constrain(self, sae, step):
    ...         if step < 100:
    ...             sae.W_dec.data.copy_(sae.W_dec_start)
    """

    name = "baseline"

    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain JSON values, for checkpoints and the cache."""
        return dict(vars(self))

    def freeze(self, sae: SAE) -> None:
        """Take parameters out of training; runs once, when the SAE is made."""

    @torch.no_grad()
    def constrain(self, sae: SAE, step: int) -> None:
        """Put back what the optimiser's step number `step`, counted from 0, moved too far."""


class FullyTrained(Baseline):
    """Everything trains; decoder directions are kept at unit norm, so that a latent's value is its size in x."""

    name = "fully trained"

    @torch.no_grad()
    def constrain(self, sae: SAE, step: int) -> None:
        normalize(sae.W_dec, dim=1, out=sae.W_dec.data)


class FrozenDecoder(Baseline):
    """Decoder directions are random and never updated; the encoder and both biases train."""

    name = "Frozen Decoder"

    def freeze(self, sae: SAE) -> None:
        sae.W_dec.requires_grad_(False)


class SoftFrozenDecoder(Baseline):
    """Decoder directions stay within a cone around their start: ``cos(W_dec_j, W_dec_start_j) >= tau``.

    The start is random in the paper. For the variant that starts from a trained SAE, pass its decoder as `init` of
    :class:`saelite.sae.SAE`.

    Parameters
    ----------
    tau : float in [0, 1]
        0.8 in the paper. 1 is a Frozen Decoder; 0 allows the whole half space.
    """

    name = "Soft-Frozen Decoder"

    def __init__(self, tau: float = 0.8) -> None:
        if not 0 <= tau <= 1:
            raise ValueError(f"tau is a cosine and must lie in [0, 1]; it is {tau}.")
        self.tau = tau

    @torch.no_grad()
    def constrain(self, sae: SAE, step: int) -> None:
        sae.W_dec.copy_(project_to_cone(sae.W_dec, sae.W_dec_start, self.tau))


class FrozenEncoder(Baseline):
    """Encoder directions are random and never updated; thresholds, biases and the decoder train.

    ``W_enc`` is ``W_dec_start.T`` times the one gain that :meth:`saelite.sae.SAE.calibrate` sets, bit for bit.
    The decoder's norms are free here: with a frozen encoder and unit norms nothing could set the gain of a latent.
    """

    name = "Frozen Encoder"

    def freeze(self, sae: SAE) -> None:
        sae.W_enc.requires_grad_(False)


def project_to_cone(vectors: torch.Tensor, axes: torch.Tensor, tau: float) -> torch.Tensor:
    """The unit vectors nearest to `vectors` among those with cosine of at least `tau` to `axes`, row by row.

    Parameters
    ----------
    vectors : tensor of shape (n, d)
    axes : tensor of shape (n, d), rows of unit norm
    tau : float in [0, 1]

    Returns
    -------
    tensor of shape (n, d), rows of unit norm. A vector that is zero or lies opposite its axis has no nearest point; it
    is put back on its axis.
    """
    unit = normalize(vectors, dim=1)
    cosine = (unit * axes).sum(dim=1, keepdim=True)
    across = unit - cosine * axes
    across -= (across * axes).sum(dim=1, keepdim=True) * axes  # once more: rounding leaves a trace of the axis behind
    length = across.norm(dim=1, keepdim=True)
    edge = tau * axes + (1 - tau**2) ** 0.5 * across / length.clamp(min=1e-12)
    lost = length < 1e-6
    inside = (cosine >= tau) & (unit != 0).any(dim=1, keepdim=True)
    return torch.where(inside, unit, torch.where(lost, axes, edge))

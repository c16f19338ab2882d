"""Random decoder directions: what an SAE knows before it has been trained."""

import hashlib

import torch
from torch.nn.functional import normalize

from saelite import arguments


def iso(d_sae: int, d_in: int, seed: int = 0) -> torch.Tensor:
    """Directions uniform on the unit sphere.

    The seed is mixed with the name of the start. So these are never the directions of a toy world that somebody drew
    with ``torch.manual_seed(seed)``: a Frozen Decoder would hold the truth then, and score for it.

    Parameters
    ----------
    d_sae, d_in : int
        Number of directions and their dimension.
    seed : int

    Returns
    -------
    float32 tensor of shape (d_sae, d_in), rows of unit norm

    Raises
    ------
    ValueError
        For a number below 1, or directions that do not fit the memory.

    Examples
    --------
    >>> directions = iso(6, 4, seed=1)
    >>> directions.shape, directions.norm(dim=1).allclose(torch.ones(6))
    (torch.Size([6, 4]), True)
    """
    arguments.whole(1, d_sae=d_sae, d_in=d_in)
    arguments.whole(-arguments.LARGEST_SEED, arguments.LARGEST_SEED, seed=seed)
    arguments.memory(4 * d_sae * d_in, f"{d_sae:,} directions of {d_in:,} dimensions")
    return normalize(torch.randn(d_sae, d_in, generator=_generator("iso", seed)), dim=1)


def cov(d_sae: int, sample: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Directions of zero-mean Gaussian vectors with the covariance of the activations.

    The paper's `cov` initialisation (Korznikov et al. 2026, section 4.1).

    Parameters
    ----------
    d_sae : int
        Number of directions.
    sample : tensor of shape (n, d_in)
        Activations whose covariance to use; n should be well above d_in.
    seed : int

    Returns
    -------
    float32 tensor of shape (d_sae, d_in), rows of unit norm

    Raises
    ------
    ValueError
        If the sample has fewer than two rows or is not finite.

    Examples
    --------
    >>> flat = torch.randn(1000, 3) * torch.tensor([10.0, 1.0, 0.0])
    >>> bool((cov(5, flat)[:, 2].abs() < 1e-6).all())
    True
    """
    arguments.whole(1, d_sae=d_sae)
    sample = torch.as_tensor(sample)
    if sample.ndim != 2 or len(sample) < 2:
        raise ValueError(f"cov needs a sample of shape (n, d_in) with n of 2 or more, not {tuple(sample.shape)}.")
    if not sample.isfinite().all():
        raise ValueError("cov was given a sample with NaN or infinity in it; drop those rows first.")
    sample = sample.double().cpu()
    covariance = torch.cov(sample.T).reshape(sample.shape[1], sample.shape[1])
    variances, axes = torch.linalg.eigh(covariance)
    noise = torch.randn(d_sae, len(variances), generator=_generator("cov", seed), dtype=torch.float64)
    return normalize((noise * variances.clamp(min=0).sqrt()) @ axes.T, dim=1).float()


def _generator(start: str, seed: int) -> torch.Generator:
    mixed = hashlib.sha256(f"saelite {start} {seed}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) >> 1)

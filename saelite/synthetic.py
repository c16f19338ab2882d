"""Synthetic activations whose true features are known (Korznikov et al. 2026, section 3 and appendix B).

A sample is ``x = sum_i b_i c_i f_i``: features f_i uniform on the unit sphere, each present (b_i) with its own
probability p_i, independently, with a log-normal coefficient c_i. No noise, no bias.

The paper names independence as a limitation. So features may also come in groups that open and close as a whole, which
correlates them, with or without a leader in each group, which makes a hierarchy; and noise may be added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from saelite import arguments
from saelite.initialisation import iso
from saelite.kernels.sparse import Support, decode


def constant_probabilities(n_features: int = 3200, mean_active: float = 20.0) -> torch.Tensor:
    """Every feature equally likely: the paper's constant setting, p = 0.00625. Float64, shape (n_features,)."""
    _check_size(n_features)
    arguments.between(0, n_features, mean_active=mean_active)
    return torch.full((n_features,), mean_active / n_features, dtype=torch.float64)


def log_uniform_probabilities(
    n_features: int = 3200, low: float = -5.5, high: float = -1.2, seed: int = 0
) -> torch.Tensor:
    """Probabilities 10^u with u uniform on [low, high]: the paper's variable setting. Float64, shape (n_features,).

    With the default range 20.4 features are present on average.
    """
    _check_size(n_features)
    arguments.whole(-arguments.LARGEST_SEED, arguments.LARGEST_SEED, seed=seed)
    exponents = torch.rand(n_features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 10 ** (low + (high - low) * exponents)


def _check_size(n_features: int) -> None:
    arguments.whole(1, n_features=n_features)
    arguments.memory(8 * n_features, f"{n_features:,} features")


# The number of the features' random stream; batches count up from 0.
FEATURES = 2**32


class FeatureWorld:
    """True features, how often each is present, and a sampler.

    Parameters
    ----------
    probabilities : tensor of shape (n_features,), values in [0, 1)
    d_in : int
        Dimension of the activations; fewer than features, so that they stand in superposition.
    sigma : float
        Standard deviation of the logarithm of a coefficient. The paper writes Log-Normal(0, 0.25) and does not say
        whether 0.25 is sigma or the variance; pass 0.5 for the other reading.
    seed : int
        Seed of the features.
    groups : int
        Number of groups of equal size, feature i in group ``i % groups``; 0 for independent features.
    open_probability : float in (0, 1]
        How often a group is open. While it is closed its features are absent; each keeps its own probability overall.
    leaders : bool
        The first feature of each group is present exactly while its group is open, so the others never come without it.
        Its probability is then `open_probability`.
    noise : float
        Standard deviation of Gaussian noise on every dimension. A feature has norm 1, so ``1 / sqrt(d_in)`` is noise
        as long as a feature.

    Attributes
    ----------
    features : float32 tensor of shape (n_features, d_in), rows of unit norm
    d_in : int

    Raises
    ------
    ValueError
        For a number out of range, or groups that do not fit the features.

    Examples
    --------
    >>> world = FeatureWorld(constant_probabilities(50, mean_active=2), d_in=16)
    >>> world.features.shape, world.batches(batch_size=8, n_batches=3)[0].shape
    (torch.Size([50, 16]), torch.Size([8, 16]))
    """

    def __init__(
        self, probabilities: torch.Tensor | Sequence[float], d_in: int = 100, sigma: float = 0.25, seed: int = 0,
        groups: int = 0, open_probability: float = 1.0, leaders: bool = False, noise: float = 0.0,
    ) -> None:  # fmt: skip
        arguments.whole(1, d_in=d_in)
        arguments.whole(0, arguments.LARGEST_SEED, seed=seed)
        arguments.whole(0, groups=groups)
        probabilities = torch.as_tensor(probabilities, dtype=torch.float64).clone()
        if groups and len(probabilities) % groups:
            raise ValueError(f"{len(probabilities)} features cannot be split into {groups} groups of one size.")
        if leaders:
            probabilities[:groups] = open_probability
        if not ((probabilities >= 0) & (probabilities < 1)).all():
            raise ValueError("Every feature's probability must lie in [0, 1).")
        if groups and not probabilities.max() <= open_probability <= 1:
            raise ValueError(
                f"A group that is open with probability {open_probability} cannot hold a feature that is present "
                f"with probability {probabilities.max():.3g}; open_probability must lie between that and 1."
            )
        arguments.between(0, 10, sigma=sigma)  # beyond, coefficients overflow float32
        arguments.between(0, 1e6, noise=noise)
        self.probabilities, self.sigma, self.seed = probabilities, sigma, seed
        self.groups, self.open_probability, self.leaders, self.noise = groups, open_probability, leaders, noise
        # A stream of its own: drawn from the bare seed, the features would be the very directions that an SAE of the
        # same seed starts from, and every feature would be recovered before training.
        self.d_in, self.features = d_in, iso(len(probabilities), d_in, _mix(seed, FEATURES))

    def sample_code(self, n: int, generator: torch.Generator) -> tuple[Support, torch.Tensor]:
        """The features present in `n` samples and their coefficients: ``(Support, values (nnz,))``.

        Nothing of size n x n_features is made.
        """
        hits = self._in_groups(n, generator) if self.groups else bernoulli(self.probabilities, n, generator)
        support = Support.at(hits, (n, len(self.probabilities)))
        return support, torch.exp(self.sigma * torch.randn(len(hits), generator=generator))

    def _in_groups(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Open groups, and in each its features with what probability is left to them."""
        size = len(self.probabilities) // self.groups
        opened = bernoulli(torch.full((self.groups,), self.open_probability, dtype=torch.float64), n, generator)
        rows, group = opened // self.groups, opened % self.groups
        features = group[:, None] + self.groups * torch.arange(size)
        chosen = torch.rand(features.shape, generator=generator) < self.probabilities[features] / self.open_probability
        return (rows[:, None] * len(self.probabilities) + features)[chosen].sort().values

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Activations of `n` samples. Shape (n, d_in), float32."""
        support, values = self.sample_code(n, generator)
        x = decode(support, values, self.features)
        return x + self.noise * torch.randn(x.shape, generator=generator) if self.noise else x

    def batches(self, batch_size: int, n_batches: int, seed: int = 0) -> SyntheticBatches:
        """A sequence of `n_batches` fresh batches; the i-th follows from (seed, i) alone, whenever it is asked for."""
        return SyntheticBatches(self, batch_size, n_batches, seed)


class SyntheticBatches(Sequence):
    """Batches of a :class:`FeatureWorld`, made when asked for. ``settings`` says all that they follow from."""

    def __init__(self, world: FeatureWorld, batch_size: int, n_batches: int, seed: int) -> None:
        arguments.whole(1, batch_size=batch_size, n_batches=n_batches)
        arguments.whole(0, arguments.LARGEST_SEED, seed=seed)
        present = float(world.probabilities.sum())
        arguments.memory(batch_size * (4 * world.d_in + 24 * present), f"Batches of {batch_size:,} samples")
        self.world, self.batch_size, self.n_batches, self.seed = world, batch_size, n_batches, seed

    def __len__(self) -> int:
        return self.n_batches

    def __getitem__(self, i: int) -> torch.Tensor:
        """Batch `i`, of shape (batch_size, d_in)."""
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        generator = torch.Generator().manual_seed(_mix(self.seed, i % len(self)))
        return self.world.sample(self.batch_size, generator)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the batches follow from, as plain JSON values."""
        world = self.world
        return {
            "source": "synthetic",
            "d_in": world.d_in,
            "probabilities": [float(p) for p in world.probabilities],
            "sigma": world.sigma,
            "groups": [world.groups, world.open_probability, world.leaders],
            "noise": world.noise,
            "features": hashlib.sha256(world.features.numpy().tobytes()).hexdigest()[:16],
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


def bernoulli(probabilities: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Which of some events happen in each of `n` samples, independently.

    Returns flat places in an (n, events) table, ascending, as int64.

    Throw a Poisson number of darts at the n samples for each event, with mean ``-n log(1 - p)``; it happens in a sample
    if at least one dart hits it. Poisson counts split over samples are independent, so each sample is hit with
    probability ``1 - exp(log(1 - p)) = p``, exactly and independently of every other.
    """
    darts = torch.poisson(-n * torch.log1p(-probabilities.clamp(max=1 - 1e-12)), generator=generator).long()
    events = torch.arange(len(darts)).repeat_interleave(darts)
    rows = torch.randint(n, (len(events),), generator=generator)
    hits = np.sort((rows * len(darts) + events).numpy())
    return torch.from_numpy(hits[np.diff(hits, prepend=-1) > 0])  # numpy 2.4's unique takes a thousand times as long


def _mix(seed: int, i: int) -> int:
    """One well-mixed 64-bit seed from two small numbers."""
    return int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] & np.uint64(2**63 - 1))

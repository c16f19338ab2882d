"""Synthetic activations whose true features are known (Korznikov et al. 2026, section 3 and appendix B).

A sample is ``x = sum_i b_i c_i f_i``: features f_i uniform on the unit sphere, each present (b_i) with its own
probability p_i, independently, with a log-normal coefficient c_i. No noise, no bias.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from saelite.initialisation import iso
from saelite.sparse import Support, decode


def constant_probabilities(n_features=3200, mean_active=20.0):
    """Every feature equally likely: the paper's constant setting, p = 0.00625. Tensor of shape (n_features,)."""
    return torch.full((n_features,), mean_active / n_features, dtype=torch.float64)


def log_uniform_probabilities(n_features=3200, low=-5.5, high=-1.2, seed=0):
    """Probabilities 10^u with u uniform on [low, high]: the paper's variable setting.

    Returns
    -------
    float64 tensor of shape (n_features,). With the default range 20.4 features are present on average.
    """
    exponents = torch.rand(n_features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 10 ** (low + (high - low) * exponents)


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

    Attributes
    ----------
    features : float32 tensor of shape (n_features, d_in), rows of unit norm
    """

    def __init__(self, probabilities, d_in=100, sigma=0.25, seed=0):
        probabilities = torch.as_tensor(probabilities, dtype=torch.float64)
        if not ((probabilities >= 0) & (probabilities < 1)).all():
            raise ValueError("Every feature's probability must lie in [0, 1).")
        if sigma < 0:
            raise ValueError(f"sigma is a standard deviation and cannot be {sigma}.")
        self.probabilities, self.sigma, self.seed = probabilities, sigma, seed
        # A stream of its own: drawn from the bare seed, the features would be the very directions that an SAE of the
        # same seed starts from, and every feature would be recovered before training.
        self.features = iso(len(probabilities), d_in, _mix(seed, FEATURES))

    @property
    def d_in(self):
        return self.features.shape[1]

    def sample_code(self, n, generator):
        """The features present in `n` samples and their coefficients: ``(Support, values (nnz,))``.

        Nothing of size n x n_features is made. Throw a Poisson number of darts at the n samples for each feature, with
        mean ``-n log(1 - p)``; a sample holds the feature if at least one dart hits it. Poisson counts split over
        samples are independent, so each sample is hit with probability ``1 - exp(log(1 - p)) = p``, exactly and
        independently of every other.
        """
        darts = torch.poisson(-n * torch.log1p(-self.probabilities), generator=generator).long()
        features = torch.arange(len(darts)).repeat_interleave(darts)
        rows = torch.randint(n, (len(features),), generator=generator)
        hits = torch.unique(rows * len(darts) + features)
        rows = torch.div(hits, len(darts), rounding_mode="floor")
        values = torch.exp(self.sigma * torch.randn(len(hits), generator=generator))
        return Support(rows, hits - rows * len(darts), (n, len(darts))), values

    def sample(self, n, generator):
        """Activations of `n` samples. Shape (n, d_in), float32."""
        support, values = self.sample_code(n, generator)
        return decode(support, values, self.features)

    def batches(self, batch_size, n_batches, seed=0):
        """A sequence of `n_batches` fresh batches; the i-th follows from (seed, i) alone, whenever it is asked for."""
        return SyntheticBatches(self, batch_size, n_batches, seed)


class SyntheticBatches(Sequence):
    """Batches of a :class:`FeatureWorld`, made when asked for. ``settings`` says all that they follow from."""

    def __init__(self, world, batch_size, n_batches, seed):
        if batch_size < 1 or n_batches < 1:
            raise ValueError(f"Batches need a size and a number of 1 or more, not {batch_size} and {n_batches}.")
        self.world, self.batch_size, self.n_batches, self.seed = world, batch_size, n_batches, seed

    def __len__(self):
        return self.n_batches

    def __getitem__(self, i):
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        generator = torch.Generator().manual_seed(_mix(self.seed, i % len(self)))
        return self.world.sample(self.batch_size, generator)

    @property
    def settings(self):
        world = self.world
        return {
            "source": "synthetic",
            "d_in": world.d_in,
            "probabilities": [float(p) for p in world.probabilities],
            "sigma": world.sigma,
            "features": hashlib.sha256(world.features.numpy().tobytes()).hexdigest()[:16],
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


def _mix(seed, i):
    """One well-mixed 64-bit seed from two small numbers."""
    return int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] & np.uint64(2**63 - 1))

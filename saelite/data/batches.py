"""Batches of one's own activations."""

import torch

from saelite import arguments


class TensorBatches:
    """Shuffled batches of activations in memory, one pass, for :func:`saelite.training.train_or_load`.

    Parameters
    ----------
    x : tensor of shape (n, d_in)
    batch_size : int
    settings : dict
        What `x` follows from, as plain JSON values.
    seed : int
        Of the order.

    Raises
    ------
    ValueError
        If there are fewer activations than one batch takes, or `batch_size` is no whole number of 1 or more.
    """

    def __init__(self, x, batch_size, settings, seed=0):
        arguments.whole(1, batch_size=batch_size)
        if len(x) < batch_size:
            raise ValueError(f"There are {len(x):,} activations, too few for one batch of {batch_size:,}.")
        self.x, self.batch_size = x, batch_size
        self.order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        self.settings = settings | {"batch_size": batch_size, "order": seed}

    def __len__(self):
        return len(self.x) // self.batch_size

    def __getitem__(self, i):
        """Return batch `i`, a tensor of shape (batch_size, d_in)."""
        if not 0 <= i < len(self):
            raise IndexError(f"There is no batch {i}: there are {len(self)}, from 0.")
        return self.x[self.order[i * self.batch_size : (i + 1) * self.batch_size]]

"""Controls: data in which there is nothing to find, and how alike two dictionaries are.

A score that stays as high where the model never learned anything, or where the data have lost their structure, does not
speak of features of the model.
"""

import dataclasses

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM

from saelite import arguments
from saelite.data.language_models import LanguageModel


def reinitialised(lm: LanguageModel, seed=0) -> LanguageModel:
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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(lm.model.config, trust_remote_code=False)
    model = model.to(lm.device, lm.dtype).eval().requires_grad_(False)
    return dataclasses.replace(lm, model=model, name=f"{lm.name}, re-initialised with seed {seed}")


def permuted(x, seed=0):
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


def shared_latents(sae, other, threshold=0.7):
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

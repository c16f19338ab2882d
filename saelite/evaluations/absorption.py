"""Absorption and hedging, measured where the true features are known.

Both are ways for an SAE to explain more variance with a latent that is not a feature. *Absorption* (Chanin et al.,
arXiv:2409.14507): where a child never comes without its parent, the child's latent takes over the parent's direction,
and the parent's latent stays silent although the parent is present. *Hedging* (Chanin et al., arXiv:2505.11756): an SAE
too narrow for all features bends a latent towards a feature that often comes with its own.

On a language model nobody knows when a feature is present, so that silence may be right. Here the sampler says it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import cosine_similarity

from saelite.evaluations.latents import strengths
from saelite.metrics import _cosines
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld


def absorption(
    sae: SAE, world: FeatureWorld, pairs: Sequence[tuple[int, int]], n: int = 20_000, seed: int = 0
) -> pd.DataFrame:
    """Does the parent's latent fire when the parent is present, with and without a child?

    Each feature of `pairs` is given a latent of its own, so that the sum of the cosines between features and decoder
    directions is largest.

    Parameters
    ----------
    sae : SAE
    world : FeatureWorld
        Says which features are present in each sample.
    pairs : list of (parent, child)
        Numbers of features; a parent may have several children. In a world in which they are independent the same
        pairs make a control.
    n : int
        Samples to draw.
    seed : int
        Of the samples.

    Returns
    -------
    pandas.DataFrame, one row per pair
        parent, child, parent_latent, child_latent; cosine (of the parent's latent to the parent); alone, together
        (samples in which the parent is present without any child of `pairs`, and with this child); fires_alone,
        fires_together (share of those in which the parent's latent fires; NaN where there are none); absorbed (share of
        `together` in which it is silent while the child's latent fires); lean (cosine of the child's latent to the
        parent); true_cosine (of the two features, which `lean` would be if the child's latent were the child).
        Pairs of one parent share its latent, so they are one cluster for :mod:`saelite.statistics`.

    Raises
    ------
    ValueError
        If there is no pair, a pair does not name two features of the world, or there are fewer latents than features
        in the pairs.
    """
    if not len(pairs):
        raise ValueError("Give at least one pair of a parent and a child.")
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= feature < len(world.features) for feature in pair):
            raise ValueError(f"{tuple(pair)} does not name two features of a world that has {len(world.features)}.")
    wanted = np.unique(pairs)
    if len(wanted) > sae.d_sae:
        raise ValueError(f"The pairs name {len(wanted)} features, more than the SAE has latents ({sae.d_sae}).")
    cosines = _cosines(world.features, sae.W_dec).numpy()
    latents = linear_sum_assignment(cosines[wanted], maximize=True)[1]

    # The sampler draws presence first: from the same seed, these are the features of those very samples.
    x = world.sample(n, torch.Generator().manual_seed(seed))
    support, _ = world.sample_code(n, torch.Generator().manual_seed(seed))
    present = np.zeros(support.shape, dtype=bool)
    present[support.rows, support.latents] = True
    fires = strengths(sae, x, latents).cpu().numpy() > 0

    parent, child = np.transpose(pairs)
    of_parent, of_child = np.searchsorted(wanted, [parent, child])  # their places in `latents`
    together = present[:, parent] & present[:, child]
    some_child = np.stack([present[:, child[parent == one]].any(axis=1) for one in parent], axis=1)
    alone = present[:, parent] & ~some_child
    return pd.DataFrame(
        {
            "parent": parent,
            "child": child,
            "parent_latent": latents[of_parent],
            "child_latent": latents[of_child],
            "cosine": cosines[parent, latents[of_parent]],
            "alone": alone.sum(axis=0),
            "together": together.sum(axis=0),
            "fires_alone": _share(fires[:, of_parent], alone),
            "fires_together": _share(fires[:, of_parent], together),
            "absorbed": _share(~fires[:, of_parent] & fires[:, of_child], together),
            "lean": cosines[parent, latents[of_child]],
            "true_cosine": cosine_similarity(world.features[parent], world.features[child], dim=1).numpy(),
        }
    )


def hedging(features: torch.Tensor, W_dec: torch.Tensor, partner: torch.Tensor | Sequence[int]) -> pd.DataFrame:
    """How far each latent leans from its own feature to the one that comes with it.

    Parameters
    ----------
    features : tensor of shape (n_features, d_in)
    W_dec : tensor of shape (d_sae, d_in)
        Leave out dead latents: their directions are where they started.
    partner : int tensor of shape (n_features,)
        For each feature the number of the one that it is correlated with.

    Returns
    -------
    pandas.DataFrame, one row per latent
        latent, feature (the one with the largest cosine), cosine, lean (cosine to that feature's partner), true_cosine
        (of the two features, which `lean` would be if the latent were the feature).

    Raises
    ------
    ValueError
        If `partner` does not name another feature for each feature.
    """
    partner, everyone = torch.as_tensor(partner), torch.arange(len(features))
    if partner.shape != everyone.shape or not torch.isin(partner, everyone).all():
        raise ValueError(f"`partner` must name one of the {len(features)} features for each of them.")
    if (partner == everyone).any():
        raise ValueError("`partner` must name another feature: a feature cannot be its own.")
    cosines = _cosines(features, W_dec)
    own, feature = cosines.max(dim=0)
    latents = torch.arange(len(W_dec))
    columns = {
        "latent": latents,
        "feature": feature,
        "cosine": own,
        "lean": cosines[partner[feature], latents],
        "true_cosine": cosine_similarity(features, features[partner], dim=1)[feature],
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def _share(which, among):
    """The share of samples `among` which something holds, by column; NaN where there are none."""
    return pd.Series((which & among).sum(axis=0)) / among.sum(axis=0)

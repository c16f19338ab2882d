"""Absorption and hedging, measured where the true features are known.

Both are ways for an SAE to explain more variance with a latent that is not a feature. *Absorption* (Chanin et al.,
arXiv:2409.14507): where a child never comes without its parent, the child's latent takes over the parent's direction,
and the parent's latent stays silent although the parent is present. *Hedging* (Chanin et al., arXiv:2505.11756): an SAE
too narrow for all features bends a latent towards a feature that often comes with its own.

On a language model nobody knows when a feature is present, so that silence may be right. Here the sampler says it.
"""

import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from saelite.metrics import _cosines

COLUMNS = [
    "parent", "child", "parent_latent", "child_latent", "cosine", "alone", "together", "fires_alone", "fires_together",
    "absorbed", "lean", "true_cosine",
]  # fmt: skip


@torch.no_grad()
def absorption(sae, world, pairs, n=20_000, seed=0, chunk=4096):
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
    chunk : int
        Samples that are encoded at a time.

    Returns
    -------
    pandas.DataFrame, one row a pair
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
    wanted = _features_of(pairs, len(world.features))
    if len(wanted) > sae.d_sae:
        raise ValueError(f"The pairs name {len(wanted)} features, more than the SAE has latents ({sae.d_sae}).")
    cosines = _cosines(world.features, sae.W_dec)
    places, latents = linear_sum_assignment(cosines[wanted].numpy(), maximize=True)
    latent_of = {wanted[place]: int(latent) for place, latent in zip(places, latents, strict=True)}

    # The sampler draws presence first: from the same seed, these are the features of those very samples.
    x = world.sample(n, torch.Generator().manual_seed(seed))
    support, _ = world.sample_code(n, torch.Generator().manual_seed(seed))
    present = torch.zeros(support.shape, dtype=torch.bool)
    present[support.rows, support.latents] = True
    columns = list(latent_of.values())
    code = torch.cat([sae.encode(part.to(sae.W_dec.device))[:, columns].cpu() for part in x.split(chunk)])
    fires = dict(zip(latent_of, (code > 0).T, strict=True))

    rows = []
    for parent, child in pairs:
        children = [other for first, other in pairs if first == parent]
        alone = present[:, parent] & ~present[:, children].any(dim=1)
        together = present[:, parent] & present[:, child]
        swallowed = ~fires[parent] & fires[child]
        rows.append(
            [
                parent, child, latent_of[parent], latent_of[child], cosines[parent, latent_of[parent]].item(),
                int(alone.sum()), int(together.sum()), _share(fires[parent][alone]), _share(fires[parent][together]),
                _share(swallowed[together]), cosines[parent, latent_of[child]].item(),
                torch.dot(*normalize(world.features[[parent, child]], dim=1)).item(),
            ]
        )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def hedging(features, W_dec, partner):
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
    pandas.DataFrame, one row a latent
        latent, feature (the one with the largest cosine), cosine, lean (cosine to that feature's partner), true_cosine
        (of the two features, which `lean` would be if the latent were the feature).

    Raises
    ------
    ValueError
        If `partner` does not name another feature for each feature.
    """
    partner = torch.as_tensor(partner)
    everyone = torch.arange(len(features))
    if partner.shape != everyone.shape or not ((partner >= 0) & (partner < len(features))).all():
        raise ValueError(f"`partner` must name one of the {len(features)} features for each of them.")
    if (partner == everyone).any():
        raise ValueError("`partner` must name another feature: a feature cannot be its own.")
    cosines = _cosines(features, W_dec)
    own, feature = cosines.max(dim=0)
    latents = torch.arange(len(W_dec))
    between = (normalize(features, dim=1) * normalize(features[partner], dim=1)).sum(dim=1)
    columns = {
        "latent": latents,
        "feature": feature,
        "cosine": own,
        "lean": cosines[partner[feature], latents],
        "true_cosine": between[feature],
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def _features_of(pairs, n_features):
    """The features that pairs name, each once, ascending."""
    if not len(pairs):
        raise ValueError("Give at least one pair of a parent and a child.")
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= feature < n_features for feature in pair):
            raise ValueError(f"{tuple(pair)} does not name two features of a world that has {n_features}.")
    return sorted({feature for pair in pairs for feature in pair})


def _share(which):
    return which.double().mean().item() if len(which) else float("nan")

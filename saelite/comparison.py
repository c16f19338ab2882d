"""Fully trained SAEs and a baseline on the same data: train or load each, test all on the same held-out activations."""

import pandas as pd

from saelite import activation_functions
from saelite.metrics import evaluate
from saelite.sae import SAE
from saelite.training import train_or_load


def architectures_at(l0, names):
    """Activation functions by name, all at one L0.

    Parameters
    ----------
    l0 : int
        Active latents per sample.
    names : list of str
        From ReLU, TopK, BatchTopK, JumpReLU.

    Returns
    -------
    list of activation functions

    Raises
    ------
    ValueError
        For a name that is not among them.
    """
    classes = {name: kind for name, kind in vars(activation_functions).items() if isinstance(kind, type)}
    known = [name for name, kind in classes.items() if hasattr(kind, "select") and not name.startswith("_")]
    for name in names:
        if name not in known:
            raise ValueError(f"There is no architecture {name!r}; choose from {', '.join(known)}.")
    return [getattr(activation_functions, name)(l0) for name in names]


def compare(variants, batches, held_out, *, d_sae, seed=0, groups=None, progress=True, **training):
    """Train or load an SAE for every variant and test it on held-out activations.

    Parameters
    ----------
    variants : list of (activation function, baseline or None, init)
        ``init`` is "iso" or a tensor of directions.
    batches : sequence of tensors with ``settings``
        The same batches, in the same order, for all.
    held_out : tensor of shape (n, d_in)
    d_sae : int
    seed : int
        Of the directions.
    groups : int array of shape (n,), optional
        See :func:`saelite.metrics.evaluate`.
    training
        As in :func:`saelite.training.train`.

    Returns
    -------
    (saes, histories, table)
        Two dictionaries keyed by (architecture, baseline), and a pandas.DataFrame with columns architecture, baseline,
        explained_variance, low, high, l0, dead, cosine_to_start (median).
    """
    saes, histories, rows = {}, {}, []
    for activation, baseline, init in variants:
        sae = SAE(held_out.shape[1], d_sae, activation, baseline, init=init, seed=seed)
        start = "iso" if sae.init == "iso" else "cov"
        name = sae.baseline.name if start == "iso" else f"{sae.baseline.name} ({start})"
        history = train_or_load(sae, batches, progress=progress, **training)
        saes[activation.name, name], histories[activation.name, name] = sae, history
        rows.append(
            {"architecture": activation.name, "baseline": name}
            | evaluate(sae, held_out, groups).row()
            | {"cosine_to_start": sae.cosine_to_start().median().item()}
        )
    return saes, histories, pd.DataFrame(rows)

"""The paper's grid: architectures and baselines, trained on the same batches from the same start."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from saelite import arguments
from saelite.activation_functions import ActivationFunction
from saelite.baselines import Baseline, FrozenDecoder, FrozenEncoder, SoftFrozenDecoder
from saelite.initialisation import cov
from saelite.metrics import evaluate
from saelite.reuse import train_or_load
from saelite.sae import SAE, check_finite

TRAINED = "fully trained"
Variant = tuple[str, ActivationFunction, Baseline | None, str | torch.Tensor]


def architectures_at(l0: int, names: list[str], d_sae: int) -> list[ActivationFunction]:
    """Activation functions by name, all at one L0.

    Parameters
    ----------
    l0 : int
        Active latents per sample.
    names : list of str
        From TopK, BatchTopK, RelativeBatchTopK, Matryoshka, ReLU, JumpReLU.
    d_sae : int
        Latents of the SAEs they are for. What does not fit is refused here, before any long work.

    Returns
    -------
    list of activation functions

    Raises
    ------
    ValueError
        For a name that is not among them or twice, or an L0 that does not fit the dictionary.
    """
    arguments.each_once(architectures=names)
    arguments.whole(1, d_sae=d_sae)
    activations = [arguments.chosen(ActivationFunction, name, "activation function", l0) for name in names]
    for activation in activations:
        SAE(1, d_sae, activation)
    return activations


def papers_grid(
    activations: list[ActivationFunction], sample: torch.Tensor, *, d_sae: int, seed: int = 0
) -> list[Variant]:
    """Every activation function with every variant of the paper that is not degenerate there (section 4.1, Table 1).

    Parameters
    ----------
    activations : list of activation functions
    sample : tensor of shape (n, d_in)
        Activations whose covariance the `cov` directions get.
    d_sae, seed : int

    Returns
    -------
    list of (name, activation function, baseline or None, init), for :func:`fit`
    """
    directions = cov(d_sae, sample, seed)
    rules = [
        (TRAINED, None, "iso"),
        ("Frozen Decoder", FrozenDecoder(), "iso"),
        ("Frozen Decoder (cov)", FrozenDecoder(), directions),
        ("Soft-Frozen Decoder", SoftFrozenDecoder(), "iso"),
        ("Frozen Encoder", FrozenEncoder(), "iso"),
    ]
    return [(name, activation, baseline, init) for activation in activations for name, baseline, init in rules]


def fit(
    variants: list[Variant],
    batches: Any,
    d_in: int,
    *,
    d_sae: int,
    seed: int = 0,
    progress: bool = True,
    **training: Any,
) -> tuple[dict[tuple[str, str], SAE], dict[tuple[str, str], pd.DataFrame]]:
    """Train or load an SAE for every variant.

    Parameters
    ----------
    variants : list of (name, activation function, baseline or None, init)
        The name is what tables and figures call the variant; ``init`` is "iso" or a tensor of directions.
    batches : sequence of tensors of shape (batch, d_in) with ``settings``
        The same batches, in the same order, for all.
    d_in, d_sae : int
    seed : int
        Of the directions.
    training
        As in :func:`saelite.training.train`.

    Returns
    -------
    (saes, histories)
        Two dictionaries keyed by (architecture, name); the SAEs are on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    saes, histories = {}, {}
    for variant in variants:
        if not isinstance(variant, tuple | list) or len(variant) != 4:
            raise ValueError(f"A variant is (name, activation function, baseline or None, init), not {variant!r}.")
    for name, activation, baseline, init in variants:
        if (activation.name, name) in saes:
            raise ValueError(f"There are two variants called {name!r} of {activation.name}; name them apart.")
        sae = SAE(d_in, d_sae, activation, baseline, init=init, seed=seed).to(device)
        histories[activation.name, name] = train_or_load(sae, batches, progress=progress, **training)
        saes[activation.name, name] = sae.cpu()
    return saes, histories


def fit_and_test(
    variants: list[Variant],
    batches: Any,
    held_out: torch.Tensor,
    *,
    d_sae: int,
    seed: int = 0,
    groups: Any = None,
    progress: bool = True,
    **training: Any,
) -> tuple[dict[tuple[str, str], SAE], dict[tuple[str, str], pd.DataFrame], pd.DataFrame]:
    """Train or load an SAE for every variant and test it on held-out activations.

    Parameters
    ----------
    variants, batches
        As in :func:`fit`.
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
        Two dictionaries keyed by (architecture, name), and a pandas.DataFrame with columns architecture, baseline (the
        name), explained_variance, low, high, l0, dead, cosine_to_start (median over the latents that fired).
    """
    check_finite(held_out)
    saes, histories = fit(variants, batches, held_out.shape[1], d_sae=d_sae, seed=seed, progress=progress, **training)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = []
    for (architecture, name), sae in saes.items():
        scores = evaluate(sae.to(device), held_out, groups)
        turned = sae.cpu().cosine_to_start()[scores.firing_frequency > 0].median().item()
        lines.append({"architecture": architecture, "baseline": name} | scores.row() | {"cosine_to_start": turned})
    return saes, histories, pd.DataFrame(lines)


@torch.no_grad()
def unmatched(
    sae: SAE,
    other: SAE,
    x: torch.Tensor,
    *,
    made_with: dict[str, Any],
    other_made_with: dict[str, Any],
    tolerance: float = 0.05,
    starts: bool = True,
) -> list[str]:
    """What two SAEs differ in besides the baseline's rule: a comparison of their scores needs this to be nothing.

    Parameters
    ----------
    sae, other : SAE
    x : tensor of shape (n, d_in)
        Some thousand held-out activations, on which their L0 is measured: what was asked for need not be what came out.
    made_with, other_made_with : dict
        How each was trained: data, order, steps, learning rate, in whatever words; values of one name are compared.
    tolerance : float
        Share by which the measured L0 may differ.
    starts : bool
        Whether another start counts as a difference.

    Returns
    -------
    list of str
        A sentence for each difference; empty if the two match.
    """
    ours, theirs = sae.settings(), other.settings()
    found = [
        f"{name} is {ours[name]} for one and {theirs[name]} for the other."
        for name in ("d_in", "d_sae", "activation")
        if ours[name] != theirs[name]
    ]
    start, others = sae.W_dec_start, other.W_dec_start
    if starts and start.shape == others.shape and not torch.equal(start, others):
        found.append("They start from different directions.")
    for name in dict.fromkeys([*made_with, *other_made_with]):
        if made_with.get(name) != other_made_with.get(name):
            found.append(f"{name} is {made_with.get(name)} for one and {other_made_with.get(name)} for the other.")
    if sae.d_in == other.d_in:
        l0s = [(one.encode(x.to(one.W_dec.device)) != 0).sum().item() / len(x) for one in (sae, other)]
        if abs(l0s[0] - l0s[1]) > tolerance * max(l0s):
            found.append(f"The measured L0 is {l0s[0]:.1f} for one and {l0s[1]:.1f} for the other.")
    return found

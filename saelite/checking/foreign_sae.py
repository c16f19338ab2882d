"""Checking an SAE that somebody else trained: does it fit these activations, and what is a fair baseline for it?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka
from saelite.data.language_models import SITES, LanguageModel, site_of
from saelite.data.store import ActivationStore
from saelite.formats import place_of
from saelite.grid import Variant, papers_grid
from saelite.metrics import explained_variance
from saelite.sae import SAE, check_finite

YOURS = "your SAE"
HERE = "trained here"
EVALUATIONS = ("reconstruction", "auto-interpretability", "probing", "editing")


def at_odds(
    sae: SAE,
    about: dict[str, Any],
    *,
    model: str,
    layer: int,
    d_model: int,
    site: str = "residual",
    norms_after: bool = False,
) -> list[str]:
    """Where what a checkpoint says of itself differs from what it is asked to read.

    Parameters
    ----------
    sae : SAE
    about : dict
        From :func:`saelite.formats.read`.
    model : str
        Name of the model that it is to be checked on.
    layer : int
        Decoder block whose output it is given.
    d_model : int
        Width of that output.
    site : str
        Hook point in that block, as in :func:`saelite.data.language_models.module_at`.
    norms_after : bool
        Whether the block norms what it is given before it adds it, from
        :func:`saelite.data.language_models.norms_after`.

    Returns
    -------
    list of str
        A sentence for each difference; empty if there is none, or the checkpoint says nothing.

    Raises
    ------
    ValueError
        If the SAE reads another width, so that nothing could be computed.
    """
    if sae.d_in != d_model:
        says = "" if about["model"] is None else f" (it says {about['model']!r})"
        raise ValueError(
            f"The SAE reads activations of width {sae.d_in}; layer {layer} of {model!r} gives {d_model}: name the "
            f"model that it was trained on{says}."
        )
    found = []
    if about["model"] is not None and _plain(about["model"]) != _plain(model):
        found.append(f"It says that it was trained on the model {about['model']!r}; here it reads {model!r}.")
    if about["layer"] is not None and about["layer"] != layer:
        found.append(
            f"It says that it reads {about['site'] or 'a hook'}, which is the output of layer {about['layer']} counted "
            f"from 0; here it is given that of layer {layer}."
        )
    if place_of(about["site"]) not in (None, site):
        found.append(f"It says that it reads {about['site']}; here it is given the {SITES[site].format(layer=layer)}.")
    elif norms_after and about["site"] and ("hook_" in about["site"] or about["format"] == "Gemma Scope"):
        found.append(
            f"It says that it reads {about['site']}, which in {model!r} stands after one more norm; here it is given "
            f"the {SITES[site].format(layer=layer)} before that norm."
        )
    if about["scale"] != "none":
        found.append(f"It says that activations are to be scaled before they reach it ({about['scale']}).")
    return found


@torch.no_grad()
def by_scale(sae: SAE, x: torch.Tensor, scale: float = 1.0) -> pd.DataFrame:
    """Explained variance and L0 with activations multiplied by a number before they reach the SAE, and divided after.

    An SAE trained on scaled activations whose checkpoint does not hold the scale gives poor reconstructions, and
    nothing warns of it. Then one of these does better than 1.

    Parameters
    ----------
    sae : SAE
    x : tensor of shape (n, d_in)
        Some thousand activations, as the model gives them.
    scale : float
        What the SAE was made to multiply by already, with :func:`rescale`.

    Returns
    -------
    pandas.DataFrame
        convention, factor (of the activations as the model gives them), explained_variance, l0; the first row is the
        SAE as it is now.
    """
    check_finite(x)
    norm, width = x.norm(dim=1).mean().item(), x.shape[1]
    given = "as the model gives them" if scale == 1 else f"multiplied by {scale:.4g}, as asked for"
    factors = {
        given: scale,
        "as the model gives them": 1.0,
        "mean norm sqrt(d_in)": width**0.5 / norm,
        "mean norm 1": 1 / norm,
        "root mean square norm 1": 1 / x.square().sum(dim=1).mean().sqrt().item(),
    } | {f"times {factor:g}": float(factor) for factor in 4.0 ** np.array([-3, -2, -1, 1, 2, 3])}
    rows = []
    for convention, factor in factors.items():
        further = factor / scale
        code = sae.encode(x * further)
        rows.append(
            {
                "convention": convention,
                "factor": factor,
                "explained_variance": explained_variance(x, sae.decode(code) / further),
                "l0": (code != 0).sum(dim=1).double().mean().item(),
            }
        )
    return pd.DataFrame(rows)


def scale_in_words(table: pd.DataFrame, by: float = 0.05, stated: float | None = None) -> str:
    """What a table of :func:`by_scale` says, in a sentence or two.

    Only the named conventions count. A convention speaks for itself if it explains more by `by` at least, or not much
    less with half as many active latents: an SAE with thresholds that is given too much lets too many latents pass, and
    may explain more than it was trained to. So where the L0 that it was trained for is `stated`, no convention counts
    that takes it further from that.
    """
    named = table[~table["convention"].str.startswith("times")]
    given = named.iloc[0]
    gain = named["explained_variance"] - given["explained_variance"]
    better = named[(gain >= by) | ((gain >= -2 * by) & (named["l0"] <= given["l0"] / 2))]
    if stated:
        off = np.log(named["l0"].clip(lower=1e-6) / stated).abs()
        better = better[off[better.index] <= off.iloc[0] + 0.05]
    said = (
        f"{given['convention'].capitalize()}, activations are explained to {given['explained_variance']:.2f} with an "
        f"L0 of {given['l0']:.1f}"
    )
    if better.empty:
        return f"{said}, and no usual scaling does better: nothing says that the input scale is wrong."
    best = better.loc[better["explained_variance"].idxmax()]
    return (
        f"{said}; multiplied by {best['factor']:.3g} ({best['convention']}), to {best['explained_variance']:.2f} with "
        f"{best['l0']:.1f}. The SAE was probably trained on scaled activations: check it with "
        f"scale={best['factor']:.4g}."
    )


def rescale(sae: SAE, factor: float) -> None:
    """Have an SAE multiply what it reads by `factor`, and divide what it gives. Changes it in place.

    Raises
    ------
    ValueError
        If the factor is not a finite number above 0.
    """
    if not 0 < factor < float("inf"):
        raise ValueError(f"scale={factor} must be a finite number above 0.")
    sae.input_scale.mul_(factor)


def matched(sae: SAE, l0: float, sample: torch.Tensor, *, seed: int = 0) -> list[Variant]:
    """The variants of the paper's grid that have the SAE's architecture, width and L0.

    Parameters
    ----------
    sae : SAE
        The one that is checked.
    l0 : float
        Active latents per sample that it was measured to have.
    sample : tensor of shape (n, d_in)
        Activations whose covariance the `cov` directions get.
    seed : int

    Returns
    -------
    list of (name, activation function, baseline or None, init), for :func:`saelite.grid.fit`
        The fully trained one is called "trained here". It has the baselines' data and budget, so it tells what these
        cost: the SAE that is checked may have seen a thousand times as much.

    Raises
    ------
    ValueError
        If the SAE has no active latents, or nearly all.
    """
    k = round(l0)
    if not 1 <= k <= sae.d_sae / 2:
        raise ValueError(
            f"The SAE has {l0:.1f} of {sae.d_sae} latents active per activation, so there is no sparse baseline that "
            "would match it: is it given what it was trained on?"
        )
    activation = sae.activation
    if isinstance(activation, JumpReLU) and (activation.threshold == activation.threshold[0]).all():
        made = BatchTopK(k)  # which libraries save as a JumpReLU with one threshold for all latents
    elif isinstance(activation, Matryoshka):
        made = Matryoshka(k, activation.fractions)
    else:
        made = type(activation)(k)
    grid = papers_grid([made], sample, d_sae=sae.d_sae, seed=seed)
    return [
        (HERE if baseline is None else name, activation, baseline, init) for name, activation, baseline, init in grid
    ]


def evaluation(
    name: str, lm: LanguageModel, store: ActivationStore, *, l0: int, d_sae: int, seed: int = 0
) -> tuple[Any, dict[str, float]]:
    """One of the book's evaluations at its chapter's size, with the margins of the scorecard.

    Parameters
    ----------
    name : str
        From ``EVALUATIONS``.
    lm, store
        The model, and activations harvested from it.
    l0, d_sae : int
        Of the SAEs, for floors and ceilings.
    seed : int

    Returns
    -------
    (evaluation, dict of metric to margin), for :func:`saelite.evaluations.scorecard.scorecard`

    Raises
    ------
    ValueError
        If there is no such evaluation.
    """
    # Seconds to import, which `check` on activations alone need not wait for.
    from saelite.evaluations.autointerp import AutoInterp
    from saelite.evaluations.concepts import load_concepts
    from saelite.evaluations.editing import Editing
    from saelite.evaluations.facts import city_facts, known_facts
    from saelite.evaluations.judges import EmbeddingJudge, LexicalJudge
    from saelite.evaluations.probing import Probing
    from saelite.evaluations.reconstruction import EV, RECOVERED_MEAN, Reconstruction

    layer = store.record["layer"]
    if name == "reconstruction":
        return Reconstruction(lm, store, l0=l0, d_sae=d_sae), {EV: 0.02, RECOVERED_MEAN: 0.02}
    if name == "auto-interpretability":
        judges = [LexicalJudge(), EmbeddingJudge()]
        made = AutoInterp(store, judges, lm.tokenizer, l0=l0, d_sae=d_sae, seed=seed)
        return made, {"auto-interpretability (lexical)": 0.03, "auto-interpretability (embedding)": 0.03}
    if name == "probing":
        texts, site = load_concepts(seed=seed), site_of(store.record)
        made = Probing(lm, texts, layer=layer, site=site, context=48, k=[1, 5], seed=seed)
        return made, {"probe k=1": 0.02, "probe k=5": 0.02}
    if name == "editing":
        known = known_facts(lm, city_facts(260), at_least=60)
        return Editing(lm, known, layer=layer, site=site_of(store.record), seed=seed), {"causal editing": 0.03}
    raise ValueError(f"There is no evaluation {name!r}; choose from {', '.join(EVALUATIONS)}.")


def _plain(model):
    """Last part of a model's name, without case and marks: "google/gemma-2-2b" and "gemma-2-2b" are one."""
    return "".join(sign for sign in str(model).rsplit("/", 1)[-1].lower() if sign.isalnum())

"""What single latents fire on: the tokens with the largest activations, in their context."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from saelite.data.language_models import LanguageModel
from saelite.data.splicing import run_from
from saelite.data.store import ActivationStore
from saelite.sae import SAE

CHUNK = 4096  # activations that are encoded at a time


@torch.no_grad()
def strengths(sae: nn.Module, x: torch.Tensor | ActivationStore, latents: Any = slice(None)) -> torch.Tensor:
    """How strongly latents fire on activations.

    All evaluations of single latents count a latent as active where its code is not zero. Codes may be below zero
    ("signed codes"), so the strength is their absolute value: 0 where the latent is silent.

    Parameters
    ----------
    sae : torch.nn.Module
        With ``encode``.
    x : tensor of shape (m, d_in), or ActivationStore
    latents : int tensor or array of shape (n,), or slice
        Which latents; all unless given.

    Returns
    -------
    float32 tensor of shape (m, n), on the SAE's device
    """
    device = next(iter(sae.state_dict().values())).device
    parts = (x[start : start + CHUNK].to(device) for start in range(0, len(x), CHUNK))
    return torch.cat([sae.encode(part)[:, latents].abs().float() for part in parts])


def draw_latents(sae: nn.Module, x: torch.Tensor, n: int, *, min_firing: int = 20, seed: int = 0) -> torch.Tensor:
    """Draw latents at random among those that fire often enough to be looked at.

    Drawing them is what keeps the look honest: a hand-picked latent shows what one hopes to see.

    Parameters
    ----------
    sae : torch.nn.Module
    x : tensor of shape (m, d_in)
    n : int
        How many latents; fewer if fewer qualify.
    min_firing : int
        Least number of samples in `x` on which a latent must fire.
    seed : int

    Returns
    -------
    int64 tensor of shape (n,), ascending
    """
    fired = sum((strengths(sae, part) > 0).sum(dim=0).cpu() for part in x.split(CHUNK))
    candidates = (fired >= min_firing).nonzero().squeeze(1)
    chosen = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:n]
    return candidates[chosen].sort().values


def top_contexts(
    sae: nn.Module, store: ActivationStore, latents: torch.Tensor | Sequence[int], tokenizer: PreTrainedTokenizerBase,
    n: int = 4, window: int = 12,
) -> pd.DataFrame:  # fmt: skip
    """The tokens on which each latent is most active, each with the tokens around it; one context per text row.

    Parameters
    ----------
    sae : torch.nn.Module
    store : ActivationStore
        Positions that it dropped must be at the start of a row.
    latents : int tensor
    tokenizer : a `transformers` tokenizer
    n : int
        Contexts per latent.
    window : int
        Tokens shown before and after.

    Returns
    -------
    pandas.DataFrame, one row per context
        latent, frequency (share of the store's tokens on which the latent fires), activation (at the token in the
        middle), tokens (list of str) and activations (list of float, NaN where none was kept); see :func:`strengths`.
    """
    latents, rows = torch.as_tensor(latents, dtype=torch.long), []
    for latent, values in zip(latents.tolist(), strengths(sae, store, latents).T.cpu(), strict=True):
        shown = set()
        for index in values.argsort(descending=True, stable=True).tolist():
            if values[index] == 0 or len(shown) == n:
                break
            ids, position = store.context_of(index)
            if index - position in shown:  # the row's start: a latent's best ten tokens may be side by side in one row
                continue
            shown.add(index - position)
            places = range(max(0, position - window), min(len(ids), position + window + 1))
            rows.append(
                {
                    "latent": latent,
                    "frequency": (values > 0).float().mean().item(),
                    "activation": values[index].item(),
                    "tokens": [tokenizer.decode([ids[place]]) for place in places],
                    "activations": [_activation_at(values, store, index - position, place) for place in places],
                }
            )
    return pd.DataFrame(rows, columns=["latent", "frequency", "activation", "tokens", "activations"])


def _activation_at(values, store, row_start, place):
    """The activation at `place` of the row that begins at index `row_start`; NaN if that place was dropped."""
    index = row_start + place
    if 0 <= index < len(store) and store.context_of(index)[1] == place:
        return values[index].item()
    return float("nan")


@torch.no_grad()
def logit_effect(lm: LanguageModel, sae: SAE, latents: torch.Tensor | Sequence[int], n: int = 6) -> pd.DataFrame:
    """The tokens that each latent's decoder direction raises and lowers most, read straight off the unembedding.

    The direction goes through the model's final norm and unembedding, as if no layer lay between (the "logit lens").
    Layers above may do something else with it, so for an early layer this is only a hint. What an MLP or an attention
    gives is added to the residual stream as it is, except in models that norm it first.

    Parameters
    ----------
    lm : LanguageModel
        With its tokenizer.
    sae : SAE
    latents : int tensor
    n : int
        Tokens on each side.

    Returns
    -------
    pandas.DataFrame, one row per latent
        latent, raises and lowers (lists of str, strongest first).
    """
    latents = torch.as_tensor(latents, dtype=torch.long)
    # Long enough for the norm's small constant not to matter; what the zero vector gives is no effect of a direction.
    directions = 100 * normalize(sae.W_dec[latents.to(sae.W_dec.device)], dim=1)
    hidden = torch.cat([torch.zeros_like(directions[:1]), directions]).unsqueeze(1)
    rows = []
    if len(latents):
        logits = run_from(lm, hidden, lm.n_layers - 1, use_cache=False).logits[:, 0].float()
        for latent, effect in zip(latents.tolist(), logits[1:] - logits[0], strict=True):
            top = {"raises": effect.topk(n).indices, "lowers": (-effect).topk(n).indices}
            words = {side: [lm.tokenizer.decode([token]) for token in tokens.tolist()] for side, tokens in top.items()}
            rows.append({"latent": latent} | words)
    return pd.DataFrame(rows, columns=["latent", "raises", "lowers"])

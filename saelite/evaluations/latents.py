"""What single latents fire on: the tokens with the largest activations, in their context."""

import html

import pandas as pd
import torch
from torch.nn.functional import normalize

from saelite.data.splicing import run_from

# Columns side by side where there is room for them, else one below the other.
GRID = "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem"


@torch.no_grad()
def draw_latents(sae, x, n, *, min_firing=20, seed=0, chunk=4096):
    """Draw latents at random among those that fire often enough to be looked at.

    Drawing them is what keeps the look honest: a hand-picked latent shows what one hopes to see.

    Parameters
    ----------
    sae : SAE
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
    fired = sum((sae.encode(part.to(sae.W_dec.device)) > 0).sum(dim=0).cpu() for part in x.split(chunk))
    candidates = (fired >= min_firing).nonzero().squeeze(1)
    chosen = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:n]
    return candidates[chosen].sort().values


@torch.no_grad()
def activations_of(sae, store, latents, chunk=4096):
    """Activations of some latents over a whole store.

    Parameters
    ----------
    sae : SAE
    store : ActivationStore
    latents : int tensor of shape (n,)

    Returns
    -------
    tensor of shape (len(store), n)
    """
    starts = range(0, len(store), chunk)
    return torch.cat([sae.encode(store[i : i + chunk].to(sae.W_dec.device))[:, latents].cpu() for i in starts])


def top_contexts(sae, store, latents, tokenizer, n=4, window=12):
    """The tokens on which each latent is most active, each with the tokens around it; one context a text row.

    Parameters
    ----------
    sae : SAE
    store : ActivationStore
        Whose dropped positions, if any, stand at the start of a row.
    latents : int tensor
    tokenizer : a `transformers` tokenizer
    n : int
        Contexts a latent.
    window : int
        Tokens shown before and after.

    Returns
    -------
    pandas.DataFrame, one row a context
        latent, frequency (share of the store's tokens on which the latent fires), activation (at the token in the
        middle), tokens (list of str) and activations (list of float, NaN where none was kept).
    """
    latents = torch.as_tensor(latents, dtype=torch.long)
    values = activations_of(sae, store, latents)
    rows = []
    for column, latent in enumerate(latents.tolist()):
        of_latent = values[:, column]
        frequency = (of_latent > 0).float().mean().item()
        shown = set()
        for index in of_latent.argsort(descending=True, stable=True).tolist():
            if of_latent[index] <= 0 or len(shown) == n:
                break
            ids, position = store.context_of(index)
            row_start = index - position  # the same for every token of a row
            if row_start in shown:  # one example a row of text: a latent's best ten tokens may stand side by side
                continue
            shown.add(row_start)
            places = range(max(0, position - window), min(len(ids), position + window + 1))
            around = [_activation_at(of_latent, store, index, position, place) for place in places]
            rows.append(
                {
                    "latent": latent,
                    "frequency": frequency,
                    "activation": of_latent[index].item(),
                    "tokens": [tokenizer.decode([ids[place]]) for place in places],
                    "activations": around,
                }
            )
    return pd.DataFrame(rows, columns=["latent", "frequency", "activation", "tokens", "activations"])


def _activation_at(of_latent, store, index, position, place):
    """The latent's activation at `place` of the row in which `index` stands at `position`; NaN if it was dropped."""
    other = index + place - position
    if 0 <= other < len(store) and store.context_of(other)[1] == place:
        return of_latent[other].item()
    return float("nan")


def activation_histograms(sae, store, latents, bins=20):
    """How strongly each latent fires where it does.

    Parameters
    ----------
    sae : SAE
    store : ActivationStore
    latents : int tensor
    bins : int
        Of equal width, from 0 to the latent's largest activation.

    Returns
    -------
    pandas.DataFrame, one row a latent
        latent and histogram (list of int: activations above 0 in each bin, from weak to strong).
    """
    latents = torch.as_tensor(latents, dtype=torch.long)
    rows = []
    for latent, values in zip(latents.tolist(), activations_of(sae, store, latents).T.float(), strict=True):
        fired = values[values > 0]
        counts = torch.histc(fired, bins, min=0, max=float(fired.max())) if len(fired) else torch.zeros(bins)
        rows.append({"latent": latent, "histogram": counts.int().tolist()})
    return pd.DataFrame(rows, columns=["latent", "histogram"])


@torch.no_grad()
def logit_effect(lm, sae, latents, n=6):
    """The tokens that each latent's decoder direction raises and lowers most, read straight off the unembedding.

    The direction goes through the model's final norm and unembedding, as if no layer lay between (the "logit lens");
    layers above may do something else with it, so for an early layer this is a hint and no more. Likewise for what an
    MLP or an attention gives, which is added to the residual stream as it is, but in models that norm it first.

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
    pandas.DataFrame, one row a latent
        latent, raises and lowers (lists of str, strongest first).
    """
    latents = torch.as_tensor(latents, dtype=torch.long)
    # Long enough for the norm's small constant not to matter; what the zero vector gives is no effect of a direction.
    directions = 100 * normalize(sae.W_dec[latents.to(sae.W_dec.device)], dim=1)
    hidden = torch.cat([torch.zeros_like(directions[:1]), directions]).unsqueeze(1) if len(latents) else None
    rows = []
    if hidden is not None:
        logits = run_from(lm, hidden, lm.n_layers - 1, use_cache=False).logits[:, 0].float()
        for latent, effect in zip(latents.tolist(), logits[1:] - logits[0], strict=True):
            raised, lowered = effect.topk(n).indices, (-effect).topk(n).indices
            rows.append(
                {
                    "latent": latent,
                    "raises": [lm.tokenizer.decode([token]) for token in raised.tolist()],
                    "lowers": [lm.tokenizer.decode([token]) for token in lowered.tolist()],
                }
            )
    return pd.DataFrame(rows, columns=["latent", "raises", "lowers"])


def contexts_html(tables, credit=""):
    """Tables of :func:`top_contexts` side by side, as HTML; every token is escaped.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        A heading and its contexts, such as ``{"fully trained": ..., "Frozen Decoder": ...}``; merged with
        :func:`logit_effect`, the tokens that a latent raises and lowers are shown too.
    credit : str
        Who wrote the text, and under which licence.

    Returns
    -------
    str
        The darker a token's background, the stronger the latent's activation on it, within each latent; the strongest
        token of a context is bold.
    """
    columns = "".join(
        f"<div><p><strong>{html.escape(name)}</strong></p>{_column(table)}</div>" for name, table in tables.items()
    )
    note = f'<p class="credit">Text: {html.escape(credit)}</p>' if credit else ""
    return f'<div style="{GRID}">{columns}</div>{note}'


def _column(table):
    if table.empty:
        return "<p>None of the latents fires often enough to be shown.</p>"
    blocks = []
    for latent, contexts in table.groupby("latent", sort=False):
        strongest = contexts["activation"].max()
        lines = "".join(f"<li>{_line(c.tokens, c.activations, strongest)}</li>" for c in contexts.itertuples())
        head = f"latent {latent}, fires on {contexts['frequency'].iloc[0]:.2%} of tokens"
        for effect in ("raises", "lowers"):
            if effect in contexts:
                tokens = " ".join(
                    f"<code>{html.escape(repr(token)[1:-1])}</code>" for token in contexts[effect].iloc[0]
                )
                head += f"<br>{effect} {tokens}"
        blocks.append(f"<p>{head}</p><ol>{lines}</ol>")
    return "".join(blocks)


def _line(tokens, activations, strongest):
    spans, peak = [], max((activation for activation in activations if activation > 0), default=0)
    for token, activation in zip(tokens, activations, strict=True):
        text = html.escape(token).replace("\n", "&#8629;")
        if activation > 0:  # false for NaN too
            text = f"<strong>{text}</strong>" if activation == peak else text
            colour = f"rgb(213 94 0 / {0.15 + 0.5 * activation / strongest:.0%})"  # see-through: fits light and dark
            spans.append(
                f'<mark style="background: {colour}; color: inherit; padding: 0" title="{activation:.2f}">{text}</mark>'
            )
        else:
            spans.append(text)
    return "".join(spans)

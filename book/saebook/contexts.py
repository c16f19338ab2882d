"""What latents fire on, to look at: texts with the tokens shaded, and images with the places tinted.

Korznikov et al. 2026 show latents by images at fixed percentiles of activation. Here the same pictures also say where
in the image a latent fires. Whatever becomes HTML is escaped.
"""

import base64
import html
import io
from collections.abc import Sequence

import datasets
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from torch import nn

from saelite.data.store import ActivationStore
from saelite.data.vision_models import VisionModel, seen
from saelite.evaluations.label_purity import Peaks
from saelite.evaluations.latents import strengths

PERCENTILES = (100, 75, 50, 25)
SIZE = 84  # pixels a side of a small picture
TINT = (200, 0, 150)  # few things are of this colour
# Columns side by side where there is room for them, else one below the other.
COLUMNS = "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem"
CELLS = "display: grid; grid-template-columns: repeat(auto-fill, minmax(4.4rem, 1fr)); gap: 0.4rem"
PICTURE = "padding: 0; border-radius: 0.2rem; width: 100%; display: block"  # the page pads pictures on dark


def activation_histograms(
    sae: nn.Module, store: ActivationStore, latents: torch.Tensor | Sequence[int], bins: int = 20
) -> pd.DataFrame:
    """How strongly each latent fires where it does.

    Parameters
    ----------
    sae : torch.nn.Module
    store : ActivationStore
    latents : int tensor
    bins : int
        Of equal width, from 0 to the latent's largest activation.

    Returns
    -------
    pandas.DataFrame, one row per latent
        latent and histogram (list of int: activations in each bin, from weak to strong; those of 0 are left out).
    """
    latents, rows = torch.as_tensor(latents, dtype=torch.long), []
    for latent, values in zip(latents.tolist(), strengths(sae, store, latents).T.cpu(), strict=True):
        fired = values[values > 0]
        counts = torch.histc(fired, bins, min=0, max=float(fired.max())) if len(fired) else torch.zeros(bins)
        rows.append({"latent": latent, "histogram": counts.int().tolist()})
    return pd.DataFrame(rows, columns=["latent", "histogram"])


def contexts_html(tables: dict[str, pd.DataFrame], credit: str = "") -> str:
    """Tables of :func:`saelite.evaluations.latents.top_contexts` side by side.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        A heading and its contexts, such as ``{"fully trained": ..., "Frozen Decoder": ...}``; merged with
        :func:`saelite.evaluations.latents.logit_effect`, the tokens that a latent raises and lowers are shown too.
    credit : str
        Who wrote the text, and under which licence.

    Returns
    -------
    str
        The darker a token's background, the stronger the latent's activation on it, within each latent; the strongest
        token of a context is bold.
    """
    note = f'<p class="credit">Text: {html.escape(credit)}</p>' if credit else ""
    return _side_by_side(tables, _contexts, "None of the latents fires often enough to be shown.") + note


def at_percentiles(activation: np.ndarray, percentiles: Sequence[float] = PERCENTILES) -> np.ndarray:
    """The images at some percentiles of a latent's activation, among those on which it fires.

    Parameters
    ----------
    activation : array of shape (images,)
        One latent's, from :class:`saelite.evaluations.label_purity.Peaks`.
    percentiles : sequence of float in (0, 100]
        100 is the strongest image.

    Returns
    -------
    int array, one image per percentile
        Empty if the latent fires on none.
    """
    firing = np.flatnonzero(activation)
    weak_to_strong = firing[np.argsort(activation[firing], kind="stable")]
    ranks = np.ceil(np.array(percentiles) / 100 * len(firing)).astype(int) - 1
    return weak_to_strong[np.maximum(ranks, 0)] if len(firing) else firing


def pictures(
    vm: VisionModel, sae: nn.Module, store: ActivationStore, images: datasets.Dataset, peaks: Peaks,
    latents: Sequence[int] | np.ndarray, percentiles: Sequence[float] = PERCENTILES,
) -> pd.DataFrame:  # fmt: skip
    """The images at some percentiles of latents' activation, with the places where they fire tinted.

    Parameters
    ----------
    vm : VisionModel
    sae : torch.nn.Module
    store : ActivationStore
        The part that `peaks` was measured on.
    images : datasets.Dataset
        All images of the harvest.
    peaks : Peaks
    latents : int array
    percentiles : sequence of float in (0, 100]

    Returns
    -------
    pandas.DataFrame, one row per picture
        latent, frequency (share of places), fires_on (number of images), percentile, activation, name and label (of the
        image), picture (a PIL image: places where the latent fires tinted by strength, the strongest boxed).
    """
    places, rows = store.record["context"], []
    numbers = store.documents[::places]  # of the images, in `images`
    for latent in np.asarray(latents).tolist():
        activation = peaks.activation[:, latent]
        for percentile, index in zip(percentiles, at_percentiles(activation, percentiles), strict=False):
            image = images[int(numbers[index])]
            here = strengths(sae, store[index * places : (index + 1) * places], slice(latent, latent + 1)).cpu().numpy()
            rows.append(
                {
                    "latent": latent,
                    "frequency": peaks.frequency[latent],
                    "fires_on": np.count_nonzero(activation),
                    "percentile": percentile,
                    "activation": activation[index],
                    "name": image["name"],
                    "label": image["label"],
                    "picture": _tinted(seen(vm, image["image"]), here.reshape(store.record["grid"])),
                }
            )
    columns = ["latent", "frequency", "fires_on", "percentile", "activation", "name", "label", "picture"]
    return pd.DataFrame(rows, columns=columns)


def pictures_html(tables: dict[str, pd.DataFrame], credit: str) -> str:
    """Tables of :func:`pictures` side by side.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        A heading, and the pictures below it: a row for each latent.
    credit : str
        Who made the images, and under which licence.
    """
    nothing = "No latent is this rare and fires on enough images to be shown."
    return _side_by_side(tables, _strip, nothing) + f'<p class="credit">Images: {html.escape(credit)}</p>'


def gallery(shown: list[Image.Image], captions: list[str], alts: list[str]) -> str:
    """Small pictures side by side with a caption below each.

    Parameters
    ----------
    shown : list of PIL.Image.Image
    captions, alts : list of str
        What stands below each, and what it shows for those who do not see it.

    Returns
    -------
    str
        A picture carries its own data, of few colours and so few bytes.
    """
    cells = []
    for picture, caption, alt in zip(shown, captions, alts, strict=True):
        small, file = picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS), io.BytesIO()
        small.quantize(48, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        cells.append(
            '<div style="font-size: 0.75rem; line-height: 1.2; overflow-wrap: anywhere">'
            f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="{PICTURE}">'
            f"{html.escape(caption)}</div>"
        )
    return f'<div style="{CELLS}">{"".join(cells)}</div>'


def _side_by_side(tables, block, nothing):
    """A column for each table, with `block` of each latent's rows in it, or the sentence `nothing`."""
    columns = ""
    for name, table in tables.items():
        blocks = [block(latent, rows) for latent, rows in table.groupby("latent", sort=False)] or [f"<p>{nothing}</p>"]
        columns += f"<div><p><strong>{html.escape(name)}</strong></p>{''.join(blocks)}</div>"
    return f'<div style="{COLUMNS}">{columns}</div>'


def _contexts(latent, contexts):
    strongest = contexts["activation"].max()
    lines = "".join(f"<li>{_line(c.tokens, c.activations, strongest)}</li>" for c in contexts.itertuples())
    head = f"latent {latent}, fires on {contexts['frequency'].iloc[0]:.2%} of tokens"
    for effect in ("raises", "lowers"):
        if effect in contexts:
            tokens = [f"<code>{html.escape(repr(token)[1:-1])}</code>" for token in contexts[effect].iloc[0]]
            head += f"<br>{effect} {' '.join(tokens)}"
    return f"<p>{head}</p><ol>{lines}</ol>"


def _line(tokens, activations, strongest):
    spans, peak = [], max((activation for activation in activations if activation > 0), default=0)
    for token, activation in zip(tokens, activations, strict=True):
        text = html.escape(token).replace("\n", "&#8629;")
        if activation > 0:  # false for NaN too
            text = f"<strong>{text}</strong>" if activation == peak else text
            colour = f"rgb(213 94 0 / {0.15 + 0.5 * activation / strongest:.0%})"  # see-through: fits light and dark
            style = f"background: {colour}; color: inherit; padding: 0"
            text = f'<mark style="{style}" title="{activation:.2f}">{text}</mark>'
        spans.append(text)
    return "".join(spans)


def _strip(latent, rows):
    first = rows.iloc[0]
    head = f"latent {latent}, fires at {first['frequency']:.3%} of places, on {first['fires_on']} images"
    captions = [f"{percentile}: {name}" for percentile, name in zip(rows["percentile"], rows["name"], strict=True)]
    alts = [f"{name}, tinted where latent {latent} fires" for name in rows["name"]]
    return f'<p style="margin: 0.6rem 0 0.2rem">{head}</p>{gallery(rows["picture"], captions, alts)}'


def _tinted(picture, strength):
    """Tint the cells of a grid over a picture by strength, and box the strongest with a cell's room around it."""
    picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    alpha = np.where(strength > 0, 90 + 110 * strength / max(strength.max(), 1e-12), 0).astype(np.uint8)
    mask = Image.fromarray(alpha).resize((SIZE, SIZE), Image.Resampling.NEAREST)
    picture = Image.composite(Image.new("RGB", (SIZE, SIZE), TINT), picture, mask)
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    corner, cell = np.array([column, row]), SIZE / np.array(strength.shape[::-1])  # across, down
    box = np.clip(np.concatenate([(corner - 1) * cell, (corner + 2) * cell]), 1, SIZE - 2)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((box + [-1, -1, 1, 1]).tolist(), outline="white", width=4)  # seen on dark figures too
    draw.rectangle(box.tolist(), outline=TINT, width=2)
    return picture

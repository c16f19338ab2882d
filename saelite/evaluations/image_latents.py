"""What latents fire on in images: the paper's picture.

Korznikov et al. 2026 show rare latents of CLIP's SAEs and of random ones by images at fixed percentiles of activation,
and leave the judgement to the eye. Here the same pictures also say where in the image a latent fires;
:mod:`saelite.evaluations.label_purity` puts a number beside them.
"""

import base64
import html
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw

from saelite.data.vision_models import seen
from saelite.evaluations.latents import GRID

PERCENTILES = (100, 75, 50, 25)
IMAGES_AT_ONCE = 32
SIZE = 84  # pixels a side of a small picture
TINT = (200, 0, 150)  # few things are of this colour


@dataclass(frozen=True)
class Peaks:
    """How strongly each latent fires on each image, and where.

    Attributes
    ----------
    activation : float32 array of shape (images, latents)
        The largest over the places of the image; 0 where the latent is silent.
    place : int64 array of shape (images, latents)
        Where that is, from 0.
    frequency : float array of shape (latents,)
        Share of all places of all images at which the latent fires.
    """

    activation: np.ndarray
    place: np.ndarray
    frequency: np.ndarray


@torch.no_grad()
def image_peaks(sae, store):
    """Each latent's strongest place in every image.

    Parameters
    ----------
    sae : SAE
    store : ActivationStore
        Whole images, from :func:`saelite.data.vision_models.harvest_images`, or a part of them.

    Returns
    -------
    Peaks
        In the order of the images in the store.
    """
    places = store.record["context"]
    device = next(iter(sae.state_dict().values())).device
    activation, place, fired = [], [], 0
    for start in range(0, len(store), IMAGES_AT_ONCE * places):
        code = sae.encode(store[start : start + IMAGES_AT_ONCE * places].to(device))
        largest = code.view(-1, places, code.shape[1]).max(dim=1)
        activation.append(largest.values.float().cpu())
        place.append(largest.indices.cpu())
        fired = fired + (code > 0).sum(dim=0).cpu()
    return Peaks(torch.cat(activation).numpy(), torch.cat(place).numpy(), (fired / len(store)).numpy())


def at_percentiles(activation, percentiles=PERCENTILES):
    """The images that stand at some percentiles of a latent's activation, among those on which it fires.

    Parameters
    ----------
    activation : array of shape (images,)
        One latent's, from :class:`Peaks`.
    percentiles : tuple of float in (0, 100]
        100 is the strongest image.

    Returns
    -------
    int array, one image a percentile
        Empty if the latent fires on none.
    """
    firing = np.flatnonzero(activation > 0)
    if not len(firing):
        return firing
    weak_to_strong = firing[np.argsort(activation[firing], kind="stable")]
    ranks = np.ceil(np.array(percentiles) / 100 * len(firing)).astype(int) - 1
    return weak_to_strong[np.maximum(ranks, 0)]


def draw_rare(peaks, n, *, below=0.001, min_images=4, seed=0):
    """Draw latents at random among the rare ones, as the paper looks at.

    Parameters
    ----------
    peaks : Peaks
    n : int
        How many; fewer if fewer qualify.
    below : float
        Highest firing frequency, as a share of places; 0.001 in the paper.
    min_images : int
        Least number of images on which it must fire, so that there is one for each percentile.
    seed : int

    Returns
    -------
    int array, ascending
    """
    rare = (peaks.frequency < below) & ((peaks.activation > 0).sum(axis=0) >= min_images)
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(rare))[:n])


@torch.no_grad()
def pictures(vm, sae, store, images, peaks, latents, percentiles=PERCENTILES):
    """The images at some percentiles of latents' activation, with the places where they fire tinted.

    Parameters
    ----------
    vm : VisionModel
    sae : SAE
    store : ActivationStore
        The part that `peaks` was measured on.
    images : datasets.Dataset
        All images of the harvest.
    peaks : Peaks
    latents : int array
    percentiles : tuple of float

    Returns
    -------
    pandas.DataFrame, one row a picture
        latent, frequency (share of places), fires_on (number of images), percentile, activation, name and label (of the
        image), picture (a PIL image: places where the latent fires tinted by strength, the strongest boxed).
    """
    places, grid = store.record["context"], store.record["grid"]
    rows_of_images = store.documents[::places]
    device = next(iter(sae.state_dict().values())).device
    rows = []
    for latent in np.asarray(latents).tolist():
        activation = peaks.activation[:, latent]
        for percentile, index in zip(percentiles, at_percentiles(activation, percentiles), strict=False):
            image = images[int(rows_of_images[index])]
            code = sae.encode(store[index * places : (index + 1) * places].to(device))[:, latent].float().cpu().numpy()
            rows.append(
                {
                    "latent": latent,
                    "frequency": peaks.frequency[latent],
                    "fires_on": int((activation > 0).sum()),
                    "percentile": percentile,
                    "activation": activation[index],
                    "name": image["name"],
                    "label": image["label"],
                    "picture": _tinted(seen(vm, image["image"]), code.reshape(grid)),
                }
            )
    columns = ["latent", "frequency", "fires_on", "percentile", "activation", "name", "label", "picture"]
    return pd.DataFrame(rows, columns=columns)


def _tinted(picture, strength):
    """Tint the cells of a grid over a picture by strength, and box the strongest with a cell's room around it."""
    picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    alpha = np.where(strength > 0, 90 + 110 * strength / max(strength.max(), 1e-12), 0).astype(np.uint8)
    mask = Image.fromarray(alpha).resize((SIZE, SIZE), Image.Resampling.NEAREST)
    picture = Image.composite(Image.new("RGB", (SIZE, SIZE), TINT), picture, mask)
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    height, width = SIZE / strength.shape[0], SIZE / strength.shape[1]
    box = [(column - 1) * width, (row - 1) * height, (column + 2) * width, (row + 2) * height]
    box = [float(np.clip(edge, 1, SIZE - 2)) for edge in box]
    around = [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]
    ImageDraw.Draw(picture).rectangle(around, outline="white", width=4)  # seen on dark figures too
    ImageDraw.Draw(picture).rectangle(box, outline=TINT, width=2)
    return picture


def gallery(shown, captions, alts):
    """Small pictures side by side with a caption below each, as HTML; captions and alternative texts are escaped.

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
    look = "padding: 0; border-radius: 0.2rem; width: 100%; display: block"  # the page pads pictures on dark
    cells = []
    for picture, caption, alt in zip(shown, captions, alts, strict=True):
        small, file = picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS), io.BytesIO()
        small.quantize(48, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        cells.append(
            '<div style="font-size: 0.75rem; line-height: 1.2; overflow-wrap: anywhere">'
            f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="{look}">'
            f"{html.escape(caption)}</div>"
        )
    grid = "display: grid; grid-template-columns: repeat(auto-fill, minmax(4.4rem, 1fr)); gap: 0.4rem"
    return f'<div style="{grid}">{"".join(cells)}</div>'


def pictures_html(tables, credit):
    """Tables of :func:`pictures` side by side, as HTML; names and labels are escaped.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        A heading, and the pictures below it: a row for each latent.
    credit : str
        Who made the images, and under which licence.

    Returns
    -------
    str
    """
    columns = "".join(
        f"<div><p><strong>{html.escape(name)}</strong></p>{_strips(table)}</div>" for name, table in tables.items()
    )
    return f'<div style="{GRID}">{columns}</div><p class="credit">Images: {html.escape(credit)}</p>'


def _strips(table):
    if table.empty:
        return "<p>No latent is this rare and fires on enough images to be shown.</p>"
    strips = []
    for latent, rows in table.groupby("latent", sort=False):
        first = rows.iloc[0]
        head = f"latent {latent}, fires at {first['frequency']:.3%} of places, on {first['fires_on']} images"
        captions = [f"{percentile}: {name}" for percentile, name in zip(rows["percentile"], rows["name"], strict=True)]
        alts = [f"{name}, tinted where latent {latent} fires" for name in rows["name"]]
        strips.append(f'<p style="margin: 0.6rem 0 0.2rem">{head}</p>{gallery(rows["picture"], captions, alts)}')
    return "".join(strips)

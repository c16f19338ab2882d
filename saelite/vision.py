"""What latents fire on in images: the paper's picture, and a score for it.

Korznikov et al. 2026 show rare latents of CLIP's SAEs and of random ones by images at fixed percentiles of activation,
and leave the judgement to the eye. Here the same pictures also say where in the image a latent fires, and
:class:`LabelPurity` counts how often a latent's strongest images are of one kind.
"""

import base64
import hashlib
import html
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saelite.autointerp import Neurons
from saelite.latents import GRID
from saelite.vision_models import seen

PERCENTILES = (100, 75, 50, 25)
PURITY, PURITY_RARE = "label purity", "label purity, rare latents"
IMAGES_AT_ONCE = 32
RANDOM_SETS = 1000
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
        Whole images, from :func:`saelite.vision_models.harvest_images`, or a part of them.

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


def agreement(labels):
    """The share of pairs in each set of images that have one label.

    Unlike the share of the commonest label, it has a chance level that does not depend on the size of the set: the
    share of such pairs among all images.

    Parameters
    ----------
    labels : int array of shape (sets, n)
        n of 2 or more.

    Returns
    -------
    float array of shape (sets,), values in [0, 1]
    """
    n = labels.shape[1]
    alike = np.zeros(len(labels))
    for one in np.unique(labels):
        count = (labels == one).sum(axis=1)
        alike += count * (count - 1)
    return alike / (n * (n - 1))


class LabelPurity:
    """Scores an SAE's latents by whether the images that they fire most strongly on are of one kind.

    A latent's activation on an image is the largest over the image's places. Its score is :func:`agreement`: draw two
    of its `top` strongest images; how often have they the same label? Latents that fire on fewer images are left out
    and counted. Only held-out images are looked at: the SAE has not seen them.

    The label is the one that the image set has, so the score asks for one kind of regularity only. A latent for round
    shapes is a feature of the model, and scores low.

    Parameters
    ----------
    store : ActivationStore
        From :func:`saelite.vision_models.harvest_images`, whole.
    labels : list of str
        Of every image of the harvest, in its order.
    top : int
        Images of a latent that are looked at.
    rare : float
        A latent is rare if it fires at a smaller share of places. The paper looks at such latents.
    l0 : int
        Active latents at a place, for the neurons.
    seed : int
        Of the random sets of images.

    Attributes
    ----------
    chance : float
        The share of pairs of held-out images that have the same label: what a latent scores on average whose images
        have nothing to do with their labels.
    settings, paired
        See :mod:`saelite.evaluations`.

    Raises
    ------
    ValueError
        If the labels are not those of the harvest, are all one, or fewer images than `top` are held out.
    """

    paired = False

    def __init__(self, store, labels, *, l0, top=10, rare=0.001, seed=0):
        places = store.record["context"]
        if len(labels) * places != store.record["tokens"]:
            raise ValueError(f"There are {len(labels)} labels for {store.record['tokens'] // places} images.")
        self.names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        self.train, self.held_out = store.train, store.held_out
        self._codes, self._train_codes = (codes[part.documents[::places]] for part in (self.held_out, self.train))
        if not 2 <= top <= len(self._codes):
            raise ValueError(f"top={top} must be from 2 to {len(self._codes)}, the number of held-out images.")
        if min(len(np.unique(self._codes)), len(np.unique(self._train_codes))) < 2:
            raise ValueError("All images of one half have the same label, so there is nothing to tell apart.")
        self.top, self.rare, self.l0, self.seed = top, rare, l0, seed
        counts = np.bincount(self._codes)
        self.chance = float((counts * (counts - 1)).sum() / (len(self._codes) * (len(self._codes) - 1)))
        self.settings = {
            "store": store.folder.name,
            "labels": hashlib.sha256("\0".join(map(str, labels)).encode()).hexdigest()[:16],
            "top": top,
            "rare": rare,
            "l0": l0,
            "seed": seed,
        }

    def __call__(self, sae):
        """Score one SAE.

        Returns
        -------
        pandas.DataFrame, one row a latent and metric
            metric ("label purity"; and "label purity, rare latents", for those among them that are rare), item (the
            latent), score, label (the commonest among its images), share (of that label), images (on which it fires),
            frequency (share of places). The same for all rows: latents, alive (fire at all), eligible (fire on enough
            images to be scored). No rows where no latent is eligible.
        """
        peaks = image_peaks(sae, self.held_out)
        images = (peaks.activation > 0).sum(axis=0)
        eligible = np.flatnonzero(images >= self.top)
        strongest = np.argsort(-peaks.activation[:, eligible], axis=0, kind="stable")[: self.top].T
        table = self._scored(eligible, strongest).assign(images=images[eligible], frequency=peaks.frequency[eligible])
        table = table.assign(latents=len(images), alive=int((images > 0).sum()), eligible=len(eligible))
        rare = table[table["frequency"] < self.rare].assign(metric=PURITY_RARE)
        return pd.concat([table, rare], ignore_index=True)

    def references(self):
        """What the scores are to be read against.

        - *random images* (floor): sets of as many images, drawn at random; its expectation is `chance`.
        - *neurons* (yardstick): the channels of the block, :class:`saelite.autointerp.Neurons`, both signs.
        - *supervised probes* (ceiling): a logistic regression told the labels of the training images, on the mean and
          the largest of each channel over places; an item is a label and the held-out images that it is surest of.
          Labels with fewer held-out images than `top` are left out.

        Returns
        -------
        pandas.DataFrame
            The columns of a call, and reference and kind.
        """
        rng = np.random.default_rng(self.seed)
        drawn = np.stack([rng.choice(len(self._codes), self.top, replace=False) for _ in range(RANDOM_SETS)])
        chance = self._scored(np.arange(RANDOM_SETS), drawn).assign(reference="random images", kind="floor")
        told = self._probes().assign(reference="supervised probes", kind="ceiling")
        both = pd.concat([chance, told])
        sample = self.train[:: max(1, len(self.train) // 4096)]
        neurons = self(Neurons(sample, self.l0)).assign(reference="neurons", kind="yardstick")
        return pd.concat([both, both.assign(metric=PURITY_RARE), neurons], ignore_index=True)

    def _scored(self, items, sets):
        """One row an item, from the images (items, top) of each."""
        labels = self._codes[sets]
        counts = (labels[:, :, None] == np.arange(len(self.names))).sum(axis=1)
        return pd.DataFrame(
            {
                "metric": PURITY,
                "item": items,
                "score": agreement(labels),
                "label": self.names[counts.argmax(axis=1)],
                "share": counts.max(axis=1) / self.top,
            }
        )

    def _probes(self):
        train, test = (self._pooled(part) for part in (self.train, self.held_out))
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        sure = probe.fit(train, self._train_codes).predict_proba(test)
        enough = [c for c in probe.classes_ if (self._codes == c).sum() >= self.top]
        columns = np.searchsorted(probe.classes_, enough)
        strongest = np.argsort(-sure[:, columns], axis=0, kind="stable")[: self.top].T
        return self._scored(np.asarray(enough, dtype=int), strongest)

    def _pooled(self, part):
        x = part[:].view(-1, part.record["context"], part.d_in)
        return torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=1).numpy()

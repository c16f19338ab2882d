"""What latents fire on in images, and a score for it: whether a latent's strongest images are of one kind.

Korznikov et al. 2026 show latents of vision SAEs by their images and leave the judgement to the eye;
:class:`LabelPurity` counts.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from saelite import arguments
from saelite.data.store import ActivationStore
from saelite.evaluations.latents import strengths
from saelite.null_models import Neurons

PURITY, PURITY_RARE = "label purity", "label purity, rare latents"
RANDOM_SETS = 1000
IMAGES_AT_ONCE = 32


@dataclass(frozen=True)
class Peaks:
    """How strongly each latent fires on each image (:func:`saelite.evaluations.latents.strengths`), and where.

    In the order of the images in the store.
    """

    activation: np.ndarray
    """Float32, shape (images, latents): the largest over the places of the image, 0 where the latent is silent."""
    place: np.ndarray
    """Int64, shape (images, latents): where that is, from 0."""
    frequency: np.ndarray
    """Float, shape (latents,): share of all places of all images at which the latent fires."""


def image_peaks(sae: nn.Module, store: ActivationStore) -> Peaks:
    """Each latent's strongest place in every image.

    Parameters
    ----------
    sae : torch.nn.Module
        With ``encode``.
    store : ActivationStore
        Whole images, from :func:`saelite.data.vision_models.harvest_images`, or a part of them.
    """
    places = store.record["context"]
    activation, place, fired = [], [], 0
    for start in range(0, len(store), IMAGES_AT_ONCE * places):
        code = strengths(sae, store[start : start + IMAGES_AT_ONCE * places])
        largest = code.view(-1, places, code.shape[1]).max(dim=1)
        activation.append(largest.values.cpu())
        place.append(largest.indices.cpu())
        fired = fired + (code > 0).sum(dim=0).cpu()
    return Peaks(torch.cat(activation).numpy(), torch.cat(place).numpy(), (fired / len(store)).numpy())


def draw_rare(peaks: Peaks, n: int, *, below: float = 0.001, min_images: int = 4, seed: int = 0) -> np.ndarray:
    """Draw latents at random among the rare ones, which the paper looks at.

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
    rare = (peaks.frequency < below) & (np.count_nonzero(peaks.activation, axis=0) >= min_images)
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(rare))[:n])


def agreement(labels: np.ndarray) -> np.ndarray:
    """The share of pairs in each set of images that have one label.

    Its chance level is the share of such pairs among all images, whatever the size of the sets.

    Parameters
    ----------
    labels : int array of shape (sets, n)
        n of 2 or more.

    Returns
    -------
    float array of shape (sets,), values in [0, 1]
    """
    n = labels.shape[1]
    counts = (labels[:, :, None] == np.unique(labels)).sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))


class LabelPurity:
    """Scores an SAE's latents by whether the images that they fire most strongly on are of one kind.

    A latent's activation on an image is the largest over the image's places. Its score is :func:`agreement`: draw two
    of its `top` strongest images; how often do they have the same label? Latents that fire on fewer images are left out
    and counted. Only held-out images are looked at: the SAE has not seen them.

    The label is the one that the image set has, so the score asks for one kind of regularity only. A latent for round
    shapes is a feature of the model, and scores low.

    Parameters
    ----------
    store : ActivationStore
        From :func:`saelite.data.vision_models.harvest_images`, whole.
    labels : list of str
        Of every image of the harvest, in its order.
    l0 : int
        Active latents per place, for the neurons.
    top : int
        Images of a latent that are looked at.
    rare : float
        A latent is rare if it fires at a smaller share of places. The paper looks at such latents.
    seed : int
        Of the random sets of images.

    Attributes
    ----------
    chance : float
        The share of pairs of held-out images that have the same label: the mean score of latents whose images have
        nothing to do with their labels.
    settings, paired
        See :mod:`saelite.evaluations`.

    Raises
    ------
    ValueError
        If the labels are not those of the harvest, are all one, or fewer images than `top` are held out.
    """

    paired = False

    def __init__(
        self, store: ActivationStore, labels: list[str], *, l0: int, top: int = 10, rare: float = 0.001, seed: int = 0
    ):
        places = store.record["context"]
        if len(labels) * places != store.record["tokens"]:
            raise ValueError(f"There are {len(labels)} labels for {store.record['tokens'] // places} images.")
        self.names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        self.train, self.held_out = store.train, store.held_out
        self._codes, self._train_codes = (codes[part.documents[::places]] for part in (self.held_out, self.train))
        arguments.whole(2, len(self._codes), top=top)
        if min(len(np.unique(self._codes)), len(np.unique(self._train_codes))) < 2:
            raise ValueError("All images of one half have the same label, so there is nothing to tell apart.")
        self.top, self.rare, self.l0, self.seed = top, rare, l0, seed
        self.chance = float(agreement(self._codes[None])[0])
        digest = hashlib.sha256("\0".join(map(str, labels)).encode()).hexdigest()[:16]
        self.settings = {
            "store": store.folder.name, "labels": digest, "top": top, "rare": rare, "l0": l0, "seed": seed,
        }  # fmt: skip

    def __call__(self, sae: nn.Module) -> pd.DataFrame:
        """Score one SAE.

        Returns
        -------
        pandas.DataFrame, one row per latent and metric
            metric ("label purity"; and "label purity, rare latents", for those among them that are rare), item (the
            latent), score, label (the commonest among its images), share (of that label), images (on which it fires),
            frequency (share of places). The same for all rows: latents, alive (fire at all), eligible (fire on enough
            images to be scored). No rows where no latent is eligible.
        """
        peaks = image_peaks(sae, self.held_out)
        images = np.count_nonzero(peaks.activation, axis=0)
        eligible = np.flatnonzero(images >= self.top)
        table = self._scored(eligible, self._top(peaks.activation[:, eligible])).assign(
            images=images[eligible], frequency=peaks.frequency[eligible],
            latents=len(images), alive=np.count_nonzero(images), eligible=len(eligible),
        )  # fmt: skip
        rare = table[table["frequency"] < self.rare].assign(metric=PURITY_RARE)
        return pd.concat([table, rare], ignore_index=True)

    def references(self) -> pd.DataFrame:
        """What the scores are to be read against.

        - *random images* (floor): sets of as many images, drawn at random; its expectation is `chance`.
        - *neurons* (yardstick): the channels of the block, :class:`saelite.null_models.Neurons`, both signs.
        - *supervised probes* (ceiling): a logistic regression told the labels of the training images, on the mean and
          the largest of each channel over places; an item is a label and the held-out images that it is surest of.
          Labels with fewer held-out images than `top` are left out.

        Returns the columns of a call, and reference and kind.
        """
        rng = np.random.default_rng(self.seed)
        drawn = np.stack([rng.choice(len(self._codes), self.top, replace=False) for _ in range(RANDOM_SETS)])
        chance = self._scored(np.arange(RANDOM_SETS), drawn).assign(reference="random images", kind="floor")
        told = self._probes().assign(reference="supervised probes", kind="ceiling")
        both = pd.concat([chance, told])
        sample = self.train[:: max(1, len(self.train) // 4096)]
        neurons = self(Neurons(sample, self.l0)).assign(reference="neurons", kind="yardstick")
        return pd.concat([both, both.assign(metric=PURITY_RARE), neurons], ignore_index=True)

    def _top(self, values):
        """The images with the largest `values`, shape (images, items). Int array of shape (items, top)."""
        return np.argsort(-values, axis=0, kind="stable")[: self.top].T

    def _scored(self, items, sets):
        """One row per item, from the images (items, top) of each."""
        labels = self._codes[sets]
        counts = (labels[:, :, None] == np.arange(len(self.names))).sum(axis=1)
        columns = {"score": agreement(labels), "label": self.names[counts.argmax(axis=1)]}
        return pd.DataFrame({"metric": PURITY, "item": items} | columns | {"share": counts.max(axis=1) / self.top})

    def _probes(self):
        train, test = (self._pooled(part) for part in (self.train, self.held_out))
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        sure = probe.fit(train, self._train_codes).predict_proba(test)
        enough = np.bincount(self._codes, minlength=len(self.names))[probe.classes_] >= self.top
        return self._scored(probe.classes_[enough], self._top(sure[:, enough]))

    def _pooled(self, part):
        x = part[:].view(-1, part.record["context"], part.d_in)
        return torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=1).numpy()

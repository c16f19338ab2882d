"""Whether the images that a latent fires most strongly on are of one kind: a score for the paper's picture.

The paper shows latents of vision SAEs by their images and leaves the judgement to the eye; :class:`LabelPurity` counts.
"""

import hashlib

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saelite.evaluations.image_latents import image_peaks
from saelite.nulls import Neurons

PURITY, PURITY_RARE = "label purity", "label purity, rare latents"
RANDOM_SETS = 1000


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
        From :func:`saelite.data.vision_models.harvest_images`, whole.
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
        - *neurons* (yardstick): the channels of the block, :class:`saelite.nulls.Neurons`, both signs.
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

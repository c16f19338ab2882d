"""Sparse probing: can a few latents alone tell a concept?

The claim behind it: if an SAE has found the features that a model thinks in, then one latent, or a few, should answer
a question such as "is this text French?". As in the paper and in SAEBench (arXiv:2503.09532), the code is averaged over
a text's tokens, the k latents are taken whose average differs most between training texts with the concept and without
(in absolute value: a latent that falls silent is evidence too), and a logistic regression on those k answers for test
texts.

What this cannot tell alone: a random direction of the activations answers many questions better than chance, and
the activation's own coordinates do too. Hence the floors and the ceilings.
"""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from saelite import arguments
from saelite.data.harvest import harvest
from saelite.data.language_models import check_layer
from saelite.evaluations.concepts import binary_concepts

SHORTEST_CONTEXT = 8


class Probing:
    """Sparse probes of binary concepts, one score a test text; see :mod:`saelite.evaluations` for how it is used.

    Made once, it runs the model over all texts up to the layer. Called with an SAE, it encodes every token once, and
    fits the probes of all concepts on those averages.

    Parameters
    ----------
    lm : LanguageModel
    concepts : pandas.DataFrame
        Columns task, label, split ("train" or "test") and text, as :func:`saelite.evaluations.concepts.load_concepts`
        gives them.
    layer : int
        The decoder block whose output is probed. The SAEs should be of the same.
    site : str
        What of it: ``"residual"``, ``"mlp"`` or ``"attention"``; see :func:`saelite.data.language_models.module_at`.
    context : int, 8 or more
        Tokens of each text that are read, from its start. The first is then dropped, as when SAEs are trained.
    k : list of int
        Numbers of latents that a probe may use.
    draws : int
        Random draws that each score of a floor is the mean of.
    seed : int
        Of the texts that stand against a concept, and of the floors.
    progress : bool

    Attributes
    ----------
    concepts : list of saelite.evaluations.concepts.Concept
    left_out : int
        Texts that were too short: nothing is left of them once the first token is dropped.
    store : ActivationStore
        The activations of every token of every text.

    Raises
    ------
    ValueError
        If a task has one class, a `k` is no number of the model's dimensions, or the layer or context does not fit.
    """

    paired = True

    def __init__(
        self, lm, concepts, *, layer, site="residual", context=64, k=(1, 2, 5, 20), draws=5, seed=0, progress=True,
    ):  # fmt: skip
        check_layer(lm, layer, site)
        if not isinstance(k, list | tuple):
            raise ValueError(f"k={k!r} must be a list of numbers of latents, such as [1, 5].")
        arguments.whole(1, lm.d_model, k=k)
        self.k = sorted(set(k))
        if context < SHORTEST_CONTEXT or draws < 1:
            raise ValueError(
                f"context={context} must be at least {SHORTEST_CONTEXT}, and draws={draws} at least 1 for a floor."
            )
        binary_concepts(concepts, seed)  # refuses what does not make concepts before the model runs
        bos = lm.tokenizer.bos_token_id
        prefix = int(bos is not None and lm.tokenizer("")["input_ids"][:1] == [bos])
        texts, lengths = _first_tokens(lm, concepts["text"].tolist(), context - prefix)
        lengths = lengths + prefix - 1  # position 0 is dropped
        whole = lengths > 0
        self.left_out = int((~whole).sum())
        self.concepts = binary_concepts(concepts[whole], seed)
        self.draws, self.seed = draws, seed
        self._lengths = lengths[whole]
        self.store = harvest(
            lm, [text for text, long in zip(texts, whole, strict=True) if long], layer=layer, site=site,
            tokens=int(self._lengths.sum()), context=context, batch=max(1, 1024 // context), seed=None,
            progress=progress,
        )  # fmt: skip
        asked = [[c.name, c.train.tolist(), c.train_is.tolist(), c.test.tolist()] for c in self.concepts]
        self.settings = {
            "activations": self.store.folder.name,
            "concepts": hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
            "k": self.k,
            "draws": draws,
            "seed": seed,
        }

    def __call__(self, sae):
        """Accuracy of the probes on an SAE's latents.

        Parameters
        ----------
        sae : SAE, or any module with ``encode``

        Returns
        -------
        pandas.DataFrame
            One row for each k, concept and test text: metric (``"probe k=5"``, and ``"probe k=5, random latents"`` for
            the floor of as many latents drawn from those that fire), item (concept and number of the text), score
            (1 if the probe is right, else 0; the share of draws that are right for the floor), cluster and concept
            (its name), task, k, and fired (how many latents of this SAE fire on any training text: with none, every
            probe guesses, and its score is chance).

        Raises
        ------
        ValueError
            If the dictionary has fewer latents than the largest k.
        """
        code = self._averages(sae.encode, next((p.device for p in sae.parameters()), "cpu"))
        if self.k[-1] > code.shape[1]:
            raise ValueError(f"k={self.k[-1]} latents were asked for, and this SAE has {code.shape[1]}: ask for fewer.")
        train = np.unique(np.concatenate([concept.train for concept in self.concepts]))
        firing = np.flatnonzero((code[train] != 0).any(axis=0))
        drawn_from = firing if len(firing) else np.arange(code.shape[1])
        parts = []
        with _one_thread():
            for number, (concept, best) in enumerate(zip(self.concepts, self._best(code), strict=True)):
                for k in self.k:
                    parts.append(_rows(concept, k, _right(code[:, best[:k]], concept)))
                    drawn = [_drawn(drawn_from, k, [self.seed, number, draw]) for draw in range(self.draws)]
                    right = np.mean([_right(code[:, latents], concept) for latents in drawn], axis=0)
                    parts.append(_rows(concept, k, right, ", random latents"))
        return pd.concat(parts, ignore_index=True).assign(fired=len(firing))

    def references(self):
        """What the same probes score without an SAE.

        Returns
        -------
        pandas.DataFrame
            Columns reference and kind, then those of a call but for fired. Ceiling: "dense probe", a logistic
            regression on all dimensions of the averaged activation, the same for every k. Yardsticks, which plain
            methods reach and an SAE may miss or pass: "best neurons", k coordinates of the activation, chosen as
            latents are; "PCA components", chosen alike among the principal components of the training texts. Floor:
            "shuffled labels", best neurons again, chosen and fitted with the training labels in random order.
        """
        neurons = self._averages(lambda x: x, "cpu")
        train = np.unique(np.concatenate([concept.train for concept in self.concepts]))
        components = PCA().fit(neurons[train]).transform(neurons)
        parts = []

        def add(reference, kind, concept, k, right):
            parts.append(_rows(concept, k, right).assign(reference=reference, kind=kind))

        best_neurons, best_components = self._best(neurons), self._best(components)
        with _one_thread():
            for number, concept in enumerate(self.concepts):
                dense = _right(neurons, concept)
                shuffles = [_shuffled(concept, [self.seed, number, draw]) for draw in range(self.draws)]
                best_shuffled = [self._best(neurons, [shuffled])[0] for shuffled in shuffles]
                for k in self.k:
                    add("dense probe", "ceiling", concept, k, dense)
                    add("best neurons", "yardstick", concept, k, _right(neurons[:, best_neurons[number][:k]], concept))
                    right = _right(components[:, best_components[number][:k]], concept)
                    add("PCA components", "yardstick", concept, k, right)
                    right = [_right(neurons[:, b[:k]], s) for s, b in zip(shuffles, best_shuffled, strict=True)]
                    add("shuffled labels", "floor", concept, k, np.mean(right, axis=0))
        table = pd.concat(parts, ignore_index=True)
        return table[["reference", "kind", *table.columns.drop(["reference", "kind"])]]

    @torch.no_grad()
    def _averages(self, encode, device, tokens_at_once=4096):
        """Mean over each text's tokens of what `encode` makes of their activations. Float32 (texts, width)."""
        ends = np.cumsum(self._lengths)
        means, first = [], 0
        while first < len(ends):
            start = ends[first] - self._lengths[first]
            last = max(first + 1, int(np.searchsorted(ends, start + tokens_at_once, side="right")))
            code = encode(self.store[start : ends[last - 1]].to(device))
            lengths = torch.from_numpy(self._lengths[first:last]).to(device)
            text_of = torch.repeat_interleave(torch.arange(last - first, device=device), lengths)
            sums = torch.zeros(last - first, code.shape[1], device=device).index_add_(0, text_of, code.float())
            means.append((sums / lengths[:, None]).cpu())
            first = last
        return torch.cat(means).numpy()

    def _best(self, features, concepts=None):
        """For each concept the features whose averages differ most between its training texts, best first."""
        concepts = self.concepts if concepts is None else concepts
        weights = np.zeros((len(concepts), len(features)), dtype=np.float32)
        for row, concept in zip(weights, concepts, strict=True):
            row[concept.train] = np.where(concept.train_is, 1, -1) * 2 / len(concept.train)  # halves, so means
        return np.argsort(-np.abs(weights @ features), axis=1, kind="stable")[:, : self.k[-1]]


def _one_thread():
    """Probes are so small that sharing one out over threads costs more than fitting it."""
    return threadpool_limits(limits=1)


def _right(features, concept):
    """Whether a probe fitted on the concept's training texts is right on each of its test texts."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(features[concept.train], concept.train_is)
    return (probe.predict(features[concept.test]) == concept.test_is).astype(float)


def _drawn(latents, k, seed):
    return np.random.default_rng(seed).permutation(latents)[:k]


def _shuffled(concept, seed):
    return replace(concept, train_is=np.random.default_rng(seed).permutation(concept.train_is))


def _rows(concept, k, right, addition=""):
    return pd.DataFrame(
        {
            "metric": f"probe k={k}{addition}",
            "item": [f"{concept.name}/{text}" for text in concept.test],
            "score": right,
            "cluster": concept.name,
            "task": concept.task,
            "concept": concept.name,
            "k": k,
        }
    )


def _first_tokens(lm, texts, most):
    """Every text cut to its first tokens, `most` at most, and how many they are."""
    texts, fewer = list(texts), 0
    while True:
        encoded = lm.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans = encoded["offset_mapping"]
        long = [number for number, of_text in enumerate(spans) if len(of_text) > most]
        if not long:
            return texts, np.array([len(of_text) for of_text in spans])
        for number in long:
            texts[number] = texts[number][: spans[number][max(0, most - 1 - fewer)][1]]
        fewer += 1  # a cut inside a word may leave more tokens than were counted: then cut earlier

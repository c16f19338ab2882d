"""Sparse probing: can a few latents alone tell a concept?

If an SAE has found the features that a model thinks in, one latent, or a few, should answer a question such as "is this
text French?". As in the paper and in SAEBench (arXiv:2503.09532), the code is averaged over a text's tokens, the k
latents are taken whose average differs most between training texts with the concept and without (a latent that falls
silent is evidence too), and a logistic regression on those k answers for test texts. Random directions do better than
chance, and so do the activation's own coordinates: hence the references.
"""

import itertools
from collections.abc import Callable, Sequence
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
from saelite.data.language_models import LanguageModel, check_layer
from saelite.evaluations import Evaluation, device_for
from saelite.evaluations.concepts import binary_concepts
from saelite.storage import cache

SHORTEST_CONTEXT = 8


class Probing(Evaluation):
    """Sparse probes of binary concepts, one score per test text.

    Parameters
    ----------
    lm, concepts : LanguageModel, pandas.DataFrame
        Columns task, label, split and text, as :func:`saelite.evaluations.concepts.load_concepts` gives them.
    layer, site : int, str
        The hook point of the SAEs; see :func:`saelite.data.language_models.module_at`.
    context : int, 8 or more
        Tokens of each text that are read, from its start. The first is then dropped, as when SAEs are trained.
    k : list of int
        Numbers of latents that a probe may use.
    draws, seed : int
        Random draws that each score of a floor is the mean of; of these, and of the texts against a concept.
    progress : bool

    Attributes
    ----------
    concepts : list of :class:`saelite.evaluations.concepts.Concept`
    left_out : int
        Texts that were too short: nothing is left of them once the first token is dropped.
    store : ActivationStore
        The activations of every token of every other text.

    Raises
    ------
    ValueError
        If a task has one class, a `k` is no number of the model's dimensions, or the layer or context does not fit.

    Examples
    --------
    >>> import saelite as sl
    >>> from saelite.evaluations.concepts import load_concepts
    >>> lm, texts = sl.language_model("smollm2"), load_concepts(["sentiment"], per_label=15)
    >>> probing = sl.Probing(lm, texts, layer=2, context=8, k=[1], progress=False)
    >>> probing(sl.SAE(lm.d_model, 64, sl.TopK(4))).groupby("metric").size().to_dict()
    {'probe k=1': 10, 'probe k=1, random latents': 10}
    """

    paired = True

    def __init__(
        self, lm: LanguageModel, concepts: pd.DataFrame, *, layer: int, site: str = "residual", context: int = 64,
        k: Sequence[int] = (1, 2, 5, 20), draws: int = 5, seed: int = 0, progress: bool = True,
    ):  # fmt: skip
        arguments.kind(LanguageModel, lm=lm)
        if not isinstance(k, list | tuple):
            raise ValueError(f"k={k!r} must be a list of numbers of latents, such as [1, 5].")
        arguments.whole(1, lm.d_model, k=k)
        arguments.whole(SHORTEST_CONTEXT, context=context)
        check_layer(lm, layer, site, context)
        arguments.whole(1, draws=draws)
        binary_concepts(concepts, seed)  # refuses what does not make concepts before the model runs
        self.k, self.draws, self.seed = sorted(set(k)), draws, seed
        bos = lm.tokenizer.bos_token_id
        prefix = int(bos is not None and lm.tokenizer("")["input_ids"][:1] == [bos])
        texts, lengths = _first_tokens(lm, concepts["text"].tolist(), context - prefix)
        lengths = lengths + prefix - 1  # position 0 is dropped
        long = lengths > 0
        self.left_out = int((~long).sum())
        self.concepts = binary_concepts(concepts[long], seed)
        self._train = np.unique(np.concatenate([concept.train for concept in self.concepts]))
        self._lengths = lengths[long]
        self.store = harvest(
            lm, np.array(texts, dtype=object)[long].tolist(), layer=layer, site=site, tokens=int(self._lengths.sum()),
            context=context, batch=max(1, 1024 // context), seed=None, progress=progress,
        )  # fmt: skip
        asked = [[c.name, c.train.tolist(), c.train_is.tolist(), c.test.tolist()] for c in self.concepts]
        self.settings = {"activations": self.store.folder.name, "concepts": cache.key(asked=asked)}
        self.settings |= {"k": self.k, "draws": draws, "seed": seed}

    def __call__(self, sae: torch.nn.Module) -> pd.DataFrame:
        """Accuracy of the probes on an SAE's latents.

        Returns
        -------
        pandas.DataFrame, one row per k, concept and test text
            metric (``"probe k=5"``, and the floor ``"probe k=5, random latents"`` of as many latents drawn from those
            that fire), item (concept and number of the text), score (1 if the probe is right, else 0; for the floor the
            share of draws that are), cluster and concept (its name), task, k, fired (how many latents are not zero on
            some training text: with none, every probe guesses). Fewer latents than the largest k are a ValueError.
        """
        code = self._averages(sae.encode, device_for(sae, self.store.d_in))
        if self.k[-1] > code.shape[1]:
            raise ValueError(f"k={self.k[-1]} latents were asked for, and this SAE has {code.shape[1]}: ask for fewer.")
        firing = np.flatnonzero((code[self._train] != 0).any(axis=0))
        drawn_from = firing if len(firing) else np.arange(code.shape[1])
        random = [self._probed(code, [rng.permutation(drawn_from) for rng in rngs]) for rngs in self._draws()]
        random = _mean(random).assign(metric=lambda table: table["metric"] + ", random latents")
        tables = pd.concat([self._probed(code, self._best(code)), random])
        return tables.sort_values("k", kind="stable", ignore_index=True).assign(fired=len(firing))

    def references(self) -> pd.DataFrame:
        """What the same probes score without an SAE: reference, kind, and the columns of a call but for fired.

        Ceiling: "dense probe" on all dimensions of the averaged activation, the same for every k. Yardsticks: "best
        neurons", k coordinates of the activation, chosen as latents are, and "PCA components" of the training texts,
        chosen alike. Floor: "shuffled labels", best neurons chosen and fitted with training labels in random order.
        """
        neurons = self._averages(lambda x: x, "cpu")
        components = PCA().fit(neurons[self._train]).transform(neurons)
        width = neurons.shape[1]
        dense = self._probed(neurons, [range(width)] * len(self.concepts), ks=[width])
        shuffled = []
        for rngs in self._draws():
            pairs = zip(self.concepts, rngs, strict=True)
            labels = [replace(concept, train_is=rng.permutation(concept.train_is)) for concept, rng in pairs]
            shuffled.append(self._probed(neurons, self._best(neurons, labels), labels))
        tables = {
            ("dense probe", "ceiling"): pd.concat([dense.assign(metric=f"probe k={k}", k=k) for k in self.k]),
            ("best neurons", "yardstick"): self._probed(neurons, self._best(neurons)),
            ("PCA components", "yardstick"): self._probed(components, self._best(components)),
            ("shuffled labels", "floor"): _mean(shuffled),
        }
        table = pd.concat(tables, names=["reference", "kind"]).reset_index(["reference", "kind"])
        return table.sort_values("k", kind="stable", ignore_index=True)

    def _draws(self):
        """For each random draw a generator for each concept."""
        numbers = range(len(self.concepts))
        return [[np.random.default_rng([self.seed, number, draw]) for number in numbers] for draw in range(self.draws)]

    def _probed(self, features, choices, concepts=None, ks=None):
        """Whether probes on the first k of each concept's choice among `features` (texts, width) are right: items."""
        tables = []
        with threadpool_limits(limits=1):  # to share out so small a probe costs more than to fit it
            for concept, choice in zip(concepts or self.concepts, choices, strict=True):
                for k in ks or self.k:
                    chosen = features[:, choice[:k]]
                    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
                    probe.fit(chosen[concept.train], concept.train_is)
                    right = probe.predict(chosen[concept.test]) == concept.test_is
                    items = [f"{concept.name}/{text}" for text in concept.test]
                    table = pd.DataFrame({"metric": f"probe k={k}", "item": items, "score": right.astype(float)})
                    tables.append(table.assign(cluster=concept.name, task=concept.task, concept=concept.name, k=k))
        return pd.concat(tables, ignore_index=True)

    @torch.no_grad()
    def _averages(self, encode: Callable, device: torch.device | str, tokens_at_once: int = 4096) -> np.ndarray:
        """Mean over each text's tokens of what `encode` makes of their activations. Float32 (texts, width)."""
        bounds = np.concatenate([[0], np.cumsum(self._lengths)])
        means, step = [], max(1, tokens_at_once // self._lengths.max())
        for first in range(0, len(self._lengths), step):
            lengths = torch.from_numpy(self._lengths[first : first + step]).to(device)
            code = encode(self.store[bounds[first] : bounds[first + len(lengths)]].to(device))
            means.append(torch.segment_reduce(code.float(), "mean", lengths=lengths).cpu())
        return torch.cat(means).numpy()

    def _best(self, features, concepts=None):
        """For each concept the features whose averages differ most between its training texts, best first."""
        concepts = concepts or self.concepts
        weights = np.zeros((len(concepts), len(features)), dtype=np.float32)
        for row, concept in zip(weights, concepts, strict=True):
            row[concept.train] = np.where(concept.train_is, 1, -1) * 2 / len(concept.train)  # halves, so means
        return np.argsort(-np.abs(weights @ features), axis=1, kind="stable")[:, : self.k[-1]]


def _mean(tables):
    return tables[0].assign(score=np.mean([table["score"] for table in tables], axis=0))


def _first_tokens(lm, texts, most):
    """Every text cut to its first tokens, `most` at most, and how many they are."""
    for fewer in itertools.count():  # a cut inside a word may leave more tokens than were counted: then cut earlier
        spans = lm.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping
        lengths = np.array([len(of_text) for of_text in spans])
        if (lengths <= most).all():
            return texts, lengths
        ends = [of_text[max(0, most - 1 - fewer)][1] if len(of_text) > most else None for of_text in spans]
        texts = [text[:end] for text, end in zip(texts, ends, strict=True)]

"""Auto-interpretability: can a latent be described so that someone who reads the description knows when it fires?

The paper's protocol (Korznikov et al. 2026, section 4.2; detection after Paulo et al., arXiv:2410.13928). The judge may
be any :class:`saelite.evaluations.judges.Judge`, and :class:`AutoInterp` says what the paper leaves open.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from saelite import arguments
from saelite.activation_functions import TopK
from saelite.data.store import ActivationStore
from saelite.data.token_rows import kept_positions
from saelite.evaluations.judges import Judge, Passage
from saelite.evaluations.latents import strengths
from saelite.null_models import Neurons, untrained

DECILES = [f"decile_{i}" for i in range(1, 11)]
COLUMNS = ["metric", "item", "score", "accuracy", "on_silent", *DECILES, "tests", "malformed", "description"]
WINDOWS_AT_ONCE = 128


class AutoInterp:
    """Scores an SAE's latents by how well a judge's descriptions of them tell where they fire.

    A row of tokens is cut into *passages* of nearly equal length, at most `window` tokens. A latent's activation on a
    passage is its largest over the tokens (:func:`saelite.evaluations.latents.strengths`: it *fires* where its code is
    not zero). Latents are drawn at random among those that fire often enough. For each,

    1. the judge describes it from its `n_describe` strongest passages, one per text, with each token's activation (and
       from up to `n_test` passages on which it is silent: the embedded judges set a threshold by these);
    2. from the description alone it tells `n_test` passages on which the latent fires from as many on which it is
       silent. The first are of varied strength: ordered by activation and cut into `n_test` equal parts, one drawn from
       each, so that every decile of activation counts alike. The others are drawn at random.

    A random half of the texts serves for descriptions and the other half for tests. A latent that fires on fewer test
    passages than `n_test` is tested on as many as there are, with equally many silent ones.

    The score is the mean of the accuracies on the two kinds of passage. Chance is 0.5, whatever share of passages a
    judge says yes to. Answers that could not be read are left out and counted, never guessed.

    Parameters
    ----------
    store : ActivationStore
        Passages come from its end: the held-out tenth, and as much before it as it takes.
    judges : list of Judge
        All judge the same latents on the same passages.
    tokenizer : a `transformers` tokenizer
    l0, d_sae : int
        Of the references: active latents, and size of the untrained SAE.
    n_latents : int
        Latents drawn of each SAE; fewer if fewer fire often enough.
    n_describe, n_test : int
        See above; 15 and 50 in the paper.
    min_test : int
        Least number of test passages on which a latent must fire, and be silent; at most `n_test`.
    window : int
        Tokens in a passage at most; passages of fewer than half are left out. Not stated in the paper.
    tokens_scored : int
        Tokens that passages are cut from.
    seed : int
        Of the halves, the drawn latents and the drawn passages.

    Attributes
    ----------
    passages : list of Passage
    settings, paired
        See :mod:`saelite.evaluations`.

    Raises
    ------
    ValueError
        If a number is below 1, no judge is given, two share a name, or the texts are too few for two halves.

    Examples
    --------
    A tiny random model and random words, so that it takes a second; :func:`saelite.data.language_models.language_model`
    loads a real model.

    >>> import numpy as np, torch, transformers
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from saelite.data.harvest import harvest
    >>> from saelite.data.language_models import LanguageModel
    >>> from saelite.evaluations.judges import LexicalJudge
    >>> words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(50)}))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    >>> config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    >>> _ = torch.manual_seed(0)
    >>> model = transformers.GPT2LMHeadModel(config).eval()
    >>> lm = LanguageModel(model, tokenizer, "tiny", torch.device("cpu"), torch.float32, n_layers=2, d_model=16)
    >>> texts = [" ".join(f"w{i}" for i in np.random.default_rng(text).integers(50, size=30)) for text in range(60)]
    >>> store = harvest(lm, texts, layer=1, tokens=1500, progress=False)
    >>> sizes = {"n_latents": 5, "n_describe": 4, "n_test": 10, "min_test": 3, "window": 6}
    >>> evaluation = AutoInterp(store, [LexicalJudge()], tokenizer, l0=2, d_sae=32, **sizes)
    >>> evaluation(untrained(TopK(2), store[:], d_sae=32)).groupby("metric").size()
    metric
    auto-interpretability (lexical)                           5
    auto-interpretability (lexical), shuffled descriptions    5
    dtype: int64
    """

    paired = False

    def __init__(
        self, store: ActivationStore, judges: Sequence[Judge], tokenizer: PreTrainedTokenizerBase, *, l0: int,
        d_sae: int, n_latents: int = 100, n_describe: int = 15, n_test: int = 50, min_test: int = 10, window: int = 32,
        tokens_scored: int = 160_000, seed: int = 0,
    ):  # fmt: skip
        numbers = {
            "l0": l0, "d_sae": d_sae, "n_latents": n_latents, "n_describe": n_describe, "n_test": n_test,
            "min_test": min_test, "window": window, "tokens_scored": tokens_scored,
        }  # fmt: skip
        arguments.whole(1, **numbers)
        arguments.whole(1, n_test, min_test=min_test)
        arguments.each_once(names_of_judges=[judge.name for judge in judges])
        self.store, self.judges, self.seed = store, list(judges), seed
        self.l0, self.d_sae = l0, d_sae
        self.n_latents, self.n_describe, self.n_test, self.min_test = n_latents, n_describe, n_test, min_test
        self._places, ids = _windows(store, window, max(0, len(store) - tokens_scored))
        self.passages = [Passage(tuple(tokenizer.batch_decode(row.unsqueeze(1))), tokenizer.decode(row)) for row in ids]
        self._texts = store.documents[self._places[:, 0]] if len(ids) else np.zeros(0, dtype=int)
        texts = np.unique(self._texts)
        if len(texts) < 2:
            raise ValueError(f"The passages come from {len(texts)} text; two are needed or more: score more tokens.")
        half = np.random.default_rng(seed).permutation(texts)[: len(texts) // 2]
        self._describing = np.isin(self._texts, half)
        self.settings = {
            "store": store.folder.name,
            "passages": hashlib.sha256("\0".join(p.text for p in self.passages).encode()).hexdigest()[:16],
            "judges": [judge.settings for judge in self.judges],
            "seed": seed,
        } | numbers

    def __call__(self, sae: nn.Module) -> pd.DataFrame:
        """Score one SAE.

        Returns
        -------
        pandas.DataFrame, one row per latent, judge, and whether the descriptions were its own
            metric ("auto-interpretability (JUDGE)", or the same with ", shuffled descriptions": each latent tested
            with the description of another of this SAE, the judge's floor), item (the latent), score, accuracy (plain),
            on_silent (accuracy on silent passages), decile_1 ... decile_10 (on firing ones, by activation from weak to
            strong; NaN where none was answered), tests (passages of both kinds), malformed (answers not to be read),
            fired (passages of the two halves on which it fires), description. The same for all rows of an SAE:
            passages, latents (in the SAE), alive (fire at all), eligible (fire often enough: items are drawn of these),
            unanswered (drawn latents without a row, since no answer on one of the two kinds could be read).
        """
        peaks = self._peaks(sae)
        fires = peaks > 0
        eligible = np.flatnonzero(self._eligible(fires))
        drawn = np.sort(np.random.default_rng([self.seed, 1]).permutation(eligible)[: self.n_latents])
        tasks = [self._task(peaks[:, latent], latent) for latent in drawn]
        examples = self._examples(sae, drawn, tasks)
        others = [[self.passages[i] for i in task["others"]] for task in tasks]
        tested = [[self.passages[i] for i in task["tested"]] for task in tasks]
        # Round a random circle, so that no latent keeps its own description.
        circle = np.random.default_rng([self.seed, 2]).permutation(len(drawn))
        tables = []
        for judge in self.judges:
            if hasattr(judge, "prepare"):
                judge.prepare([passage for some in (*examples, *others, *tested) for passage in some])
            own = [judge.describe(*shown) for shown in zip(examples, others, strict=True)]
            metric = f"auto-interpretability ({judge.name})"
            tables.append(_judged(metric, judge, drawn, tasks, tested, own))
            if len(drawn) > 1:
                given = dict(zip(circle, np.roll(circle, 1), strict=True))
                shuffled = [own[given[i]] for i in range(len(drawn))]
                tables.append(_judged(f"{metric}, shuffled descriptions", judge, drawn, tasks, tested, shuffled))
        table = pd.concat(tables, ignore_index=True)
        fired = fires[:, table["item"].to_numpy(dtype=int)].sum(axis=0)
        counts = {"passages": len(fires), "latents": fires.shape[1], "alive": int(fires.any(axis=0).sum())}
        return table.assign(fired=fired, **counts, eligible=len(eligible))

    def references(self) -> pd.DataFrame:
        """What the same judges make of latents that no SAE was trained for.

        - *untrained SAE* (floor): :func:`saelite.null_models.untrained`, TopK at the same L0. Its latents are random
          directions of the activation space, so its score is due to the model and the protocol.
        - *neurons* (yardstick): the activation's coordinates (:class:`saelite.null_models.Neurons`). Not a ceiling: an
          SAE should beat it. No set of latents is known to be described perfectly.

        Returns the columns of a call, and reference and kind.
        """
        sample = self.store[:: -(-len(self.store) // 4096)]
        floor = self(untrained(TopK(self.l0), sample, self.d_sae, self.seed + 100))
        yardstick = self(Neurons(sample, self.l0)).assign(reference="neurons", kind="yardstick")
        return pd.concat([floor.assign(reference="untrained SAE", kind="floor"), yardstick], ignore_index=True)

    def _encoded(self, sae, places):
        """Strengths in windows, some windows at a time: tensors of shape (windows, window, d_sae)."""
        for start in range(0, len(places), WINDOWS_AT_ONCE):
            some = places[start : start + WINDOWS_AT_ONCE]
            yield strengths(sae, self.store[some.ravel()]).view(*some.shape, -1)

    def _peaks(self, sae):
        """Each latent's largest activation in each passage. Float32 array of shape (passages, d_sae)."""
        return torch.cat([part.amax(dim=1).cpu() for part in self._encoded(sae, self._places)]).numpy()

    def _eligible(self, fires):
        """Which latents fire, and are silent, often enough to be described and tested. Shape (d_sae,)."""
        starts = np.flatnonzero(np.diff(self._texts, prepend=-1))  # a text's passages follow one another
        texts_fired = np.logical_or.reduceat(fires, starts, axis=0)[self._describing[starts]].sum(axis=0)
        test_fired = fires[~self._describing].sum(axis=0)
        test_silent = (~self._describing).sum() - test_fired
        other_silent = (~fires[self._describing]).sum(axis=0)
        enough = (texts_fired >= self.n_describe) & (other_silent >= self.n_describe)
        return enough & (np.minimum(test_fired, test_silent) >= self.min_test)

    def _task(self, peaks, latent):
        """Draw the passages of one latent, as indices of `passages`; what is tested comes in random order."""
        rng = np.random.default_rng([self.seed, 3, int(latent)])
        by_strength = np.argsort(peaks, kind="stable")  # weak to strong
        to_describe, to_test = (by_strength[half[by_strength]] for half in (self._describing, ~self._describing))
        strongest = to_describe[::-1]
        one_per_text = np.sort(np.unique(self._texts[strongest], return_index=True)[1])[: self.n_describe]
        others, silent = (np.sort(part[peaks[part] == 0]) for part in (to_describe, to_test))
        firing = to_test[peaks[to_test] > 0]
        n = min(self.n_test, len(firing), len(silent))
        chosen = [rng.choice(part) for part in np.array_split(firing, n)]
        tested = np.concatenate([chosen, rng.choice(silent, n, replace=False)])
        decile = np.concatenate([1 + 10 * np.arange(n) // n, np.zeros(n, dtype=int)])  # 0 where it is silent
        order = rng.permutation(2 * n)
        return {
            "examples": strongest[one_per_text],
            "others": rng.choice(others, min(self.n_test, len(others)), replace=False),
            "tested": tested[order],
            "decile": decile[order],
        }

    def _examples(self, sae, drawn, tasks):
        """The passages to describe each drawn latent from, with its activation at each token."""
        if not tasks:
            return []
        needed = np.unique(np.concatenate([task["examples"] for task in tasks]))
        strong = torch.cat([part[:, :, drawn].cpu() for part in self._encoded(sae, self._places[needed])])
        shown = []
        for column, task in enumerate(tasks):
            values = strong[np.searchsorted(needed, task["examples"]), :, column].tolist()
            passages = [self.passages[i] for i in task["examples"]]
            marked = [(p, tuple(row[: len(p.tokens)])) for p, row in zip(passages, values, strict=True)]
            shown.append([dataclasses.replace(passage, activations=row) for passage, row in marked])
        return shown


def _judged(metric, judge, drawn, tasks, tested, descriptions):
    """Test every drawn latent with a description; one row each."""
    rows = []
    for latent, task, passages, description in zip(drawn.tolist(), tasks, tested, descriptions, strict=True):
        answers = [None] * len(passages) if description is None else judge.detect(description, passages)
        answered = np.array([answer is not None for answer in answers])
        right = np.array([answer == truth for answer, truth in zip(answers, task["decile"] > 0, strict=True)])
        silent, *deciles = (right[answered & (task["decile"] == i)] for i in range(11))
        firing = np.concatenate(deciles)
        if len(silent) and len(firing):
            scores = [(firing.mean() + silent.mean()) / 2, right[answered].mean(), silent.mean()]
            scores += [part.mean() if len(part) else np.nan for part in deciles]
            rows.append([metric, latent, *scores, len(right), int((~answered).sum()), str(description)])
    return pd.DataFrame(rows, columns=COLUMNS).assign(unanswered=len(tasks) - len(rows))


def _windows(store, window, start):
    """Cut a store, from activation `start` on, into windows of at most `window` activations of one row each.

    Returns the index of each window's activations, an int array of shape (n, window), a shorter window filled up with
    its last, which changes no maximum; and a list of the windows' token ids.
    """
    kept = kept_positions(store.record)
    places, ids = [], []
    while start < len(store):
        row, position = store.context_of(start)
        positions = kept[(kept >= position) & (kept < len(row))]
        for part in np.array_split(np.arange(len(positions)), -(-len(positions) // window)):
            if len(part) >= window / 2:
                places.append(start + np.pad(part, (0, window - len(part)), mode="edge"))
                ids.append(row[positions[part]])
        start += len(positions)
    return np.array(places, dtype=np.int64).reshape(-1, window), ids

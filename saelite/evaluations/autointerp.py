"""Auto-interpretability: can a latent be described so that someone who reads the description knows when it fires?

The paper's protocol (Korznikov et al. 2026, section 4.2; detection after Paulo et al., arXiv:2410.13928), with the
judge exchangeable (:mod:`saelite.evaluations.judges`, :mod:`saelite.evaluations.llm_judge`). Where the paper leaves
something open, it is chosen here and said in :class:`AutoInterp`.
"""

import hashlib

import numpy as np
import pandas as pd
import torch

from saelite.activation_functions import TopK
from saelite.data.token_rows import kept_positions
from saelite.evaluations.judges import Passage
from saelite.nulls import Neurons
from saelite.sae import SAE

DECILES = [f"decile_{i}" for i in range(1, 11)]
WINDOWS_AT_ONCE = 128


class AutoInterp:
    """Scores an SAE's latents by how well a judge's descriptions of them tell where they fire.

    A row of tokens is cut into *passages* of nearly equal length, at most `window` tokens. A latent's activation on a
    passage is the largest over its tokens; it *fires* there if that is above 0. Latents are drawn at random among those
    that fire often enough. For each,

    1. the judge describes it from its `n_describe` strongest passages, one a text, with each token's activation (and
       from up to `n_test` passages on which it is silent: the embedded judges set a threshold by these);
    2. from the description alone it says of `n_test` passages on which the latent fires and as many on which it does
       not which is which. The first are of varied strength: ordered by activation and cut into `n_test` equal parts,
       one drawn from each, so that every decile of activation counts alike. The others are drawn at random.

    Half of the texts, drawn at random, serve for descriptions and the other half for tests: no test passage shares its
    text with a described one. A latent that fires on fewer test passages than `n_test` is tested on as many as there
    are, with equally many silent ones.

    The score is the mean of the accuracies on the two kinds of passage: the plain accuracy where every passage was
    answered, since both are equally many. Chance is 0.5, whatever share of passages a judge says yes to. Answers that
    could not be read are left out and counted, never guessed.

    Parameters
    ----------
    store : ActivationStore
        Passages come from its end: the held-out tenth, and as much before it as it takes.
    judges : list of judges
        All judge the same latents on the same passages.
    tokenizer : a `transformers` tokenizer
    l0, d_sae : int
        Of the references: active latents, and size of the untrained SAE.
    n_latents : int
        Latents drawn of each SAE; fewer if fewer fire often enough.
    n_describe, n_test : int
        See above; 15 and 50 in the paper.
    min_test : int
        Least number of test passages on which a latent must fire, and be silent.
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
    """

    paired = False

    def __init__(
        self, store, judges, tokenizer, *, l0, d_sae, n_latents=100, n_describe=15, n_test=50, min_test=10, window=32,
        tokens_scored=160_000, seed=0,
    ):  # fmt: skip
        numbers = {
            "n_latents": n_latents, "n_describe": n_describe, "n_test": n_test, "min_test": min_test,
            "window": window, "tokens_scored": tokens_scored,
        }  # fmt: skip
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if min_test > n_test:
            raise ValueError(f"min_test={min_test} asks for more test passages than n_test={n_test} draws.")
        names = [judge.name for judge in judges]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Give at least one judge, each with a name of its own; these are {names}.")
        self.store, self.judges, self.seed = store, list(judges), seed
        self.l0, self.d_sae = l0, d_sae
        self.n_latents, self.n_describe, self.n_test, self.min_test = n_latents, n_describe, n_test, min_test
        self._places, ids = _windows(store, window, max(0, len(store) - tokens_scored))
        self.passages = [Passage(tuple(tokenizer.batch_decode(row.unsqueeze(1))), tokenizer.decode(row)) for row in ids]
        self._texts = store.documents[self._places[:, 0]] if len(ids) else np.zeros(0, dtype=int)
        texts = np.unique(self._texts)
        if len(texts) < 2:
            raise ValueError(
                f"The passages come from {len(texts)} text; descriptions and tests need one each: score more tokens."
            )
        half = np.random.default_rng(seed).permutation(texts)[: len(texts) // 2]
        self._describing = np.isin(self._texts, half)
        self.settings = {
            "store": store.folder.name,
            "passages": hashlib.sha256("\0".join(p.text for p in self.passages).encode()).hexdigest()[:16],
            "judges": [judge.settings for judge in self.judges],
            "l0": l0,
            "d_sae": d_sae,
            "seed": seed,
            **numbers,
        }

    def __call__(self, sae):
        """Score one SAE.

        Returns
        -------
        pandas.DataFrame, one row a latent, a judge, and whether the descriptions were its own
            metric ("auto-interpretability (JUDGE)", or the same with ", shuffled descriptions": each latent tested
            with the description of another of this SAE, the judge's floor), item (the latent), score, accuracy (plain),
            on_silent (accuracy on silent passages), decile_1 ... decile_10 (on firing ones, by activation from weak to
            strong; NaN where none was answered), tests (passages of both kinds), malformed (answers not to be read),
            fired (passages of the two halves on which it fires), description. The same for all rows of an SAE:
            passages, latents (in the SAE), alive (fire at all), eligible (fire often enough, of which the items were
            drawn), unanswered (drawn latents left out since no answer on one of the two kinds could be read; they have
            no row). No rows where no latent is eligible.
        """
        peaks = self._peaks(sae)
        fires = peaks > 0
        eligible = np.flatnonzero(self._eligible(fires))
        drawn = np.sort(np.random.default_rng([self.seed, 1]).permutation(eligible)[: self.n_latents])
        tasks = [self._task(peaks[:, latent], latent) for latent in drawn]
        examples = self._examples(sae, drawn, tasks)
        tables = []
        for judge in self.judges:
            metric = f"auto-interpretability ({judge.name})"
            descriptions = [
                judge.describe(shown, [self.passages[i] for i in task["others"]])
                for shown, task in zip(examples, tasks, strict=True)
            ]
            tables.append(self._judged(judge, drawn, tasks, descriptions).assign(metric=metric))
            if len(drawn) > 1:
                # Round a random circle, so that none keeps its own.
                circle = np.random.default_rng([self.seed, 2]).permutation(len(drawn))
                given = dict(zip(circle, np.roll(circle, 1), strict=True))
                shuffled = [descriptions[given[i]] for i in range(len(drawn))]
                floor = f"{metric}, shuffled descriptions"
                tables.append(self._judged(judge, drawn, tasks, shuffled).assign(metric=floor))
        table = pd.concat(tables, ignore_index=True)
        table["fired"] = fires[:, table["item"].to_numpy(dtype=int)].sum(axis=0)
        counts = {
            "passages": len(fires),
            "latents": fires.shape[1],
            "alive": int(fires.any(axis=0).sum()),
            "eligible": len(eligible),
        }
        return table.assign(**counts)

    def references(self):
        """What the same judges make of latents that no SAE was trained for.

        - *untrained SAE* (floor): a random dictionary as a calibrated matched filter, TopK at the same L0. Its latents
          are random directions of the activation space, so what it scores is owed to the model and the protocol.
        - *neurons* (yardstick): the coordinates of the activation (:class:`saelite.nulls.Neurons`). Not a ceiling: an
          SAE should beat it.

        There is no natural ceiling but 1: no set of latents is known to be described perfectly.

        Returns
        -------
        pandas.DataFrame
            The columns of a call, and reference and kind.
        """
        sample = self.store[:: max(1, len(self.store) // 4096)]
        untrained = SAE(self.store.d_in, self.d_sae, TopK(self.l0), seed=self.seed + 100).eval()
        untrained.calibrate(sample)
        tables = [
            self(untrained).assign(reference="untrained SAE", kind="floor"),
            self(Neurons(sample, self.l0)).assign(reference="neurons", kind="yardstick"),
        ]
        return pd.concat(tables, ignore_index=True)

    @torch.no_grad()
    def _peaks(self, sae):
        """Each latent's largest activation in each passage. Float32 array of shape (passages, d_sae)."""
        device = next(iter(sae.state_dict().values())).device
        peaks = []
        for start in range(0, len(self._places), WINDOWS_AT_ONCE):
            places = self._places[start : start + WINDOWS_AT_ONCE]
            code = sae.encode(self.store[places.ravel()].to(device))
            peaks.append(code.view(*places.shape, -1).amax(dim=1).float().cpu())
        return torch.cat(peaks).numpy()

    def _eligible(self, fires):
        """Which latents fire, and are silent, often enough to be described and tested. Shape (d_sae,)."""
        starts = np.flatnonzero(np.diff(self._texts, prepend=-1))  # a text's passages stand together
        texts_fired = np.logical_or.reduceat(fires, starts, axis=0)[self._describing[starts]].sum(axis=0)
        test_fired = fires[~self._describing].sum(axis=0)
        test_silent = (~self._describing).sum() - test_fired
        other_silent = (~fires[self._describing]).sum(axis=0)
        enough = (texts_fired >= self.n_describe) & (other_silent >= self.n_describe)
        return enough & (np.minimum(test_fired, test_silent) >= self.min_test)

    def _task(self, peaks, latent):
        """Draw the passages of one latent, as indices of `passages`; what is tested comes in random order."""
        rng = np.random.default_rng([self.seed, 3, int(latent)])
        silent = peaks <= 0
        by_strength = np.argsort(peaks, kind="stable")  # weak to strong
        strongest = by_strength[::-1][self._describing[by_strength[::-1]]]
        one_a_text = np.sort(np.unique(self._texts[strongest], return_index=True)[1])[: self.n_describe]
        others = np.flatnonzero(self._describing & silent)
        firing = by_strength[~self._describing[by_strength] & ~silent[by_strength]]
        not_firing = np.flatnonzero(~self._describing & silent)
        n = min(self.n_test, len(firing), len(not_firing))
        chosen = [rng.choice(part) for part in np.array_split(firing, n)]
        tested = np.concatenate([chosen, rng.choice(not_firing, n, replace=False)])
        decile = np.concatenate([1 + 10 * np.arange(n) // n, np.zeros(n, dtype=int)])  # 0 where it is silent
        order = rng.permutation(2 * n)
        return {
            "examples": strongest[one_a_text],
            "others": rng.choice(others, min(self.n_test, len(others)), replace=False),
            "tested": tested[order],
            "decile": decile[order],
        }

    @torch.no_grad()
    def _examples(self, sae, drawn, tasks):
        """The passages to describe each drawn latent from, with its activation at each token."""
        if not tasks:
            return []
        device = next(iter(sae.state_dict().values())).device
        needed = np.unique(np.concatenate([task["examples"] for task in tasks]))
        parts = []
        for start in range(0, len(needed), WINDOWS_AT_ONCE):
            places = self._places[needed[start : start + WINDOWS_AT_ONCE]]
            code = sae.encode(self.store[places.ravel()].to(device))[:, torch.as_tensor(drawn, device=device)]
            parts.append(code.view(*places.shape, -1).float().cpu())
        activations = torch.cat(parts)
        shown = []
        for column, task in enumerate(tasks):
            passages = [self.passages[i] for i in task["examples"]]
            values = activations[np.searchsorted(needed, task["examples"]), :, column].tolist()
            shown.append(
                [
                    Passage(passage.tokens, passage.text, tuple(row[: len(passage.tokens)]))
                    for passage, row in zip(passages, values, strict=True)
                ]
            )
        return shown

    def _judged(self, judge, drawn, tasks, descriptions):
        """Test every drawn latent with a description; one row each."""
        rows = []
        for latent, task, description in zip(drawn.tolist(), tasks, descriptions, strict=True):
            answers = [None] * len(task["tested"])
            if description is not None:
                answers = judge.detect(description, [self.passages[i] for i in task["tested"]])
            fired = task["decile"] > 0
            answered = np.array([answer is not None for answer in answers])
            right = np.array([answer == truth for answer, truth in zip(answers, fired, strict=True)])
            if not (answered & fired).any() or not (answered & ~fired).any():
                continue
            deciles = [right[answered & (task["decile"] == i)] for i in range(1, 11)]
            on_firing, on_silent = right[answered & fired].mean(), right[answered & ~fired].mean()
            rows.append(
                {"metric": "", "item": latent, "score": (on_firing + on_silent) / 2, "accuracy": right[answered].mean()}
                | {"on_silent": on_silent}
                | {name: part.mean() if len(part) else np.nan for name, part in zip(DECILES, deciles, strict=True)}
                | {"tests": len(right), "malformed": int((~answered).sum()), "description": str(description)}
            )
        columns = ["metric", "item", "score", "accuracy", "on_silent", *DECILES, "tests", "malformed", "description"]
        return pd.DataFrame(rows, columns=columns).assign(unanswered=len(tasks) - len(rows))


def _windows(store, window, start):
    """Cut a store, from activation `start` on, into windows of at most `window` activations of one row each.

    Returns
    -------
    (places, ids)
        The index of each window's activations, int array of shape (n, window), a shorter window filled up with its
        last, which changes no maximum; and a list of the windows' token ids.
    """
    kept = kept_positions(store.record)
    places, ids = [], []
    index = start
    while index < len(store):
        row, position = store.context_of(index)
        positions = kept[(kept >= position) & (kept < len(row))]
        for part in np.array_split(np.arange(len(positions)), -(-len(positions) // window)):
            if len(part) >= window / 2:
                filled = np.pad(part, (0, window - len(part)), mode="edge")
                places.append(index + filled)
                ids.append(row[positions[part]])
        index += len(positions)
    return np.array(places, dtype=np.int64).reshape(-1, window), ids

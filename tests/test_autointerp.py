"""The protocol: which latents, which passages, which score, checked against slow and obvious computations."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_model, tiny_texts
from torch import nn

from saelite.activation_functions import TopK
from saelite.data.harvest import harvest
from saelite.evaluations.autointerp import DECILES, AutoInterp
from saelite.evaluations.judges import LexicalJudge
from saelite.sae import SAE

SMALL = {"l0": 2, "d_sae": 24, "n_latents": 6, "n_describe": 4, "n_test": 10, "min_test": 3, "window": 6}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return harvest(
        tiny_model(), tiny_texts(), layer=1, tokens=1500, context=20, batch=4, progress=False,
        folder=tmp_path_factory.mktemp("stores"),
    )  # fmt: skip


@pytest.fixture
def sae(store):
    sae = SAE(16, 24, TopK(2)).eval()
    sae.calibrate(store[:])
    return sae


def make(store, judges=None, **changed):
    return AutoInterp(store, judges or [LexicalJudge()], tiny_model().tokenizer, **SMALL | changed)


def answering(evaluation, sae, answer):
    """A judge that knows what each latent does, and says what `answer` makes of (truth, place in the test)."""
    peaks = evaluation._peaks(sae)
    number = {id(passage): i for i, passage in enumerate(evaluation.passages)}

    class Knowing:
        name, settings = "knowing", {}

        def describe(self, examples, others):
            example = examples[0]
            same = [passage.tokens == example.tokens for passage in evaluation.passages]
            (latent,) = set(np.flatnonzero(np.isclose(peaks[same], max(example.activations), rtol=1e-6).any(axis=0)))
            return latent

        def detect(self, latent, passages):
            return [answer(bool(peaks[number[id(p)], latent] > 0), i) for i, p in enumerate(passages)]

    return Knowing()


def test_passages_cover_the_rows_and_a_latents_activation_is_its_largest_there(store, sae):
    evaluation = make(store)
    peaks = evaluation._peaks(sae)
    code = sae.encode(store[:]).detach()
    covered = []
    for i, passage in enumerate(evaluation.passages):
        places = list(dict.fromkeys(evaluation._places[i].tolist()))
        assert 3 <= len(places) == len(passage.tokens) <= 6 and len({store.documents[p] for p in places}) == 1
        words = [store.context_of(p)[0][store.context_of(p)[1]] for p in places]
        assert passage.text.split() == [f"w{int(word) - 1}" if word else "<s>" for word in words]
        torch.testing.assert_close(torch.from_numpy(peaks[i]), code[places].amax(dim=0))
        covered += places
    assert len(covered) == len(set(covered))
    left_out = set(range(len(store))) - set(covered)
    assert all(len(store.context_of(i)[0]) - 1 < 3 for i in left_out)  # rows too short for half a passage


def test_only_the_end_of_the_store_is_scored(store):
    assert make(store, tokens_scored=600)._places.min() >= 900


def test_descriptions_and_tests_share_no_text_and_strength_is_varied(store, sae):
    evaluation = make(store)
    peaks = evaluation._peaks(sae)
    for latent in np.flatnonzero(evaluation._eligible(peaks > 0)):
        task, peak = evaluation._task(peaks[:, latent], latent), peaks[:, latent]
        texts = evaluation._texts
        described = np.concatenate([task["examples"], task["others"]])
        assert not set(texts[described]) & set(texts[task["tested"]])
        assert len(task["examples"]) == 4 == len(set(texts[task["examples"]]))
        # The strongest text each, by a loop over texts.
        best = {t: peak[(texts == t)].max() for t in set(texts[evaluation._describing])}
        np.testing.assert_allclose(peak[task["examples"]], sorted(best.values(), reverse=True)[:4])
        fired = task["decile"] > 0
        assert (peak[task["others"]] == 0).all() and (peak[task["tested"][~fired]] == 0).all()
        assert (peak[task["tested"][fired]] > 0).all() and fired.sum() == (~fired).sum()
        assert len(set(task["tested"])) == len(task["tested"])
        test_half = np.sort(peak[~evaluation._describing & (peak > 0)])
        n = min(10, len(test_half), ((peak == 0) & ~evaluation._describing).sum())
        assert fired.sum() == n
        drawn = peak[task["tested"][fired]]
        for value, part in zip(np.sort(drawn), np.array_split(test_half, n), strict=True):
            assert part[0] <= value <= part[-1]
        order = np.argsort(drawn, kind="stable")
        assert (np.diff(task["decile"][fired][order]) >= 0).all() and task["decile"].max() <= 10


def test_eligible_is_counted_by_a_loop(store, sae):
    evaluation = make(store)
    fires = evaluation._peaks(sae) > 0
    half, texts = evaluation._describing, evaluation._texts
    for latent, eligible in enumerate(evaluation._eligible(fires)):
        fired = fires[:, latent]
        enough = len(set(texts[half & fired])) >= 4 and (half & ~fired).sum() >= 4
        assert eligible == (enough and min((~half & fired).sum(), (~half & ~fired).sum()) >= 3)


def test_scores_of_judges_whose_answers_are_known(store, sae):
    evaluation = make(store)
    truths = {
        "right": (lambda truth, _: truth, 1.0, 1.0),
        "wrong": (lambda truth, _: not truth, 0.0, 0.0),
        "always yes": (lambda truth, _: True, 0.5, 0.0),
        "always no": (lambda truth, _: False, 0.5, 1.0),
        # Without half of the yes answers the plain accuracy leans to the silent passages; the score does not.
        "no, or nothing": (lambda truth, _: None if truth and _ % 2 else False, 0.5, 1.0),
    }
    for name, (answer, score, on_silent) in truths.items():
        evaluation.judges = [answering(evaluation, sae, answer)]
        table = evaluation(sae)
        own = table[table["metric"] == "auto-interpretability (knowing)"]
        assert len(own) and (own["score"] == score).all() and (own["on_silent"] == on_silent).all(), name
        if name == "no, or nothing":
            assert (own["malformed"] > 0).any() and (own["accuracy"] >= 0.5).all()
        else:
            assert (own["malformed"] == 0).all() and (own["accuracy"] == own["score"]).all()


def test_a_judge_without_an_answer_leaves_latents_out_and_says_how_many(store, sae):
    evaluation = make(store)
    evaluation.judges = [answering(evaluation, sae, lambda truth, _: None)]
    assert evaluation(sae).empty
    first = []
    judge = answering(evaluation, sae, lambda truth, _: truth)
    describe = judge.describe
    judge.describe = lambda *shown: first.append(1) if not first else describe(*shown)  # None for the first latent
    evaluation.judges = [judge]
    table = evaluation(sae).query("metric == 'auto-interpretability (knowing)'")
    assert (table["unanswered"] == 1).all() and len(table) == 5


def test_shuffled_descriptions_are_never_a_latents_own(store, sae):
    evaluation = make(store)
    table = evaluation(sae)
    own = table[table["metric"] == "auto-interpretability (lexical)"].set_index("item")["description"]
    floor = table[table["metric"] == "auto-interpretability (lexical), shuffled descriptions"]
    floor = floor.set_index("item")["description"]
    assert sorted(own) == sorted(floor) and own.is_unique and (own != floor.reindex(own.index)).all()


def test_the_same_seed_draws_the_same_and_another_does_not(store, sae):
    first = make(store)(sae)
    pd.testing.assert_frame_equal(first, make(store)(sae))
    assert list(first["item"]) != list(make(store, seed=1)(sae)["item"])
    assert make(store).settings != make(store, seed=1).settings != make(store, seed=1, window=7).settings


def test_a_dead_sae_has_no_rows(store, sae):
    sae.b_enc.data.fill_(-1e6)
    table = make(store)(sae)
    assert table.empty and {"metric", "item", "score", "eligible", "unanswered", *DECILES} <= set(table.columns)


def test_an_sae_of_another_library_will_do(store):
    class Foreign(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.randn(16, 30, generator=torch.Generator().manual_seed(0)))

        def encode(self, x):
            return torch.relu((x - x.mean(dim=1, keepdim=True)) @ self.weights - 4)

    assert make(store)(Foreign())["score"].between(0, 1).all()


def test_a_judge_that_can_prepare_is_told_of_all_passages_first(store, sae):
    class Prepared(LexicalJudge):
        known, shown = frozenset(), frozenset()

        def prepare(self, passages):
            assert not self.shown
            self.known = {passage.text for passage in passages}

        def describe(self, examples, others):
            self.shown |= {passage.text for passage in (*examples, *others)}
            return super().describe(examples, others)

        def detect(self, description, passages):
            self.shown |= {passage.text for passage in passages}
            return super().detect(description, passages)

    judge = Prepared()
    make(store, [judge])(sae)
    assert judge.shown and judge.shown == judge.known


def test_codes_below_zero_count_as_active(store, sae):
    class Negative(nn.Module):
        def __init__(self):
            super().__init__()
            self.sae = sae

        def encode(self, x):
            return -self.sae.encode(x)

    evaluation = make(store)
    pd.testing.assert_frame_equal(evaluation(Negative()), evaluation(sae))


def test_references_say_what_they_are(store):
    table = make(store).references()
    assert set(zip(table["reference"], table["kind"], strict=True)) == {
        ("untrained SAE", "floor"), ("neurons", "yardstick"),
    }  # fmt: skip
    assert table["score"].between(0, 1).all()


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"n_latents": 0}, "n_latents=0 must be a whole number of 1"),
        ({"min_test": 20}, "min_test=20 must be a whole number from 1 to 10"),
        ({"tokens_scored": 8}, "come from [01] text"),
        ({"judges": [LexicalJudge(), LexicalJudge()]}, "names_of_judges=.* none of them twice"),
    ],
)
def test_bad_input_is_refused(store, changed, said):
    with pytest.raises(ValueError, match=said):
        make(store, **changed)

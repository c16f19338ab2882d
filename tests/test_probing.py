"""Probing agrees with a slow pipeline that takes one text and one concept at a time."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny import WORDS, tiny_model

from saelite.activation_functions import TopK
from saelite.data.language_models import read_layer
from saelite.evaluations.probing import Probing
from saelite.sae import SAE
from saelite.statistics import contrast, summarise


def labelled(labels=("a", "b", "c"), train=20, test=10, task="letters", seed=0):
    """Texts of 2 to 30 words, in which each label has words of its own that make up half the text."""
    rng, rows = np.random.default_rng(seed), []
    for number, label in enumerate(labels):
        own = WORDS[number * 10 : number * 10 + 10]
        for split, count in (("train", train), ("test", test)):
            for _ in range(count):
                words = [rng.choice(own if rng.random() < 0.5 else WORDS) for _ in range(rng.integers(2, 31))]
                rows.append({"task": task, "label": label, "split": split, "text": " ".join(words)})
    return pd.DataFrame(rows).drop_duplicates("text", ignore_index=True)


def test_what_is_probed_is_the_hook_point_that_was_asked_for():
    lm = tiny_model()
    stores = [made(lm, site=site).store for site in ("residual", "mlp", "attention")]
    for store, site in zip(stores, ("residual", "mlp", "attention"), strict=True):
        row, position = store.context_of(5)
        alone = read_layer(lm, row[None, : position + 1], 1, site=site)[0, -1]
        torch.testing.assert_close(store[5], alone, rtol=2e-3, atol=2e-3)


def made(lm=None, texts=None, **changed):
    settings = {"layer": 1, "context": 12, "k": (1, 3), "draws": 2, "progress": False} | changed
    return Probing(lm or tiny_model(), labelled() if texts is None else texts, **settings)


@pytest.fixture(params=[False, True], ids=["no BOS", "BOS"])
def lm(request):
    return tiny_model(request.param)


def sae_for(probing, d_sae=24):
    sae = SAE(16, d_sae, TopK(4))
    sae.calibrate(probing.store[:])
    return sae


def pooled_one_by_one(lm, texts, encode, context=12):
    """Each text alone through the model, cut to the context, its first position dropped, its code averaged."""
    rows = []
    for text in texts["text"]:
        ids = lm.tokenizer(text)["input_ids"][:context]  # with the BOS token where there is one
        activations = read_layer(lm, torch.tensor([ids]), 1)[0, 1:]
        rows.append(encode(activations.half().float()).mean(dim=0))  # stores keep 16 bits
    return torch.stack(rows).detach().numpy()


def accuracy_by_hand(features, concept, k):
    yes, no = (features[concept.train[concept.train_is == side]].mean(axis=0) for side in (True, False))
    best = np.argsort(-abs(yes - no))[:k]
    scaler = StandardScaler().fit(features[concept.train][:, best])
    model = LogisticRegression(max_iter=1000)
    model.fit(scaler.transform(features[concept.train][:, best]), concept.train_is)
    return model.predict(scaler.transform(features[concept.test][:, best])) == concept.test_is


def test_codes_and_answers_are_those_of_a_slow_pipeline(lm):
    texts = labelled()
    probing = made(lm, texts)
    assert probing.store.record["rows"] == len(texts)  # one row a text, so averages are over whole texts
    sae = sae_for(probing)
    slow = pooled_one_by_one(lm, texts, sae.encode)
    for tokens_at_once in (1, 40, 10_000):  # however texts fall into chunks
        fast = probing._averages(sae.encode, "cpu", tokens_at_once)
        # Alone and in a batch, a token's activation differs in the last digit, and so may its fourth latent.
        assert np.isclose(fast, slow, rtol=2e-2, atol=2e-3).mean() > 0.99
    items = probing(sae)
    for concept in probing.concepts:
        for k in (1, 3):
            rows = items[(items["metric"] == f"probe k={k}") & (items["concept"] == concept.name)]
            assert rows["item"].tolist() == [f"{concept.name}/{text}" for text in concept.test]
            assert rows["score"].tolist() == accuracy_by_hand(fast, concept, k).tolist()
    assert items.loc[items["metric"] == "probe k=3", "score"].mean() > 0.7  # the labels can be told by their words


def test_references_are_those_of_a_slow_pipeline(lm):
    texts = labelled()
    probing = made(lm, texts)
    neurons = probing._averages(lambda x: x, "cpu")
    np.testing.assert_allclose(neurons, pooled_one_by_one(lm, texts, lambda x: x), rtol=2e-2, atol=2e-3)
    scores = probing.references()
    for concept in probing.concepts:
        for k in (1, 3):
            of_concept = scores[(scores["metric"] == f"probe k={k}") & (scores["concept"] == concept.name)]
            best = of_concept[of_concept["reference"] == "best neurons"]
            assert best["score"].tolist() == accuracy_by_hand(neurons, concept, k).tolist()
    by_name = summarise(scores, ["reference", "kind"]).set_index("reference")
    assert abs(by_name.loc["shuffled labels", "score"] - 0.5) < 0.15
    assert by_name.loc["dense probe", "score"] > by_name.loc["shuffled labels", "score"] + 0.2
    dense = scores[scores["reference"] == "dense probe"]
    assert dense.loc[dense["k"] == 1, "score"].tolist() == dense.loc[dense["k"] == 3, "score"].tolist()
    items = probing(sae_for(probing))
    for _, rows in scores.groupby(["reference", "metric"]):
        contrast(rows, items[items["metric"] == rows["metric"].iloc[0]], margin=0.02, paired=True)  # the same items


def test_the_same_twice_and_by_the_seed():
    probing, sae = made(), sae_for(made())
    pd.testing.assert_frame_equal(probing(sae), made()(sae))
    assert made().settings == probing.settings != made(seed=1).settings
    assert made(k=(1,)).settings != probing.settings


class Dead(torch.nn.Module):
    def encode(self, x):
        return torch.zeros(len(x), 8)


class Oracle(torch.nn.Module):
    """A foreign SAE whose latents are the activation's own coordinates, both ways round, so that they fire."""

    def encode(self, x):
        return torch.cat([x.relu(), (-x).relu()], dim=1)


def test_an_sae_that_never_fires_scores_chance_and_says_so():
    items = made()(Dead())
    assert (items["fired"] == 0).all()
    assert (items.groupby(["metric", "concept"])["score"].mean() == 0.5).all()


def test_a_foreign_sae_is_scored():
    items = made()(Oracle())
    assert (items["fired"] == 32).all() and items["score"].between(0, 1).all()


def test_random_latents_are_drawn_from_those_that_fire():
    class OneFires(torch.nn.Module):
        def encode(self, x):
            return torch.cat([torch.zeros(len(x), 7), x[:, :1].abs()], dim=1)

    items = made()(OneFires())
    scores = items.pivot_table(index="item", columns="metric", values="score")
    assert (scores["probe k=1"] == scores["probe k=1, random latents"]).all()  # there is only one to draw


def test_a_text_with_nothing_left_is_left_out_and_counted():
    texts = labelled()
    texts.loc[0, "text"] = "w5"  # its only token is the first, which is dropped
    probing = made(texts=texts)
    assert probing.left_out == 1
    assert made(tiny_model(bos=True), texts).left_out == 0  # there the first position is the BOS token
    assert len(probing._averages(lambda x: x, "cpu")) == len(texts) - 1


def test_bad_input_is_refused_before_the_model_runs(monkeypatch):
    monkeypatch.setattr("saelite.evaluations.probing.harvest", None)
    with pytest.raises(ValueError, match="'letters' has 1 label"):
        made(texts=labelled(["a"]))
    with pytest.raises(ValueError, match="k=.* number from 1 to 16, each"):
        made(k=(1, 17))
    with pytest.raises(ValueError, match="k=5 must be a list"):
        made(k=5)
    with pytest.raises(ValueError, match="k=.* is empty"):
        made(k=())
    with pytest.raises(ValueError, match="layer=7"):
        made(layer=7)
    with pytest.raises(ValueError, match="context=4"):
        made(context=4)
    with pytest.raises(ValueError, match="lm='tiny' is a str: give a LanguageModel"):
        made("tiny")
    with pytest.raises(ValueError, match="concepts=.* is a list: give a DataFrame"):
        made(texts=["one text"])
    with pytest.raises(ValueError, match="no column label"):
        made(texts=labelled().drop(columns="label"))


def test_more_latents_than_the_dictionary_has_are_refused():
    with pytest.raises(ValueError, match="k=12 .* this SAE has 8"):
        made(k=(1, 12))(Dead())


def test_a_latent_that_is_below_zero_fires():
    class Signed(torch.nn.Module):
        def encode(self, x):
            return torch.cat([-x[:, :2].abs() - 1, torch.zeros(len(x), 6)], dim=1)

    assert (made()(Signed())["fired"] == 2).all()


def test_what_is_no_sae_or_of_another_width_is_refused():
    probing = made()
    with pytest.raises(ValueError, match="'my_sae' is no SAE: give a torch.nn.Module"):
        probing("my_sae")
    with pytest.raises(ValueError, match="reads activations of width 8, and those to score it on have 16"):
        probing(SAE(8, 24, TopK(4)))

"""Properties that public functions keep for whatever they are given, and bad input refused in one sentence."""

import html
import json
import random

import commands
import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from notebook_parameters import split_values
from saebook.contexts import contexts_html
from saebook.dictionaries import chance_cosine, sparse_coding
from saebook.tables import show

from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka, RelativeBatchTopK, ReLU, TopK
from saelite.baselines import SoftFrozenDecoder
from saelite.formats import read
from saelite.grid import architectures_at
from saelite.initialisation import cov, iso
from saelite.metrics import best_cosines, evaluate, explained_variance, matched_cosines, recovery
from saelite.null_models import nulls
from saelite.sae import SAE
from saelite.statistics import contrast, rescaled, summarise
from saelite.storage import cache
from saelite.synthetic import FeatureWorld, constant_probabilities, log_uniform_probabilities
from saelite.training import train

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 10_000)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Scores


@few
@given(SEEDS, st.integers(2, 40), st.integers(1, 6))
def test_no_reconstruction_explains_more_than_all_and_the_mean_explains_nothing(seed, n, d):
    x, x_hat = normal(seed, n, d), normal(seed + 1, n, d)
    assert explained_variance(x, x_hat) <= 1
    assert explained_variance(x, x) == 1
    assert abs(explained_variance(x.double(), x.double().mean(dim=0).expand(n, d))) < 1e-9
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert explained_variance(x[order], x_hat[order]) == pytest.approx(explained_variance(x, x_hat), rel=1e-9)


@few
@given(SEEDS, st.integers(1, 12), st.integers(1, 12), st.integers(2, 6), st.floats(-1, 1))
def test_recovery_lies_in_its_range_and_knows_neither_order_nor_length(seed, n, m, d, threshold):
    features, W_dec = normal(seed, n, d), normal(seed + 1, m, d)
    best, matched = best_cosines(features, W_dec), matched_cosines(features, W_dec)
    assert (best.abs() <= 1 + 1e-6).all() and (matched <= best + 1e-6).all()
    again = W_dec.flip(0) * torch.rand(m, 1).add(0.1)
    torch.testing.assert_close(best_cosines(features, again), best)
    frequencies = torch.rand(n, dtype=torch.float64) + 0.01
    scores = recovery(features, W_dec, threshold, frequencies)
    assert all(0 <= scores[name] <= 1 for name in ("recovered", "recovered_one_to_one", "recovered_by_frequency"))
    assert scores["recovered_one_to_one"] <= scores["recovered"]
    assert recovery(features, torch.cat([W_dec, features]), threshold)["mean_best_cosine"] == pytest.approx(1, abs=1e-5)


@few
@given(SEEDS, st.integers(1, 30))
def test_scores_of_any_sae_lie_in_their_ranges(seed, k):
    x = normal(seed, 60, 5)
    sae = SAE(5, 30, TopK(k), seed=seed).eval()
    sae.calibrate(x)
    scores = evaluate(sae, x)
    assert scores.low <= scores.explained_variance <= scores.high <= 1
    assert 0 <= scores.l0 <= k and 0 <= scores.dead <= 1
    assert scores.firing_frequency.sum().item() == pytest.approx(scores.l0)


@few
@given(st.integers(1, 300), st.integers(1, 3000))
def test_chance_has_a_cosine_between_minus_one_and_one_that_more_directions_raise(d_in, d_sae):
    once, more = chance_cosine(d_in, d_sae), chance_cosine(d_in, d_sae + 500)
    assert -1e-6 <= once <= more + 1e-6 and more <= 1


# Statistics


@few
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.floats(0.1, 5))
def test_intervals_hold_their_estimate_and_shift_with_it(scores, shift):
    items = pd.DataFrame({"item": range(len(scores)), "score": scores, "name": "a"})
    (row,) = summarise(items, ["name"]).itertuples()
    tiny = 1e-9 * max(1, max(map(abs, scores)))
    assert row.low - tiny <= row.score <= row.high + tiny
    assert min(scores) - tiny <= row.low and row.high <= max(scores) + tiny
    moved = contrast(items.assign(score=items["score"] + shift), items, margin=0.01, paired=True)
    assert moved["difference"] == pytest.approx(shift) and moved["low"] == pytest.approx(moved["high"])
    assert moved["verdict"] == "better"
    assert contrast(items, items, margin=0.01, paired=True)["verdict"] == "equivalent"


@few
@given(SEEDS)
def test_a_difference_turned_round_is_the_same_with_the_other_sign(seed):
    rng = np.random.default_rng(seed)
    ours, theirs = (pd.DataFrame({"item": range(20), "score": rng.normal(size=20)}) for _ in range(2))
    there, back = contrast(ours, theirs, margin=0.1, paired=True), contrast(theirs, ours, margin=0.1, paired=True)
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["low"] == pytest.approx(-back["high"]) and there["detectable"] == pytest.approx(back["detectable"])
    opposite = {"better": "worse", "worse": "better"}
    assert opposite.get(there["verdict"], there["verdict"]) == back["verdict"]


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1), st.floats(0, 1))
def test_the_floor_is_zero_and_the_ceiling_one_or_there_is_nothing_between(floor, ceiling, below, above):
    assume(abs(ceiling - floor) > 1e-3)
    low = {"score": floor, "low": floor - below, "high": floor + below}
    high = {"score": ceiling, "low": ceiling - above, "high": ceiling + above}
    at = [rescaled(score, low, high) for score in (floor, ceiling)]
    assert np.isnan(at).all() or at == [pytest.approx(0), pytest.approx(1)]
    assert np.isnan(at).all() == (not low["high"] < high["low"])


# Keys, tables, grids

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=8,
)


@few
@given(st.dictionaries(st.text(min_size=1, max_size=6), JSON, max_size=5), SEEDS)
def test_a_key_does_not_depend_on_the_order_of_settings_and_on_nothing_else(made_of, seed):
    names = list(made_of)
    random.Random(seed).shuffle(names)
    assert cache.key(**{name: made_of[name] for name in names}) == cache.key(**made_of)
    assert cache.key(**made_of | {"one more": 1}) != cache.key(**made_of)
    assert cache.key(**json.loads(json.dumps(made_of))) == cache.key(**made_of)


PIECES = list("<>&\"'/=abc \né") + ["<script>", "</td>", "<!--", "&lt;"]
NASTY = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@few
@given(NASTY, NASTY, NASTY)
def test_whatever_a_table_holds_is_shown_as_text(column, value, head):
    assume(column != head)
    page = BeautifulSoup(show(pd.DataFrame({column: [value], head: [1.0]})).data, "html.parser")
    assert {tag.name for tag in page.find_all()} <= {"table", "thead", "tbody", "tr", "th", "td"}
    written = value.replace("\n", "\\n")  # pandas shows what a new line is made of
    assert page.td.get_text().split() == written.split()


@few
@given(NASTY, NASTY, NASTY)
def test_whatever_a_corpus_holds_is_shown_as_text(token, name, credit):
    row = {"latent": 3, "frequency": 0.1, "activation": 2.0, "tokens": [token], "activations": [2.0]}
    row |= {"raises": [token], "lowers": [token]}
    page = BeautifulSoup(contexts_html({name: pd.DataFrame([row])}, credit), "html.parser")
    assert {tag.name for tag in page.find_all()} <= {"div", "p", "strong", "ol", "li", "mark", "br", "code"}
    assert set(page.mark.attrs) == {"style", "title"}
    assert page.mark.get_text() == token.replace("\n", html.unescape("&#8629;"))


VALUES = st.text(alphabet="abcXYZ 0123456789.-_", min_size=1, max_size=8).map(str.strip).filter(bool)
VALUES = VALUES.filter(lambda value: not value.startswith("- "))  # an item, to YAML


@few
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_list_of_values_is_read_as_it_was_written(values):
    assert split_values(",".join(values)) == values
    assert split_values(",".join(f"'{value}, x'" for value in values)) == [f"{v}, x" for v in values]
    lists = [json.dumps([value, value]) for value in values]
    assert split_values(",".join(lists)) == [[value, value] for value in values]


@few
@given(st.text(max_size=20))
def test_any_other_text_is_split_or_refused_in_a_sentence(text):
    try:
        assert isinstance(split_values(text), list)
    except commands.Refused as refused:
        assert str(refused).startswith("The values")


# Checkpoints

FILES = [("sae.json", "sae.safetensors"), ("cfg.json", "sae_weights.safetensors"), ("cfg.json", "sae.safetensors")]
FILES += [("config.json", "ae.pt"), ("params.npz",)]
CONTENT = st.binary(max_size=200) | st.sampled_from(
    [b"", b"{}", b"[]", b"null", b'{"k": 1}', b'{"trainer": []}', b'{"architecture": "topk", "k": 3, "d_in": 2}']
    + [b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 8 + b"{}", b"PK\x03\x04", b"\x80\x04cos\nsystem\n(S'exit 1'\ntR."]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FILES), CONTENT, CONTENT)
def test_random_bytes_for_a_checkpoint_are_refused_in_a_sentence(tmp_path_factory, names, first, second):
    folder = tmp_path_factory.mktemp("checkpoint")
    for name, content in zip(names, (first, second), strict=False):
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError) as refused:
        read(folder)
    assert len(str(refused.value)) < 600 and "\n" not in str(refused.value)


# Bad input

NAN = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
X = normal(0, 50, 4)
ITEMS = pd.DataFrame({"item": [1, 2], "score": [0.1, 0.2], "name": ["a", "a"]})
BAD = {
    "x with NaN": lambda: explained_variance(NAN, NAN),
    "shapes that differ": lambda: explained_variance(X, X[:1]),
    "widths that differ": lambda: explained_variance(X, X[:, :1]),
    "no x": lambda: explained_variance(X[:0], X[:0]),
    "x of one dimension": lambda: explained_variance(X[0], X[0]),
    "evaluated on NaN": lambda: evaluate(SAE(2, 4, TopK(1)), NAN),
    "evaluated on nothing": lambda: evaluate(SAE(4, 4, TopK(1)), X[:0]),
    "evaluated on another width": lambda: evaluate(SAE(3, 4, TopK(1)), X),
    "evaluated on one dimension": lambda: evaluate(SAE(4, 4, TopK(1)), X[0]),
    "groups of another length": lambda: evaluate(SAE(4, 4, TopK(1)), X, groups=np.arange(3)),
    "calibrated on nothing": lambda: SAE(4, 4, TopK(1)).calibrate(X[:0]),
    "directions of another width": lambda: best_cosines(X, X[:, :2]),
    "no directions": lambda: best_cosines(X, X[:0]),
    "no features": lambda: recovery(X[:0], X),
    "directions with NaN": lambda: recovery(NAN, NAN),
    "a threshold that is no cosine": lambda: recovery(X, X, 2.0),
    "a threshold that is no number": lambda: recovery(X, X, float("nan")),
    "probabilities of another length": lambda: recovery(X, X, 0.5, torch.ones(3)),
    "more active than there are": lambda: SAE(4, 8, TopK(9)),
    "none active": lambda: SAE(4, 8, BatchTopK(0)),
    "half a latent active": lambda: SAE(4, 8, TopK(1.5)),
    "a target that is text": lambda: SAE(4, 8, JumpReLU("3")),
    "no width": lambda: SAE(0, 8, TopK(1)),
    "a width beyond memory": lambda: SAE(10**6, 10**9, TopK(1)),
    "a rate beyond 1": lambda: RelativeBatchTopK(3, threshold_rate=2.0),
    "fractions that do not add up": lambda: Matryoshka(3, [0.5, 0.6]),
    "no fractions": lambda: Matryoshka(3, []),
    "a penalty of NaN": lambda: ReLU(l1_coefficient=float("nan")),
    "a bandwidth of NaN": lambda: JumpReLU(3, bandwidth=float("nan")),
    "tau above 1": lambda: SoftFrozenDecoder(1.5),
    "tau that is NaN": lambda: SoftFrozenDecoder(float("nan")),
    "an unknown architecture": lambda: architectures_at(3, ["Gated"], 8),
    "no architecture": lambda: architectures_at(3, [], 8),
    "one architecture twice": lambda: architectures_at(3, ["TopK", "TopK"], 8),
    "no directions to start from": lambda: iso(0, 4),
    "a negative number of directions": lambda: iso(-1, 4),
    "a covariance of one sample": lambda: cov(4, X[:1]),
    "a covariance of NaN": lambda: cov(4, NAN),
    "directions of a covariance, none": lambda: cov(0, X),
    "nulls at too high an L0": lambda: nulls(X, X, l0=9, d_sae=8),
    "nulls of nothing": lambda: nulls(X[:0], X, l0=2, d_sae=8),
    "nulls of NaN": lambda: nulls(NAN, NAN, l0=1, d_sae=4),
    "a dictionary too small": lambda: sparse_coding({"a": X[:3]}, X, l0=4),
    "a dictionary of another width": lambda: sparse_coding({"a": X[:, :2]}, X, l0=1),
    "a dictionary for nothing": lambda: sparse_coding({"a": X}, X[:0], l0=1),
    "a space without dimensions": lambda: chance_cosine(0, 3),
    "no features in a world": lambda: constant_probabilities(0, 1),
    "more present than there are": lambda: constant_probabilities(4, 5),
    "presence that is NaN": lambda: constant_probabilities(4, float("nan")),
    "no features at all": lambda: log_uniform_probabilities(-1),
    "a probability of NaN": lambda: FeatureWorld([0.1, float("nan")], 4),
    "a world of no dimensions": lambda: FeatureWorld([0.1], 0),
    "sigma that is NaN": lambda: FeatureWorld([0.1], 4, sigma=float("nan")),
    "noise that is infinite": lambda: FeatureWorld([0.1], 4, noise=float("inf")),
    "a seed below zero": lambda: FeatureWorld([0.1], 4, seed=-1),
    "batches of nothing": lambda: FeatureWorld([0.1], 4).batches(0, 1),
    "batches beyond memory": lambda: FeatureWorld([0.1], 4).batches(10**12, 1),
    "a rate of NaN": lambda: train(SAE(4, 8, TopK(2)), [X], lr=float("nan"), progress=False),
    "a rate below zero": lambda: train(SAE(4, 8, TopK(2)), [X], lr=-1.0, progress=False),
    "a history of every 0 steps": lambda: train(SAE(4, 8, TopK(2)), [X], log_every=0, progress=False),
    "a warm-up longer than all": lambda: train(SAE(4, 8, TopK(2)), [X], warmup=2.0, progress=False),
    "no batches": lambda: train(SAE(4, 8, TopK(2)), [], progress=False),
    "an empty batch": lambda: train(SAE(4, 8, TopK(2)), [X[:0]], progress=False),
    "a batch of another width": lambda: train(SAE(3, 8, TopK(2)), [X], progress=False),
    "a batch with NaN": lambda: train(SAE(2, 8, TopK(2)), [NAN], progress=False),
    "no items": lambda: contrast(ITEMS[:0], ITEMS, margin=0.1, paired=False),
    "items without a score": lambda: summarise(ITEMS.drop(columns="score"), ["name"]),
    "items without an item": lambda: contrast(ITEMS.drop(columns="item"), ITEMS, margin=0.1, paired=False),
    "items without what tells them apart": lambda: summarise(ITEMS, ["no such column"]),
    "a score that is infinite": lambda: summarise(ITEMS.assign(score=float("inf")), ["name"]),
    "a margin of NaN": lambda: contrast(ITEMS, ITEMS, margin=float("nan"), paired=True),
    "a margin without end": lambda: contrast(ITEMS, ITEMS, margin=float("inf"), paired=True),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    with pytest.raises(ValueError) as refused:
        BAD[case]()
    said = str(refused.value)
    assert "\n" not in said and 4 <= len(said.split()) <= 60 and said.endswith((".", "?"))

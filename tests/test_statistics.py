"""Intervals against a loop and against theory, and verdicts that follow from them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from saelite.statistics import contrast, rescaled, summarise, verdict

rng = np.random.default_rng(0)


def items_of(scores, **more):
    return pd.DataFrame({"item": range(len(scores)), "score": scores} | more)


def test_a_score_is_the_weighted_mean_and_its_interval_that_of_the_mean():
    scores, weights = rng.normal(1, 2, 400), rng.uniform(0.5, 2, 400)
    row = summarise(items_of(scores, weight=weights, name="a"), ["name"]).iloc[0]
    assert row["score"] == pytest.approx(np.average(scores, weights=weights)) and row["items"] == 400
    row = summarise(items_of(scores, name="a"), ["name"]).iloc[0]
    low, high = stats.t.interval(0.95, 399, scores.mean(), stats.sem(scores))
    assert row["low"] == pytest.approx(low, abs=0.03) and row["high"] == pytest.approx(high, abs=0.03)


def test_items_of_one_cluster_count_as_one():
    scores = np.repeat(rng.normal(size=30), 20)
    alone = summarise(items_of(scores, name="a"), ["name"]).iloc[0]
    together = summarise(items_of(scores, name="a", cluster=np.repeat(range(30), 20)), ["name"]).iloc[0]
    assert together["high"] - together["low"] > 3 * (alone["high"] - alone["low"])
    assert together["score"] == pytest.approx(alone["score"])


def test_one_cluster_alone_has_no_interval():
    row = summarise(items_of([0.1, 0.3], cluster=[7, 7], name="a"), ["name"]).iloc[0]
    assert row["score"] == pytest.approx(0.2) and np.isnan(row["low"]) and np.isnan(row["high"])


def test_a_paired_difference_is_that_of_the_items():
    hard = rng.normal(0, 5, 200)  # what makes items differ, for both alike
    ours, theirs = items_of(hard + 0.3 + rng.normal(0, 0.5, 200)), items_of(hard)
    found = contrast(ours.sample(frac=1, random_state=1), theirs, margin=0.01, paired=True)
    exact = stats.ttest_1samp(ours["score"] - theirs["score"], 0).confidence_interval()
    assert found["difference"] == pytest.approx((ours["score"] - theirs["score"]).mean())
    assert found["low"] == pytest.approx(exact.low, abs=0.02) and found["high"] == pytest.approx(exact.high, abs=0.02)
    assert found["verdict"] == "better"
    assert contrast(ours, theirs, margin=0.01, paired=False)["verdict"] == "not told apart"  # pairing is what finds it


def test_an_unpaired_difference_has_welchs_interval():
    ours, theirs = rng.normal(1, 1, 150), rng.normal(0, 3, 90)
    found = contrast(items_of(ours), items_of(theirs), margin=0.1, paired=False)
    exact = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert found["low"] == pytest.approx(exact.low, abs=0.08) and found["high"] == pytest.approx(exact.high, abs=0.08)


def test_the_detectable_difference_is_found_four_times_in_five():
    n, hits, rng = 60, 0, np.random.default_rng(7)  # of its own: what other tests drew before is no part of it
    detectable = contrast(items_of(rng.normal(size=n)), items_of(np.zeros(n)), margin=1, paired=True)["detectable"]
    for _ in range(400):
        sample = rng.normal(detectable, 1, n)
        hits += stats.ttest_1samp(sample, 0).confidence_interval().low > 0
    assert 0.7 < hits / 400 < 0.9  # its standard deviation is itself estimated from 60 items


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 1))
def test_every_interval_has_one_verdict_and_a_match_is_only_an_interval_within_the_margin(low, width, margin):
    high = low + width
    found = verdict(low, high, margin)
    assert (found == "equivalent") == (-margin < low and high < margin)
    assert found in ("equivalent", "better", "worse") or (low <= 0 <= high)
    if found == "better":
        assert low > 0 and high >= margin


def test_verdict_without_an_interval():
    assert verdict(np.nan, np.nan, 0.1) == "not measured"


def test_items_that_are_not_the_same_do_not_pair():
    with pytest.raises(ValueError, match="not scored on the same items"):
        contrast(items_of([1.0, 2.0]), items_of([1.0, 2.0, 3.0]), margin=0.1, paired=True)


def test_items_that_are_not_the_same_do_not_pair_though_their_clusters_are():
    ours = items_of([1.0, 2.0, 3.0], cluster=[0, 0, 1])
    with pytest.raises(ValueError, match="not scored on the same items"):
        contrast(ours, ours.iloc[1:], margin=0.1, paired=True)


@pytest.mark.parametrize("scores", [[], [0.5, np.nan]])
def test_missing_scores_are_refused(scores):
    with pytest.raises(ValueError, match="no items, or a score is missing"):
        contrast(items_of(scores), items_of([0.5]), margin=0.1, paired=False)


def test_a_margin_must_be_above_zero():
    with pytest.raises(ValueError, match="margin"):
        contrast(items_of([0.5]), items_of([0.5]), margin=0, paired=True)


def test_a_score_between_floor_and_ceiling():
    floor, ceiling = {"score": 0.5, "low": 0.4, "high": 0.6}, {"score": 0.9, "low": 0.8, "high": 1.0}
    assert rescaled(0.7, floor, ceiling) == pytest.approx(0.5)
    assert np.isnan(rescaled(0.7, floor | {"high": 0.8}, ceiling))

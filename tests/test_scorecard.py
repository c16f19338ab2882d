"""A scorecard's rows follow from items, floors and ceilings; checked on made-up ones whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from saebook.words import no_better_than_floor

from saelite.activation_functions import TopK
from saelite.checking import report
from saelite.evaluations.scorecard import against_trained, scorecard
from saelite.sae import SAE

rng = np.random.default_rng(0)
NOISE = rng.normal(0, 0.2, 80)


class MadeUp:
    """Scores items by an SAE's seed: trained 0.8, the same 0.8, worse 0.6, unknown (few, very different items)."""

    paired = True
    means = {0: 0.8, 1: 0.8, 2: 0.6}

    def __init__(self):
        self.settings = {}

    def __call__(self, sae):
        own = np.random.default_rng(sae.seed).normal(0, 0.001, 80)
        return pd.DataFrame({"metric": "made up", "item": range(80), "score": self.means[sae.seed] + NOISE + own})

    def references(self):
        made = {("chance", "floor"): 0.5, ("worse chance", "floor"): 0.2, ("best known", "ceiling"): 0.95}
        tables = {
            names: pd.DataFrame({"metric": "made up", "item": range(80), "score": mean + NOISE})
            for names, mean in made.items()
        }
        return pd.concat(tables, names=["reference", "kind"]).reset_index(["reference", "kind"])


@pytest.fixture
def card():
    saes = {("TopK", name): SAE(8, 16, TopK(2), seed=i) for i, name in enumerate(("fully trained", "same", "worse"))}
    return scorecard(saes, [(MadeUp(), {"made up": 0.02})], progress=False).set_index("baseline")


def test_each_row_has_its_score_floor_ceiling_and_place_between(card):
    assert card.loc["worse", "score"] == pytest.approx(0.6 + NOISE.mean(), abs=1e-3)
    assert card["floor_is"].unique() == ["chance"] and card["ceiling_is"].unique() == ["best known"]
    assert card.loc["fully trained", "rescaled"] == pytest.approx((0.8 - 0.5) / (0.95 - 0.5), abs=0.01)


def test_verdicts_follow_from_the_paired_differences(card):
    assert card["verdict"].fillna("").to_dict() == {"fully trained": "", "same": "equivalent", "worse": "worse"}
    assert card.loc["worse", "difference"] == pytest.approx(-0.2, abs=1e-3)


def test_a_metric_that_was_not_measured_is_refused():
    saes = {("TopK", "fully trained"): SAE(8, 16, TopK(2))}
    with pytest.raises(ValueError, match=r"MadeUp has no metric 'made down'; it has \['made up'\]"):
        scorecard(saes, [(MadeUp(), {"made down": 0.02})], progress=False)


def test_an_architecture_without_a_trained_sae_has_no_differences():
    items = pd.DataFrame(
        {"metric": "m", "architecture": "ReLU", "baseline": "Frozen Decoder", "item": [1, 2], "score": [0.0, 1.0]}
    )
    assert against_trained(items, margin=0.1, paired=True).empty


def test_without_floors_and_ceilings_there_is_no_place_between():
    class Alone(MadeUp):
        def references(self):
            return super().references().query("kind == 'floor'")

    saes = {("TopK", "fully trained"): SAE(8, 16, TopK(2))}
    row = scorecard(saes, [(Alone(), {"made up": 0.02})], progress=False).iloc[0]
    assert np.isnan(row["ceiling"]) and np.isnan(row["rescaled"]) and row["floor_is"] == "chance"


def test_where_a_trained_sae_is_at_the_floor_only_what_rises_above_it_is_better():
    class Low(MadeUp):
        means = {0: 0.5, 1: 0.5, 2: 0.3, 3: 0.4, 4: 0.8}  # chance is 0.5

    names = ("fully trained", "same", "worse", "a little worse", "better")
    saes = {("TopK", name): SAE(8, 16, TopK(2), seed=i) for i, name in enumerate(names)}
    saes |= {("ReLU", name): SAE(8, 16, TopK(2), seed=i) for name, i in (("fully trained", 2), ("less bad", 3))}
    card = scorecard(saes, [(Low(), {"made up": 0.02})], progress=False)
    assert card["verdict"].fillna("").tolist() == [
        "", "nothing to match", "worse", "worse", "better", "", "nothing to match",
    ]  # fmt: skip


def test_an_sae_that_is_not_told_apart_from_one_at_the_floor_stays_so():
    class Low(MadeUp):
        means = {0: 0.4, 1: 0.4}  # chance is 0.5

        def __call__(self, sae):  # the second's items differ so much that a mean tells little
            rough = np.random.default_rng(1).normal(0, 0.3, 80)
            return super().__call__(sae).assign(score=lambda of: of["score"] + sae.seed * (rough - rough.mean()))

    saes = {("TopK", name): SAE(8, 16, TopK(2), seed=i) for i, name in enumerate(("fully trained", "unknown"))}
    card = scorecard(saes, [(Low(), {"made up": 0.02})], progress=False)
    assert card["high"].iloc[0] < card["floor"].iloc[0] and card["verdict"].iloc[1] == "not told apart"


def test_what_lies_below_the_floor_does_not_reach_down_to_it():
    trained = pd.DataFrame(
        {
            "architecture": ["A", "B", "C", "D"], "low": [0.37, 0.45, 0.6, np.nan], "high": [0.44, 0.55, 0.7, np.nan],
            "floor": 0.5, "floor_is": "no edit",
        }
    )  # fmt: skip
    below, reaches = no_better_than_floor(trained).split(". ")
    assert below.startswith("For A the") and "wholly below the floor: it does worse than *no edit*" in below
    assert reaches.startswith("For B the") and "reaches down to the floor (*no edit*)" in reaches
    assert no_better_than_floor(trained.iloc[2:]) == ""
    assert no_better_than_floor(trained.assign(floor=np.nan, floor_is=None)) == ""


def test_an_sae_without_items_is_said_and_no_items_at_all_have_a_sentence():
    class Silent(MadeUp):
        def __call__(self, sae):
            return super().__call__(sae).iloc[: 80 * (sae.seed not in self.silent)]

    saes = {("TopK", name): SAE(8, 16, TopK(2), seed=i) for i, name in enumerate(("your SAE", "same", "worse"))}
    Silent.silent = {0}
    evaluation = Silent()
    evaluation.settings = {"silent": [0]}
    card = scorecard(saes, [(evaluation, {"made up": 0.02})], against="your SAE", progress=False)
    assert card["baseline"].tolist() == ["same", "worse"] and card["verdict"].isna().all()
    assert report.in_words(card, "your SAE") == ["made up: your SAE has no item that could be scored."]
    Silent.silent = {0, 1, 2}
    evaluation.settings = {"silent": [0, 1, 2]}
    with pytest.raises(ValueError, match="Silent has no item that could be scored for any of the SAEs"):
        scorecard(saes, [(evaluation, {"made up": 0.02})], against="your SAE", progress=False)


def test_metrics_that_are_better_where_lower_are_refused_by_name():
    with pytest.raises(ValueError, match="'cross-entropy' is better where it is lower"):
        scorecard({}, [(MadeUp(), {"cross-entropy": 0.02})], progress=False)
    items = pd.DataFrame(
        {"metric": "KL divergence", "architecture": "ReLU", "baseline": "a", "item": [1, 2], "score": [0.0, 1.0]}
    )
    with pytest.raises(ValueError, match="'KL divergence' is better where it is lower"):
        against_trained(items, margin=0.1, paired=True)

import pandas as pd
import pytest
import torch
from saebook.tables import whole_rows
from saebook.words import in_words

from saelite.activation_functions import TopK
from saelite.baselines import FrozenDecoder
from saelite.grid import architectures_at, fit_and_test, unmatched
from saelite.initialisation import iso
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities


def test_compare_trains_every_variant_on_the_same_data():
    world = FeatureWorld(constant_probabilities(60, 5), d_in=16)
    test = world.batches(500, 1, seed=1)[0]
    variants = [("fully trained", a, None, "iso") for a in architectures_at(5, ["TopK", "BatchTopK"], 64)]
    saes, histories, table = fit_and_test(variants, world.batches(128, 20), test, d_sae=64, lr=1e-3, progress=False)
    assert list(saes) == list(histories) == [("TopK", "fully trained"), ("BatchTopK", "fully trained")]
    assert table["architecture"].tolist() == ["TopK", "BatchTopK"]
    assert (table["low"] <= table["explained_variance"]).all() and (table["explained_variance"] <= table["high"]).all()


@pytest.mark.parametrize(("steps", "kept"), [([10, 20, 21], [10, 20]), ([10, 20, 30], [10, 20, 30]), ([7], [7])])
def test_a_last_row_of_fewer_steps_than_the_others_is_left_out(steps, kept):
    assert whole_rows(pd.DataFrame({"step": steps}))["step"].tolist() == kept


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="no activation function 'TopKK'; choose from .*; did you mean TopK?"):
        architectures_at(5, ["TopKK"], 64)


@pytest.mark.parametrize("l0", [0, 65])
def test_an_l0_that_does_not_fit_is_refused_at_once(l0):
    with pytest.raises(ValueError, match=f"cannot keep {l0} of 64 latents"):
        architectures_at(l0, ["JumpReLU"], 64)


def test_words_follow_the_table():
    table = pd.DataFrame(
        {
            "architecture": ["TopK", "TopK", "ReLU", "ReLU"],
            "baseline": ["fully trained", "Frozen Decoder"] * 2,
            "explained_variance": [0.8, 0.4, 0.5, 0.6],
            "l0": [20.0, 21.0, 20.0, 20.0],
        }
    )
    nulls = pd.DataFrame({"null": ["PCA", "chance"], "explained_variance": [0.55, 0.3]})
    first, second, third = in_words(table, nulls).splitlines()
    assert "ReLU" in third and "is itself below PCA, so" in third  # trained at 0.5 against 0.55; TopK's is above both
    assert "TopK" in first and "50% of the trained" in first and "below PCA (0.550), above chance (0.300)" in first
    assert "ReLU" in second and "120% of the trained" in second and "above PCA (0.550), above chance" in second


@pytest.mark.parametrize(
    ("other", "made", "said"),
    [
        ({}, {"data": "a", "steps": 9}, []),
        ({"baseline": FrozenDecoder()}, {"data": "a", "steps": 9}, []),  # the baseline's rule is what is compared
        ({}, {"data": "a", "steps": 3}, ["steps is 9 for one and 3"]),
        ({}, {"data": "a"}, ["steps is 9 for one and None"]),
        ({"seed": 1}, {"data": "a", "steps": 9}, ["different directions"]),
        ({"init": iso(32, 8, 5)}, {"data": "a", "steps": 9}, ["different directions"]),
        ({"d_sae": 24}, {"data": "a", "steps": 9}, ["d_sae is 32 for one and 24"]),
        ({"activation": TopK(2)}, {"data": "a", "steps": 9}, ["'k': 4", "L0 is 4.0 for one and 2.0"]),
    ],
)
def test_what_a_baseline_does_not_share_is_named(other, made, said):
    def sae(d_sae=32, activation=None, **changes):
        made = SAE(8, d_sae, activation or TopK(4), **changes).eval()
        made.b_enc.data.fill_(10.0)  # as many latents fire as may
        return made

    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    found = unmatched(sae(), sae(**other), x, made_with={"data": "a", "steps": 9}, other_made_with=made)
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_an_l0_that_came_out_differently_is_named_though_the_same_was_asked_for():
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    sae, other = SAE(8, 32, TopK(4)).eval(), SAE(8, 32, TopK(4)).eval()
    other.b_enc.data.fill_(-1.0)
    (said,) = unmatched(sae, other, x, made_with={}, other_made_with={})
    assert "measured L0" in said
    assert unmatched(sae, other, x, made_with={}, other_made_with={}, tolerance=1.0) == []

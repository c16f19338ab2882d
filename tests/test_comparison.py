import pandas as pd
import pytest

from saelite import activation_functions, penalised, ranked
from saelite.comparison import architectures_at, compare, in_words
from saelite.synthetic import FeatureWorld, constant_probabilities


def test_compare_trains_every_variant_on_the_same_data():
    world = FeatureWorld(constant_probabilities(60, 5), d_in=16)
    test = world.batches(500, 1, seed=1)[0]
    variants = [("fully trained", a, None, "iso") for a in architectures_at(5, ["TopK", "BatchTopK"], 64)]
    saes, histories, table = compare(variants, world.batches(128, 20), test, d_sae=64, lr=1e-3, progress=False)
    assert list(saes) == list(histories) == [("TopK", "fully trained"), ("BatchTopK", "fully trained")]
    assert table["architecture"].tolist() == ["TopK", "BatchTopK"]
    assert (table["low"] <= table["explained_variance"]).all() and (table["explained_variance"] <= table["high"]).all()


def test_an_unknown_architecture_is_refused():
    known = "TopK, BatchTopK, RelativeBatchTopK, Matryoshka, ReLU, JumpReLU"
    with pytest.raises(ValueError, match=f"no architecture 'TopKK'; choose from {known}"):
        architectures_at(5, ["TopKK"], 64)


def test_every_architecture_has_its_name_where_names_are_looked_up():
    found = vars(ranked) | vars(penalised)
    made = {name for name, kind in found.items() if isinstance(kind, type) and hasattr(kind, "select")}
    assert {name for name in made if not name.startswith("_")} == set(activation_functions.__all__)


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

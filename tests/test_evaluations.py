"""Every SAE is scored once; what was scored is kept, and remade when anything it follows from changes."""

import pandas as pd
import pytest
import torch

from saelite.activation_functions import TopK
from saelite.evaluations import Evaluation
from saelite.reuse import fingerprint, over, references
from saelite.sae import SAE


class Counting(Evaluation):
    """An evaluation that counts its calls."""

    paired = True

    def __init__(self, **settings):
        self.settings, self.calls, self.fails_on = settings, 0, None

    def __call__(self, sae):
        self.calls += 1
        if self.calls == self.fails_on:
            raise RuntimeError("the machine went away")
        return pd.DataFrame({"metric": "width", "item": ["a", "b"], "score": [1.0, float(sae.d_sae)]})

    def references(self):
        self.calls += 1
        return pd.DataFrame({"reference": "none", "kind": "floor", "metric": "width", "item": ["a"], "score": [0.0]})


@pytest.fixture
def saes():
    return {("TopK", f"of {width}"): SAE(8, width, TopK(2)) for width in (16, 32, 64)}


def test_a_table_of_the_whole_grid_with_names_in_front(saes):
    table = over(saes, Counting(seed=0), progress=False)
    assert list(table.columns) == ["architecture", "baseline", "metric", "item", "score"]
    assert table["baseline"].tolist() == ["of 16"] * 2 + ["of 32"] * 2 + ["of 64"] * 2
    assert table["score"].tolist() == [1, 16, 1, 32, 1, 64]


def test_what_was_scored_is_not_scored_again(saes):
    evaluation = Counting(seed=0)
    first = over(saes, evaluation, progress=False)
    references(evaluation)
    again = Counting(seed=0)
    pd.testing.assert_frame_equal(over(saes, again, progress=False), first)
    assert len(references(again)) == 1 and again.calls == 0
    over(saes, other := Counting(seed=1), progress=False)
    assert other.calls == 3
    with torch.no_grad():
        saes["TopK", "of 32"].b_enc[0] += 1e-6
    over(saes, again, progress=False)
    assert again.calls == 1


def test_what_was_finished_before_a_crash_is_kept(saes):
    evaluation = Counting(seed=0)
    evaluation.fails_on = 3
    with pytest.raises(RuntimeError):
        over(saes, evaluation, progress=False)
    again = Counting(seed=0)
    over(saes, again, progress=False)
    assert again.calls == 1


def test_fingerprints_tell_saes_apart():
    sae = SAE(8, 16, TopK(2))
    same, other = SAE(8, 16, TopK(2)), SAE(8, 16, TopK(2), seed=1)
    assert fingerprint(sae) == fingerprint(same) != fingerprint(other)
    assert fingerprint(sae) != fingerprint(SAE(8, 16, TopK(3)))  # k is in no tensor


def test_fingerprints_tell_apart_modules_of_others_that_differ_in_a_plain_setting():
    class Inner(torch.nn.Module):
        def __init__(self, k):
            super().__init__()
            self.k = k

    class Other(torch.nn.Module):
        def __init__(self, k, slope=0.1):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))
            self.inner, self.activation = Inner(k), torch.nn.LeakyReLU(slope)

    assert fingerprint(Other(2)) == fingerprint(Other(2))
    assert len({fingerprint(sae) for sae in (Other(2), Other(3), Other(2, 0.2))}) == 3


def test_an_evaluation_that_lacks_what_one_must_have_is_refused_when_it_is_made():
    class Half(Evaluation):
        paired, settings = True, {}

        def __call__(self, sae):
            return pd.DataFrame()

    with pytest.raises(TypeError, match="references"):
        Half()


def test_a_class_typed_at_a_prompt_is_scored_anew_since_its_source_cannot_be_read(saes):
    def typed(score):
        scope = {"Counting": Counting, "pd": pd, "__name__": "__main__"}
        exec(
            "class Typed(Counting):\n"
            "    def __call__(self, sae):\n"
            f"        return pd.DataFrame({{'metric': 'm', 'item': ['a'], 'score': [{score}]}})\n",
            scope,
        )
        return scope["Typed"](seed=0)

    assert over(saes, typed(1.0), progress=False)["score"].tolist() == [1.0] * 3
    assert over(saes, typed(2.0), progress=False)["score"].tolist() == [2.0] * 3

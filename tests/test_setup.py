import json

import datasets
import pandas as pd
import pytest
from saebook import setup
from tiny import tiny_model, tiny_texts

ASKED = {"model": "tiny", "texts": "of the test", "layer": 1, "tokens": 600, "batch_size": 64, "lr": 3e-3, "seed": 0}
SMALL = {"harvest_context": 16, "architectures": ["TopK", "BatchTopK"], "l0": 4, "expansion": 2}


@pytest.fixture
def loaded(monkeypatch):
    """The tiny model under any name; a list of what was loaded, in order."""
    found = []
    texts = datasets.Dataset.from_dict({"text": tiny_texts()})
    monkeypatch.setattr(setup, "language_model", lambda name: found.append(name) or tiny_model())
    monkeypatch.setattr(setup, "load_texts", lambda name, **how: found.append(name) or texts)
    return found


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"batch_size": 1000}, {"train_tokens": 10}, {"documents": -1}])
def test_a_number_that_does_not_fit_is_refused_before_anything_is_loaded(loaded, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}|activations for a batch"):
        setup.language_chapter(**ASKED | SMALL | wrong)
    assert not loaded


@pytest.mark.parametrize(
    "wrong", [{"layer": 9}, {"site": "nowhere"}, {"harvest_context": 1000}, {"architectures": ["Top"]}, {"l0": 99}]
)
def test_what_the_model_does_not_have_is_refused_before_texts_are_loaded(loaded, wrong):
    with pytest.raises(ValueError):
        setup.language_chapter(**ASKED | SMALL | wrong)
    assert loaded == ["tiny"]


def test_a_chapter_harvests_once_and_trains_the_papers_grid(loaded):
    chapter = setup.language_chapter(**ASKED | SMALL)
    assert chapter.d_sae == 32 and [one.name for one in chapter.activations] == ["TopK", "BatchTopK"]
    store, batches = chapter.harvest()
    assert chapter.harvest()[0] is store and batches[0].shape == (64, 16)
    saes, histories = chapter.train_grid()
    assert len(saes) == 10 and saes.keys() == histories.keys()
    shown = chapter.contexts({"one of them": saes["TopK", "fully trained"]}, n=2).data
    assert "one of them" in shown and "of the test" in shown  # and whose texts they are


def test_a_kept_table_says_what_it_was_made_with(tmp_path, monkeypatch):
    monkeypatch.setenv("SAELITE_RESULTS", str(tmp_path / "new"))
    setup.keep("scores", pd.DataFrame({"score": [0.5, 0.25]}), seed=3)
    kept = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert kept == [{"score": 0.5, "seed": 3}, {"score": 0.25, "seed": 3}]

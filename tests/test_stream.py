"""Streamed activations are those of a plain loop over the texts, each once, shuffled as the seed says."""

import json

import datasets
import numpy as np
import pytest
import torch
from saebook.activations import training_data
from tiny import tiny_model, tiny_texts

from saelite.activation_functions import TopK
from saelite.data import stream
from saelite.data.corpora import load_texts
from saelite.data.language_models import SITES, read_layer
from saelite.data.stream import StreamedActivations
from saelite.reuse import train_or_load
from saelite.sae import SAE
from saelite.training import train


def streamed(texts=None, lm=None, **changed):
    settings = {"layer": 1, "tokens": 1000, "context": 16, "batch": 2, "buffer": 400, "batch_size": 64} | changed
    return StreamedActivations(lm or tiny_model(), tiny_texts() if texts is None else texts, **settings)


def as_stream(texts=None):
    return datasets.Dataset.from_dict({"text": tiny_texts() if texts is None else texts}).to_iterable_dataset()


def one_by_one(lm, texts, site="residual", context=16):
    """Every activation in the order of the texts: one row at a time, the first position dropped."""
    found = []
    for text in texts:
        ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), context):
            row = torch.tensor([ids[start : start + context]])
            found.append(read_layer(lm, row, 1, site=site)[0, 1:])
    return torch.cat(found)


def in_order(x):
    return x[np.lexsort(x.numpy().T)]


@pytest.mark.parametrize("site", SITES)
def test_each_filling_holds_the_activations_that_follow_in_the_texts(site):
    lm = tiny_model()
    batches = list(streamed(as_stream(), lm, site=site))
    assert len(batches) == 1000 // 64 and all(b.shape == (64, 16) and b.dtype == torch.float32 for b in batches)
    expected = one_by_one(lm, tiny_texts(), site)
    # a filling ends inside a row, whose rest is left out: so each is looked for from where the last one ended
    end = 0
    for first in range(0, 15, 6):
        given = torch.cat(batches[first : first + 6])
        distance = torch.cdist(given, expected)
        places = distance.argmin(dim=1)
        assert distance.min(dim=1).values.max() < 0.02 * expected.norm(dim=1).mean()  # float16, other shapes of product
        assert places.unique().numel() == len(given) == places.max() - places.min() + 1  # neighbours, each once
        assert not torch.equal(places, places.sort().values)
        assert 0 <= places.min() - end <= 15
        end = places.max() + 1


def test_a_batch_follows_from_the_settings_and_its_number_alone():
    batches = streamed(as_stream())
    whole = list(batches)
    for i in (14, 0, 7, 6, 13):  # in any order, also backwards
        assert torch.equal(batches[i], whole[i])
        assert torch.equal(streamed(as_stream())[i], whole[i])
    other = streamed(as_stream(), seed=1)
    assert not torch.equal(other[0], whole[0])
    sets = [torch.cat([b[i] for i in range(6)]) for b in (batches, other)]
    torch.testing.assert_close(*map(in_order, sets), rtol=0, atol=0)
    with pytest.raises(IndexError):
        batches[15]


def test_in_order_each_text_is_run_once(monkeypatch):
    runs = []
    monkeypatch.setattr(stream, "run_rows", lambda *args, run=stream.run_rows: runs.append(args[2]) or run(*args))
    batches = streamed(as_stream())
    list(batches)
    once, rows = len(runs), sum(map(len, runs))
    words = [len(text.split()) for text in tiny_texts()]
    assert rows <= sum(-(-n // 16) for n in words) + 2  # rows there are, and those cut at the end of a filling
    list(batches)  # a second SAE: from the start again
    assert len(runs) == 2 * once
    runs.clear()
    streamed(as_stream())[14]  # what came before is tokenised, not run
    assert len(runs) < once / 2


def test_texts_in_a_list_are_drawn_by_the_seed_and_sets_count_as_lists():
    same = [streamed(texts)[0] for texts in (tiny_texts(), datasets.Dataset.from_dict({"text": tiny_texts()}))]
    assert torch.equal(*same)
    sets = [in_order(torch.cat([streamed(seed=seed)[i] for i in range(6)])) for seed in (0, 1)]
    assert not torch.equal(*sets)


def test_every_setting_is_in_the_key():
    changes = (
        {}, {"layer": 2}, {"site": "mlp"}, {"tokens": 900}, {"context": 15}, {"batch": 3}, {"buffer": 300},
        {"batch_size": 32}, {"seed": 1}, {"drop_positions": (0, 1)}, {"texts": tiny_texts()[1:]},
        {"texts": as_stream()}, {"texts": as_stream().skip(1)}, {"lm": tiny_model(bos=True)},
    )  # fmt: skip
    keys = {json.dumps(streamed(**change).settings, sort_keys=True) for change in changes}
    assert len(keys) == len(changes)
    assert streamed().settings == streamed().settings


def test_another_tokenizer_is_another_key():
    lm, other = tiny_model(), tiny_model()
    other.tokenizer.add_tokens(["w1 w2", " "])  # the model is the same
    for texts in (as_stream, tiny_texts):
        assert streamed(texts(), lm).settings != streamed(texts(), other).settings


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_read_that_was_stopped_leaves_nothing_out(error, monkeypatch):
    whole, stopped, tokenised = list(streamed(as_stream())), streamed(as_stream()), stream.tokenised
    stopped[0]

    def failing(*args):
        for number, pair in enumerate(tokenised(*args)):
            if number == 50:
                raise error
            yield pair

    monkeypatch.setattr(stream, "tokenised", failing)
    stopped._rows = None  # so that it reads anew, through what fails
    with pytest.raises(error):
        stopped[14]
    monkeypatch.setattr(stream, "tokenised", tokenised)
    assert all(torch.equal(batch, same) for batch, same in zip(stopped, whole, strict=True))


def test_an_sae_trains_on_a_stream_and_a_killed_run_goes_on_bit_for_bit(tmp_path):
    def sae():
        return SAE(16, 64, TopK(4))

    whole, killed = sae(), sae()
    train(whole, streamed(as_stream()), progress=False)

    class Killed(StreamedActivations):
        def __getitem__(self, i):
            if i == 9:
                raise KeyboardInterrupt
            return super().__getitem__(i)

    batches = streamed(as_stream())
    batches.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        train(killed, batches, checkpoint=tmp_path / "run", checkpoint_every=4, progress=False)
    again = sae()
    train(again, streamed(as_stream()), checkpoint=tmp_path / "run", checkpoint_every=4, progress=False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_what_was_trained_on_a_stream_is_found_again(monkeypatch):
    first, second = SAE(16, 64, TopK(4)), SAE(16, 64, TopK(4))
    train_or_load(first, streamed(as_stream()), progress=False)
    monkeypatch.setattr(stream, "run_rows", None)  # nothing may be run
    train_or_load(second, streamed(as_stream()), progress=False)
    assert torch.equal(first.W_dec, second.W_dec)


def test_texts_that_end_too_early_are_named_with_their_number():
    texts = ["w1 w2 w3 w4 w5"] * 30  # four kept positions each
    batches = streamed(as_stream(texts), tokens=160, buffer=64, batch_size=32)
    batches[1]
    with pytest.raises(ValueError, match="ended after 120 of the 160 activations asked for"):
        batches[4]
    assert batches[0].shape == (32, 16)  # and it still works


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layer": 3}, "from 0 to 2"),
        ({"site": "heads"}, "choose from residual"),
        ({"context": 65}, "2 to 64"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 500}, "batch_size=500 must be at least 1 and at most buffer=400"),
        ({"tokens": 60}, "tokens=60"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        streamed(**change)


def test_numbers_that_cannot_be_kept_are_named():
    lm = tiny_model()
    with torch.no_grad():
        lm.model.model.embed_tokens.weight[30:].fill_(float("nan"))
    with pytest.raises(ValueError, match="block 1 .* is NaN or infinite"):
        streamed(as_stream(), lm)[0]


# What a chapter works with


def test_without_a_stream_a_chapter_gets_what_it_got_before():
    store, batches = training_data(
        tiny_model(), tiny_texts(), layer=1, tokens=1000, context=16, batch_size=64, epochs=2, seed=3
    )
    assert len(store) == 1000 and batches.settings == store.batches(64, epochs=2, seed=3).settings


def test_no_text_is_both_tested_on_and_trained_on(tmp_path):
    texts = [f"w{i % 60} w{i // 60} " + " ".join(f"w{(i * j) % 60}" for j in range(i % 20)) for i in range(600)]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    lm = tiny_model()
    stream = load_texts(str(file), streaming=True)
    store, batches = training_data(lm, stream, layer=1, tokens=500, train_tokens=3000, context=16, batch_size=64)
    assert len(store) == 500 and len(batches) == 46 and store.record["text_set"] == str(file)
    order = [row["text"] for row in stream]
    assert [row["text"] for row in batches.texts] == order[-len(list(batches.texts)) :]
    aside = len(order) - len(list(batches.texts))
    lengths = [len(text.split()) for text in order]
    gains = np.cumsum([sum(max(0, min(16, n - i) - 1) for i in range(0, n, 16)) for n in lengths])
    assert gains[aside - 2] < 500 <= gains[aside - 1]  # no more than needed
    assert sum(gains[-1:]) - gains[aside - 1] >= 3000
    batches[len(batches) - 1]


def test_a_stream_is_passed_over_once_and_must_be_one():
    at = {"layer": 1, "tokens": 100, "train_tokens": 200, "context": 16, "batch_size": 64}
    with pytest.raises(ValueError, match="epochs=2"):
        training_data(tiny_model(), as_stream(), epochs=2, **at)
    with pytest.raises(ValueError, match="streaming=True"):
        training_data(tiny_model(), tiny_texts(), **at)

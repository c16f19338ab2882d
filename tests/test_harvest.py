"""A store holds exactly what was asked for, whole, and the same however often the harvest was killed."""

import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_texts

from saelite.data import harvest as harvesting
from saelite.data.batches import batches, is_rows
from saelite.data.harvest import ActivationStore, harvest
from saelite.data.language_models import read_layer, site_of


def ask(folder, lm=None, texts=None, **changed) -> ActivationStore:
    settings = {"layer": 1, "tokens": 1000, "context": 16, "batch": 2, "progress": False, "folder": folder} | changed
    return harvest(lm or tiny_model(), tiny_texts() if texts is None else texts, **settings)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ask(tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize("drop, bos", [((0,), False), ((0,), True), ((), False), ((0, 1, 7), True)])
def test_every_activation_is_what_the_model_gives_for_its_row(tmp_path, drop, bos):
    lm = tiny_model(bos)
    store = ask(tmp_path, lm, drop_positions=drop, tokens=500)
    assert len(store) == 500 == store.record["tokens"] and store.d_in == 16
    everything = store[:]
    assert everything.dtype == torch.float32 and everything.shape == (500, 16)
    for i in range(0, 500, 3):
        row, position = store.context_of(i)
        assert position not in drop and len(row) <= 16 and (row[0] == 0) == bos
        alone = read_layer(lm, row[None, : position + 1], 1)[0, -1]
        torch.testing.assert_close(everything[i], alone, rtol=2e-3, atol=2e-3)  # float16, and other shapes of product
    rows = [store.context_of(int(first))[0] for first in store._first[:-1]]
    assert store.record["dropped"] == sum(map(len, rows)) - 500


@pytest.mark.parametrize("site, words", [("mlp", "MLP"), ("attention", "attention")])
def test_a_hook_point_inside_the_block_is_kept_and_named(tmp_path, site, words):
    lm = tiny_model()
    store = ask(tmp_path, lm, site=site, tokens=300)
    assert site_of(store.record) == site and store.record["site"] == f"output of the {words} of decoder block 1"
    for i in range(0, 300, 20):
        row, position = store.context_of(i)
        alone = read_layer(lm, row[None, : position + 1], 1, site=site)[0, -1]
        torch.testing.assert_close(store[i], alone, rtol=2e-3, atol=2e-3)


def test_the_keys_of_stores_that_were_made_before_there_were_other_hook_points_hold(tmp_path, monkeypatch):
    """Worked out by the version before: what was harvested need not be harvested again."""
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    monkeypatch.setattr(harvesting.transformers, "__version__", "5.23.0")
    monkeypatch.setattr(harvesting, "fingerprint", lambda lm: "0123456789abcdef")
    assert ask(tmp_path).folder.name == "08d28837377483b2"
    assert site_of(ask(tmp_path).record) == "residual"


@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 777])
def test_count_is_exact(tmp_path, tokens):
    assert len(ask(tmp_path, tokens=tokens)) == tokens


def test_rows_hold_one_document_each_in_the_order_of_the_seed(tmp_path):
    lm, texts = tiny_model(), tiny_texts()
    store = ask(tmp_path, lm, texts, seed=None, drop_positions=())
    pieces = [
        ids[start : start + 16]
        for ids in lm.tokenizer(texts, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), 16)
    ]
    rows = [store.context_of(int(first))[0].tolist() for first in store._first[:-1]]
    assert rows[:-1] == pieces[: len(rows) - 1]  # the last is cut where the count is reached
    shuffled = ask(tmp_path, lm, texts, seed=1, drop_positions=())
    assert shuffled.folder != store.folder and not torch.equal(shuffled[:], store[:])


def test_held_out_shares_no_activation_and_no_document(store):
    train, held_out = store.train, store.held_out
    assert len(train) + len(held_out) == len(store) and 0.05 < len(held_out) / len(store) <= 0.1
    torch.testing.assert_close(torch.cat([train[:], held_out[:]]), store[:], rtol=0, atol=0)
    # Rows of one document follow one another, so the cut is between documents if it is where one starts.
    row, position = held_out.context_of(0)
    starts = tiny_model().tokenizer(tiny_texts(), add_special_tokens=False)["input_ids"]
    assert position == 1 and any(row.tolist() == ids[: len(row)] for ids in starts)
    assert held_out.context_of(0)[0].tolist() == store.context_of(len(train))[0].tolist()
    with pytest.raises(IndexError, match="outside"):
        held_out.context_of(len(held_out))


def test_batches_follow_from_seed_and_number_and_stay_in_train(store):
    batches = store.batches(64, epochs=3, seed=5)
    per_epoch = len(store.train) // 64
    assert len(batches) == 3 * per_epoch == len(list(batches))
    assert all(b.shape == (64, 16) and b.dtype == torch.float32 for b in batches)
    fresh = store.batches(64, epochs=3, seed=5)
    for i in (len(batches) - 1, 0, per_epoch):  # in any order
        assert torch.equal(fresh[i], batches[i])
    assert not torch.equal(store.batches(64, seed=6)[0], batches[0])
    rows = {tuple(row.tolist()) for row in store.train[:]}
    for epoch in range(3):
        drawn = [tuple(row.tolist()) for i in range(per_epoch) for row in batches[epoch * per_epoch + i]]
        assert set(drawn) <= rows
    assert not torch.equal(batches[0], batches[per_epoch])
    held_out = {tuple(row.tolist()) for row in store.held_out[:]} - rows
    assert held_out.isdisjoint(drawn)
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_a_store_is_rows_by_number_in_parts_that_are_known_apart(store):
    assert is_rows(store) and store[[3, 1, 4]].dtype == torch.float32
    assert torch.equal(store[np.array([3, 1, 4])], torch.stack([store[i] for i in (3, 1, 4)]))
    part = store.held_out.part(2, 5)
    assert len(part) == 3 and torch.equal(part[:], store.held_out[2:5])
    assert part.context_of(0)[0].tolist() == store.held_out.context_of(2)[0].tolist()
    keys = [str(some.settings) for some in (store, store.train, store.held_out, part)]
    assert len(set(keys)) == 4 and store.part(0, len(store.train)).settings == store.train.settings
    assert torch.equal(batches(store.train, 64, seed=5)[3], store.batches(64, seed=5)[3])


def test_too_few_for_a_batch_and_odd_numbers_are_refused(store):
    with pytest.raises(ValueError, match=f"{len(store.train)} activations here, too few for one batch of 5,000"):
        store.batches(5000)
    with pytest.raises(ValueError, match="batch_size=0 must be a whole number of 1 or more"):
        store.batches(0)


def test_asked_again_it_is_opened_and_every_setting_makes_another(tmp_path, monkeypatch):
    first = ask(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(harvesting, "read_layer", None)  # nothing may be run
        assert ask(tmp_path).folder == first.folder
    others = [
        ask(tmp_path, **change).folder
        for change in (
            {"layer": 2},
            {"site": "mlp"},
            {"site": "attention"},
            {"tokens": 999},
            {"context": 17},
            {"batch": 3},
            {"drop_positions": (0, 1)},
            {"seed": 1},
            {"texts": [*tiny_texts()[:-1], "w1 w2 w3"]},
            {"lm": tiny_model(bos=True)},
        )
    ]
    assert len({first.folder, *others}) == 11


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
import test_harvest as t
from saelite.data import harvest as harvesting
harvesting.CHECKPOINT_SECONDS = 0.0
run, calls = harvesting.read_layer, 0
def until(*args):
    global calls
    calls += 1
    if calls > {calls}:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(*args)
harvesting.read_layer = until
t.ask({folder!r})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_harvest_resumes_to_the_same_bytes(tmp_path, store, monkeypatch):
    here = Path(__file__).resolve()
    code = KILLED.format(tests=str(here.parent), root=str(here.parents[1]), folder=str(tmp_path), calls=9)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL
    final = tmp_path / store.folder.name
    assert not final.exists() and (tmp_path / f"{final.name}.partial" / "done.json").is_file()
    with pytest.raises(ValueError, match="whole activation store"):
        ActivationStore(tmp_path / f"{final.name}.partial")

    calls = []
    monkeypatch.setattr(harvesting, "read_layer", lambda *args: calls.append(1) or read_layer(*args))
    resumed = ask(tmp_path)
    monkeypatch.undo()
    assert 0 < len(calls) < len(harvesting.batches_of(store._rows, store.record)) - 8  # nine were kept
    for name in ("activations.bin", "rows.safetensors", "record.json"):
        assert (resumed.folder / name).read_bytes() == (store.folder / name).read_bytes()
    assert not (tmp_path / f"{final.name}.partial").exists()


def test_cut_or_absent_store_is_refused(tmp_path, store):
    broken = tmp_path / "broken"
    shutil.copytree(store.folder, broken)
    data = broken / "activations.bin"
    data.write_bytes(data.read_bytes()[:-2])
    for folder in (broken, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="whole activation store: delete it and harvest again"):
            ActivationStore(folder)


def test_no_room_is_said_before_the_model_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(harvesting, "read_layer", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 500, 500))
    with pytest.raises(OSError, match="No room on the disk.*SAELITE_CACHE") as caught:
        ask(tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_disk_that_fills_on_the_way_gives_one_error_and_keeps_what_is_done(tmp_path, store, monkeypatch):
    monkeypatch.setattr(harvesting, "CHECKPOINT_SECONDS", 0.0)
    written = []

    def write(file, array, plain=harvesting._write_all):
        written.append(1)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(file, array)

    with monkeypatch.context() as patch:
        patch.setattr(harvesting, "_write_all", write)
        with pytest.raises(OSError, match="No room on the disk"):
            ask(tmp_path)
    assert torch.equal(ask(tmp_path)[:], store[:])


def test_too_few_tokens_says_how_many_there_are(tmp_path):
    with pytest.raises(ValueError, match="hold 10 tokens at kept positions, fewer than the 11 asked for"):
        ask(tmp_path, texts=["w1 w2 w3 w4 w5 w6", "w1", "w1 w2 w3 w4 w5 w6"], tokens=11)
    assert len(ask(tmp_path, texts=["w1 w2 w3 w4 w5 w6", "w1", "w1 w2 w3 w4 w5 w6"], tokens=10)) == 10


@pytest.mark.parametrize("value, message", [(float("nan"), "block 1 .* of 'tiny' in float32 is NaN"), (1e6, "float16")])
def test_numbers_that_cannot_be_kept_are_named(tmp_path, value, message):
    lm = tiny_model()
    with torch.no_grad():
        lm.model.model.embed_tokens.weight[30:].fill_(value)
    with pytest.raises(ValueError, match=message):
        ask(tmp_path, lm)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layer": 3}, "from 0 to 2"),
        ({"site": "heads"}, "site='heads'; choose from residual, mlp, attention"),
        ({"tokens": 0}, "tokens=0 must be a whole number of 1 or more"),
        ({"batch": 0}, "batch=0 must be a whole number of 1 or more"),
        ({"context": 1}, "2 to 64"),
        ({"context": 65}, "2 to 64"),
        ({"drop_positions": (16,)}, "between 0 and context - 1 = 15"),
        ({"drop_positions": (-1,)}, "between 0"),
        ({"drop_positions": range(16)}, "nothing would be kept"),
    ],
)
def test_bad_settings_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        ask(tmp_path, **change)


@pytest.mark.parametrize("texts", ["one long string", {"text": ["a"]}, [b"bytes"], 3])
def test_texts_must_be_texts(tmp_path, texts):
    with pytest.raises(TypeError, match="text"):
        ask(tmp_path, texts=texts)

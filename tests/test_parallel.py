"""Two processes that share every batch, against one process on the whole of it."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import two_processes
from grid import ACTIVATIONS
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from two_processes import CASES, GRID, start_two

from saelite.kernels import parallel


def of_two(work):
    """What `work` gives in each of two processes, made once for all tests that look at it."""
    return pytest.fixture(scope="module", name=work.__name__)(
        lambda tmp_path_factory: start_two(work, tmp_path_factory.mktemp(work.__name__))
    )


whole_grid = of_two(two_processes.whole_grid)
selections = of_two(two_processes.selections)
resumed = of_two(two_processes.resumed)


@pytest.mark.parametrize("activation,baseline", GRID)
def test_two_processes_train_the_sae_of_one(activation, baseline, whole_grid):
    first, second = (given[activation, baseline] for given in whole_grid)
    alone = two_processes.train_one(activation, baseline)
    for name, tensor in alone["state"].items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(first["state"][name], tensor, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n} {m}")
    pd.testing.assert_frame_equal(first["history"], second["history"], check_exact=True)
    pd.testing.assert_frame_equal(first["history"], alone["history"], rtol=1e-9, atol=1e-9)
    assert alone["history"]["dead"].max() > 0.3  # else revival had nothing to do


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_latents_of_a_shared_batch_are_those_of_the_whole(activation, selections):
    """The very same entries, ties at the edge too, and the same threshold and guess after each batch."""
    (first, first_state), (second, second_state) = (given[activation] for given in selections)
    alone, state = two_processes.select(activation)
    for case, a, b, (whole, guess) in zip(CASES, first, second, alone, strict=True):
        shared = torch.cat([a[0], b[0]])
        if activation == "TopK":  # of equals in one sample it takes whichever torch does, in one process too
            shared, whole = shared.sort(dim=1).values, whole.sort(dim=1).values
        assert torch.equal(shared, whole), case
        assert a[1] == b[1] == guess, case
        if activation in ("BatchTopK", "RelativeBatchTopK", "Matryoshka") and case != "few above zero":
            assert (whole > 0).sum() == 40 * 5, case
    for name, tensor in state.items():
        assert torch.equal(first_state[name], tensor) and torch.equal(second_state[name], tensor), name


def test_what_cannot_be_shared_is_refused_in_all_processes(tmp_path):
    first, second = start_two(two_processes.refusals, tmp_path)
    for messages in (first, second):
        assert "batch of 65 activations cannot be divided evenly among 2 processes" in messages["indivisible"]
        assert "pass parallel.shard(batches)" in messages["the same"]
        assert "give each the same number of rows" in messages["of two sizes"]
        assert "1 of 64 activations have NaN" in messages["NaN at first"]
        assert "1 of 64 activations have NaN" in messages["NaN later"]
        assert "were asked for different SAEs" in messages["two SAEs"]
        assert "keep it on a disk that they share" in messages["own disks"]
    assert (tmp_path / "own-0").exists() and not (tmp_path / "own-1").exists()


@pytest.mark.parametrize("activation", two_processes.RESUMED)
def test_two_processes_resume_to_the_same_bits(activation, resumed):
    for (state, history), (state_again, history_again) in (given[activation] for given in resumed):
        for name, tensor in state.items():
            assert torch.equal(tensor, state_again[name]), name
        pd.testing.assert_frame_equal(history, history_again, check_exact=True)


def test_a_killed_run_of_two_goes_on_and_one_process_finds_its_sae(tmp_path, monkeypatch):
    (tmp_path / "left alone").mkdir()
    with pytest.raises((ProcessExitedException, ProcessRaisedException)):
        start_two(two_processes.killed, tmp_path)
    assert [Path(name).suffix for name in two_processes.kept(tmp_path)] == [".run"]
    again = start_two(two_processes.cached, tmp_path)
    left_alone = start_two(two_processes.cached, tmp_path / "left alone")
    monkeypatch.setattr("saelite.reuse.train", lambda *args, **kwargs: pytest.fail("trained again"))
    found = two_processes.cached(tmp_path)
    for state, history, files in (*again, found):
        for name, tensor in left_alone[0][0].items():
            assert torch.equal(state[name], tensor), name
        assert history["samples"].tolist() == [640, 768]
        assert files == found[2] and len(files) == 1


def test_the_script_of_the_how_to_page_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "book" / "howto.md").read_text(encoding="utf-8")
    script = tmp_path / "several.py"
    script.write_text(re.search(r"as `several\.py`:\n\n```python\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    run = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    monkeypatch.setattr("saelite.reuse.train", lambda *args, **kwargs: pytest.fail("trained again"))
    runpy.run_path(str(script))  # alone, it finds what the two have trained
    assert capsys.readouterr().out == run.stdout and "30720" in run.stdout


def test_alone_nothing_is_copied():
    tensor, batches = torch.ones(3), [torch.ones(3, 2)]
    for same in (parallel.total, parallel.mean, parallel.smallest, parallel.first, parallel.whole):
        assert same(tensor) is tensor
    assert parallel.gather(tensor) == (tensor, slice(0, 3)) and parallel.own(tensor, None) is tensor
    assert parallel.shard(batches) is batches and parallel.size() == 1 and parallel.leads()

import itertools
import os
import signal
import subprocess
import sys

import pytest
import torch
from grid import ACTIVATIONS, BASELINES

from saelite import activation_functions, checkpoints
from saelite.activation_functions import BatchTopK, JumpReLU, ReLU, TopK
from saelite.baselines import SoftFrozenDecoder
from saelite.initialisation import cov
from saelite.metrics import evaluate
from saelite.reuse import train_or_load
from saelite.sae import SAE
from saelite.storage import cache
from saelite.synthetic import FeatureWorld, constant_probabilities
from saelite.training import AuxiliaryLoss, train

WORLD = FeatureWorld(constant_probabilities(60, 5), d_in=16)


@pytest.mark.parametrize("start", ["iso", "cov"])
@pytest.mark.parametrize("activation,baseline", list(itertools.product(ACTIVATIONS, BASELINES)))
def test_training_improves_and_keeps_the_baselines_invariant(activation, baseline, start):
    batches = WORLD.batches(256, 60)
    init = "iso" if start == "iso" else cov(64, batches[0])
    sae = SAE(16, 64, ACTIVATIONS[activation](), BASELINES[baseline](), init=init)
    sae.calibrate(batches[0])
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    history = train(sae, batches, lr=3e-3, progress=False)
    assert history.explained_variance.iloc[-1] > history.explained_variance.iloc[0]
    after = sae.state_dict()
    changed = {name for name in ("W_enc", "W_dec", "b_enc", "b_dec") if not torch.equal(before[name], after[name])}
    if baseline == "Frozen Decoder":
        assert changed == {"W_enc", "b_enc", "b_dec"}
        assert torch.equal(sae.W_dec, sae.W_dec_start)
    elif baseline == "Frozen Encoder":
        assert torch.equal(sae.W_enc, sae.W_dec_start.T * sae.encoder_gain)
        assert changed == {"W_dec", "b_enc", "b_dec"}
        assert sae.W_dec.norm(dim=1).std() > 1e-3  # norms are free: they set the gain
    elif baseline in ("fully trained", "Soft-Frozen Decoder"):
        assert changed == {"W_enc", "W_dec", "b_enc", "b_dec"}
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))
    if baseline == "Soft-Frozen Decoder":
        assert sae.cosine_to_start().min() >= 0.8 - 1e-6
    assert not sae.training


def test_soft_frozen_reaches_its_bound():
    """A cone that nothing ever presses against would test nothing."""
    sae = SAE(16, 64, TopK(5), SoftFrozenDecoder(0.98))
    train(sae, WORLD.batches(256, 100), lr=1e-2, progress=False)
    cosines = sae.cosine_to_start()
    assert cosines.min() >= 0.98 - 1e-6
    assert (cosines < 0.981).float().mean() > 0.3


@pytest.mark.parametrize("make", [ReLU, JumpReLU, BatchTopK], ids=lambda make: make.__name__)
@pytest.mark.parametrize("baseline", BASELINES)
def test_held_out_l0_is_near_the_target(make, baseline):
    """Of every baseline, or it could not be compared. For BatchTopK: the saved threshold gives what training had."""
    sae = SAE(16, 64, make(5), BASELINES[baseline]())
    train(sae, WORLD.batches(256, 300), lr=3e-3, progress=False)
    assert evaluate(sae, WORLD.batches(4000, 1, seed=9)[0]).l0 == pytest.approx(5, rel=0.1)


def test_same_seed_same_weights():
    weights = []
    for _ in range(2):
        sae = SAE(16, 64, BatchTopK(5), seed=3)
        train(sae, WORLD.batches(256, 20), progress=False)
        weights.append(sae.W_enc.detach())
    assert torch.equal(*weights)


def test_revival_brings_latents_back():
    dead = []
    for revival in (None, AuxiliaryLoss(dead_after=2000)):
        sae = SAE(16, 256, TopK(5))
        sae.calibrate(WORLD.batches(256, 1)[0])
        sae.b_enc.data[:128] = -1  # half of the latents start where they seldom win
        train(sae, WORLD.batches(256, 200), lr=3e-3, revival=revival, progress=False)
        dead.append(evaluate(sae, WORLD.batches(4000, 1, seed=9)[0]).dead)
    assert dead[0] > 0.4 and dead[1] < dead[0] - 0.1


def test_batches_that_end_early_are_told():
    with pytest.raises(ValueError, match="ended after 3 of the 5 steps"):
        train(SAE(16, 64, TopK(5)), (torch.randn(32, 16) for _ in range(3)), steps=5, progress=False)


def test_a_batch_without_variance_is_refused():
    with pytest.raises(ValueError, match="is the same"):
        train(SAE(16, 64, TopK(5)), [torch.ones(32, 16)], progress=False)


def test_a_full_disk_is_told_before_training(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    monkeypatch.setattr("saelite.reuse.train", lambda *args, **kwargs: pytest.fail("trained"))
    with pytest.raises(OSError, match="No room on the disk: training TopK, fully trained needs"):
        train_or_load(SAE(16, 64, TopK(5)), WORLD.batches(128, 20))


def test_other_features_are_other_data():
    """The cache must not answer for a world whose features were changed."""
    world = FeatureWorld(constant_probabilities(60, 5), d_in=16)
    before = world.batches(128, 20).settings
    world.features = world.features.roll(1, dims=1)
    assert world.batches(128, 20).settings != before


def test_plain_iterables_train_too():
    sae = SAE(16, 64, TopK(5))
    history = train(sae, (torch.randn(32, 16) for _ in range(50)), steps=7, log_every=2, progress=False)
    assert history.step.tolist() == [2, 4, 6, 7]
    assert history.samples.tolist() == [64, 128, 192, 224]


def test_bad_input_is_refused_in_words(tmp_path):
    sae = SAE(16, 64, TopK(5))
    endless = itertools.repeat(torch.randn(32, 16))
    with pytest.raises(ValueError, match="say how many"):
        train(sae, endless)
    with pytest.raises(ValueError, match="by number"):
        train(sae, endless, steps=5, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="1 batches, fewer than the 5 steps"):
        train(sae, [torch.randn(32, 16)], steps=5)
    with pytest.raises(ValueError, match="not a single batch"):
        train(sae, [])
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 16\); it was given \(32, 15\)"):
        train(sae, [torch.randn(32, 15)], progress=False)
    for value in (float("nan"), float("inf")):
        bad = torch.randn(32, 16)
        bad[3, 4] = value
        with pytest.raises(ValueError, match="1 of 32 activations have NaN or infinity"):
            train(SAE(16, 64, TopK(5)), [bad], progress=False)
        with pytest.raises(ValueError, match="1 of 32 activations have NaN or infinity"):
            train(SAE(16, 64, TopK(5)), [torch.randn(32, 16), bad], progress=False)


def with_checkpoints(activation, file):
    """Train, saving every 20 steps; the weights and the history."""
    sae = SAE(16, 64, getattr(activation_functions, activation)(3))
    history = train(
        sae, WORLD.batches(128, 90), lr=1e-3, checkpoint=file, checkpoint_every=20,
        revival=AuxiliaryLoss(dead_after=1000), progress=False,
    )  # fmt: skip
    return sae.state_dict(), history.drop(columns="seconds").to_dict()


def die_after_40_steps(activation, file):
    save = checkpoints.save_training

    def save_then_die(path, run, step):
        save(path, run, step)
        if step == 40:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_training = save_then_die
    with_checkpoints(activation, file)


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """A folder with what runs have left that met with kill -9, one for each activation function."""
    folder = tmp_path_factory.mktemp("killed")
    program = f"""
import os, signal, sys
import test_training

for name in {list(ACTIVATIONS)}:
    child = os.fork()  # before anything is computed, so that there is no thread to lose
    if child == 0:
        test_training.die_after_40_steps(name, os.path.join(sys.argv[1], name))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""
    command = [sys.executable, "-c", program, str(folder)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    return folder


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_killed_run_resumes_to_the_same_bits(activation, killed_runs, tmp_path):
    """kill -9 in the middle, then the same call again, against a run that was left alone."""
    killed, killed_history = with_checkpoints(activation, killed_runs / activation)
    whole, whole_history = with_checkpoints(activation, tmp_path / "whole")
    assert whole.keys() == killed.keys() and whole_history == killed_history
    for name in whole:
        assert torch.equal(whole[name], killed[name]), name


def test_train_or_load(monkeypatch):
    batches = WORLD.batches(128, 20)
    first = SAE(16, 64, BatchTopK(5))
    history = train_or_load(first, batches, lr=1e-3, progress=False)
    monkeypatch.setattr("saelite.reuse.train", lambda *args, **kwargs: pytest.fail("trained again"))
    again = SAE(16, 64, BatchTopK(5))
    (kept,) = (cache.folder() / "saes").glob("*/")
    kept.with_suffix(".run").write_bytes(b"of a run that was killed between its last two steps")
    assert train_or_load(again, batches, lr=1e-3, progress=False).equals(history)
    assert not kept.with_suffix(".run").exists()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    frozen, turned = SAE(16, 64, BatchTopK(5)), SAE(16, 64, BatchTopK(5))
    frozen.W_dec.requires_grad_(False)
    turned.W_enc.data.neg_()
    for sae, settings in [
        (SAE(16, 64, BatchTopK(6)), {"lr": 1e-3}),
        (SAE(16, 64, BatchTopK(5), seed=1), {"lr": 1e-3}),
        (SAE(16, 64, BatchTopK(5), SoftFrozenDecoder()), {"lr": 1e-3}),
        (SAE(16, 64, BatchTopK(5)), {"lr": 2e-3}),
        (frozen, {"lr": 1e-3}),
        (turned, {"lr": 1e-3}),
    ]:
        with pytest.raises(pytest.fail.Exception):
            train_or_load(sae, batches, progress=False, **settings)


def test_two_processes_that_train_the_same_do_not_harm_each_other(monkeypatch):
    batches = WORLD.batches(128, 20)
    save = SAE.save

    def save_after_another_did(sae, folder, **record):
        save(sae, folder, **record)
        save(sae, folder, **record)

    monkeypatch.setattr(SAE, "save", save_after_another_did)
    history = train_or_load(SAE(16, 64, TopK(5)), batches, lr=1e-3, progress=False)
    assert train_or_load(SAE(16, 64, TopK(5)), batches, lr=1e-3, progress=False).equals(history)

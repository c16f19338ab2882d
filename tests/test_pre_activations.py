"""Selecting active latents without looking at all of them in full precision: the choice is the same."""

import pytest
import torch
from grid import ACTIVATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from saelite.activation_functions import BatchTopK, JumpReLU, RelativeBatchTopK, ReLU, TopK
from saelite.kernels import pre_activations, sparse
from saelite.kernels.pre_activations import PreActivations
from saelite.kernels.sparse import Support
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities
from saelite.training import AuxiliaryLoss, train

D_SAE = 50
PRECISIONS = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def sparse_and_in_chunks(monkeypatch):
    """At this size the dense path would win; and a batch is to need more than one chunk."""
    monkeypatch.setattr(sparse, "DENSE_ABOVE", 1.0)
    monkeypatch.setattr(pre_activations, "CHUNK", 64 * D_SAE)


def candidates_in(dtype, monkeypatch):
    monkeypatch.setattr(pre_activations, "bfloat16_is_faster", lambda: dtype == torch.bfloat16)


def batch_of(seed, batch=150, d_in=9, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    x, W, b = (torch.randn(*shape, generator=generator) for shape in ((batch, d_in), (D_SAE, d_in), (D_SAE,)))
    x *= torch.rand(batch, 1, generator=generator) * scale  # samples of all sizes
    return PreActivations(x, W, 0.1 * scale * b)


def everywhere(pre):
    """All pre-activations, computed as the selected ones are."""
    whole = Support.at(torch.arange(pre.shape[0] * pre.shape[1]), pre.shape)
    return pre.at(whole).view(pre.shape)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("kind", ["one", "latents", "samples"])
@pytest.mark.parametrize("level", [-0.5, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_above_gives_every_entry_over_the_floor_and_no_other(dtype, kind, level, scale, monkeypatch):
    candidates_in(dtype, monkeypatch)
    pre = batch_of(0, scale=scale)
    shape = {"one": (), "latents": (D_SAE,), "samples": (150, 1)}[kind]
    floor = (torch.rand(shape) - 0.5 + level) * scale
    support, z = pre.above(floor)
    assert torch.equal(support.to_dense(z), torch.where(everywhere(pre) > floor, everywhere(pre), 0.0))
    assert (support.flat.diff() > 0).all()
    torch.testing.assert_close(z, pre.dense().flatten()[support.flat], rtol=1e-4, atol=1e-5 * scale)


def test_a_floor_under_most_entries_takes_the_dense_way(monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_ABOVE", 0.1)
    pre = batch_of(0)
    support, z = pre.above(0.0)
    assert support.is_dense
    assert torch.equal(support.to_dense(z), pre.dense().relu())


def largest(values, k, rows):
    """Brute force: the k largest positive entries of each row, or of the whole in one."""
    flat = values if rows else values.flatten()[None]
    k = k if rows else k * len(values)
    kept = torch.zeros_like(flat)
    for row in range(len(flat)):
        for place in flat[row].argsort(descending=True)[:k]:
            kept[row, place] = flat[row, place].clamp(min=0)
    return kept.view(values.shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(1, D_SAE), st.sampled_from(PRECISIONS))
def test_top_k_and_batch_top_k_select_exactly_the_largest(seed, batch, k, dtype):
    """Whatever guess the batches before have left behind, and with samples of all sizes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        candidates_in(dtype, monkeypatch)
        activations = TopK(k), BatchTopK(k)
        for activation in activations:
            activation.attach(D_SAE)
        for number, scale in enumerate((1.0, 1.1, 0.2, 5.0)):
            pre = batch_of(seed + number, batch, scale=scale)
            for activation in activations:
                support, z = activation.select(pre)
                expected = largest(everywhere(pre), k, rows=activation.name == "TopK")
                torch.testing.assert_close(support.to_dense(z), expected)
                assert torch.equal(support.to_dense(z) > 0, expected > 0)
                assert (support.flat.diff() > 0).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_relative_batch_top_k_does_not_see_the_size_of_a_sample(dtype, monkeypatch):
    candidates_in(dtype, monkeypatch)
    activation = RelativeBatchTopK(4)
    activation.attach(D_SAE)
    pre = batch_of(5)
    pre.b.zero_()
    resized = PreActivations(pre.x * torch.logspace(-2, 2, 150)[:, None], pre.W, pre.b)
    for batch in (pre, resized):
        support, z = activation.select(batch)
        share = everywhere(batch) / batch.norms
        assert torch.equal(support.to_dense(z) > 0, largest(share, 4, rows=False) > 0)
    assert torch.equal(activation.select(pre)[0].flat, activation.select(resized)[0].flat)


@pytest.mark.parametrize("activation", [TopK(2), BatchTopK(2)])
def test_ties_take_exactly_k(activation):
    activation.attach(5)
    support, _ = activation.select(PreActivations(torch.ones(4, 3), torch.ones(5, 3), torch.zeros(5)))
    assert len(support.rows) == 8


@pytest.mark.parametrize("activation", [TopK(3), BatchTopK(3), ReLU(3), JumpReLU(3)])
def test_a_batch_of_zeros_selects_nothing(activation):
    activation.attach(5)
    support, z = activation.select(PreActivations(torch.zeros(4, 3), torch.ones(5, 3), torch.zeros(5)))
    assert len(z) == len(support.rows) == 0


@pytest.mark.parametrize("dense_above", [0.1, 1.0])
@pytest.mark.parametrize("l0", [5, 16])  # 16 of 200 is near the share above which dense products take over
@pytest.mark.parametrize("activation", [TopK, BatchTopK, RelativeBatchTopK, ReLU, JumpReLU])
def test_training_is_the_same_bit_for_bit_in_either_precision(activation, l0, dense_above, monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_ABOVE", dense_above)
    trained = []
    for dtype in PRECISIONS:
        candidates_in(dtype, monkeypatch)
        sae = SAE(20, 200, activation(l0))
        train(sae, FeatureWorld(constant_probabilities(150, 3), 20).batches(256, 30), lr=3e-3, progress=False)
        trained.append(sae.state_dict())
    for name, tensor in trained[0].items():
        assert torch.equal(tensor, trained[1][name]), name


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_under_autocast_candidates_are_found_in_bfloat16_and_the_sae_is_the_same(activation, monkeypatch):
    """Left to itself autocast would round the decoder's and the gradients' products, and mix the dtypes of a sum."""
    margin, found_in = PreActivations._margin, []
    spy = lambda self, dtype, floor: found_in.append(dtype) or margin(self, dtype, floor)  # noqa: E731
    monkeypatch.setattr(PreActivations, "_margin", spy)
    candidates_in(torch.float32, monkeypatch)
    trained = []
    for dtype, expected in ((None, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)):
        found_in.clear()
        sae = SAE(20, 200, ACTIVATIONS[activation]())
        batches = FeatureWorld(constant_probabilities(150, 3), 20).batches(256, 12)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            train(sae, batches, lr=3e-3, revival=AuxiliaryLoss(dead_after=1000), progress=False)
        assert set(found_in) <= {expected}  # a class may look through all of them, and for no candidates
        assert found_in or activation not in ("TopK", "BatchTopK", "JumpReLU", "ReLU")
        trained.append(sae.state_dict())
    for state in trained[1:]:
        for name, tensor in trained[0].items():
            assert torch.equal(tensor, state[name]), name


def test_dots_agree_where_there_is_no_mkl(monkeypatch):
    pre = batch_of(3)
    support, _ = pre.above(0.5)
    with_mkl = sparse.dots(support, pre.x, pre.W)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    torch.testing.assert_close(sparse.dots(support, pre.x, pre.W), with_mkl)
    expected = (pre.x.double() @ pre.W.double().T).flatten()[support.flat].float()
    torch.testing.assert_close(with_mkl, expected)

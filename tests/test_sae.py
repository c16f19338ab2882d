import pytest
import torch
from grid import ACTIVATIONS, BASELINES
from hypothesis import given, settings
from hypothesis import strategies as st

from saelite.activation_functions import BatchTopK, JumpReLU, ReLU, TopK, threshold_for_l0
from saelite.baselines import SoftFrozenDecoder, project_to_cone
from saelite.initialisation import cov, iso
from saelite.kernels.sparse import Support
from saelite.sae import SAE


def test_forward_is_the_formula():
    sae = SAE(6, 20, TopK(3))
    sae.b_enc.data.normal_()
    sae.b_dec.data.normal_()
    sae.input_scale.fill_(2.5)
    activations = torch.randn(9, 6)
    x = activations * 2.5
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    code = torch.zeros_like(pre)
    for row in range(9):
        for latent in pre[row].argsort(descending=True)[:3]:
            code[row, latent] = max(pre[row, latent], 0)
    torch.testing.assert_close(sae.encode(activations), code)
    torch.testing.assert_close(sae(activations), (code @ sae.W_dec + sae.b_dec) / 2.5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_calibration_sets_the_scale_the_mean_and_the_target_l0(activation):
    x = 7 * torch.randn(500, 16) + 3
    sae = SAE(16, 64, ACTIVATIONS[activation]()).eval()
    sae.calibrate(x)
    assert sae.scale(x).norm(dim=1).mean() == pytest.approx(4, rel=1e-4)
    torch.testing.assert_close(sae.b_dec, sae.scale(x).mean(dim=0), rtol=1e-4, atol=1e-4)
    assert (sae.encode(x) != 0).sum(dim=1).float().mean() == pytest.approx(5, abs=0.1)


def test_calibrated_gain_is_the_best_one():
    x = torch.randn(500, 16)
    sae = SAE(16, 64, TopK(5)).eval()
    sae.calibrate(x)
    error = lambda gain: (x - (sae.decode(gain * sae.encode(x)))).square().sum()  # noqa: E731
    assert error(1.0) < error(1.02) and error(1.0) < error(0.98)


def test_an_activation_function_may_be_shared():
    shared = BatchTopK(3)
    one, two = SAE(4, 9, shared), SAE(4, 9, shared)
    one.activation.threshold.fill_(1)
    assert two.activation.threshold == 0


@pytest.mark.parametrize("k", [0, -1, 41])
@pytest.mark.parametrize("make", [TopK, BatchTopK, JumpReLU, ReLU])
def test_k_must_fit_the_dictionary(make, k):
    with pytest.raises(ValueError, match=f"{make.__name__} cannot keep {k} of 40 latents"):
        SAE(5, 40, make(k))


@pytest.mark.parametrize("k", [2.5, True, "3"])
@pytest.mark.parametrize("make", [TopK, BatchTopK, JumpReLU, ReLU])
def test_k_must_be_a_whole_number(make, k):
    with pytest.raises(ValueError, match="whole number"):
        SAE(5, 40, make(k))


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_tau_is_a_cosine(tau):
    with pytest.raises(ValueError, match="tau"):
        SoftFrozenDecoder(tau)


def test_wrong_width_start_and_nan_are_refused_in_words():
    sae = SAE(5, 40, TopK(2))
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 5\); it was given \(3, 6\)"):
        sae(torch.zeros(3, 6))
    with pytest.raises(ValueError, match="1 of 3 activations have NaN or infinity"):
        sae.calibrate(torch.tensor([[1.0] * 5, [float("inf")] * 5, [0.0] * 5]))
    with pytest.raises(ValueError, match=r"init has shape \(5, 40\)"):
        SAE(5, 40, TopK(2), init=torch.zeros(5, 40))
    with pytest.raises(ValueError, match='"random" is none of these'):
        SAE(5, 40, TopK(2), init="random")
    with pytest.raises(ValueError, match="NaN"):
        cov(7, torch.full((9, 5), float("nan")))


def test_iso_and_cov_directions():
    assert torch.equal(iso(30, 7, seed=1), iso(30, 7, seed=1)) and not torch.equal(iso(30, 7, 1), iso(30, 7, 2))
    torch.testing.assert_close(iso(30, 7).norm(dim=1), torch.ones(30))
    stretch = torch.tensor([10.0, 3.0, 1.0, 0.1])
    directions = cov(20_000, torch.randn(50_000, 4) * stretch + 5)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(20_000))
    expected = torch.nn.functional.normalize(torch.randn(20_000, 4) * stretch, dim=1).square().mean(dim=0)
    torch.testing.assert_close(directions.square().mean(dim=0), expected, atol=0.02, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(2, 30))
def test_projection_is_the_nearest_point_of_the_cone(seed, tau, d):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    vectors, axes = normal(20, d), torch.nn.functional.normalize(normal(20, d), dim=1)
    projected = project_to_cone(vectors, axes, tau)
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(20, dtype=torch.float64))
    assert ((projected * axes).sum(dim=1) >= tau - 1e-12).all()
    unit = torch.nn.functional.normalize(vectors, dim=1)
    inside = (unit * axes).sum(dim=1) > tau
    assert torch.equal(projected[inside], unit[inside])
    # no other vector of the cone is nearer: try many around it
    others = torch.nn.functional.normalize(projected[:, None] + 0.3 * normal(20, 200, d), dim=2)
    allowed = (others * axes[:, None]).sum(dim=2) >= tau
    best_other = torch.where(allowed, (others * unit[:, None]).sum(dim=2), -2).max(dim=1).values
    assert ((projected * unit).sum(dim=1) >= best_other - 1e-7).all()


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.8, 0.999, 1.0])
def test_projection_keeps_the_bound_in_float32(tau):
    vectors, axes = torch.randn(5000, 576), torch.nn.functional.normalize(torch.randn(5000, 576), dim=1)
    cosines = (project_to_cone(vectors, axes, tau) * axes).sum(dim=1)
    assert cosines.min() >= tau - 1e-6


def test_projection_of_hopeless_vectors_is_the_axis():
    axes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    vectors = torch.stack([-axes[0], torch.zeros(2), -3 * axes[2]])
    torch.testing.assert_close(project_to_cone(vectors, axes, 0.8), axes)
    torch.testing.assert_close(project_to_cone(vectors, axes, 0.0), axes)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_support_of_a_mask(seed):
    mask = torch.rand(7, 11, generator=torch.Generator().manual_seed(seed)) < 0.2
    support = Support.of(mask)
    assert torch.equal(torch.stack([support.rows, support.latents], dim=1), mask.nonzero())
    assert torch.equal(support.to_dense(torch.ones(len(support.rows))), mask.float())


def test_threshold_for_l0():
    pre = torch.randn(100, 50)
    assert (pre >= threshold_for_l0(pre, 4)).sum() == 400
    assert threshold_for_l0(pre, 50) == 0  # never below zero


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_starts_from_the_same_directions(baseline):
    sae = SAE(6, 20, TopK(3), BASELINES[baseline](), seed=4)
    assert torch.equal(sae.W_dec.data, iso(20, 6, 4))
    assert torch.equal(sae.W_enc.data, iso(20, 6, 4).T)
    torch.testing.assert_close(sae.cosine_to_start(), torch.ones(20))

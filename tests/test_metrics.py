import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from saelite.activation_functions import TopK
from saelite.metrics import best_cosines, evaluate, explained_variance, matched_cosines, recovery
from saelite.sae import SAE


def test_explained_variance_equals_scikit_learns():
    x, x_hat = torch.randn(100, 7) * 3 + 10, torch.randn(100, 7) + 10
    expected = r2_score(x.double().numpy(), x_hat.double().numpy(), multioutput="variance_weighted")
    assert explained_variance(x, x_hat) == pytest.approx(expected, rel=1e-12)


def test_explained_variance_of_the_mean_is_zero_and_of_a_copy_one():
    x = torch.randn(100, 7) + 5
    assert explained_variance(x, x.double().mean(dim=0).expand(100, 7)) == pytest.approx(0, abs=1e-12)
    assert explained_variance(x, x) == 1


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 100))
def test_explained_variance_ignores_shift_and_scale(scale, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    x, x_hat = (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    moved = explained_variance(scale * x + shift, scale * x_hat + shift)
    assert moved == pytest.approx(explained_variance(x, x_hat), rel=1e-9)


def test_evaluate_equals_a_loop():
    x = torch.randn(300, 6) + 2
    sae = SAE(6, 30, TopK(4)).eval()
    sae.calibrate(x)
    sae.b_enc.data[5] = -1e9  # one latent that cannot fire
    scores = evaluate(sae, x, chunk=7)
    fired = np.zeros(30)
    active = 0
    for sample in x:
        code = sae.encode(sample[None])[0]
        for j in range(30):
            if code[j] > 0:
                fired[j] += 1
                active += 1
    assert scores.l0 == pytest.approx(active / 300)
    np.testing.assert_allclose(scores.firing_frequency.numpy(), fired / 300)
    assert scores.dead == (fired == 0).mean() and fired[5] == 0
    assert scores.explained_variance == pytest.approx(explained_variance(x, sae(x)), abs=1e-6)
    assert scores.low < scores.explained_variance < scores.high


def test_interval_is_wider_when_samples_come_in_groups():
    centres = torch.randn(20, 6) * 3
    x = centres.repeat_interleave(50, dim=0) + 0.1 * torch.randn(1000, 6)
    sae = SAE(6, 30, TopK(2)).eval()
    sae.calibrate(x)
    alone, grouped = evaluate(sae, x), evaluate(sae, x, groups=np.arange(1000) // 50)
    assert grouped.explained_variance == pytest.approx(alone.explained_variance)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_recovery_equals_a_brute_force_loop():
    features, W_dec = torch.randn(40, 5), torch.randn(60, 5) * 3
    probabilities = torch.rand(40, dtype=torch.float64)
    found = []
    for f in features:
        best = max(float(f @ w / f.norm() / w.norm()) for w in W_dec)
        found.append(best > 0.8)
    scores = recovery(features, W_dec, probabilities=probabilities)
    assert 0 < sum(found) < 40
    assert scores["recovered"] == pytest.approx(np.mean(found))
    weighted = sum(p for p, hit in zip(probabilities.tolist(), found, strict=True) if hit) / probabilities.sum().item()
    assert scores["recovered_by_frequency"] == pytest.approx(weighted)


def test_one_to_one_matching_lets_no_direction_serve_twice():
    axes = torch.eye(3)
    features = torch.stack([axes[0], axes[0] + 0.1 * axes[1], axes[2]])
    W_dec = torch.stack([axes[0], axes[2], axes[1]])
    assert (best_cosines(features, W_dec) > 0.8).tolist() == [True, True, True]
    assert (matched_cosines(features, W_dec) > 0.8).sum() == 2
    assert matched_cosines(features, W_dec[:2]).min() == -1  # more features than directions: one is left over
    assert recovery(features, W_dec)["recovered_one_to_one"] == pytest.approx(2 / 3)


def test_threshold_is_a_parameter():
    features = torch.randn(200, 4)
    shares = [recovery(features, torch.randn(50, 4), threshold=t)["recovered"] for t in (-1, 0.5, 0.9, 1)]
    assert shares[0] == 1 and shares[-1] == 0 and shares[1] > shares[2]


def test_a_single_group_has_no_interval():
    x = torch.randn(50, 6)
    scores = evaluate(SAE(6, 30, TopK(2)).eval(), x, groups=np.zeros(50, dtype=int))
    assert np.isfinite(scores.explained_variance) and np.isnan(scores.low) and np.isnan(scores.high)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from tiny import tiny_model, tiny_texts

from saelite.activation_functions import TopK
from saelite.data.harvest import harvest
from saelite.metrics import (
    best_cosines,
    evaluate,
    explained_variance,
    explained_variance_interval,
    matched_cosines,
    recovery,
)
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


def test_wrong_shapes_name_both():
    with pytest.raises(ValueError, match=r"^x_hat has shape \(8, 4\) but x has \(8, 5\); they must match.$"):
        explained_variance(torch.randn(8, 5), torch.randn(8, 4))


def test_every_floating_type_and_leading_dimension_scores_alike(tmp_path):
    x = torch.randn(300, 6).bfloat16()  # so that every type holds the same numbers
    sae = SAE(6, 30, TopK(4)).eval()
    sae.calibrate(x.float())
    np.save(tmp_path / "x.npy", x.float().numpy())
    same = [x, x.half(), x.double(), x.float().numpy(), x.double().numpy(), x.reshape(3, 100, 6), list(x.split(70))]
    same += [x.half().numpy().reshape(10, 30, 6), np.load(tmp_path / "x.npy", mmap_mode="r")]
    expected = evaluate(sae, x.float())
    for given_x in same:
        assert evaluate(sae, given_x, chunk=64).row() == pytest.approx(expected.row())
    assert explained_variance(x.reshape(3, 100, 6), x.double().numpy().reshape(3, 100, 6)) == 1


def test_a_store_is_scored_as_its_rows(tmp_path):
    store = harvest(tiny_model(), tiny_texts(), layer=1, tokens=1000, context=16, progress=False, folder=tmp_path)
    sae = SAE(store.d_in, 64, TopK(4)).eval()
    sae.calibrate(store.train[:500])
    assert evaluate(sae, store.held_out).row() == pytest.approx(evaluate(sae, store.held_out[:]).row())


def test_a_code_below_zero_fires_too():
    class Signed(torch.nn.Linear):
        """A linear code of two latents, the second of which is never active."""

        def encode(self, x):
            return x * torch.tensor([1.0, 0.0])

        def decode(self, code):
            return code

    scores = evaluate(Signed(1, 1), torch.tensor([[-1.0, 2.0], [1.0, 2.0], [-3.0, 2.0], [0.0, 1.0]]))
    assert scores.l0 == 0.75 and scores.dead == 0.5 and scores.firing_frequency.tolist() == [0.75, 0]


def test_more_samples_than_the_bootstrap_draws_have_the_interval_of_a_ratio():
    x = torch.randn(120_000, 2)
    error = np.random.default_rng(0).exponential(size=len(x))
    variance = (x - x.mean(dim=0)).square().sum(dim=1).numpy()
    value, low, high = explained_variance_interval(x, error)
    assert value == pytest.approx(1 - error.sum() / variance.sum()) and low < value < high
    spread = (error - (1 - value) * variance).std() / np.sqrt(len(x)) / variance.mean()  # of a ratio, to first order
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)

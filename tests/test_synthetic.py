import pytest
import torch
from scipy import stats

from saelite.activation_functions import TopK
from saelite.metrics import best_cosines
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities, log_uniform_probabilities


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_sample_is_the_sum_of_its_features():
    world = FeatureWorld(constant_probabilities(50, 5), d_in=8)
    support, values = world.sample_code(200, generator(3))
    dense = support.to_dense(values)
    torch.testing.assert_close(world.sample(200, generator(3)), dense @ world.features)
    assert len(torch.unique(support.rows * 50 + support.latents)) == len(values)  # once or not at all


def test_presence_is_bernoulli_at_each_rate_and_independent():
    """Chi-squared over rare, common and very common features; then pairs, and the number present per sample."""
    probabilities = torch.tensor([0.0, 1e-4, 0.01, 0.3, 0.5, 0.95], dtype=torch.float64)
    n = 200_000
    support, _ = FeatureWorld(probabilities, d_in=4).sample_code(n, generator())
    present = support.to_dense(torch.ones(len(support.rows)))
    counts = present.sum(dim=0)
    assert counts[0] == 0
    for count, p in zip(counts[1:].tolist(), probabilities[1:].tolist(), strict=True):
        assert stats.binomtest(int(count), n, p).pvalue > 1e-4
    both = int((present[:, 3] * present[:, 4]).sum())
    assert stats.binomtest(both, n, 0.3 * 0.5).pvalue > 1e-4
    # successive samples must not depend on each other either
    runs = int((present[1:, 4] * present[:-1, 4]).sum())
    assert stats.binomtest(runs, n - 1, 0.25).pvalue > 1e-4


def test_number_present_follows_the_papers_mean():
    world = FeatureWorld(constant_probabilities())
    support, _ = world.sample_code(20_000, generator())
    per_sample = torch.bincount(support.rows, minlength=20_000).double()
    assert per_sample.mean() == pytest.approx(20, abs=0.15)
    assert per_sample.var() == pytest.approx(20 * (1 - 0.00625), rel=0.05)


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_coefficients_are_log_normal(sigma):
    _, values = FeatureWorld(constant_probabilities(100, 20), sigma=sigma).sample_code(2_000, generator())
    assert stats.kstest(values.double().numpy(), stats.lognorm(s=sigma).cdf).pvalue > 1e-4


def test_variable_setting_is_log_uniform():
    exponents = log_uniform_probabilities(20_000).log10()
    assert stats.kstest(exponents.numpy(), stats.uniform(-5.5, 4.3).cdf).pvalue > 1e-4
    assert log_uniform_probabilities(200_000).sum() / 200_000 * 3200 == pytest.approx(20.4, rel=0.03)


def test_features_are_uniform_unit_vectors():
    features = FeatureWorld(constant_probabilities()).features
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3200))
    cosines = (features @ features.T)[*torch.triu_indices(3200, 3200, 1)]
    assert cosines.mean().abs() < 1e-3 and cosines.var() == pytest.approx(1 / 100, rel=0.01)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_an_untrained_sae_knows_nothing_of_the_features(seed):
    """Features and an SAE's start may share a seed, and must not share a stream."""
    world = FeatureWorld(constant_probabilities(), seed=seed)
    best = best_cosines(world.features, SAE(100, 3200, TopK(20), seed=seed).W_dec)
    assert best.max() < 0.6 and best.mean() == pytest.approx(0.347, abs=0.005)  # chance, worked out independently


def test_a_batch_follows_from_its_seed_and_number():
    world = FeatureWorld(constant_probabilities(64, 4), d_in=8)
    batches = world.batches(32, 5, seed=1)
    assert torch.equal(batches[3], world.batches(32, 99, seed=1)[3])
    assert not torch.equal(batches[3], batches[4])
    assert not torch.equal(batches[3], world.batches(32, 5, seed=2)[3])
    assert len(list(batches)) == 5


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_impossible_probabilities_are_refused(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        FeatureWorld(torch.tensor([0.5, p]))


@pytest.mark.parametrize("leaders", [False, True])
def test_groups_keep_each_rate_and_correlate_only_their_own(leaders):
    world = FeatureWorld(torch.full((12,), 0.02), d_in=4, groups=3, open_probability=0.1, leaders=leaders)
    n = 300_000
    support, _ = world.sample_code(n, generator())
    assert (support.flat.diff() > 0).all()
    present = support.to_dense(torch.ones(len(support.rows)))
    for count, p in zip(present.sum(dim=0).tolist(), world.probabilities.tolist(), strict=True):
        assert stats.binomtest(int(count), n, p).pvalue > 1e-4
    # features 3, 6 and 9 are in group 0 with feature 0; 4 is in group 1
    assert stats.binomtest(int((present[:, 3] * present[:, 6]).sum()), n, 0.02 * 0.2).pvalue > 1e-4
    assert stats.binomtest(int((present[:, 3] * present[:, 4]).sum()), n, 0.02 * 0.02).pvalue > 1e-4
    without_leader = ((present[:, 0] == 0) & (present[:, 3] == 1)).sum()
    assert without_leader == 0 if leaders else without_leader > 0
    assert world.probabilities[0].item() == pytest.approx(0.1 if leaders else 0.02)


def test_noise_has_its_standard_deviation():
    world, clean = (FeatureWorld(constant_probabilities(100, 5), d_in=10, noise=noise) for noise in (0.3, 0.0))
    noise = world.sample(20_000, generator(1)) - clean.sample(20_000, generator(1))
    assert noise.mean().abs() < 0.005 and noise.std() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"groups": 7}, "cannot be split into 7 groups"),
        ({"groups": 5, "open_probability": 0.1}, "open_probability must lie between"),
        ({"noise": -1.0}, "noise=-1.0 must be"),
        ({"sigma": float("nan")}, "sigma=nan"),
    ],
)
def test_impossible_dependence_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureWorld(torch.full((10,), 0.2), **change)

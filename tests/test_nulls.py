import pytest
import torch
from saebook.dictionaries import chance_cosine, sparse_coding

from saelite.initialisation import iso
from saelite.metrics import best_cosines, explained_variance
from saelite.null_models import Neurons, nulls
from saelite.synthetic import FeatureWorld, constant_probabilities


def test_nulls():
    x = torch.randn(2000, 10) * torch.tensor([5.0] + 9 * [1.0]) + 3
    table = nulls(x[:1000], x[1000:], l0=3, d_sae=40).set_index("null")["explained_variance"]
    assert -0.02 < table["mean prediction"] <= 0
    centred = x[:1000] - x[:1000].mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
    x_hat = x[:1000].mean(dim=0) + (x[1000:] - x[:1000].mean(dim=0)) @ axes.T @ axes
    assert table["PCA with 3 components"] == pytest.approx(explained_variance(x[1000:], x_hat), abs=1e-5)
    assert 0 < table["random dictionary"] < 1
    far = nulls(x[:1000] + 3000, x[1000:] + 3000, l0=3, d_sae=40).set_index("null")["explained_variance"]
    assert far["PCA with 3 components"] == pytest.approx(table["PCA with 3 components"], abs=1e-3)


def test_sparse_coding_meets_the_figures_worked_out_independently():
    """100 dimensions, 3200 features, 20 active; figures from a separate small trial, so within 0.02."""
    world = FeatureWorld(constant_probabilities())
    x = world.batches(300, 1)[0]
    table = sparse_coding({"true": world.features, "random": iso(3200, 100, 5)}, x, l0=20)
    scores = table.set_index(["dictionary", "encoder"])["explained_variance"]
    expected = {"matched filter": (0.71, 0.63), "least squares": (0.76, 0.67)}
    for encoder, (true, random) in expected.items():
        assert scores["true", encoder] == pytest.approx(true, abs=0.02)
        assert scores["random", encoder] == pytest.approx(random, abs=0.02)
    assert (table["low"] < table["explained_variance"]).all() and (table["explained_variance"] < table["high"]).all()


def test_sparse_coding_equals_a_loop():
    world = FeatureWorld(constant_probabilities(40, 5), d_in=12)
    x = world.batches(50, 1)[0]
    table = sparse_coding({"true": world.features}, x, l0=3).set_index("encoder")["explained_variance"]
    solved, pursued = torch.zeros_like(x), torch.zeros_like(x)
    for row in range(50):
        active = world.features[(x[row] @ world.features.T).topk(3).indices]
        solved[row] = x[row] @ torch.linalg.pinv(active) @ active
        chosen = []
        for _ in range(3):
            left_over = x[row] - pursued[row]
            chosen.append((left_over @ world.features.T).abs().argmax().item())
            active = world.features[chosen]
            pursued[row] = x[row] @ torch.linalg.pinv(active) @ active
    assert table["least squares"] == pytest.approx(explained_variance(x, solved), abs=1e-4)
    assert table["orthogonal matching pursuit"] == pytest.approx(explained_variance(x, pursued), abs=1e-4)


@pytest.mark.parametrize("d_in, d_sae", [(100, 3200), (20, 50), (3, 1)])
def test_chance_cosine_by_simulation(d_in, d_sae):
    simulated = best_cosines(iso(4000, d_in, 1), iso(d_sae, d_in, 2))
    spread = simulated.std() if d_sae > 1 else 1.0
    assert chance_cosine(d_in, d_sae) == pytest.approx(simulated.mean().item(), abs=0.1 * float(spread))


def test_neurons_are_coordinates_of_both_signs_at_the_l0_asked_for():
    sample = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)) * 3 + 5
    neurons = Neurons(sample, 4)
    code = neurons.encode(sample)
    standard = (sample - sample.mean(dim=0)) / sample.std(dim=0)
    assert (code > 0).float().sum(dim=1).mean() == pytest.approx(4, abs=0.01)
    active = code > 0
    torch.testing.assert_close(code[active], torch.cat([standard, -standard], dim=1)[active])
    assert Neurons(sample, 100).encode(sample).gt(0).sum(dim=1).max() <= 7  # no more than one sign of each

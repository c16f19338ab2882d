"""Exercises of the chapters 01 to 04: a likely mistake is told what is wrong with it."""

import pytest
import torch
from saebook.exercises import Wrong, beyond_independence, recovery_puzzle, superposition, synthetic_recovery
from torch.nn.functional import normalize, relu

from saelite.metrics import best_cosines
from saelite.synthetic import FeatureWorld, constant_probabilities


def largest(products, k):
    top = products.topk(k, dim=1)
    return torch.zeros_like(products).scatter(1, top.indices, top.values)


def whole_batch(x, directions, k):
    products = relu(x @ directions.T)
    return products * (products >= products.flatten().topk(k * len(x)).values.min())


def by_size(x, directions, k):
    products = x @ directions.T
    return products * torch.zeros_like(products).scatter(1, products.abs().topk(k, dim=1).indices, 1.0)


def by_cosine(x, directions, k):
    return relu(largest(normalize(x, dim=1) @ directions.T, k))


def near(bar):
    return torch.arccos(torch.tensor(bar)) / torch.pi


def squares(x):
    return x.square().sum()


explained, encode, luck = (
    superposition.check_share_explained,
    superposition.check_encode,
    superposition.check_found_by_luck,
)
SUPERPOSITION = [
    (explained, lambda x, x_hat: squares(x - x_hat) / squares(x - x.mean(dim=0)), "share that is lost"),
    (explained, lambda x, x_hat: 1 - squares(x - x_hat) / squares(x), "counts from 0"),
    (explained, lambda x, x_hat: 1 - squares(x - x_hat) / squares(x - x.mean()), "a mean of its own"),
    (
        explained,
        lambda x, x_hat: (1 - (x - x_hat).square().sum(1) / (x - x.mean(0)).square().sum(1)).mean(),
        "averages a share over samples",
    ),
    (explained, lambda x, x_hat: 1 - (x - x_hat).norm() / (x - x.mean(dim=0)).norm(), "These are lengths"),
    (explained, lambda x, x_hat: 1 - (x - x_hat).var(dim=0).sum() / x.var(dim=0).sum(), "takes the mean error out"),
    (encode, lambda x, directions, k: largest(x @ directions.T, k), "never negative"),
    (encode, lambda x, directions, k: relu(x @ directions.T), "all positive matches"),
    (encode, by_size, "choose by the value, not by its size"),
    (encode, lambda x, directions, k: relu(by_size(x, directions, k)), "sign left out"),
    (encode, by_cosine, "These are cosines"),
    (encode, whole_batch, "which is BatchTopK"),
    (encode, lambda x, directions, k: (largest(x @ directions.T, k) > 0).float(), "not how strongly"),
    (luck, lambda n, bar: (1 - near(bar)) ** n, "none of them is near"),
    (luck, lambda n, bar: near(bar), "one direction; there are n"),
    (luck, lambda n, bar: n * near(bar), "count twice"),
    (luck, lambda n, bar: near(bar) ** n, "all of them are near"),
    (luck, lambda n, bar: 1 - (1 - near(bar) / 2) ** n, "either side"),
    (luck, lambda n, bar: 1 - ((1 + bar) / 2) ** n, "the angle that is uniform"),
]

occurrence, perfect = synthetic_recovery.check_by_occurrence, synthetic_recovery.check_perfect_and_empty
SYNTHETIC_RECOVERY = [
    (occurrence, lambda best, p, bar: (best > bar).double().mean(), "counts every feature once"),
    (occurrence, lambda best, p, bar: p[best > bar].sum(), "divide by how many features it holds"),
    (occurrence, lambda best, p, bar: p[best > bar].mean(), "mean frequency"),
    (occurrence, lambda best, p, bar: (best * p).sum() / p.sum(), "mean of cosines"),
    (occurrence, lambda best, p, bar: p[best <= bar].sum() / p.sum(), "those that are missed"),
    (perfect, torch.eye, "all that is below 0 is lost"),
    (perfect, lambda d_in: -torch.eye(d_in), "all that is above 0 is lost"),
    (perfect, lambda d_in: torch.eye(d_in).repeat(2, 1), "Each axis twice"),
    (perfect, lambda d_in: torch.zeros(2, 2), "must have shape"),
]


def top_of_batch(pre, number):
    return (pre >= pre.flatten().topk(number).values.min()).sum(dim=1)


wins, living = recovery_puzzle.check_active_per_sample, recovery_puzzle.check_best_of_the_living
RECOVERY_PUZZLE = [
    (wins, lambda pre, k: torch.full((len(pre),), k), "This is TopK"),
    (wins, top_of_batch, "so n times k"),
    (wins, lambda pre, k: top_of_batch(pre, k * len(pre)) / len(pre), "These are shares"),
    (wins, lambda pre, k: (pre > 0).sum(dim=1), "as a ReLU keeps them"),
    (living, lambda features, W_dec, fired: best_cosines(features, W_dec), "Dead latents are still among these"),
    (living, lambda features, W_dec, fired: best_cosines(features, W_dec[~fired]), "take those that fired"),
    (
        living,
        lambda features, W_dec, fired: (features @ normalize(W_dec, dim=1).T * fired).max(dim=1).values,
        "set to 0 can still be the largest",
    ),
    (living, lambda features, W_dec, fired: (features @ W_dec[fired].T).max(dim=1).values, "scalar products"),
]

lean, l0, control = (
    beyond_independence.check_largest_lean,
    beyond_independence.check_best_l0,
    beyond_independence.check_control_world,
)
BEYOND_INDEPENDENCE = [
    (lean, lambda bar: 1 - bar, "do not add up to 1"),
    (lean, lambda bar: 1 - bar**2, "take the root"),
    (lean, lambda bar: (1 - bar**2) ** 0.5 / bar, "divide by the length of the mix"),
    (lean, lambda bar: torch.arccos(torch.tensor(bar)), "This is the angle"),
    (l0, lambda l0s, trained, floor: l0s[trained.argmax()], "its floor is, too"),
    (l0, lambda l0s, trained, floor: (trained - floor).argmax(), "the place in the list"),
    (l0, lambda l0s, trained, floor: l0s[(trained / floor).argmax()], "makes much of small floors"),
    (l0, lambda l0s, trained, floor: (trained - floor).max(), "return the L0 at which"),
    (control, lambda world: world, "still has its groups"),
    (
        control,
        lambda world: FeatureWorld(
            constant_probabilities(len(world.features), world.probabilities.sum().item()), world.d_in, seed=world.seed
        ),
        "equally frequent",
    ),
    (control, lambda world: FeatureWorld(world.probabilities, world.d_in), "pass both"),
    (control, lambda world: world.probabilities, "a FeatureWorld, not Tensor"),
]


@pytest.mark.parametrize(
    "check, answer, told", SUPERPOSITION + SYNTHETIC_RECOVERY + RECOVERY_PUZZLE + BEYOND_INDEPENDENCE
)
def test_a_likely_mistake_is_named(check, answer, told):
    with pytest.raises(Wrong, match=told):
        check(answer)


@pytest.mark.parametrize("seed", range(3))
def test_any_orthonormal_basis_in_both_senses_is_a_perfect_dictionary(seed, capsys):
    """The exercise asks for one of many answers: the check must not insist on the axes."""

    def rotated(d_in):
        basis = torch.linalg.qr(torch.randn(d_in, d_in, generator=torch.Generator().manual_seed(seed))).Q
        return torch.cat([basis, -basis])

    perfect(rotated)
    assert capsys.readouterr().out.startswith("Right")


def test_found_by_luck_is_what_random_directions_find(capsys):
    """The check's own answer against a simulation."""
    rng = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(40_000, 4, 2, generator=rng), dim=2)
    luck(lambda n, bar: 1 - (1 - near(bar)) ** n)
    found = (directions[..., 0] > 0.9).any(dim=1).double().mean()
    assert abs(found - (1 - (1 - near(0.9)) ** 4)) < 0.01

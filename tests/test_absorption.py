"""Absorption and hedging on SAEs made by hand, where the answer is known, and against a loop over samples."""

import math

import numpy as np
import pytest
import torch

from saelite.activation_functions import ReLU, TopK
from saelite.evaluations.absorption import absorption, hedging
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities

# Three groups: features 0, 1, 2 lead, 3, 4, 5 follow.
PAIRS = [(0, 3), (1, 4), (2, 5)]


def plain_world(leaders=True, **changes):
    """A world whose features are the axes, so that an SAE can be written down."""
    world = FeatureWorld(
        torch.full((6,), 0.2), d_in=6, groups=3, open_probability=0.4, leaders=leaders, seed=2, **changes
    )
    world.features = torch.eye(6)
    return world


def by_hand(encoder, decoder):
    """A ReLU SAE without penalty: latent j reads encoder[j] and writes decoder[j]."""
    sae = SAE(6, len(decoder), ReLU(l1_coefficient=0.0)).eval()
    with torch.no_grad():
        sae.W_enc.copy_(torch.as_tensor(encoder).T)
        sae.W_dec.copy_(torch.as_tensor(decoder))
    return sae


def test_an_sae_that_holds_the_features_absorbs_nothing():
    table = absorption(by_hand(torch.eye(6), torch.eye(6)), plain_world(), PAIRS, n=2000)
    assert (table["fires_alone"] == 1).all() and (table["fires_together"] == 1).all()
    assert (table["absorbed"] == 0).all() and (table["lean"] == 0).all() and (table["cosine"] == 1).all()


def test_an_sae_made_to_absorb_absorbs_everything():
    encoder, decoder = torch.eye(6), torch.eye(6)
    for parent, child in PAIRS:
        encoder[parent, child] = -100  # the parent's latent is silenced by the child
        decoder[child, parent] = 1  # and the child's latent brings the parent along
    table = absorption(by_hand(encoder, decoder), plain_world(), PAIRS, n=2000)
    assert (table["fires_alone"] == 1).all() and (table["fires_together"] == 0).all()
    assert (table["absorbed"] == 1).all()
    np.testing.assert_allclose(table["lean"], math.sqrt(0.5), rtol=1e-6)
    assert table["parent_latent"].tolist() == [0, 1, 2] and table["child_latent"].tolist() == [3, 4, 5]


def test_a_parents_latent_that_is_dead_is_silent_everywhere_and_so_not_selective():
    encoder = torch.eye(6)
    encoder[0] = 0
    table = absorption(by_hand(encoder, torch.eye(6)), plain_world(), PAIRS, n=2000)
    assert table.loc[0, ["fires_alone", "fires_together"]].tolist() == [0, 0]


def test_it_equals_a_loop_over_samples():
    world = FeatureWorld(constant_probabilities(12, 3), d_in=8, noise=0.1)  # with noise, which draws numbers of its own
    pairs = [(0, 4), (0, 8), (1, 5)]
    sae = SAE(8, 16, TopK(3), seed=3).eval()
    sae.calibrate(world.batches(500, 1)[0])
    table = absorption(sae, world, pairs, n=1500, seed=7)
    generator = torch.Generator().manual_seed(7)
    support, values = world.sample_code(1500, generator)
    x = support.to_dense(values) @ world.features
    x = x + 0.1 * torch.randn(x.shape, generator=generator)
    here = [set(support.latents[support.rows == i].tolist()) for i in range(1500)]
    code = sae.encode(x)
    for row in table.itertuples():
        children = {child for parent, child in pairs if parent == row.parent}
        alone, together, swallowed = [], [], []
        for i in range(1500):
            if row.parent in here[i] and not children & here[i]:
                alone.append(bool(code[i, row.parent_latent] > 0))
            if {row.parent, row.child} <= here[i]:
                together.append(bool(code[i, row.parent_latent] > 0))
                swallowed.append(bool(code[i, row.parent_latent] <= 0) and bool(code[i, row.child_latent] > 0))
        assert (row.alone, row.together) == (len(alone), len(together)) and min(len(alone), len(together)) > 10
        assert row.fires_alone == pytest.approx(np.mean(alone)) and row.absorbed == pytest.approx(np.mean(swallowed))
        assert row.fires_together == pytest.approx(np.mean(together))
        direction = sae.W_dec[row.child_latent].detach()
        lean = torch.cosine_similarity(direction, world.features[row.parent], dim=0)
        assert row.lean == pytest.approx(lean.item(), abs=1e-6)
        assert row.true_cosine == pytest.approx(
            (world.features[row.parent] @ world.features[row.child]).item(), abs=1e-6
        )
    assert len({*table["parent_latent"], *table["child_latent"]}) == 5  # each feature has a latent of its own


def test_what_never_happens_has_no_rate():
    world = plain_world(leaders=False)
    world.probabilities[3] = 0  # this child is never there
    row = absorption(by_hand(torch.eye(6), torch.eye(6)), world, PAIRS, n=500).iloc[0]
    assert row["together"] == 0 and math.isnan(row["fires_together"]) and math.isnan(row["absorbed"])


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "at least one pair"),
        ([(0, 0)], "two features"),
        ([(0, 6)], r"\(0, 6\) .* has 6"),
        ([(0, 1, 2)], "two features"),
    ],
)
def test_pairs_that_are_none_are_refused(pairs, said):
    with pytest.raises(ValueError, match=said):
        absorption(by_hand(torch.eye(6), torch.eye(6)), plain_world(), pairs, n=10)


def test_fewer_latents_than_features_are_refused():
    with pytest.raises(ValueError, match="6 features, more than the SAE has latents .5"):
        absorption(by_hand(torch.eye(6)[:5], torch.eye(6)[:5]), plain_world(), PAIRS, n=10)


def test_hedging_reads_the_lean_off_a_direction():
    features = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.6, 0, 0.8], [0, 0.6, 0.8]])
    table = hedging(features, torch.tensor([[4.0, 3, 0], [0, 2, 0]]), [1, 0, 3, 2])
    np.testing.assert_allclose(table["cosine"], [0.8, 1], rtol=1e-6)
    np.testing.assert_allclose(table["lean"], [0.6, 0], atol=1e-6)
    assert table["feature"].tolist() == [0, 1] and table["true_cosine"].tolist() == [0, 0]
    table = hedging(features, torch.tensor([[0.6, 0, 0.8]]), [1, 0, 3, 2])
    assert table[["cosine", "lean", "true_cosine"]].iloc[0].tolist() == pytest.approx([1, 0.64, 0.64])


@pytest.mark.parametrize(
    ("partner", "said"), [([1, 0], "for each of them"), ([1, 3, 0], "for each"), ([1, 1, 0], "its own")]
)
def test_partners_that_are_none_are_refused(partner, said):
    with pytest.raises(ValueError, match=said):
        hedging(torch.eye(3), torch.eye(3), partner)

import numpy as np
import pytest
import torch
from tiny import tiny_model

from saelite.activation_functions import TopK
from saelite.data.batches import Batches, rows
from saelite.data.language_models import fingerprint
from saelite.initialisation import iso
from saelite.null_models import permuted, reinitialised, shared_latents
from saelite.reuse import train_or_load
from saelite.sae import SAE


def test_a_reinitialised_model_has_the_same_shapes_and_nothing_of_the_weights():
    lm = tiny_model()
    state = torch.get_rng_state()
    other, again = reinitialised(lm, 1), reinitialised(lm, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert fingerprint(other) == fingerprint(again) != fingerprint(lm)
    mine, theirs = dict(lm.model.named_parameters()), dict(other.model.named_parameters())
    assert {n: p.shape for n, p in mine.items()} == {n: p.shape for n, p in theirs.items()}
    assert not any(torch.equal(mine[name], theirs[name]) for name in mine if "norm" not in name)
    assert other.tokenizer is lm.tokenizer and not any(p.requires_grad for p in theirs.values())


def test_permuting_keeps_each_coordinates_values_and_ends_their_correlation():
    common = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    x = common + 0.1 * torch.randn(5000, 4, generator=torch.Generator().manual_seed(1))
    shuffled = permuted(x, seed=2)
    assert torch.equal(shuffled.sort(dim=0).values, x.sort(dim=0).values)
    assert np.abs(np.corrcoef(shuffled.T) - np.eye(4)).max() < 0.06 < 0.9 < np.corrcoef(x.T).min()


def test_batches_of_a_tensor_hold_each_row_once_and_follow_from_the_seed():
    x = torch.arange(20.0)[:, None]
    batches = Batches(rows(x), 6, seed=3)
    seen = torch.cat([batches[i] for i in range(len(batches))]).flatten().tolist()
    assert len(seen) == 18 == len(set(seen)) and seen != sorted(seen)
    assert torch.equal(Batches(rows(x), 6, seed=3)[1], batches[1])
    assert Batches(rows(x + 1), 6, seed=3).settings != batches.settings  # known by its content
    assert len(list(batches)) == 3
    for i in (-1, 3):
        with pytest.raises(IndexError, match=f"no batch {i}"):
            batches[i]
    with pytest.raises(ValueError, match="batch_size=0 must be a whole number"):
        Batches(rows(x), 0)
    with pytest.raises(ValueError, match="too few for one batch of 21"):
        Batches(rows(x), 21)


def test_an_sae_trains_on_a_tensor():
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    sae = SAE(8, 16, TopK(2))
    before = sae.W_dec.detach().clone()
    train_or_load(sae, x, batch_size=50, progress=False)
    assert not torch.equal(sae.W_dec, before)


def test_a_dictionary_shares_all_with_its_own_permutation_and_nothing_with_another_random_one():
    sae, same, other = (SAE(64, 128, TopK(4), seed=seed) for seed in (0, 0, 1))
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same.W_dec.copy_(iso(128, 64, 0)[order])
        same.W_enc.copy_(iso(128, 64, 0)[order].T)
    assert shared_latents(sae, same) == {"shared": 1.0, "mean_cosine": pytest.approx(1)}
    found = shared_latents(sae, other)
    assert found["shared"] < 0.02 and 0 < found["mean_cosine"] < 0.5
    with torch.no_grad():
        same.W_enc.neg_()  # directions alone are not enough: the latents must also fire for the same
    assert shared_latents(sae, same)["shared"] == 0

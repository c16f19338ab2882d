"""Splicing a reconstruction in, against the whole model with a hook, one text at a time."""

import pytest
import torch
from tiny import tiny_model, tiny_texts
from torch.nn.functional import cross_entropy

from saelite.activation_functions import TopK
from saelite.data.harvest import harvest
from saelite.data.language_models import module_at
from saelite.evaluations.reconstruction import EV, KL, LOSS, RECOVERED_MEAN, RECOVERED_ZERO, Reconstruction
from saelite.metrics import explained_variance
from saelite.sae import SAE
from saelite.statistics import summarise


@pytest.fixture(scope="module", params=["residual", "mlp", "attention"])
def made(request, tmp_path_factory):
    lm = tiny_model()
    store = harvest(
        lm, tiny_texts(), layer=1, site=request.param, tokens=1500, context=16, batch=2, progress=False,
        folder=tmp_path_factory.mktemp("s"),
    )  # fmt: skip
    sae = SAE(16, 64, TopK(4)).eval()
    sae.calibrate(store.train[:500])
    return lm, store, sae, Reconstruction(lm, store, tokens=100, l0=4, d_sae=64)


def rows_of(store):
    """Each held-out row of tokens with its text, found the slow way."""
    seen = {}
    for i in range(len(store)):
        ids, position = store.context_of(i)
        seen.setdefault((int(store.documents[i]), tuple(ids.tolist()), i - position), []).append(position)
    return [(document, torch.tensor(ids), positions) for (document, ids, _), positions in seen.items()]


@pytest.mark.parametrize("ablate", [False, True])
def test_scores_are_those_of_the_whole_model_with_a_hook(made, ablate):
    lm, store, sae, evaluation = made
    table = evaluation.references().query("reference == 'zero'") if ablate else evaluation(sae)
    found = table.pivot(index="item", columns="metric", values="score")
    text = found.index[0]
    losses, divergences, xs, x_hats = [], [], [], []
    for document, ids, positions in rows_of(store.held_out):
        if document != text:
            continue
        clean = lm.model(ids[None]).logits[0].log_softmax(-1)

        def splice(module, inputs, output, positions=positions):
            new = (output[0] if isinstance(output, tuple) else output).clone()
            x = new[0, positions]
            new[0, positions] = torch.zeros_like(x) if ablate else sae(x)
            xs.append(x)
            x_hats.append(new[0, positions])
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = module_at(lm, 1, evaluation.site).register_forward_hook(splice)
        changed = lm.model(ids[None]).logits[0].log_softmax(-1)
        handle.remove()
        for place in positions:
            if place + 1 < len(ids):
                losses.append(cross_entropy(changed[place], ids[place + 1]).item())
                divergences.append((clean[place].exp() * (clean[place] - changed[place])).sum().item())
    assert found.loc[text, LOSS] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert found.loc[text, KL] == pytest.approx(sum(divergences) / len(divergences), rel=1e-3, abs=1e-6)
    error = (torch.cat(xs) - torch.cat(x_hats)).square().sum()
    spread = (torch.cat(xs) - evaluation._mean).square().sum()
    assert found.loc[text, EV] == pytest.approx(1 - (error / spread).item(), rel=1e-4, abs=1e-5)


def test_the_weighted_mean_over_texts_is_explained_variance_of_all_tokens(made):
    lm, store, sae, evaluation = made
    texts = set(evaluation(sae)["item"])
    x = store.held_out[[i for i, document in enumerate(store.held_out.documents) if document in texts]]
    scores = summarise(evaluation(sae), ["metric"]).set_index("metric")["score"]
    assert scores[EV] == pytest.approx(explained_variance(x, sae(x).detach()), abs=2e-3)  # the store rounds to float16


def test_the_model_itself_is_the_ceiling_and_an_ablation_recovers_none_of_its_own_loss(made):
    *_, evaluation = made
    table = summarise(evaluation.references(), ["reference", "metric"]).set_index(["reference", "metric"])["score"]
    assert table["the model itself", EV] == 1 and table["the model itself", KL] == pytest.approx(0, abs=1e-6)
    for metric in (RECOVERED_ZERO, RECOVERED_MEAN):
        assert table["the model itself", metric] == pytest.approx(1)
    assert table["zero", RECOVERED_ZERO] == pytest.approx(0, abs=1e-9)
    assert table["mean", RECOVERED_MEAN] == pytest.approx(0, abs=1e-9) and table["mean", EV] == pytest.approx(
        0, abs=1e-6
    )


def test_whole_texts_are_taken_until_there_are_enough_tokens(made):
    lm, store, sae, evaluation = made
    for tokens in (1, 20, 10**9):
        taken = {
            t for batch in Reconstruction(lm, store, tokens=tokens, l0=4, d_sae=64)._batches for t in batch["texts"]
        }
        of_text = [int((store.held_out.documents == t).sum()) for t in taken]
        assert sum(of_text) >= min(tokens, len(store.held_out)) and sum(of_text) - max(of_text) < tokens


def test_a_store_of_another_model_is_refused(made):
    lm, store, *_ = made
    torch.manual_seed(1)
    other = tiny_model(bos=True)
    with torch.no_grad():
        next(other.model.parameters()).add_(1)
    with pytest.raises(ValueError, match="another model"):
        Reconstruction(other, store)
    with pytest.raises(ValueError, match="store=.* is a Tensor: give a ActivationStore"):
        Reconstruction(lm, store[:10])
    with pytest.raises(ValueError, match="l0=65 must be a whole number from 1 to 64"):
        Reconstruction(lm, store, l0=65, d_sae=64)

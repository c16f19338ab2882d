import re

import numpy as np
import pandas as pd
import pytest
import torch
from saebook.contexts import activation_histograms, contexts_html
from tiny import tiny_model

from saelite.activation_functions import TopK
from saelite.evaluations.latents import draw_latents, logit_effect, strengths, top_contexts
from saelite.sae import SAE


class Store:
    """Six rows of eight tokens whose first position is dropped: what a store gives to `saelite.evaluations.latents`."""

    def __init__(self):
        self.data = torch.randn(6 * 7, 5, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, rows):
        return self.data[rows]

    def context_of(self, index):
        row, place = divmod(index, 7)
        return torch.arange(8) + 8 * row, place + 1


class Tokenizer:
    def decode(self, ids):
        return f"<{int(ids[0])}>"


def calibrated(store):
    sae = SAE(5, 12, TopK(3)).eval()
    sae.calibrate(store[:])
    return sae


def test_top_contexts_are_the_largest_activations_one_a_row():
    store = Store()
    sae = calibrated(store)
    code = sae.encode(store[:]).detach()
    latent = int((code > 0).sum(dim=0).argmax())
    contexts = top_contexts(sae, store, torch.tensor([latent]), Tokenizer(), n=3, window=2)
    best_of_rows = code[:, latent].view(6, 7).max(dim=1).values.sort(descending=True).values[:3]
    np.testing.assert_allclose(contexts["activation"], best_of_rows)
    assert contexts["frequency"].iloc[0] == pytest.approx((code[:, latent] > 0).float().mean().item())
    for context in contexts.itertuples():
        for token, activation in zip(context.tokens, context.activations, strict=True):
            row, place = divmod(int(token[1:-1]), 8)  # the token's number tells where it stands
            if place == 0:
                assert np.isnan(activation)  # dropped, so never measured
            else:
                assert activation == code[row * 7 + place - 1, latent]


def test_histograms_count_every_activation_above_zero():
    store = Store()
    sae = calibrated(store)
    code = sae.encode(store[:]).detach()
    table = activation_histograms(sae, store, torch.arange(12), bins=4)
    assert table["latent"].tolist() == list(range(12))
    for values, histogram in zip(code.T, table["histogram"], strict=True):
        fired = values[values > 0].numpy()
        expected = np.histogram(fired, 4, range=(0, fired.max()))[0] if len(fired) else np.zeros(4)
        assert histogram == expected.tolist()


def test_drawn_latents_fire_often_enough_and_follow_the_seed():
    store = Store()
    sae = calibrated(store)
    fired = (sae.encode(store[:]) > 0).sum(dim=0)
    drawn = draw_latents(sae, store[:], 4, min_firing=8)
    assert (fired[drawn] >= 8).all() and len(drawn) == min(4, int((fired >= 8).sum()))
    assert torch.equal(drawn, draw_latents(sae, store[:], 4, min_firing=8))
    assert len(draw_latents(sae, store[:], 4, min_firing=1000)) == 0


def test_text_is_escaped():
    contexts = pd.DataFrame(
        [
            {
                "latent": 3,
                "frequency": 0.1,
                "activation": 2.0,
                "tokens": ["<script>alert(1)</script>", '" onmouseover="x', "&amp;\n"],
                "activations": [2.0, float("nan"), 1.0],
            }
        ]
    )
    page = contexts_html({"<b>trained</b>": contexts}, credit="<i>someone</i>")
    tags = set(re.findall(r"</?([a-z]+)", page))
    assert tags <= {"div", "p", "strong", "ol", "li", "mark"}
    assert "<strong>&lt;script&gt;alert(1)&lt;/script&gt;</strong>" in page  # the strongest token
    assert "&amp;amp;" in page and 'onmouseover="x' not in page


def test_nothing_to_show_is_said():
    assert "None of the latents" in contexts_html({"dead": top_contexts(calibrated(Store()), Store(), [], Tokenizer())})


def test_logit_effect_is_the_norm_and_the_unembedding_of_the_direction():
    lm = tiny_model()
    sae = SAE(16, 8, TopK(2))
    effects = logit_effect(lm, sae, torch.tensor([5, 2]), n=3)
    assert effects["latent"].tolist() == [5, 2]
    for effect in effects.itertuples():
        direction = sae.W_dec[effect.latent].detach()
        normed = direction / direction.square().mean().sqrt() * lm.model.model.norm.weight
        order = (lm.model.lm_head.weight @ normed).argsort(descending=True).tolist()
        assert effect.raises == [lm.tokenizer.decode([token]) for token in order[:3]]
        assert effect.lowers == [lm.tokenizer.decode([token]) for token in order[:-4:-1]]
    assert logit_effect(lm, sae, []).empty


def test_effects_are_shown_and_escaped():
    contexts = pd.DataFrame(
        [{"latent": 3, "frequency": 0.1, "activation": 2.0, "tokens": ["a"], "activations": [2.0]}]
    ).merge(pd.DataFrame([{"latent": 3, "raises": ["<script>", "\n"], "lowers": ["b"]}]))
    page = contexts_html({"trained": contexts})
    assert "raises <code>&lt;script&gt;</code>" in page and "<script>" not in page and "\\n</code>" in page


def test_codes_below_zero_count_as_active():
    class Signed:
        def __init__(self, signs):
            self.sae, self.signs = calibrated(Store()), signs

        def state_dict(self):
            return self.sae.state_dict()

        def encode(self, x):
            return self.sae.encode(x) * self.signs

    store, latents = Store(), torch.arange(12)
    plain, signed = Signed(torch.ones(12)), Signed(torch.tensor([1.0, -1.0]).repeat(6))
    assert (signed.encode(store[:]) < 0).any()
    torch.testing.assert_close(strengths(signed, store), strengths(plain, store))
    contexts = [top_contexts(sae, store, latents, Tokenizer()) for sae in (plain, signed)]
    pd.testing.assert_frame_equal(*contexts)
    assert torch.equal(*(draw_latents(sae, store[:], 4, min_firing=8) for sae in (plain, signed)))

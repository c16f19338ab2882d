"""Running the layers above a splice is running the whole model with that layer's output replaced."""

import pytest
import torch
import transformers

from saelite.data.language_models import LanguageModel, layers, module_at, read_input, read_layer
from saelite.data.splicing import run_from

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SMALL, intermediate_size=32),
    "gemma2": lambda: transformers.Gemma2Config(**SMALL, intermediate_size=32, head_dim=8, num_key_value_heads=1),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SMALL, intermediate_size=32, head_dim=8, num_key_value_heads=1),
    "gpt2": lambda: transformers.GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=50, n_positions=64),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, intermediate_size=32),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL, intermediate_size=32, num_key_value_heads=1),
}


@pytest.fixture(params=CONFIGS)
def lm(request):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[request.param]()).eval().requires_grad_(False)
    return LanguageModel(model, None, request.param, torch.device("cpu"), torch.float32, 3, 16)


def with_hook(lm, ids, layer, change, site="residual"):
    """The slow and obvious way: the whole model, with a hook that changes one module's output."""

    def hook(module, inputs, output):
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = module_at(lm, layer, site).register_forward_hook(hook)
    try:
        return lm.model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_upper_layers_alone_give_what_a_hook_in_the_whole_model_gives(lm, layer):
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    before = lm.model(input_ids=ids, use_cache=False).logits

    def change(hidden):
        return hidden * 0.5 + 0.1

    spliced = run_from(lm, change(read_layer(lm, ids, layer)), layer, use_cache=False).logits
    assert torch.allclose(spliced, with_hook(lm, ids, layer, change), atol=1e-5)
    assert not torch.allclose(spliced, before, atol=1e-3)
    assert torch.equal(lm.model(input_ids=ids, use_cache=False).logits, before)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("site", ["mlp", "attention"])
def test_inside_a_block_too(lm, site, layer):
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    plain = lm.model(input_ids=ids, use_cache=False).logits
    hidden, before = read_layer(lm, ids, layer, site=site), read_input(lm, ids, layer)
    below = []
    hooks = [block.register_forward_hook(lambda *_: below.append(1)) for block in layers(lm.model)[: layer + 1]]

    def spliced(change):
        return run_from(lm, change(hidden), layer, site=site, before=before, use_cache=False).logits

    torch.testing.assert_close(spliced(lambda x: x), plain, rtol=0, atol=1e-6)
    [hook.remove() for hook in hooks]
    for change in (torch.zeros_like, lambda x: x * 0.5 + 0.1):
        torch.testing.assert_close(spliced(change), with_hook(lm, ids, layer, change, site), rtol=0, atol=1e-6)
        assert not torch.allclose(spliced(change), plain, atol=1e-3)
    assert torch.equal(lm.model(input_ids=ids, use_cache=False).logits, plain)


@pytest.mark.parametrize("site", ["mlp", "attention"])
def test_a_kept_prefix_serves_inside_a_block_too(lm, site):
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    layer, cut = 1, 5

    def change(hidden):
        return torch.cat([hidden[:, :cut], hidden[:, cut : cut + 1] * -1, hidden[:, cut + 1 :]], dim=1)

    whole = with_hook(lm, ids, layer, change, site)[:, cut:]
    kept = lm.model(input_ids=ids[:, :cut], use_cache=True).past_key_values
    rest = change(read_layer(lm, ids, layer, site=site))[:, cut:]
    spliced = run_from(
        lm, rest, layer, site=site, before=read_input(lm, ids, layer)[:, cut:], past_key_values=kept,
        position_ids=torch.arange(cut, 9).expand(2, -1),
    ).logits  # fmt: skip
    assert torch.allclose(spliced, whole, atol=1e-5)


def test_gradients_flow_to_what_stands_in(lm):
    ids = torch.randint(0, 50, (1, 5))
    for site in ("residual", "mlp", "attention"):
        hidden = read_layer(lm, ids, 1, site=site).requires_grad_()
        before = None if site == "residual" else read_input(lm, ids, 1)
        run_from(lm, hidden, 1, site=site, before=before, use_cache=False).logits.square().sum().backward()
        assert hidden.grad.abs().sum() > 0


def test_inside_a_block_its_input_is_needed(lm):
    for before in (None, torch.zeros(1, 3, 16)):
        with pytest.raises(ValueError, match=r"needs `before`, the input of block 1 .*\(1, 2, 16\)"):
            run_from(lm, torch.zeros(1, 2, 16), 1, site="mlp", before=before)


def test_a_kept_prefix_saves_the_positions_before_the_splice(lm):
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    layer, cut = 1, 5

    def change(hidden):
        return torch.cat([hidden[:, :cut], hidden[:, cut : cut + 1] * -1, hidden[:, cut + 1 :]], dim=1)

    whole = with_hook(lm, ids, layer, change)[:, cut:]
    kept = lm.model(input_ids=ids[:, :cut], use_cache=True).past_key_values
    rest = change(read_layer(lm, ids, layer))[:, cut:]
    positions = torch.arange(cut, 9).expand(2, -1)
    spliced = run_from(lm, rest, layer, past_key_values=kept, position_ids=positions).logits
    assert torch.allclose(spliced, whole, atol=1e-5)


def test_a_wrong_width_or_layer_is_refused(lm):
    with pytest.raises(ValueError, match=r"shape \(1, 2, 5\).*\(batch, sequence, 16\)"):
        run_from(lm, torch.zeros(1, 2, 5), 0)
    with pytest.raises(ValueError, match="layer=3 is not in"):
        run_from(lm, torch.zeros(1, 2, 16), 3)

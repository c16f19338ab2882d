"""Splicing: put something else in the place of a layer's output, and run only the layers above it."""

import functools
from contextlib import contextmanager

import torch

from saelite.models import LanguageModel, check_layer, layers


def run_from(lm: LanguageModel, hidden: torch.Tensor, layer: int, **inputs):
    """Run the layers above a decoder block on what stands in for its output.

    Parameters
    ----------
    lm : LanguageModel
        The model. It is left as it was, also when an error passes through.
    hidden : torch.Tensor
        What the layers above read, of shape (batch, sequence, d_model). Gradients flow through it.
    layer : int
        Index of the block whose output it replaces, from 0 to ``lm.n_layers - 1``.
    **inputs
        Handed to the model: ``attention_mask``, ``position_ids``, ``past_key_values``, ``logits_to_keep`` ... With
        ``past_key_values`` of a run over the tokens before, only the layers above `layer` add to them.

    Returns
    -------
    transformers.modeling_outputs.CausalLMOutputWithPast
        What the model returns, among it ``logits`` of shape (batch, sequence, vocabulary).

    Raises
    ------
    ValueError
        If the layer is out of range or `hidden` has another width than the model.
    """
    check_layer(lm, layer)
    if hidden.ndim != 3 or hidden.shape[2] != lm.d_model:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)}; what replaces the output of a layer of {lm.name!r} has shape "
            f"(batch, sequence, {lm.d_model})."
        )
    hidden = hidden.to(lm.device, lm.dtype)
    with _given(lm, hidden, layer):
        return lm.model(inputs_embeds=hidden, **inputs)


@contextmanager
def _given(lm: LanguageModel, hidden: torch.Tensor, layer: int):
    """Have the blocks up to `layer` do nothing, but for the last of them, which answers with `hidden`.

    Blocks keep their places in the model, so that whatever it reads of them is still there; only their `forward` is
    covered, for the time of the run.
    """
    blocks = list(layers(lm.model))[: layer + 1]
    as_tuple = _returns_tuple(lm.model)

    def forward(hidden_states, *_, **__):
        return (hidden,) if as_tuple else hidden

    for block in blocks:
        block.forward = forward
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # uncovers the class's own


@functools.lru_cache(maxsize=1)  # costs a run of the model
@torch.no_grad()
def _returns_tuple(model: torch.nn.Module) -> bool:
    """Whether a model's blocks return their output alone or first in a tuple; architectures differ."""
    found = []
    hook = layers(model)[0].register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        hook.remove()
    return isinstance(found[0], tuple)

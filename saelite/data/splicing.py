"""Splicing: put something else in the place of a layer's output, and run only the layers above it.

At a hook point inside a block, the rest of that block runs too. It reads the residual stream before the block, so that
must be given as well.
"""

import functools
from contextlib import contextmanager

import torch

from saelite.data.language_models import LanguageModel, check_layer, layers, module_at


def run_from(lm: LanguageModel, hidden: torch.Tensor, layer: int, *, site="residual", before=None, **inputs):
    """Run a model on from a hook point, on what stands in for the output there.

    Parameters
    ----------
    lm : LanguageModel
        The model. It is left as it was, also when an error passes through.
    hidden : torch.Tensor
        What takes the place of that output, of shape (batch, sequence, d_model). Gradients flow through it.
    layer : int
        Index of the block whose output it replaces, or in which it does, from 0 to ``lm.n_layers - 1``.
    site : str
        ``"residual"``, ``"mlp"`` or ``"attention"``: see :func:`saelite.data.language_models.module_at`.
    before : torch.Tensor, unless `site` is "residual"
        What the block reads, from :func:`saelite.data.language_models.read_input`, of the same shape. From there the
        block is run, with `hidden` in the place of the sub-module's output.
    **inputs
        Handed to the model: ``attention_mask``, ``position_ids``, ``past_key_values``, ``logits_to_keep`` ... With
        ``past_key_values`` of a run over the tokens before, only the layers that run add to them: those above `layer`,
        and at a hook point inside a block `layer` itself.

    Returns
    -------
    transformers.modeling_outputs.CausalLMOutputWithPast
        What the model returns, among it ``logits`` of shape (batch, sequence, vocabulary).

    Raises
    ------
    ValueError
        If the layer is out of range or has no such hook point, `hidden` has another width than the model, or `before`
        is missing or of another shape.
    """
    check_layer(lm, layer, site)
    if hidden.ndim != 3 or hidden.shape[2] != lm.d_model:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)}; what replaces the output of a layer of {lm.name!r} has shape "
            f"(batch, sequence, {lm.d_model})."
        )
    hidden = hidden.to(lm.device, lm.dtype)
    if site == "residual":
        with _given(lm, hidden, layer):
            return lm.model(inputs_embeds=hidden, **inputs)
    if before is None or before.shape != hidden.shape:
        raise ValueError(
            f"To run on from site={site!r}, `before` is needed, the input of block {layer} (read_input), of shape "
            f"{tuple(hidden.shape)}."
        )
    before = before.to(lm.device, lm.dtype)
    with _given(lm, before, layer - 1), _inside(lm, before, hidden, layer, site):
        return lm.model(inputs_embeds=before, **inputs)


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


@contextmanager
def _inside(lm: LanguageModel, before: torch.Tensor, hidden: torch.Tensor, layer: int, site: str):
    """Have a block read `before`, whatever comes from below, and take `hidden` for what its sub-module gives.

    The sub-module itself runs all the same: an attention adds to the keys and values that later tokens ask for.
    """

    def read(module, inputs, named):
        return ((before, *inputs[1:]), named) if inputs else (inputs, named | {"hidden_states": before})

    def answer(module, inputs, output):
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hooks = [
        layers(lm.model)[layer].register_forward_pre_hook(read, with_kwargs=True),
        module_at(lm, layer, site).register_forward_hook(answer),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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

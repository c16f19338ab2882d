"""Splicing: put something else in the place of a layer's output, and run only the layers above it."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from saelite.data.language_models import LanguageModel, check_layer, layers, module_at


def run_from(
    lm: LanguageModel, hidden: Tensor, layer: int, site: str = "residual", before: Tensor | None = None, **inputs: Any
) -> ModelOutput:
    """Run a model on from a hook point, with `hidden` in the place of the output there.

    The model is left as it was, also when an error passes through.

    Parameters
    ----------
    lm : LanguageModel
    hidden : torch.Tensor
        Of shape (batch, sequence, d_model). Gradients flow through it.
    layer, site : int and str
        The hook point; see :func:`saelite.data.language_models.module_at`.
    before : torch.Tensor, unless `site` is "residual"
        What the block reads, from :func:`saelite.data.language_models.read_input`, of the shape of `hidden`: the rest
        of the block runs on it too.
    **inputs
        Handed to the model: ``attention_mask``, ``position_ids``, ``past_key_values``, ``logits_to_keep`` ... Only the
        layers that run add to ``past_key_values``: those above `layer`, and at a hook point inside a block it too.

    Returns
    -------
    transformers.utils.ModelOutput
        With ``logits`` of shape (batch, sequence, vocabulary).

    Raises
    ------
    ValueError
        If there is no such hook point, or `hidden` or `before` is missing or of another shape.
    """
    check_layer(lm, layer, site)
    shape = tuple(hidden.shape)
    if hidden.ndim != 3 or shape[2] != lm.d_model:
        raise ValueError(f"hidden has shape {shape}; it must have shape (batch, sequence, {lm.d_model}).")
    hidden = hidden.to(lm.device, lm.dtype)
    if site == "residual":
        with _given(lm, hidden, layer):
            return lm.model(inputs_embeds=hidden, **inputs)
    if before is None or before.shape != hidden.shape:
        raise ValueError(f"site={site!r} needs `before`, the input of block {layer} (read_input), of shape {shape}.")
    before = before.to(lm.device, lm.dtype)
    with _given(lm, before, layer - 1), _inside(lm, before, hidden, layer, site):
        return lm.model(inputs_embeds=before, **inputs)


@contextmanager
def _given(lm: LanguageModel, hidden: Tensor, layer: int) -> Iterator[None]:
    """Have the blocks up to `layer` answer with `hidden` and compute nothing; all else of them stays in its place."""
    blocks = list(layers(lm.model))[: layer + 1]
    answer = (hidden,) if _returns_tuple(lm.model) else hidden
    for block in blocks:
        block.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # uncovers the class's own


@contextmanager
def _inside(lm: LanguageModel, before: Tensor, hidden: Tensor, layer: int, site: str) -> Iterator[None]:
    """Have a block read `before`, whatever comes from below, and take `hidden` for what its sub-module gives.

    The sub-module itself runs all the same: an attention adds to the keys and values that later tokens ask for.
    """

    def read(module, inputs, named):
        return ((before, *inputs[1:]), named) if inputs else (inputs, named | {"hidden_states": before})

    def answer(module, inputs, output):
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    with (
        layers(lm.model)[layer].register_forward_pre_hook(read, with_kwargs=True),
        module_at(lm, layer, site).register_forward_hook(answer),
    ):
        yield


@functools.lru_cache(maxsize=1)  # costs a run of the model
@torch.no_grad()
def _returns_tuple(model: torch.nn.Module) -> bool:
    """Whether a model's blocks return their output alone or first in a tuple; architectures differ."""
    found = []
    with layers(model)[0].register_forward_hook(lambda module, inputs, output: found.append(output)):
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    return isinstance(found[0], tuple)

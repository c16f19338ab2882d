"""Prompts about entities: what comes before an entity is run once for all, and what an edit does not change is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from saelite.data.language_models import LanguageModel, layers, module_at
from saelite.data.splicing import run_from

if TYPE_CHECKING:
    from saelite.evaluations.facts import KnownFacts


def ask(lm: LanguageModel, prompt: str, entities: list[str]) -> np.ndarray:
    """The likeliest next token after a prompt, for each entity. Integers (len(entities),)."""
    prefix, tails, _ = tokenise(lm, prompt, entities)
    answers = np.zeros(len(tails), dtype=int)
    for length in sorted(set(map(len, tails))):  # rows of one length need no padding
        rows = [i for i, tail in enumerate(tails) if len(tail) == length]
        found = run_tails(lm, prefix, *left_padded([tails[i] for i in rows], length))
        answers[rows] = torch.cat([out.logits[:, -1].argmax(dim=1) for out in found]).cpu()
    return answers


def tokenise(lm: LanguageModel, prompt: str, entities: list[str]) -> tuple[list[int], list[list[int]], int]:
    """The parts of a prompt that holds ``{city}``: the ids of its prefix (with the token that the model's texts begin
    with, if they do), for each entity those of its name and what follows, and how many follow the name."""
    before, after = prompt.split("{city}")
    *names, suffix = (first_ids(lm, text) for text in [*(f" {name}" for name in entities), after])
    return lm.tokenizer(before.rstrip(" "))["input_ids"], [name + suffix for name in names], len(suffix)


def first_ids(lm: LanguageModel, text: str) -> list[int]:
    """The ids of a text inside a prompt, without what the model's texts begin with."""
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]


def left_padded(tails: list[list[int]], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (1 for tokens) of shape (n, width), so that the last token of every row is in the last column."""
    ids = [[0] * (width - len(tail)) + tail for tail in tails]
    mask = [[0] * (width - len(tail)) + [1] * len(tail) for tail in tails]
    return torch.tensor(ids, dtype=torch.long), torch.tensor(mask, dtype=torch.long)


@torch.no_grad()
def run_tails(
    lm: LanguageModel, prefix: list[int], tails: torch.Tensor, mask: torch.Tensor, batch: int = 64
) -> Iterator[CausalLMOutputWithPast]:
    """Run what follows a prefix that all rows share: `tails` and `mask` (n, width) from :func:`left_padded`.

    Gives the output of each batch in turn: logits of the last position, keys and values of all positions.
    """
    shared = lm.model(torch.tensor([prefix], device=lm.device), use_cache=True, logits_to_keep=1).past_key_values
    for ids, real in zip(tails.split(batch), mask.split(batch), strict=True):
        cache = DynamicCache()
        for i, layer in enumerate(shared.layers):
            cache.update(*(kept.expand(len(ids), -1, -1, -1) for kept in (layer.keys, layer.values)), i)
        real = pad(real, (len(prefix), 0), value=1).to(lm.device)
        yield lm.model(
            input_ids=ids.to(lm.device), attention_mask=real, past_key_values=cache, logits_to_keep=1,
            position_ids=(real.cumsum(dim=1) - 1)[:, len(prefix) :],
        )  # fmt: skip


class Prompts:
    """Every known fact's prompt, run once, so that an edit at the entity's last token costs no more than it changes.

    The keys and values of what comes before that token are kept, and so are the hook point's outputs after it, which
    do not change yet. Only the layers above run again, from that token on (inside a block, that block too).
    """

    def __init__(self, lm: LanguageModel, facts: KnownFacts, layer: int, site: str = "residual"):
        self.lm, self.layer, self.site = lm, layer, site
        entities = {a: list(known.index) for a in facts.prompts if len(known := facts.table[a].dropna())}
        #: where the prompt of each (attribute, entity) stands among the rows of all the rest
        self.row = {fact: i for i, fact in enumerate((a, entity) for a, some in entities.items() for entity in some)}
        parts = [tokenise(lm, facts.prompts[attribute], some) for attribute, some in entities.items()]
        longest = max(len(prefix) for prefix, *_ in parts)
        width = max(len(tail) for _, tails, _ in parts for tail in tails)
        self._window = max(after for *_, after in parts) + 1  # columns to run again, at the end of every row
        hidden, before, masks, columns, attributes = [], [], [], [], []
        prefixes, kept = [[] for _ in layers(lm.model)], [[] for _ in layers(lm.model)]

        def keep_output(module, inputs, output):
            hidden.append((output[0] if isinstance(output, tuple) else output)[:, -self._window :])

        def keep_input(module, inputs, named):
            before.append((inputs[0] if inputs else named["hidden_states"])[:, -self._window :])

        for number, (prefix, tails, after) in enumerate(parts):
            ids, mask = left_padded(tails, width)
            masks.append(pad(pad(mask, (len(prefix), 0), value=1), (longest - len(prefix), 0)))
            columns += [self._window - 1 - after] * len(ids)
            attributes += [number] * len(ids)
            start = len(hidden)
            with (
                module_at(lm, layer, site).register_forward_hook(keep_output),
                layers(lm.model)[layer].register_forward_pre_hook(keep_input, with_kwargs=True),
            ):
                caches = [out.past_key_values for out in run_tails(lm, prefix, ids, mask)]
            del hidden[start], before[start]  # the prefix's own
            for i in range(layer + (site == "residual"), lm.n_layers):  # the blocks that an edit runs
                both = [torch.stack([cache.layers[i].keys, cache.layers[i].values]) for cache in caches]
                prefixes[i].append(pad(both[0][:, :1, :, : len(prefix)], (0, 0, longest - len(prefix), 0)))
                kept[i] += [one[:, :, :, len(prefix) : -self._window] for one in both]
        self._mask = torch.cat(masks).to(lm.device)
        self._attribute, self._column = torch.tensor(attributes), torch.tensor(columns)
        self._hidden = torch.cat(hidden)
        self._block_reads = None if site == "residual" else torch.cat(before)
        pairs = zip(prefixes, kept, strict=True)
        self._kept = [(torch.cat(one, dim=1), torch.cat(two, dim=1)) if one else None for one, two in pairs]
        #: what the hook point gives at the entity's last token, float32 (rows, d_model)
        self.x = self._hidden[torch.arange(len(self.row)), self._column].float()
        tokens = [facts.tokens[attribute][facts.table.at[entity, attribute]] for attribute, entity in self.row]
        #: the right answer's first token, int64 (rows,)
        self.token = torch.tensor(tokens, device=lm.device)

    def answers(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Logits of the next token, float32 (n, vocabulary), of the prompts in some `rows`, int64 (n,).

        What the hook point gives at the entity's last token is replaced with `x` (n, d_model); gradients flow through.
        """
        hidden = self._hidden[rows].clone()
        hidden[torch.arange(len(rows)), self._column[rows]] = x.to(hidden)
        mask = self._mask[rows.to(self._mask.device)]
        with sdpa_kernel(SDPBackend.MATH):  # backward in half the time of the others', with queries as few as here
            out = run_from(
                self.lm, hidden, self.layer, site=self.site,
                before=None if self._block_reads is None else self._block_reads[rows],
                attention_mask=mask, position_ids=(mask.cumsum(dim=1) - 1)[:, -self._window :],
                past_key_values=self._before(rows), logits_to_keep=1,
            )  # fmt: skip
        return out.logits[:, -1].float()

    def _before(self, rows):
        """Keys and values of what comes before the entity's last token; a cache grows in a run, so each has its own."""
        cache = DynamicCache()
        for i, kept in enumerate(self._kept):
            if kept is None:  # a block that does not run; but the first one's length is taken for that of all
                keys = values = self._hidden.new_zeros(1, 1, self._mask.shape[1] - self._window, 1)
            else:
                keys, values = torch.cat([kept[0][:, self._attribute[rows]], kept[1][:, rows]], dim=3)
            cache.update(keys, values, i)
        return cache

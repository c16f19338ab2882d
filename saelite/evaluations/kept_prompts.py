"""Prompts about entities, run once and kept, so that an edit at the entity costs only what comes after it."""

from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache

from saelite.data.language_models import LanguageModel, layers, module_at
from saelite.data.splicing import run_from
from saelite.evaluations.facts import KnownFacts, left_padded, run_tails, tokenise


class Prompts:
    """Every known fact's prompt, run once, so that an edit costs no more than what it changes.

    An edit stands at the entity's last token after block `layer`. What comes before that token does not change, so its
    keys and values are kept; after it, at this layer, nothing changes yet, so the layer's outputs are kept. Only the
    layers above run again, from the entity's last token on; at a hook point inside the block, the block itself too.

    Parameters
    ----------
    lm : LanguageModel
    facts : KnownFacts
    layer : int
    site : str
        ``"residual"``, ``"mlp"`` or ``"attention"``.

    Attributes
    ----------
    row : dict of (attribute, entity) to int
        Where each fact's prompt stands among the rows of the rest.
    x : float32 tensor of shape (rows, d_model)
        What the hook point gives at the entity's last token.
    """

    def __init__(self, lm: LanguageModel, facts: KnownFacts, layer: int, site: str = "residual"):
        self.lm, self.layer, self.site = lm, layer, site
        entities = {attribute: list(facts.table[attribute].dropna().index) for attribute in facts.prompts}
        self.row = {fact: i for i, fact in enumerate((a, entity) for a, some in entities.items() for entity in some)}
        parts = [tokenise(lm, facts.prompts[attribute], some) for attribute, some in entities.items()]
        longest = max(len(prefix) for prefix, *_ in parts)
        width = max(len(tail) for _, tails, _ in parts for tail in tails)
        self._window = max(after for *_, after in parts) + 1  # columns to run again, at the end of every row
        hidden, before, masks, columns, self._attribute = [], [], [], [], []
        first = layer + 1 if site == "residual" else layer  # block that an edit runs
        prefixes, tails = [[] for _ in layers(lm.model)], [[] for _ in layers(lm.model)]
        for number, (prefix, ids, after) in enumerate(parts):
            ids, mask = left_padded(ids, width)
            start = torch.arange(longest).ge(longest - len(prefix)).long().expand(len(ids), -1)
            masks.append(torch.cat([start, mask], dim=1))
            columns += [self._window - 1 - after] * len(ids)
            self._attribute += [number] * len(ids)
            with _passing(lm, layer, site) as (outputs, inputs):
                caches = [out.past_key_values for out in run_tails(lm, prefix, ids, mask)]
            hidden += [output[:, -self._window :] for output in outputs[1:]]  # the first is the prefix's
            before += [read[:, -self._window :] for read in inputs[1:]]
            for i in range(first, lm.n_layers):
                both = [torch.stack([cache.layers[i].keys, cache.layers[i].values]) for cache in caches]
                pad = (0, 0, longest - len(prefix), 0)
                prefixes[i].append(torch.nn.functional.pad(both[0][:, :1, :, : len(prefix)], pad))
                tails[i] += [kept[:, :, :, len(prefix) : -self._window] for kept in both]
        self._mask = torch.cat(masks).to(lm.device)
        self._attribute, self._column = torch.tensor(self._attribute), torch.tensor(columns)
        self._hidden = torch.cat(hidden)
        self._block_reads = None if site == "residual" else torch.cat(before)
        self._kept = [
            (torch.cat(one, dim=1), torch.cat(two, dim=1)) if one else None
            for one, two in zip(prefixes, tails, strict=True)
        ]
        self.x = self._hidden[torch.arange(len(self.row)), self._column].float()

    def answers(self, rows, x):
        """Logits of the next token, with the entity's last token edited.

        Parameters
        ----------
        rows : int64 tensor of shape (n,)
            Which prompts.
        x : float tensor of shape (n, d_model)
            What takes the place of the hook point's output at the entity's last token. Gradients flow through it.

        Returns
        -------
        float32 tensor of shape (n, vocabulary)
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
                prefix, tails = kept
                keys, values = torch.cat([prefix[:, self._attribute[rows]], tails[:, rows]], dim=3)
            cache.update(keys, values, i)
        return cache


@contextmanager
def _passing(lm, layer, site):
    """Collect what a hook point gives, and what its block reads, run by run."""
    outputs, inputs = [], []
    hooks = [
        module_at(lm, layer, site).register_forward_hook(
            lambda module, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
        ),
        layers(lm.model)[layer].register_forward_pre_hook(
            lambda module, read, named: inputs.append(read[0] if read else named["hidden_states"]), with_kwargs=True
        ),
    ]
    try:
        yield outputs, inputs
    finally:
        for hook in hooks:
            hook.remove()

"""Causal editing: does copying a few latents from one entity to another change one attribute and no other?

The test is RAVEL's (Huang et al., arXiv:2402.17700), with the learned binary mask over latents of SAEBench (Karvonen et
al., arXiv:2503.09532). Tell the model that Lagos is Lima, but only as far as the country goes: asked for the country it
should now answer Peru (Cause), asked for the continent still Africa (Isolation).
"""

from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import orthogonal

from saelite.data.language_models import LanguageModel, check_layer, fingerprint
from saelite.evaluations.facts import KnownFacts
from saelite.evaluations.kept_prompts import Prompts

START = -2.0  # of every mask logit: a latent is left alone unless the data ask for it, step after step
COLDEST = 0.1  # temperature of the mask at the last step; it starts at 1
SUBSPACE_LR = 3e-3
SUBSPACE_STEPS = 3  # for each step of a mask: a ceiling should be as high as it can be


class Editing:
    """Edit one attribute of an entity through an SAE's latents, and see which answers change.

    At the entity's last token, after block `layer`, with codes of the activations ``x_base`` and ``x_source`` that the
    same prompt gives for two entities::

        code    = (1 - mask) * code(x_base) + mask * code(x_source)
        x_edited = x_base + decode(code) - decode(code(x_base))

    So what the SAE fails to reconstruct of the base stays in place (the paper does not say what it does; SAEs would
    else be scored on their reconstruction once more), and a dead SAE edits nothing.

    The mask is binary when tested. For each target attribute it is learned on the training entities as
    ``sigmoid(logits / temperature)`` with a falling temperature, by Adam on the cross-entropy of the wanted answer's
    first token: the source's value when asked for the target, the base's own when asked for another attribute.

    Entities are split in two: two thirds to learn on, a third to test on. The two of a pair differ in every attribute
    that the model knows of both, and only those are asked for. An item is a held-out pair with a target attribute:

    cause
        1 if the edited model's likeliest token begins the source's value of the target attribute.
    isolation
        Share of the other attributes whose answer is still the base's value.
    score
        Their mean. No edit at all scores 0.5 by construction: cause 0, isolation 1. So does one that swaps everything,
        as far as it succeeds: cause 1, isolation 0.

    Parameters
    ----------
    lm : LanguageModel
    facts : KnownFacts
        What the model knows, from :func:`saelite.evaluations.facts.known_facts`.
    layer : int
        The decoder block whose output is edited.
    site : str
        What of it: ``"residual"``, ``"mlp"`` or ``"attention"``; see :func:`saelite.data.language_models.module_at`.
    pairs : int
        Held-out pairs for each target attribute, drawn at random; fewer if there are fewer.
    steps, batch : int
        Steps of Adam for each mask, and prompts in one; half of them ask for the target attribute.
    lr : float
        Of the mask's logits.
    dimensions : int
        Of the subspaces that the references edit (see :meth:`references`).
    seed : int

    Attributes
    ----------
    targets : list of str
        The attributes of which there are pairs to learn on and to test on.
    left_out : dict of str to str
        Other attributes, and why.

    Raises
    ------
    ValueError
        If a number is out of range, or no attribute has pairs.
    """

    paired = True

    def __init__(
        self,
        lm: LanguageModel,
        facts: KnownFacts,
        *,
        layer,
        site="residual",
        pairs=100,
        steps=20,
        batch=32,
        lr=0.8,
        dimensions=32,
        seed=0,
    ):
        check_layer(lm, layer, site)
        if min(pairs, steps) < 1 or batch < 2:
            raise ValueError(f"pairs={pairs} and steps={steps} must be at least 1, and batch={batch} at least 2.")
        if not 1 <= dimensions <= lm.d_model:
            raise ValueError(f"dimensions={dimensions} of a subspace must be from 1 to the model's width {lm.d_model}.")
        self.lm, self.facts, self.layer, self.site = lm, facts, layer, site
        self.steps, self.batch, self.lr, self.dimensions, self.seed = steps, batch, lr, dimensions, seed
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(facts.table))
        cut = round(len(order) * 2 / 3)
        self.train, self.held_out = (sorted(facts.table.index[part]) for part in (order[:cut], order[cut:]))
        self.targets, self.left_out, self._pairs = [], {}, {}
        for target in facts.prompts:
            found = {
                "train": self._draw(target, self.train, steps * (batch // 2), generator),
                "held-out": self._draw(target, self.held_out, pairs, generator),
            }
            empty = [name for name, some in found.items() if not some]
            if empty:
                self.left_out[target] = f"no pair of {empty[0]} entities differs in all that is known of both"
            else:
                self.targets.append(target)
                self._pairs[target] = found
        if not self.targets:
            raise ValueError(
                f"No two of the {len(facts.table)} entities differ in all that {lm.name!r} knows of both, in training "
                "and held out: ask about more entities."
            )
        self.settings = {
            "model": fingerprint(lm), "computed_in": str(lm.dtype), "layer": layer, "site": site,
            "facts": [[name, *row] for name, *row in facts.table.itertuples()], "prompts": facts.prompts,
            "pairs": pairs, "steps": steps, "batch": batch, "lr": lr, "dimensions": dimensions, "seed": seed,
        }  # fmt: skip

    @cached_property
    def prompts(self):
        """The prompts, run once; not before they are needed, which they are not where every score is in the cache."""
        return Prompts(self.lm, self.facts, self.layer, self.site)

    def __call__(self, sae):
        """Learn a mask for each target attribute, and test it and a random one on the held-out pairs.

        Returns
        -------
        pandas.DataFrame
            metric: "causal editing", and "causal editing, random mask" for as many latents drawn at random among
            those that fire on the entities, the floor that depends on the SAE; item, score, cluster (the base
            entity), attribute (the target), cause, isolation, latents (in the mask), firing (on the training
            entities), loss_first and loss_last (mean training loss of the first and last fifth of the steps; NaN
            where no latent fires and there was nothing to learn).
        """
        codes = self._codes(sae)
        trains = torch.tensor([entity in set(self.train) for _, entity in self.prompts.row])
        fires = (codes[trains] != 0).any(dim=0)
        generator = torch.Generator().manual_seed(self.seed)
        tables = []
        for target in self.targets:
            mask, losses = self._learn_mask(sae, codes, fires, target)
            candidates = fires.nonzero().squeeze(1)
            drawn = candidates[torch.randperm(len(candidates), generator=generator)[: int(mask.sum())]]
            random = torch.zeros_like(mask).index_fill(0, drawn.to(mask.device), 1)
            fifth = max(1, len(losses) // 5)
            for metric, used in (("causal editing", mask), ("causal editing, random mask", random)):
                table = self._score(target, self._masked(sae, codes, used)).assign(
                    latents=int(used.sum()), firing=int(fires.sum()), loss_first=np.nan, loss_last=np.nan
                )
                if metric == "causal editing" and losses:
                    table[["loss_first", "loss_last"]] = np.mean(losses[:fifth]), np.mean(losses[-fifth:])
                table.insert(0, "metric", metric)
                tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def references(self):
        """Edits that need no SAE, on the same held-out pairs.

        Floors: no edit (a dead SAE does the same); the whole activation of the source in the base's place; a random
        subspace, where what lies in it is taken from the source. Ceiling: distributed alignment search (DAS), a
        subspace of `dimensions` dimensions learned for each attribute with the loss and batches of the masks, in three
        times the steps.

        Returns
        -------
        pandas.DataFrame
            reference, kind ("floor" or "ceiling"), and the columns of a call's table that apply.
        """
        tables = []
        for target in self.targets:
            start = self._subspace()
            random = start.weight.detach().clone()
            learned = self._learn_subspace(start, target)
            for reference, kind, edit in (
                ("no edit", "floor", lambda base, source: self.prompts.x[base]),
                ("whole swap", "floor", lambda base, source: self.prompts.x[source]),
                ("random subspace", "floor", self._projected(random)),
                ("learned subspace (DAS)", "ceiling", self._projected(learned)),
            ):
                table = self._score(target, edit)
                table.insert(0, "metric", "causal editing")
                table.insert(0, "kind", kind)
                table.insert(0, "reference", reference)
                tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def _draw(self, target, entities, n, generator):
        """Pairs (base, source, other attributes) for a target; fewer than `n` if there are no more."""
        table = self.facts.table.loc[entities, list(self.facts.prompts)]
        known = table.notna().to_numpy()
        values = np.stack([pd.factorize(table[attribute])[0] for attribute in table], axis=1)
        both = known[:, None] & known[None]
        same = (values[:, None] == values[None]) & both
        fits = both[:, :, table.columns.get_loc(target)] & (both.sum(axis=2) >= 2) & ~same.any(axis=2)
        found = np.argwhere(fits)
        found = found[generator.permutation(len(found))[:n]]
        others = [[a for a, yes in zip(table, both[b, s], strict=True) if yes and a != target] for b, s in found]
        return [(entities[b], entities[s], rest) for (b, s), rest in zip(found, others, strict=True)]

    def _codes(self, sae):
        """The SAE's codes of every prompt's activation at the entity's last token, of shape (rows, d_sae)."""
        device = _device(sae, self.lm)
        with torch.no_grad():
            return torch.cat([sae.encode(part.to(device)) for part in self.prompts.x.split(1024)])

    def _masked(self, sae, codes, mask):
        """The edit that a mask over latents makes."""

        def edit(base, source):
            change = sae.decode(codes[base] + mask * (codes[source] - codes[base])) - sae.decode(codes[base])
            return self.prompts.x[base] + change.to(self.lm.device)

        return edit

    def _projected(self, basis):
        """The edit that takes what lies in a subspace from the source; `basis` (dimensions, d_model) is orthonormal."""

        def edit(base, source):
            difference = self.prompts.x[source] - self.prompts.x[base]
            return self.prompts.x[base] + difference @ basis.T @ basis

        return edit

    def _learn_mask(self, sae, codes, fires, target):
        """The binary mask for one target attribute (d_sae,), and the loss at every step."""
        alive = fires.nonzero().squeeze(1)
        if not len(alive):
            return torch.zeros_like(fires, dtype=torch.float32), []
        # float32, whatever the model runs in
        logits = torch.full((len(alive),), START, device=codes.device, requires_grad=True)

        def edit_at(progress):
            soft = torch.sigmoid(logits / COLDEST**progress)
            return self._masked(sae, codes, torch.zeros(len(fires), device=codes.device).scatter(0, alive, soft))

        losses = self._learn([logits], edit_at, target, self.lr, self.steps)
        return torch.zeros(len(fires), device=codes.device).scatter(0, alive, (logits > 0).float()), losses

    def _subspace(self):
        """A random subspace: a linear map with orthonormal rows, of shape (dimensions, d_model), that stays so."""
        linear = torch.nn.Linear(self.lm.d_model, self.dimensions, bias=False)
        torch.nn.init.orthogonal_(linear.weight, generator=torch.Generator().manual_seed(self.seed))
        return orthogonal(linear.to(self.lm.device))

    def _learn_subspace(self, linear, target):
        parameters, steps = list(linear.parameters()), SUBSPACE_STEPS * self.steps
        self._learn(parameters, lambda progress: self._projected(linear.weight), target, SUBSPACE_LR, steps)
        return linear.weight.detach()

    def _learn(self, parameters, edit_at, target, lr, steps):
        """Adam on the cross-entropy of the wanted answers. Gives the loss at every step.

        Parameters
        ----------
        parameters : list of tensors
        edit_at : callable
            From the share of the steps that are done, 0 to 1, to an edit.
        """
        generator = np.random.default_rng(self.seed)
        adam = torch.optim.Adam(parameters, lr=lr)
        pairs, losses = self._pairs[target]["train"], []
        for step in range(steps):
            drawn = [
                pairs[i] for i in generator.choice(len(pairs), self.batch // 2, replace=len(pairs) < self.batch // 2)
            ]
            asked = [(target, base, source) for base, source, _ in drawn]
            asked += [(others[generator.integers(len(others))], base, source) for base, source, others in drawn]
            base, source, wanted = self._rows(asked, target)
            edit = edit_at(step / max(1, steps - 1))
            loss = cross_entropy(self.prompts.answers(base, edit(base, source)), wanted)
            # Of these alone: backward() would also compute gradients of the SAE's own weights.
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            adam.step()
            losses.append(loss.item())
        return losses

    def _rows(self, asked, target):
        """Prompts of base and source, and the wanted first token, for a list of (attribute, base, source)."""
        table, tokens, row = self.facts.table, self.facts.tokens, self.prompts.row
        base = torch.tensor([row[attribute, one] for attribute, one, _ in asked])
        source = torch.tensor([row[attribute, other] for attribute, _, other in asked])
        wanted = [
            tokens[attribute][table.at[other if attribute == target else one, attribute]]
            for attribute, one, other in asked
        ]
        return base, source, torch.tensor(wanted, device=self.lm.device)

    @torch.no_grad()
    def _score(self, target, edit):
        """Cause, isolation and score of an edit on every held-out pair of a target attribute."""
        pairs = self._pairs[target]["held-out"]
        asked = [(attribute, base, source) for base, source, others in pairs for attribute in [target, *others]]
        pair = np.repeat(np.arange(len(pairs)), [1 + len(others) for *_, others in pairs])
        base, source, wanted = self._rows(asked, target)
        right = [
            self.prompts.answers(b, edit(b, s)).argmax(dim=1) == w
            for b, s, w in zip(base.split(64), source.split(64), wanted.split(64), strict=True)
        ]
        right = pd.DataFrame({"pair": pair, "right": torch.cat(right).cpu().numpy().astype(float)})
        is_target = np.array([attribute == target for attribute, *_ in asked])
        cause = right[is_target].set_index("pair")["right"]
        isolation = right[~is_target].groupby("pair")["right"].mean()
        return pd.DataFrame(
            {
                "item": [f"{target}: {base} as {source}" for base, source, _ in pairs],
                "score": ((cause + isolation) / 2).to_numpy(),
                "cluster": [base for base, *_ in pairs],
                "attribute": target,
                "cause": cause.to_numpy(),
                "isolation": isolation.to_numpy(),
            }
        )


def _device(sae, lm):
    return next((parameter.device for parameter in sae.parameters()), lm.device)

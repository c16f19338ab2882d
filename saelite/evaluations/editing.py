"""Causal editing: does copying a few latents from one entity to another change one attribute and no other?

The test is RAVEL's (arXiv:2402.17700), with SAEBench's learned binary mask over latents (arXiv:2503.09532). Tell the
model that Lagos is Lima, but only as far as the country goes: asked for the country it should now answer Peru (Cause),
asked for the continent still Africa (Isolation).
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import orthogonal

from saelite import arguments
from saelite.data.language_models import LanguageModel, check_layer, fingerprint
from saelite.evaluations import Evaluation, device_for
from saelite.evaluations.facts import KnownFacts
from saelite.evaluations.kept_prompts import Prompts

Edit = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # rows (n,) of base and of source to x (n, d_model)

START = -2.0  # of every mask logit: a latent is left alone unless the data ask for it, step after step
COLDEST = 0.1  # temperature of the mask at the last step; it starts at 1
SUBSPACE_LR = 3e-3
SUBSPACE_STEPS = 3  # for each step of a mask: a ceiling should be as high as it can be


class Editing(Evaluation):
    """Edit one attribute of an entity through an SAE's latents, and see which answers change.

    With codes of the activations that the same prompt gives at the last token of two entities, base and source::

        code     = (1 - mask) * code(x_base) + mask * code(x_source)
        x_edited = x_base + decode(code) - decode(code(x_base))

    What the SAE fails to reconstruct of the base stays in place (the paper does not say; SAEs would else be scored on
    their reconstruction once more), and a dead SAE edits nothing. The mask is binary when tested. For each target
    attribute it is learned on two thirds of the entities as ``sigmoid(logits / temperature)`` with a falling
    temperature, by Adam on the cross-entropy of the wanted answer's first token: the source's value when asked for the
    target, the base's own when asked for another attribute.

    The two of a pair differ in every attribute that the model knows of both, and only those are asked for. An item is a
    pair of held-out entities with a target attribute. Its *cause* is 1 if the edited model's likeliest token begins the
    source's value of the target; its *isolation* is the share of the other attributes whose answer is still the base's
    value; its score is their mean: 0.5 for no edit, by construction, and for one that swaps everything.

    Parameters
    ----------
    lm, facts : LanguageModel, KnownFacts
        What the model knows is from :func:`saelite.evaluations.facts.known_facts`.
    layer, site : int, str
        The hook point that is edited; see :func:`saelite.data.language_models.module_at`.
    pairs : int
        Held-out pairs for each target attribute, drawn at random; fewer if there are fewer.
    steps, batch, lr : int, int, float
        Steps of Adam for each mask, prompts in one (half of them ask for the target), and the learning rate.
    dimensions, seed : int
        Of the subspaces that the references edit; of all draws.

    Attributes
    ----------
    targets, left_out : list of str, dict of str to str
        The attributes of which there are pairs to learn on and to test on; the others, and why.

    Raises
    ------
    ValueError
        If a number is out of range, or no attribute has pairs.

    Examples
    --------
    >>> import saelite as sl
    >>> from saelite.evaluations.facts import city_facts, known_facts
    >>> lm = sl.language_model("smollm2")
    >>> editing = sl.Editing(lm, known_facts(lm, city_facts(30), at_least=3), layer=20, pairs=4, steps=2, batch=4)
    >>> bool(editing(sl.SAE(lm.d_model, 64, sl.TopK(4)))["score"].between(0, 1).all())
    True
    """

    paired = True

    def __init__(
        self, lm: LanguageModel, facts: KnownFacts, *, layer: int, site: str = "residual", pairs: int = 100,
        steps: int = 20, batch: int = 32, lr: float = 0.8, dimensions: int = 32, seed: int = 0,
    ):  # fmt: skip
        arguments.kind(LanguageModel, lm=lm)
        arguments.kind(KnownFacts, facts=facts)
        check_layer(lm, layer, site)
        arguments.whole(1, pairs=pairs, steps=steps)
        arguments.whole(2, batch=batch)
        arguments.above(0, lr=lr)
        arguments.whole(1, lm.d_model, dimensions=dimensions)
        self.lm, self.facts, self.layer, self.site = lm, facts, layer, site
        self.steps, self.batch, self.lr, self.dimensions, self.seed = steps, batch, lr, dimensions, seed
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(facts.table))
        cut = round(len(order) * 2 / 3)
        self.train, self.held_out = (sorted(facts.table.index[part]) for part in (order[:cut], order[cut:]))
        self.left_out, self._pairs = {}, {}
        for target in facts.prompts:
            self._pairs[target] = {
                "train": self._draw(target, self.train, steps * (batch // 2), generator),
                "held-out": self._draw(target, self.held_out, pairs, generator),
            }
            for part in [part for part, found in self._pairs[target].items() if not found][:1]:
                self.left_out[target] = f"no pair of {part} entities differs in all that is known of both"
        self.targets = [target for target in facts.prompts if target not in self.left_out]
        if not self.targets:
            raise ValueError(
                f"No two of the {len(facts.table)} entities differ in all that {lm.name!r} knows of both: ask about "
                "more entities."
            )
        self.settings = {
            "model": fingerprint(lm), "computed_in": str(lm.dtype), "layer": layer, "site": site,
            "facts": [[name, *row] for name, *row in facts.table.itertuples()], "prompts": facts.prompts,
            "pairs": pairs, "steps": steps, "batch": batch, "lr": lr, "dimensions": dimensions, "seed": seed,
        }  # fmt: skip

    @cached_property
    def prompts(self) -> Prompts:
        """Run when they are first needed, which they are not where every score is in the cache."""
        return Prompts(self.lm, self.facts, self.layer, self.site)

    def __call__(self, sae: torch.nn.Module) -> pd.DataFrame:
        """Learn a mask for each target attribute, and test it and a random one on the held-out pairs.

        Returns
        -------
        pandas.DataFrame, one row per mask and held-out pair
            metric ("causal editing", and the floor "causal editing, random mask" of as many latents drawn among those
            that fire), item, score, cluster (the base entity), attribute (the target), cause, isolation, latents (in
            the mask), firing (how many are not zero on some training entity), loss_first and loss_last (mean training
            loss of the first and last fifth of the steps; NaN where no latent fires).
        """
        codes = self._codes(sae)
        fires = (codes[[entity in self.train for _, entity in self.prompts.row]] != 0).any(dim=0)
        firing = fires.nonzero().squeeze(1)
        generator = torch.Generator().manual_seed(self.seed)
        tables = []
        for target in self.targets:
            mask, losses = self._learn_mask(sae, codes, fires, target)
            drawn = firing[torch.randperm(len(firing), generator=generator)[: int(mask.sum())]]
            random = torch.zeros_like(mask).index_fill(0, drawn, 1)
            fifth = max(1, len(losses) // 5)
            first, last = (np.mean(part) if part else np.nan for part in (losses[:fifth], losses[-fifth:]))
            for metric, used in (("causal editing", mask), ("causal editing, random mask", random)):
                table = self._score(target, self._masked(sae, codes, used), metric=metric)
                table = table.assign(latents=int(used.sum()), firing=len(firing), loss_first=np.nan, loss_last=np.nan)
                tables.append(table if used is random else table.assign(loss_first=first, loss_last=last))
        return pd.concat(tables, ignore_index=True)

    def references(self) -> pd.DataFrame:
        """Edits that need no SAE, on the same held-out pairs: reference, kind, and the columns of a call that apply.

        Floors: no edit (a dead SAE does the same); the source's whole activation; what of it lies in a random subspace.
        Ceiling: distributed alignment search (DAS), a subspace of `dimensions` dimensions learned for each attribute
        with the loss and batches of the masks, in three times the steps.
        """
        tables = []
        for target in self.targets:
            random, learned = self._subspaces(target)
            for reference, kind, edit in (
                ("no edit", "floor", lambda base, source: self.prompts.x[base]),
                ("whole swap", "floor", lambda base, source: self.prompts.x[source]),
                ("random subspace", "floor", self._projected(random)),
                ("learned subspace (DAS)", "ceiling", self._projected(learned)),
            ):
                tables.append(self._score(target, edit, reference=reference, kind=kind, metric="causal editing"))
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

    def _codes(self, sae: torch.nn.Module) -> torch.Tensor:
        """The SAE's codes of every prompt's activation at the entity's last token, of shape (rows, d_sae)."""
        device = device_for(sae, self.lm.d_model, self.lm.device)
        with torch.no_grad():
            return torch.cat([sae.encode(part.to(device)) for part in self.prompts.x.split(1024)])

    def _masked(self, sae: torch.nn.Module, codes: torch.Tensor, mask: torch.Tensor) -> Edit:
        def edit(base, source):
            change = sae.decode(codes[base] + mask * (codes[source] - codes[base])) - sae.decode(codes[base])
            return self.prompts.x[base] + change.to(self.lm.device)

        return edit

    def _projected(self, basis: torch.Tensor) -> Edit:
        """The edit that takes what lies in a subspace from the source; `basis` (dimensions, d_model) is orthonormal."""
        x = self.prompts.x
        return lambda base, source: x[base] + (x[source] - x[base]) @ basis.T @ basis

    def _learn_mask(self, sae, codes, fires, target):
        """The binary mask for one target attribute (d_sae,), and the loss at every step."""
        alive = fires.nonzero().squeeze(1)
        logits = torch.full((len(alive),), START, device=codes.device, requires_grad=True)  # float32, whatever runs

        def mask(values):
            return torch.zeros(len(fires), device=codes.device).scatter(0, alive, values)

        def edit_at(progress):
            return self._masked(sae, codes, mask(torch.sigmoid(logits / COLDEST**progress)))

        losses = self._learn([logits], edit_at, target, self.lr, self.steps) if len(alive) else []
        return mask((logits > 0).float()), losses

    def _subspaces(self, target):
        """A random subspace, orthonormal rows (dimensions, d_model), and what learning makes of it for a target."""
        linear = torch.nn.Linear(self.lm.d_model, self.dimensions, bias=False)
        torch.nn.init.orthogonal_(linear.weight, generator=torch.Generator().manual_seed(self.seed))
        linear = orthogonal(linear.to(self.lm.device))  # it stays so
        random, steps = linear.weight.detach().clone(), SUBSPACE_STEPS * self.steps
        self._learn(list(linear.parameters()), lambda done: self._projected(linear.weight), target, SUBSPACE_LR, steps)
        return random, linear.weight.detach()

    def _learn(self, parameters, edit_at: Callable[[float], Edit], target, lr, steps) -> list[float]:
        """Adam on the wanted answers' cross-entropy at every step; `edit_at` takes the share of steps done, 0 to 1."""
        generator = np.random.default_rng(self.seed)
        adam = torch.optim.Adam(parameters, lr=lr)
        pairs, losses = self._pairs[target]["train"], []
        for step in range(steps):
            half = self.batch // 2
            drawn = [pairs[i] for i in generator.choice(len(pairs), half, replace=len(pairs) < half)]
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
        row = self.prompts.row
        base, source = (torch.tensor([row[one[0], one[i]] for one in asked]) for i in (1, 2))
        wanted = torch.where(torch.tensor([attribute == target for attribute, *_ in asked]), source, base)
        return base, source, self.prompts.token[wanted]

    @torch.no_grad()
    def _score(self, target: str, edit: Edit, **names: str) -> pd.DataFrame:
        """Cause, isolation and score of an edit on every held-out pair of a target attribute; `names` are columns."""
        pairs = self._pairs[target]["held-out"]
        asked = [(attribute, base, source) for base, source, others in pairs for attribute in [target, *others]]
        parts = zip(*(part.split(64) for part in self._rows(asked, target)), strict=True)
        right = torch.cat([self.prompts.answers(b, edit(b, s)).argmax(dim=1) == wanted for b, s, wanted in parts])
        rows = []
        for (base, source, others), answers in zip(
            pairs, right.split([1 + len(pair[2]) for pair in pairs]), strict=True
        ):
            cause, *kept = answers.tolist()
            isolation = sum(kept) / len(others)
            row = {"item": f"{target}: {base} as {source}", "score": (cause + isolation) / 2, "cluster": base}
            rows.append(names | row | {"attribute": target, "cause": float(cause), "isolation": isolation})
        return pd.DataFrame(rows)

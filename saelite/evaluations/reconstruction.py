"""Reconstruction: how much of a layer an SAE keeps, by variance and by what the model then predicts.

What explained variance loses could be what the layers above do not read, or just what they need. So the reconstruction
is spliced in where the activation was, and the model's predictions are compared with its own.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import cross_entropy, kl_div, pad
from torch.nn.utils.rnn import pad_sequence

from saelite import arguments
from saelite.activation_functions import TopK
from saelite.data.language_models import LanguageModel, fingerprint, read_input, read_layer, site_of
from saelite.data.splicing import run_from
from saelite.data.store import ActivationStore
from saelite.evaluations import Evaluation, device_for
from saelite.null_models import untrained

ROWS_AT_ONCE = 8
EV, LOSS, KL = "explained variance", "cross-entropy", "KL divergence"
RECOVERED_ZERO, RECOVERED_MEAN = "loss recovered (zero)", "loss recovered (mean)"


class Reconstruction(Evaluation):
    """Explained variance, cross-entropy, KL divergence and loss recovered of an SAE on held-out texts.

    One item is a text. Positions that the harvest dropped keep their own activation. *Loss recovered* is the share of
    the loss of an ablation that the SAE avoids, ``(CE(ablated) - CE(spliced)) / (CE(ablated) - CE(model))``, once with
    zero in the place of the activation and once with its mean. The mean is fairer: zero is far from anything that the
    layers above ever saw, so nearly everything recovers nearly all of that loss.

    Parameters
    ----------
    lm, store : LanguageModel, ActivationStore
        The store is of that model: its held-out part gives the texts, its other part what the references may look at.
    tokens : int
        Held-out activations to score; whole texts are taken until there are as many. The model's own predictions are
        kept where it is: 4 bytes per token and entry of the vocabulary, 0.6 GB for 3,000 of SmolLM2.
    l0, d_sae, seed : int
        Active latents (and components of the PCA), width and seed of an untrained SAE.

    Raises
    ------
    ValueError
        If the store comes from another model, or a number is out of range.

    Examples
    --------
    >>> import saelite as sl
    >>> lm, texts = sl.language_model("smollm2"), [f"One, two, {word}, four, five." for word in ("three", "six", "ten")]
    >>> store = sl.harvest(lm, texts, layer=3, tokens=20, progress=False)
    >>> table = sl.Reconstruction(lm, store, tokens=10, l0=4, d_sae=64)(sl.SAE(lm.d_model, 64, sl.TopK(4)))
    >>> table["metric"].unique().tolist()
    ['explained variance', 'cross-entropy', 'KL divergence', 'loss recovered (zero)', 'loss recovered (mean)']
    """

    paired = True

    def __init__(
        self, lm: LanguageModel, store: ActivationStore, *, tokens: int = 3000, l0: int = 40, d_sae: int = 4608,
        seed: int = 100,
    ):  # fmt: skip
        arguments.kind(LanguageModel, lm=lm)
        arguments.kind(ActivationStore, store=store)
        if store.record["model"] != fingerprint(lm):
            raise ValueError(
                f"The store was harvested from {store.record['model_name']!r}, another model than {lm.name!r}; harvest "
                "anew, or give that model."
            )
        arguments.whole(1, tokens=tokens, d_sae=d_sae)
        arguments.whole(1, d_sae, l0=l0)
        self.lm, self.store, self.tokens, self.l0, self.d_sae, self.seed = lm, store, tokens, l0, d_sae, seed
        self.held_out = store.held_out  # refuses a store of one text
        self.layer, self.site = store.record["layer"], site_of(store.record)
        self.settings = {"store": store.folder.name, "tokens": tokens, "l0": l0, "d_sae": d_sae, "seed": seed}

    def __call__(self, sae: torch.nn.Module) -> pd.DataFrame:
        """Items of one SAE: a row for every text and metric, with columns metric, item, score and weight."""
        device = device_for(sae, self.store.d_in)
        return self._items(lambda x: sae.decode(sae.encode(x.to(device))).to(x))

    def references(self) -> pd.DataFrame:
        """The model itself (ceiling); zero, the mean and an untrained SAE (floors); PCA (a yardstick)."""
        fit = self.store.train[: min(50_000, len(self.store.train))]
        pca = PCA(min(self.l0, *fit.shape), svd_solver="covariance_eigh").fit(fit.double().numpy())

        def project(x):
            return torch.from_numpy(pca.inverse_transform(pca.transform(x.double().cpu().numpy()))).to(x)

        made = {
            ("the model itself", "ceiling"): self._items(lambda x: x),
            ("zero", "floor"): self._items(torch.zeros_like),
            ("mean", "floor"): self._items(self._mean.expand_as),
            ("untrained dictionary", "floor"): self(untrained(TopK(self.l0), fit, self.d_sae, self.seed)),
            (f"PCA with {pca.n_components_} components", "yardstick"): self._items(project),
        }
        return pd.concat(made, names=["reference", "kind"]).reset_index(["reference", "kind"])

    # What follows is worked out when it is first needed: where every score is in the cache, it never is.

    @cached_property
    def _batches(self):
        batches = list(_batches_of_rows(self.held_out, self.tokens))
        for batch in batches:
            batch |= {name: batch[name].to(self.lm.device) for name in ("ids", "kept", "targets")}
            batch["hidden"] = read_layer(self.lm, batch["ids"], self.layer, None, self.site).float()
            batch["before"] = None if self.site == "residual" else read_input(self.lm, batch["ids"], self.layer)
            batch["clean"] = self._log_probabilities(batch, batch["hidden"])  # kept: every score needs it
        return batches

    @cached_property
    def _mean(self):
        return torch.cat([batch["hidden"][batch["kept"]] for batch in self._batches]).mean(dim=0)

    @cached_property
    def _ablated(self):  # the loss of every text
        ways = {RECOVERED_ZERO: torch.zeros_like, RECOVERED_MEAN: self._mean.expand_as}
        return {metric: self._losses(replace)["loss"] for metric, replace in ways.items()}

    def _items(self, replace: Callable[[torch.Tensor], torch.Tensor]) -> pd.DataFrame:
        """What a way of replacing activations (n, d_in) scores on every text, for all metrics."""
        of = self._losses(replace)
        shares = {  # of what, and the weight of a text
            EV: (of["variance"] - of["error"], of["variance"]),
            LOSS: (of["loss"], of["predicted"]),
            KL: (of["kl"], of["predicted"]),
        } | {metric: (ablated - of["loss"], ablated - of["clean"]) for metric, ablated in self._ablated.items()}
        tables = []
        for metric, (part, whole) in shares.items():
            tables.append(pd.DataFrame({"metric": metric, "score": part / whole, "weight": whole}))
        items = pd.concat(tables).reset_index(names="item")
        return items[np.isfinite(items["score"])]  # a text whose loss an ablation leaves exactly as it was says nothing

    @torch.no_grad()
    def _losses(self, replace):
        """Sums over each text: squared error, variance, losses of the model and of the splice, KL divergence."""
        tables = []
        for batch in self._batches:
            kept, clean, targets = batch["kept"], batch["clean"], batch["targets"][batch["kept"]]
            x = batch["hidden"][kept]
            x_hat = replace(x)
            spliced = batch["hidden"].clone()
            spliced[kept] = x_hat
            changed = self._log_probabilities(batch, spliced)
            predicted = (targets >= 0).float()  # a row's last token has nothing to predict
            sums = {
                "error": (x - x_hat).square().sum(dim=1),
                "variance": (x - self._mean).square().sum(dim=1),
                "clean": cross_entropy(clean, targets, reduction="none", ignore_index=-1),
                "loss": cross_entropy(changed, targets, reduction="none", ignore_index=-1),
                "kl": kl_div(changed, clean, reduction="none", log_target=True).sum(dim=1) * predicted,
                "predicted": predicted,
            }
            text = batch["texts"][kept.nonzero()[:, 0].cpu().numpy()]
            tables.append(pd.DataFrame({"text": text} | {k: v.cpu().double().numpy() for k, v in sums.items()}))
        return pd.concat(tables).groupby("text").sum()

    @torch.no_grad()
    def _log_probabilities(self, batch, hidden):
        """At the kept positions of a batch, with `hidden` at the hook point. Shape (kept, vocabulary)."""
        out = run_from(self.lm, hidden, self.layer, site=self.site, before=batch["before"], use_cache=False)
        return out.logits[batch["kept"]].float().log_softmax(dim=-1)


def _batches_of_rows(store: ActivationStore, tokens: int) -> Iterator[dict]:
    """The first texts of a store as batches of rows, padded on the right; shaped like ``ids`` are ``kept``, which
    positions the SAE sees, and ``targets``, the token that follows each, -1 for none."""
    documents, rows = store.documents, []
    for index in range(len(store)):
        if index >= tokens and documents[index] != documents[index - 1]:
            break
        ids, position = store.context_of(index)
        if not rows or position <= rows[-1][2][-1]:  # positions start anew with each row
            rows.append((documents[index], ids, []))
        rows[-1][2].append(position)
    rows.sort(key=lambda row: len(row[1]))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        texts, ids, positions = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
        padded = pad_sequence(list(ids), batch_first=True)
        kept = torch.zeros(padded.shape, dtype=torch.bool)
        for row, places in enumerate(positions):
            kept[row, places] = True
        targets = pad(pad_sequence([row[1:] for row in ids], batch_first=True, padding_value=-1), (0, 1), value=-1)
        yield {"ids": padded, "kept": kept, "targets": targets, "texts": np.array(texts)}

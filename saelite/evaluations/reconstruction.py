"""Reconstruction: how much of a layer an SAE keeps, by variance and by what the model then predicts.

Explained variance asks whether the activation is kept. The model may not care: what is lost could be what the layers
above do not read, or just what they need. So the reconstruction is spliced in where the activation was, and the model's
predictions are compared with its own, by cross-entropy and by KL divergence.
"""

from functools import cached_property

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import cross_entropy, kl_div

from saelite.activation_functions import TopK
from saelite.data.language_models import fingerprint, read_input, read_layer, site_of
from saelite.data.splicing import run_from
from saelite.sae import SAE

ROWS_AT_ONCE = 8
EV, LOSS, KL = "explained variance", "cross-entropy", "KL divergence"
RECOVERED_ZERO, RECOVERED_MEAN = "loss recovered (zero)", "loss recovered (mean)"


class Reconstruction:
    """Explained variance, cross-entropy, KL divergence and loss recovered of an SAE on held-out texts.

    One item is a text. Positions that the harvest dropped keep their own activation.

    *Loss recovered* is the share of the loss of an ablation that the SAE avoids:
    ``(CE(ablated) - CE(spliced)) / (CE(ablated) - CE(model))``, once for putting zero in the place of the activation
    and once for its mean. Zero is far from anything that the layers above ever saw, so nearly everything recovers
    nearly all of that loss; the mean is the fairer of the two.

    Parameters
    ----------
    lm : LanguageModel
    store : ActivationStore
        Of that model. Its held-out part gives the texts, its other part what the nulls may look at, and its record the
        layer and hook point.
    tokens : int
        About how many held-out activations to score; whole texts are taken until there are as many. The model's own
        predictions are held in memory, where the model is: 4 bytes a token and entry of the vocabulary, 0.6 GB for
        3,000 and SmolLM2.
    l0, d_sae : int
        For the nulls: components of the PCA and active latents of an untrained dictionary of that size.
    seed : int
        Of the untrained dictionary.

    Raises
    ------
    ValueError
        If the store comes from another model.
    """

    paired = True

    def __init__(self, lm, store, *, tokens=3000, l0=40, d_sae=4608, seed=100):
        if store.record["model"] != fingerprint(lm):
            raise ValueError(
                f"The store was harvested from {store.record['model_name']!r}, another model than {lm.name!r}."
            )
        self.lm, self.layer, self.d_sae, self.l0, self.seed = lm, store.record["layer"], d_sae, l0, seed
        self.site = site_of(store.record)
        self.settings = {"store": store.folder.name, "tokens": tokens, "l0": l0, "d_sae": d_sae, "seed": seed}
        self.store, self.tokens = store, tokens

    def __call__(self, sae):
        """Items of one SAE: a row for every text and metric."""
        device = next(sae.parameters()).device
        return self._items(lambda x: sae.decode(sae.encode(x.to(device))).to(x.device))

    def references(self):
        """The model itself (ceiling); zero, the mean and an untrained dictionary (floors); PCA (a yardstick)."""
        fit = self.store.train[: min(50_000, len(self.store.train))]
        untrained = SAE(fit.shape[1], self.d_sae, TopK(self.l0), seed=self.seed).eval()
        untrained.calibrate(fit[:4096])
        mean = fit.double().mean(dim=0)
        pca = PCA(min(self.l0, fit.shape[1]), svd_solver="covariance_eigh").fit((fit.double() - mean).numpy())
        axes = torch.from_numpy(pca.components_)

        def project(x):
            return ((x.cpu().double() - mean) @ axes.T @ axes + mean).float().to(x.device)

        made = {
            ("the model itself", "ceiling"): self._items(lambda x: x),
            ("zero", "floor"): self._items(torch.zeros_like),
            ("mean", "floor"): self._items(lambda x: self._mean.expand_as(x)),
            ("untrained dictionary", "floor"): self(untrained),
            (f"PCA with {pca.n_components_} components", "yardstick"): self._items(project),
        }
        return pd.concat(made, names=["reference", "kind"]).reset_index(["reference", "kind"])

    # What follows is worked out when it is first needed: where every score is in the cache, it never is.

    @cached_property
    def _batches(self):
        batches = list(_batches_of_rows(self.store.held_out, self.tokens))
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
    def _ablated(self):
        """The loss of every text with zero, and with the mean, in the place of its activations."""
        ways = {"zero": torch.zeros_like, "mean": self._mean.expand_as}
        return {name: self._losses(replace).groupby("text")["loss"].sum() for name, replace in ways.items()}

    def _items(self, replace):
        """What a way of replacing activations (n, d_in) scores on every text, for all metrics."""
        of = self._losses(replace).groupby("text").sum()
        tables = [
            pd.DataFrame({"metric": EV, "score": 1 - of["error"] / of["variance"], "weight": of["variance"]}),
            pd.DataFrame({"metric": LOSS, "score": of["loss"] / of["predicted"], "weight": of["predicted"]}),
            pd.DataFrame({"metric": KL, "score": of["kl"] / of["predicted"], "weight": of["predicted"]}),
        ]
        for metric, ablation in ((RECOVERED_ZERO, "zero"), (RECOVERED_MEAN, "mean")):
            lost = self._ablated[ablation] - of["clean"]
            tables.append(
                pd.DataFrame({"metric": metric, "score": (self._ablated[ablation] - of["loss"]) / lost, "weight": lost})
            )
        items = pd.concat(tables).reset_index(names="item")
        return items[np.isfinite(items["score"])]  # a text whose loss an ablation leaves exactly as it was says nothing

    @torch.no_grad()
    def _losses(self, replace):
        """Sums over each row of text: squared error, variance, losses of the model and of the splice, KL divergence."""
        tables = []
        for batch in self._batches:
            hidden, kept, targets = batch["hidden"], batch["kept"], batch["targets"]
            x = hidden[kept]
            x_hat = replace(x)
            spliced = hidden.clone()
            spliced[kept] = x_hat
            predicted = targets[kept] >= 0
            rows = kept.nonzero()[:, 0].cpu().numpy()
            clean, changed = batch["clean"], self._log_probabilities(batch, spliced)
            zero_where_last = predicted.float()
            table = {
                "error": (x - x_hat).square().sum(dim=1),
                "variance": (x - self._mean).square().sum(dim=1),
                "clean": cross_entropy(clean, targets[kept].clamp(min=0), reduction="none") * zero_where_last,
                "loss": cross_entropy(changed, targets[kept].clamp(min=0), reduction="none") * zero_where_last,
                "kl": kl_div(changed, clean, reduction="none", log_target=True).sum(dim=1) * zero_where_last,
                "predicted": zero_where_last,
            }
            tables.append(
                pd.DataFrame({"text": batch["texts"][rows]} | {k: v.cpu().double().numpy() for k, v in table.items()})
            )
        return pd.concat(tables)

    @torch.no_grad()
    def _log_probabilities(self, batch, hidden):
        """At the kept positions of a batch, with `hidden` at the hook point. Shape (kept, vocabulary)."""
        out = run_from(self.lm, hidden, self.layer, site=self.site, before=batch["before"], use_cache=False)
        return out.logits[batch["kept"]].float().log_softmax(dim=-1)


def _batches_of_rows(store, tokens):
    """The first texts of a store as batches of rows, padded on the right, where a causal model does not look.

    ``kept`` and ``targets`` have the shape of ``ids``: which positions the SAE sees, and the token that follows each,
    -1 where there is none.
    """
    documents, rows, index = store.documents, [], 0
    while index < len(store) and not (index >= tokens and documents[index] != documents[index - 1]):
        ids, position = store.context_of(index)
        document, positions = documents[index], []
        while not positions or position > positions[-1]:  # positions start anew with each row
            positions.append(position)
            index += 1
            if index == len(store):
                break
            position = store.context_of(index)[1]
        rows.append((document, ids, positions))
    rows.sort(key=lambda row: len(row[1]))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        texts, ids, positions = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
        padded = torch.nn.utils.rnn.pad_sequence(list(ids), batch_first=True)
        kept = torch.zeros(padded.shape, dtype=torch.bool)
        targets = torch.full(padded.shape, -1)
        for row, (own, places) in enumerate(zip(ids, positions, strict=True)):
            kept[row, places] = True
            targets[row, : len(own) - 1] = own[1:]
        yield {"ids": padded, "kept": kept, "targets": targets, "texts": np.array(texts)}

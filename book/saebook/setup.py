"""The head that chapters share: parameters are checked, then model and texts loaded, all before anything slow runs."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from IPython.display import HTML, Markdown, display

from saebook.activations import training_data
from saebook.contexts import contexts_html
from saebook.tables import show
from saelite import arguments, plots
from saelite.activation_functions import ActivationFunction
from saelite.data.batches import Batches
from saelite.data.corpora import CREDITS, load_texts
from saelite.data.language_models import LanguageModel, check_layer, language_model
from saelite.data.store import ActivationStore
from saelite.data.stream import StreamedActivations
from saelite.evaluations.latents import draw_latents, top_contexts
from saelite.grid import architectures_at, fit, papers_grid
from saelite.sae import SAE

__all__ = ["HTML", "LanguageChapter", "Markdown", "display", "keep", "language_chapter", "results_folder", "show"]


@dataclass(frozen=True)
class LanguageChapter:
    """What a chapter on a language model works with; :func:`language_chapter` makes it."""

    lm: LanguageModel
    corpus: datasets.Dataset | datasets.IterableDataset
    d_sae: int  # latents of each SAE
    activations: list[ActivationFunction]  # one for each architecture, all at one L0; empty if none was asked for
    data: dict[str, Any]  # what `harvest` asks for
    credit: str  # whose texts they are
    lr: float
    seed: int

    def harvest(self) -> tuple[ActivationStore, Batches | StreamedActivations]:
        """A store of activations, and batches to train on: harvested the first time, or read from the cache."""
        return self._harvested

    @cached_property
    def _harvested(self):
        return training_data(self.lm, self.corpus, seed=self.seed, **self.data)

    def train_grid(self) -> tuple[dict[tuple[str, str], SAE], dict[tuple[str, str], pd.DataFrame]]:
        """Each architecture fully trained and under each of the paper's baselines, trained or read from the cache.

        Returns
        -------
        (saes, histories)
            As :func:`saelite.grid.fit` gives them, for :func:`saelite.grid.papers_grid`.
        """
        store, batches = self.harvest()
        variants = papers_grid(self.activations, store.train[:50_000], d_sae=self.d_sae, seed=self.seed)
        return fit(variants, batches, store.d_in, d_sae=self.d_sae, seed=self.seed, lr=self.lr)

    def contexts(self, saes: dict[str, SAE], n: int = 3) -> HTML:
        """Held-out tokens on which `n` latents of each SAE, drawn at random, are most active; `saes` by their title."""
        held_out, shown = self.harvest()[0].held_out, {}
        for title, sae in saes.items():
            latents = draw_latents(sae, held_out[:], n, seed=self.seed)
            shown[title] = top_contexts(sae, held_out, latents, self.lm.tokenizer)
        return HTML(contexts_html(shown, self.credit))


def language_chapter(
    *,
    model: str,
    texts: str,
    layer: int,
    tokens: int,
    batch_size: int,
    lr: float,
    seed: int,
    site: str = "residual",
    harvest_context: int = 128,
    documents: int = 0,
    train_tokens: int = 0,
    epochs: int = 1,
    expansion: int = 8,
    l0: int = 40,
    architectures: list[str] | None = None,
) -> LanguageChapter:
    """Check what a chapter was asked for, load its language model and its texts, and set the look of its figures.

    Parameters
    ----------
    model, texts
        As in :func:`saelite.data.language_models.language_model` and :func:`saelite.data.corpora.load_texts`.
    layer, site, tokens, train_tokens, harvest_context, batch_size, epochs
        As in :func:`saebook.activations.training_data`; ``harvest_context`` is its ``context``.
    documents : int
        Texts to take from the start of the set; 0: all.
    expansion : int
        Latents per dimension of the activations.
    l0, architectures
        As in :func:`saelite.grid.architectures_at`; None for no architecture.
    lr : float
        Peak learning rate.
    seed : int
        Of the batches and of the random directions.

    Raises
    ------
    ValueError
        For the first parameter that does not fit.
    """
    plots.style()
    arguments.training(tokens=tokens, train_tokens=train_tokens, batch_size=batch_size, epochs=epochs, lr=lr, seed=seed)
    arguments.whole(0, documents=documents)
    lm = language_model(model)
    check_layer(lm, layer, site, harvest_context)
    d_sae = expansion * lm.d_model
    activations = [] if architectures is None else architectures_at(l0, architectures, d_sae)
    corpus = load_texts(texts, limit=documents or None, streaming=train_tokens > 0)
    data = {"layer": layer, "site": site, "context": harvest_context, "tokens": tokens, "train_tokens": train_tokens}
    data |= {"batch_size": batch_size, "epochs": epochs}
    return LanguageChapter(lm, corpus, d_sae, activations, data, CREDITS.get(texts, texts), lr, seed)


def results_folder() -> Path:
    """The folder for what a chapter keeps, from the environment's ``SAELITE_RESULTS``; made if it does not exist."""
    folder = Path(os.environ.get("SAELITE_RESULTS", "results"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep(name: str, table: pd.DataFrame, **made_with: object) -> None:
    """Write a table to ``NAME.json`` in the results, as a list of records, each with what it was `made_with`."""
    table.assign(**made_with).to_json(results_folder() / f"{name}.json", orient="records", indent=1)

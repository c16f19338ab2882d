"""Checking an SAE on activations alone, without the model that they come from."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from saelite import arguments, plots
from saelite.checking import foreign_sae, report
from saelite.checking.foreign_sae import HERE, YOURS
from saelite.comparison import Comparison, doubts, judged, split, spread_sample, versions
from saelite.data.batches import Batches
from saelite.formats import load
from saelite.grid import fit
from saelite.metrics import evaluate
from saelite.sae import SAE
from saelite.training import LR


@dataclass
class Check(Comparison):
    """What :func:`check` found: a :class:`saelite.comparison.Comparison` against the SAE that is checked.

    Attributes
    ----------
    name : str
        Of the SAE.
    about : dict
        What its checkpoint says of itself.
    """

    name: str = YOURS
    about: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the report: ``report.html`` for people, ``report.json`` and ``report.csv`` for programs."""
        plots.style()
        return report.write(
            folder, self.name, about=self.about, notes=self.notes, card=self.card(), figure=self.plot(),
            against=self.against, made_with=self.made_with,
        )  # fmt: skip


def check(
    sae: SAE | str | Path,
    *,
    activations: Any,
    groups: Any = None,
    epochs: int = 1,
    seeds: int = 1,
    batch_size: int = 1024,
    lr: float = LR,
    scale: float = 1.0,
    share: float = 0.1,
    progress: bool = True,
) -> Check:
    """Does your SAE beat random baselines that match it, in explained variance?

    Trains baselines of the SAE's architecture, width and measured L0 on the activations, and one SAE with nothing
    frozen, "trained here", that says what their short training costs. With a language model there is more to ask: the
    command ``saelite check`` does.

    Parameters
    ----------
    sae : SAE, or what :func:`saelite.formats.load` reads
        A folder, file or hub id of SAELens, dictionary_learning, sparsify, Gemma Scope or this library.
    activations : as for :func:`saelite.comparison.compare`
        Of shape (..., d_in), as the SAE is to be given them.
    groups, epochs, seeds, batch_size, lr, share
        As in :func:`saelite.comparison.compare`.
    scale : float above 0
        What the SAE expects activations to be multiplied by.

    Returns
    -------
    Check

    Raises
    ------
    ValueError
        In one sentence, before anything is trained.

    Examples
    --------
    >>> result = check("path/to/sae", activations=x)                        # doctest: +SKIP
    >>> result.save("report")                                               # doctest: +SKIP
    """
    arguments.whole(1, epochs=epochs, seeds=seeds, batch_size=batch_size)
    arguments.above(0, share=share)
    arguments.training(batch_size=batch_size, lr=lr, seed=0, epochs=epochs)
    name = YOURS if isinstance(sae, SAE) else str(sae)
    mine = copy.deepcopy(sae) if isinstance(sae, SAE) else load(sae)
    train_rows, x, clusters = split(activations, groups, batch_size)
    if mine.d_in != x.shape[1]:
        raise ValueError(f"The SAE reads activations of width {mine.d_in}; these have width {x.shape[1]}.")
    foreign_sae.rescale(mine, scale)
    mine = mine.cpu().eval()
    own = evaluate(mine, x)
    sample = spread_sample(train_rows)
    notes = [
        foreign_sae.scale_in_words(foreign_sae.by_scale(mine, x[:4096], scale), stated=mine.activation.target_l0),
        f"On {len(x):,} held-out activations its L0 is {own.l0:.1f}, and {own.dead:.1%} of its latents never fire.",
    ]
    saes, histories = {YOURS: [mine]}, {}
    for seed in range(seeds):
        variants = foreign_sae.matched(mine, own.l0, sample, seed=seed)
        batches = Batches(train_rows, batch_size, epochs, seed)
        made, how = fit(variants, batches, mine.d_in, d_sae=mine.d_sae, seed=seed, lr=lr, progress=progress)
        for (architecture, called), one in made.items():
            saes.setdefault(called, []).append(one)
            histories.setdefault(called, []).append(how[architecture, called])
    table, found = against_yours(saes, histories, x, clusters, sample, share=share)
    for note in found:
        warnings.warn(note, stacklevel=2)
    made_with = {
        "data": train_rows.settings, "held_out": len(x), "epochs": epochs, "batch_size": batch_size, "lr": lr,
        "seeds": seeds, "scale": scale, "share": share,
    } | versions()  # fmt: skip
    return Check(table, saes, histories, notes + found, made_with, YOURS, name, getattr(mine, "about", {}))


def against_yours(
    saes: dict[str, list[SAE]],
    histories: dict[str, list[pd.DataFrame]],
    x: torch.Tensor,
    clusters: np.ndarray,
    sample: torch.Tensor,
    *,
    share: float = 0.1,
) -> tuple[pd.DataFrame, list[str]]:
    """The table of explained variance against `YOURS`, and why it might mislead: see :mod:`saelite.comparison`."""
    table = judged(saes, x, clusters, sample, share=share, against=YOURS, trained=HERE)
    baselines = {called: several for called, several in saes.items() if called != YOURS}
    found = doubts(baselines, histories, table, x, against=HERE, trained=HERE)
    if (table.loc[table["baseline"] == HERE, "verdict"] == "worse").any():
        found.append(
            f"The SAE {HERE}, with nothing frozen, is worse than yours. Where a baseline is worse too, your SAE's "
            "longer training may be all that it lacks."
        )
    return table, found


def misleading(
    saes: dict[tuple[str, str], SAE], histories: dict[tuple[str, str], pd.DataFrame], store: Any
) -> list[str]:
    """Why a comparison of :func:`saelite.grid.fit`'s SAEs with `YOURS` among them might mislead, a sentence each."""
    x = store.held_out[:20_000]
    several = {name: [sae] for (_, name), sae in saes.items()}
    trained = {name: [history] for (_, name), history in histories.items()}
    clusters = store.held_out.documents[: len(x)]
    return against_yours(several, trained, x, clusters, store.train[:20_000])[1]

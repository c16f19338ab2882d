"""SAEs and their baselines, trained alike, scored on the same held-out activations, and judged."""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from saelite import arguments, null_models, plots
from saelite.activation_functions import ActivationFunction
from saelite.baselines import Baseline, SoftFrozenDecoder
from saelite.data.batches import Batches, rows
from saelite.grid import TRAINED, architectures_at, fit, fit_and_test, papers_grid, unmatched  # noqa: F401
from saelite.metrics import evaluate
from saelite.sae import SAE, activation_function, check_finite
from saelite.statistics import contrast, summarise
from saelite.training import LR

HELD_OUT, MOST_HELD_OUT, SAMPLE, BLOCK = 0.1, 50_000, 50_000, 64
# With fewer steps, or directions nearer to their start than this cosine, nothing can be said of what training finds.
LEAST_STEPS, LEAST_TURNED = 100, 0.9


class Table(pd.DataFrame):
    """A data frame that prints whole, whatever the width of the screen: what is left out is what misleads."""

    def __repr__(self) -> str:
        return self.to_string(index=False, float_format="{:.3f}".format)


@dataclass
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    table : pandas.DataFrame, one row an SAE and seed
        architecture, baseline, seed; explained_variance with its 95% interval low, high; l0; dead (share of latents
        that never fired); floor (the best of three untrained SAEs of the same architecture, width and L0) and ceiling
        (1, a perfect reconstruction); difference from the fully trained SAE of the same seed with difference_low,
        difference_high; margin, the largest difference of no interest; verdict, from the baseline's side.
    saes : dict of str to list of SAE
        By name, one for each seed, on the CPU.
    histories : dict of str to list of pandas.DataFrame
        How each was trained.
    notes : list of str
        What to know before the table is believed.
    made_with : dict
        All that would reproduce it.
    against : str
        The SAE that the others are compared with.
    """

    table: pd.DataFrame
    saes: dict[str, list[SAE]]
    histories: dict[str, list[pd.DataFrame]]
    notes: list[str]
    made_with: dict[str, Any]
    against: str = TRAINED

    def __repr__(self) -> str:
        said = [f"- {note}" for note in self.notes]
        return "\n".join([repr(self.table), *said])

    def plot(self) -> Figure:
        """Explained variance of every SAE and seed as dots with intervals; the dotted line is the floor."""
        names = list(dict.fromkeys(self.table["baseline"]))
        figure, axes = plt.subplots(figsize=(7, 1.4 + 0.45 * len(names)), layout="constrained")
        for row in self.table.itertuples():
            place = names.index(row.baseline) + 0.5 * (row.seed + 0.5) / (self.table["seed"].max() + 1) - 0.25
            spread = [[row.explained_variance - row.low], [row.high - row.explained_variance]]
            colour = plots.COLOURS.get(row.baseline, plots.GREY)
            axes.errorbar(row.explained_variance, place, xerr=np.nan_to_num(spread), fmt="o", color=colour, capsize=3)
        floor = self.table["floor"].max()
        axes.axvline(floor, color=plots.GREY, linestyle=":", label=f"untrained SAE: {floor:.2f}")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("explained variance on held-out activations")
        axes.legend(loc="upper left", frameon=False)
        return figure

    def card(self) -> pd.DataFrame:
        """The table in the form of :func:`saelite.evaluations.scorecard.scorecard`, for reports."""
        named = self.table.rename(columns={"explained_variance": "score"})
        return named.assign(metric="explained variance", floor_is="untrained SAE", ceiling_is="perfect reconstruction")


def compare(
    data: Any,
    activation: ActivationFunction | type[ActivationFunction] | str = "BatchTopK",
    *,
    l0: int | None = None,
    expansion: float = 8,
    epochs: int = 1,
    seeds: int = 1,
    batch_size: int = 1024,
    lr: float = LR,
    baselines: Sequence[Baseline | type[Baseline] | str] | None = None,
    groups: Any = None,
    share: float = 0.1,
    progress: bool = True,
    **training: Any,
) -> Comparison:
    """Does an SAE of these activations beat its random baselines?

    Trains, or loads from the cache, a fully trained SAE and every baseline on the same activations in the same order.
    Scores them on activations that none was trained on: the held-out part of a store, or the last tenth (at most
    50,000). What cannot be trusted is said as a warning and kept in ``notes``.

    Parameters
    ----------
    data : tensor, NumPy array, memory map, ActivationStore, DataLoader, or iterable of batches
        Activations of shape (..., d_in) and any floating type. A memory map may be larger than memory.
    activation : ActivationFunction, its class, or its name
    l0 : int
        Active latents per sample, unless `activation` is an instance.
    expansion : float
        Latents per dimension of the activations.
    epochs, batch_size, lr
        As in :func:`saelite.training.train`.
    seeds : int
        How many times all is done, with other random directions and another order.
    baselines : list of Baseline, classes or names, optional
        The paper's by default: Frozen Decoder (`iso` and `cov` directions), Soft-Frozen Decoder, Frozen Encoder.
    groups : int array of shape (n,), optional
        The text, or other unit, that each row comes from; the bootstrap draws these. Without it blocks of neighbouring
        rows are drawn, since neighbours may come from one text; a store knows its texts.
    share : float in (0, 1)
        A difference is of no interest below this share of the room between the floor and the fully trained SAE.
    training
        As in :func:`saelite.training.train`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        In one sentence, before anything is trained.

    Examples
    --------
    >>> from saelite.synthetic import FeatureWorld, constant_probabilities
    >>> x = FeatureWorld(constant_probabilities(60, 3), d_in=16).batches(4000, 1)[0]
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     result = compare(
    ...         x, "TopK", l0=3, expansion=4, epochs=10, baselines=["FrozenDecoder"], batch_size=100, progress=False
    ...     )
    >>> result.table[["baseline", "verdict"]].values.tolist()
    [['fully trained', 'the reference'], ['Frozen Decoder', 'worse']]
    """
    arguments.whole(1, epochs=epochs, seeds=seeds, batch_size=batch_size)
    arguments.above(0, expansion=expansion, share=share)
    arguments.training(batch_size=batch_size, lr=lr, seed=0, epochs=epochs)
    function = activation_function(activation, l0)
    chosen = None if baselines is None else [arguments.chosen(Baseline, one, "baseline") for one in baselines]
    train_rows, held_out, clusters = split(data, groups, batch_size)
    d_sae = round(expansion * train_rows.d_in)
    sample = spread_sample(train_rows)
    SAE(1, d_sae, function)  # what does not fit is refused here
    saes, histories = {}, {}
    for seed in range(seeds):
        if chosen is None:
            variants = papers_grid([function], sample, d_sae=d_sae, seed=seed)
        else:
            variants = [(TRAINED, function, None, "iso"), *((one.name, function, one, "iso") for one in chosen)]
        made, how = fit(
            variants, Batches(train_rows, batch_size, epochs, seed), train_rows.d_in, d_sae=d_sae, seed=seed, lr=lr,
            progress=progress, **training,
        )  # fmt: skip
        for (_, name), sae in made.items():
            saes.setdefault(name, []).append(sae)
            histories.setdefault(name, []).append(how[function.name, name])
    made_with = {
        "data": train_rows.settings, "held_out": len(held_out), "activation": repr(saes[TRAINED][0]), "epochs": epochs,
        "batch_size": batch_size, "lr": lr, "seeds": seeds, "share": share, "training": _plain(training),
    } | versions()  # fmt: skip
    table = judged(saes, held_out, clusters, sample, share=share)
    notes = doubts(saes, histories, table, held_out)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Comparison(table, saes, histories, notes, made_with)


def split(data: Any, groups: Any, batch_size: int) -> tuple[Any, torch.Tensor, np.ndarray]:
    """Rows to train on, held-out activations (n, d_in), and the group of each of these for the bootstrap."""
    given = rows(data)
    if groups is not None and len(groups) != len(given):
        raise ValueError(f"groups holds {len(groups)} numbers for {len(given)} activations; it needs one for each.")
    if hasattr(given, "held_out"):
        train_rows, test, clusters = given.train, given.held_out[:MOST_HELD_OUT], None
        groups = given.held_out.documents[: len(test)] if groups is None else np.asarray(groups)[-len(given.held_out) :]
    else:
        cut = len(given) - min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(given))))
        train_rows, test = given.part(0, cut) if cut else given, given[cut:]
        groups = None if groups is None else np.asarray(groups)[cut:]
    clusters = np.arange(len(test)) // max(1, min(BLOCK, len(test) // 50)) if groups is None else groups[: len(test)]
    if len(train_rows) < batch_size:
        raise ValueError(
            f"There are {len(given):,} activations; without the held-out ones {len(train_rows):,} are left, too few "
            f"for one batch of {batch_size:,}: give more, or a smaller batch_size."
        )
    check_finite(test)
    return train_rows, test, clusters


def spread_sample(train_rows: Any, size: int = SAMPLE) -> torch.Tensor:
    """Up to `size` rows spread evenly over all. Shape (n, d_in)."""
    sample = train_rows[np.unique(np.linspace(0, len(train_rows) - 1, size).round().astype(int))]
    check_finite(sample)
    return sample


def judged(
    saes: dict[str, list[SAE]],
    x: torch.Tensor,
    clusters: np.ndarray,
    sample: torch.Tensor,
    *,
    share: float,
    against: str = TRAINED,
    trained: str = TRAINED,
) -> pd.DataFrame:
    """The table of a :class:`Comparison`, from SAEs by name, one a seed, and held-out activations x (n, d_in).

    `against` names the SAE that the others are compared with, `trained` the one whose rule the floor follows.
    """
    variance = (x.double() - x.double().mean(dim=0)).square().sum(dim=1).numpy()
    if not variance.any():
        raise ValueError("Every held-out activation is the same: there is no variance to explain.")

    def items(error):
        sums = pd.DataFrame({"error": error, "weight": variance}).groupby(np.asarray(clusters), sort=False).sum()
        return pd.DataFrame(
            {"item": sums.index, "score": 1 - sums["error"] / sums["weight"], "weight": sums["weight"]}
        )[sums["weight"].to_numpy() > 0]

    one = saes[trained][0]
    untrained = [null_models.untrained(fresh(one.activation), sample, one.d_sae, seed=1000 + draw) for draw in range(3)]
    floors = [summarise(items(evaluate(sae, x).error).assign(of="floor"), ["of"]).loc[0] for sae in untrained]
    floor = max(floors, key=lambda row: row["score"])
    found = []
    for name, several in saes.items():
        for seed, sae in enumerate(several):
            scores = evaluate(sae, x)
            own = items(scores.error)
            row = summarise(own.assign(of=name), ["of"]).loc[0]
            line = {"architecture": sae.activation.name, "baseline": name, "seed": seed}
            line |= {"explained_variance": row["score"], "low": row["low"], "high": row["high"]}
            line |= {"l0": scores.l0, "dead": scores.dead, "floor": floor["score"], "ceiling": 1.0}
            found.append((line, own))
    reference = {line["seed"]: (line, own) for line, own in found if line["baseline"] == against}
    for line, own in found:
        best, theirs = reference.get(line["seed"], reference[0])
        margin = share * (best["explained_variance"] - line["floor"])
        line |= dict.fromkeys(("difference", "difference_low", "difference_high", "margin"), np.nan)
        if line["baseline"] == against:
            line["verdict"] = "the reference"
        elif best["low"] <= line["floor"]:
            line["verdict"] = "nothing to match"
        else:
            said = contrast(own, theirs, margin=margin, paired=True)
            line |= {"difference": said["difference"], "difference_low": said["low"], "difference_high": said["high"]}
            line |= {"margin": margin, "verdict": said["verdict"]}
    return Table([line for line, _ in found])


def doubts(
    saes: dict[str, list[SAE]],
    histories: dict[str, list[pd.DataFrame]],
    table: pd.DataFrame,
    x: torch.Tensor,
    against: str = TRAINED,
    trained: str = TRAINED,
) -> list[str]:
    """Why a table of :func:`judged` might mislead: a sentence for each reason, for the first seed that has it.

    Where a row cannot be judged at all, the reason takes the place of its verdict.
    """
    found = {}
    for seed, history in enumerate(histories[trained]):
        steps, turned = int(history["step"].iloc[-1]), history["cosine_to_start"].iloc[-1]
        if steps < LEAST_STEPS or turned > LEAST_TURNED:
            short = (table["seed"] == seed) & (table["verdict"] != "the reference")
            table.loc[short, "verdict"] = "trained too little"
            found.setdefault(
                "short",
                f'Trained too little to judge: after {steps:,} steps the directions of "{trained}" have a median '
                f"cosine of {turned:.2f} to their random start. A baseline that looks as good may only be as "
                "unfinished; train for more epochs or on more activations.",
            )
        for name, several in saes.items():
            other = several[min(seed, len(several) - 1)]
            if isinstance(other.baseline, SoftFrozenDecoder) and name != against:
                least = other.cosine_to_start().min().item()
                if least > other.baseline.tau + 1e-3:
                    same = (table["seed"] == seed) & (table["baseline"] == name)
                    table.loc[same, "verdict"] = "rule never bound"
                    found.setdefault(
                        name,
                        f"The rule of the {name} never bound: its smallest cosine to the start is {least:.2f}, above "
                        f"its tau of {other.baseline.tau:g}. It is a fully trained SAE, and its score shows nothing.",
                    )
            if name != against:
                mine = saes[against][min(seed, len(saes[against]) - 1)]
                for said in unmatched(mine, other, x[:4096], made_with={}, other_made_with={}, starts=False):
                    found.setdefault(f"{name} {said[:12]}", f"{name} against {against}: {said}")
    for row in table[table["baseline"] == trained].itertuples():
        asked = saes[trained][row.seed].activation.target_l0
        if asked and abs(row.l0 - asked) > 0.05 * asked:
            said = f'The SAE "{trained}" has a measured L0 of {row.l0:.1f}, more than 5% off the {asked} asked for.'
            found.setdefault("l0", said)
    if (table["verdict"] == "nothing to match").any():
        found["floor"] = f"The {against} SAE is itself no better than an untrained one: there is nothing to match."
    return list(found.values())


def fresh(activation: ActivationFunction) -> ActivationFunction:
    """The same activation function as it was before any training."""
    return type(activation)(**activation.settings())


def versions() -> dict[str, str]:
    """What a comparison ran with."""
    names = ("saelite", "torch", "transformers", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "settings", lambda value=value: value)() for name, value in settings.items()}

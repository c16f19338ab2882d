"""Evaluations of SAEs: what each of them must have. :mod:`saelite.reuse` takes a whole grid of SAEs through one."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    import torch


class Evaluation(Protocol):
    """Made once, with all that does not depend on the SAE (texts, prompts, floors); then called with one after another.

    Derive from it, or have the same four things."""

    paired: bool  #: whether the items of two SAEs are the same, as texts are and latents are not
    settings: dict[str, Any]  #: all that its tables follow from, as plain JSON values; the cache knows a table by them

    @abstractmethod
    def __call__(self, sae: torch.nn.Module) -> pd.DataFrame:
        """Score one SAE.

        Parameters
        ----------
        sae : SAE, or any torch.nn.Module with ``encode`` and ``decode``
            From activations (batch, d_in) in the model's own units to codes (batch, d_sae) and back. A latent is active
            where its code is not zero.

        Returns
        -------
        pandas.DataFrame, one row an item
            metric, item, score, and where they apply weight and cluster (see :mod:`saelite.statistics`).
        """

    @abstractmethod
    def references(self) -> pd.DataFrame:
        """What to read these scores against, measured on the same items.

        Returns
        -------
        pandas.DataFrame
            The columns of a call's table, and before them reference (its name) and kind: "floor" (no skill), "ceiling"
            (the best known method) or "yardstick" (a plain method: no surprise above it, no proof below it).
        """


def device_for(sae: torch.nn.Module, d_in: int, default: torch.device | str = "cpu") -> torch.device | str:
    """Where an SAE takes activations of width `d_in`, or ValueError; `default` where it has no parameters."""
    if not hasattr(sae, "encode") or not hasattr(sae, "parameters"):
        raise ValueError(f"{sae!r:.80} is no SAE: give a torch.nn.Module with encode, such as saelite.load gives.")
    if getattr(sae, "d_in", d_in) != d_in:
        raise ValueError(f"This SAE reads activations of width {sae.d_in}, and those to score it on have {d_in}.")
    return next((parameter.device for parameter in sae.parameters()), default)

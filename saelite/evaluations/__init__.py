"""Evaluations of SAEs: what they share, and how a whole grid of SAEs goes through one.

An evaluation is an object that is made once, with all that does not depend on the SAE: texts, a model's activations,
prompts, floors. It is then called with one SAE after another. The four of the book for language models are
:class:`saelite.evaluations.reconstruction.Reconstruction`, :class:`saelite.evaluations.probing.Probing`,
:class:`saelite.evaluations.editing.Editing` and :class:`saelite.evaluations.autointerp.AutoInterp`; for vision models
there is :class:`saelite.evaluations.label_purity.LabelPurity`. Each has

``evaluation(sae)``
    A tidy table of one SAE's scores, one row an item: columns metric, item, score, and where they apply weight and
    cluster (see :mod:`saelite.statistics`).
``evaluation.references()``
    What these scores are to be read against, measured on the same items: the same columns, and before them reference
    (its name) and kind: "floor" (no skill), "ceiling" (the best known method) or "yardstick" (a plain method; what lies
    above it is no surprise, and what lies below it is no proof).
``evaluation.settings``
    All that its tables follow from, as plain JSON values.
``evaluation.paired``
    Whether the items of two SAEs are the same, as texts are and latents are not.

An SAE may be any ``torch.nn.Module`` with ``encode`` and ``decode`` from activations ``(batch, d_in)`` in the model's
own units to codes ``(batch, d_sae)`` and back, so another library's will do.
"""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from saelite.sae import SAE
from saelite.storage import atomic, cache


def over(saes, evaluation, *, progress=True):
    """Score every SAE of a grid; what was scored before is read from the cache.

    Parameters
    ----------
    saes : dict of (architecture, baseline) to SAE
        As :func:`saelite.comparison.fit` gives it.
    evaluation : one of the evaluations of this module's list

    Returns
    -------
    pandas.DataFrame
        What the evaluation gives, all SAEs below each other, with columns architecture and baseline in front.
    """
    quiet = {} if progress else {"disable": True}
    bar = tqdm(saes.items(), desc=type(evaluation).__name__, ascii=True, mininterval=2, **quiet)
    tables = {names: _remembered(evaluation, sae) for names, sae in bar}
    return pd.concat(tables, names=["architecture", "baseline"]).reset_index(["architecture", "baseline"])


def references(evaluation):
    """The evaluation's floors and ceilings, read from the cache if they were measured before."""
    return _remembered(evaluation)


def fingerprint(sae):
    """A hash of what an SAE computes: its class, its activation function's and every tensor of its state.

    Of a module that is not of this library, also how it is printed and every number and string that it or a module in
    it holds as an attribute, such as a k that is in no tensor.
    """
    activation = getattr(sae, "activation", None)
    settings = getattr(activation, "settings", dict)()
    digest = hashlib.sha256(f"{type(sae).__name__} {type(activation).__name__} {settings}".encode())
    if type(sae) is not SAE:
        digest.update(repr(sae).encode())
        for name, module in sae.named_modules():
            plain = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str)}
            digest.update(f"{name} {sorted(plain.items())}".encode())
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _lent(sae, device):
    """Have an SAE on a device for the time of its scoring: a grid of them is kept in the machine's memory."""
    home = next((tensor.device for tensor in sae.state_dict().values()), torch.device("cpu"))
    sae.to(device)
    try:
        yield
    finally:
        sae.to(home)


def _remembered(evaluation, sae=None):
    code = sorted(Path(__file__).parent.parent.rglob("*.py"))
    made_of = {
        "evaluation": type(evaluation).__name__,
        "settings": evaluation.settings,
        "sae": None if sae is None else fingerprint(sae),
        "code": hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest(),
    }
    file = cache.folder() / "tables" / f"{type(evaluation).__name__.lower()}-{cache.key(**made_of)}.parquet"
    with cache.only_maker(file) as missing:
        if missing:
            if sae is None:
                table = evaluation.references()
            else:
                with _lent(sae, "cuda" if torch.cuda.is_available() else "cpu"):
                    table = evaluation(sae)
            with atomic.atomic_file(file, checksums=True) as made:
                table.to_parquet(made, index=False)
        return pd.read_parquet(file)

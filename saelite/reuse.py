"""Train or load, score or read: the one place that asks the cache.

A key is made of content: the rows that an SAE is trained on, its settings and start, the code that trains it, and the
source of a class of one's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from saelite import checkpoints, training
from saelite.data.batches import batches as as_batches
from saelite.data.batches import is_rows
from saelite.kernels import parallel
from saelite.sae import SAE
from saelite.storage import cache, files
from saelite.training import describe, train

LIBRARIES = {"abc", "builtins", "collections", "numpy", "saelite", "torch", "typing"}


def train_or_load(sae: SAE, data: Any, *, progress: bool = True, **settings: Any) -> pd.DataFrame:
    """Train an SAE, or load it if the cache holds one that was made the same way.

    The key is made of the SAE's settings and start, the content of the data, the training settings and the code that
    trains: change any of them and the SAE is trained anew. A killed run goes on from its last checkpoint.

    The number of processes is no part of the key, as the device is not: the SAE is the same to rounding.

    Parameters
    ----------
    sae : SAE
        Trained or filled in place.
    data : tensor, NumPy array, memory map, ActivationStore, or a sequence of batches with an attribute ``settings``
        Such as :meth:`saelite.synthetic.FeatureWorld.batches` gives.
    settings
        As in :func:`saelite.training.train`.

    Returns
    -------
    pandas.DataFrame
        The history of the training, as :func:`saelite.training.train` gives it.
    """
    of_rows = {name: settings.pop(name) for name in ("batch_size", "epochs", "seed") if name in settings}
    batches = as_batches(data, **of_rows) if isinstance(data, torch.Tensor | np.ndarray) or is_rows(data) else data
    if not hasattr(batches, "settings"):
        raise ValueError(
            "The cache knows data by their content, and batches that can only be walked through do not tell it: give "
            "the activations themselves, or call `train`, which keeps nothing."
        )
    of_all = getattr(batches, "of_all_processes", batches)  # what `parallel.shard` was given
    rules = (sae.activation, sae.baseline, of_all, *settings.values())
    try:
        sources = sources_of(*rules)
    except OSError as error:
        warnings.warn(f"Training {describe(sae)} is not kept in the cache: {error}.", stacklevel=2)
        return train(sae, batches, progress=progress, **settings)
    made_of = {
        "sae": sae.settings(),
        "start": {name: _digest(tensor) for name, tensor in sae.state_dict().items()},
        "frozen": [name for name, parameter in sae.named_parameters() if not parameter.requires_grad],
        "data": batches.settings | {"batches": len(batches)},
        "training": {"lr": training.LR}
        | {name: getattr(value, "settings", lambda value=value: value)() for name, value in settings.items()},
        "code": code_of(training, *(sys.modules.get(type(rule).__module__) for rule in rules)),
        "own_classes": sources,
        "torch": torch.__version__,
    }
    key = cache.key(**made_of)
    if not parallel.agree(int(key[:15], 16)):
        raise ValueError("The processes were asked for different SAEs; give all of them the same settings and data.")
    folder = cache.folder() / "saes" / key
    unfinished = folder.with_suffix(".run")
    # of the processes that train one SAE together, the first speaks for all; the others wait for its word
    with cache.only_maker(folder) if parallel.leads() else contextlib.nullcontext(False) as missing:
        if not parallel.first(missing):
            tensors, record = checkpoints.read(folder)
            sae.load_state_dict(tensors)
            sae.eval()
            if parallel.leads():
                with contextlib.suppress(OSError):  # such as a cache that can only be read
                    cache.remove(unfinished)  # a run that was killed between its last two steps left it
            return pd.DataFrame(record["history"])
        if parallel.leads():
            wanted = 5 * sum(tensor.nbytes for tensor in sae.state_dict().values())  # the SAE, and a checkpoint twice
            files.need_room(folder.parent, wanted, f"training {describe(sae)}")
        try:
            history = train(sae, batches, checkpoint=unfinished, progress=progress, **settings)
        except checkpoints.Unusable as error:
            warnings.warn(f"Training {describe(sae)} starts over, since a file is damaged. {error}", stacklevel=2)
            if parallel.leads():
                cache.remove(unfinished)
            parallel.wait()
            history = train(sae, batches, checkpoint=unfinished, progress=progress, **settings)
        if parallel.leads():
            with contextlib.suppress(FileExistsError):  # on a disk with no locks another run may have been first
                sae.save(folder, made_of=made_of, history=history.to_dict("records"))
            cache.remove(unfinished)
        parallel.wait()
        return history


def over(saes: dict[tuple[str, str], Any], evaluation: Any, *, progress: bool = True) -> pd.DataFrame:
    """Score every SAE of a grid; what was scored before is read from the cache.

    Parameters
    ----------
    saes : dict of (architecture, baseline) to SAE
        As :func:`saelite.grid.fit` gives it.
    evaluation : an evaluation, as :mod:`saelite.evaluations` describes them

    Returns
    -------
    pandas.DataFrame
        What the evaluation gives, all SAEs below each other, with columns architecture and baseline in front.
    """
    quiet = {} if progress else {"disable": True}
    bar = tqdm(saes.items(), desc=type(evaluation).__name__, ascii=True, mininterval=2, **quiet)
    tables = {names: _remembered(evaluation, sae) for names, sae in bar}
    return pd.concat(tables, names=["architecture", "baseline"]).reset_index(["architecture", "baseline"])


def references(evaluation: Any) -> pd.DataFrame:
    """The evaluation's floors and ceilings, read from the cache if they were measured before."""
    return _remembered(evaluation)


def fingerprint(sae: torch.nn.Module) -> str:
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


def code_of(*modules: types.ModuleType | None) -> str:
    """A hash of the source of these modules and of all modules of this package that they use."""
    found, waiting = {}, [module for module in modules if module is not None]
    while waiting:
        module = waiting.pop()
        if module.__name__ in found:
            continue
        found[module.__name__] = inspect.getsource(module) if module.__name__.startswith("saelite") else ""
        for value in list(vars(module).values()):
            name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str) and name.startswith("saelite.") and name in sys.modules:
                waiting.append(sys.modules[name])
    return hashlib.sha256("".join(found[name] for name in sorted(found)).encode()).hexdigest()[:16]


def sources_of(*things: Any) -> list[str]:
    """The source of every class and function behind these that is one's own: outside this package and its libraries.

    Raises
    ------
    OSError
        If a source cannot be read, as of a class typed at a prompt.
    """
    found = []
    for thing in things:
        owners = [thing] if inspect.isfunction(thing) else type(thing).__mro__
        for owner in owners:
            if owner.__module__.partition(".")[0] in LIBRARIES:
                continue
            for name, member in [("", owner)] if inspect.isfunction(owner) else sorted(vars(owner).items()):
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if inspect.isfunction(function):
                    try:
                        found.append(inspect.getsource(function))
                    except OSError:
                        raise OSError(f"the source of {owner.__qualname__} cannot be read; put it in a file") from None
                elif isinstance(member, int | float | str | tuple) and not name.startswith("__"):
                    found.append(f"{name} = {member!r}\n")
    return found


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


@contextlib.contextmanager
def _lent(sae: torch.nn.Module, device: str) -> Iterator[None]:
    """Have an SAE on a device for the time of its scoring: a grid of them is kept in the machine's memory."""
    home = next((tensor.device for tensor in sae.state_dict().values()), torch.device("cpu"))
    sae.to(device)
    try:
        yield
    finally:
        sae.to(home)


def _remembered(evaluation: Any, sae: torch.nn.Module | None = None) -> pd.DataFrame:
    try:
        sources = sources_of(evaluation, sae, getattr(sae, "activation", None))
    except OSError:  # of a class typed at a prompt nothing tells whether it is the one of before
        return _scored(evaluation, sae)
    made_of = {
        "own_classes": sources,
        "evaluation": type(evaluation).__name__,
        "settings": evaluation.settings,
        "sae": None if sae is None else fingerprint(sae),
        "code": code_of(sys.modules[__name__], sys.modules.get(type(evaluation).__module__)),
    }
    file = cache.folder() / "tables" / f"{type(evaluation).__name__.lower()}-{cache.key(**made_of)}.parquet"
    with cache.only_maker(file) as missing:
        if missing:
            table = _scored(evaluation, sae)
            with files.atomic_file(file, checksums=True) as made:
                table.to_parquet(made, index=False)
        return pd.read_parquet(file)


def _scored(evaluation: Any, sae: torch.nn.Module | None) -> pd.DataFrame:
    if sae is None:
        return evaluation.references()
    with _lent(sae, "cuda" if torch.cuda.is_available() else "cpu"):
        return evaluation(sae)

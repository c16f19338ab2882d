"""Checkpoints: a folder with ``sae.safetensors`` (tensors) and ``sae.json`` (what is needed to rebuild them)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from saelite.storage.files import atomic_file, atomic_folder, fault

FORMAT = "saelite-1"


def write(folder: str | Path, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Write tensors and a record to a folder, whole or not at all.

    Raises
    ------
    FileExistsError
        If there is something at `folder` already.
    """
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists already; save to another place, or remove it first.")
    with atomic_folder(folder, checksums=True) as made:
        save_file(_plain(tensors), made / "sae.safetensors")
        text = json.dumps({"format": FORMAT} | record, indent=1)
        (made / "sae.json").write_text(text, encoding="utf-8")


def read(folder: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the record of a folder that :func:`write` filled.

    Raises
    ------
    ValueError
        If the folder holds no such checkpoint, or a damaged one.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "sae.json").read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise TypeError("no settings stand in it")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{folder} is not a saelite checkpoint: it holds no readable sae.json ({error}).") from error
    if record.get("format") != FORMAT:
        raise ValueError(f"{folder} is of format {record.get('format')!r}; this version of saelite reads {FORMAT!r}.")
    with damaged(folder):
        if found := fault(folder):  # a flipped bit in a weight is a weight as good as any other
            raise OSError(found)
        return load_file(folder / "sae.safetensors"), record


@contextmanager
def damaged(folder: str | Path) -> Iterator[None]:
    """Say in a sentence that a checkpoint is damaged, whatever it was that could not be read."""
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"The checkpoint in {folder} is damaged; fetch a whole copy ({error}).") from error


class Unusable(ValueError):
    """The state of an unfinished run cannot be read; nothing of it has been taken over."""


def save_training(path: str | Path, run: Any, step: int) -> None:
    """Write the state of an unfinished run of :func:`saelite.training.train` to one file, whole or not at all."""
    tensors = {f"sae.{name}": tensor for name, tensor in _plain(run.sae.state_dict()).items()}
    tensors["samples_since_fired"] = run.samples_since_fired
    for number, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor.contiguous() for name, tensor in state.items()}
    plain = {"step": step, "samples": run.samples, "seconds": run.seconds, "history": run.history}
    plain["guess"] = getattr(run.sae.activation, "guess", None)  # where sums begin decides their rounding
    with atomic_file(path, checksums=True) as made:
        save_file(tensors, made, metadata={"run": json.dumps(plain)})


def resume_training(path: str | Path, run: Any) -> int:
    """Put a run back where :func:`save_training` left it. Returns the steps done, 0 if there is no checkpoint."""
    if not Path(path).exists():
        return 0
    try:
        if found := fault(path):
            raise OSError(found)
        with safe_open(path, framework="pt") as file:
            plain = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        run.sae.load_state_dict({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("sae.")})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        kind = ValueError if isinstance(error, RuntimeError) else Unusable  # that one came while it was taken over
        raise kind(f"The unfinished run {path} cannot be used; delete it to start over ({error}).") from error
    groups = run.optimiser.state_dict()["param_groups"]
    parameters = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, field = name.split(".")
            parameter = parameters[int(number)]
            if field != "step":  # moments lie in memory as their parameter does, which a file does not keep
                tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
            state.setdefault(int(number), {})[field] = tensor
    run.optimiser.load_state_dict({"state": state, "param_groups": groups})
    run.samples_since_fired.copy_(tensors["samples_since_fired"])
    run.samples, run.seconds, run.history = plain["samples"], plain["seconds"], plain["history"]
    if plain["guess"] is not None:
        run.sae.activation.guess = plain["guess"]
    return plain["step"]


def _plain(tensors):
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

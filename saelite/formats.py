"""Checkpoints of other libraries, read into an SAE of this one; and written for SAELens.

Every library writes two weights and two biases, each under conventions of its own: transposed or not, with `b_dec`
taken off the input or not, with the decoder's norms in the code or not. A reader's work is to undo those, so that
``encode`` and ``decode`` give what the library itself gives. What cannot be undone, or is not known, is refused by
name.

=====================  ====================================  ===========================================
Format                 Files                                 Conventions read from
=====================  ====================================  ===========================================
saelite                sae.json, sae.safetensors             :mod:`saelite.checkpoints`
SAELens                cfg.json, sae_weights.safetensors     sae-lens 6.54.12, and what came before 6.0
sparsify               cfg.json, sae.safetensors             eai-sparsify 1.3.3
dictionary_learning    config.json, ae.pt                    dictionary-learning 0.1.0
Gemma Scope            params.npz                            arXiv:2408.05147
=====================  ====================================  ===========================================
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from saelite import arguments
from saelite.activation_functions import ActivationFunction, BatchTopK, JumpReLU, Matryoshka, ReLU, TopK
from saelite.sae import SAE, check_finite
from saelite.storage.files import atomic_folder

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
Tensors = dict[str, torch.Tensor]

HOOKS = {"residual": "hook_resid_post", "mlp": "hook_mlp_out", "attention": "hook_attn_out"}
"""What SAELens calls the hook points of a block, as in ``blocks.6.hook_resid_post``."""

ABOUT = dict.fromkeys(("format", "architecture", "model", "site", "layer", "texts")) | {"scale": "none"}

# What reading a file raises that is cut, changed, or of another kind than its name says.
DAMAGED = (
    OSError, SafetensorError, json.JSONDecodeError, UnicodeDecodeError, EOFError, zipfile.BadZipFile, struct.error,
    pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError,
)  # fmt: skip


def read(source: str | Path) -> tuple[SAE, dict[str, Any]]:
    """Read an SAE in any of the formats above.

    Parameters
    ----------
    source : str or path
        A folder, a file in it, or a repository on the Hugging Face hub with the folder inside:
        ``"owner/name/path/to/folder"``.

    Returns
    -------
    (SAE, dict)
        The SAE, in evaluation mode, in float32; and what the checkpoint says of itself, None where it says nothing:
        format, architecture, model, site (the hook's name), layer (whose output it reads; -1 is the embedding), texts,
        scale ("none", or how activations were to be scaled before they reach it).

    Raises
    ------
    ValueError
        If there is no checkpoint in a known format, it is damaged, or has a property that cannot be honoured.
    """
    folder = _folder(source)
    names = {path.name for path in folder.iterdir()}
    if "sae.json" in names:
        sae = SAE.load(folder)
        data = sae.record.get("data", {})
        about = {"format": "saelite", "architecture": type(sae.activation).__name__}
        return sae, ABOUT | about | {name: data.get(name) for name in ("model", "layer", "texts")}
    reader = next((reader for needed, reader in READERS.items() if set(needed) <= names), None)
    if reader is None:
        raise ValueError(
            f"{folder} holds no checkpoint in a format that is known here (saelite, SAELens, sparsify, "
            f"dictionary_learning, Gemma Scope); it holds {', '.join(sorted(names)[:8]) or 'nothing'}."
        )
    try:
        sae, about = reader(folder)
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The checkpoint in {folder} is damaged or holds something else than its format says; fetch a whole copy "
            f"({type(error).__name__}: {reason})."
        ) from error
    return sae, ABOUT | {"layer": _layer(about["site"])} | about


def load(source: str | Path, **own_classes: Any) -> SAE:
    """An SAE from a folder, a file, or a repository on the Hugging Face hub, in any of the formats above.

    Parameters
    ----------
    source : str or path
        As for :func:`read`.
    own_classes
        ``activation=`` and ``baseline=``, as in :meth:`saelite.sae.SAE.load`.

    Returns
    -------
    SAE, in evaluation mode; its attribute ``about`` is what the checkpoint says of itself.

    Examples
    --------
    >>> sae = load("my_sae")                                                # doctest: +SKIP
    """
    if own_classes:
        return SAE.load(source, **own_classes)
    sae, sae.about = read(source)
    return sae


def write_saelens(sae: SAE, folder: str | Path, **metadata: Any) -> None:
    """Write an SAE as a folder that SAELens reads (``sae_lens.SAE.load_from_disk``).

    The input scale goes into the weights. BatchTopK and Matryoshka become SAELens's jumprelu with one threshold for all
    latents, as SAELens writes its own.

    Parameters
    ----------
    sae : SAE
    folder : path
        Must not exist yet.
    **metadata : JSON values
        Such as ``model_name="gpt2"`` and ``hook_name="blocks.6.hook_resid_post"``.

    Raises
    ------
    ValueError
        For an architecture that SAELens has nothing like.
    FileExistsError
    """
    activation, scale = sae.activation, float(sae.input_scale)
    if type(activation) not in (ReLU, TopK, JumpReLU, BatchTopK, Matryoshka):
        raise ValueError(f"SAELens has no architecture in which {activation.name} can be written.")
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists already; write to another place, or remove it first.")
    tensors = {name: getattr(sae, name).detach().cpu() for name in WEIGHTS}
    tensors["W_enc"] = tensors["W_enc"] * scale
    tensors["W_dec"], tensors["b_dec"] = tensors["W_dec"] / scale, tensors["b_dec"] / scale
    config = {"architecture": {ReLU: "standard", TopK: "topk"}.get(type(activation), "jumprelu")}
    if config["architecture"] == "topk":
        config["k"] = activation.k
    elif config["architecture"] == "jumprelu":
        tensors["threshold"] = activation.threshold.detach().cpu().expand(sae.d_sae)
    config |= {
        "d_in": sae.d_in, "d_sae": sae.d_sae, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"training_architecture": activation.name, **metadata},
    }  # fmt: skip
    with atomic_folder(folder) as made:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, made / "sae_weights.safetensors")
        (made / "cfg.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


# The formats


def _saelens(folder: Path) -> tuple[SAE, dict[str, Any]]:
    config, tensors = _json(folder / "cfg.json"), load_file(folder / "sae_weights.safetensors")
    metadata = config | (config.get("metadata") or {})  # before 6.0 there was one level, with other names
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    function = config.get("activation_fn_str") or config.get("activation_fn") or "relu"
    architecture = "topk" if function == "topk" else config.get("architecture", "standard")
    scale = config.get("normalize_activations") or "none"
    scale = "expected_average_only_in" if scale is True else scale
    _only(folder, "normalize_activations", scale, "none", "expected_average_only_in")
    _only(folder, "reshape_activations", config.get("reshape_activations", "none"), "none")
    _only(folder, "finetuning_scaling_factor", bool(config.get("finetuning_scaling_factor")), False)
    if hook and "hook_z" in hook:
        raise ValueError(f"{folder} reads the heads of {hook} reshaped (hook_z), which is not read here.")

    threshold = None
    if architecture == "topk":
        activation = TopK(config.get("k") or (config.get("activation_fn_kwargs") or {})["k"])
    elif architecture == "standard" and function == "relu":
        activation = ReLU(l1_coefficient=0.0)
    elif architecture in ("jumprelu", "batchtopk", "matryoshka_batchtopk"):
        activation = JumpReLU(l0_coefficient=0.0) if architecture == "jumprelu" else BatchTopK(config["k"])
        threshold = tensors.get("threshold", tensors.get("topk_threshold"))
        if threshold is None:
            raise KeyError("threshold")
    else:
        raise ValueError(f"{folder}: SAELens's architecture {architecture!r} ({function}) is not read here.")
    weights = {name: tensors[name] for name in WEIGHTS}
    if config.get("rescale_acts_by_decoder_norm"):
        weights = _with_norms_in_the_code(weights)
    sae = _sae(weights, activation, threshold, config, subtracts=config.get("apply_b_dec_to_input", True))
    return sae, {
        "format": "SAELens", "architecture": architecture, "model": metadata.get("model_name"), "site": hook,
        "texts": metadata.get("dataset_path"), "scale": scale,
    }  # fmt: skip


def _sparsify(folder: Path) -> tuple[SAE, dict[str, Any]]:
    config, tensors = _json(folder / "cfg.json"), load_file(folder / "sae.safetensors")
    _only(folder, "activation", config.get("activation", "topk"), "topk")
    for name in ("transcode", "skip_connection"):
        _only(folder, name, bool(config.get(name)), False)
    weights = tensors | {"W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"]}
    sae = _sae(weights, TopK(config["k"]), None, config)
    return sae, {"format": "sparsify", "architecture": "topk", "site": folder.name}


def _dictionary_learning(folder: Path) -> tuple[SAE, dict[str, Any]]:
    trainer = _json(folder / "config.json")["trainer"]
    # weights_only: a pickle may name any function to be called, and this reads one without calling any
    weights = tensors = torch.load(folder / "ae.pt", map_location="cpu", weights_only=True)
    kind, threshold = trainer["dict_class"], None
    if kind in ("AutoEncoder", "AutoEncoderNew"):
        activation = ReLU(l1_coefficient=0.0)
    elif kind == "AutoEncoderTopK":
        activation = TopK(tensors["k"].item())
    elif kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        activation, threshold = BatchTopK(tensors["k"].item()), tensors["threshold"]
        if kind == "MatryoshkaBatchTopKSAE":
            sizes = tensors["group_sizes"].tolist()
            activation = Matryoshka(activation.k, [size / sum(sizes) for size in sizes])
    elif kind == "JumpReluAutoEncoder":
        activation, threshold = JumpReLU(l0_coefficient=0.0), tensors["threshold"]
    else:
        raise ValueError(f"{folder}: dictionary_learning's {kind!r} is not read here.")
    if kind not in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):  # whose names and shapes are ours
        bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec")
        weights = {
            "W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"],
            "W_dec": tensors["decoder.weight"].T, "b_dec": tensors[bias],
        }  # fmt: skip
    if kind == "AutoEncoder":  # as the library does when it reads one
        weights = _with_norms_in_the_code(weights)
    sizes = {"d_in": trainer.get("activation_dim"), "d_sae": trainer.get("dict_size")}
    sae = _sae(weights, activation, threshold, sizes, subtracts=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"))
    return sae, {
        "format": "dictionary_learning", "architecture": kind, "model": trainer.get("lm_name"),
        "site": trainer.get("submodule_name"), "layer": trainer.get("layer"),
    }  # fmt: skip


def _gemma_scope(folder: Path) -> tuple[SAE, dict[str, Any]]:
    try:
        with np.load(folder / "params.npz", allow_pickle=False) as file:
            tensors = {name: torch.from_numpy(file[name]) for name in (*WEIGHTS, "threshold")}
    except ValueError as error:  # what numpy says of a pickle, and of a file that is none of its own
        raise OSError(error) from error
    sae = _sae(tensors, JumpReLU(l0_coefficient=0.0), tensors["threshold"], {}, subtracts=False)
    place = next((part for part in reversed(folder.parts) if re.fullmatch(r"layer_\d+", part)), None)
    kind = re.search(r"gemma-scope-[^/]*-(mlp|att)\b", folder.as_posix())  # of the repository; the third is -res
    if place and kind:
        place += {"mlp": "/mlp_out", "att": "/hook_z"}[kind[1]]
    return sae, {"format": "Gemma Scope", "architecture": "jumprelu", "site": place}


READERS = {
    ("cfg.json", "sae_weights.safetensors"): _saelens,
    ("cfg.json", "sae.safetensors"): _sparsify,
    ("config.json", "ae.pt"): _dictionary_learning,
    ("params.npz",): _gemma_scope,
}


# What they share


def _sae(
    weights: Tensors, activation: ActivationFunction, threshold: torch.Tensor | None, sizes: dict[str, Any],
    subtracts: bool = True,
) -> SAE:  # fmt: skip
    """The SAE with weights of our names and shapes, in our own convention: `b_dec` comes off the encoder's input.

    `threshold` has shape () or (d_sae,); `sizes` are d_in and d_sae as the checkpoint states them, if it does. If the
    library does not take off `b_dec` (`subtracts`), the encoder's bias gives it back.
    """
    weights = {name: weights[name].detach().float() for name in WEIGHTS}
    d_in, d_sae = weights["W_enc"].shape
    for name, shape in zip(WEIGHTS, ((d_in, d_sae), (d_sae,), (d_sae, d_in), (d_in,)), strict=True):
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"The checkpoint's {name} has shape {tuple(weights[name].shape)}, not {shape}.")
        if not weights[name].isfinite().all():
            raise ValueError(f"The checkpoint's {name} has NaN or infinity in it.")
    for name, size in (("d_in", d_in), ("d_sae", d_sae)):
        if sizes.get(name) not in (None, size):
            raise ValueError(f"The checkpoint states {name}={sizes[name]}, yet its weights have {size}.")
    if not subtracts:
        weights["b_enc"] = weights["b_enc"] + weights["b_dec"] @ weights["W_enc"]
    sae = SAE(d_in, d_sae, activation, init=weights["W_dec"])
    with torch.no_grad():
        for name, tensor in weights.items():
            getattr(sae, name).copy_(tensor)
        if threshold is not None:
            check_finite(threshold.reshape(-1, 1))
            threshold = threshold.detach().float().clamp(min=0)  # below zero a pre-activation is off in any case
            if isinstance(sae.activation, JumpReLU):
                sae.activation.log_threshold.copy_(threshold.log())
            else:
                sae.activation.threshold.copy_(threshold)
        sae.calibrated.fill_(True)  # what calibration would set has been learned
    return sae.eval()


def _with_norms_in_the_code(weights: Tensors) -> Tensors:
    """The same SAE with decoder directions of unit norm and codes that many times larger."""
    norms = weights["W_dec"].norm(dim=1)
    encoder = {name: weights[name] * norms for name in ("W_enc", "b_enc")}
    return weights | encoder | {"W_dec": weights["W_dec"] / norms[:, None]}


def _folder(source: str | Path) -> Path:
    """The folder that holds the checkpoint, fetched from the hub where `source` is no path of this machine."""
    arguments.no_credentials(checkpoint=str(source))
    path = Path(source).expanduser()
    if path.exists():
        return path if path.is_dir() else path.parent
    parts = PurePosixPath(str(source)).parts
    if path.is_absolute() or len(parts) < 2 or not set(parts).isdisjoint({".", "..", "/"}):
        raise ValueError(
            f"There is no checkpoint at {source}: give a folder, a file in it, or OWNER/NAME/FOLDER on the hub."
        )
    inside = "/".join(parts[2:])
    try:
        fetched = snapshot_download("/".join(parts[:2]), allow_patterns=[f"{inside}/*" if inside else "*", inside])
    except (OSError, HFValidationError) as error:  # no network, no such repository: all are OSError
        raise ValueError(
            f"{source} is no folder here, and cannot be fetched from the Hugging Face hub: check the spelling, or "
            f"fetch it where there is a network and give the folder ({type(error).__name__})."
        ) from error
    folder = Path(fetched, inside)
    if not folder.exists():
        raise ValueError(f"The hub's {'/'.join(parts[:2])} holds no {inside}.")
    return folder if folder.is_dir() else folder.parent


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} holds no settings")
    return found


def _only(folder: Path, name: str, value: Any, *known: Any) -> None:
    if value not in known:
        raise ValueError(f"{folder} has {name}={value!r}, which is not read here (only {', '.join(map(repr, known))}).")


PLACES = {
    "residual": r"resid_(pre|post)|^(.*[._/])?(blocks|layers?|h)[._]?\d+$",
    "mlp": r"mlp_out|[._/](mlp|feed_forward|ffn)$",
    "attention": r"(attn|attention)_out|[._/](self_attn|attn|attention|self_attention)$",
}


def place_of(hook: str | None) -> str | None:
    """The hook point that a hook's name means.

    Returns
    -------
    str or None
        ``"residual"``, ``"mlp"`` or ``"attention"``, as in :data:`saelite.data.language_models.SITES`; ``"other"`` for
        one that is none of them, such as ``hook_z``; None if no hook is named.
    """
    return next((place for place, pattern in PLACES.items() if re.search(pattern, hook)), "other") if hook else None


def _layer(site: str | None) -> int | None:
    """The decoder block whose output a hook stands for: what reads block 9's *input* reads block 8's output."""
    found = re.search(r"(?:blocks|layers|layer_|h)[._]?(\d+)", site or "")
    return int(found[1]) - ("resid_pre" in site) if found else None

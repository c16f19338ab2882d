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

import json
import pickle
import re
import struct
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from saelite import arguments
from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka, ReLU, TopK
from saelite.sae import SAE, check_finite
from saelite.storage.files import atomic_folder

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")

HOOKS = {"residual": "hook_resid_post", "mlp": "hook_mlp_out", "attention": "hook_attn_out"}
"""What SAELens calls the hook points of a block, as in ``blocks.6.hook_resid_post``."""


def read(source):
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
        return _own(folder)
    for needed, reader in (
        ({"cfg.json", "sae_weights.safetensors"}, _saelens),
        ({"cfg.json", "sae.safetensors"}, _sparsify),
        ({"config.json", "ae.pt"}, _dictionary_learning),
        ({"params.npz"}, _gemma_scope),
    ):
        if needed <= names:
            try:
                return reader(folder)
            except (OSError, SafetensorError, json.JSONDecodeError, UnicodeDecodeError, EOFError, zipfile.BadZipFile,
                    pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError, struct.error) as error:  # fmt: skip
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"The checkpoint in {folder} is damaged or holds something else than its format says; fetch a "
                    f"whole copy ({type(error).__name__}: {reason})."
                ) from error
    raise ValueError(
        f"{folder} holds no checkpoint in a format that is known here (saelite, SAELens, sparsify, "
        f"dictionary_learning, Gemma Scope); it holds {', '.join(sorted(names)[:8]) or 'nothing'}."
    )


def load(source: str | Path, **own_classes) -> SAE:
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


def write_saelens(sae, folder, **metadata):
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


def _own(folder):
    sae = SAE.load(folder)
    record = sae.record
    data = record.get("data", {})
    about = {"model": data.get("model"), "layer": data.get("layer"), "texts": data.get("texts")}
    return sae, _about("saelite", type(sae.activation).__name__, **about)


def _saelens(folder):
    config = _json(folder / "cfg.json")
    tensors = load_file(folder / "sae_weights.safetensors")
    metadata = config | (config.get("metadata") or {})  # before 6.0 there was one level
    # names before 6.0
    function = config.get("activation_fn_str") or config.get("activation_fn") or "relu"
    architecture = "topk" if function == "topk" else config.get("architecture", "standard")
    if architecture not in ("standard", "topk", "jumprelu", "batchtopk", "matryoshka_batchtopk") or (
        architecture == "standard" and function != "relu"
    ):
        raise ValueError(f"{folder}: SAELens's architecture {architecture!r} ({function}) is not read here.")
    scale = config.get("normalize_activations") or "none"
    scale = {True: "expected_average_only_in"}.get(scale, scale)
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    _only(folder, "normalize_activations", scale, ("none", "expected_average_only_in"))
    _only(folder, "reshape_activations", config.get("reshape_activations", "none"), ("none",))
    _only(folder, "finetuning_scaling_factor", bool(config.get("finetuning_scaling_factor")), (False,))
    if hook and "hook_z" in hook:
        raise ValueError(f"{folder} reads the heads of {hook} reshaped (hook_z), which is not read here.")

    weights = {name: tensors[name] for name in WEIGHTS}
    if config.get("rescale_acts_by_decoder_norm"):
        weights = _with_norms_in_the_code(weights)
    threshold = tensors.get("threshold", tensors.get("topk_threshold"))
    if threshold is None and architecture not in ("standard", "topk"):
        raise KeyError("threshold")
    if architecture == "topk":
        k = config.get("k") or (config.get("activation_fn_kwargs") or {})["k"]
        activation = TopK(_whole(k))
    elif architecture == "standard":
        activation = ReLU(l1_coefficient=0.0)
    elif architecture == "jumprelu":
        activation = JumpReLU(l0_coefficient=0.0)
    else:
        activation = BatchTopK(_whole(config["k"]))
    sae = _sae(weights, activation, threshold, config, subtracts=config.get("apply_b_dec_to_input", True))
    return sae, _about(
        "SAELens", architecture, model=metadata.get("model_name"), site=hook, texts=metadata.get("dataset_path"),
        layer=_layer(hook), scale=scale,
    )  # fmt: skip


def _sparsify(folder):
    config = _json(folder / "cfg.json")
    tensors = load_file(folder / "sae.safetensors")
    _only(folder, "activation", config.get("activation", "topk"), ("topk",))
    for name in ("transcode", "skip_connection"):
        _only(folder, name, bool(config.get(name)), (False,))
    weights = {
        "W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"],
    }  # fmt: skip
    sae = _sae(weights, TopK(_whole(config["k"])), None, config)
    return sae, _about("sparsify", "topk", site=folder.name, layer=_layer(folder.name))


def _dictionary_learning(folder):
    trainer = _json(folder / "config.json")["trainer"]
    # weights_only: a pickle may name any function to be called, and this reads one without calling any
    tensors = torch.load(folder / "ae.pt", map_location="cpu", weights_only=True)
    kind = trainer["dict_class"]
    if kind in ("AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE"):
        bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec")
        weights = {
            "W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"],
            "W_dec": tensors["decoder.weight"].T, "b_dec": tensors[bias],
        }  # fmt: skip
    elif kind in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        weights = {name: tensors[name] for name in WEIGHTS}
    else:
        raise ValueError(f"{folder}: dictionary_learning's {kind!r} is not read here.")
    if kind == "AutoEncoder":  # as the library does when it reads one
        weights = _with_norms_in_the_code(weights)

    threshold = None
    if kind == "AutoEncoderTopK":
        activation = TopK(_whole(tensors["k"].item()))
    elif kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        k, threshold = _whole(tensors["k"].item()), tensors["threshold"]
        if kind == "BatchTopKSAE":
            activation = BatchTopK(k)
        else:
            sizes = tensors["group_sizes"].tolist()
            activation = Matryoshka(k, [size / sum(sizes) for size in sizes])
    elif kind == "JumpReluAutoEncoder":
        activation, threshold = JumpReLU(l0_coefficient=0.0), tensors["threshold"]
    else:
        activation = ReLU(l1_coefficient=0.0)
    sizes = {"d_in": trainer.get("activation_dim"), "d_sae": trainer.get("dict_size")}
    sae = _sae(weights, activation, threshold, sizes, subtracts=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"))
    return sae, _about(
        "dictionary_learning", kind, model=trainer.get("lm_name"), site=trainer.get("submodule_name"),
        layer=trainer.get("layer"),
    )  # fmt: skip


def _gemma_scope(folder):
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
    return sae, _about("Gemma Scope", "jumprelu", site=place, layer=_layer(place))


# What they share


def _sae(weights, activation, threshold, sizes, subtracts=True):
    """The SAE with these weights, in our own convention: `b_dec` comes off the input before the encoder.

    Parameters
    ----------
    weights : dict of tensors of our names and shapes
    threshold : tensor of shape () or (d_sae,), or None
    sizes : dict
        d_in and d_sae as the checkpoint states them, if it does.
    subtracts : bool
        Whether the library does so too; if not, the encoder's bias gives it back.
    """
    weights = {name: weights[name].detach().float() for name in WEIGHTS}
    d_in, d_sae = weights["W_enc"].shape
    expected = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    for name, shape in expected.items():
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


def _with_norms_in_the_code(weights):
    """The same SAE with decoder directions of unit norm and codes that many times larger."""
    norms = weights["W_dec"].norm(dim=1)
    encoder = {name: weights[name] * norms for name in ("W_enc", "b_enc")}
    return weights | encoder | {"W_dec": weights["W_dec"] / norms[:, None]}


def _folder(source):
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


def _json(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} holds no settings")
    return found


def _only(folder, name, value, known):
    if value not in known:
        raise ValueError(f"{folder} has {name}={value!r}, which is not read here (only {', '.join(map(repr, known))}).")


def _whole(k):
    if isinstance(k, bool) or not isinstance(k, int):
        raise ValueError(f"The checkpoint's k is {k!r}, not a whole number of active latents.")
    return k


def place_of(hook):
    """The hook point that a hook's name means.

    Returns
    -------
    str or None
        ``"residual"``, ``"mlp"`` or ``"attention"``, as in :data:`saelite.data.language_models.SITES`; ``"other"`` for
        one that is none of them, such as ``hook_z``; None if no hook is named.
    """
    if not hook:
        return None
    for place, pattern in (
        ("residual", r"resid_(pre|post)|^(.*[._/])?(blocks|layers?|h)[._]?\d+$"),
        ("mlp", r"mlp_out|[._/](mlp|feed_forward|ffn)$"),
        ("attention", r"(attn|attention)_out|[._/](self_attn|attn|attention|self_attention)$"),
    ):
        if re.search(pattern, hook):
            return place
    return "other"


def _layer(site):
    """The decoder block whose output a hook stands for: what reads block 9's *input* reads block 8's output."""
    found = re.search(r"(?:blocks|layers|layer_|h)[._]?(\d+)", site or "")
    if not found:
        return None
    return int(found[1]) - ("resid_pre" in site)


def _about(name, architecture, *, model=None, site=None, layer=None, texts=None, scale="none"):
    return {
        "format": name, "architecture": architecture, "model": model, "site": site, "layer": layer, "texts": texts,
        "scale": scale,
    }  # fmt: skip

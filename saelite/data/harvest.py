"""Activations of a language model, harvested once: run it up to a layer and keep on disk what is there."""

import json
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import safetensors
import torch
import transformers
from tqdm import tqdm

from saelite import arguments
from saelite.data.language_models import SITES, LanguageModel, check_layer, fingerprint, read_layer, site_of
from saelite.data.store import ActivationStore, mapped, open_or_make
from saelite.data.token_rows import Texts, TokenRows, cut_into_rows, hash_texts, hash_tokenizer, kept_upto
from saelite.storage import files

FORMAT = 1  # of a store; part of its key
CHECKPOINT_SECONDS = 5.0


def harvest(
    lm: LanguageModel,
    texts: Texts,
    *,
    layer: int,
    tokens: int,
    site: str = "residual",
    context: int = 128,
    batch: int = 8,
    drop_positions: Iterable[int] = (0,),
    seed: int | None = 0,
    progress: bool = True,
    folder: Path | str | None = None,
) -> ActivationStore:
    """Run a model up to a layer over a text set and keep what it holds there on disk.

    Asked again with the same settings, it opens the finished store, or goes on where a killed run stopped. A second
    process that asks meanwhile waits. Rows of text are as in :mod:`saelite.data.token_rows`.

    Parameters
    ----------
    lm : LanguageModel
        From :func:`saelite.data.language_models.language_model`.
    texts : datasets.Dataset or list of str
        A data set with a ``text`` column, such as `load_texts` gives, or the texts themselves.
    layer : int
        The decoder block whose output is kept, from 0 to ``lm.n_layers - 1``.
    tokens : int
        Number of activations to keep, after positions are dropped; exactly so many are kept.
    site : str
        ``"residual"``, the residual stream after that block, or the output of its ``"mlp"`` or its ``"attention"``;
        see :func:`saelite.data.language_models.module_at`.
    context : int
        Longest row, in tokens (BOS included).
    batch : int
        Full rows that run together, or as many tokens in shorter ones. The last digit of an activation depends on it.
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
        In 16 bits: bfloat16 from a model that runs in it; else float16, whose rounding (1 part in 2,000) is far below
        any reconstruction error.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, `texts` are too short or no texts, or an activation is not finite in 16 bits.
    OSError
        If the disk has no room for the store. What was harvested so far is kept for the next attempt.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=384, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> cpu, model = torch.device("cpu"), LlamaForCausalLM(config)
    >>> lm = LanguageModel(model, ByT5Tokenizer(), "tiny", cpu, torch.float32, n_layers=2, d_model=16)
    >>> store = harvest(lm, ["Some texts.", "As many as you like."], layer=1, tokens=20, folder=tempfile.mkdtemp())
    >>> store[:5].shape
    torch.Size([5, 16])
    """
    settings = settings_of(lm, layer, site, tokens=tokens, context=context, batch=batch, drop_positions=drop_positions)
    settings |= {"format": FORMAT, "texts": hash_texts(texts), "seed": seed}
    order = np.arange(len(texts)) if seed is None else np.random.default_rng(seed).permutation(len(texts))
    settings["first_tokens"] = hash_tokenizer(lm, texts, order)
    info = getattr(texts, "info", None)
    described = {
        "model_name": lm.name,
        "text_set": getattr(info, "description", "") or getattr(info, "dataset_name", None) or "given texts",
        "text_licence": getattr(info, "license", "") or "unknown",
    }
    return open_or_make(settings, folder, lambda final: _fill(lm, texts, order, settings, described, final, progress))


def settings_of(
    lm: LanguageModel, layer: int, site: str, *, tokens: int, context: int, batch: int, drop_positions: Iterable[int]
) -> dict:
    """Return, checked and as JSON values, what activations follow from but for texts and seed; see `harvest`."""
    check_layer(lm, layer, site, context)
    drop_positions = sorted({int(position) for position in drop_positions})
    arguments.whole(1, tokens=tokens, batch=batch)
    if not set(drop_positions) < set(range(context)):
        must = f"must lie between 0 and context - 1 = {context - 1}, and not be all of these: nothing would be kept"
        raise ValueError(f"drop_positions={drop_positions} {must}.")
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
        "computed_in": str(lm.dtype).removeprefix("torch."),
        "stored_in": "bfloat16" if lm.dtype == torch.bfloat16 else "float16",
        "device": lm.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _fill(
    lm: LanguageModel, texts: Texts, order: np.ndarray, settings: dict, described: dict, final: Path, progress: bool
) -> None:
    """Make the store `final`, from its start or from where a killed run left it."""
    # Not an atomic_folder: unlike its temporary folder, this one has a name that a later run finds again.
    partial, width = final.with_name(final.name + ".partial"), lm.d_model * 2
    data_file, done_file = partial / "activations.bin", partial / "done.json"
    done, checksum, rows = 0, 0, None  # batches that are done, of what they gave, in their order
    if done_file.is_file():
        try:
            done, checksum, rows = _taken_up(partial, settings, width)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            why = f"The unfinished activations {final.name} are damaged ({error}): they are made again."
            warnings.warn(why, stacklevel=5)
    if rows is None:
        rows = cut_into_rows(lm, texts, order, settings)
        shutil.rmtree(partial, ignore_errors=True)
        files.need_room(final.parent, settings["tokens"] * width + 4 * len(rows.ids), "a store of activations")
        partial.mkdir()
        with files.atomic_file(partial / "rows.safetensors", checksums=True) as temporary:
            rows.save(temporary)
        with open(data_file, "wb") as file:
            file.truncate(settings["tokens"] * width)

    first, batches = rows.first_activations(settings), batches_of(rows, settings)
    already = int(sum(first[row + 1] - first[row] for some in batches[:done] for row in some))
    quiet = {} if progress else {"disable": True}  # unset, the variable TQDM_DISABLE has a say
    bar = tqdm(total=settings["tokens"], initial=already, unit=" tokens", desc=f"layer {settings['layer']}", **quiet)
    last_checkpoint = time.monotonic()
    # Plain writes, not a memory map: on a full disk they raise an error where a map would kill the process.
    with open(data_file, "r+b", buffering=0) as file, bar:
        for number in range(done, len(batches)):
            for row, activations in _run(lm, rows, batches[number], settings):
                file.seek(int(first[row]) * width)
                array = activations.view(torch.int16).numpy()
                _write_all(file, array)
                checksum = zlib.crc32(array, checksum)
                bar.update(len(activations))
            if number + 1 == len(batches) or time.monotonic() - last_checkpoint >= CHECKPOINT_SECONDS:
                os.fsync(file.fileno())  # the data first, then the record that says it is there
                with files.atomic_file(done_file) as temporary:
                    temporary.write_text(json.dumps({"batches": number + 1, "crc32": checksum}))
                last_checkpoint = time.monotonic()

    found = {
        "d_in": lm.d_model,
        "rows": len(rows.documents),
        "documents": len(np.unique(rows.documents)),
        "dropped": int(rows.row_starts[-1]) - settings["tokens"],  # positions run but not kept
    }
    norms = torch.cat([part.float().norm(dim=1) for part in mapped(data_file, settings | found).split(65_536)])
    median = norms.median()  # tells whether massive activations are left
    found |= {"median_norm": float(median), "largest_norm": float(norms.max())}
    found["share_above_5_medians"] = float((norms > 5 * median).double().mean())
    with files.atomic_file(partial / "record.json") as temporary:
        temporary.write_text(json.dumps(settings | described | found, indent=1), encoding="utf-8")
    whole = {"activations.bin", "rows.safetensors", "record.json"}
    files.keep_checksums(partial, whole)
    os.replace(partial, final)
    for path in final.iterdir():  # what a run that is killed before would have gone on from
        if path.name not in whole | {"checksums.json"}:
            files.remove(path)


def _taken_up(partial: Path, settings: dict, width: int) -> tuple[int, int, TokenRows]:
    """Return the batches that a killed run had done, the checksum of what they gave, and the rows, if all are whole."""
    progress = json.loads((partial / "done.json").read_text())
    if found := files.fault(partial / "rows.safetensors"):
        raise ValueError(found)
    rows, checksum = TokenRows.load(partial / "rows.safetensors"), 0
    first = rows.first_activations(settings)
    with open(partial / "activations.bin", "rb") as file:
        for row in np.concatenate(batches_of(rows, settings)[: progress["batches"]]):
            file.seek(int(first[row]) * width)
            checksum = zlib.crc32(file.read(int(first[row + 1] - first[row]) * width), checksum)
    if checksum != progress["crc32"]:
        raise ValueError("activations.bin is not as it was written")
    return progress["batches"], checksum, rows


def batches_of(rows: TokenRows, settings: dict) -> list[np.ndarray]:
    """Group rows, by their indices, into batches of so many tokens, longest first, so that little padding is run."""
    lengths, budget = np.diff(rows.row_starts), settings["batch"] * settings["context"]
    by_length = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(by_length):
        stop = start + max(1, budget // int(lengths[by_length[start]]))
        batches.append(by_length[start:stop])
        start = stop
    return batches


def _run(lm: LanguageModel, rows: TokenRows, some: np.ndarray, settings: dict) -> Iterator[tuple[int, torch.Tensor]]:
    """Run one batch of rows; yield each row's index with its kept activations (kept, d_model) on the CPU."""
    stored, counts = run_rows(lm, rows, some, settings)
    yield from zip(some.tolist(), stored.cpu().split(counts), strict=True)


def run_rows(lm: LanguageModel, rows: TokenRows, some: np.ndarray, settings: dict) -> tuple[torch.Tensor, list[int]]:
    """Run the rows `some` (indices) in one batch.

    Returns their kept activations, in 16 bits, of shape (n, d_model), on the model's device, and how many each row has.
    Raises ValueError if one is NaN, infinite or too large for float16.
    """
    lengths = np.diff(rows.row_starts)[some]
    inputs = torch.zeros(len(some), int(lengths.max()), dtype=torch.long)  # padded on the right, which nothing sees
    keep = torch.zeros(inputs.shape, dtype=torch.bool)
    for place, row in enumerate(some):
        inputs[place, : lengths[place]] = rows.ids[rows.row_starts[row] : rows.row_starts[row + 1]]
        keep[place, : lengths[place]] = True
    keep[:, [position for position in settings["drop_positions"] if position < keep.shape[1]]] = False
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
    return stored, kept_upto(settings)[lengths].tolist()


def _write_all(file, array: np.ndarray) -> None:
    """Write every byte: an unbuffered write may stop short."""
    left = memoryview(array).cast("B")
    while left:
        left = left[file.write(left) :]

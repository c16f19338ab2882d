"""Activations of a language model, harvested once into a file on disk and read from there in shuffled batches.

**What is in a row.** A row of tokens holds one document, or a piece of one: a document longer than the context
continues in the next row. Packing several documents into a row would save nothing here, since rows of like length run
together, and it would make tokens attend to another text, or put an end-of-text token inside a row, where some layers
answer with *massive activations* (on SmolLM2's layer 15, 1% of the kept positions, holding 99% of the squared norm).
Where the tokenizer starts a text with a BOS token (Llama 3, Gemma), every row starts with one; where it does not
(SmolLM2, GPT-2), no row does. The first position of a row is an attention sink with a norm of its own (24,000 on
SmolLM2's layer 15, where the median is 170) and is dropped unless `drop_positions` says otherwise. Nothing else is
filtered.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import filelock
import numpy as np
import safetensors.torch
import torch
import transformers
from tqdm import tqdm

from saelite import cache
from saelite.models import LanguageModel, check_layer, fingerprint, read_layer

FORMAT = 1  # of a store; part of its key
HELD_OUT_SHARE = 0.1
CHECKPOINT_SECONDS = 5.0
DOCUMENTS_AT_ONCE = 256  # tokenised in one call


def harvest(
    lm: LanguageModel,
    texts,
    *,
    layer: int,
    tokens: int,
    context: int = 128,
    batch: int = 8,
    drop_positions: Iterable[int] = (0,),
    seed: int | None = 0,
    progress: bool = True,
    folder=None,
) -> "ActivationStore":
    """Run a model up to a layer over a text set and keep the residual stream there on disk.

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
    check_layer(lm, layer)
    drop_positions = sorted({int(position) for position in drop_positions})
    longest = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None) or context
    if not 2 <= context <= longest:
        raise ValueError(f"context={context} is out of range: {lm.name!r} takes 2 to {longest} tokens.")
    if tokens < 1 or batch < 1:
        raise ValueError(f"tokens={tokens} and batch={batch} must both be at least 1.")
    if drop_positions and (drop_positions[0] < 0 or drop_positions[-1] >= context):
        raise ValueError(f"drop_positions={drop_positions} must lie between 0 and context - 1 = {context - 1}.")
    if len(drop_positions) == context:
        raise ValueError(f"drop_positions drops all {context} positions of a row: nothing would be kept.")
    texts_hash, text_count = _hash_texts(texts)
    order = np.arange(text_count) if seed is None else np.random.default_rng(seed).permutation(text_count)

    bos = lm.tokenizer.bos_token_id
    settings = {
        "format": FORMAT,
        "model": fingerprint(lm),
        "layer": layer,
        "site": f"output of decoder block {layer} (residual stream)",
        "texts": texts_hash,
        "first_tokens": _hash(json.dumps(_tokenise(lm, texts, order[:16])).encode()),  # tells tokenizers apart
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
    root = Path(folder) if folder is not None else cache.folder() / "activations"
    root.mkdir(parents=True, exist_ok=True)
    final = root / cache.key(**settings)
    info = getattr(texts, "info", None)
    described = {
        "model_name": lm.name,
        "text_set": getattr(info, "description", "") or getattr(info, "dataset_name", None) or "given texts",
        "text_licence": getattr(info, "license", "") or "unknown",
    }
    try:
        with filelock.FileLock(f"{final}.lock"):  # the system frees it when its holder dies
            if not final.is_dir():
                _fill(lm, texts, order, settings, described, final, progress)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _no_room(root, tokens * lm.d_model * 2) from error
    return ActivationStore(final)


class ActivationStore:
    """Activations on disk, read through a memory map.

    The last tenth is held out for evaluation, cut where a document starts, so that no text is in both parts.

    Parameters
    ----------
    folder : str or pathlib.Path
        A store that `harvest` made.

    Attributes
    ----------
    record : dict
        Every setting of the harvest, and what it found: rows, documents, dropped positions, median norm.
    train, held_out : ActivationStore
        The two parts, each with everything a store has, counted from 0.

    Raises
    ------
    ValueError
        If the folder does not hold a whole store.

    Examples
    --------
    >>> store = harvest(lm, load_texts(), layer=9, tokens=400_000)          # doctest: +SKIP
    >>> store[:2].shape                                                     # doctest: +SKIP
    torch.Size([2, 576])
    >>> for batch in store.batches(1024, epochs=3): ...                     # doctest: +SKIP
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            self.record = json.loads((self.folder / "record.json").read_text(encoding="utf-8"))
            rows = safetensors.torch.load_file(self.folder / "rows.safetensors")
            self._data = torch.from_file(
                str(self.folder / "activations.bin"),
                shared=False,
                size=self.record["tokens"] * self.record["d_in"],
                dtype=getattr(torch, self.record["stored_in"]),
            ).view(self.record["tokens"], self.record["d_in"])
        except (OSError, RuntimeError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{self.folder} does not hold a whole activation store: delete it and harvest again ({error})."
            ) from error
        self._ids, self._row_starts, documents = rows["ids"], rows["row_starts"].numpy(), rows["documents"].numpy()
        self._documents = documents
        self._kept = _kept_positions(self.record)
        self._first = _first_activations(self._row_starts, self._kept)
        self._range = (0, self.record["tokens"])
        self._cut = self._first[_held_out_row(self._first, documents)]

    @property
    def d_in(self) -> int:
        """Width of an activation."""
        return self.record["d_in"]

    @property
    def train(self) -> "ActivationStore":
        return self._part(0, self._cut)

    @property
    def held_out(self) -> "ActivationStore":
        return self._part(self._cut, self.record["tokens"])

    def _part(self, start: int, stop: int) -> "ActivationStore":
        part = object.__new__(ActivationStore)
        part.__dict__.update(self.__dict__, _range=(int(start), int(stop)))
        return part

    def __len__(self) -> int:
        return self._range[1] - self._range[0]

    def __getitem__(self, rows) -> torch.Tensor:
        """Return activations as float32: shape (d_in,) for one index, (n, d_in) for a slice, list or tensor of them."""
        start, stop = self._range
        if isinstance(rows, np.ndarray):
            rows = torch.from_numpy(rows)
        return self._data[start:stop][rows].float()

    @property
    def documents(self) -> np.ndarray:
        """The text that each activation comes from, as its index in the text set. Shape (len(self),)."""
        start, stop = self._range
        rows = np.searchsorted(self._first, np.arange(start, stop), side="right") - 1
        return self._documents[rows]

    def batches(self, batch_size: int, *, epochs: int = 1, seed: int = 0) -> "Batches":
        """Return shuffled batches for training.

        On a whole store they are drawn from its `train` part alone.

        Parameters
        ----------
        batch_size : int
            Activations in a batch.
        epochs : int
            Passes over the activations, each in an order of its own. What does not fill a batch is left out of that
            pass.
        seed : int
            Of the orders.

        Raises
        ------
        ValueError
            If there are fewer activations than one batch takes.
        """
        whole = self._range == (0, self.record["tokens"])
        return Batches(self.train if whole else self, batch_size, epochs=epochs, seed=seed)

    def context_of(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the row of tokens that an activation stands in.

        Parameters
        ----------
        index : int
            Index of the activation in this store or part, from 0.

        Returns
        -------
        tuple of torch.Tensor and int
            The token ids of the row, of shape (length,), and the activation's position among them. Up to that
            position they are all that the model saw.

        Raises
        ------
        IndexError
            If there is no such activation.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index={index} is outside this store of {len(self)} activations.")
        index = int(index) + self._range[0]
        row = int(np.searchsorted(self._first, index, side="right")) - 1
        start, stop = self._row_starts[row : row + 2]
        return self._ids[start:stop].long(), int(self._kept[index - self._first[row]])

    def __repr__(self) -> str:
        r = self.record
        return f"ActivationStore({len(self):,} x {self.d_in}, {r['model_name']} layer {r['layer']}, {r['text_set']})"


class Batches:
    """Shuffled batches of a store, in an order that follows from the seed.

    ``batches[i]`` depends on the seed and `i` alone, so a run that stopped after batch `i` resumes at ``i + 1``.

    Parameters
    ----------
    store : ActivationStore
        What the batches are drawn from, all of it.
    batch_size, epochs, seed : int
        See `ActivationStore.batches`.

    Raises
    ------
    ValueError
        If the store holds fewer activations than one batch, or a number is below 1.
    """

    def __init__(self, store: ActivationStore, batch_size: int, *, epochs: int = 1, seed: int = 0):
        if batch_size < 1 or epochs < 1:
            raise ValueError(f"batch_size={batch_size} and epochs={epochs} must both be at least 1.")
        if len(store) < batch_size:
            raise ValueError(
                f"There are {len(store):,} activations here, too few for one batch of {batch_size:,}: "
                "harvest more tokens or make the batch smaller."
            )
        self.store, self.batch_size, self.epochs, self.seed = store, batch_size, epochs, seed
        self.per_epoch = len(store) // batch_size
        self._epoch, self._order = None, None

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __getitem__(self, i: int) -> torch.Tensor:
        """Return batch `i`, a float32 tensor of shape (batch_size, d_in)."""
        if not 0 <= i < len(self):
            raise IndexError(f"There is no batch {i}: there are {len(self)}, from 0.")
        epoch, place = divmod(i, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.store))
        # Which activations share a batch is random; their order inside it is free, and a disk reads forwards best.
        return self.store[np.sort(self._order[place * self.batch_size : (place + 1) * self.batch_size])]

    def __iter__(self) -> Iterator[torch.Tensor]:
        for i in range(len(self)):
            yield self[i]

    @property
    def settings(self) -> dict:
        """All that the batches follow from, as plain JSON values; the store's own settings stand in its name."""
        return {
            "source": f"activations {self.store.folder.name}",
            "range": list(self.store._range),
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "seed": self.seed,
        }


# --- texts into rows of tokens -------------------------------------------------------------------------------------


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _hash_texts(texts) -> tuple[str, int]:
    """Check the texts; return a hash of all of them in order, and their number."""
    if isinstance(texts, datasets.Dataset) and "text" in texts.column_names:
        stream = (text for some in texts.select_columns("text").iter(1000) for text in some["text"])
    elif isinstance(texts, list | tuple):
        stream = iter(texts)
    else:
        raise TypeError("texts must be a datasets.Dataset with a 'text' column, such as load_texts() gives, or a list.")
    digest, count = hashlib.sha256(), 0
    for text in stream:
        if not isinstance(text, str):
            raise TypeError(f"texts[{count}] is {type(text).__name__}, not a string.")
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
        count += 1
    return digest.hexdigest()[:16], count


def _tokenise(lm: LanguageModel, texts, indices) -> list[list[int]]:
    if isinstance(texts, datasets.Dataset):
        documents = list(texts[indices.tolist()]["text"]) if len(indices) else []
    else:
        documents = [texts[i] for i in indices]
    if not documents:
        return []
    return lm.tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]


def _rows(lm: LanguageModel, texts, order, settings: dict) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Cut texts into rows until there are as many kept positions as wanted.

    Returns the ids of all rows end to end, where each row starts among them (and the last ends), and the index of the
    text each row comes from.
    """
    prefix = settings["row_prefix"]
    body = settings["context"] - len(prefix)
    kept_upto = _kept_upto(settings)
    rows, documents, found, wanted = [], [], 0, settings["tokens"]
    for start in range(0, len(order), DOCUMENTS_AT_ONCE):
        indices = order[start : start + DOCUMENTS_AT_ONCE]
        for document, ids in zip(indices, _tokenise(lm, texts, indices), strict=True):
            for piece in range(0, len(ids), body):
                row = prefix + ids[piece : piece + body]
                gain = int(kept_upto[len(row)])
                if gain == 0:
                    continue
                if found + gain > wanted:  # cut the last row after the last position that is wanted
                    row = row[: int(np.searchsorted(kept_upto, wanted - found))]
                rows.append(np.array(row, dtype=np.int32))
                documents.append(document)
                found = min(found + gain, wanted)
                if found == wanted:
                    row_starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
                    return torch.from_numpy(np.concatenate(rows)), row_starts, np.array(documents, dtype=np.int64)
    raise ValueError(
        f"The {len(order):,} texts hold {found:,} tokens at kept positions, fewer than the {wanted:,} asked for: "
        f"ask for tokens={found} or fewer, or give more text."
    )


def _kept_positions(settings: dict) -> np.ndarray:
    """Positions of a full row that are kept, ascending."""
    return np.setdiff1d(np.arange(settings["context"]), settings["drop_positions"])


def _kept_upto(settings: dict) -> np.ndarray:
    """Number of kept positions in a row of each length from 0 to the context."""
    return np.searchsorted(_kept_positions(settings), np.arange(settings["context"] + 1))


def _first_activations(row_starts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Index of each row's first activation, and after the last row their number."""
    return np.concatenate([[0], np.cumsum(np.searchsorted(kept, np.diff(row_starts)))])


def _held_out_row(first: np.ndarray, documents: np.ndarray) -> int:
    """First held-out row: the first document that starts in the last tenth, or, if none does, the first row there."""
    earliest = int(np.searchsorted(first, (1 - HELD_OUT_SHARE) * first[-1]))
    for row in range(max(earliest, 1), len(documents)):
        if documents[row] != documents[row - 1]:
            return row
    return min(earliest, len(documents))


# --- rows of tokens into activations on disk -----------------------------------------------------------------------


def _no_room(root: Path, wanted: int) -> OSError:
    free = shutil.disk_usage(root).free
    return OSError(
        errno.ENOSPC,
        f"No room on the disk: the activations need {wanted / 1e9:.2f} GB and {free / 1e9:.2f} GB are free. Ask for "
        "fewer tokens, free some space, or set SAELITE_CACHE to a folder on a larger disk",
        str(root),
    )


def _fill(lm, texts, order, settings, described, final: Path, progress: bool) -> None:
    """Make the store `final`, from its start or from where a killed run left it."""
    # Not cache.atomic_folder: unlike its temporary folder, this one has a name that a later run finds again.
    partial = final.with_name(final.name + ".partial")
    data_file, rows_file, progress_file = (partial / n for n in ("activations.bin", "rows.safetensors", "done.json"))
    done = 0
    if progress_file.is_file():
        done = json.loads(progress_file.read_text())["batches"]
        rows = safetensors.torch.load_file(rows_file)
        ids, row_starts, documents = rows["ids"], rows["row_starts"].numpy(), rows["documents"].numpy()
    else:
        ids, row_starts, documents = _rows(lm, texts, order, settings)
        shutil.rmtree(partial, ignore_errors=True)
        wanted = settings["tokens"] * lm.d_model * 2 + 4 * len(ids)
        if shutil.disk_usage(final.parent).free < wanted:
            raise _no_room(final.parent, wanted)
        partial.mkdir()
        rows = {"ids": ids, "row_starts": torch.from_numpy(row_starts), "documents": torch.from_numpy(documents)}
        with cache.atomic_file(rows_file) as temporary:
            temporary.write_bytes(safetensors.torch.save(rows))
        with open(data_file, "wb") as file:
            file.truncate(settings["tokens"] * lm.d_model * 2)

    first = _first_activations(row_starts, _kept_positions(settings))
    batches = _like_lengths(np.diff(row_starts), settings["batch"] * settings["context"])
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
                _write_all(file, activations.view(torch.int16).numpy())
                bar.update(len(activations))
            if number + 1 == len(batches) or time.monotonic() - last_checkpoint >= CHECKPOINT_SECONDS:
                os.fsync(file.fileno())  # the data first, then the record that says it is there
                with cache.atomic_file(progress_file) as temporary:
                    temporary.write_text(json.dumps({"batches": number + 1}))
                last_checkpoint = time.monotonic()

    found = {
        "d_in": lm.d_model,
        "rows": len(documents),
        "documents": len(np.unique(documents)),
        "dropped": int(row_starts[-1]) - settings["tokens"],  # positions run but not kept
        **_norms(data_file, settings, lm.d_model),
    }
    with cache.atomic_file(partial / "record.json") as temporary:
        temporary.write_text(json.dumps({**settings, **described, **found}, indent=1), encoding="utf-8")
    progress_file.unlink()
    os.replace(partial, final)


def _like_lengths(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Group rows into batches of at most `budget` tokens, longest first, so that little padding is run."""
    by_length = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(by_length):
        stop = start + max(1, budget // int(lengths[by_length[start]]))
        batches.append(by_length[start:stop])
        start = stop
    return batches


def _run(lm, ids, row_starts, rows: np.ndarray, settings: dict) -> Iterator[tuple[int, torch.Tensor]]:
    """Run one batch of rows; yield each row's index with its kept activations (kept, d_model) in 16 bits."""
    lengths = row_starts[rows + 1] - row_starts[rows]
    inputs = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)  # padded on the right, which nothing sees
    keep = torch.zeros(inputs.shape, dtype=torch.bool)
    kept, counts = _kept_positions(settings), _kept_upto(settings)[lengths].tolist()
    for place, row in enumerate(rows):
        inputs[place, : lengths[place]] = ids[row_starts[row] : row_starts[row + 1]]
        keep[place, kept[: counts[place]]] = True
    output = read_layer(lm, inputs, settings["layer"])[keep.to(lm.device)]
    stored = output.to("cpu", getattr(torch, settings["stored_in"]))
    if not torch.isfinite(stored).all():
        where = f"The output of layer {settings['layer']} of {lm.name!r} in {settings['computed_in']}"
        if torch.isfinite(output).all():
            raise ValueError(
                f"{where} reaches {output.abs().max():.0f}, beyond float16 (65,504): drop the positions with massive "
                "activations, or load the model with dtype='bfloat16'."
            )
        raise ValueError(f"{where} is NaN or infinite: load the model with dtype='float32' or read another layer.")
    yield from zip(rows.tolist(), stored.split(counts), strict=True)


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

"""One way in for data: whatever holds activations becomes rows that can be asked for by number, or batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from saelite import arguments

# Beyond so many bytes a digest reads the shape, the type and a spread sample of rows instead of everything.
DIGEST_WHOLE, DIGEST_ROWS = 4 * 2**30, 16_384
TAKEN = "a tensor, a NumPy array or memory map, an ActivationStore, a DataLoader, or an iterable of batches"


class Rows:
    """Activations in an array, as float32 rows that are asked for by number.

    Parameters
    ----------
    array : tensor or NumPy array of shape (..., d_in)
        Of any floating type; a memory map is read where it is asked for. Leading dimensions become one.

    Attributes
    ----------
    d_in : int

    Examples
    --------
    >>> rows = Rows(np.zeros((6, 4, 8), dtype=np.float16))
    >>> len(rows), rows.d_in, rows[2:5].dtype
    (24, 8, torch.float32)
    """

    def __init__(self, array: torch.Tensor | np.ndarray) -> None:
        floating = array.is_floating_point() if isinstance(array, torch.Tensor) else array.dtype.kind == "f"
        if array.ndim < 2 or 0 in array.shape:
            raise ValueError(
                f"Activations have shape (n, d_in), with n of 1 or more; these have shape {tuple(array.shape)}."
            )
        if not floating:
            raise ValueError(f"Activations are floating-point numbers; these are {array.dtype}: convert them first.")
        self.array = array.reshape(-1, array.shape[-1])
        self.d_in = array.shape[-1]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return the rows of a slice, or of a list or array of numbers, as float32. Shape (n, d_in)."""
        if isinstance(self.array, torch.Tensor):
            which = torch.from_numpy(which) if isinstance(which, np.ndarray) else which
            return self.array[which].detach().float()
        return torch.from_numpy(np.array(self.array[which], dtype=np.float32))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the rows are, as plain JSON: shape, type, and a digest of their content.

        Of an array above 4 GB the digest is of 16,384 rows spread over it, and `digest_of` says so.
        """
        whole = len(self) * self.d_in * self.array.dtype.itemsize <= DIGEST_WHOLE
        spread = np.linspace(0, len(self) - 1, DIGEST_ROWS).round().astype(int)
        chunks = (slice(i, i + 65_536) for i in range(0, len(self), 65_536)) if whole else [spread]
        digest = hashlib.sha256()
        for which in chunks:
            part = self.array[torch.from_numpy(which) if isinstance(self.array, torch.Tensor) and not whole else which]
            if isinstance(part, torch.Tensor):
                part = part.detach().cpu().contiguous().view(torch.uint8).numpy()
            digest.update(np.ascontiguousarray(part).tobytes())
        return {
            "source": "activations given",
            "shape": [len(self), self.d_in],
            "dtype": str(self.array.dtype).removeprefix("torch."),
            "digest": digest.hexdigest()[:32],
            "digest_of": "all rows" if whole else f"{DIGEST_ROWS:,} rows spread over all",
        }

    def part(self, start: int, stop: int) -> Rows:
        """The rows from `start` to `stop`, without copying them."""
        return Rows(self.array[start:stop])


class Batches(Sequence):
    """Shuffled batches of rows, one pass after another, each in an order of its own.

    Parameters
    ----------
    rows : Rows, or an ActivationStore
        With a length, ``settings``, and float32 rows for an ascending array of numbers.
    batch_size : int
        A last batch of a pass that would be smaller is left out.
    epochs : int
        Passes over the rows.
    seed : int
        Of the orders.

    Raises
    ------
    ValueError
        If there are fewer rows than one batch takes.
    """

    def __init__(self, rows: Any, batch_size: int, epochs: int = 1, seed: int = 0) -> None:
        arguments.whole(1, batch_size=batch_size, epochs=epochs)
        arguments.whole(0, arguments.LARGEST_SEED, seed=seed)
        if len(rows) < batch_size:
            raise ValueError(
                f"There are {len(rows):,} activations here, too few for one batch of {batch_size:,}: "
                "give more activations or make the batch smaller."
            )
        self.rows, self.batch_size, self.epochs, self.seed = rows, batch_size, epochs, seed
        self.per_epoch = len(rows) // batch_size
        self._epoch, self._order = None, None

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __getitem__(self, i: int) -> torch.Tensor:
        """Return batch `i`, a float32 tensor of shape (batch_size, d_in)."""
        if not 0 <= i < len(self):
            raise IndexError(f"There is no batch {i}: there are {len(self)}, from 0.")
        epoch, place = divmod(i, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        # Which activations share a batch is random; their order inside it is free, and a disk reads forwards best.
        return self.rows[np.sort(self._order[place * self.batch_size : (place + 1) * self.batch_size])]

    @property
    def settings(self) -> dict[str, Any]:
        """All that the batches follow from, as plain JSON values."""
        return self.rows.settings | {"batch_size": self.batch_size, "epochs": self.epochs, "seed": self.seed}


def rows(data: Any) -> Any:
    """Activations as rows: ``len(rows)``, ``rows.d_in``, and float32 tensors ``rows[i:j]`` of shape (n, d_in).

    Parameters
    ----------
    data : tensor, NumPy array, memory map, ActivationStore, DataLoader, or iterable of batches
        Of any floating type and with any leading dimensions. What can only be walked through, as a DataLoader, is read
        into memory.

    Returns
    -------
    Rows, or the ActivationStore that was given

    Raises
    ------
    ValueError
        If `data` is something else, or holds no rows.

    Examples
    --------
    >>> len(rows(torch.zeros(2, 3, 8))), len(rows([torch.zeros(5, 8), torch.zeros(4, 8)]))
    (6, 9)
    """
    if isinstance(data, torch.Tensor | np.ndarray):
        return Rows(data)
    if is_rows(data):
        return data
    parts, size = [], 0
    for part in each_batch(data):
        size += part.nbytes
        arguments.memory(size, "These batches, which are read into memory,")
        parts.append(part.cpu())
    if not parts:
        raise ValueError("These batches hold no activations.")
    return Rows(torch.cat(parts))


def batches(data: Any, batch_size: int = 1024, epochs: int = 1, seed: int = 0) -> Sequence | Iterable[torch.Tensor]:
    """Batches to train on. What comes in batches already is taken as it comes; all else is shuffled.

    Parameters
    ----------
    data : as for :func:`rows`
    batch_size, epochs, seed
        As in :class:`Batches`; they do nothing to data that come in batches.

    Returns
    -------
    sequence, or iterable, of tensors of shape (batch, d_in)
    """
    if isinstance(data, torch.Tensor | np.ndarray) or is_rows(data):
        if hasattr(data, "batches"):  # a store's held-out part is not for training
            return data.batches(batch_size, epochs=epochs, seed=seed)
        return Batches(rows(data), batch_size, epochs, seed)
    if hasattr(data, "settings") and hasattr(data, "__getitem__"):
        return data
    numbered = isinstance(data, Sequence) and not isinstance(data, str)
    return (_Numbered if numbered else _Sized if isinstance(data, Sized) else _Stream)(data)


def is_rows(data: Any) -> bool:
    """Whether `data` gives rows by number already, as :class:`Rows` and an ActivationStore do."""
    return all(hasattr(data, name) for name in ("d_in", "settings", "part", "__getitem__"))


def each_batch(data: Any) -> Iterator[torch.Tensor]:
    """Every batch of an iterable as a tensor (n, d_in) of floating type, or an error that names what was given."""
    _refuse_others(data)
    for number, batch in enumerate(data):
        yield one_batch(batch, number)


def one_batch(batch: Any, number: int = 0) -> torch.Tensor:
    """A batch as a tensor (n, d_in) of floating type; a DataLoader's tuple of one tensor is that tensor."""
    if isinstance(batch, tuple | list) and len(batch) == 1:
        (batch,) = batch
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    if not isinstance(batch, torch.Tensor):
        of = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise ValueError(
            f"Batch {number} is a {type(batch).__name__}{of}, not a tensor of shape (batch, d_in): "
            "give batches of activations alone."
        )
    if not batch.is_floating_point():
        raise ValueError(f"Activations are floating-point numbers; batch {number} is {batch.dtype}: convert it first.")
    if batch.ndim < 2:
        raise ValueError(f"Batch {number} has shape {tuple(batch.shape)}; a batch has shape (batch, d_in).")
    return batch.reshape(-1, batch.shape[-1])


def _refuse_others(data) -> None:
    if isinstance(data, str | bytes | PurePath | dict) or not isinstance(data, Iterable):
        is_path = isinstance(data, str | PurePath)
        hint = '; open the file first, as with np.load(path, mmap_mode="r")' if is_path else ""
        raise ValueError(f"Activations are given as {TAKEN}, not as {type(data).__name__}{hint}.")


class _Stream:
    """An iterable of batches, each looked at as it comes."""

    def __init__(self, data) -> None:
        _refuse_others(data)
        self.data = data

    def __iter__(self) -> Iterator[torch.Tensor]:
        return each_batch(self.data)


class _Sized(_Stream):
    def __len__(self) -> int:
        return len(self.data)


class _Numbered(_Sized, Sequence):
    def __getitem__(self, i: int) -> torch.Tensor:
        return one_batch(self.data[i], i)

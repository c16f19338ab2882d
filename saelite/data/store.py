"""A store of activations on disk, read through a memory map, and shuffled batches of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from saelite.data.token_rows import first_activations, kept_positions

HELD_OUT_SHARE = 0.1  # unless the record of a store says otherwise


class ActivationStore:
    """Activations on disk, read through a memory map.

    The last tenth, or the share that its record states, is held out for evaluation, cut where a document (a text, or
    an image) starts, so that none is in both parts.

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
        self._kept = kept_positions(self.record)
        self._first = first_activations(self._row_starts, self._kept)
        self._range = (0, self.record["tokens"])
        share = self.record.get("held_out", HELD_OUT_SHARE)
        self._cut = self._first[_held_out_row(self._first, documents, share)]

    @property
    def d_in(self) -> int:
        """Width of an activation."""
        return self.record["d_in"]

    @property
    def train(self) -> "ActivationStore":
        return self._part(0, self._cut)

    @property
    def held_out(self) -> "ActivationStore":
        if self._cut == self.record["tokens"]:
            raise ValueError("All activations come from one text, so none can be held out: give more texts.")
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


def _held_out_row(first: np.ndarray, documents: np.ndarray, share: float) -> int:
    """First held-out row: where the first document starts in the last `share`, or, if none does, the last document."""
    earliest = int(np.searchsorted(first, (1 - share) * first[-1]))
    starts = np.flatnonzero(np.diff(documents)) + 1
    if not len(starts):
        return len(documents)  # one document: nothing can be held out
    later = starts[starts >= earliest]
    return int(later[0] if len(later) else starts[-1])

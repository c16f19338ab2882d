"""A store of activations on disk, read through a memory map, and shuffled batches of it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import torch

from saelite.data.batches import Batches, Rows
from saelite.data.token_rows import TokenRows, kept_positions
from saelite.storage import cache

HELD_OUT_SHARE = 0.1  # unless the record of a store says otherwise


class ActivationStore(Rows):
    """Activations on disk, read through a memory map; ``store[i:j]`` or ``store[[3, 1, 4]]`` gives float32 rows.

    The last tenth, or the share that its record states, is held out for evaluation. The cut is where a document (a
    text, or an image) starts, so that none is in both parts.

    Parameters
    ----------
    folder : str or pathlib.Path
        A store that :func:`saelite.data.harvest.harvest` made.

    Attributes
    ----------
    record : dict
        Every setting of the harvest, and what it found: rows, documents, dropped positions, median norm.
    d_in : int
        Width of an activation.
    train, held_out : ActivationStore
        The two parts, each with everything a store has, counted from 0.
    documents : numpy.ndarray
        Index, in the text set, of the text that each activation comes from. Shape (len(self),).
    settings : dict
        What the activations are, as plain JSON values: the store's name, which all follows from, and the part of it.

    Raises
    ------
    ValueError
        If the folder does not hold a whole store; and if a part is held out of a single text.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM
    >>> from saelite.data.harvest import LanguageModel, harvest
    >>> config = LlamaConfig(vocab_size=384, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> cpu, model = torch.device("cpu"), LlamaForCausalLM(config)
    >>> lm = LanguageModel(model, ByT5Tokenizer(), "tiny", cpu, torch.float32, n_layers=2, d_model=16)
    >>> made = harvest(lm, ["A text."] * 20, layer=1, tokens=100, folder=tempfile.mkdtemp(), progress=False)
    >>> ActivationStore(made.folder)
    ActivationStore(100 x 16, tiny layer 1, given texts)
    >>> made[[3, 1, 4]].shape, len(made.held_out), len(made.batches(40, epochs=2))
    (torch.Size([3, 16]), 10, 4)
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        try:
            self.record = json.loads((self.folder / "record.json").read_text(encoding="utf-8"))
            self._rows = TokenRows.load(self.folder / "rows.safetensors")
            self._all = mapped(self.folder / "activations.bin", self.record)
        except (OSError, RuntimeError, KeyError, ValueError, safetensors.SafetensorError) as error:
            words = f"{self.folder} does not hold a whole activation store: delete it and harvest again ({error})."
            raise ValueError(words) from error
        super().__init__(self._all)
        self._range = (0, len(self._all))
        self._kept = kept_positions(self.record)
        self._first = self._rows.first_activations(self.record)
        share = self.record.get("held_out", HELD_OUT_SHARE)
        self._cut = int(self._first[_held_out_row(self._first, self._rows.documents, share)])

    @property
    def train(self) -> "ActivationStore":
        return self._between(0, self._cut)

    @property
    def held_out(self) -> "ActivationStore":
        if self._cut == len(self._all):
            raise ValueError("All activations come from one text, so none can be held out: give more texts.")
        return self._between(self._cut, len(self._all))

    def part(self, start: int, stop: int) -> "ActivationStore":
        """Return the activations from `start` to `stop`, counted from 0 in this store or part, without copying them."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return self._between(self._range[0] + start, self._range[0] + stop)

    def _between(self, start: int, stop: int) -> "ActivationStore":
        part = copy.copy(self)
        part._range, part.array = (start, stop), self._all[start:stop]
        return part

    @property
    def documents(self) -> np.ndarray:
        return self._rows.documents[np.searchsorted(self._first, np.arange(*self._range), side="right") - 1]

    @property
    def settings(self) -> dict:
        return {"source": f"activations {self.folder.name}", "range": list(self._range)}

    def batches(self, batch_size: int, *, epochs: int = 1, seed: int = 0) -> Batches:
        """Return :class:`saelite.data.batches.Batches` to train on; of a whole store, from its `train` part alone."""
        return Batches(self.train if len(self) == len(self._all) else self, batch_size, epochs, seed)

    def context_of(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the row of tokens that an activation belongs to, and its position among them.

        The token ids have shape (length,); up to that position they are all that the model saw. `index` counts from 0
        in this store or part. Raises IndexError if there is no such activation.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index={index} is outside this store of {len(self)} activations.")
        index = int(index) + self._range[0]
        row = int(np.searchsorted(self._first, index, side="right")) - 1
        start, stop = self._rows.row_starts[row : row + 2]
        return self._rows.ids[start:stop].long(), int(self._kept[index - self._first[row]])

    def __repr__(self) -> str:
        r = self.record
        return f"ActivationStore({len(self):,} x {self.d_in}, {r['model_name']} layer {r['layer']}, {r['text_set']})"


def open_or_make(settings: dict, folder: Path | str | None, make: Callable[[Path], None]) -> ActivationStore:
    """Open the store that follows from `settings`, after `make` has made it in `folder` (None: the cache) if needed."""
    final = (cache.folder() / "activations" if folder is None else Path(folder)) / cache.key(**settings)
    with cache.only_maker(final) as missing:
        if missing:
            make(final)
        return ActivationStore(final)


def mapped(file: Path, record: dict) -> torch.Tensor:
    """Map a store's file of activations into memory, as a tensor of shape (tokens, d_in)."""
    tokens, d_in, dtype = record["tokens"], record["d_in"], getattr(torch, record["stored_in"])
    return torch.from_file(str(file), shared=False, size=tokens * d_in, dtype=dtype).view(tokens, d_in)


def _held_out_row(first: np.ndarray, documents: np.ndarray, share: float) -> int:
    """First held-out row: where the first document starts in the last `share`, or, if none does, the last document."""
    starts = np.flatnonzero(np.diff(documents)) + 1  # of all but the first
    later = starts[starts >= np.searchsorted(first, (1 - share) * first[-1])]
    return int([*later[:1], *starts[-1:], len(documents)][0])  # of one document nothing can be held out

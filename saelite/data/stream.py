"""Activations straight from the model, shuffled in memory and never on a disk: for more than a disk holds.

The paper trains on 500 million activations. Those of Gemma-2-2B take 2.3 TB in 16 bits; here they live as long as it
takes to train on them. The price: every SAE has the model run anew over the same texts.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from saelite.data import token_rows
from saelite.data.harvest import FORMAT, batches_of, run_rows, settings_of
from saelite.data.language_models import LanguageModel
from saelite.data.token_rows import Texts, TextStream, TokenRows, hash_texts, hash_tokenizer, tokenised

BUFFER = 500_000
FIRST_TEXTS = 64  # of a stream, that are in a key in place of all


class StreamedActivations(Sequence):
    """Shuffled batches of activations, computed when they are asked for.

    A buffer on the model's device is filled, shuffled, given out to the last batch, and filled anew with the texts that
    follow. So activations that share a batch come from up to `buffer` neighbouring ones, thousands of texts.

    ``batches[i]``, float32 of shape (batch_size, d_in) on the model's device, depends on the texts, the settings and
    `i` alone, so training resumes bit for bit; only the texts before are tokenised again.

    Parameters
    ----------
    lm : LanguageModel
    texts : datasets.IterableDataset, datasets.Dataset or list of str
        As in `harvest`; a stream (``load_texts(..., streaming=True)``) is taken as it comes, others in an order drawn
        by the seed.
    layer, site, context, batch, drop_positions
        As in :func:`saelite.data.harvest.harvest`.
    tokens, buffer : int
        Activations in all, and in the buffer, each cut to a whole number of batches. One in the buffer takes 2 bytes
        per dimension.
    batch_size : int
        Activations in a batch.
    seed : int
        Of the shuffling, and of the order of texts that are not a stream.

    Attributes
    ----------
    d_in : int
        Width of an activation.
    settings : dict
        All that the batches follow from, as plain JSON values. A stream is too long to read twice, so its name and its
        first texts are taken for all of it: a set that was changed further on would not be noticed.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range or `texts` are no texts; and when a batch is asked for that they are too short for.
    """

    def __init__(
        self,
        lm: LanguageModel,
        texts: Texts | TextStream,
        *,
        layer: int,
        tokens: int,
        site: str = "residual",
        context: int = 128,
        batch: int = 8,
        drop_positions: Iterable[int] = (0,),
        buffer: int = BUFFER,
        batch_size: int = 1024,
        seed: int = 0,
    ):
        counts = {"tokens": tokens, "context": context, "batch": batch}
        settings = settings_of(lm, layer, site, **counts, drop_positions=drop_positions)
        if not 1 <= batch_size <= min(buffer, tokens):
            limits = f"at least 1 and at most buffer={buffer} and tokens={tokens}"
            raise ValueError(f"batch_size={batch_size} must be {limits}.")
        self.lm, self.texts, self.batch_size, self.seed, self.d_in = lm, texts, batch_size, seed, lm.d_model
        self.per_buffer = buffer // batch_size
        self._length = tokens // batch_size
        if isinstance(texts, TextStream):
            first = [row["text"] for row in texts.take(FIRST_TEXTS)]
            known = [texts.info.description or texts.info.dataset_name or "", hash_texts(first)]
        else:
            first, known = texts, [hash_texts(texts)]
        self.settings = settings | {
            "format": FORMAT,
            "source": "stream",
            "texts": known,
            "first_tokens": hash_tokenizer(lm, first, np.arange(len(first))),
            "tokens": self._length * batch_size,
            "buffer": self.per_buffer * batch_size,
            "batch_size": batch_size,
            "seed": seed,
        }
        self._rows, self._next = None, 0  # rows that are left, and the filling that begins with them
        self._filling, self._buffer, self._order = None, None, None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> torch.Tensor:
        if not 0 <= i < len(self):
            raise IndexError(f"There is no batch {i}: there are {len(self)}, from 0.")
        filling, place = divmod(i, self.per_buffer)
        if filling != self._filling:
            self._fill(filling)
        return self._buffer[self._order[place * self.batch_size : (place + 1) * self.batch_size]].float()

    def _fill(self, filling: int) -> None:
        """Compute and shuffle the activations of one filling of the buffer."""
        if self._rows is None or filling < self._next:
            order = None
            if not isinstance(self.texts, TextStream):
                order = np.random.default_rng(self.seed).permutation(len(self.texts))
            self._rows, self._next = token_rows.rows_of(tokenised(self.lm, self.texts, order), self.settings), 0
        try:
            for number in range(self._next, filling + 1):  # those before are only tokenised, to find where this begins
                rows, found = token_rows.take(self._rows, self._size(number), self.settings)
                if found < self._size(number):
                    raise ValueError(
                        f"The texts ended after {number * self.settings['buffer'] + found:,} of the "
                        f"{self.settings['tokens']:,} activations asked for: ask for fewer tokens, or give more text."
                    )
                self._next = number + 1
        except BaseException:  # a network that fails, Ctrl-C: rows that were read are lost, so begin anew when asked
            self._rows = None
            raise
        rows, self._filling = TokenRows.join(rows), None  # until it is whole
        if self._buffer is None:
            dtype = getattr(torch, self.settings["stored_in"])
            self._buffer = torch.empty(self._size(0), self.d_in, dtype=dtype, device=self.lm.device)
        done = 0
        for some in batches_of(rows, self.settings):
            activations, _ = run_rows(self.lm, rows, some, self.settings)
            self._buffer[done : done + len(activations)] = activations
            done += len(activations)
        order = np.random.default_rng([self.seed, filling]).permutation(done)
        self._order, self._filling = torch.from_numpy(order).to(self.lm.device), filling

    def _size(self, filling: int) -> int:
        """Activations in a filling; the last may hold fewer than the others."""
        return min(self.per_buffer, self._length - filling * self.per_buffer) * self.batch_size

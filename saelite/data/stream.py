"""Activations straight from the model, shuffled in memory and never on a disk: for more than a disk holds.

The paper trains on 500 million activations. Those of Gemma-2-2B take 2.3 TB in 16 bits; here they live as long as it
takes to train on them. The price: every SAE that is trained has the model run anew over the same texts, where a store
(`saelite.data.harvest`) is harvested once.
"""

import json

import datasets
import numpy as np
import torch

from saelite.data.harvest import FORMAT, harvest, like_lengths, run_rows, settings_of
from saelite.data.language_models import LanguageModel
from saelite.data.store import ActivationStore, Batches
from saelite.data.token_rows import DOCUMENTS_AT_ONCE, hash_texts, join, kept_upto, rows_of, short_hash, take, tokenise

BUFFER = 500_000
FIRST_TEXTS = 64  # of a stream, that stand for all of it in a key


class StreamedActivations:
    """Shuffled batches of activations, computed when they are asked for.

    A buffer on the model's device is filled, shuffled, given out to the last batch, and filled anew with the texts that
    follow. So activations that share a batch come from up to `buffer` neighbouring ones, thousands of texts.

    ``batches[i]`` depends on the texts, the settings and `i` alone: training resumes bit for bit, and at once but for
    tokenising what came before. Asked in order, each text is read once.

    Parameters
    ----------
    lm : LanguageModel
    texts : datasets.IterableDataset, datasets.Dataset or list of str
        With a ``text`` column, such as :func:`saelite.data.corpora.load_texts` gives. A stream is taken as it comes,
        others in an order drawn by the seed.
    layer, site, context, batch, drop_positions
        As in :func:`saelite.data.harvest.harvest`.
    tokens : int
        Activations in all, cut to a whole number of batches.
    buffer : int
        Activations in the buffer, cut to a whole number of batches: 2 bytes a dimension each.
    batch_size : int
        Activations in a batch.
    seed : int
        Of the shuffling, and of the order of texts that are not a stream.

    Attributes
    ----------
    settings : dict
        All that the batches follow from, as plain JSON values. Of a stream, which is too long to read twice, only its
        name and its first texts stand there: a set that was changed further on would not be noticed.

    Raises
    ------
    ValueError
        If a setting is out of range; and when a batch is asked for that the texts are too short for.
    TypeError
        If `texts` are no texts.

    Examples
    --------
    >>> texts = load_texts("Skylion007/openwebtext", streaming=True)             # doctest: +SKIP
    >>> batches = StreamedActivations(lm, texts, layer=12, tokens=500_000_000)   # doctest: +SKIP
    >>> train(sae, batches)                                                      # doctest: +SKIP
    """

    def __init__(
        self,
        lm: LanguageModel,
        texts,
        *,
        layer: int,
        tokens: int,
        site: str = "residual",
        context: int = 128,
        batch: int = 8,
        drop_positions=(0,),
        buffer: int = BUFFER,
        batch_size: int = 1024,
        seed: int = 0,
    ):
        settings = settings_of(lm, layer=layer, site=site, tokens=tokens, context=context, batch=batch,
                               drop_positions=drop_positions, seed=seed)  # fmt: skip
        if not 1 <= batch_size <= min(buffer, tokens):
            raise ValueError(
                f"batch_size={batch_size} must be at least 1 and at most buffer={buffer} and tokens={tokens}."
            )
        self.lm, self.texts, self.batch_size, self.seed = lm, texts, batch_size, seed
        self.d_in = lm.d_model
        self.per_buffer = buffer // batch_size
        self._length = tokens // batch_size
        texts_known, first = _known_by(texts)
        self.settings = settings | {
            "format": FORMAT,
            "source": "stream",
            "texts": texts_known,
            "first_tokens": short_hash(json.dumps(tokenise(lm, first, np.arange(len(first))[:16])).encode()),
            "tokens": self._length * batch_size,
            "buffer": self.per_buffer * batch_size,
            "batch_size": batch_size,
        }
        self._rows, self._next = None, 0  # rows that are left, and the filling that begins with them
        self._filling, self._buffer, self._order = None, None, None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> torch.Tensor:
        """Return batch `i`, a float32 tensor of shape (batch_size, d_in) on the model's device."""
        if not 0 <= i < len(self):
            raise IndexError(f"There is no batch {i}: there are {len(self)}, from 0.")
        filling, place = divmod(i, self.per_buffer)
        if filling != self._filling:
            self._fill(filling)
        return self._buffer[self._order[place * self.batch_size : (place + 1) * self.batch_size]].float()

    def __iter__(self):
        for i in range(len(self)):
            yield self[i]

    def _fill(self, filling: int) -> None:
        """Compute and shuffle the activations of one filling of the buffer."""
        if self._rows is None or filling < self._next:
            self._rows, self._next = rows_of(self._documents(), self.settings), 0
        try:
            while self._next <= filling:  # of those before, only the tokens are needed, to find where this one begins
                rows = self._take(self._next)
                self._next += 1
        except BaseException:  # a network that fails, Ctrl-C: rows that were read are lost, so begin anew when asked
            self._rows = None
            raise
        ids, row_starts, _ = join(rows)
        size = self._size(filling)
        self._filling = None  # until it is whole
        if self._buffer is None:
            dtype = getattr(torch, self.settings["stored_in"])
            self._buffer = torch.empty(self._size(0), self.d_in, dtype=dtype, device=self.lm.device)
        done = 0
        for some in like_lengths(np.diff(row_starts), self.settings["batch"] * self.settings["context"]):
            activations, _ = run_rows(self.lm, ids, row_starts, some, self.settings)
            self._buffer[done : done + len(activations)] = activations
            done += len(activations)
        order = np.random.default_rng([self.seed, filling]).permutation(size)
        self._order = torch.from_numpy(order).to(self.lm.device)
        self._filling = filling

    def _size(self, filling: int) -> int:
        """Activations in a filling; the last may hold fewer than the others."""
        return min(self.per_buffer, self._length - filling * self.per_buffer) * self.batch_size

    def _take(self, filling: int) -> list:
        rows, found = take(self._rows, self._size(filling), self.settings)
        if found < self._size(filling):
            before = filling * self.settings["buffer"]
            raise ValueError(
                f"The texts ended after {before + found:,} of the {self.settings['tokens']:,} activations asked for: "
                "ask for fewer tokens, or give more text."
            )
        return rows

    def _documents(self):
        """Tokenised texts in order, each with its index."""
        if isinstance(self.texts, datasets.IterableDataset):
            yield from enumerate(ids for _, ids in _tokenised(self.lm, self.texts))
            return
        order = np.random.default_rng(self.seed).permutation(len(self.texts))
        for start in range(0, len(order), DOCUMENTS_AT_ONCE):
            indices = order[start : start + DOCUMENTS_AT_ONCE]
            yield from zip(indices.tolist(), tokenise(self.lm, self.texts, indices), strict=True)


def training_data(
    lm: LanguageModel,
    texts,
    *,
    layer: int,
    tokens: int,
    train_tokens: int = 0,
    batch_size: int,
    site: str = "residual",
    context: int = 128,
    epochs: int = 1,
    seed: int = 0,
) -> tuple[ActivationStore, Batches | StreamedActivations]:
    """What a chapter works with: a store of activations, and batches to train on.

    Parameters
    ----------
    lm : LanguageModel
    texts : datasets.Dataset or datasets.IterableDataset
        From :func:`saelite.data.corpora.load_texts`; a stream if `train_tokens` are asked for.
    layer, site, tokens, context
        Of the store, as in :func:`saelite.data.harvest.harvest`.
    train_tokens : int
        0: the batches come from the store's `train` part. Otherwise so many activations are streamed, from the texts
        after those that the store was harvested from: none of the store's texts is trained on.
    batch_size, epochs, seed : int
        Of the batches; what is streamed is passed over once.

    Returns
    -------
    (ActivationStore, Batches or StreamedActivations)

    Raises
    ------
    ValueError
        If streamed activations are asked for more than once, or the texts are no stream.
    """
    if not train_tokens:
        store = harvest(lm, texts, layer=layer, site=site, tokens=tokens, context=context)
        return store, store.batches(batch_size, epochs=epochs, seed=seed)
    if epochs != 1:
        raise ValueError(f"epochs={epochs}: activations that are streamed are passed over once; ask for epochs=1.")
    if not isinstance(texts, datasets.IterableDataset):
        raise ValueError(f"train_tokens={train_tokens} need a stream of texts: load_texts(..., streaming=True).")
    at = {"layer": layer, "site": site, "context": context}
    settings = settings_of(lm, **at, tokens=tokens, batch=8, drop_positions=(0,), seed=seed)
    aside, rest = set_aside(lm, texts, settings)
    batches = StreamedActivations(lm, rest, **at, tokens=train_tokens, batch_size=batch_size, seed=seed)
    return harvest(lm, aside, tokens=tokens, **at), batches


def set_aside(lm: LanguageModel, texts: datasets.IterableDataset, settings: dict):
    """Take from the start of a stream as many texts as hold ``settings["tokens"]`` kept positions.

    Returns
    -------
    (datasets.Dataset, datasets.IterableDataset)
        Those texts, and the stream of all that follow.
    """
    gains, body = kept_upto(settings), settings["context"] - len(settings["row_prefix"])
    aside, found = [], 0
    for text, ids in _tokenised(lm, texts):
        aside.append(text)
        found += sum(gains[len(settings["row_prefix"]) + len(ids[i : i + body])] for i in range(0, len(ids), body))
        if found >= settings["tokens"]:
            break
    held = datasets.Dataset.from_dict({"text": aside})
    held.info.description, held.info.license = texts.info.description, texts.info.license
    return held, texts.skip(len(aside))


def _tokenised(lm: LanguageModel, stream: datasets.IterableDataset):
    """The texts of a stream, each with its tokens."""
    for some in stream.iter(DOCUMENTS_AT_ONCE):
        texts = list(some["text"])
        yield from zip(texts, lm.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"], strict=True)


def _known_by(texts):
    """What tells a text set from another: the hash of all of it, or of a stream its name and the hash of its start.

    Returns
    -------
    (list of str, texts)
        That, and texts that begin with the first: what their tokens are tells tokenizers apart.
    """
    if not isinstance(texts, datasets.IterableDataset):
        return [hash_texts(texts)[0]], texts
    first = [row["text"] for row in texts.take(FIRST_TEXTS)]
    return [texts.info.description or texts.info.dataset_name or "", hash_texts(first)[0]], first

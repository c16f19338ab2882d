"""Texts into rows of tokens, as a language model is to read them.

A row holds one text, or a piece of one: a text longer than the context goes on in the next row. Rows of like length run
together, so packing several texts into one would save nothing, and tokens would attend to another text. An end-of-text
token inside a row also gives *massive activations*: on SmolLM2's layer 15, 1% of the kept positions would hold 99% of
the squared norm. Where the tokenizer starts a text with a BOS token (Llama 3, Gemma; not SmolLM2, GPT-2), every row
starts with one. The first position of a row is an attention sink with a norm of its own (24,000 on that layer, where
the median is 170). It is dropped unless `drop_positions` says otherwise. Nothing else is.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import safetensors.torch
import torch

from saelite.data.language_models import LanguageModel

TEXTS_AT_ONCE = 256  # tokenised in one call
Texts = datasets.Dataset | Sequence[str]
TextStream = datasets.IterableDataset
Tokenised = tuple[str, list[int], int]  # a text, its token ids, its index


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens.

    Attributes
    ----------
    ids : torch.Tensor
        Token ids of all rows, end to end; int32, shape (tokens,).
    row_starts, documents : numpy.ndarray
        Where each row starts in `ids`, and where the last one ends, shape (rows + 1,); and the index of the text that
        each row comes from, shape (rows,). Both int64.
    """

    ids: torch.Tensor
    row_starts: np.ndarray
    documents: np.ndarray

    @classmethod
    def join(cls, rows: Iterable[tuple[int, np.ndarray]]) -> "TokenRows":
        """Make them of single rows, each with the index of its text."""
        documents, ids = zip(*rows, strict=True)
        row_starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
        return cls(torch.from_numpy(np.concatenate(ids)), row_starts, np.array(documents, dtype=np.int64))

    @classmethod
    def load(cls, file: Path) -> "TokenRows":
        """Read them from the file that `save` made."""
        found = safetensors.torch.load_file(file)
        return cls(found["ids"], found["row_starts"].numpy(), found["documents"].numpy())

    def save(self, file: Path) -> None:
        """Write them to a safetensors file."""
        starts, documents = torch.from_numpy(self.row_starts), torch.from_numpy(self.documents)
        file.write_bytes(safetensors.torch.save({"ids": self.ids, "row_starts": starts, "documents": documents}))

    def first_activations(self, settings: dict) -> np.ndarray:
        """Return the index of each row's first kept activation, and after the last row their number."""
        return np.concatenate([[0], np.cumsum(kept_upto(settings)[np.diff(self.row_starts)])])


def hash_contents(contents: Iterable[bytes]) -> str:
    """Return 16 hexadecimal characters that follow from some contents in their order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def hash_texts(texts: Texts) -> str:
    """Return 16 hexadecimal characters that follow from all texts in their order; TypeError if they are no texts."""
    if isinstance(texts, datasets.Dataset) and "text" in texts.column_names:
        stream = (text for some in texts.select_columns("text").iter(1000) for text in some["text"])
    elif isinstance(texts, list | tuple):
        stream = texts
    else:
        raise TypeError("texts must be a datasets.Dataset with a 'text' column, such as load_texts() gives, or a list.")
    return hash_contents(_encoded(text, i) for i, text in enumerate(stream))


def _encoded(text: str, i: int) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"texts[{i}] is {type(text).__name__}, not a string.")
    return text.encode("utf-8", "surrogatepass")


def tokenised(lm: LanguageModel, texts: Texts | TextStream, order: np.ndarray | None) -> Iterator[Tokenised]:
    """Yield texts, each with its token ids and its index, in an order; those of a stream as they come."""
    if isinstance(texts, TextStream):
        order = itertools.count()
        groups = (some["text"] for some in texts.iter(TEXTS_AT_ONCE))
    else:
        parts = (order[start : start + TEXTS_AT_ONCE].tolist() for start in range(0, len(order), TEXTS_AT_ONCE))
        in_set = isinstance(texts, datasets.Dataset)
        groups = (texts[part]["text"] if in_set else [texts[i] for i in part] for part in parts)
    numbers = iter(order)
    for group in map(list, groups):
        ids = lm.tokenizer(group, add_special_tokens=False, verbose=False)["input_ids"]
        yield from zip(group, ids, map(int, itertools.islice(numbers, len(group))), strict=True)


def hash_tokenizer(lm: LanguageModel, texts: Texts, order: np.ndarray) -> str:
    """Return 16 hexadecimal characters that tell tokenizers apart, by the tokens of the first 16 texts."""
    ids = [ids for _, ids, _ in tokenised(lm, texts, order[:16])]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def rows_of(texts: Iterable[Tokenised], settings: dict) -> Iterator[tuple[int, list[int]]]:
    """Cut what `tokenised` gives into rows, each with the index of its text, without those of which nothing is kept."""
    prefix, gains = settings["row_prefix"], kept_upto(settings)
    body = settings["context"] - len(prefix)
    for _, ids, document in texts:
        for piece in range(0, len(ids), body):
            row = prefix + ids[piece : piece + body]
            if gains[len(row)]:
                yield document, row


def take(rows: Iterator[tuple[int, list[int]]], wanted: int, settings: dict) -> tuple[list, int]:
    """Take rows until they hold `wanted` kept positions, the last one cut there; return them and how many they hold."""
    gains = kept_upto(settings)
    taken, found = [], 0
    while found < wanted and (one := next(rows, None)):
        document, row = one
        gain = int(gains[len(row)])
        if found + gain > wanted:
            row = row[: int(np.searchsorted(gains, wanted - found))]
        taken.append((document, np.array(row, dtype=np.int32)))
        found = min(found + gain, wanted)
    return taken, found


def cut_into_rows(lm: LanguageModel, texts: Texts, order: np.ndarray, settings: dict) -> TokenRows:
    """Cut texts into rows until there are as many kept positions as wanted; ValueError if there are fewer."""
    wanted = settings["tokens"]
    rows, found = take(rows_of(tokenised(lm, texts, order), settings), wanted, settings)
    if found < wanted:
        raise ValueError(
            f"The {len(order):,} texts hold {found:,} tokens at kept positions, fewer than the {wanted:,} asked for: "
            f"ask for tokens={found} or fewer, or give more text."
        )
    return TokenRows.join(rows)


def kept_positions(settings: dict) -> np.ndarray:
    """Return the positions of a full row that are kept, ascending."""
    return np.setdiff1d(np.arange(settings["context"]), settings["drop_positions"])


def kept_upto(settings: dict) -> np.ndarray:
    """Return the number of kept positions in a row of each length from 0 to the context."""
    return np.searchsorted(kept_positions(settings), np.arange(settings["context"] + 1))

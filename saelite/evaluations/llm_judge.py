"""A language model as the judge of auto-interpretability, behind any OpenAI-compatible address.

The paper's judge is GPT-4o-mini. Any server that speaks the same protocol will do, also one on this machine
(``transformers serve``, llama.cpp, vLLM, Ollama). The prompt for descriptions follows Bills et al. 2023 ("Language
models can explain neurons in language models"), the one for detection Paulo et al. (arXiv:2410.13928).
"""

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import openai

from saelite import arguments
from saelite.evaluations.judges import Passage
from saelite.storage import cache, files

DESCRIBE = """\
You study one latent of a sparse autoencoder that was trained on a language model. You are given passages on which it \
is strongly active. Tokens on which it is strong are between << and >>. Say in one short sentence what these passages, \
and the marked tokens in them, have in common. Be specific. Answer with that sentence alone."""

DETECT = """\
You are given the description of one latent of a sparse autoencoder and {n} numbered passages. For each passage, say \
whether the latent is active on it: 1 if some token in it fits the description, 0 if none does. Answer with a list of \
exactly {n} numbers, each 0 or 1, in the order of the passages and nothing else, such as {example}."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LIST = re.compile(r"\[\s*[01](?:\s*,\s*[01])*\s*\]")


class LLMJudge:
    """A :class:`saelite.evaluations.judges.Judge` that asks a language model over the network.

    The key is read from the environment variable ``OPENAI_API_KEY``, is sent to `base_url` and nowhere else, and is
    never written down; a server that needs none gets a placeholder. Settings name the address's host and no more of it.
    Every answer is kept in the cache folder as it comes, by model, host and request, so a rerun costs nothing and a run
    that broke off goes on where it was. An answer whose file was damaged since is asked for again. One that is not the
    list that was asked for counts as malformed, for all its passages.

    Parameters
    ----------
    model : str
        As the server calls it, such as "gpt-4o-mini". Tables use what follows its last slash.
    base_url : str
        Up to and with "/v1".
    input_price, output_price : float or None
        Price of a million tokens sent and received, in any currency; None where there is none to state.
    at_once : int
        Passages in one request for detection.
    timeout : float
        Seconds to wait for an answer.
    retries : int
        Further attempts, at growing intervals, when the server is busy, slow, failing or cannot be reached.
    workers : int
        Requests for detection under way at the same time.
    options : dict, optional
        What else goes into each request; ``{"temperature": 0, "max_tokens": 200}`` unless given. Some models take
        other names, such as ``max_completion_tokens``.

    Raises
    ------
    ValueError
        If the address is not an http(s) one, carries a user name, password, query or fragment, or would have the key
        sent to another machine unencrypted.
    JudgeError
        While it judges: if the server cannot be reached, refuses, or answers something else than the protocol says.
    """

    def __init__(
        self, model: str, base_url: str = "https://api.openai.com/v1", *, input_price: float | None = None,
        output_price: float | None = None, at_once: int = 10, timeout: float = 60.0, retries: int = 4,
        workers: int = 4, options: dict | None = None,
    ):  # fmt: skip
        arguments.whole(1, at_once=at_once, workers=workers)
        arguments.whole(0, retries=retries)
        arguments.above(0, timeout=timeout)
        self._key = os.environ.get("OPENAI_API_KEY", "")
        self._host = _host(base_url, self._key)
        self.model, self.name = model, model.rstrip("/").rsplit("/", 1)[-1]
        self.at_once, self.timeout, self.workers = at_once, timeout, workers
        self.options = {"temperature": 0, "max_tokens": 200} if options is None else dict(options)
        self.settings = {"judge": model, "host": self._host, "at_once": at_once, "options": self.options}
        self.input_price, self.output_price = input_price, output_price
        key = self._key or "none-needed"
        self._client = openai.OpenAI(api_key=key, base_url=base_url, timeout=timeout, max_retries=retries)
        self._lock = threading.Lock()
        self._counts = Counter(requests=0, from_cache=0, prompt_tokens=0, completion_tokens=0, malformed=0)

    def describe(self, examples: Sequence[Passage], others: Sequence[Passage]) -> str | None:
        """A sentence, or None for an empty answer. `others` are not shown: the paper's judge sees examples alone."""
        shown = "\n".join(f"{i}. {_marked(example)}" for i, example in enumerate(examples, 1))
        answer = " ".join(self._ask(DESCRIBE, shown).split())
        if not answer:
            self._count(malformed=1)
        return answer or None

    def detect(self, description: str, passages: Sequence[Passage]) -> list[bool | None]:
        """True, False or None (malformed) for each passage."""
        groups = [passages[i : i + self.at_once] for i in range(0, len(passages), self.at_once)]
        pool = ThreadPoolExecutor(self.workers)
        try:
            answers = list(pool.map(lambda group: self._detect(description, group), groups))
        finally:
            pool.shutdown(cancel_futures=True)  # after an error: what was not yet asked is not asked any more
        return [answer for group in answers for answer in group]

    def usage(self) -> dict:
        """What judging took so far: requests (answered by the server), from_cache, prompt_tokens and completion_tokens
        (of those requests, as the server counts them), malformed (answers), cost (None without prices)."""
        cost = None
        if self.input_price is not None and self.output_price is not None:
            sent, received = self._counts["prompt_tokens"], self._counts["completion_tokens"]
            cost = (sent * self.input_price + received * self.output_price) / 1e6
        return {**self._counts, "cost": cost}

    def _detect(self, description, passages):
        n = len(passages)
        example = ([1, 0, 0] * n)[:n]
        numbered = "\n".join(f"{i}. {_on_one_line(passage.text)}" for i, passage in enumerate(passages, 1))
        answer = self._ask(DETECT.format(n=n, example=example), f"Description: {description}\n\nPassages:\n{numbered}")
        lists = [json.loads(found) for found in LIST.findall(answer)]
        if len(lists) != 1 or len(lists[0]) != n:
            self._count(malformed=1)
            return [None] * n
        return [number == 1 for number in lists[0]]

    def _ask(self, instruction, content):
        """The model's answer to one request, from the cache if it was asked before."""
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": content}]
        request = {"model": self.model, "messages": messages, **self.options}
        file = cache.folder() / "answers" / f"{cache.key(host=self._host, **request)}.json"
        if file.is_file() and not files.fault(file):
            self._count(from_cache=1)
            return json.loads(file.read_text(encoding="utf-8"))["answer"]
        try:
            completion = self._client.chat.completions.create(**request)
            answer = completion.choices[0].message.content or ""
        except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            kept = f"{self._counts['requests']} new answers are kept; run it again to go on from there."
            raise JudgeError(f"{self._what_went_wrong(error)} {kept}") from None
        used = {name: getattr(completion.usage, name, 0) for name in ("prompt_tokens", "completion_tokens")}
        self._count(requests=1, **used)
        with files.atomic_file(file, checksums=True) as made:
            made.write_text(json.dumps({"model": self.model, "host": self._host, "answer": answer}), encoding="utf-8")
        return answer

    def _what_went_wrong(self, error):
        """One sentence. The server's own words are repeated only where they cannot be about the key."""
        where = f"The judge {self.name!r} at {self._host}"
        match error:
            case openai.APITimeoutError():
                return f"{where} did not answer within {self.timeout:g} seconds, several times: raise the timeout."
            case openai.APIConnectionError():
                return f"{where} cannot be reached: is the server running, and is the address right?"
            case openai.RateLimitError():
                return f"{where} limits how often it may be asked, or the quota is used up: wait, or use fewer workers."
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                given = "was refused" if self._key else "is missing"
                return f"{where} wants a key, and the one in the environment variable OPENAI_API_KEY {given}."
            case openai.NotFoundError():
                return f"{where} was not found: check the model's name, and that the address ends in /v1."
            case openai.APIStatusError(status_code=code) if code < 500:
                reason = " ".join(str(error.body).split())[:200]
                if self._key and self._key in str(error.body):
                    reason = "(a reason that repeats the key)"
                return f"{where} refused the request with options {self.options} (status {code}): {reason}."
            case openai.APIStatusError(status_code=code):
                return f"{where} failed (status {code}), several times."
        return f"{where} answered with something that is no chat completion: check that the address ends in /v1."

    def _count(self, **more):
        with self._lock:
            self._counts.update(more)  # which adds


class JudgeError(RuntimeError):
    """A judge that cannot be asked: what is wrong, and that finished answers are kept."""


def _host(base_url, key):
    """The host of an address that may be asked, with the key if there is one. No error repeats the address."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("The judge's address must begin with http:// or https:// and a host.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"The judge's address on {parts.hostname} carries a user name, password or query: give it without, and the "
            "key in the environment variable OPENAI_API_KEY."
        )
    if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(
            f"The judge's address on {parts.hostname} is not encrypted, and the key in OPENAI_API_KEY would be sent "
            "there in the clear: use https, or unset the key."
        )
    return parts.hostname + (f":{parts.port}" if parts.port else "")


def _marked(passage):
    """A passage on one line with its strong tokens, or runs of them, between << and >>."""
    strong = set(passage.strong_tokens())
    pieces = []
    for i, token in enumerate(passage.tokens):
        opening = "<<" if i in strong and i - 1 not in strong else ""
        closing = ">>" if i in strong and i + 1 not in strong else ""
        pieces.append(opening + token + closing)
    return _on_one_line("".join(pieces))


def _on_one_line(text):
    return " ".join(text.split())

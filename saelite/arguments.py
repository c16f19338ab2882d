"""Settings refused in one sentence: numbers out of range, more than the memory holds, and secrets in addresses.

Each function raises ValueError for the first setting that does not fit. Those for numbers take a number or a list of
numbers by name, and never NaN, infinity, or what is no number at all.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import psutil

LARGEST_SEED = 2**63 - 1

# A user name or a password before the host, or a query in whose name or value a secret is handed over.
USER = re.compile(r"://[^/?#\s]*@|^[^/?#@\s]+:[^/?#@\s]+@[^/?#@\s]")
QUERY = re.compile(r"[?&;#][^=&;\s]*(key|token|secret|passw|pwd|sig|credential|auth|session)[^=&;\s]*=", re.IGNORECASE)


def whole(low: int, high: int | None = None, **settings: Any) -> None:
    """Whole numbers of `low` or more, and at most `high`."""
    must = f"a whole number of {low} or more" if high is None else f"a whole number from {low:,} to {high:,}"
    _each(lambda n: isinstance(n, Integral) and n >= low and (high is None or n <= high), must, settings)


def above(low: float, **settings: Any) -> None:
    """Finite numbers above `low`."""
    _each(lambda n: n > low, f"a finite number above {low}", settings)


def between(low: float, high: float, **settings: Any) -> None:
    """Numbers from `low` to `high`, both included."""
    _each(lambda n: low <= n <= high, f"a number from {low} to {high}", settings)


def each_once(**settings: Any) -> None:
    """Lists of one or more things, none of them twice."""
    for name, value in settings.items():
        if not isinstance(value, list | tuple) or not value or any(value.count(one) > 1 for one in value):
            raise ValueError(f"{name}={value!r} must be a list of one thing or more, none of them twice.")


def training(
    *, batch_size: Any, lr: Any, seed: Any, tokens: Any = None, samples: Any = None, epochs: Any = 1,
    train_tokens: Any = 0,
) -> None:  # fmt: skip
    """What a chapter trains with; of `tokens` harvested a tenth or more is held out, so a batch must fit the others."""
    whole(1, batch_size=batch_size, epochs=epochs)
    whole(0, LARGEST_SEED - 1000, seed=seed)  # chapters count on from it
    above(0, lr=lr)
    if lr > 1:
        raise ValueError(f"lr={lr} is beyond any learning rate that trains: give one of 1 or less, such as 3e-3.")
    if samples is not None:
        whole(1, samples=samples)
    if tokens is not None:
        whole(1, tokens=tokens)
        whole(0, train_tokens=train_tokens)
        if 0.8 * tokens < batch_size:
            raise ValueError(
                f"tokens={tokens} leave too few activations for a batch of {batch_size}: ask for more tokens."
            )
        if train_tokens and epochs != 1:
            raise ValueError(f"epochs={epochs}: activations that are streamed are passed over once; ask for epochs=1.")
        if 0 < train_tokens < batch_size:
            raise ValueError(f"train_tokens={train_tokens} are fewer than one batch of {batch_size}: ask for more.")


def kind(wanted: type, **given: Any) -> None:
    """Objects of one class, such as a LanguageModel where its name was given."""
    for name, value in given.items():
        if not isinstance(value, wanted):
            shown = " ".join(repr(value).split())[:60]
            raise ValueError(f"{name}={shown} is a {type(value).__name__}: give a {wanted.__name__}.")


def one_of(called: str, what: object, names: Iterable[str]) -> None:
    """A name among `names`; any other is refused with the nearest of them, and with all if they are few.

    Examples
    --------
    >>> one_of("site", "mpl", ["residual", "mlp", "attention"])
    Traceback (most recent call last):
    ValueError: There is no site 'mpl'; choose from residual, mlp, attention; did you mean mlp?
    """
    names = list(names)
    if what not in names:
        lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(str(what).lower().replace(" ", ""), lower, n=1)
        listed = "" if near and len(names) > 8 else f"; choose from {', '.join(names)}"
        raise ValueError(f"There is no {called} {what!r}{listed}{f'; did you mean {lower[near[0]]}?' if near else '.'}")


def known(kind: type) -> dict[str, type]:
    """The public classes derived from `kind` by name, one's own among them as soon as they are defined."""
    found = {}
    for one in kind.__subclasses__():
        found |= ({} if one.__name__.startswith("_") else {one.__name__: one}) | known(one)
    return found


def chosen(kind: type, what: Any, called: str, *given: Any, **named: Any) -> Any:
    """An instance of a class derived from `kind`: `what` itself, or made from `what`, a class or its name.

    Parameters
    ----------
    kind : type
        Its public subclasses may be named, by class name or by their attribute ``name``.
    what : instance, class or str
    called : str
        What to call it in an error.
    given, named
        What a class, or a name, is called with.

    Raises
    ------
    ValueError
        If there is none of that name, or `what` is something else.
    """
    if isinstance(what, kind):
        return what
    classes = known(kind)
    if not (isinstance(what, type) and issubclass(what, kind)):
        by_name = {one.name: one for one in classes.values()} | classes
        if not isinstance(what, str) or what not in by_name:
            one_of(called, what, classes)
        what = by_name[what]
    return what(*given, **named)


def memory(needed: float, what: str) -> None:
    """Refuse what takes more bytes than the machine has memory; `what` begins the sentence."""
    has = psutil.virtual_memory().total
    if needed > has:
        raise ValueError(
            f"{what} need {needed / 1e9:,.0f} GB of memory, and this machine has {has / 1e9:,.0f}: ask for fewer."
        )


def no_credentials(**texts: Any) -> None:
    """Refuse addresses that carry a user name, a password, a key or a token, without repeating them.

    Lists and dictionaries are looked through. What a run is asked for is kept with its results, for others to read.
    """
    for name, value in texts.items():
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        for one in inside:
            no_credentials(**{name: one})
        if isinstance(value, str) and (USER.search(value) or QUERY.search(value)):
            raise ValueError(
                f"{name} holds an address with a user name, a password, a key or a token in it, and would be kept with "
                "the results: give the address alone, and the secret in the environment or the settings of whatever "
                "opens the address."
            )


def _each(fits: Callable[[Any], bool], must: str, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        several = isinstance(value, list | tuple)
        for number in value if several else [value]:
            is_number = isinstance(number, Real) and not isinstance(number, bool) and math.isfinite(number)
            if not is_number or not fits(number):
                raise ValueError(f"{name}={value!r} must be {must}{', each of them' if several else ''}.")
        if several and not value:
            raise ValueError(f"{name}=[] is empty: it must hold one number or more, each {must}.")

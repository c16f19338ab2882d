"""Checks for the exercises of the book: a reader hands in an answer, and is told what is wrong with it.

One module a chapter, and in it one function an exercise: ``check_NAME(answer)`` prints a line for a right answer and
raises :class:`Wrong` for another. All rest on :func:`compare`, which knows the right answer and the likely mistakes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


class Wrong(AssertionError):
    """An answer is not right yet; the message says in what way."""


def compare(
    answer: object,
    arguments: tuple,
    right: ArrayLike,
    mistakes: Sequence[tuple[ArrayLike, str]] = (),
    *,
    tolerance: float = 1e-4,
    said: str = "Right.",
) -> None:
    """Call a reader's function and compare what it returns with the right answer and with likely wrong ones.

    Parameters
    ----------
    answer : callable, or a value
        What the reader wrote. A value is compared as it is.
    arguments : tuple
        What the function is called with.
    right : number or array-like
        What it should return.
    mistakes : list of (number or array-like, str)
        What a likely mistake returns, and what to tell the reader who made it. One that happens to equal `right` for
        these arguments could never be told from it, and is a fault of the check.
    tolerance : float
        Relative difference that counts as equal; for values near zero it is absolute.
    said : str
        What is printed for a right answer.

    Raises
    ------
    Wrong
        In a sentence that says what is wrong.
    """
    name = getattr(answer, "__name__", "the answer")
    right = _as_array(right)
    for mistake, told in mistakes:
        if _equal(_as_array(mistake), right, tolerance):
            raise ValueError(f"The arguments of this check cannot tell this mistake from the right answer: {told}")
    try:
        got = answer(*arguments) if callable(answer) else answer
    except NotImplementedError:
        got = None
    except Wrong:  # a check that wraps the answer has already said what is wrong
        raise
    except Exception as error:
        raise Wrong(f"{name} stopped with {type(error).__name__}: {error}") from error
    if got is None or got is Ellipsis:
        raise Wrong(f"{name} is not answered yet: put your own code in the place of the three dots.")
    try:
        got = _as_array(got)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{name} should give a number or an array of numbers, not {type(got).__name__}.") from None
    if got.shape != right.shape:
        wanted, given = (f"shape {value.shape}" if value.shape else "a single number" for value in (right, got))
        raise Wrong(f"{name} should give {wanted}, and gave {given}.")
    if not np.isfinite(got).all():
        raise Wrong(f"{name} gave NaN or infinity: is something divided by zero?")
    for mistake, told in mistakes:
        if _equal(got, _as_array(mistake), tolerance):
            raise Wrong(told)
    if not _equal(got, right, tolerance):
        where = np.unravel_index(np.argmax(np.abs(got - right)), right.shape)
        place = f" at {tuple(int(i) for i in where)}" if right.shape else ""
        raise Wrong(f"{name} gave {got[where]:.4g}{place} where {right[where]:.4g} is right.")
    print(said)


def _as_array(value):
    """Tensors, too, without importing torch for a chapter that needs none."""
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(value, dtype=float)


def _equal(one, other, tolerance):
    return one.shape == other.shape and np.allclose(one, other, rtol=tolerance, atol=tolerance)

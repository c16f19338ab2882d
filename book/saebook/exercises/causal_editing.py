"""Checks for the exercises of the chapter *Causal editing*."""

import numpy as np

from saebook.exercises import compare


def check_edit_score(answer: object) -> None:
    """``answer(answers, base, source, target)``: mean of Cause and Isolation, from first tokens (attributes,)."""
    answers = np.array([7, 2, 9, 4, 15])  # after the edit: attribute 0 is the source's, 2 neither's, 4 the source's
    base, source, target = np.array([1, 2, 3, 4, 5]), np.array([7, 8, 13, 14, 15]), 0
    others = np.arange(5) != target
    cause, isolation = answers[target] == source[target], (answers == base)[others].mean()
    wanted = np.where(others, base, source)
    compare(
        answer,
        (answers, base, source, target),
        (cause + isolation) / 2,
        [
            ((answers == wanted).mean(), "Cause is half of the score, not one answer among all the others."),
            (
                (cause + (answers != source)[others].mean()) / 2,
                "Isolation asks for the base's value still, not for any value but the source's.",
            ),
            (
                (cause + (answers == base).mean()) / 2,
                "Isolation is over the other attributes: leave the target out of it.",
            ),
            (cause, "This is Cause alone: replacing the whole activation would be perfect."),
            (isolation, "This is Isolation alone: doing nothing would be perfect."),
        ],
        said="Right. Now find two edits of no skill at all that score one half.",
    )


def check_edit_less(answer: object) -> None:
    """``answer(cause, isolation, share)``: the score when only a share of the pairs is edited."""
    cause, isolation, share = 0.4, 0.3, 0.25
    full = (cause + isolation) / 2
    compare(
        answer,
        (cause, isolation, share),
        share * full + (1 - share) * 0.5,
        [
            (share * full, "A pair that is left alone scores too: what are its Cause and its Isolation?"),
            (full, "This is the score when every pair is edited."),
            ((1 - share) * full + share * 0.5, "The shares are the wrong way round: `share` of the pairs are edited."),
            (
                (share * cause + isolation) / 2,
                "Cause shrinks with the share, but Isolation grows: it is 1 where nothing is done.",
            ),
            (
                share * full + (1 - share),
                "A pair left alone keeps everything, but its target does not change: it scores half.",
            ),
        ],
        said="Right. So an edit that scores below one half gains by being made less often.",
    )


def check_no_free_half(answer: object) -> None:
    """``answer(cause, isolation)``: any score that is 0 for no edit and for a swap, 1 for a perfect edit, and rises."""

    def properties():
        return _properties(answer)

    properties.__name__ = getattr(answer, "__name__", "the answer")
    compare(
        properties,
        (),
        [0, 0, 1, 1, 1],
        [
            (_properties(lambda c, i: (c + i) / 2), "That is the mean, and no edit still scores one half."),
            (
                _properties(lambda c, i: c + i - 1),
                "That is the mean, moved: an edit that does some of both is below no edit.",
            ),
            (
                _properties(lambda c, i: max(0.0, c + i - 1)),
                "Cut off at 0, an edit that does some of both scores like none.",
            ),
            (_properties(lambda c, i: c), "A swap of everything has all of the Cause: it should score 0."),
            (_properties(lambda c, i: i), "No edit has all of the Isolation: it should score 0."),
            (_properties(lambda c, i: float(c == i == 1)), "Between nothing and perfection the score should rise."),
        ],
        said="Right. Each of the two has to be there for the other to count.",
    )


def _properties(score):
    """The score of no edit, of a swap and of a perfect edit; the sign of some of both; whether it rises with both."""
    rising = [score(*both) for both in ((0.4, 0.3), (0.6, 0.5), (0.9, 0.9))]
    corners = [score(0.0, 1.0), score(1.0, 0.0), score(1.0, 1.0)]
    if any(value is None or value is Ellipsis for value in rising + corners):
        return None
    rising = np.array(rising, dtype=float)
    return [*corners, np.sign(rising[0]), np.sign(np.diff(rising).min())]

"""The exercises of the chapters on scores: every likely mistake is told what is wrong with it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from saebook.exercises import (
    Wrong,
    autointerp,
    causal_editing,
    check_your_own,
    reconstruction,
    scorecard,
    sparse_probing,
)
from test_probing import made, sae_for

from saelite.evaluations.probing import Probing
from saelite.metrics import explained_variance
from saelite.statistics import verdict


def latent_and_threshold(codes, is_yes):
    """The latent whose means differ most, where half-way between them is, and whether yes texts are above."""
    yes, no = codes[is_yes].mean(axis=0), codes[~is_yes].mean(axis=0)
    latent = abs(yes - no).argmax()
    return latent, (yes + no)[latent] / 2, yes[latent] > no[latent]


def accuracy(codes, is_yes, latent, threshold, above):
    return (((codes[:, latent] > threshold) == above) == is_yes).mean()


def chosen_on_test(train, train_is, test, test_is):
    latent = latent_and_threshold(test, test_is)[0]
    return accuracy(test[:, [latent]], test_is, 0, *latent_and_threshold(train[:, [latent]], train_is)[1:])


def threshold_on_test(train, train_is, test, test_is):
    latent, _, above = latent_and_threshold(train, train_is)
    return accuracy(test, test_is, latent, latent_and_threshold(test[:, [latent]], test_is)[1], above)


def unpaired(ours, theirs):
    rng = np.random.default_rng(5)
    draws = [rng.choice(one, (4000, len(one))).mean(axis=1) for one in (ours, theirs)]
    return np.quantile(draws[0] - draws[1], [0.025, 0.975])


def overlap(ours, theirs):
    (a, b), (c, d) = (
        [one.mean() - 1.96 * one.std() / len(one) ** 0.5, one.mean() + 1.96 * one.std() / len(one) ** 0.5]
        for one in (ours, theirs)
    )
    return a - d, b - c


def paired(ours, theirs):
    rng = np.random.default_rng(6)
    return np.quantile(rng.choice(ours - theirs, (4000, len(ours))).mean(axis=1), [0.025, 0.975])


@pytest.mark.parametrize(
    "check, answer, told",
    [
        # reconstruction
        (
            reconstruction.check_loss_recovered,
            lambda loss, m, a: (loss - m) / (a - m),
            "share of the damage that is left",
        ),
        (reconstruction.check_loss_recovered, lambda loss, m, a: (a - loss) / a, "the model's own, not 0"),
        (reconstruction.check_loss_recovered, lambda loss, m, a: a - loss, "in nats; divide"),
        (reconstruction.check_loss_recovered, lambda loss, m, a: m / loss, "ratio of two losses"),
        (reconstruction.check_loss_recovered, lambda loss, m, a: (loss - a) / (a - m), "sign is wrong"),
        (reconstruction.check_against_mean, lambda r, m, zero, mean: r, "share of zero's damage"),
        (reconstruction.check_against_mean, lambda r, m, zero, mean: zero - r * (zero - m), "now compare it"),
        (
            reconstruction.check_against_mean,
            lambda r, m, zero, mean: r * (zero - m) / (mean - m),
            "counts from the mean's",
        ),
        (
            reconstruction.check_against_mean,
            lambda r, m, zero, mean: (1 - r) * (zero - m) / (mean - m),
            "the mean's damage that is left",
        ),
        (reconstruction.check_one_number, lambda saved, lost: (saved / lost).mean(), "mean of the texts' shares"),
        (reconstruction.check_one_number, lambda saved, lost: np.median(saved / lost), "A median of shares"),
        (reconstruction.check_one_number, lambda saved, lost: np.clip(saved / lost, 0, 1).mean(), "Clipping hides"),
        (reconstruction.check_one_number, lambda saved, lost: saved / lost, r"a single number, and gave shape \(4,\)"),
        (reconstruction.check_one_number, lambda saved, lost: saved.sum(), "divide it by the loss"),
        # autointerp
        (autointerp.check_always_no, lambda firing, silent: (0.5, silent / (firing + silent)), "wrong order"),
        (autointerp.check_always_no, lambda firing, silent: (firing / (firing + silent), 0.5), "always says yes"),
        (autointerp.check_always_no, lambda firing, silent: (0.5, 0.5), "counts every passage alike"),
        (
            autointerp.check_always_no,
            lambda firing, silent: [silent / (firing + silent)] * 2,
            "on each kind of passage",
        ),
        (autointerp.check_always_no, lambda firing, silent: (silent / (firing + silent), 1), "Silent passages alone"),
        (autointerp.check_score_on_strongest, lambda r, silent, n: (r[:n].mean() + silent) / 2, "weakest deciles"),
        (autointerp.check_score_on_strongest, lambda r, silent, n: (r.mean() + silent) / 2, "over all deciles"),
        (autointerp.check_score_on_strongest, lambda r, silent, n: r[-n:].mean(), "yes to everything"),
        (
            autointerp.check_score_on_strongest,
            lambda r, silent, n: np.mean([*r[-n:], silent]),
            "counts for half, however",
        ),
        (
            autointerp.check_score_on_strongest,
            lambda r, silent, n: (r[-n:].mean() + 1 - silent) / 2,
            "not the false alarms",
        ),
        (autointerp.check_latents_needed, lambda sd, d: (2.8 * sd / d) ** 2, "Both means are uncertain"),
        (autointerp.check_latents_needed, lambda sd, d: 2 * (1.96 * sd / d) ** 2, "half the time"),
        (autointerp.check_latents_needed, lambda sd, d: 2 * ((1.645 + 0.84) * sd / d) ** 2, "1.96, not 1.64"),
        (autointerp.check_latents_needed, lambda sd, d: 2 * 2.8 * sd / d, "square the ratio"),
        (autointerp.check_latents_needed, lambda sd, d: 2 * (2.8 / d) ** 2 * sd, "spread enters squared"),
        # sparse probing
        (
            sparse_probing.check_most_different,
            lambda c, y, k: np.argsort(c[~y].mean(0) - c[y].mean(0))[:k],
            "falls silent",
        ),
        (
            sparse_probing.check_most_different,
            lambda c, y, k: np.argsort(abs(c[y].mean(0) - c[~y].mean(0)))[:k],
            "differ least",
        ),
        (
            sparse_probing.check_most_different,
            lambda c, y, k: np.argsort(abs(c[y].mean(0) - c[~y].mean(0)))[-k:],
            "best one should come first",
        ),
        (
            sparse_probing.check_most_different,
            lambda c, y, k: np.argsort(-abs(c[y].mean(0) - c[~y].mean(0)) / (c.std(0) + 1e-9))[:k],
            "units of their own spread",
        ),
        (sparse_probing.check_most_different, lambda c, y, k: np.argsort(-c[y].mean(0))[:k], "strongest on texts with"),
        (
            sparse_probing.check_most_different,
            lambda c, y, k: np.sort(abs(c[y].mean(0) - c[~y].mean(0)))[::-1][:k],
            "differences themselves",
        ),
        (
            sparse_probing.check_honest_accuracy,
            lambda train, train_is, test, test_is: accuracy(test, test_is, *latent_and_threshold(test, test_is)),
            "texts that test them",
        ),
        (sparse_probing.check_honest_accuracy, chosen_on_test, "among many latents one fits"),
        (sparse_probing.check_honest_accuracy, threshold_on_test, "threshold was set on the test texts"),
        (
            sparse_probing.check_honest_accuracy,
            lambda train, train_is, test, test_is: accuracy(train, train_is, *latent_and_threshold(train, train_is)),
            "accuracy on the training texts",
        ),
        (
            sparse_probing.check_honest_accuracy,
            lambda train, train_is, test, test_is: accuracy(
                test, test_is, *latent_and_threshold(train, train_is)[:2], True
            ),
            "this latent is lower there",
        ),
        # causal editing
        (
            causal_editing.check_edit_score,
            lambda answers, base, source, target: (answers == np.where(np.arange(5) == target, source, base)).mean(),
            "not one answer among all",
        ),
        (
            causal_editing.check_edit_score,
            lambda answers, base, source, target: (
                ((answers[target] == source[target]) + (answers[1:] != source[1:]).mean()) / 2
            ),
            "not for any value but",
        ),
        (
            causal_editing.check_edit_score,
            lambda answers, base, source, target: ((answers[target] == source[target]) + (answers == base).mean()) / 2,
            "leave the target out",
        ),
        (
            causal_editing.check_edit_score,
            lambda answers, base, source, target: answers[target] == source[target],
            "Cause alone",
        ),
        (
            causal_editing.check_edit_score,
            lambda answers, base, source, target: (answers[1:] == base[1:]).mean(),
            "Isolation alone",
        ),
        (causal_editing.check_edit_less, lambda c, i, share: share * (c + i) / 2, "left alone scores too"),
        (causal_editing.check_edit_less, lambda c, i, share: (c + i) / 2, "every pair is edited"),
        (causal_editing.check_edit_less, lambda c, i, share: share / 2 + (1 - share) * (c + i) / 2, "wrong way round"),
        (causal_editing.check_edit_less, lambda c, i, share: (share * c + i) / 2, "Isolation grows"),
        (causal_editing.check_edit_less, lambda c, i, share: share * (c + i) / 2 + 1 - share, "it scores half"),
        (causal_editing.check_no_free_half, lambda c, i: (c + i) / 2, "still scores one half"),
        (causal_editing.check_no_free_half, lambda c, i: c + i - 1, "below no edit"),
        (causal_editing.check_no_free_half, lambda c, i: max(0, c + i - 1), "scores like none"),
        (causal_editing.check_no_free_half, lambda c, i: c, "swap of everything"),
        (causal_editing.check_no_free_half, lambda c, i: i, "all of the Isolation"),
        (causal_editing.check_no_free_half, lambda c, i: c == i == 1, "Between nothing and perfection"),
        # scorecard
        (scorecard.check_verdict_of, scorecard._difference_first, "Ask for equivalence first"),
        (scorecard.check_verdict_of, scorecard._zero_is_a_match, "no match: so may"),
        (scorecard.check_verdict_of, scorecard._middle, "middle of the interval"),
        (scorecard.check_verdict_of, scorecard._beyond_margin, "leaves out zero"),
        (scorecard.check_verdict_of, lambda low, high, margin: verdict(-high, -low, margin), "above zero is better"),
        (
            scorecard.check_verdict_of,
            lambda low, high, margin: "worse",
            "from -0.01 to 0.015 and a margin of 0.02, equi",
        ),
        (scorecard.check_verdict_of, lambda low, high, margin: "a match", "'a match' is no verdict"),
        (scorecard.check_kept_and_picked, lambda g: (g.min(axis=0).max(), g.max(axis=1).min()), "wrong order"),
        (scorecard.check_kept_and_picked, lambda g: (g.max(axis=0).min(), g.min(axis=1).max()), "other way round"),
        (scorecard.check_kept_and_picked, lambda g: (g.mean(axis=1).min(), g.min(axis=0).mean()), "means over metrics"),
        (
            scorecard.check_kept_and_picked,
            lambda g: (g.min(axis=0).max(), g.min(axis=0).max()),
            "should keep one baseline",
        ),
        (scorecard.check_kept_and_picked, lambda g: (g.max(), g.min()), "extremes of the whole table"),
        (scorecard.check_paired_interval, unpaired, "drawn apart"),
        (
            scorecard.check_paired_interval,
            lambda a, b: np.quantile(a - b, [0.025, 0.975]),
            "question is for their mean",
        ),
        (scorecard.check_paired_interval, overlap, "two intervals overlap"),
        (scorecard.check_paired_interval, lambda ours, theirs: paired(theirs, ours), "ours is higher"),
        # check your own
        (check_your_own.check_factor, lambda x: 1 / x.norm(dim=1).mean(), "mean norm of 1"),
        (
            check_your_own.check_factor,
            lambda x: 8**0.5 / x.square().sum(dim=1).mean().sqrt(),
            "root of the mean square",
        ),
        (check_your_own.check_factor, lambda x: x.norm(dim=1).mean() / 8**0.5, "Turned round"),
        (check_your_own.check_factor, lambda x: len(x) ** 0.5 / x.norm(dim=1).mean(), "number of columns"),
        (check_your_own.check_factor, lambda x: 8**0.5 / x.mean(dim=0).norm(), "norm of the mean activation"),
        (check_your_own.check_factor, lambda x: 8**0.5 / x.norm(dim=1), r"a single number, and gave shape \(200,\)"),
        (check_your_own.check_fair_gap, lambda l0s, s, l0, score: score - s[abs(l0s - l0).argmin()], "nearest L0"),
        (check_your_own.check_fair_gap, lambda l0s, s, l0, score: score - s.max(), "has another L0"),
        (check_your_own.check_fair_gap, lambda l0s, s, l0, score: score - s.mean(), "at none of them"),
        (
            check_your_own.check_fair_gap,
            lambda l0s, s, l0, score: np.interp(l0, np.sort(l0s), s[np.argsort(l0s)]) - score,
            "sign is wrong",
        ),
        (
            check_your_own.check_fair_gap,
            lambda l0s, s, l0, score: score - np.interp(l0, np.sort(l0s), s),
            "sort both alike",
        ),
        (check_your_own.check_fair_gap, lambda l0s, s, l0, score: score - np.interp(l0, l0s, s), "L0s that rise"),
        (
            check_your_own.check_fair_gap,
            lambda l0s, s, l0, score: np.interp(l0, np.sort(l0s), s[np.argsort(l0s)]),
            "how far is the SAE above it",
        ),
        (
            check_your_own.check_explained_at,
            lambda sae, x, f: explained_variance(x, sae(x * f)),
            "divide before you compare",
        ),
        (
            check_your_own.check_explained_at,
            lambda sae, x, f: explained_variance(x, sae(x)),
            "multiply before it reads",
        ),
        (check_your_own.check_explained_at, lambda sae, x, f: explained_variance(x, sae(x / f) * f), "wrong way round"),
        (
            check_your_own.check_explained_at,
            lambda sae, x, f: explained_variance(x * f, sae(x)),
            "not what the SAE read",
        ),
    ],
)
def test_a_likely_mistake_is_named(check, answer, told):
    with pytest.raises(Wrong, match=told):
        check(answer)


@pytest.mark.parametrize(
    "check, answer",
    [
        (autointerp.check_latents_needed, lambda sd, d: np.ceil(2 * (2.8 * sd / d) ** 2)),
        (causal_editing.check_no_free_half, lambda c, i: (c * i) ** 0.5),
        (causal_editing.check_no_free_half, min),
        (scorecard.check_paired_interval, paired),
        (
            scorecard.check_paired_interval,
            lambda a, b: (a - b).mean() + 1.96 * (a - b).std() / 80**0.5 * np.array([-1, 1]),
        ),
        (check_your_own.check_explained_at, lambda sae, x, f: explained_variance(x * f, sae(x * f))),
    ],
)
def test_another_right_way_passes(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("Right")


def test_the_latents_of_the_exercise_are_those_that_probing_chooses():
    everyone = np.arange(len(sparse_probing.IS_YES))
    concept = SimpleNamespace(train=everyone, train_is=sparse_probing.IS_YES)
    (chosen,) = Probing._best(SimpleNamespace(k=[3]), sparse_probing.CODES.astype("float32"), [concept])
    sparse_probing.check_most_different(lambda codes, is_yes, k: chosen)


def test_texts_of_the_probing_store_are_the_rows_that_concepts_name():
    """The chapter averages the codes of a concept's texts by itself, from the public store."""
    probing = made()
    sae, documents = sae_for(probing), probing.store.documents
    with torch.no_grad():
        codes = [sae.encode(probing.store[np.flatnonzero(documents == text)]).mean(dim=0) for text in range(20)]
    assert np.allclose(torch.stack(codes).numpy(), probing._averages(sae.encode, "cpu")[:20], atol=1e-5)

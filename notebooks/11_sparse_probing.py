# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sparse probing
#
# ```{admonition} This lesson
# - **You will learn** how a few latents are made to answer a question, how much of their accuracy is owed to choosing among
#   thousands, and which {term}`yardsticks <yardstick>` need no SAE at all.
# - **You need** [Frozen Decoder](05_frozen_decoder): {term}`latent`, {term}`floor`, {term}`ceiling`.
# - **Time** 25 minutes to read, 15 more for the exercises that have a check.
# ```
#
# Is this text French? Is it about geography? Is its author pleased? If an SAE has found the {term}`features <feature>` that a model thinks in, a single latent, or a
# few, should know. {term}`Sparse probing` asks exactly that: choose the *k* latents that differ most between texts with a concept and texts
# without, and let a logistic regression (a linear classifier) answer from those *k* numbers alone. The *k* are chosen and the classifier is fitted
# on training texts; its accuracy is measured on others.
#
# {cite:t}`korznikov2026sanity` find that SAEs with random frozen parts answer nearly as well as trained ones. They also report that five latents tell
# the two apart better than one: with five, on layer 12 of Gemma-2-2B, the trained {term}`BatchTopK` SAE has 0.849, the baselines of their main figures 0.723 to 0.797. And a probe gets help
# that is easily overlooked: it may look through thousands of latents for one that fits. Among thousands of *random* {term}`directions <direction>`, one
# will fit somewhat too.
#
# **Before you read on, write down three accuracies**, where guessing gives 0.5: what will the best single latent of a trained SAE
# reach, on average over all the questions below? The best single latent of an SAE with a random decoder? And the best single coordinate of the
# model's own {term}`activation`, with no SAE at all?

# %% tags=["parameters"]
architectures: list = ["BatchTopK", "JumpReLU"]  # from ReLU, TopK, BatchTopK, JumpReLU
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set that SAEs train on: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read, counted from 0
site: str = "residual"  # what of that block: "residual" (stream after it), or what its "mlp" or its "attention" gives
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
train_tokens: int = 0  # activations to train on, streamed from the model and not kept; 0: those harvested
harvest_context: int = 128  # tokens of a row of text that the model reads at once
l0: int = 40  # active latents per token; the paper's ratio of L0 to d_in gives 40 for d_in 576
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions, of the choice of texts and of the floors
tasks: list = ["profession", "sentiment", "language", "programming language", "topic"]  # or a datasets id with columns text and label
per_label: int = 150  # texts of each label of a task; a third of them test the probes
context: int = 48  # tokens of each text that are read
k: list = [1, 2, 5, 20]  # numbers of latents that a probe may use
margin: float = 0.02  # a difference in accuracy smaller than this is of no interest

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from saebook.exercises import sparse_probing as exercises
from saebook.paper import SITE, paper_table
from saebook.setup import Markdown, keep, language_chapter, show

from saelite import Probing, arguments, plots
from saelite.evaluations.concepts import CREDITS, load_concepts
from saelite.evaluations.scorecard import against_trained
from saelite.reuse import over, references
from saelite.statistics import contrast, summarise

# wrong parameters are refused here, before anything slow runs
arguments.above(0, margin=margin)
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, activations = chapter.lm, chapter.activations
labelled = load_concepts(tasks, per_label=per_label, seed=seed)

# %% [markdown]
# ## The questions
#
# Five kinds of task, as in the paper. Each label against the others of the same task is one question; training and test texts of a
# question are half *yes*, half *no*, so that guessing gives 0.5. No text is in both, and the split is made where texts could share more
# than the concept: translations are split by message, source files by package.

# %%
evaluation = Probing(lm, labelled, layer=layer, site=site, context=context, k=k, seed=seed)
counts = labelled.pivot_table(index="task", columns="split", values="text", aggfunc="size", sort=False)
asked = pd.Series([concept.task for concept in evaluation.concepts]).value_counts()
show(
    pd.DataFrame(
        {
            "task": counts.index,
            "labels": labelled.groupby("task", sort=False)["label"].unique().map(", ".join),
            "questions": asked[counts.index].to_numpy(),
            "training texts": counts["train"],
            "test texts": counts["test"],
            "source": [CREDITS.get(task, task) for task in counts.index],
        }
    )
)

# %% tags=["hide-input"]
Markdown(
    f"In all {len(evaluation.concepts)} questions. "
    + (
        f"Of the texts, {evaluation.left_out} had to be left out, since nothing remained without the first token."
        if evaluation.left_out
        else "No text had to be left out."
    )
    + f" The probes read {len(evaluation.store):,} tokens."
)

# %% [markdown]
# Two things to know of these data. An article on a composer *says* that she was a composer, so *profession* asks whether what was read a
# few words ago can be found again, not what the model knows. And the articles of *profession* and *topic* are from the text set that
# the SAEs of this book are trained on: the SAEs saw such texts, never a label. No probe saw a test text's label.
#
# ## Floors, yardsticks and the ceiling
#
# - The {term}`ceiling`: a {term}`dense probe`, which reads all of the activation, averaged over the text.
# - Two yardsticks that need no SAE: the best *k* *neurons*, here the coordinates of the activation itself, and the best *k*
#   {term}`PCA` components, both chosen exactly as latents are.
# - A {term}`floor`: training labels in random order.
# - A second floor, of each SAE: *k* of its latents drawn at random among those that fire.

# %%
limits = summarise(references(evaluation), ["kind", "reference", "metric", "k"])
show(limits.drop(columns="k"))

# %% [markdown]
# ## Trained and frozen
#
# If an earlier chapter trained these SAEs, they are read from the cache. Every SAE encodes every {term}`token` once; all questions are answered from those
# codes, averaged over the tokens of a text.

# %%
saes, _ = chapter.train_grid()

# %%
items = over(saes, evaluation)
summary = summarise(items, ["architecture", "baseline", "metric", "k"])
chosen = [f"probe k={n}" for n in evaluation.k]
scores = summary[summary["metric"].isin(chosen)]
drawn = summary[~summary["metric"].isin(chosen)]

# %% tags=["hide-input"]
silent = items.groupby(["architecture", "baseline"], sort=False)["fired"].first()
silent = [", ".join(names) for names, fired in silent.items() if fired == 0]
Markdown(
    "No latent of these SAEs fires on any training text, so their probes guess and their 0.5 is no finding: "
    + "; ".join(silent)
    if silent
    else "Every SAE has latents that fire on these texts."
)

# %% [markdown]
# Read the figure at *k* = 1 first: how far is each SAE above the grey band of random latents, and is it above the best neurons? Then go to the
# right, where a probe may use more latents: do the baselines keep up with the trained SAE, or does the gap open? And how much is left to the dense
# probe?

# %% mystnb={"image": {"alt": "Line charts of probe accuracy against the number of latents k, one panel an architecture, one line with intervals for each variant, with lines for the dense probe, best neurons and PCA components above and a grey band for random latents and shuffled labels below."}, "figure": {"name": "fig-probing", "caption": "Accuracy of sparse probes on test texts, mean over questions with 95% bootstrap intervals over questions. Grey lines: the dense probe and the two yardsticks. Grey band: the range of random latents over all SAEs of the panel; dotted: shuffled labels."}}
places = {n: place for place, n in enumerate(evaluation.k)}
figure, grid = plt.subplots(1, len(activations), figsize=(3.6 * len(activations), 4), sharey=True, squeeze=False)
looks = dict(zip(limits["reference"].unique(), ("-", "--", "-.", ":"), strict=True))
for axes, activation in zip(grid[0], activations, strict=True):
    for reference, of_reference in limits.groupby("reference", sort=False):
        axes.plot(of_reference["k"].map(places), of_reference["score"], looks[reference], color=plots.GREY, lw=1.2, label=reference)
    band = drawn[drawn["architecture"] == activation.name].groupby("k")["score"]
    axes.fill_between(places.values(), band.min(), band.max(), color=plots.GREY, alpha=0.3, lw=0, label="random latents")
    for shift, baseline in enumerate(scores["baseline"].unique()):
        own = scores[(scores["architecture"] == activation.name) & (scores["baseline"] == baseline)]
        spread = [own["score"] - own["low"], own["high"] - own["score"]]
        at = own["k"].map(places) + 0.08 * (shift - 2)
        axes.errorbar(at, own["score"], yerr=spread, fmt="o-", ms=4, lw=1, color=plots.COLOURS[baseline], label=baseline)
    axes.set(title=activation.name, xlabel="latents k", xticks=list(places.values()), xticklabels=list(places))
    axes.set_ylim(top=1.01)
grid[0, 0].set_ylabel("accuracy on test texts")
figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
figure;

# %%
show(scores.drop(columns="k"))

# %% [markdown]
# Back to your three accuracies:

# %% tags=["hide-input"]
smallest = chosen[0]
at_smallest = scores[scores["metric"] == smallest]
unaided = limits[limits["metric"] == smallest].set_index("reference")["score"]
lines = [
    f"- {row.architecture}, {row.baseline}: {row.score:.3f} [{row.low:.3f}, {row.high:.3f}]"
    for row in at_smallest[at_smallest["baseline"].isin(["fully trained", "Frozen Decoder"])].itertuples()
]
lines.append(f"- no SAE, the best of the activation's own coordinates: {unaided['best neurons']:.3f}; the dense probe has {unaided['dense probe']:.3f}")
Markdown(f"At {smallest.removeprefix('probe ')}:\n\n" + "\n".join(lines))

# %% [markdown]
# ## Told apart?
#
# The same texts were asked of every SAE, so differences are paired; they are drawn over questions, since texts of one question are not independent
# of each other. An interval so speaks of other questions like these. The {term}`verdicts <verdict>` are those of [Reconstruction](09_reconstruction): *equivalent*
# needs the whole interval within the {term}`margin <equivalence margin>`, *worse* needs it below zero, and *not told apart* is neither.
# *Detectable* is the smallest difference that as many questions would have shown four times in five.

# %%
contrasts = against_trained(items[items["metric"].isin(chosen)], margin=margin, paired=evaluation.paired)
show(contrasts.drop(columns="margin").rename(columns=lambda name: name.removeprefix("difference_")))

# %% tags=["hide-input"]
lines = []
for (architecture, baseline), rows in contrasts.groupby(["architecture", "baseline"], sort=False):
    worse = [metric.removeprefix("probe ") for metric in rows.loc[rows["verdict"] == "worse", "metric"]]
    others = rows[rows["verdict"] != "worse"]
    said = "; ".join(f"{row.metric.removeprefix('probe ')} {row.verdict} ({row.difference:+.3f})" for row in others.itertuples())
    lines.append(
        f"- **{architecture}, {baseline}**: worse than fully trained at {', '.join(worse) or 'no k'}"
        + (f". Otherwise: {said}." if said else ".")
    )
Markdown("\n".join(lines) + "\n\nFrom one seed: the intervals speak of other questions, not of other random starts.")

# %% [markdown]
# And against no SAE at all: is choosing among an SAE's latents better than choosing among the activation's own coordinates?

# %%
without = references(evaluation)
neurons = without[without["reference"] == "best neurons"]
rows = []
for metric in chosen:
    for activation in activations:
        own = items[(items["metric"] == metric) & (items["architecture"] == activation.name)]
        own = own[own["baseline"] == "fully trained"]
        found = contrast(own, neurons[neurons["metric"] == metric], margin=margin, paired=True)
        found = {"metric": metric, "architecture": activation.name} | found
        rows.append(found)
show(pd.DataFrame(rows).rename(columns={"difference": "from best neurons"}))

# %% [markdown]
# ## By kind of task
#
# A mean over questions hides which questions. Accuracy of the fully trained SAEs and of the baselines, task by task, at the smallest and
# the largest *k*; the first rows are references without an SAE.

# %%
ends = [f"probe k={n}" for n in sorted({evaluation.k[0], evaluation.k[-1]})]
unaided = without.rename(columns={"reference": "baseline"}).assign(architecture="no SAE")
both = pd.concat([unaided, items], ignore_index=True)
both = both[both["metric"].isin(ends)]
by_task = both.groupby(["metric", "architecture", "baseline", "task"], sort=False)["score"].mean().unstack("task")
show(by_task[labelled["task"].unique()].reset_index())

# %% tags=["hide-input"]
pairs = items[items["metric"] == ends[-1]].groupby(["baseline", "task"], sort=False)["score"].mean().unstack("baseline")
gap = (pairs["fully trained"] - pairs.drop(columns="fully trained").mean(axis=1)).sort_values()
Markdown(
    f"At {ends[-1].removeprefix('probe ')}, the trained SAEs lead the mean of the baselines by most on *{gap.index[-1]}* ({gap.iloc[-1]:+.3f}) "
    f"and by least on *{gap.index[0]}* ({gap.iloc[0]:+.3f})."
)

# %% [markdown]
# ## Beside the paper
#
# The paper's values are for Gemma-2-2B, layer 12, {term}`L0` 160 ({cite:t}`korznikov2026sanity`), with data of its own; the paper does not say what
# its standard deviations are over. Compare the order of the rows and the size of the gaps, not the digits. The *gap* columns are the
# distance to the fully trained SAE of the same {term}`architecture`.

# %% tags=["hide-input"]
paper = paper_table(SITE).query("metric in ['probe k=1', 'probe k=5']")
paper = paper.pivot(index=["architecture", "baseline"], columns="metric", values="score").reset_index()
paper = paper.rename(columns=lambda name: name.removeprefix("probe ") + ", paper" if name.startswith("probe ") else name)
beside = scores.assign(metric=scores["metric"].str.removeprefix("probe ") + ", here")
beside = beside.pivot(index=["architecture", "baseline"], columns="metric", values="score").reset_index()
beside = beside[["architecture", "baseline"]].merge(paper, how="inner").merge(beside)
for column in [f"k={n}, {where}" for n in (1, 5) for where in ("paper", "here") if f"k={n}, {where}" in beside]:
    trained = beside["architecture"].map(beside[beside["baseline"] == "fully trained"].set_index("architecture")[column])
    beside[f"gap, {column}"] = beside[column] - trained
at_k = [f"k={n}, {where}" for n in (1, 5) for where in ("here", "paper")]
order = [name for name in (*at_k, *(f"gap, {name}" for name in at_k)) if name in beside]
beside = beside.set_index(["architecture", "baseline"])
show(beside.loc[[names for names in saes if names in beside.index], order].reset_index())

# %% tags=["hide-input"]
made_with = {"model": model, "layer": layer, "l0": l0, "seed": seed}
keep("sparse_probing", summary, **made_with)
keep("sparse_probing_references", limits, **made_with)
keep("sparse_probing_contrasts", contrasts, **made_with)
by_concept = items.groupby(["architecture", "baseline", "metric", "concept"], sort=False)["score"].agg(["mean", "size"])
keep("sparse_probing_by_concept", by_concept.reset_index(), **made_with)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that a probe's accuracy on few latents shows features that training has found. {numref}`fig-probing` supports it where
# the trained SAE's line lies above the yardsticks at small *k*, and the baselines' lines well below it. It weakens it where a baseline's
# line runs within the intervals of the trained one, or where coordinates and PCA components, which know nothing of features, do as well. If
# even the random latents' band came near, the questions would be too easy to tell anything.

# %% [markdown]
# ## Exercises
#
# ```{exercise} The latents that differ most
# :label: ex-most-different
#
# *Easy, 5 minutes.* Write `most_different(codes, is_yes, k)`: the numbers of the `k` latents (columns) whose mean differs most between the texts
# (rows) with the concept and those without, best first. `codes` and `is_yes` are NumPy arrays, the second of True and False.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def most_different(codes, is_yes, k):
    # BEGIN SOLUTION
    difference = codes[is_yes].mean(axis=0) - codes[~is_yes].mean(axis=0)
    return np.argsort(-abs(difference))[:k]
    # END SOLUTION


# %% tags=["check"]
exercises.check_most_different(most_different)

# %% [markdown]
# On one question of this page, with the fully trained SAE and with the {term}`Frozen Decoder`:

# %% tags=["hide-input"]
def codes_of(sae, rows):
    """The mean code of each text, as the evaluation averages it: an array of shape (texts, latents)."""
    device, document = next(sae.parameters()).device, evaluation.store.documents
    with torch.no_grad():
        means = [sae.encode(evaluation.store[np.flatnonzero(document == row)].to(device)).mean(dim=0).cpu() for row in rows]
    return torch.stack(means).numpy()


question, lines = evaluation.concepts[0], []
for baseline in ("fully trained", "Frozen Decoder"):
    sae = saes[activations[0].name, baseline]
    codes = codes_of(sae, question.train)
    best = most_different(codes, question.train_is, 3)
    yes, no = codes[question.train_is][:, best].mean(axis=0), codes[~question.train_is][:, best].mean(axis=0)
    means = "; ".join(f"latent {latent} ({one:.2f} with, {other:.2f} without)" for latent, one, other in zip(best, yes, no, strict=True))
    lines.append(f"- {activations[0].name}, {baseline}: {means}")
Markdown(f"For *{question.name}*, mean activation on training texts:\n\n" + "\n".join(lines))

# %% [markdown]
# ```{exercise} Chosen on the right texts
# :label: ex-honest-accuracy
#
# *Medium, 10 minutes.* Write `honest_accuracy(train, train_is, test, test_is)`: choose the one latent that differs most, and put a threshold
# half-way between its two means. Answer *yes* on the side of the threshold where the *yes* texts lie, and give the accuracy on the test texts.
# `train` and `test` are codes (texts, latents). Which of the four arrays may the choice and the threshold see?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def honest_accuracy(train, train_is, test, test_is):
    # BEGIN SOLUTION
    yes, no = train[train_is].mean(axis=0), train[~train_is].mean(axis=0)
    latent = abs(yes - no).argmax()
    above = test[:, latent] > (yes[latent] + no[latent]) / 2
    said_yes = above if yes[latent] > no[latent] else ~above
    return (said_yes == test_is).mean()
    # END SOLUTION


# %% tags=["check"]
exercises.check_honest_accuracy(honest_accuracy)

# %% [markdown]
# Now cheat: hand your function the test texts in place of the training texts. And give every text a label at random, so that
# there is nothing to know. What does the cheat score then? **Write it down first.**

# %% tags=["hide-input"]
sae = saes[activations[0].name, "fully trained"]
rows = np.unique(np.concatenate([rows for one in evaluation.concepts for rows in (one.train, one.test)]))
codes = pd.DataFrame(codes_of(sae, rows), index=rows)
train, test = codes.loc[question.train].to_numpy(), codes.loc[question.test].to_numpy()
rng, honest, cheated = np.random.default_rng(seed), [], []
for _ in range(50):
    train_is, test_is = rng.permutation(question.train_is), rng.permutation(question.test_is)
    honest.append(honest_accuracy(train, train_is, test, test_is))
    cheated.append(honest_accuracy(test, test_is, test, test_is))
true, cheat = honest_accuracy(train, question.train_is, test, question.test_is), honest_accuracy(test, question.test_is, test, question.test_is)
of_all = []
for one in evaluation.concepts:
    learn, ask = codes.loc[one.train].to_numpy(), codes.loc[one.test].to_numpy()
    of_all.append([honest_accuracy(learn, one.train_is, ask, one.test_is), honest_accuracy(ask, one.test_is, ask, one.test_is)])
mean_true, mean_cheat = np.mean(of_all, axis=0)
Markdown(
    f"*{question.name}*, {len(train)} training and {len(test)} test texts, {train.shape[1]:,} latents of the fully trained {activations[0].name}:\n\n"
    f"- true labels: {true:.2f} honestly, {cheat:.2f} when chosen on the test texts\n"
    f"- true labels, mean over all {len(of_all)} questions: {mean_true:.2f} honestly, {mean_cheat:.2f} when chosen on the test texts\n"
    f"- random labels, mean of {len(honest)} draws: {np.mean(honest):.2f} honestly, {np.mean(cheated):.2f} when chosen on the test texts\n\n"
    "There is nothing to know about random labels, so what the last number has above 0.5 is owed to choosing alone."
    + (
        f" On the true labels of *{question.name}* alone the cheat does not win: latent and threshold go by means, which need not be what answers the "
        "most texts right, not even of the texts that the means are taken over."
        if cheat <= true
        else ""
    )
)

# %% [markdown]
# ```{exercise} Longer texts, or questions of your own
# :label: ex-longer-context
#
# *Hard, 20 minutes and some waiting.* A code averaged over more tokens is less sparse. Predict what that does to the trained SAE's lead over the
# best neurons at `k` = 1, then rerun this notebook with `-p context 16` and `-p context 96`. Or name a labelled set of your own in `tasks`, and
# predict which of its questions no single latent answers.
# ```
#
# ```{dropdown} What to look for
# Averaging helps all probes, since more of a text is read, so look at the *difference* from the best neurons, not at the accuracies. A latent that
# fires on a single telling token is diluted by a long text, while a coordinate that carries a little evidence at every token gains. Whether your
# prediction holds is for the intervals to say: the table of the differences from the best neurons has them.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. The best single latent of a Frozen Decoder answers with 0.70. Has a random direction learned the concept?
# No. Its *{term}`encoder`* is trained and chooses when the latent fires; the random direction is what it writes, and a probe does not look at that. And the
# latent is the best of thousands: see what the best coordinate of the plain activation reaches.
# ```
#
# ```{dropdown} 2. Thousands of test texts were answered. Why are the intervals so wide?
# Because the questions are drawn, not the texts. All texts of one question share its latents and its difficulty, so they do not
# tell how another question would come out. With a few dozen questions, an interval that speaks of other questions has a few dozen observations.
# ```
#
# ```{dropdown} 3. A baseline is *not told apart* at k = 1 and *worse* at k = 5. Which of the two is the finding?
# Both, and they do not disagree. The first says that so many questions allow both no difference and one that would matter; the second that five
# latents show a difference that is larger than chance. Reporting only the k at which nothing was found would turn a small sample into a match.
# ```

# %% [markdown]
# ## Key points
#
# - A probe may choose among thousands of latents, and one of thousands may fit though its direction was never learned. Read its accuracy beside
#   random latents, the best neurons and a dense probe, on the same texts.
# - Compare each baseline with the trained SAE at several *k*; in the paper five latents tell them apart better than one. Whether a small *k* tells them apart is a question of how many questions were asked; *not told apart*
#   is not *the same*.
# - The score depends on choices that are not about SAEs: averaging over tokens, which concepts are asked, which texts stand against
#   them, and how latents are chosen. With other choices the order may change; that is a limit of this chapter too.
# - An easy question, such as a language's, may be answered by a good many directions: see what the *best neurons* score on it in the table by task. A mean
#   over tasks weighs it like a hard one.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`kantamneni2025probing`: over a hundred data sets on which SAE probes rarely beat strong baselines.
# - {cite:t}`smith2025negative`: what dense probes and SAE probes do out of distribution.
# - {cite:t}`karvonen2025saebench`: sparse probing as part of a benchmark, in nearly the protocol of this chapter.

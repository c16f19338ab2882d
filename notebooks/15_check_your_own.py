# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Check your own SAE
#
# ```{admonition} This lesson
# - **You will learn** to check a checkpoint that you did not train: whether it is given what it was trained on, which baselines are fair to it, and
#   what its scores say then.
# - **You need** the [Scorecard](14_scorecard): {term}`L0`, {term}`floor`, {term}`equivalence margin`.
# - **Time** 15 minutes to read, 35 more for the exercises.
# ```
#
# Who is convinced by the last chapters will ask: and mine? Name a checkpoint here. This notebook reads it, asks whether it
# fits the {term}`activations <activation>` that it is given, trains random baselines of the same {term}`architecture`, width and L0 on them, and puts all through the
# [scorecard](14_scorecard)'s metrics. The same in a terminal:
#
# ```
# saelite check CHECKPOINT --model MODEL --layer LAYER --site residual
# ```
#
# Formats: SAELens, dictionary_learning, sparsify, Gemma Scope and this book's own; a folder, a file in it, or a repository on
# the Hugging Face hub with the folder inside. If no checkpoint is named, one is made here and written as SAELens writes
# them, so that everything below can be seen at work. (SAELens writes a trained {term}`BatchTopK` SAE as a {term}`JumpReLU` with one threshold for
# all latents: after training that is what it computes. So it calls the architecture *jumprelu* below. The baselines are trained as BatchTopK.)
#
# **Before you read on, write down a number:** of the four baselines that are trained below, how many will *not* be worse than your SAE on at least one
# metric?

# %% tags=["parameters"]
checkpoint: str = ""  # folder, file, or OWNER/NAME/FOLDER on the Hugging Face hub; empty: a BatchTopK SAE of this book
model: str = "smollm2"  # language model that the SAE reads: "smollm2" (embedded), or a transformers id or folder
layer: int = 9  # decoder block whose output the SAE reads, counted from 0
site: str = "residual"  # what of that block the SAE reads: "residual" (stream after it), or what its "mlp" or its "attention" gives
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
documents: int = 0  # texts to take, from the start of the set; 0: all of it, which a set on the hub may be too large for
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
harvest_context: int = 128  # tokens of a row of text that the model reads at once
scale: float = 1.0  # what activations are multiplied by before they reach the SAE
evaluations: list = ["reconstruction", "auto-interpretability", "probing"]  # and "editing"; in the order of their worth to you
minutes: float = 0.0  # begin no evaluation after so many minutes; 0: no limit
batch_size: int = 1024  # activations in a training batch of the baselines
epochs: int = 1  # passes of the baselines over the training activations
lr: float = 3e-3  # peak learning rate of the baselines
seed: int = 0  # seed of the random directions, and of the SAE that is made where no checkpoint is named
reference: str = "../book/results/check_saelens"  # folder of the reference run to show; empty leaves it out

# %% tags=["hide-input"]
import shutil
import time
from html import escape

import numpy as np
import pandas as pd
import torch
from saebook.contexts import contexts_html
from saebook.exercises import check_your_own as exercises
from saebook.setup import HTML, Markdown, display, keep, language_chapter, results_folder, show
from saebook.tables import reference_run

from saelite import SAE, TopK, arguments, evaluate, formats, plots, scorecard
from saelite.checking import foreign_sae, on_activations, report
from saelite.data.language_models import norms_after
from saelite.evaluations.latents import draw_latents, logit_effect, top_contexts
from saelite.grid import architectures_at, fit
from saelite.metrics import explained_variance

began = time.monotonic()
# wrong parameters are refused here, before anything slow runs
arguments.each_once(evaluations=evaluations)
for unknown in [name for name in evaluations if name not in foreign_sae.EVALUATIONS]:
    raise ValueError(f"There is no evaluation {unknown!r}; choose from {', '.join(foreign_sae.EVALUATIONS)}.")
arguments.above(0, scale=scale)
arguments.between(0, 1e9, minutes=minutes)
other = reference_run(reference, "check_card")
chapter = language_chapter(
    model=model, texts=texts, documents=documents, layer=layer, site=site, tokens=tokens, harvest_context=harvest_context,
    batch_size=batch_size, epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm = chapter.lm
given = {
    "model": model, "layer": layer, "d_model": lm.d_model, "site": site, "norms_after": norms_after(lm, layer, site)
}  # fmt: skip
if checkpoint:  # one that is damaged, or reads another width, is refused before long work
    theirs, says = formats.read(checkpoint)
    foreign_sae.rescale(theirs, scale)
    foreign_sae.at_odds(theirs, says, **given)
store, batches = chapter.harvest()

# %% [markdown]
# ## What the checkpoint says of itself

# %%
name, of_this_book = checkpoint, not checkpoint
if of_this_book:
    name, d_sae = "a BatchTopK SAE of this book", 8 * lm.d_model
    mine = [("fully trained", *architectures_at(40, ["BatchTopK"], d_sae), None, "iso")]
    made, _ = fit(mine, batches, store.d_in, d_sae=d_sae, seed=seed + 1, lr=lr)  # another start than those below have
    checkpoint = results_folder() / "checkpoints" / "batchtopk"
    shutil.rmtree(checkpoint, ignore_errors=True)  # of an earlier run
    formats.write_saelens(*made.values(), checkpoint, model_name=model, hook_name=f"blocks.{layer}.{formats.HOOKS[site]}")
sae, about = formats.read(checkpoint)
foreign_sae.rescale(sae, scale)
notes = foreign_sae.at_odds(sae, about, **given)
Markdown(
    "\n".join(f"- {key}: {escape(str(value))}" for key, value in about.items() if value is not None)
    + f"\n- width {sae.d_in}, {sae.d_sae:,} latents\n\n"
    + ("\n".join(f"- **At odds:** {escape(note)}" for note in notes) or "Nothing that it says is at odds with what it is given here.")
)

# %% [markdown]
# ## Is it given what it was trained on?
#
# The commonest mistake with somebody else's SAE is the scale of its input. Many are trained on activations of mean norm
# $\sqrt{d}$ or 1, and not every checkpoint holds the factor. So: what does it explain with the activations multiplied by something first?

# %%
scales = foreign_sae.by_scale(sae, store.held_out[:4096], scale)
show(scales)

# %%
own = evaluate(sae, store.held_out[:4096])
notes.append(foreign_sae.scale_in_words(scales, stated=sae.activation.target_l0))
notes.append(
    f"On {min(4096, len(store.held_out)):,} held-out activations it has an L0 of {own.l0:.1f}, and {own.dead:.1%} of its latents never fire."
)
Markdown("\n\n".join(notes[-2:]))

# %% [markdown]
# ## Matched baselines
#
# A baseline that has another width or L0 misleads. These have the checkpoint's architecture, width and measured L0. They see far
# fewer activations than a published SAE has, so there is one more, *trained here*: nothing is frozen in it, and it has the
# baselines' data. What your SAE has ahead of it is the longer training; what *trained here* has ahead of the baselines is
# what training {term}`features <feature>` gives. (Where no checkpoint was named, it differs from the one made above by its {term}`seed` alone, if that
# one has the L0 that it was told.)

# %%
saes, histories = fit(
    foreign_sae.matched(sae, own.l0, store.train[:50_000], seed=seed), batches, store.d_in, d_sae=sae.d_sae, seed=seed, lr=lr
)
architecture = next(iter(saes))[0]
saes = {(architecture, foreign_sae.YOURS): sae} | saes
notes += on_activations.misleading(saes, histories, store)
measured = [{"SAE": variant} | evaluate(one, store.held_out[:4096]).row() for (_, variant), one in saes.items()]
show(pd.DataFrame(measured))

# %% [markdown]
# ## The scorecard
#
# Read each {term}`verdict` from the row's point of view: *worse* means that the SAE of that row is worse than yours. Look for *trained here* first, since it
# says what the baselines' short training costs; then for the baselines, and on which metrics they are not worse.

# %%
cards = []
for one in evaluations:
    if minutes and time.monotonic() - began > 60 * minutes:
        notes.append(f"Left out, since {minutes:g} minutes were over: {one}.")
        continue
    evaluation = foreign_sae.evaluation(one, lm, store, l0=round(own.l0), d_sae=sae.d_sae, seed=seed)
    cards.append(scorecard(saes, [evaluation], against=foreign_sae.YOURS))
if not cards:
    raise ValueError(f"minutes={minutes:g} were over before the first evaluation: give more.")
card = pd.concat(cards, ignore_index=True)


def brief(card):
    """The columns of the report, with names of metrics that leave room for them."""
    return show(card[report.COLUMNS].assign(metric=card["metric"].str.replace("auto-interpretability", "auto-interp.")))


brief(card)

# %% mystnb={"figure": {"caption": "Your SAE among matched baselines, with 95% intervals over items; lines: the highest floor and, where there is one, the lowest ceiling.", "name": "fig-check"}, "image": {"alt": "A panel for each metric: the scores of the checkpoint, of an SAE trained here and of four baselines as dots with intervals, with floor and ceiling as lines. The table above gives the numbers."}}
figure = plots.scorecard(card)

# %% tags=["hide-input"]
said = "\n".join(f"- {line}" for line in map(escape, report.in_words(card, foreign_sae.YOURS) + notes))
apart = card[(card["baseline"] == foreign_sae.HERE) & card["verdict"].isin(["better", "worse"])]
if of_this_book and round(own.l0) == next(iter(made.values())).activation.k and len(apart):
    said += (
        f"\n\n*{foreign_sae.HERE.capitalize()}* differs from the SAE that was made above by its seed alone, and yet is "
        + ", ".join(f"{row.verdict} in {row.metric} (by {abs(row.difference):.3f})" for row in apart.itertuples())
        + ". The intervals speak of other items, not of other seeds: a baseline that is no further apart than that may owe it to its seed."
    )
Markdown(said)

# %% tags=["hide-input"]
frozen = card[~card["baseline"].isin([foreign_sae.YOURS, foreign_sae.HERE])]
holds = frozen[frozen["verdict"].isin(["equivalent", "better"])].groupby("baseline", sort=False)["metric"].agg(", ".join)
open_ = frozen[frozen["verdict"].isin(["not told apart", "nothing to match"])].groupby("baseline", sort=False)["metric"].agg(", ".join)
Markdown(
    f"Your number: of {frozen['baseline'].nunique()} baselines, {len(set(holds.index) | set(open_.index))} are not worse than your SAE on at least one metric.\n\n"
    + "\n".join(f"- {baseline} equals or betters it: {metrics}" for baseline, metrics in holds.items())
    + "\n"
    + "\n".join(f"- {baseline} leaves it open: {metrics}" for baseline, metrics in open_.items())
)

# %% [markdown]
# ## What its latents look like
#
# Four {term}`latents <latent>` of your SAE and of the {term}`Frozen Decoder`, drawn at random among those that fire: the contexts in which
# they are most active, and the {term}`tokens <token>` that their {term}`decoder directions <decoder direction>` raise and lower. A � is, all but always, a token that
# holds only some of the bytes of a character, so that it is none by itself.

# %% tags=["hide-input"]
columns = {}
for variant in (foreign_sae.YOURS, "Frozen Decoder"):
    one = saes[architecture, variant]
    drawn = draw_latents(one, store.held_out[:20_000], 4, min_firing=5, seed=seed)
    columns[variant] = top_contexts(one, store.held_out, drawn, lm.tokenizer, n=3).merge(logit_effect(lm, one, drawn), on="latent")
HTML(contexts_html(columns, chapter.credit))

# %% [markdown]
# ## The report
#
# One page to send to somebody, and the same for programs and for spreadsheets.

# %%
made_with = {"model": model, "layer": layer, "site": site, "texts": texts, "scale": scale}
made_with |= {"tokens": tokens, "batch_size": batch_size, "epochs": epochs, "lr": lr, "seed": seed}
written = report.write(
    results_folder() / "check", name, about=about, notes=notes, card=card, figure=figure, against=foreign_sae.YOURS, made_with=made_with
)
keep("check_card", card)
Markdown("\n".join(f"- `{path.parent.name}/{path.name}`, {path.stat().st_size / 1000:.0f} kB" for path in written))

# %% [markdown]
# ## A checkpoint that is not ours
#
# What was checked above was trained by this book's own code, and a check that passes its maker's work proves little. So SAELens trained a {term}`BatchTopK` SAE on the same
# activations, three passes long, with its own trainer and settings (`benchmarks/train_with_saelens.py`), and this notebook checked it. Its learning rate is meant for far longer
# runs than three passes over a few hundred thousand activations, so this shows a short run, not what SAELens can do. That makes it a good case: an SAE that somebody
# might have published too early. In the table compare it with *trained here* first, then with the baselines.

# %% tags=["hide-input"]
Markdown(other.label or "The reference run was left out of this run.")

# %%
if other:
    THEIRS = "SAELens's SAE"
    card_of_other = other.tables["check_card"].replace({"baseline": {foreign_sae.YOURS: THEIRS}})
    display(brief(card_of_other))

# %% tags=["hide-input"]
text = ""
if other:
    said = report.in_words(card_of_other, THEIRS)
    random = card_of_other[~card_of_other["baseline"].isin([THEIRS, foreign_sae.HERE])]
    ahead = random[random["verdict"] == "better"]
    text = "\n".join(f"- {line}" for line in said) + (
        "\n\nA baseline with random parts is *better* than this SAE: " + ", ".join(f"{row.baseline} in {row.metric}" for row in ahead.itertuples()) + "."
        if len(ahead)
        else "\n\nNo baseline with random parts is *better* than this SAE in any metric."
    )
Markdown(text)

# %% [markdown]
# ## What would change my mind
#
# That your SAE has learned features which random {term}`directions <direction>` do not have gains weight if, in {numref}`fig-check`, it lies above every baseline on metrics where it is also above the
# floor, and if *trained here*, which has the baselines' data, does so too. It loses weight where a baseline is *equivalent*; and if your SAE is ahead but *trained here* is not, what
# put it ahead may be no more than its longer training. If it lies below *trained here*, doubt the check before the SAE: the wrong scale, layer or model does that.

# %% [markdown]
# ## Exercises
#
# ```{exercise} The factor
# :label: ex-scale-factor
#
# *Easy, 5 minutes.* Many SAEs are trained on activations whose mean norm is $\sqrt{d}$. Write `scale_factor(activations)`, for a tensor of shape (n, d): the one number to multiply
# them by.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def scale_factor(activations):
    # BEGIN SOLUTION
    return activations.shape[1] ** 0.5 / activations.norm(dim=1).mean()
    # END SOLUTION


# %% tags=["check"]
exercises.check_factor(scale_factor)

# %% tags=["hide-input"]
sample = store.held_out[:4096]
Markdown(
    f"On this page's activations that is {scale_factor(sample):.3g}. Their mean norm is {sample.norm(dim=1).mean():.1f}, the root of their width {sample.shape[1] ** 0.5:.1f}; an "
    "SAE that expects the one and is given the other is off by that factor."
)

# %% [markdown]
# ```{exercise} At its own L0
# :label: ex-fair-gap
#
# *Medium, 10 minutes.* A baseline was measured at several L0s, your SAE at its own. Write `fair_gap(l0s, scores, l0, score)`: how far your SAE's `score` lies above the baseline at the
# same `l0`, on a straight line between the baseline's two neighbours. The arrays `l0s` and `scores` come in any order.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def fair_gap(l0s, scores, l0, score):
    # BEGIN SOLUTION
    order = np.argsort(l0s)
    return score - np.interp(l0, l0s[order], scores[order])
    # END SOLUTION


# %% tags=["check"]
exercises.check_fair_gap(fair_gap)

# %% [markdown]
# A {term}`dictionary` that was never trained shows how much L0 alone is worth. Its explained variance at several L0s, and how far your SAE is above it:

# %% tags=["hide-input"]
rows = []
for times in (0.25, 0.5, 1, 2, 4):
    n_active = min(max(1, round(times * own.l0)), sae.d_sae)
    untrained = SAE(sae.d_in, sae.d_sae, TopK(n_active), seed=seed + 100).eval()
    untrained.calibrate(store.train[:4096])
    found = evaluate(untrained, sample)
    rows.append({"l0": found.l0, "explained variance, untrained": found.explained_variance})
by_l0 = pd.DataFrame(rows)
by_l0["your SAE is above by"] = own.explained_variance - by_l0["explained variance, untrained"]
display(show(by_l0))
gap = fair_gap(by_l0["l0"].to_numpy(), by_l0["explained variance, untrained"].to_numpy(), own.l0, own.explained_variance)
first, last = by_l0["your SAE is above by"].iloc[[0, -1]]
Markdown(f"At its own L0 of {own.l0:.1f}, your SAE is {gap:+.3f} above; set beside the first row it would be {first:+.3f}, beside the last {last:+.3f}.")

# %% [markdown]
# ```{exercise} At the wrong scale
# :label: ex-explained-at
#
# *Hard, 20 minutes.* An SAE expects activations `factor` times as large as those you have. Write `explained_at(sae, x, factor)`: the {term}`explained variance` of `x` when the SAE
# reads it multiplied by `factor` and its reconstruction is brought back. `sae.encode`, `sae.decode` and `explained_variance(x, x_hat)` are there. **Write down first:** at half
# and at twice the right scale, does your SAE's explained variance drop by a hundredth, by a tenth, or to nothing?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def explained_at(sae, x, factor):
    # BEGIN SOLUTION
    return explained_variance(x, sae.decode(sae.encode(x * factor)) / factor)
    # END SOLUTION


# %% tags=["check"]
exercises.check_explained_at(explained_at)

# %% tags=["hide-input"]
rows = []
with torch.no_grad():
    for factor in (0.25, 0.5, 0.8, 1, 1.25, 2, 4):
        active = (sae.encode(sample * factor) > 0).sum(dim=1).double().mean().item()
        rows.append({"factor": factor, "explained variance": explained_at(sae, sample, factor), "l0": active})
spoilt = pd.DataFrame(rows)
display(show(spoilt))
best = spoilt.loc[spoilt["explained variance"].idxmax()]
Markdown(
    f"At half the scale your SAE explains {spoilt['explained variance'][1]:.2f}, at twice the scale {spoilt['explained variance'][5]:.2f}; the most is explained at a factor of "
    f"{best['factor']:g}, with an L0 of {best['l0']:.1f}. Look at both columns: an SAE with thresholds that is given too much lets more latents pass, so that a slightly wrong scale "
    "may even *raise* explained variance, at another L0."
)

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. Your SAE explains 0.10 more than the baseline. The baseline has an L0 of 40, yours 80. What do you conclude?
# Nothing yet. Twice as many active latents explain more, whatever they are; compare at one L0, and read both against an untrained dictionary there.
# ```
#
# ```{dropdown} 2. Your checkpoint saw a thousand times more tokens than the baselines. Why not train them as long?
# Where you can, do. Where you cannot, *trained here* tells the two apart: it has the baselines' data and nothing frozen. Its lead over the baselines is what moving the directions gives; your SAE's
# lead over it is what the longer training gives.
# ```
#
# ```{dropdown} 3. The page says *nothing to match*. Is that bad for your SAE?
# It is neither good nor bad. On that metric your SAE is no better than the floor, so the metric cannot tell learning from chance on this model and these items. A metric with room has to decide.
# ```

# %% [markdown]
# ## Key points
#
# - Before a score means anything, the SAE must be given what it was trained on: model, layer, hook and scale.
# - A fair baseline has the architecture, the width and the L0 of what it is compared with, and the same data.
# - "Not told apart" is not a match; nor is a match at the floor.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`karvonen2025saebench`: a larger suite of scores for any checkpoint.
# - {cite:t}`chanin2025sparse`: what a wrong L0 does to the features themselves.
# - {cite:t}`paulo2025seeds`: how different two SAEs are that differ by their seed alone.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reconstruction, and what the model makes of it
#
# ```{admonition} This lesson
# - **You will learn** what replacing a layer by its reconstruction costs a model, how much of such a score is had for
#   nothing, and whether {term}`directions <direction>` have moved by the time that the scores are high.
# - **You need** [Frozen Decoder](05_frozen_decoder), [Soft-Frozen Decoder](06_soft_frozen_decoder): {term}`explained variance`,
#   {term}`floor`, {term}`cosine similarity`.
# - **Time** 25 minutes to read, 35 more for the exercises.
# ```
#
# {term}`Explained variance` asks how much of an {term}`activation` an SAE keeps. But nobody wants an activation for its own sake: the layers above read it.
# So put the reconstruction in the activation's place, which is called {term}`splicing` it in, let the model run on, and see how much worse it
# predicts the next {term}`token`. That is the second of the two scores that this chapter measures for the whole grid: each {term}`architecture` fully trained, and
# under each of the baselines of {cite:t}`korznikov2026sanity`.
#
# Then it asks a question of the paper's appendix: is training *lazy*? If an SAE reaches most of its explained variance while
# its directions are still close to their random start, explained variance says little about directions.
#
# **Before you read on, write down two shares:** a {term}`Frozen Decoder` reconstructs with random directions. Of the loss that
# the model suffers when *zero* stands in the layer's place, how much does that reconstruction avoid? And of the loss when the
# layer's *mean* stands there?

# %% tags=["parameters"]
architectures: list = ["BatchTopK", "JumpReLU"]  # from ReLU, TopK, BatchTopK, JumpReLU
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read, counted from 0
site: str = "residual"  # what of that block: "residual" (stream after it), or what its "mlp" or its "attention" gives
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
train_tokens: int = 0  # activations to train on, streamed from the model and not kept; 0: those harvested
harvest_context: int = 128  # tokens of a row of text that the model reads at once
l0: int = 40  # active latents per token
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions
spliced_tokens: int = 3000  # held-out tokens that the model predicts with the reconstruction in place
margin: float = 0.02  # a difference in a share smaller than this is of no interest
reference: str = "../book/results/reconstruction"  # folder of reference runs to show, made by book/sweep.py; empty leaves them out
wider: str = "../book/results/reconstruction_wide"  # folder of reference runs at another width to show; empty leaves them out

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from saebook import figures
from saebook.exercises import reconstruction as exercises
from saebook.paper import paper_scores
from saebook.setup import Markdown, display, keep, language_chapter, show
from saebook.tables import reference_run, whole_rows
from scipy.stats import sem, t
from torch.nn.functional import normalize

from saelite import Reconstruction, arguments, evaluate, plots
from saelite.evaluations.reconstruction import EV, KL, LOSS, RECOVERED_MEAN, RECOVERED_ZERO
from saelite.evaluations.scorecard import against_trained
from saelite.reuse import over, references
from saelite.statistics import summarise

# wrong parameters are refused here, before anything slow runs
arguments.whole(1, spliced_tokens=spliced_tokens)
arguments.above(0, margin=margin)
runs, wide_runs = reference_run(reference, "reconstruction"), reference_run(wider, "reconstruction")
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, activations, d_sae = chapter.lm, chapter.activations, chapter.d_sae

# %%
store, _ = chapter.harvest()
evaluation = Reconstruction(lm, store, tokens=spliced_tokens, l0=l0, d_sae=d_sae)

# %% [markdown]
# ## Floors and ceilings first
#
# The model with its own activations is the {term}`ceiling`. {term}`Floors <floor>` are the layer's output replaced by zero, by its
# mean, and by what an untrained random {term}`dictionary` makes of it. {term}`PCA` with as many components as the SAEs have active
# {term}`latents <latent>` is neither: it is what a plain method reaches.
#
# To ablate the layer ({term}`ablation`) is to replace its output by something that says nothing of the token, such as zero. {term}`Loss recovered`
# is the share of an ablation's damage that is avoided,
#
# ```{math}
# :label: eq-loss-recovered
# \frac{\mathrm{loss}_\mathrm{ablated} - \mathrm{loss}}{\mathrm{loss}_\mathrm{ablated} - \mathrm{loss}_\mathrm{model}}
# ```
#
# where the loss is the cross-entropy of the next token: the negative natural logarithm of the probability that the model gave to the token which
# came, in units called nats. Loss recovered needs an ablation to compare with, and the choice decides what the number means: look at what the
# *mean* and the untrained dictionary score when the comparison is *zero*. *KL divergence* in the table says how far the model's predictions are
# from those that it makes undisturbed; 0 is no change.

# %%
METRICS = [EV, RECOVERED_ZERO, RECOVERED_MEAN, LOSS, KL]
limits = summarise(references(evaluation), ["kind", "reference", "metric"])
wide = limits.pivot(index=["kind", "reference"], columns="metric", values="score")[METRICS].reset_index()
show(wide[["reference", *METRICS, "kind"]])

# %% tags=["hide-input"]
of = wide.set_index("reference")
untrained = of.loc["untrained dictionary"]
Markdown(
    f"The model's own loss on these texts is {of.loc['the model itself', LOSS]:.2f} nats a token; with zero in the layer's place it "
    f"is {of.loc['zero', LOSS]:.2f}, with the mean {of.loc['mean', LOSS]:.2f}. An untrained dictionary explains "
    f"{untrained[EV]:.2f} of the variance and recovers {untrained[RECOVERED_ZERO]:.0%} of the loss when compared with zero, "
    f"{untrained[RECOVERED_MEAN]:.0%} when compared with the mean. So much is had for nothing."
)

# %% [markdown]
# ## Trained and frozen
#
# All SAEs of the grid are trained on the same activations in the same order. If an earlier chapter trained one, it is read
# from the cache.

# %%
saes, histories = chapter.train_grid()

# %%
items = over(saes, evaluation)
summary = summarise(items, ["architecture", "baseline", "metric"])
table = summary.pivot(index=["architecture", "baseline"], columns="metric", values="score")[METRICS]
tested = {sae: evaluate(saes[sae], store.held_out[:10_000]) for sae in saes}
measured_l0 = pd.Series({sae: scores.l0 for sae, scores in tested.items()}, name="L0").rename_axis(table.index.names)
show(table.join(measured_l0).loc[list(saes)].reset_index())

# %% [markdown]
# Two figures of the same SAEs. In each, first find the floor and {term}`PCA`, then the trained SAE, then the baselines. From the first figure to
# the second, which of the baselines comes nearer to the trained SAE, and which does not?

# %% mystnb={"image": {"alt": "Dot chart of explained variance on the spliced tokens with 95% intervals for each architecture and variant, with vertical lines for the floors and PCA, and diamonds for the paper's values."}, "figure": {"name": "fig-reconstruction-ev", "caption": "Explained variance on the tokens that are spliced below, with 95% bootstrap intervals over texts."}}
figures.scores_by_variant(
    summary[summary["metric"] == EV], {name: of.loc[name, EV] for name in of.index if name not in ("zero", "the model itself")},
    paper_scores(EV), xlabel=EV,
);  # fmt: skip

# %% mystnb={"image": {"alt": "Dot chart of the share of loss recovered against mean ablation with 95% intervals for each architecture and variant, with vertical lines for an untrained dictionary and PCA."}, "figure": {"name": "fig-loss-recovered", "caption": "Share of the loss recovered, compared with putting the mean in the activation's place; 95% bootstrap intervals over texts."}}
figures.scores_by_variant(
    summary[summary["metric"] == RECOVERED_MEAN],
    {name: of.loc[name, RECOVERED_MEAN] for name in of.index if name not in ("mean", "the model itself", "zero")},
    xlabel="loss recovered, compared with the mean",
);

# %% [markdown]
# Back to your two shares:

# %% tags=["hide-input"]
answers = []
for activation in activations:
    found = table.loc[activation.name, "Frozen Decoder"]
    answers.append(
        f"- {activation.name}: the Frozen Decoder avoids {found[RECOVERED_ZERO]:.0%} of the loss that zero causes and "
        f"{found[RECOVERED_MEAN]:.0%} of what the mean causes."
    )
Markdown(
    "\n".join(answers) + f"\n\nAn untrained dictionary, in which not even the encoder has learned, avoids {untrained[RECOVERED_ZERO]:.0%} "
    f"and {untrained[RECOVERED_MEAN]:.0%}. Only what lies above that is owed to training."
)

# %% [markdown]
# ### Told apart?
#
# Is a baseline different from its trained SAE, or could it be the choice of texts? The same texts were scored with every SAE, so differences are
# taken text by text (*paired*), and each has a 95% {term}`interval <bootstrap confidence interval>`. The {term}`verdict` is read off that interval and the
# {term}`margin <equivalence margin>`, a difference that we called too small to matter before measuring:
#
# - *equivalent*: the whole interval lies within the margin;
# - *worse* or *better*: the whole interval lies on one side of zero, and not all of it within the margin;
# - *not told apart*: neither. It is no match: there were too few texts to say.
#
# *Detectable* is the smallest difference that a sample like this would have found four times in five.

# %%
shares = items[items["metric"].isin([EV, RECOVERED_ZERO, RECOVERED_MEAN])]
contrasts = against_trained(shares, margin=margin, paired=True)
show(contrasts[["metric", "architecture", "baseline", "verdict", "difference", "difference_low", "difference_high", "detectable"]])

# %% tags=["hide-input"]
lines = []
for metric, group in contrasts.groupby("metric", sort=False):
    nearest = group.loc[group["difference"].idxmax()]
    found = group["verdict"].value_counts()
    lines.append(
        f"- **{metric}**: of {len(group)} baseline SAEs "
        + ", ".join(f"{count} {verdict}" for verdict, count in found.items())
        + f". The nearest to its trained SAE is {nearest['architecture']}, {nearest['baseline']}: difference {nearest['difference']:+.3f} "
        f"[{nearest['difference_low']:+.3f}, {nearest['difference_high']:+.3f}]."
    )
Markdown("\n".join(lines) + f"\n\nThe margin is {margin:g}. From one seed: the intervals speak of other texts, not of other random starts.")

# %% [markdown]
# ## Is training lazy?
#
# {term}`Lazy training` lowers the loss while the weights stay near their start. The curves show explained variance and, below, the {term}`cosine
# <cosine similarity>` of the decoder's directions to their start, for the SAEs whose decoder may turn. *Lazy* would be: the upper curve is done
# while the lower one is still near 1, and the lower one stays there. Each point of the lower curve is over the {term}`latents <latent>` that fired since the
# point before.

# %% mystnb={"image": {"alt": "Line charts over training for each architecture: explained variance above, and below the median cosine of decoder directions to their start with a band for the middle 80 percent."}, "figure": {"name": "fig-lazy", "caption": "Explained variance of training batches (top), and cosine of decoder directions to their start (bottom: median, and the band that holds the middle 80%, over latents that fired since the point before)."}}
turning = ("fully trained", "Soft-Frozen Decoder")
figure, grid = plt.subplots(2, len(activations), figsize=(3.6 * len(activations), 5), sharex=True, sharey="row", squeeze=False)
for column, activation in enumerate(activations):
    for baseline, line in zip(turning, ("-", "--"), strict=True):
        history = whole_rows(histories[activation.name, baseline])
        look = {"color": plots.COLOURS[baseline], "linestyle": line, "label": baseline}
        grid[0, column].plot(history["samples"], history["explained_variance"], **look)
        grid[1, column].plot(history["samples"], history["cosine_to_start"], **look)
        band = history["cosine_to_start_p10"], history["cosine_to_start_p90"]
        grid[1, column].fill_between(history["samples"], *band, color=look["color"], alpha=0.2, linewidth=0)
    grid[0, column].set_title(activation.name)
    grid[1, column].set(xlabel="activations seen in training", ylim=(0, 1.02))
    grid[1, column].xaxis.set_major_formatter(figures.thousands())
grid[0, 0].set_ylabel("explained variance")
grid[1, 0].set_ylabel("cosine to start")
grid[1, 0].legend(fontsize=9, loc="lower left");

# %%
rows = []
for (architecture, baseline), history in histories.items():
    if baseline in turning:
        steps, history = history["step"].max(), whole_rows(history)
        for row in [history.iloc[(history["step"] - share * steps).abs().argmin()] for share in (0.05, 0.1, 1.0)]:
            of_end = row["explained_variance"] / history["explained_variance"].iloc[-1]
            rows.append(
                {
                    "architecture": architecture, "baseline": baseline, "share of training": row["step"] / steps,
                    "of its end": of_end, "cosine to start, 10%": row["cosine_to_start_p10"], "median": row["cosine_to_start"],
                    "90%": row["cosine_to_start_p90"], "explained_variance": row["explained_variance"],
                }
            )  # fmt: skip
lazy = pd.DataFrame(rows)
show(lazy)

# %% [markdown]
# Is it lazy, then? The paper's figures are of {term}`JumpReLU` at an {term}`L0` of 160: an explained variance of 0.80 after 5% of training, 0.82 after 10% and 0.86 at the
# end, with decoders still near their start. Training is lazy in this sense if the score is nearly final while cosines to the start are still near
# 1, *and if they stay near 1 to the end*.

# %% tags=["hide-input"]
lines = []
for (architecture, baseline), of_one in lazy.groupby(["architecture", "baseline"], sort=False):
    early, end = of_one.iloc[0], of_one.iloc[-1]
    lines.append(
        f"- {architecture}, {baseline}: after {early['share of training']:.0%} of training {early['of its end']:.0%} of the final explained variance, at a "
        f"median cosine of {early['median']:.2f}; at {end['share of training']:.0%} the median cosine is {end['median']:.2f}."
    )
Markdown(
    "\n".join(lines) + "\n\nThese cosines are of the latents that fired in a few training batches; the chapter on the "
    "Soft-Frozen Decoder asks those that fire on held-out tokens, so its medians may differ a little. "
    "Where the first cosine is near 1, the early rise was had near the start. Whether the rest is owed to directions that turned, the last cosines tell: "
    "a trained SAE whose median ends far below 1 did not stay where it began; a Soft-Frozen Decoder may not leave."
)

# %% [markdown]
# ### The same way, as far as allowed?
#
# A {term}`Soft-Frozen Decoder` starts where the fully trained one starts, but each direction must stay near its start. Take the part
# of each direction that is new, at right angles to the start: does it point where the fully trained SAE's new part points? For
# unrelated directions the cosine would be 0, give or take $1/\sqrt{n}$, where $n$ is the number of dimensions of the activations.


# %%
def moved(sae):
    """The part of each decoder direction that its start did not have, as unit vectors; zero where nothing moved."""
    directions = normalize(sae.W_dec.detach(), dim=1)
    along = (directions * sae.W_dec_start).sum(dim=1, keepdim=True)
    return normalize(directions - along * sae.W_dec_start, dim=1)


ways = {}
for activation in activations:
    soft, trained = saes[activation.name, "Soft-Frozen Decoder"], saes[activation.name, "fully trained"]
    both = (soft.cosine_to_start() < 0.999) & (trained.cosine_to_start() < 0.999)
    ways[activation.name] = (moved(soft) * moved(trained)).sum(dim=1)[both]

# %% tags=["hide-input"]
chance = lm.d_model**-0.5
sentences = []
for name, cosines in ways.items():
    soft, trained = (
        saes[name, baseline].cosine_to_start()[tested[name, baseline].firing_frequency > 0].median()
        for baseline in ("Soft-Frozen Decoder", "fully trained")
    )
    if len(cosines):
        sentences.append(
            f"**{name}**: of {d_sae:,} latents {len(cosines):,} moved in both; the new parts of their directions have a median cosine "
            f"of {cosines.median():.2f}, where unrelated ones have {0:.2f} ± {chance:.2f}. Median cosine to the start, over the latents that fire on the first "
            f"{min(10_000, len(store.held_out)):,} held-out tokens: Soft-Frozen {soft:.2f}, fully trained {trained:.2f}."
        )
Markdown("\n\n".join(sentences) or "No latent moved in both.")

# %% [markdown]
# ## By L0, and for TopK and ReLU
#
# The paper calls {term}`TopK`'s success on synthetic data ([here](reference-runs)) an artifact of the simple setting. Is TopK ahead on real activations? And {term}`ReLU with L1`, the oldest
# {term}`architecture` of all? Runs of this notebook with
# other values of `l0` and `architectures` take longer than a build has; `book/sweep.py` makes them ([How to run and rerun](../book/howto.md)).
# {term}`RelativeBatchTopK` is this book's own, from [the recovery puzzle](03_recovery_puzzle). In the figure compare the lines of one panel: do the
# baselines keep their order as {term}`L0` grows, and does the gap to the trained SAE close?

# %%
Markdown(runs.label or "This edition holds no longer runs of this chapter.")

# %% mystnb={"image": {"alt": "Two rows of line charts against L0, a column for each architecture: explained variance above, loss recovered below, a line for each variant. The table below gives the numbers."}, "figure": {"name": "fig-by-l0", "caption": "Reference runs: explained variance and share of loss recovered (compared with the mean) against the L0 that was asked for."}}
if runs:
    longer = runs.tables["reconstruction"]
    longer = longer[longer["metric"].isin([EV, RECOVERED_MEAN])]
    figures.scores_by_l0(longer)

# %% tags=["hide-input"]
if runs:
    by_l0 = longer.pivot_table(
        index=["metric", "architecture", "baseline"], columns="l0", values="score", sort=False
    )
    display(show(by_l0.rename(columns=lambda value: f"L0 {value}").reset_index()))

# %% tags=["hide-input"]
lines = []
if runs:
    trained = longer[longer["baseline"] == "fully trained"].pivot_table(index=["metric", "l0"], columns="architecture", values="score")
    for metric, rows in trained.groupby(level="metric", sort=False):
        for name in trained.columns.drop("BatchTopK", errors="ignore"):
            ahead = (rows[name] - rows["BatchTopK"]).dropna().round(3)  # what rounds to nothing is level
            sides = [word for word, holds in {"above": ahead > 0, "below": ahead < 0, "level with": ahead == 0}.items() if holds.any()]
            sides = ["now above, now below"] if {"above", "below"} <= set(sides) else sides
            values = f"all {len(rows)}" if len(ahead) == len(rows) else f"{len(ahead)} of {len(rows)}"
            lines.append(f"- **{metric}**, fully trained: {name} is {' or '.join(sides)} BatchTopK at {values} values of L0 ({ahead.min():+z.3f} to {ahead.max():+z.3f}).")
        gaps = longer[(longer["metric"] == metric) & longer["baseline"].isin(["fully trained", "Soft-Frozen Decoder"])]
        gaps = gaps.pivot_table(index=["architecture", "l0"], columns="baseline", values="score")
        gap = gaps["fully trained"] - gaps["Soft-Frozen Decoder"]
        least, most = (", L0 ".join(map(str, place)) for place in (gap.idxmin(), gap.idxmax()))
        lines.append(
            f"- **{metric}**: a trained SAE leads its Soft-Frozen Decoder by {gap.max():.3f} at most ({most}); "
            + (f"the Soft-Frozen Decoder is ahead in {(gap < -0.0005).sum()} of {len(gap)} cases, by up to {-gap.min():.3f} ({least})." if gap.min() < -0.0005
               else f"the least lead is {gap.min():z.3f} ({least}).")
        )  # fmt: skip
Markdown("\n".join(lines) + ("\n\nFrom one seed. Here nobody knows the features, and these two scores are all that can be compared." if lines else ""))

# %% [markdown]
# ## A wider dictionary, three seeds
#
# All of the above is from one {term}`seed`, and unless you changed `expansion`, with 8 {term}`latents <latent>` a dimension; the paper has 32. The more random
# directions there are, the closer one lies to any activation: does a wider {term}`dictionary` help random directions more than learned ones? And would
# another seed have told another story? These runs have 16 latents a dimension and three seeds; a seed changes the start and the order
# of the activations, the texts stay. Look at how far the dots of one variant lie apart, and compare with the distance between variants.

# %%
Markdown(wide_runs.label or "This edition holds no runs at another width.")

# %% mystnb={"image": {"alt": "Two panels, explained variance and loss recovered: for each variant a dot for each seed and architecture. The table below gives the numbers."}, "figure": {"name": "fig-wide", "caption": "Reference runs with 16 latents a dimension: a dot for each seed."}}
if wide_runs:
    at_width = wide_runs.tables["reconstruction"]
    at_width = at_width[at_width["metric"].isin([EV, RECOVERED_MEAN])]
    figures.scores_by_seed(at_width)

# %% [markdown]
# The mean over seeds, with its 95% interval (Student's $t$; it speaks of other seeds, not of other texts). *L0* is the mean that was measured on held-out tokens: an SAE with
# more active latents than another has an easier task, so first see whether it is what was asked for.

# %% tags=["hide-input"]
def mean_over_seeds(scores):
    within = t.ppf(0.975, len(scores) - 1) * sem(scores)
    return pd.Series({"mean": scores.mean(), "low": scores.mean() - within, "high": scores.mean() + within, "seeds": len(scores)})


if wide_runs:
    of_variant = at_width.groupby(["metric", "architecture", "baseline"], sort=False)
    over_seeds = of_variant["score"].apply(mean_over_seeds).unstack().astype({"seeds": int})
    measured = of_variant["measured_l0"].mean().rename("L0")
    display(show(over_seeds.join(measured).reset_index()[["metric", "architecture", "baseline", "mean", "L0", "low", "high", "seeds"]]))

# %% tags=["hide-input"]
lines = []
if wide_runs:
    for (metric, architecture), rows in at_width.groupby(["metric", "architecture"], sort=False):
        by_seed = rows.pivot(index="seed", columns="baseline", values="score")
        trained = by_seed.pop("fully trained")
        nearest = by_seed.mean().idxmax()
        lead = mean_over_seeds(trained - by_seed[nearest])
        spread = np.ptp(by_seed.assign(**{"fully trained": trained}), axis=0)
        lines.append(
            f"- **{metric}**, {architecture}: nearest to the trained SAE is {nearest}; the trained SAE leads by {lead['mean']:+.3f} "
            f"[{lead['low']:+.3f}, {lead['high']:+.3f}]. Seeds lie farthest apart for {spread.idxmax()}, by {spread.max():.3f}, and {spread['fully trained']:.3f} for the trained SAE."
        )
Markdown("\n".join(lines))

# %% [markdown]
# And does width help the random ones more? For each variant, what its score gains from 8 to 16 latents a dimension, at the same L0 and from the same seed.

# %% tags=["hide-input"]
gains = pd.DataFrame()
if runs and wide_runs:
    same = ["metric", "baseline", "architecture", "l0", "seed"]
    gain = (at_width.set_index(same)["score"] - longer.set_index(same)["score"]).dropna()
    gains = gain.unstack("architecture").droplevel(["l0", "seed"])
    display(show(gains.reset_index()))

# %% tags=["hide-input"]
lines = []
for metric in gains.index.unique("metric") if len(gains) else []:
    of_metric = gains.loc[metric]
    more = of_metric.drop(index="fully trained") - of_metric.loc["fully trained"]
    catching_up = (more > 0).sum(axis=1)
    told = [f"{name} in {n} of {more.shape[1]} ({more.loc[name].min():+.3f} to {more.loc[name].max():+.3f})" for name, n in catching_up.items()]
    lines.append(f"- **{metric}**: number of architectures in which a baseline gains more than the trained SAE (its gain less the trained SAE's): {'; '.join(told)}.")
Markdown("\n".join(lines) + ("\n\nOne seed, so differences within the spread of seeds above say nothing." if lines else ""))

# %% tags=["hide-input"]
summary = summary.join(measured_l0.rename("measured_l0"), on=measured_l0.index.names)
keep("reconstruction", summary, l0=l0, layer=layer, seed=seed)
keep("lazy_training", lazy)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that a reconstruction which lets the model predict well must have learned directions. {numref}`fig-loss-recovered`
# would support it if every baseline with frozen directions lay at the untrained dictionary and only SAEs whose directions
# moved lay far above. It would weaken it if a Frozen Decoder came as near to 1 as the trained SAE does. And {numref}`fig-lazy` could
# overturn both readings: if the trained SAE's curve is flat while its directions are still at a cosine near 1 to the start, then the trained SAE's
# score, too, was reached with directions that are all but random.

# %% [markdown]
# ## Exercises
#
# ```{exercise} A share of which damage?
# :label: ex-loss-recovered
#
# *Easy, 5 minutes.* Write `loss_recovered(loss, model, ablated)` as in {eq}`eq-loss-recovered`, from three losses in nats a token: with the
# reconstruction in place, of the model itself, and of the ablation.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def loss_recovered(loss, model, ablated):
    # BEGIN SOLUTION
    return (ablated - loss) / (ablated - model)
    # END SOLUTION


# %% tags=["check"]
exercises.check_loss_recovered(loss_recovered)

# %% [markdown]
# With the losses of this page, both comparisons:

# %% tags=["hide-input"]
own, at_zero, at_mean = (of.loc[name, LOSS] for name in ("the model itself", "zero", "mean"))
rows = [("no SAE", "untrained dictionary", untrained[LOSS])]
rows += [(*names, table.loc[names, LOSS]) for names in saes]
shares = pd.DataFrame(rows, columns=["architecture", "baseline", "loss"])
shares["compared with zero"] = loss_recovered(shares["loss"], own, at_zero)
shares["compared with the mean"] = loss_recovered(shares["loss"], own, at_mean)
show(shares)

# %% [markdown]
# ```{exercise} What 90% against zero is worth
# :label: ex-against-mean
#
# *Medium, 10 minutes.* A paper reports only the loss recovered compared with zero. Write `against_mean(recovered, model, zero, mean)`: what
# the same reconstruction recovers compared with the mean. The last three are losses in nats.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def against_mean(recovered, model, zero, mean):
    # BEGIN SOLUTION
    loss = zero - recovered * (zero - model)
    return (mean - loss) / (mean - model)
    # END SOLUTION


# %% tags=["check"]
exercises.check_against_mean(against_mean)

# %% [markdown]
# If the model, the layer and the texts were those of this page:

# %% tags=["hide-input"]
if at_mean > own:
    lines = [
        f"- {share:.0%} compared with zero is {against_mean(share, own, at_zero, at_mean):.0%} compared with the mean"
        for share in (0.8, 0.9, 0.95, 0.99)
    ]
    lines = "\n".join(lines) + "\n\nBelow 0% the reconstruction is worse for the model than the layer's mean."
else:
    lines = "The mean does this model no harm on these texts, so there is nothing to recover."
Markdown(lines)

# %% [markdown]
# ```{exercise} One number from many texts
# :label: ex-one-number
#
# *Hard, 20 minutes.* Some texts hardly suffer from an ablation. Write `one_number(saved, lost)` for arrays with an entry a text, in nats:
# what the reconstruction saves, and what the ablation costs. Give one loss recovered for all texts that such a text
# cannot overturn. Before you write it, think of a text that loses 0.2 nats to the ablation and 0.8 to the reconstruction: what does
# it do to a mean of shares?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def one_number(saved, lost):
    # BEGIN SOLUTION
    return saved.sum() / lost.sum()
    # END SOLUTION


# %% tags=["check"]
exercises.check_one_number(one_number)

# %% [markdown]
# On the texts of this page, with the text whose share is the oddest:

# %% tags=["hide-input"]
lines, apart = [], []
for names in [(activation.name, baseline) for activation in activations for baseline in ("fully trained", "Frozen Decoder")]:
    texts_of = items[(items[["architecture", "baseline", "metric"]] == [*names, RECOVERED_MEAN]).all(axis=1)]
    together = one_number(texts_of["score"] * texts_of["weight"], texts_of["weight"])
    odd = texts_of.loc[(texts_of["score"] - together).abs().idxmax()]
    apart.append(abs(together - texts_of["score"].mean()))
    lines.append(
        f"- {', '.join(names)}: {together:.3f} over {len(texts_of)} texts together, where the mean of their shares is "
        f"{texts_of['score'].mean():.3f}. The oddest text has a share of {odd['score']:.2f} and loses {odd['weight']:.1f} nats to the "
        f"ablation, all its tokens added up; the median text loses {texts_of['weight'].median():.1f}."
    )
lines = "\n".join(lines) + (
    f"\n\nThe two ways differ by {max(apart):.3f} at most here. The fewer tokens a text has, and the less its ablation harms, the further they come apart: "
    f"the least that a text of this page loses is {texts_of['weight'].min():.1f} nats."
)
Markdown(lines if len(texts_of) > 1 else "So few tokens were spliced that they are of one text: there is nothing to put together.")

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. An SAE recovers 98% of the loss compared with zero. Is it nearly as good as the layer itself?
# That cannot be told from the number. An untrained dictionary recovers a good part as well: see above how much. Zero is far from anything that the
# layers above ever read, so its damage may be much larger than the mean's; how much depends on the model, the layer and the texts. And the 2% that
# are left may be many nats where the damage is large: {cite:t}`gao2024scaling` ask instead how much smaller a model has the same loss.
# ```
#
# ```{dropdown} 2. Two SAEs have the same explained variance, and one recovers less loss. How can that be?
# Explained variance weighs all directions by how much the activations vary along them. The model reads some of these more than others. An
# SAE that errs where the model does not look loses nothing; another with an equally large error elsewhere does.
# ```
#
# ```{dropdown} 3. After a twentieth of training, explained variance is at nine tenths of its end and the median cosine to the start is 0.95. Does that prove lazy training?
# It fits it, but 0.95 is not 1: such a direction has a part of $\sqrt{1 - 0.95^2} \approx 0.31$ at right angles to its start, many times what chance
# gives in hundreds of dimensions, and small turns of thousands of directions add up. Freeze the directions and train the rest: what is lost then
# was owed to the turns.
# ```

# %% [markdown]
# ## Key points
#
# - Loss recovered depends on what it is compared with. Where zero does more damage than the mean, everything scores higher against zero; ask what
#   the mean, an untrained dictionary and PCA score on the same texts.
# - Compare how far apart trained and frozen are on each score, not only which is higher.
# - How fast explained variance rises, and how little directions have turned by then, are two curves to look at together.
# - A Soft-Frozen direction may go where training wants it, only less far: it is a restricted SAE, not a random one.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`: the tables of explained variance, and the appendix on lazy training.
# - {cite:t}`karvonen2025saebench`: loss recovered as one score among many, with the choices that a benchmark has to make.
# - {cite:t}`gao2024scaling`: the loss of a spliced model, and how to read it.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Vision
#
# ```{admonition} This lesson
# - **You will learn** to judge pictures of what a {term}`latent` of a vision model fires on: what a row of images can show, what a score with a chance level adds, and
#   which comparison it takes.
# - **You need** [Frozen Decoder](05_frozen_decoder) and [Auto-interpretability](10_autointerp): {term}`encoder`, {term}`L0`, {term}`floor`.
# - **Time** 20 minutes to read, 35 more for the exercises.
# ```
#
# SAEs also read vision models. {cite:t}`korznikov2026sanity` take rare latents of CLIP {cite:p}`radford2021clip`, from pretrained SAEs and from
# SAEs with random weights, show for each the images at the percentiles 100, 75, 50 and 25 of its activation, and find that the random ones
# look like concepts too. That is an argument by picture, with no score. This chapter makes the same picture on another model, says *where* in
# the image a latent fires, and adds a score with its chance level and intervals.
#
# A vision model holds a vector for every place of an image, as a language model does for every {term}`token`. The default model
# here, EfficientNet-Lite0, was trained to tell the 1,000 classes of ImageNet apart. In the middle of it, an image is a grid of 14 by 14 places,
# each an {term}`activation` of 112 numbers. Every place is one sample for the SAE.
#
# The images are emoji, since they come inside a package with a category for each. They are drawn figures, not the photographs that
# the model was trained on, most of each image is white, and all are of one style. What is found here holds for such images.
#
# **Before you read on, write down an order:** of a trained SAE, a {term}`Frozen Decoder` (whose {term}`decoder directions <decoder direction>` stayed random), an SAE that was
# never trained, and the model's own channels, which has the latents whose strongest images are most often of one category? Is the last of your four
# still better than chance?

# %% tags=["parameters"]
architectures: list = ["BatchTopK", "JumpReLU"]  # from ReLU, TopK, BatchTopK, JumpReLU
model: str = "efficientnet-lite0"  # vision model: "efficientnet-lite0" (embedded), or a transformers id or folder
layer: int = 9  # block whose output is read, counted from 0; CLIP ViT-B/32 has 12, and the paper reads 3, 5, 7 and 9
images: str = "openmoji"  # image set: "openmoji" or "digits" (embedded), or a datasets id or folder
split: str = "train"  # split of that image set
image_column: str = "image"  # its column of pictures
label_column: str = "label"  # its column of labels
image_count: int = 0  # images to read; 0: all of the set
held_out: float = 0.5  # share of the images that the SAEs are not trained on, and that everything is scored on
l0: int = 8  # active latents at each place; the paper's ratio of L0 to d_in gives 8 for d_in 112
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 512  # activations in a training batch
epochs: int = 2  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the order of the images, of the random directions and of all that is drawn
rare: float = 0.001  # a latent that fires at a smaller share of places is rare; 0.001 in the paper
shown: int = 4  # rare latents of each SAE to look at
top: int = 10  # strongest images of a latent that are scored
margin: float = 0.03  # a difference in score below this is of no interest

# %% tags=["hide-input"]
import html
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from saebook import figures
from saebook.contexts import gallery, pictures, pictures_html
from saebook.exercises import vision as exercises
from saebook.setup import HTML, Markdown, display, keep, show

from saelite import SAE, arguments, evaluate, plots
from saelite.data.images import load_images
from saelite.data.vision_models import check_block, harvest_images, load_vision_model, seen
from saelite.evaluations.label_purity import PURITY, PURITY_RARE, LabelPurity, draw_rare, image_peaks
from saelite.evaluations.scorecard import against_trained
from saelite.grid import architectures_at, fit, papers_grid
from saelite.reuse import over, references
from saelite.statistics import summarise

plots.style()
# wrong parameters are refused here, before anything slow runs
arguments.training(batch_size=batch_size, epochs=epochs, lr=lr, seed=seed)
arguments.whole(0, image_count=image_count)
arguments.whole(1, shown=shown)
arguments.whole(2, top=top)
arguments.between(0, 1, held_out=held_out, rare=rare)
arguments.above(0, margin=margin)
vm = load_vision_model(model)
check_block(vm, layer)
image_set = load_images(images, split, image_column, label_column, seed=seed, limit=image_count or None)
if held_out * len(image_set) < top:
    raise ValueError(f"held_out={held_out} of {len(image_set)} images are fewer than the top={top} that are scored: give more.")
RANDOM = "fully random"

# %% tags=["hide-input"]
credit, labels = image_set[0]["credit"], image_set["label"][:]
counts = Counter(labels)
one_each = [image_set[labels.index(label)] for label, _ in counts.most_common(10)]
captions = [f"{one['label']}: {counts[one['label']]}" for one in one_each]
HTML(
    f"<p>{len(image_set):,} images with {len(counts)} labels; an image of each, up to ten, and how many there are:</p>"
    + gallery([seen(vm, one["image"]) for one in one_each], captions, [one["name"] for one in one_each])
    + f"<p class='credit'>Images: {html.escape(credit)}</p>"
)

# %% [markdown]
# One half of the images (or as `held_out` says) trains the SAEs. All that follows is measured on the other half, which no SAE has seen.

# %%
store = harvest_images(vm, image_set, layer=layer, held_out=held_out)
d_sae = expansion * store.d_in
activations = architectures_at(l0, architectures, d_sae)
purity = LabelPurity(store, labels, l0=l0, top=top, rare=rare, seed=seed)
rows, columns = store.record["grid"]
Markdown(
    f"Block {layer} of {vm.name} holds {store.d_in} numbers at each of {rows} x {columns} places: {len(store.train):,} "
    f"activations to train on and {len(store.held_out):,} held out. Tokens that have no place, such as a class token, are left out."
)

# %% [markdown]
# ## The SAEs
#
# The grid of the chapters before, and one more: a *fully random* SAE. It is what the fully trained one was before its first
# step: random {term}`directions <direction>` in encoder and decoder, with its scale and threshold fitted to a sample so that its {term}`L0` is the same. The paper's
# random SAEs are Kaiming-random, a usual way to draw the first weights of a network; ours has this book's own start, so that training is all that it lacks.

# %%
sample = store.train[:50_000]
saes, _ = fit(
    papers_grid(activations, sample, d_sae=d_sae, seed=seed), store.batches(batch_size, epochs=epochs, seed=seed),
    store.d_in, d_sae=d_sae, seed=seed, lr=lr,
)  # fmt: skip
for activation in activations:
    untrained = SAE(store.d_in, d_sae, activation, seed=seed).eval()
    untrained.calibrate(sample[:: max(1, len(sample) // 4096)])
    saes[activation.name, RANDOM] = untrained
order = [(activation.name, baseline) for activation in activations for baseline in dict.fromkeys(name for _, name in saes)]
saes = {names: saes[names] for names in order}

# %%
measured = []
for (architecture, baseline), sae in saes.items():
    found = evaluate(sae, store.held_out[:], store.held_out.documents)
    seldom = int(((found.firing_frequency > 0) & (found.firing_frequency < rare)).sum())
    measured.append({"architecture": architecture, "baseline": baseline} | found.row() | {"rare latents": seldom})
measured = pd.DataFrame(measured)
show(measured)

# %% tags=["hide-input"]
by_name, lines = measured.set_index(["architecture", "baseline"]), []
for activation in activations:
    trained, random = (by_name.loc[(activation.name, name)] for name in ("fully trained", RANDOM))
    lines.append(
        f"- **{activation.name}**: fully trained explains {trained['explained_variance']:.2f} of the variance of held-out images, "
        f"fully random {random['explained_variance']:z.2f}. Of {d_sae} latents, {trained['rare latents']:.0f} of the trained SAE are rare, "
        f"and {random['rare latents']:.0f} of the random one; {trained['dead']:.0%} and {random['dead']:.0%} never fire."
    )
Markdown("\n".join(lines))

# %% [markdown]
# ## The paper's picture
#
# Latents of three SAEs, drawn at random among the rare ones (in the paper, those with a {term}`firing frequency` below 0.1%). Each is shown
# at the percentiles 100, 75, 50 and 25 of its activation among the images on which it fires. Tinted: the places where it fires; boxed:
# where it is strongest. What a place depends on is wider than its cell, since each block of the model looks at neighbours.
#
# **Which of the three shows concepts?** Decide before you read on, and mind that a story can be found for nearly any four pictures.

# %% tags=["hide-input"]
first, looked_at = activations[0].name, {}
for baseline in ("fully trained", "Frozen Decoder", RANDOM):
    peaks = image_peaks(saes[first, baseline], store.held_out)
    drawn = draw_rare(peaks, shown, below=rare, seed=seed)
    looked_at[f"{first}, {baseline}"] = pictures(vm, saes[first, baseline], store.held_out, image_set, peaks, drawn)
HTML(pictures_html(looked_at, credit))

# %% [markdown]
# ## A score for the picture
#
# Take a latent's ten strongest held-out images, by its strongest place in each, and draw two of them: how often have
# they the same label? That is its {term}`label purity`. Beside it stand
#
# - *random images*, the {term}`floor`: ten images drawn at random. What they score on average is known: the share of all pairs of held-out
#   images that have the same label;
# - *neurons*, a {term}`yardstick`: the model's own channels at this block, each standardised and taken in both signs, with one threshold
#   so that as many are active as latents are. An SAE should beat them;
# - *supervised probes*, a {term}`ceiling`: classifiers that were told the labels of the training images.
#
# The score says when a latent fires, so it speaks of encoders. A Frozen Decoder has a trained one. The
# {term}`Frozen Encoder` and the fully random SAE have the same random one up to {term}`biases <bias>` and threshold, so the two should score alike; and
# before training a {term}`BatchTopK` and a {term}`JumpReLU` SAE are the same.
#
# A latent that fires on fewer than ten held-out images is left out; *eligible* says how many are not. The {term}`intervals <bootstrap confidence interval>` are
# over latents. Several latents may share their images, so the intervals are somewhat too narrow.

# %%
items, beside_them = over(saes, purity), references(purity)
limits = summarise(beside_them, ["reference", "kind", "metric"])
sizes = items.groupby(["architecture", "baseline"], sort=False)[["latents", "alive", "eligible"]].first().reset_index()
scores = summarise(items, ["architecture", "baseline", "metric"]).merge(sizes, how="left")


def short(table):
    """A table that says which latents are meant, all or the rare ones, in place of the name of the metric."""
    table = table.drop(columns=["latents", "margin"], errors="ignore").replace({"metric": {PURITY: "all", PURITY_RARE: "rare"}})
    return table.rename(columns=lambda name: {"metric": "latents"}.get(name, name.removeprefix("difference_")))


show(short(scores))

# %%
show(short(limits))

# %% mystnb={"image": {"alt": "Label purity of each SAE as a dot with its 95% interval, one row a variant and architecture, with lines for random images, neurons and supervised probes. The tables above give the numbers."}, "figure": {"name": "fig-label-purity", "caption": "Label purity of all latents that fire on enough held-out images: mean and 95% interval over latents. Lines: the same for random sets of images (floor), the channels of the model (yardstick), and probes that were told the labels (ceiling)."}}
marks = limits[limits["metric"] == PURITY].set_index("reference")["score"].to_dict()
figure = figures.scores_by_variant(scores[scores["metric"] == PURITY], marks, xlabel="label purity", xlim=(0, max(marks.values()) + 0.05))

# %% [markdown]
# ## What it allows one to say
#
# Latents of two SAEs do not pair, so each mean keeps its own uncertainty. *Equivalent* means that the whole interval of the
# difference lies within the {term}`equivalence margin`; *not told apart* only says that this many latents do not settle it.

# %%
differences = pd.concat(
    [against_trained(items[items["metric"] == metric], margin=margin, paired=purity.paired) for metric in (PURITY, PURITY_RARE)]
)
show(short(differences))

# %% tags=["hide-input"]
by_name, by_reference = (
    table.set_index([*names, "metric"])
    for table, names in ((scores, ["architecture", "baseline"]), (limits, ["reference"]))
)
lines = []
for metric in (PURITY, PURITY_RARE):
    beside = [f"chance {purity.chance:.2f}"]
    if ("neurons", metric) in by_reference.index:
        neurons = by_reference.loc[("neurons", metric)]
        beside.append(f"neurons {neurons['score']:.2f} [{neurons['low']:.2f}, {neurons['high']:.2f}] of {neurons['items']:.0f}")
    for activation in activations:
        names = activation.name, "fully trained", metric
        if names not in by_name.index:
            lines.append(f"- **{metric}, {activation.name}**: no latent of the fully trained SAE could be scored.")
            continue
        own, floor = by_name.loc[names], by_reference.loc[("random images", metric)]
        above = "above" if own["low"] > floor["high"] else "not clearly above"
        against = differences[(differences["metric"] == metric) & (differences["architecture"] == activation.name)]
        verdicts = "; ".join(f"{d.baseline} {d.difference:+.3f}, {d.verdict}" for d in against.itertuples())
        lines.append(
            f"- **{metric}, {activation.name}**: fully trained {own['score']:.2f} [{own['low']:.2f}, {own['high']:.2f}], {above} random "
            f"images ({', '.join(beside)}). {verdicts or 'Nothing to compare with'}."
        )
Markdown("\n".join(lines))

# %% [markdown]
# Your order, answered:

# %% tags=["hide-input"]
asked = {name: by_name.loc[(first, name, PURITY)] for name in ("fully trained", "Frozen Decoder", RANDOM) if (first, name, PURITY) in by_name.index}
asked |= {"the model's own channels": by_reference.loc[("neurons", PURITY)]} if ("neurons", PURITY) in by_reference.index else {}
ordered = sorted(asked.items(), key=lambda one: -one[1]["score"])
top_of_chance = by_reference.loc[("random images", PURITY), "high"]
Markdown(
    "\n".join(f"{i}. {name}: {one['score']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for i, (name, one) in enumerate(ordered, start=1))
    + (
        f"\n\nThese are means over the latents of {first}. Neighbours whose intervals overlap could stand the other way round. The last "
        f"{'is still above chance' if ordered[-1][1]['low'] > top_of_chance else 'is not clearly above chance'} ({purity.chance:.2f})."
        if ordered
        else "No latent could be scored."
    )
)

# %% [markdown]
# Two SAEs may differ in a mean only because their latents differ in how often they fire. So compare latents of like frequency.

# %% mystnb={"image": {"alt": "Line chart: mean label purity of latents against the share of places at which they fire, on a logarithmic axis, one line an SAE, with the level of random images as a dotted line."}, "figure": {"name": "fig-purity-frequency", "caption": "Mean label purity by how often a latent fires, for the first architecture, with 95% intervals over latents; groups of fewer than ten latents are left out. Dotted: random images."}}
figure, axes = plt.subplots(figsize=(7, 3.6))
edges = 10 ** np.arange(-4, 0.01, 0.5)
own = items[(items["metric"] == PURITY) & (items["architecture"] == first)]
for number, ((baseline, mine), mark) in enumerate(zip(own.groupby("baseline", sort=False), "os^vDP", strict=False)):
    group = pd.cut(mine["frequency"], edges, labels=np.sqrt(edges[1:] * edges[:-1])).astype(float)
    line = summarise(mine.assign(group=group).dropna(subset=["group"]), ["group"]).sort_values("group")
    line = line[line["items"] >= 10]
    spread = np.nan_to_num([line["score"] - line["low"], line["high"] - line["score"]])
    beside = line["group"].astype(float) * 1.06 ** (number - 2.5)  # so that intervals do not lie on each other
    axes.errorbar(beside, line["score"], yerr=spread, marker=mark, capsize=2, color=plots.COLOURS.get(baseline, plots.GREY), label=baseline)
axes.axhline(purity.chance, color=plots.GREY, linestyle=":")
axes.axvline(rare, color=plots.GREY, linewidth=0.8)
axes.annotate("rare", (rare, 1), xycoords=("data", "axes fraction"), xytext=(-4, -2), textcoords="offset points", ha="right", va="top", fontsize=9)
axes.set(xscale="log", xlabel="share of places at which a latent fires", ylabel="label purity")
figure.legend(loc="outside lower center", ncols=3, fontsize=9);

# %% tags=["hide-input"]
lines = []
for kind, some in (("rare", own[own["frequency"] < rare]), ("more frequent", own[own["frequency"] >= rare])):
    if not some["baseline"].eq("fully trained").any():
        lines.append(f"- Of the **{kind}** latents of the fully trained SAE none could be scored.")
        continue
    against = against_trained(some, margin=margin, paired=False).set_index("baseline")
    said = [
        f"{name} {d.difference:+.3f} [{d.difference_low:+.3f}, {d.difference_high:+.3f}], {d.verdict}"
        for name, d in against.iterrows()
    ]
    lines.append(f"- **{kind.capitalize()}** latents of {first}, against those of the fully trained SAE: {'; '.join(said)}.")
Markdown("\n".join(lines))

# %% [markdown]
# The paper's picture is of rare latents. If the SAEs differ among the frequent ones and hardly among the rare ones, such a picture looks where there is
# least to see.
#
# ## What the labels see
#
# The labels of the images are one question among many. Here are, for the SAEs of the picture, the labels that are commonest among
# latents' strongest images, beside how often the label occurs.

# %% tags=["hide-input"]
mine = own[own["baseline"].isin(["fully trained", "Frozen Decoder", RANDOM])]
shares = pd.crosstab(mine["label"], mine["baseline"], normalize="columns").reindex(columns=mine["baseline"].unique())
held = pd.Series(labels)[len(store.train) // (rows * columns) :].value_counts(normalize=True)
show(shares.assign(**{"share of images": held}).sort_values("share of images", ascending=False).reset_index())

# %% tags=["hide-input"]
for name, table in {"": scores, "_references": limits, "_differences": differences, "_explained": measured}.items():
    keep(f"vision{name}", table, model=model, layer=layer, l0=l0, seed=seed)

# %% [markdown]
# ## On CLIP, as in the paper
#
# The paper reads layers 3, 5, 7 and 9 of CLIP ViT-B/32. With a network, and a set of photographs with labels on the Hugging Face hub, for each of these layers:
#
# ```bash
# .venv/bin/python book/execute.py notebooks/17_vision.ipynb \
#     -p model openai/clip-vit-base-patch32 -p layer 9 -p l0 53 \
#     -p images uoft-cs/cifar100 -p image_column img -p label_column fine_label -p image_count 20000
# ```
#
# L0 53 is the paper's ratio for 768 dimensions (160 of 2304); what L0 and which images the paper's vision SAEs have, it does not say. The grid is 7 x 7 there, so an image gives 49
# activations. Weights are read in safetensors only. This path is tested here on small models with random weights;
# CLIP itself was not run for this page, which is built without a network. Images this small are enlarged before CLIP sees them: name
# a set of larger photographs where you have one.

# %% [markdown]
# ## What would change my mind
#
# The paper's picture says that random latents look like concepts too. In {numref}`fig-label-purity` that gains weight if the fully random SAE lies well above random images and
# its interval covers the trained SAE's. It loses weight if the trained SAE lies above the random one *and* above the model's own channels, and in {numref}`fig-purity-frequency` at the same
# frequency. Against both stands what the score cannot see: labels name one kind of likeness, on drawn figures. A set of photographs with finer labels, on the paper's model, would
# move me more than any number of further pictures.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Chance
# :label: ex-chance-of
#
# *Easy, 5 minutes.* `counts` says how many images each label has. Write `chance_of(counts)`: if two different images are drawn at random, how often have they the same
# label?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def chance_of(counts):
    # BEGIN SOLUTION
    n = counts.sum()
    return (counts * (counts - 1)).sum() / (n * (n - 1))
    # END SOLUTION


# %% tags=["check"]
exercises.check_chance_of(chance_of)

# %% tags=["hide-input"]
of_label = pd.Series(labels)[len(store.train) // (rows * columns) :].value_counts().to_numpy()
drawn_at_random = limits[(limits["reference"] == "random images") & (limits["metric"] == PURITY)].iloc[0]
Markdown(
    f"On the held-out images that is {chance_of(of_label):.3f}; the random sets of images scored {drawn_at_random['score']:.3f} [{drawn_at_random['low']:.3f}, {drawn_at_random['high']:.3f}]. With "
    f"{len(of_label)} labels of equal size it would be about {1 / len(of_label):.3f}: unequal labels raise the floor under every SAE."
)

# %% [markdown]
# ```{exercise} Like with like
# :label: ex-like-for-like
#
# *Medium, 10 minutes.* The latents of a baseline and of the trained SAE have been put into groups of like {term}`firing frequency`. Write `like_for_like(scores, groups, trained_scores, trained_groups)`,
# for four arrays: in each group that both have, the baseline's mean score minus the trained SAE's; then the mean of these differences, each weighted by how many latents of the *trained* SAE
# are in the group.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def like_for_like(scores, groups, trained_scores, trained_groups):
    # BEGIN SOLUTION
    both = np.intersect1d(groups, trained_groups)
    apart = [scores[groups == group].mean() - trained_scores[trained_groups == group].mean() for group in both]
    return np.average(apart, weights=[(trained_groups == group).sum() for group in both])
    # END SOLUTION


# %% tags=["check"]
exercises.check_like_for_like(like_for_like)

# %% [markdown]
# The baselines of this page, with two groups to each factor of ten in frequency, as in {numref}`fig-purity-frequency`:

# %% tags=["hide-input"]
grouped = own.assign(group=np.floor(2 * np.log10(own["frequency"])))
trained_ones, lines = grouped[grouped["baseline"] == "fully trained"], []
for baseline, mine in grouped[grouped["baseline"] != "fully trained"].groupby("baseline", sort=False):
    if len(np.intersect1d(mine["group"], trained_ones["group"])):
        matched = like_for_like(*(of[column].to_numpy() for of in (mine, trained_ones) for column in ("score", "group")))
        lines.append({"baseline": baseline, "all latents at once": mine["score"].mean() - trained_ones["score"].mean(), "like with like": matched})
compared = pd.DataFrame(lines, columns=["baseline", "all latents at once", "like with like"])
display(show(compared))
moved = (compared["like with like"] - compared["all latents at once"]).abs()
Markdown(
    f"The difference that changes most is that of *{compared.loc[moved.idxmax(), 'baseline']}*, by {moved.max():.3f}: so much of it was a matter of how often latents fire."
    if len(compared)
    else "No latents of like frequency could be compared."
)

# %% [markdown]
# ```{exercise} Better than chance, or lucky?
# :label: ex-above-chance
#
# *Hard, 20 minutes.* Among hundreds of latents some beat chance by luck. Write `above_chance(scores, by_chance, rate)`: of latents with these `scores`, how many can be called better than
# chance so that at most a share `rate` of *those* is expected to be there by luck? That is the {term}`false discovery rate`, and this is how {cite:t}`benjamini1995fdr` keep it. `by_chance` are the scores of random sets of images. A latent's p-value is the share
# of sets that score *at least* as high, with the latent itself counted as one more such set. Sort the p-values; find the last one, at rank $k$ of $m$, that is at most $k/m$ times the
# rate; it and all before it are kept. **Write down first:** for the SAE that was never trained, how many will be kept?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def above_chance(scores, by_chance, rate):
    # BEGIN SOLUTION
    p = ((by_chance >= scores[:, None]).sum(axis=1) + 1) / (len(by_chance) + 1)
    ranks = np.arange(1, len(p) + 1)
    kept = ranks[np.sort(p) <= rate * ranks / len(p)]
    return kept.max() if len(kept) else 0
    # END SOLUTION


# %% tags=["check"]
exercises.check_above_chance(above_chance)

# %% tags=["hide-input"]
by_luck = beside_them.loc[(beside_them["reference"] == "random images") & (beside_them["metric"] == PURITY), "score"].to_numpy()
lines = []
for baseline, mine in own.groupby("baseline", sort=False):
    kept = above_chance(mine["score"].to_numpy(), by_luck, 0.05)
    lines.append({"baseline": baseline, "latents scored": len(mine), "better than chance": kept, "share": kept / len(mine)})
better = pd.DataFrame(lines, columns=["baseline", "latents scored", "better than chance", "share"])
display(show(better))
of = better.set_index("baseline")
counted = {
    name: f"{of.loc[name, 'better than chance']} of {of.loc[name, 'latents scored']} latents ({of.loc[name, 'share']:.0%})"
    for name in (RANDOM, "fully trained")
    if name in of.index
}
Markdown(
    f"At a rate of 5%, {counted[RANDOM]} of the SAE that was never trained can be called better than chance"
    + (f", and {counted['fully trained']} of the fully trained one. " if "fully trained" in counted else ". ")
    + f"The mean purity of the SAE that was never trained is {own.loc[own['baseline'] == RANDOM, 'score'].mean():.3f}, where chance gives {purity.chance:.3f}."
    + (
        f" So a mean over many latents can lie clearly above chance though hardly one of them can be told from luck by its {top} images."
        if by_name.loc[(first, RANDOM, PURITY), "low"] > top_of_chance and of.loc[RANDOM, "share"] < 0.1
        else ""
    )
    if RANDOM in of.index
    else "No latent of the SAE that was never trained could be scored."
)

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. Four images of a latent are a cat, a fox, a bear and a pizza. Is it an animal latent?
# Four images cannot say. One label may be common in the set, and whoever looks for a story leaves out the pizza. Ask how often random images would give such a row, and
# see a row of an SAE that was never trained.
# ```
#
# ```{dropdown} 2. Suppose that the latents of an SAE that was never trained score above chance, on average. Is something wrong with the score?
# No. Its directions are random, but the activations are those of a trained model, and like images lie near each other in them. So any direction sorts images a little. The score is
# right, and it is the model's doing, not the SAE's: an SAE has to be above *that*.
# ```
#
# ```{dropdown} 3. Should the Frozen Encoder have the purity of the fully random SAE?
# Label purity asks *when* a latent fires, which is the encoder's doing. Both encoders have the same random directions; the Frozen Encoder's biases and threshold were trained. Compare the two
# rows: a clear gap is what these have learned. Nothing that the decoder has learned can show here.
# ```

# %% [markdown]
# ## Key points
#
# - A row of four pictures invites a story. Before you believe one, see the same row for an SAE that was never trained.
# - The paper shows pictures and leaves the judgement to the eye. A score needs labels, a chance level and intervals, and then speaks
#   of these labels alone.
# - An image set's near copies and its style raise every latent's purity, the random ones' too: what counts is the distance
#   to the random SAE and to the model's own channels, not the distance to chance.
# - Compare latents of like frequency, and say how many were left out.
# - Here is one {term}`seed` and few rare latents: a {term}`verdict` whose interval ends near zero can turn with the seed, or even with the number of
#   threads that a sum is split over.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`: the picture that this chapter puts to the test.
# - {cite:t}`fel2025archetypal`: SAEs on large vision models, and how little two runs agree.
# - {cite:t}`heap2025random`: the same question for language models, with weights that never learned.
# - {cite:t}`radford2021clip`: the model whose latents the paper shows.
# - {cite:t}`benjamini1995fdr`: how many discoveries to believe where many are tested.

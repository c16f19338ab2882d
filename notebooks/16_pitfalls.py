# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pitfalls
#
# ```{admonition} This lesson
# - **You will learn** ten ways to be misled by a {term}`sparse autoencoder` or by its score, and for each the check that catches it.
# - **You need** [Frozen Decoder](05_frozen_decoder) and [Reconstruction](09_reconstruction): {term}`latent`, {term}`explained variance`,
#   {term}`floor`. [Beyond independence](04_beyond_independence) helps with the second and the fourth.
# - **Time** 40 minutes to read, 35 more for the exercises. Each section can be read alone.
# ```
#
# Ten ways to fool oneself with an SAE. Each section has the same shape: how people fall in, a cell in which it happens, a cell
# with the check that would have caught it, and what this run showed, also where it showed nothing.
#
# Where the truth has to be known, the data are synthetic and small: a few dozen {term}`features <feature>`, SAEs that train in seconds. Where
# a real score is at stake, the SAEs are those of the chapters before, on the language model. Most of these pitfalls were found by others, who
# are named in their places.
#
# **Before you read on, write down three shares:** where there are more features than can be found, how many of an SAE's latents does a second SAE share that
# differs by its {term}`seed` alone? If ten latents of an SAE are compared with ten others *of the same SAE*, how often is
# one mean ahead of the other by more than the `margin` below? And if the model's layer is replaced by its mean on every {term}`token`, how much of the loss
# is "recovered", compared with zero?

# %% tags=["parameters"]
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read, counted from 0
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
l0: int = 40  # active latents per token
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate, of the synthetic SAEs too
seed: int = 0  # seed of the features, of the random directions and of all that is drawn
architecture: str = "BatchTopK"  # one of ReLU, TopK, BatchTopK, JumpReLU; of all SAEs but those that are compared with it
other_l0: int = 20  # L0 of the unmatched baseline
spliced_tokens: int = 3000  # held-out tokens that the model predicts with the reconstruction in place
contexts: int = 10  # strongest tokens of a latent that are looked at
margin: float = 0.02  # a difference in a share smaller than this is of no interest
d_in: int = 64  # dimensions of the synthetic activations
steps: int = 400  # training batches of a synthetic SAE
small_batch: int = 512  # samples in each of them
families: int = 20  # families of features: parents with children, or pairs
many_features: int = 1024  # features where there are too many to be found
l0s: list = [1, 2, 3, 4, 6, 8, 12]  # active latents that an SAE is told, where the truth is 4
roomy: int = 128  # dimensions in which the features of that section hardly overlap
crowded: int = 32  # dimensions in which they overlap a good deal

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter
from saebook.contexts import contexts_html
from saebook.exercises import pitfalls as exercises
from saebook.setup import HTML, Markdown, display, keep, language_chapter, show
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch.nn.functional import normalize

from saelite import SAE, FeatureWorld, FrozenDecoder, Reconstruction, TopK, arguments, iso, nulls, plots
from saelite.evaluations.absorption import absorption, hedging
from saelite.evaluations.latents import draw_latents, top_contexts
from saelite.evaluations.reconstruction import RECOVERED_MEAN, RECOVERED_ZERO
from saelite.grid import architectures_at, fit, unmatched
from saelite.metrics import best_cosines, evaluate, explained_variance, matched_cosines, recovery
from saelite.reuse import over, references
from saelite.statistics import contrast, rescaled, summarise
from saelite.synthetic import constant_probabilities

# wrong parameters are refused here, before anything slow runs
arguments.whole(3, d_in=d_in)
arguments.whole(1, spliced_tokens=spliced_tokens, contexts=contexts, steps=steps, small_batch=small_batch, l0s=l0s, roomy=roomy, crowded=crowded)
arguments.whole(3, families=families)  # fewer are too few to draw an interval from
arguments.whole(12, many_features=many_features)
arguments.above(0, margin=margin)
chapter = language_chapter(
    model=model, texts=texts, layer=layer, tokens=tokens, architectures=[architecture], l0=l0, expansion=expansion,
    batch_size=batch_size, epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, d_sae, (activation,) = chapter.lm, chapter.d_sae, chapter.activations
(other_activation,) = architectures_at(other_l0, [architecture], d_sae)
_ = architectures_at(max(l0s), [architecture], 40)  # refused here if it does not fit


# %%
def trained(world, l0, latents, name=architecture, seed=seed, lr=lr, baseline=None, init="iso"):
    """An SAE trained in a synthetic world, or read from the cache."""
    variants = [("of this chapter", one, baseline, init) for one in architectures_at(l0, [name], latents)]
    batches = world.batches(small_batch, steps, seed=seed)
    saes, _ = fit(variants, batches, world.d_in, d_sae=latents, seed=seed, lr=lr, log_every=steps)
    return saes[name, "of this chapter"]


# %% [markdown]
# ## 1. Dead latents
#
# *How one falls in:* {term}`explained variance` is fine, so the {term}`dictionary` must be. But it is computed from the latents that fire, and does not
# see the others. Here are three SAEs in a world with more features than can be found, one of them {term}`TopK` and two {term}`BatchTopK`; the last has three times the learning rate of the second.

# %%
hard = FeatureWorld(constant_probabilities(many_features, 12), d_in, seed=seed)
unseen = hard.batches(50_000, 1, seed=seed + 1)[0]
FAST = "BatchTopK, higher rate"
in_hard = {name: trained(hard, 12, many_features, name) for name in ("TopK", "BatchTopK")}
in_hard[FAST] = trained(hard, 12, many_features, "BatchTopK", lr=3 * lr)
measured = {name: evaluate(sae, unseen) for name, sae in in_hard.items()}
show(pd.DataFrame([{"SAE": name, "explained_variance": scores.explained_variance} for name, scores in measured.items()]))

# %% [markdown]
# *The check:* the share of {term}`dead latents <dead latent>`, by {term}`firing frequency`, on enough samples. On few samples a latent that is merely
# rare looks dead: the curve has to be flat before its end is called a share. (Why latents die is the subject of
# [the recovery puzzle](03_recovery_puzzle.ipynb).) And a proof that explained variance is blind here: take the dead
# latents out.

# %% mystnb={"image": {"alt": "Line chart of the share of latents that have not fired against the number of samples looked at, one line for TopK and two for BatchTopK at different learning rates."}, "figure": {"name": "fig-dead", "caption": "Share of latents that fire on none of the first samples, by how many samples are looked at."}}
sizes = [100, 300, 1000, 3000, 10_000, 50_000]
figure, axes = plt.subplots(figsize=(7, 3))
silent = {}
for (name, sae), line in zip(in_hard.items(), ("o-", "s--", "^:"), strict=True):
    with torch.no_grad():
        fires = torch.cat([sae.encode(part) > 0 for part in unseen.split(4096)])
    silent[name] = [(~fires[:size].any(dim=0)).double().mean().item() for size in sizes]
    axes.plot(sizes, silent[name], line, label=name)
axes.set(xscale="log", xlabel="samples looked at", ylabel="latents that have not fired", ylim=(-0.02, 1))
axes.yaxis.set_major_formatter(PercentFormatter(1))
axes.legend();

# %%
rows = []
for name, sae in in_hard.items():
    alive = measured[name].firing_frequency > 0
    with torch.no_grad():
        code = torch.cat([sae.encode(part)[:, alive] for part in unseen.split(4096)])
        without = (code @ sae.W_dec[alive] + sae.b_dec) / sae.input_scale
    row = {"SAE": name, "explained_variance": measured[name].explained_variance, "dead": measured[name].dead}
    rows.append(row | {"explained variance without the dead": explained_variance(unseen, without)})
show(pd.DataFrame(rows))

# %% tags=["hide-input"]
rows = pd.DataFrame(rows).set_index("SAE")
worst = rows["dead"].idxmax()
lines = [f"{name} explains {row['explained_variance']:.2f} of the variance with {row['dead']:.0%} of its latents dead" for name, row in rows.iterrows()]
faster, slower = rows.loc[FAST], rows.loc["BatchTopK"]
falling = [name for name, shares in silent.items() if shares[-2] - shares[-1] > 0.02]
Markdown(
    ("" if rows.loc[worst, "dead"] >= 0.1 else "In this run the pitfall hardly shows: ")
    + f"{'; '.join(lines)}. On the first {sizes[0]} samples alone {', '.join(f'{silent[name][0]:.0%}' for name in in_hard)} would have been called dead"
    + (f"; for {' and '.join(falling)} the curve still falls at {sizes[-1]:,}, so some of what is called dead there is merely rare" if falling else "")
    + ". Without its dead latents, "
    f"{worst} explains {rows.loc[worst, 'explained variance without the dead']:.2f}."
    + (
        " Judged by explained variance the higher learning rate is the better one; it left more latents dead."
        if faster["explained_variance"] > slower["explained_variance"] and faster["dead"] > slower["dead"]
        else ""
    )
)

# %% [markdown]
# ## 2. Choosing L0 by explained variance
#
# *How one falls in:* more active latents explain more, so {term}`L0` looks like a price one is free to choose. {cite:t}`chanin2025sparse` show that it
# is not: told too few, an SAE mixes features that come together; told too many, it mixes them as well. [Beyond independence](04_beyond_independence.ipynb)
# shows explained variance and {term}`recovery` part ways. Here 40 correlated features, 4 present on average, as many latents as features; and then
# what one could have seen *without* knowing the features.

# %%
FEATURES, PRESENT = 40, 4
sweep = []
for dims, place in ((roomy, "roomy"), (crowded, "crowded")):
    world = FeatureWorld(constant_probabilities(FEATURES, PRESENT), dims, seed=seed, groups=10, open_probability=0.25)
    test = world.batches(5000, 1, seed=seed + 1)[0]
    for told in l0s:
        sae = trained(world, told, FEATURES)
        scores = {"world": f"{place} ({dims} dimensions)", "told": told} | evaluate(sae, test).row()
        sweep.append(scores | recovery(world.features, sae.W_dec) | {"sae": sae, "test": test})
sweep = pd.DataFrame(sweep)
show(sweep[["world", "told", "explained_variance", "recovered_one_to_one", "dead"]])

# %% [markdown]
# *The check:* sweep L0 and look at the decoder, which needs no true features. Two diagnostics of {cite:t}`chanin2025sparse`; both ask whether
# {term}`decoder directions <decoder direction>` are mixtures, and are *lowest* where they are least so.
#
# - *Overlap*: the mean absolute {term}`cosine <cosine similarity>` between two decoder directions. Mixtures share parts.
# - *Decoder projection*: take the scalar product of each sample with every decoder direction. Find the value that 10 of them a sample exceed, on
#   average. Only 4 features are present, so this value comes from {term}`directions <direction>` of features that are *absent*: the lower it is, the less the directions are
#   mixed with those that are present.


# %%
def overlap(W_dec):
    """Mean absolute cosine between two different decoder directions."""
    cosines = normalize(W_dec, dim=1) @ normalize(W_dec, dim=1).T
    return cosines.abs()[*torch.triu_indices(len(cosines), len(cosines), 1)].mean().item()


def projection(sae, x, n=10):
    """The projection on a decoder direction that n of them a sample exceed on average."""
    return ((sae.scale(x) - sae.b_dec) @ normalize(sae.W_dec, dim=1).T).flatten().topk(n * len(x)).values.min().item()


with torch.no_grad():
    sweep["overlap"] = [overlap(sae.W_dec) for sae in sweep["sae"]]
    sweep["decoder projection"] = [projection(*one) for one in zip(sweep["sae"], sweep["test"], strict=True)]

# %% mystnb={"image": {"alt": "Four line charts against the L0 that an SAE was told, with a vertical line at the true value: explained variance, recovered features, overlap of decoder directions and decoder projection, one line for each of two worlds."}, "figure": {"name": "fig-l0-diagnostics", "caption": "Against the L0 that an SAE was told; the vertical line is the truth. Above, what one sees with and without knowing the features; below, two diagnostics that need no features, each as a multiple of its lowest value."}}
figure, grid = plt.subplots(2, 2, figsize=(7, 5), sharex=True)
for (name, rows), line in zip(sweep.groupby("world", sort=False), ("o-", "s--"), strict=True):
    for axes, column in zip(grid.flat, ("explained_variance", "recovered_one_to_one", "overlap", "decoder projection"), strict=True):
        values = rows[column] / rows[column].min() if column in ("overlap", "decoder projection") else rows[column]
        axes.plot(rows["told"], values, line, markersize=4, label=name)
        axes.set_ylabel(column.replace("_one_to_one", "").replace("_", " "))
for axes in grid.flat:
    axes.axvline(PRESENT, color=plots.GREY, linewidth=1, linestyle=":")
for axes in grid[0]:
    axes.set_ylim(0, 1.03)
for axes in grid[1]:
    axes.set(xlabel="L0 told", xscale="log")
    axes.set_xticks(l0s, [str(told) for told in l0s])
    axes.minorticks_off()
figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9);

# %% tags=["hide-input"]
lines, worked = [], []
for name, rows in sweep.groupby("world", sort=False):
    at = rows.set_index("told")
    found = at["recovered_one_to_one"].idxmax()
    points = {"explained variance": at["explained_variance"].idxmax(), "overlap": at["overlap"].idxmin(), "decoder projection": at["decoder projection"].idxmin()}
    right = [which for which, told in points.items() if told == found]
    worked.append("overlap" in right and "decoder projection" in right)
    lines.append(
        f"- **{name}**: most features are recovered at L0 {found} ({at.loc[found, 'recovered_one_to_one']:.0%}), and {at.loc[l0s[-1], 'recovered_one_to_one']:.0%} at L0 "
        f"{l0s[-1]}, where explained variance is {at.loc[l0s[-1], 'explained_variance']:.2f} against {at.loc[found, 'explained_variance']:.2f}. "
        + f"One would choose {', '.join(f'L0 {told} by {which}' for which, told in points.items())}; "
        + f"the L0 with the most features is the choice of {' and '.join(right) if right else 'none of the three'}."
    )
Markdown(
    f"The truth is {PRESENT}.\n\n" + "\n".join(lines) + f"\n\nBoth diagnostics agreed with recovery in {sum(worked)} of {len(worked)} worlds"
    + (": hints, not proofs. Features that overlap by themselves, as in the crowded world, may be taken for mixtures." if not all(worked) else ".")
)

# %% [markdown]
# ## 3. One seed
#
# *How one falls in:* the run looks converged, and its latents are spoken of as the model's features. {cite:t}`paulo2025seeds` found some 30% of latents in
# common between two seeds. Two worlds: one whose features can be found, and the hard one from above. In each, two SAEs that differ in the seed
# of their start and of their data.

# %%
easy = FeatureWorld(constant_probabilities(2 * d_in, 4), d_in, seed=seed)
worlds = {"easy": (easy, 4), "hard": (hard, 12)}
twins, rows = {}, []
for name, (world, told) in worlds.items():
    twins[name] = [trained(world, told, len(world.features), "TopK", seed=seed + i) for i in (0, 1)]
    test = world.batches(20_000, 1, seed=seed + 99)[0]
    both = [evaluate(sae, test).explained_variance for sae in twins[name]]
    rows.append({"world": name, "explained variance, first seed": both[0], "explained variance, second seed": both[1]})
same = pd.DataFrame(rows)
between_seeds = (same["explained variance, first seed"] - same["explained variance, second seed"]).abs().max()
show(same)

# %% [markdown]
# *The check:* match the latents of the two one to one, and put chance beside it: two random dictionaries, matched in the same way. Since the truth
# is known here, one can also ask what sharing is worth: are shared latents the true features? ([Controls](13_controls.ipynb) matches two seeds
# on the language model, where nobody knows.)

# %%
rows = []
for name, (first, second) in twins.items():
    world, _ = worlds[name]
    matched = matched_cosines(first.W_dec.detach(), second.W_dec)
    by_chance = matched_cosines(*(iso(len(world.features), d_in, seed + 100 + i) for i in (0, 1)))
    shared, true = matched > 0.7, best_cosines(first.W_dec.detach(), world.features) > 0.8
    rows.append(
        {
            "world": name, "mean cosine": matched.mean().item(), "by chance": by_chance.mean().item(),
            "shared (cosine above 0.7)": shared.double().mean().item(), "shared by chance": (by_chance > 0.7).double().mean().item(),
            "true features among the shared": true[shared].double().mean().item(),
            "true features among the others": true[~shared].double().mean().item(),
        }
    )  # fmt: skip
seeds = pd.DataFrame(rows)
show(seeds)

# %% tags=["hide-input"]
of = seeds.set_index("world")
lines = [
    f"In the {name} world {row['shared (cosine above 0.7)']:.0%} of latents are shared, with a mean cosine of {row['mean cosine']:.2f} where chance gives "
    f"{row['by chance']:.2f}."
    for name, row in of.iterrows()
]
worth = of.loc["easy"]
verdict = (
    f"In the easy world {worth['true features among the shared']:.0%} of the shared latents are true features, and {worth['true features among the others']:.0%} of the others."
    if 0 < worth["shared (cosine above 0.7)"] < 1
    else "In the easy world all or none are shared, so what sharing is worth cannot be told."
)
Markdown(
    " ".join(lines)
    + f" {verdict} Explained variance differs by at most {between_seeds:.3f} between seeds, and says nothing of this."
)

# %% [markdown]
# ## 4. Absorption
#
# *How one falls in:* a latent fires on *animals*, on nearly all of them, so it is called the animal latent. But not on *dogs*: wherever a child feature
# brings its parent along, an SAE saves an active latent by letting the *dog* latent write "dog and animal". That is
# {term}`absorption` {cite:p}`chanin2024absorption`. On a language model one cannot prove that the parent was present. Here the sampler says so. A family is a parent and two
# children, which never come without it. The control has the same features at the same rates, independent of each other.

# %%
pairs = [(parent, parent + families * i) for parent in range(families) for i in (1, 2)]
rates = torch.full((3 * families,), 0.05, dtype=torch.float64)
rates[:families] = 0.15
family = {
    "hierarchical": FeatureWorld(rates, d_in, seed=seed, groups=families, open_probability=0.15, leaders=True),
    "independent": FeatureWorld(rates, d_in, seed=seed),
}
PRESENT_HERE = round(rates.sum().item())
asked = {f"L0 {told}": told for told in dict.fromkeys([max(1, round(0.6 * PRESENT_HERE)), PRESENT_HERE])}
raised = {(kind, name): trained(world, told, 3 * families) for kind, world in family.items() for name, told in asked.items()}
lowest = next(iter(asked))
sae, world = raised["hierarchical", lowest], family["hierarchical"]
show(absorption(sae, world, pairs, seed=seed + 1)[["parent", "child", "cosine", "fires_alone", "fires_together"]].head(6))

# %% [markdown]
# Each row is a parent and a child: how near the parent's latent is to the parent, and how often that latent fires when the parent is present, alone
# and together with the child. Where it hardly fires even alone, the parent has no latent of its own at all.
#
# *The check:* over all families, with an {term}`interval <bootstrap confidence interval>`, the firing rate of the parent's latent given that the parent is present, with the child and
# without; how often the parent's latent is silent while the child's fires (*absorbed*); the {term}`cosine <cosine similarity>` of the child's latent to the
# parent (*lean*), beside that of the two features themselves (*true cosine*); and all of it in the control. Two children share their parent's latent, so intervals are over
# families.

# %%
tables = {key: absorption(one, family[key[0]], pairs, seed=seed + 1) for key, one in raised.items()}
explains = {key: evaluate(one, family[key[0]].batches(20_000, 1, seed=seed + 1)[0]).explained_variance for key, one in raised.items()}
table = pd.concat(tables, names=["world", "L0"]).reset_index(["world", "L0"])
long = table.melt(["world", "L0", "parent", "child"], ["fires_alone", "fires_together", "absorbed", "lean", "true_cosine"], var_name="what", value_name="score")
long = long.dropna(subset="score").assign(item=lambda of: of["parent"].astype(str) + "-" + of["child"].astype(str), cluster=lambda of: of["parent"])
absorbed = summarise(long, ["world", "L0", "what"])
show(absorbed.drop(columns="items").assign(what=absorbed["what"].str.replace("_", " ")))

# %% mystnb={"image": {"alt": "Dot chart with intervals: firing rate of the parent's latent when the parent is present alone and together with a child, for the hierarchical and the independent world and two values of L0; beside it the cosine of the child's latent to the parent."}, "figure": {"name": "fig-absorption", "caption": "Left: how often the parent's latent fires when the parent is present, alone (dots) and together with a child (squares). Right: cosine of the child's latent to the parent, with the cosine of the two features as a cross. 95% intervals over families."}}
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3), sharey=True)
places = {key: place for place, key in enumerate(tables)}
looks = {"fires_alone": (left, "o", "#0072B2", -0.1), "fires_together": (left, "s", "#D55E00", 0.1), "lean": (right, "s", "#D55E00", 0), "true_cosine": (right, "x", plots.GREY, 0.2)}
names = {"fires_alone": "parent alone", "fires_together": "with the child", "lean": "child's latent to the parent", "true_cosine": "the features themselves"}
for what, (axes, mark, colour, shift) in looks.items():
    rows = absorbed[absorbed["what"] == what]
    y = [places[key] + shift for key in zip(rows["world"], rows["L0"], strict=True)]
    spread = np.nan_to_num([rows["score"] - rows["low"], rows["high"] - rows["score"]])
    axes.errorbar(rows["score"], y, xerr=spread, fmt=mark, color=colour, capsize=3, label=names[what])
left.set(xlim=(0, 1.02), xlabel="the parent's latent fires")
right.set(xlabel="cosine")
left.set_yticks(list(places.values()), [", ".join(key) for key in places])
left.set_ylim(len(places) - 0.5, -0.5)
handles = [h for axes in (left, right) for h in axes.get_legend_handles_labels()[0]]
figure.legend(handles, [names[what] for what in looks], loc="outside lower center", ncols=2, fontsize=9);

# %% [markdown]
# Two intervals that overlap do not show that there is no difference: so the drop itself is compared with the control's drop, and the lean with its lean.

# %%
table = table.assign(item=table["parent"].astype(str) + "-" + table["child"].astype(str), cluster=table["parent"], drop=table["fires_together"] - table["fires_alone"])
rows = []
for told in asked:
    for what in ("drop", "lean"):
        both = [table[(table["world"] == kind) & (table["L0"] == told)].assign(score=lambda of, what=what: of[what]).dropna(subset="score") for kind in family]
        if all(len(of) for of in both):
            found = contrast(*both, margin=margin, paired=False)
            rows.append({"L0": told, "what": what, **dict(zip(family, (of["score"].mean() for of in both), strict=True))} | found)
apart = pd.DataFrame(rows)
show(apart)

# %% tags=["hide-input"]
at = absorbed.set_index(["world", "L0", "what"])["score"]
lines = [
    f"- **{world}, {told}**: the parent's latent fires on {at[world, told, 'fires_alone']:.0%} of the samples with the parent alone and on "
    f"{at[world, told, 'fires_together']:.0%} of those with the child; in {at[world, told, 'absorbed']:.0%} it is silent while the child's latent fires. The child's "
    f"latent has a cosine of {at[world, told, 'lean']:+.2f} to the parent (the features: {at[world, told, 'true_cosine']:+.2f}). The SAE explains {explains[world, told]:.2f} of the variance."
    for world, told in tables
    if (world, told, "fires_together") in at and (world, told, "fires_alone") in at
]
said = []
for told, rows in apart.groupby("L0", sort=False) if len(apart) else ():
    of = rows.set_index("what")
    shows = of.loc["drop", "high"] < 0 < of.loc["lean", "low"]
    said.append(
        f"At {told} absorption {'shows' if shows else 'does not show clearly'}: the drop is {of.loc['drop', 'difference']:+.2f} [{of.loc['drop', 'low']:+.2f}, "
        f"{of.loc['drop', 'high']:+.2f}] beyond the control's, the lean {of.loc['lean', 'difference']:+.2f} [{of.loc['lean', 'low']:+.2f}, {of.loc['lean', 'high']:+.2f}]."
    )
Markdown(
    "\n".join(lines) + "\n\n" + " ".join(said)
    + " A drop in the control is no absorption: with more features present, more compete for the same few latents."
)

# %% [markdown]
# ## 5. Hedging
#
# *How one falls in:* a small SAE is trained to get "the main features" cheaply. But an SAE with fewer latents than features pays for what it leaves out, and
# can lower that price by bending each latent towards what often comes with it: {term}`hedging` {cite:p}`chanin2025hedging`. Pairs of features that come
# together; a narrow SAE with one latent for each pair; and what its latents point at.

# %%
rates = torch.full((2 * families,), 0.12, dtype=torch.float64)
rates[families:] = 0.08
pairs_of = {
    "correlated": FeatureWorld(rates, d_in, seed=seed, groups=families, open_probability=0.15),
    "independent": FeatureWorld(rates, d_in, seed=seed),
}
present = round(rates.sum().item())
widths = {"narrow": (families, max(1, present // 2)), "wide": (2 * families, present)}
partner = (torch.arange(2 * families) + families) % (2 * families)
leaning = []
for kind, world in pairs_of.items():
    for width, (latents, told) in widths.items():
        sae = trained(world, told, latents)
        scores = evaluate(sae, world.batches(20_000, 1, seed=seed + 1)[0])
        found = hedging(world.features, sae.W_dec[scores.firing_frequency > 0], partner)
        leaning.append(found.assign(world=kind, width=width, explained_variance=scores.explained_variance))
leaning = pd.concat(leaning, ignore_index=True)
show(leaning.query("world == 'correlated' and width == 'narrow'")[["latent", "feature", "cosine", "lean", "true_cosine"]].head(6))

# %% [markdown]
# Here *lean* is the cosine of a latent to the partner of the feature that it is nearest to; *true cosine* is again that of the two features.
#
# *The check:* the same without correlation, and with a latent for every feature. If the lean goes away in either, it was the width and the correlation, not the feature.

# %% mystnb={"image": {"alt": "Strip chart: the lean of every latent towards the partner of its feature, four rows: narrow and wide SAEs in the correlated and the independent world."}, "figure": {"name": "fig-hedging", "caption": "Each dot a latent: its cosine to the partner of the feature that it is nearest to. Crosses: the mean cosine of the two features themselves."}}
figure, axes = plt.subplots(figsize=(7, 2.8))
rows = list(leaning.groupby(["world", "width"], sort=False))
for y, (_, of) in enumerate(rows):
    spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(of))
    axes.plot(of["lean"], y + spread, "o", color="#0072B2", alpha=0.5, markersize=4)
    axes.plot(of["true_cosine"].mean(), y, "x", color=plots.GREY, markersize=8)
axes.set_yticks(range(len(rows)), [f"{width}, {kind}" for (kind, width), _ in rows])
axes.set(xlabel="cosine to the partner of its own feature", ylim=(len(rows) - 0.5, -0.5));

# %%
items = leaning.assign(item=leaning["latent"], score=leaning["lean"] - leaning["true_cosine"])
hedged = summarise(items, ["world", "width"]).merge(leaning.groupby(["world", "width"], sort=False)[["cosine", "explained_variance"]].mean().reset_index())
show(hedged.rename(columns={"score": "lean beyond the features' own", "cosine": "cosine to the nearest feature"}))

# %% [markdown]
# Does reconstruction reward it? The same narrow SAE once more, with its decoder held at true features, the more frequent one of each pair, and the rest trained.

# %%
world, (latents, told) = pairs_of["correlated"], widths["narrow"]
held = trained(world, told, latents, baseline=FrozenDecoder(), init=world.features[:families])
held_at_features = evaluate(held, world.batches(20_000, 1, seed=seed + 1)[0]).explained_variance

# %% tags=["hide-input"]
far = items.assign(far=items["score"].abs() > 0.3).groupby(["world", "width"])["far"].mean()
of = hedged.set_index(["world", "width"])
narrow, control, wide = of.loc[("correlated", "narrow")], of.loc[("independent", "narrow")], of.loc[("correlated", "wide")]
shows = narrow["low"] > max(control["high"], wide["high"])
Markdown(
    f"{'Hedging shows' if shows else 'Hedging does not show clearly in this run'}: narrow and correlated, latents lean {narrow['score']:+.2f} [{narrow['low']:+.2f}, "
    f"{narrow['high']:+.2f}] towards the partner; narrow and independent {control['score']:+.2f} [{control['low']:+.2f}, {control['high']:+.2f}]; wide and correlated "
    f"{wide['score']:+.2f} [{wide['low']:+.2f}, {wide['high']:+.2f}]. A mean hides both directions: more than 0.3 away from the features' own cosine, "
    f"to or from the partner, are {far['correlated', 'narrow']:.0%}, {far['independent', 'narrow']:.0%} and {far['correlated', 'wide']:.0%} of the latents of these three, so width "
    f"{'helps' if far['correlated', 'wide'] < far['correlated', 'narrow'] else 'does not help'}{' but does not cure' if 0 < far['correlated', 'wide'] < far['correlated', 'narrow'] else ''}. On the correlated data the narrow SAE explains {narrow['explained_variance']:.2f} of the variance, with its "
    f"decoder held at true features {held_at_features:.2f}: explained variance "
    + ("prefers the mixtures." if narrow["explained_variance"] > held_at_features else "does not prefer the mixtures here.")
)

# %% [markdown]
# ## 6. Hand-picked latents
#
# *How one falls in:* one scrolls through a few thousand latents, and shows the five that are clearest. From here on the SAEs are those of the language
# model. Score every latent by the {term}`purity <token purity>` of its strongest tokens: of the ten tokens on which it is most active, the share that are one and the
# same token. Here are the two purest latents of a {term}`Frozen Decoder`, whose decoder directions are random.

# %%
store, batches = chapter.harvest()
variants = [("fully trained", activation, None, "iso"), ("Frozen Decoder", activation, FrozenDecoder(), "iso")]
fitted, histories = fit(variants, batches, store.d_in, d_sae=d_sae, seed=seed, lr=lr)
held_out = store.held_out[:]
untrained = SAE(store.d_in, d_sae, TopK(l0), seed=seed + 100).eval()
untrained.calibrate(store.train[:4096])
saes = {name: sae for (_, name), sae in fitted.items()} | {"untrained": untrained}
ids = np.array([int(row[place]) for row, place in (store.held_out.context_of(i) for i in range(len(held_out)))])


# %%
@torch.no_grad()
def strongest(sae, x, k):
    """For each latent its k largest activations over x (k, d_sae), and where they are."""
    values, places = torch.empty(0, sae.d_sae), torch.empty(0, sae.d_sae, dtype=torch.long)
    for start in range(0, len(x), 2048):
        code = sae.encode(x[start : start + 2048])
        here = torch.arange(start, start + len(code))[:, None].expand(code.shape)
        values, order = torch.cat([values, code]).topk(min(k, len(values) + len(code)), dim=0)
        places = torch.cat([places, here]).gather(0, order)
    return values, places


def purity(values, places, ids):
    """Share of each latent's strongest tokens that are its most frequent one; NaN where it fires on fewer."""
    tokens = np.sort(ids[places.numpy()], axis=0)
    counts = (tokens[:, None] == tokens[None]).sum(axis=1).max(axis=0)
    return np.where((values > 0).all(dim=0).numpy(), counts / len(tokens), np.nan)


found = {name: strongest(sae, held_out, contexts) for name, sae in saes.items()}
pure = {name: purity(*of, ids) for name, of in found.items()}
pure["shuffled tokens"] = purity(*found["fully trained"], np.random.default_rng(seed).permutation(ids))
shown = torch.from_numpy(np.argsort(-np.nan_to_num(pure["Frozen Decoder"]), kind="stable")[:2].copy())
HTML(contexts_html({"Frozen Decoder, hand-picked": top_contexts(saes["Frozen Decoder"], store.held_out, shown, lm.tokenizer, n=3)}, chapter.credit))

# %% [markdown]
# *The check:* draw latents at random, say how many were looked at, and show the distribution. Three comparisons stand beside the trained SAE: the Frozen Decoder, an SAE that
# was *never trained*, and the tokens shuffled, where there is nothing to find. The right panel gives the best of *n*: what one can expect
# to find by looking at *n* latents.

# %%
HTML(
    contexts_html(
        {
            f"{name}, drawn": top_contexts(saes[name], store.held_out, draw_latents(saes[name], held_out, 2, min_firing=contexts, seed=seed), lm.tokenizer, n=3)
            for name in ("Frozen Decoder", "fully trained")
        },
        chapter.credit,
    )
)

# %% mystnb={"image": {"alt": "Left: step histograms of token purity of latents of the fully trained SAE, the Frozen Decoder, an untrained SAE and with shuffled tokens. Right: lines of the expected purity of the best of n latents against n on a logarithmic axis."}, "figure": {"name": "fig-best-of-n", "caption": "Left: purity of all latents that fire often enough. Right: the purest latent that one may expect among n."}}
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4))
drawn = {name: np.sort(values[~np.isnan(values)]) for name, values in pure.items()}
drawn = {name: values for name, values in drawn.items() if len(values)}
looked_at = np.unique(np.geomspace(1, max(2, d_sae), 40).astype(int))
COLOURS = plots.COLOURS | {"untrained": plots.COLOURS["Frozen Encoder"], "shuffled tokens": plots.GREY}
best_of = {}
for (name, values), line in zip(drawn.items(), ("-", "--", "-.", ":"), strict=False):
    edges = (np.arange(contexts + 2) - 0.5) / contexts
    left.stairs(np.histogram(values, edges)[0] / len(values), edges, color=COLOURS[name], linestyle=line, linewidth=1.8)
    # the best of n draws is at most the i-th value with probability (i / N) ** n
    below = (np.arange(len(values) + 1) / len(values))[:, None] ** looked_at
    best_of[name] = (np.diff(below, axis=0) * values[:, None]).sum(axis=0)
    right.plot(looked_at, best_of[name], color=COLOURS[name], linestyle=line, linewidth=1.8, label=name)
left.set(xlabel="purity", ylabel="share of latents", xlim=(0, 1.06))
left.yaxis.set_major_formatter(PercentFormatter(1))
right.set(xlabel="latents looked at, n", ylabel="purity of the best of n", xscale="log", ylim=(0, 1.03))
figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9);

# %% tags=["hide-input"]
text = "Too few latents fire often enough to be compared."
if {"fully trained", "Frozen Decoder", "untrained"} <= set(drawn):
    at = {name: {n: values[np.searchsorted(looked_at, n)] for n in (1, looked_at[-1])} for name, values in best_of.items()}
    ratio = {name: (values >= 0.9).mean() for name, values in drawn.items()}
    shift = at["Frozen Decoder"][1] - at["fully trained"][1]
    text = (
        f"Of {d_sae:,} latents the best has an expected purity of "
        + ", ".join(f"{at[name][looked_at[-1]]:.2f} ({name})" for name in at)
        + "; one drawn at random, of "
        + ", ".join(f"{at[name][1]:.2f} ({name})" for name in at)
        + ". A purity of 0.9 or more is reached by "
        + ", ".join(f"{ratio[name]:.1%} ({name})" for name in ratio)
        + ". "
        + (
            "So the best latents of an SAE that never learned anything look as convincing as those of the trained one; it is the distribution that tells them apart."
            if at["untrained"][looked_at[-1]] > at["fully trained"][looked_at[-1]] - 0.1 and at["untrained"][1] < at["fully trained"][1] - 0.1
            else "Compare the two lists: where they say the same, hand-picked latents show nothing; where only the first does, they mislead."
        )
        + f" The Frozen Decoder's encoder is trained, and its mean lies {abs(shift):.3f} {'above' if shift > 0 else 'below'} the trained SAE's."
    )
Markdown(text)

# %% [markdown]
# Purity is a crude score: a latent that fires on one token is easily described and need not be interesting. {term}`Auto-interpretability`, in [a chapter of its own](10_autointerp.ipynb), scores
# descriptions of latents drawn at random.
#
# ## 7. Small samples
#
# *How one falls in:* one looks at ten latents of each SAE, one mean is higher, and it is called better. To see what that is worth, compare an
# SAE *with itself*: two draws of ten latents each from the trained one, again and again. Neither draw is better, by construction.

# %%
rng = np.random.default_rng(seed)
of_trained = pure["fully trained"][~np.isnan(pure["fully trained"])]
rows = []
for n in (10, 30, 100, 300, 1000):
    if 2 * n <= len(of_trained):
        draws = np.array([rng.permutation(of_trained)[: 2 * n].reshape(2, n).mean(axis=1) for _ in range(1000)])
        apart = np.abs(draws[:, 0] - draws[:, 1])
        rows.append({"latents of each": n, "differ by more than the margin": (apart > margin).mean(), "typical difference": np.median(apart)})
alike = pd.DataFrame(rows, columns=["latents of each", "differ by more than the margin", "typical difference"])
show(alike)

# %% [markdown]
# *The check:* an interval of the difference, the smallest difference that so many items could have shown ({term}`detectable <detectable difference>`), a {term}`margin <equivalence margin>`, and a {term}`verdict` that may
# be *not told apart*. First the same SAE against itself with ten latents, many times: how often does the verdict say *better* or *worse*, where nothing is?
# Then the trained SAE against the two others, with more and more latents.


# %%
def of_latents(values):
    """Scores of some latents, as items."""
    return pd.DataFrame({"item": np.arange(len(values)), "score": values})


false = []
for _ in range(300 if len(of_trained) >= 20 else 0):
    first, second = rng.permutation(of_trained)[:20].reshape(2, 10)
    false.append(contrast(of_latents(first), of_latents(second), margin=margin, paired=False)["verdict"] in ("better", "worse"))

rows = []
for name in ("Frozen Decoder", "untrained"):
    theirs = pure[name][~np.isnan(pure[name])]
    most = min(len(of_trained), len(theirs))
    for n in [n for n in (10, 30, 100, 300, 1000) if n < most] + [most] * (most >= 2):
        ours, others = rng.permutation(of_trained)[:n], rng.permutation(theirs)[:n]
        found = contrast(of_latents(ours), of_latents(others), margin=margin, paired=False)
        rows.append({"fully trained against": name, "latents of each": n} | found)
growing = pd.DataFrame(rows, columns=["fully trained against", "latents of each", "difference", "verdict", "low", "high", "detectable"])
show(growing)

# %% tags=["hide-input"]
text = "Too few latents fire often enough for a comparison."
if len(alike) and len(growing) and false:
    lines = []
    for name, rows in growing.groupby("fully trained against", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        said = f"and stays *{last['verdict']}*" if first["verdict"] == last["verdict"] else f"and becomes *{last['verdict']}*"
        lines.append(
            f"- Against **{name}** the verdict is *{first['verdict']}* with {first['latents of each']:,} latents ({first['difference']:+.2f} [{first['low']:+.2f}, {first['high']:+.2f}]) "
            f"{said} with {last['latents of each']:,} ({last['difference']:+.2f} [{last['low']:+.2f}, {last['high']:+.2f}])."
        )
    row = alike.iloc[0]
    text = (
        f"An SAE differs from itself by more than the margin of {margin} in {row['differ by more than the margin']:.0%} of draws of {row['latents of each']:.0f} latents, "
        f"typically by {row['typical difference']:.2f}. With an interval, {np.mean(false):.0%} of {len(false)} such comparisons were called better or worse; 5% are meant to be, and "
        f"with so few items a bootstrap interval is a little too short.\n\n" + "\n".join(lines)
    )
Markdown(text)

# %% [markdown]
# ## 8. Unmatched baselines
#
# *How one falls in:* the baseline at hand has another L0, fewer latents, or saw less data, and the trained SAE beats it by more than it should.
# The trained SAE, the Frozen Decoder that matches it, and three that do not.

# %%
narrow = lm.d_model
early = max(1, len(batches) // 10)
narrow_activation = architectures_at(min(l0, narrow), [architecture], narrow)[0]
frozen = {
    "matched": (activation, d_sae, {}),
    f"L0 {other_l0}": (other_activation, d_sae, {}),
    f"{narrow:,} latents": (narrow_activation, narrow, {}),
    "a tenth of the data": (activation, d_sae, {"steps": early}),
}
baselines, made_with = {}, {}
for name, (function, width, shorter) in frozen.items():
    made, _ = fit([("Frozen Decoder", function, FrozenDecoder(), "iso")], batches, store.d_in, d_sae=width, seed=seed, lr=lr, **shorter)
    baselines[name] = made[architecture, "Frozen Decoder"]
    made_with[name] = batches.settings | {"steps": len(batches)} | shorter | {"learning rate": lr}
ours = evaluate(saes["fully trained"], held_out, store.held_out.documents, chunk=1024)
theirs = {name: evaluate(sae, held_out, store.held_out.documents, chunk=1024) for name, sae in baselines.items()}
rows = [{"Frozen Decoder": name, "the trained SAE leads by": ours.explained_variance - scores.explained_variance} for name, scores in theirs.items()]
show(pd.DataFrame(rows))

# %% [markdown]
# *The check:* one line before any comparison, {func}`saelite.grid.unmatched`. It names what two SAEs differ in besides the baseline's rule: {term}`architecture`, width,
# start, data and their order, and the L0 that was *measured*, since what was asked for need not be what came out. Beside the score stand the {term}`nulls <null>` of the same data.

# %%
test = held_out[:4096]
differences = {
    name: unmatched(saes["fully trained"], sae, test, made_with=made_with["matched"], other_made_with=made_with[name])
    for name, sae in baselines.items()
}
null = nulls(store.train[:50_000], held_out, l0=l0, d_sae=d_sae, seed=seed + 100, groups=store.held_out.documents).set_index("null")
rows = [{"SAE": "fully trained"} | ours.row()]
rows += [{"SAE": f"Frozen Decoder, {name}"} | scores.row() for name, scores in theirs.items()]
rows += [{"SAE": name, "explained_variance": value} for name, value in null["explained_variance"].items() if name != "mean prediction"]
show(pd.DataFrame(rows))

# %% [markdown]
# And what the check says of each Frozen Decoder beside the trained SAE:

# %% tags=["hide-input"]
Markdown("\n".join(f"- **{name}**: {' '.join(found) or 'It differs in nothing else.'}" for name, found in differences.items()))

# %% tags=["hide-input"]
lead = {name: round(ours.explained_variance - scores.explained_variance, 3) for name, scores in theirs.items()}
further = {name: value - lead["matched"] for name, value in lead.items() if name != "matched"}
lines = [
    f"- {name}: the lead is {lead[name]:.3f}, which is {abs(more):.3f} {'less' if more < 0 else 'more'} than against the matched one."
    for name, more in further.items()
]
caught = [name for name in differences if name != "matched" and differences[name]]
Markdown(
    f"Against the matched Frozen Decoder the trained SAE leads by {lead['matched']:.3f}. Against the others:\n\n"
    + "\n".join(lines)
    + f"\n\nThe check names a difference for {len(caught)} of the {len(differences) - 1} unmatched ones; for the matched one it names "
    + (f"this: {' '.join(differences['matched'])}" if differences["matched"] else "none.")
    + (
        f" The one with a tenth of the data has {theirs['a tenth of the data'].l0:.0f} active latents instead of {theirs['matched'].l0:.0f}, which makes up for some of what it "
        "has not learned: two mismatches may hide each other."
        if theirs["a tenth of the data"].l0 > 1.05 * theirs["matched"].l0
        else ""
    )
)

# %% [markdown]
# ## 9. A score without its floor
#
# *How one falls in:* 0.7, 0.8 or 0.95 sounds like a lot. Here is what *nothing* scores: a layer replaced by its mean, an edit that changes nothing, a judge
# that has not read the description. The rest of the book's floors stand in the chapters on [editing](12_causal_editing.ipynb) and
# [probing](11_sparse_probing.ipynb).

# %%
evaluation = Reconstruction(lm, store, tokens=spliced_tokens, l0=l0, d_sae=d_sae)
limits = summarise(references(evaluation), ["reference", "metric"]).set_index(["metric", "reference"])


def never(active, silent):
    """What a judge scores who always says "it does not fire here": plain accuracy and balanced accuracy."""
    truth = np.repeat([1, 0], [active, silent])
    said = DummyClassifier(strategy="constant", constant=0).fit(np.zeros((len(truth), 1)), truth).predict(np.zeros((len(truth), 1)))
    return accuracy_score(truth, said), balanced_accuracy_score(truth, said)


def edit(cause, isolation):
    """Causal editing's score, the mean of its two parts."""
    return (cause + isolation) / 2


floors = pd.DataFrame(
    [
        (limits.loc[(RECOVERED_ZERO, "mean"), "score"], "the layer's mean for every token", "loss recovered, against zero"),
        (limits.loc[(RECOVERED_ZERO, "untrained dictionary"), "score"], "an untrained dictionary", "loss recovered, against zero"),
        (limits.loc[(RECOVERED_MEAN, "untrained dictionary"), "score"], "an untrained dictionary", "loss recovered, against the mean"),
        (edit(cause=0, isolation=1), "an edit that changes nothing", "causal editing"),
        (edit(cause=1, isolation=0), "an edit that swaps everything", "causal editing"),
        (never(50, 50)[0], "always \"silent\"", "auto-interpretability, 50 active and 50 silent"),
        (never(4, 10)[0], "always \"silent\"", "auto-interpretability, 4 active and 10 silent"),
        (never(4, 10)[1], "always \"silent\"", "the same by balanced accuracy"),
    ],
    columns=["floor", "what gets it", "score"],
)
show(floors)

# %% [markdown]
# Four active examples and ten random ones are the setting of SAEBench's auto-interpretability {cite:p}`karvonen2025saebench`: there a
# judge who knows nothing does well by saying no.
#
# *The check:* the floor beside the score, and the score on a scale from the floor (0) to the {term}`ceiling` (1). For {term}`loss recovered` the floor
# is what the untrained dictionary gets, the ceiling the model itself. So rescaled, it no longer matters what the loss was compared with: zero and the mean
# give the same number.

# %%
items = over({(architecture, name): saes[name] for name in ("fully trained", "Frozen Decoder")}, evaluation)
spliced = summarise(items, ["baseline", "metric"])
rows = []
for row in spliced[spliced["metric"].isin([RECOVERED_ZERO, RECOVERED_MEAN])].itertuples():
    floor, ceiling = (limits.loc[(row.metric, name)] for name in ("untrained dictionary", "the model itself"))
    rows.append(
        {
            "metric": row.metric, "baseline": row.baseline, "score": row.score, "floor": floor["score"],
            "rescaled": rescaled(row.score, floor, ceiling), "low": row.low, "high": row.high,
        }
    )  # fmt: skip
rescored = pd.DataFrame(rows)
show(rescored.sort_values("metric", ascending=False))

# %% tags=["hide-input"]
zero = rescored[rescored["metric"] == RECOVERED_ZERO].set_index("baseline")
said = "; ".join(
    f"{name}: {row['score']:.2f}, rescaled " + ("nothing, since floor and ceiling overlap" if np.isnan(row["rescaled"]) else f"{row['rescaled']:.2f}")
    for name, row in zero.iterrows()
)
free = floors["floor"].iloc[:2].tolist()
Markdown(
    f"Compared with zero, the layer's mean alone recovers {free[0]:.0%} of the loss and an untrained dictionary {free[1]:.0%}"
    + (": most of such a score may be had for nothing" if max(free) > 0.5 else "")
    + f". With the untrained dictionary as the floor: {said}. A judge who always says no gets {never(4, 10)[0]:.3f} on four active and ten silent examples, and {never(4, 10)[1]:.1f} where both kinds count alike."
)

# %% [markdown]
# ## 10. One name, several formulas
#
# *How one falls in:* "explained variance 0.9" is compared between two libraries, as if it were one quantity. Five definitions that are or were in use, written
# down after each library's own code:

# %%
definitions = {
    "this book, the paper": lambda x, x_hat: explained_variance(x, x_hat),
    "mean of each token's own (SAEBench's paper)": lambda x, x_hat: (
        1 - (x - x_hat).square().sum(dim=1) / (x - x.mean(dim=0)).square().sum(dim=1)
    ).mean().item(),
    "squared before averaging (SAELens and SAEBench, 2025)": lambda x, x_hat: (
        1 - (x - x_hat).square().sum(dim=1).mean() / (x.square().sum(dim=1).mean() - x.square().mean().square())
    ).item(),
    "variance of the error (dictionary_learning)": lambda x, x_hat: (1 - (x - x_hat).var(dim=0).sum() / x.var(dim=0).sum()).item(),
    "about one scalar mean (overcomplete)": lambda x, x_hat: (1 - (x - x_hat).square().sum() / (x - x.mean()).square().sum()).item(),
}  # fmt: skip
x = held_out[:20_000].double()
with torch.no_grad():
    x_hat = torch.cat([saes["fully trained"](part) for part in held_out[:20_000].split(4096)]).double()
show(pd.DataFrame([{"definition": name, "the same reconstruction": formula(x, x_hat)} for name, formula in definitions.items()]))

# %% [markdown]
# *The check:* three questions whose answers are known. Always answering with the mean explains nothing: 0. Multiplying the {term}`activations <activation>` and their reconstruction by 10
# changes nothing. And a reconstruction that is off by the same constant on every token is worse. Here the constant is as long as a typical error.

# %%
bias = (x - x_hat).norm(dim=1).mean() / x.shape[1] ** 0.5
cases = {
    "as it is": (x, x_hat),
    "the mean (should be 0)": (x, x.mean(dim=0).expand_as(x)),
    "both times 10 (no change)": (10 * x, 10 * x_hat),
    "off by a constant (lower)": (x, x_hat + bias),
}
agreed = pd.DataFrame([{"definition": name} | {case: formula(*of) for case, of in cases.items()} for name, formula in definitions.items()])
show(agreed[[*cases, "definition"]])

# %% tags=["hide-input"]
lines, passed = [], []
for _, row in agreed.iterrows():
    wrong = []
    if abs(row["the mean (should be 0)"]) > 1e-3:
        wrong.append(f"the mean scores {row['the mean (should be 0)']:.3f}")
    if abs(row["both times 10 (no change)"] - row["as it is"]) > 1e-3:
        wrong.append(f"a scale of 10 turns {row['as it is']:.3f} into {row['both times 10 (no change)']:.3f}")
    if not row["off by a constant (lower)"] < row["as it is"] - 1e-3:
        wrong.append("a constant error is not seen")
    lines.append(f"- **{row['definition']}**: {'; '.join(wrong)}.") if wrong else passed.append(row["definition"])
values = agreed["as it is"]
Markdown(
    f"On one reconstruction the five give {values.min():.3f} to {values.max():.3f}. All three questions are answered right by: {'; '.join(passed) or 'none'}. The others:\n\n"
    + ("\n".join(lines) or "- none")
    + "\n\nThe third was in both libraries in 2025; SAELens mended it in 2026 (its pull request 665). A formula that passes the questions may still be another quantity: the "
    "mean over tokens weighs every token alike, however large, so say which one you report."
)

# %% [markdown]
# Back to your three shares:

# %% tags=["hide-input"]
hard_pair = seeds.set_index("world").loc["hard"]
Markdown(
    f"1. Of the latents of two seeds {hard_pair['shared (cosine above 0.7)']:.0%} are shared in the hard world (section 3); two random dictionaries would share "
    f"{hard_pair['shared by chance']:.0%}, and in the easy world {worth['shared (cosine above 0.7)']:.0%} are.\n"
    + (
        f"2. Ten latents differ from ten others of the same SAE by more than the margin of {margin} in {alike['differ by more than the margin'].iloc[0]:.0%} of draws (section 7).\n"
        if len(alike)
        else "2. Too few latents fire often enough to draw ten against ten.\n"
    )
    + f"3. The layer's mean recovers {free[0]:.0%} of the loss, compared with zero (section 9)."
)

# %% tags=["hide-input"]
kept = {
    "l0": sweep.drop(columns=["sae", "test"]), "seeds": seeds, "absorption": absorbed, "hedging": hedged, "small_samples": growing,
    "floors": floors, "definitions": agreed,
}  # fmt: skip
for name, of in kept.items():
    keep(f"pitfalls_{name}", of, seed=seed)

# %% [markdown]
# ## What would change my mind
#
# The claim of this chapter is that a score without its check misleads. For one pitfall it gains weight where the check tells another story than the score did; it loses
# weight where the check changes nothing. In {numref}`fig-l0-diagnostics` that would be explained variance highest at the very L0 with the most features; in
# {numref}`fig-absorption`, dots and squares no further apart in the hierarchical rows than in the independent ones; in {numref}`fig-best-of-n`, a best of many untrained latents
# that stays well below the trained SAE's. The worlds here are small and made to show what they show: a pitfall seen here can happen, which does not say how often it does on a
# large model; and one that is not seen here may be seen with another `seed`, more `steps` or another `architecture`.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Dead, or only rare
# :label: ex-looks-dead
#
# *Easy, 5 minutes.* `frequencies` holds the {term}`firing frequency` of every latent, an array of shares. Write `looks_dead(frequencies, n)`: the share of latents that you expect to
# fire on *none* of `n` samples drawn at random.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def looks_dead(frequencies, n):
    # BEGIN SOLUTION
    return ((1 - frequencies) ** n).mean()
    # END SOLUTION


# %% tags=["check"]
exercises.check_looks_dead(looks_dead)

# %% [markdown]
# The SAEs of section 1: what their frequencies let one expect, beside what was counted there.

# %% tags=["hide-input"]
rows = []
for name, scores in measured.items():
    frequencies = np.asarray(scores.firing_frequency, dtype=float)
    for size, counted in list(zip(sizes, silent[name], strict=True))[:3]:
        rows.append({"SAE": name, "samples": size, "expected": looks_dead(frequencies, size), "counted": counted, "dead on all": scores.dead})
expected = pd.DataFrame(rows)
display(show(expected))
gap = (expected["expected"] - expected["counted"]).abs().max()
Markdown(
    f"Expected and counted differ by at most {gap:.3f}"
    + (": what looks dead on few samples follows from the frequencies" if gap < 0.02 else "")
    + f". Compared with the last column, {expected['samples'].iloc[0]} samples overstate the dead by up to {(expected['counted'] - expected['dead on all']).max():.0%} of the dictionary."
)

# %% [markdown]
# ```{exercise} How many were looked at?
# :label: ex-to-look-at
#
# *Medium, 10 minutes.* Somebody shows a latent of a certain purity. Write `to_look_at(values, wanted, sure)`: how many latents, drawn at random from an SAE whose purities are
# `values`, must one look at so that at least one has `wanted` or more with probability `sure`? A whole number; drawn with replacement, which for thousands of latents makes no
# difference.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def to_look_at(values, wanted, sure):
    # BEGIN SOLUTION
    short = (values < wanted).mean()  # one latent falls short
    return np.ceil(np.log(1 - sure) / np.log(short))  # n of them all do with probability short ** n
    # END SOLUTION


# %% tags=["check"]
exercises.check_to_look_at(to_look_at)

# %% [markdown]
# For the SAEs of section 6: how many latents until one has a purity of 0.9 or more, with a probability of 95%?

# %% tags=["hide-input"]
lines, needed = [], {}
for name, values in drawn.items():
    share = (values >= 0.9).mean()
    if 0 < share < 1:
        needed[name] = to_look_at(values, 0.9, 0.95)
    lines.append(f"- {name}: " + (f"{needed[name]:,.0f} latents" if name in needed else "any latent will do" if share else "no latent reaches it"))
Markdown(
    "\n".join(lines)
    + (
        f"\n\nSuch a latent turns up among {needed['untrained']:,.0f} of an SAE that was never trained, among {needed['fully trained']:,.0f} of the trained one. Shown without the "
        "number of those looked at, it does not say which of the two it came from."
        if {"untrained", "fully trained"} <= set(needed)
        else ""
    )
)

# %% [markdown]
# ```{exercise} Why least squares hedges
# :label: ex-lean-of
#
# *Hard, 20 minutes.* Two features at right angles, of length 1 and strength 1. Feature one is present in a share `p_one` of samples, feature two in `p_two`, both together in
# `p_both`. An SAE has a single latent, whose activation is 1 exactly where feature *one* is present, and a decoder {term}`bias` that is free. Its decoder direction and bias make the mean squared error as small
# as can be. Write `lean_of(p_one, p_two, p_both)`: the cosine of that direction to feature *two*. **Write down first:** must the two be correlated for it to differ from 0?
# ```
#
# ```{dropdown} A hint
# With least squares the bias becomes the mean of the samples on which the latent is silent, and the direction is the mean of those on which it fires minus that.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def lean_of(p_one, p_two, p_both):
    # BEGIN SOLUTION
    with_one, without_one = p_both / p_one, (p_two - p_both) / (1 - p_one)  # how often two is present
    part = with_one - without_one
    return part / (1 + part**2) ** 0.5  # the direction is feature one plus this part of feature two
    # END SOLUTION


# %% tags=["check"]
exercises.check_lean_of(lean_of)

# %% [markdown]
# What that predicts for the pairs of section 5, beside the mean lean of the latents there (beyond the features' own cosine). A latent's own feature is the more frequent one of its
# pair, or the other.

# %% tags=["hide-input"]
rows = []
for kind, world in pairs_of.items():
    p = world.probabilities.numpy()
    for own, first, second in (("the more frequent", 0, families), ("the less frequent", families, 0)):
        p_both = p[first] * p[second] / world.open_probability  # within an open pair the two are independent
        row = {"world": kind, "own feature": own, "least squares": lean_of(p[first], p[second], p_both)}
        for width in widths:
            of = leaning[(leaning["world"] == kind) & (leaning["width"] == width) & ((leaning["feature"] < families) == (first == 0))]
            row |= {f"{width} SAE": (of["lean"] - of["true_cosine"]).mean()}
        rows.append(row)
predicted = pd.DataFrame(rows)
display(show(predicted))
together, apart_ = (predicted[predicted["world"] == kind] for kind in ("correlated", "independent"))
of = leaning[leaning["world"] == "correlated"]
leans = (of["lean"] - of["true_cosine"]).groupby(of["width"]).mean()
Markdown(
    f"Least squares alone asks for a lean of {together['least squares'].min():.2f} to {together['least squares'].max():.2f} where the two come together, and of "
    f"{abs(apart_['least squares']).max():.2f} where they do not. In the correlated world the latents of the narrow SAE lean {leans['narrow']:.2f} on average, those of the wide one "
    f"{leans['wide']:.2f}. The prediction is for a latent that fires exactly with its own feature, alone: one may lean more that also fires where its partner comes alone, and less where another "
    "latent takes the partner's part."
)

# %% [markdown]
# If you have time left: raise the number of active latents in the section on absorption (0.6 in the cell) until it goes away. What does explained variance do? Or
# set `architecture` to {term}`JumpReLU`: which pitfalls stay?
#
# ## Quiz
#
# ```{dropdown} 1. An SAE explains 0.9 of the variance, and on 1,000 samples most of its latents never fired. Are they dead?
# One cannot say yet. A latent that fires once in ten thousand samples was most likely silent too; look at more until the share no longer falls. Explained variance does not help:
# without its dead latents an SAE explains exactly as much.
# ```
#
# ```{dropdown} 2. A parent's latent fires on 90% of samples with the parent alone, and on 60% of those with a child. Is that absorption?
# Not yet. With a child there is one more feature that wants one of the few active latents. The same drop in a world where child and parent are independent is no absorption; what counts is how
# much larger it is where the child never comes alone, and whether the child's latent leans to the parent.
# ```
#
# ```{dropdown} 3. A report shows the five clearest of 4,000 latents, and they are very clear. What do you ask for?
# The distribution over all of them, a random draw, and the five clearest latents of an SAE that was never trained. The best of many is good for any SAE; what tells two apart
# is how the rest look.
# ```

# %% [markdown]
# ## Key points
#
# - A score answers one question. Most pitfalls are a second question that it seemed to answer too.
# - Every check here is a comparison: with no training, with no correlation, with another seed, with the same SAE again, with doing nothing.
# - The check belongs beside the score, made in the same run, also where it shows nothing.
# - Not seen in one small run is not ruled out; seen in one small world is not yet common.

# %% [markdown]
# ## A checklist
#
# To print and keep beside the next result, one's own or somebody else's.
#
# | ask | and look at |
# |---|---|
# | How many latents are dead? | share that never fired, on so many samples that it no longer falls |
# | Why this L0? | a sweep of L0, and overlap or projection of decoder directions; never explained variance alone |
# | Would another seed say so? | two seeds matched one to one, with two random dictionaries matched beside them |
# | Does a latent miss cases of what it is named after? | firing rate where the feature is present, with and without its special cases |
# | Does it lean towards what comes with it? | a wider SAE, or data without the correlation |
# | How were the latents chosen that are shown? | a random draw, the number looked at, the whole distribution, the same of an untrained SAE |
# | How many items, and what could they have shown? | interval, detectable difference, and a verdict that may be *not told apart* |
# | Does the baseline match? | architecture, width, start, data, order, steps, *measured* L0 |
# | What does nothing score? | the floor beside every score, and the score between floor and ceiling |
# | Which formula? | the mean scores 0; scaling changes nothing; a constant error lowers it |
#
# And three that have chapters of their own: a model that learned nothing ([Controls](13_controls.ipynb)), one baseline across all
# metrics ([Scorecard](14_scorecard.ipynb)), and a strong method without any SAE ([Sparse probing](11_sparse_probing.ipynb)).

# %% [markdown]
# ## Further reading
#
# - {cite:t}`chanin2025sparse`: how a wrong L0 mixes features, and the diagnostics of section 2.
# - {cite:t}`chanin2024absorption`: absorption on language models, where it was found.
# - {cite:t}`chanin2025hedging`: hedging, in theory and on language models.
# - {cite:t}`paulo2025seeds`: what two seeds share, and on what it depends.
# - {cite:t}`smith2025negative`: what a team made of such scores in practice.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Beyond independence
#
# ```{admonition} This lesson
# - **You will learn** what correlation, hierarchy, noise and a wrong L0 do to recovery and to explained variance, and how a control separates a cause from
#   what comes along with it.
# - **You need** [Synthetic recovery](02_synthetic_recovery): {term}`recovery`, {term}`explained variance`, {term}`L0`, and the {term}`nulls <null>` under a {term}`matched filter`.
# - **Time** 20 minutes to read, 35 more for the exercises that have a check.
# ```
#
# The synthetic data of {cite:t}`korznikov2026sanity` has {term}`features <feature>` that come and go independently, and no noise. Features of a language model come
# together (a topic brings its words), depend on each other (a *city* is always a *place*), and stand in noise; {cite:t}`chanin2026synthsaebench`
# build a benchmark on such data. And the SAEs of the last chapters were told the right number of active {term}`latents <latent>`, which nobody knows on a real
# model.
#
# Does the conclusion hold without these comforts? To see differences in seconds, this chapter uses an easier world: a few
# hundred features in 100 dimensions instead of 3200, so that much can be recovered. What is compared is therefore *one
# world with another at this size*, and not with the paper's figures.

# %% tags=["parameters"]
n_features: int = 400  # true features
d_in: int = 100  # dimensions of the activations
mean_active: int = 10  # features present in a sample, on average
groups: int = 40  # groups of features in the correlated and the hierarchical world
open_probability: float = 0.1  # how often a group is open
noise: float = 0.1  # standard deviation of noise on each dimension, in the noisy world
architectures: list = ["TopK", "BatchTopK", "RelativeBatchTopK"]  # all at one L0; the first is told several
l0s: list = [4, 7, 10, 15, 25]  # active latents that an SAE is told, where the truth is `mean_active`
samples: int = 500_000  # samples that each SAE is trained on
batch_size: int = 1024  # samples in a training batch
lr: float = 3e-3  # peak learning rate
threshold: float = 0.8  # cosine above which a feature counts as recovered
seed: int = 0  # seed of the features, of the SAEs' random start and of the training samples

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter
from saebook.dictionaries import sparse_coding
from saebook.exercises import beyond_independence as exercises
from saebook.setup import Markdown, display, keep, show
from torch.nn.functional import normalize

from saelite import FeatureWorld, arguments, iso, nulls, plots, recovery
from saelite.grid import architectures_at, fit_and_test
from saelite.synthetic import constant_probabilities

plots.style()
# wrong parameters are refused here, before anything slow runs
arguments.training(samples=samples, batch_size=batch_size, lr=lr, seed=seed)
arguments.between(-1, 1, threshold=threshold)
arguments.whole(1, l0s=l0s)
arguments.each_once(l0s=l0s)
arguments.whole(2, 10_000, groups=groups)
probabilities = constant_probabilities(n_features, mean_active)
if not groups * open_probability < mean_active < n_features:
    raise ValueError(
        f"groups={groups} leaders, each present with open_probability={open_probability}, leave nothing of "
        f"mean_active={mean_active} to the other features; lower one of the two."
    )
for told in sorted({mean_active, *l0s}):
    architectures_at(told, architectures, n_features)

# %% [markdown]
# ## Four worlds
#
# All have the same features, and the same mean number of them in a sample. Each feature has the same probability, except
# in the hierarchical world, where leaders are common and members rarer.
#
# - **independent**: as in the paper.
# - **correlated**: features come in groups; a group is open or closed as a whole, and while it is closed its features are
#   absent.
# - **hierarchical**: the same, and each group's first feature, the *leader*, is present exactly while the group is open. The
#   other members never come without it.
# - **noisy**: independent, with Gaussian noise on every dimension.

# %%
in_groups = {"groups": groups, "open_probability": open_probability}
members = constant_probabilities(n_features, (mean_active - groups * open_probability) * n_features / (n_features - groups))
worlds = {
    "independent": FeatureWorld(probabilities, d_in, seed=seed),
    "correlated": FeatureWorld(probabilities, d_in, seed=seed, **in_groups),
    "hierarchical": FeatureWorld(members, d_in, seed=seed, **in_groups, leaders=True),
    "noisy": FeatureWorld(probabilities, d_in, seed=seed, noise=noise),
}
tests = {name: world.batches(10_000, 1, seed=seed + 1)[0] for name, world in worlds.items()}

# %% [markdown]
# Within a group two members are present together more often than chance would have it. And here is what nothing scores: true
# features and a random {term}`dictionary` under the {term}`encoders <encoder>` of [Synthetic recovery](02_synthetic_recovery). In the second table look at how far *random* is below *true*
# in each world: that is the room that training has, before anything is trained.

# %%
rows = []
for name, world in worlds.items():
    p = world.probabilities[-1].item()  # a member, not a leader
    together = p**2 / open_probability if world.groups else p**2
    rows.append(
        {
            "world": name,
            "present on average": f"{world.probabilities.sum():.1f}",
            "correlation within a group": (together - p**2) / (p - p**2),
        }
    )
floors = {
    name: sparse_coding({"true": world.features, "random": iso(n_features, d_in, seed + 100)}, tests[name][:500], l0=mean_active)
    for name, world in worlds.items()
}
floor = pd.concat(floors, names=["world"]).reset_index("world")
floor = floor.pivot(index="world", columns=["dictionary", "encoder"], values="explained_variance")
floor.columns = [f"{dictionary}, {encoder}" for dictionary, encoder in floor.columns]
floor = floor[[f"{dictionary}, {encoder}" for encoder in floors["noisy"]["encoder"].unique() for dictionary in ("true", "random")]]
display(show(pd.DataFrame(rows)), show(floor.reindex(list(worlds)).rename_axis("world").reset_index()))


# %% [markdown]
# ## Training in each world
#
# The same {term}`architectures <architecture>` see the same number of samples in each world. One of them, {term}`RelativeBatchTopK`, comes from the [last
# chapter](03_recovery_puzzle): it is {term}`BatchTopK` with {term}`pre-activations <pre-activation>` compared as shares of their sample's norm.
#
# **Write down before you look:** in which world will the fewest features be recovered? In which will explained variance be lowest? Is it the same one?
#
# In the figure read downwards: from one world to the next, do the marks of both panels move the same way? Within a row, is the architecture
# that is ahead at the left also ahead at the right, and by as much?


# %%
def learn(world, test, l0, names):
    """Train SAEs in a world; their scores and dictionaries."""
    batches = world.batches(batch_size, max(1, samples // batch_size), seed=seed)
    variants = [("fully trained", activation, None, "iso") for activation in architectures_at(l0, names, n_features)]
    saes, _, table = fit_and_test(variants, batches, test, d_sae=n_features, seed=seed, lr=lr, log_every=len(batches))
    found = pd.DataFrame([recovery(world.features, sae.W_dec, threshold) for sae in saes.values()])
    return pd.concat([table, found], axis=1), {architecture: sae.W_dec.detach() for (architecture, _), sae in saes.items()}


tables, dictionaries = {}, {}
for name, world in worlds.items():
    tables[name], dictionaries[name] = learn(world, tests[name], mean_active, architectures)
table = pd.concat(tables, names=["world"]).reset_index("world")
show(table[["world", "architecture", "explained_variance", "recovered", "recovered_one_to_one", "dead", "l0", "low", "high"]])

# %% mystnb={"figure": {"caption": "Explained variance (left) and recovery (right) in each world. One seed; intervals of explained variance over test samples are smaller than the marks.", "name": "fig-worlds"}, "image": {"alt": "Dot chart: for each world, explained variance and share of features recovered of each architecture."}}
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True)
marks = dict(zip(architectures, "os^Dvx", strict=False))
for architecture, rows in table.groupby("architecture", sort=False):
    left.plot(rows["explained_variance"], rows["world"], marks[architecture], label=architecture, alpha=0.8)
    right.plot(rows["recovered"], rows["world"], marks[architecture], alpha=0.8)
left.set(xlabel="explained variance", xlim=(0, 1))
right.set(xlabel="recovered", xlim=(0, 1))
right.xaxis.set_major_formatter(PercentFormatter(1))
left.invert_yaxis()
figure.legend(loc="outside lower center", ncols=4, fontsize=9);

# %% tags=["hide-input"]
by_world = table.groupby("world", sort=False)
lines = [
    f"- **{world}**: explained variance {rows['explained_variance'].min():.2f} to {rows['explained_variance'].max():.2f}, recovered "
    f"{rows['recovered'].min():.1%} ({rows.loc[rows['recovered'].idxmin(), 'architecture']}) to {rows['recovered'].max():.1%} "
    f"({rows.loc[rows['recovered'].idxmax(), 'architecture']})"
    for world, rows in by_world
]
gap = by_world[["explained_variance", "recovered"]].agg(lambda column: column.max() - column.min())
widest = gap["recovered"].idxmax()
level = 0.01  # from one seed: averages no further apart than this count as level
means = by_world[["explained_variance", "recovered"]].mean()
lowest = {column: means.index[means[column] <= means[column].min() + level] for column in means}
named = {column: f"{' and '.join(found)} world{'s' * (len(found) > 1)}" for column, found in lowest.items()}
shared = lowest["explained_variance"].intersection(lowest["recovered"])
agreement = "They agree here." if named["explained_variance"] == named["recovered"] else "They agree in part." if len(shared) else "So the one does not point to the other."
Markdown(
    "\n".join(lines) + f"\n\nOn average over architectures explained variance is lowest in the {named['explained_variance']}, recovery in the {named['recovered']} "
    f"(averages within {level} of the lowest, for recovery a percentage point, count as level with it). {agreement} The widest gap in recovery between architectures is "
    f"{100 * gap.loc[widest, 'recovered']:.1f} percentage points ({widest}), where explained variance differs by {gap.loc[widest, 'explained_variance']:.2f}."
)

# %% [markdown]
# ## Leaders and members
#
# In a hierarchy an SAE can save an active latent: if a member is present, so is its leader, and one {term}`direction` that is a bit of both serves for
# both. That is the beginning of *feature {term}`absorption`* {cite:p}`chanin2024absorption`. It shows as a cosine between the direction that recovered a
# member and the leader of its group, where independent directions would have about zero; *lean* is its mean over the members that were recovered.
# As a control the same is asked of dictionaries from the correlated world, which has groups and no leaders. The row of an architecture counts for
# what it has beyond its row marked *(correlated)*.

# %%
world = worlds["hierarchical"]
rows, leans = [], {}
for architecture, W_dec in dictionaries["hierarchical"].items():
    for name, W in ((architecture, W_dec), (f"{architecture} (correlated)", dictionaries["correlated"][architecture])):
        directions = normalize(W, dim=1)
        cosines, latents = (world.features @ directions.T).max(dim=1)
        members = slice(groups, None)
        leader_of_member = world.features[[i % groups for i in range(groups, n_features)]]
        found = cosines[members] > threshold
        lean = (directions[latents[members]] * leader_of_member).sum(dim=1)[found]
        leans[name] = lean
        rows.append(
            {
                "dictionary": name,
                "recovered, leaders": (cosines[:groups] > threshold).float().mean().item(),
                "recovered, members": (cosines[members] > threshold).float().mean().item(),
                "lean": lean.mean().item(),
            }
        )
show(pd.DataFrame(rows))

# %% tags=["hide-input"]
lines = []
for architecture in dictionaries["hierarchical"]:
    here, control = leans[architecture], leans[f"{architecture} (correlated)"]
    if min(len(here), len(control)) < 2:
        lines.append(f"- {architecture}: too few members were recovered in this run to say how they lean.")
        continue
    difference = (here.mean() - control.mean()).item()
    error = (here.var() / len(here) + control.var() / len(control)).sqrt().item()
    told_apart = "told apart from the control" if abs(difference) > 1.96 * error else "not told apart from the control"
    lines.append(f"- {architecture}: members lean {difference:+.3f} ± {1.96 * error:.3f} more than in the control; {told_apart}.")
Markdown("\n".join(lines) + "\n\nThe ± is a 95% interval over recovered members, of one dictionary each; other seeds might give another difference.")

# %% [markdown]
# ## Told the wrong L0
#
# On a real model the number of features present is unknown, so the L0 of an SAE is a guess. {cite:t}`chanin2025sparse` show that too low a guess
# makes an SAE mix correlated features. Too high a guess lets it mix features as well. Here an SAE is told several values in the independent and in
# the correlated world; the truth is `mean_active`. **Before you look, draw two curves:** which way does explained variance go as L0 grows, and
# which way recovery? At which L0 is each highest?

# %%
told = []
for name in ("independent", "correlated"):
    for l0 in l0s:
        scores, _ = learn(worlds[name], tests[name], l0, architectures[:1])
        told.append(scores.assign(world=name, told=l0))
told = pd.concat(told, ignore_index=True)

# %% mystnb={"figure": {"caption": "Explained variance and recovery against the L0 that an SAE is told. The vertical line is the true mean number of features present.", "name": "fig-wrong-l0"}, "image": {"alt": "Line charts of explained variance and of recovery against the L0 that the SAE was told, in two worlds, with a vertical line at the true value."}}
figure, pair = plt.subplots(1, 2, figsize=(7, 3.4))
lines = iter(("-", "--", "-.", ":"))
for (name, architecture), rows in told.groupby(["world", "architecture"], sort=False):
    line = next(lines)
    for axes, column in zip(pair, ("explained_variance", "recovered"), strict=True):
        axes.plot(rows["told"], rows[column], line, marker="o", markersize=4, label=f"{architecture}, {name}")
for axes, label in zip(pair, ("explained variance", "recovered"), strict=True):
    axes.axvline(mean_active, color=plots.GREY, linewidth=1, linestyle="--")
    axes.set(xlabel="L0 told", ylabel=label, ylim=(0, 1.02), xscale="log")
    axes.set_xticks(l0s, [str(l0) for l0 in l0s], minor=False)
    axes.minorticks_off()
figure.legend(*pair[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9);

# %% tags=["hide-input"]
lines = []
for (name, architecture), rows in told.groupby(["world", "architecture"], sort=False):
    rows = rows.set_index("told")
    lines.append(
        f"- {name}, {architecture}: explained variance is highest at L0 {rows['explained_variance'].idxmax()} "
        f"({rows['explained_variance'].max():.2f}), recovery at L0 {rows['recovered'].idxmax()} ({rows['recovered'].max():.1%}; at L0 "
        f"{rows.index.max()} it is {rows.loc[rows.index.max(), 'recovered']:.1%}, at L0 {rows.index.min()} "
        f"{rows.loc[rows.index.min(), 'recovered']:.1%})."
    )
Markdown(f"The truth is {mean_active}.\n\n" + "\n".join(lines) + "\n\nCompare with the curves that you drew: does explained variance mark the true L0 in any way?")

# %% tags=["hide-input"]
columns = ["architecture", "explained_variance", "l0", "dead", "recovered", "recovered_one_to_one", "mean_best_cosine"]
keep("worlds", table[["world", *columns]], seed=seed)
keep("told_l0", told[["world", "told", *columns]], seed=seed)

# %% [markdown]
# ## What would change my mind
#
# The claim is that what the last chapters found does not hang on independent features and on a known L0: explained variance and recovery are two
# questions. In {numref}`fig-worlds` it gains weight if recovery moves between worlds where explained variance does not, or the reverse. It loses
# weight if both rank the worlds, and the architectures within each, alike. In {numref}`fig-wrong-l0` it gains weight if explained variance rises
# past the true L0 while recovery falls, and loses weight if both peak at one place, for then explained variance could choose L0.

# %% [markdown]
# ## Exercises
#
# ```{exercise} How far may a direction lean?
# :label: ex-largest-lean
#
# *Easy, 5 minutes.* A direction is a mixture of a member and of its leader, two features at right angles, and has length 1. Its cosine to the
# member is just `bar`. Write `largest_lean(bar)`: its cosine to the leader, which is the most that it can lean and still not fall below the bar.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def largest_lean(bar):
    # BEGIN SOLUTION
    return (1 - bar**2) ** 0.5  # the squares of the two cosines add up to the squared length
    # END SOLUTION


# %% tags=["check"]
exercises.check_largest_lean(largest_lean)

# %% tags=["hide-input"]
lines = [
    f"- {architecture}: {leans[architecture].mean():.2f} on average, {leans[architecture].max():.2f} at most (recovered members: {len(leans[architecture])})"
    for architecture in dictionaries["hierarchical"]
    if len(leans[architecture])
]
Markdown(
    f"A direction that passes {threshold} may lean up to {largest_lean(threshold):.2f} (a little more where the features are not at right angles). In the hierarchical "
    "world they lean:\n\n" + ("\n".join(lines) or "- (no member was recovered in this run)") + "\n\nSo the bar alone cannot exclude absorption; one has to look."
)

# %% [markdown]
# ```{exercise} Choosing L0 above the floor
# :label: ex-l0-above-floor
#
# *Medium, 10 minutes.* Explained variance grows with L0, but that of an untrained dictionary does, too. So choose the L0 at which training adds
# most: write `best_l0(l0s, trained, floor)`, which returns the L0 where `trained` is furthest above `floor`. All three are NumPy arrays, one value
# for each L0.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def best_l0(l0s, trained, floor):
    # BEGIN SOLUTION
    return l0s[(trained - floor).argmax()]
    # END SOLUTION


# %% tags=["check"]
exercises.check_best_l0(best_l0)

# %% [markdown]
# Does that find the true L0? **Guess first.** The {term}`floor` is an untrained dictionary of the same size, at each L0.

# %% tags=["hide-input"]
lines = []
for name in ("independent", "correlated"):
    of_world = told[told["world"] == name]
    fit, test = worlds[name].batches(10_000, 1, seed=seed + 2)[0], tests[name]
    untrained = [
        nulls(fit, test, l0=l0, d_sae=n_features, seed=seed + 100).set_index("null").loc["random dictionary", "explained_variance"]
        for l0 in of_world["told"]
    ]
    trained, floor_at = of_world["explained_variance"].to_numpy(), np.array(untrained)
    chosen = best_l0(of_world["told"].to_numpy(), trained, floor_at)
    margins = ", ".join(f"{margin:+.2f} at {l0}" for l0, margin in zip(of_world["told"], trained - floor_at, strict=True))
    best_found = of_world.loc[of_world["recovered"].idxmax(), "told"]
    lines.append(f"- {name}: above the floor {margins}. Your rule chooses L0 {chosen}; recovery is highest at L0 {best_found}.")
Markdown(
    f"The truth is {mean_active}.\n\n" + "\n".join(lines) + "\n\nA floor at the same L0 makes scores comparable. Whether its distance marks the true L0 is a "
    "question to the data, on which these are two cases of one seed."
)

# %% [markdown]
# ```{exercise} What else differs?
# :label: ex-control-world
#
# *Hard, 20 minutes.* The hierarchical world differs from the independent one in two ways: members never come without their leader, and leaders are
# common while members are rarer. If recovery differs, which of the two was it? Write `control_world(world)`: a `FeatureWorld` with the same
# features and the same frequencies as `world`, in which all features come independently. (`world` has the attributes `probabilities`, `d_in`,
# `sigma` and `seed`.)
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def control_world(world):
    # BEGIN SOLUTION
    return FeatureWorld(world.probabilities, world.d_in, world.sigma, world.seed)
    # END SOLUTION


# %% tags=["check"]
exercises.check_control_world(control_world)

# %% [markdown]
# The first architecture, trained in your control world, beside what it did in the other two:

# %% tags=["hide-input"]
control = control_world(worlds["hierarchical"])
alone, _ = learn(control, control.batches(10_000, 1, seed=seed + 1)[0], mean_active, architectures[:1])
three = table[(table["architecture"] == architectures[0]) & table["world"].isin(["independent", "hierarchical"])]
three = pd.concat([three, alone.assign(world="same frequencies, independent")], ignore_index=True).set_index("world")
display(show(three.reset_index()[["world", "explained_variance", "low", "high", "recovered", "dead"]]))
score = three["recovered"]
by_frequency = score["same frequencies, independent"] - score["independent"]
by_hierarchy = score["hierarchical"] - score["same frequencies, independent"]
Markdown(
    f"From the independent to the hierarchical world recovery changes by {100 * (score['hierarchical'] - score['independent']):+.1f} percentage points: {100 * by_frequency:+.1f} come "
    f"with the frequencies alone, {100 * by_hierarchy:+.1f} with the hierarchy. One seed; a point is {n_features / 100:g} features."
)

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. Every member of a hierarchy is recovered at 0.8. Is there no absorption?
# That does not follow. A direction may have a cosine of 0.8 to its member and one of 0.6 to the leader. Passing the bar says that the member
# dominates, not that it is alone.
# ```
#
# ```{dropdown} 2. Explained variance is highest at the largest L0 that was tried. Is that the L0 to use?
# No. With more active latents any dictionary reconstructs more, an untrained one as well. A score that can only grow cannot choose; it needs a
# penalty or a floor beside it, and on synthetic data there is the truth to ask.
# ```
#
# ```{dropdown} 3. One architecture recovers more than another in the noisy world. Is it more robust to noise?
# Compare each with itself in the independent world first: the same gap there would have nothing to do with noise. Then ask for more {term}`seeds <seed>`. The
# interval of explained variance covers which test samples were drawn, and nothing else; for recovery no interval is shown here at all.
# ```

# %% [markdown]
# ## Key points
#
# - What correlation, hierarchy or noise does to one score need not be what it does to the other: compare the two panels of {numref}`fig-worlds`.
# - In a hierarchy, look at whether the directions of members lean towards their leader: passing the bar does not exclude it.
# - Compare where explained variance and recovery peak over L0. If explained variance only grows, it cannot choose L0.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`chanin2026synthsaebench`: a benchmark on synthetic data with correlation, hierarchy and many more features.
# - {cite:t}`chanin2025sparse`: why a wrong L0 gives wrong features, and a way to see it without the truth.
# - {cite:t}`chanin2024absorption`: feature absorption in SAEs of real models.
# - {cite:t}`chanin2025hedging`: what correlation does to an SAE with too few latents.

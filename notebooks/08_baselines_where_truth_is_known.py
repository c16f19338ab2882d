# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The baselines where the truth is known
#
# ```{admonition} This lesson
# - **You will learn** what the rules of the three random baselines leave within reach where the true {term}`features <feature>` are known, how far a cone
#   reaches, and at which $\tau$ a Soft-Frozen Decoder would deserve to be called random. What they do recover takes longer runs than this page's default to show.
# - **You need** [Synthetic recovery](02_synthetic_recovery) for {term}`recovery`, and [Frozen Decoder](05_frozen_decoder),
#   [Soft-Frozen Decoder](06_soft_frozen_decoder) and [Frozen Encoder](07_frozen_encoder) for the rules.
# - **Time** 15 minutes to read, 15 more for the exercises that have a check.
# ```
#
# The three baselines of {cite:t}`korznikov2026sanity` were tested on language models. What would they score where
# {term}`recovery` can be measured? A {term}`Frozen Decoder` cannot recover anything but by luck, so its {term}`explained variance` is one
# more {term}`yardstick`. A {term}`Soft-Frozen Decoder` is another matter: its {term}`directions <direction>` stay within a cosine of $\tau$ of a random
# start, and how random that is depends on $\tau$ and on the dimension. The paper uses $\tau = 0.8$ only; here $\tau$ runs from
# 0.5 to 0.99.

# %% tags=["parameters"]
setting: str = "constant"  # how often features are present: constant or variable
architecture: str = "TopK"  # the one that recovers most in the paper
taus: list = [0.5, 0.7, 0.8, 0.9, 0.99]  # bounds of the Soft-Frozen Decoder
n_features: int = 3200  # true features
d_in: int = 100  # dimensions of the activations
l0: int = 20  # active latents per sample, and the mean number of features present in the constant setting
d_sae: int = 3200  # latents of each SAE
samples: int = 1_000_000  # samples that each SAE is trained on
batch_size: int = 4096  # samples in a training batch
lr: float = 4e-3  # peak learning rate; as in the chapters on recovery
threshold: float = 0.8  # cosine above which a feature counts as recovered
seed: int = 0  # seed of the features, of the SAEs' random start and of the training samples
reference: str = ""  # folder of reference runs to show, made by book/sweep.py; empty leaves them out

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter
from saebook.dictionaries import chance_cosine
from saebook.exercises import baselines_where_truth_is_known as exercises
from saebook.setup import Markdown, display, keep, show
from saebook.tables import reference_run

from saelite import FeatureWorld, arguments, iso, nulls, plots, recovery
from saelite.baselines import FrozenDecoder, FrozenEncoder, SoftFrozenDecoder
from saelite.grid import architectures_at, fit_and_test
from saelite.metrics import WatchRecovery, best_cosines
from saelite.synthetic import constant_probabilities, log_uniform_probabilities

plots.style()
# wrong parameters are refused here, before anything slow runs
arguments.training(samples=samples, batch_size=batch_size, lr=lr, seed=seed)
arguments.between(-1, 1, threshold=threshold)
arguments.each_once(taus=taus)
arguments.between(0, 1, taus=taus)
runs = reference_run(reference, "baselines")
known = {"constant": constant_probabilities(n_features, l0), "variable": log_uniform_probabilities(n_features, seed=seed)}
if setting not in known:
    raise ValueError(f"setting={setting!r} must be one of {', '.join(known)}.")
(activation,) = architectures_at(l0, [architecture], d_sae)

# %%
baselines = {"fully trained": None, "Frozen Decoder": FrozenDecoder(), "Frozen Encoder": FrozenEncoder()}
baselines |= {f"Soft-Frozen Decoder (τ = {tau:g})": SoftFrozenDecoder(tau) for tau in taus}
world = FeatureWorld(known[setting], d_in, seed=seed)

# %% [markdown]
# ## How far a cone reaches
#
# A start at an angle $\alpha$ to a feature may turn by $\arccos \tau$ towards it. So the nearest it can come is a cosine of
# $\cos(\alpha - \arccos \tau)$. And among many random starts one has a small $\alpha$ to begin with.
#
# **Before you look:** at $\tau = 0.8$, can a direction that started at random pass the bar of 0.8 that counts as recovered? In the figure the
# answer is where a curve crosses the vertical line: above the horizontal line it can, below it cannot. Each curve is one size of {term}`dictionary`.


# %%
def reach(cosine, tau):
    """The largest cosine to a feature that a cone around a start with this cosine to it allows."""
    return np.cos(np.clip(np.arccos(cosine) - np.arccos(tau), 0, None))


# %% mystnb={"figure": {"caption": "The cosine to a feature that the best of many random starts can reach within its cone. Dashed lines: the paper's bound, and the bar above which a feature counts as recovered.", "name": "fig-reach"}, "image": {"alt": "Line chart of the cosine within reach against \u03c4, for three sizes of dictionary, with a horizontal line at the recovery bar of 0.8 and a vertical line at the paper's \u03c4 of 0.8."}}
figure, axes = plt.subplots(figsize=(7, 3.4))
grid = np.linspace(0.3, 1, 200)
sizes = {(100, 3200): "100 dimensions, 3,200 latents (here)", (576, 4608): "576, 4,608 (this book's language model)"}
sizes[2304, 73728] = "2,304, 73,728 (the paper's)"
for (dimensions, latents), line in zip(sizes, ("-", "--", "-."), strict=True):
    axes.plot(grid, reach(chance_cosine(dimensions, latents), grid), line, label=sizes[dimensions, latents])
axes.axvline(0.8, color=plots.GREY, linewidth=1, linestyle="--")
axes.axhline(0.8, color=plots.GREY, linewidth=1, linestyle="--")
axes.set(xlabel="τ", ylabel="cosine within reach", xlim=(0.3, 1), ylim=(0, 1.02))
axes.legend(fontsize=9, loc="lower left");

# %% tags=["hide-input"]
start = best_cosines(world.features, iso(d_sae, d_in, seed)).numpy()
Markdown(
    f"At τ = 0.8 the best start for a feature can come within a cosine of {reach(chance_cosine(100, 3200), 0.8):.2f} in "
    f"100 dimensions and of {reach(chance_cosine(2304, 73728), 0.8):.2f} at the paper's size, where chance alone gives "
    f"{chance_cosine(100, 3200):.2f} and {chance_cosine(2304, 73728):.2f}. Here the rule leaves "
    f"{(reach(start, 0.8) > threshold).mean():.2%} of the features within reach of the bar. So a Soft-Frozen Decoder is not "
    "*random features*: it may turn a long way towards what is useful."
)

# %% [markdown]
# At which $\tau$ would it deserve that name? The [Soft-Frozen chapter](06_soft_frozen_decoder) has a yardstick: a direction at right angles to its start may be
# reached with a cosine of up to $\sqrt{1-\tau^2}$, and that should be no more than what the nearest of as many random directions has by chance. So $\tau$ has
# to be at least $\sqrt{1-c^2}$, where $c$ is the cosine that chance gives:

# %% tags=["hide-input"]
lines = [
    f"- {label}: chance gives {(by_chance := chance_cosine(*size)):.2f}, so τ has to be at least {np.sqrt(1 - by_chance**2):.3f}, an angle of {np.degrees(np.arcsin(by_chance)):.0f} degrees; "
    f"0.8 allows {np.degrees(np.arccos(0.8)):.0f} degrees"
    for size, label in sizes.items()
]
Markdown("\n".join(lines))

# %% [markdown]
# ## Trained, frozen, and in between
#
# If recovery is near zero for all, the fully trained SAE too, the run was too short to compare it. What this page can compare even then
# is explained variance, the mean best cosine (of the directions to the features, averaged over features), and how much each rule would
# allow: *recovered at most* is the share of features that the rule leaves within reach of the bar. A Frozen Decoder's is what its start had.
#
# **Write down an order:** which of the fully trained SAE, the Frozen Decoder, the {term}`Frozen Encoder` and a dictionary that was never
# trained explains most, which least? And is a Soft-Frozen Decoder with $\tau = 0.8$ nearer to the trained SAE or to the frozen one?

# %%
batches = world.batches(batch_size, max(1, samples // batch_size), seed=seed)
test = world.batches(20_000, 1, seed=seed + 1)[0]
saes, histories, table = fit_and_test(
    [(name, activation, baseline, "iso") for name, baseline in baselines.items()], batches, test,
    d_sae=d_sae, seed=seed, lr=lr, watch=WatchRecovery(world.features, threshold), log_every=max(1, len(batches) // 40),
)  # fmt: skip
found = pd.DataFrame([recovery(world.features, sae.W_dec, threshold) for sae in saes.values()])
table = pd.concat([table, found], axis=1)
table["tau"] = [getattr(sae.baseline, "tau", None) for sae in saes.values()]
table["recovered_at_most"] = [
    (start > threshold).mean() if name == "Frozen Decoder" else np.nan if np.isnan(tau) else (reach(start, tau) > threshold).mean()
    for name, tau in zip(table["baseline"], table["tau"], strict=True)
]
show(table[["baseline", "explained_variance", "recovered", "recovered_at_most", "mean_best_cosine", "cosine_to_start", "dead", "low", "high"]])

# %%
floor = nulls(world.batches(20_000, 1, seed=seed + 2)[0], test, l0=l0, d_sae=d_sae, seed=seed + 100)
show(floor)

# %% [markdown]
# Have the rules held? The next cell stops with an error if a direction left its cone, or if a frozen one moved.

# %%
for (_, name), sae in saes.items():
    if isinstance(sae.baseline, SoftFrozenDecoder):
        assert sae.cosine_to_start().min() >= sae.baseline.tau - 1e-6, name
    if name == "Frozen Decoder":
        assert torch.equal(sae.W_dec, sae.W_dec_start)

# %% tags=["hide-input"]
of = table.set_index("baseline")
soft = table.dropna(subset="tau").sort_values("tau")
null = floor.set_index("null")["explained_variance"]["random dictionary"]
best = table["recovered"].max()
reached = f"more than {best:.2%} of the features" if best else "a single feature"
if best < 0.01:
    reached += ": after so few samples recovery cannot tell them apart"
Markdown(
    f"After {batch_size * len(batches) / 1e6:.2g} million samples the fully trained {architecture} explains "
    f"{of.loc['fully trained', 'explained_variance']:.3f} and has recovered {of.loc['fully trained', 'recovered']:.2%}; the Frozen "
    f"Decoder explains {of.loc['Frozen Decoder', 'explained_variance']:.3f}, the Frozen Encoder "
    f"{of.loc['Frozen Encoder', 'explained_variance']:.3f}, a dictionary never trained {null:.3f}. The Soft-Frozen Decoders: "
    + "; ".join(f"τ = {r.tau:g}: {r.explained_variance:.3f}, recovered {r.recovered:.2%}" for r in soft.itertuples())
    + f".\n\nNo SAE of this run has recovered {reached}.\n\nExplained variance from most to least:\n\n"
    + "\n".join(f"- {label}: {score:.3f}" for score, label in sorted(
        [(row.explained_variance, row.baseline) for row in table.itertuples()] + [(null, "never trained")], reverse=True
    ))
)

# %% tags=["hide-input"]
columns = ["architecture", "baseline", "tau", "explained_variance", "recovered", "recovered_at_most", "mean_best_cosine"]
columns += ["cosine_to_start", "dead", "l0"]
keep("baselines", table[columns], setting=setting, seed=seed, samples=batch_size * len(batches))

# %% [markdown]
# ## Over $\tau$
#
# For recovery to show, training must be longer than a build of this book can afford. `book/sweep.py` makes such runs
# ([How to run and rerun](../book/howto.md)); whoever has made some names their folder in `reference`, and they take the place of this page's run in the figure.
#
# In the figure below go from left to right, from a loose rule to a strict one. At which $\tau$ does what is *within reach* collapse? Does explained
# variance fall there too? And is anything recovered at all, so that the dashed curve with squares, *recovered*, can tell you something?

# %%
Markdown(
    runs.label
    or f"The figure below is of this page's own run, in which the fully trained SAE has recovered {of.loc['fully trained', 'recovered']:.2%} of the features."
    + (" So of recovery it shows what the rules would allow, and not whether training gets there." if of.loc["fully trained", "recovered"] < 0.01 else "")
)

# %% tags=["hide-input"]
summary = pd.DataFrame()
if runs:
    several = runs.tables["baselines"].groupby("baseline", sort=False)
    summary = several.agg(
        seeds=("seed", "nunique"),
        million_samples=("samples", lambda column: column.max() / 1e6),
        explained_variance=("explained_variance", "mean"),
        recovered=("recovered", "mean"),
        recovered_lowest=("recovered", "min"),
        recovered_highest=("recovered", "max"),
        recovered_at_most=("recovered_at_most", "mean"),
        tau=("tau", "first"),
    ).reset_index()
    display(show(summary))

# %% mystnb={"figure": {"caption": "Soft-Frozen Decoders over \u03c4, of the run that is named above. Horizontal lines: the fully trained SAE's explained variance and recovery.", "name": "fig-tau"}, "image": {"alt": "Line chart against \u03c4: explained variance, share of features recovered, and share within reach of the rule, with horizontal lines for the fully trained SAE."}}
shown = summary if runs else table
soft = shown.dropna(subset="tau").sort_values("tau")
trained = shown.set_index("baseline").loc["fully trained"]
figure, axes = plt.subplots(figsize=(7, 3.4))
for column, line, colour, label in (
    ("explained_variance", "o-", plots.COLOURS["fully trained"], "explained variance"),
    ("recovered", "s--", plots.COLOURS["Frozen Decoder"], "recovered"),
    ("recovered_at_most", "^:", plots.GREY, "within reach of the rule"),
):
    axes.plot(soft["tau"], soft[column], line, color=colour, label=label)
axes.axhline(trained["explained_variance"], color=plots.COLOURS["fully trained"], linewidth=1)
axes.axhline(trained["recovered"], color=plots.COLOURS["Frozen Decoder"], linewidth=1, linestyle="--")
axes.set(xlabel="τ", ylabel="share", ylim=(-0.02, 1.02))
axes.yaxis.set_major_formatter(PercentFormatter(1))
figure.legend(loc="outside lower center", ncols=3, fontsize=9);

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that explained variance does not tell whether features were found. It would gain weight if in {numref}`fig-tau` a
# Soft-Frozen Decoder with a strict $\tau$ explained as much as the trained SAE and recovered nothing of what that recovers. It would lose
# weight if explained variance and recovery rose together, as $\tau$ falls: then the score that can be measured would be a fair stand-in for the one that cannot.
# Where not even the trained SAE recovers anything the figure speaks for neither: then only longer runs can.

# %% [markdown]
# ## Exercises
#
# ```{exercise} A bar from the null
# :label: ex-bar-of-chance
#
# *Easy, 5 minutes.* At a bar of 0.8 this page may see nothing at all. Let chance set the bar: write `bar_of_chance(random_best, share)`, where
# `random_best` holds the best cosine of each feature to a *random* dictionary: the cosine that only `share` of them exceed.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def bar_of_chance(random_best, share):
    # BEGIN SOLUTION
    return np.quantile(random_best, 1 - share)
    # END SOLUTION


# %% tags=["check"]
exercises.check_bar_of_chance(bar_of_chance)

# %% [markdown]
# The bar that one feature of a hundred passes with a dictionary of the same size that nobody trained, and what passes it here. A second random dictionary shows
# whether the bar does what it says.

# %% tags=["hide-input"]
chance, again = (best_cosines(world.features, iso(d_sae, d_in, seed + other)).numpy() for other in (100, 101))
bar = bar_of_chance(chance, 0.01)
passed = {"another random dictionary": (again > bar).mean()}
passed |= {label: (best_cosines(world.features, sae.W_dec).numpy() > bar).mean() for (_, label), sae in saes.items()}
Markdown(
    f"Above a cosine of {bar:.2f}:\n\n" + "\n".join(f"- {label}: {share:.1%}" for label, share in passed.items())
    + f"\n\nWhat a dictionary has above the random ones, it has from moving towards features. Whether a cosine of {bar:.2f} to a feature is of any use is another "
    "question: a bar from the null says that something was learned, not that it was found."
)

# %% [markdown]
# ```{exercise} The strictest rule that still permits recovery
# :label: ex-largest-tau
#
# *Medium, 10 minutes.* `reach` above goes from $\tau$ to the cosine within reach. Turn it round: write `largest_tau(start, bar)` for an array
# of start cosines to a feature and a bar: the largest $\tau$ whose cone still reaches the bar. Think in angles, and of starts that are past the bar already.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def largest_tau(start, bar):
    # BEGIN SOLUTION
    return np.cos(np.clip(np.arccos(start) - np.arccos(bar), 0, None))
    # END SOLUTION


# %% tags=["check"]
exercises.check_largest_tau(largest_tau)

# %% [markdown]
# For the nearest random start that a feature has on average, at the three sizes of {numref}`fig-reach`; and feature by feature in this chapter's own world:

# %% tags=["hide-input"]
lines = [f"- {label}: {largest_tau(np.array([chance_cosine(*size)]), threshold)[0]:.2f}" for size, label in sizes.items()]
own = largest_tau(start, threshold)
within = "; ".join(f"τ = {tau:g}: {(own > tau).mean():.2%}" for tau in sorted(taus))
Markdown(
    f"The largest τ that leaves the bar of {threshold} within reach of the average feature:\n\n" + "\n".join(lines)
    + f"\n\nThe share of this world's features that each rule leaves within reach: {within}. That is the column *recovered at most* of the table, found from the other side."
)

# %% [markdown]
# ```{exercise} Which of them would find what?
# :label: ex-frequent-features
#
# *Hard, 20 minutes and some waiting.* In the variable setting some features are hundreds of times more frequent than others, and training gets to
# those first. Predict: at which $\tau$ does recovery of the Soft-Frozen Decoder begin to fall behind the trained SAE's, and does the *explained
# variance* fall at the same $\tau$? Then rerun this notebook with `-p setting variable -p architecture JumpReLU -p samples 6000000`, which takes about
# six times as long as this page did. If even then the trained SAE recovers little, ask the same of the *mean best cosine*.
# ```
#
# ```{dropdown} What to look for
# Frequent features carry most of the variance, so a rule that forbids the directions of rare ones costs recovery much and explained variance
# little. Compare *recovered* with *recovered at most*: where the first is far below the second the rule is not what holds recovery back. And
# recovery here counts features alike, frequent or not.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. A Soft-Frozen Decoder recovers features in 100 dimensions. Will it in 2,304?
# Not to the same bar. In more dimensions the nearest random start is further from any feature, and a cone of the same $\tau$ begins there. The rule
# is the same; how much it forbids is not.
# ```
#
# ```{dropdown} 2. The Frozen Encoder explains more than a dictionary that was never trained. So has it found features?
# It has learned a read-out: {term}`decoder directions <decoder direction>` that fit what random detectors pick up. Whether these are features is a question for recovery, and
# the table has that column.
# ```
#
# ```{dropdown} 3. All SAEs recover next to nothing here. Then frozen and trained are equal?
# Equal at the {term}`floor`, and nothing follows from that. A test in which even the best contestant scores zero cannot tell contestants apart: train longer, or
# lower the bar, or look at the mean best cosine.
# ```

# %% [markdown]
# ## Key points
#
# - In few dimensions a cone of $\tau = 0.8$ reaches past the bar that counts as recovered; in many dimensions it still allows
#   several times the cosine that chance gives.
# - Compare a baseline's explained variance with a dictionary that was never trained before comparing it with a trained SAE.
# - Before you use a bound as a baseline, work out what it forbids: above some $\tau$ it rules out recovery, below it may permit nearly anything.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`, section 3 and appendix E: recovery on known features, and the bound on chance that the paper sets beside its $\tau$.
# - {cite:t}`chanin2026synthsaebench`: synthetic data with correlated and nested features, at a larger size, and how far SAEs get there.
# - {cite:t}`chanin2025sparse`: with a wrong L0 an SAE mixes features, one more way to reconstruct well and recover little.

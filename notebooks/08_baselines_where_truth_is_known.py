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
# The three baselines of {cite:t}`korznikov2026sanity` were tested on language models. What would they score where
# recovery can be measured? A {term}`Frozen Decoder` cannot recover anything but by luck, so its explained variance is one
# more yardstick. A {term}`Soft-Frozen Decoder` is another matter: its directions stay within a cosine of $\tau$ of a random
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
lr: float = 4e-3  # peak learning rate
threshold: float = 0.8  # cosine above which a feature counts as recovered
seed: int = 0  # seed of the features, of the SAEs' random start and of the training samples
reference: str = ""  # folder of reference runs to show, made by book/sweep.py; empty leaves them out

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

from saelite import plots
from saelite.baselines import FrozenDecoder, FrozenEncoder, SoftFrozenDecoder
from saelite.comparison import architectures_at, compare
from saelite.initialisation import iso
from saelite.metrics import WatchRecovery, best_cosines, recovery
from saelite.nulls import chance_cosine, nulls
from saelite.synthetic import FeatureWorld, constant_probabilities, log_uniform_probabilities
from saelite.tables import reference_run, show

plots.style()
known = {"constant": constant_probabilities(n_features, l0), "variable": log_uniform_probabilities(n_features, seed=seed)}
if setting not in known:
    raise ValueError(f"setting={setting!r} must be one of {', '.join(known)}.")
(activation,) = architectures_at(l0, [architecture], d_sae)
baselines = {"fully trained": None, "Frozen Decoder": FrozenDecoder(), "Frozen Encoder": FrozenEncoder()}
baselines |= {f"Soft-Frozen Decoder {tau}": SoftFrozenDecoder(tau) for tau in taus}
world = FeatureWorld(known[setting], d_in, seed=seed)

# %% [markdown]
# ## How far a cone reaches
#
# A start at an angle $\alpha$ to a feature may turn by $\arccos \tau$ towards it. So the nearest it can come is a cosine of
# $\cos(\alpha - \arccos \tau)$. And among many random starts one has a small $\alpha$ to begin with.
#
# **Before you look:** at $\tau = 0.8$, can a direction that started at random pass the bar of 0.8 that counts as recovered?


# %%
def reach(cosine, tau):
    """The largest cosine to a feature that a cone around a start with this cosine to it allows."""
    return np.cos(np.clip(np.arccos(cosine) - np.arccos(tau), 0, None))


# %% mystnb={"figure": {"caption": "The cosine to a feature that the best of many random starts can reach within its cone. Dashed lines: the paper's bound, and the bar above which a feature counts as recovered.", "name": "fig-reach"}, "image": {"alt": "Line chart of the cosine within reach against tau, for three sizes of dictionary, with a horizontal line at the recovery bar of 0.8 and a vertical line at the paper's tau of 0.8."}}
figure, axes = plt.subplots(figsize=(7, 3.4))
grid = np.linspace(0.3, 1, 200)
sizes = {(100, 3200): "100 dimensions, 3,200 latents (here)", (576, 4608): "576, 4,608 (this book's language model)"}
sizes[2304, 73728] = "2,304, 73,728 (the paper's)"
for (dimensions, latents), line in zip(sizes, ("-", "--", "-."), strict=True):
    axes.plot(grid, reach(chance_cosine(dimensions, latents), grid), line, label=sizes[dimensions, latents])
axes.axvline(0.8, color=plots.GREY, linewidth=1, linestyle="--")
axes.axhline(0.8, color=plots.GREY, linewidth=1, linestyle="--")
axes.set(xlabel="tau", ylabel="cosine within reach", xlim=(0.3, 1), ylim=(0, 1.02))
axes.legend(fontsize=9, loc="lower left");

# %% tags=["hide-input"]
start = best_cosines(world.features, iso(d_sae, d_in, seed)).numpy()
Markdown(
    f"At tau = 0.8 the best start for a feature can come within a cosine of {reach(chance_cosine(100, 3200), 0.8):.2f} in "
    f"100 dimensions and of {reach(chance_cosine(2304, 73728), 0.8):.2f} at the paper's size, where chance alone gives "
    f"{chance_cosine(100, 3200):.2f} and {chance_cosine(2304, 73728):.2f}. Here the rule leaves "
    f"{(reach(start, 0.8) > threshold).mean():.0%} of the features within reach of the bar. So a Soft-Frozen Decoder is not "
    "*random features*: it may turn a long way towards what is useful."
)

# %% [markdown]
# ## Trained, frozen, and in between
#
# Expect recovery near zero for all in this build, the fully trained SAE too: in the constant setting so short a run is not
# enough. What this page can compare is explained variance, the mean best cosine, and how much each rule would allow.

# %%
batches = world.batches(batch_size, max(1, samples // batch_size), seed=seed)
test = world.batches(20_000, 1, seed=seed + 1)[0]
saes, histories, table = compare(
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
show(table[["baseline", "explained_variance", "low", "high", "recovered", "recovered_at_most", "mean_best_cosine", "cosine_to_start", "dead"]])

# %%
floor = nulls(world.batches(20_000, 1, seed=seed + 2)[0], test, l0=l0, d_sae=d_sae, seed=seed + 100)
show(floor)

# %% [markdown]
# *recovered at most* is the share of features that the rule leaves within reach; a Frozen Decoder's is what its start had.

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
Markdown(
    f"After {batch_size * len(batches) / 1e6:.1f} million samples the fully trained {architecture} explains "
    f"{of.loc['fully trained', 'explained_variance']:.3f} and has recovered {of.loc['fully trained', 'recovered']:.2%}; the Frozen "
    f"Decoder explains {of.loc['Frozen Decoder', 'explained_variance']:.3f}, the Frozen Encoder "
    f"{of.loc['Frozen Encoder', 'explained_variance']:.3f}, a dictionary never trained {null:.3f}. The Soft-Frozen Decoders: "
    + "; ".join(f"tau {r.tau:g}: {r.explained_variance:.3f}, recovered {r.recovered:.2%}" for r in soft.itertuples())
    + "."
)

# %%
kept = Path(os.environ.get("SAELITE_RESULTS", "results"))
kept.mkdir(parents=True, exist_ok=True)
columns = ["architecture", "baseline", "tau", "explained_variance", "recovered", "recovered_at_most", "mean_best_cosine"]
columns += ["cosine_to_start", "dead", "l0"]
table[columns].assign(setting=setting, seed=seed, samples=batch_size * len(batches)).to_json(
    kept / "baselines.json", orient="records", indent=1
)

# %% [markdown]
# ## For longer
#
# For recovery to show, training must be longer. `book/sweep.py` makes such runs
# ([How to run and rerun](../book/howto.md)); name their folder in `reference`, and they are shown here.

# %%
runs = reference_run(reference)
Markdown(runs.label or "This edition holds no longer runs, so the figure below shows the run above.")

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

# %% mystnb={"figure": {"caption": "Soft-Frozen Decoders over tau, from the reference runs (or this run, where those were left out). Horizontal lines: the fully trained SAE's explained variance and recovery.", "name": "fig-tau"}, "image": {"alt": "Line chart against tau: explained variance, share of features recovered, and share within reach of the rule, with horizontal lines for the fully trained SAE."}}
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
axes.set(xlabel="tau", ylim=(-0.02, 1.02))
axes.yaxis.set_major_formatter(PercentFormatter(1))
figure.legend(loc="outside lower center", ncols=3, fontsize=9);

# %% [markdown]
# ## Key points
#
# - In few dimensions a cone of $\tau = 0.8$ reaches past the bar that counts as recovered; in many dimensions it still allows
#   several times the cosine that chance gives.
# - Compare a baseline's explained variance with a dictionary that was never trained before comparing it with a trained SAE.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why would TopK recover features and BatchTopK not?
#
# ```{admonition} This lesson
# - **You will learn** how to go from an observation to a suspected cause, to predictions, and to tests that change one thing; and why dead latents
#   have to be looked at before recovery.
# - **You need** [Synthetic recovery](02_synthetic_recovery): {term}`TopK`, {term}`BatchTopK`, {term}`recovery`, {term}`dead latent`.
# - **Time** 20 minutes to read, 15 more for the exercises that have a check.
# ```
#
# In the constant setting {cite:t}`korznikov2026sanity` report that TopK recovers 99.9% of the {term}`features <feature>` while BatchTopK,
# JumpReLU and {term}`Matryoshka` recover 0.1% or less. They call TopK's success an "artifact" of the simple setting and leave it
# unexplained. The [longer runs](longer-runs) of the last chapter show the same contrast. Here we look for its cause, with shorter runs,
# so that many can be compared. What they can show is an early sign: which {term}`latents <latent>` die, and whether
# {term}`directions <direction>` turn towards features.
#
# The *norm* of a sample is its length. In training TopK and BatchTopK differ in one thing: over what the largest {term}`pre-activations
# <pre-activation>` are chosen. TopK takes the $k$ largest of *each sample*. BatchTopK takes the $k \times n$ largest of a *whole batch* of
# $n$ samples, so samples compete with each other; and the pre-activation of latent $j$ is $\langle x, w_j \rangle = \lVert x \rVert \, \lVert w_j \rVert
# \cos \theta$, where $w_j$ is the latent's encoder direction and $\theta$ its angle with the sample $x$. So **at the same
# cosine the larger sample wins**, and large samples tend to take latents from small ones. {term}`JumpReLU`'s thresholds are the same for all
# samples, so there, too, large samples get more latents.
#
# Why would that kill latents? What follows is a guess. The bar that a pre-activation must pass is set by large samples. A latent that only small samples
# match well never passes it, so it gets no gradient and stays as it is. Latents that do pass grow, and raise the bar. If that is so, the *spread of
# encoder norms* should be large where many are dead, and equal encoder norms should keep more latents alive. Whether the living then turn to
# features is another matter.
#
# The suspicion: it is the *size of samples* that spoils recovery. If so,
#
# 1. with samples of one norm fewer latents of BatchTopK and JumpReLU should die and their directions come nearer to
#    features, while little changes for TopK;
# 2. the same should happen on the samples as they are to a BatchTopK that compares pre-activations as shares of their
#    sample's norm. We call it {term}`RelativeBatchTopK`;
# 3. an intermediate spread of norms should do intermediate harm;
# 4. an {term}`auxiliary loss`, which is meant to bring dead latents back, should help less than 1 and 2 do: it asks the dead to reconstruct what
#    the living left over, and leaves the competition as it is.
#
# Each is tried below. Other starts (from another architecture's {term}`dictionary`, from the true features) and other changes are in
# the list of cases; anyone with another suspicion can add to it.
#
# **Write down before you read on:** of every hundred latents, how many will be dead at the end in BatchTopK? In BatchTopK with samples of one norm? In
# TopK? In RelativeBatchTopK? And which of the four predictions above would you bet against?

# %% tags=["parameters"]
cases: list = ["TopK", "TopK, one norm", "BatchTopK", "BatchTopK, one norm", "BatchTopK, norms to 0.5", "RelativeBatchTopK", "BatchTopK, auxiliary loss", "JumpReLU", "JumpReLU, one norm"]  # what to train, from the list below
n_features: int = 3200  # true features, all equally likely
d_in: int = 100  # dimensions of the activations
l0: int = 20  # active latents per sample, and the mean number of features present
d_sae: int = 3200  # latents of each SAE
samples: int = 1_000_000  # samples that each SAE is trained on
batch_size: int = 4096  # samples in a training batch
lr: float = 4e-3  # peak learning rate; that of the runs in `reference`
threshold: float = 0.8  # cosine above which a feature counts as recovered
seed: int = 0  # seed of the features, of the SAEs' random start and of the training samples
reference: str = "../book/results/puzzle"  # folder of the reference runs to show; empty leaves them out
longer: str = "../book/results/synthetic/long"  # folder of the last chapter's longer runs to show; empty leaves them out

# %% tags=["hide-input"]
from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib import pyplot as plt
from saebook import figures
from saebook.dictionaries import chance_cosine
from saebook.exercises import recovery_puzzle as exercises
from saebook.setup import Markdown, display, keep, show
from saebook.tables import reference_run

from saelite import SAE, Baseline, FeatureWorld, arguments, evaluate, iso, plots, recovery, train
from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka, RelativeBatchTopK, TopK
from saelite.metrics import WatchRecovery, best_cosines
from saelite.reuse import train_or_load
from saelite.synthetic import constant_probabilities
from saelite.training import AuxiliaryLoss

plots.style()
# wrong parameters are refused here, before anything slow runs
arguments.training(samples=samples, batch_size=batch_size, lr=lr, seed=seed)
arguments.between(-1, 1, threshold=threshold)
runs = reference_run(reference, "puzzle")
long = reference_run(longer, "synthetic_recovery")

# %%
world = FeatureWorld(constant_probabilities(n_features, l0), d_in, seed=seed)

# %% [markdown]
# ## Samples of one norm, or of any spread
#
# A sample is resized to ``norm ** power``: as it is for a power of 1, all of one norm for a power of 0. Directions, and so
# the features to find, stay the same.


# %%
class Resized(Sequence):
    """Batches whose samples keep their directions and have the given power of their norms."""

    def __init__(self, batches, power):
        self.batches, self.power = batches, power
        self.settings = batches.settings | {"norm power": power}

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        x = self.batches[i]
        norms = x.norm(dim=1, keepdim=True)
        typical = d_in**0.5
        return torch.where(norms > 0, x / norms.clamp(min=1e-6) * typical * (norms / typical) ** self.power, 0.0)


# %% [markdown]
# ## The cases
#
# An {term}`architecture`, and what is changed. A *start* gives the {term}`decoder directions <decoder direction>` from which an SAE sets out (its {term}`encoder` is their transpose):
# the true features, or what another architecture has learned.

# %%
known = {
    "TopK": {"activation": TopK(l0)},
    "BatchTopK": {"activation": BatchTopK(l0)},
    "JumpReLU": {"activation": JumpReLU(l0)},
    "Matryoshka": {"activation": Matryoshka(l0)},
    "RelativeBatchTopK": {"activation": RelativeBatchTopK(l0)},
    "TopK, one norm": {"activation": TopK(l0), "power": 0.0},
    "BatchTopK, one norm": {"activation": BatchTopK(l0), "power": 0.0},
    "JumpReLU, one norm": {"activation": JumpReLU(l0), "power": 0.0},
    "Matryoshka, one norm": {"activation": Matryoshka(l0), "power": 0.0},
    "BatchTopK, norms to 0.25": {"activation": BatchTopK(l0), "power": 0.25},
    "BatchTopK, norms to 0.5": {"activation": BatchTopK(l0), "power": 0.5},
    "BatchTopK, auxiliary loss": {"activation": BatchTopK(l0), "revival": AuxiliaryLoss()},
    "BatchTopK, equal encoder norms": {"activation": BatchTopK(l0), "equal norms": True},
    "BatchTopK, encoder not tied at the start": {"activation": BatchTopK(l0), "encoder": iso(d_sae, d_in, seed + 7)},
    "BatchTopK, first with k tripled": {"activation": BatchTopK(l0), "start": BatchTopK(min(3 * l0, d_sae))},
    "BatchTopK, from TopK": {"activation": BatchTopK(l0), "start": TopK(l0)},
    "TopK, from BatchTopK": {"activation": TopK(l0), "start": BatchTopK(l0)},
    "TopK, from the true features": {"activation": TopK(l0), "start": "features"},
    "BatchTopK, from the true features": {"activation": BatchTopK(l0), "start": "features"},
    "JumpReLU, from the true features": {"activation": JumpReLU(l0), "start": "features"},
}
arguments.each_once(cases=cases)
if any(str(case) not in known for case in cases):
    raise ValueError(f"cases={cases} must name one or more of: {'; '.join(known)}.")
n_batches = max(1, samples // batch_size)
settings = {"lr": lr, "watch": WatchRecovery(world.features, threshold), "log_every": max(1, n_batches // 60)}


# %%
class EqualEncoderNorms(Baseline):
    """A rule of training, as the baselines are: decoder directions of unit norm, encoder rows of one common norm."""

    name = "equal encoder norms"

    @torch.no_grad()
    def constrain(self, sae, step):
        sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
        norms = sae.W_enc.norm(dim=0)
        sae.W_enc.mul_(norms.mean() / norms)


# %%
def run_case(activation, power=1.0, start="iso", encoder=None, revival=None, **changes):
    """Train one case; return the SAE, its history, and the batches that it was trained on."""
    batches = world.batches(batch_size, n_batches, seed=seed)
    batches = batches if power == 1.0 else Resized(batches, power)
    if start == "features":
        start = world.features if d_sae == n_features else world.features[torch.arange(d_sae) % n_features]
    elif start != "iso":
        first = SAE(d_in, d_sae, start, seed=seed)
        train_or_load(first, batches, **settings)
        start = first.W_dec.detach()
    sae = SAE(d_in, d_sae, activation, EqualEncoderNorms() if "equal norms" in changes else None, init=start, seed=seed)
    if encoder is not None:
        sae.W_enc.data.copy_(encoder.T)
    keep = train if "equal norms" in changes else train_or_load  # a rule made here cannot be named in a checkpoint
    return sae, keep(sae, batches, revival=revival, **settings), batches


# %% [markdown]
# Each case is trained, and tested on fresh samples, resized as its training samples were. Nothing is drawn yet.

# %%
rows, curves, learned = [], {}, {}
for case in cases:
    sae, history, batches = run_case(**known[case])
    test = world.batches(20_000, 1, seed=seed + 1)
    x = (Resized(test, batches.power) if isinstance(batches, Resized) else test)[0]
    scores = evaluate(sae, x)
    active = (sae.encode(x) > 0).sum(dim=1).double()
    found = recovery(world.features, sae.W_dec, threshold)
    rows.append(
        {
            "case": case,
            "explained_variance": scores.explained_variance,
            "recovered": found["recovered"],
            "recovered_one_to_one": found["recovered_one_to_one"],
            "mean_best_cosine": found["mean_best_cosine"],
            "dead": scores.dead,
            "l0": scores.l0,
            "spread of l0 over samples": active.std().item(),
            "l0 follows the norm": torch.corrcoef(torch.stack([active, x.norm(dim=1).double()]))[0, 1].nan_to_num().item(),
            "spread of encoder norms": sae.W_enc.detach().norm(dim=0).log().std().item(),
        }
    )
    curves["constant setting", case] = history
    learned[case] = sae.W_dec.detach(), scores.firing_frequency > 0
table = pd.DataFrame(rows)

# %% [markdown]
# *dead* is the share of latents that fired on no test sample; *mean best cosine* says how near the nearest direction comes to a feature, on
# average. *l0 follows the norm* is the correlation, over samples, between the number of active latents and the norm of the sample. *spread of
# encoder norms* is the standard deviation of their logarithms: where it is large, latents with long encoder directions may win against others.
#
# Start with *dead* in the row of TopK, of BatchTopK and of RelativeBatchTopK. Then see whether *mean best cosine* goes with it. Its differences are
# small, and its {term}`floor` is not 0: the text below the figure gives what a random dictionary has.

# %%
columns = ["case", "dead", "mean_best_cosine", "l0 follows the norm", "spread of encoder norms", "explained_variance", "recovered"]
show(table[columns])

# %% tags=["hide-input"]
keep("puzzle", table, seed=seed, samples=batch_size * n_batches)
path = pd.concat({case: curve for (_, case), curve in curves.items()}, names=["case"]).reset_index("case")
path = path[["case", "samples", "explained_variance", "recovered", "mean_best_cosine", "dead", "spread_of_encoder_norms"]]
keep("puzzle_curves", path.round(5))

# %% [markdown]
# The same over training. Does any case stand out at the top, in {term}`explained variance`? Then ask of the two charts below when latents begin to die, and
# whether directions still turn towards features where most have.

# %% mystnb={"image": {"alt": "Three line charts against samples seen, one line a case: explained variance, share of dead latents, mean best cosine of a true feature."}, "figure": {"name": "fig-puzzle", "caption": "Explained variance of training batches, dead latents, and the mean best cosine of a true feature over training."}}
figures.over_training(
    curves,
    {"explained_variance": "explained variance", "dead": "dead latents", "mean_best_cosine": "mean best cosine"},
);

# %% tags=["hide-input"]
of = table.set_index("case")
lines = []


def judge(prediction, needed, test):
    """One line: what was predicted, whether this run bears it out, and the figures it rests on."""
    if set(needed) <= set(of.index):
        figures = "; ".join(f"{name}: {of.loc[name, 'dead']:.0%} dead, cosine {of.loc[name, 'mean_best_cosine']:.3f}" for name in needed)
        lines.append(f"- {prediction}: **{'borne out' if test(of) else 'not borne out'}** ({figures}).")


def better(of, changed, plain):
    return of.loc[changed, "dead"] < of.loc[plain, "dead"] / 2 and of.loc[changed, "mean_best_cosine"] > of.loc[plain, "mean_best_cosine"]


for name in ("BatchTopK", "JumpReLU", "Matryoshka"):
    pair = [name, f"{name}, one norm"]
    judge(f"with samples of one norm fewer than half as many latents of {name} die, and directions come nearer to features", pair,
          lambda of, pair=pair: better(of, pair[1], pair[0]))  # fmt: skip
judge("for TopK the mean best cosine changes by less than 0.01", ["TopK", "TopK, one norm"],
      lambda of: abs(of.loc["TopK", "mean_best_cosine"] - of.loc["TopK, one norm", "mean_best_cosine"]) < 0.01)  # fmt: skip
judge("comparing shares of the norm does the same for BatchTopK on the samples as they are", ["BatchTopK", "RelativeBatchTopK"],
      lambda of: better(of, "RelativeBatchTopK", "BatchTopK"))  # fmt: skip
judge("an intermediate spread of norms leaves an intermediate share dead", ["BatchTopK, one norm", "BatchTopK, norms to 0.5", "BatchTopK"],
      lambda of: of.loc["BatchTopK, one norm", "dead"] < of.loc["BatchTopK, norms to 0.5", "dead"] < of.loc["BatchTopK", "dead"])  # fmt: skip
judge("RelativeBatchTopK ends within 0.01 of TopK's mean best cosine", ["TopK", "RelativeBatchTopK"],
      lambda of: abs(of.loc["TopK", "mean_best_cosine"] - of.loc["RelativeBatchTopK", "mean_best_cosine"]) < 0.01)  # fmt: skip
remedies = ["BatchTopK, one norm", "RelativeBatchTopK"]
judge("an auxiliary loss leaves directions farther from features than samples of one norm or shares of the norm do", ["BatchTopK, auxiliary loss", *remedies],
      lambda of: of.loc["BatchTopK, auxiliary loss", "mean_best_cosine"] < of.loc[remedies, "mean_best_cosine"].min())  # fmt: skip
most = table.loc[table["recovered"].idxmax()]
verdict = (
    f"The most features that any case has recovered is {most['recovered']:.2%} ({most['case']}). Where even that is little, the run is too short to judge by recovery"
    if most["recovered"]
    else "No case has recovered a single feature yet, so this run is too short to judge by recovery"
)
Markdown(
    f"After {batch_size * n_batches / 1e6:.2g} million samples, from one seed (*cosine* is the mean best cosine of a feature; a random dictionary "
    f"of this size has {chance_cosine(d_in, d_sae):.3f}):\n\n"
    + "\n".join(lines) + f"\n\n{verdict}; which latents are dead, and whether directions turn towards features at all, shows earlier. Compare with what you wrote down."
)  # fmt: skip

# %% [markdown]
# ## Every case, for longer
#
# {term}`Reference runs <reference run>`, made once and kept with the book: all cases of the list, trained for longer than above; the last column says from how many {term}`seeds <seed>`,
# and from one seed there is no interval. *l0 follows the norm* says in which of them large samples take more latents. In the figure below the table
# each row has a dot and a cross: a good case has its dot far to the right of the dashed line, and its cross at the left.

# %%
Markdown(runs.label or "The reference runs were left out of this run.")

# %% tags=["hide-input"]
summary = pd.DataFrame()
if runs:
    measured = ["mean_best_cosine", "dead", "explained_variance", "l0 follows the norm", "recovered", "spread of encoder norms"]
    several = runs.tables["puzzle"].groupby("case", sort=False)
    summary = several[measured].mean().join(several.agg(seeds=("seed", "nunique"), samples=("samples", "max"))).reset_index()
    display(show(summary[["case", *measured, "seeds"]]))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Dot chart of the reference runs, one row a case: mean best cosine of a feature as a dot, share of dead latents as a cross, and a line at the cosine that chance gives."}, "figure": {"name": "fig-puzzle-reference", "caption": "Reference runs: mean best cosine of a feature (dots) and share of dead latents (crosses). The dashed line is the cosine that a random dictionary has."}}
if runs:
    figure, axes = plt.subplots(figsize=(7, 0.3 * len(summary) + 1))
    ordered = summary.sort_values("mean_best_cosine")
    axes.plot(ordered["mean_best_cosine"], ordered["case"], "o", color=plots.COLOURS["fully trained"])
    axes.plot(ordered["dead"], ordered["case"], "x", color=plots.COLOURS["Frozen Decoder"])
    axes.axvline(chance_cosine(d_in, d_sae), color=plots.GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="mean best cosine (dots), share of dead latents (crosses)", xlim=(-0.03, 1.03))
    axes.grid(axis="y", alpha=0.3)

# %% tags=["hide-input"]
text = ""
if runs:
    fresh = summary[~summary["case"].str.contains("true features")]
    groups = {
        "more than half of the latents dead": fresh["dead"] > 0.5,
        "between a tenth and a half dead": (fresh["dead"] <= 0.5) & (fresh["dead"] > 0.1),
        "at most a tenth dead": fresh["dead"] <= 0.1,
    }

    def span(values):
        return " to ".join(dict.fromkeys(f"{value:.3f}" for value in (values.min(), values.max())))

    lines = [
        f"- {name}: {'; '.join(rows['case'])}. Mean best cosine {span(rows['mean_best_cosine'])}, explained variance {span(rows['explained_variance'])}."
        for name, chosen in groups.items()
        if len(rows := fresh[chosen])
    ]
    from_random = summary.set_index("case")["explained_variance"]
    kept_features = summary[summary["case"].str.contains("true features")]
    apart = " (the cases that started from the true features come after these)" if len(kept_features) else ""
    text = f"After {summary['samples'].max() / 1e6:.1f} million samples, by how many latents are dead{apart}:\n\n" + "\n".join(lines)
    if len(kept_features):
        text += "\n\nStarted from the true features instead of random directions: " + "; ".join(
            f"{name} ends with {r['dead']:.0%} of its latents dead, {r['recovered']:.0%} of the features still among its directions, "
            f"and an explained variance of {r['explained_variance']:.3f} (from a random start {from_random.get(name, float('nan')):.3f})"
            for name, (_, r) in zip(kept_features["case"].str.split(",").str[0], kept_features.iterrows(), strict=True)
        ) + (
            ". A dead latent's direction stays about where it was when it last fired, and one that never fired is still at its start; so a feature that is still there need not be in use. Where few died and "
            "explained variance is above that of a random start, the features are a resting point of training; where most died, "
            "training has left them."
        )
Markdown(text)

# %% [markdown]
# ## And longer still
#
# A latent that is alive early may die late, so a short run cannot settle what a remedy is worth. The [longer runs](longer-runs) of the last chapter hold
# three of the cases: TopK, BatchTopK and RelativeBatchTopK, on the samples as they are. They saw more samples, in smaller batches and at a lower learning rate.
#
# **Before you look:** does RelativeBatchTopK still keep its latents alive? And will it have found as many features as TopK?

# %%
Markdown(long.label or "The longer runs were left out of this run.")

# %% tags=["hide-input"]
text = "The longer runs were left out of this run."
ends = long.tables["synthetic_recovery"].query("setting == 'constant'").set_index("architecture") if long else pd.DataFrame()
compared = ["TopK", "RelativeBatchTopK", "BatchTopK"]
if set(compared) <= set(ends.index):
    lines = [
        f"- {name}: {r['dead']:.0%} of the latents dead, {r['recovered']:.2%} of the features recovered, mean best cosine {r['mean_best_cosine']:.3f}; explained "
        f"variance {r['explained_variance']:.3f}, {r['explained_variance'] - r['untrained']:+.3f} against an untrained dictionary"
        for name, r in ends.loc[compared].iterrows()
    ]
    text = f"In the constant setting, from one seed, after {ends['samples'].max() / 1e6:.0f} million samples:\n\n" + "\n".join(lines) + "\n\n"
    top, relative, plain = (ends.loc[name] for name in compared)
    if top["dead"] + 0.05 < relative["dead"] < plain["dead"] - 0.05 and plain["mean_best_cosine"] < relative["mean_best_cosine"] < top["mean_best_cosine"]:
        text += (
            "RelativeBatchTopK lies between the other two, in dead latents and in how near directions come to features. So comparing shares of the norm removes part of the "
            "harm, and not all of it: the size of samples is not the whole cause. In RelativeBatchTopK samples still compete, those that are matched well with those that are "
            "not; whether that does the rest, this page has not tested."
        )
    elif relative["dead"] <= top["dead"] + 0.05:
        text += "RelativeBatchTopK keeps its latents alive as TopK does, so that far comparing shares of the norm is enough; compare the features that the two have recovered."
    else:
        text += "RelativeBatchTopK does not lie between the other two, so these runs do not say what comparing shares of the norm is worth in the long run."
    early = summary.set_index("case")["dead"].get("RelativeBatchTopK") if len(summary) else None
    if early is not None and relative["dead"] > early + 0.05:
        text += f" In the shorter reference runs above, {early:.0%} of its latents were dead: what these showed early did not last."
Markdown(text)

# %% [markdown]
# ## What would change my mind
#
# The claim is that the size of samples spoils the recovery of BatchTopK and JumpReLU, by letting latents die. In {numref}`fig-puzzle` it gains
# weight if RelativeBatchTopK, which changes nothing but the competition, keeps its latents alive and runs with TopK in the mean best cosine. It
# loses weight if RelativeBatchTopK's latents die as BatchTopK's do, or if they live and the directions still do not turn; or if the auxiliary loss,
# which leaves the competition as it is, does as much. A surprise in the middle case (norms to a power between 0 and 1) would say that the story is
# not the whole story. So would RelativeBatchTopK's latents dying later on: a short run cannot rule that out, and the longer runs are the ones to ask.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Who wins the batch?
# :label: ex-who-wins-the-batch
#
# *Easy, 5 minutes.* Write `active_per_sample(pre, k)`: from the pre-activations `pre` of a batch, shape (n, m), the number of latents that BatchTopK keeps
# for each sample, shape (n,). It keeps the n times k largest of all.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def active_per_sample(pre, k):
    # BEGIN SOLUTION
    smallest = pre.flatten().topk(len(pre) * k).values.min()
    return (pre >= smallest).sum(dim=1)
    # END SOLUTION


# %% tags=["check"]
exercises.check_active_per_sample(active_per_sample)

# %% [markdown]
# Before any training, with random directions, on the samples as they are and as shares of their norm:

# %% tags=["hide-input"]
batch = world.batches(1000, 1, seed=seed + 4)[0]
batch = batch[batch.norm(dim=1) > 0]
norms = batch.norm(dim=1, keepdim=True)
matches = batch @ iso(d_sae, d_in, seed).T
quarter = norms.flatten().argsort()[-len(batch) // 4 :]
lines = []
for name, pre in {"as they are": matches, "as shares of the sample's norm": matches / norms}.items():
    kept_of_each = active_per_sample(pre, l0).double()
    lines.append(
        f"- {name}: the quarter of the samples with the largest norms gets {kept_of_each[quarter].sum() / kept_of_each.sum():.0%} of the active latents; "
        f"{(kept_of_each == 0).double().mean():.0%} of the samples get none"
    )
Markdown("\n".join(lines))

# %% [markdown]
# ```{exercise} Only the living
# :label: ex-only-the-living
#
# *Medium, 10 minutes.* A dead latent's direction stays about where it was when it last fired, or at its start, and by chance it may lie nearest to a feature. Recovery then credits the
# SAE for a direction that it never uses. Write `best_of_the_living(features, W_dec, fired)`: for each feature (n, d) the largest cosine to a
# direction of `W_dec` (m, d) whose latent fired; `fired` is a Boolean of shape (m,).
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def best_of_the_living(features, W_dec, fired):
    # BEGIN SOLUTION
    return best_cosines(features, W_dec[fired])
    # END SOLUTION


# %% tags=["check"]
exercises.check_best_of_the_living(best_of_the_living)

# %% [markdown]
# Now this page's cases again. As a floor, each has as many *random* directions as it has living latents: the fewer they are, the less near even luck comes.

# %% tags=["hide-input"]
rows = []
for case, (W_dec, fired) in learned.items():
    if fired.any():
        rows.append(
            {
                "case": case,
                "living latents": f"{int(fired.sum()):,}",
                "mean best cosine, all": best_cosines(world.features, W_dec).mean().item(),
                "the living": best_of_the_living(world.features, W_dec, fired).mean().item(),
                "as many random directions": chance_cosine(d_in, int(fired.sum())),
            }
        )
show(pd.DataFrame(rows))

# %% tags=["hide-input"]
living = pd.DataFrame(rows)
text = "No case has a living latent in this run."
if len(living):
    credit = living["mean best cosine, all"] - living["the living"]
    gain = living["the living"] - living["as many random directions"]
    text = (
        f"The dead add most to the mean best cosine in {living.loc[credit.idxmax(), 'case']} ({credit.max():.3f}). Above as many random directions the living "
        f"are furthest in {living.loc[gain.idxmax(), 'case']} ({gain.max():+.3f}), and least in {living.loc[gain.idxmin(), 'case']} ({gain.min():+.3f}). "
        "If a case with most of its latents dead has a gain as large as the others, then the few that live do turn towards features, and what it lacks is latents."
    )
Markdown(text)

# %% [markdown]
# ```{exercise} Large, or full?
# :label: ex-large-or-full
#
# *Hard, 20 minutes.* A sample is large because many features are present in it, or because their coefficients are. The first is a good reason to
# give it more latents, the second is not. `Resized` removes both at once. Design a test that tells which of the two does the harm: what would you
# change in the world or in `Resized`, which cases would you run, and which result would speak for which cause? Then try it: `FeatureWorld` takes
# `sigma`, the spread of coefficients.
# ```
#
# ```{dropdown} What to look for
# Two worlds, one with each reason alone. With `sigma = 0` every coefficient is 1, and norms differ by the number of features (and a little by how
# these overlap). For the other, multiply each sample by a random factor of its own, after dividing by its norm: then norms say nothing about what
# is present. Give both the same spread of log norms, or you compare doses instead of causes. TopK is the control in each: its choice does not
# change when a sample is multiplied by a factor. If most of BatchTopK's latents die in the second world only, it is size without reason that harms;
# if in both, the competition harms even where it is fair.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. Over samples, the number of active latents and the norm go together almost perfectly in BatchTopK. Does that prove the cause?
# No. It shows that the suspected mechanism is at work, not that it does the harm: in a world where large samples hold more features, a good SAE
# would show such a correlation as well. The proof, as far as there is one, is in changing the competition alone, and looking at what follows.
# ```
#
# ```{dropdown} 2. Started from the true features, an SAE ends with most of them still among its directions. Has training kept them?
# Look at how many latents are dead. A dead latent has no part in the error, so training does not move its direction, and the feature where it was
# put counts as recovered. Such an SAE holds features in the way that a drawer does. What training keeps, one sees on the living.
# ```
#
# ```{dropdown} 3. An auxiliary loss is meant to bring dead latents back to life. Would that mend the cause?
# First see whether it did bring them back: compare *dead* in the two rows. Even where it does, it treats the symptom: revived latents meet the same
# competition that they died in. And a latent that lives need not point at a feature. So read both columns, and judge a remedy by the directions.
# ```

# %% [markdown]
# ## Key points
#
# - TopK and BatchTopK differ in who competes with whom. Where large samples compete with small ones, look at dead latents
#   first: they cannot find features.
# - Compare the explained variance of cases with most latents dead and with none, each as what it has above an untrained dictionary. How much of
#   that do a few hundred live directions get?
# - A short run shows which latents die early. Judge a remedy by the longest run there is.
# - To test a cause, change it alone. Resizing samples also changes how much each weighs in the loss; RelativeBatchTopK changes
#   only the competition, so it is the cleaner test.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`bussmann2024batchtopk`: BatchTopK, and why one would let samples compete.
# - {cite:t}`gao2024scaling`: TopK, and the auxiliary loss that is meant to revive dead latents.
# - {cite:t}`rajamanoharan2024jumprelu`: JumpReLU, whose thresholds are the same for all samples.
# - {cite:t}`korznikov2026sanity`, section 3: the result to be explained.

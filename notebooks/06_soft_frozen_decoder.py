# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Soft-Frozen Decoder
#
# ```{admonition} This lesson
# - **You will learn** how far a {term}`direction` may turn under the Soft-Frozen rule, whether a trained SAE goes further, and why a
#   good score of this baseline is not a good score of random directions.
# - **You need** [Frozen Decoder](05_frozen_decoder): {term}`cosine similarity`, {term}`decoder direction`, {term}`explained variance`.
# - **Time** 20 minutes to read, 15 more for the exercises that have a check.
# ```
#
# A {term}`Frozen Decoder` may not move at all. The {term}`Soft-Frozen Decoder` is the milder rule: directions start at random and may turn, but only so far that the
# cosine with their start stays at or above $\tau$, 0.8 in the paper. Such a direction lives in a *cone* around its start.
#
# ```{math}
# :label: eq-soft-frozen
# \cos\bigl(W_{\mathrm{dec},j}(t),\, W_{\mathrm{dec},j}(0)\bigr) \ge \tau \quad \text{for every latent } j \text{ and step } t
# ```
#
# The paper reads a good score of this baseline as a sign of {term}`lazy training`: the trained SAE, too, may have stayed near its random
# start and fitted the rest around it. How much freedom is a cosine of 0.8? **Write down three guesses:**
#
# 1. If a direction starts at right angles to a {term}`feature`, how large can its cosine to that feature become?
# 2. What share of a fully trained SAE's explained variance does a Soft-Frozen Decoder reach?
# 3. What share of the fully trained SAE's own directions leave the cone, though nothing holds them back?

# %% tags=["parameters"]
architectures: list = ["BatchTopK", "JumpReLU"]  # from ReLU, TopK, BatchTopK, JumpReLU
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read, counted from 0
site: str = "residual"  # what of that block: "residual" (stream after it), or what its "mlp" or its "attention" gives
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
train_tokens: int = 0  # activations to train on, streamed from the model and not kept; 0: those harvested
harvest_context: int = 128  # tokens of a row of text that the model reads at once
l0: int = 40  # active latents per token; the paper's ratio of L0 to d_in gives 40 for d_in 576
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions
tau: float = 0.8  # least cosine of a decoder direction to its start

# %% tags=["hide-input"]
import copy

import torch
from saebook import figures
from saebook.exercises import soft_frozen_decoder as exercises
from saebook.paper import paper_scores
from saebook.setup import Markdown, keep, language_chapter, show
from saebook.tables import whole_rows
from saebook.words import in_words
from torch.nn.functional import normalize

from saelite import SoftFrozenDecoder, evaluate, iso, nulls
from saelite.baselines import project_to_cone
from saelite.grid import fit_and_test
from saelite.metrics import best_cosines

# wrong parameters are refused here, before anything slow runs
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
activations, d_sae = chapter.activations, chapter.d_sae

# %% [markdown]
# ## The rule, and how much it allows
#
# After each step of training, that is after each batch, every direction that has left its cone is moved to the nearest point of the cone. In words:
# keep the part along the start, scale the part across it so that the cosine is exactly $\tau$.
#
# A direction at right angles to a wanted one may keep a cosine of $\tau$ to its start and have
# $\sqrt{1 - \tau^2}$ to the wanted one, which for $\tau = 0.8$ is 0.6: the first guess. Is that much or little? Compare it with
# the nearest of many random directions.

# %%
BASELINE = SoftFrozenDecoder(tau)
name = BASELINE.name
width = 576
start, wanted = torch.eye(width)[:1], torch.eye(width)[1:2]
nearest = project_to_cone(wanted, start, tau)
chance = best_cosines(iso(500, width, seed=1), iso(8 * width, width, seed=2))
Markdown(
    f"The nearest point of the cone has a cosine of **{(nearest * wanted).sum():.2f}** to the wanted direction and "
    f"{(nearest * start).sum():.2f} to its start. The best of {8 * width} random directions in {width} dimensions comes to "
    f"{chance.mean():.2f} on average. So Soft-Frozen is *not* the same as random directions: every one of its latents may "
    "point much further towards something useful than chance would have it."
)

# %% [markdown]
# ## On a language model
#
# The {term}`residual stream` of a language model over Wikipedia extracts. A tenth of the texts is held out; all scores are on those. In the table
# of the SAEs *cosine to start* is the median cosine of decoder directions to their start, over {term}`latents <latent>` that fire. What the same rule does where the
# true features are known is told in [The baselines where the truth is known](08_baselines_where_truth_is_known.ipynb).

# %%
store, batches = chapter.harvest()
held_out, documents = store.held_out[:], store.held_out.documents
floor = nulls(store.train[:50_000], held_out, l0=l0, d_sae=d_sae, seed=seed + 100, groups=documents)
show(floor)

# %%
variants = [
    (label, a, baseline, "iso") for a in activations for label, baseline in (("fully trained", None), (name, BASELINE))
]
saes, histories, table = fit_and_test(
    variants, batches, held_out, d_sae=d_sae, seed=seed, groups=documents, lr=lr
)
show(table[["architecture", "baseline", "explained_variance", "cosine_to_start", "l0", "dead", "low", "high"]])

# %% [markdown]
# ### The invariant
#
# A baseline is only as good as its rule. Is every direction of the baseline within its cone, up to rounding? And how many of all latents, dead ones included, stand
# on its edge, as one does that would have gone further?

# %%
for a in activations:
    cosines = saes[a.name, name].cosine_to_start()
    on_edge = (cosines < tau + 1e-3).float().mean()
    assert cosines.min() >= tau - 1e-6
    print(f"{a.name}: least cosine to start {cosines.min():.3f}, so within the cone up to rounding; on the edge {on_edge:.1%}")

# %% [markdown]
# The histogram is about your third guess. A direction at 1 has not moved; one at the line stands on the edge of the cone. Look at how much of the
# *fully trained* SAE lies to the left of the line, where the rule forbids the baseline to go. The figure after it is about the second guess: how
# near do the dots of the two SAEs lie, compared with their way up from the {term}`nulls <null>`?

# %% mystnb={"image": {"alt": "Histogram of the cosine of decoder directions to their random start, for the fully trained and the Soft-Frozen SAEs of each architecture, with a line at \u03c4."}, "figure": {"name": "fig-soft-frozen-cosine", "caption": "How far decoder directions are from their random start after training. The line marks the bound of the Soft-Frozen Decoder."}}
figures.cosine_histogram(
    {", ".join(key): sae.cosine_to_start() for key, sae in saes.items()}, "cosine to start", {"τ": tau}
);

# %% mystnb={"image": {"alt": "Dot chart of explained variance with 95% intervals for each architecture, fully trained and Soft-Frozen Decoder, with vertical lines for the nulls and diamonds for the paper's values."}, "figure": {"name": "fig-soft-frozen-ev", "caption": "Explained variance on held-out tokens: this build (dots, with 95% bootstrap intervals over texts), the nulls (lines), and the paper's values on another model (diamonds)."}}
figures.scores_by_variant(
    table, floor.set_index("null")["explained_variance"], paper_scores("explained variance"), score="explained_variance",
    xlabel="explained variance on held-out activations",
);  # fmt: skip

# %% [markdown]
# The second guess:

# %%
Markdown(in_words(table, floor))

# %% [markdown]
# And the third:

# %%
trained = table[table["baseline"] == "fully trained"].set_index("architecture")["cosine_to_start"]
past = {a.name: (saes[a.name, "fully trained"].cosine_to_start() < tau).float().mean().item() for a in activations}
Markdown(
    "The fully trained directions, of latents that fire, ended at a median cosine to their start of "
    + ", ".join(f"{cosine:.2f} ({architecture})" for architecture, cosine in trained.items())
    + f". The bound is {tau}; "
    + ", ".join(f"{share:.0%} ({architecture})" for architecture, share in past.items())
    + " of all fully trained directions went past it. Where that share is small, the baseline's rule has held little back, "
    "and equal scores say little. Where it is large and the scores are near each other all the same, what lies beyond the cone bought little."
)

# %% [markdown]
# The paper's values are for Gemma-2-2B, layer 12, at {term}`L0` 160 of 2304 dimensions, width 73,728 and 500 million {term}`tokens <token>`
# ({cite:t}`korznikov2026sanity`); this build's model is far smaller, and its SAEs see far fewer tokens. The
# comparison is of patterns, not of digits.
#
# Over training: if the fully trained SAE were {term}`lazy <lazy training>`, its line would stay near 1. If it is still falling at the end, a
# longer run would take its directions further out. Each point is over the latents that fired since the point before, so at the end it may differ a
# little from the table, which asks held-out tokens.

# %% mystnb={"image": {"alt": "Line charts of the median cosine of decoder directions to their start against activations seen in training, one panel an architecture, for the fully trained and the Soft-Frozen SAE."}, "figure": {"name": "fig-soft-frozen-training", "caption": "Median cosine of decoder directions to their random start while the SAEs train, over latents that fired since the point before."}}
figures.over_training(
    {key: whole_rows(history) for key, history in histories.items()}, {"cosine_to_start": "median cosine to start"}
);

# %% [markdown]
# ## What the latents fire on
#
# Latents drawn at random, from the fully trained SAE and from the Soft-Frozen one, among those that fire on at least 20 held-out tokens. The trained SAE comes
# first. If you did not know that, could you tell?

# %% tags=["hide-input"]
first = activations[0].name
chapter.contexts({f"{first}, {baseline}": saes[first, baseline] for baseline in ("fully trained", name)})

# %% tags=["hide-input"]
keep("soft_frozen_decoder", table, expansion=expansion, seed=seed)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that a good Soft-Frozen score shows how little learned directions are worth. No score here can show that, since the cone holds
# learned directions too. What can be shown is less. If many trained directions lie outside the cone in {numref}`fig-soft-frozen-cosine`
# while the two scores in {numref}`fig-soft-frozen-ev` are level, then what lies beyond the cone buys nothing. If few trained directions left the
# cone, the rule has taken hardly anything away, and level scores say nothing. And if the baseline lies well below the trained SAE, the cone does
# hold something back. Which of the three do you see?

# %% [markdown]
# ## Exercises
#
# ```{exercise} Who was held back?
# :label: ex-held-back
#
# *Easy, 5 minutes.* The cell on the invariant counts directions on the edge over *all* latents, dead ones included. Write
# `held_back(cosines, fires, tau)`: of the latents that fire, the share on the edge, that is with a cosine to the start below `tau` + 0.001.
# `cosines` holds a number for each latent, `fires` whether it ever fired.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def held_back(cosines, fires, tau):
    # BEGIN SOLUTION
    return (cosines[fires] < tau + 1e-3).float().mean()
    # END SOLUTION


# %% tags=["check"]
exercises.check_held_back(held_back)

# %% [markdown]
# In this chapter's own run:

# %% tags=["hide-input"]
lines = []
for a in activations:
    sae = saes[a.name, name]
    fires = evaluate(sae, held_out).firing_frequency > 0
    if fires.any():
        share = held_back(sae.cosine_to_start(), fires, tau)
        lines.append(f"- {a.name}: {fires.float().mean():.0%} of the latents fire, and {share:.0%} of those are on the edge")
    else:
        lines.append(f"- {a.name}: no latent fires on held-out tokens, so there is no share to give")
Markdown("\n".join(lines))

# %% [markdown]
# ```{exercise} The nearest point of the cone
# :label: ex-nearest-in-cone
#
# *Medium, 10 minutes.* Write the rule itself, `nearest_in_cone(vectors, starts, tau)`: for every row of `vectors` (n, d) the unit vector nearest to
# it among those with a cosine of at least `tau` to the same row of `starts` (n, d), which have unit norm. No vector lies along its start's line
# and outside the cone.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def nearest_in_cone(vectors, starts, tau):
    # BEGIN SOLUTION
    unit = normalize(vectors, dim=1)
    along = (unit * starts).sum(dim=1, keepdim=True)
    across = normalize(unit - along * starts, dim=1)
    edge = tau * starts + (1 - tau**2) ** 0.5 * across
    return torch.where(along >= tau, unit, edge)
    # END SOLUTION


# %% tags=["check"]
exercises.check_nearest_in_cone(nearest_in_cone)

# %% [markdown]
# Now an experiment that training within the cone cannot show: take the *fully trained* SAE, move its directions into the cone
# after the fact, and train nothing again. What is the part of its directions beyond the cone worth to it?

# %% tags=["hide-input"]
of, lines = table.set_index(["architecture", "baseline"])["explained_variance"], []
for a in activations:
    moved = copy.deepcopy(saes[a.name, "fully trained"])
    with torch.no_grad():
        moved.W_dec.copy_(nearest_in_cone(moved.W_dec, moved.W_dec_start, tau))
    after = evaluate(moved, held_out).explained_variance
    lines.append(
        f"- {a.name}: fully trained {of[a.name, 'fully trained']:.3f}, moved into the cone {after:.3f}, trained within it {of[a.name, name]:.3f}"
    )
Markdown(
    "Explained variance:\n\n" + "\n".join(lines) + "\n\nWhere the second is near the first, the trained SAE had hardly left the cone, or what it had "
    "beyond is worth little. Where the third is well above the second, an SAE that is trained under the rule makes up for it elsewhere, in its "
    "encoder or in other directions."
)

# %% [markdown]
# ```{exercise} From random to free
# :label: ex-from-random-to-free
#
# *Hard, 20 minutes and some waiting.* At $\tau = 1$ the rule is that of the Frozen Decoder; at $\tau = 0$ a direction may turn by a right angle. Draw
# the curve of explained variance over $\tau$ that you expect. Then rerun this notebook with `-p tau 0.99`, `-p tau 0.9` and `-p tau 0.5`. Where would
# $\tau$ have to be for you to call the directions random?
# ```
#
# ```{dropdown} What to look for
# Compare the angles, not the cosines: a $\tau$ of 0.99 allows some 8 degrees, 0.9 some 26, 0.8 some 37, 0.5 allows 60. The cosine to a wanted
# direction that the rule allows, $\sqrt{1-\tau^2}$, rises steeply just below 1. So most of what can be gained may be gained at a $\tau$ that sounds strict. A
# {term}`yardstick` for "random" is what chance gives: choose $\tau$ so that $\sqrt{1-\tau^2}$ is no larger than the cosine of the nearest of as many random
# directions. [The baselines where the truth is known](08_baselines_where_truth_is_known) works this $\tau$ out for three sizes, and draws what a cone
# reaches at every $\tau$.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. A Soft-Frozen Decoder keeps a cosine of 0.8 to random directions. So are its directions 80% random?
# A cosine is not a share. Of a unit vector's squared length a cosine of 0.8 leaves $1 - 0.8^2 = 36\%$ free, and the cosine to a wanted direction may be
# 0.6, many times what chance gives in hundreds of dimensions.
# ```
#
# ```{dropdown} 2. Soft-Frozen scores like the trained SAE. Does that show that random directions suffice?
# No: it shows that directions need not leave the cone. Whether directions that do not move at all suffice is what the
# [Frozen Decoder](05_frozen_decoder) tests, and its score may be quite another.
# ```
#
# ```{dropdown} 3. The fully trained SAE's median cosine to its start is 0.9. Has it learned almost nothing?
# Not by itself. The median counts latents that got few updates, and small turns of many directions may add up to a large change of the
# reconstruction. Look at the score that is lost when the directions are put back, and at how long training ran: a short run leaves everything near
# its start.
# ```

# %% [markdown]
# ## Key points
#
# - A Soft-Frozen Decoder stays near its random start, within a cone; the projection after every step is exact up to rounding.
# - The cone is wide. A score near the trained one, reached inside it, says that directions need not go far to reconstruct
#   well; it does not say that random directions do. The [Frozen Decoder](05_frozen_decoder.ipynb) asks that.
# - Ask of every bound how often it binds. A rule that the trained SAE hardly breaks cannot tell the two apart.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`, section 4 and appendices D and E: the rule, the curves that are read as lazy training, and the bound on what chance gives.
# - {cite:t}`paulo2025seeds`: if directions stay near a random start, two starts should give two dictionaries; here is how far they do.
# - {cite:t}`gao2024scaling`: dead latents, which stay at their start for another reason.

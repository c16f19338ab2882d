# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Frozen Decoder
#
# ```{admonition} This lesson
# - **You will learn** what a Frozen Decoder is, how much of an SAE's explained variance it reaches, and what such a score
#   can show and what it cannot.
# - **You need** [Superposition and SAEs](01_superposition): {term}`explained variance`, {term}`L0`, {term}`null`, {term}`decoder direction`. Two
#   {term}`architectures <architecture>` are used here, {term}`BatchTopK` and {term}`JumpReLU`; they differ in how they choose the active {term}`latents <latent>`.
# - **Time** 20 minutes to read, 15 more for the exercises that have a check.
# ```
#
# The decoder's {term}`directions <direction>` are what people read when they interpret an SAE: direction 4321 *is* the {term}`feature`, they say.
# So take that away. In the {term}`Frozen Decoder` baseline the directions are drawn at random and never change. Everything else
# trains, that is the {term}`encoder`, the {term}`biases <bias>` and, in JumpReLU, the thresholds above which latents count as active: the SAE may learn *when* to use a direction, never *which* direction to have.
#
# ```{math}
# :label: eq-frozen-decoder
# W_{\mathrm{dec}}(t) = W_{\mathrm{dec}}(0) \quad \text{for all training steps } t
# ```
#
# If such an SAE scores as well as a trained one, the score does not show that the directions were learned.
# **Write down two guesses:** how much of a layer's variance does a fully trained SAE explain, and how much one with
# random directions?

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

# %% tags=["hide-input"]
import torch
from saebook import figures
from saebook.dictionaries import chance_cosine
from saebook.exercises import frozen_decoder as exercises
from saebook.paper import paper_scores
from saebook.setup import Markdown, keep, language_chapter, show
from saebook.words import in_words

from saelite import FrozenDecoder, cov, nulls
from saelite.grid import fit_and_test

# wrong parameters are refused here, before anything slow runs
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, activations, d_sae = chapter.lm, chapter.activations, chapter.d_sae

# %% [markdown]
# ## Two ways to be random
#
# Directions can be uniform on the sphere (`iso`), or follow the {term}`activations <activation>`' own covariance (`cov`), which says along which directions activations
# vary, and how much: then they are random, but crowd where the activations vary most. The paper's main figures use `cov` for this baseline. Neither
# is trained: `cov` knows the overall shape of the cloud of activations, but no single direction was fitted to a feature.
#
# `cov` directions overlap a great deal. Start their encoder as the transpose of the decoder, and the reconstruction is many times too long;
# training may then diverge, that is, its error grows instead of shrinking. So every SAE of this book is first calibrated: one common scale factor
# for its encoder brings the reconstruction to the right size. And since they overlap, few of them may win: read the *dead* column, the share of
# latents that never fired, together with the score.

# %%
BASELINE = FrozenDecoder()
name = BASELINE.name

# %% [markdown]
# ## On a language model
#
# We read the {term}`residual stream` of a language model, which is what it passes on from one layer to the next, over Wikipedia extracts. A tenth
# of the texts is held out; all scores are on those. First the nulls, then the table of the SAEs. In it
#
# - *low* and *high* bound the 95% interval of explained variance;
# - *dead* is the share of latents that never fired on held-out {term}`tokens <token>`;
# - *cosine to start* says how far directions have turned: the median cosine to their start, over latents that fire.
#
# What the same rule does where the true features are known is told in [The baselines where the truth is
# known](08_baselines_where_truth_is_known.ipynb).

# %%
store, batches = chapter.harvest()
held_out, documents = store.held_out[:], store.held_out.documents
floor = nulls(store.train[:50_000], held_out, l0=l0, d_sae=d_sae, seed=seed + 100, groups=documents)
show(floor)

# %%
directions = cov(d_sae, store.train[:50_000], seed)
variants = []
for a in activations:
    variants += [("fully trained", a, None, "iso"), (name, a, BASELINE, "iso"), (f"{name} (cov)", a, BASELINE, directions)]
saes, histories, table = fit_and_test(
    variants, batches, held_out, d_sae=d_sae, seed=seed, groups=documents, lr=lr
)
show(table[["architecture", "baseline", "explained_variance", "dead", "cosine_to_start", "l0", "low", "high"]])

# %% [markdown]
# ### The invariant
#
# A baseline is only as good as its rule. After training, are the decoder's weights the very bits they started from?

# %%
for key, sae in saes.items():
    same = torch.equal(sae.W_dec, sae.W_dec_start)
    print(f"{', '.join(key):40} decoder unchanged: {same}")
    assert same == (key[1] != "fully trained")

# %% [markdown]
# In the figure read the dot of each Frozen Decoder against two landmarks: the line of the random {term}`dictionary`, which nobody trained, and the dot of
# the fully trained SAE. How far along that way does it come? And is it above {term}`PCA`, which has as many directions as there are active latents,
# the same for every token?

# %% mystnb={"figure": {"caption": "Explained variance on held-out tokens: this build (dots, with 95% bootstrap intervals over texts), the nulls (lines), and the paper's values on another model (diamonds).", "name": "fig-frozen-decoder-ev"}, "image": {"alt": "Dot chart of explained variance with 95% intervals for each architecture, fully trained and two Frozen Decoders, with vertical lines for the nulls and diamonds for the paper's values."}}
figures.scores_by_variant(
    table, floor.set_index("null")["explained_variance"], paper_scores("explained variance"), score="explained_variance",
    xlabel="explained variance on held-out activations",
);  # fmt: skip

# %%
Markdown(in_words(table, floor))

# %% [markdown]
# These are the answers to your two guesses. The paper's values are for Gemma-2-2B, layer 12, at L0 160 of 2304 dimensions, width 73,728 and 500
# million tokens ({cite:t}`korznikov2026sanity`); this build's model is far smaller, and its SAEs see far fewer tokens. The comparison is of
# patterns, not of digits.

# %% [markdown]
# Over training. A curve is only as good as its {term}`L0`: {term}`JumpReLU` approaches its target L0 only gradually, and may end a little off it,
# so where one of its curves starts high and then falls, many more latents were active at first. The tables give the L0 at the end.

# %% mystnb={"figure": {"caption": "Explained variance of training batches while the SAEs train.", "name": "fig-frozen-decoder-training"}, "image": {"alt": "Line charts of explained variance against activations seen in training, one panel an architecture, one line a variant."}}
figures.over_training(histories, {"explained_variance": "explained variance"});

# %% [markdown]
# ## What the latents fire on
#
# Latents drawn at random, from the fully trained SAE and from the one with frozen random directions, among those that fire on at least 20 held-out
# tokens. The trained SAE comes first. If you did not know that, could you tell?

# %% tags=["hide-input"]
first = activations[0].name
chapter.contexts({f"{first}, {baseline}": saes[first, baseline] for baseline in ("fully trained", name)})

# %% tags=["hide-input"]
keep("frozen_decoder", table, expansion=expansion, seed=seed)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that a high explained variance shows learned directions. It would gain weight if the Frozen Decoder
# stayed at the {term}`floor`: with random directions no better than an untrained dictionary, all that the trained SAE has on top
# would be learned directions. It would lose weight if the Frozen Decoder came within a few hundredths of the trained SAE, at one L0
# and on the same tokens. Look at {numref}`fig-frozen-decoder-ev` and say which is nearer.

# %% [markdown]
# ## Exercises
#
# ```{exercise} The share of the room
# :label: ex-share-of-room
#
# *Easy, 5 minutes.* "The baseline reaches 54% of the trained score": that is what one might say of the paper's JumpReLU SAEs (0.457 with a Frozen Decoder, 0.852
# fully trained). It counts what the floor has as if it were learned. Write `share_of_room(trained, frozen, floor)`: 0 where the frozen SAE is at the floor, 1 where it is level with the trained one. (The room of the scorecard, and of the handout,
# ends at the {term}`ceiling`; here it ends at the trained SAE.)
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def share_of_room(trained, frozen, floor):
    # BEGIN SOLUTION
    return (frozen - floor) / (trained - floor)
    # END SOLUTION


# %% tags=["check"]
exercises.check_share_of_room(share_of_room)

# %% [markdown]
# Now in this chapter's own run, between the random dictionary, which nobody trained, and the trained SAE:

# %% tags=["hide-input"]
untrained = floor.set_index("null")["explained_variance"]["random dictionary"]
of = table.set_index(["architecture", "baseline"])["explained_variance"]
lines = []
for a in activations:
    for baseline in (name, f"{name} (cov)"):
        trained, frozen = of[a.name, "fully trained"], of[a.name, baseline]
        room = f"{share_of_room(trained, frozen, untrained):.0%} of the room" if trained > untrained else "no room to share"
        lines.append(f"- {a.name}, {baseline}: {room}, {frozen / trained:.0%} of the score")
Markdown("\n".join(lines) + "\n\nBelow 0% a baseline scores less than an untrained dictionary. There is no room where even the trained SAE does.")

# %% [markdown]
# ```{exercise} How near does a random direction come?
# :label: ex-best-cosine
#
# *Medium, 10 minutes.* Suppose that you know a direction that matters to the model. Write `best_cosine(directions, target)`: the largest
# {term}`cosine similarity` of any row of `directions` (n, d) to `target` (d,). Rows need not have length 1.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def best_cosine(directions, target):
    # BEGIN SOLUTION
    unit = directions / directions.norm(dim=1, keepdim=True)
    return (unit @ (target / target.norm())).max()
    # END SOLUTION


# %% tags=["check"]
exercises.check_best_cosine(best_cosine)

# %% [markdown]
# The fully trained SAE's directions as targets, the frozen ones as candidates:

# %% tags=["hide-input"]
trained, frozen = (saes[activations[0].name, baseline].W_dec.detach() for baseline in ("fully trained", name))
nearest = torch.stack([best_cosine(frozen, target) for target in trained[:200]])
Markdown(
    f"The nearest of {d_sae:,} random directions has a cosine of {nearest.mean():.2f} on average to a trained one; chance gives "
    f"{chance_cosine(lm.d_model, d_sae):.2f}. (All start from the same random directions, so a trained latent that did not move "
    "still has its start among the frozen ones.)"
)

# %% [markdown]
# ```{exercise} More random directions
# :label: ex-more-random
#
# *Hard, 20 minutes and some waiting.* Twice as many random directions come nearer to any target. Predict the Frozen Decoder's explained
# variance at twice the expansion, then rerun this notebook with `-p expansion 16`. Does the gap to the trained SAE close?
# ```
#
# ```{dropdown} What to look for
# In $d$ dimensions the best of $n$ random directions has a cosine of about $\sqrt{2 \ln n / d}$ to a target: doubling $n$ adds little. And the
# trained SAE has twice the latents, too. Compare the shares of the room, not the scores: the floor moves as well.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. A Frozen Decoder has an explained variance of 0.45. What did it learn about directions?
# Nothing. Its directions are the random ones that it started with; what it has learned is when to use which.
# ```
#
# ```{dropdown} 2. A paper reports 0.80 for a trained SAE and 0.60 for a Frozen Decoder. What else do you need before "75% of it is random"?
# The floor, and the L0 of both. If an untrained dictionary has 0.55, the frozen one has 20% of the room; if its L0 is twice as large, the two
# cannot be compared at all.
# ```
#
# ```{dropdown} 3. Its latents fire on words that look alike. Does that make its directions meaningful?
# No. The encoder decides where a latent fires, and the encoder is trained; the direction that it writes is random all the same.
# ```

# %% [markdown]
# ## Key points
#
# - A Frozen Decoder's directions are random, so no score of it can be evidence for learned directions.
# - On explained variance, compare the frozen SAE with the trained one, and both with the untrained dictionary. A large gap
#   to the trained SAE says that moving the directions helped this score. Where even the trained SAE is not above the
#   untrained dictionary, training was too short, or too many latents died, for the comparison to mean anything.
# - That a frozen latent fires on tokens that look alike is the encoder's doing: it trains, and a direction in the
#   decoder says nothing about what it fires on.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`, section 4.1 and appendix D: the baselines, and what is not stated about them.
# - {cite:t}`heap2025random`: the same question with the language model randomised, instead of the SAE: on a model of 6.9 billion parameters
#   auto-interpretability hardly tells the two apart; on small ones it does find a difference.

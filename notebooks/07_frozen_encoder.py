# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Frozen Encoder
#
# ```{admonition} This lesson
# - **You will learn** what an SAE can do whose {term}`latents <latent>` detect nothing that was learned, why it needs one freedom that the others
#   lack, and why passages that look alike are no evidence without a {term}`floor`.
# - **You need** [Frozen Decoder](05_frozen_decoder): {term}`encoder`, {term}`decoder direction`, {term}`explained variance`, {term}`L0`.
# - **Time** 15 minutes to read, 15 more for the exercises that have a check.
# ```
#
# The {term}`encoder` decides what a latent fires on. In the {term}`Frozen Encoder` baseline its {term}`directions <direction>` are random and never
# updated: each latent fires on whatever happens to lie along a random direction. What trains is when a latent counts as active (its {term}`bias` or
# threshold), the decoder, and the decoder's bias.
#
# ```{math}
# :label: eq-frozen-encoder
# W_{\mathrm{enc}}(t) = W_{\mathrm{enc}}(0) \quad \text{for all training steps } t
# ```
#
# This is an old idea: random projections, a non-linearity, and a learned linear map that reads the result out (here the decoder) reconstruct a lot.
# Call a latent's encoder direction its *detector*. In such an SAE no detector was learned.
#
# **Write down two guesses:** what share of the fully trained SAE's explained variance does it reach? And which of the two baselines
# explains more, this one, whose latents fire along random directions and whose decoder is learned, or the
# [Frozen Decoder](05_frozen_decoder), where it is the other way round?

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
import numpy as np
import torch
from saebook import figures
from saebook.exercises import frozen_encoder as exercises
from saebook.paper import paper_scores
from saebook.setup import Markdown, keep, language_chapter, show
from saebook.words import in_words
from torch.nn.functional import normalize

from saelite import FrozenEncoder, nulls
from saelite.evaluations.latents import draw_latents, top_contexts
from saelite.grid import fit_and_test
from saelite.metrics import explained_variance

# wrong parameters are refused here, before anything slow runs
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, activations, d_sae = chapter.lm, chapter.activations, chapter.d_sae

# %% [markdown]
# ## One freedom that it needs
#
# The other SAEs keep decoder directions at unit norm, so that a latent's value is its size in the reconstruction. Here the decoder's norms are
# free: with a frozen encoder and unit norms nothing could set the *gain* of a latent, the factor by which its value is multiplied, and the
# reconstruction could be worse than the mean. The paper does not say how it treats norms.

# %%
BASELINE = FrozenEncoder()
name = BASELINE.name

# %% [markdown]
# ## On a language model
#
# The {term}`residual stream` of a language model over Wikipedia extracts. A tenth of the texts is held out; all scores are on those. In the table
# of the SAEs compare *explained variance* within an {term}`architecture`, and look at *l0* before you do: a baseline with more active latents has it
# easier. What the same rule does where the true {term}`features <feature>` are known is told in [The baselines where the truth is
# known](08_baselines_where_truth_is_known.ipynb).

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
show(table[["architecture", "baseline", "explained_variance", "l0", "dead", "low", "high", "cosine_to_start"]])

# %% [markdown]
# ### The invariant
#
# Before its first step an SAE is calibrated on the first batch: one gain for the whole encoder. From then on a frozen
# encoder may not change by a single bit. Is it still its start, times that gain?

# %%
for key, sae in saes.items():
    same = torch.equal(sae.W_enc, sae.W_dec_start.T * sae.encoder_gain)
    print(f"{', '.join(key):40} encoder unchanged: {same}")
    assert same == (key[1] != "fully trained")

# %% [markdown]
# In the figure: is the Frozen Encoder nearer to the line of the random {term}`dictionary` or to the dot of the trained SAE, and on which side of {term}`PCA` does
# it lie?

# %% mystnb={"image": {"alt": "Dot chart of explained variance with 95% intervals for each architecture, fully trained and Frozen Encoder, with vertical lines for the nulls and diamonds for the paper's values."}, "figure": {"name": "fig-frozen-encoder-ev", "caption": "Explained variance on held-out tokens: this build (dots, with 95% bootstrap intervals over texts), the nulls (lines), and the paper's values on another model (diamonds)."}}
figures.scores_by_variant(
    table, floor.set_index("null")["explained_variance"], paper_scores("explained variance"), score="explained_variance",
    xlabel="explained variance on held-out activations",
);  # fmt: skip

# %%
Markdown(in_words(table, floor))

# %% [markdown]
# That speaks to the first guess. For the second, set {numref}`fig-frozen-encoder-ev` beside {numref}`fig-frozen-decoder-ev`: same model, {term}`tokens <token>` and L0 in the
# book's build, and the same fully trained SAE.

# %% [markdown]
# The paper's values are for Gemma-2-2B, layer 12, at L0 160 of 2304 dimensions, width 73,728 and 500 million tokens
# ({cite:t}`korznikov2026sanity`); this build's model is far smaller, and its SAEs see far fewer tokens. The
# comparison is of patterns, not of digits.
#
# Two more figures. Over training, does the baseline's curve flatten earlier than the trained SAE's? And in the histogram, does the baseline's
# decoder, which is free to turn, stay at its start (a cosine of 1) or leave it?

# %% mystnb={"image": {"alt": "Line charts of explained variance against activations seen in training, one panel an architecture, for the fully trained SAE and the Frozen Encoder."}, "figure": {"name": "fig-frozen-encoder-training", "caption": "Explained variance of training batches while the SAEs train."}}
figures.over_training(histories, {"explained_variance": "explained variance"});

# %% mystnb={"image": {"alt": "Histogram of the cosine of each latent's decoder direction to its random start, for the fully trained SAE and the Frozen Encoder of each architecture."}, "figure": {"name": "fig-frozen-encoder-cosine", "caption": "Under a Frozen Encoder the decoder may turn; how far it did."}}
figures.cosine_histogram({", ".join(key): sae.cosine_to_start() for key, sae in saes.items()}, "cosine of decoder directions to their start");

# %% [markdown]
# ## What the latents fire on
#
# Latents drawn at random, from the fully trained SAE and from the one with a random encoder, among those that fire on at least 20 held-out tokens.
# The trained SAE comes first. If you did not know that, could you tell?

# %% tags=["hide-input"]
first = activations[0].name
chapter.contexts({f"{first}, {baseline}": saes[first, baseline] for baseline in ("fully trained", name)})

# %% tags=["hide-input"]
keep("frozen_encoder", table, expansion=expansion, seed=seed)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that a good score shows that latents learned to detect something. It would gain weight if the Frozen Encoder
# stayed at the untrained dictionary in {numref}`fig-frozen-encoder-ev`: then choosing what to fire on is what training is about. It would lose weight if
# the baseline came within a few hundredths of the trained SAE: then thresholds and a learned read-out of random detectors are enough for
# this score. And if the baseline lies in between, the question goes on: is the rest lost because detectors are random, or
# because the decoder cannot make up for them? The histogram {numref}`fig-frozen-encoder-cosine` shows whether the decoder tried.

# %% [markdown]
# ## Exercises
#
# ```{exercise} One gain for all
# :label: ex-best-gain
#
# *Easy, 5 minutes.* A reconstruction may be right but for its length. Write `best_gain(x, x_hat)`: the one number $g$ for which
# $\lVert x - g\,\hat x \rVert^2$, summed over all samples, is least. Both have shape (n, d).
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def best_gain(x, x_hat):
    # BEGIN SOLUTION
    return (x * x_hat).sum() / x_hat.square().sum()
    # END SOLUTION


# %% tags=["check"]
exercises.check_best_gain(best_gain)

# %% [markdown]
# Take the trained Frozen Encoders of this page and put their decoder directions back to unit norm, as those of the other SAEs
# are. How much of the score was a matter of length, and does one gain for all bring it back?

# %% tags=["hide-input"]
x, lines = held_out[:4096], []
with torch.no_grad():
    for a in activations:
        sae = saes[a.name, name]
        mean, unit = sae.b_dec / sae.input_scale, sae.encode(x) @ normalize(sae.W_dec, dim=1) / sae.input_scale
        g = best_gain(x - mean, unit) if unit.any() else 0.0
        spread = sae.W_dec.norm(dim=1)
        lines.append(
            f"- {a.name}: with its own norms (from {spread.min():.2f} to {spread.max():.2f}): {explained_variance(x, sae(x)):.3f}; at unit norm: "
            f"{explained_variance(x, mean + unit):.3f}; at unit norm times a gain of {g:.2f}: {explained_variance(x, mean + g * unit):.3f}"
        )
where = f" on the first {len(x):,} held-out tokens (the table above has all {len(held_out):,})" if len(x) < len(held_out) else ""
Markdown(
    f"Explained variance{where}:\n\n" + "\n".join(lines) + "\n\nWhat one gain brings back was a matter of scale. Where even then something is missing, it is "
    "that every latent has a gain of its own; where nothing is, the freedom hardly mattered in this run. (An SAE that had been trained at unit norm might have found other ways; this one had no reason to.)"
)

# %% [markdown]
# ```{exercise} Do they look alike?
# :label: ex-pairs-alike
#
# *Medium, 10 minutes.* "Its strongest passages share a word, so the latent means something." How much sharing is there? Write
# `pairs_alike(tokens)`: of all pairs of different places in the list, the share that holds the same token twice.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def pairs_alike(tokens):
    # BEGIN SOLUTION
    others = [tokens.count(token) - 1 for token in tokens]
    return sum(others) / (len(tokens) * (len(tokens) - 1))
    # END SOLUTION


# %% tags=["check"]
exercises.check_pairs_alike(pairs_alike)

# %% [markdown]
# For up to 50 latents of each SAE: the ten tokens on which it is strongest, at most one from each row of text. And, as the floor, ten
# tokens drawn from the text at random. **Guess first** where the Frozen Encoder will be.

# %% tags=["hide-input"]
rng, found = np.random.default_rng(seed), {}
for baseline in ("fully trained", name):
    sae = saes[activations[0].name, baseline]
    strongest = top_contexts(sae, store.held_out, draw_latents(sae, held_out, 50, seed=seed), lm.tokenizer, n=10, window=0)
    lists = [[token for (token,) in of_latent["tokens"]] for _, of_latent in strongest.groupby("latent")]
    found[f"{activations[0].name}, {baseline}"] = [pairs_alike(tokens) for tokens in lists if len(tokens) > 1]
rows = [store.held_out.context_of(i) for i in rng.integers(len(store.held_out), size=2000)]
drawn = lm.tokenizer.batch_decode([[int(ids[position])] for ids, position in rows])
found["ten tokens at random"] = [pairs_alike(drawn[i : i + 10]) for i in range(0, len(drawn), 10)]
Markdown(
    "Pairs that are alike, on average: "
    + "; ".join(f"{label} {np.mean(shares):.1%} ({len(shares)} lists)" if shares else f"{label}: no latent fires often enough" for label, shares in found.items())
    + ". What the Frozen Encoder has above the tokens drawn at random is not owed to any learned detector: tokens that are alike lie near each other in the "
    "activations, and any direction that one of them lies far along the others lie far along too."
    + (" But so few latents fire often enough here that the averages mean little." if min(map(len, found.values())) < 10 else "")
)

# %% [markdown]
# ```{exercise} Denser
# :label: ex-denser-frozen-encoder
#
# *Hard, 20 minutes and some waiting.* Random detectors carry little each, so let more of them fire. Predict how the gap between Frozen Encoder and
# trained SAE changes when four times as many latents are active, and when a quarter are. Then rerun this notebook with `-p l0 160` and `-p l0 10`.
# Which of the three L0 would you choose if you wanted to show that training pays, and which if you wanted to show that it does not?
# ```
#
# ```{dropdown} What to look for
# The {term}`nulls <null>` move too: PCA is given as many components as there are active latents, and a random dictionary has more matches to add up. Compare
# how much of the room above the best null each SAE has, not the raw scores. That the answer depends on L0, which is a free choice, is the reason to ask of any such
# comparison for the whole curve, and for both SAEs at the same L0.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. A Frozen Encoder's latent fires on names of months. Did it learn to detect months?
# Its direction is random and was never updated, so it learned at most *how strong* a match has to be. If names of months lie close together in the {term}`activations <activation>`,
# some of thousands of random directions will point their way. The model put them there; the SAE did not find them.
# ```
#
# ```{dropdown} 2. Only the encoder is frozen. Are the decoder's directions then as good as a trained SAE's?
# A decoder direction is fitted to what its latent fires on. If that is a mixture of things, the best direction is the mean of a mixture. A learned read-out of
# random detectors reconstructs, and need not name anything.
# ```
#
# ```{dropdown} 3. A colleague's Frozen Encoder has an explained variance below zero. Is the baseline that bad?
# Perhaps, but suspect the scale first: below zero is worse than always answering with the mean, which a decoder that is allowed to shrink can always do. Ask whether
# its decoder norms were held fixed, and whether a single gain mends it.
# ```

# %% [markdown]
# ## Key points
#
# - A Frozen Encoder's latents fire along random directions; only thresholds and the read-out are learned.
# - What its latents fire on may still look like something: for a random direction, too, some tokens score highest, and
#   these may resemble each other. That is why text that "makes sense" needs a baseline beside it.
# - Give a baseline the freedoms that have nothing to do with the question, such as a scale. One that fails for want of them proves nothing.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`, section 4.1 and appendix E: this baseline with both ways to draw its directions; its tables show how much that matters.
# - {cite:t}`heap2025random`: the detectors are trained and the language model is random, and latents can still be described.
# - {cite:t}`paulo2024autointerp`: how descriptions are tested, where this page only looks.

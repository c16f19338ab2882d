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
# The encoder decides what a latent fires on. In the {term}`Frozen Encoder` baseline its directions are random and never
# updated: each latent fires on whatever happens to lie along a random direction. What trains is when a latent counts as active (its bias or
# threshold), the decoder, and the decoder's bias.
#
# ```{math}
# :label: eq-frozen-encoder
# W_{\mathrm{enc}}(t) = W_{\mathrm{enc}}(0) \quad \text{for all training steps } t
# ```
#
# This is an old idea: random projections, a non-linearity, and a learned linear read-out reconstruct a lot. A latent
# of such an SAE cannot have learned to detect anything. **Guess:** how much variance does it explain, more or less than
# the [Frozen Decoder](05_frozen_decoder.ipynb)?

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

# %%
import os
from pathlib import Path

import torch
from IPython.display import HTML, Markdown

from saelite import plots
from saelite.baselines import FrozenEncoder
from saelite.comparison import architectures_at, compare, in_words
from saelite.corpora import CREDITS, load_texts
from saelite.latents import contexts_html, draw_latents, top_contexts
from saelite.models import check_layer, load_model
from saelite.nulls import nulls
from saelite.paper import paper_scores
from saelite.stream import training_data
from saelite.tables import show

plots.style()

# %% [markdown]
# What can be wrong with the parameters shows here, before anything long runs.

# %%
lm, corpus = load_model(model), load_texts(texts, streaming=train_tokens > 0)
check_layer(lm, layer, site)
d_sae = expansion * lm.d_model
activations = architectures_at(l0, architectures, d_sae)
if 0.8 * tokens < batch_size:
    raise ValueError(f"tokens={tokens} leave too few activations for a batch of {batch_size}: ask for more tokens.")

# %% [markdown]
# ## One freedom that it needs
#
# The other SAEs keep decoder directions at unit norm, so that a latent's value is its size in the reconstruction. Here the
# decoder's norms are free: with a frozen encoder and unit norms nothing could set the gain of a latent, and the
# reconstruction could be worse than the mean. The paper does not say how it treats norms.

# %%
BASELINE = FrozenEncoder()
name = BASELINE.name

# %% [markdown]
# ## On a language model
#
# The residual stream of a language model over Wikipedia extracts. A tenth of the texts is held out; all scores are on
# those. What the same rule does where the true features are known is told in
# [The baselines where the truth is known](08_baselines_where_truth_is_known.ipynb).

# %%
store, batches = training_data(
    lm, corpus, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens, context=harvest_context,
    batch_size=batch_size, epochs=epochs, seed=seed,
)  # fmt: skip
held_out, documents = store.held_out[:], store.held_out.documents
floor = nulls(store.train[:50_000], held_out, l0=l0, d_sae=d_sae, seed=seed + 100, groups=documents)
show(floor)

# %%
variants = [
    (label, a, baseline, "iso") for a in activations for label, baseline in (("fully trained", None), (name, BASELINE))
]
saes, histories, table = compare(
    variants, batches, held_out, d_sae=d_sae, seed=seed, groups=documents, lr=lr
)
show(table)

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

# %% mystnb={"image": {"alt": "Dot chart of explained variance with 95% intervals for each architecture, fully trained and Frozen Encoder, with vertical lines for the nulls and diamonds for the paper's values."}, "figure": {"name": "fig-frozen-encoder-ev", "caption": "Explained variance on held-out tokens: this build (dots, with 95% bootstrap intervals over texts), the nulls (lines), and the paper's values on another model (diamonds)."}}
plots.explained_variance_by_variant(table, floor, paper_scores("explained variance"));

# %%
Markdown(in_words(table, floor))

# %% [markdown]
# The paper's values are for Gemma-2-2B, layer 12, at L0 160 of 2304 dimensions, width 73,728 and 500 million tokens
# ({cite:t}`korznikov2026sanity`); this build's model is far smaller, and its SAEs see far fewer tokens. The
# comparison is of patterns, not of digits.

# %% mystnb={"image": {"alt": "Line charts of explained variance against activations seen in training, one panel an architecture, for the fully trained SAE and the Frozen Encoder."}, "figure": {"name": "fig-frozen-encoder-training", "caption": "Explained variance of training batches while the SAEs train."}}
plots.training_curves(histories, "explained_variance", "explained variance");

# %% mystnb={"image": {"alt": "Histogram of the cosine of each latent's decoder direction to its random start, for the fully trained SAE and the Frozen Encoder of each architecture."}, "figure": {"name": "fig-frozen-encoder-cosine", "caption": "Under a Frozen Encoder the decoder may turn; how far it did."}}
plots.cosine_histogram({", ".join(key): sae.cosine_to_start() for key, sae in saes.items()}, "cosine of decoder directions to their start");

# %% [markdown]
# ## What the latents fire on
#
# Latents drawn at random, from the fully trained SAE and from the one with a random encoder, among those that fire on at least 20 held-out tokens. The trained SAE comes
# first. If you did not know that, could you tell?

# %%
shown = {}
for baseline in ("fully trained", name):
    sae = saes[activations[0].name, baseline]
    latents = draw_latents(sae, held_out, 3, seed=seed)
    shown[f"{activations[0].name}, {baseline}"] = top_contexts(sae, store.held_out, latents, lm.tokenizer)
HTML(contexts_html(shown, CREDITS.get(texts, texts)))

# %%
results = Path(os.environ.get("SAELITE_RESULTS", "results"))
results.mkdir(parents=True, exist_ok=True)
table.assign(expansion=expansion, seed=seed).to_json(results / "frozen_encoder.json", orient="records", indent=1)

# %% [markdown]
# ## Key points
#
# - A Frozen Encoder's latents fire along random directions; only thresholds and the read-out are learned.
# - What its latents fire on may still look like something: for a random direction, too, some tokens score highest, and
#   these may resemble each other. That is why text that "makes sense" needs a baseline beside it.

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
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
l0: int = 40  # active latents per token; the paper's ratio of L0 to d_in gives 40 for d_in 576
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions
synthetic_samples: int = 600_000  # samples that each SAE is trained on in the synthetic part

# %%
import os
from pathlib import Path

import pandas as pd
import torch
from IPython.display import HTML, Markdown

from saelite import plots
from saelite.activations import harvest
from saelite.baselines import FrozenEncoder
from saelite.comparison import architectures_at, compare, in_words
from saelite.corpora import CREDITS, load_texts
from saelite.latents import contexts_html, draw_latents, top_contexts
from saelite.metrics import best_cosines
from saelite.models import check_layer, load_model
from saelite.nulls import nulls
from saelite.synthetic import FeatureWorld, log_uniform_probabilities
from saelite.tables import show

plots.style()

# %% [markdown]
# What can be wrong with the parameters shows here, before anything long runs.

# %%
lm, corpus = load_model(model), load_texts(texts)
check_layer(lm, layer)
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
# ## On synthetic data
#
# First where the truth is known: the variable setting of [Synthetic recovery](02_synthetic_recovery.ipynb), 3200 features
# in 100 dimensions, of which some 20 are present at a time. All SAEs see the same samples in the same order, from the
# same random start. *Cosine to start* is 1 for a direction that has not turned (median over latents that fire).

# %%
world = FeatureWorld(log_uniform_probabilities())
test = world.batches(20_000, 1, seed=seed + 1)[0]
variants = [
    (label, a, baseline, "iso")
    for a in architectures_at(20, architectures, 3200)
    for label, baseline in (("fully trained", None), (name, BASELINE))
]
saes, _, synthetic = compare(
    variants, world.batches(1024, max(1, synthetic_samples // 1024), seed=seed), test, d_sae=3200, seed=seed, lr=2e-3
)
best = {key: best_cosines(world.features, sae.W_dec) for key, sae in saes.items()}
synthetic["recovered"] = [(cosines > 0.8).float().mean().item() for cosines in best.values()]
show(synthetic)

# %%
synthetic_floor = nulls(world.batches(20_000, 1, seed=seed + 2)[0], test, l0=20, d_sae=3200)
show(synthetic_floor)

# %%
Markdown(in_words(synthetic, synthetic_floor))

# %% [markdown]
# ## On a language model
#
# Now the same on real activations: the residual stream of a language model over Wikipedia extracts. A tenth of the
# texts is held out; all scores are on those.

# %%
store = harvest(lm, corpus, layer=layer, tokens=tokens)
held_out, documents = store.held_out[:], store.held_out.documents
floor = nulls(store.train[:50_000], held_out, l0=l0, d_sae=d_sae, seed=seed + 100, groups=documents)
show(floor)

# %%
variants = [
    (label, a, baseline, "iso") for a in activations for label, baseline in (("fully trained", None), (name, BASELINE))
]
saes, histories, table = compare(
    variants, store.batches(batch_size, epochs=epochs, seed=seed), held_out, d_sae=d_sae, seed=seed, groups=documents, lr=lr
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
plots.explained_variance_by_variant(table, floor, {
    ("BatchTopK", "fully trained"): 0.852, ("JumpReLU", "fully trained"): 0.852,
    ("BatchTopK", "Frozen Encoder"): 0.475, ("JumpReLU", "Frozen Encoder"): 0.609,
});

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

# %% [markdown]
# The table is kept for the book's first page.

# %%
results = Path(os.environ.get("SAELITE_RESULTS", "results"))
results.mkdir(parents=True, exist_ok=True)
made_with = str([model, texts, layer, tokens, l0, expansion, batch_size, epochs, lr, seed])
table.assign(made_with=made_with).to_json(results / "frozen_encoder.json", orient="records", indent=1)

# %% [markdown]
# ## All baselines together
#
# The tables of this chapter and of the two before it, in one figure: it opens the book.

# %% mystnb={"image": {"alt": "Dot chart of explained variance with intervals for the fully trained SAE and every random baseline, for each architecture, with vertical lines for the nulls and diamonds for the paper's values."}, "figure": {"name": "fig-all-baselines", "caption": "Explained variance on held-out tokens of every SAE of this build. Dots: this build, with 95% bootstrap intervals over texts; lines: nulls; diamonds: the paper's values on another model."}}
paper = pd.DataFrame(
    [
        ("fully trained", 0.852, 0.852),
        ("Frozen Decoder", 0.430, 0.457),
        ("Frozen Decoder (cov)", 0.570, 0.578),
        ("Soft-Frozen Decoder", 0.785, 0.789),
        ("Frozen Encoder", 0.475, 0.609),
    ],
    columns=["baseline", "BatchTopK", "JumpReLU"],
).set_index("baseline").stack().swaplevel().rename("paper")
tables = [pd.read_json(file) for file in sorted(results.glob("*_*coder.json"))]
everything = pd.concat(tables).drop_duplicates(["architecture", "baseline", "made_with"])
everything = everything[everything["made_with"] == made_with]  # a chapter rerun with other parameters is left out
order = {baseline: place for place, baseline in enumerate(plots.COLOURS)}
everything = everything.sort_values(["architecture", "baseline"], key=lambda column: column.replace(order))
overview = plots.explained_variance_by_variant(everything, floor, paper.to_dict())
overview.savefig(results / "welcome.svg", metadata={"Date": None})

# %%
everything = everything.join(paper, on=["architecture", "baseline"])
show(everything[["architecture", "baseline", "explained_variance", "low", "high", "paper", "l0", "dead"]])

# %% tags=["hide-input"]
null = floor.set_index("null")["explained_variance"]
trained = everything[everything["baseline"] == "fully trained"].set_index("architecture")
frozen = everything[everything["baseline"] != "fully trained"]
below = frozen["high"] < frozen["architecture"].map(trained["low"])
shares = frozen["explained_variance"] / frozen["architecture"].map(trained["explained_variance"])
by_baseline = shares.groupby(frozen["baseline"], sort=False).agg(["min", "max"])
text = (
    f"In this build, on {len(held_out):,} held-out tokens of layer {layer} of `{model}`, fully trained SAEs explain "
    f"{trained['explained_variance'].min():.3f} to {trained['explained_variance'].max():.3f} of the variance. Of that, the "
    "baselines reach "
    + ", ".join(f"{low:.0%} to {high:.0%} ({baseline})" for baseline, low, high in by_baseline.itertuples())
    + f". PCA with {l0} components explains {null.filter(like='PCA').item():.2f} of the variance; a random dictionary that was never trained, "
    f"{null['random dictionary']:.2f}. {below.sum()} of the {len(frozen)} baseline SAEs lie below the trained SAE of their "
    "architecture with intervals that do not overlap; the intervals speak of the test texts, not of other seeds. "
)
rows = [
    f"| {r.architecture} | {r.baseline} | {r.explained_variance:.3f} [{r.low:.3f}, {r.high:.3f}] | "
    f"{'-' if pd.isna(r.paper) else format(r.paper, '.3f')} | {r.l0:.1f} | {r.dead:.1%} |"
    for r in everything.itertuples()
]
synthetic_file = results / "synthetic_recovery.json"
if synthetic_file.exists():
    known = pd.read_json(synthetic_file)
    text += (
        f"On synthetic data, after a short training, explained variance runs from {known['explained_variance'].min():.2f} to "
        f"{known['explained_variance'].max():.2f}, where an untrained dictionary has {known['untrained'].min():.2f} to "
        f"{known['untrained'].max():.2f}; {known['recovered'].min():.1%} to {known['recovered'].max():.1%} of the true features "
        f"are recovered, and {known['dead'].min():.0%} to {known['dead'].max():.0%} of the latents are dead. Runs this short "
        "cannot confirm or refute the paper's synthetic result."
    )
welcome = [
    text.strip(), "",
    "| architecture | SAE | explained variance [95% interval] | the paper's | L0 | dead latents |",
    "|---|---|---|---|---|---|", *rows, "",
    "*The paper's* column is for Gemma-2-2B, layer 12, at L0 160: another model, so compare the pattern, not the digits.",
]  # fmt: skip
(results / "welcome.md").write_text("\n".join(welcome) + "\n", encoding="utf-8")
Markdown(text)

# %% [markdown]
# ## Key points
#
# - A Frozen Encoder's latents fire along random directions; only thresholds and the read-out are learned.
# - What its latents fire on may still look like something: for a random direction, too, some tokens score highest, and
#   these may resemble each other. That is why text that "makes sense" needs a baseline beside it.

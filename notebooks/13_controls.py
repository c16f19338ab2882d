# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Controls: where there is nothing to find
#
# {cite:t}`korznikov2026sanity` randomise the *SAE*. One can also randomise what it is trained on:
#
# - **A model that never learned anything.** All weights of the language model are drawn anew. {cite:t}`heap2025random` report that
#   auto-interpretability barely tells SAEs on such a model from SAEs on a trained one.
# - **Activations without structure.** Each coordinate keeps its values, but they are shuffled over tokens, each coordinate
#   on its own. Whatever direction stood for something is gone.
# - **Another seed.** If an SAE finds the model's features, two SAEs that differ in the seed should find the same ones.
#   {cite:t}`paulo2025seeds` found some 30% of latents in common, at a much larger size.
#
# **Guess first:** on a model with random weights, does an SAE explain more of the variance than on the trained model, or less?

# %% tags=["parameters"]
architecture: str = "BatchTopK"  # one of ReLU, TopK, BatchTopK, JumpReLU
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
documents: int = 0  # texts to take, from the start of the set; 0: all of it, which a set on the hub may be too large for
layer: int = 9  # decoder block whose output is read, counted from 0
site: str = "residual"  # what of that block: "residual" (stream after it), or what its "mlp" or its "attention" gives
tokens: int = 80_000  # activations of each kind; a tenth is held out for testing
harvest_context: int = 128  # tokens of a row of text that the model reads at once
l0: int = 40  # active latents per token
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions; the second SAE has the next one
latents: int = 60  # latents of each SAE that the lexical judge describes

# %%
import os
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from saelite import plots
from saelite.activations import harvest
from saelite.autointerp import AutoInterp
from saelite.baselines import FrozenDecoder
from saelite.comparison import architectures_at, compare
from saelite.controls import TensorBatches, permuted, reinitialised, shared_latents
from saelite.corpora import load_texts
from saelite.evaluations import over
from saelite.judges import LexicalJudge
from saelite.models import check_layer, load_model
from saelite.nulls import nulls
from saelite.statistics import contrast, summarise
from saelite.tables import show

plots.style()

# %%
lm, corpus = load_model(model), load_texts(texts, limit=documents or None)
check_layer(lm, layer, site)
d_sae = expansion * lm.d_model
(activation,) = architectures_at(l0, [architecture], d_sae)
if 0.8 * tokens < batch_size:
    raise ValueError(f"tokens={tokens} leave too few activations for a batch of {batch_size}: ask for more tokens.")

# %% [markdown]
# ## Three kinds of activations
#
# The same texts, the same layer, the same number of tokens. The shuffled ones are made of the trained model's.

# %%
TRAINED, RANDOM, SHUFFLED = "trained model", "re-initialised model", "shuffled coordinates"
stores = {
    kind: harvest(one, corpus, layer=layer, site=site, tokens=tokens, context=harvest_context)
    for kind, one in ((TRAINED, lm), (RANDOM, reinitialised(lm, seed)))
}
data = {kind: (store.train[:], store.held_out[:]) for kind, store in stores.items()}
data[SHUFFLED] = tuple(permuted(x, seed) for x in data[TRAINED])
data = {  # a model may hold the very same vector everywhere; there is nothing to explain in it
    kind: both for kind, both in data.items() if (both[1] - both[1][0]).any()
}

# %% [markdown]
# ## Explained variance
#
# Read each score against the nulls *of its own data*: data that fill fewer dimensions are easier for everyone.

# %%
variants = [("fully trained", activation, None, "iso"), ("Frozen Decoder", activation, FrozenDecoder(), "iso")]
saes, tables = {}, []
for kind, (train, test) in data.items():
    made_of = {"store": stores[RANDOM if kind == RANDOM else TRAINED].folder.name, "kind": kind, "shuffled with": seed}
    trained, _, table = compare(variants, TensorBatches(train, batch_size, made_of, seed), test, d_sae=d_sae, seed=seed, lr=lr)
    saes |= {(kind, baseline): sae for (_, baseline), sae in trained.items()}
    floor = nulls(train[:50_000], test, l0=l0, d_sae=d_sae, seed=seed + 100)
    floor = floor[floor["null"] != "mean prediction"].rename(columns={"null": "baseline"})
    tables.append(pd.concat([table, floor]).assign(data=kind))
everything = pd.concat(tables)[["data", "baseline", "explained_variance", "low", "high", "l0", "dead", "cosine_to_start"]]
show(everything)

# %% tags=["hide-input"]
ev = everything.set_index(["data", "baseline"])["explained_variance"]
lines = []
for kind in data:
    pca = next(name for name in ev[kind].index if name.startswith("PCA"))
    lines.append(
        f"- **{kind}**: fully trained {ev[kind, 'fully trained']:.3f}, Frozen Decoder {ev[kind, 'Frozen Decoder']:.3f}, {pca} "
        f"{ev[kind, pca]:.3f}, untrained dictionary {ev[kind, 'random dictionary']:.3f}; training the decoder's directions adds "
        f"{ev[kind, 'fully trained'] - ev[kind, 'Frozen Decoder']:+.3f}."
    )
Markdown("\n".join(lines))

# %% [markdown]
# ## Can their latents be described?
#
# The lexical judge of [Auto-interpretability](10_autointerp.ipynb) describes a latent by the words that raise it and is then
# asked where it fires. A description needs text, so the shuffled activations, which belong to no token any more, have no
# part in this.

# %%
judged = []
for kind, store in stores.items():
    if kind in data:
        evaluation = AutoInterp(store, [LexicalJudge()], lm.tokenizer, l0=l0, d_sae=d_sae, n_latents=latents, tokens_scored=tokens)
        of_kind = {(architecture, baseline): saes[kind, baseline] for baseline in ("fully trained", "Frozen Decoder")}
        judged.append(over(of_kind, evaluation).assign(data=kind))
judged = pd.concat(judged) if judged else pd.DataFrame()
described = summarise(judged, ["data", "baseline", "metric"]) if len(judged) else pd.DataFrame(columns=["data", "baseline", "score"])
show(described)

# %% tags=["hide-input"]
text = "No latent fired often enough to be described."
if len(judged):
    true = judged[judged["metric"] == f"auto-interpretability ({LexicalJudge().name})"]
    pick = dict(list(true.groupby(["data", "baseline"])))
    text = ""
    if {(TRAINED, "fully trained"), (RANDOM, "fully trained")} <= set(pick):
        found = contrast(pick[RANDOM, "fully trained"], pick[TRAINED, "fully trained"], margin=0.03, paired=False)
        text = (
            f"Latents of the fully trained SAE on the re-initialised model score {found['difference']:+.3f} [{found['low']:+.3f}, "
            f"{found['high']:+.3f}] against those on the trained model: **{found['verdict']}**, with a margin of 0.03. A difference of "
            f"{found['detectable']:.3f} would have been found four times in five."
        )
Markdown(text)

# %% [markdown]
# ## Two seeds, two dictionaries?
#
# Latents of two SAEs are matched one to one; a pair is *shared* if both its decoder and its encoder directions have a cosine
# above 0.7. Two Frozen Decoders with different seeds show what chance gives. Beside the share stands the mean cosine of the
# matched pairs, which needs no threshold.

# %%
other, _, _ = compare(
    variants, TensorBatches(data[TRAINED][0], batch_size, {"store": stores[TRAINED].folder.name}, seed), data[TRAINED][1],
    d_sae=d_sae, seed=seed + 1, lr=lr,
)  # fmt: skip
overlap = pd.DataFrame(
    [
        {"baseline": baseline} | shared_latents(saes[TRAINED, baseline], other[architecture, baseline])
        for baseline in ("fully trained", "Frozen Decoder")
    ]
)
show(overlap)

# %% tags=["hide-input"]
of = overlap.set_index("baseline")
Markdown(
    f"Of {d_sae:,} latents {of.loc['fully trained', 'shared']:.1%} are shared between the two fully trained SAEs "
    f"(Frozen Decoders: {of.loc['Frozen Decoder', 'shared']:.1%}); matched directions have a mean cosine of "
    f"{of.loc['fully trained', 'mean_cosine']:.2f} (by chance {of.loc['Frozen Decoder', 'mean_cosine']:.2f}). These SAEs saw "
    f"{0.9 * tokens:,.0f} tokens; those of Paulo and Belrose many millions."
)

# %%
results = Path(os.environ.get("SAELITE_RESULTS", "results"))
results.mkdir(parents=True, exist_ok=True)
everything.to_json(results / "controls.json", orient="records", indent=1)
described.to_json(results / "controls_described.json", orient="records", indent=1)
overlap.to_json(results / "controls_seeds.json", orient="records", indent=1)

# %% [markdown]
# ## Key points
#
# - A score that is as high on a model that learned nothing speaks of the data, the architecture or the judge, not of
#   features that the model learned.
# - Explained variance keeps its meaning on any activations, but compare it with the nulls of the same activations.
# - Two runs that differ in the seed are the cheapest test of whether a latent is the model's or the run's.

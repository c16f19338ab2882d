# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Superposition and SAEs
#
# A layer of a language model has a few hundred or thousand dimensions, yet it seems to keep track of far more things
# than that. One explanation is {term}`superposition`: each thing the model knows, each {term}`feature`, has a direction
# of its own, and since there are more features than dimensions the directions overlap. As long as only a few features
# are present at a time, the overlap does little harm.
#
# A {term}`sparse autoencoder` (SAE) tries to undo this. Its decoder holds a {term}`dictionary` of directions, more than
# there are dimensions; its encoder says which few of them are present in an activation, and how strongly.
#
# This chapter shows both in two dimensions, where everything can be drawn, and then on a real language model.

# %% tags=["parameters"]
toy_features: int = 5  # true features in the two-dimensional toy
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read, counted from 0
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
l0: int = 40  # active latents per token; the paper's ratio of L0 to d_in gives 40 for d_in 576
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the SAE's random start

# %%
import matplotlib.pyplot as plt
import seaborn as sns
import torch
from IPython.display import HTML, Markdown

from saelite import plots
from saelite.activation_functions import BatchTopK, TopK
from saelite.activations import harvest
from saelite.corpora import CREDITS, load_texts
from saelite.latents import contexts_html, draw_latents, top_contexts
from saelite.metrics import best_cosines, evaluate, explained_variance
from saelite.models import check_layer, load_model
from saelite.nulls import nulls
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities
from saelite.tables import show
from saelite.training import train, train_or_load

plots.style()

# %% [markdown]
# ## Two dimensions, more features than that
#
# We place features on a circle and let each be present in one sample out of ten, with a strength near 1. Most samples
# hold no feature or one; some hold two, and then they lie between two directions.

# %%
world = FeatureWorld(constant_probabilities(toy_features, 0.1 * toy_features), d_in=2)
angles = 2 * torch.pi * torch.arange(toy_features) / toy_features
world.features = torch.stack([angles.cos(), angles.sin()], dim=1)
points = world.sample(2000, torch.Generator().manual_seed(0))
points = points[points.norm(dim=1) > 0]

# %% [markdown]
# An SAE with one latent for each feature, and one active latent a sample, is shown such points. Its directions start at
# random (the toy's own, whatever `seed` says). **Before you look:** will it find the features, and how would you know if you could not see the grey lines?

# %%
sae = SAE(2, toy_features, TopK(1), seed=3)
batches = [batch[batch.norm(dim=1) > 0] for batch in world.batches(1024, 400)]
train(sae, batches, lr=1e-2, progress=False);

# %% mystnb={"image": {"alt": "Scatter plot of two-dimensional samples along the true feature directions, which are drawn as grey lines from the centre. Dashed arrows show the random directions that the decoder started from, solid arrows those it learned."}, "figure": {"name": "fig-toy", "caption": "Samples (dots), true features (grey lines), and the decoder's directions before (dashed) and after training (solid)."}}
figure, axes = plt.subplots(figsize=(4.6, 4.6))
axes.plot(*points[:600].T, ".", color=plots.GREY, alpha=0.35, markersize=4)
for feature in world.features:
    axes.plot([0, 1.7 * feature[0]], [0, 1.7 * feature[1]], color="#bbbbbb", linewidth=6, zorder=0)
for directions, line, colour in ((sae.W_dec_start, "--", "#D55E00"), (sae.W_dec.detach(), "-", "#0072B2")):
    for x, y in directions:
        axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "linestyle": line, "color": colour, "lw": 1.8})
axes.set(aspect="equal", xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), xlabel="first dimension", ylabel="second dimension");

# %%
toy_ev = explained_variance(points, sae(points).detach())
toy_best = best_cosines(world.features, sae.W_dec)
Markdown(
    f"The trained SAE explains **{toy_ev:.0%}** of the variance. Of the {toy_features} features "
    f"{int((toy_best > 0.95).sum())} have a direction of the dictionary within a cosine of 0.95; the worst served has "
    f"{toy_best.min():.2f}. In two dimensions even a random direction has a good chance of being close to something: "
    f"at the start the mean best cosine was {best_cosines(world.features, sae.W_dec_start).mean():.2f}, "
    f"after training it is {toy_best.mean():.2f}."
)

# %% [markdown]
# On the toy we can check the dictionary against the truth. On a language model nobody can: the true features are not
# known, if there are such things at all. What is left are scores that need no truth, and the question of this book is
# what those scores are worth.
#
# ## A real language model
#
# We run a small language model over Wikipedia extracts, up to one layer, and keep the activations there. The first
# position of each row of text is dropped, since it often holds an outlier that says nothing about the text.

# %%
lm, corpus = load_model(model), load_texts(texts)
check_layer(lm, layer)
sae = SAE(lm.d_model, expansion * lm.d_model, BatchTopK(l0), seed=seed)
store = harvest(lm, corpus, layer=layer, tokens=tokens)
held_out, documents = store.held_out[:], store.held_out.documents
Markdown(
    f"{len(store):,} activations of `{model}`, layer {layer}, with {store.d_in} dimensions: {len(store.train):,} to train "
    f"on and {len(store.held_out):,}, from other texts, to test on. {store.record['dropped']:,} first positions were dropped."
)

# %% [markdown]
# Three yardsticks that need no SAE training come first; an SAE has to be read against them. *Mean prediction* always
# answers with the average activation. *PCA* describes each token by as many numbers as the SAE has active latents, always
# along the same directions. The *random dictionary* is an SAE that was never trained: its directions are random, each
# token uses those that match it best, and one common scale factor is fitted. *low* and *high* bound the 95% interval.

# %%
floor = nulls(store.train[:50_000], held_out, l0=l0, d_sae=sae.d_sae, groups=documents)
show(floor)

# %% [markdown]
# Now an SAE, with {term}`BatchTopK`: in a batch of n tokens the n x L0 largest latents are kept.
# **Write down a guess:** what share of the variance will it explain?

# %%
history = train_or_load(sae, store.batches(batch_size, epochs=epochs), lr=lr)
scores = evaluate(sae, held_out, documents)

# %% mystnb={"image": {"alt": "Line chart of explained variance against the number of activations seen in training; horizontal lines mark PCA and the random dictionary."}, "figure": {"name": "fig-first-sae", "caption": "Explained variance of training batches while the SAE trains. Horizontal lines: the nulls on held-out tokens."}}
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(history["samples"], history["explained_variance"], color=plots.COLOURS["fully trained"], label="SAE")
for row, line in zip(floor.itertuples(), ("--", ":", "-."), strict=True):
    if row.null != "mean prediction":
        axes.axhline(row.explained_variance, color=plots.GREY, linestyle=line, label=row.null)
axes.set(xlabel="activations seen in training", ylabel="explained variance", ylim=(0, 1))
axes.xaxis.set_major_formatter(plots.thousands())
axes.legend();

# %%
pca, chance = (floor.set_index("null")["explained_variance"].filter(like=name).item() for name in ("PCA", "random"))
Markdown(
    f"On held-out tokens the SAE explains **{scores.explained_variance:.3f}** of the variance "
    f"(95% interval over texts {scores.low:.3f} to {scores.high:.3f}), with {scores.l0:.1f} active latents a token; "
    f"{scores.dead:.1%} of its {sae.d_sae:,} latents never fired there. PCA with the same number of components explains "
    f"{pca:.3f}, an untrained dictionary {chance:.3f}. Training moved the directions of the latents "
    f"that fire to a median cosine of {sae.cosine_to_start()[scores.firing_frequency > 0].median():.2f} with their start."
)

# %% [markdown]
# How often does each latent fire? Frequencies spread over orders of magnitude, so the axis of the
# {term}`firing frequency` is logarithmic.

# %% mystnb={"image": {"alt": "Histogram of the share of held-out tokens on which each latent fires, on a logarithmic axis, with a line at the mean."}, "figure": {"name": "fig-frequency-of-latents", "caption": "Share of held-out tokens on which each latent fires; latents that never fired are left out. The line is the mean, L0 divided by the number of latents."}}
alive = scores.firing_frequency[scores.firing_frequency > 0].numpy()
figure, axes = plt.subplots(figsize=(7, 2.8))
sns.histplot(x=alive, log_scale=True, bins=50, color=plots.COLOURS["fully trained"], ax=axes)
axes.axvline(scores.l0 / sae.d_sae, color=plots.GREY, linestyle="--")
axes.set(xlabel="share of tokens on which a latent fires", ylabel="latents");

# %% [markdown]
# ## What single latents fire on
#
# The hope behind SAEs is that a latent means something. Here are some, drawn at random from those that fire on at least
# 20 held-out tokens, each with the tokens on which it is most active. The darker the mark, the stronger the activation.
# Do you see what each is about? Would you have seen something in a random one?
# [Frozen Decoder](05_frozen_decoder.ipynb) and the two chapters after it show both side by side.

# %%
latents = draw_latents(sae, held_out, 4, seed=seed)
HTML(contexts_html({"fully trained": top_contexts(sae, store.held_out, latents, lm.tokenizer)}, CREDITS.get(texts, texts)))

# %% [markdown]
# ## Key points
#
# - Superposition: more features than dimensions, on overlapping directions, a few present at a time.
# - An SAE reconstructs an activation from a few directions of a large dictionary; {term}`explained variance` says how well,
#   {term}`L0` with how many.
# - A score means little without what an untrained dictionary, or PCA, scores on the same data.

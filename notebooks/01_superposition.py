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
# ```{admonition} This lesson
# - **You will learn** what an activation, a feature and a sparse autoencoder (SAE) are, and how to read the two numbers that
#   come with every SAE: {term}`L0` and {term}`explained variance`.
# - **You need** nothing from other chapters. Some linear algebra helps: vectors, their lengths, scalar products. The exercises are a few lines of
#   PyTorch, whose tensors work much as NumPy's arrays.
# - **Time** 25 minutes to read, 35 more for the exercises that have a check.
# ```
#
# A language model cuts a text into {term}`tokens <token>`, which are words or pieces of words, and passes them through a
# stack of layers. After each layer it holds a list of numbers for every token: an {term}`activation`. All that the next layers
# can know of a token and its context is in such lists. To learn what a model makes of a text, one has to read them.
#
# A single number in the list seldom means something by itself. What often does is a {term}`direction`: a fixed pattern of numbers,
# written as a vector of length 1, of which an activation holds more or less. How much is the scalar product of the two. A
# direction that stands for one thing in the data, such as *a city*, *the past tense* or *inside a quotation*, is called a
# {term}`feature`.
#
# A layer has a few hundred or thousand dimensions, yet it seems to keep track of far more things than that. One explanation is
# {term}`superposition`: every feature has a direction of its own, and since there are more features than dimensions the
# directions overlap. As long as only a few features are present at a time, the overlap does little harm.
#
# A {term}`sparse autoencoder` (SAE) tries to undo this. It has two parts.
#
# - The {term}`encoder` turns an activation into a longer list of numbers, the {term}`latents <latent>`. Nearly all of them
#   are 0; the few above 0 are said to be *active*, or to *fire*.
# - The *decoder* has a direction for each latent, all together called the {term}`dictionary`. It adds up the directions of the active
#   latents, each as strongly as its latent says. The sum is the *reconstruction*, and training makes it come close to the activation.
#
# The hope is that each latent then stands for one feature of the model, and that people can say which. This chapter goes through it three
# times: by hand, with two numbers and three features; by training, where everything can still be drawn; and on a real language model, where
# nobody knows the features.
#
# The boxes with code were run when this page was built, and what came out stands below each. You may read past the code: the text before
# a box says what it does and what to expect. The first box holds the values that you can change when you run the page yourself
# ([How to run and rerun](../book/howto.md)); the second loads what the rest uses.

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

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from saebook import figures
from saebook.contexts import contexts_html
from saebook.exercises import superposition as exercises
from saebook.setup import HTML, Markdown, language_chapter, show

from saelite import SAE, BatchTopK, FeatureWorld, TopK, arguments, evaluate, nulls, plots, train
from saelite.evaluations.latents import draw_latents, top_contexts
from saelite.metrics import best_cosines, explained_variance
from saelite.reuse import train_or_load
from saelite.synthetic import constant_probabilities

# wrong parameters are refused here, before anything slow runs
arguments.whole(2, 1000, toy_features=toy_features)
chapter = language_chapter(
    model=model, texts=texts, layer=layer, tokens=tokens, architectures=["BatchTopK"], l0=l0, expansion=expansion,
    batch_size=batch_size, epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, d_sae = chapter.lm, chapter.d_sae

# %% [markdown]
# ## By hand: two numbers, three features
#
# Let activations have two numbers, so that each is a point in the plane, and let there be three features, whose directions point at 0, 120 and 240 degrees.
# In the plane at most two directions can stand at right angles. Any two of these three have a {term}`cosine similarity` of $-1/2$ (1 would be the
# same direction, 0 a right angle): they overlap.
#
# Four activations will do: the first feature alone at strength 2, the second alone at 1, the third alone at 1, and the first two
# *together*, each at 1. An SAE that has the features for its dictionary then works like this:
#
# 1. **Encode.** Take the scalar product of the activation with each direction. Keep the largest, if it is positive; every other latent is 0. To keep
#    the $k$ largest is called {term}`TopK`; here $k$ is 1.
# 2. **Decode.** Multiply each direction by its latent, and add up.
#
# **Before you look:** which of the four will not come back as they were? A pencil is enough to work out all four.

# %%
angle = torch.deg2rad(torch.tensor([0.0, 120.0, 240.0]))
three_features = torch.stack([angle.cos(), angle.sin()], dim=1)
strengths = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
four = strengths @ three_features

by_hand = SAE(2, 3, TopK(1), init=three_features)
products = by_hand.pre_activations(four).detach()  # scalar products with each direction
latents = by_hand.encode(four).detach()
back = by_hand.decode(latents).detach()
errors = (four - back).square().sum(dim=1)


def in_brackets(vector):
    return "(" + ", ".join(f"{value:z.2f}".rstrip("0").rstrip(".") for value in vector.tolist()) + ")"


show(
    pd.DataFrame(
        {
            "strengths": [in_brackets(row) for row in strengths],
            "activation": [in_brackets(row) for row in four],
            "scalar products": [in_brackets(row) for row in products],
            "latents": [in_brackets(row) for row in latents],
            "reconstruction": [in_brackets(row) for row in back],
            "squared error": [f"{error:.2f}" for error in errors],
        }
    )
)

# %% [markdown]
# Row by row: are the latents the *strengths* of the three features that went in, and is the reconstruction the activation? Two numbers sum up such a table. {term}`L0`
# counts the latents that are active for an activation, on average. {term}`Explained variance <explained variance>` says how much of the differences
# between activations the reconstruction keeps. With $x$ an activation, $\bar x$ the mean of all, and $\hat x$ the reconstruction, it is
#
# ```{math}
# :label: eq-explained-variance
# 1 - \frac{\sum \lVert x - \hat x \rVert^2}{\sum \lVert x - \bar x \rVert^2}
# ```
#
# or in words: 1 minus a share, which is the sum of squared errors divided by the sum of squared distances from the mean. It is 1 if everything comes back, and 0 for
# always answering with the mean, whatever the activation. In the four activations:

# %% tags=["hide-input"]
spread = (four - four.mean(dim=0)).square().sum()
with_two = SAE(2, 3, TopK(2), init=three_features)
lost = (errors > 1e-6).nonzero().flatten()
Markdown(
    f"{len(four) - len(lost)} of {len(four)} activations come back exactly. Row {lost[0] + 1} does not: it holds two features at once, their directions overlap, "
    "and each hides half of the other, so both scalar products are too small, and only one may be kept. (The two are equal, and either would do; computers round, and here that "
    f"has let latent {latents[lost[0]].argmax() + 1} win.) That is the harm "
    "that superposition does, and it comes only where features meet.\n\n"
    f"The squared errors add up to {errors.sum():.2f}, the squared distances from the mean to {spread:.2f}, so explained variance is "
    f"1 - {errors.sum():.2f} / {spread:.2f} = **{explained_variance(four, back):.2f}**, at an L0 of **{(latents > 0).sum(dim=1).double().mean():.2f}**. "
    f"With up to two active latents (k = 2) it would be {explained_variance(four, with_two(four).detach()):.2f}, at an L0 of "
    f"{(with_two.encode(four) > 0).sum(dim=1).double().mean():.2f}. More active latents make reconstruction easier, so "
    "explained variances can only be compared at one L0."
)

# %% [markdown]
# ## By training: more features than dimensions
#
# By hand we gave the SAE the features. Can it find them by itself, from activations alone? To see, we make samples as above, again in the plane and with
# more features than dimensions. The features stand around a circle, and each is present in one sample out of ten, with a strength near 1. Most samples
# hold no feature or one; some hold two, and then they lie between two directions. Samples that hold none are left out.

# %%
world = FeatureWorld(constant_probabilities(toy_features, 0.1 * toy_features), d_in=2)
angles = 2 * torch.pi * torch.arange(toy_features) / toy_features
world.features = torch.stack([angles.cos(), angles.sin()], dim=1)
points = world.sample(2000, torch.Generator().manual_seed(0))
points = points[points.norm(dim=1) > 0]

# %% [markdown]
# An SAE with one latent for each feature, and one active latent a sample, is shown such points. Its directions start at random (the toy's own
# start, whatever `seed` says). Training shows it batches of samples; after each it moves encoder and decoder a little, so that the squared error
# gets smaller. Each direction of the decoder is kept at length 1. Nobody tells the SAE where the features are.
#
# **Write down a guess before you look:** of the features, how many will have a learned direction right on them? And how would you
# know, if you could not see the grey lines?

# %%
batches = [batch[batch.norm(dim=1) > 0] for batch in world.batches(1024, 400)]


def train_toy(start, bias):
    """An SAE trained on the toy's samples; `start` is the seed of its directions, `bias` says whether its bias may move."""
    sae = SAE(2, toy_features, TopK(1), seed=start)
    sae.b_dec.requires_grad_(bias)
    train(sae, batches, lr=1e-2, progress=False)
    return sae


def draw_toy(sae):
    """Samples, features, and the SAE's directions, each drawn from the point where all of them begin."""
    figure, axes = plt.subplots(figsize=(4.6, 4.6))
    axes.plot(*points[:600].T, ".", color=plots.GREY, alpha=0.35, markersize=4)
    for feature in world.features:
        axes.plot([0, 1.7 * feature[0]], [0, 1.7 * feature[1]], color="#bbbbbb", linewidth=6, zorder=0)
    origin = (sae.b_dec / sae.input_scale).detach()
    for directions, begin, line, colour in ((sae.W_dec_start, torch.zeros(2), "--", "#D55E00"), (sae.W_dec.detach(), origin, "-", "#0072B2")):
        for direction in directions:
            look = {"arrowstyle": "->", "linestyle": line, "color": colour, "lw": 1.8}
            axes.annotate("", (begin + direction).tolist(), begin.tolist(), arrowprops=look)
    axes.set(aspect="equal", xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), xlabel="first dimension", ylabel="second dimension")


toy = train_toy(start=3, bias=False)

# %% mystnb={"image": {"alt": "Scatter plot of two-dimensional samples along the true feature directions, which are drawn as grey lines from the centre. Dashed arrows show the random directions that the decoder started from, solid arrows those it learned."}, "figure": {"name": "fig-toy", "caption": "Samples (dots), true features (grey lines), and the decoder's directions before (dashed) and after training (solid)."}}
draw_toy(toy)

# %% [markdown]
# Each grey line is a feature, each arrow a direction of the dictionary: dashed where it started, solid where training took it. A solid arrow
# that points the way of a grey line has found a feature, wherever it begins; a grey line without one has been missed. In numbers:

# %% tags=["hide-input"]
toy_ev = explained_variance(points, toy(points).detach())
untrained = SAE(2, toy_features, TopK(1), seed=3)
untrained.calibrate(points)
start_ev = explained_variance(points, untrained(points).detach())
toy_best, start_best = best_cosines(world.features, toy.W_dec), best_cosines(world.features, toy.W_dec_start)
near, near_at_start = int((toy_best > 0.95).sum()), int((start_best > 0.95).sum())
Markdown(
    f"The trained SAE explains **{toy_ev:.0%}** of the variance, before training it was {start_ev:.0%}. The *best cosine* of a feature is its cosine to "
    f"the direction nearest to it: {near} of the {toy_features} features have one above 0.95, the worst served has {toy_best.min():.2f}, the mean is "
    f"{toy_best.mean():.2f}. Compare with your guess.\n\n"
    f"And compare with the start. Before any training {near_at_start} of {toy_features} had a best cosine above 0.95, with a mean of {start_best.mean():.2f}: in two dimensions "
    "even a random direction has a good chance to be close to something. So a count means little without the count that luck gives."
)

# %% [markdown]
# ### The bias
#
# SAEs as people train them have one part more: a *{term}`bias`*, the point from which all directions begin, which is added to every reconstruction. Above
# it was held at the mean of the first samples, close to the centre, where the true features begin. Now the same samples, the same start, and a bias
# that may move, as in every other SAE of this book. Nothing keeps it from becoming the SAE above. **Guess again:** will explained variance be
# higher or lower? Will more features be found, or fewer?
#
# In the figure look first at where the solid arrows begin, then at whether each still points the way of a grey line. An arrow that begins elsewhere can
# reach the samples of a feature without pointing the way the feature points.

# %% mystnb={"image": {"alt": "The same scatter plot for an SAE whose bias may move: solid arrows begin at the learned bias instead of the centre."}, "figure": {"name": "fig-toy-bias", "caption": "The same with a bias that may move: the learned directions (solid) begin there."}}
free = train_toy(start=3, bias=True)
draw_toy(free)

# %% tags=["hide-input"]
free_best = best_cosines(world.features, free.W_dec)
Markdown(
    f"The solid arrows begin {(free.b_dec / free.input_scale).norm():.2f} from the centre. Of the {toy_features} features {int((free_best > 0.95).sum())} have an arrow "
    f"that points their way, with a cosine above 0.95; the worst served has {free_best.min():.2f}. The count asks for angles only: it says nothing of whether an "
    "arrow reaches a feature's samples."
)

# %% [markdown]
# One start can be lucky or unlucky. So here are both kinds from several; the one in the pictures has number 3. As before, a feature counts as found
# if its best cosine is above 0.95.

# %%
rows = []
for start in range(6):
    row = {"start": start}
    for name, bias in (("bias held", False), ("bias trained", True)):
        one = train_toy(start, bias)
        row[f"features found, {name}"] = int((best_cosines(world.features, one.W_dec) > 0.95).sum())
        row[f"explained variance, {name}"] = explained_variance(points, one(points).detach())
    rows.append(row)
starts = pd.DataFrame(rows)
show(starts)

# %% tags=["hide-input"]
found = starts[[f"features found, {name}" for name in ("bias held", "bias trained")]].mean()
better = starts["explained variance, bias trained"] >= starts["explained variance, bias held"]
lost = starts["features found, bias trained"] < starts["features found, bias held"]
fewer = (better & lost).sum()
Markdown(
    f"Of {toy_features} features {found.iloc[0]:.1f} are found on average with the bias held, {found.iloc[1]:.1f} with the bias trained. Explained variance is at "
    f"least as high with the bias trained in {better.sum()} of {len(starts)} starts; in {fewer} of these *fewer* features are found. Training is asked for small errors and "
    "for nothing else. Where there is another way to small errors than through the features, it may well take that one, and the score will not tell. "
    "Whether this matters in hundreds of dimensions, with far more features, a picture in the plane cannot say"
    + ("; that it can happen is the reason for this book." if fewer else ".")
)

# %% [markdown]
# On the toy we can check the dictionary against the truth. On a language model nobody can: the true features are not
# known, if there are such things at all. What is left are scores that need no truth, and the question of this book is
# what those scores are worth.
#
# ## A real language model
#
# We run a small language model over Wikipedia extracts, up to one layer, and keep the activations there: one for every token. The model reads the
# texts in rows of some length. The first position of each row is dropped, since it often holds an outlier, a very long activation that says nothing
# about the text. A tenth of the texts is *held out*: the SAE never sees them in training, and every score below is measured on them.

# %%
store, _ = chapter.harvest()
held_out, documents = store.held_out[:], store.held_out.documents
Markdown(
    f"{len(store):,} activations of `{model}`, layer {layer}, with {store.d_in} dimensions: {len(store.train):,} to train "
    f"on and {len(store.held_out):,}, from other texts, to test on. {store.record['dropped']:,} first positions were dropped."
)

# %% [markdown]
# Three scores that need no SAE training come first, called {term}`nulls <null>`; an SAE has to be read against them. Two of them are
# {term}`floors <floor>`, what is had without any skill. *Mean prediction* always answers with the average activation, so its explained variance should
# be about 0. The *random dictionary* is an SAE that was never trained: its directions are random, each token uses those that match it best, and one
# common scale factor is fitted. The third, {term}`PCA`, is a {term}`yardstick`, a plain method that an SAE should beat: it describes each token by as many numbers as
# the SAE has active latents, always along the same directions. *low* and *high* bound the 95% interval: if test texts are drawn again
# and again from ours, with replacement, 95% of the scores lie between the two ({term}`bootstrap confidence interval`). *l0* and *dead*, the share
# of latents that never fired, are those of the random dictionary.

# %%
floor = nulls(store.train[:50_000], held_out, l0=l0, d_sae=d_sae, groups=documents)
show(floor)

# %% [markdown]
# Now an SAE is trained, with {term}`BatchTopK`: in a batch of n tokens the n x L0 largest latents are kept, so one token may have more active latents than another.
# It starts as a random dictionary. **Write down a guess:** what share of the variance will it explain in the end, and will that be above PCA?

# %%
sae = SAE(lm.d_model, d_sae, BatchTopK(l0), seed=seed)
history = train_or_load(sae, store.batches(batch_size, epochs=epochs), lr=lr)
scores = evaluate(sae, held_out, documents)

# %% mystnb={"image": {"alt": "Line chart of explained variance against the number of activations seen in training; horizontal lines mark PCA and the random dictionary."}, "figure": {"name": "fig-first-sae", "caption": "Explained variance of training batches while the SAE trains. Horizontal lines: the nulls on held-out tokens."}}
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(history["samples"], history["explained_variance"], color=plots.COLOURS["fully trained"], label="SAE")
for row, line in zip(floor.itertuples(), ("--", ":", "-."), strict=True):
    if row.null != "mean prediction":
        axes.axhline(row.explained_variance, color=plots.GREY, linestyle=line, label=row.null)
axes.set(xlabel="activations seen in training", ylabel="explained variance", ylim=(0, 1))
axes.xaxis.set_major_formatter(figures.thousands())
axes.legend();

# %% [markdown]
# What to see in the curve: where it starts, whether it passes the horizontal lines, and whether it has become flat by the end. The
# curve is of training batches; what counts is the score on held-out tokens.

# %% tags=["hide-input"]
pca, chance = (floor.set_index("null")["explained_variance"].filter(like=name).item() for name in ("PCA", "random"))
Markdown(
    f"On held-out tokens the SAE explains **{scores.explained_variance:.3f}** of the variance "
    f"(95% interval over texts {scores.low:.3f} to {scores.high:.3f}), with {scores.l0:.1f} active latents a token; "
    f"{scores.dead:.1%} of its {sae.d_sae:,} latents never fired there. PCA with the same number of components explains "
    f"{pca:.3f}, an untrained dictionary {chance:.3f}. Training moved the directions of the latents "
    f"that fire to a median cosine of {sae.cosine_to_start()[scores.firing_frequency > 0].median():.2f} with their start.\n\n"
    f"So training {'adds' if scores.low > chance else 'does not visibly add'} to what a random dictionary explains"
    + (f" ({scores.explained_variance - chance:+.3f})" if scores.low > chance else "")
    + f", and the SAE is {'above' if scores.explained_variance > pca else 'below'} PCA. That says how well it reconstructs. Whether its directions "
    "are features of the model is another question, and no number on this page answers it."
)

# %% [markdown]
# How often does each latent fire? If a latent stands for one thing, its {term}`firing frequency` should be that thing's: low for
# most, high for a few. Frequencies spread over orders of magnitude, so the axis is logarithmic. Beside it stands the same for the random
# dictionary, which has learned nothing. What differs between the two?

# %% mystnb={"image": {"alt": "Two histograms of the share of held-out tokens on which each latent fires, on a logarithmic axis: filled for the trained SAE, an outline for an untrained random dictionary, with a line at the trained SAE's mean."}, "figure": {"name": "fig-frequency-of-latents", "caption": "Share of held-out tokens on which each latent fires, for the trained SAE and for a random dictionary; latents that never fired are left out. The line is the trained SAE's mean, L0 divided by the number of latents."}}
no_training = SAE(lm.d_model, d_sae, TopK(l0), seed=seed).eval()
no_training.calibrate(store.train[:4096])
frequencies = {"trained SAE": scores.firing_frequency, "random dictionary": evaluate(no_training, held_out, documents).firing_frequency}
frequencies = {name: of_latents[of_latents > 0].numpy() for name, of_latents in frequencies.items()}
figure, axes = plt.subplots(figsize=(7, 2.8))
bins = np.geomspace(1 / len(held_out), 1, 51)
axes.hist(frequencies["trained SAE"], bins, color=plots.COLOURS["fully trained"], alpha=0.7, label="trained SAE")
axes.hist(frequencies["random dictionary"], bins, color=plots.GREY, histtype="step", linewidth=1.8, label="random dictionary")
axes.axvline(scores.l0 / sae.d_sae, color=plots.GREY, linestyle="--")
axes.set(xlabel="share of tokens on which a latent fires", ylabel="latents", xscale="log")
axes.legend();

# %% tags=["hide-input"]
lines = []
for name, of_latents in frequencies.items():
    rare, middle, common = np.quantile(of_latents, [0.1, 0.5, 0.9])
    lines.append(
        f"- {name}: {len(of_latents):,} of {sae.d_sae:,} latents fired on some held-out token, half of these on less than {middle:.2%} of "
        f"the tokens; from the rarest tenth to the commonest, frequency grows from {rare:.3%} to {common:.2%}, by a factor of {common / rare:,.0f}"
    )
Markdown(
    "\n".join(lines) + "\n\nSo L0 is an average over tokens, made up by other latents from token to token: far more of them are in use than are active at once. "
    "A wide spread fits the hope that latents stand for rare and common things. As evidence it counts only for what it has beyond the random dictionary's."
)

# %% [markdown]
# ## What single latents fire on
#
# The hope behind SAEs is that a latent means something. Here are some, drawn at random from those that fire on at least 20 held-out tokens, each
# with the tokens on which it is most active. The darker the mark, the stronger the activation. Write down in two words what each is about. Would
# you have seen something in a random one, too? [Frozen Decoder](05_frozen_decoder.ipynb) and the two chapters after it show both side by side.

# %%
latents = draw_latents(sae, held_out, 4, seed=seed)
contexts = top_contexts(sae, store.held_out, latents, lm.tokenizer)
HTML(contexts_html({"fully trained": contexts}, chapter.credit))

# %% tags=["hide-input"]
text = "In a run as small as this no latent fires often enough to be looked at."
if len(contexts):
    firing = contexts.groupby("latent")["frequency"].first() * len(held_out)
    text = (
        f"Before you trust what you saw: these latents fire on {firing.min():,.0f} to {firing.max():,.0f} held-out tokens each, and you were shown "
        f"at most {contexts.groupby('latent').size().max()} of them, the strongest. What a latent does on the others may be something else."
    )
Markdown(text)

# %% [markdown]
# ## What would change my mind
#
# The claim is that an SAE finds directions which are in the data. In the plane, {numref}`fig-toy` can speak to it. The claim gains weight where a
# solid arrow lies on a grey line on which no dashed one lay. It loses weight where solid arrows end between the lines, or where the dashed ones
# were on them before any training. {numref}`fig-toy-bias` asks whether that depends on a detail of the SAE, the bias. On the language model,
# {numref}`fig-first-sae` can only hint: the claim gains a little if the SAE ends far above the random dictionary, and loses a lot if it does not.
# Even then, it may have found other directions than the model's.

# %% [markdown]
# ## Exercises
#
# To do them, open this notebook without its solutions: the box below the parameters links to it. There each exercise has a function to fill in, and
# a cell below it that says what is wrong. On this page the solutions are folded away, and the checks have run on them. Do the easy one in any case;
# the hard one is for whoever has time.
#
# ```{exercise} Explained variance, by yourself
# :label: ex-share-explained
#
# *Easy, 5 minutes.* Write `share_explained(x, x_hat)` after {eq}`eq-explained-variance`, for activations `x` and reconstructions `x_hat`, both of shape (n, d).
# Which mean, and what is summed before what is divided? Libraries for SAEs differ in just this, and report different scores of the same SAE.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def share_explained(x, x_hat):
    # BEGIN SOLUTION
    lost = (x - x_hat).square().sum()
    spread = (x - x.mean(dim=0)).square().sum()
    return 1 - lost / spread
    # END SOLUTION


# %% tags=["check"]
exercises.check_share_explained(share_explained)

# %% [markdown]
# Your function on this page's SAE and held-out tokens, and again without the mean in the denominator, as it is often written by mistake:

# %% tags=["hide-input"]
with torch.no_grad():
    x_hat = torch.cat([sae(part) for part in held_out.split(4096)])
from_zero = 1 - (held_out - x_hat).square().sum() / held_out.square().sum()
always_mean = 1 - (held_out - held_out.mean(dim=0)).square().sum() / held_out.square().sum()
Markdown(
    f"Yours gives {share_explained(held_out, x_hat):.3f}. Counted from zero instead of from the mean it would be {from_zero:.3f}. But so counted, always "
    f"answering with the mean already scores {always_mean:.3f}, which is why the mean belongs in it."
)

# %% [markdown]
# ```{exercise} An encoder, by yourself
# :label: ex-encode
#
# *Medium, 10 minutes.* Write `encode(x, directions, k)`: for activations `x` (n, d) and `directions` (m, d) of length 1, the latents (n, m) of a
# TopK SAE. In each row the `k` largest scalar products are kept, if positive; all else is 0. Try it on the four activations of the table above
# first: `encode(four, three_features, 1)`. The method `topk` of a tensor gives the largest values of each row and where they stand.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def encode(x, directions, k):
    # BEGIN SOLUTION
    products = x @ directions.T
    top = products.topk(k, dim=1)
    return torch.zeros_like(products).scatter(1, top.indices, top.values.clamp(min=0))
    # END SOLUTION


# %% tags=["check"]
exercises.check_encode(encode)

# %% [markdown]
# With your encoder and no training at all, the samples of {numref}`fig-toy` under three dictionaries:

# %% tags=["hide-input"]
scored = {
    name: explained_variance(points, encode(points, directions, 1) @ directions)
    for name, directions in {"the true features": world.features, "the random start": toy.W_dec_start}.items()
}
scored["the trained SAE with its own encoder, bias held"] = toy_ev
scored["the same with the bias trained"] = free_ev = explained_variance(points, free(points).detach())
text = "Explained variance:\n\n" + "\n".join(f"- {name}: {score:.3f}" for name, score in scored.items())
behind, found = scored["the true features"] - free_ev, int((free_best > 0.95).sum())
if behind < 0.01 and found < toy_features:
    text += (
        f"\n\nWith its bias trained the SAE {f'scores {behind:.3f} below' if behind >= 0.0005 else 'scores as high as'} the true features, and points the way of {found} of "
        f"the {toy_features}. So a good score is no proof of good directions."
    )
Markdown(text)

# %% [markdown]
# ```{exercise} Found by luck
# :label: ex-found-by-luck
#
# *Hard, 20 minutes.* In the plane a random direction is near to a feature quite often. Write `found_by_luck(n, bar)`: the probability that at least
# one of `n` independent random directions has a cosine above `bar` to one given feature. A direction's angle is uniform on the circle. That is the
# {term}`floor` of the toy.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def found_by_luck(n, bar):
    # BEGIN SOLUTION
    near = torch.arccos(torch.tensor(bar)) / torch.pi  # twice the angle, of 2 pi
    return 1 - (1 - near) ** n
    # END SOLUTION


# %% tags=["check"]
exercises.check_found_by_luck(found_by_luck)

# %% tags=["hide-input"]
by_luck = float(found_by_luck(toy_features, 0.95))
Markdown(
    f"Of the toy's {toy_features} features {by_luck * toy_features:.1f} are expected to have a random direction within a cosine of 0.95; this start had "
    f"{near_at_start}, and after training it is {near}. With 20 features and 20 directions luck alone would find "
    f"{float(found_by_luck(20, 0.95)):.0%} of them, so the same count would mean next to nothing. In more dimensions luck is rarer by far: "
    "the next chapter measures it in a hundred."
)

# %% [markdown]
# To see it in a picture, rerun this notebook with `-p toy_features 12`, and ask of each solid arrow whether you could tell it from luck.

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. An SAE with thousands of latents has an L0 of 40. Does it use 40 of its latents?
# No. L0 counts the active latents of *one* activation, on average. The next token has others, and over a text most of the dictionary may be used. A
# latent that is active on none of many activations is called dead; how many are is a number of its own.
# ```
#
# ```{dropdown} 2. Any point of the plane is a sum of two directions. So what could a third direction add?
# To write a point down, nothing. But with two directions nearly every point needs both, and the third feature would be a mixture that is always present. With three
# directions, a sample that holds one feature needs one direction. What the extra directions buy is sparsity, and so the chance that a latent stands for one thing.
# ```
#
# ```{dropdown} 3. An SAE explains 80% of the variance. Is that good?
# It cannot be said without two more numbers: its L0, since more active latents reconstruct more, and what a null explains there. If an untrained
# dictionary has 75% at the same L0, training has added little; if it has 20%, a lot. And even then it is a score of reconstruction, which
# directions that are no features can reach as well.
# ```

# %% [markdown]
# ## Key points
#
# - An activation is the list of numbers that a model holds for one token; a feature is thought to be a direction among such lists.
# - Superposition: more features than dimensions, on overlapping directions, a few present at a time.
# - An SAE reconstructs an activation from a few directions of a large dictionary; {term}`explained variance` says how well,
#   {term}`L0` with how many.
# - A score means little without what an untrained dictionary, or PCA, scores on the same data.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`gao2024scaling`: TopK SAEs from small to very large, dead latents, and how they are scored.
# - {cite:t}`bussmann2024batchtopk`: the architecture that this page trains on the language model.
# - {cite:t}`karvonen2025saebench`: the scores that people use to compare SAEs, all in one place.
# - {cite:t}`korznikov2026sanity`: the paper that this book tests, and its reasons to doubt those scores.

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
# ```{admonition} This lesson
# - **You will learn** three controls that randomise the data instead of the SAE, what each of them leaves in place, and how to read a
#   score on data that are easier for everyone.
# - **You need** [Frozen Decoder](05_frozen_decoder) and [Auto-interpretability](10_autointerp): {term}`explained variance`, {term}`null`,
#   {term}`auto-interpretability`.
# - **Time** 15 minutes to read, 15 more for the exercises that have a check.
# ```
#
# {cite:t}`korznikov2026sanity` randomise the *SAE*. One can also randomise what it is trained on:
#
# - **A model that never learned anything.** All weights of the language model are drawn anew at random (it is *re-initialised*).
#   {cite:t}`heap2025random` report that on a model of 6.9 billion parameters auto-interpretability barely tells SAEs on such a model from SAEs on a
#   trained one; on small models they do find a difference.
# - **{term}`Activations <activation>` without structure.** Each coordinate keeps its values, but they are shuffled over {term}`tokens <token>`, each coordinate
#   on its own. Whatever {term}`direction` stood for something is gone.
# - **Another seed.** If an SAE finds the model's {term}`features <feature>`, two SAEs that differ in the seed should find the same ones.
#   {cite:t}`paulo2025seeds` found some 30% of {term}`latents <latent>` in common, at a much larger size.
#
# **Write down three guesses:** on a model with random weights, does an SAE explain more of the variance than on the trained model, or
# less? Are its latents harder to describe? And of the latents of two SAEs that differ in the {term}`seed`, how many are shared?

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

# %% tags=["hide-input"]
import pandas as pd
import torch
from saebook.exercises import controls as exercises
from saebook.setup import Markdown, keep, language_chapter, show

from saelite import AutoInterp, FrozenDecoder, arguments, harvest, nulls
from saelite.data.batches import batches
from saelite.evaluations.judges import LexicalJudge
from saelite.grid import fit_and_test
from saelite.null_models import permuted, reinitialised, shared_latents
from saelite.reuse import over
from saelite.statistics import contrast, summarise

# wrong parameters are refused here, before anything slow runs
arguments.whole(1, latents=latents)
chapter = language_chapter(
    model=model, texts=texts, documents=documents, layer=layer, site=site, tokens=tokens, harvest_context=harvest_context,
    architectures=[architecture], l0=l0, expansion=expansion, batch_size=batch_size, lr=lr, seed=seed,
)  # fmt: skip
lm, d_sae, (activation,) = chapter.lm, chapter.d_sae, chapter.activations

# %% [markdown]
# ## Three kinds of activations
#
# The same texts, the same layer, the same number of tokens. The shuffled ones are made of the trained model's.

# %%
TRAINED, RANDOM, SHUFFLED = "trained model", "re-initialised model", "shuffled coordinates"
stores = {
    kind: harvest(one, chapter.corpus, layer=layer, site=site, tokens=tokens, context=harvest_context)
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
# Read each score against the nulls *of its own data*: data that fill fewer dimensions are easier for everyone. In the table compare, within each
# kind of data, the fully trained SAE with the best null ({term}`PCA`, or a *random* {term}`dictionary`: an SAE that was never trained), before you compare one kind with another.

# %%
variants = [("fully trained", activation, None, "iso"), ("Frozen Decoder", activation, FrozenDecoder(), "iso")]
saes, tables = {}, []
for kind, (train, test) in data.items():
    trained, _, table = fit_and_test(variants, batches(train, batch_size, seed=seed), test, d_sae=d_sae, seed=seed, lr=lr)
    saes |= {(kind, baseline): sae for (_, baseline), sae in trained.items()}
    floor = nulls(train[:50_000], test, l0=l0, d_sae=d_sae, seed=seed + 100)
    floor = floor[floor["null"] != "mean prediction"].rename(columns={"null": "baseline"})
    tables.append(pd.concat([table, floor]).assign(data=kind))
everything = pd.concat(tables)[["data", "baseline", "explained_variance", "low", "high", "l0", "dead", "cosine_to_start"]]
show(everything)

# %% tags=["hide-input"]
ev = everything.set_index(["data", "baseline"])["explained_variance"]
printed = ev.round(3)  # so that a difference is that of the numbers beside it
lines = []
for kind in data:
    pca = next(name for name in ev[kind].index if name.startswith("PCA"))
    lines.append(
        f"- **{kind}**: fully trained {ev[kind, 'fully trained']:.3f}, Frozen Decoder {ev[kind, 'Frozen Decoder']:.3f}, {pca} "
        f"{ev[kind, pca]:.3f}, random dictionary {ev[kind, 'random dictionary']:.3f}; training the decoder's directions adds "
        f"{printed[kind, 'fully trained'] - printed[kind, 'Frozen Decoder']:+.3f}."
    )
text = "The re-initialised model holds the same vector everywhere: there was nothing to explain."
if RANDOM in data:
    more = printed[RANDOM, "fully trained"] - printed[TRAINED, "fully trained"]
    text = (
        f"Your first guess: on the re-initialised model the fully trained SAE explains {abs(more):.3f} {'more' if more > 0 else 'less'} than on the "
        "trained one. Before you take that for a finding about the SAE, see by how much the nulls differ too."
    )
Markdown("\n".join(lines) + "\n\n" + text)

# %% [markdown]
# ## Can their latents be described?
#
# The lexical judge of [Auto-interpretability](10_autointerp.ipynb) describes a latent by the words that raise it and is then asked where it fires.
# A description needs text, so the shuffled activations, which belong to no token any more, have no part in this. Each score stands beside the one
# with shuffled descriptions, its {term}`floor`.

# %%
judged = []
for kind, store in stores.items():
    if kind in data:
        evaluation = AutoInterp(store, [LexicalJudge()], lm.tokenizer, l0=l0, d_sae=d_sae, n_latents=latents, tokens_scored=tokens)
        of_kind = {(architecture, baseline): saes[kind, baseline] for baseline in ("fully trained", "Frozen Decoder")}
        judged.append(over(of_kind, evaluation).assign(data=kind))
judged = pd.concat(judged) if judged else pd.DataFrame()
described = summarise(judged, ["data", "baseline", "metric"]) if len(judged) else pd.DataFrame(columns=["data", "baseline", "metric", "score"])
whose = described["metric"].str.endswith("shuffled descriptions").map({True: "shuffled", False: "its own"})
show(described.assign(metric=whose).rename(columns={"metric": "description"}))

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
# Latents of two SAEs are matched one to one; a pair is *shared* if both its decoder and its {term}`encoder` directions have a cosine
# above 0.7. Two {term}`Frozen Decoders <Frozen Decoder>` with different seeds show what chance gives. Beside the share stands the mean cosine of the
# matched pairs, which needs no threshold.

# %%
other, _, _ = fit_and_test(
    variants, batches(data[TRAINED][0], batch_size, seed=seed), data[TRAINED][1], d_sae=d_sae, seed=seed + 1, lr=lr
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

# %% tags=["hide-input"]
keep("controls", everything)
keep("controls_described", described)
keep("controls_seeds", overlap)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that the usual scores show features that the *model* has learned. It would gain weight if three things held: on the
# re-initialised model and on shuffled coordinates the trained SAE is no better than the nulls of those data; its latents there cannot be described;
# and two seeds share most of their latents. It would lose weight if a model that learned nothing gave scores as good, or if two seeds shared hardly
# more than two Frozen Decoders do. The lines under each table say which; they need not agree, and each control speaks for its own score alone.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Easy data
# :label: ex-above-null
#
# *Easy, 5 minutes.* Data that fill few dimensions are easy for everyone. Write `above_null(score, nulls)`: of the room between the best of the
# nulls (a list of scores) and 1, the share that the score has.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def above_null(score, nulls):
    # BEGIN SOLUTION
    return (score - max(nulls)) / (1 - max(nulls))
    # END SOLUTION


# %% tags=["check"]
exercises.check_above_null(above_null)

# %% [markdown]
# The three kinds of activations on that scale. Is the order the same as that of the raw scores?

# %% tags=["hide-input"]
trained_ones, lines = ("fully trained", "Frozen Decoder"), []
for kind in data:
    floors = [0.0, *(score for baseline, score in ev[kind].items() if baseline not in trained_ones)]  # 0: always the mean
    shares = ", ".join(
        f"{baseline} {ev[kind, baseline]:.3f}, which is {above_null(ev[kind, baseline], floors):+.0%} of the room" for baseline in trained_ones
    )
    lines.append(f"- **{kind}** (best null {max(floors):.3f}): {shares}")
Markdown("\n".join(lines) + "\n\nBelow 0% an SAE explains less than the best null of its own data.")

# %% [markdown]
# ```{exercise} Make the control yourself
# :label: ex-shuffled
#
# *Medium, 10 minutes.* Write `shuffled(x, seed)`: activations (n, d) in which every coordinate keeps its values, but has them in an order of its own
# over the tokens. It is easy to write a shuffle that destroys nothing.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def shuffled(x, seed):
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([column[torch.randperm(len(x), generator=generator)] for column in x.T], dim=1)
    # END SOLUTION


# %% tags=["check"]
exercises.check_shuffled(shuffled)

# %% [markdown]
# What it takes away, and what it leaves: the share of the variance that the first principal components hold, and the share that the coordinate with
# the largest variance holds.

# %% tags=["hide-input"]
lines = []
for label, x in {"as they are": data[TRAINED][1][:4000], "shuffled": shuffled(data[TRAINED][1][:4000], seed)}.items():
    covariance = torch.cov(x.T.double())
    largest, total = torch.linalg.eigvalsh(covariance).flip(0), covariance.trace()
    lines.append(
        f"- {label}: the first {l0} components {largest[:l0].sum() / total:.1%}, the first alone {largest[0] / total:.1%}, the coordinate that varies "
        f"most {covariance.diagonal().max() / total:.1%}"
    )
Markdown(
    "\n".join(lines) + "\n\nThe shuffle cannot change the last number. Where it is large, a single coordinate towers above the others, and no shuffling of "
    "coordinates takes that away: this control removes what coordinates have to do with each other, not everything that is easy."
)

# %% [markdown]
# ```{exercise} One start, two orders
# :label: ex-one-start
#
# *Hard, 20 minutes and some waiting.* The two SAEs above differ in the random directions that they start from. Suppose that somebody tests "another
# seed" by changing only the order of the training data. Predict what share of latents is shared then, fully trained and Frozen Decoder. Then try it
# in a copy of this notebook: in the cell that makes `other`, give `batches` the seed `seed + 1` and `fit_and_test` the old `seed`.
# ```
#
# ```{dropdown} What to look for
# The Frozen Decoders now have the very same directions, so their mean cosine says nothing any more; only the encoders can differ. And every latent
# of the fully trained SAEs that hardly moved from its start, dead ones above all, has its twin in the other SAE. What is shared is then partly the
# *start*. The null for this test has to share the start too: two SAEs trained for a few steps only.
# ```

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. An SAE on a re-initialised model explains more than one on the trained model. Are random models easier to understand?
# No. Activations of a random model may fill few dimensions, so that even {term}`PCA` explains them. Set each score beside the nulls of its own data before
# you compare two kinds of data.
# ```
#
# ```{dropdown} 2. Latents on the random model can be described as well as those on the trained one. So was the test of descriptions worthless?
# It shows that the score does not need anything that the model learned: words that recur give recurring activations even in a random network. The
# score may still be right about *when* a latent fires. It is no evidence about what the model computes.
# ```
#
# ```{dropdown} 3. Two seeds share few latents. Has the SAE failed?
# It shows that the latents are not *the* features of the model, each found by any run. They may still be a usable description, one of many. And a low share can come
# from short training, or from a strict threshold: that is what the mean cosine and the Frozen Decoders' row are for.
# ```

# %% [markdown]
# ## Key points
#
# - A score that is as high on a model that learned nothing speaks of the data, the {term}`architecture` or the judge, not of
#   features that the model learned.
# - Explained variance keeps its meaning on any activations, but compare it with the nulls of the same activations.
# - Two runs that differ in the seed are the cheapest test of whether a latent is the model's or the run's.
# - Know what a control leaves in place. A shuffle that keeps tokens whole, or a second seed that keeps the start, controls for nothing.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`heap2025random`: SAEs on language models with random weights, and milder forms of randomising that keep more and more of the trained model.
# - {cite:t}`paulo2025seeds`: how latents of two seeds are matched, and the share that is found on larger models and several architectures.
# - {cite:t}`kantamneni2025probing`: the other kind of control, a strong and simple method on the same task.

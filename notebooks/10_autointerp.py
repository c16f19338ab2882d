# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Auto-interpretability
#
# ```{admonition} This lesson
# - **You will learn** how latents are described and how descriptions are tested, what a judge scores who knows nothing, and
#   what such a score says of the encoder and not of the decoder.
# - **You need** [Frozen Decoder](05_frozen_decoder): {term}`latent`, {term}`encoder`, {term}`floor`.
# - **Time** 25 minutes to read, 35 more for the exercises.
# ```
#
# Can one say in words what a {term}`latent` is about? A judge reads the passages on which a latent is strongest and
# describes it. Then it gets other passages, half of which make the latent fire, and says from the description alone
# which. The share that it gets right is the latent's {term}`auto-interpretability` score. Guessing gets 0.5.
#
# The paper's judge is a language model, GPT-4o-mini, and gives latents of a fully trained {term}`BatchTopK` SAE 0.90 on average and those of its
# {term}`Soft-Frozen Decoder` 0.88 ({cite:t}`korznikov2026sanity`; detection as in {cite:t}`paulo2024autointerp`). What does such a score claim? That the
# description tells when the latent fires. Not that the latent matters to the model, nor that its {term}`decoder direction` was learned: the decoder
# plays no part in when a latent fires.
#
# This book has to run with no network, so its default judges are two simple stand-ins, and every number says which
# judge made it.
#
# - The **lexical** judge describes a latent by a few words (a {term}`token`, or two in a row) and looks for them.
# - The **embedding** judge describes it by the mean of sentence embeddings, and looks for passages near there. A *sentence embedding* is a list of
#   numbers that a small language model gives a passage, so that passages on like subjects lie near each other.
#
# Each sees one kind of regularity only, so its scores are lower than a language model's need be, and are not to be set beside
# the paper's digit by digit.
#
# **Before you read on, write down two guesses:** which of the five variants below (fully trained, two {term}`Frozen Decoders <Frozen Decoder>`, Soft-Frozen
# Decoder, {term}`Frozen Encoder`) has the latents that are easiest to describe? And what does an SAE score that was never trained?

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
seed: int = 0  # seed of the random directions and of all that is drawn
judge: str = "lexical, embedding"  # judges, with commas between: lexical, embedding, or a language model at judge_url
judge_url: str = "https://api.openai.com/v1"  # OpenAI-compatible address; its key comes from OPENAI_API_KEY
input_price: float = 0.0  # of a million tokens sent to a language model that judges, in any currency
output_price: float = 0.0  # of a million tokens received from it
tokens_scored: int = 100_000  # tokens that passages are cut from, counted from the end: the held-out tenth and more
latents: int = 100  # latents drawn of each SAE
described_by: int = 15  # passages that a description is made from
tested_on: int = 50  # passages of each kind, firing and silent, in a test
margin: float = 0.03  # a difference in score below this is of no interest
rounds: int = 3  # rounds of the game "which of these two is the trained SAE?"
browsed: int = 20  # latents of each variant to look through on the page

# %% tags=["hide-input"]
import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from saebook.contexts import activation_histograms, contexts_html
from saebook.exercises import autointerp as exercises
from saebook.interactive import latent_browser
from saebook.setup import HTML, Markdown, keep, language_chapter, show

from saelite import AutoInterp, arguments, evaluate, plots
from saelite.evaluations.autointerp import DECILES
from saelite.evaluations.judges import EmbeddingJudge, LexicalJudge
from saelite.evaluations.latents import draw_latents, logit_effect, top_contexts
from saelite.evaluations.llm_judge import LLMJudge
from saelite.reuse import over, references
from saelite.statistics import contrast, summarise

# wrong parameters are refused here, before anything slow runs
arguments.whole(1, tokens_scored=tokens_scored, latents=latents, described_by=described_by, tested_on=tested_on, rounds=rounds)
arguments.between(0, 1e9, input_price=input_price, output_price=output_price)
arguments.above(0, margin=margin)
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, activations, d_sae = chapter.lm, chapter.activations, chapter.d_sae
embedded = {"lexical": LexicalJudge, "embedding": EmbeddingJudge}
prices = {"input_price": input_price, "output_price": output_price}
judges = [
    embedded[name]() if name in embedded else LLMJudge(name, judge_url, **prices)
    for name in dict.fromkeys(part.strip() for part in judge.split(",") if part.strip())
]

# %% [markdown]
# The SAEs are those of the chapters before: each {term}`architecture` fully trained, and with four baselines. Of the paper's baselines one is left out, the
# Frozen Encoder with `cov` {term}`directions <direction>`, whose {term}`explained variance` falls to 0.11 and below on layer 12 of Gemma-2-2B in the paper's table.

# %%
store, _ = chapter.harvest()
saes, _ = chapter.train_grid()

# %% [markdown]
# ## The protocol
#
# Rows of text are cut into passages of at most 32 tokens. A latent fires on a passage if it does so on any token; how
# strongly is the largest of its {term}`activations <activation>` there. Latents are drawn at random among those that fire often enough to be described
# and tested. Half of the *texts* serve for descriptions and the other half for tests, so that a judge cannot score by
# recognising an article. The firing passages of a test are of varied strength, weak ones and strong ones alike: a
# description that fits a latent's strongest passages alone is not a description of the latent.

# %%
interp = AutoInterp(
    store, judges, lm.tokenizer, l0=l0, d_sae=d_sae, n_latents=latents, n_describe=described_by, n_test=tested_on,
    min_test=max(1, min(10, tested_on // 2)), tokens_scored=tokens_scored, seed=seed,
)
items, yardsticks = over(saes, interp), references(interp)
some = "".join(f"<li>{html.escape(passage.text)}</li>" for passage in interp.passages[:3])
HTML(f"<p>{len(interp.passages):,} passages, such as</p><ul>{some}</ul><p class='credit'>Text: {html.escape(chapter.credit)}</p>")

# %% [markdown]
# ## What is left out
#
# A latent that is too rare cannot be described or tested, and one that fires on nearly every passage cannot be tested either. So the score speaks
# of the *eligible* ones. Rarer ones among them are tested on fewer passages than the rest, always with as many silent ones. An SAE with few
# eligible latents is judged by a selection. In the table
#
# - *alive* counts the latents that fire at all, *eligible* those that could be tested, *scored* those that were drawn and tested;
# - *fewest_tests* is how many passages the rarest of them got;
# - *malformed* and *unanswered* count answers that could not be read. Only a language model as judge gives such answers, so the two stand
#   there only with one.

# %%
NAMES = ["architecture", "baseline"]
own = items[~items["metric"].str.endswith("shuffled descriptions")]
left_out = own.groupby(NAMES, sort=False).agg(
    alive=("alive", "first"), eligible=("eligible", "first"), scored=("item", "nunique"),
    fewest_tests=("tests", "min"), malformed=("malformed", "sum"), unanswered=("unanswered", "max"),
).reset_index()
missing = [", ".join(key) for key in saes if key not in set(zip(own["architecture"], own["baseline"], strict=True))]
if not any(isinstance(one, LLMJudge) for one in judges):
    left_out = left_out.drop(columns=["malformed", "unanswered"])
show(left_out) if len(left_out) else Markdown("No SAE has a latent that fires often enough to be scored.")

# %%
said = [f"- Every SAE has {d_sae:,} latents."]
said += [f"- Of {name} no latent fires often enough to be scored: it is left out below." for name in missing]
for one in judges:
    if isinstance(one, LLMJudge):
        said.append(f"- What {one.name} took in this run (answers of earlier runs come from the cache): {one.usage()}.")
if not missing:
    said.append("- No SAE had to be left out.")
Markdown("\n".join(said))

# %% [markdown]
# ## The scores
#
# Two floors stand beside each score. *Shuffled descriptions*: each latent is tested with the description of another latent of the same SAE, which
# shows what the judge gets without knowing anything of the latent. *Untrained SAE*: a random {term}`dictionary`, calibrated and never trained; its latents
# are random directions of the activation space, so what it scores above 0.5 is owed to the language model, the text and the protocol. *Neurons* are
# the coordinates of the activations themselves: a {term}`yardstick` that an SAE should beat. There is no {term}`ceiling` but 1. The three tables are the scores,
# the references without training, and the shuffled descriptions.

# %%
scores = summarise(own, [*NAMES, "metric"])
above = own.assign(above=own["score"] > 0.7).groupby([*NAMES, "metric"], sort=False)["above"].mean()
scores = scores.merge(above.rename("share above 0.7").reset_index())


def by_judge(table):
    """A table with the judge, and whose description was tested if that varies, in place of the name of the metric."""
    judge = table["metric"].str.extract(r"\((.+)\)", expand=False)
    whose = table["metric"].str.endswith("shuffled descriptions").map({True: "shuffled", False: "its own"})
    table = table.drop(columns="metric").assign(judge=judge, **({"description": whose} if whose.nunique() > 1 else {}))
    first = [name for name in (*NAMES, "reference", "kind", "variant", "judge", "description") if name in table]
    return table[[*first, *table.columns.difference(first, sort=False)]]


show(by_judge(scores))

# %%
shuffled = summarise(items[items["metric"].str.endswith("shuffled descriptions")], [*NAMES, "metric"])
floors = summarise(yardsticks, ["reference", "kind", "metric"])
show(by_judge(floors))

# %%
show(by_judge(shuffled))

# %% [markdown]
# In the figure each row is one SAE. First look from the row's cross to its large dot: that is what descriptions are worth. Then compare the large
# dot with the line of the untrained SAE: that is what training is worth. Last, compare the rows with each other, and ask whether the other judge
# puts them in the same order.

# %% mystnb={"image": {"alt": "One panel a judge: the score of every drawn latent as a faint dot, one row a variant and architecture, with the mean and its 95% interval, lines for the untrained SAE and the neurons, and crosses for shuffled descriptions."}, "figure": {"name": "fig-autointerp", "caption": "Auto-interpretability by judge: each drawn latent (faint dots), the mean with its 95% interval over latents (dots), the same judge with shuffled descriptions (crosses), and as lines the untrained SAE and the neurons."}}
rows = list(dict.fromkeys(zip(own["architecture"], own["baseline"], strict=True)))
figure, panels = plt.subplots(1, len(judges), figsize=(7, 2 + 0.4 * max(1, len(rows))), sharey=True, squeeze=False)
for axes, one in zip(panels[0], judges, strict=True):
    metric = f"auto-interpretability ({one.name})"
    for y, key in enumerate(rows):
        colour = plots.COLOURS.get(key[1], plots.GREY)
        mine = own[(own["metric"] == metric) & (own["architecture"] == key[0]) & (own["baseline"] == key[1])]
        spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(mine))
        axes.plot(mine["score"], y + spread, ".", color=colour, alpha=0.25, markersize=3)
        for line in scores[(scores[[*NAMES, "metric"]] == [*key, metric]).all(axis=1)].itertuples():
            whiskers = np.nan_to_num([[line.score - line.low], [line.high - line.score]])
            axes.errorbar(line.score, y, xerr=whiskers, fmt="o", color=colour, capsize=3, markeredgecolor="white")
        floor = shuffled[(shuffled[NAMES] == list(key)).all(axis=1) & shuffled["metric"].str.startswith(metric)]
        axes.plot(floor["score"], [y] * len(floor), "x", color=plots.GREY, label=None if y else "shuffled descriptions")
    for style, line in zip(("--", ":"), floors[floors["metric"] == metric].itertuples(), strict=False):
        axes.axvline(line.score, linestyle=style, color=plots.GREY, label=line.reference)
    axes.set(title=f"{one.name} judge", xlabel="score, by latent", xlim=(0.2, 1))
panels[0, 0].set_yticks(range(len(rows)), [", ".join(key) for key in rows])
panels[0, 0].set_ylim(max(1, len(rows)) - 0.4, -0.6)
handles, labels = panels[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9);

# %% [markdown]
# Back to your two guesses:

# %% tags=["hide-input"]
lines = []
for metric, group in scores.groupby("metric", sort=False):
    best = group.loc[group["score"].idxmax()]
    line = f"- **{metric}**: the highest mean is {best['score']:.3f}, of {best['architecture']}, {best['baseline']}"
    never = floors[(floors["metric"] == metric) & (floors["reference"] == "untrained SAE")]["score"]
    if len(never):
        line += f"; the SAE that was never trained has {never.iloc[0]:.3f}"
        if best["score"] > 0.5:
            line += f", so {(never.iloc[0] - 0.5) / (best['score'] - 0.5):.0%} of what the best has above chance is had without training"
    lines.append(line + ".")
Markdown("\n".join(lines) or "No latent was scored.")

# %% [markdown]
# ## The differences from the fully trained SAE
#
# Latents of two SAEs do not pair, so each mean keeps its own uncertainty. *Equivalent* means that the whole interval lies within the {term}`margin
# <equivalence margin>`; *not told apart* is no match, it only says that this many latents do not settle it. *Detectable* is the smallest true
# difference that would have been found four times in five.

# %%
differences = []
for (architecture, metric), group in own.groupby(["architecture", "metric"], sort=False):
    trained = group[group["baseline"] == "fully trained"]
    for baseline, mine in group[group["baseline"] != "fully trained"].groupby("baseline", sort=False):
        if len(trained):
            found = contrast(mine, trained, margin=margin, paired=interp.paired)
            differences.append({"architecture": architecture, "baseline": baseline, "metric": metric} | found)
differences = pd.DataFrame(differences, columns=[
    "architecture", "baseline", "metric", "difference", "verdict", "low", "high", "detectable",
])
show(by_judge(differences))

# %%
lines = []
for line in scores[scores["baseline"] == "fully trained"].itertuples():
    untrained = floors[(floors["metric"] == line.metric) & (floors["reference"] == "untrained SAE")]["score"]
    against = differences[(differences["architecture"] == line.architecture) & (differences["metric"] == line.metric)]
    verdicts = "; ".join(f"{d.baseline} {d.difference:+.3f}, {d.verdict}" for d in against.itertuples())
    beside = f" (untrained SAE {untrained.iloc[0]:.3f})" if len(untrained) else ""
    lines.append(f"- **{line.architecture}, {line.metric}**: fully trained {line.score:.3f}{beside}. {verdicts}.")
Markdown("\n".join(lines) or "No fully trained SAE was scored.")

# %% [markdown]
# The paper's values, on Gemma-2-2B at {term}`L0` 160 with GPT-4o-mini as the judge, for BatchTopK: fully trained 0.90,
# Soft-Frozen Decoder 0.88; about 30% of the Frozen Encoder's latents score above 0.7.
#
# Does a description fit a latent whenever it fires, or only when it fires strongly? For the next figure the firing passages of each latent are
# sorted by how strongly it fires on them and cut into ten equal parts, the *deciles*. A flat curve far above its dotted line is a description of
# the latent; a curve that rises only at the right describes its best moments.

# %% mystnb={"image": {"alt": "Line chart, one panel a judge: share of firing passages that the judge recognises, against the decile of the latent's activation on them, one line a variant, with the share of silent passages taken for firing ones as a dashed line."}, "figure": {"name": "fig-autointerp-deciles", "caption": "Share of firing passages that are recognised, by the decile of the latent's activation (1 is the weakest), for the first architecture. Dotted: the share of silent passages wrongly taken for firing ones."}}
figure, panels = plt.subplots(1, len(judges), figsize=(7, 3.4), sharey=True, squeeze=False)
for axes, one in zip(panels[0], judges, strict=True):
    mine = own[own["metric"].eq(f"auto-interpretability ({one.name})") & own["architecture"].eq(activations[0].name)]
    for baseline, group in mine.groupby("baseline", sort=False):
        colour = plots.COLOURS.get(baseline, plots.GREY)
        axes.plot(range(1, 11), group[DECILES].mean(), marker="o", markersize=4, color=colour, label=baseline)
        axes.axhline(1 - group["on_silent"].mean(), color=colour, linestyle=":", linewidth=1)
    axes.set(title=f"{one.name} judge", xlabel="decile of activation", ylim=(0, 1))
panels[0, 0].set_ylabel("recognised")
figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9);

# %% [markdown]
# ## Latents to read
#
# What a score stands for is best seen on latents: drawn at random, the trained SAE's beside one with frozen random directions. Above each stands
# how often it fires, and its {term}`logit effect`: which tokens its direction raises and which it lowers. For that the direction goes straight to
# the model's last step (the *unembedding*, which turns an activation into a score for every token), as if no layer lay between. A � is, all but always, a token that
# holds only some of the bytes of a character, so that it is none by itself.

# %%
def panel(sae, n, seed):
    """Contexts and logit effects of latents drawn from those that fire on at least 20 held-out tokens."""
    chosen = draw_latents(sae, store.held_out[:], n, seed=seed)
    contexts = top_contexts(sae, store.held_out, chosen, lm.tokenizer, n=3)
    return contexts.merge(logit_effect(lm, sae, chosen), on="latent")


PAIR = "fully trained", "Frozen Decoder"
first = activations[0].name
HTML(contexts_html({f"{first}, {name}": panel(saes[first, name], 2, seed) for name in PAIR}, chapter.credit))

# %% [markdown]
# These were drawn among latents that fire often enough to be looked at. The histogram shows all that fire: how much alike are the two SAEs in how
# often their latents do? Where they differ, frequency alone would tell them apart, without anybody reading a passage.

# %% mystnb={"image": {"alt": "Histogram of firing frequencies of the latents of the fully trained SAE and of the Frozen Decoder, on a logarithmic axis."}, "figure": {"name": "fig-firing-density", "caption": "How often latents fire: share of held-out tokens, over all latents that fire at all."}}
figure, axes = plt.subplots(figsize=(7, 2.8))
for name in PAIR:
    frequency = evaluate(saes[first, name], store.held_out[:]).firing_frequency.numpy()
    fired = np.log10(frequency[frequency > 0])
    share = np.full(len(fired), 1 / len(frequency))
    label = f"{name} ({(frequency == 0).mean():.0%} never fire)"
    axes.hist(fired, 40, weights=share, histtype="step", linewidth=1.8, color=plots.COLOURS[name], label=label)
axes.set(xlabel="log10 of firing frequency", ylabel="share of latents")
axes.legend(fontsize=9);

# %% [markdown]
# ## A blind round
#
# In each round, one latent comes from the fully trained SAE and one from the SAE with frozen random directions. Which is
# which? **Write down your answers**, A or B, before you open the cell below.

# %%
order = np.random.default_rng([seed, rounds]).permuted(np.tile(PAIR, (rounds, 1)), axis=1)
drawn = {name: panel(saes[first, name], rounds, seed + 1) for name in PAIR}
kept = {name: [group for _, group in table.groupby("latent", sort=False)] for name, table in drawn.items()}
played = min(rounds, *map(len, kept.values()))
HTML("".join(
    f"<p>Round {i + 1}</p>" + contexts_html({letter: kept[name][i] for letter, name in zip("AB", order[i], strict=True)})
    for i in range(played)
) + f"<p class='credit'>Text: {html.escape(chapter.credit)}</p>")

# %% tags=["hide-cell"]
answers = "\n".join(f"- Round {i + 1}: {'AB'[list(order[i]).index('fully trained')]}" for i in range(played))
Markdown(f"The fully trained SAE is\n\n{answers or '- nowhere: too few latents fire for a round'}")

# %% [markdown]
# ## Many rounds, on your own
#
# A few rounds settle nothing: one who tosses a coin gets all of three right once in eight times. So here is a deck of
# latents of the same two SAEs, one at a time, drawn at random among those scored above. Say of each where it comes from; your count
# stands beside what blind guessing would give. **Write down before you start:** of twenty guesses, how many will be right? How many would
# convince you that you can tell the two apart?
#
# When you have had enough of guessing, choose an SAE by its name, one of the other baselines too: its latents then come with their
# scores and descriptions. (On paper, or without scripts, one latent of each variant stands here instead; the game is then the blind round
# above.)

# %% tags=["hide-input"]
tables = {}
for baseline, scored in own[own["architecture"] == first].groupby("baseline", sort=False):
    sae = saes[first, baseline]
    chosen = np.sort(np.random.default_rng(seed + 2).permutation(scored["item"].unique())[:browsed]).astype(int)
    table = top_contexts(sae, store.held_out, chosen, lm.tokenizer, n=4)
    for more in (logit_effect(lm, sae, chosen), activation_histograms(sae, store.held_out, chosen)):
        table = table.merge(more, on="latent")
    notes = {int(item): {} for item in scored["item"]}
    for line in scored.itertuples():
        notes[int(line.item)][line.metric] = f"{line.score:.2f}; description: {line.description}"
    tables[baseline] = table.assign(notes=table["latent"].map(notes))
latent_browser(tables, [name for name in PAIR if name in tables], credit=chapter.credit, seed=seed)

# %% [markdown]
# Look at the count with a cool head. Near chance, with many guesses, it says that the passages and tokens of a latent do not tell *you*
# directions that were learned from directions that were drawn at random. Well above chance it says that you found a difference, not yet
# that it is one of meaning: how often a latent fires, how its activations are spread, or one odd token among the raised ones may be all you
# went by. Go through both SAEs by name and say what it was; then ask whether it speaks of the encoder, which is trained in both, or of the
# decoder.

# %% tags=["hide-input"]
for name, table in {"": scores, "_shuffled": shuffled, "_references": floors, "_differences": differences}.items():
    keep(f"autointerp{name}", table, layer=layer, l0=l0, seed=seed)

# %% [markdown]
# ## What would change my mind
#
# The claim to doubt is that a high score shows latents that were learned as units of meaning. In {numref}`fig-autointerp` it gains weight
# where the fully trained SAE lies above both the untrained SAE and every baseline, under each judge alike. It loses weight where a
# baseline's interval covers the trained one's, or where the two judges put the variants in different orders: then the score tells
# of judges. {numref}`fig-autointerp-deciles` can weaken it further: a curve that is high only for the strongest deciles says that
# descriptions fit a latent's best moments, not the latent.

# %% [markdown]
# ## Exercises
#
# ```{exercise} What "no" scores
# :label: ex-always-no
#
# *Easy, 5 minutes.* A judge answers *no* to every passage. Write `always_no(firing, silent)`, for a test with so many passages of each kind. Give two
# numbers: the plain accuracy, and the mean of the accuracies on the two kinds. SAEBench ({cite:t}`karvonen2025saebench`) shows 4 passages
# with activations and 10 random ones by default, and reports the plain accuracy.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def always_no(firing, silent):
    # BEGIN SOLUTION
    on_firing, on_silent = 0, 1
    return silent / (firing + silent), (on_firing + on_silent) / 2
    # END SOLUTION


# %% tags=["check"]
exercises.check_always_no(always_no)

# %% tags=["hide-input"]
lines = []
for of, firing, silent in (("SAEBench's default", 4, 10), ("the paper", 50, 50), ("this page", tested_on, tested_on)):
    plain, by_kind = always_no(firing, silent)
    lines.append(f"- {of}, {firing} firing and {silent} silent passages: plain accuracy {plain:.2f}, mean of the two kinds {by_kind:.2f}")
Markdown("\n".join(lines) + "\n\nSo a score has to come with the design of its test before it can be compared with another.")

# %% [markdown]
# ```{exercise} Only the strongest
# :label: ex-score-on-strongest
#
# *Medium, 10 minutes.* Break the metric: test only passages on which the latent is strong. Write `score_on_strongest(recognised, on_silent, n)`: the
# score (mean of the accuracies on firing and on silent passages) that would come out if only the `n` strongest deciles were tested. `recognised`
# holds ten shares, from the weakest decile to the strongest; `on_silent` is the share of silent passages answered right.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def score_on_strongest(recognised, on_silent, n):
    # BEGIN SOLUTION
    return (recognised[-n:].mean() + on_silent) / 2
    # END SOLUTION


# %% tags=["check"]
exercises.check_score_on_strongest(score_on_strongest)

# %% [markdown]
# What that does for the variants of the first architecture, and for the SAE that was never trained:

# %% tags=["hide-input"]
never = yardsticks[yardsticks["reference"].eq("untrained SAE") & ~yardsticks["metric"].str.endswith("shuffled descriptions")]
tested = pd.concat([own[own["architecture"] == first], never.assign(baseline="untrained SAE")])
rows = []
for (metric, baseline), group in tested.groupby(["metric", "baseline"], sort=False):
    recognised, on_silent = group[DECILES].mean().to_numpy(), group["on_silent"].mean()
    row = {"metric": metric, "variant": baseline, "all deciles": score_on_strongest(recognised, on_silent, 10)}
    rows.append(row | {f"strongest {n}": score_on_strongest(recognised, on_silent, n) for n in (3, 1)})
show(by_judge(pd.DataFrame(rows))) if tested_on >= 10 and rows else Markdown("With fewer than ten passages of a kind, some deciles hold none.")

# %% [markdown]
# *All deciles* is the mean over the ten deciles, each counted alike; the passages of a latent that do not divide by ten fill some deciles more than
# others, so it may differ a little from the score above. Read the table with the floor: what a kinder test gives to all of them, trained or not, is no
# sign of meaning.
#
# ```{exercise} How many latents does a verdict take?
# :label: ex-latents-needed
#
# *Hard, 20 minutes.* Scores of latents have a standard deviation `spread`. Write `latents_needed(spread, difference)`: how many latents of *each*
# of two SAEs must be scored, so that a true difference of their means is found four times in five by an interval of 95%. Such a test finds a
# difference of $1.96 + 0.84$ standard errors. What is the standard error of a difference of two means of $n$ latents each? (That of one mean is
# `spread` divided by $\sqrt n$; for a difference of two independent means the squares of the two add up.)
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def latents_needed(spread, difference):
    # BEGIN SOLUTION
    # The standard error is spread * sqrt(2 / n); set 2.8 of them equal to the difference, and solve for n.
    return 2 * ((1.96 + 0.84) * spread / difference) ** 2
    # END SOLUTION


# %% tags=["check"]
exercises.check_latents_needed(latents_needed)

# %% [markdown]
# With the spread of this page's scores; the paper's gap is that of its 0.90 and 0.88, its sample 200 latents:

# %% tags=["hide-input"]
lines = []
for metric, group in own[own["baseline"] == "fully trained"].groupby("metric", sort=False):
    spread = group.groupby("architecture")["score"].std().mean()
    if spread > 0:
        with_200 = margin * (latents_needed(spread, margin) / 200) ** 0.5
        lines.append(
            f"- **{metric}**: the spread is {spread:.3f}. A difference as large as the margin ({margin:g}) takes {latents_needed(spread, margin):,.0f} latents "
            f"of each SAE; a difference of 0.02 takes {latents_needed(spread, 0.02):,.0f}. {latents} were drawn here. With 200, a difference of {with_200:.3f} is found."
        )
Markdown("\n".join(lines) or "Too few latents were scored for a spread.")

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. The latents of a Frozen Decoder score as well as those of a trained SAE. Are random directions meaningful?
# No. The score asks when a latent fires, and that is the encoder's doing, which is trained here. The direction that the latent writes has no part in
# the test.
# ```
#
# ```{dropdown} 2. Why is a judge with shuffled descriptions not always at 0.5?
# Latents are not independent of each other: many fire on the same kinds of passage, such as lists or sport, so that the description of one fits
# another's passages somewhat. What counts is a score's distance from this floor, not from 0.5.
# ```
#
# ```{dropdown} 3. A latent scores 0.55 with the lexical judge. Does it mean nothing?
# It means nothing *that a list of words can tell*. A latent for a grammatical role or for the tone of a text is invisible to that judge; the score is a lower
# bound on what can be said. The same holds, less visibly, for a language model that judges.
# ```

# %% [markdown]
# ## Key points
#
# - The score belongs to the judge as much as to the SAE: never quote it without the judge's name, and read it against
#   the same judge's floor.
# - It is a statement on *encoders*: when a latent fires. The Frozen Decoder's encoder is trained, so a good score of
#   its latents says nothing for or against learned decoder directions.
# - Descriptions made from the strongest passages fit strong activations best; look at the weak deciles before you
#   say that a latent "is" its description.
# - An untrained SAE is the floor that tells how much of a score is owed to the model and its text alone.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`paulo2024autointerp`: detection, fuzzing and other ways to test a description.
# - {cite:t}`heap2025random`: the same scores on language models with random weights.
# - {cite:t}`karvonen2025saebench`: auto-interpretability as part of a benchmark, with another design of the test.

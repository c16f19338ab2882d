# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Scorecard
#
# ```{admonition} This lesson
# - **You will learn** to read scores of different kinds side by side: against floor and ceiling, with a {term}`verdict` that an interval allows, and
#   one baseline at a time.
# - **You need** [Reconstruction](09_reconstruction), [Auto-interpretability](10_autointerp), [Sparse probing](11_sparse_probing),
#   [Causal editing](12_causal_editing): {term}`floor`, {term}`ceiling`, {term}`bootstrap confidence interval`.
# - **Time** 25 minutes to read, 35 more for the exercises.
# ```
#
# Every score of the last chapters, side by side: fully trained SAEs, the random baselines of {cite:t}`korznikov2026sanity`,
# floors, ceilings, intervals, and for each baseline a verdict. It is the table that the paper's claim is about: *do the usual
# scores tell a trained SAE from one with random parts?*
#
# Three rules keep it fair.
#
# - **One baseline across all metrics.** The paper's headline takes its three baseline figures from different baselines.
# - **A match is more than a difference that was not found.** A verdict of *equivalent* needs the whole interval of the
#   difference to lie within a {term}`margin <equivalence margin>` stated beforehand. If zero is possible and a larger difference too, the verdict is *not
#   told apart*: the sample was too small to say.
# - **Floor and ceiling.** A score of 0.5 is a lot or nothing; it depends on what no skill scores, and what the best known
#   method does. A baseline that equals a trained SAE which is itself at the floor, or below it, has matched nothing: the
#   verdict then is *nothing to match* in place of *equivalent*, and in place of *better* too, unless the baseline rises above the
#   floor. *Worse* and *not told apart* claim no match, and stay as they are.
#
# **Before you read on, write down two lists:** the metrics that will find every baseline *worse* than the trained SAE, and those that will find none
# worse. There are seven to choose from: {term}`explained variance`, {term}`loss recovered`, {term}`auto-interpretability` with two judges,
# {term}`sparse probes <sparse probing>` of one {term}`latent` and of five, and {term}`causal editing`.

# %% tags=["parameters"]
architectures: list = ["BatchTopK", "JumpReLU"]  # from ReLU, TopK, BatchTopK, JumpReLU
model: str = "smollm2"  # language model: "smollm2" (embedded), or a transformers id or folder
texts: str = "wikipedia-en"  # text set: "wikipedia-en" (embedded), or a datasets id, folder or file
layer: int = 9  # decoder block whose output is read, counted from 0
site: str = "residual"  # what of that block: "residual" (stream after it), or what its "mlp" or its "attention" gives
tokens: int = 400_000  # activations to harvest; a tenth is held out for testing
train_tokens: int = 0  # activations to train on, streamed from the model and not kept; 0: those harvested
harvest_context: int = 128  # tokens of a row of text that the model reads at once
l0: int = 40  # active latents per token
expansion: int = 8  # latents per dimension of the activations
batch_size: int = 1024  # activations in a training batch
epochs: int = 1  # passes over the training activations
lr: float = 3e-3  # peak learning rate
seed: int = 0  # seed of the random directions
spliced_tokens: int = 3000  # held-out tokens that the model predicts with the reconstruction in place
tokens_scored: int = 100_000  # tokens that passages for auto-interpretability are cut from
latents: int = 100  # latents drawn of each SAE for auto-interpretability
described_by: int = 15  # passages that a description is made from
tested_on: int = 50  # passages of each kind, firing and silent, in a test
tasks: list = ["profession", "sentiment", "language", "programming language", "topic"]  # or a datasets id with columns text and label
per_label: int = 150  # texts of each label of a task; a third of them test the probes
context: int = 48  # tokens of each text that probes read
k: list = [1, 2, 5, 20]  # numbers of latents that a probe may use; 1 and 5 are shown here, as in the paper
cities: int = 260  # largest cities whose facts the model is asked for
known_of: int = 60  # an attribute that the model knows of fewer cities is left out
pairs: int = 100  # held-out pairs of cities for each attribute
steps: int = 20  # steps in which a mask over latents is learned
reference: str = "../book/results/scorecard"  # folder of reference runs to show, made by book/sweep.py; empty leaves them out

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from saebook import figures
from saebook.exercises import scorecard as exercises
from saebook.paper import SITE, paper_table
from saebook.setup import Markdown, display, keep, language_chapter, results_folder, show
from saebook.tables import reference_run
from saebook.words import no_better_than_floor

from saelite import AutoInterp, Editing, Probing, Reconstruction, arguments, plots, scorecard
from saelite.evaluations.concepts import load_concepts
from saelite.evaluations.facts import city_facts, known_facts
from saelite.evaluations.judges import EmbeddingJudge, LexicalJudge
from saelite.evaluations.reconstruction import EV, RECOVERED_MEAN
from saelite.evaluations.scorecard import TRAINED
from saelite.reuse import over
from saelite.statistics import LEVEL

# wrong parameters are refused here, before anything slow runs
arguments.whole(1, spliced_tokens=spliced_tokens, tokens_scored=tokens_scored, latents=latents, described_by=described_by, tested_on=tested_on)
arguments.whole(1, cities=cities, known_of=known_of, pairs=pairs, steps=steps)
runs = reference_run(reference, "scorecard")
arguments.whole(8, context=context)
chapter = language_chapter(
    model=model, texts=texts, layer=layer, site=site, tokens=tokens, train_tokens=train_tokens,
    harvest_context=harvest_context, architectures=architectures, l0=l0, expansion=expansion, batch_size=batch_size,
    epochs=epochs, lr=lr, seed=seed,
)  # fmt: skip
lm, activations, d_sae = chapter.lm, chapter.activations, chapter.d_sae
arguments.whole(1, lm.d_model, k=k)
labelled, facts = load_concepts(tasks, per_label=per_label, seed=seed), city_facts(cities)
store, _ = chapter.harvest()

# %% [markdown]
# ## What is measured, and which difference would matter
#
# The margins are ours and stated before anything is measured: a difference smaller than this is of no interest.

# %%
measured = [
    (Reconstruction(lm, store, tokens=spliced_tokens, l0=l0, d_sae=d_sae), {EV: 0.02, RECOVERED_MEAN: 0.02}),
    (
        AutoInterp(
            store, [LexicalJudge(), EmbeddingJudge()], lm.tokenizer, l0=l0, d_sae=d_sae, n_latents=latents, n_describe=described_by,
            n_test=tested_on, min_test=max(1, min(10, tested_on // 2)), tokens_scored=tokens_scored, seed=seed,
        ),
        {"auto-interpretability (lexical)": 0.03, "auto-interpretability (embedding)": 0.03},
    ),
    (
        Probing(lm, labelled, layer=layer, site=site, context=context, k=k, seed=seed),
        {f"probe k={n}": 0.02 for n in k if n in (1, 5)},
    ),
    (
        Editing(lm, known_facts(lm, facts, at_least=known_of), layer=layer, site=site, pairs=pairs, steps=steps, seed=seed),
        {"causal editing": 0.03},
    ),
]  # fmt: skip

# %% tags=["hide-input"]
show(
    pd.DataFrame(
        [
            {"metric": metric, "evaluation": type(evaluation).__name__, "margin": margin, "items": "the same for every SAE" if evaluation.paired else "each SAE's own"}
            for evaluation, margins in measured
            for metric, margin in margins.items()
        ]
    )
)

# %% [markdown]
# ## The whole grid
#
# SAEs and scores that an earlier chapter has made are read from the cache; the others are made now.
#
# In the figure each panel is one metric. Look first for the room between the line of the floor and that of the ceiling. {term}`Auto-interpretability`
# has no ceiling but 1, so none is drawn there. Then find the
# trained SAEs in that room, and then whether a baseline's interval reaches theirs. Follow one baseline through all panels before you go to the next.

# %%
saes, _ = chapter.train_grid()
card = scorecard(saes, measured)

# %% mystnb={"image": {"alt": "A panel for each metric: the scores of fully trained SAEs and four baselines as dots with intervals, the floor and the ceiling as lines, the paper's scores as open diamonds. The table below gives the numbers."}, "figure": {"name": "fig-scorecard", "caption": "Every metric of this build. Dots: SAEs with 95% intervals over items; lines: the highest floor and the lowest ceiling; diamonds: the paper's scores, on another model. For auto-interpretability there is no ceiling, and the paper has no table."}}
overview = plots.scorecard(card, paper_table(SITE))

# %% [markdown]
# The same in numbers: score and 95% interval of every SAE, then the highest floor and the lowest ceiling of each metric, with
# what they are.

# %% tags=["hide-input"]
metrics = list(dict.fromkeys(card["metric"]))
text_of = card.assign(cell=[f"{r.score:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in card.itertuples()])
wide = text_of.pivot(index=["architecture", "baseline"], columns="metric", values="cell").loc[list(saes), metrics].reset_index()
limits = card.drop_duplicates("metric").set_index("metric").loc[metrics]
for name in ("floor", "ceiling"):
    cells = [f"{r[name]:.2f} ({r[f'{name}_is']})" if pd.notna(r[name]) else None for _, r in limits.iterrows()]
    wide.loc[len(wide)] = [name, "", *cells]
show(wide)

# %% [markdown]
# All that was measured, with the paper's scores (Gemma-2-2B, layer 12, {term}`L0` 160: compare patterns):

# %% tags=["hide-output"]
paper = paper_table(SITE)[["architecture", "baseline", "metric", "score"]]
beside = card.merge(paper.rename(columns={"score": "the paper's"}), how="left", on=["architecture", "baseline", "metric"])
show(beside[["metric", "architecture", "baseline", "score", "low", "high", "floor", "ceiling", "rescaled", "the paper's"]])

# %% [markdown]
# *rescaled* is 0 at the floor and 1 at the ceiling; it is left out where the intervals of these two overlap, since then there is
# nothing to measure between them.
#
# ## Verdicts
#
# Each baseline against the fully trained SAE of its {term}`architecture`. *Detectable* is the smallest true difference that a
# sample like this one would have found four times in five: where it is larger than the margin, the metric was not measured
# well enough here to call anything equivalent.

# %% tags=["hide-output"]
frozen = card[card["baseline"] != TRAINED]
show(frozen[["metric", "architecture", "baseline", "difference", "verdict", "difference_low", "difference_high", "detectable", "margin"]])

# %% tags=["hide-input"]
lines = []
for metric, group in frozen.groupby("metric", sort=False):
    counts = group["verdict"].value_counts()
    floor, ceiling = card.loc[card["metric"] == metric, ["floor", "ceiling"]].iloc[0]
    at_floor = no_better_than_floor(card[(card["metric"] == metric) & (card["baseline"] == TRAINED)])
    told = counts.get("worse", 0)
    lines.append(
        f"- **{metric}** (floor {floor:.2f}"
        + ("" if pd.isna(ceiling) else f", ceiling {ceiling:.2f}")
        + f"): of {len(group)} baselines {told} below the trained SAE"
        + "".join(f", {counts[name]} {name}" for name in ("equivalent", "not told apart", "better", "nothing to match", "not measured") if name in counts)
        + f". {at_floor}".rstrip()
    )
verdicts = "\n".join(lines)
Markdown(verdicts)

# %% [markdown]
# Your two lists, answered:

# %% tags=["hide-input"]
with_interval = frozen[frozen["verdict"] != "not measured"]
worse = with_interval["verdict"].eq("worse").groupby(with_interval["metric"], sort=False).mean()
Markdown(
    f"- every baseline worse: {', '.join(worse.index[worse == 1]) or 'on no metric'}\n"
    f"- none worse: {', '.join(worse.index[worse == 0]) or 'on no metric'}\n"
    f"- it depends on the baseline, or the architecture: {', '.join(worse.index[worse.between(0, 1, inclusive='neither')]) or 'on no metric'}"
)

# %% [markdown]
# ### One baseline at a time
#
# A claim that a baseline "matches" trained SAEs is about one baseline and all metrics: one of these tables.

# %%
for baseline, group in frozen.groupby("baseline", sort=False):
    verdicts_of = group.pivot_table(index="metric", columns="architecture", values="verdict", aggfunc="first", sort=False)
    display(Markdown(f"**{baseline}**"), show(verdicts_of.reset_index()))

# %% tags=["hide-input"]
sentences = []
for baseline, group in frozen.groupby("baseline", sort=False):
    counts = group["verdict"].value_counts()
    matches = counts.get("equivalent", 0) + counts.get("better", 0)
    sentences.append(
        f"- **{baseline}**: equivalent or better in {matches} of {len(group)} comparisons, worse in {counts.get('worse', 0)}, "
        f"not told apart in {counts.get('not told apart', 0)}, nothing to match in {counts.get('nothing to match', 0)}."
    )
one_at_a_time = "\n".join(sentences)
chance = (1 - LEVEL) * len(frozen)
Markdown(
    f"{one_at_a_time}\n\nAll from one seed: intervals speak of other items (texts, concepts, cities, latents), not of other random starts. "
    f"Nor are they corrected for their number: of {len(frozen)} comparisons some {chance:.0f} would be called better or worse by chance "
    "if no baseline differed from its trained SAE, so a single verdict that stands alone is weak evidence."
)

# %% [markdown]
# ## More seeds
#
# {term}`Seeds <seed>` are shown as points and never averaged into an interval over items. These were not made by this build: `book/sweep.py` ran this notebook
# once for each seed, which changes the random {term}`directions <direction>` and the order of training, and also which latents, cities and texts are drawn. In the
# figure ask of each panel: is the gap between the trained SAEs and a baseline larger than the scatter of one variant's dots? If not, another seed
# could turn the order round.

# %%
Markdown(runs.label or "This edition holds no runs with more seeds of the whole grid.")

# %% tags=["hide-input"]
settings = {
    "model": model, "texts": texts, "layer": layer, "site": site, "tokens": tokens, "l0": l0, "expansion": expansion, "epochs": epochs,
    "lr": lr, "seed": seed,
}  # fmt: skip
made = card.assign(**settings)
text = ""
if runs and runs.tables["scorecard"]["seed"].nunique() > 1:
    theirs = runs.tables["scorecard"]
    names = ["metric", "architecture", "baseline"]
    spread = theirs.groupby(names, sort=False)["score"].agg(np.ptp).rename("spread").reset_index()
    same = [*names, "items", *(name for name in settings if name in theirs)]  # items: how many texts, latents, questions, cities
    both = made.merge(theirs, on=same, suffixes=("", "_there")).merge(spread, on=names)
    both = both[np.isclose(both["floor"], both["floor_there"], atol=0.005)]  # another model or other texts have another floor
    apart = (both["score"] - both["score_there"]).abs()
    beyond = both[apart > both["spread"]]
    if len(beyond):
        most = both.loc[apart.idxmax()]
        text = (
            f"With seed {seed} this build and the reference run have {len(both)} scores in common, and {len(beyond)} of them differ by more than the "
            f"reference's lowest and highest seed do ("
            + ", ".join(f"{name}: {n}" for name, n in beyond["architecture"].value_counts().items())
            + f"); most of all {most['architecture']}, {most['baseline']}, in {most['metric']}: {most['score']:.3f} here, {most['score_there']:.3f} there. "
            "Seed and settings are the same, so such a difference comes from what has changed since the commit that is named above, in the code or on the "
            "machine. Compare the dots of the next figure with each other, not with this build's."
        )
    elif len(both):
        text = (
            f"With seed {seed} this build and the reference run have {len(both)} scores in common, and none of them differ by more than the reference's "
            "lowest and highest seed do."
        )
Markdown(text)

# %% mystnb={"image": {"alt": "A panel for each metric: the score of every variant, one dot for each seed and architecture. The table below gives the numbers."}, "figure": {"name": "fig-seeds", "caption": "Seeds apart: every dot is one SAE of the reference runs, trained and tested from a seed of its own."}}
if runs:
    figures.scores_by_seed(runs.tables["scorecard"])

# %% tags=["hide-input"]
if runs:
    of_seeds = runs.tables["scorecard"].groupby(["metric", "architecture", "baseline"], sort=False)
    seeds = of_seeds["score"].agg(["mean", "min", "max"])
    seeds["verdicts"] = of_seeds["verdict"].agg(lambda own: "; ".join(f"{name}: {n}" for name, n in own.value_counts().items()))
    seeds["seeds"] = of_seeds["seed"].nunique()
    seeds = seeds.reset_index()
    display(show(seeds.assign(metric=seeds["metric"].str.replace("auto-interpretability", "auto-interp."))))

# %% tags=["hide-input"]
if runs:
    each = runs.tables["scorecard"].dropna(subset="verdict").groupby(["metric", "architecture", "baseline"], sort=False)["verdict"]
    settled = each.agg(lambda own: own.iloc[0] if own.nunique() == 1 else "differs").reset_index()
    found = [
        f"- **{metric}**: the same verdict in every seed for {(group['verdict'] != 'differs').sum()} of {len(group)} baselines"
        + "".join(f"; {name} in all: {n}" for name, n in group["verdict"].value_counts().items() if name != "differs")
        + "."
        for metric, group in settled.groupby("metric", sort=False)
    ]
    display(Markdown("\n".join(found)))

# %% tags=["hide-input"]
keep("scorecard", made)
overview.savefig(results_folder() / "welcome.svg", metadata={"Date": None})
rule = (
    "*Nothing to match* stands in place of *equivalent* where the trained SAE is no better than the floor, and in place of *better* where "
    "the baseline is no better than the floor either. *Worse* and *not told apart* claim no match, and stay as they are.\n\n"
)
welcome = (
    f"On layer {layer} of `{model}`, one seed, {len(saes)} SAEs. What each metric can tell:\n\n{verdicts}\n\n"
    f"And baseline by baseline, over {frozen['metric'].nunique()} metrics and {frozen['architecture'].nunique()} architectures:\n\n"
    f"{one_at_a_time}\n\n{rule if frozen['verdict'].eq('nothing to match').any() else ''}The [Scorecard](../notebooks/14_scorecard.ipynb) has the numbers, the intervals and how to doubt them.\n"
)
(results_folder() / "welcome.md").write_text(welcome, encoding="utf-8");

# %% [markdown]
# ## What would change my mind
#
# The paper's claim is that on the usual scores SAEs with random parts do nearly as well as trained ones. In {numref}`fig-scorecard` it gains weight where one and the same
# baseline lies within the trained SAE's interval on every metric on which the trained SAE is above the floor. It loses weight with each metric that finds all
# baselines worse, and all the more if the metric is close to a use that people have for {term}`features <feature>`, such as editing. Metrics at the floor change nothing either way. A verdict of
# *not told apart* would change it if more items turned it into *equivalent* or into *worse*: that is what larger samples are for.

# %% [markdown]
# ## Exercises
#
# ```{exercise} A verdict
# :label: ex-verdict-of
#
# *Easy, 5 minutes.* Write `verdict_of(low, high, margin)` for the interval of a difference (baseline minus trained): `"equivalent"`, `"better"`, `"worse"` or
# `"not told apart"`. What is to be said of an interval from 0.005 to 0.015 where the margin is 0.02?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def verdict_of(low, high, margin):
    # BEGIN SOLUTION
    if -margin < low and high < margin:
        return "equivalent"
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "not told apart"
    # END SOLUTION


# %% tags=["check"]
exercises.check_verdict_of(verdict_of)

# %% [markdown]
# The margin was stated before anything was measured, and it is a choice. What would the card's intervals say with another?

# %% tags=["hide-input"]
rows = []
for times in (0.5, 1, 2, 5):
    intervals = zip(frozen["difference_low"], frozen["difference_high"], frozen["margin"], strict=True)
    said = pd.Series([verdict_of(low, high, times * margin) for low, high, margin in intervals if low == low])
    rows.append({"margins times": f"{times:g}"} | {name: (said == name).sum() for name in exercises.VERDICTS})
by_margin = pd.DataFrame(rows)
display(show(by_margin))
hollow = (frozen["verdict"] == "nothing to match").sum()
Markdown(
    f"Margins five times as large would make {by_margin['equivalent'].iloc[-1]} matches, where the card's own make {by_margin['equivalent'].iloc[1]}: whoever chooses a margin "
    f"after the fact chooses the verdict. (These go by intervals alone. The card calls {hollow} of them *nothing to match*, since the trained SAE is no better than the floor there.)"
)

# %% [markdown]
# ```{exercise} One baseline, or the nearest each time
# :label: ex-kept-and-picked
#
# *Medium, 10 minutes.* `gaps` is an array with one row per baseline and one column per metric: how far the baseline is below the trained SAE. Write
# `kept_and_picked(gaps)`, which gives two numbers. The first: keep one baseline for all metrics; what is the largest gap, if you keep the baseline
# for which that is smallest? The second: pick the nearest baseline for each metric anew; what is the largest gap now?
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def kept_and_picked(gaps):
    # BEGIN SOLUTION
    return gaps.max(axis=1).min(), gaps.min(axis=0).max()
    # END SOLUTION


# %% tags=["check"]
exercises.check_kept_and_picked(kept_and_picked)

# %% [markdown]
# In the paper's own table for Gemma-2-2B, and in this card; explained variance and loss recovered are left out, as in the paper's headline:

# %% tags=["hide-input"]
rows = []
for where, scores in (("the paper", paper), ("this card", card)):
    scores = scores[~scores["metric"].isin([EV, RECOVERED_MEAN])]
    for architecture in scores["architecture"].unique():
        score_of = scores[scores["architecture"] == architecture].pivot(index="baseline", columns="metric", values="score")
        if TRAINED in score_of.index and len(score_of) > 1:
            gaps = (score_of.loc[TRAINED] - score_of.drop(index=TRAINED)).dropna(axis=1).to_numpy()
            kept, picked = kept_and_picked(gaps)
            rows.append({"table": where, "architecture": architecture, "metrics": gaps.shape[1], "one baseline kept": kept, "nearest picked each time": picked})
show(pd.DataFrame(rows))

# %% [markdown]
# The second is never the larger: picking anew for each metric can only flatter the baselines. Where the two are equal, one baseline is the nearest
# wherever it matters, and nothing was gained by picking.
#
# ```{exercise} In pairs
# :label: ex-paired-interval
#
# *Hard, 20 minutes.* Two SAEs were scored on the same questions. Write `paired_interval(ours, theirs)`: a 95% bootstrap interval, low and high, of
# the mean difference `ours - theirs`. Draw questions with replacement, at least 2,000 times, and take the score of *both* SAEs on each question
# drawn.
# ```

# %% mystnb={"code_prompt_show": "Show a solution"} tags=["solution", "hide-cell"]
def paired_interval(ours, theirs):
    # BEGIN SOLUTION
    difference = np.asarray(ours) - np.asarray(theirs)
    drawn = np.random.default_rng(0).integers(len(difference), size=(2000, len(difference)))
    return np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
    # END SOLUTION


# %% tags=["check"]
exercises.check_paired_interval(paired_interval)

# %% [markdown]
# On this card's probes, and then once more with the partners mixed up, which is what treating the two as separate samples amounts to:

# %% tags=["hide-input"]
probes, metrics_of = next((evaluation, margins) for evaluation, margins in measured if isinstance(evaluation, Probing))
metric, lines = list(metrics_of)[-1], []
for activation in activations:
    names = [(activation.name, baseline) for baseline in (TRAINED, "Soft-Frozen Decoder")]
    items = over({name: saes[name] for name in names}, probes, progress=False)
    of_question = items[items["metric"] == metric].groupby(["baseline", "concept"], sort=False)["score"].mean().unstack("baseline")
    trained, soft = of_question[TRAINED].to_numpy(), of_question["Soft-Frozen Decoder"].to_numpy()
    low, high = paired_interval(soft, trained)
    mixed_low, mixed_high = paired_interval(soft, np.random.default_rng(seed).permutation(trained))
    line = f"- {activation.name}, Soft-Frozen Decoder minus fully trained, {metric}: [{low:+.3f}, {high:+.3f}] in pairs, [{mixed_low:+.3f}, {mixed_high:+.3f}] mixed up"
    if len(trained) > 2 and min(np.std(trained), np.std(soft)) > 0:
        line += f"; over {len(trained)} questions the two scores have a correlation of {np.corrcoef(trained, soft)[0, 1]:.2f}"
    lines.append(line + ".")
Markdown("\n".join(lines) + "\n\nThe more alike two SAEs find the questions, the more is gained by pairing them.")

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. The difference is not significant. Does the baseline match the trained SAE?
# No. With few enough items, nothing is significant. A match needs an interval that leaves no room for a difference that would matter.
# ```
#
# ```{dropdown} 2. The paper's headline sets a baseline's 0.73 in editing beside 0.72 of the trained SAE, and 0.69 in probing beside 0.72. What should you look up first?
# Whether these are scores of the same baseline, and what no skill scores. In its tables the 0.69 belongs to a {term}`Frozen Decoder` and the 0.73 to the
# Soft-Frozen one, and an SAE that does nothing has about one half in editing.
# ```
#
# ```{dropdown} 3. *Detectable* is larger than the margin. What can a verdict be?
# Most often *not told apart*, or *worse* and *better* where the difference is large; hardly ever *equivalent*, since an interval so wide seldom
# fits within the margin. Such a metric needs more items before it can show a match.
# ```

# %% [markdown]
# ## Key points
#
# - Ask of every score: what does no skill score here, what does the best known method, and how large a difference could this
#   sample have shown?
# - "Not told apart" is not a match. A match needs an interval that lies within a margin stated beforehand.
# - Keep one baseline across all metrics. Picking the nearest baseline for each metric flatters the claim.
# - A metric on which trained SAEs stand at the floor cannot speak for them or against them.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`korznikov2026sanity`: the table that this card is set beside.
# - {cite:t}`karvonen2025saebench`: more metrics, more SAEs, and how little some of them agree.
# - {cite:t}`smith2025negative`: why a team that built SAEs stopped looking at proxies.

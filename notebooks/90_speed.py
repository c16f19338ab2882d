# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How fast, and why
#
# ```{admonition} This lesson
# - **You will learn** where the time of a training step goes, how much of it sparsity saves, and how to read a comparison of speeds.
# - **You need** [Superposition and SAEs](01_superposition): {term}`latent`, {term}`L0`; for the names of {term}`architectures <architecture>`, the [glossary](../book/glossary).
# - **Time** 10 minutes to read. There are no exercises: figures of speed are worth making only on a machine that does nothing else.
# ```
#
# The experiments of this book are many small trainings, so speed decides whether they fit on a laptop. This page shows how
# fast `saelite` trains beside a plain dense SAE in PyTorch and beside the libraries that people use, each with its own
# trainer, taking turns on one machine.
#
# **Write down a guess:** with 20 of 3200 latents active, how much faster can a training step be that looks only at the active ones: twice, ten times, or 160 times?
#
# ## What costs time in a step
#
# An SAE has $n$ dimensions and $m$ latents, $k$ of them active in a sample. A dense training step makes five products of size
# batch × $n$ × $m$: the {term}`encoder`'s, the decoder's, and three gradients. With few latents active, four of the five need only batch × $k$ rows
# ([`sparse`](../book/api.md)). The encoder's product stays, since any latent might be active; but a step needs it
# only to learn *which* entries exceed a threshold. So it is made in bfloat16 where the processor is fast at that, with a
# margin that no rounding error can exceed, and the few candidates are computed again in full precision
# ([`pre_activations`](../book/api.md)). The result is the same to the bit.

# %% tags=["parameters"]
reference: str = "../book/results/speed"  # folder of the benchmark's JSON files

# %%
import json
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter
from saebook.tables import show

from saelite import plots

plots.style()
parts = json.loads((Path(reference) / "training.json").read_text(encoding="utf-8"))
where = parts["table"]["environment"]
libraries = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
Markdown(
    f"**Not measured by this build**, but on {where['date'][:10]}, on {where['threads']} threads of {where['cpu']}, with "
    f"{libraries}, by\n\n```\npython benchmarks/training.py --rounds 6 --out book/results/speed/training.json\n```\n\n"
    "`benchmarks/README.md` says how to make an environment with all the libraries, and what is counted."
)

# %% [markdown]
# ## A training step
#
# Medians over six rounds, in thousand samples a second; $k$ is 20 with 3200 latents, 32 with 9216. *ratio* is the median over
# rounds of the other's time over ours in the same round. *times product* is the step over the float32 encoder product alone: below 1,
# a whole training step takes less time than that one product.

# %% tags=["hide-input"]
rows = []
for result in parts["table"]["result"]:
    for name, row in result["contestants"].items():
        if name != "product":
            rows.append(
                {
                    "size": f"{result['d_in']} → {result['d_sae']}, batch {result['batch']}",
                    "architecture": result["architecture"],
                    "trainer": name,
                    "thousand_samples_per_second": row["samples_per_second"] / 1000,
                    "ms_per_step": row["ms"],
                    "times_product": row["times_product"],
                    "saelite_is_faster_by": row["saelite_is_faster_by"],
                    "l0": row["l0"],
                }
            )
table = pd.DataFrame(rows)
fastest = table[~table["trainer"].str.startswith("saelite")]
fastest = fastest.loc[fastest.groupby(["size", "architecture"], sort=False)["ms_per_step"].idxmin()]
ours = table[table["trainer"] == "saelite"].set_index(["size", "architecture"])
short = fastest.set_index(["size", "architecture"])
show(
    pd.DataFrame(
        {
            "saelite": ours["thousand_samples_per_second"].map("{:.1f}".format),
            "ratio": short["saelite_is_faster_by"].map("{:.1f}".format),
            "times product": ours["times_product"].map("{:.2f}".format),
            "fastest other": short["thousand_samples_per_second"].map("{:.1f}".format) + " (" + short["trainer"] + ")",
        }
    ).loc[ours.index].reset_index()
)

# %% tags=["hide-input"]
gained = pd.to_numeric(short["saelite_is_faster_by"])
Markdown(
    f"Over these sizes and architectures a step here is between {gained.min():.1f} and {gained.max():.1f} times as fast as the fastest other trainer's, and "
    f"takes between {ours['times_product'].min():.2f} and {ours['times_product'].max():.2f} times as long as the encoder product alone. That product is what keeps the "
    "gain far below the ratio of all latents to the active ones."
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Samples trained on per second, each library with its own trainer; the axis is logarithmic. Further right is faster.", "name": "fig-speed"}, "image": {"alt": "Dot charts of thousand samples a second, one panel a size and one row an architecture, with a mark for each trainer; saelite's is in another colour. The table above gives the numbers of saelite and of the fastest other."}}
drawn = table[~table["trainer"].str.startswith("saelite,")]  # those with a frozen part have a table of their own
sizes, names = drawn["size"].unique(), drawn["architecture"].unique()
figure, grid = plt.subplots(len(sizes), 1, figsize=(6, 1.3 + 1.9 * len(sizes)), sharex=True, squeeze=False)
for axes, size in zip(grid[:, 0], sizes, strict=True):
    for trainer, mark in zip(drawn["trainer"].unique(), "osv^DPX*", strict=True):
        rows = drawn[(drawn["size"] == size) & (drawn["trainer"] == trainer)]
        places = [list(names).index(architecture) for architecture in rows["architecture"]]
        colour = plots.COLOURS["fully trained"] if trainer == "saelite" else plots.GREY
        look = {"color": colour, "markersize": 10} if trainer == "saelite" else {"color": colour, "markersize": 8, "markerfacecolor": "none"}
        axes.plot(rows["thousand_samples_per_second"], places, mark, label=trainer, **look)
    axes.set(xscale="log", ylim=(len(names) - 0.5, -0.5))
    axes.set_title(size, loc="left", fontsize=12)
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="y", alpha=0.4)
axes.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
axes.xaxis.set_minor_formatter(NullFormatter())
axes.set_xlabel("thousand samples per second")
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=11);

# %% [markdown]
# ## Is a frozen part cheaper?
#
# What training may not change needs no gradient and no optimiser step. The encoder's product stays, so expect little.

# %%
frozen = table[table["trainer"].str.startswith("saelite") & (table["architecture"] == "BatchTopK")]
show(frozen[["size", "trainer", "ms_per_step", "times_product", "thousand_samples_per_second"]])

# %% [markdown]
# ## As the SAE grows
#
# {term}`BatchTopK` from 100 dimensions to 3200 latents at $k = 20$ and batch 4096, where one of the three changes.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time of a step as dictionary, L0 and batch grow.", "name": "fig-scaling"}, "image": {"alt": "Three log-log line charts of milliseconds a step against the number of latents, k and the batch size, for saelite, a dense SAE and the encoder product alone."}}
scaling = pd.DataFrame(
    [
        {"varied": r["varied"], "value": r[r["varied"]], "trainer": name, "ms": row["ms"]}
        for r in parts["scaling"]["result"]
        for name, row in r["contestants"].items()
        if name in ("saelite", "dense", "product")
    ]
)
AXES = {"d_sae": "latents m", "k": "active latents k", "batch": "batch (samples)"}
figure, row = plt.subplots(1, 3, figsize=(8, 3.4), sharey=True)
for axes, (varied, rows) in zip(row, scaling.groupby("varied", sort=False), strict=True):
    for (name, line), rows_of in zip({"saelite": "o-", "dense": "s--", "product": "^:"}.items(), [rows] * 3, strict=True):
        one = rows_of[rows_of["trainer"] == name]
        axes.plot(one["value"], one["ms"], line, label={"product": "float32 encoder product"}.get(name, name), markersize=4)
    axes.set(xscale="log", yscale="log", xlabel=AXES[varied])
    ticks = rows["value"].unique()[::2]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
row[0].set_ylabel("milliseconds per step")
figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=10);

# %% tags=["hide-input"]
lines, growth = [], {}
for varied, rows in scaling.groupby("varied", sort=False):
    first, last = rows["value"].min(), rows["value"].max()
    ms = rows.pivot(index="value", columns="trainer", values="ms")
    growth[varied] = ms.loc[last] / ms.loc[first]
    lines.append(
        f"- **{AXES[varied]}** from {first:,} to {last:,}, {last / first:.0f} times as many: a step takes {growth[varied]['saelite']:.1f} times as long, the product "
        f"alone {growth[varied]['product']:.1f} times and a dense step {growth[varied]['dense']:.1f} times. At {last:,}, our step takes "
        f"{ms.loc[last, 'saelite'] / ms.loc[last, 'product']:.1f} times as long as the product, the dense one {ms.loc[last, 'dense'] / ms.loc[last, 'product']:.1f} times."
    )
Markdown(
    "\n".join(lines)
    + (
        "\n\nThe product does not depend on *k*. What grows with *k* is the rest of our step, which looks at the active latents only."
        if growth["k"]["saelite"] > growth["k"]["product"]
        else ""
    )
)

# %% [markdown]
# ## Synthetic data
#
# Making samples must not take longer than training on them.

# %%
show(
    pd.DataFrame(
        [
            {
                "batch": size.removeprefix("batch "),
                "sampler": name,
                "thousand samples/s": f"{row['samples_per_second'] / 1000:.0f}",
                "saelite is faster by": f"{row['saelite_is_faster_by']:.1f} times",
            }
            for size, rows in parts["generate"]["result"].items()
            for name, row in rows.items()
        ]
    )
)

# %% [markdown]
# ## The allocator
#
# On Linux, memory for a large tensor is fetched from the system and zeroed page by page at every step. A setting of the
# allocator stops that; nobody has it on by default, and the tables above are without it.
# Two rounds with it, by
# `python benchmarks/training.py --malloc --rounds 2 --out book/results/speed/malloc.json`. In the table *without* and *with* are what saelite
# trains on, in thousand samples a second, and *ratio* is how many times as fast as the fastest other trainer it is, with the setting for both:

# %% tags=["hide-input"]
with_setting = Path(reference) / "malloc.json"
text = "These were not measured."
if with_setting.exists():
    kept = json.loads(with_setting.read_text(encoding="utf-8"))["table"]["result"]
    kept = pd.DataFrame(
        [
            {
                "size": f"{r['d_in']} → {r['d_sae']}, batch {r['batch']}",
                "architecture": r["architecture"],
                "with": r["contestants"]["saelite"]["samples_per_second"] / 1000,
                "ratio": r["saelite_is_faster_than_it_by"],
                "fastest other": r["fastest_other"],
            }
            for r in kept
        ]
    )
    without = ours["thousand_samples_per_second"].rename("without").reset_index()
    kept = without.merge(kept, on=["size", "architecture"])
    display(show(kept.assign(**{name: kept[name].map("{:.1f}".format) for name in ("without", "with", "ratio")})))
    change = kept["with"] / kept["without"] - 1
    text = (
        f"With the setting saelite is faster in {(change > 0).sum()} of {len(kept)} rows and slower in {(change < 0).sum()}; the change goes from {change.min():+.0%} to {change.max():+.0%}, with a "
        f"median of {change.median():+.0%}. The two were measured in two runs, which did not take turns, and two rounds are few: a row alone says little. "
        f"Beside the fastest other trainer, which gets the setting too, it is {kept['ratio'].min():.1f} to {kept['ratio'].max():.1f} times as fast; without the setting it was "
        f"{gained.min():.1f} to {gained.max():.1f} times."
    )
Markdown(text)

# %% [markdown]
# ## Quiz
#
# ```{dropdown} 1. Only 20 of 3200 latents are active. Why is a step not 160 times faster?
# To know which 20, the encoder must look at all 3200: one product of five stays. Four fifths can be saved at most if all five cost the same, unless
# that one product is made cheaper too.
# ```
#
# ```{dropdown} 2. Library A reports 100 thousand samples a second, library B 50 thousand. Is A twice as fast?
# Only if both were measured on the same machine, with the same sizes, batch and L0, and if they do the same: a step that leaves out the {term}`auxiliary loss`, or has an L0 that is
# off, is another step. Let the two take turns, so that a busy moment hits both.
# ```
#
# ```{dropdown} 3. A product in bfloat16 is rounded. Is the SAE then another one?
# Not here. The rounded product only says which entries *might* exceed the threshold, with a margin that no rounding error can pass; those are computed again in
# full precision. Without the margin, and the second pass, it would be.
# ```

# %% [markdown]
# ## Key points
#
# - Only the encoder's product looks at every latent, and only to find the few that are active.
# - Compare the ratio and *times product*: they say how much of the dense step was not needed, and how much is left to gain.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`gao2024scaling`: sparse kernels for TopK SAEs on a GPU, and how training cost scales with the dictionary.
# - {cite:t}`bussmann2024batchtopk`: what BatchTopK computes, and so what any shortcut has to give to the bit.
# - {cite:t}`rajamanoharan2024jumprelu`: why JumpReLU needs gradients near its thresholds, which is more than its active latents.

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

from saelite import plots
from saelite.tables import show

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
            "fastest other": short["thousand_samples_per_second"].map("{:.1f}".format) + " (" + short["trainer"] + ")",
            "times product": ours["times_product"].map("{:.2f}".format),
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

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Samples trained on per second, each library with its own trainer. Longer is faster.", "name": "fig-speed"}, "image": {"alt": "Bar charts of thousand samples a second for each trainer, one panel a size and architecture; saelite's bars are in another colour."}}
panels = list(table.groupby(["size", "architecture"], sort=False))
figure, grid = plt.subplots(len(panels) // 2, 2, figsize=(7.5, 0.95 * len(panels)), squeeze=False)
for axes, ((size, architecture), rows) in zip(grid.flat, panels, strict=True):
    rows = rows.sort_values("thousand_samples_per_second")
    colours = [plots.COLOURS["fully trained"] if name.startswith("saelite") else plots.GREY for name in rows["trainer"]]
    axes.barh(rows["trainer"], rows["thousand_samples_per_second"], color=colours)
    axes.set_title(f"{architecture}, {size}", fontsize=9)
    axes.tick_params(labelsize=8)
figure.supxlabel("thousand samples per second", fontsize=9);

# %% [markdown]
# ## Is a frozen part cheaper?
#
# What training may not change needs no gradient and no optimiser step. The encoder's product stays, so expect little.

# %%
frozen = table[table["trainer"].str.startswith("saelite") & (table["architecture"] == "BatchTopK")]
show(frozen[["size", "trainer", "ms_per_step", "thousand_samples_per_second", "times_product"]])

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
figure, row = plt.subplots(1, 3, figsize=(8, 3), sharey=True)
for axes, (varied, rows) in zip(row, scaling.groupby("varied", sort=False), strict=True):
    for (name, line), rows_of in zip({"saelite": "o-", "dense": "s--", "product": "^:"}.items(), [rows] * 3, strict=True):
        one = rows_of[rows_of["trainer"] == name]
        axes.plot(one["value"], one["ms"], line, label={"product": "float32 encoder product"}.get(name, name), markersize=4)
    axes.set(xscale="log", yscale="log", xlabel=varied)
row[0].set_ylabel("milliseconds per step")
figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9);

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
# `python benchmarks/training.py --malloc --rounds 2 --out book/results/speed/malloc.json`:

# %% tags=["hide-input"]
with_setting = Path(reference) / "malloc.json"
if with_setting.exists():
    kept = json.loads(with_setting.read_text(encoding="utf-8"))["table"]["result"]
    rows = [
        {
            "size": f"{r['d_in']} → {r['d_sae']}, batch {r['batch']}",
            "architecture": r["architecture"],
            "saelite": f"{r['contestants']['saelite']['samples_per_second'] / 1000:.1f}",
            "ratio": f"{r['saelite_is_faster_than_it_by']:.1f}",
            "fastest other": r["fastest_other"],
        }
        for r in kept
    ]
    display(show(pd.DataFrame(rows)))

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

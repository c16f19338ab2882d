"""How much of the bare forward pass does harvesting keep?

    .venv/bin/python benchmarks/harvest.py --tokens 24000 --layer 9

The same rows, in the same batches, are run up to the layer and thrown away (bare), and harvested to disk with all that
belongs to it: tokenising, dropping positions, checking, writing. The two take turns; the medians and their ratio are
printed as JSON.
"""

import argparse
import json
import statistics
import tempfile
import time

import numpy as np
import torch

from saelite.data import harvest as harvesting
from saelite.data.corpora import load_texts
from saelite.data.language_models import language_model, read_layer


def padded_batches(lm, texts, order, settings):
    """The inputs that a harvest runs, padded as it pads them."""
    rows = harvesting.cut_into_rows(lm, texts, order, settings)
    lengths = np.diff(rows.row_starts)
    for group in harvesting.batches_of(rows, settings):
        inputs = torch.zeros(len(group), int(lengths[group].max()), dtype=torch.long)
        for place, row in enumerate(group):
            inputs[place, : lengths[row]] = rows.ids[rows.row_starts[row] : rows.row_starts[row + 1]]
        yield inputs


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=24_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    lm, texts = language_model(options.model), load_texts()
    order = np.random.default_rng(0).permutation(len(texts))
    settings = {"tokens": options.tokens, "context": 128, "batch": 8, "drop_positions": [0], "row_prefix": []}
    inputs = list(padded_batches(lm, texts, order, settings))
    read_layer(lm, inputs[0], options.layer)  # warm up
    bare, harvested = [], []
    for _ in range(options.repeats):
        start = time.perf_counter()
        for batch in inputs:
            read_layer(lm, batch, options.layer)
        bare.append(options.tokens / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            harvesting.harvest(
                lm, texts, layer=options.layer, tokens=options.tokens, folder=folder, batch=8, progress=False
            )
            harvested.append(options.tokens / (time.perf_counter() - start))
    ratios = [h / b for h, b in zip(harvested, bare, strict=True)]
    print(
        json.dumps(
            {
                "model": options.model,
                "layer": options.layer,
                "dtype": str(lm.dtype),
                "threads": torch.get_num_threads(),
                "bare_tokens_per_second": round(statistics.median(bare)),
                "harvested_tokens_per_second": round(statistics.median(harvested)),
                "ratio_median": round(statistics.median(ratios), 3),
                "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

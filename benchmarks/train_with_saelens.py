"""Train a BatchTopK SAE with SAELens' own trainer, on activations that this project harvested, and save it its way.

    ENV/bin/python benchmarks/train_with_saelens.py --out _build/saelens

where ENV has SAELens beside this project, as `benchmarks/README.md` describes. The activations are those of the
book's defaults (SmolLM2-135M layer 9), so that the chapter *Check your own SAE* holds out the same tenth. The rest is
as SAELens has it: its learning rate (which falls in the last fifth), its start, its auxiliary loss, and activations
brought to a mean norm of the square root of their width, which it folds into the weights at the end.
"""

import argparse
import itertools
from pathlib import Path

from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

from saelite.data.corpora import load_texts
from saelite.data.harvest import harvest
from saelite.data.language_models import language_model

LAYER, K, EXPANSION, BATCH = 9, 40, 8, 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--tokens", type=int, default=400_000, help="activations to harvest; a tenth is not trained on")
    parser.add_argument("--epochs", type=int, default=3, help="passes over them")
    arguments = parser.parse_args()

    store = harvest(language_model("smollm2"), load_texts("wikipedia-en"), layer=LAYER, tokens=arguments.tokens)
    batches = store.batches(BATCH, epochs=arguments.epochs)
    size = {"d_in": store.d_in, "d_sae": EXPANSION * store.d_in}
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(k=K, normalize_activations="expected_average_only_in", **size)
    )
    sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name = "smollm2", f"blocks.{LAYER}.hook_resid_post"
    steps = SAETrainerConfig(
        len(batches) * BATCH, BATCH, lr_end=3e-5, lr_decay_steps=len(batches) // 5, n_batches_for_norm_estimate=20
    )
    data = itertools.chain.from_iterable(itertools.repeat(batches))  # it takes a few for their norm before it starts
    trained = SAETrainer(steps, sae, data).fit()
    trained.save_inference_model(arguments.out)


if __name__ == "__main__":
    main()

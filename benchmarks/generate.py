"""How fast is synthetic data made?

    python benchmarks/generate.py --out generate.json

Activations of 3200 features in 100 dimensions, 20 of them present on average: saelite's sampler, SAELens's own
generator (with dense and with sparse tensors inside), and a plain dense sampler. They take turns; the medians and their
ratios are printed and written as JSON. SAELens draws rectified Gaussian magnitudes and has no log-normal ones, so its
data is not the same, but as much work. It is left out where it is not installed.
"""

import argparse

import torch
from timing import environment, interleaved, quiet, ratio, record, summary, with_malloc_setting

from saelite.synthetic import FeatureWorld, constant_probabilities


def saelite_sampler(world, batch):
    batches, number = world.batches(batch, 10**9), iter(range(10**9))

    def steps(n):
        for _ in range(n):
            batches[next(number)]

    return steps


def dense_sampler(world, batch):
    """A random number for every feature of every sample, and a dense product."""
    probabilities, generator = world.probabilities.float(), torch.Generator().manual_seed(0)
    shape = (batch, len(probabilities))

    def steps(n):
        for _ in range(n):
            present = torch.rand(shape, generator=generator) < probabilities
            coefficients = torch.exp(world.sigma * torch.randn(shape, generator=generator))
            (present * coefficients) @ world.features

    return steps


def sae_lens_sampler(world, batch, sparse):
    with quiet():
        from sae_lens import synthetic

        n_features, d_in = world.features.shape
        probability = synthetic.ConstantFiringProbabilityConfig(float(world.probabilities[0]))
        config = synthetic.SyntheticModelConfig(
            n_features, d_in, probability, std_firing_magnitudes=world.sigma, bias=False, seed=0
        )
        model = synthetic.SyntheticModel(config)
    model.use_sparse_tensors = sparse

    def steps(n):
        for _ in range(n):
            model.sample(batch)

    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--malloc", action="store_true", help="keep freed memory; see README.md")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and two rounds, to test")
    options = parser.parse_args()
    if options.malloc:
        with_malloc_setting()
    print(environment())
    n_features, d_in, rounds = (160, 20, 2) if options.quick else (3200, 100, options.rounds)
    world, results = FeatureWorld(constant_probabilities(n_features, d_in / 5), d_in), {}
    for batch in (64,) if options.quick else (1024, 4096):
        contestants = {"saelite": saelite_sampler(world, batch), "dense": dense_sampler(world, batch)}
        try:
            contestants["sae-lens"] = sae_lens_sampler(world, batch, sparse=False)
            contestants["sae-lens, sparse"] = sae_lens_sampler(world, batch, sparse=True)
        except ImportError as missing:
            print(f"Without SAELens: {missing}")
        times = interleaved(contestants, rounds, steps=5)
        rows = {name: summary(times[name], batch) for name in contestants}
        for name in rows:
            rows[name]["saelite_is_faster_by"] = ratio(times[name], times["saelite"])
        results[f"batch {batch}"] = rows
        print(f"\n{n_features} features in {d_in} dimensions, batch {batch}")
        for name, row in rows.items():
            print(
                f"  {name:20}{row['samples_per_second'] / 1000:9.1f} thousand samples/s"
                f"{row['ms']:9.2f} ms a batch   saelite is faster by {row['saelite_is_faster_by']:.2f}"
            )
    record(options.out, "generate", results)


if __name__ == "__main__":
    main()

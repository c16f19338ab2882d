"""How fast is a training step? saelite against a plain dense SAE and against the known libraries' own trainers.

    python benchmarks/training.py --out training.json             the table
    python benchmarks/training.py --scaling --out training.json   as d_sae, k and the batch grow
    python benchmarks/training.py --memory --out training.json    peak memory

All contestants of an architecture train on the same batches, made beforehand, and take turns within one process; the
medians over rounds, their quartiles and their ratios are printed and written as JSON. A library that is not installed
is left out.

Counted is what a user pays for at every step: forward pass, loss with whatever auxiliary term is on by default,
backward pass, clipping of gradients where the library does that, optimiser, learning rate schedule, norms of the
decoder, bookkeeping of dead latents. Not counted are making data, progress, logging and saving. No latent is dead long
enough here to switch an auxiliary loss on, in any of them.

The learning rate is tiny, so that the state timed is the state set up: biases or thresholds are chosen such that k
latents per sample are active on the first batch, also for ReLU and JumpReLU. The measured L0 stands beside each figure.
The yardstick is the encoder's product alone, in float32 and into memory that is already there.
"""

import argparse
import contextlib
import functools
import gc
import importlib
import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from timing import environment, interleaved, quiet, ratio, record, summary, with_malloc_setting
from torch.nn.functional import normalize

from saelite import activation_functions, baselines
from saelite.activation_functions import threshold_for_l0
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities
from saelite.training import _Run

LR = 1e-5
ARCHITECTURES = ("TopK", "BatchTopK", "JumpReLU", "ReLU")


class Size(NamedTuple):
    d_in: int
    d_sae: int
    k: int
    batch: int
    rounds: int
    steps: int  # timed in each round

    def __str__(self):
        return f"{self.d_in} -> {self.d_sae}, k = {self.k}, batch {self.batch}"


SIZES = [Size(100, 3200, 20, 1024, 12, 5), Size(100, 3200, 20, 4096, 7, 3), Size(576, 9216, 32, 1024, 6, 2)]
QUICK = [Size(20, 160, 4, 64, 2, 2)]


def make_batches(size, number=8):
    features = (3200, 20) if size.d_in == 100 else (size.d_sae, size.k)
    world = FeatureWorld(constant_probabilities(*features), d_in=size.d_in)
    return [batch.clone() for batch in world.batches(size.batch, number)]


def l0_of(code):
    return (code.to_dense() > 0).sum().item() / len(code)


# ---- The contestants. Each function yields names, and for each name a function that builds it and returns two more:
# ---- one that runs n training steps, and one that gives the L0 of the first batch.


def product(architecture, size, batches):
    """The encoder's product alone."""

    def build():
        weights, out = torch.randn(size.d_in, size.d_sae), torch.empty(size.batch, size.d_sae)
        pool = itertools.cycle(batches)

        def steps(n):
            for _ in range(n):
                torch.mm(next(pool), weights, out=out)

        return steps, lambda: float("nan")

    yield "product", build


def saelite(architecture, size, batches):
    """The step of ``saelite.training.train``, and BatchTopK with half of it frozen."""

    def build(baseline=None):
        sae = SAE(size.d_in, size.d_sae, getattr(activation_functions, architecture)(size.k), baseline)
        sae.calibrate(batches[0])
        sae.train()
        run, pool = _Run(sae, lr=LR), itertools.cycle(batches)

        def steps(n):
            for _ in range(n):
                run.step(next(pool))

        return steps, lambda: run._last[2].sum().item() / size.batch

    yield "saelite", build
    if architecture == "BatchTopK":
        yield "saelite, Frozen Decoder", functools.partial(build, baselines.FrozenDecoder())
        yield "saelite, Frozen Encoder", functools.partial(build, baselines.FrozenEncoder())


class Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx, grad):
        z, threshold = ctx.saved_tensors
        window = (z - threshold).abs() < ctx.bandwidth / 2
        return grad * (z > threshold), -(grad * window * threshold / ctx.bandwidth).sum(dim=0), None


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx, grad):
        z, threshold = ctx.saved_tensors
        window = (z - threshold).abs() < ctx.bandwidth / 2
        return None, -(grad * window / ctx.bandwidth).sum(dim=0), None


class DenseSAE(torch.nn.Module):
    """The textbook's SAE: every code a dense tensor, every gradient autograd's."""

    def __init__(self, architecture, size, first_batch):
        super().__init__()
        directions = normalize(torch.randn(size.d_sae, size.d_in), dim=1)
        self.architecture, self.k = architecture, size.k
        self.W_enc = torch.nn.Parameter(directions.T.contiguous())
        self.W_dec = torch.nn.Parameter(directions.clone())
        self.b_enc = torch.nn.Parameter(torch.zeros(size.d_sae))
        self.b_dec = torch.nn.Parameter(first_batch.mean(dim=0))
        start = threshold_for_l0(self.pre_activations(first_batch).detach(), size.k)
        self.threshold = torch.nn.Parameter(start.repeat(size.d_sae))
        self.bandwidth = 0.2 * start.item()
        if architecture == "ReLU":
            self.b_enc.data.sub_(start)

    def pre_activations(self, x):
        return (x - self.b_dec) @ self.W_enc + self.b_enc

    def code(self, z):
        match self.architecture:
            case "TopK":
                top = z.topk(self.k, dim=1)
                return torch.zeros_like(z).scatter(1, top.indices, top.values.relu())
            case "BatchTopK":
                top = z.flatten().topk(self.k * len(z))
                return torch.zeros_like(z.flatten()).scatter(0, top.indices, top.values.relu()).view_as(z)
            case "JumpReLU":
                return Jump.apply(z, self.threshold, self.bandwidth)
            case "ReLU":
                return z.relu()

    def loss(self, x):
        z = self.pre_activations(x)
        code = self.code(z)
        loss = (code @ self.W_dec + self.b_dec - x).square().sum(dim=1).mean()
        if self.architecture == "JumpReLU":
            loss = loss + 0.01 * Step.apply(z, self.threshold, self.bandwidth).sum(dim=1).mean()
        if self.architecture == "ReLU":
            loss = loss + 0.01 * code.sum(dim=1).mean()
        return loss, code.detach()


def dense(architecture, size, batches):
    def build():
        sae, pool = DenseSAE(architecture, size, batches[0]), itertools.cycle(batches)
        optimiser = torch.optim.Adam(sae.parameters(), lr=LR, fused=True)
        samples_since_fired = torch.zeros(size.d_sae, dtype=torch.long)

        def steps(n):
            for _ in range(n):
                loss, code = sae.loss(next(pool))
                loss.backward()
                optimiser.step()
                optimiser.zero_grad()
                sae.W_dec.data = normalize(sae.W_dec.data, dim=1)
                samples_since_fired.add_(len(code))
                samples_since_fired[(code > 0).any(dim=0)] = 0

        return steps, lambda: l0_of(sae.loss(batches[0])[1])

    yield "dense", build


def sae_lens(architecture, size, batches):
    """``SAETrainer.fit()``, called again for every turn with more samples to go.

    "sparse" is its TopK with sparse tensors, which only trains if codes are not rescaled by the decoder's norms.
    """
    with quiet():
        from sae_lens import registry
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

    name = {"ReLU": "standard"}.get(architecture, architecture.lower())
    make_sae, make_config = registry.get_sae_training_class(name)

    def build(**options):
        options |= {"k": size.k} if "TopK" in architecture else {}
        sae = make_sae(make_config(d_in=size.d_in, d_sae=size.d_sae, **options))
        start = threshold_for_l0(sae.encode_with_hidden_pre(batches[0])[1].detach(), size.k)
        if architecture == "JumpReLU":
            sae.threshold.data.fill_(start)
        if architecture == "ReLU":
            sae.b_enc.data.sub_(start)
        config = SAETrainerConfig(0, size.batch, lr=LR, lr_end=LR)
        trainer = SAETrainer(config, sae, itertools.cycle(batches))

        def steps(n):
            config.total_training_samples += n * size.batch
            trainer.fit()

        return steps, lambda: l0_of(sae.encode(batches[0]).detach())

    yield "sae-lens", build
    if architecture == "TopK":
        yield (
            "sae-lens, sparse",
            functools.partial(build, use_sparse_activations=True, rescale_acts_by_decoder_norm=False),
        )


def dictionary_learning(architecture, size, batches):
    """``trainer.update(step, x)``, with step numbers past all warm-ups, as most of a run's are."""
    trainers = import_without("dictionary_learning.trainers", "nnsight")
    name = {"ReLU": "Standard", "JumpReLU": "JumpRelu"}.get(architecture, architecture)

    def build():
        options = {"ReLU": {}, "JumpReLU": {"target_l0": size.k}}.get(architecture, {"k": size.k})
        trainer = getattr(trainers, f"{name}Trainer")(
            10**6, size.d_in, size.d_sae, layer=0, lm_name="", lr=LR, device="cpu", **options
        )
        sae = trainer.ae
        if architecture == "JumpReLU":
            sae.threshold.data.fill_(threshold_for_l0(batches[0] @ sae.W_enc.detach(), size.k))
        if architecture == "ReLU":
            sae.encoder.bias.data.fill_(0)
            sae.encoder.bias.data.sub_(threshold_for_l0(sae.encoder(batches[0]).detach(), size.k))
        trainer.update(0, batches[0])  # sets the decoder's bias
        step, pool = itertools.count(10_000), itertools.cycle(batches)

        def steps(n):
            for _ in range(n):
                trainer.update(next(step), next(pool))

        options = {"use_threshold": False} if architecture == "BatchTopK" else {}
        return steps, lambda: l0_of(sae.encode(batches[0], **options).detach())

    yield "dictionary_learning", build


def overcomplete(architecture, size, batches):
    """``train_sae(...)`` over the turn's batches, with its monitoring off, which would cost more.

    The loss is the squared error, with the library's L1 for the two that need a penalty; it has none for JumpReLU.
    """
    saes = import_without(
        "overcomplete.sae",
        *("torchvision", "timm", "matplotlib", "matplotlib.pyplot", "matplotlib.colors", "cv2", "PIL", "skimage"),
    )

    def squared_error(x, x_hat, pre_codes, codes, dictionary):
        return (x - x_hat).square().mean()

    def build():
        options = {"TopK": {"top_k": size.k}, "BatchTopK": {"top_k": size.k * size.batch}}.get(architecture, {})
        name = {"ReLU": "SAE", "JumpReLU": "JumpSAE"}.get(architecture, f"{architecture}SAE")
        sae = getattr(saes, name)(size.d_in, size.d_sae, **options)
        start = threshold_for_l0(sae.encoder(batches[0])[0].detach(), size.k)
        if architecture == "JumpReLU":
            sae.thresholds.data.fill_(start.log())
        if architecture == "ReLU":
            sae.encoder.final_block[0].bias.data.sub_(start)
        optimiser, pool = torch.optim.Adam(sae.parameters(), lr=LR), itertools.cycle(batches)
        criterion = squared_error if options else saes.mse_l1

        def steps(n):
            saes.train_sae(sae, itertools.islice(pool, n), criterion, optimiser, nb_epochs=1, monitoring=0)

        return steps, lambda: l0_of(sae.encode(batches[0])[1].detach())

    yield "overcomplete", build


def sparsify(architecture, size, batches):
    """``Trainer.fit()`` for every turn, over a "language model" that looks its activations up: batch i for token i.

    Its default optimiser is a sign descent, which is cheaper than the Adam of all the others; both are timed.
    """
    if architecture != "TopK":
        return
    with quiet():
        from sparsify import SparseCoderConfig, TrainConfig, Trainer

    class Lookup(torch.nn.Module):
        def forward(self, input_ids):
            return batches[input_ids[0, 0]][None]

    class Model(torch.nn.Module):
        device, dummy_inputs = torch.device("cpu"), {"input_ids": torch.zeros(1, size.batch, dtype=torch.long)}

        def __init__(self):
            super().__init__()
            self.rows = Lookup()

        @property
        def base_model(self):
            return self

        def forward(self, input_ids):
            return self.rows(input_ids)

    class Tokens(list):
        def select(self, numbers):  # fit() skips what it has seen, and here it has seen nothing
            return self

    class Unsaved(Trainer):
        def save(self):
            pass

    def build(optimizer):
        tokens = [{"input_ids": torch.full((size.batch,), i)} for i in range(len(batches))]
        config = TrainConfig(
            SparseCoderConfig(num_latents=size.d_sae, k=size.k),
            **{"batch_size": 1, "optimizer": optimizer, "lr": LR, "hookpoints": ["rows"], "log_to_wandb": False},
        )
        with quiet():
            trainer = Unsaved(config, Tokens(tokens * 10_000), Model())
        pool = itertools.cycle(tokens)

        def steps(n):
            trainer.dataset = Tokens(itertools.islice(pool, n))
            precision = torch.get_float32_matmul_precision()
            trainer.fit()  # sets the precision of products to "high", for everything that comes after it too
            torch.set_float32_matmul_precision(precision)

        return steps, lambda: l0_of(trainer.saes["rows"](batches[0]).latent_acts.detach())

    yield "sparsify", functools.partial(build, "signum")
    yield "sparsify, Adam", functools.partial(build, "adam")


LIBRARIES = {
    "product": product,
    "saelite": saelite,
    "dense": dense,
    "sae-lens": sae_lens,
    "dictionary_learning": dictionary_learning,
    "overcomplete": overcomplete,
    "sparsify": sparsify,
}


def import_without(name, *unneeded):
    """Import a library with empty stand-ins for packages that it imports, that its training never uses."""
    absent = [other for other in unneeded if importlib.util.find_spec(other.partition(".")[0]) is None]
    sys.modules.update({other: mock.MagicMock() for other in absent})
    try:
        with quiet():
            return importlib.import_module(name)
    finally:
        for other in absent:
            del sys.modules[other]


def contestants(architecture, size, batches, libraries=LIBRARIES):
    """Name and builder of all contestants whose library is here."""
    for library in libraries:
        try:
            yield from LIBRARIES[library](architecture, size, batches)
        except ImportError as missing:
            say_once(f"Without {library}: {missing}")


@functools.cache
def say_once(sentence):
    print(sentence)


# ---- The three measurements.


def measure(architecture, size, batches, only=None):
    """Time the contestants of one architecture, all or `only` those named. A dict of name to figures."""
    torch.manual_seed(0)
    built = {name: build() for name, build in contestants(architecture, size, batches) if not only or name in only}
    with quiet():
        times = interleaved({name: steps for name, (steps, _) in built.items()}, size.rounds, size.steps)
    rows = {}
    for name, (_, l0) in built.items():
        rows[name] = summary(times[name], size.batch)
        rows[name]["times_product"] = ratio(times[name], times["product"])
        rows[name]["saelite_is_faster_by"] = ratio(times[name], times["saelite"])
        rows[name]["l0"] = round(l0(), 2) if name != "product" else None
    del built
    gc.collect()
    return rows


def table(sizes, rounds):
    results = []
    for size in sizes:
        size = size._replace(rounds=rounds or size.rounds)
        batches = make_batches(size)
        for architecture in ARCHITECTURES:
            rows = measure(architecture, size, batches)
            others = {name: row["ms"] for name, row in rows.items() if not name.startswith(("saelite", "product"))}
            fastest = min(others, key=others.get)
            result = {"architecture": architecture, "contestants": rows, "fastest_other": fastest}
            result["saelite_is_faster_than_it_by"] = rows[fastest]["saelite_is_faster_by"]
            results.append(size._asdict() | result)
            print(
                f"\n{architecture}, {size}", f"{'ms/step':>37}  quartiles  1000 samples/s  x product     L0", sep="\n"
            )
            for name, row in rows.items():
                low, high = row["ms_quartiles"]
                print(
                    f"  {name:26}{row['ms']:9.2f}  {low:.1f}-{high:.1f}".ljust(50)
                    + f"{row['samples_per_second'] / 1000:12.1f}{row['times_product']:11.2f}"
                    + ("" if row["l0"] is None else f"{row['l0']:9.1f}")
                )
            print(f"  saelite is {result['saelite_is_faster_than_it_by']:.2f} times as fast as {fastest}", flush=True)
    return results


def scaling(rounds, quick):
    """BatchTopK of saelite and the dense SAE, 100 -> 3200 with k = 20 at batch 4096, where one of the three changes."""
    base = QUICK[0] if quick else Size(100, 3200, 20, 4096, rounds or 5, 3)
    sweeps = {
        "d_sae": (80, 160) if quick else (800, 1600, 3200, 6400, 12800),
        "k": (2, 4) if quick else (5, 10, 20, 40, 80, 160),
        "batch": (32, 64) if quick else (256, 512, 1024, 2048, 4096, 8192),
    }
    results = []
    for varied, values in sweeps.items():
        print(f"\nBatchTopK, {base}, with other {varied}: ms a step")
        for value in values:
            size = base._replace(**{varied: value})
            rows = measure("BatchTopK", size, make_batches(size), only=("product", "saelite", "dense"))
            results.append({"varied": varied} | size._asdict() | {"contestants": rows})
            print(f"{value:8}", *(f"  {name} {row['ms']:8.2f}" for name, row in rows.items()), flush=True)
    return results


def memory(size, options):
    """How much a fresh process grows in five steps, for each contestant: weights, optimiser, gradients, temporaries."""
    results = {}
    print(f"\n{size}: peak memory, MB")
    for architecture in ARCHITECTURES:
        names = [name for name, _ in contestants(architecture, size, None) if name != "product"]
        results[architecture] = {}
        for name in names:
            command = [sys.executable, __file__, "--one", architecture, name, *(["--quick"] if options.quick else [])]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            results[architecture][name] = float(answer.splitlines()[-1])
            print(f"  {architecture:12}{name:26}{results[architecture][name]:9.0f}", flush=True)
    return {"size": size._asdict(), "megabytes": results}


def memory_of_one(architecture, name, size):
    """The growth in MB of this process, from before a contestant is built to the peak of five steps (Linux only)."""

    def status(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024

    for each in (QUICK[0], size):  # once at a tiny size, to load all code that is needed
        batches = make_batches(each)
        build = dict(contestants(architecture, each, batches, libraries=[name.partition(",")[0]]))[name]
        gc.collect()
        before = status("VmRSS")
        steps, _ = build()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        with quiet():
            steps(5)
    return status("VmHWM") - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scaling", action="store_true", help="instead of the table: as d_sae, k and batch grow")
    parser.add_argument("--memory", action="store_true", help="instead of the table: peak memory")
    parser.add_argument("--out", help="JSON file; parts measured before stay in it")
    parser.add_argument("--rounds", type=int, help="instead of those that go with a size")
    parser.add_argument("--malloc", action="store_true", help="keep freed memory; see README.md")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and two rounds, to test")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.malloc:
        with_malloc_setting()
    sizes = QUICK if options.quick else SIZES
    if options.one:
        print(memory_of_one(*options.one, sizes[-1]))
        return
    print(json.dumps(environment(), indent=1), flush=True)
    if options.scaling:
        record(options.out, "scaling", scaling(options.rounds, options.quick))
    if options.memory:
        record(options.out, "memory", memory(sizes[-1], options))
    if not (options.scaling or options.memory):
        record(options.out, "table", table(sizes, options.rounds))


if __name__ == "__main__":
    main()

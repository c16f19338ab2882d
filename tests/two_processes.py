"""What two processes do for tests/test_parallel.py: a file of its own, since they start by importing it."""

import datetime
import itertools
import multiprocessing
import os
import signal

import torch
import torch.distributed as dist
import torch.multiprocessing
from grid import ACTIVATIONS, BASELINES

from saelite import checkpoints
from saelite.activation_functions import BatchTopK, TopK
from saelite.kernels import parallel
from saelite.kernels.pre_activations import PreActivations
from saelite.reuse import train_or_load
from saelite.sae import SAE
from saelite.synthetic import FeatureWorld, constant_probabilities
from saelite.training import AuxiliaryLoss, train

WORLD = FeatureWorld(constant_probabilities(60, 5), d_in=12)
GRID = list(itertools.product(ACTIVATIONS, BASELINES))
RESUMED = ["TopK", "BatchTopK", "JumpReLU"]  # the others keep no state of another kind


def start_two(work, folder):
    """Run ``work(folder)`` in two processes that have joined; returns what it gave in each."""
    # imported once for all; the last one by torch's optimisers, when the first is made
    multiprocessing.set_forkserver_preload(["saelite.training", "torch._dynamo"])
    torch.multiprocessing.start_processes(_join, (work, str(folder)), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{work.__name__}-{number}.pt", weights_only=False) for number in (0, 1)]


def _join(number, work, folder):
    timeout = datetime.timedelta(seconds=60)
    store = dist.FileStore(f"{folder}/{work.__name__}.store-{os.getppid()}", 2)
    dist.init_process_group("gloo", store=store, rank=number, world_size=2, timeout=timeout)
    torch.save(work(folder), f"{folder}/{work.__name__}-{number}.pt")
    dist.destroy_process_group()


def train_one(activation, baseline):
    """A short training in float64, with dead latents, and others that seldom fire in both halves of one batch."""
    sae = SAE(12, 48, ACTIVATIONS[activation](), BASELINES[baseline]()).double()
    sae.b_enc.data[:16] = -4  # these start dead
    history = train(
        sae,
        parallel.shard(WORLD.batches(16, 6)),
        lr=1e-2,
        revival=AuxiliaryLoss(dead_after=32, coefficient=1.0),
        log_every=2,
        progress=False,
    )
    return {"state": sae.state_dict(), "history": history.drop(columns="seconds")}


def whole_grid(folder):
    return {pair: train_one(*pair) for pair in GRID}


def hard_batch(case):
    """Batches of 40 samples that are hard to share, whole: numbers with many ties, one half silent, few above zero."""
    generator = torch.Generator().manual_seed(0)
    x, W, b = (torch.randn(*s, generator=generator, dtype=torch.double) for s in ((40, 6), (30, 6), (30,)))
    if case == "ties":
        x, W, b = x.round(), W.round(), b.round()
    elif case == "one half silent":
        x[20:], b = 0.0, torch.zeros_like(b)
    elif case == "few above zero":
        b = b - 7
    elif case == "a large half":
        x[:20] *= 50
    return x, W, b


CASES = ["plain", "ties", "one half silent", "few above zero", "a large half", "plain"]


def select(activation):
    """The entries that this process's rows get in each case, one after another, so that guesses come from the last."""
    activation = ACTIVATIONS[activation]()
    activation.attach(30)
    chosen = []
    for case in CASES:
        x, W, b = hard_batch(case)
        share = parallel.shard([x])[0]
        support, z = activation.select(PreActivations(share, W, b))
        chosen.append((support.to_dense(z), getattr(activation, "guess", None)))
    return chosen, activation.state_dict()


def selections(folder):
    return {name: select(name) for name in ACTIVATIONS}


def refusals(folder):
    """The messages of what is refused; a process that raised none would leave the other waiting."""
    number = dist.get_rank()
    broken = WORLD.batches(64, 1)[0]
    broken[-1, 0] = torch.nan  # in the second process's half alone
    later = [WORLD.batches(64, 1)[0], broken]
    given = {
        "indivisible": parallel.shard([torch.randn(65, 12)]),
        "the same": [WORLD.batches(64, 1)[0]],
        "of two sizes": [torch.randn(32 + number, 12)],
        "NaN at first": parallel.shard([broken]),
        "NaN later": parallel.shard(later),
    }
    messages = {}
    for name, batches in given.items():
        try:
            train(SAE(12, 48, BatchTopK(5)), batches, progress=False)
        except ValueError as error:
            messages[name] = str(error)
    try:
        train_or_load(SAE(12, 48, TopK(4 + number)), parallel.shard(WORLD.batches(64, 2)), progress=False)
    except ValueError as error:
        messages["two SAEs"] = str(error)
    own = {"checkpoint": f"{folder}/own-{number}", "checkpoint_every": 1, "progress": False}
    train(SAE(12, 48, TopK(4)), parallel.shard(WORLD.batches(64, 2)), **own)  # the first process alone writes
    try:
        train(SAE(12, 48, TopK(4)), parallel.shard(WORLD.batches(64, 2)), **own)
    except ValueError as error:
        messages["own disks"] = str(error)
    return messages


def resumed(folder):
    """Runs that were left alone, and those that go on from their last checkpoint."""
    pairs = {}
    for name in RESUMED:
        settings = {"checkpoint": f"{folder}/{name}.run", "checkpoint_every": 4, "log_every": 2, "progress": False}
        runs = []
        for _ in range(2):
            sae = SAE(12, 48, ACTIVATIONS[name]())
            revival = AuxiliaryLoss(dead_after=130)
            history = train(sae, parallel.shard(WORLD.batches(64, 7)), lr=1e-2, revival=revival, **settings)
            runs.append((sae.state_dict(), history.drop(columns="seconds")))
        pairs[name] = runs
    return pairs


def cached(folder, kill=False):
    """An SAE from the cache folder; ``kill`` ends the first process after a checkpoint, and so both."""
    os.environ["SAELITE_CACHE"] = f"{folder}/cache"
    save = checkpoints.save_training

    def save_then_die(path, run, step):
        save(path, run, step)
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_training = save_then_die if kill else save
    sae = SAE(12, 48, BatchTopK(5))
    history = train_or_load(sae, parallel.shard(WORLD.batches(64, 12)), checkpoint_every=8, progress=False)
    return sae.state_dict(), history, kept(folder)


def kept(folder):
    """What the cache of SAEs holds, but for checksums and the files that locks hang on."""
    return sorted(name for name in os.listdir(f"{folder}/cache/saes") if not name.endswith((".lock", ".checksum")))


def killed(folder):
    return cached(folder, kill=True)

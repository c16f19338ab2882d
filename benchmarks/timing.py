"""What the benchmarks of speed share: contestants that take turns, medians, and a record of the machine."""

import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path

import torch

import saelite

PEERS = ("torch", "numpy", "scipy", "sae-lens", "dictionary-learning", "overcomplete", "eai-sparsify")
# Large tensors are kept by the process when they are freed, not given back to the system and zeroed anew every step.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}


def with_malloc_setting():
    """Start this script anew with the allocator's setting on, unless it is."""
    if not malloc_setting():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)


def malloc_setting():
    return all(os.environ.get(name) == value for name, value in MALLOC.items())


def environment():
    """Where and with what a measurement was made."""
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    versions = {"python": platform.python_version(), "saelite": saelite.__version__}
    for name in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "cpu": cpu.partition(":")[2].strip() or cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "malloc_setting": malloc_setting(),
        "versions": versions,
    }


def interleaved(contestants, rounds, steps, warm_up=5):
    """Milliseconds a step takes, for each contestant a list over rounds.

    In each round every contestant has one turn, in an order that is shuffled anew: one step that is not timed, since it
    finds the caches full of the others' data, then `steps` that are.

    Parameters
    ----------
    contestants : dict of name to a function that runs as many steps as it is told
    rounds, steps, warm_up : int
    """
    names, shuffle = list(contestants), random.Random(0).shuffle
    times = {name: [] for name in names}
    for name in names:
        contestants[name](warm_up)
    for _ in range(rounds):
        shuffle(names)
        for name in names:
            contestants[name](1)
            started = time.perf_counter()
            contestants[name](steps)
            times[name].append(1000 * (time.perf_counter() - started) / steps)
    return times


def summary(times, batch):
    """Median and quartiles over rounds."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return {
        "ms": round(median, 3),
        "ms_quartiles": [round(low, 3), round(high, 3)],
        "samples_per_second": round(1000 * batch / median),
    }


def ratio(times, others):
    """The median over rounds of one contestant's time over another's in the same round."""
    return round(statistics.median(a / b for a, b in zip(times, others, strict=True)), 3)


@contextlib.contextmanager
def quiet():
    """No progress bars and no messages."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def record(out, part, result):
    """Put one part of a benchmark, with the environment it was measured in, into a JSON file beside the other parts."""
    if out is None:
        return
    path = Path(out)
    parts = json.loads(path.read_text()) if path.exists() else {}
    parts[part] = {"environment": environment(), "result": result}
    path.write_text(json.dumps(parts, indent=1) + "\n")

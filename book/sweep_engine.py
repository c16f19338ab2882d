"""Units of a sweep on Dask: on workers of this machine, or on those of a scheduler somewhere else.

Dask hands out the units, and hands a unit out again when its worker is lost. It keeps nothing from one sweep to the
next: which units are done is told from their records (`run_records.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import commands
import dask
import distributed
import execute
import filelock
import psutil
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

MEMORY_OF_A_UNIT = 4e9  # bytes; room for a notebook that reads the embedded language model
TIDYING = 30  # seconds that a unit has to end its kernel before it is left to itself

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # for `Carried`


def workers_that_fit(threads: int = 1) -> int:
    """How many units this machine has the cores and the memory for."""
    return int(max(1, min(CPU_COUNT // threads, MEMORY_LIMIT // MEMORY_OF_A_UNIT)))


# In the workers


def work(job: dict[str, Any]) -> None:
    """Run one unit in a process of its own, and end that process if the unit is no longer wanted or takes too much.

    Raises
    ------
    RuntimeError
        If the unit fails; the message says where and why.
    """
    worker = distributed.get_worker()
    task = worker.state.tasks[worker.get_current_task()]
    worker.log_event(job["topic"], job["number"])
    for path in (job["program"], job["notebook"], job["folder"]):
        if not Path(path).exists():
            raise RuntimeError(
                f"the worker on {socket.gethostname()} finds no {path}: it needs the project and the folder of the "
                "units at the same paths as the sweep"
            )
    environment = os.environ | job["environment"]
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask sets it for its workers; torch would pay for it
    limit = worker.memory_manager.memory_limit  # Dask minds its own process only
    ended_because = None
    with open(Path(job["folder"]) / "unit.log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, job["program"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C is the sweep's to hear
        )
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if ended_because:
                continue
            if task.state != "executing" or worker.status.name not in ("running", "paused"):
                ended_because = "it is no longer wanted"
            elif limit and memory_of(process.pid) > limit:
                ended_because = (
                    f"it took more than {limit / 1e9:.1f} GB of memory, its worker's share: try fewer workers"
                )
            if ended_because:
                process.stdin.close()  # `unit.py` takes this for the end of its worker
        why = process.stdout.read().strip()
    if process.returncode:
        unexplained = f"its process ended with code {process.returncode}, see {Path(job['folder']) / 'unit.log'}"
        raise RuntimeError(ended_because or why or unexplained)


def memory_of(pid: int) -> int:
    """Bytes that a process and all that it started hold in memory."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


# In the sweep


class Carried:
    """A function of this file that travels as code, so that scheduler and workers need not find the file by name."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __reduce__(self):
        return cloudpickle.loads, (cloudpickle.dumps(self.function),)


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[distributed.Client]:
    """A client of the scheduler at an address, or of a new one with workers on this machine only.

    Raises
    ------
    Refused
        If nothing answers at the address.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in a sentence of ours
    if scheduler:
        try:
            client = distributed.Client(scheduler, timeout=10, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            # such as a timeout, an address of no known kind, a certificate that is missing
            raise commands.Refused(
                f"No scheduler answers at {scheduler} ({' '.join(str(error).split())}): start one with "
                "`dask scheduler`, or leave out --scheduler to use this machine."
            ) from None
        try:
            yield client
        finally:
            client.close(timeout=5)
        return
    quiet = {"logging.distributed": "critical", "distributed.scheduler.http.routes": []}
    with (
        tempfile.TemporaryDirectory(prefix="sweep-") as folder,
        dask.config.set(quiet | {"distributed.worker.memory.terminate": False}),  # `work` minds what a unit takes
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=int(MEMORY_LIMIT / workers),
            host="127.0.0.1",
            dashboard_address=None,
            worker_dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},  # or it would ask for port 8787
            silence_logs=logging.CRITICAL,
            local_directory=folder,
            preload=["import os; os.setpgrp()"],  # a worker that hears Ctrl-C too would print its stack
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def run_units(client: distributed.Client, jobs: list[dict[str, Any]], retries: int, progress: Progress) -> None:
    """Run all units; `progress` is told of each.

    Raises
    ------
    NotebookFailed
        If the scheduler goes away. A unit that fails stops no other, and is told to `progress` alone.
    """
    topic = f"sweep-{uuid.uuid4().hex[:8]}"
    told: queue.SimpleQueue[tuple] = queue.SimpleQueue()
    client.subscribe_topic(topic, told.put)
    waiting = {}
    for job in jobs:
        how = {"key": f"{topic}-{job['number']}", "retries": retries}
        waiting[job["number"]] = client.submit(Carried(work), job | {"topic": topic}, **how)
    address = client.scheduler.address
    try:
        while waiting:
            while not told.empty():
                progress.starts(told.get()[1])
            for number, future in list(waiting.items()):
                if future.status == "finished":
                    progress.done(number)
                elif future.status == "error":
                    progress.failed(number, reason_of(future.exception()))
                elif future.status != "pending":
                    raise commands.NotebookFailed(
                        f"The scheduler at {address} went away. What had finished is kept: start it again, and the "
                        "same command resumes."
                    )
                else:
                    continue
                del waiting[number]
            progress.show(len(client.scheduler_info(n_workers=-1)["workers"]))
            time.sleep(0.2)
    except BaseException:
        # A second Ctrl-C would leave some of them running. SIG_IGN will not do: a process that starts now inherits it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        with contextlib.suppress(Exception):
            client.cancel(list(waiting.values()), force=True)
        let_end([Path(job["folder"]) for job in jobs if job["number"] in waiting])
        raise


def reason_of(error: BaseException) -> str:
    if isinstance(error, distributed.KilledWorker):
        return "its worker died each time that it ran, which is often want of memory: try fewer workers"
    return str(error)


def let_end(folders: list[Path]) -> None:
    """Wait until no process is at work in these folders, for a while."""
    end = time.monotonic() + TIDYING
    for folder in folders:
        with (
            contextlib.suppress(filelock.Timeout),
            filelock.FileLock(folder / execute.LOCK, timeout=max(0, end - time.monotonic())),
        ):
            pass


class Progress:
    """What is done, at work, failed and left: a line for each start and end, and a summing-up now and then.

    Parameters
    ----------
    labels : what to call each unit, by its number
    expected : seconds that each unit took before, or should take by those like it, by its number; None if unknown
    """

    def __init__(self, labels: dict[int, str], expected: dict[int, float | None]):
        self.labels, self.expected = labels, expected
        self.left, self.running, self.failures = set(labels), {}, {}
        self.took: list[float] = []
        self.in_place = sys.stdout.isatty() and not os.environ.get("CI")
        self.printed, self.started = time.monotonic(), set()

    def say(self, line: str) -> None:
        print(("\r\033[K" if self.in_place else "") + line, flush=True)

    def starts(self, number: int) -> None:
        self.running[number] = time.monotonic()
        self.say(f"{self.labels[number]}: starts{' again' if number in self.started else ''}")
        self.started.add(number)

    def done(self, number: int) -> None:
        seconds = time.monotonic() - self.running.pop(number, time.monotonic())
        self.took.append(seconds)
        self.left.discard(number)
        self.say(f"{self.labels[number]}: done in {commands.clock(seconds)}")

    def failed(self, number: int, reason: str) -> None:
        self.running.pop(number, None)
        self.left.discard(number)
        self.failures[number] = reason
        self.say(f"{self.labels[number]}: failed")

    def seconds_left(self, workers: int) -> float | None:
        """By what units took before, or else by those of this sweep that are done; None if there are none."""
        usual = sum(self.took) / len(self.took) if self.took else None
        seconds = 0.0
        for number in self.left:
            expected = self.expected[number] or usual
            if expected is None:
                return None
            begun = self.running.get(number)
            seconds += expected if begun is None else max(0.0, expected - (time.monotonic() - begun))
        return seconds / max(1, min(workers, len(self.left)))

    def show(self, workers: int) -> None:
        if time.monotonic() - self.printed < (1 if self.in_place else 60):
            return
        self.printed = time.monotonic()
        line = f"{len(self.took)} done, {len(self.running)} running, {len(self.failures)} failed"
        line += f"; left: {commands.count(len(self.left), 'unit')}"
        left = self.seconds_left(workers)
        line += f", about {commands.clock(left)} on {commands.count(workers, 'worker')}" if left and workers else ""
        line += "" if workers else "; no worker yet"
        print(f"\r\033[K{line}" if self.in_place else line, end="" if self.in_place else "\n", flush=True)

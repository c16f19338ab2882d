"""Units of a sweep on Dask: on workers of this machine, or on those of a scheduler somewhere else.

Dask hands a unit out, and out again when its worker is lost. Which units are done is told from `run_records.py` alone.
"""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import commands
import dask
import distributed
import psutil

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker elsewhere need not find this file by its name


def workers_that_fit(threads: int) -> int:
    """How many units this machine has cores for, and 4 GB each, room to read the embedded language model."""
    return int(max(1, min(dask.system.CPU_COUNT // threads, distributed.system.MEMORY_LIMIT // 4e9)))


def connected(scheduler: str | None, workers: int) -> distributed.Client:
    """A client of the scheduler at an address, refused if none answers; without one, of new workers on this machine."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in a sentence of ours
    if scheduler:
        try:
            return distributed.Client(scheduler, timeout=10)
        except (OSError, ValueError, TypeError) as error:  # a timeout, an address of no known kind, no certificate
            mend = "start one with `dask scheduler`, or leave out --scheduler to use this machine"
            raise commands.Refused(
                f"No scheduler answers at {scheduler} ({' '.join(str(error).split())}): {mend}."
            ) from None
    dask.config.set({"logging.distributed": "critical", "distributed.scheduler.http.routes": []})
    dask.config.set({"distributed.worker.memory.terminate": False})  # `work` minds what a unit takes
    return distributed.Client(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=int(distributed.system.MEMORY_LIMIT / workers),
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},  # or it would ask for port 8787
        silence_logs=logging.CRITICAL,
        preload=["import os; os.setpgrp()"],  # a worker that hears Ctrl-C too would print its stack
    )


def ended(client: distributed.Client, jobs: list, threads: int, retries: int) -> Iterator[tuple[int, str | None]]:
    """Run jobs, (words for Python, a folder); tell of each that ended its number, and None or why it failed."""
    if not client.scheduler_info()["workers"]:
        print("No worker has joined the scheduler yet: `dask worker ADDRESS` starts one.", flush=True)
    # a lambda travels as code, and `work` within it
    futures = client.map(lambda job: work(*job, threads), jobs, pure=False, retries=retries)
    for future in distributed.as_completed(futures, loop=client.loop):
        if future.status not in ("finished", "error"):
            gone = f"The scheduler at {client.scheduler.address} went away. What had finished is kept"
            raise commands.NotebookFailed(f"{gone}: start it again, and the same command resumes.")
        why = future.exception() if future.status == "error" else None
        if isinstance(why, distributed.KilledWorker):
            why = "its worker died each time that it ran, which is often want of memory: try fewer workers"
        yield futures.index(future), why and str(why)


def work(words: list[str], folder: str, threads: int) -> None:
    """Run a unit in a process of its own, ended if no longer wanted or too large; RuntimeError says why it failed."""
    worker = distributed.get_worker()
    task = worker.state.tasks[worker.get_current_task()]
    limit = worker.memory_manager.memory_limit  # Dask minds its own process only
    if missing := [path for path in (*words[:2], folder) if not Path(path).exists()]:
        must = "it needs the project and the folder of the units at the same paths as the sweep"
        raise RuntimeError(f"the worker at {worker.address} finds no {missing[0]}: {must}")
    # the same for all, or the last digits of a sum would tell how many ran side by side
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask sets it for its workers; torch would pay for it
    log, why = Path(folder) / "unit.log", None
    with open(log, "a", encoding="utf-8") as file:
        how = {"stdin": subprocess.PIPE, "stdout": file, "stderr": file, "start_new_session": True}
        process = subprocess.Popen([sys.executable, *words], env=environment, **how)
    while process.poll() is None:
        time.sleep(0.1)
        if task.state != "executing" or worker.status.name not in ("running", "paused"):
            why = "it is no longer wanted"
        with contextlib.suppress(psutil.NoSuchProcess):  # one that ended meanwhile; look again
            unit = psutil.Process(process.pid)
            if limit and sum(one.memory_info().rss for one in (unit, *unit.children(recursive=True))) > limit:
                why = f"it took more than {limit / 1e9:.1f} GB of memory, its worker's share: try fewer workers"
        if why:
            process.communicate()  # closes its input, and a unit whose input ends, ends too
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2]
        said = process.returncode in (1, 2) and last.startswith("error: ")
        raise RuntimeError(why or (last.removeprefix("error: ") if said else f"its process ended early, see {log}"))

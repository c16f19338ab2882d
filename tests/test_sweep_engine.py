"""Sweeps on workers: what happens when one dies, or the scheduler, and that their number changes no result."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import dask
import distributed
import pandas as pd
import psutil
import pytest
import sweep
import sweep_engine
from toy_notebook import LEAVES, write_notebook

# Tells that it runs, and with which process; waits for a file `on` if there are many samples.
WAITS = """\
import os, pathlib, time
with open(HERE / f"runs-{samples}", "a") as log:
    print(os.getpid(), file=log)
while samples > 1 and not (HERE / f"on-{samples}").exists():
    time.sleep(0.1)"""


def eventually(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def start(role, *arguments, environment):
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)


def gone(pid):
    """Whether a process has ended, though nobody may have asked yet how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_worker_that_is_killed_loses_no_unit_and_a_scheduler_that_goes_is_told(tmp_path, capsys):
    # The recipe for a cluster, on one machine: one certificate that all share, and nothing without it.
    certificate, key, at = tmp_path / "sweep.crt", tmp_path / "sweep.key", tmp_path / "scheduler.json"
    new = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=sweep"]
    make = ["openssl", "req", "-x509", *new, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    tls = {"require-encryption": True, "tls.ca-file": str(certificate)}
    for role in ("client", "scheduler", "worker"):
        tls |= {f"tls.{role}.cert": str(certificate), f"tls.{role}.key": str(key)}
    tls = {f"distributed.comm.{name}": value for name, value in tls.items()}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # they need no more
    environment |= {f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(v) for name, v in tls.items()}
    listen = ["--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = start("scheduler", *listen, "--scheduler-file", at, environment=environment)
    join = ["--scheduler-file", at, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]
    workers = [start("worker", *join, "--host", "tls://127.0.0.1", environment=environment) for _ in range(2)]
    notebook = write_notebook(
        tmp_path / "01_a.ipynb", WAITS.replace("HERE", f"pathlib.Path({str(tmp_path)!r})"), LEAVES
    )

    def runs(samples):
        log = tmp_path / f"runs-{samples}"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def run(grid):
        command = [str(notebook), "-g", grid, "--scheduler", json.loads(at.read_text())["address"]]
        with dask.config.set(tls):
            return sweep.main([*command, "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])

    def kill_a_worker():
        eventually(lambda: len(runs(2)) == 1)
        (its,) = [worker for worker in workers if worker.pid in [p.pid for p in psutil.Process(runs(2)[0]).parents()]]
        its.kill()
        eventually(lambda: len(runs(2)) == 2)  # on the other
        assert gone(runs(2)[0])  # what the dead worker ran does not go on beside it
        told["dead"] = True
        (tmp_path / "on-2").touch()

    def kill_the_scheduler():
        eventually(lambda: len(runs(3)) == 1)
        scheduler.kill()

    told = {}
    try:
        eventually(at.exists)
        killer = threading.Thread(target=kill_a_worker, daemon=True)
        killer.start()
        assert run("samples=2") == 0
        killer.join()
        assert told["dead"] and len(runs(2)) == 2
        assert list(pd.read_csv(tmp_path / "out" / "scores.csv")["samples"]) == [2, 2]
        record = (tmp_path / "out" / "record.json").read_text()
        assert "--scheduler ADDRESS" in record and "127.0.0.1" not in record
        capsys.readouterr()

        killer = threading.Thread(target=kill_the_scheduler, daemon=True)
        killer.start()
        assert run("samples=2,3") == 1
        killer.join()
        errors = capsys.readouterr().err
        assert "went away. What had finished is kept" in errors and errors.count("\n") == 1
        assert len(runs(2)) == 2  # it was done already
        eventually(lambda: gone(runs(3)[0]))
        assert run("samples=2") == 0  # nothing to do, so nothing to connect to
        assert run("samples=2,3") == 2
        assert "No scheduler answers at tls://127.0.0.1" in capsys.readouterr().err
    finally:
        for process in (scheduler, *workers):
            process.kill()
            process.wait()


def test_a_stopped_sweep_ends_its_processes_and_resumes(tmp_path):
    notebook = write_notebook(
        tmp_path / "01_a.ipynb", WAITS.replace("HERE", f"pathlib.Path({str(tmp_path)!r})"), LEAVES
    )
    out = tmp_path / "out"
    command = [sys.executable, sweep.__file__, str(notebook), "-g", "samples=1,2", "--jobs", "1", "--out", str(out)]
    command += ["--work", str(tmp_path / "work")]
    log = tmp_path / "runs-2"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: process.poll() is not None or log.exists())  # the first has finished, the second waits
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)  # a second would leave something running, and is not heard
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    # libzmq at times prints an assertion of its own when a kernel is ended (zeromq/libzmq#1307): noise, and not ours
    assert errors.endswith("\nStopped. What had finished is kept: the same command resumes.\n"), errors
    assert "Traceback" not in errors and not out.exists()
    eventually(lambda: gone(int(log.read_text())), seconds=10)  # a kernel may take a moment to see that it is alone

    (tmp_path / "on-2").touch()
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    assert [len((tmp_path / f"runs-{samples}").read_text().split()) for samples in (1, 2)] == [1, 2]
    assert list(pd.read_csv(out / "scores.csv")["samples"]) == [1, 1, 2, 2]


def test_a_unit_that_takes_more_memory_than_its_share_is_ended_in_words(tmp_path, monkeypatch):
    notebook = write_notebook(tmp_path / "01_a.ipynb", "held = bytearray(900_000_000)\nimport time\ntime.sleep(600)")
    worker = SimpleNamespace(  # as if in a worker, with no cluster
        state=SimpleNamespace(tasks={"unit": SimpleNamespace(state="executing")}),
        get_current_task=lambda: "unit",
        memory_manager=SimpleNamespace(memory_limit=800_000_000),
        status=SimpleNamespace(name="running"),
        address="tcp://127.0.0.1:1",
    )
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    (unit,) = sweep.units_of(notebook, {}, {"samples": [1]}, tmp_path)
    with pytest.raises(RuntimeError, match="took more than 0.8 GB of memory, its worker's share: try fewer workers"):
        sweep_engine.work(*unit.job(), 1)
    notebook.unlink()
    with pytest.raises(RuntimeError, match="at tcp://127.0.0.1:1 finds no .*01_a.ipynb: it needs the project"):
        sweep_engine.work(*unit.job(), 1)

"""Sweeps on workers: what happens when one dies, or the scheduler, and that their number changes no result."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import commands
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


@pytest.fixture(autouse=True)
def signals():
    """A sweep that is stopped leaves the signals deaf."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def eventually(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_one_worker_and_two_give_equal_tables_and_listen_on_this_machine_only(tmp_path, monkeypatch):
    notebook = write_notebook(tmp_path / "01_a.ipynb", LEAVES, "import os\nassert os.environ['OMP_NUM_THREADS'] == '1'")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what the sweep says holds
    connected, listening = sweep_engine.connected, []

    @contextlib.contextmanager
    def watched(*arguments):
        with connected(*arguments) as client:
            this = psutil.Process()
            for process in (this, *this.children(recursive=True)):
                listening.extend(c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN)
            yield client

    monkeypatch.setattr(sweep_engine, "connected", watched)
    for workers in ("1", "2"):
        out, work = tmp_path / f"out-{workers}", tmp_path / f"work-{workers}"
        command = [str(notebook), "-g", "samples=1,2", "--workers", workers, "--out", str(out), "--work", str(work)]
        assert sweep.main(command) == 0
    one, two = tmp_path / "out-1", tmp_path / "out-2"
    assert (one / "scores.csv").read_bytes() == (two / "scores.csv").read_bytes()
    tables = [pd.read_parquet(out / "comparison" / "results.parquet") for out in (one, two)]
    pd.testing.assert_frame_equal(*[table.drop(columns=["run_seconds", "run_date"]) for table in tables])
    assert len(listening) >= 5 and set(listening) == {"127.0.0.1"}


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
        assert run("samples=1,2") == 0
        killer.join()
        assert told["dead"] and len(runs(1)) == 1
        assert "[2/2] samples=2: starts again" in capsys.readouterr().out
        assert list(pd.read_csv(tmp_path / "out" / "scores.csv")["samples"]) == [1, 1, 2, 2]
        record = (tmp_path / "out" / "record.json").read_text()
        assert "--scheduler ADDRESS" in record and "127.0.0.1" not in record

        killer = threading.Thread(target=kill_the_scheduler, daemon=True)
        killer.start()
        assert run("samples=1,2,3") == 1
        killer.join()
        printed = capsys.readouterr()
        assert "went away. What had finished is kept" in printed.err and printed.err.count("\n") == 1
        assert printed.out.count("nothing changed since it ran") == 2
        eventually(lambda: gone(runs(3)[0]))
        assert run("samples=1") == 0  # nothing to do, so nothing to connect to
        assert run("samples=1,2,3") == 2
        assert "No scheduler answers at tls://127.0.0.1" in capsys.readouterr().err
    finally:
        for process in (scheduler, *workers):
            process.kill()
            process.wait()


def fake_worker(monkeypatch, limit=None):
    """`work` as if in a worker, with no cluster."""
    task = SimpleNamespace(state="executing")
    worker = SimpleNamespace(
        state=SimpleNamespace(tasks={"unit": task}),
        get_current_task=lambda: "unit",
        log_event=lambda *_: None,
        memory_manager=SimpleNamespace(memory_limit=limit),
        status=SimpleNamespace(name="running"),
    )
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    return task


def job_of(notebook, folder):
    folder.mkdir()
    about = {"number": 0, "topic": "t", "label": "unit", "parameters": {}, "environment": {}}
    program = Path(sweep_engine.__file__).with_name("unit.py")
    places = {"program": program, "root": commands.ROOT, "notebook": notebook, "folder": folder}
    return about | {name: str(path) for name, path in places.items()}


def test_a_unit_that_takes_more_memory_than_its_share_is_ended_in_words(tmp_path, monkeypatch):
    notebook = write_notebook(tmp_path / "01_a.ipynb", "held = bytearray(900_000_000)\nimport time\ntime.sleep(600)")
    fake_worker(monkeypatch, limit=800_000_000)
    with pytest.raises(RuntimeError, match="took more than 0.8 GB of memory, its worker's share: try fewer workers"):
        sweep_engine.work(job_of(notebook, tmp_path / "unit"))
    with pytest.raises(RuntimeError, match="finds no .*elsewhere.ipynb: it needs the project"):
        sweep_engine.work(job_of(tmp_path / "elsewhere.ipynb", tmp_path / "other"))


def test_time_left_is_told_by_earlier_runs_or_by_the_units_that_are_done(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(sweep_engine.time, "monotonic", lambda: now[0])
    unknown = sweep_engine.Progress({1: "one", 2: "two", 3: "three"}, {1: None, 2: None, 3: 40.0})
    assert unknown.seconds_left(1) is None
    unknown.starts(1)
    now[0] = 30.0
    unknown.done(1)
    assert unknown.seconds_left(1) == 70.0 and unknown.seconds_left(2) == unknown.seconds_left(9) == 35.0
    unknown.starts(2)
    now[0] = 100.0
    assert unknown.seconds_left(1) == 40.0  # the second is late, not early
    unknown.failed(2, "why")
    unknown.show(1)
    assert capsys.readouterr().out.splitlines() == [
        "one: starts",
        "one: done in 0:30",
        "two: starts",
        "two: failed",
        "1 done, 0 running, 1 failed; left: 1 unit, about 0:40 on 1 worker",
    ]

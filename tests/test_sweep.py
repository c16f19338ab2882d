"""Sweeps: how a grid is read, what is left behind, what is run again."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import pandas as pd
import pytest
import run_records
import sweep
import sweep_engine
import sweep_grid
import sweep_places
from papermill.iorw import papermill_io
from toy_notebook import LEAVES, write_notebook

CONNECTED = sweep_engine.connected  # a test puts the workers of all in its place


@pytest.fixture(scope="module")
def client():
    """Two workers for all tests of this file: they take seconds to start."""
    with CONNECTED(None, 2) as client:
        yield client


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    """A project of its own: one module, and no notebooks yet."""
    for folder in ("notebooks", "saelite"):
        (tmp_path / folder).mkdir()
    (tmp_path / "saelite" / "sae.py").write_text("width = 1\n")
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    shared = lambda *_: contextlib.nullcontext(request.getfixturevalue("client"))  # noqa: E731
    monkeypatch.setattr(sweep_engine, "connected", shared)
    return tmp_path


def run(project, *arguments):
    return sweep.main([*map(str, arguments), "--out", str(project / "book" / "results" / "toy")])


def started(capsys):
    """The units that the sweep had to run, and what it said besides."""
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line.endswith(": starts")]
    return sorted(line.split("] ")[1].removesuffix(": starts") for line in lines), printed


@pytest.mark.parametrize(
    "text, values",
    [
        ("0,1,2", ["0", "1", "2"]),
        ("[constant],[variable]", ["[constant]", "[variable]"]),
        ("[a,[b,c]],{d: (e,f)}", ["[a,[b,c]]", "{d: (e,f)}"]),
        ("'a,b', \"c,d\",e", ["a,b", "c,d", "e"]),
        ("['a],b','c']", ["['a],b','c']"]),
        ("'a','b'", ["a", "b"]),
        ("1e-3", ["1e-3"]),
    ],
)
def test_values_are_split_at_commas_outside_brackets_and_quotes(text, values):
    assert sweep_grid.split_values(text) == values


def test_units_are_all_combinations_each_with_a_safe_folder_of_its_own(tmp_path):
    grid = {"name": ["a/b", "a b", "../../a", "a" * 300], "depths": [[1], [2]]}
    units = sweep.units(grid)
    assert units[:3] == [{"name": "a/b", "depths": d} for d in ([1], [2])] + [{"name": "a b", "depths": [1]}]
    folders = [sweep.folder_of(unit, tmp_path) for unit in units]
    assert len(set(folders)) == 8
    for folder in folders:
        assert folder.parent == tmp_path and "name=" in folder.name
        folder.mkdir()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "needs a grid"),
        (["-g", "samples"], "must name a parameter and its values"),
        (["-g", "samples="], "must name a parameter and its values"),
        (["-g", "smaples=1,2"], "no parameter 'smaples'"),
        (["-g", "samples=1,many"], "samples must be int, and 'many' is not"),
        (["-g", "samples=1,,2"], "samples must be int"),
        (["-g", "samples=1", "-g", "samples=2"], "names samples twice"),
        (["-g", "rate=1e-3,0.001"], "gives rate the value 0.001 twice"),
        (["-g", "depths=[1,2"], "lack a closing ]"),
        (["-g", "samples=1", "-p", "samples", "2"], "both in the grid and in -p"),
        (["-g", "samples=1", "-p", "smaples", "2"], "no parameter 'smaples'"),
        (["-g", "samples=1", "--jobs", "0"], "--workers must be 1 or more"),
        (["-g", "samples=1", "--retries", "-1"], "--retries must be 0 or more"),
        (["-g", "samples=1", "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "--workers is for this machine"),
        (["--grid", "no.yaml"], "no.yaml cannot be read"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence_before_anything_runs(project, capsys, arguments, message):
    write_notebook(project / "notebooks" / "01_a.ipynb", "print(samples)")
    assert run(project, "01_a", *arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert not (project / "_build").exists() and not (project / "book").exists()


def test_leaves_tidy_tables_and_a_record_and_runs_nothing_twice(project, capsys):
    write_notebook(project / "notebooks" / "01_a.ipynb", LEAVES, "print('told', samples)")
    parameters = project / "parameters.yaml"
    parameters.write_text("01_a: {samples: 9, rate: 2}")
    command = ["01_a", "-g", "name=x,y", "-g", "depths=[1],[2,3]", "-p", "samples", "4", "-f", parameters]
    assert run(project, *command, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "[4/4] name=y, depths=[2, 3]: to run, at a cost that no finished unit tells",
        "4 units: 0 done, 4 to run.",
    ]
    assert not (project / "_build").exists() and not (project / "book").exists()
    assert run(project, *command, "--jobs", "2") == 0
    assert len(started(capsys)[0]) == 4
    logs = [log.read_text() for log in (project / "_build" / "sweeps" / "01_a").glob("*/unit.log")]
    assert [log.count("told 4") for log in logs] == [1] * 4

    out = project / "book" / "results" / "toy"
    assert sorted(path.name for path in out.iterdir()) == ["comparison", "record.json", "scores.csv"]
    lines = (out / "scores.csv").read_text().splitlines()
    assert lines[0] == "name,depths,score,draw,whole"  # `name` once, whole numbers whole
    assert lines[1:3] == ["x,[1],8.0,0,", "x,[1],8.0,1,1"]
    table = pd.read_csv(out / "scores.csv")
    assert list(table["name"]) == ["x"] * 4 + ["y"] * 4
    assert list(table["depths"].map(json.loads)) == [[1], [1], [2, 3], [2, 3]] * 2

    text = (out / "record.json").read_text()
    assert str(project) not in text and str(Path.home()) not in text and str(Path(sys.prefix)) not in text
    record = json.loads(text)
    assert record["command"] == (
        "python book/sweep.py notebooks/01_a.ipynb -g name=x,y -g 'depths=[1],[2,3]' -p samples 4 "
        "-f parameters.yaml --out book/results/toy --workers 2"
    )
    assert record["notebook"] == "01_a" and record["jobs"] == 2 and record["commit"] is None
    assert record["fixed_parameters"] == {"samples": 4, "rate": 2.0}
    assert record["grid"] == {"name": ["x", "y"], "depths": [[1], [2, 3]]}
    assert record["date"].endswith("+00:00") and record["machine"] == run_records.machine()
    assert [unit.pop("threads") for unit in record["units"]] == [1] * 4
    seconds = [unit.pop("wall_seconds") for unit in record["units"]]
    assert record["units"] == sweep.units(record["grid"])
    assert min(seconds) > 0 and record["total_seconds"] == pytest.approx(sum(seconds))

    results = pd.read_parquet(out / "comparison" / "results.parquet")
    assert list(results.columns[:7]) == ["table", "name", "depths", "score", "draw", "whole", "fixed_samples"]
    assert list(results["score"]) == list(table["score"]) and set(results["fixed_samples"]) == {4}
    assert results["whole"].dtype == "Int64" and set(results["fixed_rate"]) == {2.0}
    assert set(results["run_threads"]) == {1} and set(results["run_torch"]) == {run_records.machine()["torch"]}
    assert list(results["run_seconds"]) == [second for second in seconds for _ in range(2)]
    also = pd.read_csv(out / "comparison" / "results.csv")
    assert list(also.columns) == list(results.columns) and list(also["score"]) == list(results["score"])
    page = (out / "comparison" / "index.html").read_text()
    assert "<h2>scores</h2>" in page and record["command"].replace("'", "&#x27;") in page

    # The reference run is there now, and is no reason to make it again; nor is a wider grid, for what it had already.
    assert run(project, *command, "--jobs", "2") == 0
    assert started(capsys)[0] == [] and (out / "record.json").read_text() == text
    command[2] = "name=x,z"
    assert run(project, *command, "--dry-run", "--workers", "2") == 0
    shown = capsys.readouterr().out
    assert shown.count(": done, in 0:") == 2 and shown.count(": to run, about 0:") == 2
    assert re.search(
        r"4 units: 2 done, 2 to run, about \d:\d\d on 2 workers, by 4 finished units of this notebook.", shown
    )
    assert run(project, *command) == 0
    assert started(capsys)[0] == ["name=z, depths=[1]", "name=z, depths=[2, 3]"]
    (project / "saelite" / "sae.py").write_text("width = 2\n")
    assert run(project, "01_a", "-g", "name=x", "-g", "depths=[1]", *command[5:]) == 0
    assert started(capsys)[0] == ["name=x, depths=[1]"]


def test_a_failed_unit_stops_no_other_and_leaves_no_table(project, capsys):
    stumble = f"if samples == 1 and not os.path.exists({str(project / 'mended')!r}):\n    wrong()"
    write_notebook(project / "notebooks" / "01_a.ipynb", LEAVES, stumble)
    command = ["01_a", "-g", "samples=1,2,3"]
    assert run(project, *command, "--retries", "1") == 1
    ran, printed = started(capsys)
    assert printed.out.count("samples=1: starts again\n") == 1 and printed.out.count("samples=1: failed\n") == 1
    (half,) = (project / "_build").glob("sweeps/01_a/samples=1*/01_a.failed.ipynb")
    assert "NameError" in half.read_text() and (half.parent / "results" / "scores.json").is_file()
    assert ran == ["samples=1", "samples=2", "samples=3"]
    assert "1 of 3 units failed, so no table was written" in printed.err
    assert "samples=1: 01_a failed in code cell 4 of 4" in printed.err and "NameError" in printed.err
    assert "samples=2" not in printed.err
    assert not (project / "book" / "results").exists()

    (project / "mended").touch()
    assert run(project, *command) == 0
    assert started(capsys)[0] == ["samples=1"]
    assert list(pd.read_csv(project / "book" / "results" / "toy" / "scores.csv")["samples"]) == [1, 1, 2, 2, 3, 3]


def test_tables_that_were_not_all_written_have_no_record_and_old_ones_go(project, monkeypatch):
    write_notebook(project / "notebooks" / "01_a.ipynb", LEAVES)
    out = project / "book" / "results" / "toy"
    out.mkdir(parents=True)
    (out / "mine.csv").touch()
    assert run(project, "01_a", "-g", "samples=1") == 0
    assert (out / "mine.csv").exists()  # no sweep had made that folder
    (out / "earlier.csv").touch()
    with monkeypatch.context() as killed:
        killed.setattr(sweep_places, "keep", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert run(project, "01_a", "-g", "samples=1") == 130
    assert not (out / "record.json").exists() and not (out / "earlier.csv").exists()
    assert run(project, "01_a", "-g", "samples=1") == 0
    assert (out / "record.json").exists() and (out / "scores.csv").exists()


def test_a_stopped_sweep_ends_its_processes_and_resumes(tmp_path):
    # Of three units the first finishes; the two others, side by side, wait until there is a file `on`.
    begin = f"""\
import os, pathlib, time
here = pathlib.Path({str(tmp_path)!r})
with open(here / f"runs-{{samples}}", "a") as log:
    print(os.getpid(), file=log)
while samples > 1 and not (here / "on").exists():
    time.sleep(0.1)"""
    notebook = write_notebook(tmp_path / "01_a.ipynb", begin, LEAVES)
    out, work = tmp_path / "out", tmp_path / "work"
    command = [sys.executable, sweep.__file__, notebook, "-g", "samples=1,2,3", "--jobs", "2", "--out", out]
    command = [*map(str, command), "--work", str(work)]

    def runs(samples):
        log = tmp_path / f"runs-{samples}"
        return log.read_text().split() if log.exists() else []

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while process.poll() is None and not (runs(2) and runs(3)) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    # libzmq at times prints an assertion of its own when a kernel is ended (zeromq/libzmq#1307): noise, and not ours
    assert errors.endswith("\nStopped. What had finished is kept: the same command resumes.\n"), errors
    assert "Traceback" not in errors
    assert not out.exists()
    for kernel in map(int, runs(2) + runs(3)):
        with pytest.raises(ProcessLookupError):
            for _ in range(50):  # a kernel may take a moment to see that it is alone
                os.kill(kernel, 0)
                time.sleep(0.1)

    (tmp_path / "on").touch()
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    assert [len(runs(samples)) for samples in (1, 2, 3)] == [1, 2, 2]
    assert list(pd.read_csv(out / "scores.csv")["samples"]) == [1, 1, 2, 2, 3, 3]
    record = (out / "record.json").read_text()
    assert str(tmp_path) not in record and "--out out --workers 2 --work work" in json.loads(record)["command"]


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_commit_is_told_and_whether_tracked_files_differ(project):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.check_output(["git", "-C", str(project), *identity, *arguments], text=True).strip()

    results = project / "book" / "results" / "toy.csv"
    results.parent.mkdir(parents=True)
    results.write_text("a\n1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert sweep.commit() == git("rev-parse", "HEAD")
    (project / "new.txt").touch()
    results.write_text("a\n2\n")  # else one reference run would mark the next
    assert sweep.commit() == git("rev-parse", "HEAD")
    (project / "saelite" / "sae.py").write_text("width = 2\n")
    assert sweep.commit() == git("rev-parse", "HEAD") + " + changes"


def test_a_notebook_depends_on_the_reference_runs_but_a_unit_does_not(project):
    notebook = write_notebook(project / "notebooks" / "01_a.ipynb")
    table = project / "book" / "results" / "toy" / "scores.csv"

    def keys(**how):
        return run_records.run_key(notebook, {}, **how)

    book, unit = [keys()], [keys(references=False)]
    table.parent.mkdir(parents=True)
    for text in ("1", "2"):
        table.write_text(text)
        book.append(keys())
        unit.append(keys(references=False))
    table.rename(table.with_name("other.csv"))
    book.append(keys())
    assert len(set(book)) == 4 and len(set(unit)) == 1


def test_a_grid_may_come_from_a_file_and_the_command_line_overrules_it(project):
    notebook = write_notebook(project / "notebooks" / "01_a.ipynb")
    file = project / "grid.yaml"
    file.write_text("01_a: {samples: [1, 2], rate: [1e-3, 2], depths: [[1], [2, 3]]}")
    grid = sweep_grid.read_grid(notebook, ["samples=7"], file)
    assert grid == {"samples": [7], "rate": [0.001, 2.0], "depths": [[1], [2, 3]]}
    for wrong, message in {
        "{samples: 1}": "samples a list of values",
        "{smaples: [1]}": "no parameter 'smaples'",
        "{samples: [a]}": "samples must be int",
        "{samples: [1, 1]}": "gives samples the value 1 twice",
    }.items():
        file.write_text(f"01_a: {wrong}")
        with pytest.raises(commands.Refused, match=message):
            sweep_grid.read_grid(notebook, [], file)


def test_remote_places_need_their_extra_and_then_work(project, capsys, monkeypatch):
    held = {}

    class Bucket:
        read = staticmethod(lambda path: held[path])
        write = staticmethod(lambda text, path: held.__setitem__(path, text))

    monkeypatch.setattr(papermill_io, "_handlers", [("s3://", Bucket), *papermill_io._handlers])
    monkeypatch.setitem(sweep_places.EXTRAS, "s3", ("no_such_module", "s3"))
    command = ["s3://bucket/01_a.ipynb", "-g", "samples=1", "--out", "s3://bucket/toy"]
    assert sweep.main(command) == 2
    assert "s3://bucket/toy needs papermill's extra 's3'" in capsys.readouterr().err
    assert sweep.main(["01_a", "-g", "samples=1", "--out", "ftp://host/toy"]) == 2
    assert "it knows folders, and s3://, gs://" in capsys.readouterr().err

    monkeypatch.setitem(sweep_places.EXTRAS, "s3", ("json", "s3"))
    assert sweep.main(command) == 2
    assert "s3://bucket/01_a.ipynb cannot be read" in capsys.readouterr().err
    held["s3://bucket/01_a.ipynb"] = write_notebook(project / "01_a.ipynb", LEAVES).read_text()
    assert sweep.main(command) == 0
    left = {path.removeprefix("s3://bucket/toy/") for path in held}
    assert {"scores.csv", "record.json", "comparison/index.html", "comparison/results.csv"} < left
    assert len([path for path in left if path.startswith("units/")]) == 1
    assert "-g samples=1 --out s3://bucket/toy" in json.loads(held["s3://bucket/toy/record.json"])["command"]
    assert held["s3://bucket/toy/scores.csv"].count("\n") == 3

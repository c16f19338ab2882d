"""Sweeps: how a grid is read, what is left behind, what is run again."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import commands
import fsspec
import pandas as pd
import psutil
import pytest
import run_records
import sweep
import sweep_engine
from notebook_parameters import read_grid, split_values
from saebook.tables import reference_run
from toy_notebook import LEAVES, write_notebook


@pytest.fixture(scope="module")
def client():
    """Two workers for all tests of this file: they take seconds to start."""
    with sweep_engine.connected(None, 2) as client:
        yield client


@pytest.fixture
def run(tmp_path, monkeypatch, client):
    """Run a sweep on the workers of all; it gives the exit code and the units that had to run."""

    def run(notebook, *arguments, out=tmp_path / "out"):
        ran = []

        def ended(client, jobs, *how):
            ran.extend(Path(folder).name.rpartition("-")[0] for _, folder in jobs)
            return plain(client, jobs, *how)

        plain = sweep_engine.ended
        with monkeypatch.context() as patched:
            patched.setattr(sweep_engine, "connected", lambda *_: contextlib.nullcontext(client))
            patched.setattr(sweep_engine, "ended", ended)
            words = [notebook, *arguments, "--out", out, "--work", tmp_path / "work"]
            return sweep.main(list(map(str, words))), sorted(ran)

    return run


@pytest.mark.parametrize(
    "text, values",
    [
        ("0,1,2", ["0", "1", "2"]),
        ("[constant TopK], [variable]", [["constant TopK"], ["variable"]]),
        ("[1,[b,2.5]],{d: 1}", [[1, ["b", 2.5]], {"d": 1}]),
        ("'a,b', \"c,d\",e f", ["a,b", "c,d", "e f"]),
        ("['a],b','c']", [["a],b", "c"]]),
        ("1e-3,no,http://host:80/a", ["1e-3", "no", "http://host:80/a"]),
    ],
)
def test_values_are_read_as_yaml_reads_a_list_but_text_stays_text(text, values):
    assert split_values(text) == values


def test_units_are_all_combinations_each_with_a_safe_folder_of_its_own(tmp_path):
    notebook = write_notebook(tmp_path / "01_a.ipynb")
    grid = {"name": ["a/b", "a b", "../../a", "a" * 300], "depths": [[1], [2]]}
    units = sweep.units_of(notebook, {"rate": 2.0}, grid, tmp_path / "work")
    values = [{"name": "a/b", "depths": [1]}, {"name": "a/b", "depths": [2]}, {"name": "a b", "depths": [1]}]
    assert [unit.values for unit in units[:3]] == values and units[0].parameters == values[0] | {"rate": 2.0}
    assert len({unit.folder for unit in units}) == len({unit.key for unit in units}) == 8
    turned = sweep.units_of(notebook, {}, dict(reversed(grid.items())), tmp_path / "work")
    assert {unit.folder for unit in turned} == {unit.folder for unit in units}
    for unit in units:
        assert unit.folder.parent == tmp_path / "work" and "name=" in unit.folder.name
        unit.folder.mkdir(parents=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "needs a grid"),
        (["-g", "samples"], "samples needs values"),
        (["-g", "samples="], "samples needs values"),
        (["-g", "=1"], "A parameter needs values"),
        (["-g", "smaples=1,2"], "no parameter 'smaples'"),
        (["-g", "samples=1,many"], "samples must be int, and 'many' is not"),
        (["-g", "samples=1,,2"], "are no list"),
        (["-g", "samples=1", "-g", "samples=1"], "gives samples the value 1 twice"),
        (["-g", "rate=1e-3,0.001"], "gives rate the value 0.001 twice"),
        (["-g", "depths=[1,2"], "are no list"),
        (["-g", "samples=1", "-p", "samples", "2"], "both in the grid and in -p"),
        (["-g", "samples=1", "-p", "smaples", "2"], "no parameter 'smaples'"),
        (["-g", "samples=1", "--jobs", "0"], "--workers must be 1 or more"),
        (["-g", "samples=1", "--retries", "-1"], "--retries must be 0 or more"),
        (["-g", "samples=1", "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "--workers is for this machine"),
        (["--grid", "no.yaml"], "no.yaml cannot be read"),
        (["-g", "samples=1", "--out", "nowhere://toy"], "nowhere://toy cannot be reached"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence_before_anything_runs(tmp_path, capsys, arguments, message):
    notebook = write_notebook(tmp_path / "01_a.ipynb", "print(samples)")
    assert (
        sweep.main([str(notebook), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), *arguments]) == 2
    )
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["01_a.ipynb"]


def test_a_grid_may_come_from_a_file_and_the_command_line_overrules_it(tmp_path):
    notebook = write_notebook(tmp_path / "01_a.ipynb")
    file = tmp_path / "grid.yaml"
    file.write_text("01_a: {samples: [1, 2], rate: [1e-3, 2], depths: [[1], [2, 3]]}")
    grid = read_grid(notebook, ["samples=7"], file)
    assert grid == {"samples": [7], "rate": [0.001, 2.0], "depths": [[1], [2, 3]]}
    for wrong, message in {
        "{samples: 1}": "samples needs values",
        "{smaples: [1]}": "no parameter 'smaples'",
        "{samples: [a]}": "samples must be int",
        "{samples: [1, 1]}": "gives samples the value 1 twice",
    }.items():
        file.write_text(f"01_a: {wrong}")
        with pytest.raises(commands.Refused, match=message):
            read_grid(notebook, [], file)


def test_leaves_tidy_tables_and_a_record_and_runs_nothing_twice(tmp_path, run, capsys, monkeypatch):
    notebook = write_notebook(tmp_path / "01_a.ipynb", LEAVES, "assert os.environ['OMP_NUM_THREADS'] == '1'")
    parameters, out = tmp_path / "parameters.yaml", tmp_path / "out"
    parameters.write_text("01_a: {samples: 9, rate: 2}")
    out.mkdir()
    (out / "mine.csv").touch()
    command = ["-g", "name=x", "-g", "depths=[1],[2,3]", "-p", "samples", "4", "-f", parameters, "--workers", "2"]
    assert run(notebook, *command, "--dry-run") == (0, [])
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] name=x, depths=[1]: to run",
        "[2/2] name=x, depths=[2, 3]: to run",
        "2 units: 0 done, 2 to run.",
    ]
    assert not (tmp_path / "work").exists()
    assert run(notebook, *command) == (0, ["depths=_1_name=x", "depths=_2_3_name=x"])
    assert (out / "mine.csv").exists()  # no sweep had made that folder
    (out / "mine.csv").unlink()

    assert sorted(path.name for path in out.iterdir()) == ["comparison", "record.json", "scores.csv"]
    lines = (out / "scores.csv").read_text().splitlines()
    assert lines[0] == "name,depths,score,draw,whole"  # `name` once, whole numbers whole
    assert lines[1:3] == ["x,[1],8.0,0,", "x,[1],8.0,1,1"]
    table = pd.read_csv(out / "scores.csv")
    assert list(table["depths"].map(json.loads)) == [[1], [1], [2, 3], [2, 3]]

    text = (out / "record.json").read_text()
    assert str(tmp_path) not in text and str(Path.home()) not in text and str(Path(sys.prefix)) not in text
    record = json.loads(text)
    assert record["command"] == (
        "python book/sweep.py 01_a.ipynb -g name=x -g 'depths=[1],[2,3]' -p samples 4 -f parameters.yaml --workers 2 "
        "--out out --work work"
    )
    assert record["notebook"] == "01_a" and record["jobs"] == 2
    assert (record["commit"] or "").startswith((run_records.commit() or "").partition(" ")[0])
    assert record["fixed_parameters"] == {"samples": 4, "rate": 2.0} and record["defaults"] == {}
    assert record["grid"] == {"name": ["x"], "depths": [[1], [2, 3]]}
    assert record["date"].endswith("+00:00") and record["machine"] == run_records.machine()
    seconds = [unit.pop("wall_seconds") for unit in record["units"]]
    assert record["units"] == [{"name": "x", "depths": depths, "threads": 1} for depths in ([1], [2, 3])]
    assert min(seconds) > 0 and record["total_seconds"] == pytest.approx(sum(seconds))
    assert reference_run(out, "scores").tables["scores"].equals(table)

    results = pd.read_parquet(out / "comparison" / "results.parquet")
    assert list(results.columns[:7]) == ["table", "name", "depths", "score", "draw", "whole", "fixed_samples"]
    assert list(results["score"]) == list(table["score"]) and set(results["fixed_samples"]) == {4}
    assert results["whole"].dtype == "Int64" and set(results["fixed_rate"]) == {2.0}
    assert set(results["run_threads"]) == {1} and set(results["run_torch"]) == {run_records.machine()["torch"]}
    assert list(results["run_seconds"]) == [second for second in seconds for _ in range(2)]
    also = pd.read_csv(out / "comparison" / "results.csv")
    assert list(also.columns) == list(results.columns) and list(also["score"]) == list(results["score"])
    page = (out / "comparison" / "index.html").read_text()
    assert "<h2>scores</h2>" in page and "--out out --work work" in page

    # Nothing to do leaves the same record; tables that were not all written leave none, and old ones go.
    assert run(notebook, *command) == (0, []) and (out / "record.json").read_text() == text
    (out / "earlier.csv").touch()
    with monkeypatch.context() as killed:
        stop = lambda *_: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        killed.setattr(fsspec.implementations.local.LocalFileSystem, "pipe_file", stop)
        assert run(notebook, *command) == (130, [])
    assert not (out / "record.json").exists() and not (out / "earlier.csv").exists()

    # A wider grid runs only what it adds, and another notebook everything.
    command[3] = "depths=[1],[5]"
    capsys.readouterr()
    assert run(notebook, *command, "--dry-run") == (0, [])
    said = capsys.readouterr().out
    assert "depths=[1]: done\n" in said and "2 units: 1 done, 1 to run, about 0:" in said
    assert run(notebook, *command) == (0, ["depths=_5_name=x"]) and (out / "record.json").exists()
    write_notebook(tmp_path / "01_a.ipynb", LEAVES, "'other'")
    command[3] = "depths=[1]"
    assert run(notebook, *command) == (0, ["depths=_1_name=x"])


def test_a_failed_unit_stops_no_other_is_tried_again_and_leaves_no_table(tmp_path, run, capsys):
    mended, tries = tmp_path / "mended", tmp_path / "tries"
    stumble = f"""if samples == 1 and not os.path.exists({str(mended)!r}):
    print('again', file=open({str(tries)!r}, 'a'))
    wrong()"""
    notebook = write_notebook(tmp_path / "01_a.ipynb", LEAVES, stumble)
    command = [notebook, "-g", "samples=1,2"]
    assert run(*command, "--retries", "1") == (1, ["samples=1", "samples=2"])
    printed = capsys.readouterr()
    assert printed.out.count("samples=1: failed; 2 units: 1 done") == 1 and tries.read_text().count("again") == 2
    (half,) = (tmp_path / "work").glob("samples=1*/01_a.failed.ipynb")
    assert "NameError" in half.read_text() and (half.parent / "results" / "scores.json").is_file()
    assert "1 of 2 units failed, so no table was written" in printed.err
    assert "samples=1: 01_a failed in code cell 4 of 4" in printed.err and "NameError" in printed.err
    assert "samples=2" not in printed.err and not (tmp_path / "out").exists()

    mended.touch()
    assert run(*command) == (0, ["samples=1"])
    assert list(pd.read_csv(tmp_path / "out" / "scores.csv")["samples"]) == [1, 1, 2, 2]


def test_notebook_and_results_may_be_at_an_address(tmp_path, run, capsys):
    memory = fsspec.filesystem("memory")
    assert run("memory://bucket/01_a.ipynb", "-g", "samples=1", out="memory://bucket/toy") == (2, [])
    assert "memory://bucket/01_a.ipynb cannot be reached" in capsys.readouterr().err
    memory.pipe_file("/bucket/01_a.ipynb", write_notebook(tmp_path / "01_a.ipynb", LEAVES).read_bytes())
    assert run("memory://bucket/01_a.ipynb", "-g", "samples=1", out="memory://bucket/toy") == (0, ["samples=1"])
    left = {path.removeprefix("/bucket/toy/") for path in memory.find("/bucket/toy")}
    assert left == {
        "scores.csv",
        "record.json",
        *(f"comparison/{n}" for n in ("index.html", "results.csv", "results.parquet")),
    }
    assert "-g samples=1 --out memory://bucket/toy" in json.loads(memory.cat("/bucket/toy/record.json"))["command"]


def test_workers_of_this_machine_listen_on_it_only(client):
    this = psutil.Process()
    found = [c for process in (this, *this.children(recursive=True)) for c in process.net_connections()]
    listening = [c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 5 and set(listening) == {"127.0.0.1"}


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_commit_is_told_and_whether_tracked_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "ROOT", tmp_path)

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.check_output(["git", "-C", str(tmp_path), *identity, *arguments], text=True).strip()

    results, code = tmp_path / "book" / "results" / "toy.csv", tmp_path / "code.py"
    results.parent.mkdir(parents=True)
    for path in (results, code):
        path.write_text("1\n")
    assert run_records.commit() is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert run_records.commit() == git("rev-parse", "HEAD")
    (tmp_path / "new.txt").touch()
    results.write_text("2\n")  # else one reference run would mark the next
    assert run_records.commit() == git("rev-parse", "HEAD")
    code.write_text("2\n")
    assert run_records.commit() == git("rev-parse", "HEAD") + " + changes"


def test_a_notebook_depends_on_the_reference_runs_but_a_unit_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    notebook = write_notebook(tmp_path / "01_a.ipynb")
    table = tmp_path / "book" / "results" / "toy" / "scores.csv"

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

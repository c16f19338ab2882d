"""Running notebooks: what is refused, what is left behind, what is run again."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import commands
import execute
import nbformat
import notebook_parameters
import pytest
import run_records
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = """\
samples: int = 3  # how many
rate: float = 0.5  # how fast
layer: int | None = None  # which
name: str = "a"  # what
depths: list[int] = [1]  # how deep
pair: tuple[int, int] = (1, 2)  # both
quick: bool = False  # whether"""


def write_notebook(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells.append(nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own: one module, and no notebooks yet."""
    for folder in ("notebooks", "saelite"):
        (tmp_path / folder).mkdir()
    (tmp_path / "saelite" / "sae.py").write_text("width = 1\n")
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    return tmp_path


def run(project, *arguments):
    return execute.main([*map(str, arguments), "--out", str(project / "out")])


def test_unknown_parameter_is_refused_before_anything_runs(project, capsys):
    write_notebook(project / "notebooks" / "01_a.ipynb", "print(samples)")
    assert run(project, "01_a", "-p", "smaples", "3") == 2
    message = capsys.readouterr().err
    assert "no parameter 'smaples'" in message and "samples, rate, layer" in message
    assert message.count("\n") == 1
    assert not (project / "out").exists()


def test_unknown_parameter_in_a_file_and_unknown_notebook_are_refused(project, capsys):
    write_notebook(project / "notebooks" / "01_a.ipynb", "print(samples)")
    parameters = project / "parameters.yaml"
    parameters.write_text("01_a: {smaples: 3}")
    assert run(project, "-f", parameters) == 2
    assert "no parameter 'smaples'" in capsys.readouterr().err
    parameters.write_text("02_b: {samples: 3}")
    assert run(project, "-f", parameters) == 2
    assert "'02_b'" in capsys.readouterr().err
    assert run(project, "03_c") == 2
    assert "no notebook '03_c'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, value",
    [
        ("samples", "many"),
        ("samples", 2.5),
        ("samples", True),
        ("samples", None),
        ("rate", "fast"),
        ("layer", 1.5),
        ("name", 3),
        ("depths", [1, "two"]),
        ("pair", [1]),
        ("quick", 7),
    ],
)
def test_wrong_type_is_refused(project, name, value):
    notebook = write_notebook(project / "notebooks" / "01_a.ipynb")
    with pytest.raises(commands.Refused, match=f"01_a: {name} must be"):
        notebook_parameters.check_parameters(notebook, {name: value})


@pytest.mark.parametrize(
    "name, value, meant",
    [
        ("samples", "7", 7),
        ("rate", "1e-3", 0.001),  # text, says YAML
        ("rate", 2, 2.0),
        ("layer", "null", None),
        ("layer", "9", 9),
        ("name", "3", "3"),
        ("depths", "[1, 2]", [1, 2]),
        ("pair", [3, 4], [3, 4]),
        ("quick", "true", True),
    ],
)
def test_values_are_read_as_their_type_asks(project, name, value, meant):
    notebook = write_notebook(project / "notebooks" / "01_a.ipynb")
    fitted = notebook_parameters.check_parameters(notebook, {name: value})[name]
    assert fitted == meant and type(fitted) is type(meant)


@pytest.mark.parametrize(
    "annotation",
    ["__import__('os').mkdir('ran')", "list[__import__('os').mkdir('ran')]", '"__import__(\'os\').mkdir(\'ran\')"',
     "int.__name__", "Literal[__import__('os').mkdir('ran')]", "list['open']", "open"],
)  # fmt: skip
def test_to_look_at_a_notebook_runs_nothing_of_it(project, capsys, monkeypatch, annotation):
    monkeypatch.chdir(project)
    monkeypatch.setattr(f"{__name__}.PARAMETERS", f"samples: {annotation} = 3")
    write_notebook(project / "notebooks" / "01_a.ipynb")
    assert run(project, "01_a", "--dry-run", "-p", "samples", "3") == 2
    message = capsys.readouterr().err
    assert "01_a: " in message and "is no type of a parameter" in message and message.count("\n") == 1
    assert not (project / "ran").exists()


def test_types_that_a_parameter_may_have(project, monkeypatch):
    kinds = {"a": int | None, "b": dict[str, list[float]], "c": tuple[int, ...], "d": Any, "e": Literal["x", 2, None]}
    lines = ["a: int | None = 1", "b: dict[str, list[float]] = {}", "c: tuple[int, ...] = ()", "d: Any = 1"]
    monkeypatch.setattr(f"{__name__}.PARAMETERS", "\n".join([*lines, "e: Literal['x', 2, None] = 2"]))
    assert notebook_parameters.declared_parameters(write_notebook(project / "notebooks" / "01_a.ipynb")) == kinds


def test_two_runs_are_byte_identical_and_show_the_parameters(project):
    cells = [
        "import sys\nprint(samples, name)\nprint('err', file=sys.stderr, flush=True)\nprint('more')",
        "import matplotlib.pyplot as plt\nplt.plot([1, samples])\nplt.show()",
        "{'b', 'a', name}",
    ]
    notebook = write_notebook(project / "notebooks" / "01_a.ipynb", *cells)
    texts = []
    for out in (project / "one", project / "two"):
        assert execute.main([str(notebook), "-p", "samples", "9", "--out", str(out)]) == 0
        texts.append((out / "01_a.ipynb").read_bytes())
    assert texts[0] == texts[1]
    assert b"papermill" not in texts[0] and str(project).encode() not in texts[0]
    injected = nbformat.reads(texts[0].decode(), as_version=4).cells[1]
    assert injected.source.strip() == "# Parameters\nsamples = 9"
    assert injected.id == "injected-parameters" and "hide-input" in injected.metadata.tags
    record = (project / "one" / "01_a.run.json").read_text()
    assert json.loads(record)["parameters"] == {"samples": 9}
    assert str(project) not in record and str(Path.home()) not in record


def test_a_failure_names_the_cell_and_keeps_what_had_finished(project, capsys):
    write_notebook(project / "notebooks" / "01_a.ipynb", "print(samples)")
    write_notebook(project / "notebooks" / "02_b.ipynb", "print('so far')", "x = 1\nwrong(x)", "print('never')")
    write_notebook(project / "notebooks" / "03_c.ipynb", "print(samples)")
    assert run(project) == 1
    message = capsys.readouterr().err
    assert "02_b failed in code cell 3 of 4 (x = 1): NameError: name 'wrong' is not defined" in message
    assert message.count("\n") == 1
    out = project / "out"
    assert (out / "01_a.ipynb").is_file()
    assert "so far" in (out / "02_b.failed.ipynb").read_text()
    assert not (out / "02_b.ipynb").exists() and not (out / "03_c.ipynb").exists()

    write_notebook(project / "notebooks" / "02_b.ipynb", "print('mended')")
    assert run(project) == 0
    assert "01_a: nothing changed" in capsys.readouterr().out
    assert (out / "02_b.ipynb").is_file() and not (out / "02_b.failed.ipynb").exists()


def test_a_kernel_that_dies_is_a_failure(project, capsys):
    write_notebook(project / "notebooks" / "01_a.ipynb", "import os\nos._exit(9)")
    assert run(project) == 1
    assert "01_a failed in code cell 2 of 2 (import os)" in capsys.readouterr().err


def test_runs_again_when_and_only_when_something_changed(project, capsys):
    write_result = "import os, pathlib\npathlib.Path(os.environ['SAELITE_RESULTS'], 'a.json').write_text(name)"
    write_notebook(project / "notebooks" / "01_a.ipynb", write_result)
    write_notebook(project / "notebooks" / "02_b.ipynb", "print(samples)")

    def which_ran(*arguments):
        assert run(project, *arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split()[1].rstrip(":") for line in lines if "done in" in line]

    result = project / "out" / "results" / "a.json"
    assert which_ran() == ["01_a", "02_b"]
    assert which_ran() == []
    (project / "saelite" / "sae.py").write_text("width = 2\n")
    assert which_ran() == ["01_a", "02_b"]
    (project / "saelite" / "exercises").mkdir()
    keys = {run_records.run_key(project / "notebooks" / "02_b.ipynb", {})}
    for name in ("exercises/sae.py", "paper_scores.csv", "model_configs.json"):  # of one name as another file, too
        (project / "saelite" / name).touch()
        keys.add(run_records.run_key(project / "notebooks" / "02_b.ipynb", {}))
    assert len(keys) == 4
    assert which_ran() == ["01_a", "02_b"]
    result.unlink()
    assert which_ran() == ["01_a"]
    assert result.read_text() == "a"
    assert which_ran("01_a", "-p", "name", "z") == ["01_a"]
    assert result.read_text() == "z"
    assert which_ran("02_b") == []
    (project / "out" / "02_b.ipynb").unlink()
    assert which_ran("02_b") == ["02_b"]


SIDE_BY_SIDE = """\
import os, pathlib, time
kept = pathlib.Path(os.environ["SAELITE_RESULTS"], name)
kept.write_text(name)
others = kept.parent.parent
while len(list(others.glob(".*.results/*"))) < 2:
    time.sleep(0.05)
print(os.environ["OMP_NUM_THREADS"])"""


def test_side_by_side_each_notebook_keeps_its_own_files_and_its_threads(project, monkeypatch):
    """Each waits until the other has begun."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for stem in ("01_a", "02_b"):
        write_notebook(project / "notebooks" / f"{stem}.ipynb", f"name = '{stem}'\n{SIDE_BY_SIDE}")
    assert run(project, "--at-once", 2) == 0
    for stem in ("01_a", "02_b"):
        record = json.loads((project / "out" / f"{stem}.run.json").read_text())
        assert list(record["results"]) == [stem] and record["threads"] == 1
        assert (project / "out" / "results" / stem).read_text() == stem
    assert not list((project / "out").glob(".*.results"))


def test_a_failure_stops_the_notebook_beside_it(project, capsys):
    waits = "import pathlib, time\nwhile not pathlib.Path('../out/.02_b.results/begun').exists():\n    time.sleep(0.05)"
    begins = "import os, pathlib, time\npathlib.Path(os.environ['SAELITE_RESULTS'], 'begun').touch()\ntime.sleep(600)"
    write_notebook(project / "notebooks" / "01_a.ipynb", waits, "wrong")
    write_notebook(project / "notebooks" / "02_b.ipynb", begins)
    write_notebook(project / "notebooks" / "03_c.ipynb", "print(samples)")
    assert run(project, "--at-once", 2) == 1
    told = capsys.readouterr()
    assert "01_a failed in code cell 3 of 3" in told.err and "02_b: stopped after" in told.out
    left = {path.name for path in (project / "out").iterdir()} - {execute.LOCK}
    assert left == {"01_a.failed.ipynb", "results"}


def test_a_notebook_that_differs_from_its_source_is_refused(project):
    notebook = write_notebook(project / "notebooks" / "01_a.ipynb", "print(samples)")
    notebook.with_suffix(".py").write_text("# %%\nprint('edited')\n")
    with pytest.raises(commands.Refused, match="jupytext --sync"):
        notebook_parameters.find_notebook(notebook)


def test_a_dry_run_lists_parameters_and_runs_nothing(project, capsys):
    write_notebook(project / "notebooks" / "01_a.ipynb", "raise SystemExit")
    assert run(project, "--dry-run", "-p", "samples", "7") == 0
    printed = capsys.readouterr().out
    assert "01_a: 1 of 7 parameters are not the default" in printed
    assert "samples = 7  (default 3)" in printed and "depths = [1]\n" in printed and "layer = None\n" in printed
    assert not list(project.rglob("*.run.json")) and not (project / "out" / "01_a.ipynb").exists()
    assert run(project, "--dry-run", "-p", "sampels", "7") == 2


def test_prepare_only_writes_parameters_and_runs_nothing(project):
    write_notebook(project / "notebooks" / "01_a.ipynb", "raise RuntimeError")
    assert run(project, "--prepare-only", "-p", "samples", "2") == 0
    cells = nbformat.read(project / "out" / "01_a.ipynb", as_version=4).cells
    assert cells[1].source.strip() == "# Parameters\nsamples = 2" and not cells[2].outputs


def test_ctrl_c_ends_tidily_and_says_how_to_resume(tmp_path):
    begin = "import os, pathlib, time\npathlib.Path(os.environ['SAELITE_RESULTS'], 'begun').touch()\ntime.sleep(600)"
    notebook = write_notebook(tmp_path / "01_a.ipynb", begin)
    command = [sys.executable, execute.__file__, str(notebook), "--out", str(tmp_path / "out")]
    # a shell that runs the tests in the background has them ignore Ctrl-C, and what they start would inherit that
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heed)
    while process.poll() is None and not list((tmp_path / "out").rglob("begun")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    # libzmq at times prints an assertion of its own when a kernel is ended (zeromq/libzmq#1307): noise, and not ours
    assert errors.endswith("\nStopped. What had finished is kept: the same command resumes.\n"), errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").glob("*.ipynb")) and not list((tmp_path / "out").glob("*.json"))


WRONG = {
    "batch_size": ["many", "1.5", "[1]", "null", "yes", ""],
    "lr": ["fast", "[0.1]", "null", ""],
    "architectures": ["3", "null", "{}"],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_type_for_a_notebook_of_the_book_is_one_line_and_nothing_runs(name, value, tmp_path, capsys):
    assert execute.main(["05_frozen_decoder", "-p", name, value, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert f"05_frozen_decoder: {name} must be" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_secret_of_the_environment_and_no_path_is_left_in_any_file(project, monkeypatch):
    secrets = {name: f"secret-of-{name.lower()}" for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    uses = "import os, pathlib; assert os.environ['OPENAI_API_KEY']; print(samples)"
    keeps = "pathlib.Path(os.environ['SAELITE_RESULTS'], 'a.json').write_text('[1]')"
    write_notebook(project / "notebooks" / "01_a.ipynb", f"{uses}; {keeps}")
    assert run(project, "01_a") == 0
    files = [path for path in (project / "out").rglob("*") if path.is_file()]
    assert {"01_a.ipynb", "01_a.run.json", "a.json"} <= {path.name for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8")
        for told in (*secrets.values(), str(project), str(Path.home()), sys.prefix):
            assert told not in text, f"{path.name} tells {told}"


def test_the_command_in_the_box_of_a_page_finds_what_the_notebook_reads(project, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import parameters

    (project / "book" / "results").mkdir(parents=True)
    (project / "book" / "results" / "table.csv").write_text("1")
    write_notebook(project / "notebooks" / "01_a.ipynb", "print(open('../book/results/table.csv').read(), samples)")
    machine = dict.fromkeys(("cores", "cpu", "system", "python", "torch"), "some")
    record = {"notebook": "01_a", "parameters": {"samples": 7}, "machine": machine, "wall_seconds": 1, "date": "today"}
    record["threads"] = 1
    page = parameters.box("samples: int = 3  # how many", record, [])
    command = shlex.split(re.search(r"```bash\n.venv/bin/(papermill .*)\n```", page)[1])
    subprocess.run([sys.executable, "-m", *command], cwd=project, check=True, capture_output=True)
    assert "1 7" in (project / "my_run.ipynb").read_text()
    for text in ("README.md", "book/howto.md"):
        commands_shown = re.findall(r"papermill [^`]*?my_run", (ROOT / text).read_text(encoding="utf-8"))
        assert commands_shown and all("papermill --cwd notebooks " in shown for shown in commands_shown), text


def test_the_lock_holds_the_versions_that_requirements_ask_for():
    """Dependabot raises them in requirements.txt, and what is installed, here and in CI, is the lock."""

    def pins(file):
        found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, version in found}

    asked, locked = pins("requirements.txt"), pins("requirements.lock")
    assert len(asked) > 30
    assert {name: locked.get(name) for name in asked} == asked, "run `make lock`"

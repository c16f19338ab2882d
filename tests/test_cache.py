"""Results are named by their settings and are on disk whole or not at all."""

import os
import subprocess
import sys
import time

import pytest

from saelite import cache


def test_folder_is_the_one_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SAELITE_CACHE", str(tmp_path / "new" / "place"))
    assert cache.folder() == tmp_path / "new" / "place"
    assert cache.folder().is_dir()


def test_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAELITE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="SAELITE_CACHE"):
        cache.folder()


def test_key_depends_on_every_setting_and_not_on_their_order():
    first = cache.key(layer=9, drop=(0, 1), nested={"b": 1, "a": [2.5, None]})
    assert first == cache.key(nested={"a": [2.5, None], "b": 1}, drop=[0, 1], layer=9)
    assert len(first) == 16 and int(first, 16) >= 0
    assert first != cache.key(layer=10, drop=(0, 1), nested={"b": 1, "a": [2.5, None]})
    assert first != cache.key(layer=9, drop=(0, 1), nested={"b": 1, "a": [2.5, 0]})


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, [float("inf")]])
def test_key_refuses_what_is_not_json_by_name(value):
    with pytest.raises(TypeError, match="'odd'"):
        cache.key(fine=1, odd=value)


def test_folder_and_file_appear_only_when_whole(tmp_path):
    with cache.atomic_folder(tmp_path / "result") as folder:
        (folder / "inside").write_text("a")
        assert not (tmp_path / "result").exists()
    with cache.atomic_file(tmp_path / "table.csv") as file:
        file.write_text("b")
        assert file.suffix == ".csv" and not (tmp_path / "table.csv").exists()
    assert (tmp_path / "result" / "inside").read_text() == "a"
    assert (tmp_path / "table.csv").read_text() == "b"
    assert sorted(os.listdir(tmp_path)) == ["result", "table.csv"]


def test_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "table.csv").write_text("before")
    with pytest.raises(ZeroDivisionError), cache.atomic_file(tmp_path / "table.csv") as file:
        file.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), cache.atomic_folder(tmp_path / "result") as folder:
        (folder / "inside").write_text("half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "before"


def test_of_two_that_race_for_a_folder_the_first_to_finish_stays(tmp_path):
    with cache.atomic_folder(tmp_path / "result") as ours:
        (ours / "inside").write_text("ours")
        with cache.atomic_folder(tmp_path / "result") as theirs:
            (theirs / "inside").write_text("theirs")
    assert (tmp_path / "result" / "inside").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["result"]


def test_leftovers_of_a_killed_run_are_cleared_once_old(tmp_path):
    old, live = tmp_path / ".tmp-0123abcd-result", tmp_path / ".tmp-89abcdef-result"
    old.mkdir()
    live.mkdir()
    os.utime(old, (0, time.time() - 2 * cache.STALE_AFTER))
    with cache.atomic_folder(tmp_path / "result"):
        pass
    assert not old.exists() and live.exists()


MAKER = """
import sys, time
from pathlib import Path
from saelite import cache
made = Path(sys.argv[1])
with cache.only_maker(made):
    print("in", flush=True)
    if not made.exists():
        sys.stdin.readline()
        made.write_text("whole")
        print("made", flush=True)
"""


def test_of_several_processes_one_makes_and_the_others_find_it_even_if_the_first_is_killed(tmp_path):
    def maker():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", MAKER, tmp_path / "below" / "made"], **pipes)

    first = maker()
    assert first.stdout.readline() == "in\n"
    others = [maker(), maker()]
    first.kill()
    first.communicate()
    # one of the others has the lock now, and the last waits for it
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    said = [other.communicate(timeout=60)[0] for other in others]
    assert sorted(said) == ["in\n", "in\nmade\n"]
    assert (tmp_path / "below" / "made").read_text() == "whole"

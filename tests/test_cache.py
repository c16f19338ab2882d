"""Results are named by their settings and are on disk whole or not at all."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
import zlib

import pytest

from saelite.storage import cache, files


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
    with files.atomic_folder(tmp_path / "result") as folder:
        (folder / "inside").write_text("a")
        assert not (tmp_path / "result").exists()
    with files.atomic_file(tmp_path / "table.csv") as file:
        file.write_text("b")
        assert file.suffix == ".csv" and not (tmp_path / "table.csv").exists()
    assert (tmp_path / "result" / "inside").read_text() == "a"
    assert (tmp_path / "table.csv").read_text() == "b"
    assert sorted(os.listdir(tmp_path)) == ["result", "table.csv"]


def test_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "table.csv").write_text("before")
    with pytest.raises(ZeroDivisionError), files.atomic_file(tmp_path / "table.csv") as file:
        file.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / "result") as folder:
        (folder / "inside").write_text("half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "before"


def test_of_two_that_race_for_a_folder_the_first_to_finish_stays(tmp_path):
    with files.atomic_folder(tmp_path / "result") as ours:
        (ours / "inside").write_text("ours")
        with files.atomic_folder(tmp_path / "result") as theirs:
            (theirs / "inside").write_text("theirs")
    assert (tmp_path / "result" / "inside").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["result"]


def test_leftovers_of_a_killed_run_are_cleared_once_old(tmp_path):
    old, live = tmp_path / ".tmp-0123abcd-result", tmp_path / ".tmp-89abcdef-result"
    old.mkdir()
    live.mkdir()
    os.utime(old, (0, time.time() - 2 * files.STALE_AFTER))
    with files.atomic_folder(tmp_path / "result"):
        pass
    assert not old.exists() and live.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "gone", "sums"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_damaged_is_named_and_made_again(tmp_path, kind, damage):
    whole = bytes(range(256)) * 20
    made = tmp_path / "made"

    def make():
        if kind == "folder":
            with files.atomic_folder(made, checksums=True) as folder:
                (folder / "below").mkdir()
                (folder / "below" / "inside").write_bytes(whole)
        else:
            with files.atomic_file(made, checksums=True) as file:
                file.write_bytes(whole)

    make()
    with cache.only_maker(made) as missing:
        assert not missing
    inside = made / "below" / "inside" if kind == "folder" else made
    sums = made / "checksums.json" if kind == "folder" else tmp_path / "made.checksum"
    flipped = bytearray(whole)
    flipped[1234] ^= 1
    match damage:
        case "cut":
            inside.write_bytes(whole[:-1])
        case "flipped":
            inside.write_bytes(flipped)
        case "longer":
            inside.write_bytes(whole + b"1")
        case "gone":
            inside.unlink()
        case "sums":
            sums.write_text('{"')
    told = contextlib.nullcontext() if (kind, damage) == ("file", "gone") else pytest.warns(match="made.* is damaged")
    with told, cache.only_maker(made) as missing:
        assert missing and not made.exists()
        make()
    assert files.fault(made) is None and inside.read_bytes() == whole
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".tmp-")]


def test_whoever_is_killed_while_a_file_is_replaced_keeps_the_old_one_and_its_checksum(tmp_path, monkeypatch):
    made = tmp_path / "made"
    with files.atomic_file(made, checksums=True) as file:
        file.write_bytes(b"the first")

    def killed(source, target, replace=os.replace):
        if target == made:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt), files.atomic_file(made, checksums=True) as file:
        file.write_bytes(b"and the second")
    monkeypatch.undo()
    assert made.read_bytes() == b"the first" and files.fault(made) is None
    made.write_bytes(b"the fiRst")
    assert files.fault(made) == "made is not as it was written"


def test_what_has_no_checksums_passes(tmp_path):
    with files.atomic_folder(tmp_path / "older") as folder:
        (folder / "inside").write_text("a")
    with cache.only_maker(tmp_path / "older") as missing:
        assert not missing


def test_what_an_older_version_wrote_is_read_and_watched(tmp_path):
    """It kept sizes beside the checksums."""
    (tmp_path / "made").write_bytes(b"whole")
    (tmp_path / "made.checksum").write_text(json.dumps({"made": [5, zlib.crc32(b"whole")]}))
    assert files.fault(tmp_path / "made") is None
    (tmp_path / "made").write_bytes(b"whose")
    assert files.fault(tmp_path / "made") == "made is not as it was written"


def test_what_a_killed_run_left_is_cleared_by_the_next_that_holds_the_lock(tmp_path):
    (tmp_path / ".tmp-0123abcd-made").mkdir()
    (tmp_path / ".tmp-0123abcd-made.run").touch()
    (tmp_path / ".tmp-0123abcd-other").touch()
    with cache.only_maker(tmp_path / "made"):
        pass
    assert [name for name in os.listdir(tmp_path) if name.startswith(".tmp-")] == [".tmp-0123abcd-other"]


def test_a_cache_that_cannot_be_written_to_is_read_and_what_is_missing_is_refused(tmp_path, monkeypatch):
    with files.atomic_file(tmp_path / "made", checksums=True) as file:
        file.write_text("whole")

    def refuse(self, *arguments, **named):
        raise OSError(errno.EROFS, "Read-only file system", self.lock_file)

    monkeypatch.setattr(cache.filelock.FileLock, "acquire", refuse)
    with cache.only_maker(tmp_path / "made") as missing:
        assert not missing
    message = "/missing cannot be written .Read-only.*set SAELITE_CACHE"
    with pytest.raises(OSError, match=message) as caught, cache.only_maker(tmp_path / "missing"):
        pass
    assert caught.value.errno == errno.EROFS
    (tmp_path / "made").write_text("whose")
    message = "/made cannot be written .Read-only.*set SAELITE_CACHE"
    with pytest.raises(OSError, match=message), cache.only_maker(tmp_path / "made"):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("I/O error: full (os error 28)")])
def test_a_full_disk_is_said_in_words_and_nothing_is_left(tmp_path, error):
    for making in (files.atomic_file, files.atomic_folder, cache.only_maker):
        message = "No room on the disk for .*/result.*SAELITE_CACHE"
        with pytest.raises(OSError, match=message) as caught, making(tmp_path / "result"):
            raise error
        assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["result.lock"]
    with pytest.raises(OSError, match="No room on the disk: a test needs .* GB"):
        files.need_room(tmp_path, 1e18, "a test")


MAKER = """
import sys, time
from pathlib import Path
from saelite.storage import cache
made = Path(sys.argv[1])
with cache.only_maker(made) as missing:
    print("in", flush=True)
    if missing:
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

"""The cache can be looked through and cleared, without harm to whoever uses it, and nothing else is touched."""

import os
import time

import pytest

from saelite.__main__ import main
from saelite.storage import cache, cache_contents, files

KEYS = [f"{i:016x}" for i in range(3)]
DAY = 86_400


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A cache of known sizes, beside and in which lie things that are none of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAELITE_CACHE", str(folder))
    for kind, sizes in {"activations": [1000, 2000], "saes": [300]}.items():
        for key, size in zip(KEYS, sizes, strict=False):
            with cache.only_maker(folder / kind / key), files.atomic_folder(folder / kind / key) as made:
                (made / "data.bin").write_bytes(b"1" * size)
    with files.atomic_file(folder / "tables" / f"probing-{KEYS[0]}.parquet", checksums=True) as made:
        made.write_bytes(b"1" * 40)
    (folder / "saes" / f"{KEYS[1]}.run").write_bytes(b"1" * 70)
    (folder / "saes" / f".tmp-0123abcd-{KEYS[2]}.run").write_bytes(b"1" * 10)
    (folder / "saes" / "notes.txt").write_text("mine")
    (folder / "thesis.tex").write_text("mine")
    (tmp_path / "elsewhere" / KEYS[0]).mkdir(parents=True)
    (tmp_path / "elsewhere" / KEYS[0] / "data.bin").write_text("mine")
    (folder / "models").symlink_to(tmp_path / "elsewhere")
    (folder / "activations" / KEYS[2]).symlink_to(tmp_path / "elsewhere")
    return folder


def test_sizes_and_what_is_unfinished_are_told_by_kind(filled, capsys):
    rows = cache_contents.results("saes")
    assert [(size, place.exists()) for _, size, place, _ in rows] == [(300, True), (70, False), (10, False)]
    assert main(["cache"]) == 0
    printed = capsys.readouterr().out
    assert "saes             3 results, 0.0 MB, 2 unfinished; last used" in printed and "which is left alone" in printed
    assert "answers" not in printed


def test_cleaning_takes_what_bears_a_key_and_nothing_else(filled, tmp_path, capsys):
    assert main(["cache", "--clean", "saes"]) == 0
    assert "Removed 3 results" in capsys.readouterr().out
    assert (filled / "activations" / KEYS[0] / "data.bin").exists()
    assert main(["cache", "--clean"]) == 0
    assert "Removed 4 results" in capsys.readouterr().out
    left = [path.relative_to(filled).as_posix() for path in filled.rglob("*") if path.is_file()]
    assert sorted(name for name in left if not name.endswith(".lock")) == ["saes/notes.txt", "thesis.tex"]
    assert (tmp_path / "elsewhere" / KEYS[0] / "data.bin").read_text() == "mine"
    assert main(["cache", "--clean", "thesis"]) == 2
    assert "no kind 'thesis'; it has activations, saes" in capsys.readouterr().err


def test_what_another_is_making_is_left(filled):
    with cache.only_maker(filled / "saes" / KEYS[1]):
        assert cache_contents.clean(["saes"]) == (2, 310, 1)
        assert (filled / "saes" / f"{KEYS[1]}.run").exists()


def test_only_what_was_not_used_for_long_may_be_cleaned_whatever_the_clock_said(filled):
    for path in (filled / "activations" / KEYS[0]).rglob("*"):
        os.utime(path, (time.time() - 9 * DAY,) * 2)
    os.utime(filled / "activations" / KEYS[0], (time.time() - 9 * DAY,) * 2)
    os.utime(filled / "activations" / KEYS[1], (time.time() + 900 * DAY,) * 2)
    assert cache_contents.clean(["activations"], older=5)[0] == 0  # it was asked for just now, says its lock
    os.utime(filled / "activations" / f"{KEYS[0]}.lock", (time.time() - 8 * DAY,) * 2)
    assert cache_contents.clean(["activations"], older=5) == (1, 1000, 0)
    assert (filled / "activations" / KEYS[1]).exists()
    with cache.only_maker(filled / "activations" / KEYS[1]):
        pass
    with pytest.raises(ValueError, match="0 or more"):
        cache_contents.clean(older=-1)

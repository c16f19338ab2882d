"""Concepts to probe: balanced, train and test apart, the same on every machine."""

import importlib.metadata

import pandas as pd
import pytest

from saelite.evaluations.concepts import CREDITS, binary_concepts, load_concepts


@pytest.fixture(scope="module")
def texts():
    return load_concepts()


def test_every_text_once_and_train_and_test_apart(texts):
    assert not texts["text"].duplicated().any()
    assert set(texts["split"]) == {"train", "test"} and list(texts["task"].unique()) == list(CREDITS)
    sizes = texts.groupby(["task", "label", "split"]).size()
    assert sizes.xs("train", level="split").between(60, 100).all()
    assert sizes.xs("test", level="split").between(30, 50).all()
    assert (texts["text"].str.strip() != "").all()


def test_the_same_again_and_another_by_the_seed():
    tasks = ["language", "programming language"]
    pd.testing.assert_frame_equal(load_concepts(tasks, per_label=30), load_concepts(tasks, per_label=30))
    assert not load_concepts(tasks, per_label=30).equals(load_concepts(tasks, per_label=30, seed=1))


def test_what_is_in_a_task_does_not_depend_on_the_others(texts):
    alone = load_concepts(["sentiment"])
    assert set(alone["text"]) == set(texts.loc[texts["task"] == "sentiment", "text"])


def test_a_message_is_in_the_training_texts_or_in_the_test_texts_of_all_languages():
    from babel.messages.mofile import read_mo

    from saelite.evaluations.concepts import LANGUAGES

    said = {}  # text in a language: the messages that it says
    for code, language in LANGUAGES.items():
        for file in importlib.metadata.files("Django"):
            if str(file).endswith(".mo") and f"/locale/{code}/" in str(file):
                with open(file.locate(), "rb") as opened:
                    for message in read_mo(opened):
                        if isinstance(message.id, str):
                            said.setdefault((language, message.string), set()).add(message.id)
    found = load_concepts(["language"])
    messages = {"train": set(), "test": set()}
    for row in found.itertuples():
        messages[row.split] |= said[row.label, row.text]
    assert not messages["train"] & messages["test"]


def test_a_source_file_is_in_the_training_texts_or_in_the_test_texts(texts):
    code = texts[texts["task"] == "programming language"]
    assert code.groupby("label")["split"].value_counts().unstack().eq({"train": 100, "test": 50}).all(axis=None)
    cython, used = code[code["label"] == "Cython"], 0
    for package in ("scikit-learn", "pyarrow"):
        for file in importlib.metadata.files(package):
            if str(file).endswith(".pyx"):
                whole = "\n".join(file.read_text(encoding="utf-8").splitlines())
                splits = {row.split for row in cython.itertuples() if row.text in whole}
                assert len(splits) <= 1, file
                used += len(splits)
    assert used > 20


def test_concepts_are_balanced_and_draw_on_the_other_labels_alike(texts):
    concepts = binary_concepts(texts)
    assert len({concept.name for concept in concepts}) == len(concepts)
    for concept in concepts:
        label = concept.name.removeprefix(f"{concept.task}: ")
        for split, rows, answers in (
            ("train", concept.train, concept.train_is),
            ("test", concept.test, concept.test_is),
        ):
            of = texts.loc[rows]
            assert len(set(rows)) == len(rows) and answers.mean() == 0.5
            assert (of["split"] == split).all() and (of["task"] == concept.task).all()
            assert ((of["label"] == label) == answers).all()
            others = of.loc[~answers, "label"].value_counts()
            assert others.max() - others.min() <= 1
    assert [c.name for c in concepts if c.task == "sentiment"] == ["sentiment: fresh"]  # two labels, one question


def a_set(rows=60, **columns):
    return pd.DataFrame(
        {"body": [f"text {i}" for i in range(rows)], "kind": [f"k{i % 3}" for i in range(rows)]} | columns
    )


def test_a_set_from_a_file_or_a_folder(tmp_path):
    a_set().to_csv(tmp_path / "set.csv", index=False)
    for name in (tmp_path / "set.csv", tmp_path):
        found = load_concepts([str(name)], per_label=15, column="body", label="kind")
        counts = found.groupby(["label", "split"]).size()
        assert counts.xs("train", level="split").to_dict() == {"k0": 10, "k1": 10, "k2": 10}
        assert counts.xs("test", level="split").to_dict() == {"k0": 5, "k1": 5, "k2": 5}
        for row in found.itertuples():
            assert row.label == f"k{int(row.text.split()[1]) % 3}"  # labels stayed with their texts
        assert {c.name for c in binary_concepts(found)} == {f"{name}: k{i}" for i in range(3)}


def test_what_stands_in_a_set_twice_is_left_out(tmp_path):
    twice = pd.concat([a_set(), a_set(3).assign(kind="k2")])
    twice.to_csv(tmp_path / "set.csv", index=False)
    found = load_concepts([str(tmp_path / "set.csv")], column="body", label="kind")
    assert not {"text 0", "text 1", "text 2"} & set(found["text"])


def test_bad_input_is_refused(tmp_path):
    file = str(tmp_path / "set.csv")
    a_set(kind=["one"] * 60).to_csv(file, index=False)
    with pytest.raises(ValueError, match="has 1 label"):
        load_concepts([file], column="body", label="kind")
    with pytest.raises(ValueError, match="no column 'mood'.*kind"):
        load_concepts([file], column="body", label="mood")
    with pytest.raises(ValueError, match="no column 'text'"):
        load_concepts([file], label="kind")
    with pytest.raises(ValueError, match="per_label=5"):
        load_concepts(per_label=5)
    with pytest.raises(ValueError, match="none of them twice"):
        load_concepts([])
    with pytest.raises(ValueError, match="'colour'.*cannot be loaded"):
        load_concepts(["colour"])
    table = pd.DataFrame({"task": "t", "label": ["a", "b"] * 2, "split": ["train"] * 2 + ["test"] * 2, "text": "same"})
    with pytest.raises(ValueError, match="both to train and to test"):
        binary_concepts(table)
    with pytest.raises(ValueError, match="label 'a' of the task 't'"):
        binary_concepts(table.assign(split="train"))

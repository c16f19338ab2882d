import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from saebook.interactive import latent_browser, threshold_slider
from scipy.stats import binom

from saelite.metrics import best_cosines, recovery
from saelite.synthetic import FeatureWorld, constant_probabilities


def test_the_slider_knows_the_recovery_at_every_threshold():
    generator = np.random.default_rng(0)
    best = {"a <b>": generator.random(50), "none": np.zeros(50)}
    soup = BeautifulSoup(threshold_slider(best, 0.8).data, "html.parser")
    shares = json.loads(soup.find("script", type="application/json").string)
    for step in (0, 37, 80, 100):
        assert shares[0][step] == pytest.approx((best["a <b>"] > step / 100).mean())
    assert [cell.get_text() for cell in soup.find_all("th", scope="row")] == ["a <b>", "none"]
    assert soup.find_all("td")[0].get_text() == f"{(best['a <b>'] > 0.8).mean():.2%}"
    assert soup.input["value"] == "80"


def test_it_counts_as_the_tables_do():
    world = FeatureWorld(constant_probabilities(30, 3), 10, seed=0)
    directions = world.features + 0.2
    soup = BeautifulSoup(threshold_slider({"x": best_cosines(world.features, directions)}, 0.8).data, "html.parser")
    shares = json.loads(soup.find("script", type="application/json").string)
    assert shares[0][80] == pytest.approx(recovery(world.features, directions, 0.8)["recovered"], abs=1e-5)


def test_a_threshold_that_is_no_cosine_is_refused():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        threshold_slider({"x": [0.1]}, 1.2)


HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'>",
    "&lt;\n",
    "$x`${1}",
]
SAES = ["fully <b>trained</b>", "Frozen & random", "a third"]


def table(latents, notes=None):
    """Two contexts a latent; the strongest token of each is its second, and a token before it was dropped."""
    rows = [
        {"latent": latent, "frequency": 0.0125, "activation": 4.0 / (i + 1), "raises": HOSTILE, "lowers": ["down"]}
        | {"tokens": [f"about {latent} ", *HOSTILE], "activations": [float("nan"), 4.0 / (i + 1), 0.0, 1.0, 0.0]}
        | {"histogram": [6, 3, 1, 0], "notes": notes or {"score": f"0.6 </script> of {latent}"}}
        for latent in latents
        for i in range(2)
    ]
    columns = ["latent", "frequency", "activation", "tokens", "activations"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def tables():
    return dict(zip(SAES, [table(range(6)), table(range(10, 14)), table([20])], strict=True))


def embedded(shown):
    return json.loads(BeautifulSoup(shown.data, "html.parser").find("script", type="application/json").string)


def test_the_browser_holds_every_latent_and_a_balanced_deck():
    data = embedded(latent_browser(tables(), SAES[:2]))
    assert {name: [one["latent"] for one in all_] for name, all_ in data["saes"].items()} == {
        SAES[0]: [0, 1, 2, 3, 4, 5], SAES[1]: [10, 11, 12, 13], SAES[2]: [20],
    }  # fmt: skip
    # as many of each, so that always naming the same SAE is right no more often than chance
    assert sorted(map(tuple, data["deck"])) == sorted((name, i) for name in SAES[:2] for i in range(4))
    assert [name for name, _ in data["deck"]] != sorted((name for name, _ in data["deck"]), key=SAES.index)
    one = data["saes"][SAES[1]][0]
    tokens, levels, peak = one["contexts"][1]
    assert tokens == ["about 10 ", *HOSTILE[:2], "&lt;\u21b5", HOSTILE[3]]
    assert levels == [0, 0.5, 0, 0.25, 0] and peak == 1  # over the largest activation of the latent, not of the context
    assert one["frequency"] == "1.25%" and one["raises"][0] == HOSTILE[0] and one["histogram"] == [6, 3, 1, 0]


def test_the_deck_follows_the_seed():
    decks = [embedded(latent_browser(tables(), SAES[:2], seed=seed))["deck"] for seed in (1, 1, 2)]
    assert decks[0] == decks[1] != decks[2]


def test_nothing_in_the_texts_becomes_part_of_the_page():
    soup = BeautifulSoup(latent_browser(tables(), credit="<script>", label='"><script>').data, "html.parser")
    assert len(soup.find_all("script")) == 2 and not soup.find_all(["img", "b"])
    assert embedded(latent_browser(tables()))["saes"][SAES[0]][0]["contexts"][0][0][1] == HOSTILE[0]


def test_without_scripts_the_first_latent_of_each_sae_is_there_and_the_controls_are_not():
    soup = BeautifulSoup(latent_browser(tables()).data, "html.parser")
    still = soup.find(attrs={"data-part": "still"})
    assert [name.get_text() for name in still.select("p > strong")] == SAES
    assert "latent 0," in still.get_text() and "latent 1," not in still.get_text() and not still.has_attr("hidden")
    assert soup.find(attrs={"data-part": "live"}).has_attr("hidden")


def test_saes_without_a_latent_are_left_out_and_one_alone_gives_no_deck():
    data = embedded(latent_browser({"dead": table([]), "alive": table([3])}))
    assert list(data["saes"]) == data["guess"] == ["alive"] and data["deck"] == []
    assert "None of the latents" in latent_browser({"dead": table([])}).data


def test_plain_contexts_are_enough():
    plain = table([1]).drop(columns=["raises", "lowers", "histogram", "notes"])
    assert "raises" not in embedded(latent_browser({"x": plain}))["saes"]["x"][0]


def test_an_sae_to_guess_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="guess names 'nowhere', of which there is no table"):
        latent_browser(tables(), ["nowhere", SAES[0]])


@pytest.fixture
def opened(page, tmp_path):
    """The browser of latents in a page of its own, with the book's style."""
    style = (Path(__file__).parent.parent / "book/_static/custom.css").read_text(encoding="utf-8")
    shown = latent_browser(tables(), SAES[:2], credit="someone").data
    style += ":root { color-scheme: light dark; background: Canvas; color: CanvasText }"
    path = tmp_path / "page.html"
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>x</title><style>{style}</style>"
        f"<main class=bd-article><h1>x</h1>{shown}</main>",
        encoding="utf-8",
    )
    page.goto(path.as_uri(), wait_until="load")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.hacked") is None
    assert page.faults == []


def test_buttons_and_lists_lead_to_every_latent(opened):
    said, shown = opened.get_by_role("status"), opened.locator("[data-part=shown]")
    opened.get_by_role("combobox", name="from").select_option(SAES[0])
    assert opened.get_by_role("group", name="Which SAE is it from?").count() == 0
    for place, button in ((0, None), (1, "Next"), (0, "Previous"), (5, "Previous"), (0, "Next")):  # round the ends
        if button:
            opened.get_by_role("button", name=button).click()
        assert said.inner_text() == f"{SAES[0]}, latent {place}, {place + 1} of 6."
        assert f"about {place} " in shown.inner_text() and f"</script> of {place}" in shown.inner_text()
    opened.get_by_role("combobox", name="latent").select_option("4")
    assert said.inner_text().startswith(f"{SAES[0]}, latent 4")
    assert shown.locator("mark strong").all_inner_texts() == [HOSTILE[0]] * 2
    assert shown.get_by_role("img", name="90% are below half").count() == 1
    opened.get_by_role("combobox", name="from").select_option(SAES[1])
    opened.get_by_role("combobox", name="from").select_option(SAES[0])
    assert said.inner_text().startswith(f"{SAES[0]}, latent 4")  # where one was


def test_guesses_are_counted_beside_chance_and_the_keyboard_is_enough(opened):
    said, shown = opened.get_by_role("status"), opened.locator("[data-part=shown]")
    deck = json.loads(opened.locator("script[type='application/json']").inner_text())["deck"]
    assert opened.get_by_role("combobox", name="latent").locator("option").count() == len(deck) == 8
    right = 0
    opened.get_by_role("button", name="Next").focus()
    for n, (name, _) in enumerate(deck, start=1):
        assert said.inner_text().startswith(f"Latent {n} of 8, not guessed yet.")
        assert not any(sae in said.inner_text() for sae in SAES) and "score" not in shown.inner_text()
        opened.keyboard.press("Tab")  # to the first SAE
        opened.keyboard.press("Enter")
        right += name == SAES[0]
        text = said.inner_text()
        assert text.startswith(("Right: it is " if name == SAES[0] else "No: it is ") + name)
        by_chance = binom.sf(right - 1, n, 0.5)
        assert f"Right so far: {right} of {n}. Guessing blindly gives {n / 2:.1f} on average" in text
        assert f"and {right} or more in {100 * by_chance:.0f}% of tries" in text
        assert "score: 0.6" in shown.inner_text()
        assert opened.evaluate("document.activeElement.textContent") == "Next"
        assert opened.locator("[data-part=guesses] button:enabled").count() == 0  # one guess a latent
        opened.keyboard.press("Enter")
    assert said.inner_text().startswith(("Right", "No")) and f"{right} of 8" in said.inner_text()  # the deck is round


def test_on_paper_the_still_latents_stand_in(opened):
    assert not opened.locator("[data-part=still]").is_visible()
    opened.emulate_media(media="print")
    assert opened.locator("[data-part=still]").is_visible() and not opened.locator("[data-part=live]").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_browser_shuts_nobody_out(opened, axe, theme):
    opened.emulate_media(color_scheme=theme)
    opened.get_by_role("button", name="Frozen & random").click()
    opened.evaluate(axe)
    found = opened.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found] == []

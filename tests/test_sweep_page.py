"""The page that compares the units of a sweep: it stands alone, and text stays text."""

import base64
from html.parser import HTMLParser

import pandas as pd
import pytest
import sweep_page

EVIL = '<script src="https://example.org/x.js"></script> $\\frac{ & "quoted"'


class Reading(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def records():
    return pd.DataFrame(
        [
            {"tau": tau, "seed": seed, EVIL: EVIL, "baseline": baseline, "score": tau + seed / 10, "none": None}
            for tau in (0.5, 0.9)
            for seed in (0, 1)
            for baseline in ("one", EVIL)
        ],
        dtype=object,
    )


def test_asks_nothing_of_another_place_and_escapes_text():
    grid = {"tau": [0.5, 0.9], "seed": [0, 1]}
    page = sweep_page.page(EVIL, {EVIL: EVIL}, grid, {EVIL: records(), "empty": pd.DataFrame({"tau": [], "seed": []})})
    assert page == sweep_page.page(
        EVIL, {EVIL: EVIL}, grid, {EVIL: records(), "empty": pd.DataFrame({"tau": [], "seed": []})}
    )
    read = Reading(page)
    assert EVIL in read.text  # as text
    assert not {"script", "link", "iframe", "object", "svg"} & {tag for tag, _ in read.tags}
    addresses = [value for _, given in read.tags for name, value in given.items() if name in ("src", "href")]
    assert len(addresses) == 1 and addresses[0].startswith("data:image/svg+xml;base64,")
    picture = base64.b64decode(addresses[0].partition(",")[2]).decode()
    assert "<script" not in picture and "<image" not in picture
    policies = [given["content"] for _, given in read.tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_draws_every_value_and_no_mean_over_what_is_not_told_apart():
    table = records().drop(columns=EVIL).convert_dtypes()
    figure, said = sweep_page.draw(table, {"tau": [0.5, 0.9], "seed": [0, 1]})
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    means = [line for line in axes.lines if line.get_marker() != "o"]
    assert [len(line.get_xdata()) for line in dots] == [4, 4]  # a colour for each baseline
    for line in means:
        assert list(line.get_xdata()) == [0.5, 0.9]
        assert list(line.get_ydata()) == pytest.approx([0.55, 0.95])
    assert "above its tau; colours tell baseline apart; lines go through the means" in said

    twice = pd.concat([table, table.assign(score=9)])  # two records that nothing tells apart
    figure, said = sweep_page.draw(twice, {"tau": [0.5, 0.9], "seed": [0, 1]})
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines)
    assert "several records share a colour and place" in said


def test_a_column_of_metrics_gives_a_panel_each_and_what_is_left_out_is_named():
    table = pd.DataFrame(
        [
            {"name": name, "metric": metric, "score": number, "low": 0.0}
            for name in ("a", "b")
            for number, metric in enumerate(["first", "second"])
        ]
    ).convert_dtypes()
    figure, said = sweep_page.draw(table, {"name": ["a", "b"]})
    assert [axes.get_title() for axes in figure.axes] == ["first", "second"]
    assert said.endswith("Not drawn: low.")
    wide = pd.DataFrame([{"name": "a"} | {f"figure {i}": float(i) for i in range(sweep_page.PANELS + 1)}])
    figure, said = sweep_page.draw(wide, {"name": ["a"]})
    assert len(figure.axes) == sweep_page.PANELS and said.endswith(f"Not drawn: figure {sweep_page.PANELS}.")
    assert sweep_page.draw(pd.DataFrame({"name": ["a"], "text": ["b"]}), {"name": ["a"]})[0] is None


@pytest.mark.parametrize("values", [[None, 3], [True, False], ["[1]", "[2, 3]"], [1, "a"]])
def test_any_values_of_a_grid_can_be_drawn(values):
    table = pd.DataFrame({"given": values, "score": [0.1, 0.2]}, dtype=object)
    assert "<h2>scores</h2><img " in sweep_page.page("title", {}, {"given": values}, {"scores": table})
    figure, _ = sweep_page.draw(table.convert_dtypes(), {"given": values})
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sorted(y for line in dots for y in line.get_ydata()) == [0.1, 0.2]

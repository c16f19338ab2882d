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


def page(grid, tables):
    return sweep_page.page({"notebook": EVIL, "command": EVIL, "grid": grid}, tables)


def points(figure):
    """What is drawn in each panel: the heights of its points, and of each of its lines."""
    for axes in figure.axes.flat:
        dots = sorted(y for some in axes.collections for y in some.get_offsets()[:, 1])
        yield dots, [list(line.get_ydata()) for line in axes.lines if len(line.get_ydata())]


def test_asks_nothing_of_another_place_and_escapes_text():
    tables = {EVIL: records(), "empty": pd.DataFrame({"tau": [], "seed": []})}
    made = page({"tau": [0.5, 0.9], "seed": [0, 1]}, tables)
    assert made == page({"tau": [0.5, 0.9], "seed": [0, 1]}, tables)
    read = Reading(made)
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
    ((dots, lines),) = points(figure)
    assert dots == pytest.approx(sorted(table["score"]))
    assert lines == [pytest.approx([0.55, 0.95])] * 2  # a colour for each baseline
    assert [axes.get_xlabel() for axes in figure.axes.flat] == ["tau"]
    assert "above its tau; colours tell baseline apart; lines go through the means" in said

    twice = pd.concat([table, table.assign(score=9)], ignore_index=True)  # two records that nothing tells apart
    figure, said = sweep_page.draw(twice, {"tau": [0.5, 0.9], "seed": [0, 1]})
    assert next(points(figure))[1] == [] and "several records share a colour and place" in said


def test_a_column_of_metrics_gives_a_panel_each_and_what_is_left_out_is_named():
    rows = [{"metric": "first", "score": 1, "low": 0.0}, {"metric": "second", "score": 2, "low": 0.0}]
    table = pd.DataFrame([{"name": name} | row for name in ("a", "b") for row in rows]).convert_dtypes()
    figure, said = sweep_page.draw(table, {"name": ["a", "b"]})
    assert [axes.get_title() for axes in figure.axes.flat] == ["first", "second"]
    assert [dots for dots, _ in points(figure)] == [[1, 1], [2, 2]] and said.endswith("Not drawn: low.")
    assert sweep_page.draw(pd.DataFrame({"name": ["a"], "text": ["b"]}), {"name": ["a"]})[0] is None


@pytest.mark.parametrize("values", [[None, 3], [True, False], ["[1]", "[2, 3]"], [1, "a"]])
def test_any_values_of_a_grid_can_be_drawn(values):
    table = pd.DataFrame({"given": values, "score": [0.1, 0.2]}, dtype=object)
    assert "<h2>scores</h2>\n<img " in page({"given": values}, {"scores": table})
    figure, _ = sweep_page.draw(table.convert_dtypes(), {"given": values})
    assert next(points(figure))[0] == [0.1, 0.2]

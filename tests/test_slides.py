"""Slides: what of a chapter comes into its deck, and that nothing in it is markup by accident."""

import nbformat
import slides
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"
FIRST = """\
# A <title>

```{admonition} This lesson
- **You will learn** what an {term}`SAE` is, after {cite:t}`heap2025random`.
```

Words.

**Before you read on:** how much? See [this](02_other).

More words."""


def chapter():
    figure = new_code_cell(
        "draw()",
        metadata={
            "mystnb": {
                "image": {"alt": 'two "lines"'},
                "figure": {"name": "fig-a", "caption": "About {term}`L0 <L0>`."},
            }
        },
        outputs=[new_output("display_data", {"image/svg+xml": SVG})],
    )
    unnamed = new_code_cell("draw()", outputs=[new_output("display_data", {"image/svg+xml": SVG})])
    end = "## Key points\n\n- One, in {numref}`fig-a`.\n- Two <script>alert(1)</script>."
    return new_notebook(cells=[new_markdown_cell(FIRST), figure, unnamed, new_markdown_cell(end)])


def test_a_deck_holds_lesson_prediction_named_figures_and_key_points():
    soup = BeautifulSoup(slides.deck(chapter()), "html.parser")
    parts = [" ".join(section.get_text(" ").split()) for section in soup.find_all("section")]
    assert len(parts) == 4
    assert parts[0].startswith("A <title> You will learn what an SAE is, after Heap et al. 2025.")
    assert "Before you read on: how much? See this." in parts[1] and "More words" not in parts[1]
    assert parts[2].startswith("About L0.") and soup.img["alt"] == 'two "lines"'
    assert "One, in the figure." in parts[3] and parts[3].endswith("4 of 4")


def test_text_of_a_notebook_does_not_become_markup():
    soup = BeautifulSoup(slides.deck(chapter()), "html.parser")
    assert len(soup.find_all("script")) == 1 and soup.h1.get_text() == "A <title>"
    assert not soup.find_all(src=lambda address: address and not address.startswith("data:"))


def test_a_deck_is_left_alone_where_nothing_changed(tmp_path):
    nbformat.write(chapter(), tmp_path / "01_a.ipynb")
    slides.write([tmp_path / "01_a.ipynb"], tmp_path / "decks")
    made = (tmp_path / "decks" / "01_a.html").stat().st_mtime_ns
    slides.write([tmp_path / "01_a.ipynb"], tmp_path / "decks")
    assert (tmp_path / "decks" / "01_a.html").stat().st_mtime_ns == made

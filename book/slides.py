"""Make a deck of slides from each executed notebook: what it teaches, what to predict, its figures, its key points.

    python book/slides.py _build/stage/notebooks --out DIR

A deck is one HTML file that asks nothing of the network: scroll, or use the arrow keys; printed, it has a slide a
page. Nothing is written for it by hand, so it never disagrees with the chapter.
"""

from __future__ import annotations

import argparse
import base64
import html
import re
import sys
from pathlib import Path

import commands
import nbformat
from markdown_it import MarkdownIt

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html {{ scroll-snap-type: y proximity; font: 1.5rem/1.4 system-ui, sans-serif; color: #1a1a1a; background: #fff; }}
body {{ margin: 0; }}
section {{ box-sizing: border-box; min-height: 100vh; padding: 6vh 8vw; scroll-snap-align: start;
  display: flex; flex-direction: column; justify-content: center; border-bottom: 1px solid #ddd; }}
h1 {{ font-size: 2.4em; margin: 0 0 0.5em; }}
h2 {{ font-size: 1.4em; margin: 0 0 0.8em; }}
img {{ max-width: 100%; max-height: 68vh; object-fit: contain; align-self: center; }}
figcaption, footer {{ font-size: 0.7em; color: #444; margin-top: 1em; }}
figure {{ margin: 0; display: flex; flex-direction: column; }}
li {{ margin-bottom: 0.5em; }}
code {{ font-size: 0.9em; }}
@media (max-width: 600px) {{ html {{ font-size: 1.1rem; }} }}
@media print {{
  section {{ min-height: 0; height: 100vh; break-after: page; border: 0; }}
  @page {{ size: A4 landscape; margin: 0; }}
}}
</style></head>
<body>
{slides}
<script>
addEventListener("keydown", event => {{
  const step = {{ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1}}[event.key];
  if (!step) return;
  event.preventDefault();
  const slides = [...document.querySelectorAll("section")];
  const now = slides.findIndex(slide => slide.getBoundingClientRect().bottom > innerHeight / 2);
  slides[Math.min(slides.length - 1, Math.max(0, now + step))].scrollIntoView({{behavior: "smooth"}});
}});
</script>
</body></html>
"""

# What has no meaning outside the book: figures have no numbers, works are named by author and year, other roles keep
# their text, links to other chapters lose their target.
FIGURE = re.compile(r"\{numref\}`[^`]+`")
WORK = re.compile(r"\{cite:[a-z]+\}`([a-z]+)(\d{4})[a-z]*`")
ROLE = re.compile(r"\{[a-z:]+\}`(.+?)(?: <[^>`]+>)?`")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")


def plain(markdown: str) -> str:
    """Markdown without the book's own roles and links."""
    markdown = WORK.sub(lambda work: f"{work[1].capitalize()} et al. {work[2]}", FIGURE.sub("the figure", markdown))
    return LINK.sub(r"\1", ROLE.sub(r"\1", markdown))


def rendered(markdown: str) -> str:
    return MarkdownIt("commonmark", {"html": False}).enable("table").render(plain(markdown))


def section_of(cells: list[nbformat.NotebookNode], heading: str) -> str:
    """The text below a heading of the second level, up to the next heading; empty if there is none."""
    for cell in cells:
        if cell.cell_type == "markdown":
            found = re.search(rf"^## {re.escape(heading)}\n+(.*?)(?=^#|\Z)", cell.source, re.MULTILINE | re.DOTALL)
            if found:
                return found[1].strip()
    return ""


def picture(cell: nbformat.NotebookNode) -> str | None:
    """The cell's figure as an address that holds all of it."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/svg+xml" in data:
            text = "".join(data["image/svg+xml"]).encode()
            return f"data:image/svg+xml;base64,{base64.b64encode(text).decode()}"
        if "image/png" in data:
            return f"data:image/png;base64,{''.join(data['image/png']).strip()}"
    return None


def deck(notebook: nbformat.NotebookNode) -> str:
    """One deck, as HTML.

    Parameters
    ----------
    notebook : executed
    """
    cells = notebook.cells
    first = next(cell.source for cell in cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", first, re.MULTILINE)[1]
    lesson = re.search(r"```\{admonition\} This lesson\n(.*?)```", first, re.DOTALL)
    slides = [f"<h1>{html.escape(title)}</h1>{rendered(lesson[1]) if lesson else ''}"]
    prediction = re.search(r"^\*\*[^*\n]+\*\*.*?(?=\n\n|\Z)", first, re.MULTILINE | re.DOTALL)
    if prediction:
        slides.append(f"<h2>Predict</h2>{rendered(prediction[0])}")
    for cell in cells:
        about, shown = cell.metadata.get("mystnb", {}), picture(cell)
        if "figure" in about and shown:
            alt, caption = about.get("image", {}).get("alt", ""), about["figure"]["caption"]
            slides.append(
                f'<figure><img src="{shown}" alt="{html.escape(plain(alt))}">'
                f"<figcaption>{rendered(caption)}</figcaption></figure>"
            )
    for heading in ("What would change my mind", "Key points"):
        if text := section_of(cells, heading):
            slides.append(f"<h2>{heading}</h2>{rendered(text)}")
    count = len(slides)
    numbered = [
        f"<section>{slide}<footer>{html.escape(title)}, {number} of {count}</footer></section>"
        for number, slide in enumerate(slides, start=1)
    ]
    return PAGE.format(title=html.escape(title), slides="\n".join(numbered))


def write(notebooks: list[Path], out: Path) -> None:
    """A deck for each notebook, touching only those that differ."""
    out.mkdir(parents=True, exist_ok=True)
    for notebook in notebooks:
        text, path = deck(nbformat.read(notebook, as_version=4)), out / f"{notebook.stem}.html"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            commands.write_atomically(text, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path, help="the executed notebooks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the decks")
    options = parser.parse_args(arguments)
    return commands.guarded(lambda: write(sorted(options.folder.glob("[0-9]*.ipynb")), options.out))


if __name__ == "__main__":
    sys.exit(main())

"""Print the built book to one PDF, with a browser and without LaTeX.

    python book/pdf.py _build/html --out _build/saelite-book.pdf

Every page of the table of contents is printed in light colours with its boxes open, and becomes a chapter of the
outline. Links to other pages of the book are left as plain words, since in one file they would lead to a folder of this
machine.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

import commands
import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter

MARGINS = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
PREPARE = """() => {
    document.querySelectorAll("details.sd-dropdown").forEach(box => box.open = true);
    document.querySelectorAll("a[href]").forEach(link => {
        if (!/^https?:/.test(link.getAttribute("href"))) link.removeAttribute("href");
    });
}"""


def pages_of(site: Path, toc: dict) -> list[Path]:
    """The pages of the table of contents, in its order.

    Raises
    ------
    commands.Refused
        If one has not been built.
    """
    names = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    pages = [site / f"{name}.html" for name in names]
    if missing := [page for page in pages if not page.is_file()]:
        raise commands.Refused(f"{missing[0]} is not there: run `make book` first.")
    return pages


def browser() -> str:
    """Path of a browser.

    Raises
    ------
    commands.Refused
        If there is none.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise commands.Refused(f"printing needs a browser, one of {', '.join(names)}: install Chromium.")
    return path


def printed(pages: list[Path]) -> PdfWriter:
    """All pages in one document, each with a line in its outline."""
    book = PdfWriter()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        for path in pages:
            page = chromium.new_page(color_scheme="light")
            page.goto(path.resolve().as_uri(), wait_until="load")
            if page.locator(".math").count():
                page.wait_for_function("document.querySelectorAll('.math:not(:has(mjx-container))').length == 0")
            page.evaluate(PREPARE)
            title = page.locator("h1").first.inner_text().removesuffix("#").strip()
            part = PdfReader(io.BytesIO(page.pdf(format="A4", margin=MARGINS, print_background=True, tagged=True)))
            book.append(part, outline_item=title, import_outline=False)
            page.close()
            print(f"{title}: {commands.count(len(part.pages), 'page')}", flush=True)
        chromium.close()
    return book


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("site", type=Path, help="folder of the built book")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pdf")
    options = parser.parse_args(arguments)

    def command():
        toc = yaml.safe_load((commands.ROOT / "_toc.yml").read_text(encoding="utf-8"))
        book = printed(pages_of(options.site, toc))
        content = io.BytesIO()
        book.write(content)
        commands.write_atomically(content.getvalue(), options.out)
        size = options.out.stat().st_size / 1e6
        print(f"{options.out}: {commands.count(len(book.pages), 'page')}, {size:.1f} MB")

    return commands.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

"""The built site as a reader meets it: opened from a folder, in a browser, on a desktop and on a phone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
WIDTHS = {"desktop": 1280, "phone": 390}
# The browser's own housekeeping is no request of the page.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The book, built with quick parameters."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, ROOT / "book/build.py", "-f", ROOT / "book/params/quick.yaml", "--out", out]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out / "html"


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        reason = f"needs a browser: none of {', '.join(names)} is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)  # there, skipping would pass for testing
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


def is_outside(address):
    return not address.startswith(("file:", "data:"))


@pytest.fixture(params=WIDTHS)
def page(browser, request):
    """An empty page of one width that keeps a list of everything wrong in `page.faults`."""
    page = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 844})
    page.set_default_timeout(15_000)
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("requestfailed", lambda asked: page.faults.append(f"not found: {asked.url}"))
    page.on("request", lambda asked: page.faults.append(f"asked for {asked.url}") if is_outside(asked.url) else None)
    yield page
    page.close()


@pytest.mark.parametrize("name", [*PAGES, "index", "genindex", "search"])
def test_page_opens_whole_and_asks_nothing_of_the_network(site, page, name):
    page.goto((site / f"{name}.html").as_uri(), wait_until="load")
    if name == "index":  # a redirect: what is asked of the page it leaves would be lost with it
        page.wait_for_url("**/book/index.html", wait_until="load")
    if page.locator(".math").count():
        page.wait_for_function("document.querySelectorAll('.math:not(:has(mjx-container))').length == 0")
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    for image in page.locator("img").all():
        text = (image.get_attribute("alt") or "").strip()
        assert text and not re.search(r"\.(png|svg|jpe?g)$|^_images", text), image.get_attribute("src")
        assert image.evaluate("image => image.complete && image.naturalWidth > 0"), image.get_attribute("src")
    overhang = page.evaluate(
        """() => [...document.querySelectorAll('.bd-article *')]
            .filter(e => e.getBoundingClientRect().right > innerWidth && !e.closest('pre, table, mjx-container'))
            .map(e => e.tagName + '.' + e.className).slice(0, 5)"""
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"too wide, one of {overhang}"
    assert page.faults == []


def test_search_finds_a_word(site, page):
    page.goto((site / "search.html").as_uri() + "?q=decoder")
    page.wait_for_selector("#search-results li a")
    hrefs = [link.get_attribute("href") for link in page.locator("#search-results li a").all()]
    assert any("frozen_decoder" in href for href in hrefs)
    assert page.faults == []


def test_nothing_in_the_site_tells_of_this_machine(site):
    told = re.compile(r"/root\b|/home/|/tmp/|/Users/|" + re.escape(str(ROOT)))
    for path in site.rglob("*"):
        if path.suffix in {".html", ".js", ".ipynb", ".md", ".txt", ".json"} and "mathjax" not in path.parts:
            found = told.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(site)} has {found[0]}"

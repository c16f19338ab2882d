"""The built site as a reader meets it: opened from a folder, in a browser, on a desktop and on a phone."""

import gzip
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import build
import filelock
import nbformat
import notebook_parameters
import pandas as pd
import pytest
import quick_notebooks
import sweep_page
import yaml
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from PIL import Image
from saebook import tables
from saebook.contexts import contexts_html, gallery

from saelite.checking import report

ROOT = Path(__file__).resolve().parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
FIRST_PAGE, BEYOND_IT = 4e6, 0.5e6  # bytes that a web server sends a reader, at the most


def test_the_book_is_built(site):
    assert (site / "index.html").is_file()


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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_shuts_out_readers_with_assistive_technology(site, desktop, axe, name, theme):
    desktop.emulate_media(color_scheme=theme)
    desktop.goto((site / f"{name}.html").as_uri(), wait_until="load")
    assert desktop.evaluate("document.documentElement.dataset.theme") == theme
    desktop.add_style_tag(content="* { animation: none !important; transition: none !important; }")  # boxes fade in
    desktop.evaluate("document.querySelectorAll('details').forEach(box => box.open = true)")
    desktop.evaluate(axe)
    found = desktop.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    grave = [
        (fault["id"], len(fault["nodes"]), fault["nodes"][0]["html"][:200], fault["nodes"][0]["failureSummary"])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert grave == []


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_alone_goes_through_the_page_from_top_to_bottom(site, desktop, name):
    desktop.goto((site / f"{name}.html").as_uri(), wait_until="load")
    # where an element stands among all, and whether it belongs to the text
    focused = """() => {
        const e = document.activeElement, all = [...document.querySelectorAll('*')];
        return [all.indexOf(e), e.innerText || e.value || e.tagName, !!e.closest('.bd-article')];
    }"""
    visited = []
    for _ in range(400):
        desktop.keyboard.press("Tab")
        at = desktop.evaluate(focused)
        if visited and at[0] <= visited[0][0]:  # round again, or out of the page
            break
        visited.append(at)
    else:
        pytest.fail("Tab never comes to an end")
    assert visited[0][1].startswith("Skip to")
    places = [place for place, *_ in visited]
    assert places == sorted(set(places)), "focus jumps about, or is caught"
    assert sum(in_text for *_, in_text in visited) > 0


def test_search_finds_every_page_by_its_title(site, desktop):
    for name in PAGES:
        title = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser").h1
        words = " ".join(re.findall(r"[A-Za-z]{4,}", title.get_text()))
        desktop.goto((site / "search.html").as_uri() + f"?q={words}")
        desktop.wait_for_function("document.querySelector('.search-summary')?.innerText.includes('finished')")
        hrefs = [link.get_attribute("href") for link in desktop.locator("#search-results li a").all()]
        assert any(name in href for href in hrefs), f"{words!r} finds {hrefs[:5]}"


def test_every_link_inside_the_book_leads_somewhere(site):
    pages = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    places = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in pages.items()}
    broken = []
    for path, soup in pages.items():
        for link in soup.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            lost = anchor and target in places and anchor not in places[target]
            if not target.exists() or lost:
                broken.append(f"{path.relative_to(site)} -> {link['href']}")
    assert broken == []


def sent(path):
    """Bytes of a file as web servers send it: text is packed."""
    content = path.read_bytes()
    return len(gzip.compress(content) if path.suffix in {".html", ".css", ".js", ".svg", ".json"} else content)


def test_pages_are_light(site, browser):
    """The first page within its budget, any other within a smaller one beyond what the first has brought."""
    loaded, sizes = set(), {}
    for name in PAGES:
        page, asked = browser.new_page(), set()
        page.on("request", lambda request, asked=asked: asked.add(unquote(urlsplit(request.url).path)))
        page.goto((site / f"{name}.html").as_uri(), wait_until="load")
        page.close()
        files = {Path(path) for path in asked if Path(path).is_file()}
        sizes[name] = sum(map(sent, files - loaded))
        loaded = loaded or files
    assert sizes.pop(TOC["root"]) < FIRST_PAGE
    assert {name: size for name, size in sizes.items() if size > BEYOND_IT} == {}


def test_nothing_in_the_site_tells_of_this_machine(site):
    words = [str(ROOT), str(Path.home()), *quick_notebooks.SECRETS.values()]
    words += [value for name, value in os.environ.items() if name in quick_notebooks.SECRETS and len(value) > 8]
    told = re.compile(r"/root\b|/home/|/tmp/|/Users/|" + "|".join(map(re.escape, words)))
    for path in site.rglob("*"):
        if path.suffix in {".html", ".js", ".ipynb", ".md", ".txt", ".json"} and "mathjax" not in path.parts:
            found = told.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(site)} has {found[0]}"


RAN = "window.ran = 1"
HOSTILE = [
    f"<script>{RAN}</script>",
    f'"><img src=x onerror="{RAN}">',
    f"' onmouseover='{RAN}' x='",
    f"</td></table></p><svg onload={RAN}>",
    f"</script><script>{RAN}</script>",
    f"<a href=\"javascript:{RAN}\">here</a>",
]  # fmt: skip


def pages_of_text(text, folder):
    """Everything that is made into HTML of texts, names and labels that come from elsewhere."""
    contexts = {"latent": 3, "frequency": 0.1, "activation": 2.0, "tokens": [text, "b"], "activations": [2.0, 0.0]}
    contexts = pd.DataFrame([contexts | {"raises": [text], "lowers": [text]}])
    yield contexts_html({text: contexts}, credit=text)
    yield tables.show(pd.DataFrame({text: [text], "l0": [1.0]})).data
    yield gallery([Image.new("RGB", (4, 4))], [text], [text])
    row = {"metric": text, "baseline": "a", "score": 0.6, "low": 0.5, "high": 0.7, "floor": 0.2, "floor_is": text}
    row |= {"ceiling": 1.0, "difference": 0.1, "verdict": "better"}
    card = pd.DataFrame([row, row | {"baseline": text}])
    written = report.write(
        folder, text, about={"model": text}, notes=[text], card=card, figure=Figure(), against="a",
        made_with={"command": text},
    )  # fmt: skip
    yield written[0].read_text(encoding="utf-8")
    swept = pd.DataFrame({"texts": [text, "b"], "score": [0.1, 0.2], text: [1.0, 2.0]})
    made = {"notebook": text, "command": text, "grid": {"texts": [text, "b"]}}
    yield sweep_page.page(made, {text: swept})


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_text_with_markup_in_it_is_shown_as_text_and_runs_nothing(browser, tmp_path, number):
    text = HOSTILE[number]
    for place, made in enumerate(pages_of_text(text, tmp_path)):
        file = tmp_path / f"{place}.html"
        file.write_text(made if "<html" in made else f"<!DOCTYPE html><meta charset=utf-8><body>{made}")
        page = browser.new_page()
        page.goto(file.as_uri(), wait_until="load")
        assert page.evaluate("window.ran") is None, f"{text} ran in page {place}"
        assert text in page.evaluate("document.body.innerText"), f"{text} is not to be read in page {place}"
        assert page.locator("script, svg, a[href^=javascript], [onerror], [onmouseover], [onload]").count() == 0
        page.close()


def test_a_build_is_alone_in_its_folder_and_forgets_chapters_that_are_gone(tmp_path, monkeypatch):
    stage, steps = tmp_path / "stage", []

    def step(*_, **__):
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / build.LOCK).acquire(timeout=0)
        steps.append(sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*[0-9]_*")))

    for name in ("notebooks", "extra/student", "extra/slides", "book/built"):
        (stage / name).mkdir(parents=True)
    for stem in ("01_here", "02_gone"):
        (stage / "extra" / "student" / f"{stem}.ipynb").touch()
        (stage / "extra" / "slides" / f"{stem}.html").touch()
        (stage / "book" / "built" / f"of_{stem}.json").touch()
        record = {"notebook": stem, "key": "", "wall_seconds": 1, "results": {f"of_{stem}.json": ""}}
        (stage / "notebooks" / f"{stem}.run.json").write_text(json.dumps(record))
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A")]),
                       stage / "notebooks" / f"{stem}.ipynb")  # fmt: skip
    monkeypatch.setattr(notebook_parameters, "plan", lambda *_, **__: [(stage / "notebooks" / "01_here.ipynb", {})])
    monkeypatch.setattr(build.execute, "run_all", step)
    monkeypatch.setattr(build, "make_site", step)
    assert build.main(["--out", str(tmp_path)]) == 0
    left = ["book/built/of_01_here.json", "extra/slides/01_here.html", "extra/student/01_here.ipynb"]
    assert steps[0] == [*left, "notebooks/01_here.ipynb", "notebooks/01_here.run.json"] and len(steps) == 2

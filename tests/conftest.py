import os
import shutil
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import sync_playwright

WIDTHS = {"desktop": 1280, "phone": 390}
# The browser's own housekeeping is no request of the page.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def converted_models(tmp_path_factory):
    """One place for converted models: the embedded one takes half a minute to convert."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch, converted_models):
    """No test sees the user's cache, or what another test left; only converted models are shared."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "models").symlink_to(converted_models)
    monkeypatch.setenv("SAELITE_CACHE", str(cache))


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


@pytest.fixture
def desktop(browser):
    page = browser.new_page(viewport={"width": WIDTHS["desktop"], "height": 844})
    page.set_default_timeout(15_000)
    yield page
    page.close()


@pytest.fixture(scope="session")
def axe():
    """The script that looks for what shuts out readers with assistive technology."""
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

import os
import shutil
import subprocess
import sys
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import sync_playwright

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several, so torch, which is not imported yet, takes one core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a network, and without one each that names a model asks in vain

import torch
from quick_notebooks import QUICK, ROOT, SECRETS, Keeper, hand_over, shared_folder

WIDTHS = {"desktop": 1280, "phone": 390}
# The browser's own housekeeping is no request of the page.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


def pytest_configure(config):
    if config.option.nbmake:
        config.pluginmanager.register(Keeper())


def pytest_collection_modifyitems(items):
    """Put first what takes long and what is needed: the notebooks, and soon after them the book that is built of them.

    Some files lie between, so that no other worker of pytest-xdist is still at a notebook when the book asks for it.
    """

    def place(item):
        stem = item.path.stem
        return 0 if hasattr(item, "nbmake") else 1 if stem < "test_exercises" else 2 if stem == "test_site" else 3

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Chance begins anew with each test, before its fixtures: what ran before it on its worker is no part of it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def converted_models(request):
    """One place for converted models: the embedded one takes half a minute to convert."""
    models = shared_folder(request.config) / "models"
    models.mkdir(exist_ok=True)
    return models


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch, converted_models):
    """No test sees the user's cache, or what another test left; only converted models are shared."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "models").symlink_to(converted_models)
    monkeypatch.setenv("SAELITE_CACHE", str(cache))


@pytest.fixture(scope="session")
def site(request):
    """The book at quick parameters, of the notebooks that nbmake has executed; it executes those that are missing.

    Or what SAELITE_SITE names, such as the `_build/html` of `make book`.
    """
    if "SAELITE_SITE" in os.environ:
        return Path(os.environ["SAELITE_SITE"]).resolve()
    shared = shared_folder(request.config)
    out = shared / "book"
    hand_over(shared, out / "stage")
    command = [sys.executable, ROOT / "book" / "build.py", "-f", QUICK, "--out", out]
    built = subprocess.run(command, capture_output=True, text=True, env=os.environ | SECRETS)
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

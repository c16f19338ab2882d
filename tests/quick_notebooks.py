"""Keeps what nbmake has executed, as book/execute.py would, so that the tests' book is built of it."""

import os
import shutil
import time
from pathlib import Path
from unittest import mock

import nbformat
import notebook_parameters
import notebook_run
import pytest
import run_records

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "book" / "params" / "quick.yaml"
# Set while notebooks run and the book is built, and looked for in all that they leave.
SECRETS = {name: f"secret-of-{name.lower()}" for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")}


def shared_folder(config):
    """A folder of this run of pytest, one for all its workers."""
    base = config._tmp_path_factory.getbasetemp()
    return base.parent if hasattr(config, "workerinput") else base


class Keeper:
    """A plugin of pytest: runs nbmake's notebooks with a cache of their own, and keeps those that pass."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        if not hasattr(item, "nbmake"):
            return (yield)
        cache, models, kept = (shared_folder(item.config) / name for name in ("cache", "models", "notebooks"))
        leaves = kept / f".{item.path.stem}.results"
        for folder in (cache, models, kept, kept / "results", leaves):
            folder.mkdir(exist_ok=True)
        if not (cache / "models").exists():
            (cache / "models").symlink_to(models)
        environment = {"SAELITE_CACHE": str(cache), "SAELITE_RESULTS": str(leaves)}
        start = time.monotonic()
        with mock.patch.dict(os.environ, notebook_run.KERNEL_ENVIRONMENT | SECRETS | environment):
            yield
        keep(item.path, kept, leaves, time.monotonic() - start)


def keep(executed, kept, leaves, seconds):
    """Clean an executed notebook and record it, under the key that book/build.py will look for."""
    [(notebook, parameters)] = notebook_parameters.plan([executed.stem], file=QUICK)
    cleaned = notebook_run.clean(nbformat.read(executed, as_version=4))
    (kept / notebook.name).write_text(nbformat.writes(cleaned) + "\n", encoding="utf-8")
    results, key = kept / "results", run_records.run_key(notebook, parameters)
    names = notebook_run.moved(leaves, results)
    notebook_run.write_record(notebook, parameters, key, kept, results, names, seconds, threads=1)


def hand_over(shared, stage):
    """Copy what is kept to where book/build.py has its own."""
    if (shared / "notebooks").is_dir():
        ignore = shutil.ignore_patterns("results", ".*")
        shutil.copytree(shared / "notebooks", stage / "notebooks", ignore=ignore, dirs_exist_ok=True)
        shutil.copytree(shared / "notebooks" / "results", stage / "book" / "built", dirs_exist_ok=True)

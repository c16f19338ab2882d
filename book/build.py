"""Make the book: execute its notebooks, stage its pages, build the site.

    python book/build.py                                        the book, in _build/html
    python book/build.py -f book/params/quick.yaml --out DIR    a small one, in DIR/html

What is where under `--out` (default `_build`):

stage/notebooks/    the executed notebooks of `_toc.yml`, with a record beside each (see execute.py)
stage/book/         a copy of `book/`, so that pages have the same names as in the repository
stage/extra/        files that the site holds as they are: copies of the notebooks for students, and slides
stage/book/built/   the files that the notebooks left; a page shows them with `{figure} built/welcome.svg` or
                    `{include} built/table.md`
doctrees/, html/    Sphinx's memory, and the site

Sphinx sees the staging tree only, never the root, where it would walk through `.venv`. Warnings are errors. Only what
changed is made again: notebooks by their key, pages by Sphinx. All pages are made again if settings, extensions, static
files or the lock changed, and after a build that failed, since Sphinx does not repeat the warnings of a page it knows.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import commands
import execute
import notebook_parameters
import run_records
import slides
import student
import yaml

LOCK = ".build.lock"  # in the folder of the build, held from beginning to end


def notebooks_of(toc: dict) -> list[Path]:
    """The notebooks of the table of contents, in its order."""
    chapters = [chapter["file"] for part in toc.get("parts", []) for chapter in part["chapters"]]
    return [commands.ROOT / f"{chapter}.ipynb" for chapter in chapters if chapter.startswith("notebooks/")]


def configuration() -> dict:
    """`_config.yml`, with links to the repository where pyproject.toml names its public address."""
    settings = yaml.safe_load((commands.ROOT / "_config.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((commands.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    address = project["tool"]["saelite-book"]["public_address"].rstrip("/")
    if not address:
        return settings  # without an address the theme's repository and launch buttons raise
    parts = urlsplit(address)
    if parts.scheme != "https" or parts.path.count("/") != 2:
        raise commands.Refused(
            f"public_address in pyproject.toml must be like https://HOST/OWNER/NAME, not {address!r}."
        )
    settings["repository"] = {"url": address, "branch": "main"}
    settings["launch_buttons"]["binderhub_url"] = "https://mybinder.org"
    settings["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    settings["html"] |= {"use_repository_button": True, "use_issues_button": True, "use_edit_page_button": True}
    if parts.hostname == "github.com":
        owner, name = parts.path.strip("/").split("/")
        settings["html"]["baseurl"] = f"https://{owner}.github.io/{name}/"
    return settings


def installing(settings: dict) -> str:
    """The first cell of a notebook that is opened elsewhere; empty without a public address."""
    address = settings.get("repository", {}).get("url")
    return student.install_cell(address, (run_records.commit() or "main").split()[0]) if address else ""


def mirror(source: Path, target: Path, keep: set[str]) -> None:
    """Make `target` a copy of `source`, touching only files that differ; leave the names in `keep` alone."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    wanted = {path for path in wanted if "__pycache__" not in path.parts}
    for path in [path for path in target.rglob("*") if path.is_file()]:
        relative = path.relative_to(target)
        if relative not in wanted and relative.parts[0] not in keep:
            path.unlink()
    for relative in wanted:
        if not (target / relative).is_file() or not filecmp.cmp(source / relative, target / relative, shallow=False):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / relative, target / relative)


def stage(folder: Path, settings: dict) -> str:
    """Lay out what Sphinx reads besides the notebooks; return a hash of all that concerns every page."""
    mirror(commands.ROOT / "book", folder / "book", keep={"built"})
    (folder / "_config.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    shutil.copyfile(commands.ROOT / "_toc.yml", folder / "_toc.yml")
    common = [folder / "_config.yml", folder / "_toc.yml", commands.ROOT / "requirements.lock", Path(__file__)]
    for name in ("_ext", "_static"):
        common += sorted(path for path in (folder / "book" / name).rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in common if path.is_file())).hexdigest()


def forget_others(stems: set[str], folder: Path) -> None:
    """Remove what was staged of notebooks that are in the table of contents no more."""
    for record in run_records.records(folder / "notebooks"):
        for name in record["results"] if record["notebook"] not in stems else ():
            (folder / "book" / "built" / name).unlink(missing_ok=True)
    for place in ("notebooks", "extra/student", "extra/slides"):
        for path in (folder / place).glob("[0-9]*"):
            if path.name.partition(".")[0] not in stems:
                path.unlink()


def make_site(folder: Path, out: Path, common: str) -> None:
    """Build `out/html` from the staged tree.

    Raises
    ------
    commands.Refused
        If Sphinx warns of anything.
    """
    html, doctrees, succeeded = out / "html", out / "doctrees", out / "html.key"
    if not succeeded.is_file() or succeeded.read_text(encoding="utf-8") != common:
        shutil.rmtree(html, ignore_errors=True)
        shutil.rmtree(doctrees, ignore_errors=True)
    succeeded.unlink(missing_ok=True)
    print("The site", flush=True)
    write_settings = [Path(sys.executable).with_name("jupyter-book"), "config", "sphinx", folder]
    subprocess.run(write_settings, check=True, stdout=subprocess.DEVNULL)
    strict = ["-W", "-n", "--keep-going", "-q"]
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", *strict, "-d", str(doctrees), str(folder), str(html)]
    if subprocess.run(sphinx, env=os.environ | {"PYTHONPATH": str(folder / "book" / "_ext")}).returncode:
        raise commands.Refused("the site has faults: mend the warnings above and run the same command again.")
    commands.write_atomically(common, succeeded)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("-f", type=Path, metavar="PARAMS.yaml", help="parameters by notebook")
    parser.add_argument("--out", type=Path, default=commands.ROOT / "_build", metavar="DIR", help="default: _build")
    fit = execute.that_fit()
    parser.add_argument("--at-once", type=int, default=fit, metavar="N", help=f"notebooks side by side; here: {fit}")
    options = parser.parse_args(arguments)

    def command():
        start = time.monotonic()
        out = options.out.resolve()
        settings = configuration()
        toc = yaml.safe_load((commands.ROOT / "_toc.yml").read_text(encoding="utf-8"))
        jobs = notebook_parameters.plan(notebooks_of(toc), file=options.f)
        folder = out / "stage"
        out.mkdir(parents=True, exist_ok=True)
        with execute.alone_in(out, LOCK):
            forget_others({notebook.stem for notebook, _ in jobs}, folder)
            execute.run_all(jobs, folder / "notebooks", folder / "book" / "built", at_once=options.at_once)
            student.write([notebook for notebook, _ in jobs], folder / "extra" / "student", installing(settings))
            slides.write([folder / "notebooks" / notebook.name for notebook, _ in jobs], folder / "extra" / "slides")
            make_site(folder, out, stage(folder, settings))
        print(f"The book is in {out / 'html' / 'index.html'}, made in {commands.clock(time.monotonic() - start)}")

    return commands.guarded(command)


if __name__ == "__main__":
    sys.exit(main())

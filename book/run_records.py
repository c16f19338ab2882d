"""What is kept of a notebook's run, and whether it must run again: by the hash of all that its outcome follows from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import commands
import nbformat

CHANGES = " + changes"  # after a commit that the code differs from
# Which parameters reach a notebook, how it runs, and what is dropped from it afterwards.
RUNNERS = ("execute.py", "notebook_parameters.py", "notebook_run.py", "run_records.py")


def run_key(notebook: Path, parameters: dict[str, Any], *, references: bool = True) -> str:
    """Hash of everything that a notebook's outcome follows from, with the reference runs or without."""
    cells = [(cell.cell_type, cell.source, cell.metadata) for cell in nbformat.read(notebook, as_version=4).cells]
    root, runners = commands.ROOT, [Path(__file__).with_name(name) for name in RUNNERS]
    folders = (root / "saelite", root / "book" / "saebook")
    package = [path for one in folders for path in one.rglob("*") if path.suffix in (".py", ".csv", ".json")]
    files = [*package, root / "requirements.lock", root / "requirements-data.txt"]
    sources = {path.relative_to(root).as_posix(): file_hash(path) for path in files if path.is_file()}
    sources |= {path.name: file_hash(path) for path in runners}
    folder = commands.ROOT / "book" / "results"
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file()] if references else []
    reference_runs = {path.relative_to(folder).as_posix(): file_hash(path) for path in kept}
    everything = [cells, parameters, sources, reference_runs]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records(out: Path) -> list[dict[str, Any]]:
    """What is recorded in `out` about finished runs; a record that is damaged counts as none."""
    found = []
    for path in sorted(out.glob("*.run.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["notebook"], record["key"], record["wall_seconds"], dict(record["results"])
            found.append(record)
        except (ValueError, KeyError, TypeError):
            print(f"The record {path.name} is damaged: its notebook counts as not run.", file=sys.stderr)
    return found


def is_current(notebook: Path, key: str, out: Path, results: Path) -> bool:
    """Whether the notebook has run with this key, and all that it left is still there."""
    record = next((record for record in records(out) if record["notebook"] == notebook.stem), None)
    return (
        record is not None
        and record["key"] == key
        and (out / notebook.name).is_file()
        and file_hash(out / notebook.name) == record.get("executed", file_hash(out / notebook.name))
        and all(
            (results / name).is_file() and file_hash(results / name) == digest
            for name, digest in record["results"].items()
        )
    )


def machine() -> dict[str, Any]:
    """What a reader needs to judge the seconds; no names and no paths."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy", "saelite")}
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), **versions}


def commit() -> str | None:
    """The commit that the checkout is at, and whether tracked files differ; reference runs do not count as changes."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(commands.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if not (commands.ROOT / ".git").exists():  # or git would answer for a checkout further up
        return None
    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)book/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + CHANGES if changed else head

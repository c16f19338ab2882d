"""Imports go downwards only: `saelite` knows nothing of the book, and no wing of what is built on it."""

import subprocess
import sys
from pathlib import Path


def test_the_contracts_of_pyproject_are_kept():
    lint = Path(sys.executable).with_name("lint-imports")
    root = Path(__file__).parent.parent
    done = subprocess.run([lint, "--no-cache"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

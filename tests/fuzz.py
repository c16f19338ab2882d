"""Bad parameters, tried on every notebook: is each accepted, or refused in one sentence before long work starts?

    python tests/fuzz.py                        every notebook: `make fuzz`
    python tests/fuzz.py 05_frozen_decoder      one of them
    python tests/fuzz.py --out DIR              the counts in DIR, beside those of other notebooks

Every parameter gets in turn each of some values: the wrong type, 0, negative, huge, NaN and infinity, nothing, a name
that nothing has, and the smallest that may make sense. The others keep the size of `book/params/quick.yaml`. First a
value goes the way of a rerun, through the check of `book/notebook_parameters.py`, which refuses wrong types. What
passes it is set in the notebook, whose cells run here one after the other, until one begins long work: harvests, or
trains an SAE.

A parameter that is read only by cells after that has to be checked before it. So there the notebook runs once to its
end, and the cells from the first that reads the parameter are run again with each value: an error is then an error
after long work. Of all other values that were accepted some, drawn by the seed, are run to the end as well.

A case is one of

worked    the value was accepted: long work began, and, where it was followed, the notebook came to its end
refused   in one sentence, that names what is refused
wrong     anything else: an error from inside a library, a refusal after long work. One is enough for exit code 1.
"""

import argparse
import ast
import contextlib
import datetime
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))

KINDS = ("parameters", "tried", "worked", "refused", "wrong")
HUGE = 10**12
UNKNOWN = "no-such-thing"
VALUES = {
    int: [0, -1, 1, 2, HUGE, True, 1.5, UNKNOWN, "", None, [], float("nan")],
    float: [0.0, -1.0, 1.0, 2.0, 1e30, float("nan"), float("inf"), -float("inf"), UNKNOWN, "", None, []],
    str: ["", UNKNOWN, "a\"'<b>{}\n", "/no/such/folder", 0, None, []],
    list: [[], "", 0, None, {}, [None], [[]], [UNKNOWN]],
}
OF_ITEMS = {
    int: [[0], [-1], [HUGE], [1], [1, 2], [1.5], [1, 1]],
    float: [[0.0], [-1.0], [1.0], [2.0], [float("nan")], [float("inf")], [0.5, 0.5]],
    str: [[""], [0], ["\"'<b>"]],
}
# These name the thing that was asked for; any other kind of error speaks of the code it comes from.
SENTENCES = (ValueError, TypeError, FileNotFoundError, ModuleNotFoundError, OSError)
PATIENCE = 60  # seconds of a processor for a cell
LONGEST = 700  # characters of a sentence that also quotes a value and lists what there is


def values_for(kind, default):
    """What a parameter is given in turn, by its type and what it holds by default."""
    values = list(VALUES[kind])
    if kind is list:
        values += OF_ITEMS[type(default[0])] + [default[:1], default[:2], default[:1] * 2]
    return values


class LongWork(BaseException):
    """Long work begins: no notebook may catch it."""


class TookLong(BaseException):
    """A cell was at work for longer than any does at quick size."""


def took_long(*_):
    raise TookLong(f"a cell was still at work after {PATIENCE} seconds")


class Notebook:
    """The code cells of a notebook and its parameters at quick size, to be run here with one of them changed."""

    def __init__(self, path):
        import jupytext
        import yaml
        from notebook_parameters import declared_parameters, default_parameters

        self.path = path
        quick = yaml.safe_load((ROOT / "book/params/quick.yaml").read_text(encoding="utf-8"))
        self.kinds = declared_parameters(path)
        self.defaults = default_parameters(path)
        self.parameters = self.defaults | quick.get(path.stem, {})
        cells = [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]
        self.cells = [compile(c.source, f"cell {i}", "exec") for i, c in enumerate(cells) if not _declares(c)]
        names = [_names(cell.source) for cell in cells if not _declares(cell)]
        self.first_reader = {
            name: next((i for i, read in enumerate(names) if name in read), len(names)) for name in self.parameters
        }

    def run(self, parameters, start=0, namespace=None, keep=None):
        """Run the cells from `start`; the error that stopped them, or None. `keep` collects the state before each."""
        import matplotlib.pyplot as plt

        space = dict(namespace or {"__name__": "__main__", "display": lambda *shown: None}) | parameters
        for number, cell in enumerate(self.cells[start:], start=start):
            if keep is not None:
                keep.append(dict(space))
            # the first run may have nothing in the cache
            signal.setitimer(signal.ITIMER_PROF, 0 if keep is not None else PATIENCE)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(cell, space)
            except (Exception, LongWork, TookLong) as error:
                return number, error
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                plt.close("all")
        return len(self.cells), None


def _declares(cell):
    return "parameters" in cell.metadata.get("tags", [])


def _names(source):
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


class Switch:
    """Makes the first long work raise LongWork while it is on."""

    on = True

    def patch(self):
        from saelite import checkpoints, training
        from saelite.data import harvest as harvesting
        from saelite.data import store, stream, vision_models
        from saelite.evaluations import editing

        for module, name in (
            (harvesting, "tqdm"),  # the language model begins to run
            (store, "ActivationStore"),  # or what it gave is in the cache
            (stream.StreamedActivations, "_fill"),
            (training._Run, "step"),  # training begins
            (checkpoints, "read"),  # or the SAE is in the cache
            (editing.Editing, "_learn"),  # masks
            (vision_models, "tqdm"),
        ):
            setattr(module, name, self._guarded(getattr(module, name)))

    def _guarded(self, function):
        def called(*arguments, **named):
            if self.on:
                raise LongWork
            return function(*arguments, **named)

        return called


def load_once():
    """Models and texts are loaded, and told from others, many times over; once is enough."""
    from saelite.data import corpora, language_models
    from saelite.data import harvest as harvesting

    for module, name in (
        (language_models, "language_model"),
        (corpora, "load_texts"),
        (harvesting, "fingerprint"),
        (harvesting, "hash_texts"),
    ):
        setattr(module, name, _once(getattr(module, name)))


def _once(function):
    kept = {}  # with the arguments, so that no other object gets the place in memory of one that is gone

    def called(*arguments, **named):
        key = tuple(one if isinstance(one, str | int) else id(one) for one in (*arguments, *named.values()))
        if key not in kept:
            kept[key] = arguments, named, function(*arguments, **named)
        return kept[key][2]

    return called


def in_a_sentence(error):
    """Whether an error is a refusal that a reader can use."""
    message = " ".join(str(error).split())
    return isinstance(error, SENTENCES) and len(message.split()) >= 4 and len(message) <= LONGEST


def judge(error, early):
    """worked, refused or wrong, and why, for what stopped a notebook, before long work or after."""
    if error is None or isinstance(error, LongWork):
        return "worked", ""
    if isinstance(error, TookLong) and not early:  # such as training in batches of two
        return "worked", "not followed to the end: it takes long"
    told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if in_a_sentence(error):
        return ("refused", told) if early else ("wrong", f"after long work, {told}")
    return "wrong", told


def fuzz(notebook, seed, through):
    """Try every value of every parameter. A list of cases: parameter, value, outcome, told, seconds."""
    from commands import Refused
    from notebook_parameters import check_parameters

    switch = Switch()
    switch.patch()
    begun, error = notebook.run(notebook.parameters)
    states = []
    late = any(first > begun for first in notebook.first_reader.values())
    if late and (error is None or isinstance(error, LongWork)):
        switch.on = False
        cell, error = notebook.run(notebook.parameters, keep=states)
    if error is not None and not isinstance(error, LongWork):
        raise RuntimeError(f"{notebook.path.stem} fails with its own quick parameters") from error

    cases = []
    for name, kind in notebook.kinds.items():
        for value in values_for(kind, notebook.defaults[name]):
            started = time.perf_counter()
            try:
                fitted = check_parameters(notebook.path, {name: value})
            except Refused as refused:
                outcome, told = "refused" if in_a_sentence(refused) else "wrong", f"Refused: {refused}"
            except Exception as error:
                outcome, told = "wrong", f"{type(error).__name__}: {error}"
            else:
                first = notebook.first_reader[name]
                if first > begun:  # nothing before the long work reads it
                    switch.on = False
                    _, error = notebook.run(fitted, first, states[first] if first < len(states) else None)
                    outcome, told = judge(error, early=False)
                else:
                    switch.on = True
                    _, error = notebook.run(notebook.parameters | fitted)
                    outcome, told = judge(error, early=True)
            case = {"parameter": name, "value": repr(value), "outcome": outcome, "told": told}
            cases.append(case | {"seconds": round(time.perf_counter() - started, 1)})
            if outcome == "wrong":
                print(f"    {name} = {value!r}: {told}", flush=True)
            if outcome == "worked" and first <= begun:
                cases[-1]["fitted"] = fitted

    # to the end with some of the accepted; not with the huge, which would work for a year
    accepted = [case for case in cases if "fitted" in case and abs_of(case["fitted"]) < 1000]
    switch.on = False
    for case in random.Random(seed).sample(accepted, min(through, len(accepted))):
        started = time.perf_counter()
        _, error = notebook.run(notebook.parameters | case["fitted"])
        case["outcome"], case["told"] = judge(error, early=False)
        case["seconds"] += round(time.perf_counter() - started, 1)
        if case["outcome"] == "wrong":
            print(f"    {case['parameter']} = {case['value']}: {case['told']}", flush=True)
    return [{key: value for key, value in case.items() if key != "fitted"} for case in cases]


def abs_of(fitted):
    """The largest number in a parameter's value, 0 where it holds none."""
    (value,) = fitted.values()
    numbers = value if isinstance(value, list) else [value]
    return max((abs(n) for n in numbers if isinstance(n, int | float)), default=0)


def one(path, seed, through, out):
    """What the process of one notebook does."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    torch.set_num_threads(1)
    load_once()
    signal.signal(signal.SIGPROF, took_long)
    os.chdir(path.parent)
    notebook = Notebook(path)
    started = time.perf_counter()
    cases = fuzz(notebook, seed, through)
    outcomes = [case["outcome"] for case in cases]
    counts = {"parameters": len(notebook.kinds), "tried": len(cases)}
    counts |= {outcome: outcomes.count(outcome) for outcome in ("worked", "refused", "wrong")}
    out.write_text(json.dumps({"counts": counts, "cases": cases}, indent=1) + "\n", encoding="utf-8")
    print(f"{path.stem}: {counts} in {time.perf_counter() - started:.0f} s", flush=True)


def keep(folder, name, counts, options):
    """Put a notebook's counts beside those of the others, as JSON and as a table for a page of the book."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "counts.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept[name] = counts | {
        "to the end": options.through,
        "seed": options.seed,
        "date": datetime.date.today().isoformat(),
    }
    kept = dict(sorted(kept.items()))
    file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    total = {kind: sum(of[kind] for of in kept.values()) for kind in KINDS}
    lines = [f"| notebook | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(str(of[kind]) for kind in KINDS)} |" for name, of in kept.items()]
    lines += [f"| **all {len(kept)}** | {' | '.join(f'**{total[kind]}**' for kind in KINDS)} |"]
    (folder / "counts.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("notebooks", nargs="*", help="names; default: all of notebooks/")
    parser.add_argument("--seed", type=int, default=0, help="of the accepted values that are run to the end")
    parser.add_argument("--through", type=int, default=1, help="how many of those a notebook")
    parser.add_argument("--out", type=Path, help="folder for the counts: counts.json, and counts.md for the book")
    parser.add_argument("--cases", type=Path, help="folder for every case, a JSON file a notebook")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    paths = [ROOT / "notebooks" / f"{name}.ipynb" for name in options.notebooks]
    paths = paths or sorted((ROOT / "notebooks").glob("*.ipynb"))
    if options.one:
        one(paths[0], options.seed, options.through, options.one)
        return 0

    started, counts, failed = time.time(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        quiet |= {"SAELITE_RESULTS": folder}
        for path in paths:
            found = Path(folder) / f"{path.stem}.json"
            command = [sys.executable, __file__, path.stem, "--one", found]
            command += ["--seed", str(options.seed), "--through", str(options.through)]
            done = subprocess.run(command, env=os.environ | quiet)
            if done.returncode or not found.is_file():
                failed.append(path.stem)
                continue
            made = json.loads(found.read_text(encoding="utf-8"))
            counts[path.stem] = made["counts"]
            if options.cases:
                options.cases.mkdir(parents=True, exist_ok=True)
                (options.cases / found.name).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
            if options.out:
                keep(options.out, path.stem, made["counts"], options)
    total = {kind: sum(of[kind] for of in counts.values()) for kind in KINDS}
    print(f"{len(counts)} notebooks: {total} in {time.time() - started:.0f} s")
    for name in failed:
        print(f"{name}: could not be tried")
    return 1 if failed or total["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

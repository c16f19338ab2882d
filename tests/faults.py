"""Break things on purpose, on small work, and see whether anything is lost.

    python tests/faults.py                                  every fault; a quarter of an hour on two idle cores
    python tests/faults.py --only "kill -9: training" --kills 100 --seed 1
    python tests/faults.py --out book/faults.json           keeps the table, for the page that shows it

Every fault is tried on work in a temporary folder and followed by the same call again; the result must then be that of
a run that was left alone, bit for bit. The table says how often each was tried and survived, and what was done twice
because of it. The exit code is 1 if any was not survived. No test: what it tries is drawn at random.
"""

import argparse
import contextlib
import datetime
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet  # noqa: F401 (once here, not in every child; so is the next, which torch's optimisers import)
import torch
import torch._dynamo
from tiny import tiny_model, tiny_texts
from toy_notebook import LEAVES, write_notebook

from saelite import checkpoints, reuse
from saelite.activation_functions import BatchTopK
from saelite.data import harvest as harvesting
from saelite.data.harvest import harvest
from saelite.reuse import train_or_load
from saelite.sae import SAE
from saelite.storage import cache_contents
from saelite.synthetic import FeatureWorld, constant_probabilities

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # children are forked, and threads do not survive that
LM, TEXTS = tiny_model(), tiny_texts()
BATCHES = FeatureWorld(constant_probabilities(60, 5), d_in=16).batches(128, 120)
harvesting.CHECKPOINT_SECONDS = 0.01


class Lost(AssertionError):
    """A fault was not survived; the message says how."""


class Skipped(Exception):
    """A fault cannot be tried here; the message says why."""


@dataclass
class Kills:
    """How many are wanted, and until when a new one may begin."""

    wanted: int
    until: float

    def enough(self, hits):
        return hits >= self.wanted or (hits > 0 and time.monotonic() > self.until)


# The work: each leaves its result in the cache folder, and tells what it did as lines in a log


def do_harvest(log=None):
    plain = harvesting._run

    def told(*arguments):
        say(log, "batch")
        time.sleep(0.005)  # so that a kill meets it at work
        return plain(*arguments)

    harvesting._run = told
    try:
        return harvest(LM, TEXTS, layer=1, tokens=1200, context=16, batch=1, progress=False)
    finally:
        harvesting._run = plain


class Told:
    """The batches, each told when it is asked for."""

    settings = BATCHES.settings

    def __init__(self, log):
        self.log = log

    def __len__(self):
        return len(BATCHES)

    def __getitem__(self, i):
        say(self.log, "step")
        time.sleep(0.002)
        return BATCHES[i]


def do_training(log=None):
    sae = SAE(16, 64, BatchTopK(5))
    train_or_load(sae, Told(log), lr=1e-3, checkpoint_every=20, progress=False)
    return sae


class Squares:
    """An evaluation of almost no cost."""

    settings = {"of": "the decoder"}

    def references(self):
        return pd.DataFrame({"metric": ["square"], "score": [0.0]})


def do_table(log=None):
    say(log, "table")
    return reuse._remembered(Squares())


def say(log, word):
    if log:
        with open(log, "a") as file:
            print(word, file=file)


def said(log):
    return len(Path(log).read_text().split()) if Path(log).exists() else 0


def digest(folder):
    """A hash of all that was made below a folder, but for the seconds that a history states and what locks hang on."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_dir() or path.suffix in (".lock", ".checksum") or path.name in (".lock", "checksums.json"):
            continue
        content = path.read_bytes()
        if path.name == "sae.json":
            record = json.loads(content)
            content = json.dumps([{k: v for k, v in row.items() if k != "seconds"} for row in record["history"]])
            content = content.encode()
        if path.name.endswith(".run.json"):
            content = json.dumps(json.loads(content)["results"]).encode()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def must_equal(found, wanted, what):
    differing = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
    if differing:
        raise Lost(f"{what}: {', '.join(differing[:3])} differ from a run that was left alone")


# Processes


def fork(work, folder, log=None):
    """Do work in a child that keeps its results in `folder`; returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["SAELITE_CACHE"] = str(folder)
        os.dup2(os.open(f"{folder}.errors", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        work(log)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def to_the_end(child, folder):
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        errors = Path(f"{folder}.errors").read_text().strip().splitlines()
        raise Lost(f"the run that follows ended with code {code}: {errors[-1] if errors else ''}")


def here(folder):
    os.environ["SAELITE_CACHE"] = str(folder)
    return folder


def command(program, *arguments):
    return [sys.executable, str(ROOT / "book" / f"{program}.py"), *map(str, arguments)]


def begin(words, folder):
    """Start a program of the book's as a terminal would, with a cache of its own."""
    environment = os.environ | {"SAELITE_CACHE": str(folder / "cache"), "FAULTS_LOG": str(folder / "cells.log")}
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment, start_new_session=True, **pipes, **heed)


# The faults: each gives how often it was tried, and what was lost, and raises Lost


def killed_work(work, unit, chance, kills, tmp):
    """kill -9 at random moments of work in one process, each followed by the same call to its end."""
    whole = tmp / "whole"
    whole.mkdir()
    started = time.monotonic()
    to_the_end(fork(work, whole, tmp / "whole.log"), whole)
    takes, wanted, least = time.monotonic() - started, digest(whole), said(tmp / "whole.log")
    hits, again = 0, []
    for number in range(4 * kills.wanted):
        folder, log = tmp / str(number), tmp / f"{number}.log"
        folder.mkdir()
        child = fork(work, folder, log)
        time.sleep(chance.uniform(0, takes))
        os.kill(child, signal.SIGKILL)
        hit = os.waitpid(child, 0)[1] == signal.SIGKILL
        to_the_end(fork(work, folder, log), folder)
        must_equal(digest(folder), wanted, "after a kill")
        if hit:
            hits += 1
            again.append(said(log) - least)
        shutil.rmtree(folder)
        if kills.enough(hits):
            break
    return hits, f"at most {max(again)} of {least} {unit} done again, {sum(again) / len(again):.0f} on average"


def killed_program(words_for, result, unit, chance, kills, tmp):
    """kill -9 at random moments of a program of the book's; started again, it is killed again, till it gets through."""
    whole = tmp / "whole"
    whole.mkdir()
    started = time.monotonic()
    process = begin(words_for(whole), whole)
    _, errors = process.communicate()
    if process.returncode:
        raise Lost(f"a run that is left alone ends with code {process.returncode}: {errors.strip()[-300:]}")
    takes, wanted, least = time.monotonic() - started, digest(result(whole)), said(whole / "cells.log")
    hits, episodes, again = 0, 0, 0
    while not kills.enough(hits):
        episodes += 1
        folder = tmp / str(episodes)
        folder.mkdir()
        while True:
            process = begin(words_for(folder), folder)
            try:
                wait = None if kills.enough(hits) else chance.uniform(0, takes)
                _, errors = process.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                hits += 1
                continue
            if process.returncode:
                raise Lost(f"the run that follows ended with code {process.returncode}: {errors.strip()[-300:]}")
            break
        must_equal(digest(result(folder)), wanted, "after kills")
        again += said(folder / "cells.log") - least
    return hits, f"{again} {unit} run again, of {episodes * least}"


def toy(folder, name="01_a", wait=0.5):
    """A notebook that tells when it runs, takes a moment, and leaves its tables."""
    tells = "import os, time\nwith open(os.environ['FAULTS_LOG'], 'a') as log:\n    print('run', file=log)"
    (folder / "notebooks").mkdir(exist_ok=True)
    path = write_notebook(folder / "notebooks" / f"{name}.ipynb", tells, f"time.sleep({wait})", LEAVES)
    notebook = json.loads(path.read_text())
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number}"  # drawn at random when it is written
    path.write_text(json.dumps(notebook))
    return path


def sweep_words(folder, wait=0.5):
    where = ["--out", folder / "out", "--work", folder / "work", "--workers", 2]
    return command("sweep", toy(folder, wait=wait), "-g", "samples=1,2", *where)


def build_words(folder, wait=0.5):
    return command("execute", toy(folder, wait=wait), toy(folder, "02_b", wait), "--out", folder / "out")


def tables(folder):
    """What a sweep leaves but for its record, which states times."""
    for path in (folder / "out").glob("*"):
        if path.suffix != ".csv":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder / "out"


def kill_harvest(chance, kills, tmp):
    return killed_work(do_harvest, "batches", chance, kills, tmp)


def kill_training(chance, kills, tmp):
    return killed_work(do_training, "steps", chance, kills, tmp)


def kill_sweep(chance, kills, tmp):
    return killed_program(sweep_words, tables, "notebooks", chance, kills, tmp)


def kill_build(chance, kills, tmp):
    return killed_program(build_words, lambda folder: folder / "out", "notebooks", chance, kills, tmp)


def workers(chance, kills, tmp):
    """The test of sweeps has both: a worker killed at work, and the scheduler."""
    test = ROOT / "tests" / "test_sweep_engine.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(test), "-k", "killed"], cwd=ROOT, capture_output=True, text=True
    )
    if "1 passed" not in done.stdout:
        if "1 skipped" in done.stdout:
            raise Skipped("no openssl")
        raise Lost(done.stdout.strip().splitlines()[-1])
    return 2, "the notebook at work, which ran again from its start; with the scheduler the sweep, which resumed"


@contextlib.contextmanager
def mounted(folder, options):
    """A small disk of its own, in memory."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        raise Skipped("only root can mount a small disk to fill")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def left_behind(folder):
    """Names of files that are neither whole results nor what a next run goes on from."""
    return [path.name for path in Path(folder).rglob(".tmp-*")]


def refused(work, words, number):
    try:
        work()
    except OSError as error:
        if error.errno != number or words not in str(error):
            raise Lost(f"the message is {error}") from error
        return
    raise Lost("nothing was said")


def disk_full(chance, kills, tmp):
    tried = 0
    with mounted(tmp / "alone", "size=20m") as folder:
        here(folder)
        for work in (do_harvest, do_training, do_table):
            work()
        wanted = digest(folder)
    for late in (False, True):  # full before it begins, or in its midst
        with mounted(tmp / f"full-{late}", "size=2m") as folder:
            here(folder)
            filler, counted = folder / "filler", []

            def fill(filler=filler):
                with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
                    while file.write(b"0" * 4096):
                        pass

            def filling(plain, after, fill=fill, counted=counted):
                def wrapped(*arguments, **named):
                    counted.append(1)
                    if len(counted) == after:
                        fill()
                    return plain(*arguments, **named)

                return wrapped

            def spy(module, name, after, filling=filling):
                plain = getattr(module, name)
                setattr(module, name, filling(plain, after) if late else plain)  # noqa: B023 (called at once)
                return lambda: setattr(module, name, plain)

            places = [(do_harvest, harvesting, "_write_all", 9), (do_training, checkpoints, "save_training", 2)]
            for work, module, name, after in [*places, (do_table, pd.DataFrame, "to_parquet", 1)]:
                counted.clear()
                if not late:
                    fill()
                undo = spy(module, name, after)
                try:
                    refused(work, "No room on the disk", errno.ENOSPC)
                finally:
                    undo()
                if left := left_behind(folder):
                    raise Lost(f"{left[0]} is left half-made")
                filler.unlink(missing_ok=True)
                work()
                tried += 1
            must_equal(digest(folder), wanted, "after a full disk")
    return tried, "nothing: what was done before the disk was full is kept"


def read_only(chance, kills, tmp):
    with mounted(tmp / "disk", "size=20m") as folder:
        here(folder)
        for work in (do_harvest, do_training, do_table):
            work()
        before = digest(folder)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for work in (do_harvest, do_training, do_table):  # reading suffices
            work()
        missing = lambda: harvest(LM, TEXTS, layer=2, tokens=500, context=16, progress=False)  # noqa: E731
        refused(missing, "cannot be written", errno.EROFS)
        refused(
            lambda: train_or_load(SAE(16, 64, BatchTopK(6)), BATCHES, progress=False), "cannot be written", errno.EROFS
        )
        refused(cache_contents.clean, "cannot be written", errno.EROFS)
        must_equal(digest(folder), before, "a read-only cache")
    return 6, "nothing: what is there is read, what is missing is refused before the work"


def clock(chance, kills, tmp):
    """All times in the future or in the past, of whole results and of what killed runs left."""
    for number, years in enumerate((30, -30)):
        for work in (do_harvest, do_training):
            whole, folder = tmp / f"{work.__name__}-{number}-whole", tmp / f"{work.__name__}-{number}"
            for made in (whole, folder):
                made.mkdir()
            to_the_end(fork(work, whole), whole)
            child = fork(work, folder)
            while not list(folder.glob("*/*.run")) + list(folder.glob("*/*.partial/done.json")):
                time.sleep(0.002)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            for _ in range(2):  # the unfinished, then the finished
                for path in folder.rglob("*"):
                    os.utime(path, (time.time() + years * 3e7,) * 2)
                to_the_end(fork(work, folder, tmp / "log"), folder)
            must_equal(digest(folder), digest(whole), "after a jump")
            here(folder)
            cache_contents.in_words()
    folder = tmp / "build"
    folder.mkdir()
    for years in (0, 30, -30):
        process = begin(build_words(folder, 0), folder)
        printed, errors = process.communicate()
        if process.returncode or (years and printed.count("nothing changed") != 2):
            raise Lost(f"a build was not taken as it was: {printed} {errors}")
        for path in (folder / "out").rglob("*"):
            os.utime(path, (time.time() + 30 * 3e7 * (1 if not years else -1),) * 2)
    return 6, "nothing: no result is judged by its time"


def two_at_once(chance, kills, tmp):
    whole, both, log = tmp / "whole", tmp / "both", tmp / "log"
    for folder in (whole, both):
        folder.mkdir()

    def work(log):
        do_harvest(log)
        do_training(log)
        do_table(log)

    to_the_end(fork(work, whole, tmp / "whole.log"), whole)
    children = [fork(work, both, log) for _ in range(4)]
    for child in children:
        to_the_end(child, both)
    must_equal(digest(both), digest(whole), "of four at once")
    twice = said(log) - said(tmp / "whole.log") - 3  # each says of itself that it asks for the table
    if twice:
        raise Lost(f"{twice} steps were done by two of them")
    folder = tmp / "builds"
    folder.mkdir()
    builds = [begin(build_words(folder), folder) for _ in range(2)]
    for process in builds:
        _, errors = process.communicate()
        if process.returncode:
            raise Lost(f"of two builds one ended with code {process.returncode}: {errors.strip()[-300:]}")
    if said(folder / "cells.log") != 2:
        raise Lost(f"two builds ran two notebooks {said(folder / 'cells.log')} times")
    return 2, "nothing: one makes, the others wait and read"


def damaged(chance, kills, tmp):
    """Cut short, a bit flipped, or a file gone: found, named and made again."""
    tried = 0
    whole = here(tmp / "whole")
    for work in (do_harvest, do_training, do_table):
        work()
    wanted = digest(whole)
    unfinished = tmp / "unfinished"
    unfinished.mkdir()
    for work, pattern in ((do_harvest, "*/*.partial/done.json"), (do_training, "*/*.run.checksum")):
        child = fork(work, unfinished)
        while not list(unfinished.glob(pattern)):
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for place in (whole, unfinished):
        names = [p.relative_to(place) for p in sorted(place.rglob("*")) if p.is_file() and p.suffix != ".lock"]
        names = [name for name in names if ".tmp-" not in str(name)]
        for name in names:
            for how in ("cut", "flip", "gone"):
                if how == "gone" and (
                    place == unfinished or name.suffix == ".checksum" or name.parent.name == "tables"
                ):
                    continue  # then there is nothing to notice
                if name.name == "checksums.json" and how == "gone":
                    continue
                folder = here(tmp / f"{place.name}-{tried}")
                shutil.copytree(place, folder)
                file = folder / name
                content = bytearray(file.read_bytes())
                if how == "gone":
                    file.unlink()
                elif how == "cut":
                    file.write_bytes(content[: chance.randrange(len(content))])
                else:
                    # of an unfinished harvest no more is known than what it had recorded as done
                    content[chance.randrange(len(content)) if name.name != "activations.bin" else 0] ^= 1 << 3
                    file.write_bytes(content)
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    for work in (do_harvest, do_training, do_table):
                        work()
                noticed = [one for one in told if "damaged" in str(one.message)]
                if not noticed and place == whole and "checksum" not in name.name:
                    raise Lost(f"{name} ({how}) was not noticed")
                must_equal(digest(folder), wanted, f"{name} ({how})")
                shutil.rmtree(folder)
                tried += 1
    return tried, "the damaged result, which was made again"


def older(chance, kills, tmp):
    """A cache with no checksums, as before there were any, with results of other code and half-made ones beside."""
    folder = here(tmp / "cache")
    for work in (do_harvest, do_training, do_table):
        work()
    wanted = digest(folder)
    for path in [*folder.rglob("checksums.json"), *folder.rglob("*.checksum")]:
        path.unlink()
    stray = folder / "saes" / "0123456789abcdef"
    stray.mkdir()
    (stray / "sae.json").write_text('{"format": "saelite-0"}')
    (folder / "saes" / "0123456789abcdef.run").write_bytes(b"from another version")
    (folder / "old-index.json").write_text("{}")
    log = tmp / "log"
    do_harvest(log)
    do_training(log)
    do_table()
    if said(log):
        raise Lost("what was there was made again")
    cache_contents.in_words()
    if cache_contents.clean(["saes"])[0] != 2 or not (folder / "old-index.json").exists():
        raise Lost("cleaning takes too much or too little")
    do_training()
    must_equal({k: v for k, v in digest(folder).items() if k != "old-index.json"}, wanted, "beside older results")
    return 4, "nothing: what still holds is read, the rest is never asked for"


def ctrl_c(chance, kills, tmp):
    tried = 0
    for work in (do_harvest, do_training):
        whole = tmp / f"{work.__name__}-whole"
        whole.mkdir()
        started = time.monotonic()
        to_the_end(fork(work, whole), whole)
        takes = time.monotonic() - started
        for number in range(max(1, kills.wanted // 4)):
            folder = tmp / f"{work.__name__}-{number}"
            folder.mkdir()
            child = fork(work, folder, tmp / "log")
            time.sleep(chance.uniform(0.05, takes))
            os.kill(child, signal.SIGINT)
            code = os.waitpid(child, 0)[1]
            begun = code and list(folder.glob("*/*.lock"))
            if begun and "the same call goes on" not in Path(f"{folder}.errors").read_text():
                raise Lost("how to resume was not said")
            if left := left_behind(folder):
                raise Lost(f"{left[0]} is left half-made")
            to_the_end(fork(work, folder), folder)
            must_equal(digest(folder), digest(whole), "after Ctrl-C")
            tried += 1
    for words_for, result in ((build_words, lambda folder: folder / "out"), (sweep_words, tables)):
        whole, folder = tmp / f"{words_for.__name__}-whole", tmp / words_for.__name__
        for made in (whole, folder):
            made.mkdir()
        begin(words_for(whole), whole).communicate()
        process = begin(words_for(folder, wait=600), folder)
        while not said(folder / "cells.log") and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        if process.returncode != 130 or "the same command resumes" not in errors or "Traceback" in errors:
            raise Lost(f"it ended with code {process.returncode}: {errors.strip()[-300:]}")
        _, errors = begin(words_for(folder), folder).communicate()
        must_equal(digest(result(folder)), digest(result(whole)), "after Ctrl-C")
        tried += 1
    return tried, "the steps since the last checkpoint, or the notebook at work"


FAULTS = {
    "kill -9: harvest": kill_harvest,
    "kill -9: training": kill_training,
    "damaged files": damaged,
    "a full disk": disk_full,
    "a read-only cache": read_only,
    "a cache of an older version": older,
    "a clock that jumps": clock,
    "several at once over one cache": two_at_once,
    "Ctrl-C: harvest, training, build, sweep": ctrl_c,
    "kill -9: build": kill_build,
    "kill -9: sweep": kill_sweep,
    "a worker killed, the scheduler lost": workers,
}


def keep(row, out):
    """Put a row into the file of rows, in place of an earlier one on the same fault, and write the page beside it."""
    sys.path.insert(0, str(ROOT / "book"))
    import run_records

    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    kept[row["fault"]] = row | {"machine": run_records.machine()}
    rows = [kept[name] for name in FAULTS if name in kept]
    out.write_text(json.dumps({row["fault"]: row for row in rows}, indent=1) + "\n", encoding="utf-8")
    lines = ["| fault | tried | survived | lost |", "|---|---|---|---|"]
    lines += [f"| {row['fault']} | {row['tried']} | {row['survived']} | {row['lost']} |" for row in rows]
    dates, machine = sorted({row["date"] for row in rows}), rows[-1]["machine"]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    lines += [
        "",
        f"Tried {when}, in {sum(row['seconds'] for row in rows) / 60:.0f} minutes, on {machine['cores']} cores "
        f"({machine['cpu']}, {machine['system']}, Python {machine['python']}, torch {machine['torch']}), by "
        "`tests/faults.py`, which wrote this table.",
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--kills", type=int, default=20, help="random moments in each kind of work; default: 20")
    parser.add_argument("--minutes", type=float, default=60, help="and no new one after so many minutes; default: 60")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the rows there, and a page beside it")
    options = parser.parse_args()
    survived = True
    for name in options.only:
        chance, started = random.Random(f"{options.seed} {name}"), time.monotonic()
        until = started + 60 * options.minutes
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as tmp:
            try:
                tried, lost = FAULTS[name](chance, Kills(options.kills, until), Path(tmp))
                row = {"fault": name, "tried": tried, "survived": "yes", "lost": lost}
            except Skipped as why:
                row = {"fault": name, "tried": 0, "survived": "-", "lost": f"not tried: {why}"}
            except Exception as error:
                if not isinstance(error, Lost):
                    traceback.print_exc()
                row = {"fault": name, "tried": "", "survived": "NO", "lost": f"{type(error).__name__}: {error}"}
        print(f"{row['fault']:<40} {row['tried']!s:>4}  {row['survived']:<4} {row['lost']}", flush=True)
        survived &= row["survived"] != "NO"
        when = datetime.datetime.now(datetime.UTC).date().isoformat()
        if options.out:
            keep(
                row | {"date": when, "seed": options.seed, "seconds": round(time.monotonic() - started, 1)}, options.out
            )
    return int(not survived)


if __name__ == "__main__":
    sys.exit(main())

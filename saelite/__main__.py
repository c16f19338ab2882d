"""Check an SAE, plan a run, or see to the cache, in a terminal.

``python -m saelite check CHECKPOINT --layer LAYER`` is the chapter *Check your own SAE*; ``python -m saelite plan``
says what a run would download, train and need, and does none of it; ``python -m saelite cache`` says what lies in the
cache, and clears it.
"""

import argparse
import inspect
import sys
import time

import pandas as pd
import yaml

from saelite import arguments, plots
from saelite.checking import foreign_sae, report
from saelite.checking import plan_a_run as planning
from saelite.data.corpora import load_texts
from saelite.data.harvest import harvest
from saelite.data.language_models import SITES, check_layer, language_model, norms_after
from saelite.evaluations.scorecard import scorecard
from saelite.formats import read
from saelite.grid import fit
from saelite.metrics import evaluate
from saelite.storage import cache_contents


def check(options):
    """Read, question, match, measure, report; each step prints what it found before the next, longer one."""
    began = time.monotonic()
    arguments.training(
        tokens=options.tokens, batch_size=options.batch_size, epochs=options.epochs, lr=options.lr, seed=options.seed
    )
    arguments.between(0, 1e9, minutes=options.minutes)
    sae, about = read(options.checkpoint)
    foreign_sae.rescale(sae, options.scale)
    lm, corpus = language_model(options.model), load_texts(options.texts)
    check_layer(lm, options.layer, options.site)
    notes = foreign_sae.at_odds(
        sae, about, model=options.model, layer=options.layer, d_model=lm.d_model, site=options.site,
        norms_after=norms_after(lm, options.layer, options.site),
    )  # fmt: skip
    store = harvest(lm, corpus, layer=options.layer, site=options.site, tokens=options.tokens)
    notes.append(foreign_sae.scale_in_words(foreign_sae.by_scale(sae, store.held_out[:4096], options.scale)))
    print("\n".join(notes), flush=True)

    l0 = evaluate(sae, store.held_out[:4096]).l0
    variants = foreign_sae.matched(sae, l0, store.train[:50_000], seed=options.seed)
    batches = store.batches(options.batch_size, epochs=options.epochs, seed=options.seed)
    saes, _ = fit(variants, batches, store.d_in, d_sae=sae.d_sae, seed=options.seed, lr=options.lr)
    architecture = next(iter(saes))[0]
    saes = {(architecture, foreign_sae.YOURS): sae} | saes
    measured = []
    for name in options.evaluations:
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            notes.append(f"Left out, since {options.minutes:g} minutes were over: {name}.")
            continue
        one = foreign_sae.evaluation(name, lm, store, l0=round(l0), d_sae=sae.d_sae, seed=options.seed)
        measured.append(scorecard(saes, [one], against=foreign_sae.YOURS))
        print("\n".join(report.in_words(measured[-1], foreign_sae.YOURS)), flush=True)
    if not measured:
        raise ValueError(f"minutes={options.minutes:g} are over before the first evaluation: give more.")
    card = pd.concat(measured, ignore_index=True)
    plots.style()
    paths = report.write(
        options.out, options.checkpoint, about=about, notes=notes, card=card, figure=plots.scorecard(card),
        against=foreign_sae.YOURS,
    )  # fmt: skip
    print("Report:", *paths)


def plan(options):
    """Say what a run with these settings would need."""
    settings = {name: value for name, value in vars(options).items() if name in SETTINGS and value is not None}
    if options.params:
        file, entry = options.params
        with open(file, encoding="utf-8") as opened:
            try:
                by_entry = yaml.safe_load(opened)
            except yaml.YAMLError as error:
                raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
        if not isinstance(by_entry, dict) or not isinstance(by_entry.get(entry), dict):
            raise ValueError(f"{file} has no entry {entry!r} with settings in it.")
        in_file = {name: _of_its_kind(name, value) for name, value in by_entry[entry].items() if name in SETTINGS}
        settings = in_file | settings
    print("\n".join(planning.in_words(planning.plan(**settings))))


def _of_its_kind(name, value):
    """A setting from a file, where YAML makes of it what it looks like: 4e5 is a string to it."""
    kind = {"architectures": list, "tflops": int | float | None}.get(name, type(SETTINGS[name].default))
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(
            f"{name}={value!r} must be {getattr(kind, '__name__', kind)}, such as {SETTINGS[name].default!r}."
        )
    return value


def cache(options):
    """Say what lies in the cache, or clear it."""
    if options.clean is None and options.clean_older is None:
        print("\n".join(cache_contents.in_words()))
        return
    removed, freed, in_use = cache_contents.clean(options.clean or None, options.clean_older or 0.0)
    left = f"; {in_use} left, since another process is using them" if in_use else ""
    print(f"Removed {removed} results, {freed / 1e6:,.1f} MB{left}.")


SETTINGS = inspect.signature(planning.plan).parameters
"""What a plan is made of; a file of parameters may name more, which a plan does not depend on."""


def main(command=None):
    parser = argparse.ArgumentParser(prog="python -m saelite", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser(
        "check", help="does an SAE beat random baselines?", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    one.add_argument("checkpoint", help="folder, file, or OWNER/NAME/FOLDER on the Hugging Face hub")
    one.add_argument("--model", default="smollm2", help="the language model whose activations it reads")
    one.add_argument("--layer", type=int, required=True, help="decoder block whose output it reads, counted from 0")
    one.add_argument("--site", default="residual", choices=SITES, help="what of that block it reads")
    one.add_argument("--texts", default="wikipedia-en", help="text set, as in load_texts")
    one.add_argument("--tokens", type=int, default=400_000, help="activations to harvest")
    one.add_argument("--scale", type=float, default=1.0, help="what activations are multiplied by before they reach it")
    one.add_argument("--evaluations", nargs="+", default=list(foreign_sae.EVALUATIONS), choices=foreign_sae.EVALUATIONS)
    one.add_argument(
        "--minutes", type=float, default=0.0, help="begin no evaluation after so many minutes; 0: no limit"
    )
    one.add_argument("--batch-size", type=int, default=1024, help="activations in a training batch")
    one.add_argument("--epochs", type=int, default=1, help="passes over the training activations")
    one.add_argument("--lr", type=float, default=3e-3, help="peak learning rate of the baselines")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", default="report", help="folder of report.html and report.json")
    one.set_defaults(run=check)
    two = commands.add_parser("plan", help="what would a run download, train and need?")
    two.add_argument("--params", nargs=2, metavar=("FILE.yaml", "ENTRY"), help="settings by entry, as book/params has")
    for name, setting in SETTINGS.items():
        if name == "architectures":
            two.add_argument("--architectures", nargs="+")
        else:
            kind = float if name == "tflops" else type(setting.default)
            two.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default: {setting.default}")
    two.set_defaults(run=plan)
    three = commands.add_parser("cache", help="what lies in the cache, and clearing it")
    three.add_argument(
        "--clean", nargs="*", metavar="KIND", help=f"remove all, or some of: {', '.join(cache_contents.KINDS)}"
    )
    three.add_argument("--clean-older", type=float, metavar="DAYS", help="remove only what was not used for so long")
    three.set_defaults(run=cache)
    words = sys.argv[1:] if command is None else command
    try:
        arguments.no_credentials(**{"The command": words})  # before anything repeats them
        options = parser.parse_args(words)
        options.run(options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. What had finished is kept: the same command resumes.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

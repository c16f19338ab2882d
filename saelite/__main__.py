"""Check an SAE, plan a run, or see to the cache, in a terminal.

``saelite check CHECKPOINT --layer LAYER`` is the chapter *Check your own SAE*; ``saelite plan`` says what a run would
download, train and need, and does none of it; ``saelite cache`` says what lies in the cache, and clears it. Help and
refusals come at once: what takes seconds to import, such as torch, is imported inside the command that needs it.
"""

from __future__ import annotations

import argparse
import inspect
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from saelite import __version__, arguments
from saelite.checking import plan_a_run as planning
from saelite.storage import cache_contents

SETTINGS = inspect.signature(planning.plan).parameters
"""What a plan is made of; a file of parameters may name more, which a plan does not depend on."""

# The keys of saelite.data.language_models.SITES, and saelite.checking.foreign_sae.EVALUATIONS.
SITES = ("residual", "mlp", "attention")
EVALUATIONS = ("reconstruction", "auto-interpretability", "probing", "editing")

CHECK = {
    "model": ("smollm2", "language model whose activations it reads"),
    "texts": ("wikipedia-en", "text set, as in load_texts"),
    "tokens": (400_000, "activations to harvest"),
    "scale": (1.0, "what activations are multiplied by before they reach it"),
    "minutes": (0.0, "begin no evaluation after so many minutes; 0: no limit"),
    "batch-size": (1024, "activations in a training batch"),
    "epochs": (1, "passes over the training activations"),
    "lr": (3e-3, "peak learning rate of the baselines"),
    "seed": (0, "of the baselines, and of what is drawn"),
    "out": ("report", "folder of report.html, report.json and report.csv"),
}
"""Options of `check`: default and meaning."""


def check(options: argparse.Namespace) -> None:
    """Read, question, match, measure, report; each step prints what it found before the next, longer one."""
    began = time.monotonic()
    made_with = {name: getattr(options, name) for name in ("tokens", "batch_size", "epochs", "lr", "seed")}
    arguments.training(**made_with)
    arguments.between(0, 1e9, minutes=options.minutes)
    import pandas as pd

    from saelite import plots
    from saelite.checking import foreign_sae, on_activations, report
    from saelite.data import language_models
    from saelite.data.corpora import load_texts
    from saelite.data.harvest import harvest
    from saelite.evaluations.scorecard import scorecard
    from saelite.formats import read
    from saelite.grid import fit
    from saelite.metrics import evaluate

    sae, about = read(options.checkpoint)
    foreign_sae.rescale(sae, options.scale)
    lm, corpus = language_models.language_model(options.model), load_texts(options.texts)
    at = {"layer": options.layer, "site": options.site}
    language_models.check_layer(lm, **at)
    norms_after = language_models.norms_after(lm, **at)
    notes = foreign_sae.at_odds(sae, about, model=options.model, d_model=lm.d_model, norms_after=norms_after, **at)
    store = harvest(lm, corpus, tokens=options.tokens, **at)
    scales = foreign_sae.by_scale(sae, store.held_out[:4096], options.scale)
    notes.append(foreign_sae.scale_in_words(scales, stated=sae.activation.target_l0))
    print("\n".join(notes), flush=True)

    l0 = evaluate(sae, store.held_out[:4096]).l0
    variants = foreign_sae.matched(sae, l0, store.train[:50_000], seed=options.seed)
    batches = store.batches(options.batch_size, epochs=options.epochs, seed=options.seed)
    saes, histories = fit(variants, batches, store.d_in, d_sae=sae.d_sae, seed=options.seed, lr=options.lr)
    architecture = next(iter(saes))[0]
    saes = {(architecture, foreign_sae.YOURS): sae} | saes
    notes += on_activations.misleading(saes, histories, store)
    measured = []
    for name in options.evaluations:
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            notes.append(f"Left out, since {options.minutes:g} minutes were over: {name}.")
            continue
        one = foreign_sae.evaluation(name, lm, store, l0=round(l0), d_sae=sae.d_sae, seed=options.seed)
        measured.append(scorecard(saes, [one], against=foreign_sae.YOURS))
        print("\n".join(report.in_words(measured[-1], foreign_sae.YOURS)), flush=True)
    if not measured:
        raise ValueError(f"--minutes {options.minutes:g} were over before the first evaluation: give more.")
    card = pd.concat(measured, ignore_index=True)
    plots.style()
    made_with = {"model": options.model, **at, "texts": options.texts, "scale": options.scale, **made_with}
    paths = report.write(
        options.out, options.checkpoint, about=about, notes=notes, card=card, figure=plots.scorecard(card),
        against=foreign_sae.YOURS, made_with=made_with | {"command": options.command},
    )  # fmt: skip
    print("Report:", *paths)


def plan(options: argparse.Namespace) -> None:
    """Say what a run with these settings would need."""
    settings = {name: value for name, value in vars(options).items() if name in SETTINGS and value is not None}
    if options.params:
        import yaml

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


def _of_its_kind(name: str, value: Any) -> Any:
    """A setting from a file, where YAML makes of it what it looks like: 4e5 is a string to it."""
    kind = {"architectures": list, "tflops": int | float | None}.get(name, type(SETTINGS[name].default))
    if not isinstance(value, kind) or isinstance(value, bool):
        must = getattr(kind, "__name__", kind)
        raise ValueError(f"{name}={value!r} must be {must}, such as {SETTINGS[name].default!r}.")
    return value


def cache(options: argparse.Namespace) -> None:
    """Say what lies in the cache, or clear it."""
    if options.clean is None and options.clean_older is None:
        print("\n".join(cache_contents.in_words()))
        return
    removed, freed, in_use = cache_contents.clean(options.clean or None, options.clean_older or 0.0)
    left = f"; {in_use} left, since another process is using them" if in_use else ""
    print(f"Removed {removed} results, {freed / 1e6:,.1f} MB{left}.")


class _Parser(argparse.ArgumentParser):
    """Refuses in one sentence, which `main` prints, and names what is near to a misspelt choice."""

    def error(self, message: str) -> None:
        raise ValueError(f"{message}; {self.prog} --help says what can be asked for.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None:
            arguments.one_of(action.metavar or action.dest, value, action.choices)


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="saelite", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"saelite {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    one = commands.add_parser("check", help="does an SAE beat random baselines?")
    one.add_argument("checkpoint", help="folder, file, or OWNER/NAME/FOLDER on the Hugging Face hub")
    one.add_argument("--layer", type=int, required=True, help="decoder block whose output it reads, counted from 0")
    one.add_argument("--site", default="residual", choices=SITES, help="what of that block it reads")
    one.add_argument(
        "--evaluations", nargs="+", default=EVALUATIONS, choices=EVALUATIONS, metavar="evaluation",
        help=f"some of {', '.join(EVALUATIONS)} (default: all)",
    )  # fmt: skip
    for name, (default, meaning) in CHECK.items():
        one.add_argument(f"--{name}", type=type(default), default=default, help=f"{meaning} (default: {default})")
    one.set_defaults(run=check)
    two = commands.add_parser("plan", help="what would a run download, train and need?")
    two.add_argument("--params", nargs=2, metavar=("FILE.yaml", "ENTRY"), help="settings by entry, as book/params has")
    two.add_argument("--architectures", nargs="+")
    for name, setting in SETTINGS.items():
        if name != "architectures":
            kind = float if name == "tflops" else type(setting.default)
            two.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default: {setting.default}")
    two.set_defaults(run=plan)
    three = commands.add_parser("cache", help="what lies in the cache, and clearing it")
    kinds = ", ".join(cache_contents.KINDS)
    three.add_argument("--clean", nargs="*", metavar="KIND", help=f"remove all, or some of: {kinds}")
    three.add_argument("--clean-older", type=float, metavar="DAYS", help="remove only what was not used for so long")
    three.set_defaults(run=cache)
    return parser, commands.choices


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all is well, 2 and one line if it was refused, 130 if it was stopped."""
    words = sys.argv[1:] if words is None else list(words)
    try:
        arguments.no_credentials(**{"The command": words})  # before anything repeats them
        parser, commands = _parser()
        command = commands.get(words[0], parser) if words else parser
        for word in words[:1] if command is parser else words:
            option, known = word.partition("=")[0], command._option_string_actions
            if option.startswith("--") and not any(name.startswith(option) for name in known):  # --tok is --tokens
                arguments.one_of("option", option, known)
        options = parser.parse_args(words)
        options.command = shlex.join(["saelite", *words])
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

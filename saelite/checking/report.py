"""A report of a check, to send to somebody: a page for people, JSON for programs, CSV for a spreadsheet."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saelite.comparison import versions
from saelite.plots import html_table
from saelite.storage.files import atomic_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ["metric", "baseline", "verdict", "score", "low", "high", "difference", "floor", "ceiling"]
FOR_SEEDS = ["seed", "l0", "dead"]  # which a card may have too, as that of an SAE and its baselines from several seeds
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
td, th { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; border-bottom: 1px solid #8884; white-space: nowrap; }
img { max-width: 100%; background: white; }
"""


def in_words(card: pd.DataFrame, against: str) -> list[str]:
    """What a scorecard says of the SAE that the others are compared with: a sentence per metric, and one for all.

    Parameters
    ----------
    card : pandas.DataFrame
        From :func:`saelite.evaluations.scorecard.scorecard`, or only its `COLUMNS`, which do not say what a floor is.
    against : str
        The name of that SAE.
    """
    said = []
    for metric, rows in card.groupby("metric", sort=False):
        if against not in set(rows["baseline"]):  # such as AutoInterp, where no latent fires often enough
            said.append(f"{metric}: {against} has no item that could be scored.")
            continue
        own, others = rows[rows["baseline"] == against].iloc[0], rows[rows["baseline"] != against]
        of = f" ({own['floor_is']})" if "floor_is" in card else ""
        floor = "" if own["floor"] != own["floor"] else f", floor {own['floor']:.2f}{of}"
        beside = "; ".join(
            f"{name} " + " and ".join(f"{row.score:.2f}, {row.verdict}" for row in of_seeds.itertuples())
            for name, of_seeds in others.groupby("baseline", sort=False)
        )
        said.append(f"{metric}: {own['score']:.2f} [{own['low']:.2f}, {own['high']:.2f}]{floor}. Beside it: {beside}.")
    verdicts = card.loc[card["baseline"] != against, "verdict"].value_counts()
    if len(verdicts):
        counted = ", ".join(f"{verdict} in {count}" for verdict, count in verdicts.items())
        said.append(f"In {verdicts.sum()} comparisons, the other SAE is {counted}.")
    return said


def write(
    folder: Path | str,
    name: str,
    *,
    about: dict[str, Any],
    notes: list[str],
    card: pd.DataFrame,
    figure: Figure,
    against: str,
    made_with: dict[str, Any],
) -> list[Path]:
    """Write ``report.html``, ``report.json`` and ``report.csv``.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    name : str
        What is checked, such as a checkpoint.
    about : dict
        What it says of itself, as from :func:`saelite.formats.read`.
    notes : list of str
        What else to say, such as where the checkpoint and its use are at odds, and what was left out.
    card : pandas.DataFrame
        From :func:`saelite.evaluations.scorecard.scorecard`; all of it is in the JSON and the CSV.
    figure : matplotlib figure
    against : str
        The name of the SAE that is checked.
    made_with : dict
        All that would reproduce it, as plain JSON values: data, tokens, epochs, learning rate, seeds, command.
        :func:`saelite.comparison.versions` are added.

    Returns
    -------
    list of Path
        Of the three files. Whatever comes from the checkpoint is escaped in the page.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    said, made_with = in_words(card, against), made_with | versions()

    def listed(lines: Iterable[str]) -> str:
        return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"

    def pairs(settings: dict[str, Any]) -> str:
        return listed(f"{key}: {value}" for key, value in settings.items() if value is not None)

    parts = [
        f"<h1>Does {html.escape(name)} beat random baselines?</h1>",
        pairs(about),
        "<h2>What to know first</h2>" + listed(notes) if notes else "",
        "<h2>What was found</h2>" + listed(said),
        '<img alt="Scores of every SAE for each metric, between floor and ceiling" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(picture.getvalue()).decode()}">',
        f'<div class="wide">{html_table(card[[*COLUMNS, *(column for column in FOR_SEEDS if column in card)]])}</div>',
        "<p>Intervals are 95% bootstrap intervals over items. A verdict is about the SAE of its row, compared with "
        f"{html.escape(against)}; only <em>equivalent</em> is a match.</p>",
        "<h2>To make it again</h2>" + pairs(made_with),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(name)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    plain = {"checkpoint": name, "about": about, "made_with": made_with, "notes": notes, "found": said}
    plain["scores"] = json.loads(card.to_json(orient="records"))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"html": page, "json": json.dumps(plain, indent=1) + "\n", "csv": card.to_csv(index=False)}
    written = [folder / f"report.{ending}" for ending in texts]
    for path, text in zip(written, texts.values(), strict=True):
        with atomic_file(path) as made:
            made.write_text(text, encoding="utf-8")
    return written

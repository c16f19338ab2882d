"""A one-page report of a check, to send to somebody: HTML for people, JSON for programs."""

import base64
import html
import io
import json
from pathlib import Path

from saelite.plots import html_table
from saelite.storage.files import atomic_file

COLUMNS = ["metric", "baseline", "verdict", "score", "low", "high", "difference", "floor", "ceiling"]
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
td, th { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; border-bottom: 1px solid #8884; white-space: nowrap; }
img { max-width: 100%; background: white; }
"""


def in_words(card, against):
    """What a scorecard says of the SAE that the others are compared with: a sentence a metric, and one for all.

    Parameters
    ----------
    card : pandas.DataFrame
        From :func:`saelite.evaluations.scorecard.scorecard`, or only its `COLUMNS`, which do not say what a floor is.
    against : str
        The name of that SAE.

    Returns
    -------
    list of str
    """
    said = []
    for metric, rows in card.groupby("metric", sort=False):
        if against not in set(rows["baseline"]):  # such as AutoInterp, where no latent fires often enough
            said.append(f"{metric}: {against} has no item that could be scored.")
            continue
        own, others = rows[rows["baseline"] == against].iloc[0], rows[rows["baseline"] != against]
        of = f" ({own['floor_is']})" if "floor_is" in card else ""
        floor = "" if own["floor"] != own["floor"] else f", floor {own['floor']:.2f}{of}"
        said.append(
            f"{metric}: {own['score']:.2f} [{own['low']:.2f}, {own['high']:.2f}]{floor}. Beside it: "
            + "; ".join(f"{row.baseline} {row.score:.2f}, {row.verdict}" for row in others.itertuples())
            + "."
        )
    verdicts = card.loc[card["baseline"] != against, "verdict"].value_counts()
    if len(verdicts):
        said.append(
            f"Of {verdicts.sum()} comparisons, the other SAE is "
            + ", ".join(f"{verdict} in {count}" for verdict, count in verdicts.items())
            + "."
        )
    return said


def write(folder, name, *, about, notes, card, figure, against):
    """Write ``report.html`` and ``report.json``.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    name : str
        Of the checkpoint.
    about : dict
        From :func:`saelite.formats.read`.
    notes : list of str
        What else to say, such as where the checkpoint and its use are at odds, and what was left out.
    card : pandas.DataFrame
        From :func:`saelite.evaluations.scorecard.scorecard`.
    figure : matplotlib figure
    against : str
        The name of the SAE that is checked.

    Returns
    -------
    (pathlib.Path, pathlib.Path)
        Whatever comes from the checkpoint is escaped in the first.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    said = in_words(card, against)

    def listed(lines):
        return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"

    parts = [
        f"<h1>Does {html.escape(name)} beat random baselines?</h1>",
        listed(f"{key}: {value}" for key, value in about.items() if value is not None),
        "<h2>What to know first</h2>" + listed(notes) if notes else "",
        "<h2>What was found</h2>" + listed(said),
        f'<img alt="Scores of every SAE for each metric, between floor and ceiling" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(picture.getvalue()).decode()}">',
        f'<div class="wide">{html_table(card[COLUMNS])}</div>',
        "<p>Intervals are 95% bootstrap intervals over items. A verdict is about the SAE of its row, compared with "
        f"{html.escape(against)}; only <em>equivalent</em> is a match.</p>",
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(name)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    rows = json.loads(card.to_json(orient="records"))
    plain = json.dumps({"checkpoint": name, "about": about, "notes": notes, "found": said, "scores": rows}, indent=1)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "report.html", folder / "report.json"
    for path, text in zip(written, (page, plain + "\n"), strict=True):
        with atomic_file(path) as made:
            made.write_text(text, encoding="utf-8")
    return written

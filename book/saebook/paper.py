"""The scores that the paper reports for language models, to be put beside one's own (Korznikov et al. 2026, L0 160)."""

from pathlib import Path

import pandas as pd

SITE = "Gemma-2-2B layer 12"


def paper_table(site: str | None = None) -> pd.DataFrame:
    """The scores of the paper's three tables at L0 160.

    Parameters
    ----------
    site : str, optional
        Those of one model and layer alone, such as :data:`SITE`.

    Returns
    -------
    pandas.DataFrame with columns site, architecture, baseline, metric ("explained variance", "probe k=1", "probe k=5",
    "causal editing"), score, spread (the paper's +- standard deviation; over what, it does not state)

    Raises
    ------
    ValueError
        If the paper has no such site.
    """
    table = pd.read_csv(Path(__file__).with_name("paper_scores.csv"))
    return table if site is None else _only(table, "site", site)


def paper_scores(metric: str, site: str = SITE) -> dict[tuple[str, str], float]:
    """The paper's scores of one metric at one site, as a dictionary of (architecture, baseline) to float.

    Raises
    ------
    ValueError
        If the paper has no such metric or site.
    """
    chosen = _only(paper_table(site), "metric", metric)
    return chosen.set_index(["architecture", "baseline"])["score"].to_dict()


def _only(table, column, value):
    if value not in set(table[column]):
        raise ValueError(f"The paper has no {column} {value!r}; it has {', '.join(table[column].unique())}.")
    return table[table[column] == value]

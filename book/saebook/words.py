"""What several pages say of their tables, worked out from these."""

import pandas as pd


def _named(null):
    return f"the {null}" if null in ("random dictionary", "mean prediction") else null


def in_words(table: pd.DataFrame, nulls: pd.DataFrame) -> str:
    """What a table of :func:`saelite.grid.fit_and_test` says of explained variance, as Markdown.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`saelite.grid.fit_and_test`, with a fully trained SAE for every architecture.
    nulls : pandas.DataFrame
        From :func:`saelite.null_models.nulls`, on the same held-out activations.

    Returns
    -------
    str
    """
    lines = []
    for architecture, rows in table.groupby("architecture", sort=False):
        rows = rows.set_index("baseline")
        trained = rows.loc["fully trained"]
        for baseline, score, l0 in rows.drop("fully trained")[["explained_variance", "l0"]].itertuples():
            sides = ", ".join(
                f"{'above' if score > value else 'below'} {_named(null)} ({value:z.3f})"
                for null, value in zip(nulls["null"], nulls["explained_variance"], strict=True)
            )
            lines.append(
                f"- **{architecture}**: {baseline} {score:.3f} (L0 {l0:.1f}), fully trained "
                f"{trained.explained_variance:.3f} (L0 {trained.l0:.1f}). The baseline reaches "
                f"{score / trained.explained_variance:.0%} of the trained score; it is {sides}."
            )
        beaten_by = nulls[nulls["explained_variance"] > trained["explained_variance"]]
        if len(beaten_by):
            lines.append(
                f"- **{architecture}**: fully trained is itself below {' and '.join(map(_named, beaten_by['null']))}, "
                "so the shares above say nothing about what training achieves."
            )
    return "\n".join(lines)


def no_better_than_floor(trained: pd.DataFrame) -> str:
    """Which trained SAEs a metric finds no better than its floor, in a sentence or two.

    Parameters
    ----------
    trained : pandas.DataFrame
        Rows of one metric: architecture, low, high, floor, floor_is.

    Returns
    -------
    str
        Empty if the intervals of all lie above the floor, or there is no floor.
    """
    below = trained["high"] < trained["floor"]
    reaches = (trained["low"] <= trained["floor"]) & ~below
    said = []
    for which, where in (
        (below, "lies wholly below the floor: it does worse than *{}*, so there is nothing to match"),
        (reaches, "reaches down to the floor (*{}*), so there is little that a baseline could lack"),
    ):
        if which.any():
            names = " and ".join(trained.loc[which, "architecture"])
            where = where.format(trained.loc[which, "floor_is"].iloc[0])
            said.append(f"For {names} the trained SAE's own interval {where}.")
    return " ".join(said)

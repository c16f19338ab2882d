"""Tables as the pages show them: one way of writing each kind of number."""

from IPython.display import HTML

# How a column is written; any other number gets three places.
FORMATS = {"dead": "{:.1%}", "l0": "{:.1f}"}


def show(table):
    """A table for a notebook's page.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns whose name starts with ``recovered`` are shares and are written as percentages. Values are escaped.

    Returns
    -------
    IPython.display.HTML
        The same for the same table, to the byte; what pandas styles carries a random name.
    """
    formats = FORMATS | {name: "{:.2%}" for name in table.columns if name.startswith("recovered")}
    formatters = {name.replace("_", " "): form.format for name, form in formats.items() if name in table}
    named = table.rename(columns=lambda name: name.replace("_", " "))
    return HTML(
        named.to_html(
            index=False,
            border=0,
            justify="left",
            classes="table",
            float_format="{:z.3f}".format,
            formatters=formatters,
            na_rep="-",
        )
    )

"""Things to move on a page: plain HTML with a few lines of script, which ask nothing of the network."""

import html
import json
from collections.abc import Mapping
from string import Template

import numpy as np
import pandas as pd
from IPython.display import HTML
from numpy.typing import ArrayLike

from saebook.contexts import contexts_html

_SLIDER = """
<div class="saelite-slider" role="group" aria-label="{label}">
  <label>cosine that counts as recovered
    <input type="range" min="0" max="100" value="{start}" step="1">
    <output>{start_text}</output></label>
  <table class="dataframe table">
    <thead><tr><th scope="col">dictionary</th><th scope="col">share of features recovered</th></tr></thead>
    <tbody>{rows}</tbody>
  </table>
  <script type="application/json">{shares}</script>
  <script>
  (() => {{
    const box = document.currentScript.parentElement;
    const shares = JSON.parse(box.querySelector('script[type="application/json"]').textContent);
    const slider = box.querySelector("input"), said = box.querySelector("output");
    const places = [...box.querySelectorAll("td")];
    slider.oninput = () => {{
      said.value = (slider.value / 100).toFixed(2);
      places.forEach((place, i) => {{
        const share = shares[i][slider.value];
        place.textContent = (100 * share).toFixed(2) + "%";
        place.style.backgroundSize = 100 * share + "% 100%";
      }});
    }};
    slider.oninput();
  }})();
  </script>
</div>
"""


def threshold_slider(best: Mapping[str, ArrayLike], threshold: float, label: str = "Recovery at any threshold") -> HTML:
    """How many features each dictionary recovers, at a threshold that the reader moves.

    Without scripts, and on paper, the table shows the shares at `threshold`.

    Parameters
    ----------
    best : dict of str to array of shape (n_features,)
        Best cosine of every feature, by dictionary, as :func:`saelite.metrics.best_cosines` gives it.
    threshold : float in [0, 1]
        Where the slider stands at first.
    label : str

    Returns
    -------
    IPython.display.HTML

    Raises
    ------
    ValueError
        For a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} is a cosine that counts as recovered; it must lie in [0, 1].")
    start, steps = round(100 * threshold), np.arange(101) / 100
    shares = [[round(float((np.asarray(cosines) > step).mean()), 5) for step in steps] for cosines in best.values()]
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{of[start]:.2%}</td></tr>'
        for name, of in zip(best, shares, strict=True)
    )
    return HTML(
        _SLIDER.format(
            label=html.escape(label), start=start, start_text=f"{start / 100:.2f}", rows=rows, shares=json.dumps(shares)
        )
    )


# The script writes text as text, never as HTML, so nothing that a corpus or a model says can become part of the page.
_BROWSER = Template("""
<div class="saelite-browser" role="group" aria-label="$label">
  <div data-part="live" hidden>
    <div class="saelite-controls">
      <label>from <select data-part="sae"></select></label>
      <label>latent <select data-part="latent"></select></label>
      <button type="button" data-part="previous">Previous</button>
      <button type="button" data-part="next">Next</button>
    </div>
    <div class="saelite-controls" data-part="guesses" role="group" aria-label="Which SAE is it from?">
      <span>Which SAE is it from?</span>
    </div>
    <p data-part="told" role="status"></p>
    <div data-part="shown"></div>
  </div>
  <div data-part="still">$still</div>
  $credit
  <script type="application/json">$data</script>
  <script>
  (() => {
    const box = document.currentScript.parentElement;
    const data = JSON.parse(box.querySelector('script[type="application/json"]').textContent);
    const part = name => box.querySelector('[data-part="' + name + '"]');
    const make = (tag, ...inside) => {
      const made = document.createElement(tag);
      made.append(...inside);
      return made;
    };
    const HIDDEN = "a hidden SAE: guess which";
    const guessed = new Map(); // by place in the deck
    const lists = new Map(Object.entries(data.saes).map(([name, all]) => [name, all.map((_, i) => [name, i])]));
    const at = new Map(); // the place in each list
    const inDeck = () => part("sae").value === HIDDEN;
    const list = () => inDeck() ? data.deck : lists.get(part("sae").value);
    const place = () => at.get(part("sae").value) || 0;

    // How often one who guesses blindly gets so many right or more.
    const byChance = (right, n, p) => {
      let sum = 0, term = (1 - p) ** n;
      for (let k = 0; k <= n; k++) {
        if (k >= right) sum += term;
        term *= (n - k) / (k + 1) * p / (1 - p);
      }
      return Math.min(1, sum);
    };

    const count = () => {
      const n = guessed.size, p = 1 / data.guess.length;
      const right = [...guessed].filter(([i, name]) => data.deck[i][0] === name).length;
      if (!n) return "";
      return " Right so far: " + right + " of " + n + ". Guessing blindly gives " + (n * p).toFixed(1) +
        " on average, and " + right + " or more in " + (100 * byChance(right, n, p)).toFixed(0) + "% of tries.";
    };

    const histogram = counts => {
      const most = Math.max(...counts, 1), width = 10, height = 48;
      const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg");
      svg.setAttribute("width", width * counts.length);
      svg.setAttribute("height", height);
      svg.setAttribute("role", "img");
      const half = counts.slice(0, counts.length / 2).reduce((a, b) => a + b, 0) / counts.reduce((a, b) => a + b, 0);
      svg.setAttribute("aria-label", "Histogram of its activations: " + (100 * half).toFixed(0) +
        "% are below half of the largest.");
      counts.forEach((count, i) => {
        const bar = document.createElementNS(ns, "rect"), tall = height * count / most;
        const sizes = {x: i * width, y: height - tall, width: width - 1, height: tall};
        Object.entries(sizes).forEach(([name, size]) => bar.setAttribute(name, size));
        svg.append(bar);
      });
      return make("figure", svg, make("figcaption", "how strongly it fires where it does: from 0 to its largest"));
    };

    const context = ([tokens, levels, peak]) => {
      const line = make("li");
      tokens.forEach((token, i) => {
        const piece = levels[i] > 0 ? make("mark", i === peak ? make("strong", token) : token) : token;
        if (levels[i] > 0) piece.style.background = "rgb(213 94 0 / " + (15 + 50 * levels[i]) + "%)";
        line.append(piece);
      });
      return line;
    };

    const tokens = (what, all) => make("p", what + " ", ...all.flatMap(token => [make("code", token), " "]));

    const show = () => {
      const deck = inDeck(), [name, index] = list()[place()], it = data.saes[name][index];
      const known = !deck || guessed.has(place());
      part("latent").replaceChildren(...list().map(([from, i], n) =>
        new Option(deck ? n + 1 + " of " + data.deck.length : data.saes[from][i].latent, n)));
      part("latent").value = place();
      part("guesses").hidden = !deck;
      part("guesses").querySelectorAll("button").forEach(button => button.disabled = known);
      const is = name + ", latent " + it.latent + (deck ? "." : ", " + (place() + 1) + " of " + list().length + ".");
      const verdict = deck && known ? (guessed.get(place()) === name ? "Right: it is " : "No: it is ") : "";
      part("told").textContent = (known ? verdict + is : "Latent " + (place() + 1) + " of " + list().length +
        ", not guessed yet.") + (deck ? count() : "");
      const effects = it.raises ? [tokens("Its direction raises", it.raises), tokens("and lowers", it.lowers)] : [];
      const notes = known ? Object.entries(it.notes).map(([of, said]) => make("p", of + ": " + said)) : [];
      part("shown").replaceChildren(
        make("p", "Fires on " + it.frequency + " of tokens, most strongly on the one in bold:"),
        make("ol", ...it.contexts.map(context)),
        ...effects,
        ...(it.histogram ? [histogram(it.histogram)] : []),
        ...notes,
      );
    };

    const go = to => {
      at.set(part("sae").value, (to + list().length) % list().length);
      show();
    };
    const names = [...(data.deck.length ? [HIDDEN] : []), ...lists.keys()];
    part("sae").append(...names.map(name => new Option(name, name)));
    part("sae").onchange = show;
    part("latent").onchange = () => go(Number(part("latent").value));
    part("previous").onclick = () => go(place() - 1);
    part("next").onclick = () => go(place() + 1);
    data.guess.forEach(name => {
      const button = make("button", name);
      button.type = "button";
      button.onclick = () => {
        guessed.set(place(), name);
        show();
        part("next").focus(); // the button pressed is off now, and would take the focus with it
      };
      part("guesses").append(button);
    });
    show();
    part("live").hidden = false;
    part("still").hidden = true;
  })();
  </script>
</div>
""")


def latent_browser(
    tables: Mapping[str, pd.DataFrame],
    guess: list[str] | None = None,
    *,
    credit: str = "",
    still: int = 1,
    seed: int = 0,
    label: str = "Latents to look through",
) -> HTML:
    """Latents of several SAEs to look through, one at a time; or to guess from which SAE each is.

    The reader chooses an SAE and goes through its latents, or through a shuffled deck of latents whose SAE and number
    are hidden until guessed. The deck holds equally many of each SAE, so that somebody who guesses blindly, or always
    the same, is right once in as many times as there are SAEs; that stands beside the reader's count. Without scripts,
    and on paper, the first latents of each SAE are shown.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Contexts of each SAE's latents, as :func:`saelite.evaluations.latents.top_contexts` gives them. Shown too, where
        there are such columns: raises and lowers (:func:`saelite.evaluations.latents.logit_effect`), histogram
        (:func:`saebook.contexts.activation_histograms`), and notes (dict of str to str), which in the deck
        are shown after the guess. SAEs without a latent are left out.
    guess : list of str, optional
        The SAEs that the deck is made of; None for all. No deck where fewer than two are left.
    credit : str
        Who wrote the text, and under which licence.
    still : int
        Latents of each SAE that are shown without scripts.
    seed : int
        Of the deck.
    label : str

    Returns
    -------
    IPython.display.HTML
        Nothing that the texts, the names or the notes hold is taken for HTML.

    Raises
    ------
    ValueError
        For an SAE to guess that has no table.
    """
    if unknown := set(guess or ()) - set(tables):
        raise ValueError(f"guess names {unknown.pop()!r}, of which there is no table; there are {', '.join(tables)}.")
    some = {name: table for name, table in tables.items() if not table.empty}
    saes = {name: [_latent(group) for _, group in table.groupby("latent", sort=False)] for name, table in some.items()}
    guess = [name for name in (tables if guess is None else guess) if name in saes]
    each = min((len(saes[name]) for name in guess), default=0) if len(guess) > 1 else 0
    deck = [[name, i] for name in guess for i in range(each)]
    deck = [deck[i] for i in np.random.default_rng(seed).permutation(len(deck))]
    first = {name: table[table["latent"].isin(table["latent"].unique()[:still])] for name, table in some.items()}
    if not saes:
        return HTML("<p>None of the latents fires often enough to be shown.</p>")
    data = json.dumps({"saes": saes, "guess": guess, "deck": deck}, separators=(",", ":"), allow_nan=False)
    return HTML(
        _BROWSER.substitute(
            label=html.escape(label),
            still=contexts_html(first),
            credit=f'<p class="credit">Text: {html.escape(credit)}</p>' if credit else "",
            data=data.replace("<", "\\u003c"),  # a token may be "</script>"
        )
    )


def _latent(contexts):
    """One latent's contexts as plain values; levels are activations over the latent's largest, 0 where it is silent."""
    first = contexts.iloc[0]
    lines = []
    for context in contexts.itertuples():
        levels = np.nan_to_num(np.maximum(context.activations, 0) / contexts["activation"].max()).round(2)
        tokens = [token.replace("\n", "\u21b5") for token in context.tokens]
        lines.append([tokens, levels.tolist(), int(levels.argmax())])
    known = {"latent": int(first["latent"]), "frequency": f"{first['frequency']:.2%}", "contexts": lines}
    for effect in ("raises", "lowers"):
        if effect in contexts:
            known[effect] = [repr(token)[1:-1] for token in first[effect]]
    if "histogram" in contexts:
        known["histogram"] = list(first["histogram"])
    return known | {"notes": first["notes"] if "notes" in contexts else {}}

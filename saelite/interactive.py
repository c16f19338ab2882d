"""Things to move on a page: plain HTML with a few lines of script, which ask nothing of the network."""

import html
import json

import numpy as np
from IPython.display import HTML

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


def threshold_slider(best, threshold, label="Recovery at any threshold"):
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

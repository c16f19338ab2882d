"""What fixed dictionaries explain, and what chance gives: nothing here is trained."""

import warnings

import pandas as pd
import torch
from scipy.integrate import quad
from scipy.stats import beta
from sklearn.linear_model import orthogonal_mp
from torch.nn.functional import normalize

from saelite import arguments
from saelite.metrics import explained_variance_interval
from saelite.sae import check_finite


def sparse_coding(dictionaries: dict[str, torch.Tensor], x: torch.Tensor, *, l0: int) -> pd.DataFrame:
    """What fixed dictionaries explain, by how their active directions and coefficients are found.

    - *matched filter*: the `l0` largest scalar products, times one gain for all; a tied SAE can do that.
    - *least squares*: the same directions, the best coefficients for each sample.
    - *orthogonal matching pursuit*: directions chosen one after the other, each for what the others left over.

    Parameters
    ----------
    dictionaries : dict of name to tensor of shape (d_sae, d_in)
    x : tensor of shape (n, d_in)
        A few hundred samples do; matching pursuit takes milliseconds for each.
    l0 : int

    Returns
    -------
    pandas.DataFrame with columns dictionary, encoder, explained_variance, low, high
    """
    check_finite(x)
    for name, directions in dictionaries.items():
        if directions.ndim != 2 or directions.shape[1] != x.shape[1]:
            raise ValueError(
                f"The dictionary {name!r} has shape {tuple(directions.shape)}, and x {x.shape[1]} dimensions: give "
                "directions of as many."
            )
        arguments.whole(1, len(directions), l0=l0)
    rows = []
    for name, directions in dictionaries.items():
        directions = normalize(directions.detach().float().cpu(), dim=1)
        matches = x @ directions.T
        top = matches.topk(l0, dim=1)
        active = directions[top.indices]  # (n, l0, d_in)
        filtered = (top.values.unsqueeze(1) @ active).squeeze(1)
        filtered *= (filtered * x).sum() / filtered.square().sum()
        solved = torch.linalg.lstsq(active.transpose(1, 2), x.unsqueeze(2), driver="gelsd").solution
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Orthogonal matching pursuit ended")  # nothing was left over
            pursued = orthogonal_mp(directions.T.double().numpy(), x.T.double().numpy(), n_nonzero_coefs=l0)
        for encoder, x_hat in {
            "matched filter": filtered,
            "least squares": (solved.transpose(1, 2) @ active).squeeze(1),
            "orthogonal matching pursuit": torch.from_numpy(pursued.T).float() @ directions,
        }.items():
            error = (x - x_hat).double().square().sum(dim=1).numpy()
            value, low, high = explained_variance_interval(x, error)
            row = {"dictionary": name, "encoder": encoder, "explained_variance": value, "low": low, "high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def chance_cosine(d_in: int, d_sae: int) -> float:
    """The expected largest cosine of a fixed direction to `d_sae` random ones in `d_in` dimensions.

    Half of one plus a cosine between random directions follows a beta distribution with both parameters
    ``(d_in - 1) / 2``; the largest of `d_sae` has the `d_sae`-th power of its distribution function.
    """
    arguments.whole(1, d_in=d_in, d_sae=d_sae)
    if d_in == 1:  # there are two directions, so it is 1 unless all point the other way
        return 1 - 2 * 0.5**d_sae
    half = (d_in - 1) / 2
    return quad(lambda u: 2 * beta.ppf(u ** (1 / d_sae), half, half) - 1, 0, 1, limit=200)[0]

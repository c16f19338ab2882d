"""The largest entries: of every row, or of a whole batch that several processes may share."""

import torch

from saelite.kernels import parallel
from saelite.kernels.sparse import Support, flatnonzero


def largest_of_rows(support: Support, z: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest entries in each row of a support: their places, and each row's k-th value, inf if it is short."""
    starts = support.row_starts
    width = max(k, int(starts.diff().max()))
    table = z.new_full((support.shape[0], width), -torch.inf)
    first = torch.arange(support.shape[0], device=z.device) * width - starts[:-1]
    table.view(-1)[torch.arange(len(z), device=z.device) + first.index_select(0, support.rows)] = z
    top = table.topk(k, dim=1)
    kth = top.values[:, -1]
    return (starts[:-1, None] + top.indices)[kth > -torch.inf].flatten(), kth


def largest_of_batch(ranks: torch.Tensor, wanted: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Which of this process's entries are among the `wanted` largest of the whole batch, and the smallest of those.

    Parameters
    ----------
    ranks : tensor of shape (n,)
        What this process's entries are ranked by.
    wanted : int
        Of all processes together.

    Returns
    -------
    (places, smallest)
        int64 tensor, ascending, or None if all are; scalar tensor, 0 if there is no entry.
    """
    everyone, mine = parallel.gather(ranks)
    if not len(everyone):
        return None, ranks.new_zeros(())
    largest = everyone.topk(min(wanted, len(everyone)), sorted=False)
    smallest = largest.values.min()
    if len(everyone) <= wanted:
        return None, smallest
    places = flatnonzero(everyone >= smallest)
    if len(places) > wanted:  # equals at the edge
        places = largest.indices.sort().values
    return parallel.own(places, mine), smallest

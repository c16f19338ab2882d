"""Activation functions that keep the largest pre-activations: of each sample, or of a whole batch.

What an activation function must have is said in :mod:`saelite.activation_functions`.
"""

import torch
from torch import nn
from torch.nn.functional import relu

from saelite.kernels import parallel
from saelite.kernels.sparse import Support, flatnonzero


class ActivationFunction(nn.Module):
    """What all have in common: a target number of active latents, and no penalty."""

    def attach(self, d_sae):
        """Check the settings against the dictionary's size and make what depends on it."""
        if isinstance(self.target_l0, bool) or not isinstance(self.target_l0, int):
            raise ValueError(f"{type(self).__name__} needs a whole number of active latents, not {self.target_l0!r}.")
        if not 0 < self.target_l0 <= d_sae:
            raise ValueError(
                f"{type(self).__name__} cannot keep {self.target_l0} of {d_sae} latents active; "
                f"choose a number above 0 and at most {d_sae}."
            )
        self.groups = [(0, d_sae)]

    def calibrate(self, pre, norms):
        """Set thresholds from the pre-activations (n, d_sae) and norms (n, 1) of a first sample.

        Returns what has to come off every encoder bias to meet the target L0: zero, unless zero is the threshold.
        """
        return 0.0

    def penalty(self, z, values, support):
        return values.new_zeros(())


class TopK(ActivationFunction):
    """The k largest pre-activations of each sample, if positive (Gao et al., arXiv:2406.04093).

    Parameters
    ----------
    k : int
        Active latents per sample.
    """

    name = "TopK"

    def __init__(self, k):
        super().__init__()
        self.k = self.target_l0 = k
        self.guess = 0.0  # k-th value / norm that nearly every sample exceeds; a matter of speed

    def settings(self):
        return {"k": self.k}

    def forward(self, pre, norms):
        top = pre.topk(self.k, dim=1)
        return torch.zeros_like(pre).scatter(1, top.indices, relu(top.values))

    @torch.no_grad()
    def select(self, pre):
        # A sample's k-th value is roughly its norm times a number that changes slowly. So this floor leaves a few more
        # than k entries in nearly every row; the few rows where it leaves fewer are looked at whole.
        d_sae = pre.shape[1]
        support, z = pre.above(self.guess * pre.norms)
        chosen, kth = _largest_of_rows(support, z, self.k)
        short = kth.isinf().nonzero().squeeze(1)
        whole = pre.dense(short).topk(self.k, dim=1, sorted=True)
        kth[short] = whole.values[:, -1]
        flat = torch.cat([support.flat[chosen], (short[:, None] * d_sae + whole.indices).flatten()])
        z = torch.cat([z[chosen], whole.values.flatten()])
        order = flat.argsort()
        order = order[z[order] > 0]
        ratio, _ = parallel.gather((kth / pre.norms.squeeze(1)).nan_to_num(nan=0.0))
        self.guess = 0.98 * max(0.0, float(ratio.kthvalue(1 + len(ratio) // 100).values))
        return Support.at(flat[order], pre.shape), z[order]

    def code(self, z, support):
        return z


class BatchTopK(ActivationFunction):
    """The batch x k largest pre-activations of a whole batch, if positive (Bussmann et al., arXiv:2412.06410).

    At inference a sample must not depend on its neighbours in the batch: a latent is active above one threshold for all
    latents, the running mean of the smallest value selected in training. It is saved with the SAE.

    Parameters
    ----------
    k : int
        Active latents per sample, on average over the batch.
    threshold_rate : float in (0, 1]
        Weight of the newest batch in the running mean.
    """

    name = "BatchTopK"

    def __init__(self, k, threshold_rate=0.05):
        super().__init__()
        if not 0 < threshold_rate <= 1:
            raise ValueError(f"threshold_rate is a weight in (0, 1]; it is {threshold_rate}.")
        self.k = self.target_l0 = k
        self.threshold_rate = threshold_rate
        self.register_buffer("threshold", torch.zeros(()))
        self.guess = 0.0  # where the next batch's candidates start; a matter of speed

    def settings(self):
        return {"k": self.k, "threshold_rate": self.threshold_rate}

    def unit(self, norms):
        """What pre-activations are measured in before they compete: 1 here, each sample's norm in a subclass."""
        return norms.new_ones(())

    def calibrate(self, pre, norms):
        self.threshold.fill_(threshold_for_l0(pre / self.unit(norms), self.k))
        self.guess = 0.0
        return 0.0

    def forward(self, pre, norms):
        return pre * (pre > self.threshold * self.unit(norms))

    @torch.no_grad()
    def select(self, pre):
        wanted = pre.shape[0] * parallel.size() * self.k
        unit = self.unit(pre.norms)
        for floor in (self.guess, 0.9 * self.guess, 0.0):
            support, z = pre.above(floor * unit)
            if parallel.total(len(z)) >= wanted:
                break
        smallest = z.new_zeros(())
        # where several processes share a batch, each finds the k-th value of the whole, then keeps what it has above it
        ranks, mine = parallel.gather(z / (unit.flatten().index_select(0, support.rows) if unit.ndim else unit))
        if len(ranks):
            largest = ranks.topk(min(wanted, len(ranks)), sorted=False)
            smallest = largest.values.min()
            if len(ranks) > wanted:
                places = flatnonzero(ranks >= smallest)
                if len(places) > wanted:  # equals at the edge
                    places = largest.indices.sort().values
                places = parallel.own(places, mine)
                support, z = support.keep(places), z.index_select(0, places)
        self.threshold.lerp_(smallest.to(self.threshold.dtype), self.threshold_rate)
        self.guess = 0.98 * float(smallest)
        return support, z

    def code(self, z, support):
        return z


class RelativeBatchTopK(BatchTopK):
    """BatchTopK that compares pre-activations as shares of their sample's norm: ``z / ||x - b_dec||``.

    In plain BatchTopK large samples take latents away from small ones. Here the size of a sample counts for nothing in
    that competition, as in TopK, yet their numbers of active latents may still differ. It is this project's own, made
    to test why BatchTopK recovers fewer features than TopK on synthetic data.

    Parameters
    ----------
    k, threshold_rate
        As in :class:`BatchTopK`. The threshold is a share of the norm, too.
    """

    name = "RelativeBatchTopK"

    def unit(self, norms):
        return norms


class Matryoshka(BatchTopK):
    """BatchTopK on nested dictionaries (Bussmann et al., arXiv:2503.17547).

    The latents stand in groups. Training asks for a reconstruction from the first group alone, from the first two, and
    so on to all, and takes the mean of their squared errors; so the first groups have to hold what matters most.

    Parameters
    ----------
    k : int
        Active latents per sample, on average over the batch and over all groups together.
    fractions : list of float above 0
        Each group's share of the latents; they add up to 1.
    threshold_rate : float in (0, 1]
        As in :class:`BatchTopK`.
    """

    name = "Matryoshka"

    def __init__(self, k, fractions=(0.5, 0.3, 0.2), threshold_rate=0.05):
        super().__init__(k, threshold_rate)
        if not fractions or min(fractions) <= 0 or not abs(sum(fractions) - 1) <= 1e-6:
            raise ValueError(f"The groups' shares of the latents are above 0 and add up to 1; {fractions} do not.")
        self.fractions = list(fractions)

    def settings(self):
        return {"k": self.k, "fractions": self.fractions, "threshold_rate": self.threshold_rate}

    def attach(self, d_sae):
        super().attach(d_sae)
        ends = [round(d_sae * sum(self.fractions[: i + 1])) for i in range(len(self.fractions))]
        self.groups = list(zip([0, *ends[:-1]], ends, strict=True))
        if any(first == end for first, end in self.groups):
            raise ValueError(f"{d_sae} latents are too few for groups of {self.fractions}; one would be empty.")


def _largest_of_rows(support, z, k):
    """Of the entries of a support, the k largest in each row: their places, and each row's k-th value, inf if short."""
    starts = support.row_starts
    width = max(k, int(starts.diff().max()))
    table = z.new_full((support.shape[0], width), -torch.inf)
    first = torch.arange(support.shape[0], device=z.device) * width - starts[:-1]
    table.view(-1)[torch.arange(len(z), device=z.device) + first.index_select(0, support.rows)] = z
    top = table.topk(k, dim=1)
    kth = top.values[:, -1]
    return (starts[:-1, None] + top.indices)[kth > -torch.inf].flatten(), kth


def threshold_for_l0(pre, l0):
    """The value that `l0` pre-activations per sample exceed on average, at least zero. Scalar tensor."""
    wanted = min(int(round(l0 * len(pre))), pre.numel())
    return pre.flatten().topk(wanted, sorted=False).values.min().clamp(min=0)

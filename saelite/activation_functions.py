"""Activation functions: what turns pre-activations into a sparse code, and what keeps that code sparse.

Each class says which entries of a batch may be active in training (``select``), which values they get (``code``), what
they cost (``penalty``), and what the code of a sample is at inference (``forward``). ``attach`` gives it the size of
the dictionary, ``calibrate`` shows it a first sample. Pre-activations `pre` have shape (batch, d_sae), the norms
``||x - b_dec||`` of samples (batch, 1). An SAE copies what it is given, so one instance may serve many.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from saelite.kernels import parallel
from saelite.kernels.ranking import largest_of_batch, largest_of_rows
from saelite.kernels.sparse import Support

if TYPE_CHECKING:
    from saelite.kernels.pre_activations import PreActivations

# How strongly a steered penalty answers to an L0 off its target, at once and over time.
PROPORTIONAL, INTEGRAL = 8.0, 0.1


class ActivationFunction(nn.Module):
    """What all have in common: a target number of active latents, and no penalty. Derive your own from it.

    Attributes
    ----------
    name : str
        What figures and tables call it; the name of the class unless the class says otherwise.
    target_l0 : int
        Active latents per sample.
    groups : list of (int, int)
        Ranges of latents that are dictionaries of their own; set by :meth:`attach`.
    """

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = vars(cls).get("name", cls.__name__)

    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain JSON values: attributes of the names of its arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def attach(self, d_sae: int) -> None:
        """Check the settings against the dictionary's size and make what depends on it."""
        if isinstance(self.target_l0, bool) or not isinstance(self.target_l0, int):
            raise ValueError(f"{type(self).__name__} needs a whole number of active latents, not {self.target_l0!r}.")
        if not 0 < self.target_l0 <= d_sae:
            raise ValueError(
                f"{type(self).__name__} cannot keep {self.target_l0} of {d_sae} latents active; "
                f"choose a number above 0 and at most {d_sae}."
            )
        self.groups = [(0, d_sae)]

    def calibrate(self, pre: Tensor, norms: Tensor) -> float | Tensor:
        """Set thresholds from the pre-activations (n, d_sae) and norms (n, 1) of a first sample.

        Returns what has to come off every encoder bias to meet the target L0: zero, unless zero is the threshold.
        """
        return 0.0

    def code(self, z: Tensor, support: Support) -> Tensor:
        """The code's values (nnz,) on the support, from the pre-activations there."""
        return z

    def penalty(self, z: Tensor, values: Tensor, support: Support) -> Tensor:
        """What training adds to the reconstruction error, a scalar."""
        return values.new_zeros(())


class TopK(ActivationFunction):
    """The k largest pre-activations of each sample, if positive (Gao et al., arXiv:2406.04093).

    Parameters
    ----------
    k : int
        Active latents per sample.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = self.target_l0 = k
        self.guess = 0.0  # k-th value / norm that nearly every sample exceeds; a matter of speed

    def forward(self, pre: Tensor, norms: Tensor) -> Tensor:
        top = pre.topk(self.k, dim=1)
        return torch.zeros_like(pre).scatter(1, top.indices, relu(top.values))

    @torch.no_grad()
    def select(self, pre: PreActivations) -> tuple[Support, Tensor]:
        # A sample's k-th value is roughly its norm times a number that changes slowly. So this floor leaves a few more
        # than k entries in nearly every row; the few rows where it leaves fewer are looked at whole.
        d_sae = pre.shape[1]
        support, z = pre.above(self.guess * pre.norms)
        chosen, kth = largest_of_rows(support, z, self.k)
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

    def __init__(self, k: int, threshold_rate: float = 0.05) -> None:
        super().__init__()
        if not 0 < threshold_rate <= 1:
            raise ValueError(f"threshold_rate is a weight in (0, 1]; it is {threshold_rate}.")
        self.k = self.target_l0 = k
        self.threshold_rate = threshold_rate
        self.register_buffer("threshold", torch.zeros(()))
        self.guess = 0.0  # where the next batch's candidates start; a matter of speed

    def unit(self, norms: Tensor) -> Tensor:
        """What pre-activations are measured in before they compete: 1 here, each sample's norm in a subclass."""
        return norms.new_ones(())

    def calibrate(self, pre: Tensor, norms: Tensor) -> float | Tensor:
        self.threshold.fill_(threshold_for_l0(pre / self.unit(norms), self.k))
        self.guess = 0.0
        return 0.0

    def forward(self, pre: Tensor, norms: Tensor) -> Tensor:
        return pre * (pre > self.threshold * self.unit(norms))

    @torch.no_grad()
    def select(self, pre: PreActivations) -> tuple[Support, Tensor]:
        wanted = pre.shape[0] * parallel.size() * self.k
        unit = self.unit(pre.norms)
        for floor in (self.guess, 0.9 * self.guess, 0.0):
            support, z = pre.above(floor * unit)
            if parallel.total(len(z)) >= wanted:
                break
        ranks = z / (unit.flatten().index_select(0, support.rows) if unit.ndim else unit)
        places, smallest = largest_of_batch(ranks, wanted)
        if places is not None:
            support, z = support.keep(places), z.index_select(0, places)
        self.threshold.lerp_(smallest.to(self.threshold.dtype), self.threshold_rate)
        self.guess = 0.98 * float(smallest)
        return support, z


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

    def unit(self, norms: Tensor) -> Tensor:
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

    def __init__(
        self, k: int, fractions: Sequence[float] = (0.5, 0.3, 0.2), threshold_rate: float = 0.05
    ) -> None:
        super().__init__(k, threshold_rate)
        if not fractions or min(fractions) <= 0 or not abs(sum(fractions) - 1) <= 1e-6:
            raise ValueError(f"The groups' shares of the latents are above 0 and add up to 1; {fractions} do not.")
        self.fractions = list(fractions)

    def attach(self, d_sae: int) -> None:
        super().attach(d_sae)
        ends = [round(d_sae * sum(self.fractions[: i + 1])) for i in range(len(self.fractions))]
        self.groups = list(zip([0, *ends[:-1]], ends, strict=True))
        if any(first == end for first, end in self.groups):
            raise ValueError(f"{d_sae} latents are too few for groups of {self.fractions}; one would be empty.")


class _Penalised(ActivationFunction):
    """An activation function whose sparsity comes from a penalty: steered to a target L0, or of fixed weight.

    Steering is a proportional and integral control in ``log(L0 / target)``. Its integral part, `level`, finds the
    weight that holds the target; its proportional part answers at once, and may turn the penalty into a reward while L0
    is too low. Both count in a natural unit that the subclass names, so that no weight has to be guessed. Where a
    level above 1 is called for, both grow with it: frozen directions can ask for ten times the weight that learned ones
    do, and would otherwise still be on the way there, with too many latents, when training ends.
    """

    def __init__(self, target_l0: int | None, coefficient: float | None) -> None:
        super().__init__()
        if (target_l0 is None) == (coefficient is None):
            raise ValueError(
                f"{type(self).__name__} needs either a target_l0 to steer to or a fixed coefficient, and not both."
            )
        if coefficient is not None and not 0 <= coefficient < float("inf"):
            raise ValueError(f"A penalty's coefficient must be a finite number of 0 or more; it is {coefficient}.")
        self.target_l0 = target_l0
        self.fixed_coefficient = coefficient
        self.register_buffer("level", torch.ones(()))
        self.register_buffer("coefficient", torch.tensor(float(coefficient or 0)))

    @property
    def steered(self) -> bool:
        return self.target_l0 is not None

    def attach(self, d_sae: int) -> None:
        self.groups = [(0, d_sae)]
        if self.steered:
            super().attach(d_sae)

    @torch.no_grad()
    def _steer(self, l0, unit):
        """One step of the control, given the whole batch's mean number of active latents."""
        if self.steered and self.training:
            off_target = (l0 / self.target_l0).log().clamp(-1, 1)
            # far from the target the proportional part does the work; a level that built up meanwhile would overshoot
            self.level.add_(self.level.clamp(min=1) * INTEGRAL * off_target.clamp(-0.2, 0.2)).clamp_(min=0)
            self.coefficient.copy_(unit * (self.level + self.level.clamp(min=1) * PROPORTIONAL * off_target))


class ReLU(_Penalised):
    """Positive pre-activations, with an L1 penalty on the code.

    Parameters
    ----------
    target_l0 : int, optional
        Steer the penalty to this many active latents per sample.
    l1_coefficient : float, optional
        Fixed weight of the code's L1 norm (its mean over samples), instead of a target.
    """

    def __init__(self, target_l0: int | None = None, l1_coefficient: float | None = None) -> None:
        super().__init__(target_l0, l1_coefficient)

    def settings(self) -> dict[str, Any]:
        return {"target_l0": self.target_l0, "l1_coefficient": self.fixed_coefficient}

    def calibrate(self, pre: Tensor, norms: Tensor) -> float | Tensor:
        return threshold_for_l0(pre, self.target_l0) if self.steered else 0.0

    def forward(self, pre: Tensor, norms: Tensor) -> Tensor:
        return relu(pre)

    def select(self, pre: PreActivations) -> tuple[Support, Tensor]:
        return pre.above(0.0)

    def penalty(self, z: Tensor, values: Tensor, support: Support) -> Tensor:
        batch = support.shape[0]
        active = parallel.total(len(values))
        l0 = torch.tensor(active / (batch * parallel.size()), device=values.device)
        # shrinking a value by itself is what L1 would do at weight 2
        self._steer(l0, unit=parallel.total(values.detach().sum()) / max(1, active))
        return self.coefficient * values.sum() / batch


class JumpReLU(_Penalised):
    """Pre-activations above a learned threshold per latent, with an L0 penalty.

    The architecture of Rajamanoharan et al. (arXiv:2407.14435). A threshold moves the loss only through the entries
    that it lets in or keeps out, a step whose derivative is zero almost everywhere. Training uses a straight-through
    estimate: an entry within half a bandwidth of its threshold counts, with weight 1 / bandwidth. Thresholds are
    learned as logarithms, so they stay positive.

    Parameters
    ----------
    target_l0 : int, optional
        Steer the penalty to this many active latents per sample; also where thresholds start.
    l0_coefficient : float, optional
        Fixed weight of the L0 penalty, instead of a target.
    bandwidth : float above 0
        Width of the window, as a share of the threshold at the start (the paper's 0.001 is the same size as its
        starting threshold of 0.001).
    """

    def __init__(
        self, target_l0: int | None = None, l0_coefficient: float | None = None, bandwidth: float = 0.2
    ) -> None:
        super().__init__(target_l0, l0_coefficient)
        if not 0 < bandwidth < float("inf"):
            raise ValueError(f"bandwidth must be above 0; it is {bandwidth}.")
        self.relative_bandwidth = bandwidth

    def settings(self) -> dict[str, Any]:
        return {
            "target_l0": self.target_l0,
            "l0_coefficient": self.fixed_coefficient,
            "bandwidth": self.relative_bandwidth,
        }

    def attach(self, d_sae: int) -> None:
        super().attach(d_sae)
        self.log_threshold = nn.Parameter(torch.full((d_sae,), 0.001).log())
        self.register_buffer("bandwidth", torch.tensor(0.001 * self.relative_bandwidth))

    def calibrate(self, pre: Tensor, norms: Tensor) -> float | Tensor:
        if self.steered:
            start = threshold_for_l0(pre, self.target_l0).clamp(min=1e-6)
            self.log_threshold.data.fill_(start.log())
            self.bandwidth.fill_(start * self.relative_bandwidth)
        return 0.0

    @property
    def threshold(self) -> Tensor:
        return self.log_threshold.exp()

    def forward(self, pre: Tensor, norms: Tensor) -> Tensor:
        return pre * (pre > self.threshold)

    @torch.no_grad()
    def select(self, pre: PreActivations) -> tuple[Support, Tensor]:
        # entries in the window below the threshold are off, yet the threshold's gradient sees them
        return pre.above(self.threshold - self.bandwidth / 2)

    def code(self, z: Tensor, support: Support) -> Tensor:
        return _Jump.apply(z, self.threshold.index_select(0, support.latents), self.bandwidth)

    def penalty(self, z: Tensor, values: Tensor, support: Support) -> Tensor:
        batch = support.shape[0]
        l0 = _Step.apply(z, self.threshold.index_select(0, support.latents), self.bandwidth).sum() / batch
        # leaving out an entry costs about its square in squared error, so that is what an entry's weight is measured in
        active = parallel.total(batch * l0.detach())
        mean_value = parallel.total(values.detach().sum()) / active.clamp(min=1)
        self._steer(parallel.mean(l0.detach()), unit=mean_value**2)
        return self.coefficient * l0


class _Jump(torch.autograd.Function):
    """z where z > threshold, else 0; equation 11 of arXiv:2407.14435 for the threshold's gradient."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold, bandwidth)
        return z * (z > threshold)

    @staticmethod
    def backward(ctx, grad):
        z, threshold, bandwidth = ctx.saved_tensors
        window = (z - threshold).abs() < bandwidth / 2
        return grad * (z > threshold), -grad * window * threshold / bandwidth, None


class _Step(torch.autograd.Function):
    """1 where z > threshold, else 0; equation 12 of arXiv:2407.14435 for the threshold's gradient."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold, bandwidth)
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx, grad):
        z, threshold, bandwidth = ctx.saved_tensors
        window = (z - threshold).abs() < bandwidth / 2
        return None, -grad * window / bandwidth, None


def threshold_for_l0(pre: Tensor, l0: float) -> Tensor:
    """The value that `l0` pre-activations per sample exceed on average, at least zero. Scalar tensor."""
    wanted = min(int(round(l0 * len(pre))), pre.numel())
    return pre.flatten().topk(wanted, sorted=False).values.min().clamp(min=0)

"""Activation functions whose sparsity comes from a penalty, which may be steered to a target L0.

What an activation function must have is said in :mod:`saelite.activation_functions`.
"""

import torch
from torch import nn
from torch.nn.functional import relu

from saelite.kernels import parallel
from saelite.ranked import ActivationFunction, threshold_for_l0

# How strongly a steered penalty answers to an L0 off its target, at once and over time.
PROPORTIONAL, INTEGRAL = 8.0, 0.1


class _Penalised(ActivationFunction):
    """An activation function whose sparsity comes from a penalty: steered to a target L0, or of fixed weight.

    Steering is a proportional and integral control in ``log(L0 / target)``. Its integral part, `level`, finds the
    weight that holds the target; its proportional part answers at once, and may turn the penalty into a reward while L0
    is too low. Both count in a natural unit that the subclass names, so that no weight has to be guessed. Where a
    level above 1 is called for, both grow with it: frozen directions can ask for ten times the weight that learned ones
    do, and would otherwise still be on the way there, with too many latents, when training ends.
    """

    def __init__(self, target_l0, coefficient):
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
    def steered(self):
        return self.target_l0 is not None

    def attach(self, d_sae):
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

    name = "ReLU"

    def __init__(self, target_l0=None, l1_coefficient=None):
        super().__init__(target_l0, l1_coefficient)

    def settings(self):
        return {"target_l0": self.target_l0, "l1_coefficient": self.fixed_coefficient}

    def calibrate(self, pre, norms):
        return threshold_for_l0(pre, self.target_l0) if self.steered else 0.0

    def forward(self, pre, norms):
        return relu(pre)

    def select(self, pre):
        return pre.above(0.0)

    def code(self, z, support):
        return z

    def penalty(self, z, values, support):
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

    name = "JumpReLU"

    def __init__(self, target_l0=None, l0_coefficient=None, bandwidth=0.2):
        super().__init__(target_l0, l0_coefficient)
        if not 0 < bandwidth < float("inf"):
            raise ValueError(f"bandwidth must be above 0; it is {bandwidth}.")
        self.relative_bandwidth = bandwidth

    def settings(self):
        return {
            "target_l0": self.target_l0,
            "l0_coefficient": self.fixed_coefficient,
            "bandwidth": self.relative_bandwidth,
        }

    def attach(self, d_sae):
        super().attach(d_sae)
        self.log_threshold = nn.Parameter(torch.full((d_sae,), 0.001).log())
        self.register_buffer("bandwidth", torch.tensor(0.001 * self.relative_bandwidth))

    def calibrate(self, pre, norms):
        if self.steered:
            start = threshold_for_l0(pre, self.target_l0).clamp(min=1e-6)
            self.log_threshold.data.fill_(start.log())
            self.bandwidth.fill_(start * self.relative_bandwidth)
        return 0.0

    @property
    def threshold(self):
        return self.log_threshold.exp()

    def forward(self, pre, norms):
        return pre * (pre > self.threshold)

    @torch.no_grad()
    def select(self, pre):
        # entries in the window below the threshold are off, yet the threshold's gradient sees them
        return pre.above(self.threshold - self.bandwidth / 2)

    def code(self, z, support):
        return _Jump.apply(z, self.threshold.index_select(0, support.latents), self.bandwidth)

    def penalty(self, z, values, support):
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

"""The sparse code of a batch, and the few products on it that training needs.

A dense training step multiplies five matrices of size batch x d_in x d_sae. When only L0 of the d_sae latents are
active, all but the encoder's forward product touch batch x L0 entries alone. This file holds those four: decode, and
the gradients of the decoder, of the code, and of the encoder. Each is a weighted sum of rows, which is what
``embedding_bag`` computes. They equal the dense formulas to rounding (``tests/test_gradients.py``).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import embedding_bag

# Above this share of active entries dense products are faster than sums of rows.
DENSE_ABOVE = 0.1


@dataclass(frozen=True)
class Support:
    """Which latents are active in which sample of a batch: the places of the code that may differ from zero.

    Parameters
    ----------
    rows, latents : int64 tensors of shape (nnz,)
        Sample and latent of each entry, sorted by sample.
    shape : (batch, d_sae)
    """

    rows: torch.Tensor
    latents: torch.Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask):
        """The support of a boolean tensor of shape (batch, d_sae)."""
        flat = flatnonzero(mask)
        d_sae = mask.shape[1]
        rows = torch.div(flat, d_sae, rounding_mode="floor")
        return cls(rows, flat - rows * d_sae, tuple(mask.shape))

    @property
    def is_dense(self):
        return len(self.rows) > DENSE_ABOVE * self.shape[0] * self.shape[1]

    @cached_property
    def row_starts(self):
        return _starts(self.rows, self.shape[0])

    @cached_property
    def by_latent(self):
        """``(order, starts)``: a stable order of the entries by latent, and where each latent's entries start in it."""
        order = self.latents.argsort(stable=True)
        return order, _starts(self.latents[order], self.shape[1])

    def to_dense(self, values):
        """A (batch, d_sae) tensor with `values` (nnz,) on the support and zero elsewhere; differentiable."""
        return values.new_zeros(self.shape).index_put((self.rows, self.latents), values)


def flatnonzero(mask):
    """Flat positions of the true entries of `mask`, in order."""
    if mask.device.type == "cpu":  # several times faster than torch's own nonzero on a sparse mask
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def pre_activations_at(support, x, W_enc, b_enc, b_dec, dense):
    """Pre-activations ``(x - b_dec) @ W_enc + b_enc`` on the support, differentiable in all but `x`.

    Parameters
    ----------
    support : Support
    x : tensor of shape (batch, d_in)
    W_enc, b_enc, b_dec : the encoder's parameters, shapes (d_in, d_sae), (d_sae,), (d_in,)
    dense : tensor of shape (batch, d_sae)
        The pre-activations, already computed without gradients: selecting the support needed all of them.

    Returns
    -------
    tensor of shape (nnz,)
    """
    if support.is_dense:
        return ((x - b_dec) @ W_enc + b_enc)[support.rows, support.latents]
    return _PreActivationsAt.apply(W_enc, b_enc, b_dec, x, dense, support)


def decode(support, values, W_dec):
    """The product of the sparse code with the decoder: ``code @ W_dec``, differentiable in both.

    Parameters
    ----------
    support : Support
    values : tensor of shape (nnz,)
    W_dec : tensor of shape (d_sae, d_in)

    Returns
    -------
    tensor of shape (batch, d_in)
    """
    if support.is_dense:
        return support.to_dense(values) @ W_dec
    return _Decode.apply(values, W_dec, support)


class _PreActivationsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, W_enc, b_enc, b_dec, x, dense, support):
        ctx.save_for_backward(W_enc, b_dec, x)
        ctx.support = support
        return dense.flatten()[support.rows * support.shape[1] + support.latents]

    @staticmethod
    def backward(ctx, grad):
        W_enc, b_dec, x = ctx.saved_tensors
        needs_W_enc, needs_b_enc, needs_b_dec = ctx.needs_input_grad[:3]
        grad_W_enc = grad_b_enc = grad_b_dec = None
        if needs_W_enc:  # a frozen encoder never pays for this
            grad_W_enc = _sum_by_latent(ctx.support, grad, x - b_dec).T
        if needs_b_enc or needs_b_dec:
            grad_b_enc = grad.new_zeros(ctx.support.shape[1]).index_add_(0, ctx.support.latents, grad)
        if needs_b_dec:  # every pre-activation sees -b_dec through its own column of W_enc
            grad_b_dec = -(W_enc @ grad_b_enc)
        return grad_W_enc, grad_b_enc, grad_b_dec, None, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, W_dec, support):
        ctx.save_for_backward(values, W_dec)
        ctx.support = support
        return _sum_by_row(support, values, W_dec)

    @staticmethod
    def backward(ctx, grad):
        values, W_dec = ctx.saved_tensors
        grad_values = grad_W_dec = None
        if ctx.needs_input_grad[0]:
            # <grad[row], W_dec[latent]> for every entry: torch has that kernel inside embedding_bag's own backward
            with torch.enable_grad():
                weights = torch.zeros_like(values, requires_grad=True)
                product = _sum_by_row(ctx.support, weights, W_dec.detach())
            (grad_values,) = torch.autograd.grad(product, weights, grad)
        if ctx.needs_input_grad[1]:  # a frozen decoder never pays for this
            grad_W_dec = _sum_by_latent(ctx.support, values, grad)
        return grad_values, grad_W_dec, None


def _sum_by_row(support, weights, table):
    """``code @ table``: for each sample, the sum of weight x table[latent]. Shape (batch, d_in)."""
    return embedding_bag(support.latents, table, support.row_starts, mode="sum", per_sample_weights=weights)


def _sum_by_latent(support, weights, table):
    """``code.T @ table``: for each latent, the sum of weight x table[row]. Shape (d_sae, d_in)."""
    order, starts = support.by_latent
    return embedding_bag(support.rows[order], table, starts, mode="sum", per_sample_weights=weights[order])


def _starts(sorted_ids, n):
    return torch.searchsorted(sorted_ids, torch.arange(n, device=sorted_ids.device))

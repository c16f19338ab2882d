"""The sparse code of a batch, and the few products on it that training needs.

A dense training step makes five products of batch x d_in x d_sae. When only L0 of the d_sae latents are active, all but
the encoder's forward one touch batch x L0 entries alone. This file holds those four: decode, and the gradients of
decoder, code and encoder. Three are weighted sums of rows, as ``embedding_bag`` computes; the code's gradient is one
scalar product for each entry. They equal the dense formulas to rounding (``tests/test_gradients.py``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from torch.nn.functional import embedding_bag

DENSE_ABOVE = 0.1  # share of active entries above which dense products are faster than sums of rows

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


@dataclass(frozen=True)
class Support:
    """Which latents are active in which sample of a batch: the places of the code that may differ from zero.

    Parameters
    ----------
    rows, latents : int64 tensors of shape (nnz,)
        Sample and latent of each entry, sorted by sample, then by latent.
    shape : (batch, d_sae)
    """

    rows: torch.Tensor
    latents: torch.Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: torch.Tensor) -> Support:
        """The support of a boolean tensor of shape (batch, d_sae)."""
        return cls.at(flatnonzero(mask), tuple(mask.shape))

    @classmethod
    def at(cls, flat: torch.Tensor, shape: tuple[int, int]) -> Support:
        """The support at some flat positions, int64 of shape (nnz,), of a (batch, d_sae) tensor, given in order."""
        rows = torch.div(flat, shape[1], rounding_mode="floor")
        return cls(rows, flat - rows * shape[1], shape)

    @property
    def flat(self) -> torch.Tensor:
        """Flat positions of the entries in a (batch, d_sae) tensor. Shape (nnz,)."""
        return self.rows * self.shape[1] + self.latents

    def keep(self, places: torch.Tensor) -> Support:
        """Some of the entries, by their ascending places among all. index_select is faster here than brackets."""
        return Support(self.rows.index_select(0, places), self.latents.index_select(0, places), self.shape)

    def columns(self, first: int, end: int) -> tuple[torch.Tensor, Support]:
        """``(places, support)``: the entries of latents first to end - 1, and the support of those latents alone."""
        places = flatnonzero((self.latents >= first) & (self.latents < end))
        part = self.keep(places)
        return places, Support(part.rows, part.latents - first, (self.shape[0], end - first))

    @property
    def is_dense(self) -> bool:
        """Whether so many entries are active that dense products are faster."""
        return len(self.rows) > DENSE_ABOVE * self.shape[0] * self.shape[1]

    @cached_property
    def row_starts(self) -> torch.Tensor:
        """Where each sample's entries start, and after them where the last one's end. Shape (batch + 1,)."""
        counts = torch.bincount(self.rows, minlength=self.shape[0])
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    @cached_property
    def by_latent(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``(order, starts)``: a stable order of the entries by latent, and where each latent's start, as above."""
        if self.rows.device.type != "cpu":
            counts = torch.bincount(self.latents, minlength=self.shape[1])
            return self.latents.argsort(stable=True), torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # compressed rows to compressed columns is a counting sort, ten times faster than argsort
        places = np.arange(len(self.rows))
        matrix = scipy.sparse.csr_array((places, self.latents.numpy(), self.row_starts.numpy()), self.shape).tocsc()
        return torch.from_numpy(matrix.data), torch.from_numpy(matrix.indptr).long()

    def to_dense(self, values: torch.Tensor) -> torch.Tensor:
        """A (batch, d_sae) tensor with `values` (nnz,) on the support and zero elsewhere; differentiable."""
        return values.new_zeros(self.shape).index_put((self.rows, self.latents), values)


def flatnonzero(mask: torch.Tensor) -> torch.Tensor:
    """Flat positions of the true entries of `mask`, in order."""
    if mask.device.type == "cpu":  # several times faster than torch's own nonzero on a sparse mask
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def pre_activations_at(
    support: Support, z: torch.Tensor, x: torch.Tensor, W_enc: torch.Tensor, b_enc: torch.Tensor, b_dec: torch.Tensor
) -> torch.Tensor:
    """Give known pre-activations ``(x - b_dec) @ W_enc + b_enc`` on a support their gradients.

    `z`, of shape (nnz,), are these without gradients: selecting the support needed them. `x` has shape (batch, d_in),
    the encoder's parameters (d_in, d_sae), (d_sae,) and (d_in,). Returns a tensor of shape (nnz,), differentiable in
    the three parameters.
    """
    if support.is_dense:
        return ((x - b_dec) @ W_enc + b_enc)[support.rows, support.latents]
    return _PreActivationsAt.apply(W_enc, b_enc, b_dec, x, z, support)


def decode(support: Support, values: torch.Tensor, W_dec: torch.Tensor) -> torch.Tensor:
    """``code @ W_dec``, of shape (batch, d_in), from the code's values (nnz,) on a support; differentiable in both."""
    if support.is_dense:
        return support.to_dense(values) @ W_dec
    return _Decode.apply(values, W_dec, support)


def dots(support: Support, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``<left[row], right[latent]>`` for every entry of a support, without gradients.

    `left` has shape (batch, d_in), `right` (d_sae, d_in), what is returned (nnz,).
    """
    if len(support.rows) == 0:
        return left.new_zeros(0)
    left, right = left.detach(), right.detach()
    if left.device.type == "cuda" or torch.backends.mkl.is_available():
        zeros = left.new_zeros(len(support.rows))
        places = support.row_starts, support.latents
        empty = torch.sparse_csr_tensor(*places, zeros, support.shape, check_invariants=False)
        return torch.sparse.sampled_addmm(empty, left, right.T, beta=0.0).values()
    # elsewhere: the gradient of a weighted sum of rows by its weights is just these products
    weights = left.new_zeros(len(support.rows)).requires_grad_()
    with torch.enable_grad():
        total = _sum_by_row(support, weights, right)
    return torch.autograd.grad(total, weights, left)[0]


class _PreActivationsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, W_enc, b_enc, b_dec, x, z, support):
        ctx.save_for_backward(W_enc, b_dec, x)
        ctx.support = support
        return z.clone()

    @staticmethod
    def backward(ctx, grad):
        W_enc, b_dec, x = ctx.saved_tensors
        grad_W_enc = grad_b_enc = grad_b_dec = None
        if ctx.needs_input_grad[0]:  # a frozen encoder never pays for this
            grad_W_enc = _sum_by_latent(ctx.support, grad, x - b_dec).T
        if any(ctx.needs_input_grad[1:3]):
            grad_b_enc = grad.new_zeros(ctx.support.shape[1]).index_add_(0, ctx.support.latents, grad)
        if ctx.needs_input_grad[2]:  # every pre-activation sees -b_dec through its own column of W_enc
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
            grad_values = dots(ctx.support, grad, W_dec)
        if ctx.needs_input_grad[1]:  # a frozen decoder never pays for this
            grad_W_dec = _sum_by_latent(ctx.support, values, grad)
        return grad_values, grad_W_dec, None


def _sum_by_row(support, weights, table):
    """``code @ table``: for each sample, the sum of weight x table[latent]. Shape (batch, d_in)."""
    return _sum_of_rows(table, support.latents, support.row_starts, weights)


def _sum_by_latent(support, weights, table):
    """``code.T @ table``: for each latent, the sum of weight x table[row]. Shape (d_sae, d_in)."""
    order, starts = support.by_latent
    return _sum_of_rows(table, support.rows.index_select(0, order), starts, weights.index_select(0, order))


def _sum_of_rows(table, ids, starts, weights):
    return embedding_bag(ids, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)

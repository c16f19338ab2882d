"""Pre-activations ``(x - b_dec) @ W_enc + b_enc`` of a batch, given out only where they are large.

A training step needs this product, its one dense one, only to learn which entries are above some floor. So a product
in low precision finds candidates, with a margin that no rounding error can exceed, and those few are computed again in
full precision. On a CPU what comes out is the same bit for bit, whatever the first product is made in; on processors
with bfloat16 units the two together cost less than half of the float32 product.
"""

from __future__ import annotations

import contextlib
import functools
import time

import torch
from torch.nn.functional import pad

from saelite.kernels import sparse
from saelite.kernels.sparse import Support, flatnonzero

CHUNK = 2**21  # entries of the first product held at once: few enough to stay in the processor's cache
GPU_CHUNK = 2**27  # 0.5 GB in float32: on a GPU the host waits once per chunk, for the number of candidates


class PreActivations:
    """The pre-activations of one batch.

    Parameters
    ----------
    x : tensor of shape (batch, d_in)
        Scaled activations less `b_dec`.
    W : tensor of shape (d_sae, d_in)
        The encoder's directions, one a row: ``W_enc.T``.
    b : tensor of shape (d_sae,)
        The encoder's biases.
    dtype : torch.dtype, optional
        What candidates are looked for in. None: bfloat16 on a CPU that is fast in it, else the dtype of `x`.
    """

    def __init__(self, x: torch.Tensor, W: torch.Tensor, b: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        self.x, self.W, self.b, self.dtype = x, W, b, dtype
        self.shape = (len(x), len(W))  # (batch, d_sae)

    @functools.cached_property
    def norms(self) -> torch.Tensor:
        """``||x||`` of each sample. Shape (batch, 1)."""
        return self.x.norm(dim=1, keepdim=True)

    def dense(self, rows: slice | torch.Tensor = slice(None)) -> torch.Tensor:
        """All pre-activations of some samples. Shape (len(rows), d_sae)."""
        return torch.addmm(self.b, self.x[rows], self.W.T)

    def at(self, support: Support) -> torch.Tensor:
        """Pre-activations on a support. Shape (nnz,)."""
        return sparse.dots(support, self.x, self.W) + self.b.index_select(0, support.latents)

    def above(self, floor: float | torch.Tensor) -> tuple[Support, torch.Tensor]:
        """The entries that exceed a floor, and their values (nnz,). A floor is one number for all, or a tensor of shape
        (d_sae,) or (batch, 1): one for each latent or for each sample."""
        floor = torch.as_tensor(floor, dtype=self.x.dtype, device=self.x.device)
        support = self._candidates(floor)
        if support is None:  # so many that listing them costs more than looking at all
            dense = self.dense()
            above = dense > floor
            if above.sum() > sparse.DENSE_ABOVE * above.numel():
                support = Support.of(above)
                return support, dense.flatten().index_select(0, support.flat)
            # The margin made them many, and it depends on the precision; the values that are given out must not.
            support = Support.of(dense > floor - self._margin(self.x.dtype, floor))
        z = self.at(support)
        if floor.numel() > 1:
            floor = floor.flatten().index_select(0, support.rows if floor.ndim == 2 else support.latents)
        places = flatnonzero(z > floor)
        return support.keep(places), z.index_select(0, places)

    def _candidates(self, floor):
        """A support that holds every entry above the floor and few others; None if that would be a large share."""
        batch, d_sae = self.shape
        per_row, per_latent = (floor, 0.0) if floor.ndim == 2 else (0.0, floor)
        on_cpu = self.x.device.type == "cpu"
        dtype = self.x.dtype
        if dtype == torch.float32:
            dtype = self.dtype or (torch.bfloat16 if on_cpu and bfloat16_is_faster() else dtype)
        # One more column for the latents' part of the floor, one for the samples' part and the margin: then the sign of
        # an entry's product says whether it is a candidate.
        left = pad(self.x, (0, 2), value=1.0)
        left[:, -1:] = self._margin(dtype, floor) - per_row
        left = left.to(dtype)
        right = pad(self.W, (0, 2), value=1.0)
        right[:, -2] = self.b - per_latent
        right = right.to(dtype).T
        step = max(64, (CHUNK if on_cpu else GPU_CHUNK) // d_sae)
        room = left.new_empty(min(step, batch), d_sae)
        found, total = [], 0
        for first in range(0, batch, step):
            part = left[first : first + step]
            with contextlib.nullcontext() if on_cpu else _float32_sums():
                product = torch.mm(part, right, out=room[: len(part)])
            found.append(flatnonzero(_positive(product)) + first * d_sae)
            total += len(found[-1])
            if total > sparse.DENSE_ABOVE * (first + len(part)) * d_sae:
                return None
        return Support.at(torch.cat(found), self.shape)

    def _margin(self, dtype, floor):
        """An upper bound of what rounding may take from an entry of the product in `dtype`. Shape (batch, 1)."""
        unit = torch.finfo(dtype).eps / 2  # the largest relative error of rounding one number
        if torch.get_float32_matmul_precision() != "highest":  # then torch may round float32 factors as bfloat16
            unit = max(unit, torch.finfo(torch.bfloat16).eps / 2)
        summing = 4 * self.x.shape[1] * torch.finfo(self.x.dtype).eps  # and of adding up d_in products, twice
        size = self.norms * self.W.norm(dim=1).max()  # at least sum_k |x_k w_k|, by Cauchy and Schwarz
        edge = self.b.abs().max() + (floor.abs() if floor.ndim == 2 else floor.abs().max())
        return 1.02 * ((2 * unit + summing) * size + (unit + summing) * edge)


def _positive(product):
    """``product > 0``; on the CPU by the bits, which NumPy compares many at a time in any precision."""
    if product.device.type != "cpu":
        return product > 0
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[product.element_size()]
    return torch.from_numpy(product.view(bits).numpy() > 0)


@contextlib.contextmanager
def _float32_sums():
    """Keep a GPU from rounding partial sums of a bfloat16 product to bfloat16, which the margin does not allow for."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


@functools.cache
def bfloat16_is_faster() -> bool:
    """Whether this CPU makes a product clearly faster in bfloat16 than in float32; a tenth of a second to find out."""
    seconds = {torch.float32: [], torch.bfloat16: []}
    for _ in range(10):  # in turns, and the best of many: other work only slows, and should not meet one type alone
        for dtype, times in seconds.items():
            left, right = (torch.ones(512, 512, dtype=dtype) for _ in range(2))
            started = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - started)
    return min(seconds[torch.bfloat16]) < 0.75 * min(seconds[torch.float32])

"""Activation functions: what turns pre-activations into a sparse code, and what keeps that code sparse.

Each class answers four questions.

- ``forward(pre, norms)``: the code of a batch at inference, dense, shape (batch, d_sae), from its pre-activations and
  the norms ``||x - b_dec||`` (batch, 1) of its samples.
- ``select(pre)``: in training, which entries may be active? From
  :class:`saelite.kernels.pre_activations.PreActivations` to a :class:`saelite.kernels.sparse.Support` and the
  pre-activations `z` (nnz,) there.
- ``code(z, support)``: the values there, differentiable, from the pre-activations `z` (nnz,) on that support.
- ``penalty(z, values, support)``: what training adds to the reconstruction error, a scalar.

``groups`` is one range of latents for all but Matryoshka, which has several nested dictionaries in one.
``attach`` gives it the size of the dictionary, ``calibrate`` lets it look at the pre-activations of a first sample.
The SAE copies the activation function it is given, so one instance may be handed to many.

Those that choose by rank are in ``saelite/ranked.py``, those that a penalty keeps sparse in ``saelite/penalised.py``.
Here they all have their names: users import them from here, and checkpoints and notebooks find them here.
"""

from saelite.penalised import JumpReLU, ReLU
from saelite.ranked import BatchTopK, Matryoshka, RelativeBatchTopK, TopK

__all__ = ["TopK", "BatchTopK", "RelativeBatchTopK", "Matryoshka", "ReLU", "JumpReLU"]

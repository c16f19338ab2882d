"""Bringing dead latents back: the auxiliary loss of Gao et al. (arXiv:2406.04093, appendix A.2)."""

import torch

from saelite.kernels import sparse
from saelite.kernels.sparse import Support


class AuxiliaryLoss:
    """Lets the dead latents with the largest pre-activations predict what the living ones left over.

    Parameters
    ----------
    dead_after : int
        A latent is dead when it has not fired for this many samples.
    coefficient : float
        Weight of the loss; 1/32 in the paper.
    k : int, optional
        Dead latents per sample; d_in // 2 (the paper's choice) if None, fewer if fewer are dead.
    """

    def __init__(self, dead_after=100_000, coefficient=1 / 32, k=None):
        self.dead_after, self.coefficient, self.k = dead_after, coefficient, k

    def settings(self):
        return {"dead_after": self.dead_after, "coefficient": self.coefficient, "k": self.k}

    def loss(self, sae, x, error, samples_since_fired):
        """The loss of one batch, a scalar.

        Parameters
        ----------
        sae : SAE
        x : tensor of shape (batch, d_in)
            Activations as ``sae.scale`` gives them.
        error : tensor of shape (batch, d_in)
            ``x_hat - x``, without gradients. `b_dec` is already in x_hat, so it is not counted a second time here.
        samples_since_fired : int64 tensor of shape (d_sae,)
        """
        dead = (samples_since_fired >= self.dead_after).nonzero().squeeze(1)
        k = min(self.k or sae.d_in // 2, len(dead))
        if k == 0:
            return error.new_zeros(())
        rows = torch.arange(len(error), device=error.device).repeat_interleave(k)
        with torch.no_grad():
            pre = (x - sae.b_dec) @ sae.W_enc[:, dead] + sae.b_enc[dead]
            top = pre.topk(k, dim=1).indices.sort(dim=1).values
        support = Support(rows, dead[top].flatten(), (len(x), sae.d_sae))
        z = sparse.pre_activations_at(support, pre.gather(1, top).flatten(), x, sae.W_enc, sae.b_enc, sae.b_dec)
        predicted = sparse.decode(support, z.relu(), sae.W_dec)
        left_over = -error
        return self.coefficient * (predicted - left_over).square().sum(dim=1).mean()

"""The sparse autoencoder: an activation function, a baseline and an initialisation put together."""

import copy

import torch
from torch import nn
from torch.nn.functional import normalize

from saelite import arguments
from saelite.baselines import FullyTrained
from saelite.initialisation import iso


class SAE(nn.Module):
    """A sparse autoencoder (SAE) of activations ``x (batch, d_in)`` with `d_sae` latents.

    ::

        x     = (activation) * input_scale
        code  = activation_function((x - b_dec) @ W_enc + b_enc, ||x - b_dec||)
        x_hat = code @ W_dec + b_dec

    ``encode``, ``decode`` and ``forward`` take and give activations in their own units; the scale is applied inside.

    Parameters
    ----------
    d_in : int
        Width of the activations.
    d_sae : int
        Number of latents. ``d_sae / d_in`` is the expansion factor.
    activation : an instance from :mod:`saelite.activation_functions`
        Copied, so one instance may be given to many SAEs.
    baseline : an instance from :mod:`saelite.baselines`, optional
        What training may not change. None is the fully trained SAE.
    init : "iso" or tensor of shape (d_sae, d_in)
        Decoder directions at the start, such as :func:`saelite.initialisation.cov` makes; rows are normalised. The
        encoder starts as their transpose.
    seed : int
        Seed of the "iso" directions.

    Attributes
    ----------
    W_enc : (d_in, d_sae); W_dec : (d_sae, d_in); b_enc : (d_sae,); b_dec : (d_in,)
    W_dec_start : (d_sae, d_in)
        The directions at the start: Soft-Frozen projects against them, cosine to start reads them.
    input_scale : scalar
        Brings the mean norm of activations to sqrt(d_in); 1 until :meth:`calibrate`.
    encoder_gain : scalar
        What :meth:`calibrate` multiplied the encoder with.

    Raises
    ------
    ValueError
        For a width below 1, weights beyond the machine's memory, a start of the wrong shape, or an activation function
        that does not fit `d_sae`.
    """

    def __init__(self, d_in, d_sae, activation, baseline=None, init="iso", seed=0):
        super().__init__()
        if d_in < 1 or d_sae < 1:
            raise ValueError(f"An SAE needs d_in and d_sae of 1 or more, not {d_in} and {d_sae}.")
        arguments.whole(1, d_in=d_in, d_sae=d_sae)
        arguments.memory(12 * d_in * d_sae, f"The weights of an SAE with {d_sae:,} latents of {d_in:,} dimensions")
        self.d_in, self.d_sae, self.seed = d_in, d_sae, seed
        self.init = init if isinstance(init, str) else "given"
        start = _directions(init, d_sae, d_in, seed)
        self.W_dec = nn.Parameter(start.clone())
        # A transposed view: shape (d_in, d_sae), with each latent's weights side by side in memory, as gradients come.
        self.W_enc = nn.Parameter(start.clone().T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.register_buffer("W_dec_start", start)
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("encoder_gain", torch.ones(()))
        self.register_buffer("calibrated", torch.tensor(False))
        self.activation = copy.deepcopy(activation)
        self.activation.attach(d_sae)
        self.baseline = baseline or FullyTrained()
        self.baseline.freeze(self)

    def scale(self, activations):
        """Activations in the SAE's own units, after checking their width. Shape (batch, d_in)."""
        if activations.ndim != 2 or activations.shape[1] != self.d_in:
            raise ValueError(
                f"This SAE reads activations of shape (batch, {self.d_in}); it was given {tuple(activations.shape)}."
            )
        return activations * self.input_scale

    def pre_activations(self, x):
        """``(x - b_dec) @ W_enc + b_enc`` for scaled x (batch, d_in). Shape (batch, d_sae)."""
        return torch.addmm(self.b_enc - self.b_dec @ self.W_enc, x, self.W_enc)

    def norms(self, x):
        """``||x - b_dec||`` for scaled x (batch, d_in). Shape (batch, 1)."""
        return (x - self.b_dec).norm(dim=1, keepdim=True)

    def encode(self, activations):
        """The code, dense. Shapes (batch, d_in) to (batch, d_sae), non-negative."""
        x = self.scale(activations)
        return self.activation(self.pre_activations(x), self.norms(x))

    def decode(self, code):
        """The reconstruction of a dense code. Shapes (batch, d_sae) to (batch, d_in)."""
        return (code @ self.W_dec + self.b_dec) / self.input_scale

    def forward(self, activations):
        """The reconstruction of the activations. Shape (batch, d_in)."""
        return self.decode(self.encode(activations))

    @torch.no_grad()
    def calibrate(self, sample):
        """Fit the few scalars of an untrained SAE to a first sample; training calls this once, before its first step.

        Sets the input scale (mean norm to sqrt(d_in)), `b_dec` (the mean), thresholds (the target L0 is met), and one
        gain for the whole encoder, the one with the least squared error. Without that gain a dictionary whose
        directions overlap, as `cov` ones do, starts with a reconstruction many times too long, and training may
        diverge. What results is the null model: a tied matched filter with a random dictionary and one global scale.

        Parameters
        ----------
        sample : tensor of shape (n, d_in)
            Some thousand activations.
        """
        check_finite(sample)
        if not (sample - sample[0]).any():
            raise ValueError("Every activation of the first batch is the same: there is nothing to learn from it.")
        self.input_scale.copy_(self.d_in**0.5 / sample.norm(dim=1).mean())
        x = self.scale(sample)
        self.b_dec.copy_(x.mean(dim=0))
        norms = self.norms(x)
        self.b_enc.sub_(self.activation.calibrate(self.pre_activations(x), norms))
        pre = self.pre_activations(x)
        centred_hat = self.activation(pre, norms) @ self.W_dec
        gain = (centred_hat * (x - self.b_dec)).sum() / centred_hat.square().sum()
        self.encoder_gain.copy_(gain)
        self.W_enc.mul_(self.encoder_gain)
        self.b_enc.mul_(self.encoder_gain)
        self.activation.calibrate(pre * gain, norms)
        self.calibrated.fill_(True)

    def cosine_to_start(self):
        """Cosine of each decoder direction to its start. Shape (d_sae,), on the CPU."""
        return (normalize(self.W_dec.detach(), dim=1) * self.W_dec_start).sum(dim=1).cpu()


def check_finite(activations):
    """Refuse NaN, infinity, and what is no table of activations (n, d_in), in one sentence."""
    if activations.ndim != 2 or not len(activations):
        raise ValueError(
            f"Activations have shape (n, d_in), with n of 1 or more; these have shape {tuple(activations.shape)}."
        )
    if not activations.isfinite().all():
        bad = int((~activations.isfinite().all(dim=1)).sum())
        raise ValueError(f"{bad} of {len(activations)} activations have NaN or infinity in them; drop those rows.")


def _directions(init, d_sae, d_in, seed):
    if isinstance(init, str):
        if init != "iso":
            raise ValueError(f'init is "iso" or a tensor of shape ({d_sae}, {d_in}); "{init}" is neither.')
        return iso(d_sae, d_in, seed)
    if tuple(init.shape) != (d_sae, d_in):
        raise ValueError(f"init has shape {tuple(init.shape)}; a start for this SAE has shape ({d_sae}, {d_in}).")
    check_finite(init)
    return normalize(init.detach().float(), dim=1)

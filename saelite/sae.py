"""The sparse autoencoder: an activation function, a baseline and an initialisation put together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from saelite import arguments, checkpoints
from saelite.activation_functions import ActivationFunction
from saelite.baselines import Baseline, FullyTrained
from saelite.initialisation import cov, iso


class SAE(nn.Module):
    """A sparse autoencoder (SAE) of activations ``x (batch, d_in)`` with `d_sae` latents.

    ::

        x     = (activation) * input_scale
        code  = activation_function((x - b_dec) @ W_enc + b_enc, ||x - b_dec||)
        x_hat = code @ W_dec + b_dec

    ``encode``, ``decode`` and ``forward`` take and give activations in their own units; the scale is applied inside.
    They take any leading dimensions and any floating type, and compute in the SAE's own type.

    Parameters
    ----------
    d_in : int
        Width of the activations.
    d_sae : int
        Number of latents. ``d_sae / d_in`` is the expansion factor.
    activation : ActivationFunction, its class, or its name
        One instance may be given to many SAEs: it is copied.
    baseline : Baseline, its class, or its name, optional
        What training may not change. None is the fully trained SAE.
    init : "iso", "cov", or tensor of shape (d_sae, d_in)
        Decoder directions at the start; rows are normalised. The encoder starts as their transpose.
    seed : int
        Seed of the "iso" and "cov" directions.
    l0 : int, optional
        Active latents per sample, where `activation` is a class or a name.
    sample : tensor of shape (n, d_in), optional
        Activations whose covariance the "cov" directions get, which they need; n should be well above d_in.

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
        For a width below 1, weights beyond the machine's memory, a start of the wrong shape, an unknown name, or an
        activation function that does not fit `d_sae`.

    Examples
    --------
    >>> sae = SAE(8, 32, "TopK", "Frozen Decoder", l0=4)
    >>> sae
    SAE(d_in=8, d_sae=32, TopK(k=4), Frozen Decoder, init=iso, seed=0)
    >>> sae.encode(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 32])
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        activation: ActivationFunction | type[ActivationFunction] | str,
        baseline: Baseline | type[Baseline] | str | None = None,
        init: str | torch.Tensor = "iso",
        seed: int = 0,
        *,
        l0: int | None = None,
        sample: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        arguments.whole(1, d_in=d_in, d_sae=d_sae)
        arguments.memory(12 * d_in * d_sae, f"The weights of an SAE with {d_sae:,} latents of {d_in:,} dimensions")
        self.d_in, self.d_sae, self.seed = d_in, d_sae, seed
        self.init = init if isinstance(init, str) else "given"
        start = _directions(init, d_sae, d_in, seed, sample)
        self.W_dec = nn.Parameter(start.clone())
        # A transposed view: shape (d_in, d_sae), with each latent's weights side by side in memory, as gradients come.
        self.W_enc = nn.Parameter(start.clone().T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.register_buffer("W_dec_start", start)
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("encoder_gain", torch.ones(()))
        self.register_buffer("calibrated", torch.tensor(False))
        self.activation = copy.deepcopy(activation_function(activation, l0))
        self.activation.attach(d_sae)
        self.baseline = arguments.chosen(Baseline, baseline or FullyTrained, "baseline")
        self.baseline.freeze(self)

    def __repr__(self) -> str:
        made_with = ", ".join(f"{name}={value}" for name, value in self.activation.settings().items())
        return (
            f"SAE(d_in={self.d_in}, d_sae={self.d_sae}, {type(self.activation).__name__}({made_with}), "
            f"{self.baseline.name}, init={self.init}, seed={self.seed})"
        )

    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain JSON values: sizes, start, seed, activation function, baseline."""
        return {
            "d_in": self.d_in,
            "d_sae": self.d_sae,
            "init": self.init,
            "seed": self.seed,
            "activation": {"name": type(self.activation).__name__} | self.activation.settings(),
            "baseline": {"name": type(self.baseline).__name__} | self.baseline.settings(),
        }

    def save(self, folder: str | Path, **record: Any) -> None:
        """Write it to a folder, whole or not at all: ``sae.safetensors`` and ``sae.json``.

        Parameters
        ----------
        folder : path
            Must not exist yet.
        record : JSON values
            Kept beside it, such as ``training={...}`` and ``data={...}``: a checkpoint should say what trained it.

        Raises
        ------
        FileExistsError
            If there is something at `folder` already.
        """
        checkpoints.write(folder, self.state_dict(), {"sae": self.settings()} | record)

    @classmethod
    def load(
        cls, folder: str | Path, *, activation: ActivationFunction | None = None, baseline: Baseline | None = None
    ) -> SAE:
        """Read what :meth:`save` wrote. Its record is in the attribute ``record``.

        Parameters
        ----------
        folder : path
        activation, baseline : optional
            Instances of classes of your own, where these are not defined in this program under the name in the file.

        Returns
        -------
        SAE, in evaluation mode

        Raises
        ------
        ValueError
            If the folder holds no such checkpoint, or a damaged one, or names a class that is not known.
        """
        tensors, record = checkpoints.read(folder)
        with checkpoints.damaged(folder):
            made = dict(record["sae"])
            init = made["init"] if made["init"] == "iso" else tensors["W_dec_start"]
            rules = {
                "activation": activation or _class(ActivationFunction, made["activation"], folder),
                "baseline": baseline or _class(Baseline, made["baseline"], folder),
            }
            sae = cls(**made | rules | {"init": init})
            sae.init, sae.record = made["init"], record
            sae.load_state_dict(tensors)
        return sae.eval()

    def scale(self, activations: torch.Tensor) -> torch.Tensor:
        """Activations (..., d_in) in the SAE's own units and type, as (n, d_in), after checking their width."""
        if not isinstance(activations, torch.Tensor) or not activations.is_floating_point():
            given = activations.dtype if isinstance(activations, torch.Tensor) else type(activations).__name__
            raise ValueError(f"This SAE reads tensors of a floating type; it was given {given}.")
        if activations.ndim < 1 or activations.shape[-1] != self.d_in:
            raise ValueError(
                f"This SAE reads activations of shape (..., {self.d_in}); it was given {tuple(activations.shape)}."
            )
        return activations.reshape(-1, self.d_in).to(self.W_dec.dtype) * self.input_scale

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """``(x - b_dec) @ W_enc + b_enc`` for scaled x (batch, d_in). Shape (batch, d_sae)."""
        return torch.addmm(self.b_enc - self.b_dec @ self.W_enc, x, self.W_enc)

    def norms(self, x: torch.Tensor) -> torch.Tensor:
        """``||x - b_dec||`` for scaled x (batch, d_in). Shape (batch, 1)."""
        return (x - self.b_dec).norm(dim=1, keepdim=True)

    def encode(self, activations: torch.Tensor) -> torch.Tensor:
        """The code, dense. Shapes (..., d_in) to (..., d_sae); a latent is active where it is not zero."""
        x = self.scale(activations)
        code = self.activation(self.pre_activations(x), self.norms(x))
        return code.reshape(*activations.shape[:-1], self.d_sae)

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """The reconstruction of a dense code. Shapes (..., d_sae) to (..., d_in)."""
        if code.shape[-1:] != (self.d_sae,):
            raise ValueError(f"This SAE decodes codes of shape (..., {self.d_sae}); it was given {tuple(code.shape)}.")
        return (code.to(self.W_dec.dtype) @ self.W_dec + self.b_dec) / self.input_scale

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """The reconstruction of the activations. Shapes (..., d_in) to (..., d_in)."""
        return self.decode(self.encode(activations))

    @torch.no_grad()
    def calibrate(self, sample: torch.Tensor) -> None:
        """Fit the few scalars of an untrained SAE to a first sample; training calls this once, before its first step.

        Sets the input scale (mean norm to sqrt(d_in)), `b_dec` (the mean), thresholds (the target L0 is met), and one
        gain for the whole encoder, the one with the least squared error. Without that gain a dictionary whose
        directions overlap, as `cov` ones do, starts with a reconstruction many times too long, and training may
        diverge. What results is an untrained SAE: a tied matched filter with a random dictionary and one global scale.

        Parameters
        ----------
        sample : tensor of shape (n, d_in)
            Some thousand activations.
        """
        check_finite(sample)
        if not (sample - sample[0]).any():
            raise ValueError("Every activation of the first batch is the same: there is nothing to learn from it.")
        self.input_scale.copy_(self.d_in**0.5 / sample.float().norm(dim=1).mean())
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

    def cosine_to_start(self) -> torch.Tensor:
        """Cosine of each decoder direction to its start. Shape (d_sae,), on the CPU."""
        return (normalize(self.W_dec.detach(), dim=1) * self.W_dec_start).sum(dim=1).cpu()


def activation_function(
    what: ActivationFunction | type[ActivationFunction] | str, l0: int | None
) -> ActivationFunction:
    """An activation function from an instance, its class or its name, at an L0."""
    if isinstance(what, ActivationFunction):
        if l0 not in (None, what.target_l0):
            raise ValueError(f"l0={l0} and an activation function for an L0 of {what.target_l0}: give one of the two.")
        return what
    if l0 is None:
        arguments.chosen(ActivationFunction, what, "activation function", 1)  # a wrong name is the first thing to say
        raise ValueError(f"How many latents are active? Give l0, or an instance such as {_named(what)}(20).")
    return arguments.chosen(ActivationFunction, what, "activation function", l0)


def check_finite(activations: torch.Tensor) -> None:
    """Refuse NaN, infinity, and what is no table of activations (n, d_in), in one sentence."""
    if activations.ndim != 2 or not len(activations):
        raise ValueError(
            f"Activations have shape (n, d_in), with n of 1 or more; these have shape {tuple(activations.shape)}."
        )
    if not activations.isfinite().all():
        bad = int((~activations.isfinite().all(dim=1)).sum())
        raise ValueError(f"{bad} of {len(activations)} activations have NaN or infinity in them; drop those rows.")


def _named(what) -> str:
    return what if isinstance(what, str) else what.__name__


def _class(kind: type, made: dict, folder) -> Any:
    """An instance of a public class derived from `kind`; nothing else that a file may name is ever called."""
    made = dict(made)
    name = made.pop("name")
    if name not in arguments.known(kind):
        what = {ActivationFunction: "activation", Baseline: "baseline"}[kind]
        raise ValueError(
            f"{folder} names the class {name!r}, which is not defined here: import it first, or pass an instance as "
            f"{what}=."
        )
    return arguments.known(kind)[name](**made)


def _directions(init, d_sae: int, d_in: int, seed: int, sample) -> torch.Tensor:
    if isinstance(init, str):
        if init == "iso":
            return iso(d_sae, d_in, seed)
        if init == "cov" and sample is not None:
            return cov(d_sae, sample, seed)
        if init == "cov":
            raise ValueError('init="cov" takes the covariance of activations: pass them as sample=, shape (n, d_in).')
        raise ValueError(f'init is "iso", "cov", or a tensor of shape ({d_sae}, {d_in}); "{init}" is none of these.')
    if tuple(init.shape) != (d_sae, d_in):
        raise ValueError(f"init has shape {tuple(init.shape)}; a start for this SAE has shape ({d_sae}, {d_in}).")
    check_finite(init)
    return normalize(init.detach().float(), dim=1)

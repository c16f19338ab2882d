"""Training: one loop for every SAE, whatever its activation function, baseline and start."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from saelite import arguments, checkpoints
from saelite.data.batches import batches as as_batches
from saelite.data.batches import is_rows
from saelite.kernels import parallel, sparse
from saelite.kernels.pre_activations import PreActivations
from saelite.kernels.sparse import Support
from saelite.sae import SAE, check_finite

# The peak learning rate that everything shares: `train`, `compare`, `check` and the chapters on a language model.
LR = 3e-3
# Learned thresholds follow the growing encoder; at the weights' own rate they lag behind it, and L0 overshoots.
THRESHOLD_SPEED = 10.0


def reconstruct(
    sae: SAE, x: torch.Tensor, dtype: torch.dtype | None = None
) -> tuple[list[torch.Tensor], Support, torch.Tensor, torch.Tensor]:
    """A training forward pass over scaled activations, whose gradients cost batch x L0 rows, not batch x d_sae.

    Parameters
    ----------
    sae : SAE
    x : tensor of shape (batch, d_in)
        Activations as ``sae.scale`` gives them.
    dtype : torch.dtype, optional
        What candidates are looked for in: see :class:`saelite.kernels.pre_activations.PreActivations`.

    Returns
    -------
    (x_hats, support, z, values)
        The reconstruction (batch, d_in), last in a list that begins with those from the first groups of latents alone,
        where the activation function has several; where the code may be active; pre-activations and code there (nnz,).
    """
    with torch.no_grad():
        support, z = sae.activation.select(PreActivations(x - sae.b_dec, sae.W_enc.T, sae.b_enc, dtype))
    z = sparse.pre_activations_at(support, z, x, sae.W_enc, sae.b_enc, sae.b_dec)
    values = sae.activation.code(z, support)
    x_hats, x_hat = [], sae.b_dec
    for first, end in sae.activation.groups:
        part, of_part = support, values
        if len(sae.activation.groups) > 1:
            places, part = support.columns(first, end)
            of_part = values.index_select(0, places)
        x_hat = x_hat + sparse.decode(part, of_part, sae.W_dec[first:end])
        x_hats.append(x_hat)
    return x_hats, support, z, values


def train(
    sae: SAE,
    data: Any,
    *,
    lr: float = LR,
    batch_size: int = 1024,
    epochs: int = 1,
    seed: int = 0,
    steps: int | None = None,
    warmup: float = 0.05,
    decay: float = 0.3,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    revival: AuxiliaryLoss | None = None,
    watch: Callable[[SAE], dict[str, float]] | None = None,
    log_every: int = 10,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    """Train an SAE on activations.

    Called by every process that ``torchrun`` started, it trains one SAE on all of them: see
    :mod:`saelite.kernels.parallel`. Under ``torch.autocast`` in bfloat16 the one dense product of a step is made in
    bfloat16; what it finds is computed again, and all else is computed, in the SAE's own precision, so that the SAE is
    the same. A batch that is on the SAE's device stays there.

    The loss is the squared error ``||x - x_hat||^2`` of scaled activations, its mean over samples, plus the penalty of
    the activation function; the optimiser is AdamW. For nested dictionaries it is the mean over their reconstructions.

    Parameters
    ----------
    sae : SAE
        Trained in place, left in evaluation mode. Calibrated on the first batch if it has not been.
    data : tensor, NumPy array, memory map, ActivationStore, DataLoader, or iterable of tensors of shape (batch, d_in)
        Rows are shuffled into batches; what comes in batches is taken as it comes. With several processes: each one's
        own rows of every batch, as :func:`saelite.kernels.parallel.shard` gives them.
    lr : float
        Peak learning rate.
    batch_size, epochs, seed : int
        Size of a batch, passes, and the seed of their order, where `data` are rows.
    steps : int, optional
        Stop after this many batches; needed if `data` are batches without a length.
    warmup, decay : float in [0, 1]
        Share of the steps over which the rate rises linearly from zero, and falls linearly to zero.
    betas, weight_decay
        As in ``torch.optim.AdamW``; with no weight decay, the default, it is Adam.
    revival : AuxiliaryLoss, optional
        Brings dead latents back.
    watch : callable, optional
        Called with the SAE at every row of the history; the dictionary that it returns is added to the row. Such as
        :class:`saelite.metrics.WatchRecovery`.
    log_every : int
        Steps between two rows of the history.
    checkpoint : path, optional
        File in which to keep the state of an unfinished run. A second call with the same arguments goes on from it,
        bit for bit. Needs batches that can be asked for by number, as the sampler and the activation store give them.
    checkpoint_every : int
        Steps between two checkpoints.
    progress : bool
        Show a progress line.

    Returns
    -------
    pandas.DataFrame, one row every `log_every` steps: step, samples, lr, loss, explained_variance (of the training
    batch), l0, dead (share of latents that have not fired since the last row), cosine_to_start (median over the decoder
    directions of the others; with _p10 and _p90 the tenths at either end), coefficient (of the penalty, where there is
    one), seconds.

    Raises
    ------
    ValueError
        For a batch of the wrong width or with NaN or infinity in it, and for settings that cannot work.

    Examples
    --------
    >>> x = torch.randn(2000, 8) @ torch.randn(8, 16)
    >>> sae = SAE(16, 64, "TopK", l0=4)
    >>> history = train(sae, x, batch_size=100, epochs=3, progress=False)
    >>> int(history["step"].iloc[-1]), bool(history["explained_variance"].iloc[-1] > 0.5)
    (60, True)
    """
    arguments.between(0, 1, warmup=warmup, decay=decay)
    arguments.between(0, 1e9, lr=lr)
    if epochs != 1 and not isinstance(data, torch.Tensor | np.ndarray) and not is_rows(data):
        raise ValueError(f"epochs={epochs}: batches are passed over once; give the activations, or epochs=1.")
    batches = as_batches(data, batch_size, epochs, seed)
    arguments.whole(1, log_every=log_every, checkpoint_every=checkpoint_every)
    steps = _count(batches, steps)
    if checkpoint is not None and not hasattr(batches, "__getitem__"):
        raise ValueError(
            "A checkpoint can only be resumed if batches can be asked for by number (batches[i]); "
            "pass a sequence, such as FeatureWorld.batches or ActivationStore.batches, or leave `checkpoint` out."
        )
    _start_alike(sae)
    run = _Run(sae, revival, lr=lr, betas=betas, weight_decay=weight_decay)
    done = checkpoints.resume_training(checkpoint, run) if checkpoint is not None else 0
    if not parallel.agree(done):
        raise ValueError(f"Not all processes see the checkpoint {checkpoint}; keep it on a disk that they share.")
    started = time.perf_counter() - run.seconds
    sae.train()
    quiet = {} if progress and parallel.leads() else {"disable": True}  # unset, the variable TQDM_DISABLE has a say
    bar = tqdm(total=steps, initial=done, desc=describe(sae), ascii=True, mininterval=2, **quiet)
    step = done - 1
    for step, batch in enumerate(_from(batches, done, steps), start=done):
        batch = batch.to(sae.W_dec.device, sae.W_dec.dtype)
        with torch.autocast(sae.W_dec.device.type, enabled=False):  # run.dtype has noted what was asked for
            sample = parallel.whole(batch) if step == done else None
            if step == 0:
                check_finite(sample)
                if not sae.calibrated:
                    sae.scale(sample)  # a wrong width is refused before anything is measured on it
                    sae.calibrate(sample)
            for group in run.optimiser.param_groups:
                group["lr"] = lr * group["speed"] * _schedule(step, steps, warmup, decay)
            run.step(batch, step)
        if (step + 1) % log_every == 0 or step + 1 == steps:
            run.seconds = time.perf_counter() - started
            run.log(step + 1, watch)
            bar.set_postfix_str(f"EV {run.history[-1]['explained_variance']:.3f}, L0 {run.history[-1]['l0']:.1f}")
        bar.update()
        if checkpoint is not None and (step + 1) % checkpoint_every == 0 and step + 1 < steps and parallel.leads():
            run.seconds = time.perf_counter() - started
            checkpoints.save_training(checkpoint, run, step + 1)
    bar.close()
    sae.eval()
    if step + 1 < steps:
        raise ValueError(f"The batches ended after {step + 1} of the {steps} steps asked for.")
    return pd.DataFrame(run.history)


def _start_alike(sae):
    """Give all processes the SAE of the first, down to where its search for candidates starts."""
    if parallel.size() > 1:
        for tensor in sae.state_dict().values():
            tensor.copy_(parallel.first(tensor))
        if hasattr(sae.activation, "guess"):
            sae.activation.guess = parallel.first(sae.activation.guess)


class _Run:
    """What changes while an SAE trains: its optimiser, what has fired, and the history so far."""

    def __init__(self, sae, revival=None, **adam):
        self.sae, self.revival = sae, revival
        # the memory of W_enc, latent by latent as it lies there: Adam is three times faster on it than across
        self.encoder_rows = nn.Parameter(sae.W_enc.detach().T, requires_grad=sae.W_enc.requires_grad)
        self.optimiser = torch.optim.AdamW(self._groups(), fused=True, **adam)
        self.dtype = _autocast_dtype(sae.W_dec.device.type)
        self.samples = 0
        self.seconds = 0.0
        self.samples_since_fired = torch.zeros(sae.d_sae, dtype=torch.long, device=sae.W_dec.device)
        self.history = []

    def step(self, batch: torch.Tensor, number: int) -> None:
        sae = self.sae
        x = sae.scale(batch)
        x_hats, support, z, values = reconstruct(sae, x, self.dtype)
        errors = [x_hat - x for x_hat in x_hats]
        error = errors[-1].detach()
        loss = sum(e.square().sum(dim=1).mean() for e in errors) / len(errors)
        loss = loss + sae.activation.penalty(z, values, support)
        if self.revival is not None:
            loss = loss + self.revival.loss(sae, x, error, self.samples_since_fired)
        self.loss = parallel.mean(loss.detach())
        if not self.loss.isfinite():
            check_finite(parallel.gather(batch)[0])
            raise ValueError(
                f"The loss of {describe(sae)} became {self.loss.item()} after {self.samples:,} samples; "
                "lower the learning rate."
            )
        loss.backward()
        if sae.W_enc.requires_grad:
            self.encoder_rows.grad, sae.W_enc.grad = sae.W_enc.grad.T, None
        for group in self.optimiser.param_groups:
            parallel.average_gradients(group["params"])
        self.optimiser.step()
        self.optimiser.zero_grad()
        sae.baseline.constrain(sae, number)
        active = values.detach() != 0
        samples = len(x) * parallel.size()
        self.samples += samples
        self.samples_since_fired += samples
        self.samples_since_fired[support.latents[active]] = 0
        self.samples_since_fired = parallel.smallest(self.samples_since_fired)
        self._last = x, error, active

    def _groups(self):
        """Trainable parameters in two groups; those of the activation function may move faster than the weights do."""
        weights = [self.encoder_rows, self.sae.W_dec, self.sae.b_enc, self.sae.b_dec]
        groups = [{"params": weights, "speed": 1.0}]
        thresholds = list(self.sae.activation.parameters())
        groups += [{"params": thresholds, "speed": THRESHOLD_SPEED}] if thresholds else []
        return [group | {"params": [p for p in group["params"] if p.requires_grad]} for group in groups]

    def log(self, step: int, watch: Callable | None = None) -> None:
        x, error, active = self._last
        variance = parallel.total((x - parallel.mean(x.mean(dim=0))).square().sum())
        before = self.history[-1]["samples"] if self.history else 0
        alive = (self.samples_since_fired < self.samples - before).cpu()
        row = {
            "step": step,
            "samples": self.samples,
            "lr": self.optimiser.param_groups[0]["lr"],
            "loss": self.loss.item(),
            "explained_variance": 1 - (parallel.total(error.square().sum()) / variance).item(),
            "l0": parallel.total(active.sum()).item() / (len(x) * parallel.size()),
            "dead": 1 - alive.float().mean().item(),
        }
        cosines = self.sae.cosine_to_start()[alive].numpy()
        of_cosines = np.quantile(cosines, [0.1, 0.5, 0.9]).tolist() if len(cosines) else [np.nan] * 3
        row |= dict(zip(("cosine_to_start_p10", "cosine_to_start", "cosine_to_start_p90"), of_cosines, strict=True))
        if hasattr(self.sae.activation, "coefficient"):
            row["coefficient"] = self.sae.activation.coefficient.item()
        row |= watch(self.sae) if watch else {}
        self.history.append(row | {"seconds": round(self.seconds, 2)})


def _autocast_dtype(device):
    """bfloat16 under an autocast to it, else None: float16 has too small a range for the margin of its candidates."""
    asked_for = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return asked_for if asked_for == torch.bfloat16 else None


def describe(sae: SAE) -> str:
    """A name for people: activation function and baseline."""
    return f"{sae.activation.name}, {sae.baseline.name}"


def _schedule(step, steps, warmup, decay):
    """The share of the peak learning rate at `step`: up, level, down."""
    rise = (step + 1) / max(1, warmup * steps)
    fall = (steps - step) / max(1, decay * steps)
    return min(1.0, rise, fall)


def _count(batches, steps):
    try:
        available = len(batches)
    except TypeError:
        available = None
    if available is None and steps is None:
        raise ValueError("These batches have no length, so say how many to train on: train(..., steps=...).")
    if available is not None and steps is not None and steps > available:
        raise ValueError(f"There are {available} batches, fewer than the {steps} steps asked for.")
    steps = available if steps is None else steps
    if steps < 1:
        raise ValueError("There is not a single batch to train on.")
    return steps


def _from(batches, first, steps):
    if hasattr(batches, "__getitem__"):
        return (batches[i] for i in range(first, steps))
    return (batch for batch, _ in zip(batches, range(steps), strict=False))


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

    def __init__(self, dead_after: int = 100_000, coefficient: float = 1 / 32, k: int | None = None) -> None:
        self.dead_after, self.coefficient, self.k = dead_after, coefficient, k

    def settings(self) -> dict[str, Any]:
        return {"dead_after": self.dead_after, "coefficient": self.coefficient, "k": self.k}

    def loss(
        self, sae: SAE, x: torch.Tensor, error: torch.Tensor, samples_since_fired: torch.Tensor
    ) -> torch.Tensor:
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

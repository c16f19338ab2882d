"""The sparse training step against the dense formulas and autograd, in float64, for every architecture and baseline."""

import itertools

import pytest
import torch
from grid import ACTIVATIONS, BASELINES

from saelite.kernels import sparse
from saelite.sae import SAE
from saelite.training import AuxiliaryLoss, reconstruct


def dense_step(sae, x, support):
    """The textbook step: dense pre-activations, a mask for what was selected, dense decode."""
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    chosen = torch.zeros(support.shape, dtype=torch.bool)
    chosen[support.rows, support.latents] = True
    activation = sae.activation
    if activation.name == "JumpReLU":
        theta, bandwidth = activation.log_threshold.exp(), activation.bandwidth
        on = (pre > theta).double()
        window = ((pre - theta).abs() < bandwidth / 2).double()
        # straight through: the value of the step, the gradient of the window
        smooth = window * (pre.detach() - theta) / bandwidth
        step = on + smooth - smooth.detach()
        code = pre * on - theta.detach() * window * (theta - theta.detach()) / bandwidth
        penalty = activation.coefficient * step.sum() / len(x)
    elif activation.name == "ReLU":
        code = pre.relu() * chosen
        penalty = activation.coefficient * code.sum() / len(x)
    else:
        z = pre[support.rows, support.latents]
        values = activation.code(z, support)
        code = torch.zeros_like(pre).index_put((support.rows, support.latents), values)
        penalty = activation.penalty(z, values, support)
    x_hats = [code[:, :end] @ sae.W_dec[:end] + sae.b_dec for _, end in activation.groups]
    return sum((x_hat - x).square().sum(dim=1).mean() for x_hat in x_hats) / len(x_hats) + penalty, x_hats[-1]


@pytest.mark.parametrize("dense_above", [0.0, 1.0], ids=["dense kernels", "sparse kernels"])
@pytest.mark.parametrize("activation,baseline", list(itertools.product(ACTIVATIONS, BASELINES)))
def test_gradients_equal_dense_autograd(activation, baseline, dense_above, monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_ABOVE", dense_above)
    torch.manual_seed(0)
    sae = SAE(12, 40, ACTIVATIONS[activation](), BASELINES[baseline]()).double()
    sae.calibrate(torch.randn(64, 12, dtype=torch.float64) + 0.3)
    sae.b_enc.data += 0.05 * torch.randn(40)  # away from the symmetric start
    if hasattr(sae.activation, "bandwidth"):
        sae.activation.bandwidth.fill_(0.5)
    sae.eval()  # no steering between the two passes
    x = sae.scale(torch.randn(32, 12, dtype=torch.float64))

    x_hats, support, z, values = reconstruct(sae, x)
    loss = sum((x_hat - x).square().sum(dim=1).mean() for x_hat in x_hats) / len(x_hats)
    loss = loss + sae.activation.penalty(z, values, support)
    trainable = {name: p for name, p in sae.named_parameters() if p.requires_grad}
    ours = torch.autograd.grad(loss, trainable.values(), allow_unused=True)

    expected_loss, expected_x_hat = dense_step(sae, x, support)
    expected = torch.autograd.grad(expected_loss, trainable.values(), allow_unused=True)
    torch.testing.assert_close(x_hats[-1], expected_x_hat)
    torch.testing.assert_close(loss, expected_loss)
    for name, a, b in zip(trainable, ours, expected, strict=True):
        assert b is not None and b.abs().max() > 0, f"{name} gets no gradient, so nothing is compared"
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")
    assert ("W_dec" not in trainable) == (baseline == "Frozen Decoder")
    assert ("W_enc" not in trainable) == (baseline == "Frozen Encoder")


def test_auxiliary_loss_equals_its_formula():
    """alpha ||e - relu(top-k of the dead) W_dec||^2 with e = x - x_hat; b_dec is in x_hat and nowhere else."""
    torch.manual_seed(0)
    sae = SAE(8, 30, ACTIVATIONS["TopK"]()).double()
    sae.b_dec.data += 0.5
    x = torch.randn(16, 8, dtype=torch.float64)
    x_hat = reconstruct(sae, x)[0][-1]
    since = torch.zeros(30, dtype=torch.long)
    since[10:] = 1000
    ours = AuxiliaryLoss(dead_after=1000, k=3).loss(sae, x, (x_hat - x).detach(), since)

    dense = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    top = dense[:, 10:].topk(3, dim=1)
    code = torch.zeros_like(dense).scatter(1, top.indices + 10, top.values.relu())
    expected = ((x - x_hat.detach()) - code @ sae.W_dec).square().sum(dim=1).mean() / 32
    torch.testing.assert_close(ours, expected)
    for parameter in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec):
        a, b = (torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (ours, expected))
        torch.testing.assert_close(a, b)


def test_auxiliary_loss_is_zero_when_nothing_is_dead():
    sae = SAE(8, 30, ACTIVATIONS["TopK"]())
    x = torch.randn(4, 8)
    loss = AuxiliaryLoss(dead_after=10).loss(sae, x, x, torch.zeros(30, dtype=torch.long))
    assert loss == 0

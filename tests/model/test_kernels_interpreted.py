"""Tests of the network's Triton kernels against torch, in Triton's interpreter."""

import pytest
from needs import INTERPRETED

pytest.importorskip("triton")
if not INTERPRETED:
    pytest.skip("runs in Triton's interpreter, by test_interpreted.py", allow_module_level=True)

import dataclasses

import torch

from being.config import ModelConfig
from being.model.gaussians import CanonicalGaussians
from being.model.gaussiantalker import GaussianTalker, Offsets
from being.model.kernels import fused
from being.model.kernels.attend import add_norm, attend
from being.model.kernels.mlp import mlp


def close(mine, true):
    """Assert relative differences under 2e-6 for each tensor."""
    for a, b in zip(mine, true, strict=True):
        assert a.shape == b.shape and (a - b).norm() < 2e-6 * b.norm(), (
            a.shape,
            (a - b).norm() / b.norm(),
        )


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


@pytest.mark.parametrize("relu_in", [False, True])
def test_two_layers(relu_in):
    torch.manual_seed(0)
    inputs = leaf(2, 75, 32), leaf(32, 64), leaf(64), leaf(64, 16), leaf(16)
    x, w1, b1, w2, b2 = inputs
    mine = mlp(*inputs, relu_in=relu_in)
    true = ((x.relu() if relu_in else x) @ w1 + b1).relu() @ w2 + b2
    weight = torch.randn_like(true)
    close(
        [mine, *torch.autograd.grad(mine, inputs, weight)],
        [true, *torch.autograd.grad(true, inputs, weight)],
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tokens", [4, 3])
def test_attention_over_a_few_tokens(shared, tokens):
    torch.manual_seed(0)
    inputs = (
        leaf(1 if shared else 3, 70, 32),
        leaf(3, 32, 2, tokens),
        leaf(3, 2, tokens),
        leaf(3, 2, tokens, 32),
    )
    x, a, c, u = inputs
    mine = attend(*inputs)
    share = (torch.einsum("bnd,bdhs->bnhs", x.expand(3, -1, -1), a) + c[:, None]).softmax(-1)
    true = torch.einsum("bnhs,bhsd->bnd", share, u)
    weight = torch.randn_like(true)
    close(
        [mine, *torch.autograd.grad(mine, inputs, weight)],
        [true, *torch.autograd.grad(true, inputs, weight)],
    )


@pytest.mark.parametrize("frames", [1, 3])
def test_add_and_norm(frames):
    torch.manual_seed(0)
    inputs = leaf(frames, 70, 32), leaf(3, 70, 32), leaf(32), leaf(32)
    x, a, gamma, beta = inputs
    mine = add_norm(*inputs, eps=1e-12)
    true = torch.nn.functional.layer_norm(x + a, (32,), gamma, beta, 1e-12)
    weight = torch.randn_like(true)
    close(
        [mine, *torch.autograd.grad(mine, inputs, weight)],
        [true, *torch.autograd.grad(true, inputs, weight)],
    )


def test_dropped_values_are_the_same_in_both_directions():
    """The gradient through dropout is that of the function itself, by finite differences with one
    seed.
    """
    torch.manual_seed(0)
    x, w1, b1, w2, b2 = leaf(1, 20, 16), leaf(16, 16), leaf(16), leaf(16, 16), leaf(16)
    gamma, beta = torch.ones(16), torch.zeros(16)

    def value(x):
        hidden = mlp(x, w1, b1, w2, b2, drop=0.4, seed=torch.tensor(5))
        return (
            add_norm(x, hidden, gamma, beta, eps=1e-5, drop=0.4, seed=torch.tensor(6)) * weight
        ).sum()

    weight, direction, step = torch.randn(1, 20, 16), torch.randn(1, 20, 16), 1e-3
    (gradient,) = torch.autograd.grad(value(x), (x,))
    with torch.no_grad():
        true = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert abs(float((gradient * direction).sum() - true)) < 0.01 * abs(float(true))


def test_the_share_that_is_dropped():
    x = torch.ones(1, 400, 16)
    identity, zero = torch.eye(16), torch.zeros(16)
    y = mlp(x, identity, zero, identity, zero, drop=0.25, seed=torch.tensor(1))
    assert (
        torch.allclose(y[y > 0], torch.tensor(1 / 0.75))
        and abs(float((y == 0).float().mean()) - 0.25) < 0.02
    )
    assert not torch.equal(
        y, mlp(x, identity, zero, identity, zero, drop=0.25, seed=torch.tensor(2))
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_the_whole_network(layers, monkeypatch):
    torch.manual_seed(0)
    network = GaussianTalker(
        ModelConfig(plane_resolution=8, sh_degree=1, n_layer=layers, net_width=32), 5
    ).eval()
    queries, tokens = leaf(1, 90, 64), leaf(2, 4, 64)
    parameters = [
        p for name, p in network.named_parameters() if "_deform" in name or "transformer" in name
    ]

    def run():
        out = network.deform(queries, tokens)
        parts = [out.means, out.log_scales, out.quaternions, out.opacity_logits, out.sh]
        generator = torch.Generator().manual_seed(1)
        loss = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in parts)
        return [*parts, *torch.autograd.grad(loss, [queries, tokens, *parameters])]

    mine = run()
    monkeypatch.setattr(fused, "usable", lambda *_: False)
    true = run()
    for a, b in zip(mine, true, strict=True):
        assert (a - b).norm() <= 2e-5 * b.norm() + 2e-5, (a.shape, (a - b).norm(), b.norm())


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_activation_of_a_batch(degree):
    torch.manual_seed(0)
    gaussians = CanonicalGaussians.from_points(torch.rand(70, 3), torch.rand(70, 3), degree)
    with torch.no_grad():
        gaussians.quaternions += 0.3 * torch.randn(70, 4)
    numbers = 3 * (degree + 1) ** 2
    packed = (0.1 * torch.randn(3, 70, 16 if degree == 0 else 64)).requires_grad_()
    means, scales, quaternions, logits, sh = packed[..., : 11 + numbers].split(
        (3, 3, 4, 1, numbers), -1
    )
    offsets = Offsets(means, scales, quaternions, logits, sh.unflatten(-1, (-1, 3)))
    results = []
    for given in (dataclasses.replace(offsets, packed=packed), offsets):
        out = gaussians.activate(given)
        values = [out.means, out.quaternions, out.scales, out.opacities, out.sh]
        generator = torch.Generator().manual_seed(1)
        up = [torch.randn(value.shape, generator=generator) for value in values]
        wanted = [packed, *(p for p in gaussians.parameters() if p.numel())]
        results.append([*values, *torch.autograd.grad(values, wanted, up)])
    close(*results)

"""Structural similarity by the Triton kernel equals the plain one, value and gradient (run by Triton's interpreter)."""

import pytest
from needs import INTERPRETED

pytest.importorskip("triton")
if not INTERPRETED:
    pytest.skip("runs in Triton's interpreter, by test_interpreted.py", allow_module_level=True)

import torch

from being.train.losses import ssim_map
from being.train.triton_ssim import ssim


def test_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, 45, 70, generator=generator).requires_grad_()
    b = (a.detach() + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    mine, true = ssim(a, b), ssim_map(a, b).mean()
    assert torch.isclose(mine, true, atol=1e-6)
    (mine,), (true,) = torch.autograd.grad(3 * mine, a), torch.autograd.grad(3 * true, a)
    assert (mine - true).norm() < 1e-5 * true.norm()

"""The losses by Triton kernels equal those by PyTorch, in values and gradients.

Triton's interpreter runs the kernels.
"""

import pytest
from needs import INTERPRETED

pytest.importorskip("triton")
if not INTERPRETED:
    pytest.skip("runs in Triton's interpreter, by test_interpreted.py", allow_module_level=True)

import torch

from being.config import LossConfig
from being.data.clip import Clip
from being.metrics.image_quality import ssim_map
from being.metrics.ssim_kernel import ssim
from being.model.talking_head import Rendering
from being.splat import RenderOutput
from being.train.kernels.image_loss import mean_difference
from being.train.kernels.max_pool import max_pool_2x2
from being.train.objective import Objective, _FusedComparison


def test_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, 25, 37, generator=generator).requires_grad_()
    b = (a.detach() + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    mine, true = ssim(a, b), ssim_map(a, b).mean()
    assert torch.isclose(mine, true, atol=1e-6)
    (mine,), (true,) = torch.autograd.grad(3 * mine, a), torch.autograd.grad(3 * true, a)
    assert (mine - true).norm() < 1e-5 * true.norm()


def _clip(size: int) -> Clip:
    """Three frames of noise, with boxes of which one is empty and one reaches over the window."""
    generator = torch.Generator().manual_seed(0)
    frames, plates = (
        torch.randint(256, (3, 3, size, size), generator=generator, dtype=torch.uint8)
        for _ in range(2)
    )
    head = torch.randint(256, (3, 1, size, size), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[10, 20, 12, 30], [0, 0, 0, 0], [30, 90, 20, 70]])
    blank = torch.zeros(3, 1)
    return Clip(
        frames,
        plates,
        head,
        blank,
        blank,
        blank,
        blank,
        blank,
        boxes,
        boxes.roll(1, 0),
        boxes,
        boxes,
        (slice(4, 40), slice(6, 44)),
        1.0,
        size,
    )


def test_fused_comparison_equals_the_plain_terms():
    """All terms of the pictures, values and gradients, with batches that repeat a frame."""
    clip, index = _clip(48), torch.tensor([2, 0, 1, 2])
    plain = Objective(
        LossConfig(feature=0.0, plane_tv=0.0), clip, None, reference=False, low_precision=False
    )
    fused = Objective(plain.weights, clip, None, reference=False, low_precision=False)
    fused._fused = _FusedComparison(clip)
    generator = torch.Generator().manual_seed(1)
    results = []
    for objective in (plain, fused):
        generator.manual_seed(1)
        rgb = torch.rand(4, 3, 48, 48, generator=generator).requires_grad_()
        alpha = torch.rand(4, 1, 48, 48, generator=generator).requires_grad_()
        output = RenderOutput(rgb, alpha, alpha, torch.zeros(4, 1))
        terms = objective.terms(Rendering(output, None, None), index)
        total = sum(weight * term for weight, term in enumerate(terms.values(), 1))
        results.append([*terms.values(), *torch.autograd.grad(total, (rgb, alpha))])
    for mine, true in zip(results[1], results[0], strict=True):
        assert (mine - true).norm() <= 2e-5 * true.norm(), (mine, true)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_mean_difference(layout):
    a, b = (torch.randn(2, 5, 9, 7).to(memory_format=layout) for _ in range(2))
    a.requires_grad_()
    mine, true = mean_difference(a, b), (a - b).abs().mean()
    assert torch.isclose(mine, true)
    (mine,), (true,) = torch.autograd.grad(2 * mine, a), torch.autograd.grad(2 * true, a)
    assert torch.allclose(mine, true)


@pytest.mark.parametrize("shape", [(2, 5, 8, 6), (3, 16, 4, 12)])
def test_halved_maps(shape):
    x = torch.randint(5, shape).float().requires_grad_()  # with equal neighbours
    mine, true = max_pool_2x2(x), torch.nn.functional.max_pool2d(x, 2)
    assert torch.equal(mine, true)
    up = torch.randn_like(true)
    assert torch.equal(*torch.autograd.grad(mine, x, up), *torch.autograd.grad(true, x, up))

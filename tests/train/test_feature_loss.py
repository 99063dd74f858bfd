"""The VGG16 feature loss: its value, its gradient, bfloat16, and the squares it compares."""

import pytest
import torch
from needs import load_or_skip

from being.train.feature_loss import SIDE, FeatureLoss, crop_squares, random_corners


def test_its_gradient_moves_an_image_to_its_target():
    loss = load_or_skip(lambda: FeatureLoss(torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, 64, 64, generator=generator)
    picture = (target + 0.1 * torch.randn(target.shape, generator=generator)).requires_grad_()
    value = loss(picture, target)
    (gradient,) = torch.autograd.grad(value, picture)
    better = (picture - 0.05 * gradient / gradient.abs().mean()).detach()
    assert loss(target, target) == 0 and loss(better, target) < value
    low = FeatureLoss(torch.device("cpu"), low_precision=True)(picture, target).detach()
    assert low.dtype == torch.float32 and abs(float(low / value.detach()) - 1) < 0.02


WINDOWS = [
    ((slice(40, 470), slice(90, 400)), 512),
    ((slice(200, 260), slice(0, 30)), 512),
    ((slice(0, 90), slice(10, 90)), 96),
]


@pytest.mark.parametrize(("window", "size"), WINDOWS)
def test_squares_cover_the_window_and_pass_gradients(window, size):
    torch.manual_seed(0)
    picture = torch.rand(4, 2, size, size, requires_grad=True)
    corners, side = random_corners(window, 500, size, picture.device), min(SIDE, size)
    assert corners.min() >= 0 and corners.max() <= size - side
    seen = torch.zeros(size, size)
    for top, left in corners.tolist():
        seen[top : top + side, left : left + side] += 1
    assert (seen[window] > 0).all()  # nothing is left out
    cut = crop_squares(picture, corners[:4])
    top, left = corners[3].tolist()
    assert torch.equal(cut[3], picture[3, :, top : top + side, left : left + side])
    (gradient,) = torch.autograd.grad(cut.sum(), picture)
    assert (
        gradient[3, 0].sum() == side * side
        and gradient[3, 0, top : top + side, left : left + side].min() == 1
    )


def test_squares_keep_detail_that_shrunk_images_lose():
    """A pixel grid is lost in a shrunk image, and is a difference in a square cut from it."""
    shrunk = load_or_skip(lambda: FeatureLoss(torch.device("cpu")))
    grid = (torch.arange(512)[:, None] + torch.arange(512)) % 2 * 0.1
    flat = torch.full((1, 3, 512, 512), 0.5)
    cut = FeatureLoss(torch.device("cpu"), window=(slice(100, 400), slice(100, 400)))
    with torch.no_grad():
        assert cut(flat + grid - 0.05, flat) > 10 * shrunk(flat + grid - 0.05, flat)

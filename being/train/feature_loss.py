"""The VGG16 feature loss: L1 difference of four ReLU layers of an ImageNet network.

The layers are relu1_2, 2_2, 3_3 and 4_3; images are normalised with ImageNet statistics. It is not
LPIPS. The features are those of 224 px squares, cut from the images without resizing. The reference
shrinks whole images to 224 px instead, and then finer detail (pores, strands of hair, lashes) has
no gradient.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch, is_cached
from being.console import Progress
from being.reading.tensors import load_tensors

WEIGHTS = "lpips_vgg16"  # the asset
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224  # px
# px by which a square may reach over the window, so that its border is trained as often as its
# middle
OVERHANG = 56
BLOCKS = (2, 2, 3, 3)  # convolutions of each block; a feature map is taken at the end of each


class FeatureLoss:
    """Mean absolute difference of VGG16 features, summed over four layers."""

    def __init__(
        self,
        device: torch.device,
        low_precision: bool = False,
        window: tuple[slice, slice] | None = None,
    ):
        """low_precision: compute in bfloat16. window: rows and columns of the images around which
        one random square per image is cut, with torch's generator of the device; None compares
        whole images, resized to 224 px. Raises EnvironmentFault when the weights cannot be
        fetched."""
        cached = is_cached(WEIGHTS)
        with nullcontext() if cached else Progress("download VGG16 weights"):
            weights = load_tensors(fetch(WEIGHTS))
        first = 0 if "conv0.weight" in weights else 1
        dtype = torch.bfloat16 if low_precision else torch.float32
        self.layers = [
            (
                weights[f"conv{k}.weight"].to(device, dtype, memory_format=torch.channels_last),
                weights[f"conv{k}.bias"].to(device, dtype),
            )
            for k in range(first, first + sum(BLOCKS))
        ]
        self.mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
        self.window = window

    def features(self, image: Tensor) -> list[Tensor]:
        """Four feature maps of images [B, 3, S, S] in [0, 1]."""
        x = (image - self.mean) / self.std
        x = x.to(self.layers[0][0].dtype, memory_format=torch.channels_last)
        maps = []
        layer = 0
        for block, count in enumerate(BLOCKS):
            x = max_pool_2x2(x) if block else x
            for _ in range(count):
                x = convolution_relu(x, *self.layers[layer])
                layer += 1
            maps.append(x)
        return maps

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of images [B, 3, S, S] in [0, 1] against their targets."""
        with torch.no_grad():
            if self.window is None:
                target = shrink_to_side(target)
            else:
                corners = random_corners(self.window, len(image), image.shape[2], image.device)
                target = crop_squares(target, corners)
            target_maps = self.features(target)
        image = shrink_to_side(image) if self.window is None else crop_squares(image, corners)
        pairs = zip(self.features(image), target_maps, strict=True)
        return torch.stack([mean_absolute_difference(a, b) for a, b in pairs]).sum()


def shrink_to_side(image: Tensor) -> Tensor:
    """Images [B, 3, S, S] resized to 224 x 224 px."""
    return F.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def random_corners(
    window: tuple[slice, slice], count: int, size: int, device: torch.device
) -> Tensor:
    """Top and left, int64 [count, 2], of random squares in the window and a little over its border.

    window: rows and columns of images of `size` px.
    """
    corners = []
    side = min(SIDE, size)
    for part in window:
        low, high = max(part.start - OVERHANG, 0), min(part.stop + OVERHANG, size) - side
        if high < low:  # the window is smaller than a square: centre the square on it
            low = high = min(max((part.start + part.stop - side) // 2, 0), size - side)
        corners.append(torch.randint(low, high + 1, (count,), device=device))
    return torch.stack(corners, 1)


def crop_squares(image: Tensor, corners: Tensor) -> Tensor:
    """A square of 224 px (at most the image's side) of each image [B, 3, S, S].

    corners: top and left, int64 [B, 2].
    """
    count, channels, size, _ = image.shape
    side = min(SIDE, size)
    rows, columns = (corners[:, k, None] + torch.arange(side, device=image.device) for k in (0, 1))
    strip = image.gather(2, rows[:, None, :, None].expand(count, channels, side, size))
    return strip.gather(3, columns[:, None, None, :].expand(count, channels, side, side))


def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a 3 x 3 convolution of maps [B, C, H, W]; the weights get no gradient."""
    if x.is_cuda:
        return _ConvolutionRelu.apply(x, weight, bias)
    return F.relu(F.conv2d(x, weight, bias, padding=1))


class _ConvolutionRelu(torch.autograd.Function):
    """Convolution, bias and ReLU in one cuDNN kernel; autograd would use one pass for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(dy, y, 0)
        dx = torch.ops.aten.convolution_backward(
            passed, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, False, False)
        )[0]
        return dx, None, None


def max_pool_2x2(x: Tensor) -> Tensor:
    """Maximum of every 2 x 2 pixels, [B, C, H / 2, W / 2]."""
    if x.is_cuda and find_spec("triton") is not None:
        from being.train.kernels.max_pool import max_pool_2x2 as fused

        return fused(x)
    return F.max_pool2d(x, 2)


def mean_absolute_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of two maps, a float32 scalar. On a GPU only `a` gets a gradient."""
    if a.is_cuda and find_spec("triton") is not None:
        from being.train.kernels.image_loss import mean_difference

        return mean_difference(a, b)
    return F.l1_loss(a, b).float()

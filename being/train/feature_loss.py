"""VGG16 feature loss of both stages (relu1_2, 2_2, 3_3, 4_3 of 224 px squares, ImageNet statistics;
L1; not LPIPS).

Squares are cut from the pictures as they are. The reference shrinks whole pictures to 224 px, and
what is finer than that (pores, strands, lashes) has no gradient there.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch
from being.files import load_tensors

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224  # px
# px by which a square may reach over the window, so that its border is seen as often as its middle
OVERHANG = 56
BLOCKS = (2, 2, 3, 3)  # convolutions a block; a feature is taken at the end of each


class FeatureLoss:
    """Mean absolute difference of VGG16 features, summed over the four layers; in bfloat16 with
    `low_precision`.
    """

    def __init__(
        self,
        device: torch.device,
        low_precision: bool = False,
        window: tuple[slice, slice] | None = None,
    ):
        """window: rows and columns of the pictures round which one square a picture is cut, anew
        each time, by torch's generator of the device; None compares whole pictures brought to 224
        px."""
        weights = load_tensors(fetch("lpips_vgg16"))
        first = 0 if "conv0.weight" in weights else 1
        kind = torch.bfloat16 if low_precision else torch.float32
        self.layers = [
            (
                weights[f"conv{k}.weight"].to(device, kind, memory_format=torch.channels_last),
                weights[f"conv{k}.bias"].to(device, kind),
            )
            for k in range(first, first + sum(BLOCKS))
        ]
        self.mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
        self.window = window

    def features(self, picture: Tensor) -> list[Tensor]:
        """Four feature maps of pictures [B, 3, S, S] in [0, 1]."""
        x, maps, layer = (picture - self.mean) / self.std, [], 0
        x = x.to(self.layers[0][0].dtype, memory_format=torch.channels_last)
        for block, count in enumerate(BLOCKS):
            x = halved(x) if block else x
            for _ in range(count):
                x = convolved(x, *self.layers[layer])
                layer += 1
            maps.append(x)
        return maps

    def __call__(self, picture: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of pictures [B, 3, S, S] in [0, 1]."""
        with torch.no_grad():
            if self.window is not None:
                corners = random_corners(
                    self.window, len(picture), picture.shape[2], picture.device
                )
            wanted = self.features(
                shrunk(target) if self.window is None else squares(target, corners)
            )
        picture = shrunk(picture) if self.window is None else squares(picture, corners)
        terms = [difference(a, b) for a, b in zip(self.features(picture), wanted, strict=True)]
        return torch.stack(terms).sum()


def shrunk(picture: Tensor) -> Tensor:
    """Pictures [B, 3, S, S] at 224 x 224 px."""
    return F.interpolate(
        picture, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
    )


def random_corners(
    window: tuple[slice, slice], count: int, size: int, device: torch.device
) -> Tensor:
    """Top and left, int64 [count, 2], of squares in and a little over the window of pictures of
    `size` px.
    """
    ends, side = [], min(SIDE, size)
    for part in window:
        low, high = max(part.start - OVERHANG, 0), min(part.stop + OVERHANG, size) - side
        if high < low:  # the window is smaller than a square: round its middle
            low = high = min(max((part.start + part.stop - side) // 2, 0), size - side)
        ends.append(torch.randint(low, high + 1, (count,), device=device))
    return torch.stack(ends, 1)


def squares(picture: Tensor, corners: Tensor) -> Tensor:
    """A square of 224 px (at most the picture's side) of each picture [B, 3, S, S], its corner at
    `corners` [B, 2].
    """
    count, channels, size, _ = picture.shape
    side = min(SIDE, size)
    rows, columns = (
        corners[:, k, None] + torch.arange(side, device=picture.device) for k in (0, 1)
    )
    strip = picture.gather(2, rows[:, None, :, None].expand(count, channels, side, size))
    return strip.gather(3, columns[:, None, None, :].expand(count, channels, side, side))


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a 3 x 3 convolution [B, C, H, W]; weights take no gradient."""
    return (
        _ConvolutionRelu.apply(x, weight, bias)
        if x.is_cuda
        else F.relu(F.conv2d(x, weight, bias, padding=1))
    )


class _ConvolutionRelu(torch.autograd.Function):
    """In one kernel of cuDNN, where autograd's own would add the bias and clamp in passes of their
    own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(up, y, 0)
        dx = torch.ops.aten.convolution_backward(
            passed, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, False, False)
        )[0]
        return dx, None, None


def halved(x: Tensor) -> Tensor:
    """Maximum of every 2 x 2 pixels, [B, C, H / 2, W / 2]."""
    if x.is_cuda and find_spec("triton") is not None:
        from being.train.kernels.max_pool import halved as fused

        return fused(x)
    return F.max_pool2d(x, 2)


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of two maps, a float32 scalar. On a GPU its gradient reaches `a`
    only.
    """
    if a.is_cuda and find_spec("triton") is not None:
        from being.train.kernels.picture_loss import mean_difference

        return mean_difference(a, b)
    return F.l1_loss(a, b).float()

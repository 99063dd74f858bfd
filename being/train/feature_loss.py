"""VGG16 feature loss of both stages (relu1_2, 2_2, 3_3, 4_3 at 224 px, ImageNet statistics; L1; not LPIPS)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch
from being.files import load_tensors

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224
BLOCKS = (2, 2, 3, 3)  # convolutions a block; a feature is taken at the end of each


class FeatureLoss:
    """Mean absolute difference of VGG16 features, summed over the four layers; in bfloat16 with `low_precision`."""

    def __init__(self, device: torch.device, low_precision: bool = False):
        weights = load_tensors(fetch("lpips_vgg16"))
        first = 0 if "conv0.weight" in weights else 1
        kind = torch.bfloat16 if low_precision else torch.float32
        self.layers = [(weights[f"conv{k}.weight"].to(device, kind, memory_format=torch.channels_last),
                        weights[f"conv{k}.bias"].to(device, kind)) for k in range(first, first + sum(BLOCKS))]
        self.mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=device).view(1, 3, 1, 1)

    def features(self, picture: Tensor) -> list[Tensor]:
        """Four feature maps of pictures [B, 3, S, S] in [0, 1]."""
        x = F.interpolate(picture, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        x, maps, layer = (x - self.mean) / self.std, [], 0
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
            wanted = self.features(target)
        terms = [difference(a, b) for a, b in zip(self.features(picture), wanted, strict=True)]
        return torch.stack(terms).sum()


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a 3 x 3 convolution [B, C, H, W]; weights take no gradient."""
    return _ConvolutionRelu.apply(x, weight, bias) if x.is_cuda else F.relu(F.conv2d(x, weight, bias, padding=1))


class _ConvolutionRelu(torch.autograd.Function):
    """In one kernel of cuDNN, where autograd's own would add the bias and clamp in passes of their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(up, y, 0)
        dx = torch.ops.aten.convolution_backward(passed, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1,
                                                 (True, False, False))[0]
        return dx, None, None


def halved(x: Tensor) -> Tensor:
    """Maximum of every 2 x 2 pixels, [B, C, H / 2, W / 2]."""
    if x.is_cuda and find_spec("triton") is not None:
        from being.train.triton_pool import halved as fused

        return fused(x)
    return F.max_pool2d(x, 2)


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of two maps, a float32 scalar. On a GPU its gradient reaches `a` only."""
    if a.is_cuda and find_spec("triton") is not None:
        from being.train.triton_compare import mean_difference

        return mean_difference(a, b)
    return F.l1_loss(a, b).float()

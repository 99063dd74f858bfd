"""LPIPS: the learned perceptual distance of two images (AlexNet, version 0.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch
from being.reading.tensors import load_tensors

# Mean and deviation of images in [-1, 1]: ImageNet's statistics.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# Stride and padding of the five convolutions of AlexNet.
CONVOLUTIONS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
POOL_BEFORE = (1, 2)  # 3 x 3 max-pooling with stride 2 comes before these convolutions
MIN_SIDE = 64  # px: smaller images are enlarged to this first; AlexNet needs at least 31
EPSILON = 1e-10


class Lpips:
    """Distance of image pairs: 0 for equal images, about 0.7 for unrelated ones."""

    def __init__(self, device: torch.device | str = "cpu"):
        """Raises EnvironmentFault when the weights are neither cached nor can be downloaded."""
        self.weights = {
            name: tensor.to(device) for name, tensor in load_tensors(fetch("lpips_alex")).items()
        }
        self.shift = torch.tensor(SHIFT, device=device).view(1, 3, 1, 1)
        self.scale = torch.tensor(SCALE, device=device).view(1, 3, 1, 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """Five feature maps [B, C, h, w] of unit length along C; images: float32 [B, 3, H, W] in
        [0, 1].
        """
        assert images.ndim == 4 and images.shape[1] == 3, images.shape
        if min(images.shape[2:]) < MIN_SIDE:
            factor = MIN_SIDE / min(images.shape[2:])
            size = [max(MIN_SIDE, round(n * factor)) for n in images.shape[2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        x = (images * 2 - 1 - self.shift) / self.scale
        maps = []
        for k, (stride, padding) in enumerate(CONVOLUTIONS):
            if k in POOL_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            weight, bias = self.weights[f"conv{k}.weight"], self.weights[f"conv{k}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON))
        return maps

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance float32 [B] of images [B, 3, H, W] in [0, 1].

        Squared differences of the unit features are weighted by the learned heads, averaged over
        the image, and summed over the five layers (Zhang et al. 2018, CVPR).
        """
        assert a.shape == b.shape, (a.shape, b.shape)
        layers = []
        for k, (x, y) in enumerate(zip(self.features(a), self.features(b), strict=True)):
            weighted = torch.einsum(
                "bchw,c->bhw", (x - y).square(), self.weights[f"head{k}.weight"]
            )
            layers.append(weighted.mean((1, 2)))
        return torch.stack(layers).sum(0)

"""LPIPS, the learned perceptual distance of two pictures (AlexNet, version 0.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch
from being.files import load_tensors

SHIFT, SCALE = (
    (-0.030, -0.088, -0.188),
    (0.458, 0.448, 0.450),
)  # of pictures in [-1, 1]; ImageNet's statistics
CONVOLUTIONS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))  # stride, padding of AlexNet's five
POOL_BEFORE = (1, 2)  # 3 x 3 max-pooling, stride 2, stands before these
LEAST_SIDE = 64  # px: smaller pictures (below AlexNet's reach at 31) are enlarged to this first
EPSILON = 1e-10


class Lpips:
    """Distances of picture pairs: 0 for equal ones, about 0.7 for unrelated ones."""

    def __init__(self, device: torch.device | str = "cpu"):
        """Raises EnvironmentFault when the weights are neither cached nor to be had."""
        self.weights = {
            name: tensor.to(device) for name, tensor in load_tensors(fetch("lpips_alex")).items()
        }
        self.shift = torch.tensor(SHIFT, device=device).view(1, 3, 1, 1)
        self.scale = torch.tensor(SCALE, device=device).view(1, 3, 1, 1)

    def features(self, picture: Tensor) -> list[Tensor]:
        """Five feature maps [B, C, h, w] of unit length along C; pictures float32 [B, 3, H, W] in
        [0, 1].
        """
        assert picture.ndim == 4 and picture.shape[1] == 3, picture.shape
        if min(picture.shape[2:]) < LEAST_SIDE:
            factor = LEAST_SIDE / min(picture.shape[2:])
            side = [max(LEAST_SIDE, round(n * factor)) for n in picture.shape[2:]]
            picture = F.interpolate(picture, side, mode="bilinear", align_corners=False)
        x, maps = (picture * 2 - 1 - self.shift) / self.scale, []
        for k, (stride, padding) in enumerate(CONVOLUTIONS):
            x = F.max_pool2d(x, 3, 2) if k in POOL_BEFORE else x
            x = F.relu(
                F.conv2d(
                    x,
                    self.weights[f"conv{k}.weight"],
                    self.weights[f"conv{k}.bias"],
                    stride,
                    padding,
                )
            )
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON))
        return maps

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance float32 [B] of pictures [B, 3, H, W] in [0, 1]: squared differences of the unit
        features, weighted by the learned heads, averaged over the picture, summed over five layers
        (Zhang et al. 2018, CVPR)."""
        assert a.shape == b.shape, (a.shape, b.shape)
        pairs = zip(self.features(a), self.features(b), strict=True)
        layers = [
            torch.einsum("bchw,c->bhw", (x - y).square(), self.weights[f"head{k}.weight"]).mean(
                (1, 2)
            )
            for k, (x, y) in enumerate(pairs)
        ]
        return torch.stack(layers).sum(0)

"""Loss terms of both stages. Pictures are float32 [B, 3, S, S] in [0, 1]."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity, Gaussian window 11, sigma 1.5 (Wang et al. 2004); scalar. On a
    GPU its gradient reaches `a` only."""
    if a.is_cuda and find_spec("triton") is not None:
        from being.metrics.ssim_kernel import ssim as fused

        return fused(a, b)
    return ssim_map(a, b).mean()


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of every pixel and channel [B, C, H, W] of pictures in [0, 1].

    The window runs over rows and columns as two products with band matrices: forward and backward
    on one CPU core that is 0.14 s for 4 pictures of 256 px, where one-channel convolutions took 1.5
    s (512 px, 1 picture: 0.24 s and 1.5 s).
    """
    stack = torch.stack([a, b, a * a, b * b, a * b])
    mean_a, mean_b, square_a, square_b, product = (
        _window(a.shape[2], a) @ stack @ _window(a.shape[3], a).T
    )
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    return ((2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    )


def gaussian_window(like: Tensor) -> Tensor:
    """The window's weights [11], of sum 1, on the device of `like`."""
    offset = torch.arange(SSIM_WINDOW, device=like.device, dtype=torch.float32) - SSIM_WINDOW // 2
    weight = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    return weight / weight.sum()


def _window(side: int, like: Tensor) -> Tensor:
    """Band matrix [side, side]: row i holds the Gaussian window round i, zeros stand outside the
    picture.
    """
    place = torch.arange(side, device=like.device)
    offset = place - place[:, None] + SSIM_WINDOW // 2
    weight = gaussian_window(like).to(like.dtype)[offset.clamp(0, SSIM_WINDOW - 1)]
    return weight * ((offset >= 0) & (offset < SSIM_WINDOW))


def box_mean(values: Tensor, boxes: Tensor) -> Tensor:
    """Mean of `values` [B, C, H, W] inside one box per picture, scalar; `boxes` [B, 4] int64 top,
    bottom, left, right (may reach over the border); empty ones (no landmarks) count nothing.
    Nothing is read back to the host."""
    top, bottom, left, right = (edge[:, None] for edge in boxes.unbind(1))
    y, x = (torch.arange(side, device=values.device) for side in values.shape[2:])
    rows, columns = ((y >= top) & (y < bottom)).to(values), ((x >= left) & (x < right)).to(values)
    inside = rows.sum(1) * columns.sum(1) * values.shape[1]
    total = torch.einsum("bchw,bh,bw->b", values, rows, columns)
    return (total / inside.clamp_min(1)).sum() / (inside > 0).sum().clamp_min(1)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-10)))

"""Image metrics as torch functions: SSIM, PSNR, and the mean of an error map inside boxes."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from being.metrics.ssim_window import SSIM_C1, SSIM_C2, SSIM_WINDOW, gaussian_window


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity of images [B, C, H, W] in [0, 1], a scalar.

    Gaussian window of 11 px, sigma 1.5 (Wang et al. 2004). On a GPU only `a` gets a gradient.
    """
    if a.is_cuda and find_spec("triton") is not None:
        from being.metrics.ssim_kernel import ssim as fused_ssim

        return fused_ssim(a, b)
    return ssim_map(a, b).mean()


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of every pixel and channel [B, C, H, W].

    a, b: images [B, C, H, W] in [0, 1]. The window is applied to rows and columns as two products
    with band matrices. On one CPU core, forward and backward take 0.14 s for 4 images of 256 px,
    where one-channel convolutions took 1.5 s (1 image of 512 px: 0.24 s and 1.5 s).
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


def _window(side: int, like: Tensor) -> Tensor:
    """Return the band matrix [side, side] whose row i holds the Gaussian window around i.

    Pixels outside the image count as zero.
    """
    position = torch.arange(side, device=like.device)
    offset = position - position[:, None] + SSIM_WINDOW // 2
    weight = gaussian_window(like).to(like.dtype)[offset.clamp(0, SSIM_WINDOW - 1)]
    return weight * ((offset >= 0) & (offset < SSIM_WINDOW))


def box_mean(values: Tensor, boxes: Tensor) -> Tensor:
    """Return the mean of `values` [B, C, H, W] inside one box of each image, a scalar.

    boxes: [B, 4] int64 top, bottom, left, right; a box may reach over the border. Empty boxes (of
    frames without landmarks) are left out. Nothing is read back to the host.
    """
    top, bottom, left, right = (edge[:, None] for edge in boxes.unbind(1))
    y, x = (torch.arange(side, device=values.device) for side in values.shape[2:])
    rows = ((y >= top) & (y < bottom)).to(values)
    columns = ((x >= left) & (x < right)).to(values)
    inside = rows.sum(1) * columns.sum(1) * values.shape[1]
    total = torch.einsum("bchw,bh,bw->b", values, rows, columns)
    return (total / inside.clamp_min(1)).sum() / (inside > 0).sum().clamp_min(1)


def psnr(a: Tensor, b: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of images in [0, 1]."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-10)))

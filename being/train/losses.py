"""Loss terms of both stages. Pictures are float32 [B, 3, S, S] in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity, Gaussian window 11, sigma 1.5 (Wang et al. 2004); scalar."""
    return ssim_map(a, b).mean()


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of every pixel and channel [B, C, H, W] of pictures in [0, 1]."""
    offset = torch.arange(SSIM_WINDOW, device=a.device, dtype=a.dtype) - SSIM_WINDOW // 2
    window = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    window = window / window.sum()
    stack = torch.stack([a, b, a * a, b * b, a * b])
    flat = stack.flatten(0, 2)[:, None]
    flat = F.conv2d(flat, window.view(1, 1, 1, -1), padding=(0, SSIM_WINDOW // 2))
    flat = F.conv2d(flat, window.view(1, 1, -1, 1), padding=(SSIM_WINDOW // 2, 0))
    mean_a, mean_b, square_a, square_b, product = flat[:, 0].view_as(stack)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / \
        ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))


def square_l1(a: Tensor, b: Tensor, squares: Tensor) -> Tensor:
    """Mean absolute difference inside one square per picture; `squares` [B, 4] int64 top, bottom, left, right; empty
    squares (no landmarks) count nothing."""
    total, count = a.new_zeros(()), 0
    for k, (top, bottom, left, right) in enumerate(squares.tolist()):
        if bottom > top and right > left:
            total = total + (a[k, :, top:bottom, left:right] - b[k, :, top:bottom, left:right]).abs().mean()
            count += 1
    return total / max(count, 1)


def motion_l1(offsets: Tensor, motion: Tensor, bound: Tensor) -> Tensor:
    """Mean absolute difference of Gaussian offsets [B, N, 3] on the face (`bound` [M] their numbers) and the tracked
    mesh's motion there `motion` [B, M, 3], in units of 0.1 head units (1 cm)."""
    return (offsets[:, bound] - motion).abs().mean() * 10

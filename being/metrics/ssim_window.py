"""The window and the constants of structural similarity (Wang et al. 2004)."""

from __future__ import annotations

import torch
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def gaussian_window(like: Tensor) -> Tensor:
    """Return the weights of the window [11], of sum 1, on the device of `like`."""
    offset = torch.arange(SSIM_WINDOW, device=like.device, dtype=torch.float32) - SSIM_WINDOW // 2
    weight = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    return weight / weight.sum()

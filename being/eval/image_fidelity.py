"""PSNR, SSIM and LPIPS of one rendered frame: the whole frame and boxes of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from being.eval.lpips import Lpips
from being.metrics.image_quality import psnr, ssim_map

IMAGE_METRICS = ("psnr", "ssim", "lpips")


@torch.no_grad()
def image_fidelity(
    rendered: np.ndarray,
    true: np.ndarray,
    boxes: dict[str, np.ndarray],
    lpips: Lpips | None,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """PSNR in dB, SSIM and LPIPS of one frame: "whole.psnr" and so on of the whole frame,
    "mouth.psnr" and so on of each box; NaN for an empty box.

    SSIM (Wang et al. 2004, window 11) of a box is the mean of the whole frame's map inside it.
    LPIPS of a box is that of the cut-out.

    rendered, true: uint8 [H, W, 3]; boxes: int [4] each: top, bottom, left, right in px; lpips:
    None leaves LPIPS out (NaN).
    """
    a, b = _to_tensor(rendered, device), _to_tensor(true, device)
    similarity = ssim_map(a, b)
    figures = _region_fidelity("whole", a, b, similarity, lpips)
    for name, box in boxes.items():
        top, bottom, left, right = (int(edge) for edge in box)
        inside = (..., slice(top, bottom), slice(left, right))
        figures |= _region_fidelity(name, a[inside], b[inside], similarity[inside], lpips)
    return figures


def _to_tensor(image: np.ndarray, device: torch.device | str) -> Tensor:
    """float32 [1, 3, H, W] in [0, 1] of an image uint8 [H, W, 3]."""
    return torch.tensor(image, device=device).permute(2, 0, 1)[None].float() / 255


def _region_fidelity(
    name: str, a: Tensor, b: Tensor, similarity: Tensor, lpips: Lpips | None
) -> dict[str, float]:
    if not a.numel():
        return {f"{name}.{metric}": float("nan") for metric in IMAGE_METRICS}
    return {
        f"{name}.psnr": psnr(a, b),
        f"{name}.ssim": float(similarity.mean()),
        f"{name}.lpips": float("nan") if lpips is None else float(lpips(a, b)),
    }

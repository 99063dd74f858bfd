"""What training makes small: the weighted loss terms of a rendered batch."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from being.config import LossConfig
from being.data.clip import Clip
from being.metrics.pictures import box_mean, ssim
from being.model.talking_head import Rendering
from being.model.triplane import PlaneGrid
from being.splat import composite
from being.train.feature_loss import FeatureLoss

CHUNK = 64  # frames whose targets are made at once


class Objective:
    """The loss terms of frames of a clip."""

    def __init__(
        self,
        weights: LossConfig,
        clip: Clip,
        planes: PlaneGrid,
        *,
        reference: bool,
        low_precision: bool,
    ):
        """reference: the mask term has no gradient, features are those of shrunk pictures;
        low_precision: the feature network computes in bfloat16."""
        self.weights, self.clip, self.planes, self.reference = weights, clip, planes, reference
        self.features = (
            FeatureLoss(clip.device, low_precision, None if reference else clip.window)
            if weights.feature > 0
            else None
        )
        rows, columns = clip.window
        self._corner = torch.tensor(
            [rows.start, rows.start, columns.start, columns.start], device=clip.device
        )
        self._fused = (
            _Fused(clip) if clip.device.type == "cuda" and find_spec("triton") is not None else None
        )

    def terms(self, rendering: Rendering, index: Tensor) -> dict[str, Tensor]:
        """Weighted loss terms of the frames `index` int64 [B], scalars by name.

        Pictures are compared in the clip's head window only and counted by its share of the
        picture: outside it the target is the plate, and so is the rendering wherever alpha is 0,
        which the mask term sees to.
        """
        w, output, clip = self.weights, rendering.output, self.clip
        rows, columns = clip.window
        view = (slice(None), slice(None), rows, columns)
        share = (rows.stop - rows.start) * (columns.stop - columns.start) / clip.size**2
        if self._fused is not None:
            picture, target, means = self._fused.means(output.rgb, output.alpha, index)
            seen, wanted = picture[view], target[view]
        else:
            wanted = clip.target(index, window=True)
            seen = output.rgb[view] + (1 - output.alpha[view]) * clip.plate(index, window=True)
            error = (seen - wanted).abs()
            means = {
                "l1": error.mean(),
                "mask": (output.alpha - clip.mask(index)).abs().mean(),
                "lips": box_mean(error, clip.lips[index] - self._corner),
                "eyes": box_mean(error, clip.eyes[index] - self._corner),
            }
        terms = {
            "l1": share * w.l1 * means["l1"],
            "ssim": share * w.ssim * (1 - ssim(seen, wanted)),
            "mask": w.mask * (means["mask"].detach() if self.reference else means["mask"]),
        }
        for name, weight in (("lips", w.lips), ("eyes", w.eyes)):
            if weight:
                terms[name] = weight * means[name]
        if self.features is not None:
            if self._fused is None:
                picture, target = composite(output, clip.plate(index)), clip.target(index)
            terms["feature"] = w.feature * self.features(picture, target)
        if w.plane_tv:
            terms["plane_tv"] = w.plane_tv * self.planes.total_variation()
        return terms


class _Fused:
    """The clip as `triton_compare` takes it."""

    def __init__(self, clip: Clip):
        from being.train.kernels.picture_loss import Pictures, compare

        self.compare, self.size = compare, clip.size
        every = torch.arange(len(clip.frames), device=clip.device)
        target = torch.cat(
            [(clip.target(part) * 255).round().byte() for part in every.split(CHUNK)]
        )
        rows, columns = clip.window
        self.window = torch.tensor(
            [rows.start, rows.stop, columns.start, columns.stop], device=clip.device
        )
        self.area = (rows.stop - rows.start) * (columns.stop - columns.start)
        boxes = {name: self._clamped(getattr(clip, name)) for name in ("lips", "eyes")}
        self.areas = {
            name: ((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])).float()
            for name, box in boxes.items()
        }
        self.pictures = Pictures(
            target,
            clip.plates,
            clip.head,
            self.window.expand(len(every), 4).int().contiguous(),
            boxes["lips"],
            boxes["eyes"],
        )

    def _clamped(self, boxes: Tensor) -> Tensor:
        """What of the boxes [F, 4] lies in the window, int32; empty where nothing does."""
        top, bottom, left, right = boxes.unbind(1)
        top, left = top.clamp_min(self.window[0]), left.clamp_min(self.window[2])
        bottom, right = bottom.clamp_max(self.window[1]), right.clamp_max(self.window[3])
        return (
            torch.stack([top, bottom.maximum(top), left, right.maximum(left)], 1).int().contiguous()
        )

    def means(
        self, rgb: Tensor, alpha: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Composites and targets [B, 3, S, S], and the mean differences by name."""
        picture, target, sums = self.compare(rgb, alpha, index, self.pictures)
        window, mask, lips, eyes = sums.unbind(1)
        means = {"l1": window.mean() / (3 * self.area), "mask": mask.mean() / self.size**2}
        for name, total in (("lips", lips), ("eyes", eyes)):
            inside = self.areas[name][index] * 3
            means[name] = (total / inside.clamp_min(1)).sum() / (inside > 0).sum().clamp_min(1)
        return picture, target, means

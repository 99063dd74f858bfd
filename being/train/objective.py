"""The training objective: weighted loss terms of a rendered batch."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from being.config import LossConfig
from being.data.clip import Clip
from being.metrics.image_quality import box_mean, ssim
from being.model.talking_head import Rendering
from being.model.triplane import PlaneGrid
from being.splat import composite
from being.train.feature_loss import FeatureLoss

CHUNK = 64  # frames whose targets are computed at once


class Objective:
    """Computes the loss terms of rendered frames of a clip."""

    def __init__(
        self,
        weights: LossConfig,
        clip: Clip,
        planes: PlaneGrid,
        *,
        reference: bool,
        low_precision: bool,
    ):
        """reference: as GaussianTalker's trainer, the mask term has no gradient and the feature
        loss compares shrunk images; low_precision: the feature network computes in bfloat16."""
        self.weights, self.clip, self.planes, self.reference = weights, clip, planes, reference
        self.features: FeatureLoss | None = None
        if weights.feature > 0:
            window = None if reference else clip.window
            self.features = FeatureLoss(clip.device, low_precision, window)
        rows, columns = clip.window
        self._corner = torch.tensor(
            [rows.start, rows.start, columns.start, columns.start], device=clip.device
        )
        self._fused: _FusedComparison | None = None
        if clip.device.type == "cuda" and find_spec("triton") is not None:
            self._fused = _FusedComparison(clip)

    def terms(self, rendering: Rendering, index: Tensor) -> dict[str, Tensor]:
        """Weighted loss terms of the frames `index` int64 [B]: scalars by name.

        L1 and SSIM compare the clip's head window only, and are weighted by its share of the image.
        Outside the window the target is the plate. The rendering is the plate too where alpha is 0,
        which the mask term ensures.
        """
        w, output, clip = self.weights, rendering.output, self.clip
        rows, columns = clip.window
        window = (slice(None), slice(None), rows, columns)
        share = (rows.stop - rows.start) * (columns.stop - columns.start) / clip.size**2

        # Mean differences: fused on CUDA, else in the window only
        if self._fused is not None:
            image, target, means = self._fused.means(output.rgb, output.alpha, index)
            image_window, target_window = image[window], target[window]
        else:
            plate = clip.plate(index, window=True)
            target_window = clip.target(index, window=True)
            image_window = output.rgb[window] + (1 - output.alpha[window]) * plate
            error = (image_window - target_window).abs()
            means = {
                "l1": error.mean(),
                "mask": (output.alpha - clip.mask(index)).abs().mean(),
                "lips": box_mean(error, clip.lips[index] - self._corner),
                "eyes": box_mean(error, clip.eyes[index] - self._corner),
            }

        mask = means["mask"].detach() if self.reference else means["mask"]
        terms = {
            "l1": share * w.l1 * means["l1"],
            "ssim": share * w.ssim * (1 - ssim(image_window, target_window)),
            "mask": w.mask * mask,
        }

        # Terms that a weight of 0 turns off
        for name, weight in (("lips", w.lips), ("eyes", w.eyes)):
            if weight:
                terms[name] = weight * means[name]
        if self.features is not None:
            if self._fused is None:
                image, target = composite(output, clip.plate(index)), clip.target(index)
            terms["feature"] = w.feature * self.features(image, target)
        if w.plane_tv:
            terms["plane_tv"] = w.plane_tv * self.planes.total_variation()
        return terms


class _FusedComparison:
    """The mean differences of `Objective` by one Triton kernel (`kernels/image_loss.py`)."""

    def __init__(self, clip: Clip):
        from being.train.kernels.image_loss import ClipImages, compare_images

        self.compare, self.size = compare_images, clip.size

        # Targets of all frames as bytes
        every = torch.arange(len(clip.frames), device=clip.device)
        target = torch.cat(
            [(clip.target(part) * 255).round().byte() for part in every.split(CHUNK)]
        )

        # The window, and the lip and eye boxes within it
        rows, columns = clip.window
        self.window = torch.tensor(
            [rows.start, rows.stop, columns.start, columns.stop], device=clip.device
        )
        self.area = (rows.stop - rows.start) * (columns.stop - columns.start)
        boxes = {name: self._clamp(getattr(clip, name)) for name in ("lips", "eyes")}
        self.areas = {
            name: ((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])).float()
            for name, box in boxes.items()
        }
        self.images = ClipImages(
            target,
            clip.plates,
            clip.head,
            self.window.expand(len(every), 4).int().contiguous(),
            boxes["lips"],
            boxes["eyes"],
        )

    def _clamp(self, boxes: Tensor) -> Tensor:
        """The part of the boxes [F, 4] inside the window, int32; empty where there is none."""
        top, bottom, left, right = boxes.unbind(1)
        top, left = top.clamp_min(self.window[0]), left.clamp_min(self.window[2])
        bottom, right = bottom.clamp_max(self.window[1]), right.clamp_max(self.window[3])
        edges = [top, bottom.maximum(top), left, right.maximum(left)]
        return torch.stack(edges, 1).int().contiguous()

    def means(
        self, rgb: Tensor, alpha: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Composites and targets [B, 3, S, S], and the mean differences by name."""
        image, target, sums = self.compare(rgb, alpha, index, self.images)
        window, mask, lips, eyes = sums.unbind(1)
        means = {"l1": window.mean() / (3 * self.area), "mask": mask.mean() / self.size**2}
        for name, total in (("lips", lips), ("eyes", eyes)):
            inside = self.areas[name][index] * 3
            means[name] = (total / inside.clamp_min(1)).sum() / (inside > 0).sum().clamp_min(1)
        return image, target, means

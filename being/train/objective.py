"""What training makes small: the weighted loss terms of a rendered batch."""

from __future__ import annotations

import torch
from torch import Tensor

from being.config import LossConfig
from being.data.clip import Clip
from being.model.talking_head import Rendering
from being.model.triplane import PlaneGrid
from being.splat import composite
from being.train.feature_loss import FeatureLoss
from being.train.losses import box_mean, ssim


class Objective:
    """The loss terms of frames of a clip."""

    def __init__(self, weights: LossConfig, clip: Clip, planes: PlaneGrid, *, reference: bool, low_precision: bool):
        """reference: the mask term has no gradient and the planes are not regularised; low_precision: the feature
        network computes in bfloat16."""
        self.weights, self.clip, self.planes, self.reference = weights, clip, planes, reference
        self.features = FeatureLoss(clip.device, low_precision) if weights.feature > 0 else None
        rows, columns = clip.window
        self._corner = torch.tensor([rows.start, rows.start, columns.start, columns.start], device=clip.device)

    def terms(self, rendering: Rendering, index: Tensor) -> dict[str, Tensor]:
        """Weighted loss terms of the frames `index` int64 [B], scalars by name.

        Pictures are compared in the clip's head window only and counted by its share of the picture: outside it the
        target is the plate, and so is the rendering wherever alpha is 0, which the mask term sees to.
        """
        w, output, clip = self.weights, rendering.output, self.clip
        rows, columns = clip.window
        view = (slice(None), slice(None), rows, columns)
        target = clip.target(index, window=True)
        picture = output.rgb[view] + (1 - output.alpha[view]) * clip.plate(index, window=True)
        share = target[0, 0].numel() / clip.size**2
        alpha = output.alpha.detach() if self.reference else output.alpha
        error = (picture - target).abs()
        terms = {"l1": share * w.l1 * error.mean(),
                 "ssim": share * w.ssim * (1 - ssim(picture, target)),
                 "mask": w.mask * (alpha - clip.mask(index)).abs().mean()}
        for name, weight, boxes in (("lips", w.lips, clip.lips), ("eyes", w.eyes, clip.eyes)):
            if weight:
                terms[name] = weight * box_mean(error, boxes[index] - self._corner)
        if self.features is not None:
            terms["feature"] = w.feature * self.features(composite(output, clip.plate(index)), clip.target(index))
        if w.plane_tv and not self.reference:
            terms["plane_tv"] = w.plane_tv * self.planes.total_variation()
        return terms

"""The frames of a clip rendered by a model, each over its own plate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from being.data.clip import Clip
from being.model.talking_head import TalkingHead
from being.splat import composite

BATCH = {"cpu": 4, "cuda": 16}  # frames rendered at once, by device


@torch.no_grad()
def render_clip(
    model: TalkingHead,
    clip: Clip,
    frames: np.ndarray,
    stage: str = "fine",
    heard: np.ndarray | None = None,
) -> Iterator[Tensor]:
    """Pictures float32 [3, S, S] in [0, 1] of the clip's own `frames`, each over its own plate.

    `heard` int [F]: the frames whose sound is heard instead of the frame's own (blink and camera
    stay its own).
    """
    model.eval()
    pieces = max(1, -(-len(frames) // BATCH[clip.device.type]))
    for part, sound in zip(
        np.array_split(frames, pieces),
        np.array_split(frames if heard is None else heard, pieces),
        strict=True,
    ):
        index = torch.from_numpy(part).to(clip.device)
        conditions = clip.conditions(index) if stage == "fine" else None
        if conditions is not None and heard is not None:
            conditions.audio = clip.sound(torch.from_numpy(sound).to(clip.device))
        rendering = model(conditions, clip.world_to_camera[index], clip.focal, clip.size)
        yield from composite(rendering.output, clip.plate(index)).clamp(0, 1)


def to_uint8(picture: Tensor) -> np.ndarray:
    """uint8 [S, S, 3] of a float picture [3, S, S] in [0, 1]."""
    return (picture.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()

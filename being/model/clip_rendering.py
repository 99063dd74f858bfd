"""Rendering of a clip's frames by a model, each frame over its own plate."""

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
    audio_frames: np.ndarray | None = None,
) -> Iterator[Tensor]:
    """Yield images float32 [3, S, S] in [0, 1] of the clip's `frames` int [F].

    audio_frames: int [F], the frames whose audio drives the images instead of their own; expression
    and camera stay their own.
    """
    model.eval()
    audio = frames if audio_frames is None else audio_frames
    batches = max(1, -(-len(frames) // BATCH[clip.device.type]))
    for batch, audio_batch in zip(
        np.array_split(frames, batches), np.array_split(audio, batches), strict=True
    ):
        index = torch.from_numpy(batch).to(clip.device)
        conditions = clip.conditions(index) if stage == "fine" else None
        if conditions is not None and audio_frames is not None:
            conditions.audio = clip.audio_windows(torch.from_numpy(audio_batch).to(clip.device))
        rendering = model(conditions, clip.world_to_camera[index], clip.focal, clip.size)
        yield from composite(rendering.output, clip.plate(index)).clamp(0, 1)


def to_uint8(image: Tensor) -> np.ndarray:
    """Return an image float [3, S, S] in [0, 1] as uint8 [S, S, 3]."""
    return (image.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()

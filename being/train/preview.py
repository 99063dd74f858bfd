"""What a person judges a run by: held-out PSNR, a sheet of rendered against true frames, a short preview video."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from being.conventions import FPS, SAMPLE_RATE
from being.data.clip import Clip
from being.data.dataset import Dataset, Split, consent_note
from being.media import VideoWriter, read_audio
from being.model.talking_head import TalkingHead
from being.preprocess.sheet import frame_grid
from being.splat import composite
from being.train.run import Run

EVALUATED_FRAMES = 16
SHEET_FRAMES = 6
BATCH = 4


@torch.no_grad()
def render_clip(model: TalkingHead, clip: Clip, frames: np.ndarray, stage: str = "fine",
                heard: np.ndarray | None = None) -> Iterator[Tensor]:
    """Pictures float32 [3, S, S] in [0, 1] of the clip's own `frames`, each over its own plate.

    `heard` int [F]: the frames whose sound is heard instead of the frame's own (blink and camera stay its own).
    """
    model.eval()
    pieces = max(1, -(-len(frames) // BATCH))
    for part, sound in zip(np.array_split(frames, pieces), np.array_split(frames if heard is None else heard, pieces),
                           strict=True):
        index = torch.from_numpy(part).to(clip.device)
        conditions = clip.conditions(index) if stage == "fine" else None
        if conditions is not None and heard is not None:
            conditions.audio = clip.sound(torch.from_numpy(sound).to(clip.device))
        rendering = model(conditions, clip.world_to_camera[index], clip.focal, clip.size)
        yield from composite(rendering.output, clip.plate(index)).clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-10)))


def evaluate(model: TalkingHead, clip: Clip, frames: np.ndarray, stage: str) -> dict[str, float]:
    """Mean PSNR in dB against the raw frames, whole frame and head box, over at most 16 of `frames`."""
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, EVALUATED_FRAMES).astype(int))]
    whole, head = [], []
    for i, picture in zip(chosen, render_clip(model, clip, chosen, stage), strict=True):
        true = clip.frame(torch.tensor([i], device=clip.device))[0]
        top, bottom, left, right = clip.boxes[i].tolist()
        whole.append(psnr(picture, true))
        if bottom > top and right > left:
            head.append(psnr(picture[:, top:bottom, left:right], true[:, top:bottom, left:right]))
    return {"psnr": float(np.mean(whole)), "psnr_head": float(np.mean(head)) if head else float("nan")}


def to_uint8(picture: Tensor) -> np.ndarray:
    """uint8 [S, S, 3] of a float picture [3, S, S] in [0, 1]."""
    return (picture.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()


def write_previews(run: Run, model: TalkingHead, clip: Clip, dataset: Dataset, split: Split, stage: str, step: int,
                   seconds: float) -> None:
    """Write `sheet_<stage>_<step>.jpg` and `preview_<stage>_<step>.mp4`: held-out frames, true left, rendered right."""
    folder = run.path / "previews"
    folder.mkdir(exist_ok=True)
    held = np.concatenate([split.validation, split.test])
    chosen = held[np.linspace(0, len(held) - 1, SHEET_FRAMES).astype(int)]
    true = [clip.frames[int(i)].permute(1, 2, 0).cpu().numpy() for i in chosen]
    made = [to_uint8(p) for p in render_clip(model, clip, chosen, stage)]
    sheet = folder / f"sheet_{stage}_{step:06d}.jpg"
    part = sheet.with_name("." + sheet.name)
    Image.fromarray(frame_grid([true, made], [f"true, frames {', '.join(map(str, chosen))}",
                                              f"rendered, {stage} step {step}"])).save(part, quality=92)
    os.replace(part, sheet)
    if seconds <= 0:
        return
    frames = held[:round(seconds * FPS)]
    start = int(frames[0]) * SAMPLE_RATE // FPS
    sound = read_audio(dataset.sound_file)[start:start + len(frames) * SAMPLE_RATE // FPS]
    with VideoWriter(folder / f"preview_{stage}_{step:06d}.mp4", 2 * clip.size, clip.size, sound=sound,
                     note=consent_note(dataset.manifest.get("consent"))) as video:
        for i, picture in zip(frames, render_clip(model, clip, frames, stage), strict=True):
            video.write(np.concatenate([clip.frames[int(i)].permute(1, 2, 0).cpu().numpy(), to_uint8(picture)], 1))

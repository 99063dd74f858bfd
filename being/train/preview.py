"""What a person judges a run by: held-out PSNR, a sheet of rendered against true frames, a short
preview video.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from being.conventions import FPS, SAMPLE_RATE
from being.data.clip import Clip
from being.data.dataset import Dataset, Split, consent_note
from being.media import VideoWriter, read_audio
from being.model.talking_head import TalkingHead
from being.preprocess.frame_views import frame_grid
from being.runs.run_directory import Run
from being.splat import composite

EVALUATED_FRAMES = 16
SHEET_FRAMES = 6
BATCH = {"cpu": 4, "cuda": 16}  # frames rendered at once, by device

Pair = tuple[np.ndarray, np.ndarray]  # a true and a rendered picture, uint8 [S, S, 3]


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


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-10)))


def evaluate(model: TalkingHead, clip: Clip, frames: np.ndarray, stage: str) -> dict[str, float]:
    """Mean PSNR in dB against the raw frames, whole frame and head box, over at most 16 of
    `frames`.
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, EVALUATED_FRAMES).astype(int))]
    whole, head = [], []
    for i, picture in zip(chosen, render_clip(model, clip, chosen, stage), strict=True):
        true = clip.frame(torch.tensor([i], device=clip.device))[0]
        top, bottom, left, right = clip.boxes[i].tolist()
        whole.append(psnr(picture, true))
        if bottom > top and right > left:
            head.append(psnr(picture[:, top:bottom, left:right], true[:, top:bottom, left:right]))
    return {
        "psnr": float(np.mean(whole)),
        "psnr_head": float(np.mean(head)) if head else float("nan"),
    }


def to_uint8(picture: Tensor) -> np.ndarray:
    """uint8 [S, S, 3] of a float picture [3, S, S] in [0, 1]."""
    return (picture.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()


class Previews:
    """Writes previews of a run at its checkpoints. Pictures are rendered at once, files made while
    training goes on.
    """

    def __init__(self, run: Run, clip: Clip, dataset: Dataset, split: Split, seconds: float):
        self.folder, self.clip, self.dataset, self.seconds = (
            run.path / "previews",
            clip,
            dataset,
            seconds,
        )
        self.held = np.concatenate([split.validation, split.test])
        self._worker = ThreadPoolExecutor(1)
        self._job: Future[None] | None = None

    def __enter__(self) -> Previews:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown()
        self._finish()

    def make(self, model: TalkingHead, stage: str, step: int) -> None:
        """Write `sheet_<stage>_<step>.jpg` and `preview_<stage>_<step>.mp4`: held-out frames, true
        and rendered.

        Raises what went wrong with the files of the checkpoint before.
        """
        self._finish()
        self.folder.mkdir(exist_ok=True)
        chosen = self.held[np.linspace(0, len(self.held) - 1, SHEET_FRAMES).astype(int)]
        frames = self.held[: round(self.seconds * FPS)]
        shown = np.concatenate([chosen, frames])
        made = [to_uint8(p) for p in render_clip(model, self.clip, shown, stage)]
        true = list(
            self.clip.frames[torch.from_numpy(shown).to(self.clip.device)]
            .permute(0, 2, 3, 1)
            .cpu()
            .numpy()
        )
        pairs = list(zip(true, made, strict=True))
        self._job = self._worker.submit(
            self._write, stage, step, chosen, pairs[: len(chosen)], pairs[len(chosen) :]
        )

    def _finish(self) -> None:
        if self._job is not None:
            self._job.result()
            self._job = None

    def _write(
        self, stage: str, step: int, chosen: np.ndarray, sheet: list[Pair], video: list[Pair]
    ) -> None:
        rows = [[true for true, _ in sheet], [made for _, made in sheet]]
        path = self.folder / f"sheet_{stage}_{step:06d}.jpg"
        part = path.with_name("." + path.name)
        Image.fromarray(
            frame_grid(
                rows,
                [f"true, frames {', '.join(map(str, chosen))}", f"rendered, {stage} step {step}"],
            )
        ).save(part, quality=92)
        os.replace(part, path)
        if not video:
            return
        start, samples = int(self.held[0]) * SAMPLE_RATE // FPS, len(video) * SAMPLE_RATE // FPS
        sound = read_audio(self.dataset.sound_file)[start : start + samples]
        with VideoWriter(
            self.folder / f"preview_{stage}_{step:06d}.mp4",
            2 * self.clip.size,
            self.clip.size,
            sound=sound,
            note=consent_note(self.dataset.manifest.get("consent")),
        ) as out:
            for pair in video:
                out.write(np.concatenate(pair, 1))

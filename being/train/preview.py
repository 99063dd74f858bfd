"""What a person judges a run by: held-out PSNR, a sheet of rendered against true frames, a short
preview video.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from being.conventions import FPS, SAMPLE_RATE
from being.data.clip import Clip
from being.data.consent import consent_note
from being.data.dataset import Dataset, Split
from being.media import VideoWriter, read_audio
from being.metrics.pictures import psnr
from being.model.clip_rendering import render_clip, to_uint8
from being.model.talking_head import TalkingHead
from being.report.sheet import frame_grid
from being.runs.run_directory import Run

EVALUATED_FRAMES = 16
SHEET_FRAMES = 6

Pair = tuple[np.ndarray, np.ndarray]  # a true and a rendered picture, uint8 [S, S, 3]


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

"""Evaluation and previews while training: held-out PSNR, image grids and short videos."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from being.conventions import FPS, SAMPLE_RATE
from being.data.clip import Clip
from being.data.dataset import Dataset, Split
from being.files import new_file
from being.media import AI_NOTICE, VideoWriter
from being.metrics.image_quality import psnr
from being.model.clip_rendering import render_clip, to_uint8
from being.model.talking_head import TalkingHead
from being.provenance.file_marks import file_marks
from being.provenance.mark import Mark
from being.report.frame_grid import frame_grid
from being.runs.run_directory import Run

EVALUATED_FRAMES = 16
SHEET_FRAMES = 6
SHEET_QUALITY = 92  # JPEG

ImagePair = tuple[np.ndarray, np.ndarray]  # true and rendered image, uint8 [S, S, 3]


def evaluate(model: TalkingHead, clip: Clip, frames: np.ndarray, stage: str) -> dict[str, float]:
    """Mean PSNR in dB against the raw frames, of the whole image and of the head box.

    At most 16 of `frames` int64 [n] are rendered. The head value is NaN when no head is visible.
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, EVALUATED_FRAMES).astype(int))]
    whole, head = [], []
    for i, image in zip(chosen, render_clip(model, clip, chosen, stage), strict=True):
        true = clip.frame(torch.tensor([i], device=clip.device))[0]
        whole.append(psnr(image, true))
        top, bottom, left, right = clip.boxes[i].tolist()
        if bottom > top and right > left:
            head.append(psnr(image[:, top:bottom, left:right], true[:, top:bottom, left:right]))
    return {
        "psnr": float(np.mean(whole)),
        "psnr_head": float(np.mean(head)) if head else float("nan"),
    }


class Previews:
    """Writes the previews of a run at its checkpoints.

    Images are rendered at once; files are written in a thread while training goes on.
    """

    def __init__(self, run: Run, clip: Clip, dataset: Dataset, split: Split, seconds: float):
        """seconds: length of the preview videos; 0 writes none."""
        self.folder = run.path / "previews"
        self.clip, self.dataset, self.seconds = clip, dataset, seconds
        self.held_out = np.concatenate([split.validation, split.test])
        self._worker = ThreadPoolExecutor(1)
        self._job: Future[None] | None = None

    def __enter__(self) -> Previews:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown()
        self._wait()

    def write(self, model: TalkingHead, stage: str, step: int) -> None:
        """Write `sheet_<stage>_<step>.jpg` and `preview_<stage>_<step>.mp4`: true and rendered
        held-out frames.

        Raises the error with which the files of the previous checkpoint failed, if any.
        """
        self._wait()
        self.folder.mkdir(exist_ok=True)
        sheet = self.held_out[np.linspace(0, len(self.held_out) - 1, SHEET_FRAMES).astype(int)]
        video = self.held_out[: round(self.seconds * FPS)]
        frames = np.concatenate([sheet, video])

        rendered = [to_uint8(image) for image in render_clip(model, self.clip, frames, stage)]
        true = self.clip.frames[torch.from_numpy(frames).to(self.clip.device)]
        pairs = list(zip(true.permute(0, 2, 3, 1).cpu().numpy(), rendered, strict=True))
        self._job = self._worker.submit(
            self._write_files, stage, step, sheet, pairs[: len(sheet)], pairs[len(sheet) :]
        )

    def _wait(self) -> None:
        if self._job is not None:
            self._job.result()
            self._job = None

    def _write_files(
        self,
        stage: str,
        step: int,
        sheet_frames: np.ndarray,
        sheet: list[ImagePair],
        video: list[ImagePair],
    ) -> None:
        # The sheet: a row of true and a row of rendered images
        rows = [[true for true, _ in sheet], [rendered for _, rendered in sheet]]
        labels = [
            f"true, frames {', '.join(map(str, sheet_frames))}",
            f"rendered, {stage} step {step}",
        ]
        path = self.folder / f"sheet_{stage}_{step:06d}.jpg"
        with new_file(path) as part:
            Image.fromarray(frame_grid(rows, labels)).save(
                part, quality=SHEET_QUALITY, comment=AI_NOTICE
            )

        # The video: true and rendered image side by side, with audio
        if not video:
            return
        start = int(self.held_out[0]) * SAMPLE_RATE // FPS
        audio = self.dataset.audio()[start : start + len(video) * SAMPLE_RATE // FPS]
        with VideoWriter(
            self.folder / f"preview_{stage}_{step:06d}.mp4",
            2 * self.clip.size,
            self.clip.size,
            audio=audio,
            marks=file_marks(Mark.of(self.dataset.manifest, None)),
        ) as out:
            for pair in video:
                out.write(np.concatenate(pair, 1))

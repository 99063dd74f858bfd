"""The files of a report: its folder, the side-by-side video, metrics.json, sheet and page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError
from being.eval.evaluator import Measurement
from being.eval.report_page import ReportContent, report_page
from being.files import Part, write_json
from being.locks import locked
from being.media import VideoSettings, VideoWriter
from being.media.writing import AI_NOTICE, FileMarks

FILES = ("metrics.json", "report.html", "sheet.jpg", "side_by_side.mp4")
# The short video inside the report page.
SHORT_SECONDS = 8
SHORT_SIDE = 320  # px: height
SHORT_QUALITY = 27  # crf of x264


@contextmanager
def report_folder(folder: Path, fix: str) -> Iterator[Path]:
    """A work folder that becomes `folder` when the block ends without an error, and is removed
    otherwise.

    Only an earlier report is replaced. fix: what a person can do when `folder` is something else.
    Raises BeingError for another folder, for one that another process writes, and where nothing
    can be written.
    """
    other_folder = folder.is_dir() and any(folder.iterdir()) and not (folder / FILES[0]).is_file()
    if folder.is_file() or other_folder:
        raise BeingError(f"{folder} exists and is not a report", "it would be replaced", fix)
    with locked(folder, "writes this report", "Wait for it to end"):
        try:
            part = Part(folder, folder=True)
        except OSError as error:
            raise BeingError(
                f"cannot write {folder}",
                str(error),
                "Make its parent folder writable, or choose another one",
            ) from error
        with part:
            yield part.path


class ReportVideos:
    """Writes the side-by-side video and the short, small one for the report page."""

    def __init__(
        self, work: Path, width: int, height: int, audio: np.ndarray | None, marks: FileMarks
    ):
        """width, height: px of one image; audio: float32 [T] at 16 kHz; marks: of the files."""
        scale = min(1.0, SHORT_SIDE / height)
        self.short_size = (2 * round(width * scale), round(height * scale))
        self.short_path = work / "short.mp4"
        self.short_video = b""  # the mp4, after the block has ended
        self._long = VideoWriter(
            work / "side_by_side.mp4", 2 * width, height, audio=audio, marks=marks
        )
        self._short = VideoWriter(
            self.short_path,
            *self.short_size,
            settings=VideoSettings(crf=SHORT_QUALITY),
            marks=marks,
            audio=None if audio is None else audio[: SHORT_SECONDS * SAMPLE_RATE],
        )

    def __enter__(self) -> ReportVideos:
        return self

    def write(self, true: np.ndarray, rendered: np.ndarray) -> None:
        """Append a pair of images uint8 [H, W, 3]."""
        both = np.concatenate([true, rendered], 1)
        self._long.write(both)
        if self._short.frames < SHORT_SECONDS * FPS:
            small = Image.fromarray(both).resize(self.short_size, Image.Resampling.BICUBIC)
            self._short.write(np.asarray(small))

    def __exit__(self, *error: Any) -> None:
        self._short.__exit__(*error)
        self._long.__exit__(*error)
        if error[0] is None:
            self.short_video = self.short_path.read_bytes()
            self.short_path.unlink()


def write_report(folder: Path, content: ReportContent, frames: np.ndarray) -> None:
    """Write `metrics.json` (figures and their series), `sheet.jpg` and `report.html` into `folder`.

    frames: int [F], the numbers of the measured frames.
    """
    write_json(folder / "metrics.json", _metrics(content.measurement, frames))
    Image.fromarray(content.sheet).save(folder / "sheet.jpg", quality=92, comment=AI_NOTICE)
    (folder / "report.html").write_text(report_page(content), encoding="utf-8")


def _metrics(measurement: Measurement, frames: np.ndarray) -> dict[str, Any]:
    """The content of metrics.json; a value that is not finite becomes None."""
    per_frame: dict[str, list[Any]] = {"frame": frames.tolist()}
    for key, values in measurement.series.items():
        per_frame[key] = [round(float(v), 5) if np.isfinite(v) else None for v in values]
    return {**measurement.figures, "per_frame": per_frame}

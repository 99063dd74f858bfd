"""Refined videos: of an avatar that speaks, or of a video that was rendered before; comparisons."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from being.audio.feature_windows import frame_count
from being.console import Progress, console
from being.errors import EnvironmentFault, InputRejected
from being.face.face_reader import FaceReader
from being.face.identity import Identity
from being.inference.engine import Engine
from being.inference.frame_writer import FrameWriter
from being.inference.video import StepTimes, VideoAudio, VideoOutput, render_video
from being.media import probe, read_frames, read_original_audio
from being.provenance.carried_mark import carried_mark
from being.provenance.content_credentials import configured_key
from being.provenance.file_marks import file_marks
from being.refine.identity_guard import FaceDescriptor
from being.refine.image_model import ImageModel
from being.refine.refiner import LandmarkReader, Refiner, RefineSettings
from being.threads import use_free_cores

STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5)  # that are compared
RATE_MAX = 120  # frames a second of a video that is refined
RATE_TOLERANCE = 0.01  # frames a second by which a rate may be off a whole number


@dataclass(frozen=True)
class FaceTools:
    """The networks that look at faces; None: not needed."""

    reader: LandmarkReader | None
    network: FaceDescriptor | None

    @classmethod
    def load(cls, landmarks: bool, identity: bool) -> FaceTools:
        """Those that are asked for; missing weights are fetched once.

        Raises EnvironmentFault where that is not possible.
        """
        try:
            network = Identity(download=True) if identity else None
        except EnvironmentFault as fault:
            raise EnvironmentFault(
                "the identity guard has no network", fault.message(), "Or refine with --no-guard"
            ) from fault
        return cls(FaceReader() if landmarks or identity else None, network)

    def refiner(self, model: ImageModel, settings: RefineSettings) -> Refiner:
        """A refiner of one video."""
        return Refiner(model, settings, self.reader, self.network)


def described(model: ImageModel, settings: RefineSettings) -> str:
    """What marks say of a refinement."""
    return f"diffusion model {model.name}, strength {settings.strength:g}"


class _Timed:
    """The frames of an iterator, and the time that they took."""

    def __init__(self, frames: Iterator[np.ndarray]):
        self._frames, self.seconds, self.count = frames, 0.0, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            start = time.perf_counter()
            found = list(itertools.islice(self._frames, 1))
            self.seconds += time.perf_counter() - start
            if not found:
                return
            self.count += 1
            yield found[0]

    @property
    def ms(self) -> float:
        """Milliseconds a frame."""
        return 1000 * self.seconds / max(self.count, 1)


def refine_avatar(
    engine: Engine,
    samples: np.ndarray,
    output: VideoOutput,
    what: str,
    model: ImageModel,
    settings: RefineSettings,
    tools: FaceTools,
    audio: VideoAudio | None = None,
    features: Path | None = None,
) -> dict[str, Any]:
    """Write a refined video of the avatar speaking; figures of `render_video` and the refinement.

    Arguments as of `render_video`. The frames get their watermark after the refinement.
    """
    refiner, sources = tools.refiner(model, settings), []

    def refine(images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        sources.append(_Timed(images))
        return refiner.refine(sources[0])

    figures = render_video(
        engine,
        samples,
        output,
        what,
        StepTimes(),
        features=features,
        audio=audio,
        refine=refine,
        refinement=described(model, settings),
    )
    return {**figures, **together(sources[0].ms, refiner)}


def refine_video(
    video: Path,
    output: VideoOutput,
    model: ImageModel,
    settings: RefineSettings,
    tools: FaceTools,
) -> dict[str, Any]:
    """Write the refined video of the video file at `video`, with its audio; figures of it.

    Avatar and consent in the marks are those of `video`. A video that has a watermark already gets
    it again, so where the refinement leaves pixels as they are, the pattern may be twice as strong.
    Raises InputRejected for a file that is no video.
    """
    output.check()
    info, refiner = probe(video), tools.refiner(model, settings)
    fps = frame_rate(video, info.fps)
    audio = None if info.audio_rate is None else VideoAudio(*read_original_audio(video))
    mark = carried_mark(video, output.watermark, described(model, settings))
    marks = file_marks(mark, configured_key())
    source = _Timed(read_frames(video, fps))

    start = time.perf_counter()
    with (
        Progress("refine", max(1, round(info.duration * fps)), "frames") as progress,
        output.open_sized(info.width, info.height, fps, audio, marks) as file,
        FrameWriter(file, mark.watermark) as writer,
    ):
        for image in refiner.refine(source):
            use_free_cores()
            writer.write(image)
            progress.advance()
    spent = time.perf_counter() - start
    return {
        "video": str(file.path),
        "frames": file.frames,
        "seconds": round(file.frames / fps, 2),
        "width": info.width,
        "height": info.height,
        "fps": fps,
        "frames_per_second": round(file.frames / max(spent, 1e-9), 2),
        "watermark": output.watermark,
        "signed": marks.seal is not None,
        **together(None, refiner),
    }


def frame_rate(video: Path, fps: float) -> int:
    """The whole rate of a video's frames. Raises InputRejected for another one."""
    if not 1 <= round(fps) <= RATE_MAX or abs(fps - round(fps)) > RATE_TOLERANCE:
        raise InputRejected(
            f"{video} has {fps:.4g} frames a second",
            f"a whole number up to {RATE_MAX} is needed",
            "Convert it to 25 or 30 frames a second first",
        )
    return round(fps)


def together(engine_ms: float | None, refiner: Refiner) -> dict[str, Any]:
    """The figures of a refiner, with the frames a second of engine and refinement, one after the
    other. engine_ms: ms a frame; None: the frames were not rendered now.
    """
    figures = refiner.figures()
    total = figures["refine_ms"] + (engine_ms or 0.0)
    return {
        **figures,
        "engine_ms": None if engine_ms is None else round(engine_ms, 2),
        "frames_per_second_together": round(1000 / max(total, 1e-6), 2),
    }


def engine_frames(
    engine: Engine, samples: np.ndarray, count: int
) -> tuple[list[np.ndarray], float]:
    """The first `count` frames of an avatar speaking, and the engine's ms a frame."""
    features = list(engine.encode(samples))
    timed = _Timed(engine.video(features, frame_count(samples)))
    return [np.array(frame) for frame in itertools.islice(timed, count)], timed.ms


def compare_strengths(
    frames: list[np.ndarray],
    engine_ms: float | None,
    model: ImageModel,
    settings: RefineSettings,
    tools: FaceTools,
    show: Callable[[str], None] = console.info,
) -> list[dict[str, Any]]:
    """A row (JSON types) for each of STRENGTHS over the same frames, without the guard.

    So its identity figures are what the strength costs; `over_limit` counts the frames that the
    guard of `settings` would hold back.
    """
    show(HEADER)
    rows = []
    for strength in STRENGTHS:
        chosen = replace(settings, strength=strength, limit=None)
        refiner = tools.refiner(model, chosen)
        with Progress(f"strength {strength:g}", len(frames), "frames") as progress:
            for _ in refiner.refine(frames):
                use_free_cores()
                progress.advance()
        row = together(engine_ms, refiner)
        row["over_limit"] = refiner.over(settings.limit)
        rows.append(row)
        show(row_text(row))
    return rows


HEADER = (
    f"  {'strength':>8}{'refine ms':>11}{'engine ms':>11}{'frames/s':>10}{'identity':>10}"
    f"{'worst':>8}{'flicker':>9}{'before':>8}"
)


def row_text(row: dict[str, Any]) -> str:
    """A row as a line under HEADER. Identity: distance from the unrefined face, mean and worst;
    flicker in levels of 255, after and before.
    """

    def number(name: str, digits: int) -> str:
        return "-" if row[name] is None else f"{row[name]:.{digits}f}"

    return (
        f"  {row['strength']:>8g}{number('refine_ms', 1):>11}{number('engine_ms', 1):>11}"
        f"{number('frames_per_second_together', 2):>10}{number('identity_mean', 3):>10}"
        f"{number('identity_max', 3):>8}{number('flicker_after', 2):>9}"
        f"{number('flicker_before', 2):>8}"
    )

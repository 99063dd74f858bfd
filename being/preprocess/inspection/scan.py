"""One pass over a clip: numbers of every frame, cuts, and landmarks of some frames, found in
threads meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import cv2
import numpy as np

from being import media
from being.conventions import FPS
from being.face.landmarks import FaceLandmarker
from being.face.topology import BROW_TOP, CHIN
from being.preprocess.inspection.cuts import CutFinder, thumb_size

LOOK_SIDE = 1280  # px, longer side of the pictures in which the face is looked for
SMALL_AREA = (
    288  # px, side of a square of the area of the pictures kept for the steadiness of the camera
)
RUN_SECONDS = 16.0  # length of the stretch of which every frame is looked at
RUN_FROM, RUN_FROM_MAX = (
    0.1,
    5.0,
)  # its start over the length that the header gives, and at most in s
SAMPLE_SECONDS = 0.32  # step between the other frames looked at,
SAMPLES = 300  # which grows from so many samples on, so that an hour has about 1,400
BATCH = 32  # frames one thread follows at a time
SECOND_FACE = 0.4  # side of another face over the first one's, from which it is a second person
FACE_PIXELS = 160  # px, side to which a face is brought before its sharpness is measured

Advance = Callable[[int], None]


@dataclass(frozen=True)
class View:
    """One frame looked at; lengths in px of the upright source picture."""

    frame: int
    points: np.ndarray  # float32 [478, 3], NaN without a face
    blendshapes: np.ndarray  # float32 [52]
    faces: int  # faces seen; -1 where the known one was followed only
    second: np.ndarray | None  # float32 [4]: left, top, right, bottom of a second person's face
    sharpness: float  # of the face: deviation of its Laplacian over its own; NaN without a face
    skin: np.ndarray  # float32 [3], mean colour of the face, levels; NaN without a face
    small: np.ndarray | None  # uint8 [h, w] grey, of the frames that are samples


@dataclass(frozen=True)
class Scan:
    """What one pass saw of n frames."""

    info: media.MediaInfo
    stamps: np.ndarray  # float64 [n], s on the container's clock, rising
    change: np.ndarray  # float32 [n], mean difference to the frame before, levels
    drift: (
        np.ndarray
    )  # float32 [n], change of the light since the frame before, levels, motion left out
    light: np.ndarray  # float32 [n], mean, levels
    contrast: np.ndarray  # float32 [n], deviation, levels
    cuts: list[int]  # first frames of new shots
    resized: list[int]  # frames from which on pictures have another size
    views: list[View]  # in order


class _Looker:
    """Finds the face in batches of pictures, each batch in one thread; few batches wait, so memory
    stays flat.
    """

    def __init__(self, landmarker: FaceLandmarker, scale: float, small: tuple[int, int]):
        self.scale, self.small = scale, small
        workers = max(1, min(4, os.cpu_count() or 1))
        self._idle: SimpleQueue[FaceLandmarker] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(landmarker.twin())
        self._pool = ThreadPoolExecutor(workers)
        self._running: list[Future[list[View]]] = []
        self._workers = workers
        self._batches: dict[bool, list[tuple[int, np.ndarray, bool]]] = {False: [], True: []}

    def add(self, frame: int, picture: np.ndarray, run: bool, sample: bool) -> None:
        """A picture to look at, uint8 [h, w, 3] RGB; samples also have their faces counted."""
        batch = self._batches[run]
        batch.append((frame, picture, sample))
        if len(batch) == BATCH:
            self._start(run)

    def finish(self) -> list[View]:
        for run in (False, True):
            self._start(run)
        with self._pool:
            return sorted(
                (view for done in self._running for view in done.result()),
                key=lambda view: view.frame,
            )

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _start(self, run: bool) -> None:
        batch, self._batches[run] = self._batches[run], []
        if batch:
            self._running.append(self._pool.submit(self._look, batch))
            if len(self._running) > 2 * self._workers:
                self._running[-2 * self._workers].result()

    def _look(self, batch: list[tuple[int, np.ndarray, bool]]) -> list[View]:
        landmarker = self._idle.get()
        try:
            found = landmarker.track([picture for _, picture, _ in batch])
            return [
                self._view(
                    landmarker, frame, picture, sample, found.points[i], found.blendshapes[i]
                )
                for i, (frame, picture, sample) in enumerate(batch)
            ]
        finally:
            self._idle.put(landmarker)

    def _view(
        self,
        landmarker: FaceLandmarker,
        frame: int,
        picture: np.ndarray,
        sample: bool,
        points: np.ndarray,
        blendshapes: np.ndarray,
    ) -> View:
        faces, second, small = -1, None, None
        if sample:
            boxes = landmarker.faces(picture)
            faces = len(boxes)
            if faces > 1 and boxes[1].size.max() > SECOND_FACE * boxes[0].size.max():
                half = boxes[1].size / 2
                second = (
                    np.concatenate([boxes[1].centre - half, boxes[1].centre + half]) * self.scale
                )
            small = cv2.resize(
                cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), self.small, interpolation=cv2.INTER_AREA
            )
        sharpness, skin = _face_facts(picture, points)
        return View(
            frame,
            points * np.float32(self.scale),
            blendshapes,
            faces,
            second,
            sharpness,
            skin,
            small,
        )


def scan(info: media.MediaInfo, landmarker: FaceLandmarker, advance: Advance | None = None) -> Scan:
    """What one pass over the clip sees. advance(n): n more frames have gone by.

    Every frame is decoded, a stretch of RUN_SECONDS is looked at frame by frame and the rest in
    steps. Memory grows with the clip's length by some 200 bytes a frame, and by 90 kB a sample.
    """
    scale = max(1.0, max(info.width, info.height) / LOOK_SIDE)
    size = round(info.width / scale), round(info.height / scale)
    thumb = thumb_size(info.width, info.height)
    looker = _Looker(landmarker, info.width / size[0], thumb_size(*size, SMALL_AREA))
    run_from = (
        min(RUN_FROM_MAX, RUN_FROM * info.duration) if info.duration > 1.2 * RUN_SECONDS else 0.0
    )
    finder, stamps, numbers, resized = (
        CutFinder(),
        list[float](),
        list[tuple[float, ...]](),
        list[int](),
    )
    before, shape, following = None, None, 0.0
    try:
        for stamp, frame in media.read_timed(info.path):
            number, time = len(stamps), stamp - (stamps[0] if stamps else stamp)
            if shape not in (None, (frame.width, frame.height)):
                resized.append(number)
            shape = frame.width, frame.height
            grey = media.grey_picture(frame, *thumb)
            finder.add(grey)
            numbers.append(_frame_facts(before, grey))
            sample, run = time >= following - 0.5 / FPS, run_from <= time < run_from + RUN_SECONDS
            if sample or run:
                looker.add(number, media.picture(frame, *size, smooth=False), run, sample)
            if sample:
                following = max(following + max(SAMPLE_SECONDS, time / SAMPLES), time)
            stamps.append(stamp)
            before = grey
            if advance:
                advance(1)
        views = looker.finish()
    finally:
        looker.stop()
    change, drift, light, contrast = np.array(numbers, np.float32).reshape(-1, 4).T
    return Scan(
        info, np.array(stamps), change, drift, light, contrast, finder.finish(), resized, views
    )


def _frame_facts(before: np.ndarray | None, now: np.ndarray) -> tuple[float, ...]:
    mean, deviation = cv2.meanStdDev(now)
    if before is None:
        return 0.0, 0.0, float(mean[0, 0]), float(deviation[0, 0])
    signed = now.astype(np.int16) - before
    steady = signed[np.abs(signed) < 8]
    return (
        float(np.abs(signed).mean()),
        float(steady.mean()) if 2 * len(steady) > signed.size else float("nan"),
        float(mean[0, 0]),
        float(deviation[0, 0]),
    )


def _face_facts(picture: np.ndarray, points: np.ndarray) -> tuple[float, np.ndarray]:
    """Sharpness and mean colour of the face with these points [478, 3] px, NaN without one."""
    nothing = float("nan"), np.full(3, np.nan, np.float32)
    if np.isnan(points[0, 0]):
        return nothing
    centre, half = (
        points[:468, :2].mean(0),
        0.45 * float(np.linalg.norm(points[CHIN, :2] - points[BROW_TOP, :2])),
    )
    height, width = picture.shape[:2]
    left, top = np.clip(np.round(centre - half).astype(int), 0, [width, height])
    right, bottom = np.clip(np.round(centre + half).astype(int), 0, [width, height])
    if right - left < 8 or bottom - top < 8:
        return nothing
    face = picture[top:bottom, left:right]
    shrunk = min(1.0, FACE_PIXELS / (2 * half))
    if shrunk < 1:
        face = cv2.resize(face, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    detail = cv2.Laplacian(grey, cv2.CV_32F, ksize=3)
    return float(detail.std() / (grey.std() + 1.0)), face.reshape(-1, 3).mean(0, dtype=np.float32)

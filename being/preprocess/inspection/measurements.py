"""One pass over a clip: measurements of every frame, cuts, and face landmarks of sampled frames."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import cv2
import numpy as np

from being import media
from being.conventions import FPS
from being.face.landmarks import MESH_POINTS, FaceLandmarker
from being.face.topology import BROW_TOP, CHIN
from being.preprocess.inspection.cuts import CutDetector, thumbnail_size
from being.preprocess.inspection.face_patch import face_patch
from being.threads import allowed_cores

FACE_SEARCH_SIDE = 1280  # px, longer side of the pictures in which the face is searched
# px, side of a square with the area of the thumbnails kept for the steadiness of the camera
THUMBNAIL_SIDE = 288
RUN_SECONDS = 16.0  # length of the runs in which every frame is sampled
# Start of the first run over the length that the header gives, and its latest start in s.
RUN_FROM, RUN_FROM_MAX = 0.1, 5.0
RUN_TO_END = 0.5  # s from the last run to the end
RUN_APART = 60.0  # s between the starts of the first and the last run, from which one lies between
# Step between the other samples, s. It grows after SAMPLES samples: an hour has about 1,400.
SAMPLE_SECONDS = 0.32
SAMPLES = 300
BATCH = 32  # frames that one thread follows at a time
# Side of another face over the side of the first, from which it is a second person.
SECOND_FACE = 0.4
FACE_PIXELS = 160  # px, side to which a face is shrunk before its sharpness is measured
FACE_PIXELS_MIN = 8  # px, smallest visible part of a face that is measured
FACE_PATCH = 0.45  # half the side of the measured square over the face's height (brow to chin)
BLOCK = 8  # px of the compared pictures, side of the blocks in which their change is kept
STEADY_LEVELS = 8  # a pixel that changes by less shows the light, not motion

Advance = Callable[[int], None]


@dataclass(frozen=True)
class SampledFrame:
    """One frame in which the face was searched; lengths in px of the upright source picture."""

    # of the source frame, from 0
    number: int
    # float32 [478, 3], NaN without a face
    points: np.ndarray
    # float32 [52]
    blendshapes: np.ndarray
    # faces in the frame; -1 where only the known face was followed
    face_count: int
    # float32 [4]: left, top, right, bottom of a second person's face
    second_face: np.ndarray | None
    # of the face: deviation of its Laplacian over its own deviation; NaN without a face
    sharpness: float
    # float32 [3], mean RGB colour of the face, levels; NaN without a face
    skin: np.ndarray
    # uint8 [h, w] grey; None for frames that belong to the run only
    thumbnail: np.ndarray | None
    # uint8 [64, 64, 3] RGB, the face, by `face_patch`; None without one
    patch: np.ndarray | None = None


@dataclass(frozen=True)
class ClipMeasurements:
    """The measurements of the n frames of a clip."""

    info: media.MediaInfo
    # float64 [n], s on the container's clock, ascending
    timestamps: np.ndarray
    # float32 [n], mean difference to the frame before, levels
    change: np.ndarray
    # float16 [n, rows, columns], the same in blocks of about BLOCK px of the compared pictures
    block_change: np.ndarray
    # float32 [n], change of the light since the frame before, levels, without moving pixels
    light_change: np.ndarray
    # float32 [n], mean, levels
    brightness: np.ndarray
    # float32 [n], deviation, levels
    contrast: np.ndarray
    # first frames of new shots
    cuts: list[int]
    # frames from which on the pictures have another size
    resized: list[int]
    # in the order of time
    samples: list[SampledFrame]


class _FaceSampler:
    """Finds the face in batches of pictures, each batch in one thread.

    Few batches wait at a time, so the memory does not grow with the clip.
    """

    def __init__(self, landmarker: FaceLandmarker, scale: float, thumbnail: tuple[int, int]):
        """scale: source px over px of the pictures; thumbnail: width, height in px."""
        self.scale, self.thumbnail = scale, thumbnail
        self._workers = min(4, allowed_cores())
        self._idle: SimpleQueue[FaceLandmarker] = SimpleQueue()
        for _ in range(self._workers):
            self._idle.put(landmarker.clone())
        self._pool = ThreadPoolExecutor(self._workers)
        self._running: list[Future[list[SampledFrame]]] = []
        # The frames of the run are consecutive; the others have their own batch, because a
        # landmarker follows the face from frame to frame.
        self._batches: dict[bool, list[tuple[int, np.ndarray, bool]]] = {False: [], True: []}

    def add(self, number: int, picture: np.ndarray, in_run: bool, count_faces: bool) -> None:
        """Take frame `number`, uint8 [h, w, 3] RGB.

        in_run: every frame around it is sampled too. count_faces: also count all faces, and keep a
        thumbnail.
        """
        batch = self._batches[in_run]
        batch.append((number, picture, count_faces))
        if len(batch) == BATCH:
            self._start(in_run)

    def finish(self) -> list[SampledFrame]:
        """All sampled frames, in the order of time."""
        for in_run in (False, True):
            self._start(in_run)
        with self._pool:
            samples = [sample for batch in self._running for sample in batch.result()]
        return sorted(samples, key=lambda sample: sample.number)

    def stop(self) -> None:
        """Cancel what waits."""
        self._pool.shutdown(cancel_futures=True)

    def _start(self, in_run: bool) -> None:
        batch, self._batches[in_run] = self._batches[in_run], []
        if batch:
            self._running.append(self._pool.submit(self._find, batch))
            if len(self._running) > 2 * self._workers:
                self._running[-2 * self._workers].result()

    def _find(self, batch: list[tuple[int, np.ndarray, bool]]) -> list[SampledFrame]:
        landmarker = self._idle.get()
        try:
            found = landmarker.track([picture for _, picture, _ in batch])
            return [
                self._sample(landmarker, *frame, found.points[i], found.blendshapes[i])
                for i, frame in enumerate(batch)
            ]
        finally:
            self._idle.put(landmarker)

    def _sample(
        self,
        landmarker: FaceLandmarker,
        number: int,
        picture: np.ndarray,
        count_faces: bool,
        points: np.ndarray,
        blendshapes: np.ndarray,
    ) -> SampledFrame:
        face_count, second_face, thumbnail = -1, None, None
        if count_faces:
            boxes = landmarker.detect_faces(picture)
            face_count = len(boxes)
            if face_count > 1 and boxes[1].size.max() > SECOND_FACE * boxes[0].size.max():
                centre, half = boxes[1].centre, boxes[1].size / 2
                second_face = np.concatenate([centre - half, centre + half]) * self.scale
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            thumbnail = cv2.resize(grey, self.thumbnail, interpolation=cv2.INTER_AREA)
        sharpness, skin = _measure_face(picture, points)
        return SampledFrame(
            number,
            points * np.float32(self.scale),
            blendshapes,
            face_count,
            second_face,
            sharpness,
            skin,
            thumbnail,
            face_patch(picture, points),
        )


def run_starts(seconds: float) -> list[float]:
    """Where the runs start in a clip of so many seconds, s: one near its start, one at its end.

    A third one lies between them in a long clip. Together they show whether the audio drifts.
    """
    if seconds <= 1.2 * RUN_SECONDS:
        return [0.0]
    first = min(RUN_FROM_MAX, RUN_FROM * seconds)
    last = seconds - RUN_TO_END - RUN_SECONDS
    if last < first + RUN_SECONDS:
        return [first]
    between = [(first + last) / 2] if last - first >= RUN_APART else []
    return [first, *between, last]


def measure_clip(
    info: media.MediaInfo, landmarker: FaceLandmarker, advance: Advance | None = None
) -> ClipMeasurements:
    """The measurements of one pass over the clip. advance(n): n more frames have been decoded.

    Every frame is decoded. The face is searched in each frame of some runs of RUN_SECONDS, and in
    samples of the rest. Memory grows with the clip's length by some 700 bytes a frame, and by
    100 kB a sample.
    """
    # Sizes in px of the pictures for the face search, the cuts and the steadiness.
    scale = max(1.0, max(info.width, info.height) / FACE_SEARCH_SIDE)
    size = round(info.width / scale), round(info.height / scale)
    cut_size = thumbnail_size(info.width, info.height)
    sampler = _FaceSampler(landmarker, info.width / size[0], thumbnail_size(*size, THUMBNAIL_SIDE))
    runs = run_starts(info.duration)

    detector = CutDetector()
    timestamps: list[float] = []
    numbers: list[tuple[float, ...]] = []
    blocks: list[np.ndarray] = []
    resized: list[int] = []
    before, shape, next_sample = None, None, 0.0
    try:
        for timestamp, frame in media.read_timed_frames(info.path):
            number = len(timestamps)
            time = timestamp - timestamps[0] if timestamps else 0.0
            if shape not in (None, (frame.width, frame.height)):
                resized.append(number)
            shape = frame.width, frame.height

            # Of every frame: cuts, change, light.
            grey = media.grey_image(frame, *cut_size)
            detector.add(grey)
            numbers.append(_measure_frame(before, grey))
            blocks.append(_block_change(before, grey))

            # Of sampled frames: the face.
            is_sample = time >= next_sample - 0.5 / FPS
            in_run = any(start <= time < start + RUN_SECONDS for start in runs)
            if is_sample or in_run:
                picture = media.rgb_image(frame, *size, smooth=False)
                sampler.add(number, picture, in_run, is_sample)
            if is_sample:
                next_sample = max(next_sample + max(SAMPLE_SECONDS, time / SAMPLES), time)

            timestamps.append(timestamp)
            before = grey
            if advance:
                advance(1)
        samples = sampler.finish()
    finally:
        sampler.stop()

    change, light_change, brightness, contrast = np.array(numbers, np.float32).reshape(-1, 4).T
    return ClipMeasurements(
        info,
        np.array(timestamps),
        change,
        np.stack(blocks) if blocks else np.zeros((0, 1, 1), np.float16),
        light_change,
        brightness,
        contrast,
        detector.finish(),
        resized,
        samples,
    )


def _measure_frame(before: np.ndarray | None, now: np.ndarray) -> tuple[float, ...]:
    """Change, change of the light, mean and deviation of a grey picture uint8 [h, w], levels."""
    mean, deviation = cv2.meanStdDev(now)
    if before is None:
        return 0.0, 0.0, float(mean[0, 0]), float(deviation[0, 0])
    signed = now.astype(np.int16) - before
    steady = signed[np.abs(signed) < STEADY_LEVELS]
    light_change = float(steady.mean()) if 2 * len(steady) > signed.size else float("nan")
    return float(np.abs(signed).mean()), light_change, float(mean[0, 0]), float(deviation[0, 0])


def _block_change(before: np.ndarray | None, now: np.ndarray) -> np.ndarray:
    """Mean difference of two grey pictures uint8 [h, w] in blocks, levels: float16 [rows, columns].

    0 without a picture before.
    """
    columns, rows = (max(1, round(side / BLOCK)) for side in now.shape[::-1])
    if before is None:
        return np.zeros((rows, columns), np.float16)
    difference = cv2.absdiff(before, now).astype(np.float32)
    return cv2.resize(difference, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float16)


def _measure_face(picture: np.ndarray, points: np.ndarray) -> tuple[float, np.ndarray]:
    """Sharpness and mean colour of the face with landmarks [478, 3] px; NaN without a face."""
    nothing = float("nan"), np.full(3, np.nan, np.float32)
    if np.isnan(points[0, 0]):
        return nothing

    # The part of the face that lies inside the picture.
    centre = points[:MESH_POINTS, :2].mean(0)
    half = FACE_PATCH * float(np.linalg.norm(points[CHIN, :2] - points[BROW_TOP, :2]))
    height, width = picture.shape[:2]
    left, top = np.clip(np.round(centre - half).astype(int), 0, [width, height])
    right, bottom = np.clip(np.round(centre + half).astype(int), 0, [width, height])
    if min(right - left, bottom - top) < FACE_PIXELS_MIN:
        return nothing
    face = picture[top:bottom, left:right]

    # Sharpness is comparable only between faces of about one size.
    shrink = min(1.0, FACE_PIXELS / (2 * half))
    if shrink < 1:
        face = cv2.resize(face, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    detail = cv2.Laplacian(grey, cv2.CV_32F, ksize=3)
    sharpness = float(detail.std() / (grey.std() + 1.0))
    return sharpness, face.reshape(-1, 3).mean(0, dtype=np.float32)

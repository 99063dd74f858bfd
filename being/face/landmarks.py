"""Face landmarks of images and clips: 478 points, 52 blendshapes and a confidence per frame.

Runs the three networks inside MediaPipe's `face_landmarker.task` (Apache-2.0) on LiteRT:

1. The detector finds faces in the whole image.
2. The landmark network gives 478 points in a square region, rotated so that the eyes are level.
   The region of the next frame follows from the points of this frame. Where the face is lost, the
   detector runs again.
3. The blendshape network gives 52 blendshapes from the points.

The constants follow MediaPipe's own graphs (BlazeFace, Bazarevsky et al. 2019; Attention Mesh,
Grishchenko et al. 2020).
"""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np

from being.face.litert import load_network
from being.face.topology import (
    BLENDSHAPE_INPUTS,
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    LIP_LOWER,
    LIP_UPPER,
)
from being.threads import allowed_cores

POINTS = 478  # 468 mesh points, then 2 x 5 iris points
MESH_POINTS = 468
BLENDSHAPES = 52
DETECTOR_SIDE = 128  # px
LANDMARK_SIDE = 256  # px
REGION_SCALE = 1.5  # region side over the longer side of the face box
DETECTION_MIN = 0.5  # detector score from which a box is a face
PRESENCE_MIN = 0.5  # landmark network's score from which the region shows a face
SAME_FACE_OVERLAP = 0.3  # intersection over union from which two boxes are one face
# Frames that one worker tracks in sequence. The number is fixed, so that results do not depend on
# the number of workers.
CHUNK_FRAMES = 128

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of a clip; frames without a face have confidence 0 and NaN points."""

    # float32 [F, 478, 3], px: x right, y down, z at the same scale; pixel centres are whole.
    points: np.ndarray
    blendshapes: np.ndarray  # float32 [F, 52] in 0..1, in the order of BLENDSHAPE_NAMES
    confidence: np.ndarray  # float32 [F] in 0..1

    @property
    def found(self) -> np.ndarray:
        """bool [F]: the frames in which a face was found."""
        return self.confidence > 0

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, frames: slice | np.ndarray) -> Landmarks:
        return Landmarks(self.points[frames], self.blendshapes[frames], self.confidence[frames])


@dataclass(frozen=True)
class FaceBox:
    """One detected face."""

    centre: np.ndarray  # float32 [2], px
    size: np.ndarray  # float32 [2], px: width and height (brow to chin, without hair)
    eyes: np.ndarray  # float32 [2, 2], px: the person's right eye, then the left
    score: float  # 0..1


@dataclass(frozen=True)
class _Region:
    """A rotated square of the image."""

    centre: np.ndarray  # [2] px
    side: float  # px
    angle: float  # radians, of the eye line in the image


def lip_aperture(points: np.ndarray) -> np.ndarray:
    """Lip aperture float32 [...]: inner-lip distance over outer-eye distance, dimensionless.

    points: float [..., 478, 2 or 3] px, only x and y are used. NaN where the points are NaN.
    """
    assert points.shape[-2] >= MESH_POINTS and points.shape[-1] in (2, 3), points.shape
    xy = points[..., :2]
    lips = np.linalg.norm(xy[..., LIP_UPPER, :] - xy[..., LIP_LOWER, :], axis=-1)
    eyes = np.linalg.norm(xy[..., EYE_OUTER_RIGHT, :] - xy[..., EYE_OUTER_LEFT, :], axis=-1)
    return (lips / np.maximum(eyes, 1e-6)).astype(np.float32)


class FaceLandmarker:
    """Detects faces and tracks the largest one.

    One object may be used from one thread only; `track` starts threads of its own.
    """

    def __init__(self, model: Path | None = None, workers: int | None = None):
        """Load the networks.

        model: a `face_landmarker.task`, by default the one that `being.assets` provides. workers:
        threads of `track`, by default up to 8. Raises EnvironmentFault without LiteRT.
        """
        self._files = _task_files(model or _default_model())
        self._workers = workers or min(8, allowed_cores())
        self._networks = _Networks(self._files)

    def clone(self) -> FaceLandmarker:
        """A copy with the same model, for use in another thread."""
        other = copy.copy(self)
        other._networks = _Networks(self._files)
        return other

    def detect_faces(self, frame: np.ndarray) -> list[FaceBox]:
        """Faces in one image, largest first. frame: uint8 [H, W, 3] RGB."""
        _check_frame(frame)
        return self._networks.detect_faces(frame)

    def detect(self, frame: np.ndarray) -> Landmarks:
        """Landmarks (F = 1) of the largest face of an image, without a previous frame.

        frame: uint8 [H, W, 3] RGB.
        """
        _check_frame(frame)
        points, blendshapes, confidence, _ = self._networks.track_frame(frame, None)
        return Landmarks(points[None], blendshapes[None], np.array([confidence], np.float32))

    def track(
        self, frames: Sequence[np.ndarray] | np.ndarray, progress: Progress | None = None
    ) -> Landmarks:
        """Landmarks of every frame of a clip.

        frames: uint8 [F, H, W, 3] RGB, or any sequence of [H, W, 3] images; it is indexed from
        several threads. progress(n) is called when n more frames are done.
        """
        count = len(frames)
        points = np.full((count, POINTS, 3), np.nan, np.float32)
        blendshapes = np.zeros((count, BLENDSHAPES), np.float32)
        confidence = np.zeros(count, np.float32)

        # Each worker thread takes a set of networks for one chunk at a time.
        workers = max(1, min(self._workers, -(-count // CHUNK_FRAMES)))
        idle: SimpleQueue[_Networks] = SimpleQueue()
        idle.put(self._networks)
        for _ in range(workers - 1):
            idle.put(_Networks(self._files))

        def track_chunk(start: int) -> int:
            networks, region = idle.get(), None
            try:
                stop = min(start + CHUNK_FRAMES, count)
                for i in range(start, stop):
                    frame = frames[i]
                    _check_frame(frame)
                    found = networks.track_frame(frame, region)
                    points[i], blendshapes[i], confidence[i], region = found
                return stop - start
            finally:
                idle.put(networks)

        with ThreadPoolExecutor(workers) as pool:
            for done in pool.map(track_chunk, range(0, count, CHUNK_FRAMES)):
                if progress:
                    progress(done)
        return Landmarks(points, blendshapes, confidence)


class _Networks:
    """The three networks of one thread."""

    def __init__(self, files: dict[str, bytes]):
        def load(name: str):
            return load_network(files[name], "face landmarks")

        self._detector = load("face_detector.tflite")
        self._landmark = load("face_landmarks_detector.tflite")
        self._blendshape = load("face_blendshapes.tflite")
        self._anchors = _anchors()

    def detect_faces(self, frame: np.ndarray) -> list[FaceBox]:
        """Faces of an image uint8 [H, W, 3] RGB, largest first.

        If the whole image shows none and is wide or tall, overlapping squares of it are searched.
        """
        height, width = frame.shape[:2]
        centre = np.array([width, height], np.float32) / 2 - 0.5
        boxes = self._faces_in(frame, _Region(centre, float(max(width, height)), 0.0))
        if not boxes and max(width, height) > 1.2 * min(width, height):
            for region in _squares(width, height):
                boxes += self._faces_in(frame, region)
        return _merge_overlapping(boxes)

    def track_frame(
        self, frame: np.ndarray, region: _Region | None
    ) -> tuple[np.ndarray, np.ndarray, float, _Region | None]:
        """Points [478, 3], blendshapes [52], confidence and the region of the next frame.

        region: from the frame before, or None: then the detector searches the image.
        """
        # The face where it was in the frame before.
        if region is not None:
            points, confidence = self._points(frame, region)
            if confidence >= PRESENCE_MIN:
                return points, self._blendshapes(points), confidence, _region_of_points(points)

        # The largest face of the detector. The landmark network runs twice, the second time on the
        # more exact region of its own points, so that the points do not jump in the next frame.
        for box in self.detect_faces(frame)[:1]:
            points, confidence = self._points(frame, _region_of_box(box))
            if confidence >= PRESENCE_MIN:
                points, confidence = self._points(frame, _region_of_points(points))
            if confidence >= PRESENCE_MIN:
                return points, self._blendshapes(points), confidence, _region_of_points(points)

        no_points = np.full((POINTS, 3), np.nan, np.float32)
        return no_points, np.zeros(BLENDSHAPES, np.float32), 0.0, None

    def _faces_in(self, frame: np.ndarray, region: _Region) -> list[FaceBox]:
        """All detections in a region, which may overlap."""
        crop, to_image = _crop(frame, region, DETECTOR_SIDE, cv2.BORDER_CONSTANT)
        outputs = _invoke(self._detector, crop * np.float32(2) - np.float32(1))
        raw, logits = outputs["regressors"][0], outputs["classificators"][0, :, 0]
        scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))

        boxes = []
        for i in np.flatnonzero(scores >= DETECTION_MIN):
            # Eight pairs of numbers in crop px: the box centre, the box size and six key points.
            # All but the size are relative to the anchor.
            pairs = raw[i].reshape(8, 2)
            anchor = self._anchors[i] * DETECTOR_SIDE
            pairs = np.concatenate([pairs[:1] + anchor, pairs[1:2], pairs[2:] + anchor])

            # Box centre and the two eyes in image px.
            in_crop = np.concatenate([pairs[:1], pairs[2:4]])
            in_image = in_crop @ to_image[:, :2].T + to_image[:, 2]
            size = pairs[1] * (region.side / DETECTOR_SIDE)
            boxes.append(FaceBox(in_image[0], size, in_image[1:], float(scores[i])))
        return boxes

    def _points(self, frame: np.ndarray, region: _Region) -> tuple[np.ndarray, float]:
        """Points float32 [478, 3] px in a region, and the probability that it shows a face."""
        crop, to_image = _crop(frame, region, LANDMARK_SIDE, cv2.BORDER_REPLICATE)
        outputs = _invoke(self._landmark, crop)
        local = outputs["Identity"].reshape(POINTS, 3)
        points = np.empty((POINTS, 3), np.float32)
        points[:, :2] = local[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        points[:, 2] = local[:, 2] * (region.side / LANDMARK_SIDE)
        return points, float(1 / (1 + np.exp(-outputs["Identity_1"].item())))

    def _blendshapes(self, points: np.ndarray) -> np.ndarray:
        """Blendshapes float32 [52] in 0..1 of points [478, 3] px."""
        outputs = _invoke(self._blendshape, points[BLENDSHAPE_INPUTS, :2])
        return np.clip(next(iter(outputs.values())).reshape(BLENDSHAPES), 0, 1)


def _invoke(network, value: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs by name of a network for one input without its batch axis."""
    index = network.get_input_details()[0]["index"]
    network.set_tensor(index, np.ascontiguousarray(value[None], np.float32))
    network.invoke()
    return {
        output["name"]: network.get_tensor(output["index"])
        for output in network.get_output_details()
    }


def _crop(
    frame: np.ndarray, region: _Region, side: int, border: int
) -> tuple[np.ndarray, np.ndarray]:
    """A region as float32 [side, side, 3] in 0..1, and the affine map [2, 3] crop px -> image px.

    The networks return crop px in which the first pixel's centre is at 0.5. This was measured: with
    0.5, a mirrored image gives mirrored points to 0.2 px; with 0, they are 1.4 px apart.
    """
    scale = region.side / side
    cos, sin = np.cos(region.angle) * scale, np.sin(region.angle) * scale
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = region.centre - linear @ np.full(2, side / 2)

    # OpenCV's pixel centres are at whole numbers, so its map is half a pixel further.
    sampling = np.concatenate([linear, (offset + linear @ np.full(2, 0.5))[:, None]], 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(frame, sampling, (side, side), flags=flags, borderMode=border)
    to_image = np.concatenate([linear, offset[:, None]], 1)
    return crop.astype(np.float32) * np.float32(1 / 255), to_image.astype(np.float32)


def _region_of_box(box: FaceBox) -> _Region:
    """The region of the landmark network for a detected face."""
    across = box.eyes[1] - box.eyes[0]
    angle = float(np.arctan2(across[1], across[0]))
    return _Region(box.centre, float(box.size.max()) * REGION_SCALE, angle)


def _region_of_points(points: np.ndarray) -> _Region:
    """The region of the landmark network for points [478, 3] px of the frame before."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    across = points[EYE_OUTER_LEFT, :2] - points[EYE_OUTER_RIGHT, :2]
    angle = float(np.arctan2(across[1], across[0]))
    return _Region((low + high) / 2, float((high - low).max()) * REGION_SCALE, angle)


def _squares(width: int, height: int) -> Iterator[_Region]:
    """Overlapping squares along the longer side of an image, each as wide as its shorter side."""
    short, long = min(width, height), max(width, height)
    for start in np.linspace(0, long - short, 2 + 2 * (long - short) // short):
        along, across = start + short / 2, short / 2
        centre = np.array([along, across] if width > height else [across, along])
        yield _Region(centre.astype(np.float32) - 0.5, float(short), 0.0)


def _merge_overlapping(boxes: list[FaceBox]) -> list[FaceBox]:
    """One box a face, largest first: overlapping boxes become their score-weighted mean.

    This is the blending of BlazeFace, in place of non-maximum suppression.
    """
    rest, kept = sorted(boxes, key=lambda box: -box.score), []
    while rest:
        same = [box for box in rest if _overlap(rest[0], box) > SAME_FACE_OVERLAP]
        rest = [box for box in rest if not any(box is other for other in same)]
        weights = np.array([box.score for box in same]) / sum(box.score for box in same)
        centre, size, eyes = (
            sum(w * getattr(box, name) for w, box in zip(weights, same, strict=True))
            for name in ("centre", "size", "eyes")
        )
        kept.append(FaceBox(centre, size, eyes, same[0].score))
    return sorted(kept, key=lambda box: -float(box.size.prod()))


def _overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(one.centre - one.size / 2, other.centre - other.size / 2)
    high = np.minimum(one.centre + one.size / 2, other.centre + other.size / 2)
    shared = float(np.clip(high - low, 0, None).prod())
    return shared / (float(one.size.prod()) + float(other.size.prod()) - shared + 1e-9)


@lru_cache(maxsize=1)
def _anchors() -> np.ndarray:
    """Anchor centres float32 [896, 2] of the short-range detector, as shares of the image.

    Each of 16 x 16 cells has two anchors, then each of 8 x 8 cells has six.
    """
    layers = []
    for cells, times in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        layers.append(np.repeat((np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells, times, axis=0))
    return np.concatenate(layers).astype(np.float32)


def _check_frame(frame: np.ndarray) -> None:
    """Assert a frame uint8 [H, W, 3]."""
    assert frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8, (
        frame.shape,
        frame.dtype,
    )


def _default_model() -> Path:
    """The `face_landmarker.task` of `being.assets`."""
    from being import assets

    return assets.fetch("face_landmarker")


def _task_files(model: Path) -> dict[str, bytes]:
    """The files in a `.task` archive by name."""
    with zipfile.ZipFile(io.BytesIO(Path(model).read_bytes())) as task:
        return {name: task.read(name) for name in task.namelist()}

"""Refines a sequence of frames: model, mouth mask, temporal blending, identity guard.

The model sees frames at its own size. What it changed is added to the frame at the frame's size, so
details that are finer than the model's pixels stay. H x W px is the size of the frames, h x w px
that of the model.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from being.errors import InputRejected, UsageError
from being.face.face_reader import LANDMARK_SIDE
from being.face.landmarks import Landmarks
from being.refine.identity_guard import FaceDescriptor, IdentityGuard, changed_image
from being.refine.image_model import ImageModel
from being.refine.motion import Motion
from being.refine.mouth_mask import mouth_mask

STRENGTH_MIN, STEPS_MAX, BLEND_MAX, SIDE_MIN, SIDE_MAX = 0.05, 50, 0.95, 64, 2048
BATCH_MAX = 64
LIMIT = 0.3  # half of the distance at which two faces count as two people's


class LandmarkReader(Protocol):
    """What reads the landmarks of frames: `being.face.face_reader.FaceReader`."""

    def read(self, *sequences: np.ndarray) -> list[Landmarks]:
        """Landmarks of each sequence of images uint8 [F, H, W, 3]."""


@dataclass(frozen=True)
class RefineSettings:
    """What a person may choose. Raises UsageError for a value out of its bounds."""

    strength: float = 0.3  # how much the model may change, in [0.05, 1]
    steps: int = 1  # denoising steps a frame
    blend: float = 0.5  # share of the last frame's change that is taken on, in [0, 0.95]
    batch: int = 4  # frames that the model changes at once
    side: int | None = None  # px of the shorter side at which it works; None: the model's own
    keep_mouth: bool = True
    limit: float | None = LIMIT  # of the identity guard; None: no guard

    def __post_init__(self) -> None:
        _check("--strength", self.strength, STRENGTH_MIN, 1.0)
        _check("--steps", self.steps, 1, STEPS_MAX)
        _check("--blend", self.blend, 0.0, BLEND_MAX)
        _check("--batch", self.batch, 1, BATCH_MAX)
        if self.side is not None:
            _check("--side", self.side, SIDE_MIN, SIDE_MAX)
        if self.limit is not None:
            _check("--identity-limit", self.limit, 0.0, 2.0)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} {value:g} is out of bounds", fix=f"Give {low:g} to {high:g}")


class Refiner:
    """Refines the frames of one video, in order. Memory does not grow with their number."""

    def __init__(
        self,
        model: ImageModel,
        settings: RefineSettings,
        reader: LandmarkReader | None = None,
        network: FaceDescriptor | None = None,
    ):
        """reader: needed for the mouth mask and the guard. network: needed for the guard; without a
        guard it measures.
        """
        needs_face = settings.keep_mouth or network is not None
        assert reader is not None or not needs_face, "landmarks are needed"
        assert network is not None or settings.limit is None, "the guard needs a network"
        self._model, self._settings, self._reader = model, settings, reader
        self._guard = None if network is None else IdentityGuard(network, settings.limit)
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._flicker: list[tuple[float, float]] = []
        self.frames, self.faceless = 0, 0
        self.seconds = 0.0  # that refining took

    def refine(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The refined frames uint8 [H, W, 3] of frames of one size, in order."""
        iterator = iter(images)
        while block := list(itertools.islice(iterator, self._settings.batch)):
            start = time.perf_counter()
            refined = self._refined(block)
            self.seconds += time.perf_counter() - start
            yield from refined

    def _refined(self, block: list[np.ndarray]) -> list[np.ndarray]:
        """The refined frames of a batch."""
        settings = self._settings
        if block[0].ndim != 3 or block[0].shape[2] != 3:
            raise InputRejected(
                "frames with transparency cannot be refined",
                fix="Render the video with a background",
            )
        height, width = self._model_size(*block[0].shape[:2])
        small = np.stack([_resized(image, height, width) for image in block])
        changed = self._model.change(small, settings.strength, settings.steps)
        points = self._points(np.stack(block))
        return [self._finished(*parts) for parts in zip(block, small, changed, points, strict=True)]

    def _points(self, images: np.ndarray) -> list[np.ndarray | None]:
        """The landmarks [478, 3] of each frame, None where no face was found."""
        if self._reader is None:
            return [None] * len(images)
        (found,) = self._reader.read(images)
        self.faceless += int((~found.found).sum())
        pairs = zip(found.points, found.found, strict=True)
        return [points if seen else None for points, seen in pairs]

    def _finished(
        self, frame: np.ndarray, small: np.ndarray, changed: np.ndarray, points: np.ndarray | None
    ) -> np.ndarray:
        """A refined frame [H, W, 3]; changed: what the model made of the small frame [h, w, 3]."""
        settings, (height, width) = self._settings, small.shape[:2]
        change = changed - small

        # Take on a share of the last change where the picture only moved.
        motion = None if self._last is None else Motion(self._last[0], small)
        if motion is not None and self._last is not None:
            share = (settings.blend * motion.trust)[..., None]
            change = (1 - share) * change + share * motion.moved(self._last[1])
        blended = change

        # Leave the mouth, and the face where it becomes another's.
        if settings.keep_mouth:
            if points is None:
                change = np.zeros_like(change)
            else:
                scale = min(height, width) / LANDMARK_SIDE
                change = change * (1 - mouth_mask(points * scale, height, width)[..., None])
        if self._guard is not None:
            change = change * np.float32(self._guard.gain(small, change, points))

        made = small + change
        if motion is not None and self._last is not None:
            pair = motion.flicker(self._last[0], small), motion.flicker(self._last[2], made)
            self._flicker.append(pair)
        self._last = small, blended, made
        self.frames += 1
        if change.shape != frame.shape:
            change = _resized(change, *frame.shape[:2])
        return changed_image(frame, change)

    def _model_size(self, height: int, width: int) -> tuple[int, int]:
        """The size h, w of the model's images for frames of a size."""
        side, multiple = self._settings.side or self._model.side, self._model.multiple
        scale = side / min(height, width)

        def rounded(length: int) -> int:
            return max(1, round(length * scale / multiple)) * multiple

        return rounded(height), rounded(width)

    def over(self, limit: float | None) -> int | None:
        """Frames whose identity distance is above a limit; None where nothing was measured."""
        if self._guard is None or limit is None:
            return None
        return sum(distance > limit for distance in self._guard.distances)

    def figures(self) -> dict[str, Any]:
        """What the refinement cost, as JSON types: ms a frame, identity, flicker."""
        distances = self._guard.distances if self._guard is not None else []
        flicker = np.array(self._flicker).reshape(-1, 2)
        before, after = flicker.mean(0) if len(flicker) else (None, None)
        return {
            "strength": self._settings.strength,
            "refine_ms": round(1000 * self.seconds / max(self.frames, 1), 2),
            "identity_mean": _rounded(np.mean(distances) if distances else None, 4),
            "identity_max": _rounded(np.max(distances) if distances else None, 4),
            "held_back": self._guard.held_back if self._guard is not None else None,
            "faceless": self.faceless if self._reader is not None else None,
            "flicker_before": _rounded(before, 3),
            "flicker_after": _rounded(after, 3),
        }


def _rounded(value: Any, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image [height, width, 3], of the same type."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    smaller = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)

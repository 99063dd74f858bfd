"""The refiner: what stays, what is blended, what the guard holds back, and how frames flow."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from being.errors import InputRejected, UsageError
from being.face.landmarks import Landmarks
from being.refine.image_model import schedule_steps
from being.refine.motion import Motion
from being.refine.mouth_mask import LIPS, mouth_mask
from being.refine.refiner import Refiner, RefineSettings

SIDE = 64
BARE = RefineSettings(keep_mouth=False, limit=None, blend=0.0)


class Scripted:
    """An image model that adds one number after the other to the frames."""

    name, side, multiple = "scripted", SIDE, 8

    def __init__(self, *levels: float):
        self.levels, self.seen = itertools.cycle(levels), []

    def change(self, images: np.ndarray, strength: float, steps: int) -> np.ndarray:
        self.seen.append(images.shape)
        return np.stack([image + np.float32(next(self.levels)) for image in images])


class OneFace:
    """Landmarks of a mouth in the lower middle of each frame; none where the frame is black."""

    def read(self, *sequences: np.ndarray) -> list[Landmarks]:
        (images,) = sequences
        points = np.full((len(images), 478, 3), 256.0, np.float32)
        angles = np.linspace(0, 2 * np.pi, len(LIPS), endpoint=False)
        points[:, LIPS, 0] = 256 + 60 * np.cos(angles)
        points[:, LIPS, 1] = 360 + 30 * np.sin(angles)
        found = np.array([image.any() for image in images], np.float32)
        points[found == 0] = np.nan
        return [Landmarks(points, np.zeros((len(images), 52), np.float32), found)]


class MeanLevel:
    """A face descriptor: the mean level of the image in hundreds."""

    def descriptor(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.array([image.mean() / 100, *np.zeros(127)], np.float32)


def noise(count: int = 1, height: int = SIDE, width: int = SIDE) -> list[np.ndarray]:
    """The same smooth picture `count` times, levels about 100."""
    random = np.random.default_rng(0).integers(60, 140, (height, width, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(random, (0, 0), 2)
    return [picture.copy() for _ in range(count)]


@pytest.mark.parametrize("size", [(64, 64), (150, 100), (40, 60)])
def test_a_model_that_changes_nothing_leaves_every_pixel(size):
    (frame,) = noise(1, *size)
    (refined,) = Refiner(Scripted(0), BARE).refine([frame])
    assert refined.dtype == np.uint8 and np.array_equal(refined, frame)


def test_the_change_is_added_at_the_size_of_the_frame():
    (frame,) = noise(1, 192, 128)
    model = Scripted(20)
    (refined,) = Refiner(model, BARE).refine([frame])
    assert model.seen == [(1, 96, 64, 3)]  # the shorter side is the model's own
    assert np.array_equal(refined, frame + 20)


def test_the_mouth_stays_and_the_rest_changes():
    (frame,) = noise()
    settings = RefineSettings(limit=None, blend=0.0)
    (refined,) = Refiner(Scripted(30), settings, OneFace()).refine([frame])
    difference = refined.astype(int) - frame
    points = OneFace().read(np.stack([frame]))[0].points[0] * SIDE / 512
    inside = cv2.fillConvexPoly(
        np.zeros((SIDE, SIDE), np.uint8), cv2.convexHull(points[LIPS, :2].round().astype(int)), 1
    )
    assert abs(difference[inside == 1]).max() <= 1
    assert (difference[:20] == 30).all()
    assert mouth_mask(points, SIDE, SIDE).max() == pytest.approx(1, abs=1e-3)


def test_a_frame_without_a_face_stays_as_it_is():
    frames = [*noise(), np.zeros((SIDE, SIDE, 3), np.uint8)]
    settings = RefineSettings(blend=0.0, limit=0.5)
    refiner = Refiner(Scripted(30), settings, OneFace(), MeanLevel())
    refined = list(refiner.refine(frames))
    assert refined[0].mean() > frames[0].mean() + 20
    assert np.array_equal(refined[1], frames[1])
    assert refiner.figures()["faceless"] == 1


def test_blending_lowers_flicker():
    flicker = {}
    for blend in (0.0, 0.8):
        settings = RefineSettings(keep_mouth=False, limit=None, blend=blend)
        refiner = Refiner(Scripted(20, -20), settings)
        assert len(list(refiner.refine(noise(12)))) == 12
        figures = refiner.figures()
        assert figures["flicker_before"] < 0.2
        flicker[blend] = figures["flicker_after"]
    assert flicker[0.0] == pytest.approx(40, abs=1) and flicker[0.8] < 12, flicker


def test_motion_moves_the_last_change_along():
    still = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 255, (96, 96, 3), dtype=np.uint8), (0, 0), 3
    )
    moved = np.roll(still, 4, 1)
    motion = Motion(still, moved)
    inner = (slice(16, -16), slice(16, -16))
    error = abs(motion.moved(still.astype(np.float32)) - moved)[inner].mean()
    assert error < 0.3 * abs(still.astype(float) - moved)[inner].mean()
    cut = Motion(still, np.full_like(still, 250))
    assert cut.trust.mean() < 0.1 < motion.trust[inner].mean()


def test_the_guard_falls_at_once_and_rises_slowly():
    levels = [10, 100, *[10] * 8]
    settings = RefineSettings(keep_mouth=False, blend=0.0, limit=0.3)
    refiner = Refiner(Scripted(*levels), settings, OneFace(), MeanLevel())
    frames = noise(10)
    changes = [
        float((made.astype(float) - frame).mean())
        for made, frame in zip(refiner.refine(frames), frames, strict=True)
    ]
    assert changes[0] == pytest.approx(10, abs=0.6)
    assert changes[1] == pytest.approx(25, abs=0.6)  # 100 would be 1.0 away, 50 0.5
    gains = [change / 10 for change in changes[2:]]
    assert gains[0] == pytest.approx(0.35, abs=0.06) and gains[-1] == pytest.approx(1, abs=0.06)
    assert np.diff(gains).max() < 0.2
    figures = refiner.figures()
    assert figures["identity_max"] <= 0.3 and figures["held_back"] >= 7


def test_without_a_limit_the_guard_measures_only():
    settings = RefineSettings(keep_mouth=False, blend=0.0, limit=None)
    refiner = Refiner(Scripted(50), settings, OneFace(), MeanLevel())
    frames = noise(3)
    for made, frame in zip(refiner.refine(frames), frames, strict=True):
        assert np.array_equal(made, frame + 50)
    assert refiner.figures()["identity_mean"] == pytest.approx(0.5, abs=0.01)
    assert refiner.over(0.3) == 3 and refiner.over(0.6) == 0


def test_no_more_than_a_batch_is_in_memory():
    drawn = []

    def frames():
        for k, frame in enumerate(noise(20)):
            drawn.append(k)
            yield frame

    model = Scripted(1)
    refined = Refiner(model, RefineSettings(keep_mouth=False, limit=None, batch=3)).refine(frames())
    for k, _ in enumerate(refined):
        assert len(drawn) <= k + 3
    assert k == 19 and [shape[0] for shape in model.seen] == [3] * 6 + [2]


def test_transparent_frames_are_refused():
    with pytest.raises(InputRejected, match="transparency"):
        list(Refiner(Scripted(1), BARE).refine([np.zeros((SIDE, SIDE, 4), np.uint8)]))


@pytest.mark.parametrize(
    "wrong",
    [{"strength": 0.0}, {"strength": 1.5}, {"steps": 0}, {"blend": 1.0}, {"side": 8}, {"batch": 0}],
)
def test_values_out_of_bounds_are_refused(wrong):
    with pytest.raises(UsageError, match="out of bounds"):
        RefineSettings(**wrong)


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("strength", [0.05, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_the_schedule_has_as_many_steps_as_were_asked_for(strength, steps):
    assert int(schedule_steps(strength, steps) * strength) == steps

"""Steadiness: a moving camera and a moving background are found; hair, arms and light are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from being.face.landmarks import MESH_POINTS, POINTS
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.measurements import SampledFrame
from being.preprocess.inspection.steadiness import (
    check_camera,
    check_light,
    mean_background,
    median_background,
)

SIDE = 288  # px of a thumbnail
COUNT = 40  # samples
FACE = 144, 100, 22, 29  # centre x and y, half width, half height, px
TIMES = np.arange(COUNT) * 0.32

Picture = np.ndarray  # uint8 [SIDE, SIDE]
Draw = Callable[[Picture, int], None]  # draws into the picture of sample i


def wall() -> Picture:
    """A patterned wall, larger than the picture by 40 px."""
    noise = np.random.default_rng(0).normal(size=(SIDE + 40, SIDE + 40)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(140 + 25 * smooth / smooth.std(), 0, 255).astype(np.uint8)


WALL = wall()


def nothing(picture: Picture, i: int) -> None:
    """No more than the person is there."""


def clip(
    behind: Draw = nothing,
    front: Draw = nothing,
    camera: Callable[[int], tuple[int, int]] = lambda i: (0, 0),
    light: Callable[[int], np.ndarray | float] = lambda i: 1.0,
    contrast: float = 1.0,
) -> list[SampledFrame]:
    """Samples of a person in front of the wall, with noise.

    behind, front: what moves behind and in front of the wall's person. camera: shift of the picture
    in px. light: gain of the picture, one or [SIDE, SIDE]. contrast: of the wall.
    """
    rng, samples = np.random.default_rng(1), []
    angle = np.arange(MESH_POINTS) * 2.4
    radius = np.sqrt((np.arange(MESH_POINTS) + 1) / MESH_POINTS)
    for i in range(COUNT):
        right, down = camera(i)
        picture = WALL[20 - down : 20 - down + SIDE, 20 - right : 20 - right + SIDE].copy()
        picture = np.round(140 + contrast * (picture.astype(np.float32) - 140)).astype(np.uint8)
        behind(picture, i)
        x, y, wide, high = FACE
        x, y = x + right + round(3 * np.sin(i)), y + down
        front(picture, i)
        cv2.ellipse(picture, (x, 270), (60, 130), 0, 180, 360, 60, -1)
        cv2.ellipse(picture, (x, y), (wide + 3, high + 8), 0, 0, 360, 200, -1)
        lit = picture * light(i) + rng.normal(0, 1, picture.shape)

        points = np.zeros((POINTS, 3), np.float32)
        points[:MESH_POINTS, 0] = x + wide * radius * np.cos(angle)
        points[:MESH_POINTS, 1] = y + high * radius * np.sin(angle)
        grey = np.clip(lit, 0, 255).astype(np.uint8)
        skin = np.full(3, 200 * np.mean(light(i)), np.float32)
        samples.append(SampledFrame(i, points, np.zeros(52), 1, None, 1.0, skin, grey))
    return samples


def camera_finding(samples: list[SampledFrame]) -> Finding:
    return check_camera(samples, mean_background(samples, 1.0), 1.0, TIMES)


# --- what the person does, and light


def waving(picture: Picture, i: int) -> None:
    """Both arms reach out from the shoulders, to another height in each sample."""
    for side in (-1, 1):
        hand = 144 + side * 120, 190 + round(70 * np.sin(1.3 * i + side))
        cv2.line(picture, (144 + side * 50, 200), hand, 220, 16, cv2.LINE_AA)


def long_hair(picture: Picture, i: int) -> None:
    """Hair swings beside the face and down to the shoulders."""
    for side in (-1, 1):
        end = 144 + side * (50 + round(12 * np.sin(0.9 * i + side))), 125
        cv2.line(picture, (144 + side * 20, 75), end, 20, 14, cv2.LINE_AA)


def shadow(i: int) -> np.ndarray:
    """A soft shadow that moves over the wall."""
    across = np.arange(SIDE) - SIDE / 2 - 90 * np.sin(0.7 * i)
    return np.tile(1 - 0.12 * np.exp(-((across / 60) ** 2)), (SIDE, 1))


@pytest.mark.parametrize(
    "samples",
    [
        clip(),
        clip(front=waving),
        clip(front=long_hair),
        clip(light=lambda i: 1 - 0.005 * i),
        clip(light=shadow),
    ],
    ids=["person", "arms", "hair", "exposure", "shadow"],
)
def test_what_the_person_and_the_light_do_is_not_the_background(
    samples: list[SampledFrame],
) -> None:
    finding = camera_finding(samples)
    assert finding.level == "ok", finding.what


def test_changing_light_is_a_finding_of_the_light() -> None:
    samples = clip(light=lambda i: 1 - 0.005 * i)
    still = mean_background(samples, 1.0)
    finding = check_light(samples, still, 1.0, np.zeros(COUNT, np.float32), TIMES)
    assert finding.level == "warning" and "the light changes by" in finding.what


# --- a moving camera


def shake(i: int) -> tuple[int, int]:
    return round(3 * np.sin(1.3 * i)), round(3 * np.cos(0.9 * i))


@pytest.mark.parametrize(
    "samples, largest",
    [
        (clip(camera=shake), 6 / SIDE),
        (clip(camera=lambda i: (i // 3, 0)), 12 / SIDE),
        (clip(camera=lambda i: (4 if i > 30 else 0, 0)), 4 / SIDE),
        (clip(camera=shake, front=waving), 6 / SIDE),
        (clip(camera=shake, light=lambda i: 1 - 0.005 * i), 6 / SIDE),
        (clip(camera=shake, contrast=0.2), 6 / SIDE),
    ],
    ids=["shake", "pan", "knock", "shake and arms", "shake and light", "faint wall"],
)
def test_a_moving_camera_is_found(samples: list[SampledFrame], largest: float) -> None:
    finding = camera_finding(samples)
    assert finding.level == "warning" and "the camera moves" in finding.what, finding.what
    moved = float(finding.what.split(" to ")[1].split("%")[0]) / 100
    assert 0.4 * largest < moved < 1.6 * largest


# --- a moving background


def screen(picture: Picture, i: int) -> None:
    """A screen beside the head that shows another picture in each sample."""
    shown = np.random.default_rng(i).uniform(30, 220, (4, 5)).astype(np.float32)
    picture[10:70, 10:100] = cv2.resize(shown, (90, 60))


def passer_by(picture: Picture, i: int) -> None:
    """Somebody walks through the picture, behind the person."""
    cv2.ellipse(picture, (9 * i - 30, 130), (18, 90), 0, 0, 360, 50, -1)


def leaves(picture: Picture, i: int) -> None:
    """All of the background moves, each part in its own direction."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    aside, down = 3 * np.sin(x / 25 + 1.7 * i), 3 * np.cos(y / 25 + 1.1 * i)
    picture[:] = cv2.remap(picture, x + aside, y + down, cv2.INTER_LINEAR)


@pytest.mark.parametrize("behind, share", [(screen, 0.9), (passer_by, 0.4), (leaves, 0.9)])
def test_a_moving_background_is_found(behind: Draw, share: float) -> None:
    for front in (nothing, waving, long_hair):
        finding = camera_finding(clip(behind, front))
        assert finding.level == "warning" and "the background changes" in finding.what, finding
        assert len(finding.at) >= share * COUNT and finding.fix


# --- the median


def test_the_median_background_has_no_trace_of_the_arms() -> None:
    still, waved = (median_background(clip(front=front), 1.0) for front in (nothing, waving))
    seen = mean_background(clip(), 1.0).seen
    assert np.percentile(np.abs(still - waved)[seen], 99) < 4
    assert not median_background(clip(), 1.0)[SIDE - 1, SIDE // 2]  # always behind the person


def test_a_picture_without_background_has_no_finding() -> None:
    samples = [
        replace(sample, points=(sample.points - [144, 100, 0]) * 6 + [144, 140, 0])
        for sample in clip(camera=shake)
    ]
    assert camera_finding(samples).level == "ok"

"""Torso mattes have soft edges without the background; source frames lie where the crop was cut."""

from __future__ import annotations

import numpy as np
import pytest

from being.data.source_video import scaled_crop
from being.data.surround import refined_matte

SIZE = 256


@pytest.mark.parametrize("colour, behind", [((25, 25, 30), 210), ((200, 90, 80), 40)])
def test_the_edge_of_a_torso_mask_becomes_its_share_of_the_pixel(
    colour: tuple[int, int, int], behind: int
) -> None:
    """A mask that takes every pixel with some torso in it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    distance = 90 - np.hypot(x - 128, (y - 256) * 0.8)  # px inside the shoulders
    truth = np.clip(distance / 3 + 0.5, 0, 1)
    background = np.clip(behind + rng.normal(0, 12, (SIZE, SIZE, 1)), 0, 255) * np.ones(3)
    seen = truth[..., None] * np.array(colour) + (1 - truth[..., None]) * background
    torso = np.dstack([seen, 255 * (truth > 0.02)]).round().astype(np.uint8)

    found = refined_matte(torso, background.round().astype(np.uint8)) / 255
    edge = (truth > 0) & (truth < 1)
    hard = np.abs((torso[..., 3] / 255 - truth)[edge]).mean()
    assert np.abs((found - truth)[edge]).mean() < 0.2 * hard
    assert (found[distance > 8] == 1).all() and (found[distance < -3] == 0).all()
    assert (found[-1, 120:136] == 1).all(), "the border of the picture is no edge of the torso"


def test_a_torso_like_its_background_keeps_its_mask() -> None:
    torso = np.full((SIZE, SIZE, 4), 90, np.uint8)
    torso[..., 3] = 255 * (np.arange(SIZE) > 150)[:, None]
    background = np.full((SIZE, SIZE, 3), 95, np.uint8)
    assert (refined_matte(torso, background) == torso[..., 3]).all()


def test_the_scaled_crop_lies_inside_the_scaled_picture() -> None:
    for width, height, crop, size in (
        (1920, 1080, (700, 100, 613), 512),
        (33, 50, (0, 17, 33), 32),
    ):
        scaled_width, scaled_height, x, y = scaled_crop(width, height, crop, size)
        assert 0 <= x <= scaled_width - size and 0 <= y <= scaled_height - size
        assert abs(x * width / scaled_width - crop[0]) <= 0.51 * crop[2] / size + 1

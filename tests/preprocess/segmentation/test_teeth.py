"""Teeth masks of a drawn mouth whose teeth are known, and masks of EasyPortrait."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from being.errors import InputRejected
from being.face.topology import FACE_OVAL, INNER_LIPS, LIP_LOWER, LIP_UPPER
from being.preprocess.segmentation.teeth import read_teeth, teeth_masks

SIZE = 256


def draw_mouths(
    count: int = 20, noise: float = 6.0
) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Frames, landmarks and true teeth of a swaying head.

    Its open mouth shows upper teeth and a tongue.
    """
    rng = np.random.default_rng(5)
    frames, truths, points = [], [], np.full((count, 478, 3), np.nan, np.float32)
    angle = np.arange(36) * np.pi / 18
    ring = np.arange(20) * np.pi / 10
    for i in range(count):
        cx, cy = 128 + 6 * np.sin(i / 3), 128 + 3 * np.cos(i / 4)
        half = max(0.0, 16 * np.sin(i * np.pi / 6))  # px: closed for half of the time
        picture = np.full((SIZE, SIZE, 3), (205, 150, 125), np.uint8)
        mouth = np.zeros((SIZE, SIZE), np.uint8)
        lips = np.stack([cx - 30 * np.cos(ring), cy + 45 - half * np.sin(ring)], -1)
        cv2.fillPoly(mouth, [lips.round().astype(np.int32)], (1,))
        rows = np.arange(SIZE)[:, None]
        teeth = (mouth > 0) & (rows < cy + 45 - half / 3)
        tongue = (mouth > 0) & (rows > cy + 45 + half / 2)
        picture[mouth > 0], picture[teeth], picture[tongue] = (
            (40, 18, 18),
            (200, 190, 175),
            (150, 70, 75),
        )
        picture = cv2.GaussianBlur(picture, (0, 0), 0.6) + rng.normal(0, noise, picture.shape)
        frames.append(picture.clip(0, 255).astype(np.uint8))
        truths.append(teeth if half > 3 else np.zeros_like(teeth))
        points[i] = (cx, cy, 0)
        points[i, FACE_OVAL, :2] = np.stack([cx + 60 * np.sin(angle), cy - 85 * np.cos(angle)], -1)
        points[i, INNER_LIPS, :2] = lips
        points[i, LIP_UPPER, :2], points[i, LIP_LOWER, :2] = (
            (cx, cy + 45 - half),
            (cx, cy + 45 + half),
        )
    return frames, points, truths


def test_teeth_are_found_and_tongue_and_closed_lips_are_not():
    frames, points, truths = draw_mouths()
    for mask, truth in zip(teeth_masks(frames, points), truths, strict=True):
        assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
        if truth.sum() > 200:
            assert ((mask > 0) & truth).sum() / ((mask > 0) | truth).sum() > 0.8
        elif not truth.any():
            assert (mask > 0).sum() < 30


def test_teeth_are_steadier_than_frame_by_frame():
    frames, points, _ = draw_mouths(1, noise=0)
    opened, still, truths = draw_mouths(4, noise=0)
    rng = np.random.default_rng(2)
    frames = [
        (opened[3] + rng.normal(0, 28, opened[3].shape)).clip(0, 255).astype(np.uint8)
        for _ in range(12)
    ]
    points = np.repeat(still[3:4], 12, 0)

    def flicker(masks: list[np.ndarray]) -> float:
        return float(np.mean([(a != b).sum() for a, b in zip(masks[:-1], masks[1:], strict=True)]))

    together = list(teeth_masks(frames, points))
    alone = list(teeth_masks(frames, points, [(i, i + 1) for i in range(12)]))
    assert truths[3].sum() > 200 and flicker(together) < 0.8 * flicker(alone)


def test_a_frame_without_a_face_has_no_teeth():
    frames, points, _ = draw_mouths(6)
    points[3] = np.nan
    masks = list(teeth_masks(frames, points))
    assert len(masks) == 6 and not masks[3].any() and masks[2].any()


def test_masks_of_another_system_are_read_and_odd_ones_refused(tmp_path: Path):
    mask = np.zeros((8, 6), bool)
    mask[2:4] = True
    np.save(tmp_path / "0.npy", mask)
    assert np.array_equal(read_teeth(tmp_path, 0, 8, 6) > 0, mask)
    np.save(tmp_path / "1.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "2.npy").write_text("no array")
    for i, size in ((0, (6, 8)), (1, (8, 6)), (2, (8, 6)), (3, (8, 6))):
        with pytest.raises(InputRejected, match=f"{i}.npy"):
            read_teeth(tmp_path, i, *size)

"""Alignment of torsos: an affine motion of a known image is estimated."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from being.preprocess.segmentation.torso_alignment import torso_motion


@pytest.mark.parametrize(
    "turn, grow, shift", [(0, 1, (0, 0)), (0, 1, (-17, 9)), (0.03, 1.02, (6, -4))]
)
def test_the_motion_of_a_torso_is_estimated(turn, grow, shift):
    rng = np.random.default_rng(4)
    still = (
        cv2.GaussianBlur(rng.uniform(0, 255, (512, 512, 3)).astype(np.float32), (0, 0), 12) * 20
        - 2420
    )
    still = still.clip(0, 255)
    true = cv2.getRotationMatrix2D((256, 380), np.degrees(turn), grow) + [
        [0, 0, shift[0]],
        [0, 0, shift[1]],
    ]
    frame = cv2.warpAffine(
        still, true.astype(np.float32), (512, 512), borderMode=cv2.BORDER_REFLECT
    )
    mask = np.zeros((512, 512), np.uint8)
    mask[300:480, 80:430] = 1
    found = torso_motion(
        still, (frame + rng.normal(0, 2, frame.shape)).clip(0, 255).astype(np.uint8), mask
    )
    found = np.eye(2, 3) if found is None else found
    place = np.argwhere(mask)[::499, ::-1]
    error = np.abs(place @ (found[:, :2] - true[:, :2]).T + found[:, 2] - true[:, 2]).max()
    assert error < 1

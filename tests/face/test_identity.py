"""The identity network: dlib's own numbers, alignment under turn and scale, wrong files."""

from __future__ import annotations

import numpy as np
import pytest
from needs import load_or_skip

from being.assets import SourceFailed, dlib_safetensors
from being.face.identity import CHIP_PADDING, CHIP_POSITIONS, CHIP_SIDE, Identity, face_chip

# The first five of 128 numbers that dlib 20.0.1 itself gives for `waves`
# (face_recognition_model_v1), and their norm.
DLIB = (-0.0674785, 0.1198175, 0.0687349, -0.0238126, -0.0292012)
NORM = 1.2658304


def waves() -> np.ndarray:
    """A face chip uint8 [150, 150, 3] computed by a formula."""
    y, x = np.mgrid[:CHIP_SIDE, :CHIP_SIDE]
    return (
        np.stack(
            [
                128 + 100 * np.sin(x / 9) * np.cos(y / 7),
                (x * 3 + y) % 256,
                np.hypot(x - 75, y - 75) * 2,
            ],
            -1,
        )
        .clip(0, 255)
        .astype(np.uint8)
    )


def test_it_gives_dlibs_own_numbers():
    code = load_or_skip(Identity).descriptors(waves()[None])[0]
    assert code[:5] == pytest.approx(DLIB, abs=1e-5) and np.linalg.norm(code) == pytest.approx(
        NORM, abs=1e-4
    )


def test_the_face_chip_undoes_turn_scale_and_shift():
    y, x = np.mgrid[:400, :400]
    turn = np.radians(17)
    matrix = 1.3 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    positions = (CHIP_POSITIONS + CHIP_PADDING) / (2 * CHIP_PADDING + 1) * CHIP_SIDE
    five = positions @ matrix.T + [150, 100]
    straight = (np.stack([x, y], -1) - [150, 100]) @ np.linalg.inv(matrix).T
    image = (
        np.stack([straight[..., 0], straight[..., 1], 0 * straight[..., 0]], -1)
        .clip(0, 255)
        .astype(np.uint8)
    )
    found = face_chip(image, five)
    want = np.stack(np.meshgrid(np.arange(CHIP_SIDE), np.arange(CHIP_SIDE)), -1)
    assert np.abs(found[5:-5, 5:-5, :2].astype(int) - want[5:-5, 5:-5]).max() <= 1


def test_a_file_that_is_not_the_network_is_refused():
    with pytest.raises(SourceFailed, match="not the expected network"):
        dlib_safetensors(b"\x05con_4\x01\x02\x02\x80\x12\x01\x01\x01\x01\x01\x01" + bytes(40))

"""The identity network: dlib's own numbers, the same face under turn and scale, the file it is read
from.
"""

from __future__ import annotations

import numpy as np
import pytest
from needs import had

from being.assets import SourceFailed, dlib_safetensors
from being.eval.identity import CHIP, PADDING, PLACES, Identity, chip

# The first five of 128 numbers that dlib 20.0.1 itself gives for `waves`
# (face_recognition_model_v1), and their norm.
DLIB = (-0.0674785, 0.1198175, 0.0687349, -0.0238126, -0.0292012)
NORM = 1.2658304


def waves() -> np.ndarray:
    """A cut-out uint8 [150, 150, 3] of one formula."""
    y, x = np.mgrid[:CHIP, :CHIP]
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
    code = had(Identity).codes(waves()[None])[0]
    assert code[:5] == pytest.approx(DLIB, abs=1e-5) and np.linalg.norm(code) == pytest.approx(
        NORM, abs=1e-4
    )


def test_the_cut_out_undoes_turn_scale_and_place():
    y, x = np.mgrid[:400, :400]
    turn = np.radians(17)
    matrix = 1.3 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    places = (PLACES + PADDING) / (2 * PADDING + 1) * CHIP
    five = places @ matrix.T + [150, 100]
    straight = (np.stack([x, y], -1) - [150, 100]) @ np.linalg.inv(
        matrix
    ).T  # places in the cut-out
    picture = (
        np.stack([straight[..., 0], straight[..., 1], 0 * straight[..., 0]], -1)
        .clip(0, 255)
        .astype(np.uint8)
    )
    found = chip(picture, five)
    want = np.stack(np.meshgrid(np.arange(CHIP), np.arange(CHIP)), -1)
    assert np.abs(found[5:-5, 5:-5, :2].astype(int) - want[5:-5, 5:-5]).max() <= 1


def test_a_file_that_is_not_the_network_is_refused():
    with pytest.raises(SourceFailed, match="not the expected network"):
        dlib_safetensors(b"\x05con_4\x01\x02\x02\x80\x12\x01\x01\x01\x01\x01\x01" + bytes(40))

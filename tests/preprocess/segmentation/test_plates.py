"""Background and torso plates of a drawn clip whose background and torso are known; the sheets made
of them.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_clip import SIZE, draw_clip

from being.preprocess.segmentation.matting import BACKGROUND, HEAD, TORSO
from being.preprocess.segmentation.plates import (
    TorsoPlates,
    _move,
    background_plate,
    membrane,
    over,
)
from being.report.sheet import TEXT_PX, frame_grid


@pytest.fixture(scope="module")
def clip():
    return draw_clip(24)


@pytest.fixture(scope="module")
def torso(clip):
    return TorsoPlates.learn(clip.frames, lambda i: clip.labels[i], face_height=104)


def test_background_that_was_ever_seen_is_recovered(clip):
    plate = background_plate(clip.frames, lambda i: clip.labels[i])
    seen = np.any([part == BACKGROUND for part in clip.labels], 0)
    always = np.all([part == BACKGROUND for part in clip.labels], 0)
    error = np.abs(plate.astype(int) - clip.wall).max(-1)
    assert plate.dtype == np.uint8 and plate.shape == (SIZE, SIZE, 3)
    assert np.median(error[always]) <= 2 and np.quantile(error[always], 0.95) <= 4
    assert np.quantile(error[seen], 0.9) <= 8  # a rim of 6 px at 512 round the person is guessed


def test_torso_over_background_is_the_frame_outside_the_head(clip, torso):
    background = background_plate(clip.frames, lambda i: clip.labels[i])
    for i in (0, 7, 18):
        plate = torso.plate(clip.frames[i], clip.labels[i])
        assert set(np.unique(plate[..., 3])) <= {0, 255} and not plate[plate[..., 3] == 0].any()
        outside = clip.labels[i] != HEAD
        error = (over(plate, background).astype(float) - clip.frames[i])[outside]
        assert 10 * np.log10(255**2 / (error**2).mean()) > 40


def test_the_strip_behind_the_jaw_is_painted_in_the_necks_colour(clip, torso):
    for i in (0, 6, 12):
        plate = torso.plate(clip.frames[i], clip.labels[i])
        hidden = (clip.labels[i] == HEAD) & (plate[..., 3] > 0)
        centre = int(clip.points[i, 0, 0])
        strip = plate[126:140, centre - 8 : centre + 8]
        assert hidden.sum() > 400 and (strip[..., 3] == 255).all()
        assert np.abs(strip[..., :3].astype(int) - (190, 130, 105)).max() < 30


def test_the_strip_is_steadier_than_the_camera(clip, torso):
    strips = [torso.plate(clip.frames[i], clip.labels[i]) for i in range(6)]
    change, noise = [], []
    for i in range(5):
        both = (clip.labels[i] == HEAD) & (clip.labels[i + 1] == HEAD) & (strips[i][..., 3] > 0)
        both &= strips[i + 1][..., 3] > 0
        change.append(((strips[i].astype(float) - strips[i + 1])[both][:, :3] ** 2).mean())
        still = (clip.labels[i] == TORSO) & (clip.labels[i + 1] == TORSO)
        noise.append(((clip.frames[i].astype(float) - clip.frames[i + 1])[still] ** 2).mean())
    assert np.sqrt(np.mean(change)) < 0.7 * np.sqrt(np.mean(noise))


@pytest.mark.parametrize(
    "turn, grow, shift", [(0, 1, (0, 0)), (0, 1, (-17, 9)), (0.03, 1.02, (6, -4))]
)
def test_a_torso_that_moves_is_followed(turn, grow, shift):
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
    found = _move(
        still, (frame + rng.normal(0, 2, frame.shape)).clip(0, 255).astype(np.uint8), mask
    )
    found = np.eye(2, 3) if found is None else found
    place = np.argwhere(mask)[::499, ::-1]
    error = np.abs(place @ (found[:, :2] - true[:, :2]).T + found[:, 2] - true[:, 2]).max()
    assert error < 1


def test_membrane_keeps_what_is_known_and_is_smooth_between():
    columns = np.arange(64, dtype=np.float32)
    values = np.repeat(columns[None], 48, 0)[..., None]
    known = np.zeros((48, 64), bool)
    known[:, :8] = known[:, -8:] = True
    filled = membrane(np.where(known[..., None], values, -99), known)
    assert np.array_equal(filled[known], values[known])
    assert np.abs(filled - values).max() < 8 and np.abs(np.diff(filled, axis=1)).max() < 4


def test_frame_grid_places_every_picture_under_its_label():
    reds = [np.full((40, 60, 3), (200, 0, 0), np.uint8)] * 3
    blues = [np.full((20, 30, 3), (0, 0, 200), np.uint8)] * 2
    grid = frame_grid([reds, blues], ["true", "rendered"])
    assert grid.dtype == np.uint8 and grid.shape[1] == 3 * 60 + 2 * 4
    assert (grid[TEXT_PX : TEXT_PX + 40, :60] == (200, 0, 0)).all()
    assert (grid[TEXT_PX + 44 + TEXT_PX :][:40, :60] == (0, 0, 200)).all()
    assert (grid[:TEXT_PX, :60] > 150).any()  # the label is drawn

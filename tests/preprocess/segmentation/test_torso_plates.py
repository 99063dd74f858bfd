"""Torso plates of a drawn clip whose torso is known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_clip import draw_clip

from being.data.parsing import HEAD, TORSO
from being.preprocess.segmentation.background import background_plate
from being.preprocess.segmentation.torso_plates import TorsoPlates, composite_plate


@pytest.fixture(scope="module")
def clip():
    return draw_clip(24)


@pytest.fixture(scope="module")
def torso(clip):
    return TorsoPlates.from_clip(clip.frames, lambda i: clip.labels[i], face_height=104)


def test_torso_over_background_is_the_frame_outside_the_head(clip, torso):
    background = background_plate(clip.frames, lambda i: clip.labels[i])
    for i in (0, 7, 18):
        plate = torso.plate(clip.frames[i], clip.labels[i])
        assert set(np.unique(plate[..., 3])) <= {0, 255} and not plate[plate[..., 3] == 0].any()
        outside = clip.labels[i] != HEAD
        error = (composite_plate(plate, background).astype(float) - clip.frames[i])[outside]
        assert 10 * np.log10(255**2 / (error**2).mean()) > 40


def test_the_strip_behind_the_jaw_has_the_necks_colour(clip, torso):
    for i in (0, 6, 12):
        plate = torso.plate(clip.frames[i], clip.labels[i])
        hidden = (clip.labels[i] == HEAD) & (plate[..., 3] > 0)
        centre = int(clip.points[i, 0, 0])
        strip = plate[126:140, centre - 8 : centre + 8]
        assert hidden.sum() > 400 and (strip[..., 3] == 255).all()
        assert np.abs(strip[..., :3].astype(int) - (190, 130, 105)).max() < 30


def test_the_strip_changes_less_than_the_cameras_noise(clip, torso):
    strips = [torso.plate(clip.frames[i], clip.labels[i]) for i in range(6)]
    change, noise = [], []
    for i in range(5):
        both = (clip.labels[i] == HEAD) & (clip.labels[i + 1] == HEAD) & (strips[i][..., 3] > 0)
        both &= strips[i + 1][..., 3] > 0
        change.append(((strips[i].astype(float) - strips[i + 1])[both][:, :3] ** 2).mean())
        still = (clip.labels[i] == TORSO) & (clip.labels[i + 1] == TORSO)
        noise.append(((clip.frames[i].astype(float) - clip.frames[i + 1])[still] ** 2).mean())
    assert np.sqrt(np.mean(change)) < 0.7 * np.sqrt(np.mean(noise))

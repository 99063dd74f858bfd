"""The background plate of a drawn clip whose background is known, and smooth filling."""

from __future__ import annotations

import numpy as np
from drawn_clip import SIZE, draw_clip

from being.data.parsing import BACKGROUND
from being.preprocess.segmentation.background import background_plate, membrane


def test_background_that_is_ever_visible_is_recovered():
    clip = draw_clip(24)
    plate = background_plate(clip.frames, lambda i: clip.labels[i])
    seen = np.any([part == BACKGROUND for part in clip.labels], 0)
    always = np.all([part == BACKGROUND for part in clip.labels], 0)
    error = np.abs(plate.astype(int) - clip.wall).max(-1)
    assert plate.dtype == np.uint8 and plate.shape == (SIZE, SIZE, 3)
    assert np.median(error[always]) <= 2 and np.quantile(error[always], 0.95) <= 4
    # A border of 6 px at 512 around the person is a guess.
    assert np.quantile(error[seen], 0.9) <= 8


def test_membrane_keeps_known_values_and_is_smooth_between_them():
    columns = np.arange(64, dtype=np.float32)
    values = np.repeat(columns[None], 48, 0)[..., None]
    known = np.zeros((48, 64), bool)
    known[:, :8] = known[:, -8:] = True
    filled = membrane(np.where(known[..., None], values, -99), known)
    assert np.array_equal(filled[known], values[known])
    assert np.abs(filled - values).max() < 8 and np.abs(np.diff(filled, axis=1)).max() < 4

"""Grids of labelled frames."""

from __future__ import annotations

import numpy as np

from being.report.frame_grid import TEXT_PX, frame_grid


def test_frame_grid_places_every_frame_under_its_label():
    reds = [np.full((40, 60, 3), (200, 0, 0), np.uint8)] * 3
    blues = [np.full((20, 30, 3), (0, 0, 200), np.uint8)] * 2
    grid = frame_grid([reds, blues], ["true", "rendered"])
    assert grid.dtype == np.uint8 and grid.shape[1] == 3 * 60 + 2 * 4
    assert (grid[TEXT_PX : TEXT_PX + 40, :60] == (200, 0, 0)).all()
    assert (grid[TEXT_PX + 44 + TEXT_PX :][:40, :60] == (0, 0, 200)).all()
    assert (grid[:TEXT_PX, :60] > 150).any()  # the label is drawn

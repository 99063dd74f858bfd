"""The sheet of mouths of a clip that an avatar speaks: which frames it shows."""

from __future__ import annotations

import numpy as np

from being.eval.cross_driven import SHEET_COLUMNS, SHEET_ROWS, sheet_starts
from being.eval.speech_events import SpeechEvents


def events(*speech: tuple[float, float]) -> SpeechEvents:
    return SpeechEvents(np.zeros(0), np.zeros(0), (), speech, "test")


def test_rows_lie_within_speech_and_within_the_clip() -> None:
    starts = sheet_starts(events((1.0, 3.0), (6.0, 8.0)), 250)
    assert len(starts) == SHEET_ROWS and starts == sorted(starts)
    for start in starts:
        first, last = start / 25, (start + SHEET_COLUMNS) / 25
        assert (first >= 1 and last <= 3) or (first >= 6 and last <= 8), start
    assert min(starts) < 75 and max(starts) > 150  # both stretches are shown


def test_short_and_silent_clips() -> None:
    assert sheet_starts(events(), SHEET_COLUMNS - 1) == []
    assert sheet_starts(events(), SHEET_COLUMNS) == [0]
    silent = sheet_starts(events(), 100)
    assert len(silent) == SHEET_ROWS and max(silent) <= 100 - SHEET_COLUMNS

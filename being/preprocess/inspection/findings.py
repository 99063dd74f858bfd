"""The result of one check of a clip: its level, its text and the times that it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Shares of the inspected frames from which a fault counts: as a warning, as a rejection.
SELDOM, OFTEN = 0.05, 0.5

TimeRanges = tuple[tuple[float, float], ...]
Level = Literal["ok", "warning", "rejection"]


@dataclass(frozen=True)
class Finding:
    """The result of one check of a clip."""

    # Name of the check, a few words: "cuts", "frame rate", "speech".
    check: str
    level: Level
    # One sentence, with figures.
    what: str
    # Time ranges [start, end] that it concerns, s from the first picture.
    at: TimeRanges = ()
    # What was corrected, or what the user should do.
    fix: str = ""

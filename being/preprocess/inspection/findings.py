"""What a look at a clip says: one finding a check, with its level, the times it concerns and what
to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "rejection"]


@dataclass(frozen=True)
class Finding:
    """One thing a check found out about a clip."""

    check: str  # its name, a few words: "cuts", "frame rate", "speech"
    level: Level
    what: str  # one sentence, with figures
    at: tuple[
        tuple[float, float], ...
    ] = ()  # time ranges [start, end] it concerns, s from the first picture
    fix: str = ""  # what was mended, or what the user should do

"""The whole look at a clip: picture and sound, whether they go together, and whether there is
enough to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from being.audio.phonemes import Heard, listen
from being.conventions import FPS
from being.errors import InputRejected
from being.face.landmarks import FaceLandmarker
from being.preprocess.inspection.face_samples import Look
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.learnability import forecast
from being.preprocess.inspection.picture import PICTURE_SIDE, Preflight, inspect
from being.preprocess.inspection.scan import Advance
from being.preprocess.inspection.speech import check_sound, mended
from being.preprocess.inspection.sync import Offset, check_other_voices, check_sync, sync_offset

LEVELS = ("rejection", "warning", "ok")  # the order in which findings are shown
SPANS = 8  # times of a finding that are written out


def look_at(
    video: Path,
    landmarker: FaceLandmarker,
    size: int = PICTURE_SIDE,
    advance: Advance | None = None,
) -> Preflight:
    """How a clip becomes a dataset, with all findings on picture and sound, rejections among them.

    The sound is moved to the lips where the offset is sure, freed of a constant offset, and made
    louder where the speech is too quiet. Arguments and errors as `preflight.inspect`.
    """
    heard: list[tuple[Heard, Offset]] = []

    def lip_offset(look: Look, sound: np.ndarray) -> float | None:
        heard.append((clip := listen(sound), offset := sync_offset(clip, look)))
        return offset.shift or None

    checked = inspect(video, landmarker, size, lip_offset, advance)
    if not heard:  # no sound to listen to, which is among the findings
        return checked
    clip, offset = heard[0]
    findings = (*checked.findings, *check_sound(clip))
    if any(finding.level == "rejection" for finding in findings):
        return replace(checked, findings=findings)
    used = listen(checked.sound)
    findings += (
        check_sync(offset),
        check_other_voices(clip, checked.look),
        *forecast(used, checked.look, checked.frames, checked.segments),
    )
    return replace(checked, findings=findings, sound=mended(used))


def on_every_frame(
    findings: tuple[Finding, ...],
    sound: np.ndarray,
    points: np.ndarray,
    segments: Sequence[tuple[int, int]],
    starts: Sequence[float],
) -> tuple[Finding, ...]:
    """The findings with those on what there is to learn taken again from all frames of the dataset.

    sound: float32 [T] at 16 kHz from frame 0; points: float32 [F, 478, 3] px; segments: (start,
    stop) in frames, and where each starts in the video, s.
    """
    times = np.concatenate(
        [
            begin + np.arange(stop - start) / FPS
            for (start, stop), begin in zip(segments, starts, strict=True)
        ]
    )
    look = Look(times, points, None, np.full(len(points), -1))
    again = {
        finding.check: finding for finding in forecast(listen(sound), look, len(points), segments)
    }
    return tuple(again.get(finding.check, finding) for finding in findings)


def refuse(video: Path, findings: tuple[Finding, ...]) -> None:
    """Raise InputRejected for the first rejection among the findings, if there is one."""
    for finding in findings:
        if finding.level == "rejection":
            what = finding.what if str(video) in finding.what else f"{video}: {finding.what}"
            raise InputRejected(what, fix=finding.fix)


def table(findings: Sequence[Finding]) -> str:
    """The findings for people, what needs attention first: level, check, what, when; under it what
    to do.
    """
    across = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        at = ", ".join(
            f"{start:.2f} s" if start == stop else f"{start:.2f}-{stop:.2f} s"
            for start, stop in finding.at[:SPANS]
        )
        more = f" and {len(finding.at) - SPANS} more" if len(finding.at) > SPANS else ""
        when = f" ({at}{more})" if at else ""
        lines.append(f"{finding.level:<9}  {finding.check:<{across}}  {finding.what}{when}")
        if finding.fix:
            lines.append(f"{'':<9}  {'':<{across}}  -> {finding.fix}")
    return "\n".join(lines)

"""Inspection of a whole clip: all checks of its picture, its audio and their sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from being.audio.phonemes import SpeechAnalysis, analyse_speech
from being.conventions import FPS
from being.errors import InputRejected
from being.face.landmarks import FaceLandmarker
from being.preprocess.inspection.audio_checks import check_audio, repaired_audio
from being.preprocess.inspection.clip_parts import CLIPS_CHECK, ClipPart
from being.preprocess.inspection.drift import AudioDrift, audio_drift, check_drift
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.learnability import check_learnability
from being.preprocess.inspection.measurements import Advance
from being.preprocess.inspection.picture import (
    PICTURE_SIDE,
    ClipInspection,
    Lateness,
    inspect_picture,
)
from being.preprocess.inspection.sync import (
    COVERED_FIX,
    SYNC_CHECK,
    check_other_voices,
)

LEVELS = ("rejection", "warning", "ok")  # the order in which findings are shown
RANGES_SHOWN = 8  # time ranges of a finding that are written out


def inspect_clip(
    video: Path,
    landmarker: FaceLandmarker,
    size: int = PICTURE_SIDE,
    advance: Advance | None = None,
    tight: bool = False,
    audio: Path | None = None,
    parts: Sequence[ClipPart] = (),
) -> ClipInspection:
    """How a clip becomes a dataset, with all findings on picture and audio, rejections among them.

    The audio is moved or stretched to the lips where the offset is reliable, freed of a constant
    offset, and amplified where the speech is too quiet. Arguments and errors as
    `picture.inspect_picture`.
    """
    measured: list[tuple[SpeechAnalysis, AudioDrift, int]] = []

    def lip_offset(
        face_samples: FaceSamples, samples: np.ndarray, segments: int
    ) -> Lateness | None:
        analysis = analyse_speech(samples)
        drift = audio_drift(analysis, face_samples)
        measured.append((analysis, drift, segments))
        if drift.stretched(segments):
            return Lateness(drift.start, drift.rate)
        return Lateness(drift.whole.shift) if drift.whole.shift else None

    inspection = inspect_picture(video, landmarker, size, lip_offset, advance, tight, audio, parts)
    if not measured:  # there is no audio to analyse, which is among the findings
        return inspection

    # Checks of the clip's audio; a rejected clip needs no others.
    analysis, drift, segments_of_audio = measured[0]
    findings = (*inspection.findings, *check_audio(analysis))
    if any(finding.level == "rejection" for finding in findings):
        return replace(inspection, findings=findings)

    # Checks of the audio and the frames that the dataset will have.
    kept, sync = analyse_speech(inspection.audio), check_drift(drift, segments_of_audio)
    if any(COVERED_FIX in finding.fix for finding in findings):
        sync = replace(sync, level="warning", fix=COVERED_FIX)
    face_samples, segments = inspection.face_samples, inspection.segments
    findings += (
        sync,
        check_other_voices(analysis, face_samples),
        *check_learnability(kept, face_samples, inspection.frames, segments, sync),
    )
    return replace(inspection, findings=findings, audio=repaired_audio(kept))


def recheck_all_frames(
    findings: tuple[Finding, ...],
    audio: np.ndarray,
    points: np.ndarray,
    segments: Sequence[tuple[int, int]],
    starts: Sequence[float],
) -> tuple[Finding, ...]:
    """The findings, with those of `check_learnability` from all frames instead of the samples.

    audio: float32 [T] at 16 kHz from frame 0. points: float32 [F, 478, 3] px. segments: (start,
    stop) in frames. starts: where each segment starts in the video, s.
    """
    times = [
        begin + np.arange(stop - start) / FPS
        for (start, stop), begin in zip(segments, starts, strict=True)
    ]
    samples = FaceSamples(np.concatenate(times), points, None, np.full(len(points), -1))
    sync = next((finding for finding in findings if finding.check == SYNC_CHECK), None)
    rechecked = check_learnability(analyse_speech(audio), samples, len(points), segments, sync)
    by_check = {finding.check: finding for finding in rechecked}
    return tuple(by_check.get(finding.check, finding) for finding in findings)


def raise_rejection(video: Path, findings: tuple[Finding, ...]) -> None:
    """Raise InputRejected for the first rejection among the findings, if there is one."""
    for finding in findings:
        if finding.level == "rejection":
            named = finding.check == CLIPS_CHECK or str(video) in finding.what
            what = finding.what if named else f"{video}: {finding.what}"
            raise InputRejected(what, fix=finding.fix)


def findings_table(findings: Sequence[Finding]) -> str:
    """The findings as lines of text (level, check, what, when, fix), rejections first."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        ranges = [
            f"{start:.2f} s" if start == stop else f"{start:.2f}-{stop:.2f} s"
            for start, stop in finding.at[:RANGES_SHOWN]
        ]
        hidden = len(finding.at) - RANGES_SHOWN
        more = f" and {hidden} more" if hidden > 0 else ""
        when = f" ({', '.join(ranges)}{more})" if ranges else ""
        lines.append(f"{finding.level:<9}  {finding.check:<{width}}  {finding.what}{when}")
        if finding.fix:
            lines.append(f"{'':<9}  {'':<{width}}  -> {finding.fix}")
    return "\n".join(lines)

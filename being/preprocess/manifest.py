"""The content of `dataset.json`: source, frames, features, findings, steps and consent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from being.conventions import FPS
from being.data.consent import Consent
from being.data.manifest import SCHEMA
from being.data.source_video import SOURCE_STEM
from being.media import read_audio
from being.preprocess.inspection.clip import recheck_all_frames
from being.preprocess.speech_features import feature_entry
from being.preprocess.steps import StepContext
from being.preprocess.workspace import FinishedStep


def build_manifest(
    context: StepContext,
    name: str,
    source: str,
    finished: Mapping[str, FinishedStep],
    consent: Consent,
) -> dict[str, Any]:
    """The content of `dataset.json`. source: sha256 of the video.

    It holds no times, so that two runs on one video give the same file; `times.json` holds them.
    """
    record = context.record
    findings = recheck_all_frames(
        record.findings,
        read_audio(context.folder / "aud.wav"),
        context.landmarks.points,
        record.segments,
        record.segment_starts,
    )
    features = {
        choice.name: feature_entry(context.folder, choice)
        for choice in context.settings.all_features
    }
    recording = {"audio": record.recording.manifest()} if record.recording else {}
    clips = {"clips": [asdict(part) for part in context.parts]} if context.parts else {}
    return {
        "schema": SCHEMA,
        "name": name,
        "source": {
            "file": f"{SOURCE_STEM}{context.video.suffix}" if clips else context.video.name,
            "sha256": source,
            "seconds": round(record.source_seconds, 3),
            "crop": list(record.crop),
            "frames": [list(run) for run in record.source_runs],
            "starts": [round(start, 3) for start in record.segment_starts],
            **recording,
            **clips,
        },
        "fps": FPS,
        "width": record.size,
        "height": record.size,
        "frames": record.frames,
        "segments": [list(segment) for segment in record.segments],
        "features": features,
        "missing": context.missing,
        "repeated": list(record.repeated),
        "findings": [asdict(finding) for finding in findings],
        "steps": {step: {"digest": result.digest} for step, result in finished.items()},
        "consent": consent.record(),
    }

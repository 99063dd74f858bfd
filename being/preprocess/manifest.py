"""`dataset.json`: what a dataset is, of what it was made, and what is known of the person's
consent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from being.conventions import FPS
from being.data.consent import Consent
from being.data.dataset import SCHEMA
from being.media import read_audio
from being.preprocess.inspection.clip import on_every_frame
from being.preprocess.speech_features import entry
from being.preprocess.steps import Work
from being.preprocess.workspace import Done


def manifest(
    work: Work, name: str, source: str, done: Mapping[str, Done], consent: Consent
) -> dict[str, Any]:
    """The content of `dataset.json`; source: sha256 of the video. It does not tell how long
    anything took, so that two runs on one video give the same file; `times.json` does."""
    checked = work.checked
    findings = on_every_frame(
        checked.findings,
        read_audio(work.folder / "aud.wav"),
        work.landmarks.points,
        checked.segments,
        checked.starts,
    )
    return {
        "schema": SCHEMA,
        "name": name,
        "source": {
            "file": work.video.name,
            "sha256": source,
            "seconds": round(checked.source_seconds, 3),
            "crop": list(checked.crop),
            "frames": [list(run) for run in checked.runs],
            "starts": [round(start, 3) for start in checked.starts],
        },
        "fps": FPS,
        "width": checked.size,
        "height": checked.size,
        "frames": checked.frames,
        "segments": [list(segment) for segment in checked.segments],
        "features": {
            choice.name: entry(work.folder, choice) for choice in work.settings.all_features
        },
        "missing": work.missing,
        "findings": [asdict(finding) for finding in findings],
        "steps": {step: {"digest": did.digest} for step, did in done.items()},
        "consent": consent.record(),
    }

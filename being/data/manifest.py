"""`dataset.json`: read and checked, so that the rest of the program can trust its values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from being.conventions import FPS
from being.data.consent import consent_fault
from being.errors import InputRejected
from being.names import is_subject_name, path_inside
from being.paths import check_folder
from being.reading.structured import read_json

PREPROCESS_AGAIN = "Preprocess the clip again"
FILE = "dataset.json"
SCHEMA = 1
FRAMES_MAX = 4 * 3600 * FPS  # four hours
SIDES = (16, 4096)  # px: smallest and largest side of the images
FRAME_PIXELS_MAX = 1 << 24  # of a source frame: the decoded ones that are kept take under 1 GB
FEATURES_MAX = 64  # encoders whose features one dataset holds
WIDTH_MAX = 100_000  # channels of a speech feature
CLIPS_MAX = 16  # videos that one dataset is made of
TEXT_MAX = 1000  # characters of a name or finding
SECONDS_MAX = 1e6
# What every manifest holds.
REQUIRED = ("name", "frames", "width", "height", "features")


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of `dataset.json` of the dataset at `path`, with the defaults of absent keys.

    Raises InputRejected naming the key that is wrong.
    """
    check_folder(
        path,
        "a dataset",
        "Make one of a video with: being preprocess VIDEO; of a packed file with: being data "
        "unpack FILE",
    )
    file = path / FILE
    if not file.is_file():
        raise InputRejected(
            f"{path} is not a dataset",
            f"it has no {FILE}",
            "Make one with: being preprocess VIDEO",
        )
    manifest = read_json(file, PREPROCESS_AGAIN)
    if manifest.get("schema") != SCHEMA:
        raise InputRejected(
            f"{path} has dataset schema {_short(manifest.get('schema'))}, this version reads "
            f"{SCHEMA}",
            fix="Preprocess the clip again, or use the version of being that made it",
        )
    absent = [key for key in REQUIRED if key not in manifest]
    if absent:
        raise InputRejected(f"{file} is incomplete", f"no {', '.join(absent)}", PREPROCESS_AGAIN)
    if fault := manifest_fault(manifest):
        raise InputRejected(f"{file} is not valid", fault, PREPROCESS_AGAIN)
    return manifest


def manifest_fault(manifest: Any) -> str:
    """What is wrong with the content of a `dataset.json`, empty if nothing is."""
    if not isinstance(manifest, dict) or not all(key in manifest for key in REQUIRED):
        return f"it lacks one of {', '.join(REQUIRED)}"
    return next(_faults(manifest), "")


def _faults(manifest: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a manifest, one text a key."""
    frames = manifest["frames"]
    if not is_subject_name(manifest["name"]):
        yield f"its name {_short(manifest['name'])} cannot be the name of a folder"
    if not is_count(frames, FRAMES_MAX) or not frames:
        yield f"frames is {_short(frames)}, not a number from 1 to {FRAMES_MAX}"
    for key in ("width", "height"):
        if not is_count(manifest[key], SIDES[1]) or manifest[key] < SIDES[0]:
            yield f"{key} is {_short(manifest[key])}, not {SIDES[0]} to {SIDES[1]} px"
    if manifest.get("fps", FPS) != FPS:
        yield f"fps is {_short(manifest['fps'])}, not {FPS}"
    if not _covers_all_frames(manifest.get("segments") or [[0, frames]], frames):
        yield (
            f"its segments {_short(manifest['segments'])} do not cover the {frames} frames one "
            "after the other"
        )
    for key in ("missing", "repeated"):
        numbers = manifest.get(key, [])
        if not isinstance(numbers, list) or not all(is_count(i, frames - 1) for i in numbers):
            yield f"{key} is not a list of frames"
    if not are_features(manifest["features"]):
        yield "features does not name a file in the dataset and a width for each encoder"
    if fault := consent_fault(manifest.get("consent")):
        yield fault
    if not _are_steps(manifest.get("steps", {})):
        yield "steps does not hold a digest of each step"
    if not _are_findings(manifest.get("findings", [])):
        yield "findings is not a list of findings"
    if fault := _source_fault(manifest.get("source", {}), frames):
        yield f"source: {fault}"


def is_count(value: Any, most: int) -> bool:
    """Whether a value of a JSON file is a whole number from 0 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def are_features(features: Any) -> bool:
    """Whether `features` names a file inside the dataset and a width for each encoder."""
    if not isinstance(features, dict) or len(features) > FEATURES_MAX:
        return False
    try:
        for name, entry in features.items():
            path_inside(Path(), entry["file"])
            if len(name) > TEXT_MAX or not entry["width"]:
                return False
            if not is_count(entry["width"], WIDTH_MAX):
                return False
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _covers_all_frames(segments: Any, frames: int) -> bool:
    """Whether segments [start, stop) cover 0 to `frames` in order, without gaps or empty ones."""
    if not isinstance(segments, list) or not all(_is_pair(pair, frames) for pair in segments):
        return False
    borders = [0, *(stop for _, stop in segments)]
    return borders[-1] == frames and all(
        a < b and start == a
        for (start, _), (a, b) in zip(segments, itertools.pairwise(borders), strict=True)
    )


def _is_pair(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_count(n, most) for n in value)


def _are_steps(steps: Any) -> bool:
    return isinstance(steps, dict) and all(
        isinstance(step, dict) and isinstance(step.get("digest"), str) for step in steps.values()
    )


def _are_findings(findings: Any) -> bool:
    """Whether each finding has texts, and the times that it is about."""
    if not isinstance(findings, list):
        return False
    for finding in findings:
        if not isinstance(finding, dict) or not all(
            isinstance(finding.get(key), str) for key in ("check", "level", "what")
        ):
            return False
        times = finding.get("at", [])
        if not isinstance(times, list) or not isinstance(finding.get("fix", ""), str):
            return False
        if not all(
            isinstance(pair, list) and len(pair) == 2 and all(map(is_seconds, pair))
            for pair in times
        ):
            return False
    return True


def is_seconds(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number of seconds."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) <= SECONDS_MAX


def _source_fault(source: Any, frames: int) -> str:
    """What is wrong with the record of the source video, empty if nothing is."""
    if not isinstance(source, dict):
        return "it is not an object"
    if not isinstance(source.get("sha256", ""), str) or len(source.get("sha256", "")) > TEXT_MAX:
        return "sha256 is no text"
    crop = source.get("crop")
    if crop is not None and not (
        isinstance(crop, list)
        and len(crop) == 3
        and all(is_count(side, 1 << 16) for side in crop)
        and crop[2]
    ):
        return f"crop is {_short(crop)}, not left, top and side in px"
    runs = source.get("frames")
    if runs is not None:
        if not isinstance(runs, list) or not all(_is_pair(run, 1 << 40) for run in runs):
            return "frames is not a list of runs [first, count]"
        if sum(count for _, count in runs) != frames:
            return f"its runs of frames do not make {frames} frames"
    starts = source.get("starts", [])
    if not isinstance(starts, list) or not all(map(is_seconds, starts)):
        return "starts is not a list of seconds"
    return _clips_fault(source.get("clips")) or _recording_fault(source.get("audio"))


def _clips_fault(clips: Any) -> str:
    """What is wrong with the record of the clips that a source was joined of, empty if nothing."""
    if clips is None:
        return ""
    if not isinstance(clips, list) or len(clips) > CLIPS_MAX:
        return f"clips is not a list of at most {CLIPS_MAX}"
    for clip in clips:
        if not isinstance(clip, dict) or not is_count(clip.get("frames"), 1 << 40):
            return "clips has no number of frames of each"
        if not all(
            isinstance(clip.get(key), str) and len(clip[key]) <= TEXT_MAX
            for key in ("file", "sha256")
        ):
            return "clips has no file and sha256 of each"
    return ""


def _recording_fault(audio: Any) -> str:
    """What is wrong with the record of a separate recording of the voice, empty if nothing is."""
    if audio is None:
        return ""
    if not isinstance(audio, dict) or not all(
        isinstance(audio.get(key), str) and len(audio[key]) <= TEXT_MAX
        for key in ("file", "sha256")
    ):
        return "audio has no file and sha256"
    if not is_seconds(audio.get("offset")) or not is_seconds(audio.get("drift")):
        return "audio has no offset and drift"
    filled = audio.get("filled")
    if not isinstance(filled, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(map(is_seconds, pair)) for pair in filled
    ):
        return "filled of audio is not a list of pairs of seconds"
    return ""


def _short(value: Any) -> str:
    """A value of a foreign file for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

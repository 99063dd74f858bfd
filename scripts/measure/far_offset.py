"""Measure how far offsets of the audio from the mouth are found, and how often one is false.

    python scripts/measure/far_offset.py VIDEO... [--other SOUND ...] [--pairs 300]

For each clip, JSON with: the offset as the inspection finds it; the offsets that it finds when the
audio is moved by 1.3 and 2.4 s to both sides (null where none is certain). Then, over all clips:
pairs of a mouth with speech that is not its own, and how many of them are taken as an offset within
0.6 s, and as a farther one. The speech is that of the other clips and sounds, one after the other,
from a random moment on, and the clip's own, rolled by 9 s or more. So for this part no two clips
may be of one take.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from being import media
from being.audio.phonemes import SpeechAnalysis, analyse_speech
from being.conventions import SAMPLE_RATE
from being.face.landmarks import FaceLandmarker
from being.preprocess.inspection.drift import audio_drift
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.picture import inspect_picture
from being.preprocess.inspection.sync import far_offset, sync_offset

MOVED = (-2.4, -1.3, 1.3, 2.4)  # s
ROLLED_MIN = 9.0  # s, beyond the search and what chance is taken from
PART = (8.0, 32.0)  # s of a mouth in one pair
SPEECH = 45.0  # s of speech in one pair


def read_clip(video: Path, landmarker: FaceLandmarker) -> tuple[FaceSamples, np.ndarray]:
    """The face samples of a clip as the inspection takes them, and its audio at 16 kHz."""
    found: list[tuple[FaceSamples, np.ndarray]] = []
    inspect_picture(
        video, landmarker, lip_offset=lambda face, audio, _: found.append((face, audio))
    )
    return found[0]


def moved(audio: np.ndarray, seconds: float) -> np.ndarray:
    """Audio that is so many s later, or earlier."""
    count = round(seconds * SAMPLE_RATE)
    return np.pad(audio, (count, 0))[: len(audio)] if count > 0 else audio[-count:]


def certain(audio: np.ndarray, face: FaceSamples) -> float | None:
    """The offset that the inspection finds, s, or None."""
    whole = audio_drift(analyse_speech(audio), face).whole
    return round(whole.seconds, 3) if whole.reliable else None


def random_pair(
    clips: list[tuple[FaceSamples, np.ndarray]], sounds: list[np.ndarray], rng: np.random.Generator
) -> tuple[FaceSamples, SpeechAnalysis]:
    """A part of a mouth, and the analysis of speech that is not its own."""
    chosen = int(rng.integers(len(clips)))
    face, own = clips[chosen]
    first = float(rng.choice(face.times))
    inside = (face.times >= first) & (face.times < first + rng.uniform(*PART))
    part = FaceSamples(face.times[inside], face.points[inside], None, face.face_counts[inside])

    rolled = len(own) / SAMPLE_RATE - 2 * ROLLED_MIN
    if rolled > 0 and rng.random() < 0.3:
        by = round(SAMPLE_RATE * (ROLLED_MIN + rng.uniform(0, rolled)))
        return part, analyse_speech(np.roll(own, by))
    others = [audio for i, (_, audio) in enumerate(clips) if i != chosen] + sounds
    speech = np.concatenate([others[i] for i in rng.permutation(len(others))])
    start = int(rng.integers(0, max(1, len(speech) - round(SPEECH * SAMPLE_RATE))))
    return part, analyse_speech(speech[start : start + round(SPEECH * SAMPLE_RATE)])


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--other", type=Path, nargs="*", default=[], help="other speech")
    parser.add_argument("--pairs", type=int, default=300)
    options = parser.parse_args()
    landmarker, rng = FaceLandmarker(), np.random.default_rng(0)
    clips = [read_clip(video, landmarker) for video in options.videos]
    for video, (face, audio) in zip(options.videos, clips, strict=True):
        found = {f"{by:+.1f}": certain(moved(audio, by), face) for by in MOVED}
        seconds = round(len(face.times) and float(np.ptp(face.times)), 1)
        own = certain(audio, face)
        print(json.dumps({"clip": video.name, "seconds": seconds, "own": own, "moved": found}))

    # Pairs that do not belong together.
    sounds = [media.read_audio(path) for path in options.other]
    near = far = 0
    for _ in range(options.pairs if len(clips) + len(sounds) > 1 else 0):
        face, analysis = random_pair(clips, sounds, rng)
        found_near = sync_offset(analysis, face).reliable
        near += found_near
        far += not found_near and far_offset(analysis, face).reliable
    print(json.dumps({"pairs": options.pairs, "within 0.6 s": near, "farther": far}))


if __name__ == "__main__":
    main()

"""Print the inspection findings about audio and speech of a clip, with their figures.

    python scripts/measure/speech.py VIDEO [--watch 15] [--other SOUND ...]

Prints one finding per line, then JSON with: seconds of speech; counts of the phoneme classes; the
audio offset, and the offsets that are found when the audio is shifted (they should follow the
shift); how far the offsets of all parts of 15 s are from it, and how many are reliable; the
confidence of 15 s with the audio of other speakers (it should be low); lip aperture at the
recognised closures (p, b, m) and at all times; CPU seconds of the audio part.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import numpy as np

from being import media
from being.audio.phonemes import CLOSURE, PHONEME_CLASSES, SpeechAnalysis, analyse_speech
from being.conventions import SAMPLE_RATE
from being.face.landmarks import FaceLandmarker, lip_aperture
from being.preprocess.inspection.audio_checks import check_audio, repaired_audio
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.learnability import CLOSED, check_learnability
from being.preprocess.inspection.sync import SyncOffset, check_other_voices, check_sync, sync_offset

PART = 375  # frames, 15 s
MOVED = (-0.2, -0.1, -0.04, 0.04, 0.1, 0.2)  # s


def track_face(video: Path, seconds: float) -> FaceSamples:
    """Landmarks of the first `seconds` of a clip, frame by frame at 25 frames/s."""
    frames = list(islice(media.read_frames(video), round(25 * seconds)))
    seen = FaceLandmarker(workers=1).track(frames)
    return FaceSamples(
        np.arange(len(frames)) / 25, seen.points, seen.blendshapes, np.full(len(frames), -1)
    )


def moved(sound: np.ndarray, seconds: float) -> np.ndarray:
    """Audio that is `seconds` later, float32 [T'], with zeros in front; or earlier and cut."""
    samples = round(seconds * SAMPLE_RATE)
    return np.pad(sound, (samples, 0)) if samples > 0 else sound[-samples:]


def closures(speech: SpeechAnalysis, face: FaceSamples) -> dict[str, float]:
    """Least lip aperture in the 0.12 s before p, b or m, and before all moments of speech."""
    times, aperture = face.times[face.found], lip_aperture(face.points[face.found])

    def least(moments: np.ndarray) -> np.ndarray:
        return np.array(
            [aperture[(times >= t - 0.12) & (times <= t + 0.02)].min() for t in moments]
        )

    inside = (speech.times > times[0] + 0.12) & (speech.times < times[-1])
    moments = np.arange(times[0] + 0.12, times[-1], 0.04)
    there, everywhere = (
        least(speech.times[inside & (speech.classes == CLOSURE)]),
        least(moments[speech.speaking(moments)]),
    )
    return {
        "heard": len(there),
        "median there": float(np.median(there)),
        "median": float(np.median(everywhere)),
        "closed there": float(np.mean(there < CLOSED)),
        "closed": float(np.mean(everywhere < CLOSED)),
    }


def part(face: FaceSamples, start: int, moment: float) -> FaceSamples:
    """15 s of a face from frame `start` on, as if they began at `moment`."""
    here = slice(start, start + PART)
    return FaceSamples(
        face.times[here] - face.times[start] + moment,
        face.points[here],
        None,
        face.face_counts[here],
    )


def parts(speech: SpeechAnalysis, face: FaceSamples, offset: SyncOffset) -> dict[str, float]:
    """Offsets from every 15 s of a face, a second apart, against the one from all of it."""
    found = [
        sync_offset(speech, part(face, k, float(face.times[k])))
        for k in range(0, len(face) - PART + 1, 25)
    ]
    errors = [abs(one.seconds - offset.seconds) for one in found if one.reliable]
    return {
        "parts": len(found),
        "sure": len(errors),
        "largest error": max(errors, default=float("nan")),
    }


def other_speakers(face: FaceSamples, sounds: list[Path]) -> list[float]:
    """Confidences, ascending, of 15 s of this mouth with the audio of other speakers."""
    reached = []
    for path in sounds:
        speech = analyse_speech(media.read_audio(path))
        for start in range(0, len(face) - PART + 1, 125):
            for moment in np.arange(0, speech.seconds - PART / 25, 7.5):
                reached.append(sync_offset(speech, part(face, start, float(moment))).confidence)
    return sorted(reached)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument(
        "--watch", type=float, default=15.0, help="seconds of the clip looked at frame by frame"
    )
    parser.add_argument(
        "--other", type=Path, nargs="*", default=[], help="audio files of other speakers"
    )
    options = parser.parse_args()
    sound = media.read_audio(options.video)
    face = track_face(options.video, options.watch)
    analyse_speech(np.zeros(SAMPLE_RATE, np.float32))  # loads the network
    start = time.process_time()
    speech = analyse_speech(sound)
    offset = sync_offset(speech, face)
    frames = len(sound) * 25 // SAMPLE_RATE
    findings = (
        *check_audio(speech),
        check_sync(offset),
        check_other_voices(speech, face),
        *check_learnability(speech, face, frames, [(0, frames)]),
    )
    repaired_audio(speech)
    seconds = time.process_time() - start
    for finding in findings:
        at = " ".join(f"{a:.1f}-{b:.1f}" for a, b in finding.at[:8])
        print(
            f"{finding.level:9} {finding.check:18} {finding.what}{' [' + at + ' s]' if at else ''}"
            f"{' -> ' + finding.fix if finding.fix else ''}"
        )
    found = (
        {
            f"{by:+.2f}": round(
                sync_offset(analyse_speech(moved(sound, by)), face).seconds - offset.seconds, 4
            )
            for by in MOVED
        }
        if offset.reliable
        else {}
    )
    print(
        json.dumps(
            {
                "speech_seconds": speech.speech_seconds,
                "classes": dict(zip(PHONEME_CLASSES, speech.counts().tolist(), strict=True)),
                "offset": vars(offset),
                "moved": found,
                "parts": parts(speech, face, offset),
                "strangers": other_speakers(face, options.other),
                "closures": closures(speech, face),
                "cpu_seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()

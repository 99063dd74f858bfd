"""The findings of sound and speech of a clip, and the figures behind them.

    python scripts/measure/speech.py VIDEO [--watch 15] [--other SOUND ...]

Prints one finding a line, then JSON with: seconds of speech, counts of the sound classes, offset of
the sound and how well moved sound is told (it should be by the same as it was moved); how far the
offsets of all 15 s lie from it and how often they are sure; the confidence that other speakers'
sounds reach over the same 15 s (it should stay low); lip aperture at the closures (p, b, m) heard
against the aperture at all times; CPU seconds of the sound side.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import numpy as np

from being import media
from being.audio.phonemes import CLASSES, CLOSURE, Heard, listen
from being.conventions import SAMPLE_RATE
from being.face.landmarks import FaceLandmarker, lip_aperture
from being.preprocess.inspection.face_samples import Look
from being.preprocess.inspection.learnability import CLOSED, forecast
from being.preprocess.inspection.speech import check_sound, mended
from being.preprocess.inspection.sync import Offset, check_other_voices, check_sync, sync_offset

PART = 375  # frames, 15 s
MOVED = (-0.2, -0.1, -0.04, 0.04, 0.1, 0.2)  # s


def look_at(video: Path, seconds: float) -> Look:
    """Landmarks of the first `seconds` of a clip, frame by frame at 25 frames/s."""
    frames = list(islice(media.read_frames(video), round(25 * seconds)))
    seen = FaceLandmarker(workers=1).track(frames)
    return Look(
        np.arange(len(frames)) / 25, seen.points, seen.blendshapes, np.full(len(frames), -1)
    )


def moved(sound: np.ndarray, seconds: float) -> np.ndarray:
    """The sound that many seconds later, float32 [T'], zeros in front (or that much earlier, its
    begin cut off).
    """
    samples = round(seconds * SAMPLE_RATE)
    return np.pad(sound, (samples, 0)) if samples > 0 else sound[-samples:]


def closures(heard: Heard, look: Look) -> dict[str, float]:
    """Least lip aperture in the 0.12 s before p, b or m is heard, against the same before all
    moments of speech.
    """
    times, aperture = look.times[look.found], lip_aperture(look.points[look.found])

    def least(moments: np.ndarray) -> np.ndarray:
        return np.array(
            [aperture[(times >= t - 0.12) & (times <= t + 0.02)].min() for t in moments]
        )

    inside = (heard.times > times[0] + 0.12) & (heard.times < times[-1])
    moments = np.arange(times[0] + 0.12, times[-1], 0.04)
    there, everywhere = (
        least(heard.times[inside & (heard.kinds == CLOSURE)]),
        least(moments[heard.speaking(moments)]),
    )
    return {
        "heard": len(there),
        "median there": float(np.median(there)),
        "median": float(np.median(everywhere)),
        "closed there": float(np.mean(there < CLOSED)),
        "closed": float(np.mean(everywhere < CLOSED)),
    }


def part(look: Look, start: int, moment: float) -> Look:
    """15 s of a look from frame `start` on, as if they began at `moment`."""
    here = slice(start, start + PART)
    return Look(
        look.times[here] - look.times[start] + moment, look.points[here], None, look.faces[here]
    )


def parts(heard: Heard, look: Look, offset: Offset) -> dict[str, float]:
    """Offsets from every 15 s of a look, a second apart, against the one from all of it."""
    found = [
        sync_offset(heard, part(look, k, float(look.times[k])))
        for k in range(0, len(look) - PART + 1, 25)
    ]
    errors = [abs(one.seconds - offset.seconds) for one in found if one.sure]
    return {
        "parts": len(found),
        "sure": len(errors),
        "largest error": max(errors, default=float("nan")),
    }


def strangers(look: Look, sounds: list[Path]) -> list[float]:
    """Confidence float of 15 s of a mouth with other people's sounds, at several moments of both,
    ascending.
    """
    reached = []
    for path in sounds:
        heard = listen(media.read_audio(path))
        for start in range(0, len(look) - PART + 1, 125):
            for moment in np.arange(0, heard.seconds - PART / 25, 7.5):
                reached.append(sync_offset(heard, part(look, start, float(moment))).confidence)
    return sorted(reached)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument(
        "--watch", type=float, default=15.0, help="seconds of the clip looked at frame by frame"
    )
    parser.add_argument(
        "--other", type=Path, nargs="*", default=[], help="sounds of other speakers"
    )
    options = parser.parse_args()
    sound = media.read_audio(options.video)
    look = look_at(options.video, options.watch)
    listen(np.zeros(SAMPLE_RATE, np.float32))  # loads the network
    start = time.process_time()
    heard = listen(sound)
    offset = sync_offset(heard, look)
    frames = len(sound) * 25 // SAMPLE_RATE
    findings = (
        *check_sound(heard),
        check_sync(offset),
        check_other_voices(heard, look),
        *forecast(heard, look, frames, [(0, frames)]),
    )
    mended(heard)
    seconds = time.process_time() - start
    for finding in findings:
        at = " ".join(f"{a:.1f}-{b:.1f}" for a, b in finding.at[:8])
        print(
            f"{finding.level:9} {finding.check:18} {finding.what}{' [' + at + ' s]' if at else ''}"
            f"{' -> ' + finding.fix if finding.fix else ''}"
        )
    told = (
        {
            f"{by:+.2f}": round(
                sync_offset(listen(moved(sound, by)), look).seconds - offset.seconds, 4
            )
            for by in MOVED
        }
        if offset.sure
        else {}
    )
    print(
        json.dumps(
            {
                "speech_seconds": heard.speech_seconds,
                "classes": dict(zip(CLASSES, heard.counts().tolist(), strict=True)),
                "offset": vars(offset),
                "moved": told,
                "parts": parts(heard, look, offset),
                "strangers": strangers(look, options.other),
                "closures": closures(heard, look),
                "cpu_seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()

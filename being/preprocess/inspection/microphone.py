"""A separate recording of the voice: put on the camera's clock and used instead of its audio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being import media
from being.conventions import SAMPLE_RATE
from being.errors import InputRejected
from being.media.containers import open_media
from being.paths import user_path
from being.preprocess.inspection.findings import Finding, TimeRanges
from being.preprocess.inspection.recording_clock import ClockFit, fit_clock, on_camera_clock
from being.preprocess.workspace import sha256

SILENCE_PEAK = 1e-3  # of full scale
LONGEST = 4 * 3600  # s of a recording
# Share of the picture that the recording may lack: there the camera's audio is used. Two
# microphones sound different, so the lips would learn from two voices.
MISSING_MAX = 0.1
MISSING_MIN = 0.02  # s; less is not worth a word
FADE = 0.02  # s over which the recording and the camera's audio change places
WINDOWS_MIN = 5  # windows with sound from which two takes can be told apart
CLAP_FIX = (
    "Put the recording into the video with a video editor, where a clap of the hands is seen and "
    "heard, and give the video without --audio"
)


@dataclass(frozen=True)
class Recording:
    """A separate recording of the voice, and where the video is in it."""

    # name of the file
    file: str
    sha256: str
    # time in the recording at the video's first picture, s
    offset: float
    # s that the recording's clock gains in each second of the camera's
    drift: float
    # windows of the camera's audio that were compared, and those that agree to half a millisecond
    windows: int
    agreeing: int
    # what the recording lacks and the camera's audio fills, s from the first picture
    filled: TimeRanges = ()

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recording:
        """The recording whose fields `dataclasses.asdict` gave."""
        filled = tuple((start, stop) for start, stop in value["filled"])
        return cls(**{**value, "filled": filled})

    def manifest(self) -> dict[str, Any]:
        """Its entry in `dataset.json`."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "offset": round(self.offset, 6),
            "drift": round(self.drift, 9),
            "filled": [[round(start, 3), round(stop, 3)] for start, stop in self.filled],
        }


def read_clip_audio(
    info: media.MediaInfo, audio: Path | None = None
) -> tuple[media.AudioTrack, Recording | None]:
    """The audio of a clip at 16 kHz on its clock, and the separate recording that it comes from.

    audio: file of a separate recording, or None for the camera's own. Raises InputRejected where
    audio is missing, silent or damaged, and where the recording is not of this take, does not run
    through, or lacks more than a tenth of the picture.
    """
    if audio is None:
        return _read_track(info.path), None
    if info.audio_codec is None:
        raise InputRejected(
            f"{info.path} has no audio track",
            f"{audio} is aligned to the picture by the sound that the camera recorded",
            CLAP_FIX,
        )

    # Both as samples from their first one on.
    path = user_path(audio)
    _check_length(path)
    recorded = _read_track(path)
    recording = _joined(recorded)
    try:
        camera = _read_track(info.path)
    except InputRejected as error:
        why = f"{path} is aligned to the picture by it"
        raise InputRejected(error.what, why, CLAP_FIX) from error
    fit = fit_clock(_joined(camera), recording)
    _check_fit(fit, info.path, path)
    return _merged(info, camera, path, recording, fit)


def check_recording(recording: Recording) -> Finding:
    """The finding "microphone": how the recording was aligned, and what it lacks."""
    side = "before" if recording.offset >= 0 else "after"
    what = (
        f"{recording.file} replaces the camera's audio: it starts {abs(recording.offset):.3f} s "
        f"{side} the picture, its clock differs by {1e6 * recording.drift:+.0f} ppm, "
        f"{recording.agreeing} of {recording.windows} windows agree"
    )
    if not recording.filled:
        return Finding("microphone", "ok", what)
    seconds = sum(stop - start for start, stop in recording.filled)
    return Finding(
        "microphone",
        "warning",
        f"{what}; it lacks {seconds:.1f} s of the picture",
        recording.filled,
        "The camera's audio is used there, with the loudness of the recording. "
        "Cut the video to the part that the microphone recorded to avoid this",
    )


def _check_length(path: Path) -> None:
    """Raise InputRejected for a recording that is longer than LONGEST by its header."""
    with open_media(path) as container:
        seconds = (container.duration or 0) / 1e6
    if seconds > LONGEST:
        raise InputRejected(
            f"{path} has {seconds / 3600:.1f} hours",
            f"a recording of at most {LONGEST // 3600} hours is read",
            "Cut it to the take",
        )


def _read_track(path: Path) -> media.AudioTrack:
    """The audio track of a file. Raises InputRejected when it is missing, silent or damaged."""
    audio = media.read_audio_track(path)
    if not all(np.isfinite(samples).all() for _, samples in audio.pieces):
        raise InputRejected(
            f"the audio of {path} holds samples that are not numbers", fix="Export the clip again"
        )
    if max(np.abs(samples).max(initial=0.0) for _, samples in audio.pieces) < SILENCE_PEAK:
        raise InputRejected(
            f"the audio of {path} is silent",
            "speech is what moves the lips",
            "Give a clip in which the person can be heard",
        )
    return audio


def _joined(track: media.AudioTrack) -> np.ndarray:
    """All samples float32 [T] of a track from its first one on, with zeros in its gaps."""
    start = track.pieces[0][0]
    seconds = min(track.stop - start, LONGEST)
    return track.samples_from(start, max(1, round(seconds * track.rate)))


def _check_fit(fit: ClockFit, video: Path, audio: Path) -> None:
    """Raise InputRejected unless the recording is of the video's take and runs through."""
    fix = "Give the file of the take in the video, or leave --audio out"
    if fit.windows < WINDOWS_MIN:
        raise InputRejected(
            f"whether {audio} is of the same take as {video} cannot be told",
            f"only {fit.windows} parts with sound of the camera's audio can be compared",
            fix,
        )
    if not fit.one_take:
        raise InputRejected(
            f"{audio} is not a recording of the take in {video}",
            f"{fit.agreeing} of {fit.windows} parts of the camera's audio are found in it at one "
            "offset, which is no more than chance gives",
            fix,
        )
    if fit.foreign:
        times = ", ".join(f"{start:.0f} to {stop:.0f} s" for start, stop in fit.foreign)
        raise InputRejected(
            f"{audio} fits only a part of {video}",
            f"it differs at {times}: it was cut, or its recorder dropped samples",
            "Give the file as the recorder made it, or cut the video to the part that fits",
        )


def _merged(
    info: media.MediaInfo, camera: media.AudioTrack, path: Path, samples: np.ndarray, fit: ClockFit
) -> tuple[media.AudioTrack, Recording]:
    """The recording on the camera's clock, and what it is.

    samples: float32 [R], the recording. Where it lacks a part of the picture the camera's audio
    fills it. Raises InputRejected when it lacks too much.
    """
    # In s on the video's clock: the picture, the recording, and what both devices have of it.
    origin = camera.pieces[0][0]
    first = info.video_start
    last = first + info.duration if info.duration else camera.stop
    low = origin - fit.offset / (1 + fit.drift)
    high = origin + (len(samples) / SAMPLE_RATE - fit.offset) / (1 + fit.drift)
    begin = max(first, min(origin, low))
    end = max(begin, min(last, max(camera.stop, high)))

    # What the recording lacks.
    filled = tuple(
        (start - first, stop - first)
        for start, stop in ((begin, min(low, end)), (max(high, begin), end))
        if stop - start > MISSING_MIN
    )
    missing = sum(stop - start for start, stop in filled)
    if missing > MISSING_MAX * (end - begin):
        raise InputRejected(
            f"{path} lacks {missing:.1f} s of the {end - begin:.1f} s of {info.path}",
            f"the camera's audio fills at most {MISSING_MAX:.0%}: it sounds different",
            "Cut the video to the part that the microphone recorded",
        )

    # The recording at the samples of the camera's clock from `begin` on.
    count = round((end - begin) * SAMPLE_RATE)
    offset = fit.recorded_at(begin - origin)
    mixed = on_camera_clock(samples, offset, fit.drift, 0, count)
    if filled:
        share = _share(count, low - begin, high - begin)
        other = camera.samples_from(begin, count)
        gain = _deviation(mixed[share == 1]) / max(_deviation(other[share == 1]), 1e-6)
        mixed = share * mixed + (1 - share) * np.clip(gain * other, -1, 1)

    track = media.AudioTrack(((begin, mixed.astype(np.float32)),), SAMPLE_RATE)
    facts = Recording(
        path.name,
        sha256(path),
        fit.recorded_at(first - origin),
        fit.drift,
        fit.windows,
        fit.agreeing,
        filled,
    )
    return track, facts


def _share(count: int, low: float, high: float) -> np.ndarray:
    """Share 0..1 float32 [count] of the recording, which has the times from `low` to `high`, s."""
    time = np.arange(count) / SAMPLE_RATE
    inside = np.minimum(time - low, high - time)
    return np.clip(inside / FADE, 0, 1).astype(np.float32)


def _deviation(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) if len(samples) else 0.0

"""Sync: the offset of the audio from the mouth, accurate to 20 ms, or not reliable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER, melody
from needs import load_or_skip
from sampled_faces import clip_face_samples, synthetic_face_samples

from being import media
from being.audio import encoders
from being.audio.phonemes import analyse_speech
from being.conventions import SAMPLE_RATE
from being.media.resampling import resample
from being.preprocess.inspection import sync
from being.preprocess.inspection.drift import audio_drift
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.sync import (
    IN_SYNC,
    UNKNOWN_OFFSET,
    SyncOffset,
    check_other_voices,
    check_sync,
    far_offset,
    sync_lack,
    sync_offset,
)

MOVED = (-0.2, -0.1, -0.04, 0.04, 0.1, 0.2)  # s


def moved(audio: np.ndarray, seconds: float) -> np.ndarray:
    """The audio `seconds` later (negative: earlier)."""
    count = round(seconds * SAMPLE_RATE)
    return np.pad(audio, (count, 0)) if count > 0 else audio[-count:]


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    load_or_skip(lambda: encoders.load_encoder("hama"))
    return media.read_audio(SPEAKER)


@pytest.fixture(scope="module")
def mouth() -> FaceSamples:
    """Samples of the built-in sample with its true lip aperture."""
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    return synthetic_face_samples(np.arange(len(aperture)) / 25, aperture)


def test_a_clip_in_sync_has_no_offset(audio: np.ndarray, mouth: FaceSamples) -> None:
    """The built-in sample is drawn in sync: its mouth leads the audio by 40 ms, as a person's does.

    With the sign of MOUTH_LEADS turned, the offset would be 41 ms; with that of CLOSURE_LATE, 72.
    """
    found = sync_offset(analyse_speech(audio), mouth)
    assert found.reliable and abs(found.seconds) < 0.012


def part(samples: FaceSamples, start: int, stop: int) -> FaceSamples:
    return FaceSamples(
        samples.times[start:stop], samples.points[start:stop], None, samples.face_counts[start:stop]
    )


@pytest.mark.parametrize("by", MOVED)
def test_the_offset_of_moved_audio_is_found_in_fifteen_seconds(
    audio: np.ndarray, mouth: FaceSamples, by: float
) -> None:
    zero = sync_offset(analyse_speech(audio), mouth)
    found = sync_offset(analyse_speech(moved(audio, by)), part(mouth, 50, 425))
    assert (
        zero.reliable
        and found.reliable
        and found.seconds - zero.seconds == pytest.approx(by, abs=0.012)
    )


def test_the_offset_does_not_depend_on_the_times_of_the_frames(
    audio: np.ndarray, mouth: FaceSamples
) -> None:
    """Copies left out of a 30 fps clip; 60 fps; jittered times; sparse samples in between.

    Some frames have no face.
    """
    analysis, rng = analyse_speech(audio), np.random.default_rng(0)
    zero = sync_offset(analysis, mouth).seconds
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    thirty = np.arange(0, 20, 1 / 30)
    for times in (
        thirty[np.arange(len(thirty)) % 6 != 5],
        np.arange(0, 18, 1 / 60),
        np.sort(np.arange(0, 20, 0.04) + rng.uniform(-0.015, 0.015, 500)),
        np.concatenate([np.arange(0, 4, 0.7), np.arange(5, 22, 0.04), np.arange(22, 29, 0.7)]),
    ):
        samples = synthetic_face_samples(times, np.interp(times, mouth.times, aperture))
        samples.points[7:10] = np.nan
        found = sync_offset(analysis, samples)
        assert found.reliable and found.seconds == pytest.approx(zero, abs=0.015)


def test_unrelated_mouth_and_audio_give_no_offset(audio: np.ndarray, mouth: FaceSamples) -> None:
    own, aperture = analyse_speech(audio), np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    hiss = 0.1 * np.random.default_rng(0).normal(size=15 * SAMPLE_RATE).astype(np.float32)
    unrelated = {
        "silence": (analyse_speech(np.zeros_like(hiss)), mouth),
        "melody": (analyse_speech(melody(15)), mouth),
        "noise": (analyse_speech(hiss), mouth),
        "short audio": (analyse_speech(audio[: 2 * SAMPLE_RATE]), mouth),
        "backwards": (own, synthetic_face_samples(mouth.times, aperture[::-1])),
        "still": (own, synthetic_face_samples(mouth.times, np.full(len(mouth), 0.05))),
        "few frames": (own, part(mouth, 100, 180)),
        "one frame": (own, part(mouth, 5, 6)),
        "no face": (
            own,
            FaceSamples(mouth.times, np.full_like(mouth.points, np.nan), None, mouth.face_counts),
        ),
        "no frames": (own, part(mouth, 0, 0)),
        "sparse": (own, synthetic_face_samples(np.arange(0, 28, 0.7), np.full(40, 0.05))),
    }
    for name, (analysis, samples) in unrelated.items():
        found = sync_offset(analysis, samples)
        assert not found.reliable and found.shift == 0, name
        assert (
            check_sync(found).level == "warning" and "cannot be measured" in check_sync(found).what
        )
        assert check_other_voices(analysis, samples).level == "ok" or name == "still"


def test_a_large_offset_is_reported_and_corrected(audio: np.ndarray, mouth: FaceSamples) -> None:
    far = sync_offset(analyse_speech(moved(audio, 0.3)), mouth)
    assert (
        far.shift == far.seconds > 0.15
        and check_sync(far).level == "warning"
        and "after" in check_sync(far).what
    )
    mended = sync_offset(analyse_speech(moved(moved(audio, 0.3), -far.shift)), mouth)
    assert abs(mended.seconds) < 0.02 and mended.shift == 0 and check_sync(mended).level == "ok"
    assert UNKNOWN_OFFSET.shift == 0 and 0.04 < IN_SYNC < 0.06


@pytest.mark.parametrize("by", [-2.9, -1.3, 0.7, 1.3, 2.4])
def test_a_far_offset_is_found_up_to_three_seconds(
    audio: np.ndarray, mouth: FaceSamples, by: float
) -> None:
    analysis, samples = analyse_speech(moved(audio, by)), part(mouth, 80, 480)
    assert not sync_offset(analysis, samples).reliable
    drift = audio_drift(analysis, samples)
    assert drift.whole.shift == pytest.approx(by, abs=0.015) and drift.rate == 0
    assert drift.whole.confidence > 6
    finding = check_sync(drift.whole)
    assert finding.level == "warning" and "moved by much" in sync_lack(finding)


def test_a_drift_about_a_far_offset_is_found(audio: np.ndarray, mouth: FaceSamples) -> None:
    inside = (mouth.times < 13) | (mouth.times >= mouth.times[-1] - 13)
    samples = FaceSamples(
        mouth.times[inside], mouth.points[inside], None, mouth.face_counts[inside]
    )
    slow = resample(audio, 1000, 1006)
    drift = audio_drift(analyse_speech(moved(slow, 1.2)), samples)
    assert drift.rate == pytest.approx(0.006, abs=0.0015) and drift.stretched(1)
    assert drift.start == pytest.approx(1.2, abs=0.04)


def test_speech_of_another_moment_gives_no_far_offset(
    audio: np.ndarray, mouth: FaceSamples
) -> None:
    """A hundred pairs: parts of 8 to 14 s of the mouth with other parts of its own speech."""
    rng, analysis = np.random.default_rng(0), analyse_speech(audio)
    signal, closed = sync._audio_signal(analysis), []
    for _ in range(100):
        length = int(rng.integers(205, 350))
        start = int(rng.integers(0, len(mouth) - length))
        samples = part(mouth, start, start + length)

        # The signal is rolled by so much that its true place lies outside of the search.
        by = int(rng.integers(950, len(signal) - 950))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sync, "_audio_signal", lambda _, by=by: np.roll(signal, by))
            closed.append(far_offset(analysis, samples))
    assert not any(offset.reliable for offset in closed)
    assert max(offset.confidence for offset in closed) > 3, "chance comes near the bound"


def test_the_bound_of_a_far_offset_rises_with_its_distance(
    audio: np.ndarray, mouth: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confidence that is enough at 0.9 s is not at 2.4 s."""
    near, far = (
        (analyse_speech(moved(audio, by)), far_offset(analyse_speech(moved(audio, by)), mouth))
        for by in (0.9, 2.4)
    )
    assert near[1].reliable and far[1].reliable
    between = (near[1].confidence + far[1].confidence) / 2
    spread = abs(near[1].confidence - far[1].confidence)
    monkeypatch.setattr(sync, "FAR_RISE", spread / 1.5 + 0.1)
    monkeypatch.setattr(sync, "FAR_RELIABLE", between - (spread / 1.5 + 0.1) * (1.65 - sync.SEARCH))
    assert far_offset(near[0], mouth).reliable and not far_offset(far[0], mouth).reliable


@pytest.mark.parametrize(
    "offset, level, lack, fix",
    [
        (SyncOffset(0.02, 8.0, 0.5, True), "ok", "", ""),
        (SyncOffset(-0.07, 8.0, 0.5, True), "warning", "", "moved by as much"),
        (SyncOffset(0.22, 8.0, 0.5, True), "warning", "moved by much", "Record again"),
        (SyncOffset(-0.22, 8.0, 0.5, True), "warning", "moved by much", "Record again"),
        (SyncOffset(0.2, 1.9, 0.18, False), "warning", "may not belong", "the microphone"),
        (UNKNOWN_OFFSET, "warning", "may not belong", "of one take"),
    ],
)
def test_a_doubtful_or_large_offset_says_what_the_avatar_will_lack(
    offset: SyncOffset, level: str, lack: str, fix: str
) -> None:
    finding = check_sync(offset)
    assert finding.level == level and fix in finding.fix and bool(fix) == bool(finding.fix)
    assert lack in sync_lack(finding) and bool(lack) == bool(sync_lack(finding))


def test_another_voice_is_found_where_the_lips_keep_still(
    audio: np.ndarray, mouth: FaceSamples
) -> None:
    analysis = analyse_speech(audio)
    assert check_other_voices(analysis, mouth).level == "ok"
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"].copy()
    aperture[238:369] = 0.002  # 9.5 to 14.8 s, where there is speech
    found = check_other_voices(analysis, synthetic_face_samples(mouth.times, aperture))
    assert found.level == "warning" and all(a >= 9.3 and b <= 14.7 for a, b in found.at)
    # Of the 5.2 s, without a pause and half a second at both ends.
    assert sum(b - a for a, b in found.at) > 3.5


@pytest.mark.shared
@pytest.mark.parametrize(
    "clip", ["address_fr_50s.mp4", "newsdesk_en_21s.mp4", "raw/address_fr_30fps_dup.mp4"]
)
def test_the_offset_of_moved_audio_of_real_clips_is_found(
    clip: str, audio: np.ndarray, shared_dir: Path
) -> None:
    own = media.read_audio(shared_dir / "clips" / clip)
    samples = clip_face_samples(shared_dir / "clips" / clip, 15)
    zero = sync_offset(analyse_speech(own), samples)
    assert zero.reliable and abs(zero.seconds) < 0.03, zero  # to the eye these clips are in sync
    for by in MOVED:
        found = sync_offset(analyse_speech(moved(own, by)), samples)
        assert found.reliable and found.seconds - zero.seconds == pytest.approx(by, abs=0.01), (
            by,
            found,
        )
    other = sync_offset(
        analyse_speech(
            media.read_audio(shared_dir / "audio" / "speech_en_60s.wav")[3 * SAMPLE_RATE :]
        ),
        samples,
    )
    assert not other.reliable


@pytest.mark.shared
def test_the_raw_clip_and_its_clean_copy_have_the_same_offset(
    audio: np.ndarray, shared_dir: Path
) -> None:
    offsets = []
    for clip in ("address_fr_50s.mp4", "raw/address_fr_30fps_dup.mp4"):
        offsets.append(
            sync_offset(
                analyse_speech(media.read_audio(shared_dir / "clips" / clip)),
                clip_face_samples(shared_dir / "clips" / clip, 12),
            ).seconds
        )
    assert offsets[0] == pytest.approx(offsets[1], abs=0.01)

"""Learnability: a warning for one phrase, little speech, and missing lips, turns and blinks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER
from needs import load_or_skip
from sampled_faces import synthetic_face_samples

from being import media
from being.audio import encoders
from being.audio.phonemes import PHONEME_CLASSES, SpeechAnalysis, analyse_speech
from being.conventions import SAMPLE_RATE
from being.face.canonical_mesh import canonical_mesh
from being.media.resampling import resample
from being.preprocess.inspection.clip import recheck_all_frames
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.learnability import (
    CLASS_NAMES,
    check_learnability,
    eye_opening,
    find_blinks,
    head_angles,
    repeated_share,
)
from being.preprocess.inspection.sync import UNKNOWN_OFFSET, SyncOffset, check_sync

TIMES = np.arange(0, 15, 0.04)
CHECKS = ["speech", "mouth", "head turns", "blinks", "forecast"]


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    load_or_skip(lambda: encoders.load_encoder("hama"))
    return media.read_audio(SPEAKER)


@pytest.fixture(scope="module")
def analysis(audio: np.ndarray) -> SpeechAnalysis:
    return analyse_speech(audio)


@pytest.fixture(scope="module")
def enough(analysis: SpeechAnalysis) -> SpeechAnalysis:
    """Twice the speech of the sample, 44 s, the phonemes of the second half in another order."""
    classes = np.concatenate(
        [analysis.classes, np.random.default_rng(0).permutation(analysis.classes)]
    )
    times = np.concatenate([analysis.times, analysis.times + analysis.seconds])
    later = tuple((a + analysis.seconds, b + analysis.seconds) for a, b in analysis.speech)
    return replace(
        analysis,
        samples=np.tile(analysis.samples, 2),
        classes=classes,
        times=times,
        speech=analysis.speech + later,
    )


def turned(yaw: np.ndarray, pitch: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Landmarks float32 [n, 478, 3] px of the canonical face, rotated by degrees [n].

    yaw turns it to the picture's right, pitch up, roll in the plane.
    """
    vertices = load_or_skip(canonical_mesh)[0].astype(np.float64)
    points = np.zeros((len(yaw), 478, 3), np.float32)
    r = np.radians(roll)
    in_plane = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    for n, (y, p) in enumerate(zip(np.radians(yaw), np.radians(pitch), strict=True)):
        aside = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        up = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
        points[n, :468] = (vertices @ (aside @ up @ in_plane).T) * [12, -12, -12] + 256
    return points


def face_samples(
    times: np.ndarray = TIMES,
    lips: float = 0.1,
    yaw: float = 12.0,
    blink_every: float = 3.0,
    shut: bool = True,
) -> FaceSamples:
    """Somebody who talks, turns the head and blinks."""
    aperture = lips * np.clip(np.sin(9 * times), 0, 1) + (0 if shut else 0.03)
    lids = np.where((times + 1) % blink_every < 0.16, 0.03, 0.3)
    face = turned(yaw * np.sin(times), 5 * np.cos(0.7 * times))
    return synthetic_face_samples(times, aperture, lids, face)


def warnings(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    assert [finding.check for finding in findings] == CHECKS
    assert all(
        finding.level != "rejection" and (finding.level == "ok" or finding.fix)
        for finding in findings
    )
    return {finding.check: finding for finding in findings if finding.level != "ok"}


def repeat_phrase(audio: np.ndarray, start: float, stop: float, times: int) -> np.ndarray:
    """One phrase repeated, each time at another pace and loudness, with noise."""
    rng, parts = np.random.default_rng(0), []
    for _ in range(times):
        pace, loud = rng.uniform(0.93, 1.07), rng.uniform(0.5, 1)
        once = audio[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)]
        once = resample(once, SAMPLE_RATE, round(SAMPLE_RATE * pace))
        parts += [
            loud * once + 0.002 * rng.normal(size=len(once)),
            np.zeros(round(rng.uniform(0.2, 0.6) * SAMPLE_RATE)),
        ]
    return np.concatenate(parts).astype(np.float32)


def test_a_good_clip_has_no_warning(enough: SpeechAnalysis) -> None:
    frames = round(25 * enough.seconds)
    assert not warnings(check_learnability(enough, face_samples(), frames, [(0, frames)]))


def test_one_repeated_phrase_differs_from_varied_speech_of_the_same_length(
    audio: np.ndarray,
) -> None:
    varied = analyse_speech(audio[: 20 * SAMPLE_RATE])
    for start, stop in ((5.0, 8.5), (9.5, 11.9), (15.7, 19.2)):
        same = analyse_speech(repeat_phrase(audio, start, stop, 6)[: 20 * SAMPLE_RATE])
        assert repeated_share(same.classes) > 0.7 and repeated_share(varied.classes) < 0.2
        found = warnings(check_learnability(same, face_samples(), 500, [(0, 500)]))
        assert "same words" in found["speech"].what and "from one phrase" in found["forecast"].what
    assert (
        "same words"
        not in warnings(check_learnability(varied, face_samples(), 500, [(0, 500)]))["speech"].what
    )


def test_repetition_does_not_grow_with_length(analysis: SpeechAnalysis) -> None:
    rng = np.random.default_rng(1)
    long = np.concatenate([rng.permutation(analysis.classes) for _ in range(40)])
    assert repeated_share(long) < 0.2
    assert repeated_share(np.tile(analysis.classes[:40], 40)) > 0.95
    assert repeated_share(np.zeros(3, np.int64)) == 0


def test_little_speech_is_reported_in_seconds_and_classes(
    analysis: SpeechAnalysis, enough: SpeechAnalysis
) -> None:
    short = warnings(check_learnability(analysis, face_samples(), 734, [(0, 200)]))
    assert (
        "6 s of speech, 7 of 12" in short["speech"].what
        and "cannot be learnt" in short["forecast"].what
    )
    middling = warnings(check_learnability(analysis, face_samples(), 734, [(0, 734)]))
    assert (
        "22 s of speech, 12 of 12" in middling["speech"].what
        and "further" in middling["speech"].fix
    )
    kept = ~np.isin(
        enough.classes, [PHONEME_CLASSES.index(name) for name in ("f v", "s z", "k g h", "r")]
    )
    kept |= np.cumsum(enough.classes == PHONEME_CLASSES.index("f v")) == 1
    few = warnings(
        check_learnability(
            replace(enough, times=enough.times[kept], classes=enough.classes[kept]),
            face_samples(),
            1470,
            [(0, 1470)],
        )
    )
    assert "8 of 12 phoneme classes" in few["speech"].what and "s/z" in few["forecast"].what
    assert len(CLASS_NAMES) == len(PHONEME_CLASSES)


def test_only_the_used_parts_count(analysis: SpeechAnalysis) -> None:
    def seconds(*segments: tuple[int, int]) -> float:
        return float(
            check_learnability(analysis, face_samples(), 734, segments)[0].what.split(" s of")[0]
        )

    assert seconds((0, 300)) + seconds((300, 734)) == pytest.approx(seconds((0, 734)), abs=1.1)
    assert seconds((0, 100), (650, 734)) < 6


@pytest.mark.parametrize(
    "fault, check, message",
    [
        (dict(lips=0.03), "mouth", "hardly opens"),
        (dict(shut=False), "mouth", "hardly close"),
        (dict(yaw=2.0), "head turns", "hardly turns"),
        (dict(yaw=50.0), "head turns", "from the side"),
        (dict(blink_every=100.0), "blinks", "0 in the 15 s"),
    ],
)
def test_what_the_face_does_not_show_gives_a_warning(
    enough: SpeechAnalysis, fault: dict[str, float], check: str, message: str
) -> None:
    found = warnings(check_learnability(enough, face_samples(**fault), 1470, [(0, 1470)]))
    assert set(found) == {check, "forecast"} and message in found[check].what
    assert found["forecast"].fix == found[check].fix and "will lack" in found["forecast"].what


def test_doubtful_sync_counts_in_the_forecast(enough: SpeechAnalysis) -> None:
    def forecast(offset: SyncOffset, lips: float = 0.1) -> Finding:
        found = check_learnability(
            enough, face_samples(lips=lips), 1470, [(0, 1470)], check_sync(offset)
        )
        assert [finding.check for finding in found] == CHECKS
        return found[-1]

    assert forecast(SyncOffset(0.02, 8.0, 0.5, True)).level == "ok"
    assert forecast(SyncOffset(0.07, 8.0, 0.5, True)).level == "ok"
    doubtful = forecast(SyncOffset(0.2, 1.9, 0.18, False))
    assert doubtful.level == "warning" and "lips that fit the speech" in doubtful.what
    assert "of one take" in doubtful.fix and "Record again" in doubtful.fix
    large = forecast(SyncOffset(-0.22, 8.0, 0.5, True))
    assert large.level == "warning" and "had to be moved by much" in large.what
    assert "Record again with the microphone of the camera" in large.fix

    # Lips that do not fit come first; the other faults follow with their fixes.
    both = forecast(UNKNOWN_OFFSET, lips=0.03)
    assert both.what.index("may not belong together") < both.what.index("teeth")
    assert both.fix.index("of one take") < both.fix.index("Speak up")


def test_the_forecast_of_all_frames_keeps_the_doubtful_sync(audio: np.ndarray) -> None:
    samples = face_samples()
    for offset, fits in ((UNKNOWN_OFFSET, False), (SyncOffset(0.0, 8.0, 0.5, True), True)):
        saved = (check_sync(offset), Finding("forecast", "ok", "from samples"))
        segments, starts = [(0, len(samples))], [0.0]
        sync, forecast = recheck_all_frames(saved, audio, samples.points, segments, starts)
        assert sync == saved[0] and forecast.what != "from samples"
        assert ("may not belong together" in forecast.what) != fits


def test_no_face_gives_warnings(enough: SpeechAnalysis) -> None:
    faceless = face_samples(TIMES[:50])
    faceless.points[:] = np.nan
    assert {"mouth", "head turns"} <= set(warnings(check_learnability(enough, faceless, 1470, [])))


def test_head_angles_are_those_of_the_pose() -> None:
    yaw, pitch = np.array([-30, -10, 0, 5, 25.0]), np.array([10, -15, 0, 8, -5.0])
    for roll in (0.0, 20.0):
        got = head_angles(turned(yaw, pitch, roll))
        assert np.abs(got[:, 0] - yaw).max() < 0.1 and np.abs(got[:, 1] - pitch).max() < 0.1


def test_blinks_are_found_at_their_times() -> None:
    moments, inspected = find_blinks(face_samples())
    assert inspected == pytest.approx(15, abs=0.1)
    assert np.abs(np.array(moments) - np.arange(2.06, 15, 3)).max() < 0.06
    sparse = np.concatenate([np.arange(0, 30, 0.7), np.arange(31, 41, 0.04)])
    moments, inspected = find_blinks(face_samples(sparse))
    assert inspected == pytest.approx(10, abs=0.1) and all(31 < moment < 41 for moment in moments)
    assert eye_opening(face_samples().points)[5] == pytest.approx(0.3, rel=0.02)


@pytest.mark.slow
def test_a_voice_that_repeats_one_sentence_differs_from_one_that_reads(audio: np.ndarray) -> None:
    from being.tts.voices import speak

    def spoken_share(*sentences: str) -> float:
        parts = []
        for k, sentence in enumerate(sentences):
            speech = load_or_skip(
                lambda sentence=sentence, k=k: speak(sentence, "hibari", 0.9 + 0.05 * (k % 5))
            )
            parts += [
                resample(speech.samples, speech.rate, SAMPLE_RATE),
                np.zeros(6000, np.float32),
            ]
        return repeated_share(analyse_speech(np.concatenate(parts)).classes)

    assert spoken_share(*["The quick brown fox jumps over the lazy dog."] * 6) > 0.8
    assert (
        spoken_share(
            "We sailed past the harbour at dawn.",
            "My aunt paints small wooden boxes.",
            "Could you close the gate?",
            "Nobody knew why the bell rang twice.",
            "Fresh bread is sold until noon.",
            "It rained all week.",
        )
        < 0.2
    )


@pytest.mark.shared
@pytest.mark.parametrize(
    "clip, seconds, classes",
    [
        ("address_fr_50s.mp4", 40, 11),
        ("newsdesk_en_21s.mp4", 20, 10),
        ("newsdesk_en_71s_cuts.mp4", 62, 12),
    ],
)
def test_real_clips(
    clip: str, seconds: int, classes: int, audio: np.ndarray, shared_dir: Path
) -> None:
    analysis = analyse_speech(media.read_audio(shared_dir / "clips" / clip))
    frames = round(25 * analysis.seconds)
    speech = check_learnability(analysis, face_samples(), frames, [(0, frames)])[0]
    assert f"{seconds} s of speech, {classes} of 12" in speech.what
    assert (
        speech.level == ("warning" if seconds < 30 else "ok")
        and repeated_share(analysis.classes) < 0.3
    )

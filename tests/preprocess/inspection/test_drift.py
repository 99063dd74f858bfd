"""Drift: audio that runs faster or slower than the picture is found, and told from an offset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER
from needs import load_or_skip
from sampled_faces import clip_face_samples, synthetic_face_samples

from being import media
from being.audio import encoders
from being.audio.phonemes import analyse_speech
from being.conventions import SAMPLE_RATE
from being.media.resampling import resample
from being.preprocess.inspection.drift import AudioDrift, audio_drift, check_drift
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.measurements import RUN_SECONDS, run_starts
from being.preprocess.inspection.sync import UNKNOWN_OFFSET

UNIT = 100_000


def faster(audio: np.ndarray, rate: float) -> np.ndarray:
    """The audio, faster by the share `rate` (negative: slower)."""
    return resample(audio, round(UNIT * (1 + rate)), UNIT)


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    load_or_skip(lambda: encoders.load_encoder("hama"))
    return media.read_audio(SPEAKER)


@pytest.fixture(scope="module")
def mouth() -> FaceSamples:
    """Two runs of consecutive frames of the built-in sample, with its true lip aperture."""
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    times = np.arange(len(aperture)) / 25
    inside = (times < 13) | (times >= times[-1] - 13)
    return synthetic_face_samples(times[inside], aperture[inside])


@pytest.mark.parametrize("rate", [0.008, -0.008])
def test_the_rate_of_a_drift_is_found(audio: np.ndarray, mouth: FaceSamples, rate: float) -> None:
    drift = audio_drift(analyse_speech(faster(audio, rate)), mouth)
    assert drift.rate == pytest.approx(-rate / (1 + rate), abs=0.0015)
    assert abs(drift.start) < 0.04 and drift.stretched(1)
    assert not drift.stretched(2), "two parts of an edited clip may have offsets of their own"
    finding = check_drift(drift, 1)
    assert finding.level == "warning" and "stretched" in finding.fix
    assert ("fast" if rate > 0 else "slow") in finding.what and len(finding.at) == 2


def test_a_constant_offset_is_no_drift(audio: np.ndarray, mouth: FaceSamples) -> None:
    for by in (0.0, 0.2):
        late = np.pad(audio, (round(by * SAMPLE_RATE), 0))
        drift = audio_drift(analyse_speech(late), mouth)
        assert drift.rate == 0 and len(drift.parts) == 2
        assert drift.whole.shift == pytest.approx(by, abs=0.015)


def test_offsets_that_lie_on_no_line_are_reported_and_not_stretched() -> None:
    drift = AudioDrift(UNKNOWN_OFFSET, 0.002, 0.0, ((10, 0.0), (50, 0.3), (90, 0.2)), even=False)
    finding = check_drift(drift, 1)
    assert not drift.stretched(1)
    assert finding.level == "warning" and "the offset" in finding.what and "changes" in finding.what


@pytest.mark.parametrize("seconds", [0.0, 10.0, 21.0, 37.0, 50.0, 600.0])
def test_runs_lie_inside_the_clip_and_apart(seconds: float) -> None:
    starts = run_starts(seconds)
    assert all(b - a >= RUN_SECONDS for a, b in zip(starts[:-1], starts[1:], strict=True))
    assert len(starts) == (1 if seconds < 36 else 2 if seconds < 80 else 3)
    assert seconds < 20 or starts[-1] + RUN_SECONDS <= seconds


@pytest.mark.shared
def test_the_drift_of_a_real_clip_is_found(audio: np.ndarray, shared_dir: Path) -> None:
    clip = shared_dir / "clips/address_fr_50s.mp4"
    own, samples = media.read_audio(clip), clip_face_samples(clip, 50)
    inside = (samples.times % 30) < 16
    runs = FaceSamples(
        samples.times[inside], samples.points[inside], None, samples.face_counts[inside]
    )
    assert audio_drift(analyse_speech(own), runs).rate == 0
    drift = audio_drift(analyse_speech(faster(own, 0.008)), runs)
    assert drift.rate == pytest.approx(-0.008, abs=0.001) and drift.stretched(1)

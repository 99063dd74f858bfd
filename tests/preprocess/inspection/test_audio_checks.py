"""Audio checks: each fault gives its own warning and no other; good audio gives none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER, melody, other_sounds
from needs import load_or_skip

from being import media
from being.audio import encoders
from being.audio.phonemes import analyse_speech
from being.conventions import SAMPLE_RATE
from being.media.resampling import resample
from being.preprocess.inspection.audio_checks import DC_MAX, check_audio, repaired_audio
from being.preprocess.inspection.findings import Finding

CHECKS = ["audio", "audio level", "clipping", "noise", "bandwidth", "voice"]


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    load_or_skip(lambda: encoders.load_encoder("hama"))
    return media.read_audio(SPEAKER)[: 15 * SAMPLE_RATE]


def noise(audio: np.ndarray, decibels: float) -> np.ndarray:
    """White noise, `decibels` under the audio's loud parts (the 95th percentile of its level)."""
    level = np.percentile(np.square(audio[: len(audio) // 160 * 160].reshape(-1, 160)).mean(1), 95)
    white = np.random.default_rng(0).normal(size=len(audio))
    return (white * np.sqrt(level / 10 ** (decibels / 10))).astype(np.float32)


def faults_of(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings if finding.level != "ok"}


def telephone(audio: np.ndarray) -> np.ndarray:
    return resample(resample(audio, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)


def cut_off(audio: np.ndarray, times: float) -> np.ndarray:
    """The audio amplified over full scale at 44.1 kHz and clipped, then quieter at 16 kHz."""
    high = resample(audio, SAMPLE_RATE, 44_100) * np.float32(times / np.abs(audio).max())
    return 0.5 * resample(np.clip(high, -1, 1), 44_100, SAMPLE_RATE)


def test_good_audio_has_no_fault(audio: np.ndarray) -> None:
    findings = check_audio(analyse_speech(audio))
    assert [finding.check for finding in findings] == CHECKS and not faults_of(findings)
    for unharmed in (audio + noise(audio, 25), 0.1 * audio, 0.99 / np.abs(audio).max() * audio):
        assert not faults_of(check_audio(analyse_speech(unharmed)))
    late = check_audio(analyse_speech(np.pad(audio, (5 * SAMPLE_RATE, 0))))
    assert not faults_of(late) and late[-1].at[0] == pytest.approx((0, 5.6), abs=0.3)


@pytest.mark.parametrize(
    "fault, check, message",
    [
        ("cut off 2", "clipping", "cut off"),
        ("cut off 6", "clipping", "cut off"),
        ("mean", "audio level", "mean"),
        ("almost silent", "audio level", "nearly silent"),
        ("telephone", "bandwidth", "telephone"),
        ("noise", "noise", "noise"),
        ("music", "noise", "music"),
        ("mostly pause", "voice", "the rest"),
    ],
)
def test_a_fault_gives_its_warning_and_no_other(
    audio: np.ndarray, fault: str, check: str, message: str
) -> None:
    faulty = {
        "cut off 2": lambda: cut_off(audio, 3),
        "cut off 6": lambda: cut_off(audio, 8),
        "mean": lambda: audio + 0.05,
        "almost silent": lambda: audio * 0.004,
        "telephone": lambda: telephone(audio),
        "noise": lambda: audio + noise(audio, 9),
        "music": lambda: audio + 0.35 * melody(15)[: len(audio)],
        "mostly pause": lambda: np.pad(audio, (0, 30 * SAMPLE_RATE)),
    }[fault]().astype(np.float32)
    analysis = analyse_speech(faulty)
    findings = check_audio(analysis)
    assert faults_of(findings) == {check: "warning"}
    found = next(finding for finding in findings if finding.check == check)
    assert message in found.what and found.fix
    if fault == "mostly pause":
        assert found.at and found.at[-1] == pytest.approx((15, 45), abs=1.2)
    if fault.startswith("cut off"):
        assert found.at and all(0 <= a < b <= analysis.seconds for a, b in found.at)


@pytest.mark.parametrize(
    "name, message",
    [
        ("silence", "silent"),
        ("hardly anything", "silent"),
        ("NaN", "not numbers"),
        ("melody", "music"),
        ("tone", "tone"),
        ("pink noise", "noise"),
        ("half a second", "no speech"),
        ("nothing", "silent"),
    ],
)
def test_audio_without_speech_is_rejected(audio: np.ndarray, name: str, message: str) -> None:
    faulty = {
        **other_sounds(),
        "hardly anything": 5e-4 * audio / np.abs(audio).max(),
        "nothing": audio[:0],
        "NaN": np.where(np.arange(len(audio)) == 70_000, np.nan, audio),
        "half a second": audio[SAMPLE_RATE : SAMPLE_RATE * 3 // 2],
    }[name].astype(np.float32)
    findings = check_audio(analyse_speech(faulty))
    assert sum(finding.level == "rejection" for finding in findings) == 1
    rejection = next(finding for finding in findings if finding.level == "rejection")
    assert message in rejection.what and rejection.fix


def test_repair_subtracts_the_mean_and_amplifies_quiet_speech(audio: np.ndarray) -> None:
    assert np.array_equal(repaired_audio(analyse_speech(audio)), audio)
    shifted = repaired_audio(analyse_speech(audio + np.float32(0.05)))
    assert abs(shifted.mean()) < DC_MAX / 5 and np.corrcoef(shifted, audio)[0, 1] > 0.9999
    louder = analyse_speech(repaired_audio(analyse_speech(0.004 * audio)))
    assert -30 < louder.speech_level < -20 and np.abs(louder.samples).max() <= 0.99
    assert not faults_of(check_audio(louder))


@pytest.mark.shared
@pytest.mark.parametrize(
    "name, faults",
    [
        ("clips/address_fr_50s.mp4", {}),
        ("clips/newsdesk_en_21s.mp4", {}),
        ("clips/newsdesk_en_71s_cuts.mp4", {}),
        ("clips/raw/address_fr_30fps_dup.mp4", {}),
        ("audio/speech_en_60s.wav", {}),
        ("audio/speech_de.wav", {}),
        ("audio/speech_en_11s.flac", {}),
        ("audio/speech_fr_12s_same_speaker.wav", {}),
        ("audio/speech_ja.wav", {"clipping": "warning"}),
    ],
)
def test_real_recordings(
    name: str, faults: dict[str, str], audio: np.ndarray, shared_dir: Path
) -> None:
    assert faults_of(check_audio(analyse_speech(media.read_audio(shared_dir / name)))) == faults

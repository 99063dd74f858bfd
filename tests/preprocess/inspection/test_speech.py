"""A fault of the sound is found, named and no other is; good sound has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER, melody, other_sounds
from needs import had

from being import media
from being.audio import encoders
from being.audio.phonemes import listen
from being.conventions import SAMPLE_RATE
from being.media.resampling import to_rate
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.speech import DC_MOST, check_sound, mended

CHECKS = ["sound", "sound level", "clipping", "noise", "bandwidth", "voice"]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    had(lambda: encoders.encoder("hama"))
    return media.read_audio(SPEAKER)[: 15 * SAMPLE_RATE]


def noise(sound: np.ndarray, decibels: float) -> np.ndarray:
    """White noise that many dB under the sound's loudest parts (its 95th percentile of level)."""
    level = np.percentile(np.square(sound[: len(sound) // 160 * 160].reshape(-1, 160)).mean(1), 95)
    white = np.random.default_rng(0).normal(size=len(sound))
    return (white * np.sqrt(level / 10 ** (decibels / 10))).astype(np.float32)


def worst(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings if finding.level != "ok"}


def telephone(sound: np.ndarray) -> np.ndarray:
    return to_rate(to_rate(sound, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)


def cut_off(sound: np.ndarray, times: float) -> np.ndarray:
    """The sound amplified over full scale at 44.1 kHz, cut, brought back to 16 kHz and made
    quieter.
    """
    high = to_rate(sound, SAMPLE_RATE, 44_100) * np.float32(times / np.abs(sound).max())
    return 0.5 * to_rate(np.clip(high, -1, 1), 44_100, SAMPLE_RATE)


def test_good_sound_has_no_fault(sound: np.ndarray) -> None:
    findings = check_sound(listen(sound))
    assert [finding.check for finding in findings] == CHECKS and not worst(findings)
    for still_good in (sound + noise(sound, 25), 0.1 * sound, 0.99 / np.abs(sound).max() * sound):
        assert not worst(check_sound(listen(still_good)))
    late = check_sound(listen(np.pad(sound, (5 * SAMPLE_RATE, 0))))
    assert not worst(late) and late[-1].at[0] == pytest.approx((0, 5.6), abs=0.3)


@pytest.mark.parametrize(
    "fault, check, said",
    [
        ("cut off 2", "clipping", "cut off"),
        ("cut off 6", "clipping", "cut off"),
        ("mean", "sound level", "mean"),
        ("almost silent", "sound level", "nearly silent"),
        ("telephone", "bandwidth", "telephone"),
        ("noise", "noise", "noise"),
        ("music", "noise", "music"),
        ("mostly pause", "voice", "the rest"),
    ],
)
def test_a_fault_is_named_and_no_other(
    sound: np.ndarray, fault: str, check: str, said: str
) -> None:
    bad = {
        "cut off 2": lambda: cut_off(sound, 3),
        "cut off 6": lambda: cut_off(sound, 8),
        "mean": lambda: sound + 0.05,
        "almost silent": lambda: sound * 0.004,
        "telephone": lambda: telephone(sound),
        "noise": lambda: sound + noise(sound, 9),
        "music": lambda: sound + 0.35 * melody(15)[: len(sound)],
        "mostly pause": lambda: np.pad(sound, (0, 30 * SAMPLE_RATE)),
    }[fault]().astype(np.float32)
    heard = listen(bad)
    findings = check_sound(heard)
    assert worst(findings) == {check: "warning"}
    found = next(finding for finding in findings if finding.check == check)
    assert said in found.what and found.fix
    if fault == "mostly pause":
        assert found.at and found.at[-1] == pytest.approx((15, 45), abs=1.2)
    if fault.startswith("cut off"):
        assert found.at and all(0 <= a < b <= heard.seconds for a, b in found.at)


@pytest.mark.parametrize(
    "name, said",
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
def test_sound_without_speech_is_rejected(sound: np.ndarray, name: str, said: str) -> None:
    bad = {
        **other_sounds(),
        "hardly anything": 5e-4 * sound / np.abs(sound).max(),
        "nothing": sound[:0],
        "NaN": np.where(np.arange(len(sound)) == 70_000, np.nan, sound),
        "half a second": sound[SAMPLE_RATE : SAMPLE_RATE * 3 // 2],
    }[name].astype(np.float32)
    findings = check_sound(listen(bad))
    assert sum(finding.level == "rejection" for finding in findings) == 1
    refused = next(finding for finding in findings if finding.level == "rejection")
    assert said in refused.what and refused.fix


def test_mending_takes_the_mean_off_and_lifts_what_is_too_quiet(sound: np.ndarray) -> None:
    assert np.array_equal(mended(listen(sound)), sound)
    shifted = mended(listen(sound + np.float32(0.05)))
    assert abs(shifted.mean()) < DC_MOST / 5 and np.corrcoef(shifted, sound)[0, 1] > 0.9999
    lifted = listen(mended(listen(0.004 * sound)))
    assert -30 < lifted.speech_level < -20 and np.abs(lifted.sound).max() <= 0.99
    assert not worst(check_sound(lifted))


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
    name: str, faults: dict[str, str], sound: np.ndarray, shared_dir: Path
) -> None:
    assert worst(check_sound(listen(media.read_audio(shared_dir / name)))) == faults

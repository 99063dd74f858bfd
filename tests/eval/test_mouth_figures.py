"""The mouth at phonemes: one that follows them, ones that do not, and the events in speech."""

from __future__ import annotations

import numpy as np
import pytest
from needs import load_or_skip

from being.conventions import SAMPLE_RATE
from being.errors import UsageError
from being.eval.cross_driven import expand_sources
from being.eval.held_out_speech import HELD_OUT_SENTENCES, HELD_OUT_VOICES, voice_and_text
from being.eval.mouth_figures import MouthMeasures, mouth_figures, weighted_mean
from being.eval.speech_events import LIP_LEAD, SpeechEvents, recognised_events, synthesised_events
from being.media.resampling import resample

FRAMES = 500
TIMES = np.arange(FRAMES) / 25
CLOSURES = np.arange(1.0, 15, 0.8) + LIP_LEAD
VOWELS = CLOSURES + 0.4
SILENCE = (16.0, 18.0)
EVENTS = SpeechEvents(CLOSURES, VOWELS, (SILENCE,), ((0.5, 15.5),), "made up")
MOUTH = MouthMeasures(0.0, 0.1, 0.04)


def following() -> np.ndarray:
    """Aperture [F]: 0 on p, b, m and in silence, 0.1 on vowels, a wave in between."""
    wave = 0.05 - 0.05 * np.cos(2 * np.pi * (TIMES - 1.0) / 0.8)
    wave[TIMES >= 15.5] = 0
    return wave.astype(np.float32)


def test_a_mouth_that_follows():
    found = mouth_figures(following(), EVENTS, MOUTH)
    assert (found["closures"], found["vowels"], found["silences"]) == (
        len(CLOSURES),
        len(VOWELS),
        1,
    )
    assert found["closed_on_closures"] == found["open_on_vowels"] == found["closed_in_silence"] == 1
    assert found["vowels_over_closures"] > 20 and found["jumps"] == 0 and found["chance"] < 0.6
    assert found["vowel_opening"] > 0.9 and 0.15 < found["closed_in_speech"] < 0.45


def test_a_mouth_in_the_opposite_phase_and_one_that_stands_still():
    wrong = mouth_figures(0.1 - following(), EVENTS, MOUTH)
    assert (
        wrong["closed_on_closures"] == wrong["closed_in_silence"] == 0
        and wrong["vowels_over_closures"] < 0.1
    )
    shut, half = (
        mouth_figures(np.full(FRAMES, value, np.float32), EVENTS, MOUTH) for value in (0.0, 0.05)
    )
    assert (
        shut["closed_on_closures"] == shut["chance"] == 1
        and shut["open_on_vowels"] == 0
        and shut["motion"] == 0
    )
    assert half["closed_on_closures"] == 0 and half["vowels_over_closures"] == pytest.approx(1)
    assert (shut["closed_in_speech"], half["closed_in_speech"]) == (1, 0)
    assert (shut["vowel_opening"], half["vowel_opening"]) == pytest.approx((0, 0.5))


def test_a_mouth_that_comes_late_closes_at_chance_only():
    late = np.roll(following(), 5)  # 0.2 s
    found = mouth_figures(late, EVENTS, MOUTH)
    assert found["closed_on_closures"] < 0.2 < found["chance"]


def test_jumps_are_counted_against_the_real_mouths_and_not_across_breaks_or_misses():
    aperture = np.zeros(FRAMES, np.float32)
    aperture[100:] += 0.05
    assert mouth_figures(aperture, EVENTS, MOUTH)["jumps"] == 1
    assert mouth_figures(aperture, EVENTS, MOUTH)["largest_step"] == pytest.approx(1.25)
    assert (
        mouth_figures(aperture, EVENTS, MOUTH, (np.arange(FRAMES) >= 100).astype(int))["jumps"] == 0
    )
    aperture[99] = np.nan
    assert mouth_figures(aperture, EVENTS, MOUTH)["jumps"] == 0


def test_figures_without_events_are_none():
    nothing = SpeechEvents(np.zeros(0), np.zeros(0), (), (), "silence")
    found = mouth_figures(following(), nothing, MOUTH)
    assert [
        found[key]
        for key in (
            "closed_on_closures",
            "open_on_vowels",
            "closed_in_silence",
            "vowels_over_closures",
            "chance",
        )
    ] == [None] * 5
    assert "no face" in mouth_figures(np.full(FRAMES, np.nan, np.float32), EVENTS, MOUTH)["reason"]
    assert (
        weighted_mean([(1.0, 3), (0.0, 1), (None, 7)]) == pytest.approx(0.75)
        and weighted_mean([(None, 2)]) is None
    )


def test_a_real_mouths_range_and_jump_are_percentiles():
    mouth = MouthMeasures.from_aperture(following())
    assert mouth is not None and mouth.low == 0 and mouth.high == pytest.approx(0.1, abs=0.002)
    assert mouth.closed == pytest.approx(0.02, abs=0.001)
    assert mouth.jump == pytest.approx(np.percentile(np.abs(np.diff(following())), 99.5), abs=1e-5)
    assert MouthMeasures.from_aperture(following()[:20]) is None


def test_the_recogniser_finds_the_phonemes_of_the_built_in_voice():
    from being.tts import speak

    speech = load_or_skip(
        lambda: speak("Papa may buy a map, but mama has a big box of maps. My father far away.")
    )
    audio = resample(speech.samples, speech.rate, SAMPLE_RATE)
    synthesised = synthesised_events(speech, audio)
    recognised = load_or_skip(lambda: recognised_events(audio))
    assert "own phoneme times" in synthesised.source
    assert len(synthesised.closures) >= 12 and len(synthesised.vowels) >= 5

    distance = np.abs(recognised.closures[:, None] - synthesised.closures[None])
    assert (distance.min(0) < 0.06).mean() > 0.8, "most closures are found at their time"
    errors = recognised.closures[distance.argmin(0)] - synthesised.closures
    assert abs(np.median(errors)) < 0.025

    pause = np.concatenate([audio, np.zeros(SAMPLE_RATE, np.float32), audio])
    length = len(audio) / SAMPLE_RATE
    assert any(
        start < length + 0.1 and end > length + 0.9
        for start, end in recognised_events(pause).silences
    )


def test_the_sources_that_cross_names(tmp_path):
    for name in ("b.wav", "a.flac", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = expand_sources([f"{tmp_path},hibari", "espeak:fr", str(tmp_path / "b.wav")])
    assert found == [
        str(tmp_path / "a.flac"),
        str(tmp_path / "b.wav"),
        "hibari",
        "espeak:fr",
        str(tmp_path / "b.wav"),
    ]
    spoken = [voice_and_text(name) for name in expand_sources(["held-out"])]
    assert [voice for voice, _ in spoken] == [f"kokoro:{name}" for name in HELD_OUT_VOICES]
    assert {text for _, text in spoken} == {" ".join(HELD_OUT_SENTENCES)}
    assert voice_and_text("held-out:nobody") is None and voice_and_text("hibari") is None
    for name in ("hibary", "held-out:nobody"):
        with pytest.raises(UsageError, match="neither an audio file nor a voice"):
            expand_sources([name])

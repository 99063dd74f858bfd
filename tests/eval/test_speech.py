"""What a mouth does at what is said: a mouth that obeys, one that does not, and one whose range is
another's.
"""

from __future__ import annotations

import numpy as np
import pytest
from needs import had

from being.conventions import SAMPLE_RATE
from being.errors import UsageError
from being.eval.cross_driven import sources
from being.eval.speech import LEAD, Mouth, Said, heard, mouth_figures, pooled, spoken
from being.media.resampling import to_rate

FRAMES = 500
TIMES = np.arange(FRAMES) / 25
CLOSURES = np.arange(1.0, 15, 0.8) + LEAD
VOWELS = CLOSURES + 0.4
SILENCE = (16.0, 18.0)
SAID = Said(CLOSURES, VOWELS, (SILENCE,), ((0.5, 15.5),), "made up")
MOUTH = Mouth(0.0, 0.1, 0.04)


def obedient() -> np.ndarray:
    """Aperture [F] that is 0 where p, b, m ask for it and in silence, 0.1 on vowels, a wave in
    between.
    """
    wave = 0.05 - 0.05 * np.cos(2 * np.pi * (TIMES - 1.0) / 0.8)
    wave[TIMES >= 15.5] = 0
    return wave.astype(np.float32)


def test_a_mouth_that_obeys():
    found = mouth_figures(obedient(), SAID, MOUTH)
    assert (found["closures"], found["vowels"], found["silences"]) == (
        len(CLOSURES),
        len(VOWELS),
        1,
    )
    assert found["closed_on_closures"] == found["open_on_vowels"] == found["closed_in_silence"] == 1
    assert found["vowels_over_closures"] > 20 and found["jumps"] == 0 and found["chance"] < 0.6


def test_a_mouth_in_the_opposite_phase_and_one_that_stands_still():
    wrong = mouth_figures(0.1 - obedient(), SAID, MOUTH)
    assert (
        wrong["closed_on_closures"] == wrong["closed_in_silence"] == 0
        and wrong["vowels_over_closures"] < 0.1
    )
    shut, half = (
        mouth_figures(np.full(FRAMES, value, np.float32), SAID, MOUTH) for value in (0.0, 0.05)
    )
    assert (
        shut["closed_on_closures"] == shut["chance"] == 1
        and shut["open_on_vowels"] == 0
        and shut["motion"] == 0
    )
    assert half["closed_on_closures"] == 0 and half["vowels_over_closures"] == pytest.approx(1)


def test_a_mouth_that_comes_late_closes_at_chance_only():
    late = np.roll(obedient(), 5)  # 0.2 s
    found = mouth_figures(late, SAID, MOUTH)
    assert found["closed_on_closures"] < 0.2 < found["chance"]


def test_jumps_are_counted_against_the_real_mouths_and_not_across_breaks_or_misses():
    aperture = np.zeros(FRAMES, np.float32)
    aperture[100:] += 0.05
    assert mouth_figures(aperture, SAID, MOUTH)["jumps"] == 1
    assert mouth_figures(aperture, SAID, MOUTH)["largest_step"] == pytest.approx(1.25)
    assert (
        mouth_figures(aperture, SAID, MOUTH, (np.arange(FRAMES) >= 100).astype(int))["jumps"] == 0
    )
    aperture[99] = np.nan
    assert mouth_figures(aperture, SAID, MOUTH)["jumps"] == 0


def test_what_is_not_there_is_none():
    nothing = Said(np.zeros(0), np.zeros(0), (), (), "silence")
    found = mouth_figures(obedient(), nothing, MOUTH)
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
    assert "no face" in mouth_figures(np.full(FRAMES, np.nan, np.float32), SAID, MOUTH)["reason"]
    assert (
        pooled([(1.0, 3), (0.0, 1), (None, 7)]) == pytest.approx(0.75)
        and pooled([(None, 2)]) is None
    )


def test_a_real_mouths_range_and_jump_are_percentiles():
    mouth = Mouth.of(obedient())
    assert mouth is not None and mouth.low == 0 and mouth.high == pytest.approx(0.1, abs=0.002)
    assert mouth.closed == pytest.approx(0.02, abs=0.001)
    assert mouth.jump == pytest.approx(np.percentile(np.abs(np.diff(obedient())), 99.5), abs=1e-5)
    assert Mouth.of(obedient()[:20]) is None


def test_what_is_heard_of_the_built_in_voice_is_what_it_says():
    from being.tts import speak

    speech = had(
        lambda: speak("Papa may buy a map, but mama has a big box of maps. My father far away.")
    )
    sound = to_rate(speech.samples, speech.rate, SAMPLE_RATE)
    told = spoken(speech, sound)
    ear = had(lambda: heard(sound))
    assert "own phoneme times" in told.source and len(told.closures) >= 12 and len(told.vowels) >= 5
    near = np.abs(ear.closures[:, None] - told.closures[None])
    assert (near.min(0) < 0.06).mean() > 0.8, (
        "most closures that are spoken are heard, at their time"
    )
    assert (
        abs(
            np.median(
                [ear.closures[k] - c for k, c in zip(near.argmin(0), told.closures, strict=True)]
            )
        )
        < 0.025
    )
    pause = np.concatenate([sound, np.zeros(SAMPLE_RATE, np.float32), sound])
    length = len(sound) / SAMPLE_RATE
    assert any(a < length + 0.1 and b > length + 0.9 for a, b in heard(pause).silences)


def test_what_cross_names(tmp_path):
    for name in ("b.wav", "a.flac", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = sources([f"{tmp_path},hibari", "espeak:fr", str(tmp_path / "b.wav")])
    assert found == [
        str(tmp_path / "a.flac"),
        str(tmp_path / "b.wav"),
        "hibari",
        "espeak:fr",
        str(tmp_path / "b.wav"),
    ]
    with pytest.raises(UsageError, match="neither a sound nor a voice"):
        sources(["hibary"])

"""Offset and drift of a separate recording: accuracy, and how two takes are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import other_sounds
from recorded_takes import RATE, speech, through_camera, through_microphone

from being.preprocess.inspection.recording_clock import fit_clock, on_camera_clock


@pytest.mark.parametrize(
    "offset, ppm, snr, wet, polarity",
    [
        (0.0, 0, 20, 0.5, 1),
        (2.34567, 200, 12, 0.8, 1),
        (-1.20003, -200, 6, 1.0, 1),
        (7.77123, 1000, 12, 0.8, -1),
        (0.43218, 50, 0, 1.2, 1),
    ],
)
def test_the_line_is_found_to_a_fraction_of_a_millisecond(
    offset: float, ppm: float, snr: float, wet: float, polarity: int
) -> None:
    voice, drift = speech(), 1e-6 * ppm
    camera = through_camera(voice, 1, snr, wet)
    recording = polarity * through_microphone(voice, offset, drift, 2)
    fit = fit_clock(camera, recording)
    time = np.linspace(0, 29, 30)
    wrong = offset + (1 + drift) * time - (fit.offset + (1 + fit.drift) * time)
    assert np.abs(wrong).max() < 2e-4, f"{1e3 * np.abs(wrong).max():.3f} ms"
    assert fit.one_take and not fit.foreign and fit.agreeing > 0.6 * fit.windows


@pytest.mark.parametrize("seconds", [4.0, 8.0])
def test_a_short_clip_is_found_in_a_longer_recording(seconds: float) -> None:
    camera = through_camera(speech(seconds, 12.0), 3)
    fit = fit_clock(camera, through_microphone(speech(), 1.5, 0, 4))
    assert fit.one_take and abs(fit.offset - 13.5) < 2e-4


def test_other_takes_agree_by_chance_only() -> None:
    """Other speech of one voice in one room with the same hum, and other sounds."""
    hum = 0.02 * np.sin(2 * np.pi * 50 * np.arange(15 * RATE) / RATE).astype(np.float32)
    first, second = speech(14.0), speech(14.0, 14.5)
    pairs = [
        (through_camera(a, seed) + hum[: len(a)], through_microphone(b, 0.5, 0, seed))
        for seed, (a, b) in enumerate([(first, second), (first[::-1], second)])
    ]
    pairs += [(first, sound) for sound in other_sounds().values() if sound.any()]
    for camera, recording in pairs:
        fit = fit_clock(np.ascontiguousarray(camera), recording)
        assert not fit.one_take, fit


def test_a_recording_that_was_cut_fits_in_part() -> None:
    voice = speech()
    recording = through_microphone(voice, 1.0, 0, 5)
    cut = np.delete(recording, slice(9 * RATE, round(9.4 * RATE)))
    fit = fit_clock(through_camera(voice, 6), cut)
    assert fit.one_take and fit.foreign
    assert fit.foreign[0][0] == 0, "the first quarter is the one before the cut"


def test_samples_between_samples_are_those_of_the_signal() -> None:
    """A tone at 5 kHz keeps its level and has the phase of the places asked for."""
    tone = np.sin(2 * np.pi * 5000 * np.arange(20_000) / RATE).astype(np.float32)
    offset, drift = 0.01003, 2e-4
    found = on_camera_clock(tone, offset, drift, 0, 16_000)
    time = offset + (1 + drift) * np.arange(16_000) / RATE
    assert np.abs(found - np.sin(2 * np.pi * 5000 * time))[50:].max() < 3e-3
    assert not on_camera_clock(tone, -2.0, 0, 0, RATE).any(), "zero before the recording"

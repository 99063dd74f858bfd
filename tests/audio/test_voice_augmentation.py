"""Variants of a sound: the same for the same seed, of the same length, every event where it was."""

from __future__ import annotations

import numpy as np
import pytest

from being.audio import encoders, feature_windows, voice_augmentation
from being.conventions import SAMPLE_RATE

RATE = SAMPLE_RATE


def bursts(pitch: float = 200.0) -> np.ndarray:
    """A buzz that swells every 0.4 s for 60 ms, quiet hiss between."""
    time = np.arange(2 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 15))
    swell = np.exp(-((((time % 0.4) - 0.2) / 0.03) ** 2))
    return (0.2 * swell * buzz + 2e-4 * np.random.default_rng(0).normal(size=len(time))).astype(
        np.float32
    )


def envelope(sound: np.ndarray) -> np.ndarray:
    """Level in every 5 ms."""
    return np.sqrt(np.square(sound).reshape(-1, 80).mean(1))


def pitch_of(sound: np.ndarray) -> float:
    """Strongest lag of the autocorrelation between 60 and 500 Hz, as a frequency."""
    spectrum = np.fft.rfft(sound, 2 * len(sound))
    lags = np.fft.irfft(spectrum * spectrum.conj())[RATE // 500 : RATE // 60]
    return RATE / (RATE // 500 + int(lags.argmax()))


RNG = np.random.default_rng
EFFECTS = {
    "pitch up": lambda x: voice_augmentation.other_pitch(x, 1.3),
    "pitch down": lambda x: voice_augmentation.other_pitch(x, 0.75),
    "formants": lambda x: voice_augmentation.other_formants(x, 1.2),
    "gate": voice_augmentation.gated,
    "room": lambda x: voice_augmentation.in_a_room(x, 0.3, 0.3, RNG(1)),
    "tilt": lambda x: voice_augmentation.tilted(x, RNG(1)),
    "telephone": voice_augmentation.telephoned,
    "overdrive": lambda x: voice_augmentation.overdriven(x, 4.0),
    "noise": lambda x: voice_augmentation.noisy(x, 20.0, RNG(1)),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_keeps_length_and_the_time_of_every_event(name):
    sound = bursts()
    made = EFFECTS[name](sound)
    assert made.shape == sound.shape and made.dtype == np.float32 and np.isfinite(made).all()
    before, after = envelope(sound), envelope(made)
    lags = range(-6, 7)
    scores = [np.corrcoef(before[10:-10], np.roll(after, -lag)[10:-10])[0, 1] for lag in lags]
    limit = 2 if name == "room" else 1
    assert abs(lags[int(np.argmax(scores))]) <= limit and max(scores) > 0.9, scores  # 5 ms each


def test_pitch_is_moved_by_its_factor_and_formants_leave_it():
    sound = bursts()
    assert pitch_of(voice_augmentation.other_pitch(sound, 1.3)) == pytest.approx(260, rel=0.03)
    assert pitch_of(voice_augmentation.other_formants(sound, 1.2)) == pytest.approx(200, rel=0.02)
    middle = [
        float((np.abs(np.fft.rfft(x)) * np.arange(RATE + 1)).sum() / np.abs(np.fft.rfft(x)).sum())
        for x in (sound, voice_augmentation.other_formants(sound, 1.25))
    ]
    assert middle[1] > 1.05 * middle[0]


def test_the_gate_leaves_pauses_digitally_silent_and_speech_untouched():
    sound = bursts()
    made = voice_augmentation.gated(sound)
    assert (made == 0).mean() > 0.2 and np.array_equal(made[made != 0], sound[made != 0])
    assert np.square(made).sum() > 0.999 * np.square(sound).sum()


def test_a_variant_is_a_function_of_sound_and_seed():
    sound = bursts()
    a, b, c = (
        voice_augmentation.variant(sound, seed, number) for seed, number in ((0, 1), (0, 1), (0, 2))
    )
    assert np.array_equal(a, b) and not np.array_equal(a, c) and np.abs(a).max() <= 1
    for odd in (np.zeros(5000, np.float32), np.zeros(0, np.float32), np.ones(3, np.float32)):
        for number in range(6):
            made = voice_augmentation.variant(odd, 0, number)
            assert made.shape == odd.shape and np.isfinite(made).all()


def test_voices_are_kept_and_damage_is_made_again(tmp_path, monkeypatch):
    calls = []

    class Level:
        name, width, rate = "level", 1, 50

        def encode_clip(self, samples):
            calls.append(1)
            return (
                np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(1, keepdims=True)
            )

    monkeypatch.setitem(encoders.ENCODERS, "level", Level)
    encoders.encoder.cache_clear()
    sound = bursts()[: 40 * feature_windows.SAMPLES_PER_FRAME]
    folder = tmp_path / "kept"
    made = voice_augmentation.voices(sound, [(0, 25), (25, 40)], "level", 3, 0, folder)
    assert made.shape == (3, 40, 16, 1) and len(calls) == 6
    assert (
        np.array_equal(
            voice_augmentation.voices(sound, [(0, 25), (25, 40)], "level", 3, 0, folder), made
        )
        and len(calls) == 6
    )
    next(folder.glob("voices_*.npy")).write_bytes(b"no array")
    assert (
        np.array_equal(
            voice_augmentation.voices(sound, [(0, 25), (25, 40)], "level", 3, 0, folder), made
        )
        and len(calls) == 12
    )
    voice_augmentation.voices(sound, [(0, 25), (25, 40)], "level", 3, 1, folder)
    assert (
        len(calls) == 18 and not made[:, 24, 12:].any()
    )  # another seed; nothing is heard across a break
    encoders.encoder.cache_clear()


def test_training_picks_a_voice_for_each_frame_and_measuring_hears_the_own_one(scene):
    import torch

    from being.data.clip import load_clip
    from being.data.dataset import Dataset

    dataset = Dataset.open(scene)
    encoder = next(iter(dataset.manifest["features"]))
    clip = load_clip(dataset, 32, encoder)
    index = torch.arange(len(clip.frames)).repeat(8)
    assert clip.pick(index) is index
    own = clip.sound(index)
    clip.voices = torch.stack([clip.features + k for k in (100, 200)])
    torch.manual_seed(0)
    rows = clip.pick(index)
    assert torch.equal(rows % len(clip.frames), index) and set(
        (rows // len(clip.frames)).tolist()
    ) == {0, 1, 2}
    heard, voice = clip.sound(rows), rows // len(clip.frames)
    inside = (
        own.abs().sum((2, 3), keepdim=True) > 0
    )  # windows of frames outside the clip are zero in every voice
    assert torch.allclose(
        heard, torch.where(inside, own + 100.0 * voice[:, None, None, None], own), atol=1e-3
    )
    driven, plain = clip.conditions(rows), clip.conditions(index)
    assert torch.equal(driven.camera, plain.camera) and torch.equal(
        driven.expression, plain.expression
    )
    assert torch.equal(plain.audio, own)


def test_silence_is_heard_by_frames_with_a_closed_mouth_alone(scene):
    import torch

    from being.data.clip import load_clip
    from being.data.dataset import Dataset

    dataset = Dataset.open(scene)
    clip = load_clip(dataset, 32, next(iter(dataset.manifest["features"])))
    count = len(clip.frames)
    clip.silence = torch.full(clip.features.shape[1:], 7.0)
    clip.silent = torch.zeros(count)
    clip.silent[5:10] = 0.5
    index = torch.arange(count).repeat(200)
    torch.manual_seed(0)
    rows = clip.pick(index)
    silent = rows >= count
    assert torch.equal(rows % count, index) and set(index[silent].tolist()) == {5, 6, 7, 8, 9}
    assert 0.4 < float(silent.float().sum()) / 1000 < 0.6
    heard = clip.sound(rows[silent])
    assert set(heard.unique().tolist()) <= {
        0.0,
        7.0,
    }  # nothing of the words; zeros where the clip ends
    assert torch.equal(clip.sound(rows[~silent]), clip.sound(index[~silent]))

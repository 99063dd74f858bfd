"""Voice augmentation: repeatable by seed, with the length and the timing of the audio."""

from __future__ import annotations

import numpy as np
import pytest
from code_hash import code_hash

from being.audio import encoder_interface, encoders, voice_augmentation
from being.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME

RATE = SAMPLE_RATE
# Of the code of audio/voice_augmentation.py at its VERSION.
CODE = (1, "7c8bb00c7542b770")


def bursts(pitch: float = 200.0) -> np.ndarray:
    """A buzz that swells every 0.4 s for 60 ms, quiet hiss between."""
    time = np.arange(2 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 15))
    swell = np.exp(-((((time % 0.4) - 0.2) / 0.03) ** 2))
    return (0.2 * swell * buzz + 2e-4 * np.random.default_rng(0).normal(size=len(time))).astype(
        np.float32
    )


def envelope(audio: np.ndarray) -> np.ndarray:
    """Level in every 5 ms."""
    return np.sqrt(np.square(audio).reshape(-1, 80).mean(1))


def pitch_of(audio: np.ndarray) -> float:
    """Strongest lag of the autocorrelation between 60 and 500 Hz, as a frequency."""
    spectrum = np.fft.rfft(audio, 2 * len(audio))
    lags = np.fft.irfft(spectrum * spectrum.conj())[RATE // 500 : RATE // 60]
    return RATE / (RATE // 500 + int(lags.argmax()))


RNG = np.random.default_rng
EFFECTS = {
    "pitch up": lambda x: voice_augmentation.shift_pitch(x, 1.3),
    "pitch down": lambda x: voice_augmentation.shift_pitch(x, 0.75),
    "formants": lambda x: voice_augmentation.shift_formants(x, 1.2),
    "gate": voice_augmentation.gate_pauses,
    "reverberation": lambda x: voice_augmentation.add_reverberation(x, 0.3, 0.3, RNG(1)),
    "tilt": lambda x: voice_augmentation.tilt_spectrum(x, RNG(1)),
    "telephone": voice_augmentation.limit_to_telephone,
    "overdrive": lambda x: voice_augmentation.overdrive(x, 4.0),
    "noise": lambda x: voice_augmentation.add_noise(x, 20.0, RNG(1)),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_each_effect_keeps_the_length_and_the_time_of_each_event(name):
    audio = bursts()
    changed = EFFECTS[name](audio)
    assert (
        changed.shape == audio.shape and changed.dtype == np.float32 and np.isfinite(changed).all()
    )
    before, after = envelope(audio), envelope(changed)
    lags = range(-6, 7)
    scores = [np.corrcoef(before[10:-10], np.roll(after, -lag)[10:-10])[0, 1] for lag in lags]
    limit = 2 if name == "reverberation" else 1
    assert abs(lags[int(np.argmax(scores))]) <= limit and max(scores) > 0.9, scores  # 5 ms each


def test_pitch_is_moved_by_its_factor_and_formants_leave_it():
    audio = bursts()
    assert pitch_of(voice_augmentation.shift_pitch(audio, 1.3)) == pytest.approx(260, rel=0.03)
    assert pitch_of(voice_augmentation.shift_formants(audio, 1.2)) == pytest.approx(200, rel=0.02)
    middle = [
        float((np.abs(np.fft.rfft(x)) * np.arange(RATE + 1)).sum() / np.abs(np.fft.rfft(x)).sum())
        for x in (audio, voice_augmentation.shift_formants(audio, 1.25))
    ]
    assert middle[1] > 1.05 * middle[0]


def test_the_gate_leaves_pauses_silent_and_speech_unchanged():
    audio = bursts()
    changed = voice_augmentation.gate_pauses(audio)
    assert (changed == 0).mean() > 0.2 and np.array_equal(
        changed[changed != 0], audio[changed != 0]
    )
    assert np.square(changed).sum() > 0.999 * np.square(audio).sum()


def test_a_variant_is_a_function_of_audio_and_seed():
    audio = bursts()
    a, b, c = (
        voice_augmentation.augmented_voice(audio, seed, number)
        for seed, number in ((0, 1), (0, 1), (0, 2))
    )
    assert np.array_equal(a, b) and not np.array_equal(a, c) and np.abs(a).max() <= 1
    for odd in (np.zeros(5000, np.float32), np.zeros(0, np.float32), np.ones(3, np.float32)):
        for number in range(6):
            changed = voice_augmentation.augmented_voice(odd, 0, number)
            assert changed.shape == odd.shape and np.isfinite(changed).all()


def test_a_change_of_the_code_raises_the_version():
    assert (voice_augmentation.VERSION, code_hash(voice_augmentation)) == CODE, (
        "the code of audio/voice_augmentation.py changed: raise its VERSION, or, if the output is "
        "the same, update the hash in this test"
    )


def test_features_are_cached_by_what_they_depend_on(tmp_path, monkeypatch):
    calls = []

    class Level(encoder_interface.PieceEncoder):
        """A stand-in: the mean level of each step."""

        name, width = "level", 1

        def encode_clip(self, samples):
            calls.append(1)
            steps = samples[: len(samples) // 320 * 320].reshape(-1, 320)
            return np.abs(steps).mean(1, keepdims=True)

    monkeypatch.setitem(encoders.ENCODERS, "level", Level)
    encoders.load_encoder.cache_clear()
    audio, segments = bursts()[: 40 * SAMPLES_PER_FRAME], [(0, 25), (25, 40)]
    folder = tmp_path / "cache"

    def features(seed: int = 0) -> np.ndarray:
        return voice_augmentation.augmented_features(audio, segments, "level", 3, seed, folder)

    first = features()
    assert first.shape == (3, 40, 16, 1) and len(calls) == 6
    assert np.array_equal(features(), first) and len(calls) == 6

    # A damaged file is computed again.
    next(folder.glob("voices_*.npy")).write_bytes(b"no array")
    assert np.array_equal(features(), first) and len(calls) == 12

    # Another seed and another version are other files. No window crosses the break.
    features(seed=1)
    assert len(calls) == 18 and not first[:, 24, 12:].any()
    monkeypatch.setattr(voice_augmentation, "VERSION", voice_augmentation.VERSION + 1)
    features()
    assert len(calls) == 24
    encoders.load_encoder.cache_clear()


def test_training_draws_a_voice_for_each_frame_and_evaluation_uses_the_own_one(scene):
    import torch

    from being.data.clip import load_clip
    from being.data.dataset import Dataset

    dataset = Dataset.open(scene)
    encoder = next(iter(dataset.manifest["features"]))
    clip = load_clip(dataset, 32, encoder)
    index = torch.arange(len(clip.frames)).repeat(8)
    assert clip.draw_audio_rows(index) is index
    own = clip.audio_windows(index)
    clip.voices = torch.stack([clip.features + k for k in (100, 200)])
    torch.manual_seed(0)
    rows = clip.draw_audio_rows(index)
    assert torch.equal(rows % len(clip.frames), index) and set(
        (rows // len(clip.frames)).tolist()
    ) == {0, 1, 2}
    windows, voice = clip.audio_windows(rows), rows // len(clip.frames)
    # Windows of frames outside the clip are zero in every voice.
    inside = own.abs().sum((2, 3), keepdim=True) > 0
    assert torch.allclose(
        windows, torch.where(inside, own + 100.0 * voice[:, None, None, None], own), atol=1e-3
    )
    driven, plain = clip.conditions(rows), clip.conditions(index)
    assert torch.equal(driven.camera, plain.camera) and torch.equal(
        driven.expression, plain.expression
    )
    assert torch.equal(plain.audio, own)


def test_only_frames_with_a_closed_mouth_get_silence(scene):
    import torch

    from being.data.clip import load_clip
    from being.data.dataset import Dataset

    dataset = Dataset.open(scene)
    clip = load_clip(dataset, 32, next(iter(dataset.manifest["features"])))
    count = len(clip.frames)
    clip.silence_features = torch.full(clip.features.shape[1:], 7.0)
    clip.silence_chance = torch.zeros(count)
    clip.silence_chance[5:10] = 0.5
    index = torch.arange(count).repeat(200)
    torch.manual_seed(0)
    rows = clip.draw_audio_rows(index)
    silent = rows >= count
    assert torch.equal(rows % count, index) and set(index[silent].tolist()) == {5, 6, 7, 8, 9}
    assert 0.4 < float(silent.float().sum()) / 1000 < 0.6
    windows = clip.audio_windows(rows[silent])
    # Nothing of the speech; zeros where the clip ends.
    assert set(windows.unique().tolist()) <= {0.0, 7.0}
    assert torch.equal(clip.audio_windows(rows[~silent]), clip.audio_windows(index[~silent]))

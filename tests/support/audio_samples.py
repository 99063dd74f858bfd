"""Audio for the tests: the speaker of the built-in clip, music, other audio without speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being import sample

RATE = 16_000


SECONDS = 6


SPEAKER = Path(sample.__file__).parent / "speaker.mp4"


def melody(seconds: float, seed: int = 0) -> np.ndarray:
    """Plucked notes of six partials over a chord, four a second."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    music = sum(0.07 * np.sin(2 * np.pi * pitch * t) for pitch in (220, 277, 330, 440))
    for begin in np.arange(0, seconds - 0.5, 0.25):
        pitch = 220 * 2 ** (rng.integers(0, 24) / 12)
        swell = (
            np.clip((t - begin) / 0.02, 0, 1)
            * np.exp(-2 * np.clip(t - begin, 0, None))
            * (t < begin + 1.2)
        )
        music = music + 0.1 * swell * sum(
            np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 7)
        )
    return music.astype(np.float32)


def other_sounds() -> dict[str, np.ndarray]:
    rng, t = np.random.default_rng(0), np.arange(SECONDS * RATE) / RATE
    white = rng.normal(size=len(t))
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(1, len(t) // 2 + 2)), len(t))
    drums = (
        sum(
            np.where((t > x) & (t < x + 0.15), np.exp(-(t - x) * 40), 0)
            for x in np.arange(0, 5.8, 0.3)
        )
        * white
    )
    sounds = {
        "silence": 0 * t,
        "tone": 0.2 * np.sin(4800 * t),
        "hum": 0.1 * np.sign(np.sin(314 * t)),
        "white noise": 0.05 * white,
        "pink noise": 0.1 * pink / pink.std(),
        "drums": 0.3 * drums,
        "noise at the pace of syllables": 0.05 * white * (1 + np.sin(25 * t)),
        "melody": melody(SECONDS),
        "clicks": 0.5 * (np.arange(len(t)) % 4000 < 3),
    }
    return {name: samples.astype(np.float32) for name, samples in sounds.items()}

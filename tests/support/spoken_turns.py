"""A recording for a fake microphone: turns of a user in noise, with their first sounds."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from being.media.resampling import resample

RATE = 48_000
SIGNAL_TO_NOISE_DB = 15
SENTENCES = (
    "Excuse me, I have another question.",
    "Wait, that is not what I meant.",
    "Stop, please, and tell me about something else.",
    "And what about the trains on Sunday?",
    "No, thank you. Where can I buy a ticket?",
)
AUDIBLE_FRAME = RATE // 200  # 5 ms


def turns_in_noise(
    turns: int, first_s: float, every_s: float, seed: int = 0
) -> tuple[np.ndarray, list[float], list[float]]:
    """(sound float32 at RATE, first sounds s, ends s) of spoken sentences in white noise.

    A sentence's first sound is its first 5 ms that are louder than the noise.
    """
    from being.tts import speak

    voices = []
    for sentence in SENTENCES:
        speech = speak(sentence)
        voices.append(resample(speech.samples, speech.rate, RATE))
    loud = np.concatenate([voice[np.abs(voice) > 0.02] for voice in voices])
    level = float(np.sqrt(np.mean(loud**2))) * 10 ** (-SIGNAL_TO_NOISE_DB / 20)
    dice = np.random.default_rng(seed)
    total = round((first_s + turns * every_s) * RATE)
    sound = dice.normal(0, level, total).astype(np.float32)
    begins, ends = [], []
    for number in range(turns):
        voice = voices[number % len(voices)]
        at = round((first_s + number * every_s + dice.uniform(0, 0.5)) * RATE)
        sound[at : at + voice.size] += voice
        frames = voice[: voice.size // AUDIBLE_FRAME * AUDIBLE_FRAME].reshape(-1, AUDIBLE_FRAME)
        power = np.sqrt((frames**2).mean(1))
        begins.append((at + int(np.flatnonzero(power > level)[0]) * AUDIBLE_FRAME) / RATE)
        ends.append((at + voice.size) / RATE)
    return sound, begins, ends


def write_wav(path: Path, sound: np.ndarray) -> Path:
    """Write float32 samples at RATE as a WAV file of 16 bits."""
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path

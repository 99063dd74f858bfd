"""The same speech in other voices, rooms and channels, its timing unchanged: what a sound branch
should not care about.

A variant draws each of these with a chance of its own: pitch and formants moved together or
formants alone (another speaker, a child, a synthetic voice), the pauses cut to digital silence (as
a synthesizer leaves them), a room, the tilt of a microphone, the telephone's band with the steps of
its code, overdrive, noise, another level. All of them keep every sound where it was to better than
5 ms, so the clip's lips stay the truth. A variant is a pure function of the sound and two numbers.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from being.audio.feature_windows import encode_segments
from being.conventions import SAMPLE_RATE
from being.media.resampling import to_rate

WINDOW, HOP = 512, 128  # samples of the short-time spectra: 32 and 8 ms
ENVELOPE = 24  # cepstral coefficients that hold the formants and not the pitch
QUIET = 0.03  # level under which a pause is cut, as a share of the sound's own
GATE = 160  # samples over which the level is taken, 10 ms
FLOOR = 1e-7


def variant(sound: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Variant `number` of a sound, float32 [T] in [-1, 1] at 16 kHz, as long as it is.

    sound: float32 [T] in [-1, 1] at 16 kHz.
    """
    assert sound.ndim == 1, sound.shape
    if not sound.any():
        return sound.astype(np.float32)
    rng = np.random.default_rng((seed, number))
    made = sound.astype(np.float32, copy=False)
    if rng.random() < 0.5:
        made = gated(made)
    kind = rng.random()
    if kind < 0.4:
        made = other_pitch(made, float(2 ** rng.uniform(-0.5, 0.5)))
    elif kind < 0.7:
        made = other_formants(made, float(2 ** rng.uniform(-0.25, 0.25)))
    if rng.random() < 0.4:
        made = in_a_room(made, float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.1, 0.5)), rng)
    if rng.random() < 0.5:
        made = tilted(made, rng)
    if rng.random() < 0.25:
        made = telephoned(made)
    if rng.random() < 0.2:
        made = overdriven(made, float(rng.uniform(2, 8)))
    if rng.random() < 0.5:
        made = noisy(made, float(rng.uniform(10, 35)), rng)
    peak = max(float(np.abs(made).max(initial=0.0)), FLOOR)
    return np.clip(made * (10 ** (rng.uniform(-24, 0) / 20) / peak), -1, 1).astype(np.float32)


def voices(
    sound: np.ndarray,
    segments: Sequence[tuple[int, int]],
    encoder: str,
    count: int,
    seed: int,
    folder: Path | None = None,
) -> np.ndarray:
    """Speech features float32 [count, F, 16, C] of variants 0 to count - 1 of a clip's sound.

    sound: float32 [640 F] at 16 kHz; segments and what is raised as in `encode_segments`. folder:
    where they are kept for the next time (nothing is written where it cannot be).
    """
    told = json.dumps([encoder, count, seed, [list(map(int, segment)) for segment in segments]])
    digest = hashlib.sha256(
        told.encode() + inspect.getsource(sys.modules[__name__]).encode() + sound.tobytes()
    )
    file = None if folder is None else folder / f"voices_{digest.hexdigest()[:16]}.npy"
    if file is not None and file.is_file():
        try:
            return np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass  # damaged: made again
    made = np.stack(
        [encode_segments(variant(sound, seed, k), segments, encoder) for k in range(count)]
    )
    if file is not None:
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            file.parent.mkdir(exist_ok=True)
            with open(part, "wb") as opened:
                np.save(opened, made)
            os.replace(part, file)
        except OSError:
            part.unlink(missing_ok=True)
    return made


def spectra(sound: np.ndarray) -> np.ndarray:
    """Short-time spectra complex64 [S, 257] of float32 [T], one every 8 ms, the first centred on
    sample 0.
    """
    padded = np.pad(sound, (WINDOW // 2, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1].astype(np.float32), axis=1).astype(
        np.complex64
    )


def sound_of(values: np.ndarray, count: int) -> np.ndarray:
    """`count` samples float32 whose `spectra` are nearest to `values` [S, 257] (overlap and add)."""
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    frames = np.fft.irfft(values, WINDOW, axis=1).astype(np.float32) * window
    out, weight = (
        np.zeros((len(values) + WINDOW // HOP, HOP), np.float32),
        np.zeros(HOP, np.float32),
    )
    for part in range(WINDOW // HOP):
        out[part : part + len(values)] += frames[:, part * HOP : (part + 1) * HOP]
        weight += window[part * HOP : (part + 1) * HOP] ** 2
    return np.pad((out / weight).reshape(-1)[WINDOW // 2 :], (0, count))[:count]


def other_pitch(sound: np.ndarray, factor: float) -> np.ndarray:
    """The sound with every frequency times `factor`, in the same time: stretched by a phase vocoder
    (Flanagan and Golden 1966, "Phase Vocoder"), then played faster."""
    values = spectra(sound)
    places = np.arange(0, len(values) - 1, 1 / factor)
    whole = places.astype(np.int64)
    share = (places - whole)[:, None].astype(np.float32)
    size = np.abs(values)
    loud = size[whole] * (1 - share) + size[whole + 1] * share
    turn = np.exp(1j * np.angle(values[1:] * values[:-1].conj())).astype(
        np.complex64
    )  # from one spectrum to the next
    phase = (
        np.cumsum(np.angle(turn)[whole], axis=0) - np.angle(turn)[whole[0]] + np.angle(values[0])
    )
    longer = sound_of((loud * np.exp(1j * phase)).astype(np.complex64), round(len(sound) * factor))
    played = to_rate(longer, round(SAMPLE_RATE * factor), SAMPLE_RATE)
    return np.pad(played, (0, max(0, len(sound) - len(played))))[: len(sound)]


def other_formants(sound: np.ndarray, factor: float) -> np.ndarray:
    """The sound as of a mouth whose resonances lie at `factor` times the frequency, its pitch and
    timing kept: each short-time spectrum is divided by its cepstral envelope and multiplied by the
    moved one."""
    values = spectra(sound)
    cepstrum = np.fft.irfft(np.log(np.abs(values) + FLOOR), WINDOW, axis=1)
    cepstrum[:, ENVELOPE + 1 : -ENVELOPE] = 0
    envelope = np.fft.rfft(cepstrum, axis=1).real
    bins = envelope.shape[1]
    from_bin = np.clip(np.arange(bins) / factor, 0, bins - 1)
    low = np.minimum(from_bin.astype(np.int64), bins - 2)
    share = from_bin - low
    moved = envelope[:, low] * (1 - share) + envelope[:, low + 1] * share
    return sound_of(
        (values * np.exp(np.clip(moved - envelope, -4, 4))).astype(np.complex64), len(sound)
    )


def gated(sound: np.ndarray) -> np.ndarray:
    """The sound with its pauses cut to digital silence, as synthesizers and conference systems
    leave them.
    """
    rest = -len(sound) % GATE
    level = np.sqrt(np.square(np.pad(sound, (0, rest)).reshape(-1, GATE)).mean(1))
    own = np.sqrt(np.square(sound).mean()) if len(sound) else 0.0
    heard = (
        np.convolve(level > QUIET * own, np.ones(9), "same") > 0
    )  # 40 ms round whatever is heard stay
    return (sound * np.repeat(heard, GATE)[: len(sound)]).astype(np.float32)


def in_a_room(
    sound: np.ndarray, decay: float, share: float, rng: np.random.Generator
) -> np.ndarray:
    """The sound with its echoes: noise that falls by 60 dB in `decay` s, of `share` the power of
    the direct sound, which stays where it was."""
    count = max(1, int(decay * SAMPLE_RATE))
    echo = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    echo *= np.sqrt(share / np.square(echo).sum())
    echo[0] = 1.0
    return _filtered(sound, echo)


def tilted(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sound through a microphone: up to 9 dB more or less at five frequencies, smoothly
    between, without delay.
    """
    gains = rng.uniform(-9, 9, 5)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    shape = np.interp(np.log2(frequencies + 60), np.log2([60, 300, 1000, 3000, 8000]), gains)
    return sound_of((spectra(sound) * 10 ** (shape / 20)).astype(np.complex64), len(sound))


def telephoned(sound: np.ndarray) -> np.ndarray:
    """The sound through a telephone: 300 to 3,400 Hz, 8,000 samples/s of 8 bits by the mu-law."""
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    passed = np.clip((frequencies - 200) / 100, 0, 1) * np.clip((3600 - frequencies) / 200, 0, 1)
    band = sound_of((spectra(sound) * passed).astype(np.complex64), len(sound))
    narrow = to_rate(band, SAMPLE_RATE, SAMPLE_RATE // 2)
    code = (
        np.round(
            np.sign(narrow) * np.log1p(255 * np.abs(np.clip(narrow, -1, 1))) / np.log(256) * 127
        )
        / 127
    )
    heard = np.sign(code) * (256 ** np.abs(code) - 1) / 255
    return to_rate(heard.astype(np.float32), SAMPLE_RATE // 2, SAMPLE_RATE)[: len(sound)]


def overdriven(sound: np.ndarray, drive: float) -> np.ndarray:
    """The sound clipped softly at 1 / `drive` of its peak."""
    peak = max(float(np.abs(sound).max(initial=0.0)), FLOOR)
    return (np.tanh(drive * sound / peak) * peak / np.tanh(drive)).astype(np.float32)


def noisy(sound: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """The sound with noise `ratio` dB under it, between white and pink."""
    spectrum = np.fft.rfft(rng.standard_normal(len(sound)))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** rng.uniform(0, 0.5)
    noise = np.fft.irfft(spectrum, len(sound)) if len(sound) > 1 else np.zeros(len(sound))
    power = np.square(sound).mean() / max(np.square(noise).mean(), FLOOR**2) if len(sound) else 0.0
    return (sound + noise * np.sqrt(power) * 10 ** (-ratio / 20)).astype(np.float32)


def _filtered(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The sound through a filter that begins at its first sample."""
    size = 1 << (len(sound) + len(response)).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[
        : len(sound)
    ].astype(np.float32)

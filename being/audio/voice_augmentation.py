"""Voice augmentation: speech in other voices and acoustics, with the same timing.

The audio part of a network should not depend on what these change. A variant draws each change with
a probability of its own: pitch and formants moved together or formants alone (another speaker, a
child, a synthetic voice), pauses cut to digital silence (as a synthesizer leaves them),
reverberation, the frequency response of a microphone, the band and the quantization of a telephone,
overdrive, noise, another level. All of them keep the timing to better than 5 ms, so the lips of the
clip stay the truth. A variant is a pure function of the audio and two numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from being.audio.clip_features import encode_segments
from being.conventions import SAMPLE_RATE
from being.errors import InputRejected
from being.files import new_file
from being.media.resampling import resample
from being.reading.arrays import load_array

# Part of the name of cached features. Raise it whenever the code gives other output.
VERSION = 1
# Samples of the short-time spectra: 32 and 8 ms.
WINDOW, HOP = 512, 128
# Cepstral coefficients that hold the formants and not the pitch.
ENVELOPE = 24
# Level of a pause that is cut, as a share of the level of the whole audio.
PAUSE_LEVEL = 0.03
# Samples over which the level is measured, 10 ms.
LEVEL_BLOCK = 160
# Blocks around audible ones that are kept: 40 ms on both sides.
KEPT_BLOCKS = 9
# Corner frequencies of the microphone response, Hz.
TILT_FREQUENCIES = [60, 300, 1000, 3000, 8000]
# Added where a zero must not be divided by, or taken the logarithm of.
FLOOR = 1e-7


def augmented_voice(samples: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Variant `number` of an audio, float32 [T] in [-1, 1] at 16 kHz, of the same length.

    samples: float32 [T] in [-1, 1] at 16 kHz.
    """
    assert samples.ndim == 1, samples.shape
    if not samples.any():
        return samples.astype(np.float32)
    rng = np.random.default_rng((seed, number))
    voice = samples.astype(np.float32, copy=False)

    # The speaker. The order of the draws is part of the output.
    if rng.random() < 0.5:
        voice = gate_pauses(voice)
    speaker = rng.random()
    if speaker < 0.4:
        voice = shift_pitch(voice, float(2 ** rng.uniform(-0.5, 0.5)))
    elif speaker < 0.7:
        voice = shift_formants(voice, float(2 ** rng.uniform(-0.25, 0.25)))

    # The acoustics and the recording.
    if rng.random() < 0.4:
        decay, share = float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.1, 0.5))
        voice = add_reverberation(voice, decay, share, rng)
    if rng.random() < 0.5:
        voice = tilt_spectrum(voice, rng)
    if rng.random() < 0.25:
        voice = limit_to_telephone(voice)
    if rng.random() < 0.2:
        voice = overdrive(voice, float(rng.uniform(2, 8)))
    if rng.random() < 0.5:
        voice = add_noise(voice, float(rng.uniform(10, 35)), rng)

    # The level, 0 to -24 dB of full scale at the peak.
    peak = max(float(np.abs(voice).max(initial=0.0)), FLOOR)
    return np.clip(voice * (10 ** (rng.uniform(-24, 0) / 20) / peak), -1, 1).astype(np.float32)


def augmented_features(
    samples: np.ndarray,
    segments: Sequence[tuple[int, int]],
    encoder: str,
    count: int,
    seed: int,
    folder: Path | None = None,
) -> np.ndarray:
    """Speech features float32 [count, F, 16, C] of the variants 0 to count - 1 of a clip's audio.

    samples: float32 [640 F] at 16 kHz; segments and errors: as for `encode_segments`. folder: where
    the features are cached; nothing is cached where it cannot be written.
    """
    file = None
    if folder is not None:
        file = folder / _cache_name(samples, segments, encoder, count, seed)
        if file.is_file():
            try:
                cached = load_array(file)
            except InputRejected:
                # A damaged file is computed again.
                cached = np.zeros(0)
            if cached.ndim == 4 and len(cached) == count and cached.dtype == np.float32:
                return cached

    variants = (augmented_voice(samples, seed, k) for k in range(count))
    features = np.stack([encode_segments(voice, segments, encoder) for voice in variants])
    if file is not None:
        _write_cache(file, features)
    return features


def _cache_name(
    samples: np.ndarray, segments: Sequence[tuple[int, int]], encoder: str, count: int, seed: int
) -> str:
    """Name of the file in which features are cached: a digest of all that they depend on."""
    pairs = [list(map(int, segment)) for segment in segments]
    key = json.dumps([VERSION, encoder, count, seed, pairs])
    digest = hashlib.sha256(key.encode() + samples.tobytes())
    return f"voices_{digest.hexdigest()[:16]}.npy"


def _write_cache(file: Path, features: np.ndarray) -> None:
    """Write a cache file, whole or not at all. A full disk is no error."""
    try:
        with new_file(file) as part, open(part, "wb") as opened:
            np.save(opened, features)
    except OSError:
        pass


def short_time_spectra(samples: np.ndarray) -> np.ndarray:
    """Spectra complex64 [S, 257] of float32 [T], one every 8 ms, the first centred on sample 0."""
    padded = np.pad(samples, (WINDOW // 2, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    windowed = frames * np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    return np.fft.rfft(windowed, axis=1).astype(np.complex64)


def overlap_add(spectra: np.ndarray, count: int) -> np.ndarray:
    """`count` samples float32 whose `short_time_spectra` are nearest to `spectra` [S, 257]."""
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    frames = np.fft.irfft(spectra, WINDOW, axis=1).astype(np.float32) * window
    out = np.zeros((len(spectra) + WINDOW // HOP, HOP), np.float32)
    weight = np.zeros(HOP, np.float32)
    for part in range(WINDOW // HOP):
        out[part : part + len(spectra)] += frames[:, part * HOP : (part + 1) * HOP]
        weight += window[part * HOP : (part + 1) * HOP] ** 2
    return np.pad((out / weight).reshape(-1)[WINDOW // 2 :], (0, count))[:count]


def shift_pitch(samples: np.ndarray, factor: float) -> np.ndarray:
    """The audio with every frequency times `factor` and the same timing.

    A phase vocoder stretches it (Flanagan and Golden 1966, "Phase Vocoder"), then it is resampled.
    """
    spectra = short_time_spectra(samples)

    # Magnitudes between the spectra.
    positions = np.arange(0, len(spectra) - 1, 1 / factor)
    whole = positions.astype(np.int64)
    share = (positions - whole)[:, None].astype(np.float32)
    magnitude = np.abs(spectra)
    stretched = magnitude[whole] * (1 - share) + magnitude[whole + 1] * share

    # Phases go on by the advance from one spectrum to the next.
    turn = np.exp(1j * np.angle(spectra[1:] * spectra[:-1].conj())).astype(np.complex64)
    advance = np.angle(turn)
    phase = np.cumsum(advance[whole], axis=0) - advance[whole[0]] + np.angle(spectra[0])

    stretched_spectra = (stretched * np.exp(1j * phase)).astype(np.complex64)
    longer = overlap_add(stretched_spectra, round(len(samples) * factor))
    shifted = resample(longer, round(SAMPLE_RATE * factor), SAMPLE_RATE)
    return np.pad(shifted, (0, max(0, len(samples) - len(shifted))))[: len(samples)]


def shift_formants(samples: np.ndarray, factor: float) -> np.ndarray:
    """The audio with its formants at `factor` times the frequency, its pitch and timing kept.

    Each short-time spectrum is divided by its cepstral envelope and multiplied by the moved one.
    """
    spectra = short_time_spectra(samples)
    cepstrum = np.fft.irfft(np.log(np.abs(spectra) + FLOOR), WINDOW, axis=1)
    cepstrum[:, ENVELOPE + 1 : -ENVELOPE] = 0
    envelope = np.fft.rfft(cepstrum, axis=1).real

    # The envelope at factor times the frequency, interpolated between bins.
    bins = envelope.shape[1]
    from_bin = np.clip(np.arange(bins) / factor, 0, bins - 1)
    low = np.minimum(from_bin.astype(np.int64), bins - 2)
    share = from_bin - low
    moved = envelope[:, low] * (1 - share) + envelope[:, low + 1] * share

    gain = np.exp(np.clip(moved - envelope, -4, 4))
    return overlap_add((spectra * gain).astype(np.complex64), len(samples))


def gate_pauses(samples: np.ndarray) -> np.ndarray:
    """The audio with its pauses cut to digital silence, as synthesizers and conferences do."""
    rest = -len(samples) % LEVEL_BLOCK
    blocks = np.pad(samples, (0, rest)).reshape(-1, LEVEL_BLOCK)
    levels = np.sqrt(np.square(blocks).mean(1))
    whole = np.sqrt(np.square(samples).mean()) if len(samples) else 0.0
    kept = np.convolve(levels > PAUSE_LEVEL * whole, np.ones(KEPT_BLOCKS), "same") > 0
    return (samples * np.repeat(kept, LEVEL_BLOCK)[: len(samples)]).astype(np.float32)


def add_reverberation(
    samples: np.ndarray, decay: float, share: float, rng: np.random.Generator
) -> np.ndarray:
    """The audio with echoes: noise that falls by 60 dB in `decay` s.

    The echoes have `share` times the power of the direct audio, which keeps its time.
    """
    count = max(1, int(decay * SAMPLE_RATE))
    response = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    response *= np.sqrt(share / np.square(response).sum())
    response[0] = 1.0

    size = 1 << (len(samples) + len(response)).bit_length()
    product = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(samples)].astype(np.float32)


def tilt_spectrum(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The audio through a microphone: -9 to 9 dB at five frequencies, smooth between, no delay."""
    gains = rng.uniform(-9, 9, 5)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    response = np.interp(np.log2(frequencies + 60), np.log2(TILT_FREQUENCIES), gains)
    spectra = short_time_spectra(samples) * 10 ** (response / 20)
    return overlap_add(spectra.astype(np.complex64), len(samples))


def limit_to_telephone(samples: np.ndarray) -> np.ndarray:
    """The audio through a telephone: 300 to 3,400 Hz, 8,000 samples/s of 8 bits by the mu-law."""
    # Band limits, with soft edges.
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    response = np.clip((frequencies - 200) / 100, 0, 1) * np.clip((3600 - frequencies) / 200, 0, 1)
    band = overlap_add((short_time_spectra(samples) * response).astype(np.complex64), len(samples))
    narrow = resample(band, SAMPLE_RATE, SAMPLE_RATE // 2)

    # The mu-law code, rounded to its steps, and back.
    compressed = np.log1p(255 * np.abs(np.clip(narrow, -1, 1))) / np.log(256)
    code = np.round(np.sign(narrow) * compressed * 127) / 127
    expanded = np.sign(code) * (256 ** np.abs(code) - 1) / 255
    return resample(expanded.astype(np.float32), SAMPLE_RATE // 2, SAMPLE_RATE)[: len(samples)]


def overdrive(samples: np.ndarray, drive: float) -> np.ndarray:
    """The audio clipped softly at 1 / `drive` of its peak."""
    peak = max(float(np.abs(samples).max(initial=0.0)), FLOOR)
    return (np.tanh(drive * samples / peak) * peak / np.tanh(drive)).astype(np.float32)


def add_noise(samples: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """The audio with noise `ratio` dB below it, between white and pink."""
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** rng.uniform(0, 0.5)
    noise = np.fft.irfft(spectrum, len(samples)) if len(samples) > 1 else np.zeros(len(samples))
    power = 0.0
    if len(samples):
        power = np.square(samples).mean() / max(np.square(noise).mean(), FLOOR**2)
    return (samples + noise * np.sqrt(power) * 10 ** (-ratio / 20)).astype(np.float32)

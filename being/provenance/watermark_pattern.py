"""The pattern of the invisible watermark: made of a key and of a payload.

The pattern is a square tile of PERIOD px that repeats over the whole image. It is a sum of waves of
MIN_WAVE to MAX_WAVE px whose phases come from the key. A third of the waves is the pilot: it shows
where the tile lies, and its scale. The others form two groups. The shift of a group against the
pilot is one of SHIFTS values, so each group holds 10 bits of the payload.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from being.errors import UsageError

PERIOD = 128  # px of the tile
MIN_WAVE, MAX_WAVE = 7.0, 22.0  # px
LEVEL = 1.37  # root mean square of the pattern in steps of 8-bit luma: 45.3 dB
PEAK = 3  # largest change of a pixel
FLATTENING = 20  # rounds that lower the peaks
STEP = 4  # px between two shifts of a group
SIDE = PERIOD // STEP  # shifts in a row
SHIFTS = SIDE * SIDE  # 1024
GROUPS = 2  # that hold the payload
PAYLOAD_BITS = 20
KEY_BYTES = 16
# The key of everybody who sets none: anybody can read these marks.
PUBLIC_KEY = hashlib.sha256(b"being: the public key of its watermark, version 1").digest()[
    :KEY_BYTES
]


@dataclass(frozen=True)
class Waves:
    """The waves of a key: K of them."""

    frequencies: np.ndarray  # int64 [K, 2]: y and x, periods in a tile
    phases: np.ndarray  # float64 [K], radians
    groups: np.ndarray  # int64 [K]: 0 the pilot, 1 and 2 the payload


def parse_key(text: str) -> bytes:
    """The key of 32 hexadecimal digits. Raises UsageError."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError(
            "the key of the watermark cannot be used",
            f"it is not {2 * KEY_BYTES} hexadecimal digits",
            "Make one with: openssl rand -hex 16",
        )
    return key


@functools.lru_cache(maxsize=8)
def waves_of(key: bytes) -> Waves:
    """The waves of a key of KEY_BYTES bytes."""
    assert len(key) == KEY_BYTES, len(key)
    most = int(PERIOD / MIN_WAVE)
    # One of each pair of opposite waves. Those along the axes are left out: borders lie there.
    found = [
        (y, x)
        for y in range(1, most + 1)
        for x in range(-most, most + 1)
        if x and MIN_WAVE <= PERIOD / np.hypot(y, x) <= MAX_WAVE
    ]
    frequencies = np.array(found, np.int64)
    count = len(frequencies)

    # Random numbers that are the same on every machine.
    content = hashlib.shake_256(b"being watermark 1" + key).digest(16 * count)
    numbers = np.frombuffer(content, "<u8").reshape(2, count)
    phases = numbers[0] * (2 * np.pi / 2**64)
    order = np.argsort(numbers[1], kind="stable")
    groups = np.zeros(count, np.int64)
    for k, members in enumerate(np.array_split(order, GROUPS + 1)):
        groups[members] = k
    return Waves(frequencies, phases, groups)


def shifts_of(payload: int) -> list[tuple[int, int]]:
    """The shift (y, x) in px of each group against the pilot, for a payload of PAYLOAD_BITS."""
    assert 0 <= payload < 1 << PAYLOAD_BITS, payload
    values = (payload // SHIFTS, payload % SHIFTS)
    return [(STEP * (value // SIDE), STEP * (value % SIDE)) for value in values]


@functools.lru_cache(maxsize=8)
def pattern_of(key: bytes, payload: int) -> np.ndarray:
    """The tile int8 [PERIOD, PERIOD], values -PEAK to PEAK: what is added to each pixel."""
    waves = waves_of(key)
    shifts = np.array([(0, 0), *shifts_of(payload)])[waves.groups]
    y, x = waves.frequencies.T
    spectrum = np.zeros((PERIOD, PERIOD), np.complex128)
    turn = 2 * np.pi / PERIOD * (waves.frequencies * shifts).sum(1)
    spectrum[y, x] = np.exp(1j * (waves.phases - turn))
    spectrum[-y, -x] = spectrum[y, x].conj()
    inside = spectrum != 0

    # Lower the peaks: cut them, and keep the waves of the band alone.
    tile = np.fft.ifft2(spectrum).real
    for _ in range(FLATTENING):
        tile *= LEVEL / tile.std()
        cut = tile.clip(-0.8 * PEAK, 0.8 * PEAK)
        tile = np.fft.ifft2(np.where(inside, np.fft.fft2(cut), 0)).real
    tile *= LEVEL / tile.std()
    return np.round(tile).clip(-PEAK, PEAK).astype(np.int8)

"""Symbol times of the Kokoro family: durations out of its networks, and phones out of symbols.

Kokoro, and hibari which learnt from it, read symbols: IPA letters, stress marks, length marks,
spaces and punctuation. The networks compute a duration for each symbol inside. `expose_tensor`
makes this tensor an output, so that the times are known exactly.

The sound comes before these durations by SOUND_LEAD. Measured in four Kokoro voices and in hibari:
s and ʃ begin 0.045 to 0.068 s before their symbol (medians) and end 0.050 to 0.061 s before its
end, the first sound of a sentence comes 0.04 to 0.08 s before its symbol, and closures of p begin
0.045 to 0.057 s before their symbol. The durations are whole units of 0.025 s. So single times are
right within about 0.02 s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from being.audio.ipa import STRESS, is_modifier, spelled_out

# The unit of a duration, s.
DURATION_UNIT = 0.025
# The sound of a symbol comes this much before the sum of the durations before it, s.
SOUND_LEAD = 0.05
# The voices' burst comes this long after the beginning of the closure, s (medians 0.04 to 0.06).
HOLD = 0.05
PLOSIVES = "pbtdkɡcɟqʈɖʔ"
# Symbols that are no phone and are spoken as a pause or not at all.
PUNCTUATION = ',.;:!?—…"“”()«»'

# (IPA symbol or phone, start s, end s)
TimedSymbol = tuple[str, float, float]


def expose_tensor(network: bytes, tensor: str) -> bytes:
    """An ONNX file with the inner `tensor` as one more float output.

    A protobuf message that is followed by another one is merged with it, so the file only grows by
    the new entry: ModelProto.graph (7) . output (12) . {name (1), type (2) . tensor_type (1) .
    elem_type (1) = FLOAT (1)}.
    """

    def field(number: int, content: bytes) -> bytes:
        # One byte each for the key and the length.
        assert number < 16 and len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    tensor_type = field(2, field(1, bytes([1 << 3, 1])))
    return network + field(7, field(12, field(1, tensor.encode()) + tensor_type))


def symbol_edges(durations: np.ndarray, count: int) -> np.ndarray:
    """When each of `count` symbols starts to sound, and the end of the last; float64 [count + 1].

    durations: the network's durations in units, of any shape; the first is that of the pad before
    the symbols. Times are in s from the first sample, at least 0.
    """
    units = durations.reshape(-1)
    assert units.size > count, (units.size, count)
    edges = np.cumsum(units[: count + 1], dtype=np.float64) * DURATION_UNIT
    return np.maximum(edges - SOUND_LEAD, 0.0)


def timed_symbols(symbols: str, edges: np.ndarray, start: float) -> list[TimedSymbol]:
    """The symbols of one passage with their times; start: when the passage starts, s."""
    assert len(edges) == len(symbols) + 1, (len(edges), len(symbols))
    return [
        (symbol, start + float(begin), start + float(end))
        for symbol, begin, end in zip(symbols, edges, edges[1:], strict=False)
    ]


def phones_of(symbols: Sequence[TimedSymbol]) -> list[TimedSymbol]:
    """The phones in a voice's symbols: IPA strings such as "p", "iː", "eɪ", "tʃ", with their times.

    A stress mark belongs to the vowel after it. Length marks, tones and other signs belong to the
    letter before them, and so does a space between words. Pauses are stretches without a phone. A
    plosive lasts at least HOLD, from the closure to the burst.
    """
    phones: list[list] = []
    stressed: float | None = None
    # Whether the last symbol left a phone open to which signs and spaces belong.
    attached = False
    for symbol, start, end in symbols:
        if symbol in STRESS:
            stressed = start if stressed is None else stressed
        elif is_modifier(symbol) or symbol == " ":
            if attached:
                phones[-1][2] = end
                phones[-1][0] += "" if symbol == " " or symbol in "↓→↗↘" else symbol
        elif symbol in PUNCTUATION:
            attached, stressed = False, None
        else:
            phones.append([spelled_out(symbol), start if stressed is None else stressed, end])
            attached, stressed = True, None

    # The next phone gives a plosive the time that it needs.
    for phone, following in zip(phones, phones[1:], strict=False):
        needed = phone[1] + HOLD
        if phone[0][0] in PLOSIVES and phone[2] < needed < following[2] - HOLD:
            phone[2] = needed
            following[1] = max(following[1], needed)
    return [(phone, start, end) for phone, start, end in phones]

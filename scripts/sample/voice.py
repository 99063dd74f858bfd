"""Synthesise the speech of the sample clip, with the time of every phoneme."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RATE = 24_000  # Hz, the voice's own
STEP = 0.025  # s, unit of the network's phoneme durations
LEAD_IN = 0.5  # s before the first word as the mouth has it; the sound follows SOUND_LATER behind
LEAD_OUT = 0.5
# The network sounds a phoneme two steps before the place its durations give it. Measured: sibilants
# against the level over 5 kHz -51 ms, vowels against the level from 0.25 to 3 kHz -49 ms. Kokoro,
# its teacher, has such a lead too: the time stamps of its own pipeline take 3 steps off the first
# duration.
DURATIONS_LATE = 2 * STEP  # s
# Lips run ahead: they close for p and b before the burst, and the burst lies in the middle of the
# network's spans.
ANTICIPATION = 0.040  # s by which the mouth has a sound's shape before the sound
SOUND_LATER = DURATIONS_LATE + ANTICIPATION
NOISE_SEED = 0  # of the voice's breath and hiss
PEAK = 0.7  # loudest sample of the clip
DURATION_TENSOR = (
    "/Clip_output_0"  # the network's phoneme durations, not one of its declared outputs
)

# Chosen to hold every English phoneme several times, many p, b, m, open vowels, and pauses (seconds
# after each).
SENTENCES = (
    ("Hello, and welcome. I am a synthetic person.", 0.35),
    ("My mother bought five big blue boxes of paper maps by the sea.", 0.45),
    (
        "The boy in the beige jacket shouted with joy, "
        "then chose a good book about thirty young birds.",
        0.5,
    ),
    ("Father put the hot apple pie on the table, and we all sang.", 0.4),
    ("She will measure how much each vowel opens the jaw.", 0.5),
    ("You may use my face and my voice to test your avatar. Thank you for watching.", 0.0),
)


@dataclass(frozen=True)
class Speech:
    """Synthesised speech: waveform float32 [T] in [-1, 1] at RATE, and the mouth's events (phoneme,
    start, end), s.

    The audio has a phoneme from ANTICIPATION after its event's start to ANTICIPATION after its end.
    """

    waveform: np.ndarray
    events: list[tuple[str, float, float]]
    text: str

    @property
    def duration(self) -> float:
        return len(self.waveform) / RATE


def _protobuf_field(number: int, body: bytes) -> bytes:
    """Bytes of one length-delimited protobuf field."""

    def varint(value: int) -> bytes:
        out = b""
        while True:
            low, value = value & 127, value >> 7
            out += bytes([low | (128 if value else 0)])
            if not value:
                return out

    return varint((number << 3) | 2) + varint(len(body)) + body


def _duration_session(package: Path) -> Any:
    """An onnxruntime session of the voice whose phoneme durations are an output.

    Appending a `graph.output` (ModelProto field 7, GraphProto field 12) to the file's bytes is
    enough: protobuf merges repeated messages, so the network itself is untouched.
    """
    import onnxruntime

    value_info = _protobuf_field(1, DURATION_TENSOR.encode()) + _protobuf_field(
        2, _protobuf_field(1, b"\x08\x01")
    )
    model = (package / "assets" / "hibari.onnx").read_bytes() + _protobuf_field(
        7, _protobuf_field(12, value_info)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


def speak() -> Speech:
    """The sample's speech, SENTENCES with their pauses (needs hibari-tts and onnxruntime)."""
    import hibari

    package = Path(hibari.__file__).parent
    session, voice = _duration_session(package), hibari.Hibari()
    vocabulary = json.loads((package / "assets" / "vocab.json").read_text())
    vocabulary = vocabulary.get("vocab", vocabulary)
    now, events, sound = LEAD_IN, [], [np.zeros(round((LEAD_IN + SOUND_LATER) * RATE), np.float32)]
    for sentence, pause in SENTENCES:
        for phonemes in voice.phonemize(sentence):
            ids = np.array([[0, *(vocabulary[c] for c in phonemes), 0]], np.int64)
            steps = session.run([DURATION_TENSOR], {"ids": ids, "speed": np.ones(1, np.float32)})[
                0
            ].ravel()
            edges = now + np.concatenate([[0], np.cumsum(steps)]) * STEP
            for i, symbol in enumerate(f"^{phonemes}$"):
                events.append((symbol, float(edges[i]), float(edges[i + 1])))
            wave = np.asarray(voice.from_phonemes(phonemes, seed=NOISE_SEED), np.float32).ravel()
            sound.append(wave)
            now += len(wave) / RATE
        sound.append(np.zeros(int(pause * RATE), np.float32))
        now += int(pause * RATE) / RATE
    sound.append(np.zeros(round((LEAD_OUT - SOUND_LATER) * RATE), np.float32))
    waveform = np.concatenate(sound)
    return Speech(
        waveform * np.float32(PEAK / np.abs(waveform).max()),
        events,
        " ".join(s for s, _ in SENTENCES),
    )

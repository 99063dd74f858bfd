"""The Kokoro voices: 54 voices of nine languages, offline, with word and phoneme times.

The network (82 million parameters, int8) speaks about as fast as real time on one core, where the
built-in voice is 100 times as fast. So it is a voice for videos, and not for a live session on two
cores.
"""

from __future__ import annotations

import difflib
import functools
from pathlib import Path

import numpy as np

from being import assets
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.onnx_runtime import load_onnxruntime
from being.threads import allowed_cores
from being.tts.hibari_voice import load_hibari
from being.tts.kokoro_text import LANGUAGES, kokoro_passages
from being.tts.speech import Speech, visible_characters
from being.tts.symbol_times import (
    PUNCTUATION,
    TimedSymbol,
    expose_tensor,
    symbol_edges,
    timed_symbols,
)

# The first letter is the language (`kokoro_text.LANGUAGES`), the second f or m.
VOICE_NAMES = tuple(
    f"{prefix}_{name}"
    for prefix, names in {
        "af": "heart alloy aoede bella jessica kore nicole nova river sarah sky",
        "am": "adam echo eric fenrir liam michael onyx puck santa",
        "bf": "alice emma isabella lily",
        "bm": "daniel fable george lewis",
        "ef": "dora",
        "em": "alex santa",
        "ff": "siwis",
        "hf": "alpha beta",
        "hm": "omega psi",
        "if": "sara",
        "im": "nicola",
        "jf": "alpha gongitsune nezumi tebukuro",
        "jm": "kumo",
        "pf": "dora",
        "pm": "alex santa",
        "zf": "xiaobei xiaoni xiaoxiao xiaoyi",
        "zm": "yunjian yunxi yunxia yunyang",
    }.items()
    for name in names.split()
)
DEFAULT_NAME = "af_heart"
RATE = 24_000
# The network's inner tensor with the duration of each symbol.
DURATIONS = "/encoder/Clip_output_0"
# The network adds up to 0.5 s of silence before a passage and 1 s after it. What is kept, s.
LEAD_IN = 0.1
TAIL = 0.25
FADE = 0.01


def speak_kokoro(text: str, name: str, speed: float) -> Speech:
    """`text` in the Kokoro voice `name` (for instance af_heart, the default), 24 kHz.

    The text must be in the voice's language (the first letter of its name). Symbols without a
    reading are left out and listed in `Speech.unspoken`. speed and errors: see
    `being.tts.voices.speak`. The network and the voices (120 MB) are fetched at the first use.
    """
    name = name or DEFAULT_NAME
    if name not in VOICE_NAMES:
        near = difflib.get_close_matches(name, VOICE_NAMES, 1, 0.5)
        raise UsageError(
            f"no voice is called 'kokoro:{name}'",
            f"the nearest is kokoro:{near[0]}" if near else "",
            f"Voices: {' '.join(VOICE_NAMES)}",
        )
    passages, unspoken = kokoro_passages(text, name[0])
    if not passages:
        raise InputRejected(
            "the voice has no phonemes for this text",
            f"it would be silent: {visible_characters(text)}",
            f"Write it in {LANGUAGES[name[0]].title}",
        )

    # One passage after the other, with times from the start of the text.
    voice, style = load_kokoro(), load_style(name)
    parts: list[np.ndarray] = []
    words: list[tuple[str, float, float]] = []
    phonemes: list[TimedSymbol] = []
    start = 0.0
    for symbols, spans in passages:
        samples, edges = trimmed(*voice.synthesize(symbols, style, speed), symbols)
        for word, first, stop in spans:
            words.append((word, start + float(edges[first]), start + float(edges[stop])))
        phonemes += timed_symbols(symbols, edges, start)
        parts.append(samples)
        start += len(samples) / RATE
    return Speech(np.clip(np.concatenate(parts), -1, 1), RATE, words, phonemes, unspoken)


def trimmed(samples: np.ndarray, edges: np.ndarray, symbols: str) -> tuple[np.ndarray, np.ndarray]:
    """Audio and times of a passage without most of the silence before and after its speech."""
    spoken = [k for k, symbol in enumerate(symbols) if symbol not in PUNCTUATION + " "]
    first = max(0, round((edges[spoken[0]] - LEAD_IN) * RATE)) if spoken else 0
    stop = round((edges[spoken[-1] + 1] + TAIL) * RATE) if spoken else len(samples)
    kept = samples[first:stop].astype(np.float32)
    ramp = np.linspace(0, 1, min(round(FADE * RATE), len(kept)), dtype=np.float32)
    kept[: len(ramp)] *= ramp
    kept[len(kept) - len(ramp) :] *= ramp[::-1]
    return kept, np.clip(edges - first / RATE, 0, len(kept) / RATE)


@functools.lru_cache(maxsize=1)
def load_kokoro() -> KokoroNetwork:
    """The network, loaded once.

    Raises EnvironmentFault when it cannot be fetched or loaded.
    """
    path = assets.fetch("kokoro")
    try:
        return KokoroNetwork(path)
    except ImportError as error:
        raise EnvironmentFault(
            "onnxruntime is not installed", str(error), "pip install 'being[tts]'"
        ) from error
    except Exception as error:  # onnxruntime's own error types share no public base
        raise EnvironmentFault(
            "the Kokoro voice cannot be loaded", str(error), f"Delete {path} and try again"
        ) from error


@functools.lru_cache(maxsize=8)
def load_style(name: str) -> np.ndarray:
    """The style of a voice, float32 [510, 256]: row k is for passages of k + 1 symbols.

    The last voices are kept, since the check of the file's hash takes a tenth of a second.
    """
    from safetensors import safe_open

    with safe_open(assets.fetch("kokoro_voices"), framework="numpy") as file:
        return file.get_tensor(name)


class KokoroNetwork:
    """The network with the symbols' durations as one more output."""

    def __init__(self, path: Path) -> None:
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = allowed_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        network = expose_tensor(path.read_bytes(), DURATIONS)
        self.session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
        # hibari learnt from this network and has its numbers of the symbols.
        self.vocabulary: dict[str, int] = load_hibari().front.vocab

    def synthesize(
        self, symbols: str, style: np.ndarray, speed: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Audio float32 [T] at 24 kHz, and when each symbol starts and the last one ends.

        style: float32 [510, 256]. The times are float64 [len(symbols) + 1], s.
        """
        assert 0 < len(symbols) <= len(style), len(symbols)
        # The numbers have one pad at each end.
        ids = [0, *(self.vocabulary[symbol] for symbol in symbols), 0]
        audio, durations = self.session.run(
            None,
            {
                "tokens": np.array([ids], np.int64),
                "style": style[len(symbols) - 1][None],
                "speed": np.array([speed], np.float32),
            },
        )
        return audio.reshape(-1), symbol_edges(durations, len(symbols))

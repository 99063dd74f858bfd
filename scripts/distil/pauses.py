"""Train the readout of pauses (`being.audio.pauses`) on synthetic speech.

    python -m scripts.distil.pauses FILE.safetensors [--seed 0]

The package's own voices say sentences of random words (`corpus.py`), each as it is and in other
voices and rooms (`being.audio.voice_augmentation`). The voices on which lips are judged are left
out (`being.eval.held_out_speech`). A frame is quiet where the level of the clean speech is QUIET_DB
below its loud parts. Logistic regression from one step of speech features. Every HELD_OUT-th text
is kept out of it; the figures of these are printed. About 4 min of processor time.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from being.audio.articulation import frame_time_step
from being.audio.clip_features import encode_segments
from being.audio.feature_windows import frame_count, strips
from being.audio.pauses import READOUT_ENCODERS
from being.audio.voice_augmentation import augmented_voice
from being.conventions import (
    ATTENTION_PAST,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    STEPS_PER_FRAME,
)
from being.eval.held_out_speech import HELD_OUT_VOICES
from scripts.distil.corpus import espeak_speech, hibari_speech, kokoro_speech

HIBARI_TEXTS, ESPEAK_TEXTS, KOKORO_TEXTS = 16, 1, 18
VARIANTS = 2
SILENCE_S = 0.6  # before and after a text
QUIET_DB, LOUD_PERCENTILE = 25.0, 95
# Frames whose level lies within so many dB of the limit are left out: they are neither.
UNSURE_DB = 3.0
HELD_OUT = 5
RIDGE, NEWTON_STEPS = 1e-3, 12


def levels(audio: np.ndarray, count: int) -> np.ndarray:
    """Level of each frame in dB below the loud parts, float [count]; the 40 ms round its time."""
    half = SAMPLES_PER_FRAME // 2
    padded = np.pad(audio, (half, SAMPLES_PER_FRAME))
    blocks = padded[: count * SAMPLES_PER_FRAME].reshape(count, -1)
    found = 20 * np.log10(np.sqrt((blocks**2).mean(1)) + 1e-5)
    return found - np.percentile(found, LOUD_PERCENTILE)


def logistic_regression(x: np.ndarray, quiet: np.ndarray) -> np.ndarray:
    """Weights and bias [C + 1] by Newton's method, with a small ridge on standardized channels."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    z = np.concatenate([(x - mean) / spread, np.ones((len(x), 1))], 1)
    weights = np.zeros(z.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-z @ weights))
        gradient = z.T @ (p - quiet) / len(z) + RIDGE * weights
        hessian = (z * (p * (1 - p))[:, None]).T @ z / len(z) + RIDGE * np.eye(z.shape[1])
        weights -= np.linalg.solve(hessian, gradient)
    raw = weights[:-1] / spread
    return np.append(raw, weights[-1] - raw @ mean)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    texts = [
        *hibari_speech(HIBARI_TEXTS, arguments.seed),
        *espeak_speech(ESPEAK_TEXTS, arguments.seed),
        *islice(kokoro_speech(1, arguments.seed, HELD_OUT_VOICES), KOKORO_TEXTS),
    ]
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.float32)
    samples: dict[str, list[tuple[bool, np.ndarray, np.ndarray]]] = {
        encoder: [] for encoder in READOUT_ENCODERS
    }
    for number, text in enumerate(texts):
        clean = np.concatenate([silence, text, silence])
        count = frame_count(clean)
        level = levels(clean, count) + QUIET_DB
        for variant in range(VARIANTS):
            audio = augmented_voice(clean, number, variant) if variant else clean
            for encoder, parts in samples.items():
                rows = encode_segments(audio, [(0, count - 1)], encoder)
                bounds = np.tile([0, len(rows) - 1], (len(rows), 1))
                now = STEPS_PER_FRAME * ATTENTION_PAST + frame_time_step(encoder)
                step = strips(rows, bounds)[:, now].astype(np.float64)
                known = level[: len(step)]
                sure = np.abs(known) > UNSURE_DB
                parts.append((number % HELD_OUT == 0, step[sure], known[sure] < 0))

    found = {}
    for encoder, parts in samples.items():
        x, quiet = (np.concatenate([part[k] for part in parts if not part[0]]) for k in (1, 2))
        found[encoder] = logistic_regression(x, quiet.astype(np.float64)).astype(np.float32)
        x, quiet = (np.concatenate([part[k] for part in parts if part[0]]) for k in (1, 2))
        said = x @ found[encoder][:-1] + found[encoder][-1] > 0
        print(
            f"{encoder}: of {len(quiet)} held-out frames {quiet.mean():.0%} quiet, "
            f"{said[quiet].mean():.1%} of these found, {said[~quiet].mean():.1%} of the others"
        )
    save_file(found, arguments.file)


if __name__ == "__main__":
    main()

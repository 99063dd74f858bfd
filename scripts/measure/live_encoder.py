"""Measure the speech encoder of live sessions: what it costs, and what lips lose by it.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m scripts.measure.live_encoder DATASET ...
        [--weights FILE ...] [--encoders NAME ...]

Prints the table of live encoders in docs/encoders.md. For each encoder it has the processor time of
a frame on one thread (40 ms of sound at a time, as a microphone gives it, and 80 ms, as `being
serve` computes it) and the correlation of the predicted with the true `lip_opening` of each
dataset: the mapping from voice to mouth (`being.train.voice_fit`) is fitted on four fifths and
predicts the last one, five times, all held-out frames together. The encoders are streamed, in
chunks of random sizes, but for `hama`, which reads whole clips. --weights: other weights of
`hama-causal`, such as those of other seeds (scripts/distil). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from being.audio.causal_conformer import ConformerWeights, expand
from being.audio.causal_encoder import CausalEncoder
from being.audio.encoder_names import CAUSAL
from being.audio.feature_stream import FeatureStream
from being.audio.feature_windows import WindowCutter
from being.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME
from being.data.dataset import Dataset
from being.data.mouth import load_mouth_code
from being.face.mouth_code import MOUTH_CHANNELS
from being.model.voice_to_mouth import MouthRowStream
from being.reading.tensors import load_tensor_arrays
from being.train.voice_fit import fit_voice_to_mouth

WHOLE = "hama"
ENCODERS = ("hama@stream", "hama@low", CAUSAL)
CHUNKS = (1, 160, 640, 1280, 4096)  # samples
WARM_UP_S, TIMED_S = 3, 6
CHANNELS = ("lip_opening", "lip_width", "jaw_open")


class _Stream:
    """A `FeatureStream` of other weights of the causal encoder."""

    def __init__(self, encoder: CausalEncoder):
        self._steps, self._cutter = encoder.steps(), WindowCutter(encoder.width, encoder.shift)

    def push(self, samples: np.ndarray) -> np.ndarray:
        steps = self._steps.push(samples)
        return self._cutter.push(steps, self._steps.latency.ahead if self._steps.steps else 0)

    def finish(self) -> np.ndarray:
        rows = self._cutter.push(self._steps.finish())
        return np.concatenate([rows, self._cutter.finish(self._steps.steps // 2)])


def main() -> None:
    """Print the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--weights", nargs="*", type=Path, default=[])
    parser.add_argument("--encoders", nargs="*", default=ENCODERS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = [Dataset.open(folder) for folder in options.datasets]
    mouths = [load_mouth_code(clip) for clip in clips]

    streams: dict[str, Callable[[], FeatureStream | _Stream]] = {
        name: (lambda name=name: FeatureStream(name)) for name in options.encoders
    }
    for file in options.weights:
        encoder = CausalEncoder(ConformerWeights.of(expand(load_tensor_arrays(file))))
        streams[file.stem] = lambda encoder=encoder: _Stream(encoder)

    print("| encoder | ms a frame, 40 / 80 ms at a time | " + " | ".join(c.name for c in clips))
    table: dict[str, dict[str, object]] = {}
    for name in (WHOLE, *streams):
        row: dict[str, object] = {}
        for clip, mouth in zip(clips, mouths, strict=True):
            features = clip.features(WHOLE) if name == WHOLE else streamed(clip, streams[name])
            kind = name if name in (WHOLE, *options.encoders) else CAUSAL
            fit = fit_voice_to_mouth(features, clip.bounds, mouth, np.arange(clip.frames), kind)
            assert fit is not None
            row[clip.name] = [
                round(float(fit.correlation[MOUTH_CHANNELS.index(channel)]), 3)
                for channel in CHANNELS
            ]
        if name != WHOLE:
            row["ms"] = [round(cost(streams[name], frames), 2) for frames in (1, 2)]
            mapping = MouthRowStream(fit.mapping)
            row["mapping_ms"] = round(mapping_cost(mapping, features), 2)
        table[name] = row
        print(f"| {name} | {row.get('ms', '')} | " + " | ".join(str(row[c.name]) for c in clips))
    print(json.dumps(table))


def streamed(clip: Dataset, make: Callable[[], FeatureStream | _Stream]) -> np.ndarray:
    """Feature windows float32 [F, 16, C] of a clip, each segment streamed by itself."""
    sound, rng, parts = clip.audio(), np.random.default_rng(0), []
    for start, stop in clip.segments:
        samples = sound[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
        stream, at = make(), 0
        while at < len(samples):
            count = int(rng.choice(CHUNKS))
            parts.append(stream.push(samples[at : at + count]))
            at += count
        parts.append(stream.finish())
    return np.concatenate(parts)


def cost(make: Callable[[], FeatureStream | _Stream], frames: int) -> float:
    """Processor time of a frame, ms, where `frames` frames of sound come at a time."""
    noise = np.random.default_rng(0).normal(0, 0.05, (WARM_UP_S + TIMED_S) * SAMPLE_RATE)
    sound, stream = noise.astype(np.float32), make()
    stream.push(sound[: WARM_UP_S * SAMPLE_RATE])
    start, rows, step = time.process_time(), 0, frames * SAMPLES_PER_FRAME
    for at in range(WARM_UP_S * SAMPLE_RATE, len(sound), step):
        rows += len(stream.push(sound[at : at + step]))
    return 1000 * (time.process_time() - start) / rows


def mapping_cost(mapping: MouthRowStream, features: np.ndarray) -> float:
    """Processor time of the mapping to the mouth code, ms a frame, a frame at a time."""
    start = time.process_time()
    for k in range(len(features)):
        mapping.push(features[k : k + 1])
    return 1000 * (time.process_time() - start) / len(features)


if __name__ == "__main__":
    main()

"""Streaming speech features: from live audio in chunks, and from a long file in blocks.

All times are counted from a frame's own time i / 25 s. The attention window of a frame ends 0.28 s
later, and the encoder needs some audio after each step. A low latency shifts the feature windows
into the past: the window of frame i then holds the audio around i / 25 s less the shift, and a
network that is trained on such windows finds the lips in their later half.

    total look-ahead = 0.28 s + ahead - shift

Attention and convolutions of the encoders are not causal. So a step is computed from a stretch of
audio that ends `ahead` steps after it: the two steps of one frame at a time, each time with the
last 2 s of audio. This costs more than one pass over everything. But a step then depends on its
own stretch alone, and chunks of any size give the same steps. The encoder of live sessions is
causal and needs none of this (`causal_encoder.py`): its steps are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from being.audio.bounded_encoder import HOP_STEPS, PAST_STEPS, BoundedEncoder
from being.audio.causal_encoder import CausalEncoder
from being.audio.encoder_interface import Encoder, output_width
from being.audio.encoder_names import EncoderName, Latency, find_latency
from being.audio.encoders import load_encoder
from being.audio.feature_windows import WindowCutter, frame_count
from being.audio.waveform import checked_samples
from being.conventions import SAMPLES_PER_FRAME, SAMPLES_PER_STEP, STEPS_PER_FRAME
from being.errors import UsageError

# Samples that are checked at once, before the first block of a file.
CHECK_BLOCK = 1 << 22


class StepSource(Protocol):
    """Feature steps of live audio; `step_source` makes them."""

    name: str  # of the encoder, with its latency
    width: int  # channels C
    latency: Latency
    steps: int  # that have come out

    @property
    def encoder(self) -> Encoder:
        """The encoder of the steps."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """See `StepStream.push`."""

    def finish(self) -> np.ndarray:
        """See `StepStream.finish`."""


def step_source(name: str, latency: str | None = None, device: str = "cpu") -> StepSource:
    """The steps of live audio by the encoder `name`; arguments and errors as for `StepStream`.

    Raises UsageError for a latency beside an encoder that has its own.
    """
    encoder = load_encoder(name, device) if not EncoderName.of(name).latency else None
    if not isinstance(encoder, CausalEncoder):
        return StepStream(name, latency, device)
    if latency:
        raise UsageError(
            f"the encoder {name!r} has a look-ahead of its own",
            f"the latency {latency!r} is for encoders of whole clips",
            "Leave the latency out",
        )
    return encoder.steps()


class StepStream:
    """Feature steps of live audio: chunks of samples in, steps out once their look-ahead is in."""

    def __init__(self, name: str = "hama", latency: str | None = None, device: str = "cpu"):
        """name: of the encoder, with or without its latency ("hama@low"); latency: "stream" or
        "low", by default the one in the name, else "stream".

        Raises UsageError for unknown names and for encoders without a streaming form, and as
        `encoders.load_encoder`.
        """
        in_name = EncoderName.of(name).latency
        base = name.removesuffix(f"@{in_name}") if in_name else name
        self.latency = find_latency(in_name or latency or "stream")
        if in_name and latency and in_name != latency:
            raise UsageError(
                f"the latency is {in_name!r} in the encoder's name, and also given as {latency!r}",
                fix="Leave one of them out",
            )
        bounded = BoundedEncoder(load_encoder(base, device), self.latency)
        self.name, self.width = bounded.name, bounded.width
        self.encoder = bounded

        # Samples from step `_first` on; earlier ones are no longer needed.
        self._samples = np.zeros(0, np.float32)
        self._first = 0
        # Steps that have come out.
        self.steps = 0
        self._received = 0
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The steps float32 [k, C] that are complete now; k is even and often 0.

        samples: float32 [n] in [-1, 1] at 16 kHz, any n, also 0. Raises InputRejected for samples
        that are not finite.
        """
        assert not self._finished, "the stream is finished"
        if samples.size:
            self._samples = np.concatenate([self._samples, checked_samples(samples)])
            self._received += samples.size
        received_steps = self._first + self._samples.size // SAMPLES_PER_STEP
        ready = received_steps - self.latency.ahead
        return self._encode_until(ready // HOP_STEPS * HOP_STEPS, None)

    def finish(self) -> np.ndarray:
        """The remaining steps float32 [k, C], as if the audio ended here.

        In all there are two steps for each frame that the audio begins.
        """
        assert not self._finished, "the stream is finished"
        self._finished = True
        total = HOP_STEPS * -(-self._received // SAMPLES_PER_FRAME)
        missing = (total - self._first) * SAMPLES_PER_STEP - self._samples.size
        self._samples = np.pad(self._samples, (0, missing))
        return self._encode_until(total, total)

    def _encode_until(self, stop: int, end: int | None) -> np.ndarray:
        """The steps from `self.steps` to `stop`; end: the step where the audio ends, if known."""
        parts = [np.zeros((0, self.width), np.float32)]
        while self.steps < stop:
            first, last = (
                max(0, self.steps - PAST_STEPS),
                self.steps + HOP_STEPS + self.latency.ahead,
            )
            last = last if end is None else min(end, last)
            offset = (first - self._first) * SAMPLES_PER_STEP
            stretch = self._samples[offset : offset + (last - first) * SAMPLES_PER_STEP]
            encoded = self.encoder.inner.encode_pieces(stretch[None])[0]
            parts.append(encoded[self.steps - first : self.steps - first + HOP_STEPS])
            self.steps += HOP_STEPS

        # Drop the audio that no later step reads.
        keep = max(0, self.steps - PAST_STEPS)
        self._samples = self._samples[(keep - self._first) * SAMPLES_PER_STEP :]
        self._first = keep
        return np.concatenate(parts)


class FeatureStream:
    """Speech features of live audio: chunks of samples in, feature windows of frames out.

    The windows are those of `feature_blocks` for the whole audio and the same NAME@LATENCY, equal
    to rounding, whatever the size of the chunks. `name` is NAME@LATENCY, `width` the channels C.
    """

    def __init__(
        self,
        name: str = "hama",
        latency: str | None = None,
        width: int | None = None,
        device: str = "cpu",
    ):
        """name, latency and device: as for `step_source`; width: as for `encode_frames`."""
        self._stream = step_source(name, latency, device)
        self.name = self._stream.name
        self.width = output_width(self._stream.encoder, width)
        self._cutter = WindowCutter(self.width, self._stream.latency.shift)

    @property
    def seconds(self) -> float:
        """Look-ahead, s: frame i can be rendered once i / 25 s + `seconds` of audio has come in.

        Then the windows of the three frames after it have come out, which its attention reads.
        """
        return self._stream.latency.seconds

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Feature windows float32 [k, 16, C] that are complete now; k is often 0.

        samples and errors: as for `StepStream.push`.
        """
        # A stream that gives a step has begun to hear as many later ones as it looks ahead.
        steps = self._stream.push(samples)[:, : self.width]
        later = self._stream.latency.ahead if self._stream.steps else 0
        return self._cutter.push(steps, later)

    def finish(self) -> np.ndarray:
        """The remaining feature windows float32 [k, 16, C], as if the audio ended here.

        In all there is one for each frame that the audio begins, and at least one.
        """
        last = self._cutter.push(self._stream.finish()[:, : self.width])
        frames = max(1, self._stream.steps // STEPS_PER_FRAME)
        return np.concatenate([last, self._cutter.finish(frames)])


def feature_blocks(
    samples: np.ndarray, name: str = "hama", width: int | None = None
) -> Iterator[np.ndarray]:
    """Speech features float32 [k, 16, C] of all frames of an audio file, some seconds at a time.

    Together the blocks are `encode_frames` of the whole audio. Memory does not grow with length.
    samples: float [T], mono at 16 kHz; width: as for `encode_frames`. Raises as `encode_frames`,
    before the first block.
    """
    for start in range(0, max(1, samples.size), CHECK_BLOCK):
        checked_samples(samples[start : start + CHECK_BLOCK])
    frames, encoder = frame_count(samples), load_encoder(name)
    width = output_width(encoder, width)

    cutter = WindowCutter(width, encoder.shift)
    done = 0
    for steps in encoder.encode_blocks(samples, STEPS_PER_FRAME * frames):
        windows = cutter.push(steps[:, :width])
        if len(windows):
            yield windows
            done += len(windows)
    if done < frames:
        yield cutter.finish(frames)

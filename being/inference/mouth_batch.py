"""Mouth codes of many streams of live audio at once: the causal conformer, then the mapping from
voice to mouth, on one device, one frame of each stream a call.

`mouth_stream.MouthStream` gives the same codes for one stream on the processor. On CUDA a call is
one graph: the samples are copied to the device, the codes back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.audio.articulation import ARTICULATION_CHANNELS, CHANNEL_MAX
from being.audio.causal_conformer import ConformerWeights
from being.audio.conformer_batch import ConformerBatch
from being.audio.feature_windows import STRIP
from being.audio.sound_chunks import CHUNK_SAMPLES, FIRST_OUT
from being.conventions import STEPS_PER_FRAME
from being.inference.mouth_stream import CODE_DELAY, MOST_STREAMS, STRIP_WINDOWS
from being.model.voice_to_mouth import (
    ANTICIPATION,
    OPENING_WEIGHT,
    RANGE_MARGIN,
    CodeState,
    VoiceToMouth,
)
from being.splat.graph_capture import capture_graph

BATCH_SIZES = (1, 2, 4, 8, 16, 32, MOST_STREAMS)
SLOTS_PER_SIZE = 2  # one is computed while the other is read


class MouthBatch:
    """The codes of S streams. K channels of the code, B streams of a call."""

    def __init__(
        self,
        weights: ConformerWeights,
        voice: VoiceToMouth,
        streams: int,
        device: torch.device | str,
    ):
        """voice: the mapping from the conformer's steps."""
        self.device, self.streams = torch.device(device), streams
        self.channels = len(voice.units)
        self._conformer = ConformerBatch(weights, streams, self.device)
        assert voice.width == self._conformer.width, (voice.width, self._conformer.width)
        self._strip = torch.zeros(streams, STRIP, voice.width, device=self.device)
        self.voice = voice
        self._voice = _Mapping(voice, self.device)
        # Beside the code, what the strip says of pauses
        self.outputs = self.channels + (STEPS_PER_FRAME + 1 if len(voice.pause_readout) else 0)
        self._windows = torch.tensor(STRIP_WINDOWS, device=self.device)

    def push(self, streams: Tensor, chunks: Tensor, frames: Tensor, samples: Tensor) -> Tensor:
        """The code float32 [B, K] of frame k - CODE_DELAY, after chunk k of each stream, and behind
        it what `VoiceToMouth.follow` needs to know of pauses.

        streams, chunks, samples: as for `ConformerBatch.push`. frames: int64 [B], of each stream in
        all, or ENDLESS. Codes of frames before the first mean nothing.
        """
        made = self._conformer.push(streams, chunks, samples)
        # Steps that are zero in windows: before the audio and after it.
        pair = torch.arange(STEPS_PER_FRAME, device=self.device)
        steps = STEPS_PER_FRAME * chunks[:, None] + FIRST_OUT + pair
        inside = (steps >= 0) & (steps < STEPS_PER_FRAME * frames[:, None])
        made = made.masked_fill(~inside[..., None], 0.0)
        before = self._strip[streams].masked_fill(chunks[:, None, None] == 0, 0.0)
        strip = torch.cat([before[:, STEPS_PER_FRAME:], made], 1)
        self._strip[streams] = strip

        # Windows of frames outside the stream are zero.
        windows = chunks[:, None] - CODE_DELAY + self._windows
        inside = (windows >= 0) & (windows < frames[:, None])
        strip = strip.masked_fill(~inside[..., None], 0.0)
        codes, pauses = self._voice.codes(strip), self._voice.pauses(strip)
        return codes if pauses is None else torch.cat([codes, pauses], 1)


class _Mapping:
    """`VoiceToMouth` on a device."""

    def __init__(self, voice: VoiceToMouth, device: torch.device):
        def put(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

        self._step_mean, self._step_basis = put(voice.step_mean), put(voice.step_basis)
        self._window = put(voice.window)[:, None]
        self._strip_mean, self._strip_basis = put(voice.strip_mean), put(voice.strip_basis)
        self._centres, self._weights = put(voice.centres), put(voice.weights)
        self._squares = (self._centres**2).sum(1)
        self._gamma, self._code_mean = voice.gamma, put(voice.code_mean)
        self._before, self._after = put(voice.predicted_quantiles), put(voice.true_quantiles)
        self._face_share = put(voice.face_share)
        self._readout = put(voice.pause_readout)
        self._closure_step = voice.closure_step
        self._closed = put(voice.closed)
        self._closing = put(voice.closing)
        margin = RANGE_MARGIN * (voice.units.most - voice.units.least)
        self._least, self._most = put(voice.units.least - margin), put(voice.units.most + margin)

    def codes(self, strips: Tensor) -> Tensor:
        """See `VoiceToMouth.codes`."""
        steps = (strips - self._step_mean) @ self._step_basis * self._window
        x = (steps.flatten(1) - self._strip_mean) @ self._strip_basis
        squares = (x**2).sum(1, keepdim=True) + self._squares - 2 * x @ self._centres.T
        code = (-self._gamma * squares.clamp_min(0)).exp() @ self._weights + self._code_mean
        code = self._code_mean + (self._calibrated(code) - self._code_mean) / self._face_share
        code = code.clamp(self._least, self._most)
        if self._closure_step >= 0:
            now, soon = self._closure(strips, 0), self._closure(strips, STEPS_PER_FRAME)
            amount = torch.maximum(now, ANTICIPATION * soon)
            code = code + amount * self._closing * (self._closed - code)
        return code

    def _closure(self, strips: Tensor, later: int) -> Tensor:
        """See `VoiceToMouth._closure`: [B, 1]."""
        step = min(self._closure_step + later, STRIP - 1)
        sounds = strips[:, step - 1 : step + 1, -ARTICULATION_CHANNELS:].mean(1) / CHANNEL_MAX
        return (sounds[:, :1] - OPENING_WEIGHT * sounds[:, 1:]).clamp(0, 1)

    def pauses(self, strips: Tensor) -> Tensor | None:
        """See `VoiceToMouth.pauses`."""
        if not len(self._readout):
            return None
        quiet = (strips @ self._readout[:-1] + self._readout[-1]).sigmoid()
        quiet = quiet.masked_fill(~strips.any(-1), 1.0)
        ahead = quiet[:, self._closure_step :].cumprod(1).sum(1, keepdim=True)
        own = quiet[:, self._closure_step - STEPS_PER_FRAME : self._closure_step]
        return torch.cat([own, ahead], 1)

    def _calibrated(self, code: Tensor) -> Tensor:
        """See `voice_to_mouth.match_quantiles`: each channel [B] by its own quantiles."""
        values = code.T.contiguous()  # [K, B]
        before, after = self._before, self._after
        place = torch.searchsorted(before, values, right=True).clamp(1, before.shape[1] - 1)
        low, high = before.gather(1, place - 1), before.gather(1, place)
        share = ((values - low) / (high - low)).masked_fill(high <= low, 1.0).clamp(0, 1)
        start = after.gather(1, place - 1)
        inside = start + share * (after.gather(1, place) - start)
        outside = (values - before[:, :1]).clamp_max(0) + (values - before[:, -1:]).clamp_min(0)
        return (inside + outside).T


class MouthBatchRunner:
    """Runs a `MouthBatch` for arrays of the host. Not for several threads.

    Implements `session.feature_worker.MouthRunner`.
    """

    most_chunks = 1

    def __init__(self, mouths: MouthBatch):
        """The last stream of `mouths` fills up batches, and serves nobody."""
        self.mouths, self.channels = mouths, mouths.channels
        self.streams = mouths.streams - 1
        self.cuda = mouths.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(mouths.device) if self.cuda else None
        self._slots: dict[int, list[_Slot]] = {}
        if self.cuda:
            torch.cuda.synchronize(mouths.device)  # the weights may still be on their way there

    def warm_up(self, streams: int) -> None:
        """Prepare for batches of up to `streams` streams. No stream may be in use."""
        for size in BATCH_SIZES:
            for _ in range(SLOTS_PER_SIZE):
                numbers = np.full(1, self.streams)
                silence = np.zeros((1, CHUNK_SAMPLES), np.float32)
                self._submit(size, numbers, np.zeros(1), np.zeros(1), silence).codes()
            if size >= streams:
                return

    def submit(
        self, streams: np.ndarray, chunks: np.ndarray, frames: np.ndarray, samples: np.ndarray
    ) -> PendingCodes:
        """Start to compute; arguments as arrays as for `MouthBatch.push`, at most 64 streams.

        Read the result before two more calls.
        """
        size = next(size for size in BATCH_SIZES if size >= len(streams))
        return self._submit(size, streams, chunks, frames, samples)

    def _submit(
        self,
        size: int,
        streams: np.ndarray,
        chunks: np.ndarray,
        frames: np.ndarray,
        samples: np.ndarray,
    ) -> PendingCodes:
        slots = self._slots.setdefault(size, [])
        with self._on_stream():
            if len(slots) < SLOTS_PER_SIZE:
                slots.append(_Slot(self.mouths, size, self._stream))
            else:
                slots.append(slots.pop(0))
            slots[-1].run(streams, chunks, frames, samples)
        return PendingCodes(slots[-1], len(streams))

    def follow(
        self, made: PendingCodes, index: list[int], states: list[CodeState]
    ) -> tuple[np.ndarray, list[CodeState]]:
        """See `MouthRunner.follow`."""
        rows, count = made.codes()[index], self.channels
        pauses = rows[:, count:] if rows.shape[1] > count else None
        return self.mouths.voice.follow_each(rows[:, :count], pauses, states)

    def _on_stream(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream) if self.cuda else nullcontext()

    def close(self) -> None:
        """Free the graphs."""
        if self.cuda:
            torch.cuda.synchronize(self.mouths.device)
        self._slots.clear()


class PendingCodes:
    """Codes that are being computed."""

    def __init__(self, slot: _Slot, count: int):
        self._slot, self._count = slot, count

    @property
    def ready(self) -> bool:
        """Whether `codes` returns at once."""
        return self._slot.done is None or bool(self._slot.done.query())

    def codes(self) -> np.ndarray:
        """What `MouthBatch.push` gives; waits until it is there."""
        if self._slot.done is not None:
            self._slot.done.synchronize()
        return self._slot.host_codes.numpy()[: self._count]


class _Slot:
    """The buffers of a batch, and its graph on CUDA."""

    def __init__(self, mouths: MouthBatch, size: int, stream: Any):
        self._mouths, cuda = mouths, mouths.device.type == "cuda"
        # Stream, chunk and frames of each; those that fill up the batch are of the last stream.
        self._host_numbers = torch.zeros(3, size, dtype=torch.int64, pin_memory=cuda)
        self._host_samples = torch.zeros(size, CHUNK_SAMPLES, pin_memory=cuda)
        self.host_codes = torch.zeros(size, mouths.outputs, pin_memory=cuda)
        self._numbers = torch.zeros(3, size, dtype=torch.int64, device=mouths.device)
        self._samples = torch.zeros(size, CHUNK_SAMPLES, device=mouths.device)
        self.done: Any = None
        self._graph: Any = None
        if not cuda:
            return
        self._host_numbers[0] = mouths.streams - 1
        self._compute()  # loads the kernels
        stream.synchronize()
        self._graph, self.done = torch.cuda.CUDAGraph(), torch.cuda.Event()
        with capture_graph(self._graph):
            self._compute()

    def run(
        self, streams: np.ndarray, chunks: np.ndarray, frames: np.ndarray, samples: np.ndarray
    ) -> None:
        """Compute the codes of a batch; arguments as for `MouthBatchRunner.submit`."""
        if self._graph is not None:
            self.done.synchronize()
        count, numbers = len(streams), self._host_numbers.numpy()
        numbers[0], numbers[1:] = self._mouths.streams - 1, 0
        numbers[0, :count], numbers[1, :count], numbers[2, :count] = streams, chunks, frames
        self._host_samples.numpy()[:count] = samples
        if self._graph is None:
            self._compute()
        else:
            self._graph.replay()
            self.done.record()

    @torch.no_grad()
    def _compute(self) -> None:
        self._numbers.copy_(self._host_numbers, non_blocking=True)
        self._samples.copy_(self._host_samples, non_blocking=True)
        streams, chunks, frames = self._numbers
        codes = self._mouths.push(streams, chunks, frames, self._samples)
        self.host_codes.copy_(codes, non_blocking=True)

"""The causal conformer for many streams at once, in torch: one frame of each stream a call.

The same network as `causal_conformer.py`, which serves one stream in numpy. Here the state of every
stream lies in tensors on one device, and a call advances any of the streams by a frame. All shapes
are fixed and nothing passes between host and device, so that a call can be captured as a CUDA
graph (`torch.where` with a number would copy it there).

A call reads a *chunk* of each stream (`sound_chunks.py`). It brings the mel frames of the steps
2 k - 1 and 2 k; the convolutions read five later steps, so that the steps 2 k - 6 and 2 k - 5 come
out. Steps before the audio are computed like others, and masked where later ones would read them.

B streams of a call, S streams in all, C hidden channels, H heads of D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from being.audio.articulation import ARTICULATION_CHANNELS, CHANNEL_MAX
from being.audio.causal_conformer import (
    EPSILON,
    HEAD_KERNEL,
    MEL_FRAMES,
    MEMORY,
    BlockWeights,
    ConformerWeights,
    Linear,
)
from being.audio.conformer_shape import HEADS, MEL_FLOOR, MEL_HOP, MEL_WINDOW, SUBSAMPLING
from being.audio.sound_chunks import CHUNK_SAMPLES, FIRST_IN, FIRST_OUT
from being.conventions import STEPS_PER_FRAME

MEL_OF_CHUNK = SUBSAMPLING * (STEPS_PER_FRAME - 1) + MEL_FRAMES
assert MEL_HOP * (MEL_OF_CHUNK - 1) + MEL_WINDOW == CHUNK_SAMPLES
# Steps whose keys and values are kept: those that two new steps read.
RING = MEMORY + STEPS_PER_FRAME - 1
MASKED = -1e30  # a score that counts nothing; not infinite, since steps before the audio read none


class _Layer:
    """x @ weight + bias on a device."""

    def __init__(self, layer: Linear, device: torch.device):
        self.weight = torch.from_numpy(layer.weight.T.copy()).to(device)
        self.bias = torch.from_numpy(layer.bias).to(device)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Turn:
    """What a call knows of its streams."""

    streams: Tensor  # int64 [B]
    chunks: Tensor  # int64 [B], number k of the chunk
    begun: Tensor  # bool [B, 1, 1], whether the stream has a state: chunk 0 has none

    def steps(self, first: int) -> Tensor:
        """Numbers int64 [B, 2] of the two steps from 2 k + first on."""
        pair = torch.arange(STEPS_PER_FRAME, device=self.chunks.device)
        return STEPS_PER_FRAME * self.chunks[:, None] + first + pair

    def kept(self, state: Tensor) -> Tensor:
        """The streams' part [B, n, C] of a state [S, n, C]; zeros where a stream begins."""
        return state[self.streams].masked_fill(~self.begun, 0.0)


class _Block:
    """A block, and the state of its streams: keys, values, and the tail of the convolution."""

    def __init__(self, weights: BlockWeights, streams: int, first: int, device: torch.device):
        """first: the steps that come in are 2 k + first and the next."""
        self.first, self.ahead = first, weights.ahead
        names = ("fc1", "fc2", "in_proj", "out_proj", "pointwise1", "pointwise2", "fc3", "fc4")
        self.layers = {name: _Layer(getattr(weights, name), device) for name in names}
        self.kernel, self.kernel_bias, self.gain, self.offset = (
            torch.from_numpy(np.ascontiguousarray(value)).to(device)
            for value in (weights.kernel, weights.kernel_bias, weights.gain, weights.offset)
        )
        taps, width = weights.kernel.shape
        self.keys, self.values = (torch.zeros(streams, RING, width, device=device) for _ in "kv")
        self.tail = torch.zeros(streams, taps - 1, width, device=device)
        self.waiting = torch.zeros(streams, self.ahead, width, device=device)

    def __call__(self, turn: _Turn, x: Tensor) -> Tensor:
        """Outputs [B, 2, C] of the inputs [B, 2, C]; they lie `ahead` steps earlier."""
        layers, steps = self.layers, turn.steps(self.first)
        x = x + 0.5 * layers["fc2"](F.silu(layers["fc1"](_normalized(x))))
        x = x + layers["out_proj"](self._attend(turn, steps, layers["in_proj"](_normalized(x))))

        # The depthwise convolution. A step waits until `ahead` later ones are there.
        gated = F.glu(layers["pointwise1"](_normalized(x)), 2)
        gated = gated.masked_fill(steps[..., None] < 0, 0.0)
        tail = torch.cat([turn.kept(self.tail), gated], 1)
        waiting = torch.cat([turn.kept(self.waiting), x], 1)
        self.tail[turn.streams] = tail[:, STEPS_PER_FRAME:]
        self.waiting[turn.streams] = waiting[:, STEPS_PER_FRAME:]
        taps = len(self.kernel)
        summed = torch.stack(
            [(tail[:, k : k + taps] * self.kernel).sum(1) for k in range(STEPS_PER_FRAME)], 1
        )
        x = waiting[:, :STEPS_PER_FRAME] + layers["pointwise2"](F.silu(summed + self.kernel_bias))

        x = x + 0.5 * layers["fc4"](F.silu(layers["fc3"](_normalized(x))))
        return _normalized(x) * self.gain + self.offset

    def _attend(self, turn: _Turn, steps: Tensor, projected: Tensor) -> Tensor:
        """Attention of two steps to the last MEMORY ones, [B, 2, C]; projected: [B, 2, 3 C]."""
        query, key, value = projected.chunk(3, 2)
        place = steps.remainder(RING)
        self.keys[turn.streams[:, None], place] = key
        self.values[turn.streams[:, None], place] = value
        keys, values = (_heads(kept[turn.streams]) for kept in (self.keys, self.values))

        # The step that each place of the ring holds.
        newest = steps[:, -1:]
        held = newest - (newest - torch.arange(RING, device=steps.device)).remainder(RING)
        back = steps[:, :, None] - held[:, None]
        read = (back >= 0) & (back < MEMORY) & (held >= 0)[:, None]  # [B, 2, RING]
        query = _heads(query)
        scores = query @ keys.transpose(2, 3) * query.shape[3] ** -0.5
        shares = scores.masked_fill(~read[:, None], MASKED).softmax(3)
        return (shares @ values).transpose(1, 2).flatten(2)


class ConformerBatch:
    """S streams of the causal conformer on one device; see the module."""

    def __init__(self, weights: ConformerWeights, streams: int, device: torch.device | str):
        device = torch.device(device)
        self.width = weights.width + ARTICULATION_CHANNELS  # channels of a step

        # A Fourier transform as a product, with the window in it. [400, 2 * 201]
        ramp = np.arange(MEL_WINDOW) / MEL_WINDOW
        angles = 2 * np.pi * np.outer(np.arange(MEL_WINDOW), np.arange(len(weights.mel)))
        angles /= MEL_WINDOW
        window = (0.5 - 0.5 * np.cos(2 * np.pi * ramp)).astype(np.float32)  # Hann, periodic
        waves = np.concatenate([np.cos(angles), np.sin(angles)], 1) * window[:, None]
        self._waves = torch.from_numpy(waves.astype(np.float32)).to(device)
        self._mel = torch.from_numpy(weights.mel).to(device)

        self._subsample = _Layer(weights.subsample, device)
        self._blocks, first = [], FIRST_IN
        for block in weights.blocks:
            self._blocks.append(_Block(block, streams, first, device))
            first -= block.ahead
        self._head, self._head_out = (_Layer(x, device) for x in (weights.head, weights.head_out))
        self._hidden = torch.zeros(streams, HEAD_KERNEL - 1, weights.width, device=device)

    def push(self, streams: Tensor, chunks: Tensor, samples: Tensor) -> Tensor:
        """The steps float32 [B, 2, C + 2] numbered 2 k - 6 and 2 k - 5 of chunk k of each stream.

        streams, chunks: int64 [B], distinct streams, chunks of each in order from 0 on. samples:
        float32 [B, 1040] in [-1, 1]. Steps with numbers below 0 mean nothing.
        """
        turn = _Turn(streams, chunks, chunks[:, None, None] > 0)
        mel = self._mel_frames(samples)
        rows = [mel[:, at : at + MEL_FRAMES].flatten(1) for at in range(0, MEL_OF_CHUNK - 1, 2)]
        x = F.gelu(self._subsample(torch.stack(rows, 1)), approximate="tanh")
        for block in self._blocks:
            x = block(turn, x)

        # The head reads the last hidden states side by side.
        known = x.masked_fill(turn.steps(FIRST_OUT)[..., None] < 0, 0.0)
        history = torch.cat([turn.kept(self._hidden), known], 1)
        self._hidden[streams] = history[:, STEPS_PER_FRAME:]
        rows = [history[:, k : k + HEAD_KERNEL].flatten(1) for k in range(STEPS_PER_FRAME)]
        hidden = F.silu(self._head(torch.stack(rows, 1)))
        return torch.cat([x, CHANNEL_MAX * self._head_out(hidden).sigmoid()], 2)

    def _mel_frames(self, samples: Tensor) -> Tensor:
        """Log power in mel bands [B, 5, bands] of chunks [B, 1040]."""
        spectra = samples.unfold(1, MEL_WINDOW, MEL_HOP) @ self._waves
        real, imaginary = spectra.chunk(2, 2)
        return ((real**2 + imaginary**2) @ self._mel).clamp_min(MEL_FLOOR).log()


def _heads(x: Tensor) -> Tensor:
    """[B, n, C] as [B, H, n, D]."""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def _normalized(x: Tensor) -> Tensor:
    """Rows [..., C] with mean 0 and deviation 1."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)

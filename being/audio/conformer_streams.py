"""The causal conformer for many streams at once, in numpy: a frame or two of each stream a call.

The same network as `causal_conformer.py`, which serves one stream, and as `conformer_batch.py`,
which serves many in torch. Front processes have no torch and serve dozens of sessions on one
thread: here each weight is read once for all streams of a call, and a call of a function serves all
of them.

A call reads n *chunks* of each stream (`sound_chunks.py`), from chunk k on, and gives the T = 2 n
steps from 2 k - 6 on. Steps before the audio are computed like others, and masked where later ones
would read them.

B streams of a call, S streams in all, C hidden channels, H heads of D channels.
"""

from __future__ import annotations

import numpy as np

from being.audio.articulation import ARTICULATION_CHANNELS, CHANNEL_MAX
from being.audio.causal_conformer import (
    EPSILON,
    HEAD_KERNEL,
    MEL_FRAMES,
    MEMORY,
    BlockWeights,
    ConformerWeights,
)
from being.audio.conformer_shape import HEADS, MEL_FLOOR, MEL_HOP, MEL_WINDOW, SUBSAMPLING
from being.audio.sound_chunks import CHUNK_SAMPLES, FIRST_IN, FIRST_OUT
from being.conventions import SAMPLES_PER_FRAME, STEPS_PER_FRAME

MOST_CHUNKS = 2  # of a stream in a call
# Steps whose keys and values are kept: those that the new steps of a call read.
RING = MEMORY + STEPS_PER_FRAME * MOST_CHUNKS - 1
MASKED = np.float32(-1e30)  # a score that counts nothing; steps before the audio read none at all
HALF = np.float32(0.5)

Array = np.ndarray


class ConformerStreams:
    """S streams of the causal conformer; see the module."""

    def __init__(self, weights: ConformerWeights, streams: int):
        self.width = weights.width + ARTICULATION_CHANNELS  # channels of a step
        self._weights = weights
        ramp = np.arange(MEL_WINDOW) / MEL_WINDOW
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * ramp)).astype(np.float32)  # Hann, periodic
        self._blocks, first = [], FIRST_IN
        for block in weights.blocks:
            self._blocks.append(_Block(block, streams, first))
            first -= block.ahead
        self._hidden = np.zeros((streams, HEAD_KERNEL - 1, weights.width), np.float32)

    def push(self, streams: Array, chunks: Array, samples: Array) -> Array:
        """The steps float32 [B, T, C + 2] from 2 k - 6 on, of n chunks of each stream from k on.

        streams, chunks: int64 [B], distinct streams and the numbers k, in order from 0 on. samples:
        float32 [B, 1040 + 640 (n - 1)] in [-1, 1], n at most MOST_CHUNKS. Steps with numbers below
        0 mean nothing.
        """
        number = (samples.shape[1] - CHUNK_SAMPLES) // SAMPLES_PER_FRAME + 1
        assert 1 <= number <= MOST_CHUNKS, samples.shape
        weights, count, made = self._weights, len(streams), STEPS_PER_FRAME * number
        mel = self._mel_frames(samples)
        starts = range(0, SUBSAMPLING * made, SUBSAMPLING)
        rows = [mel[:, at : at + MEL_FRAMES].reshape(count, -1) for at in starts]
        x = _gelu(weights.subsample(np.stack(rows, 1).reshape(count * made, -1)))
        turn = _Turn(streams, chunks, made)
        for block in self._blocks:
            x = block.push(turn, x)

        # The head reads the last hidden states side by side.
        known = x.reshape(count, made, -1)
        known = np.where(turn.steps(FIRST_OUT)[..., None] < 0, np.float32(0), known)
        history = np.concatenate([turn.kept(self._hidden), known], 1)
        self._hidden[streams] = history[:, made:]
        rows = [history[:, k : k + HEAD_KERNEL].reshape(count, -1) for k in range(made)]
        hidden = weights.head(np.stack(rows, 1).reshape(count * made, -1))
        articulation = CHANNEL_MAX * _sigmoid(weights.head_out(_silu(hidden)))
        both = np.concatenate([x, articulation], 1, dtype=np.float32)
        return both.reshape(count, made, -1)

    def _mel_frames(self, samples: Array) -> Array:
        """Log power in mel bands [B, 4 n + 1, bands] of n chunks."""
        view = np.lib.stride_tricks.sliding_window_view(samples, MEL_WINDOW, axis=1)
        spectra = np.fft.rfft(view[:, ::MEL_HOP] * self._window)
        power = (spectra.real**2 + spectra.imag**2).astype(np.float32, copy=False)
        bands = power.reshape(-1, power.shape[2]) @ self._weights.mel
        found = np.log(np.maximum(bands, np.float32(MEL_FLOOR)))
        return found.reshape(len(samples), power.shape[1], -1)


class _Turn:
    """What a call knows of its streams."""

    def __init__(self, streams: Array, chunks: Array, count: int):
        """count: T, steps of each stream."""
        self.streams, self.chunks, self.count = streams, chunks, count
        self.fresh = np.flatnonzero(chunks == 0)  # streams that begin: they have no state

    def steps(self, first: int) -> Array:
        """Numbers int64 [B, T] of the steps from 2 k + first on."""
        return STEPS_PER_FRAME * self.chunks[:, None] + first + np.arange(self.count)

    def kept(self, state: Array) -> Array:
        """The streams' part [B, n, C] of a state [S, n, C]; zeros where a stream begins."""
        found: Array = state[self.streams]
        if self.fresh.size:
            found[self.fresh] = 0
        return found


class _Block:
    """A block, and the state of its streams: keys, values, and the tail of the convolution."""

    def __init__(self, weights: BlockWeights, streams: int, first: int):
        """first: the steps that come in are 2 k + first and the next."""
        self._weights, self._first = weights, first
        taps, width = weights.kernel.shape
        depth = width // HEADS
        self._keys = np.zeros((streams, HEADS, depth, RING), np.float32)
        self._values = np.zeros((streams, HEADS, RING, depth), np.float32)
        self._tail = np.zeros((streams, taps - 1, width), np.float32)
        self._waiting = np.zeros((streams, weights.ahead, width), np.float32)

    def push(self, turn: _Turn, x: Array) -> Array:
        """Outputs [B T, C] of the inputs [B T, C]; they lie `ahead` steps earlier."""
        weights, steps = self._weights, turn.steps(self._first)
        count, width = len(steps), x.shape[1]
        x = x + HALF * weights.fc2(_silu(weights.fc1(_normalized(x))))
        x = x + weights.out_proj(self._attend(turn, steps, weights.in_proj(_normalized(x))))

        # The depthwise convolution. A step waits until `ahead` later ones are there.
        both = weights.pointwise1(_normalized(x))
        gated = (both[:, :width] * _sigmoid(both[:, width:])).reshape(count, -1, width)
        if steps.min() < 0:
            gated[steps < 0] = 0
        tail = np.concatenate([turn.kept(self._tail), gated], 1)
        waiting = np.concatenate([turn.kept(self._waiting), x.reshape(count, -1, width)], 1)
        self._tail[turn.streams] = tail[:, turn.count :]
        self._waiting[turn.streams] = waiting[:, turn.count :]
        taps = len(weights.kernel)
        summed = np.empty((count, turn.count, width), np.float32)
        for k in range(turn.count):
            np.einsum("btc,tc->bc", tail[:, k : k + taps], weights.kernel, out=summed[:, k])
        summed += weights.kernel_bias
        ready = waiting[:, : turn.count].reshape(-1, width)
        x = ready + weights.pointwise2(_silu(summed.reshape(-1, width)))

        x = x + HALF * weights.fc4(_silu(weights.fc3(_normalized(x))))
        return _normalized(x) * weights.gain + weights.offset

    def _attend(self, turn: _Turn, steps: Array, projected: Array) -> Array:
        """Attention of T steps to the last MEMORY ones, [B T, C]; projected: [B T, 3 C]."""
        count = len(steps)
        split = projected.reshape(count, turn.count, 3, HEADS, -1)
        place = steps % RING
        self._keys[turn.streams[:, None], :, :, place] = split[:, :, 1]
        self._values[turn.streams[:, None], :, place] = split[:, :, 2]
        query = split[:, :, 0].transpose(0, 2, 1, 3) * np.float32(split.shape[4] ** -0.5)

        # The keys of a stream are read where they lie: they are too large to be gathered.
        scores = np.empty((count, HEADS, turn.count, RING), np.float32)
        for k, stream in enumerate(turn.streams.tolist()):
            np.matmul(query[k], self._keys[stream], out=scores[k])

        # The step that each place of the ring holds.
        newest = steps[:, -1:]
        held = newest - (newest - np.arange(RING)) % RING
        back = steps[:, :, None] - held[:, None]
        unread = (back < 0) | (back >= MEMORY) | (held < 0)[:, None]  # [B, T, RING]
        np.copyto(scores, MASKED, where=unread[:, None])
        scores -= np.maximum.reduce(scores, 3, keepdims=True)
        np.exp(scores, out=scores)
        scores /= np.add.reduce(scores, 3, keepdims=True)

        read = np.empty((count, HEADS, turn.count, query.shape[3]), np.float32)
        for k, stream in enumerate(turn.streams.tolist()):
            np.matmul(scores[k], self._values[stream], out=read[k])
        return read.transpose(0, 2, 1, 3).reshape(count * turn.count, -1)


def _normalized(x: Array) -> Array:
    """Rows [n, C] with mean 0 and deviation 1."""
    share = np.float32(1 / x.shape[1])
    centred = x - share * np.add.reduce(x, 1, keepdims=True)
    power = share * np.einsum("nc,nc->n", centred, centred)[:, None]
    centred /= np.sqrt(power + np.float32(EPSILON))
    return centred


def _sigmoid(x: Array) -> Array:
    found = np.tanh(HALF * x)
    found *= HALF
    found += HALF
    return found


def _silu(x: Array) -> Array:
    found = _sigmoid(x)
    found *= x
    return found


def _gelu(x: Array) -> Array:
    """GELU by its tanh approximation."""
    inner = np.float32(0.7978845608) * (x + np.float32(0.044715) * (x * x * x))
    return HALF * x * (1 + np.tanh(inner))

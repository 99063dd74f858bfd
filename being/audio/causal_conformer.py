"""The causal conformer: speech features step by step, with cached state, in numpy.

It is the first two blocks of the phoneme conformer (`phoneme_conformer.py`), made causal and
trained on (scripts/distil) until its steps were again like those that the conformer gives with the
whole clip. The conformer's own state cannot be cached: its attention reads the whole piece, and
each convolution 0.3 s of later audio. Here attention reads the last two seconds, whose keys and
values are kept, and the two convolutions read 40 and 60 ms of later audio, so that their tails are
kept. A small head gives the articulation channels.

A step costs one pass over the weights, whatever went before. One implementation serves live audio
and whole clips, so chunks of any size give the same steps. numpy and not torch: the matrices have
two rows, and a call of a function costs more than its arithmetic. Matrices this small use one
thread.

Weights lie beside this file: matrices of int8 with a float32 scale for each output (1 MB).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being.audio.articulation import CHANNEL_MAX
from being.audio.conformer_shape import HEADS, MEL_FLOOR, MEL_HOP, MEL_WINDOW, SUBSAMPLING
from being.conventions import FEATURE_RATE
from being.errors import EnvironmentFault
from being.reading.tensors import load_tensor_arrays

WEIGHTS = Path(__file__).with_name("causal_conformer.safetensors")
BLOCKS = 2
# Later steps that the convolution of each block reads.
AHEAD = (2, 3)
# Steps that attention reads, the step itself included.
MEMORY = 2 * FEATURE_RATE
# Of the head: steps that it reads, and its width.
HEAD_KERNEL, HEAD_WIDTH = 5, 32
# Mel frames of 10 ms that a step reads.
MEL_FRAMES = 3
EPSILON = 1e-5  # of the layer norms
# Steps that are computed at once of long audio.
CHUNK_STEPS = 50
SCALE = ".scale"  # a matrix NAME of int8 is to be multiplied by NAME.scale

Array = np.ndarray


@dataclass(frozen=True)
class Linear:
    """x @ weight + bias."""

    weight: Array  # float32 [I, O]
    bias: Array  # float32 [O]

    def __call__(self, x: Array) -> Array:
        made = x @ self.weight
        made += self.bias
        return made

    def after_norm(self, gain: Array, offset: Array) -> Linear:
        """This layer after a layer norm's gain and offset [I]."""
        return Linear(self.weight * gain[:, None], self.bias + offset @ self.weight)


@dataclass(frozen=True)
class BlockWeights:
    """The layers of a conformer block; those that follow a layer norm include its gain."""

    fc1: Linear
    fc2: Linear
    in_proj: Linear
    out_proj: Linear
    pointwise1: Linear
    kernel: Array  # float32 [K, C], depthwise
    kernel_bias: Array  # float32 [C]
    pointwise2: Linear
    fc3: Linear
    fc4: Linear
    gain: Array  # float32 [C], of the last layer norm
    offset: Array
    ahead: int


@dataclass(frozen=True)
class ConformerWeights:
    """All weights of the causal conformer."""

    mel: Array  # float32 [201, bands]
    subsample: Linear  # [3 bands, C]
    blocks: tuple[BlockWeights, ...]
    head: Linear  # [HEAD_KERNEL C, HEAD_WIDTH]
    head_out: Linear  # [HEAD_WIDTH, 2]

    @property
    def width(self) -> int:
        """C, hidden channels."""
        return self.subsample.weight.shape[1]

    @classmethod
    def of(cls, state: dict[str, Array]) -> ConformerWeights:
        """Of the state dict of `scripts.distil.student.Student`, and the bank "mel" [bands, 201].

        Raises KeyError where a tensor is missing.
        """

        def linear(name: str) -> Linear:
            return Linear(np.ascontiguousarray(state[f"{name}.weight"].T), state[f"{name}.bias"])

        def convolution(name: str) -> Linear:
            # [O, I, K] -> [K I, O]: rows of K steps side by side.
            weight = state[f"{name}.weight"]
            flat = weight.transpose(2, 1, 0).reshape(-1, len(weight))
            return Linear(np.ascontiguousarray(flat), state[f"{name}.bias"])

        def normed(name: str, norm: str, layer: Linear | None = None) -> Linear:
            layer = layer or linear(name)
            return layer.after_norm(state[f"{norm}.weight"], state[f"{norm}.bias"])

        blocks = []
        for number, ahead in enumerate(AHEAD):
            at = f"blocks.{number}"
            kernel = state[f"{at}.conv.depthwise.weight"][:, 0]
            taps = kernel.shape[1] // 2 + 1 + ahead
            pointwise = convolution(f"{at}.conv.pointwise1")
            blocks.append(
                BlockWeights(
                    normed(f"{at}.ffn1.fc1", f"{at}.ffn1.norm"),
                    linear(f"{at}.ffn1.fc2"),
                    normed(f"{at}.attn.in_proj", f"{at}.attn_norm"),
                    linear(f"{at}.attn.out_proj"),
                    normed("", f"{at}.conv.norm", pointwise),
                    np.ascontiguousarray(kernel[:, :taps].T),
                    state[f"{at}.conv.depthwise.bias"],
                    convolution(f"{at}.conv.pointwise2"),
                    normed(f"{at}.ffn2.fc1", f"{at}.ffn2.norm"),
                    linear(f"{at}.ffn2.fc2"),
                    state[f"{at}.norm.weight"],
                    state[f"{at}.norm.bias"],
                    ahead,
                )
            )
        return cls(
            np.ascontiguousarray(state["mel"].T),
            convolution("subsample"),
            tuple(blocks),
            convolution("head"),
            linear("head_out"),
        )


@functools.lru_cache(maxsize=1)
def shipped_weights() -> ConformerWeights:
    """The weights of the package, loaded once.

    Raises EnvironmentFault where the file is damaged.
    """
    try:
        return ConformerWeights.of(expand(load_tensor_arrays(WEIGHTS)))
    except (KeyError, ValueError, IndexError) as error:
        raise EnvironmentFault(
            f"{WEIGHTS} holds no causal conformer", str(error), "Install the package again"
        ) from error


def compress(state: dict[str, Array]) -> dict[str, Array]:
    """Float32 arrays with their matrices and kernels as int8 [O, ...] and NAME.scale [O]."""
    small: dict[str, Array] = {}
    for name, value in state.items():
        if value.ndim == 1:
            small[name] = value.astype(np.float32)
            continue
        rows = value.reshape(len(value), -1)
        scale = np.maximum(np.abs(rows).max(1), 1e-12).astype(np.float32) / 127
        small[name] = (rows / scale[:, None]).round().astype(np.int8).reshape(value.shape)
        small[name + SCALE] = scale
    return small


def expand(small: dict[str, Array]) -> dict[str, Array]:
    """The float32 arrays of `compress`."""
    state = {}
    for name, value in small.items():
        if name.endswith(SCALE):
            continue
        full = value.astype(np.float32)
        if name + SCALE in small:
            full *= small[name + SCALE].reshape(-1, *[1] * (value.ndim - 1))
        state[name] = full
    return state


class CausalConformer:
    """The steps of one stream of audio: samples in, steps out as soon as they are determined.

    Step k needs the samples up to 320 (k + 1 + sum(AHEAD)) + 200. Its cost and its memory do not
    depend on how long the stream is.
    """

    def __init__(self, weights: ConformerWeights):
        self._weights = weights
        self._mel = _MelFrames(weights.mel)
        # Mel frames from the first of the next step on.
        self._frames = np.zeros((0, weights.mel.shape[1]), np.float32)
        self._blocks = [_Block(block) for block in weights.blocks]
        self._hidden = np.zeros((HEAD_KERNEL - 1, weights.width), np.float32)

    def push(self, samples: Array) -> Array:
        """The steps float32 [k, C + 2] that samples float32 [n] in [-1, 1] determine, any n.

        The first C channels are hidden states, the other two articulation channels.
        """
        self._frames = np.concatenate([self._frames, self._mel.push(samples)])
        count = max(0, (len(self._frames) - MEL_FRAMES) // SUBSAMPLING + 1)
        parts = [
            self._steps(first, min(CHUNK_STEPS, count - first))
            for first in range(0, count, CHUNK_STEPS)
        ]
        self._frames = self._frames[SUBSAMPLING * count :]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.zeros((0, self._weights.width + 2), np.float32), *parts])

    def _steps(self, first: int, count: int) -> Array:
        """The steps that `count` more inputs determine, from input `first` of the frames on."""
        weights = self._weights
        frames = self._frames[SUBSAMPLING * first :]
        rows = np.concatenate(
            [frames[k : k + SUBSAMPLING * count : SUBSAMPLING] for k in range(MEL_FRAMES)], 1
        )
        x = _gelu(weights.subsample(rows))
        for block in self._blocks:
            if len(x):
                x = block.push(x)

        # The head reads the last hidden states side by side.
        history = np.concatenate([self._hidden, x])
        self._hidden = history[len(x) :]
        rows = np.concatenate([history[k : k + len(x)] for k in range(HEAD_KERNEL)], 1)
        articulation = CHANNEL_MAX * _sigmoid(weights.head_out(_silu(weights.head(rows))))
        return np.concatenate([x, articulation], 1)


class _MelFrames:
    """Log power in mel bands, a frame every 10 ms; frame j is centred on sample 160 j."""

    def __init__(self, bank: Array):
        self._bank = bank  # [201, bands]
        ramp = np.arange(MEL_WINDOW) / MEL_WINDOW
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * ramp)).astype(np.float32)  # Hann, periodic
        # Samples from the first of the next frame on; zeros before the audio.
        self._samples = np.zeros(MEL_WINDOW // 2, np.float32)

    def push(self, samples: Array) -> Array:
        """The frames float32 [k, bands] that the next samples complete."""
        self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])
        count = (len(self._samples) - MEL_WINDOW) // MEL_HOP + 1
        if count <= 0:
            return np.zeros((0, self._bank.shape[1]), np.float32)
        at = MEL_HOP * np.arange(count)[:, None] + np.arange(MEL_WINDOW)
        spectra = np.fft.rfft(self._samples[at] * self._window)
        power = (spectra.real**2 + spectra.imag**2).astype(np.float32)
        self._samples = self._samples[count * MEL_HOP :]
        return np.log(np.maximum(power @ self._bank, np.float32(MEL_FLOOR)))


class _Block:
    """A block with the state of one stream: keys, values, and the tail of its convolution."""

    def __init__(self, weights: BlockWeights):
        self._weights = weights
        width, taps = weights.kernel.shape[1], weights.kernel.shape[0]
        self._keys = np.zeros((HEADS, 0, width // HEADS), np.float32)
        self._values = np.zeros((HEADS, 0, width // HEADS), np.float32)
        # Inputs of the convolution from the first that the next step reads.
        self._tail = np.zeros((taps - 1 - weights.ahead, width), np.float32)
        # Steps whose convolution waits for later ones.
        self._waiting = np.zeros((0, width), np.float32)

    def push(self, x: Array) -> Array:
        """Outputs float32 [k, C] that the next inputs [n, C] determine; they come `ahead` later."""
        weights = self._weights
        x = x + 0.5 * weights.fc2(_silu(weights.fc1(_normalized(x))))
        x = x + weights.out_proj(self._attend(weights.in_proj(_normalized(x))))

        # The depthwise convolution. A step waits until `ahead` later ones are there.
        both, width = weights.pointwise1(_normalized(x)), x.shape[1]
        tail = np.concatenate([self._tail, both[:, :width] * _sigmoid(both[:, width:])])
        waiting = np.concatenate([self._waiting, x])
        taps = len(weights.kernel)
        count = len(tail) - taps + 1
        if count <= 0:
            self._tail, self._waiting = tail, waiting
            return x[:0]
        self._tail, self._waiting = tail[count:], waiting[count:]
        at = np.arange(count)[:, None] + np.arange(taps)
        summed = np.add.reduce(tail[at] * weights.kernel, 1) + weights.kernel_bias
        x = waiting[:count] + weights.pointwise2(_silu(summed))

        x = x + 0.5 * weights.fc4(_silu(weights.fc3(_normalized(x))))
        return _normalized(x) * weights.gain + weights.offset

    def _attend(self, projected: Array) -> Array:
        """Attention of n steps to the last MEMORY ones, [n, C].

        projected: queries, keys and values [n, 3 C].
        """
        count = len(projected)
        split = projected.reshape(count, 3, HEADS, -1).transpose(1, 2, 0, 3)
        query, key, value = split  # [H, n, D]
        keys = np.concatenate([self._keys, key], 1)
        values = np.concatenate([self._values, value], 1)
        self._keys, self._values = keys[:, 1 - MEMORY :], values[:, 1 - MEMORY :]

        # A step reads itself and the MEMORY - 1 steps before it.
        scores = query @ keys.transpose(0, 2, 1) * np.float32(query.shape[2] ** -0.5)
        number = keys.shape[1]
        back = np.arange(number - count, number)[:, None] - np.arange(number)
        scores[:, (back < 0) | (back >= MEMORY)] = -np.inf
        scores = np.exp(scores - np.maximum.reduce(scores, 2, keepdims=True))
        read = scores / np.add.reduce(scores, 2, keepdims=True) @ values
        return read.transpose(1, 0, 2).reshape(count, -1)


def _normalized(x: Array) -> Array:
    """Rows [n, C] with mean 0 and deviation 1."""
    # Plain sums: `np.mean` takes longer to call than to add 144 numbers.
    share = np.float32(1 / x.shape[1])
    centred = x - share * np.add.reduce(x, 1, keepdims=True)
    power = share * np.add.reduce(centred * centred, 1, keepdims=True)
    return centred / np.sqrt(power + np.float32(EPSILON))


def _sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _gelu(x: Array) -> Array:
    """GELU by its tanh approximation."""
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x**3)))

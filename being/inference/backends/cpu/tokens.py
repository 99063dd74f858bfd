"""The audio net and the token layers in NumPy, for the CPU renderer.

These networks are so small that a call of torch costs more than the product, and on a loaded
machine torch's threads wait for each other in every one of some sixty operators. Here one core does
everything in twenty products (convolutions are dense layers, see `being.model.folding`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.model.folding import EXPRESSION_CHANNELS, TOKENS, fold
from being.model.gaussiantalker import GaussianTalker
from being.model.tokens import AUDIO_WIDTH, LEAKY_SLOPE


class TokenNetworks:
    """Feature windows -> audio vectors, and audio vectors, expression, pose -> tokens; float32."""

    def __init__(self, network: GaussianTalker, camera: Tensor):
        """camera: float32 [P, 12], the camera values of every pose."""
        width = network.config.d_model
        folded = fold(network, camera)
        weight, bias = folded.first_convolution
        self._first = weight.flatten(0, 1).numpy(), bias.numpy()
        self._audio_layers = _numpy(folded.audio_layers)
        self._attention_layers = _numpy(folded.attention_layers)
        self._audio_hidden = folded.audio_hidden.numpy()
        blink = folded.blink_hidden.numpy()
        self._frequencies, self._blink_hidden = blink[32, :16], blink[:32]

        # The second layers of the token MLPs, which `fold` multiplies into the attention.
        state = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
        self._audio_out = np.ascontiguousarray(state["audio_mlp.net.1.weight"].T)
        self._expression_out = np.zeros((width + EXPRESSION_CHANNELS, width), np.float32)
        self._expression_out[:width] = state["eye_mlp.net.1.weight"].T
        if "expression_lift.weight" in state:
            lift = state["expression_lift.weight"].T
            self._expression_out[width : width + len(lift)] = lift
        with torch.no_grad():
            self._camera = network.cam_mlp(camera).cpu().numpy()
        self._null = state["null_vector"][0, 0]

    def audio_vectors(self, features: np.ndarray) -> np.ndarray:
        """Audio vectors [n, 32] of feature windows [n, 16, C]."""
        # The first convolution: kernel 3, stride 2, a step of zeros in front.
        count, steps, channels = features.shape
        padded = np.zeros((count, steps + 1, channels), np.float32)
        padded[:, 1:] = features
        view = np.lib.stride_tricks.sliding_window_view(padded, 3, 1)
        taps = view[:, ::2].swapaxes(2, 3)  # [n, 8, 3, C]
        weight, bias = self._first
        x = _leaky(taps.reshape(count * FEATURE_WINDOW // 2, -1) @ weight + bias)
        x = x.reshape(count, -1)

        for weight, bias in self._audio_layers[:-1]:
            x = _leaky(x @ weight + bias)
        weight, bias = self._audio_layers[-1]
        return x @ weight + bias

    def tokens(self, vectors: np.ndarray, expression: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Tokens [B, 4, D] of vectors [B, 8, 32], expression [B, E] and poses int64 [B]."""
        frames, width = len(vectors), len(self._null)
        out = np.empty((frames, TOKENS, width), np.float32)

        # Audio: the audio attention's mixture of the eight vectors.
        x = vectors.reshape(frames, ATTENTION_WINDOW * AUDIO_WIDTH)
        for weight, bias in self._attention_layers[:-1]:
            x = _leaky(x @ weight + bias)
        weight, bias = self._attention_layers[-1]
        logits = (x @ weight + bias)[:, :ATTENTION_WINDOW]
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        mixed = (share[:, None] @ vectors)[:, 0]
        out[:, 0] = np.maximum(mixed @ self._audio_hidden, 0) @ self._audio_out

        # Expression: the blink by its sines and cosines, the other channels as they are.
        angle = expression[:, :1] * self._frequencies
        code = np.concatenate([np.sin(angle), np.cos(angle)], 1)
        hidden = np.zeros((frames, len(self._expression_out)), np.float32)
        hidden[:, :width] = np.maximum(code @ self._blink_hidden, 0)
        hidden[:, width : width + expression.shape[1] - 1] = expression[:, 1:]
        out[:, 1] = hidden @ self._expression_out

        out[:, 2], out[:, 3] = self._camera[poses], self._null
        return out


def _numpy(layers: list[tuple[Tensor, Tensor]]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(weight.numpy(), bias.numpy()) for weight, bias in layers]


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, x * np.float32(LEAKY_SLOPE))

"""The sound nets and token lifts of one frame on the host, in NumPy: so small that calling torch
costs more than they.

On a loaded machine torch's threads also wait for each other in every one of some sixty operators;
here one core does all in twenty products (convolutions are dense layers, see `folded`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.model.folding import CHANNELS, fold
from being.model.gaussiantalker import GaussianTalker
from being.model.tokens import AUDIO_WIDTH, LEAKY_SLOPE


class TokenNets:
    """Vectors of windows of sound, and tokens of frames, float32."""

    def __init__(self, network: GaussianTalker, camera: Tensor):
        folded = fold(network, camera)
        self._conv = folded.conv[0].flatten(0, 1).numpy(), folded.conv[1].numpy()
        self._hear, self._weigh = (
            [(weight.numpy(), bias.numpy()) for weight, bias in layers]
            for layers in (folded.hear, folded.weigh)
        )
        self._lift, blink = folded.lift.numpy(), folded.blink.numpy()
        self._frequencies, self._blink = blink[32, :16], blink[:32]
        state = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
        width = network.config.d_model
        self._sound = np.ascontiguousarray(state["audio_mlp.net.1.weight"].T)
        self._face = np.zeros((width + CHANNELS, width), np.float32)
        self._face[:width] = state["eye_mlp.net.1.weight"].T
        if "expression_lift.weight" in state:
            lift = state["expression_lift.weight"].T
            self._face[width : width + len(lift)] = lift
        with torch.no_grad():
            self._camera = network.cam_mlp(camera).cpu().numpy()
        self._null = state["null_vector"][0, 0]

    def vectors(self, features: np.ndarray) -> np.ndarray:
        """[n, 32] of windows [n, 16, C]."""
        count, steps, channels = features.shape
        padded = np.zeros((count, steps + 1, channels), np.float32)  # a step of zeros in front
        padded[:, 1:] = features
        taps = np.lib.stride_tricks.sliding_window_view(padded, 3, 1)[:, ::2].swapaxes(
            2, 3
        )  # [n, 8, 3, C]
        x = _leaky(
            taps.reshape(count * FEATURE_WINDOW // 2, -1) @ self._conv[0] + self._conv[1]
        ).reshape(count, -1)
        for weight, bias in self._hear[:-1]:
            x = _leaky(x @ weight + bias)
        return x @ self._hear[-1][0] + self._hear[-1][1]

    def tokens(self, vectors: np.ndarray, expression: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """[B, 4, D] of vectors [B, 8, 32], expression [B, E] and poses int64 [B]."""
        frames = len(vectors)
        x = vectors.reshape(frames, ATTENTION_WINDOW * AUDIO_WIDTH)
        for weight, bias in self._weigh[:-1]:
            x = _leaky(x @ weight + bias)
        logits = (x @ self._weigh[-1][0] + self._weigh[-1][1])[:, :ATTENTION_WINDOW]
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        made = np.empty((frames, 4, len(self._null)), np.float32)
        made[:, 0] = np.maximum((share[:, None] @ vectors)[:, 0] @ self._lift, 0) @ self._sound
        angle = expression[:, :1] * self._frequencies
        face = np.zeros((frames, len(self._face)), np.float32)
        face[:, : made.shape[2]] = np.maximum(
            np.concatenate([np.sin(angle), np.cos(angle)], 1) @ self._blink, 0
        )
        face[:, made.shape[2] : made.shape[2] + expression.shape[1] - 1] = expression[:, 1:]
        made[:, 1], made[:, 2], made[:, 3] = face @ self._face, self._camera[poses], self._null
        return made


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, x * np.float32(LEAKY_SLOPE))

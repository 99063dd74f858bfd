"""The coefficient net of bases in NumPy, for the CPU renderer.

It is so small that a call of torch costs more than its products (see `tokens`).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from being.data.mouth import CODE_GAIN
from being.model.bases import INPUT_LIMIT, Bases


class CoefficientNet:
    """Mouth codes, expression, pose -> coefficients; float32."""

    def __init__(self, bases: Bases, camera: Tensor):
        """camera: float32 [P, 12], the camera values of every pose."""
        self._camera = camera.cpu().numpy()
        self._mean = bases.input_mean.cpu().numpy()
        self._scale = bases.input_scale.cpu().numpy()
        self._layers = [
            (weight.detach().T.cpu().numpy(), bias.detach().cpu().numpy())
            for weight, bias in bases.layers()
        ]

    def coefficients(
        self, codes: np.ndarray, expression: np.ndarray, poses: np.ndarray
    ) -> np.ndarray:
        """Coefficients [B, K] of codes [B, M], expression [B, E] and poses int64 [B]."""
        inputs = np.concatenate([codes, expression, self._camera[poses]], 1)
        x = np.clip((inputs - self._mean) / self._scale, -INPUT_LIMIT, INPUT_LIMIT)
        for weight, bias in self._layers[:-1]:
            x = x @ weight + bias
            x = x / (1 + np.exp(-x))
        weight, bias = self._layers[-1]
        return x @ weight + bias


def codes_of_rows(rows: np.ndarray) -> np.ndarray:
    """The mouth codes [n, M] in rows of the mouth code [n, 16, M] (`data.mouth.code_rows`)."""
    return np.ascontiguousarray(rows[:, 0]) / np.float32(CODE_GAIN)

"""The coefficient net of an avatar's bases in numpy, for processes without torch.

`bases.Bases.coefficients` is the same net. B frames, K bases, M channels of the mouth code, E
expression channels, P poses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from being.model.bases import Bases

INPUT_LIMIT = 4.0  # of a normalised input: the net is not asked far outside what it has seen
STEPS = 32767  # of the largest coefficient of a frame, as it is sent


@dataclass(frozen=True)
class CoefficientNet:
    """The net, and the cameras of the poses; arrays are float32."""

    cameras: np.ndarray  # [P, 12], see `data.cameras.camera_vector`
    input_mean: np.ndarray  # [M + E + 12]
    input_scale: np.ndarray  # [M + E + 12], above 0
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # weight [out, in] and bias [out] of each

    @property
    def count(self) -> int:
        """Number of bases K."""
        return len(self.layers[-1][1])

    @property
    def code_width(self) -> int:
        """Channels of the code and of the expression together, M + E."""
        return len(self.input_mean) - self.cameras.shape[1]

    def coefficients(
        self, codes: np.ndarray, expression: np.ndarray, poses: np.ndarray
    ) -> np.ndarray:
        """The coefficients float32 [B, K] of frames.

        codes: float32 [B, M] in the units of `VoiceToMouth.codes`; expression: float32 [B, E];
        poses: int64 [B].
        """
        inputs = np.concatenate([codes, expression, self.cameras[poses]], 1)
        assert inputs.shape[1] == len(self.input_mean), (inputs.shape, len(self.input_mean))
        x = ((inputs - self.input_mean) / self.input_scale).clip(-INPUT_LIMIT, INPUT_LIMIT)
        for number, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if number + 1 < len(self.layers):
                x *= 0.5 + 0.5 * np.tanh(0.5 * x)  # SiLU
        return x.astype(np.float32, copy=False)

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        found = {
            "cameras": self.cameras,
            "input_mean": self.input_mean,
            "input_scale": self.input_scale,
        }
        for number, (weight, bias) in enumerate(self.layers):
            found |= {f"{number}.weight": weight, f"{number}.bias": bias}
        return found

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> CoefficientNet:
        """The net of the arrays of `tensors`."""
        count = sum(name.endswith(".weight") for name in tensors)
        layers = tuple((tensors[f"{k}.weight"], tensors[f"{k}.bias"]) for k in range(count))
        return cls(tensors["cameras"], tensors["input_mean"], tensors["input_scale"], layers)

    @classmethod
    def of(cls, bases: Bases, cameras: np.ndarray) -> CoefficientNet:
        """The net of an avatar's bases; cameras: float32 [P, 12] of its poses."""

        def array(value: object) -> np.ndarray:
            return value.detach().cpu().float().numpy()  # type: ignore[attr-defined,no-any-return]

        layers = tuple((array(weight), array(bias)) for weight, bias in bases.layers())
        mean, scale = array(bases.input_mean), array(bases.input_scale)
        return cls(cameras.astype(np.float32), mean, scale, layers)


def quantised(coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers int16 [B, K] of coefficients [B, K], and the step float32 [B] of each frame.

    A coefficient is step * number; the largest of a frame is STEPS steps.
    """
    largest = np.maximum(np.abs(coefficients).max(1), np.float32(1e-12))
    step = (largest / np.float32(STEPS)).astype(np.float32)
    numbers = np.rint(coefficients / step[:, None]).clip(-STEPS, STEPS)
    return numbers.astype(np.int16), step

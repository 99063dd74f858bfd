"""Whether two pictures show the same person: the 128 numbers of dlib's face-recognition network, in
torch.

The network is a ResNet of 29 convolutions trained by dlib's author on about 3 million faces (public
domain); two pictures of one person lie under 0.6 apart (99.38 % right on Labeled Faces in the Wild,
by its author). The face is cut out by five landmarks as dlib does it, taken from ours.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch, is_cached
from being.errors import EnvironmentFault
from being.eval.faces import SIDE
from being.files import load_tensors

ASSET = "dlib_face"
CHIP, PADDING = 150, 0.25  # px a side of the cut-out; its margin over the unit square of PLACES
SAME_PERSON = 0.6  # distance
MEAN = (122.782, 117.001, 104.298)  # levels of red, green, blue
LEVELS = 256.0
# Eye corners (outer, inner of the left, then of the right) and the nose's base: our landmarks;
# their places in dlib.
FIVE = (263, 362, 33, 133, 2)
PLACES = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
BLOCKS = (
    32,
    32,
    32,
    64,
    64,
    64,
    64,
    128,
    128,
    128,
    256,
    256,
    256,
    256,
)  # channels; more than before: side halved


class Identity:
    """The network, loaded; raises EnvironmentFault when its weights are not in the cache and not to
    be downloaded.
    """

    def __init__(self, download: bool = False):
        if not download and not is_cached(ASSET):
            raise EnvironmentFault(
                "identity is not measured",
                "the face-recognition network is not here yet",
                "being eval --identity fetches it (100 MB, once)",
            )
        self.weights = load_tensors(fetch(ASSET))

    def code(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        """128 numbers float32 of the face in a picture uint8 [H, W, 3] RGB.

        points: its landmarks float [478, 2 or 3] in px of a picture whose shorter side is 512, as
        `FaceReader` gives.
        """
        return self.codes(
            chip(picture, points[list(FIVE), :2] * (min(picture.shape[:2]) / SIDE))[None]
        )[0]

    @torch.no_grad()
    def codes(self, chips: np.ndarray) -> np.ndarray:
        """float32 [B, 128] of cut-outs uint8 [B, 150, 150, 3] RGB."""
        assert chips.shape[1:] == (CHIP, CHIP, 3) and chips.dtype == np.uint8, (
            chips.shape,
            chips.dtype,
        )
        x = (torch.from_numpy(chips).float() - torch.tensor(MEAN)).permute(0, 3, 1, 2) / LEVELS
        x = F.max_pool2d(F.relu(self._convolved(x, 0, 2)), 3, 2)
        for k, width in enumerate(BLOCKS):
            halved = width != x.shape[1] or k == len(BLOCKS) - 1
            y = self._convolved(
                F.relu(self._convolved(x, 2 * k + 1, 2 if halved else 1)), 2 * k + 2, 1
            )
            x = F.relu(_added(y, F.avg_pool2d(x, 2, 2) if halved else x))
        return (x.mean((2, 3)) @ self.weights["fc.weight"]).numpy()

    def _convolved(self, x: Tensor, k: int, stride: int) -> Tensor:
        """Convolution k with its scale and shift; dlib pads where the stride is 1 only."""
        weight = self.weights[f"conv{k}.weight"]
        y = F.conv2d(
            x,
            weight,
            self.weights[f"conv{k}.bias"],
            stride,
            weight.shape[-1] // 2 if stride == 1 else 0,
        )
        return (
            y * self.weights[f"scale{k}"][:, None, None] + self.weights[f"shift{k}"][:, None, None]
        )


def _added(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two tensors [B, C, H, W] of different sizes: what one lacks at its ends is zero
    (dlib's add_prev).
    """
    size = [max(m, n) for m, n in zip(a.shape[1:], b.shape[1:], strict=True)]
    one, other = (
        F.pad(
            t,
            [e for n, m in zip(size[::-1], reversed(t.shape[1:]), strict=True) for e in (0, n - m)],
        )
        for t in (a, b)
    )
    return one + other


def chip(picture: np.ndarray, five: np.ndarray) -> np.ndarray:
    """The face turned upright and cut out, uint8 [150, 150, 3]; five: float [5, 2] px of `picture`,
    as FIVE orders.
    """
    places = (PLACES + PADDING) / (2 * PADDING + 1) * CHIP
    middle, aim = five.mean(0), places.mean(0)
    one, other = five.astype(np.float64) - middle, places - aim
    along, across = (one * other).sum(), (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).sum()
    matrix = (
        np.array([[along, -across, 0], [across, along, 0]]) / (one**2).sum()
    )  # least squares (Umeyama 1991)
    matrix[:, 2] = aim - matrix[:, :2] @ middle
    return cv2.warpAffine(
        picture, matrix, (CHIP, CHIP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )

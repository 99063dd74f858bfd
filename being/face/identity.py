"""Identity distance of two faces: the 128-number descriptor of dlib's face-recognition network.

The network is a ResNet of 29 convolutions. Its author trained it on about 3 million faces and put
it into the public domain. Descriptors of one person are less than 0.6 apart (99.38 % right on
Labeled Faces in the Wild, by its author). The face is aligned by five landmarks as dlib does it.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from being.assets import fetch, is_cached
from being.errors import EnvironmentFault
from being.face.face_reader import LANDMARK_SIDE
from being.reading.tensors import load_tensors

ASSET = "dlib_face"
CHIP_SIDE = 150  # px: side of the aligned face ("chip" in dlib)
CHIP_PADDING = 0.25  # margin of the chip, in sides of the unit square of CHIP_POSITIONS
SAME_PERSON = 0.6  # distance
MEAN_LEVELS = (122.782, 117.001, 104.298)  # of red, green, blue
LEVELS = 256.0
# The five landmarks: corners of the left eye (outer, inner), then of the right eye (outer, inner),
# and the base of the nose; and their positions in dlib's unit square.
CHIP_LANDMARKS = (263, 362, 33, 133, 2)
CHIP_POSITIONS = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
# Channels of the residual blocks. A block with more channels than the one before halves the sides.
BLOCK_CHANNELS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)


class Identity:
    """The face-recognition network with its weights.

    Raises EnvironmentFault when the weights are not in the cache and `download` is not set.
    """

    def __init__(self, download: bool = False):
        if not download and not is_cached(ASSET):
            raise EnvironmentFault(
                "identity is not measured",
                "the face-recognition network is not in the cache",
                "being eval --identity downloads it (100 MB, once)",
            )
        self.weights = load_tensors(fetch(ASSET))

    def descriptor(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Descriptor float32 [128] of the face in an image uint8 [H, W, 3] RGB.

        points: landmarks of the face, float [478, 2 or 3], in px of an image whose shorter side is
        512, as `FaceReader` returns them.
        """
        scale = min(image.shape[:2]) / LANDMARK_SIDE
        chip = face_chip(image, points[list(CHIP_LANDMARKS), :2] * scale)
        return self.descriptors(chip[None])[0]

    @torch.no_grad()
    def descriptors(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors float32 [B, 128] of face chips uint8 [B, 150, 150, 3] RGB."""
        assert chips.shape[1:] == (CHIP_SIDE, CHIP_SIDE, 3), chips.shape
        assert chips.dtype == np.uint8, chips.dtype
        x = torch.from_numpy(chips).float() - torch.tensor(MEAN_LEVELS)
        x = x.permute(0, 3, 1, 2) / LEVELS
        x = F.max_pool2d(F.relu(self._convolution(x, 0, 2)), 3, 2)
        for k, channels in enumerate(BLOCK_CHANNELS):
            halved = channels != x.shape[1] or k == len(BLOCK_CHANNELS) - 1
            y = F.relu(self._convolution(x, 2 * k + 1, 2 if halved else 1))
            y = self._convolution(y, 2 * k + 2, 1)
            x = F.relu(_padded_sum(y, F.avg_pool2d(x, 2, 2) if halved else x))
        return (x.mean((2, 3)) @ self.weights["fc.weight"]).numpy()

    def _convolution(self, x: Tensor, k: int, stride: int) -> Tensor:
        """Convolution `k` with its scale and shift. dlib pads only where the stride is 1."""
        weight, bias = self.weights[f"conv{k}.weight"], self.weights[f"conv{k}.bias"]
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        y = F.conv2d(x, weight, bias, stride, padding)
        scale, shift = self.weights[f"scale{k}"], self.weights[f"shift{k}"]
        return y * scale[:, None, None] + shift[:, None, None]


def _padded_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two tensors [B, C, H, W] of different sizes; each is padded at its ends with zeros
    (dlib's add_prev).
    """
    size = [max(m, n) for m, n in zip(a.shape[1:], b.shape[1:], strict=True)]

    def padded(tensor: Tensor) -> Tensor:
        padding = []
        # F.pad takes the last axis first.
        for wanted, own in zip(reversed(size), reversed(tensor.shape[1:]), strict=True):
            padding += [0, wanted - own]
        return F.pad(tensor, padding)

    return padded(a) + padded(b)


def face_chip(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The upright, aligned face uint8 [150, 150, 3].

    landmarks: float [5, 2] px of `image`, in the order of CHIP_LANDMARKS.
    """
    target = (CHIP_POSITIONS + CHIP_PADDING) / (2 * CHIP_PADDING + 1) * CHIP_SIDE
    own_centre, target_centre = landmarks.mean(0), target.mean(0)
    own = landmarks.astype(np.float64) - own_centre
    target = target - target_centre

    # The similarity transform of least squares (Umeyama 1991).
    along = (own * target).sum()
    across = (own[:, 0] * target[:, 1] - own[:, 1] * target[:, 0]).sum()
    matrix = np.array([[along, -across, 0], [across, along, 0]]) / (own**2).sum()
    matrix[:, 2] = target_centre - matrix[:, :2] @ own_centre
    return cv2.warpAffine(
        image,
        matrix,
        (CHIP_SIDE, CHIP_SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )

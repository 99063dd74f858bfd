"""Colour histograms of hair, skin, cloth and background, measured over a clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import CHIN, FACE_OVAL
from being.preprocess.segmentation.jawline import FaceAxes
from being.preprocess.segmentation.soft_edge import dilate

HAIR, SKIN, CLOTH, BEHIND = range(4)
UNKNOWN_COLOUR = -9.0  # log-likelihood of a colour bin by chance
BINS = (12, 24, 24)  # of lightness, a, b
# Range of 8-bit lightness, a and b that the bins divide: lowest value, and span.
BIN_LOW, BIN_SPAN = (0, 80, 80), (256, 96, 96)
# Share of the throat's colours in those of skin, because skin below the chin lies in the shade.
THROAT_SHARE = 0.3


@dataclass(frozen=True)
class PartColours:
    """Log-likelihood of every colour in hair, skin, cloth and background."""

    table: np.ndarray  # float32 [4, bins]

    @classmethod
    def from_clip(
        cls, images: list[np.ndarray], masks: list[np.ndarray], positions: np.ndarray
    ) -> PartColours:
        """The colours of N frames.

        images: uint8 [H, W, 3] RGB each. masks: person, float32 [H, W] in [0, 1] each. positions:
        landmarks float [N, 478, 2] px.
        """
        counts = np.full((5, int(np.prod(BINS))), 1e-3, np.float32)
        for image, mask, position in zip(images, masks, positions, strict=True):
            _count(counts, image, mask, position)
        shares = counts / counts.sum(1, keepdims=True)
        shares[SKIN] = (1 - THROAT_SHARE) * shares[SKIN] + THROAT_SHARE * shares[4]
        smooth = np.stack([_smooth(row) for row in shares[:4]])
        return cls(np.log(smooth / smooth.sum(1, keepdims=True)).astype(np.float32))

    def log_likelihoods(self, image: np.ndarray) -> np.ndarray:
        """Log-likelihoods float32 [4, H, W] of an image uint8 [H, W, 3] RGB."""
        return self.table[:, _bins(image)]

    def person_probability(self, colours: np.ndarray) -> np.ndarray:
        """Probability float32 [N] that colours uint8 [N, 3] RGB are the person's.

        The alternative is the background.
        """
        scores = np.maximum(self.table[:, _bins(colours[None])[0]], UNKNOWN_COLOUR)
        return 1 / (1 + np.exp(scores[BEHIND] - scores[:BEHIND].max(0)))


def _count(counts: np.ndarray, image: np.ndarray, mask: np.ndarray, position: np.ndarray) -> None:
    """Add one frame to the histograms [5, bins] of hair, skin, cloth, background and throat."""
    height, width = image.shape[:2]
    face = FaceAxes.from_landmarks(position)
    across, down = face.coordinates(height, width)
    oval = face.oval(height, width)
    chin = float((position[CHIN] - face.centre) @ face.down)
    top = float((position[FACE_OVAL[0]] - face.centre) @ face.down)
    person = mask > 0.9

    # Areas that surely belong to one part.
    cheeks = oval & (np.abs(across) < 0.33 * face.width) & (down > 0.5 * top) & (down < 0.9 * chin)
    crown = person & ~oval & (down < 0.5 * top) & ~dilate(oval, 0.07 * face.height)
    cloth = person & (down > chin + 0.35 * face.height)
    cloth |= person & (down > chin) & (np.abs(across) > 0.75 * face.width)

    # The throat has the hue of the cheeks, in the shade; a collar has another.
    throat = person & (down > chin + 0.03 * face.height) & (down < chin + 0.1 * face.height)
    throat &= np.abs(across) < 0.2 * face.width
    hue = image / np.maximum(image.sum(-1, keepdims=True, dtype=np.float32), 1)
    skin = np.median(hue[cheeks], 0) if cheeks.any() else np.full(3, 1 / 3)
    throat &= np.linalg.norm(hue - skin, axis=-1) < 0.5 * np.linalg.norm(skin - 1 / 3)

    bins = _bins(image)
    for row, part in enumerate((crown, cheeks, cloth, mask < 0.02, throat)):
        counts[row] += np.bincount(bins[part], minlength=counts.shape[1])


def _bins(image: np.ndarray) -> np.ndarray:
    """Colour bin int32 [H, W] of an image uint8 [H, W, 3] RGB."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    channels = []
    for c in range(3):
        index = (np.arange(256) - BIN_LOW[c]) * BINS[c] // BIN_SPAN[c]
        lookup = np.minimum(index, BINS[c] - 1).clip(0).astype(np.uint8)
        channels.append(cv2.LUT(lab[..., c], lookup))
    lightness, a, b = channels
    stride = (BINS[1] * BINS[2], BINS[2])
    return lightness.astype(np.int32) * stride[0] + a.astype(np.int32) * stride[1] + b


def _smooth(shares: np.ndarray) -> np.ndarray:
    """A histogram [bins], smoothed over neighbouring colours."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(shares.reshape(BINS), (1.5, 1.0, 1.0)).ravel() + 1e-5 / shares.size

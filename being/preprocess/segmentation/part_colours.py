"""The colours of hair, skin, cloth and background, learned over a clip as histograms."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import CHIN, FACE_OVAL
from being.preprocess.segmentation.jawline import Face
from being.preprocess.segmentation.soft_edge import grown

HAIR, SKIN, CLOTH, BEHIND = range(4)
UNKNOWN_COLOUR = -9.0  # log-likelihood of a colour bin by chance
BINS = (12, 24, 24)  # of lightness, a, b
THROAT_SHARE = 0.3  # of the skin's colours: below the chin it lies in the shade


@dataclass(frozen=True)
class PartColours:
    """Log-likelihood of every colour in hair, skin, cloth and background."""

    table: np.ndarray  # float32 [4, bins]

    @classmethod
    def learn(
        cls, pictures: list[np.ndarray], masks: list[np.ndarray], positions: np.ndarray
    ) -> PartColours:
        """From pictures uint8 [H, W, 3] RGB, person masks float32 [H, W] in [0, 1], landmarks float
        [N, 478, 2] px.
        """
        counts = np.full((5, int(np.prod(BINS))), 1e-3, np.float32)
        for picture, mask, position in zip(pictures, masks, positions, strict=True):
            _count(counts, picture, mask, position)
        shares = counts / counts.sum(1, keepdims=True)
        shares[SKIN] = (1 - THROAT_SHARE) * shares[SKIN] + THROAT_SHARE * shares[4]
        smooth = np.stack([_smooth(row) for row in shares[:4]])
        return cls(np.log(smooth / smooth.sum(1, keepdims=True)).astype(np.float32))

    def scores(self, picture: np.ndarray) -> np.ndarray:
        """Log-likelihoods float32 [4, H, W] of a picture uint8 [H, W, 3] RGB."""
        return self.table[:, _bins(picture)]

    def person(self, pixels: np.ndarray) -> np.ndarray:
        """Probability float32 [N] that pixels uint8 [N, 3] RGB are of the person and not of the
        background.
        """
        scores = np.maximum(self.table[:, _bins(pixels[None])[0]], UNKNOWN_COLOUR)
        return 1 / (1 + np.exp(scores[BEHIND] - scores[:BEHIND].max(0)))


def _count(counts: np.ndarray, picture: np.ndarray, mask: np.ndarray, position: np.ndarray) -> None:
    """Add one frame's pixels to the histograms of hair, skin, cloth, background and throat."""
    person = mask > 0.9
    height, width = picture.shape[:2]
    face = Face.of(position)
    bins = _bins(picture)
    across, down = face.coordinates(height, width)
    oval = face.oval(height, width)
    chin = float((position[CHIN] - face.centre) @ face.down)
    top = float((position[FACE_OVAL[0]] - face.centre) @ face.down)
    cheeks = oval & (np.abs(across) < 0.33 * face.width) & (down > 0.5 * top) & (down < 0.9 * chin)
    crown = person & ~oval & (down < 0.5 * top) & ~grown(oval, 0.07 * face.height)
    cloth = person & (down > chin + 0.35 * face.height)
    cloth |= person & (down > chin) & (np.abs(across) > 0.75 * face.width)
    throat = person & (down > chin + 0.03 * face.height) & (down < chin + 0.1 * face.height)
    throat &= np.abs(across) < 0.2 * face.width
    tint = picture / np.maximum(picture.sum(-1, keepdims=True, dtype=np.float32), 1)
    skin = np.median(tint[cheeks], 0) if cheeks.any() else np.full(3, 1 / 3)
    throat &= np.linalg.norm(tint - skin, axis=-1) < 0.5 * np.linalg.norm(
        skin - 1 / 3
    )  # shaded skin, and no collar
    for row, part in enumerate((crown, cheeks, cloth, mask < 0.02, throat)):
        counts[row] += np.bincount(bins[part], minlength=counts.shape[1])


def _bins(picture: np.ndarray) -> np.ndarray:
    """Colour bin int32 [H, W] of a picture uint8 [H, W, 3] RGB."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    stride = (BINS[1] * BINS[2], BINS[2], 1)
    lightness, a, b = (
        cv2.LUT(lab[..., c], step)
        for c, step in enumerate(
            (
                np.minimum((np.arange(256) - low) * n // span, n - 1).clip(0).astype(np.uint8)
                for n, low, span in zip(BINS, (0, 80, 80), (256, 96, 96), strict=True)
            )
        )
    )
    return lightness.astype(np.int32) * stride[0] + a.astype(np.int32) * stride[1] + b


def _smooth(shares: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(shares.reshape(BINS), (1.5, 1.0, 1.0)).ravel() + 1e-5 / shares.size

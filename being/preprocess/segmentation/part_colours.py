"""Colour histograms of hair, skin, cloth and background, measured over a clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import CHIN, FACE_OVAL
from being.preprocess.segmentation.jawline import FaceAxes
from being.preprocess.segmentation.label_cleanup import touching_components
from being.preprocess.segmentation.soft_edge import dilate, disc

HAIR, SKIN, CLOTH, BEHIND = range(4)
UNKNOWN_COLOUR = -9.0  # log-likelihood of a colour bin by chance
BINS = (12, 24, 24)  # of lightness, a, b
# Range of 8-bit lightness, a and b that the bins divide: lowest value, and span.
BIN_LOW, BIN_SPAN = (0, 80, 80), (256, 96, 96)
# Hair's share of a colour over skin's, and least share, from which the colour is that of hair.
HAIR_OVER_SKIN, HAIR_SHARE_MIN = 3.0, 2e-4
# Share of what is below the chin, up to which things of the hair's colour are hair: more is cloth.
HANGING_MAX = 0.75
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
        frames = list(zip(images, masks, positions, strict=True))
        for image, mask, position in frames:
            _count(counts, image, mask, position)

        # Hair that hangs over the cloth is no cloth.
        hair = _smooth(counts[HAIR] / counts[HAIR].sum())
        skin = _smooth(counts[SKIN] / counts[SKIN].sum())
        like_hair = (hair > HAIR_OVER_SKIN * skin) & (hair > HAIR_SHARE_MIN)
        hanging = [_hanging(like_hair, *frame) for frame in frames]
        below = sum(_below_chin(*frame).sum() for frame in frames)
        if sum(area.sum() for area in hanging) < HANGING_MAX * below:
            counts[CLOTH] = 1e-3
            for frame, area in zip(frames, hanging, strict=True):
                _add(counts[CLOTH], frame[0], _below_chin(*frame) & ~area)
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
    cloth = _below_chin(image, mask, position)

    # The throat has the hue of the cheeks, in the shade; a collar has another.
    throat = person & (down > chin + 0.03 * face.height) & (down < chin + 0.1 * face.height)
    throat &= np.abs(across) < 0.2 * face.width
    hue = image / np.maximum(image.sum(-1, keepdims=True, dtype=np.float32), 1)
    skin = np.median(hue[cheeks], 0) if cheeks.any() else np.full(3, 1 / 3)
    throat &= np.linalg.norm(hue - skin, axis=-1) < 0.5 * np.linalg.norm(skin - 1 / 3)

    for row, part in enumerate((crown, cheeks, cloth, mask < 0.02, throat)):
        _add(counts[row], image, part)


def _below_chin(image: np.ndarray, mask: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Cloth, and hair that hangs over it, bool [H, W]."""
    face = FaceAxes.from_landmarks(position)
    across, down = face.coordinates(*image.shape[:2])
    chin = float((position[CHIN] - face.centre) @ face.down)
    low = (down > chin + 0.35 * face.height) | (
        (down > chin) & (np.abs(across) > 0.75 * face.width)
    )
    return (mask > 0.9) & low


def _hanging(
    like_hair: np.ndarray, image: np.ndarray, mask: np.ndarray, position: np.ndarray
) -> np.ndarray:
    """What has the colour of hair below the chin, and hangs together with hair beside the face.

    bool [H, W]. like_hair: bool [bins].
    """
    face = FaceAxes.from_landmarks(position)
    height, width = image.shape[:2]
    across, down = face.coordinates(height, width)
    hair = (mask > 0.9) & like_hair[_bins(image)] & ~face.oval(height, width)
    hair = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, disc(0.012 * face.height))
    beside = (np.abs(down - face.ear_level) < 0.06 * face.height) & (
        np.abs(across) < 1.1 * face.width
    )
    low = hair * (down > face.ear_level - 0.06 * face.height)
    return touching_components(low, beside) & _below_chin(image, mask, position)


def _add(counts: np.ndarray, image: np.ndarray, part: np.ndarray) -> None:
    """Count the colours of the pixels `part` bool [H, W] in a histogram [bins]."""
    counts += np.bincount(_bins(image)[part], minlength=len(counts))


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

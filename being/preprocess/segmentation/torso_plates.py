"""Torso plates: the torso of each frame without the head, filled in where the head hides it.

Other systems of the family fill the strip behind the chin with streaks of the colours below it.
Here most of that strip is visible in some frames of the clip. `TorsoPlates.from_clip` keeps the
median colour of neck and torso at every pixel, and continues it where the head always hides it.
The plate of a frame takes its hidden part from there. This part is moved with the torso and matched
to the colours along the visible edge in that frame (the smooth membrane of Perez et al. 2003,
"Poisson image editing", solved by a pyramid). So there is no seam, and no jump between frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO
from being.preprocess.segmentation.background import (
    MIN_FRAMES,
    PLATE_FRAMES,
    Labels,
    membrane,
    sample_frames,
)
from being.preprocess.segmentation.torso_alignment import align_to_middle, torso_motion

VISIBLE_SHARE = 0.02  # of the frames: a pixel that is torso in fewer is an error of the masks
STRIP = 0.30  # of the face height: how far neck and torso continue behind the head
# At 512: the edge of the torso along the head that has the head's colour, because the cut between
# them runs outside the jaw.
RIM_PX = 1.0
# At 512: pixels nearer to the head than this do not count for the clip's torso, because the jaw
# can reach beyond the cut.
HEAD_CLEAR_PX = 5.0
# Grey levels between the visible edge of a frame and the clip's torso. A larger difference is
# another object, not other light.
MAX_CHANGE = 40.0
EDGE_PX = 3.0  # at 512: the torso's soft outline, which is copied from the frame
# At 512: where the clip's torso contradicts the visible edge, that edge is continued this far.
RIM_REACH_PX = 10.0
# At 512: pixels that are filled from farther away than this are blurred by as much.
BLUR_PX = (4.0, 12.0)


@dataclass(frozen=True)
class TorsoPlates:
    """The clip's torso without the head: the source of what the head hides in each frame."""

    # float32 [H, W, 3] RGB, complete inside `inside` and wherever a head was near it.
    colour: np.ndarray
    inside: np.ndarray  # bool [H, W]: neck and torso, continued behind the head
    # bool [H, W]: neck or torso in nearly every frame; this area is aligned between frames.
    always: np.ndarray
    strip: int  # px: how far neck and torso continue behind the head
    scale: float  # image height / 512

    @classmethod
    def from_clip(
        cls,
        frames: Sequence[np.ndarray],
        labels: Labels,
        face_height: float,
        count: int = PLATE_FRAMES,
    ) -> TorsoPlates:
        """The torso of a clip, from `count` of its frames.

        frames: uint8 [H, W, 3] RGB each. labels(i): uint8 [H, W]. face_height: px, brow to chin.
        """
        chosen = sample_frames(len(frames), count)
        images, parts = align_to_middle(
            [frames[i] for i in chosen], [labels(i) for i in chosen], TORSO
        )
        scale = images.shape[1] / 512

        # Pixels of the torso that are clear of the head and of the background, in each frame.
        body = (parts == NECK) | (parts == TORSO)
        off_rim = np.stack([_away_from(part, HEAD, RIM_PX * scale) for part in parts])
        clear = body & np.stack([_away_from(part, HEAD, HEAD_CLEAR_PX * scale) for part in parts])
        clear &= np.stack([_away_from(part, BACKGROUND, 2 * EDGE_PX * scale) for part in parts])

        # A pixel belongs to the torso if it is torso in most frames in which no head hides it.
        votes = body.sum(0) / np.maximum((parts != HEAD).sum(0), 1)
        visible = (votes > 0.5) & (body.mean(0) > VISIBLE_SHARE)

        # Median colour, one row at a time, because a masked median needs much memory.
        colour = np.zeros(images.shape[1:], np.float32)
        known = (clear.sum(0) >= min(MIN_FRAMES, len(chosen))) & visible
        for row in np.flatnonzero(known.any(1)):
            columns = known[row]
            values = np.where(clear[:, row, columns, None], images[:, row, columns], np.nan)
            colour[row, columns] = np.nanmedian(values.astype(np.float32), 0)

        # Continue area and colours behind the head.
        strip = round(STRIP * face_height)
        inside = _continue_upward(visible, (parts == HEAD).mean(0) > 0.5, strip)
        reach = (parts == HEAD).any(0) | body.any(0)
        reach[: max(int(np.argmax(inside.any(1))) - strip, 0)] = False
        colour = _continue_colours(colour, known, inside | reach)
        return cls(colour, inside, (body & off_rim).mean(0) > 0.95, strip, scale)

    def plate(self, frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Torso of one frame uint8 [H, W, 4] RGBA, alpha 0 or 255, RGB zero where alpha is 0.

        frame: uint8 [H, W, 3] RGB; labels: uint8 [H, W] of that frame.
        """
        # The visible torso: neck and torso off the head's edge, and their soft outline.
        head, body = labels == HEAD, (labels == NECK) | (labels == TORSO)
        square = np.ones((2 * round(EDGE_PX * self.scale) + 1,) * 2, np.uint8)
        outline = cv2.dilate(body.astype(np.uint8), square) > 0
        distance = cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 3)
        outline &= (labels == BACKGROUND) & (distance > (RIM_PX + EDGE_PX) * self.scale)
        own = outline | (body & (distance > RIM_PX * self.scale))

        # The hidden torso.
        colour, inside = self._aligned(frame, own)
        inside = inside | _continue_upward(body, head, self.strip)
        hidden = (head | (body & ~own)) & (inside | body)

        plate = np.zeros((*labels.shape, 4), np.uint8)
        plate[own, :3] = frame[own]
        plate[own, 3] = 255
        if hidden.any():
            rows, columns = _box(hidden, round(16 * self.scale))
            near = (own & _away_from(labels, BACKGROUND, 2 * EDGE_PX * self.scale))[rows, columns]
            painted = _painted(
                frame[rows, columns], colour[rows, columns], near, inside[rows, columns], self.scale
            )
            here = hidden[rows, columns]
            plate[rows, columns, :3][here] = painted[here]
            plate[rows, columns, 3][here] = 255
        return plate

    def _aligned(self, frame: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The clip's torso moved onto this frame's: colour float32 [H, W, 3], area bool [H, W]."""
        matrix = torso_motion(self.colour, frame, (self.always & own).astype(np.uint8))
        if matrix is None:
            return self.colour, self.inside
        size, border = own.shape[::-1], cv2.BORDER_REPLICATE
        colour = cv2.warpAffine(self.colour, matrix, size, borderMode=border)
        inside = cv2.warpAffine(
            self.inside.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST, borderMode=border
        )
        return colour, inside > 0


def composite_plate(plate: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A plate uint8 [H, W, 4] RGBA with alpha 0 or 255 over a background uint8 [H, W, 3]."""
    return np.where(plate[..., 3:] > 0, plate[..., :3], background)


def _painted(
    frame: np.ndarray, colour: np.ndarray, near: np.ndarray, inside: np.ndarray, scale: float
) -> np.ndarray:
    """Colours uint8 [H, W, 3] of the hidden torso: the clip's torso matched to this frame.

    frame: uint8 [H, W, 3]. colour: float32 [H, W, 3], the clip's torso. near: bool [H, W], the
    visible torso. inside: bool [H, W], where `colour` is torso. Where the visible edge contradicts
    the clip's torso, the edge is continued instead.
    """
    # Difference of light: its median, and near the edge a smooth surface through it.
    change = frame - colour
    agrees = near & inside & (np.abs(change).max(-1) < MAX_CHANGE)
    light = np.median(change[agrees], 0) if agrees.any() else np.zeros(3, np.float32)
    distance, nearest = _nearest(near)
    fade = np.exp(-np.square(distance / (RIM_REACH_PX * scale)))
    painted = colour + light + fade[..., None] * (_smooth_change(change, agrees) - light)

    if near.any():
        # How far the nearest visible pixel contradicts the clip's torso, as a share.
        rim = _flat_index(nearest, near)[nearest]
        difference = np.abs(change).max(-1).reshape(-1)[rim]
        size = 2 * round(2 * scale) + 1
        share = np.clip(2 * difference / MAX_CHANGE - 1, 0, 1) * fade
        share = cv2.blur(share.astype(np.float32), (size, size))[..., None]

        # The denoised colour of the nearest visible pixel.
        weight = near.astype(np.float32)[..., None]
        total = np.maximum(cv2.blur(weight, (size, size)), 1e-3)[..., None]
        denoised = cv2.blur(frame * weight, (size, size)) / total
        continued = cv2.blur(denoised.reshape(-1, 3)[rim], (size, size))
        painted = painted + share * (continued - painted)
    return (painted + 0.5).clip(0, 255).astype(np.uint8)


def _nearest(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance float32 [H, W] px to the nearest pixel of a mask, and that pixel's number."""
    return cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )


def _flat_index(nearest: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Flat image index int64 of each pixel number of `_nearest`."""
    index = np.zeros(int(nearest.max()) + 1, np.int64)
    index[nearest[mask]] = np.flatnonzero(mask)
    return index


def _smooth_change(change: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A smooth surface float32 [H, W, 3] through `change` where it is known bool [H, W].

    It is computed at a quarter of the size, so that the camera's noise on the edge is not carried
    inward.
    """
    size = ((known.shape[1] + 3) // 4, (known.shape[0] + 3) // 4)
    weight = known.astype(np.float32)
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(change * weight[..., None], size, interpolation=cv2.INTER_AREA)
    smooth = membrane(total / np.maximum(small_weight, 1e-6)[..., None], small_weight > 0.2)
    return cv2.resize(smooth, known.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _away_from(labels: np.ndarray, part: int, distance: float) -> np.ndarray:
    """bool [H, W]: the pixels farther than `distance` px from a part."""
    return cv2.distanceTransform((labels != part).astype(np.uint8), cv2.DIST_L2, 3) > distance


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the box of a mask bool [H, W] with a margin in px."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )


def _continue_upward(visible: np.ndarray, head: np.ndarray, height: int) -> np.ndarray:
    """`visible` bool [H, W], with the columns that end under the head continued into the head.

    All columns end at one row, `height` px above the lowest point of the jaw, so that the strip has
    a straight top.
    """
    tops = np.argmax(visible, 0)
    columns = np.flatnonzero(visible.any(0) & (tops > 0))
    columns = columns[head[tops[columns] - 1, columns]]
    inside = visible.copy()
    if len(columns):
        end = max(int(tops[columns].max()) - height, 0)
        for column in columns:
            inside[end : tops[column], column] |= head[end : tops[column], column]
    return inside


def _continue_colours(colour: np.ndarray, known: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`colour` float32 [H, W, 3], with the unknown rest of `inside` filled.

    A pixel takes the colour of the nearest known one, and is blurred more with its distance. So
    collars and the sides of the neck continue in their direction, without streaks.
    """
    wanted = inside & ~known
    if not wanted.any() or not known.any():
        return colour
    scale = colour.shape[0] / 512
    distance, nearest = _nearest(known)
    filled = colour.reshape(-1, 3)[_flat_index(nearest, known)[nearest]]
    result = filled
    for radius in BLUR_PX:
        share = np.clip(distance / (radius * scale) - 0.5, 0, 1)[..., None]
        result = result + share * (cv2.GaussianBlur(filled, (0, 0), radius * scale) - result)
    return np.where(wanted[..., None], result, colour)

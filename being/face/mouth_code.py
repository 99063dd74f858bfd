"""The mouth code: 16 numbers that say what a mouth does in a frame, the same for every person.

The first 14 are lengths after head pose (`head_frame`), in cm of the canonical face; the last two
are areas of teeth and tongue, relative to the squared distance of the outer eye corners.
`MouthUnits` brings them to the person's own range: 0 is the person's closed mouth at rest, and one
unit is the channel's range in the footage (2nd to 98th percentile). So a code of 0 is neutral for
everybody, and 1 in `lip_opening` is about as far open as this person ever is.

Every number grows in the direction of its name: `upper_lip` is higher, `lower_lip` and `jaw_open`
are lower on the face, `corner_height` is higher, a protrusion is farther out of the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from being.face.topology import CHIN, EYE_OUTER_LEFT, EYE_OUTER_RIGHT, INNER_LIPS

MOUTH_CHANNELS = (
    "lip_opening",  # between the inner edges of the lips, middle
    "opening_area",  # square root of the area inside the lips
    "lip_width",  # between the outer corners
    "inner_width",  # between the inner corners
    "upper_lip",  # height of the upper lip's inner edge above the nose
    "lower_lip",  # how far the lower lip's inner edge is below the nose
    "jaw_open",  # how far the chin is below the nose
    "corner_height",  # mean height of the corners
    "upper_protrusion",  # how far the upper lip stands out before the corners
    "lower_protrusion",  # the same of the lower lip
    "upper_thickness",  # of the red of the upper lip
    "lower_thickness",  # of the red of the lower lip
    "corner_skew",  # how much higher the person's left corner is
    "lower_roll",  # distance of the lower lip's outer edge from the chin
    "teeth",  # square root of the visible area of teeth
    "tongue",  # square root of the visible lit area inside the lips that is no tooth
)
LENGTHS = len(MOUTH_CHANNELS) - 2  # channels that come from landmarks alone
NOSE, LIP_TOP, LIP_BOTTOM, CORNER_RIGHT, CORNER_LEFT = 2, 0, 17, 61, 291
INNER_TOP, INNER_BOTTOM, INNER_RIGHT, INNER_LEFT = 13, 14, 78, 308
RANGE_PERCENTILES = (2.0, 98.0)
# Smallest range of a channel, in its own unit: a channel that hardly moves is not amplified.
LEAST_RANGE = 0.1
# Frames with an opening below this share of its range, above its low end, show the closed mouth.
CLOSED_SHARE = 0.15
LEAST_CLOSED = 5  # frames; with fewer, the frames with the smallest openings count as closed


@dataclass(frozen=True)
class MouthUnits:
    """A person's neutral mouth and ranges: code = (measure - neutral) / span, all of length K."""

    names: tuple[str, ...]
    neutral: np.ndarray  # float32 [K], measures of the closed mouth
    span: np.ndarray  # float32 [K], above 0
    least: np.ndarray  # float32 [K], lowest code of the footage (1st percentile)
    most: np.ndarray  # float32 [K], highest code of the footage (99th percentile)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, measures: np.ndarray, found: np.ndarray) -> MouthUnits:
        """The units of a clip's measures [F, K]; found: bool [F], the frames with a face."""
        seen = measures[found]
        low, high = np.percentile(seen, RANGE_PERCENTILES, axis=0)
        span = np.maximum(high - low, LEAST_RANGE)
        opening = seen[:, 0]
        closed = opening <= low[0] + CLOSED_SHARE * (high[0] - low[0])
        if closed.sum() < LEAST_CLOSED:
            closed = opening <= np.sort(opening)[min(LEAST_CLOSED, len(opening)) - 1]
        neutral = np.median(seen[closed], 0)
        codes = (seen - neutral) / span
        least, most = np.percentile(codes, (1, 99), axis=0)
        return cls(MOUTH_CHANNELS, *(np.float32(part) for part in (neutral, span, least, most)))

    def code(self, measures: np.ndarray) -> np.ndarray:
        """The code float32 [..., K] of measures [..., K]."""
        return ((measures - self.neutral) / self.span).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """The units as a JSON object of lists."""
        numbers = {key: getattr(self, key).tolist() for key in ("neutral", "span", "least", "most")}
        return {"names": list(self.names), **numbers}

    @classmethod
    def from_dict(cls, data: Any) -> MouthUnits:
        """The units of an object of `to_dict`. Raises ValueError for anything else."""
        keys = ("neutral", "span", "least", "most")
        if not isinstance(data, dict) or set(data) != {"names", *keys}:
            raise ValueError(f"names, {', '.join(keys)} are needed")
        if data["names"] != list(MOUTH_CHANNELS):
            raise ValueError(f"the channels must be {', '.join(MOUTH_CHANNELS)}")
        try:
            arrays = [np.asarray(data[key], np.float32) for key in keys]
        except (TypeError, ValueError) as error:
            raise ValueError("the values must be numbers") from error
        if any(part.shape != (len(MOUTH_CHANNELS),) for part in arrays):
            raise ValueError(f"{len(MOUTH_CHANNELS)} numbers each are needed")
        if not np.isfinite(arrays).all() or arrays[1].min() <= 0:
            raise ValueError("the numbers must be finite and the spans positive")
        return cls(MOUTH_CHANNELS, *arrays)


def mouth_lengths(points: np.ndarray) -> np.ndarray:
    """The channels that come from landmarks, float64 [F, 14] in cm.

    points: float [F, 478, 3] px (`Landmarks.points`), finite.
    """
    # Imported here because it needs OpenCV, which an installation that only renders lacks.
    from being.face.action_units import head_frame

    head = head_frame(points)[0]
    x, y, z = (head[..., axis] for axis in range(3))

    def length(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(head[:, a] - head[:, b], axis=1)

    ring = head[:, INNER_LIPS, :2]
    following = np.roll(ring, -1, 1)
    area = (ring[..., 0] * following[..., 1] - ring[..., 1] * following[..., 0]).sum(1) / 2
    nose = y[:, NOSE]
    corners_z = (z[:, CORNER_RIGHT] + z[:, CORNER_LEFT]) / 2
    columns = (
        length(INNER_TOP, INNER_BOTTOM),
        np.sqrt(np.abs(area)),
        length(CORNER_RIGHT, CORNER_LEFT),
        length(INNER_RIGHT, INNER_LEFT),
        y[:, INNER_TOP] - nose,
        nose - y[:, INNER_BOTTOM],
        nose - y[:, CHIN],
        (y[:, CORNER_RIGHT] + y[:, CORNER_LEFT]) / 2 - nose,
        z[:, LIP_TOP] - corners_z,
        z[:, LIP_BOTTOM] - corners_z,
        length(LIP_TOP, INNER_TOP),
        length(LIP_BOTTOM, INNER_BOTTOM),
        y[:, CORNER_LEFT] - y[:, CORNER_RIGHT],
        length(LIP_BOTTOM, CHIN),
    )
    return np.stack(columns, 1)


def eye_distance(points: np.ndarray) -> np.ndarray:
    """Distance float [F] of the outer eye corners in px, of landmarks [F, 478, 2 or 3]."""
    return np.linalg.norm(points[:, EYE_OUTER_RIGHT, :2] - points[:, EYE_OUTER_LEFT, :2], axis=1)

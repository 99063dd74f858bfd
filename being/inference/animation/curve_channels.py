"""From the columns of curves to the channels of an avatar: its expression, and its mouth code.

A column is an expression, a channel or an action unit by name (`moods`, value 1 is the strongest of
the clip), an intensity of OpenFace (`AU12_r`, 0 to 5), or an ARKit blendshape (`jawOpen`, 0 to 1).
Intensities are brought to the avatar's units by the centre and scale of its channels, so the
`au.csv` of the avatar's own dataset gives the values of its own clip.

Blendshapes of the upper face become intensities. Those of the mouth drive the mouth code where the
avatar's network reads one (`mouth_code`): they replace the code that was predicted from the audio,
in the channels that the table below names. Other avatars take them as offsets of their expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from being.data.expression_channels import (
    CHANNEL_OF_ACTION_UNIT,
    CHANNEL_SOURCES,
    ExpressionChannels,
)
from being.data.mouth import CODE_GAIN
from being.errors import InputRejected
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.face.topology import BLENDSHAPE_NAMES
from being.inference.animation.capture_tables import INTENSITY
from being.inference.animation.curve_files import Curves
from being.inference.animation.moods import channel_weights

INTENSITY_MAX = 5.0
BLINK_INTENSITY = 2.0  # of a closed eye
SIDES = ("Left", "Right")
# Expression channel -> the ARKit blendshapes whose mean is measured (L, R: both sides), and the
# value that is intensity 5; as `face.action_units` measures them, eyeWide, cheekSquint, noseSneer
# and mouthUpperUp besides.
INTENSITIES: dict[str, tuple[str, float]] = {
    "blink": ("eyeBlink", INTENSITY_MAX / BLINK_INTENSITY),
    "brow_inner_up": ("browInnerUp", 0.9),
    "brow_outer_up": ("browOuterUp", 0.8),
    "brow_down": ("browDown", 0.8),
    "lid_up": ("eyeWide", 1.0),
    "cheek_up": ("cheekSquint", 0.8),
    "lid_tight": ("eyeSquint", 0.7),
    "nose_wrinkle": ("noseSneer", 0.8),
    "upper_lip_up": ("mouthUpperUp", 0.8),
    "smile": ("mouthSmile", 0.9),
    "dimple": ("mouthDimple", 0.4),
    "mouth_frown": ("mouthFrown", 0.4),
    "chin_up": ("mouthShrugLower", 0.8),
    "lip_stretch": ("mouthStretch", 0.5),
    "lip_press": ("mouthPress", 0.8),
    "jaw_open": ("jawOpen", 0.7),
}
# Blendshape of the mouth (the mean of both sides) -> channels of the mouth code, and their change
# in units of the person's own range when it is 1. Speech opens jawOpen to about 0.7, the widest
# mouth; mouthClose shuts the lips of an open jaw.
MOUTH_WEIGHTS: dict[str, Mapping[str, float]] = {
    "jawOpen": {"jaw_open": 1.4, "lip_opening": 1.4, "opening_area": 1.4, "lower_lip": 1.4},
    "mouthClose": {"lip_opening": -1.4, "opening_area": -1.4, "lower_lip": -0.7},
    "mouthPucker": {
        "lip_width": -1.0,
        "inner_width": -1.0,
        "upper_protrusion": 1.0,
        "lower_protrusion": 1.0,
    },
    "mouthFunnel": {
        "lip_width": -0.6,
        "inner_width": -0.6,
        "upper_protrusion": 0.8,
        "lower_protrusion": 0.8,
        "lip_opening": 0.4,
        "opening_area": 0.4,
    },
    "mouthStretch": {"lip_width": 1.0, "inner_width": 1.0},
    "mouthSmile": {"corner_height": 1.0, "lip_width": 0.8, "inner_width": 0.5},
    "mouthFrown": {"corner_height": -1.0},
    "mouthUpperUp": {"upper_lip": 1.0, "lip_opening": 0.4, "opening_area": 0.3},
    "mouthLowerDown": {"lower_lip": 1.0, "lip_opening": 0.5, "opening_area": 0.4},
    "mouthRollUpper": {"upper_thickness": -1.0},
    "mouthRollLower": {"lower_thickness": -1.0},
    "tongueOut": {"tongue": 1.0},
}
# Blendshapes whose difference left - right lifts the person's left corner.
SKEW = {"mouthSmile": 1.0, "mouthFrown": -1.0}
# Channels that a mouth that is shut has at 0 or above.
NOT_BELOW_0 = ("lip_opening", "opening_area", "tongue")
RANGE_MARGIN = 0.15  # codes may leave the person's range by this share of it
_ARKIT = {name.lower(): name for name in (*BLENDSHAPE_NAMES[1:], "tongueOut")}
SHOWN = 20  # names in a message


@dataclass(frozen=True)
class DrivenChannels:
    """What curves drive of an avatar."""

    curves: Curves  # values of expression channels
    mouth: Curves | None  # values of channels of the mouth code
    used: tuple[str, ...]  # columns of the file
    left_out: tuple[str, ...]

    def report(self) -> str:
        """One line that names the columns that are used, and those that are not."""
        line = f"curves: used {_listed(self.used)}"
        return line + (f"; left out: {_listed(self.left_out)}" if self.left_out else "")


def driven_channels(
    curves: Curves, channels: ExpressionChannels, has_mouth_code: bool
) -> DrivenChannels:
    """The channels that `curves` drive.

    Raises UsageError for a name that the avatar lacks in a file of expressions, InputRejected
    where no column can be used.
    """
    shapes = {_ARKIT[n.lower()]: n for n in curves.columns if n.lower() in _ARKIT}
    arkit = {shape: curves.columns[name] for shape, name in shapes.items()}
    values, used = _named_channels(curves, channels, set(shapes.values()))
    to_mouth = set(MOUTH_WEIGHTS) if has_mouth_code else set()
    for shape_values, shapes_used in (
        _intensity_channels(arkit, channels, to_mouth),
        _gaze_channels(arkit, channels),
    ):
        values |= shape_values
        used |= {shapes[shape] for shape in shapes_used}
    mouth = mouth_values(arkit) if has_mouth_code else {}
    used |= {shapes[shape] for shape in arkit if _without_side(shape) in to_mouth}

    left_out = [name for name in curves.columns if name not in used]
    if not values and not mouth:
        raise InputRejected(
            f"the curves {curves.source} have no column that the avatar can use",
            f"they have {_listed([*left_out, *curves.others])}",
            f"Its channels are {', '.join(channels.names)}",
        )
    return DrivenChannels(
        Curves(curves.time, values),
        Curves(curves.time, mouth) if mouth else None,
        tuple(name for name in curves.columns if name in used),
        (*left_out, *curves.others),
    )


# Values [R] by channel, and the columns or blendshapes that they come from.
Driven = tuple[dict[str, np.ndarray], set[str]]


def _named_channels(curves: Curves, channels: ExpressionChannels, shapes: set[str]) -> Driven:
    """From all columns but the blendshapes: intensities and names of expressions."""
    values: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for name, column in curves.columns.items():
        if name in shapes:
            continue
        if INTENSITY.fullmatch(name):
            channel = CHANNEL_OF_ACTION_UNIT.get(name[:-2], "")
            if channel in channels.names:
                values[channel] = _in_units(channel, column, channels)
                used.add(name)
        elif not curves.captured:
            for channel, weight in channel_weights(name, channels).items():
                values[channel] = column * weight
            used.add(name)
    return values, used


def _intensity_channels(
    arkit: Mapping[str, np.ndarray], channels: ExpressionChannels, to_mouth: set[str]
) -> Driven:
    """From blendshapes that are measured as an intensity, but those that drive the mouth code."""
    values: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for channel, (shape, full) in INTENSITIES.items():
        found = [name for name in _both_sides(shape) if name in arkit]
        if channel in channels.names and found and shape not in to_mouth:
            mean = np.mean([arkit[name] for name in found], 0)
            intensity = np.clip(INTENSITY_MAX / full * mean, 0, INTENSITY_MAX)
            values[channel] = _in_units(channel, intensity, channels)
            used.update(found)
    return values, used


def _gaze_channels(arkit: Mapping[str, np.ndarray], channels: ExpressionChannels) -> Driven:
    """From blendshapes of the eyes' directions."""
    values: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for source in CHANNEL_SOURCES:
        found = [name for name in (*source.plus, *source.minus) if name in arkit]
        if found and source.name in channels.names:
            turned = [arkit[name] if name in source.plus else -arkit[name] for name in found]
            values[source.name] = _in_units(source.name, np.sum(turned, 0), channels)
            used.update(found)
    return values, used


def mouth_values(arkit: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of the mouth code's channels [R] from ARKit blendshapes [R] by name."""
    values: dict[str, np.ndarray] = {}
    for shape, weights in MOUTH_WEIGHTS.items():
        sides = [arkit[name] for name in _both_sides(shape) if name in arkit]
        if not sides:
            continue
        for channel, weight in weights.items():
            values[channel] = values.get(channel, 0.0) + weight * np.mean(sides, 0)
        left, right = (arkit.get(f"{shape}{side}") for side in SIDES)
        if shape in SKEW and left is not None and right is not None:
            skew = SKEW[shape] * (left - right)
            values["corner_skew"] = values.get("corner_skew", 0.0) + skew
    for channel in NOT_BELOW_0:
        if channel in values:
            values[channel] = np.maximum(values[channel], 0.0)
    return values


class MouthOverride:
    """Replaces channels of the mouth code in rows for the network, block after block."""

    def __init__(self, curves: Curves, units: MouthUnits):
        """units: the person's; values are limited to their range, with a margin."""
        self._curves, self._done = curves, 0
        margin = RANGE_MARGIN * (units.most - units.least)
        self._low, self._high = units.least - margin, units.most + margin

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """The next rows float32 [k, 16, K] with the curves' values in their channels."""
        rows = rows.copy()
        values = self._curves.at_frames(self._done, self._done + len(rows))
        for name, course in values.items():
            k = MOUTH_CHANNELS.index(name)
            code = np.clip(course, self._low[k], self._high[k])
            rows[:, :, k] = (CODE_GAIN * code)[:, None]
        self._done += len(rows)
        return rows


def _in_units(channel: str, source: np.ndarray, channels: ExpressionChannels) -> np.ndarray:
    """Intensities or gaze blendshapes [R] in units of the avatar's channel."""
    k = channels.names.index(channel)
    return (source - channels.centre[k]) / channels.scale[k]


def _both_sides(shape: str) -> tuple[str, ...]:
    return (shape, *(f"{shape}{side}" for side in SIDES))


def _without_side(name: str) -> str:
    return name.removesuffix("Left").removesuffix("Right")


def _listed(names: tuple[str, ...] | list[str]) -> str:
    """Names for a message: the first ones, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

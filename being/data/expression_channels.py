"""Expression channels: the model's expression input from a clip's action units and gaze.

The first channel is always the blink, as in the GaussianTalker family. The other channels of the
upper face (brows, lids, gaze) drive the model in the same way. The channels of mouth and cheeks are
zero in training and rendering, because the audio drives the lips; a caller may set them as offsets.
Cheek raiser and lid tightener (AU06, AU07) are mouth channels too, although they lie above the
mouth, because they move with the lips. `scripts/measure/mouth_leak.py` measured it: with these two
among the upper channels, the upper face predicts the lip aperture of one clip of three far better.

Gaze is positive to the right of the image and up. Left and right in the names of blendshapes are
the person's own. A channel is 0 for the person's usual face (the median of the clip) and 1 for
about the strongest expression of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from being.data.dataset import Dataset, is_in_range
from being.data.manifest import PREPROCESS_AGAIN
from being.errors import InputRejected, UsageError
from being.face.gaze import BLINK_HIDES_GAZE, GAZE_BLENDSHAPES
from being.reading.arrays import load_arrays

# Values of `data.expression`: all channels, the blink alone, or a blink that is always 0.
CHANNEL_SETS = ("full", "blink", "dummy")
BLINK = "blink"
SCALE_PERCENTILE = 99.0  # percentile of the distances from the median that becomes value 1
RANGE_PERCENTILES = (1.0, 99.0)  # of a channel's values: its range in the training clip
# Smallest scale of a channel, in intensities (0 to 5) or blendshapes, so that weak expressions are
# not amplified.
SCALE_MIN = {"unit": 0.5, "gaze": 0.1}
BLENDSHAPES_MAX = 1000  # names that are read


@dataclass(frozen=True)
class ChannelSource:
    """The source of one channel: an action unit, or blendshapes for a gaze channel."""

    name: str
    unit: str = ""  # action unit of au.csv
    plus: tuple[str, ...] = ()  # blendshapes that are added
    minus: tuple[str, ...] = ()  # blendshapes that are subtracted
    is_mouth: bool = False  # a channel of mouth and cheeks


CHANNEL_SOURCES = (
    ChannelSource("brow_inner_up", "AU01"),
    ChannelSource("brow_outer_up", "AU02"),
    ChannelSource("brow_down", "AU04"),
    ChannelSource("lid_up", "AU05"),
    *(
        ChannelSource(name, plus=plus, minus=minus)
        for name, (plus, minus) in GAZE_BLENDSHAPES.items()
    ),
    ChannelSource("cheek_up", "AU06", is_mouth=True),
    ChannelSource("lid_tight", "AU07", is_mouth=True),
    ChannelSource("nose_wrinkle", "AU09", is_mouth=True),
    ChannelSource("upper_lip_up", "AU10", is_mouth=True),
    ChannelSource("smile", "AU12", is_mouth=True),
    ChannelSource("dimple", "AU14", is_mouth=True),
    ChannelSource("mouth_frown", "AU15", is_mouth=True),
    ChannelSource("chin_up", "AU17", is_mouth=True),
    ChannelSource("lip_stretch", "AU20", is_mouth=True),
    ChannelSource("lip_press", "AU23", is_mouth=True),
    ChannelSource("lips_apart", "AU25", is_mouth=True),
    ChannelSource("jaw_open", "AU26", is_mouth=True),
)
MOUTH_CHANNELS = frozenset(source.name for source in CHANNEL_SOURCES if source.is_mouth)
GAZE_CHANNELS = frozenset(source.name for source in CHANNEL_SOURCES if source.plus)
CHANNEL_OF_ACTION_UNIT = {source.unit: source.name for source in CHANNEL_SOURCES if source.unit}
CHANNEL_OF_ACTION_UNIT["AU45"] = BLINK
KEYS = ("names", "centre", "scale", "least", "most")  # of the JSON object


@dataclass(frozen=True)
class ExpressionChannels:
    """Names and units of E expression channels; all tuples have length E."""

    names: tuple[str, ...]
    centre: tuple[float, ...]  # of the source (action unit or blendshapes): value 0
    scale: tuple[float, ...]  # of the source: its distance from the centre to value 1
    least: tuple[float, ...]  # smallest value in the clip
    most: tuple[float, ...]  # largest value in the clip

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_mouth(self) -> np.ndarray:
        """Which channels belong to mouth and cheeks, bool [E]."""
        return np.array([name in MOUTH_CHANNELS for name in self.names])

    def first(self, count: int) -> ExpressionChannels:
        """The first `count` channels."""
        return ExpressionChannels(
            self.names[:count],
            self.centre[:count],
            self.scale[:count],
            self.least[:count],
            self.most[:count],
        )

    def to_dict(self) -> dict[str, list[Any]]:
        """The channels as a JSON object of lists."""
        return {key: list(getattr(self, key)) for key in KEYS}

    @classmethod
    def from_dict(cls, data: Any) -> ExpressionChannels:
        """The channels of an object of `to_dict`. Raises ValueError for anything else."""
        lists_of_one_length = (
            isinstance(data, dict)
            and set(data) == set(KEYS)
            and all(
                isinstance(part, list) and len(part) == len(data["names"]) for part in data.values()
            )
        )
        if not lists_of_one_length:
            raise ValueError("names, centre, scale, least and most must be lists of one length")
        names = tuple(data["names"])
        try:
            numbers = [tuple(float(number) for number in data[key]) for key in KEYS[1:]]
        except (TypeError, OverflowError) as error:
            raise ValueError("centre, scale, least and most must hold numbers") from error
        if (
            names[:1] != (BLINK,)
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) != len(names)
            or not is_in_range(np.array(numbers))
            or min(numbers[1]) <= 0
        ):
            raise ValueError(
                "the first channel must be the blink, "
                "names must differ, numbers must be finite and scales positive"
            )
        return cls(names, *numbers)


BLINK_ONLY = ExpressionChannels((BLINK,), (0.0,), (2.0,), (0.0,), (1.0,))


def load_expression(
    dataset: Dataset, channel_set: str = "full"
) -> tuple[ExpressionChannels, np.ndarray]:
    """The channels of a dataset and their values float32 [F, E], the blink in [0, 1] first.

    channel_set: "full", every channel that the dataset has data for; "blink"; or "dummy", a blink
    that is always 0. Raises UsageError for another value, InputRejected for files that cannot be
    read.
    """
    if channel_set not in CHANNEL_SETS:
        raise UsageError(
            f"unknown set of expression channels '{channel_set}'",
            fix=f"Set data.expression to one of {', '.join(CHANNEL_SETS)}",
        )
    blink = dataset.blink if channel_set != "dummy" else np.zeros((dataset.frames, 1), np.float32)
    if channel_set != "full":
        return BLINK_ONLY, blink

    has_face = np.ones(dataset.frames, bool)
    has_face[dataset.missing] = False
    units, intensities = dataset.action_units()
    blendshapes = _blendshapes(dataset)

    rows = [[BLINK, 0.0, 2.0, 0.0, 1.0]]
    columns = [blink[:, 0]]
    for source in CHANNEL_SOURCES:
        # Raw values of the channel, the frames in which they are measured, the smallest scale.
        if source.unit in units:
            values = intensities[:, units.index(source.unit)]
            measured, least_scale = has_face, SCALE_MIN["unit"]
        elif source.plus and blendshapes:
            values = np.sum([blendshapes[n] for n in source.plus], 0)
            values = values - np.sum([blendshapes[n] for n in source.minus], 0)
            measured, least_scale = has_face & (blink[:, 0] < BLINK_HIDES_GAZE), SCALE_MIN["gaze"]
        else:
            continue
        if not measured.any():
            continue

        # Interpolate the other frames.
        frames = np.arange(dataset.frames)
        values = np.interp(frames, frames[measured], values[measured])

        # Centre on the usual face, and scale by the strongest expressions. Gaze goes both ways.
        centre = float(np.median(values[measured]))
        distance = values[measured] - centre
        if source.plus:
            distance = np.abs(distance)
        scale = max(float(np.percentile(distance, SCALE_PERCENTILE)), least_scale)
        values = (values - centre) / scale
        lowest, highest = np.percentile(values[measured], RANGE_PERCENTILES).tolist()
        rows.append([source.name, centre, scale, lowest, highest])
        columns.append(values)
    return ExpressionChannels(*zip(*rows, strict=True)), np.stack(columns, 1).astype(np.float32)


def _blendshapes(dataset: Dataset) -> dict[str, np.ndarray]:
    """Blendshapes by name, each float [F]; empty where the dataset lacks some of the gaze."""
    file = dataset.path / "landmarks.npz"
    data = load_arrays(file, ("blendshapes", "names"), PREPROCESS_AGAIN)
    if "blendshapes" not in data or "names" not in data:
        return {}
    names = [str(name) for name in data["names"].ravel()[:BLENDSHAPES_MAX]]
    values = data["blendshapes"]
    if (
        values.shape != (dataset.frames, len(names))
        or values.dtype.kind != "f"
        or not is_in_range(np.nan_to_num(values))
    ):
        raise InputRejected(
            f"{file}: blendshapes are {values.dtype} {values.shape}",
            f"expected float ({dataset.frames}, {len(names)})",
            PREPROCESS_AGAIN,
        )
    values = np.nan_to_num(values)
    needed = {name for source in CHANNEL_SOURCES for name in (*source.plus, *source.minus)}
    if not needed <= set(names):
        return {}
    return {name: values[:, k] for k, name in enumerate(names)}

"""The channels of the expression token: what of a clip's action units and gaze drives a face, and
in which units.

The first channel is always the blink, as the family has it. The upper face's other channels (brows,
lids, gaze) are conditions like it. The channels of the mouth and cheeks are offsets that somebody
may ask for: the lips belong to the sound. Cheek raiser and lid tightener (AU06, AU07) count among
these although they lie above the mouth: they go with the lips (`scripts/measure/mouth_leak.py`:
with them the upper face tells the lip aperture of one clip of three far better).

The gaze runs to the right of the picture and up; shapes are named by the person's own left and
right. A channel's value is 0 for the person's usual face (the median of their clip) and 1 for about
the strongest they show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.files import load_arrays

KINDS = ("full", "blink", "dummy")  # dummy: the blink is 0 throughout
BLINK = "blink"
STRONG = 99.0  # percentile of the way from the median that is 1
SEEN = (1.0, 99.0)  # percentiles between which a channel counts as seen in training
LEAST_SCALE = {
    "unit": 0.5,
    "gaze": 0.1,
}  # of intensities 0 to 5, of blendshapes: weaker ones are not blown up
SHUT = 0.3  # blink over which the gaze cannot be seen


@dataclass(frozen=True)
class Source:
    """Where a channel comes from."""

    name: str
    unit: str = ""  # action unit of au.csv
    plus: tuple[str, ...] = ()  # blendshapes of a gaze channel, added
    minus: tuple[str, ...] = ()  # and taken away
    mouth: bool = False


SOURCES = (
    Source("brow_inner_up", "AU01"),
    Source("brow_outer_up", "AU02"),
    Source("brow_down", "AU04"),
    Source("lid_up", "AU05"),
    Source(
        "gaze_right",
        plus=("eyeLookOutLeft", "eyeLookInRight"),
        minus=("eyeLookInLeft", "eyeLookOutRight"),
    ),
    Source(
        "gaze_up",
        plus=("eyeLookUpLeft", "eyeLookUpRight"),
        minus=("eyeLookDownLeft", "eyeLookDownRight"),
    ),
    Source("cheek_up", "AU06", mouth=True),
    Source("lid_tight", "AU07", mouth=True),
    Source("nose_wrinkle", "AU09", mouth=True),
    Source("upper_lip_up", "AU10", mouth=True),
    Source("smile", "AU12", mouth=True),
    Source("dimple", "AU14", mouth=True),
    Source("mouth_frown", "AU15", mouth=True),
    Source("chin_up", "AU17", mouth=True),
    Source("lip_stretch", "AU20", mouth=True),
    Source("lip_press", "AU23", mouth=True),
    Source("lips_apart", "AU25", mouth=True),
    Source("jaw_open", "AU26", mouth=True),
)
MOUTH = frozenset(source.name for source in SOURCES if source.mouth)
GAZE = frozenset(source.name for source in SOURCES if source.plus)
UNITS = {source.unit: source.name for source in SOURCES if source.unit} | {"AU45": BLINK}


@dataclass(frozen=True)
class Channels:
    """Names and units of E expression channels; tuples of length E."""

    names: tuple[str, ...]
    centre: tuple[float, ...]  # of the source (action unit, blendshapes): value 0
    scale: tuple[float, ...]  # of the source: value 1 lies this far from the centre
    least: tuple[float, ...]  # smallest value that the clip shows
    most: tuple[float, ...]  # and the largest

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mouth(self) -> np.ndarray:
        """Which channels are the sound's, bool [E]."""
        return np.array([name in MOUTH for name in self.names])

    def first(self, count: int) -> Channels:
        """The first `count` channels."""
        return Channels(
            self.names[:count],
            self.centre[:count],
            self.scale[:count],
            self.least[:count],
            self.most[:count],
        )

    def to_dict(self) -> dict[str, list[Any]]:
        """For JSON."""
        return {
            key: list(getattr(self, key)) for key in ("names", "centre", "scale", "least", "most")
        }

    @classmethod
    def from_dict(cls, data: Any) -> Channels:
        """What `to_dict` gave; raises ValueError for anything else."""
        if (
            not isinstance(data, dict)
            or set(data) != {"names", "centre", "scale", "least", "most"}
            or not all(
                isinstance(part, list) and len(part) == len(data["names"]) for part in data.values()
            )
        ):
            raise ValueError("names, centre, scale, least and most must be lists of one length")
        names = tuple(data["names"])
        numbers = [
            tuple(float(number) for number in data[key])
            for key in ("centre", "scale", "least", "most")
        ]
        if (
            names[:1] != (BLINK,)
            or len(set(names)) != len(names)
            or not all(isinstance(n, str) for n in names)
            or not np.isfinite(numbers).all()
            or min(numbers[1]) <= 0
        ):
            raise ValueError(
                "the first channel must be the blink, names differ, numbers be finite, scales positive"
            )
        return cls(names, *numbers)


BLINK_ALONE = Channels((BLINK,), (0.0,), (2.0,), (0.0,), (1.0,))


def expression(dataset: Dataset, kind: str = "full") -> tuple[Channels, np.ndarray]:
    """The channels of a dataset and their values float32 [F, E], the blink in [0, 1] first.

    kind: "full", every channel that the dataset has data for; "blink"; "dummy", a blink that is 0
    throughout. Raises UsageError for another kind, InputRejected where files cannot be read.
    """
    if kind not in KINDS:
        raise UsageError(
            f"unknown kind of expression '{kind}'",
            fix=f"Set data.expression to one of {', '.join(KINDS)}",
        )
    blink = dataset.blink if kind != "dummy" else np.zeros((dataset.frames, 1), np.float32)
    if kind != "full":
        return BLINK_ALONE, blink
    seen = np.ones(dataset.frames, bool)
    seen[dataset.missing] = False
    units, intensities = dataset.action_units()
    shapes = _blendshapes(dataset)
    rows, columns = [[BLINK, 0.0, 2.0, 0.0, 1.0]], [blink[:, 0]]
    for source in SOURCES:
        if source.unit in units:
            values, trusted, least = (
                intensities[:, units.index(source.unit)],
                seen,
                LEAST_SCALE["unit"],
            )
        elif source.plus and shapes:
            values = np.sum([shapes[n] for n in source.plus], 0) - np.sum(
                [shapes[n] for n in source.minus], 0
            )
            trusted, least = seen & (blink[:, 0] < SHUT), LEAST_SCALE["gaze"]
        else:
            continue
        if not trusted.any():
            continue
        frames = np.arange(dataset.frames)
        values = np.interp(
            frames, frames[trusted], values[trusted]
        )  # bridged where it cannot be seen
        centre = float(np.median(values[trusted]))
        away = np.abs(values[trusted] - centre) if source.plus else values[trusted] - centre
        scale = max(float(np.percentile(away, STRONG)), least)
        values = (values - centre) / scale
        rows.append([source.name, centre, scale, *np.percentile(values[trusted], SEEN).tolist()])
        columns.append(values)
    return Channels(*zip(*rows, strict=True)), np.stack(columns, 1).astype(np.float32)


def _blendshapes(dataset: Dataset) -> dict[str, np.ndarray]:
    """Blendshapes by name, each float [F]; empty where the dataset has none."""
    file = dataset.path / "landmarks.npz"
    data = load_arrays(file, "Preprocess the clip again")
    if "blendshapes" not in data or "names" not in data:
        return {}
    names, values = [str(name) for name in data["names"]], np.nan_to_num(data["blendshapes"])
    if values.shape != (dataset.frames, len(names)):
        raise InputRejected(
            f"{file}: blendshapes are {values.shape}",
            f"expected ({dataset.frames}, {len(names)})",
            "Preprocess the clip again",
        )
    known = set(names)
    if not all(name in known for source in SOURCES for name in (*source.plus, *source.minus)):
        return {}
    return {name: values[:, k] for k, name in enumerate(names)}

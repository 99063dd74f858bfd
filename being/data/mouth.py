"""The mouth code of a dataset, measured at first use from its landmarks, frames and teeth masks.

`mouth_code.npz` in the dataset keeps the result: `measures` float32 [F, K]
(`being.face.mouth_code`), NaN in frames without a face. It is made again where it is missing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from being.conventions import FEATURE_WINDOW
from being.data.manifest import PREPROCESS_AGAIN
from being.errors import InputRejected
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits, eye_distance, mouth_lengths
from being.face.topology import INNER_LIPS, OUTER_LIPS
from being.files import new_file
from being.reading.arrays import load_arrays

if TYPE_CHECKING:
    from being.data.dataset import Dataset

MOUTH_FILE = "mouth_code.npz"
# Inside the lips, what is no tooth and at least this light, as a share of the lips' own median
# lightness, is tongue or gum. The dark of the open mouth is far below.
LIT_SHARE = 0.6
MARGIN = 2  # px around the lips
# The network's input is the code times this, so that its numbers are as large as speech features.
CODE_GAIN = 4.0


@dataclass(frozen=True)
class MouthCode:
    """The mouth code of a clip."""

    values: np.ndarray  # float32 [F, K]; frames without a face are interpolated
    found: np.ndarray  # bool [F], frames in which it was measured
    units: MouthUnits


def measure_mouth(folder: Path, points: np.ndarray) -> np.ndarray:
    """Measures float32 [F, K] of every frame of a dataset's folder, NaN where no face was found.

    points: landmarks float [F, 478, 3] px. Reads `ori_imgs` and, where they are, `teeth_mask`;
    without these, teeth and tongue are 0.
    """
    found = np.isfinite(points).all((1, 2))
    measures = np.full((len(points), len(MOUTH_CHANNELS)), np.nan, np.float32)
    if not found.any():
        return measures
    measures[found, : len(MOUTH_CHANNELS) - 2] = mouth_lengths(points[found])

    areas = np.zeros((len(points), 2))
    frames = np.flatnonzero(found)
    if (folder / "teeth_mask").is_dir():
        with ThreadPoolExecutor() as pool:
            areas[frames] = list(pool.map(lambda i: _lit_areas(folder, points[i], int(i)), frames))
    measures[found, -2:] = np.sqrt(areas[found]) / eye_distance(points[found])[:, None]
    return measures


def _lit_areas(folder: Path, points: np.ndarray, i: int) -> tuple[float, float]:
    """Visible areas of teeth and of tongue in px, of frame `i` with landmarks [478, 3]."""
    # Imported here because it needs OpenCV, which an installation that only renders lacks.
    import cv2

    from being.data.frames import read_image

    file = folder / f"teeth_mask/{i}.png"
    if not file.is_file():
        return 0.0, 0.0
    frame = read_image(folder / f"ori_imgs/{i}.jpg")
    outer, inner = points[OUTER_LIPS, :2], points[INNER_LIPS, :2]
    low = np.maximum(np.floor(outer.min(0)).astype(int) - MARGIN, 0)
    high = np.ceil(outer.max(0)).astype(int) + MARGIN
    box = slice(low[1], high[1]), slice(low[0], high[0])
    part = frame[box]
    if not part.size:
        return 0.0, 0.0
    light = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    teeth = read_image(file)[box] > 127

    def inside(ring: np.ndarray) -> np.ndarray:
        mask = np.zeros(light.shape, np.uint8)
        cv2.fillPoly(mask, [np.round((ring - low) * 16).astype(np.int32)], (1,), cv2.LINE_8, 4)
        return mask > 0

    mouth = inside(inner)
    lips = inside(outer) & ~mouth
    if not lips.any():
        return float(teeth.sum()), 0.0
    lit = mouth & ~teeth & (light > LIT_SHARE * np.median(light[lips]))
    return float(teeth.sum()), float(lit.sum())


def load_mouth_code(dataset: Dataset) -> MouthCode:
    """The mouth code of every frame of a dataset, in units of the person's own range.

    Raises InputRejected for files that cannot be read or do not fit, and for a clip without a face.
    """
    file = dataset.path / MOUTH_FILE
    shape = (dataset.frames, len(MOUTH_CHANNELS))
    if file.is_file():
        measures = load_arrays(file, ("measures",), PREPROCESS_AGAIN).get("measures", np.zeros(0))
        if measures.shape != shape or measures.dtype.kind != "f":
            raise InputRejected(
                f"{file} holds measures {measures.dtype} {measures.shape}",
                f"expected float {shape}",
                PREPROCESS_AGAIN,
            )
    else:
        measures = measure_mouth(dataset.path, dataset.landmarks)

    found = np.isfinite(measures).all(1)
    if not found.any():
        raise InputRejected(
            f"{dataset.path} shows no face",
            "the mouth cannot be measured",
            "Preprocess another clip, or train with -o model.mouth=audio",
        )
    units = MouthUnits.of(measures, found)
    code = units.code(measures)
    frames = np.arange(dataset.frames)
    values = np.stack([np.interp(frames, frames[found], column[found]) for column in code.T], 1)
    return MouthCode(values.astype(np.float32), found, units)


def store_mouth_code(dataset: Dataset, mouth: MouthCode) -> None:
    """Write the code's measures into the dataset, unless they are there or it cannot be written."""
    file = dataset.path / MOUTH_FILE
    if file.is_file():
        return
    measures = mouth.values * mouth.units.span + mouth.units.neutral
    measures[~mouth.found] = np.nan
    # A dataset that cannot be written to is measured anew by each training.
    with suppress(OSError), new_file(file) as part, open(part, "wb") as out:
        np.savez(out, measures=measures.astype(np.float32))


def code_rows(codes: np.ndarray) -> np.ndarray:
    """Mouth codes [F, K] as the rows float32 [F, 16, K] that the network reads.

    Row i holds the code of frame i in all of its steps. A frame reads its own row (`CODE_OFFSETS`).
    """
    rows = (codes * CODE_GAIN)[:, None].astype(np.float32)
    return np.repeat(rows, FEATURE_WINDOW, 1)

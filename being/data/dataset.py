"""Reading of a dataset directory: manifest, cameras, features, landmarks, mesh and splits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW, FPS, SAMPLES_PER_FRAME
from being.data import cameras
from being.data.manifest import PREPROCESS_AGAIN, read_manifest
from being.errors import InputRejected, UsageError
from being.media import read_audio
from being.names import path_inside
from being.paths import user_path
from being.reading.arrays import load_array, load_arrays
from being.reading.content import Unreadable
from being.reading.tables import read_rows
from being.reading.tensors import load_pickled

POINTS = 478  # face landmarks a frame
# Frames on both sides of a held-out part within the clip: their audio windows reach into it.
BORDER = ATTENTION_WINDOW
VALUE_MAX = 1e6  # of a pose, a vertex or a speech feature: no sum or product overflows
# What every dataset holds beside `dataset.json` (layout: `docs/dataset.md`).
REQUIRED_FILES = (
    "track_params.pt",
    "mesh.npz",
    "landmarks.npz",
    "au.csv",
    "aud.wav",
    "bc.jpg",
    "ori_imgs",
    "parsing",
    "torso_imgs",
)


@dataclass(frozen=True)
class Split:
    """Frame numbers of each part, ascending; `train` has no frames without a face of their own."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_frames(
    frames: int,
    holdout: float = 0.0,
    not_trained_on: list[int] | None = None,
    fold: int = 0,
) -> Split:
    """Parts of a clip of `frames` frames: the first 9/11, the next 1/11, the last 1/11.

    With a `holdout` share above 0, the test part is that share at the end, and validation is the
    last 1/11 of the rest. fold: 0, or the test part is the first such share (1), the second (2),
    ...; BORDER frames on both sides of it are then in no part. not_trained_on: frames that the
    train part leaves out. Raises UsageError for a fold that the clip does not have.
    """
    everything = np.arange(frames)
    if fold:
        if holdout <= 0 or round(fold * holdout, 6) > 1:
            raise UsageError(
                f"data.fold={fold} is no part of the clip",
                f"with data.holdout={holdout:g} there are {int(round(1 / holdout, 6))} parts"
                if holdout > 0
                else "data.holdout is 0",
                "Set data.holdout=0.2 and data.fold from 1 to 5, for instance",
            )
        first, stop = round(frames * (fold - 1) * holdout), round(frames * fold * holdout)
        rest = everything[(everything < first - BORDER) | (everything >= stop + BORDER)]
        test, border = everything[first:stop], len(rest) * 10 // 11
        known, validation = rest[:border], rest[border:]
    else:
        end = frames * 10 // 11 if holdout <= 0 else round(frames * (1 - holdout))
        border = frames * 9 // 11 if holdout <= 0 else end * 10 // 11
        known, validation, test = np.split(everything, [border, end])
    train = np.setdiff1d(known, np.asarray(not_trained_on or [], dtype=np.int64))
    return Split(train, validation, test)


def is_in_range(values: np.ndarray) -> bool:
    """Whether all numbers are finite and at most VALUE_MAX."""
    return bool((np.abs(values) <= VALUE_MAX).all())


class Dataset:
    """One dataset directory (layout: `docs/dataset.md`). Each file is read at its first use."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path = path
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.frames: int = manifest["frames"]
        self.width: int = manifest["width"]
        self.height: int = manifest["height"]
        self.missing: list[int] = manifest.get("missing", [])
        # Frames that show the picture of a neighbour again, at a time that is not its own.
        self.repeated: list[int] = manifest.get("repeated", [])
        self.segments: list[list[int]] = manifest.get("segments") or [[0, self.frames]]

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """The dataset at `path`.

        Raises InputRejected when it is no dataset, has another schema, or lacks a file.
        """
        path = user_path(path)
        dataset = cls(path, read_manifest(path))
        for name in REQUIRED_FILES:
            if not (path / name).exists():
                raise InputRejected(f"{path} lacks {name}", fix=PREPROCESS_AGAIN)
        last = path / f"ori_imgs/{dataset.frames - 1}.jpg"
        if not last.exists():
            raise InputRejected(
                f"{path} lacks ori_imgs/{last.name}",
                f"it claims {dataset.frames} frames",
                PREPROCESS_AGAIN,
            )
        return dataset

    @cached_property
    def bounds(self) -> np.ndarray:
        """First and last frame of each frame's segment, int64 [F, 2].

        Between segments the clip has cuts. No attention window and no pose sequence crosses one.
        """
        return np.concatenate(
            [np.tile([start, stop - 1], (stop - start, 1)) for start, stop in self.segments]
        )

    def longest_face_run(self, limit: int) -> range:
        """The longest run of frames within one segment that all show a face.

        At most its first `limit` frames.
        """
        runs: list[range] = []
        for start, stop in self.segments:
            borders = [start - 1, *(i for i in sorted(self.missing) if start <= i < stop), stop]
            runs += [range(a + 1, b) for a, b in itertools.pairwise(borders)]
        return max(runs, key=len)[:limit]

    def split(self, holdout: float = 0.0, seconds: float = 0.0, fold: int = 0) -> Split:
        """Train, validation and test frames, as `split_frames` gives them.

        seconds: how much of the train part is kept, 0 for all.
        """
        whole = split_frames(self.frames, holdout, [*self.missing, *self.repeated], fold)
        if not seconds:
            return whole
        return replace(whole, train=whole.train[: max(1, round(seconds * FPS))])

    @cached_property
    def _track(self) -> dict[str, np.ndarray]:
        """`track_params.pt`: float32 arrays euler [F, 3], trans [F, 3] and focal."""
        file = self.path / "track_params.pt"
        data = load_pickled(file)
        try:
            track = {key: data[key].float().numpy() for key in ("euler", "trans", "focal")}
        except (TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise InputRejected(
                f"{file} cannot be read",
                "expected tensors euler, trans and focal",
                PREPROCESS_AGAIN,
            ) from error
        for key in ("euler", "trans"):
            if track[key].shape != (self.frames, 3) or not is_in_range(track[key]):
                raise InputRejected(
                    f"{file}: {key} is {track[key].shape}",
                    f"expected ({self.frames}, 3), up to {VALUE_MAX:g}",
                    PREPROCESS_AGAIN,
                )
        focal = track["focal"]
        if not focal.size or not is_in_range(focal) or not focal.flat[0] > 0:
            raise InputRejected(
                f"{file}: focal is no length", "expected px above 0", PREPROCESS_AGAIN
            )
        return track

    @property
    def focal(self) -> float:
        """Focal length in px at the dataset's own resolution."""
        return float(np.ravel(self._track["focal"])[0])

    @property
    def euler(self) -> np.ndarray:
        """The tracker's head rotations float32 [F, 3], radians (`being/conventions.py`)."""
        return self._track["euler"]

    @property
    def trans(self) -> np.ndarray:
        """The tracker's head translations float32 [F, 3], head units."""
        return self._track["trans"]

    @cached_property
    def world_to_camera(self) -> np.ndarray:
        """World-to-camera matrices of the renderer, float32 [F, 4, 4]."""
        return cameras.world_to_camera(self._track["euler"], self._track["trans"])

    @cached_property
    def blink(self) -> np.ndarray:
        """Blink float32 [F, 1] in [0, 1]: AU45 of au.csv, clipped to [0, 2] and halved.

        This is the rule of the GaussianTalker family. Raises InputRejected without AU45.
        """
        names, values = self.action_units()
        if "AU45" not in names:
            raise InputRejected(
                f"{self.path / 'au.csv'} lacks AU45_r",
                f"it has {', '.join(names)}",
                PREPROCESS_AGAIN,
            )
        return np.clip(values[:, [names.index("AU45")]], 0, 2) / 2

    def action_units(self) -> tuple[list[str], np.ndarray]:
        """Names ("AU01", ...) and intensities float32 [F, K] in [0, 5] of au.csv, in its order.

        These are the columns AU.._r. Their names may begin with a space, as OpenFace writes them,
        or not. Raises InputRejected.
        """
        path = self.path / "au.csv"
        try:
            rows = read_rows(path)
            names = [name.strip() for name in next(rows, [])]
            columns = [
                k for k, name in enumerate(names) if name.startswith("AU") and name.endswith("_r")
            ]
            with np.errstate(over="ignore"):  # values beyond float32 are refused below
                values = np.array(
                    [[float(row[k]) for k in columns] for row in islice(rows, self.frames)],
                    dtype=np.float32,
                )
        except (OSError, ValueError, IndexError, Unreadable) as error:
            raise InputRejected(f"{path} cannot be read", str(error), PREPROCESS_AGAIN) from error
        if (
            not columns
            or values.shape != (self.frames, len(columns))
            or not np.isfinite(values).all()
        ):
            raise InputRejected(
                f"{path} lacks action units, rows or finite values",
                f"{len(values)} rows for {self.frames} frames, columns {', '.join(names[:40])}",
                PREPROCESS_AGAIN,
            )
        return [names[k].removesuffix("_r") for k in columns], values

    def features(self, encoder: str) -> np.ndarray:
        """Speech features float32 [F, 16, C] of `encoder`.

        One or two rows too many are cut off; for one or two too few the last row is repeated.
        Raises InputRejected when the dataset has no such features or they have another shape.
        """
        known = self.manifest["features"]
        if encoder not in known:
            raise InputRejected(
                f"{self.path} has no '{encoder}' speech features",
                f"it has {', '.join(known)}",
                "Choose one with -o data.encoder=NAME",
            )
        file = path_inside(self.path, known[encoder]["file"])
        values = load_array(file, PREPROCESS_AGAIN)
        if (
            values.ndim != 3
            or values.shape[1] != FEATURE_WINDOW
            or abs(len(values) - self.frames) > 2
            or not values.size
            or values.dtype.kind != "f"
        ):
            raise InputRejected(
                f"{file} is {values.dtype} {values.shape}",
                f"expected float [{self.frames}, {FEATURE_WINDOW}, C]",
                PREPROCESS_AGAIN,
            )
        rows = values[np.minimum(np.arange(self.frames), len(values) - 1)]
        if not is_in_range(rows):
            raise InputRejected(f"{file} holds values that are not finite", fix=PREPROCESS_AGAIN)
        return rows.astype(np.float32)

    @cached_property
    def landmarks(self) -> np.ndarray:
        """Face landmarks float32 [F, 478, 3] in px of the dataset's resolution.

        NaN where no face was found.
        """
        file = self.path / "landmarks.npz"
        points = load_arrays(file, ("points",), PREPROCESS_AGAIN).get("points", np.zeros(0))
        if points.shape != (self.frames, POINTS, 3) or points.dtype.kind != "f":
            raise InputRejected(
                f"{file} holds points {points.shape}",
                f"expected ({self.frames}, {POINTS}, 3)",
                PREPROCESS_AGAIN,
            )
        return points

    @cached_property
    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Tracked face mesh: vertices float32 [F, V, 3] in head units, triangles int64 [T, 3].

        The vertices are in head space, without the head pose.
        """
        file = self.path / "mesh.npz"
        data = load_arrays(file, ("vertices", "triangles"), PREPROCESS_AGAIN)
        vertices, triangles = (data.get(name, np.zeros(0)) for name in ("vertices", "triangles"))
        if (
            vertices.shape[:1] + vertices.shape[2:] != (self.frames, 3)
            or triangles.shape[1:] != (3,)
            or not len(triangles)
            or vertices.dtype.kind != "f"
            or triangles.dtype.kind not in "iu"
            or not is_in_range(vertices)
            or not 0 <= triangles.min() <= triangles.max() < vertices.shape[1]
        ):
            raise InputRejected(
                f"{file} holds vertices {vertices.shape} and triangles {triangles.shape}",
                f"expected a mesh of each of {self.frames} frames",
                PREPROCESS_AGAIN,
            )
        return vertices.astype(np.float32), triangles.astype(np.int64)

    def audio(self, frames: int | None = None) -> np.ndarray:
        """Audio samples float32 [640 n] at 16 kHz of the first n = `frames` frames (default: all).

        Sample 0 is at the time of frame 0. Zeros follow where aud.wav ends early. Raises
        InputRejected when it cannot be read.
        """
        samples = (self.frames if frames is None else frames) * SAMPLES_PER_FRAME
        audio = read_audio(self.audio_file)[:samples]
        return np.pad(audio, (0, samples - len(audio)))

    @property
    def audio_file(self) -> Path:
        """The clip's audio: a wav file, 16 kHz mono, with sample 0 at frame 0."""
        return self.path / "aud.wav"

"""Readers of the camera files of other systems: track_params.pt and transforms_*.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from being.data.dataset import VALUE_MAX, is_in_range
from being.errors import InputRejected
from being.reading.content import Unreadable, read_text, reason
from being.reading.structured import parse_json
from being.reading.tensors import load_pickled

SPLITS = ("train", "val", "test")
ROTATION_TOLERANCE = 1e-3  # largest entry of R R^T - I that still counts as a rotation
FRAME_NUMBER_MAX = 10**9
VERTEX_CHUNK = 64  # frames of vertices averaged at a time

TRACK_AGAIN = "Run the head tracking again"
TRANSFORMS_AGAIN = "Write the transforms again"


@dataclass(frozen=True)
class TrackerPoses:
    """Cameras of a head tracker: euler [N, 3] radians, trans [N, 3] tracker units, focal px."""

    euler: np.ndarray
    trans: np.ndarray
    focal: float
    file: Path
    # float32 [V, 3], the mean over the frames
    vertices: np.ndarray | None = None
    # float32 [1, 100]
    identity: np.ndarray | None = None
    # float32 [N, 79]
    expression: np.ndarray | None = None


@dataclass(frozen=True)
class Transforms:
    """The frames of all transforms_*.json files together, ascending by img_id."""

    focal: float
    width: int
    height: int
    # int64 [M], img_id
    image_ids: np.ndarray
    # int64 [M], aud_id
    audio_ids: np.ndarray
    # float64 [M, 4, 4], camera to world, translation in tenths of the tracker's unit
    matrices: np.ndarray
    # name of the split -> img_ids
    splits: dict[str, list[int]]
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _SplitFile:
    """One transforms_*.json file."""

    focal: float
    cx: float
    cy: float
    # (img_id, aud_id, matrix float64 [4, 4]) of each frame
    frames: list[tuple[int, int, np.ndarray]]

    @property
    def intrinsics(self) -> tuple[float, float, float]:
        return self.focal, self.cx, self.cy


# --- tracker files


def read_tracker_poses(file: Path) -> TrackerPoses | None:
    """Tracker parameters of `file`, or None when there is no such file.

    Raises InputRejected naming the tensor that is missing or wrong.
    """
    if not file.is_file():
        return None
    data = load_pickled(file)
    if not isinstance(data, dict):
        raise InputRejected(
            f"{file} holds a {type(data).__name__}",
            "expected a dict of tensors: euler [N, 3], trans [N, 3], focal [1]",
            TRACK_AGAIN,
        )
    euler, trans, focal = (
        _required_array(data, name, file) for name in ("euler", "trans", "focal")
    )
    _check_poses(euler, trans, float(np.ravel(focal)[0]), file)
    return TrackerPoses(
        euler,
        trans,
        float(np.ravel(focal)[0]),
        file,
        vertices=_mean_vertices(data.get("vertices"), file),
        identity=_array_of_shape(data, "id", (1, 100)),
        expression=_array_of_shape(data, "exp", (len(euler), 79)),
    )


def _required_array(data: dict[str, Any], name: str, file: Path) -> np.ndarray:
    """The tensor `name` as float32. Raises InputRejected when it is absent or empty."""
    array = _float_array(data.get(name))
    if array is None or not array.size:
        raise InputRejected(
            f"{file} has no tensor '{name}'",
            f"it holds {', '.join(str(key)[:40] for key in list(data)[:20]) or 'nothing'}",
            TRACK_AGAIN,
        )
    return array


def _check_poses(euler: np.ndarray, trans: np.ndarray, focal: float, file: Path) -> None:
    """Raise InputRejected unless the poses are finite, of one length, and before the camera."""
    frames = len(np.atleast_1d(euler))
    for name, array in (("euler", euler), ("trans", trans)):
        if array.shape != (frames, 3) or not np.isfinite(array).all():
            raise InputRejected(
                f"{file}: {name} is {array.shape}",
                "expected (frames, 3), all finite",
                TRACK_AGAIN,
            )
    if not focal > 0 or not np.isfinite(focal):
        raise InputRejected(
            f"{file}: focal is {focal}",
            "expected a length in px above 0",
            TRACK_AGAIN,
        )
    if max(np.abs(euler).max(), np.abs(trans).max(), focal) > VALUE_MAX:
        raise InputRejected(
            f"{file} holds a camera beyond {VALUE_MAX:g}",
            "expected angles in radians, tracker units and px",
            TRACK_AGAIN,
        )
    behind = int((trans[:, 2] >= 0).sum())
    if not (trans[:, 2] < 0).all():
        raise InputRejected(
            f"{file}: trans puts the head behind the camera in {behind} frames",
            "its z must be negative, about -7",
            TRACK_AGAIN,
        )


def _array_of_shape(data: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The tensor `name` as float32, or None unless it has this shape."""
    array = _float_array(data.get(name))
    return array if array is not None and array.shape == shape else None


def _float_array(value: Any) -> np.ndarray | None:
    """A dense real tensor as a float32 array, or None for anything else."""
    import torch

    if (
        not isinstance(value, torch.Tensor)
        or value.layout is not torch.strided
        or value.is_quantized
        or value.is_complex()
    ):
        return None
    return value.detach().float().numpy()


def _mean_vertices(value: Any, file: Path) -> np.ndarray | None:
    """The mean over the frames of `vertices` [N, V, 3], float32 [V, 3]; None without a tensor.

    The sum runs over chunks of frames because the tensor may take gigabytes.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        return None
    fix = "Remove the key: the import then computes a mesh"
    if (
        value.layout is not torch.strided
        or value.ndim != 3
        or value.shape[2] != 3
        or not value.numel()
    ):
        raise InputRejected(
            f"{file}: vertices is {tuple(value.shape)}", "expected (frames, V, 3)", fix
        )
    chunks = (value[i : i + VERTEX_CHUNK] for i in range(0, len(value), VERTEX_CHUNK))
    total: Any = sum(chunk.double().sum(0) for chunk in chunks)
    mean = (total / len(value)).float().numpy()
    if not is_in_range(mean):
        raise InputRejected(
            f"{file}: vertices holds values that are not finite", "expected tracker units", fix
        )
    return mean


# --- transforms


def read_transforms(path: Path) -> Transforms | None:
    """The joined transforms_{train,val,test}.json of the directory `path`, or None without them.

    A plain transforms.json is read when there are no split files. Raises InputRejected when a file
    is broken or the files contradict each other.
    """
    files = {split: path / f"transforms_{split}.json" for split in SPLITS}
    files = {split: file for split, file in files.items() if file.is_file()}
    if not files and (path / "transforms.json").is_file():
        files = {"train": path / "transforms.json"}
    if not files:
        return None
    contents = {split: _read_split_file(file) for split, file in files.items()}

    # Join the frames of all files. A frame may be in two splits, but then with one camera.
    frames: dict[int, tuple[int, int, np.ndarray]] = {}
    for split, content in contents.items():
        for frame in content.frames:
            known = frames.setdefault(frame[0], frame)
            if not np.allclose(known[2], frame[2], atol=1e-6):
                raise InputRejected(
                    f"{files[split]} and {files[next(iter(files))].name} disagree",
                    f"on the camera of frame {frame[0]}",
                    TRANSFORMS_AGAIN,
                )

    # All files must describe one camera.
    intrinsics = [content.intrinsics for content in contents.values()]
    if len(set(intrinsics)) > 1:
        raise InputRejected(
            f"{' and '.join(file.name for file in files.values())} of {path} disagree",
            f"on focal_len, cx, cy: {', '.join(map(str, intrinsics))}",
            TRANSFORMS_AGAIN,
        )
    order = sorted(frames)
    focal, cx, cy = intrinsics[0]
    return Transforms(
        focal,
        width=round(2 * cx),
        height=round(2 * cy),
        image_ids=np.array(order, np.int64),
        audio_ids=np.array([frames[i][1] for i in order], np.int64),
        matrices=np.stack([frames[i][2] for i in order]),
        splits={split: [frame[0] for frame in c.frames] for split, c in contents.items()},
        files=list(files.values()),
    )


def _read_split_file(file: Path) -> _SplitFile:
    """One transforms_*.json file, checked. Raises InputRejected naming what is wrong."""
    expected = "expected focal_len, cx, cy and frames with img_id and transform_matrix (4 x 4)"
    try:
        data = parse_json(read_text(file))
        focal, cx, cy = (float(data[key]) for key in ("focal_len", "cx", "cy"))
        frames = [
            (
                int(entry["img_id"]),
                int(entry.get("aud_id", entry["img_id"])),
                np.array(entry["transform_matrix"], np.float64),
            )
            for entry in data["frames"]
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        Unreadable,
    ) as error:
        raise InputRejected(
            f"{file} cannot be read",
            f"{type(error).__name__}: {reason(error)}; {expected}",
            TRANSFORMS_AGAIN,
        ) from error

    if not frames or not all(0 < value <= VALUE_MAX for value in (focal, cx, cy)):
        raise InputRejected(
            f"{file} describes no camera",
            f"focal_len, cx, cy are {(focal, cx, cy)}, {len(frames)} frames; {expected}",
            TRANSFORMS_AGAIN,
        )
    for image_id, audio_id, matrix in frames:
        _check_frame(file, image_id, audio_id, matrix)
    ids = [frame[0] for frame in frames]
    if len(set(ids)) != len(ids):
        raise InputRejected(
            f"{file} names a frame twice", "img_id must be unique", TRANSFORMS_AGAIN
        )
    return _SplitFile(focal, cx, cy, frames)


def _check_frame(file: Path, image_id: int, audio_id: int, matrix: np.ndarray) -> None:
    """Raise InputRejected unless the numbers are in range and the matrix is a rigid transform."""
    if not (0 <= image_id < FRAME_NUMBER_MAX and abs(audio_id) < FRAME_NUMBER_MAX):
        raise InputRejected(
            f"{file} has a frame with img_id {image_id}, aud_id {audio_id}",
            "expected frame numbers",
            TRANSFORMS_AGAIN,
        )
    if (
        matrix.shape != (4, 4)
        or not is_in_range(matrix)
        or np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > ROTATION_TOLERANCE
        or np.linalg.det(matrix[:3, :3]) < 0
    ):
        raise InputRejected(
            f"{file}: transform_matrix of frame {image_id} is no camera",
            f"expected a finite 4 x 4 matrix with a rotation, got {matrix.shape}",
            TRANSFORMS_AGAIN,
        )

"""MediaPipe's canonical face mesh: 468 vertices in cm, read from the metadata inside
`face_landmarker.task`.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from being import assets
from being.face.landmarks import MESH_POINTS
from being.face.topology import FACE_OVAL

METADATA = "geometry_pipeline_metadata_landmarks.binarypb"
FLOATS_PER_VERTEX = 5  # x, y, z in cm, then texture u, v


def canonical_mesh(model: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 [468, 3] in cm (x right, y up, z out of the face) and triangles int32 [898,
    3].

    Origin near the centre of the head at nose height; the numbering is that of the first 468
    landmarks. Triangles run counter-clockwise seen from outside; eyes and mouth are covered, only
    the face oval is a border.
    """
    vertices, triangles = _read(Path(model) if model else assets.fetch("face_landmarker"))
    return vertices.copy(), triangles.copy()


@lru_cache(maxsize=2)
def _read(model: Path) -> tuple[np.ndarray, np.ndarray]:
    with zipfile.ZipFile(model) as task:
        metadata = task.read(METADATA)
    mesh = next(
        value for field, value in _fields(metadata) if field == 1 and isinstance(value, bytes)
    )
    floats = b"".join(
        value for field, value in _fields(mesh) if field == 3 and isinstance(value, bytes)
    )
    indices = [value for field, value in _fields(mesh) if field == 4]
    vertices = np.frombuffer(floats, "<f4").reshape(-1, FLOATS_PER_VERTEX)[:, :3].astype(np.float32)
    assert vertices.shape == (MESH_POINTS, 3), vertices.shape
    return vertices, np.array(indices, np.int32).reshape(-1, 3)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field numbers and raw values of a protocol-buffer message (varint, 8-byte, nested or packed,
    4-byte).
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield field, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        else:
            size = {1: struct.calcsize("<q"), 5: struct.calcsize("<f")}[wire]
        yield field, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


SKULL_CENTRE = np.array(
    [0.0, 1.5, -3.5]
)  # cm, of the ellipsoid on which the upper border of the mesh lies
SKULL_AXES = np.array([8.0, 11.5, 10.0])  # cm
HAIR = 1.12  # ears and hair stand off the skull
SKULL_RINGS = (0.35, 0.7, 1.0)  # radians from the mesh's border towards the back of the head
CROWN = FACE_OVAL[np.r_[27:36, 0:10]]  # border from ear to ear over the forehead: 19 vertices


def with_skull(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The canonical mesh continued over temples, ears and hair: vertices float64 [468 + 57, 3] cm,
    triangles.

    The first 468 vertices and the first triangles are the mesh's own. Roughly a skull: good enough
    to say how a patch of hair will look after a turn of the head.
    """
    border = (vertices[CROWN] - SKULL_CENTRE) / SKULL_AXES
    around = np.arctan2(border[:, 1], border[:, 0])
    away = np.arctan2(np.hypot(border[:, 0], border[:, 1]), border[:, 2])
    rings = [
        np.stack(
            [
                np.sin(away + r) * np.cos(around),
                np.sin(away + r) * np.sin(around),
                np.cos(away + r),
            ],
            1,
        )
        for r in SKULL_RINGS
    ]
    added = np.concatenate(rings) * (HAIR * SKULL_AXES) + SKULL_CENTRE
    columns = [
        CROWN,
        *(MESH_POINTS + len(CROWN) * r + np.arange(len(CROWN)) for r in range(len(SKULL_RINGS))),
    ]
    strips = []
    for inner, outer in zip(columns[:-1], columns[1:], strict=True):
        strips.append(np.stack([inner[:-1], inner[1:], outer[:-1]], 1))
        strips.append(np.stack([inner[1:], outer[1:], outer[:-1]], 1))
    every = np.concatenate([triangles, *strips])
    return np.concatenate([vertices.astype(np.float64), added]), every.astype(np.int32)

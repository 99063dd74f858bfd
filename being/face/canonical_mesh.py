"""MediaPipe's canonical face mesh (468 vertices, cm), optionally extended by a rough skull."""

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

METADATA = "geometry_pipeline_metadata_landmarks.binarypb"  # inside `face_landmarker.task`
FLOATS_PER_VERTEX = 5  # x, y, z in cm, then texture u, v

SKULL_CENTRE = np.array([0.0, 1.5, -3.5])  # cm, of the ellipsoid through the mesh's upper border
SKULL_AXES = np.array([8.0, 11.5, 10.0])  # cm, half axes of this ellipsoid
HAIR_SCALE = 1.12  # ears and hair stand off the skull by this factor
SKULL_RINGS = (0.35, 0.7, 1.0)  # radians from the mesh's border towards the back of the head
CROWN = FACE_OVAL[np.r_[27:36, 0:10]]  # border from ear to ear over the forehead: 19 vertices


def canonical_mesh(model: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 [468, 3] in cm and triangles int32 [898, 3] of the canonical face mesh.

    Axes: x right, y up, z out of the face; the origin is near the centre of the head at nose
    height. The vertices are numbered as the first 468 landmarks. Triangles run counter-clockwise
    seen from outside. Eyes and mouth are covered; only the face oval is a border.

    model: a `face_landmarker.task`, by default the one that `being.assets` provides.
    """
    vertices, triangles = _read(Path(model) if model else assets.fetch("face_landmarker"))
    return vertices.copy(), triangles.copy()


def add_skull(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The canonical mesh with temples, ears and hair added: vertices float64 [468 + 57, 3] cm.

    Also returns all triangles, int32. The first 468 vertices and the first triangles are those of
    the mesh. The added surface is an ellipsoid. It is accurate enough to predict how a patch of
    hair looks after a turn of the head.
    """
    # Angles of the border's vertices on the ellipsoid, seen from its centre along z.
    border = (vertices[CROWN] - SKULL_CENTRE) / SKULL_AXES
    around = np.arctan2(border[:, 1], border[:, 0])
    away = np.arctan2(np.hypot(border[:, 0], border[:, 1]), border[:, 2])

    # Rings of vertices on the ellipsoid, each farther back than the one before.
    rings = []
    for step in SKULL_RINGS:
        x, y = np.sin(away + step) * np.cos(around), np.sin(away + step) * np.sin(around)
        rings.append(np.stack([x, y, np.cos(away + step)], 1))
    added = np.concatenate(rings) * (HAIR_SCALE * SKULL_AXES) + SKULL_CENTRE

    # Two triangles for each cell between a ring and the next.
    ring_indices = [CROWN]
    for ring in range(len(SKULL_RINGS)):
        ring_indices.append(MESH_POINTS + len(CROWN) * ring + np.arange(len(CROWN)))
    strips = []
    for inner, outer in zip(ring_indices[:-1], ring_indices[1:], strict=True):
        strips.append(np.stack([inner[:-1], inner[1:], outer[:-1]], 1))
        strips.append(np.stack([inner[1:], outer[1:], outer[:-1]], 1))

    all_triangles = np.concatenate([triangles, *strips])
    return np.concatenate([vertices.astype(np.float64), added]), all_triangles.astype(np.int32)


@lru_cache(maxsize=2)
def _read(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles in the metadata of a `face_landmarker.task`."""
    with zipfile.ZipFile(model) as task:
        metadata = task.read(METADATA)

    # Field 1 of the metadata is the mesh. In the mesh, field 3 holds floats of vertices and
    # field 4 one vertex index each.
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
    """Field numbers and raw values of a protocol-buffer message.

    Values with wire type 0 (varint) are ints. Those with wire types 1 (8 bytes), 2 (nested or
    packed) and 5 (4 bytes) are bytes.
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
    """The variable-length integer at byte `at`, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7

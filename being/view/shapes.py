"""Gaussians as a mesh of ellipsoids, for the window."""

from __future__ import annotations

import numpy as np

from being.view.content import Cloud

OPACITY_LEAST = 0.2  # a more transparent Gaussian would hide what is seen through it
FINE_MOST = 40_000  # Gaussians whose ellipsoids have 80 triangles; those of more have 20
DEVIATIONS = 1.5  # standard deviations from the middle of an ellipsoid to its surface


def ellipsoids(cloud: Cloud) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ellipsoids of the Gaussians with at least OPACITY_LEAST as one mesh.

    Returns vertices float64 [12 n, 3], triangles int32 [20 n, 3] and colours float64 [12 n, 3];
    of at most FINE_MOST Gaussians [42 n, 3], [80 n, 3] and [42 n, 3].
    """
    shown = cloud.opacities >= OPACITY_LEAST
    corners, faces = icosahedron()
    if shown.sum() <= FINE_MOST:
        corners, faces = subdivided(corners, faces)
    scaled = corners[None] * (DEVIATIONS * cloud.scales[shown])[:, None]
    turned = np.einsum("nij,nvj->nvi", cloud.rotations[shown], scaled)
    vertices = turned + cloud.means[shown][:, None]
    starts = len(corners) * np.arange(len(vertices), dtype=np.int32)
    triangles = faces[None] + starts[:, None, None]
    colours = np.repeat(cloud.colours[shown], len(corners), axis=0)
    return (
        vertices.reshape(-1, 3).astype(np.float64),
        triangles.reshape(-1, 3),
        colours.astype(np.float64),
    )


def icosahedron() -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 [12, 3] on the unit sphere, and triangles int32 [20, 3], outwards."""
    golden = (1 + 5**0.5) / 2
    plane = np.array([[-1, golden], [1, golden], [-1, -golden], [1, -golden]])
    zero = np.zeros((4, 1))
    vertices = np.concatenate(
        [
            np.concatenate([plane, zero], 1),
            np.concatenate([zero, plane], 1),
            np.concatenate([plane[:, 1:], zero, plane[:, :1]], 1),
        ]
    )
    # Faces are the triples of neighbours; the distance of neighbours is 2.
    near = np.isclose(np.linalg.norm(vertices[:, None] - vertices[None], axis=-1), 2)
    faces = [
        (a, b, c)
        for a in range(12)
        for b in range(a + 1, 12)
        for c in range(b + 1, 12)
        if near[a, b] and near[b, c] and near[a, c]
    ]
    outward = []
    for a, b, c in faces:
        normal = np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
        outward.append((a, b, c) if normal @ vertices[a] > 0 else (a, c, b))
    return vertices / np.linalg.norm(vertices[0]), np.array(outward, np.int32)


def subdivided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh on the unit sphere with each triangle cut into four."""
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    pairs, place = np.unique(sides, axis=0, return_inverse=True)
    middles = vertices[pairs].sum(1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    a, b, c = faces.T
    ab, bc, ca = (place.reshape(-1, 3) + len(vertices)).T
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    triangles = np.concatenate([np.stack(part, 1) for part in parts])
    return np.concatenate([vertices, middles]), triangles.astype(np.int32)

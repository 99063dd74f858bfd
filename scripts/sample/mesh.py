"""Geometry of the sample person's head: meshes, face units and the pose of a frame.

Lengths in the mesh's own unit, 10 cm (that of `being/conventions.py`); x to the picture's right, y
up, z to the camera.
"""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import scipy.sparse as sp

PIVOT = np.array([0.0, 5.9, 0.15])  # the head turns about this point of the neck
PERSON = {  # MakeHuman targets and weights of a face that is nobody's
    "macrodetails/caucasian-female-young": 0.45,
    "macrodetails/asian-female-young": 0.30,
    "macrodetails/african-female-young": 0.25,
    "head/head-oval": 0.30,
}
NECK_BONES = {"neck01": 0.25, "neck02": 0.5, "neck03": 0.8}  # share of the head's rotation
BODY_BONES = (
    "spine",
    "pelvis",
    "root",
    "clavicle",
    "shoulder",
    "upperarm",
    "lowerarm",
    "wrist",
    "finger",
    "metacarpal",
    "upperleg",
    "lowerleg",
    "foot",
    "toe",
    "breast",
)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix float64 [3, 3] = Y(yaw) @ X(pitch) @ Z(roll), radians."""
    (cy, cx, cz), (sy, sx, sz) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    return (
        np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )


def _subdivide(
    quads: np.ndarray, count: int, uv: np.ndarray
) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """One Catmull-Clark step: (stencil [new, count], new quads, new uv [Q, 4, 2])."""
    edges = np.sort(np.stack([quads, np.roll(quads, -1, 1)], 2).reshape(-1, 2), 1)
    edge, inverse, uses = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1, 4)
    faces, edge_count, ids = len(quads), len(edge), np.arange(len(quads))
    face_of_vertex = sp.csr_matrix(
        (np.ones(faces * 4), (np.repeat(ids, 4), quads.ravel())), (faces, count)
    )
    vertex_of_edge = sp.csr_matrix(
        (np.full(edge_count * 2, 0.5), (np.repeat(np.arange(edge_count), 2), edge.ravel())),
        (edge_count, count),
    )
    face_of_edge = sp.csr_matrix(
        (np.ones(faces * 4), (inverse.ravel(), np.repeat(ids, 4))), (edge_count, faces)
    )
    centre, border = face_of_vertex * 0.25, uses == 1
    edge_point = (
        sp.diags(np.where(border, 1.0, 0.5)) @ vertex_of_edge
        + sp.diags(np.where(border, 0.0, 0.25)) @ face_of_edge @ centre
    )
    edges_at = (vertex_of_edge > 0).astype(float).T
    valence = np.maximum(np.asarray(edges_at.sum(1)).ravel(), 1)
    at_border = np.zeros(count, bool)
    at_border[edge[border].ravel()] = True
    inner = (
        sp.diags(1 / valence**2) @ face_of_vertex.T @ centre
        + sp.diags(2 / valence**2) @ edges_at @ vertex_of_edge
        + sp.diags((valence - 3) / valence)
    )
    outer = sp.identity(count) * 0.5 + 0.25 * edges_at[:, border] @ vertex_of_edge[border]
    kept = sp.diags((~at_border).astype(float)) @ inner + sp.diags(at_border.astype(float)) @ outer
    stencil = sp.vstack([kept, edge_point, centre]).tocsr()
    on_edge, on_face = count + inverse, count + edge_count + ids
    corners = [
        np.stack([quads[:, k], on_edge[:, k], on_face, on_edge[:, k - 1]], 1) for k in range(4)
    ]
    mid_uv, middle = (uv + np.roll(uv, -1, 1)) / 2, uv.mean(1)
    uvs = [np.stack([uv[:, k], mid_uv[:, k], middle, mid_uv[:, k - 1]], 1) for k in range(4)]
    return stencil, np.concatenate(corners), np.concatenate(uvs)


@dataclass
class Part:
    """A subdivided piece of the mesh: `stencil` takes base vertices `base` to its own; `triangles`
    int32 [T, 3].
    """

    base: np.ndarray
    stencil: sp.csr_matrix
    quads: np.ndarray
    uv: np.ndarray
    rest: np.ndarray
    triangles: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.triangles = np.concatenate(
            [self.quads[:, [0, 1, 2]], self.quads[:, [0, 2, 3]]]
        ).astype(np.int32)

    def __len__(self) -> int:
        return len(self.rest)


class Head:
    """The person: parts `skin cloth eye_left eye_right teeth tongue lash`, face units, and how they
    follow a pose.
    """

    def __init__(self, data: Path):
        self.folder = data / "mpfb2"
        self._read_base()
        units = data / "faceunits01" / "targets" / "faceunits"
        self.units = {path.stem: self._target(path) for path in sorted(units.glob("*.target"))}
        self.neutral = self.vertices.copy()
        for name, weight in PERSON.items():
            self.neutral += weight * self._target(self.folder / "targets" / f"{name}.target.gz")
        self.follow = self._head_weights()
        self.parts = self._make_parts()

    def _read_base(self) -> None:
        vertices, uv, faces, face_uv, groups, group = [], [], [], [], [], ""
        for line in (self.folder / "3dobjs" / "base.obj").read_text().splitlines():
            kind, *rest = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif kind == "vt":
                uv.append([float(x) for x in rest[:2]])
            elif kind == "g":
                group = rest[0]
            elif kind == "f":
                corners = [x.split("/") for x in rest]
                faces.append([int(x[0]) - 1 for x in corners])
                face_uv.append([int(x[1]) - 1 for x in corners])
                groups.append(group)
        self.vertices, self.faces, self.groups = (
            np.array(vertices),
            np.array(faces),
            np.array(groups),
        )
        self.face_uv = np.array(uv)[np.array(face_uv)]

    def _target(self, path: Path) -> np.ndarray:
        """Offsets [V, 3] of a MakeHuman target file."""
        offsets = np.zeros_like(self.vertices)
        raw = path.read_bytes()
        for line in (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().splitlines():
            values = line.split()
            if len(values) == 4 and not line.startswith("#"):
                offsets[int(values[0])] = [float(x) for x in values[1:]]
        return offsets

    def _head_weights(self) -> np.ndarray:
        """Share [V] of the head's rotation that each vertex follows, from the rig's weights."""
        rig = json.loads((self.folder / "rigs" / "standard" / "weights.default.json").read_text())[
            "weights"
        ]
        share, total = np.zeros(len(self.vertices)), np.zeros(len(self.vertices))
        for bone, pairs in rig.items():
            follows = NECK_BONES.get(bone, 0.0 if bone.startswith(BODY_BONES) else 1.0)
            for vertex, weight in pairs:
                share[vertex] += follows * weight
                total[vertex] += weight
        return share / np.maximum(total, 1e-6)

    def _make_parts(self) -> dict[str, Part]:
        middle, groups = self.neutral[self.faces].mean(1), self.groups
        narrow, lashes = (
            np.abs(middle[:, 0]) < 0.9,
            np.char.find(groups.astype(str), "eyelashes") >= 0,
        )
        return {
            "skin": self._part((groups == "body") & (middle[:, 1] > 4.9) & narrow, 2),
            "cloth": self._part(
                (groups == "helper-tights") & (middle[:, 1] > 3.2) & (np.abs(middle[:, 0]) < 3.6), 2
            ),
            "eye_left": self._part(groups == "helper-l-eye", 4),
            "eye_right": self._part(groups == "helper-r-eye", 4),
            "teeth": self._part(
                (groups == "helper-upper-teeth") | (groups == "helper-lower-teeth"), 2
            ),
            "tongue": self._part(groups == "helper-tongue", 1),
            "lash": self._part(lashes, 1),
        }

    def _part(self, chosen: np.ndarray, levels: int) -> Part:
        base, inverse = np.unique(self.faces[chosen], return_inverse=True)
        quads, uv, stencil = (
            inverse.reshape(-1, 4),
            self.face_uv[chosen],
            sp.identity(len(base)).tocsr(),
        )
        for _ in range(levels):
            step, quads, uv = _subdivide(quads, stencil.shape[0], uv)
            stencil = (step @ stencil).tocsr()
        return Part(base, stencil, quads, uv, stencil @ self.neutral[base])

    def painted(self, part: Part, texture: str) -> np.ndarray:
        """A UV mask `mpfb_<texture>.jpg` at the part's vertices: float64 [n], 0 to 1."""
        image = cv2.imread(
            str(self.folder / "textures" / f"mpfb_{texture}.jpg"), cv2.IMREAD_GRAYSCALE
        )
        assert image is not None, texture
        height, width = image.shape
        u, v = part.uv.reshape(-1, 2).T
        value = (
            image[
                np.clip(((1 - v) * height).astype(int), 0, height - 1),
                np.clip((u * width).astype(int), 0, width - 1),
            ]
            / 255.0
        )
        corner = part.quads.ravel()
        return np.bincount(corner, value, len(part)) / np.maximum(
            np.bincount(corner, minlength=len(part)), 1
        )

    def base_pose(
        self, weights: dict[str, float], angles: np.ndarray, sway: np.ndarray
    ) -> np.ndarray:
        """Base vertices [V, 3] of a frame: face units, then the head's rotation about PIVOT, then
        sway.
        """
        moved = self.neutral.copy()
        for name, weight in weights.items():
            if abs(weight) > 1e-4:
                moved += weight * self.units[name]
        turned = (moved - PIVOT) @ rotation(*angles).T + PIVOT
        return moved + self.follow[:, None] * (turned - moved) + sway

    def lip_pair(self) -> tuple[int, int]:
        """Base vertices (upper, lower) of the inner lips' middle: the pair that touches, the jaw
        moves one.
        """
        drop = np.linalg.norm(self.units["jawOpen"], axis=1)
        body = np.unique(self.faces[self.groups == "body"])
        middle = body[
            (np.abs(self.neutral[body, 0]) < 1e-3)
            & (self.neutral[body, 2] > 1.0)
            & (np.abs(self.neutral[body, 1] - 6.05) < 0.3)
        ]
        upper, lower = (
            middle[drop[middle] < 0.25 * drop.max()],
            middle[drop[middle] > 0.4 * drop.max()],
        )
        gap = np.linalg.norm(self.neutral[upper][:, None] - self.neutral[lower][None], axis=2)
        i, j = np.unravel_index(gap.argmin(), gap.shape)
        return int(upper[i]), int(lower[j])

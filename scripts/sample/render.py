"""Render one frame of the sample person: image, class mask and true lip points.

Camera as in `being/conventions.py`: u = FOCAL * x / z + (W - 1) / 2, pixel centres at whole
numbers, y down.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from scripts.sample import appearance
from scripts.sample.mesh import PIVOT, Head, rotation
from scripts.sample.raster import (
    CLOTH,
    EYE,
    HAIR,
    LASH,
    SKIN,
    TEETH,
    TONGUE,
    raster,
    ribbons,
    shade,
    vertex_normals,
)

SIZE = 512  # px, side of the picture
SAMPLES = 2  # super-sampling a side
CAMERA = np.array([0.0, 6.50, 13.0])  # 10 cm: where the camera stands, looking along -z
SPAN = 3.3  # 10 cm, height of the picture at the head's depth 0
FOCAL = CAMERA[2] / SPAN * SIZE  # px
ORIGIN = np.array([0.0, 6.45, 0.55])  # 10 cm: mesh point that the truth calls head-space (0, 0, 0)
HEAD_FOLLOWS = 0.80  # skin that follows this share of the head's rotation is head, the rest neck
BACKGROUND, NECK, TORSO, HEAD_CLASS = range(4)  # classes of the mask

SHADOW_SIZE, SHADOW_SPAN = 768, 5.2  # px; 10 cm
SHADOW_CENTRE = np.array([0.0, 6.2, 0.3], np.float32)
LIGHTS = np.array(
    [[-0.50, 0.52, 0.70], [0.75, 0.12, 0.62], [0.55, 0.50, -0.67]], np.float32
)  # key, fill, rim
LIGHTS /= np.linalg.norm(LIGHTS, axis=1, keepdims=True)
LIGHT_COLOURS = np.array([[1.95, 1.85, 1.72], [0.375, 0.425, 0.50], [1.20, 1.16, 1.14]], np.float32)
SCATTER = (7.0, 3.0, 1.8)  # px at SAMPLES = 2: how far red, green, blue light wanders in skin
SHARE_SCATTERED = 0.70
UNSTRETCHED_TEETH = np.array(
    [0.90, 1.0, 1.0]
)  # the teeth narrowed, so that none shows at a mouth corner
LASH_WIDTH = 0.20  # share of the mesh's own lashes that is kept, else they look like paint
LOWER_LASH = 6.645  # 10 cm; the lashes under this height are left out


@dataclass(frozen=True)
class Frame:
    """picture uint8 [512, 512, 3] RGB; classes uint8 [512, 512]; aperture px; head_to_camera
    float64 [4, 4].
    """

    picture: np.ndarray
    classes: np.ndarray
    aperture: float
    head_to_camera: np.ndarray


def head_to_camera(angles: np.ndarray, sway: np.ndarray) -> np.ndarray:
    """Matrix [4, 4] from head space (mesh in rest pose minus ORIGIN) to the camera: x right, y
    down, z forward.
    """
    turn, flip = rotation(*angles), np.diag([1.0, -1.0, -1.0])
    out = np.eye(4)
    out[:3, :3] = flip @ turn
    out[:3, 3] = flip @ (turn @ (ORIGIN - PIVOT) + PIVOT + sway - CAMERA)
    return out


def project(points: np.ndarray, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel x, y and depth [n] of mesh-space points [n, 3] in a picture of `size` px."""
    depth, focal = CAMERA[2] - points[:, 2], CAMERA[2] / SPAN * size
    middle, offset = (size - 1) / 2, points - CAMERA
    return middle + offset[:, 0] * focal / depth, middle - offset[:, 1] * focal / depth, depth


def background(size: int) -> np.ndarray:
    """A plain wall with a soft light on it and the grain of plaster: linear float32 [size, size,
    3].
    """
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    glow = np.clip(1 - 0.9 * np.hypot(x - 0.42, y - 0.35), 0, 1)
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(size * size)], 1)
    waves = ((5, 0.06), (19, 0.05), (61, 0.06), (140, 0.04))
    grain = np.sum([a * (appearance.noise(flat, f, 40 + f) - 0.5) for f, a in waves], axis=0)
    wall = (
        appearance.linear(0.50, 0.55, 0.60)
        * ((0.35 + 0.75 * glow) * (1 + grain.reshape(size, size)))[..., None]
    )
    return wall.astype(np.float32)


class Renderer:
    """The person ready to render: everything that is the same in all frames is made here."""

    def __init__(self, head: Head):
        self.head, parts = head, head.parts
        self.strands = [appearance.hair(head), appearance.brows(head)]
        self.lips = head.lip_pair()
        eyes = [appearance.eye_appearance(parts[name]) for name in ("eye_left", "eye_right")]
        flat = [
            (np.tile(appearance.linear(*c), (len(parts[name]), 1)), np.full(len(parts[name]), r))
            for name, c, r in (
                ("tongue", (0.62, 0.30, 0.29), 0.35),
                ("lash", (0.20, 0.14, 0.11), 0.5),
            )
        ]
        looks = [
            appearance.skin_appearance(head),
            appearance.cloth_appearance(parts["cloth"]),
            *eyes,
            appearance.teeth_appearance(parts["teeth"]),
            *flat,
        ]
        materials = [SKIN, CLOTH, EYE, EYE, TEETH, TONGUE, LASH]
        follows = parts["skin"].stencil @ head.follow[parts["skin"].base]
        classes = [
            np.where(follows > HEAD_FOLLOWS, HEAD_CLASS, NECK),
            *map(np.array, [TORSO] + [HEAD_CLASS] * 5),
        ]
        columns: list[list[np.ndarray]] = [
            [],
            [],
            [],
            [],
            [],
        ]  # triangles, colour, rough, material, class
        self.offsets, count = {}, 0
        for (name, part), (colour, rough), material, kind in zip(
            parts.items(), looks, materials, classes, strict=True
        ):
            n, triangles = len(part), part.triangles
            if name == "lash":
                triangles = triangles[part.rest[triangles, 1].min(1) > LOWER_LASH]
            self.offsets[name] = slice(count, count + n)
            for column, value in zip(
                columns,
                (triangles + count, colour, rough, np.full(n, material), np.broadcast_to(kind, n)),
                strict=True,
            ):
                column.append(value)
            count += n
        self.strand_offsets = []
        for strands in self.strands:
            m, k = strands.points.shape[:2]
            first = (np.arange(m)[:, None] * 2 * k + 2 * np.arange(k - 1)[None]).ravel()[:, None]
            triangles = np.concatenate([first + [0, 1, 2], first + [1, 3, 2]]) + count
            n = 2 * k * m
            values = (
                triangles,
                np.repeat(strands.colour, 2 * k, 0),
                np.full(n, 0.35),
                np.full(n, HAIR),
                np.full(n, HEAD_CLASS),
            )
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            self.strand_offsets.append(slice(count, count + n))
            count += n
        self.triangles = np.ascontiguousarray(np.concatenate(columns[0]), np.int32)
        self.colour, self.rough = (np.concatenate(c).astype(np.float32) for c in columns[1:3])
        self.material, self.classes = (np.concatenate(c).astype(np.uint8) for c in columns[3:])
        self.vertex, self.normal, self.way = (np.zeros((count, 3), np.float32) for _ in range(3))
        self._prepare_fixes()
        self.wall = background(SIZE * SAMPLES)
        right = np.cross([0, 1, 0], LIGHTS[0])
        right /= np.linalg.norm(right)
        self.basis = np.stack([right, np.cross(LIGHTS[0], right), LIGHTS[0]]).astype(np.float32)

    def _prepare_fixes(self) -> None:
        """Rest-pose data of the small corrections: lash anchors, collar, teeth."""
        parts, lash = self.head.parts, self.head.parts["lash"].rest
        lids = np.where(self.head.painted(parts["skin"], "eyelids") > 0.3)[0]
        self.lash_anchor = lids[cKDTree(parts["skin"].rest[lids]).query(lash)[1]]
        cloth, skin = parts["cloth"].rest, parts["skin"].rest
        self.over_collar = np.maximum(cloth[:, 1] - appearance.collar_height(cloth), 0.0)
        ring = skin[np.abs(skin[:, 1] - appearance.collar_height(skin)) < 0.05]
        self.neck_axis = np.array([0.0, (ring[:, 2].min() + ring[:, 2].max()) / 2])
        upper = self.head.parts["teeth"].stencil @ (parts["teeth"].base >= 15060).astype(float)
        self.teeth_shift = np.where(upper[:, None] > 0.5, [0, -0.05, -0.02], [0, -0.02, -0.04])
        self.teeth_shift = self.teeth_shift + parts["teeth"].rest * (UNSTRETCHED_TEETH - 1)

    def _place(
        self, weights: dict[str, float], angles: np.ndarray, sway: np.ndarray
    ) -> tuple[float, float]:
        """Compute vertices, normals and directions of a pose; returns lip aperture (px) and eye
        height.
        """
        base, turn = self.head.base_pose(weights, angles, sway), rotation(*angles)
        placed = {name: part.stencil @ base[part.base] for name, part in self.head.parts.items()}
        anchor = placed["skin"][self.lash_anchor]
        placed["lash"] = anchor + LASH_WIDTH * (placed["lash"] - anchor)
        placed["teeth"] += self.teeth_shift @ turn.T
        placed["tongue"] += np.array([0, -0.09, -0.10]) @ turn.T
        self._tuck_collar(placed["cloth"])
        for name, part in self.head.parts.items():
            here = self.offsets[name]
            self.vertex[here] = placed[name]
            if name.startswith("eye"):
                outward = placed[name] - (placed[name].min(0) + placed[name].max(0)) / 2
                self.normal[here] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
            else:
                self.normal[here] = vertex_normals(self.vertex[here], part.triangles)
        skin, rest = self.offsets["skin"], self.head.parts["skin"].rest
        for strands, here in zip(self.strands, self.strand_offsets, strict=True):
            ribbons(
                strands.points,
                rest[strands.root].astype(np.float32),
                self.vertex[skin][strands.root],
                self.normal[skin][strands.root],
                strands.radius,
                turn.astype(np.float32),
                CAMERA.astype(np.float32),
                self.vertex[here],
                self.normal[here],
                self.way[here],
            )
        _, lip_y, _ = project(base[list(self.lips)])
        return float(lip_y[1] - lip_y[0]), 6.66 + float(sway[1])

    def _tuck_collar(self, cloth: np.ndarray) -> None:
        """Folds what reaches over the collar line down and in, behind the neck's skin, so that no
        gap shows.
        """
        over = self.over_collar > 0
        depth = self.over_collar[over]
        cloth[over, 1] -= depth + np.minimum(depth, 0.08)
        inward = np.clip(1 - 1.2 * depth, 0.6, 1.0)[:, None]
        flat = cloth[over][:, [0, 2]]
        cloth[np.ix_(over, [0, 2])] = self.neck_axis + (flat - self.neck_axis) * inward

    def __call__(self, weights: dict[str, float], angles: np.ndarray, sway: np.ndarray) -> Frame:
        """The frame of a pose. weights: face unit -> 0..1; angles [3] yaw, pitch, roll, rad; sway
        [3], 10 cm.
        """
        aperture, lid_height = self._place(weights, angles, sway)
        size = SIZE * SAMPLES
        x, y, z = (a.astype(np.float32) for a in project(self.vertex, size))
        depth, index = np.full((size, size), 1e9, np.float32), np.full((size, size), -1, np.int32)
        bary = np.zeros((size, size, 2), np.float32)
        raster(x, y, z, self.triangles, depth, index, bary)
        irradiance, albedo, added = (np.zeros((size, size, 3), np.float32) for _ in range(3))
        kind = np.full((size, size), 255, np.uint8)
        shade(
            index,
            bary,
            self.triangles,
            self.vertex,
            self.normal,
            self.way,
            self.colour,
            self.rough,
            self.material,
            _occlusion(depth),
            self._shadow_depth(),
            self.basis,
            SHADOW_CENTRE,
            np.float32(SHADOW_SIZE / SHADOW_SPAN),
            LIGHTS,
            LIGHT_COLOURS,
            CAMERA.astype(np.float32),
            np.float32(lid_height),
            irradiance,
            albedo,
            added,
            kind,
        )
        _scatter(irradiance, kind == SKIN)
        light = np.where(
            (index >= 0)[..., None], albedo * irradiance + np.minimum(added, 3.0), self.wall
        )
        classes = np.where(index >= 0, self.classes[self.triangles[index, 0]], BACKGROUND).astype(
            np.uint8
        )
        picture = _tone(cv2.resize(light, (SIZE, SIZE), interpolation=cv2.INTER_AREA))
        return Frame(picture, classes[::SAMPLES, ::SAMPLES], aperture, head_to_camera(angles, sway))

    def _shadow_depth(self) -> np.ndarray:
        """Depth seen from the key light (orthographic): float32 [SHADOW_SIZE, SHADOW_SIZE]."""
        q, scale = (
            (self.vertex - SHADOW_CENTRE) @ self.basis.T,
            np.float32(SHADOW_SIZE / SHADOW_SPAN),
        )
        depth, shape = (
            np.full((SHADOW_SIZE, SHADOW_SIZE), 1e9, np.float32),
            (SHADOW_SIZE, SHADOW_SIZE),
        )
        middle = np.float32(SHADOW_SIZE / 2)
        raster(
            q[:, 0] * scale + middle,
            middle - q[:, 1] * scale,
            -q[:, 2],
            self.triangles,
            depth,
            np.empty(shape, np.int32),
            np.empty((*shape, 2), np.float32),
        )
        return depth


def _occlusion(depth: np.ndarray) -> np.ndarray:
    """Screen-space ambient occlusion [H, W], 0..1: how far a pixel lies behind its surroundings, at
    two scales.
    """
    far = np.where(depth < 1e8, depth, np.float32(CAMERA[2] + 1.2))
    out = np.ones_like(far)
    for shrink, sigma, strength in ((1, 6.0, 2.2), (4, 22.0, 0.9)):
        small = cv2.resize(far, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        mean = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / shrink), far.shape[::-1])
        out *= np.clip(1 - strength * np.clip(far - mean - 0.004 * sigma, 0, 0.5), 0.12, 1)
    return out


def _scatter(irradiance: np.ndarray, skin: np.ndarray) -> None:
    """Blurs the skin's irradiance [H, W, 3] in place, red the widest: light under the skin, at half
    resolution.
    """
    height, width = skin.shape
    cover = skin.astype(np.float32)
    small_cover = cv2.resize(cover, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    for channel, sigma in enumerate(SCATTER):
        plane = cv2.resize(
            irradiance[..., channel] * cover,
            (width // 2, height // 2),
            interpolation=cv2.INTER_AREA,
        )
        mean = cv2.GaussianBlur(plane, (0, 0), sigma / 2)
        mean = mean / np.maximum(cv2.GaussianBlur(small_cover, (0, 0), sigma / 2), 1e-3)
        wide = cv2.resize(mean, (width, height))
        own = irradiance[..., channel]
        irradiance[..., channel] = np.where(skin, own + SHARE_SCATTERED * (wide - own), own)


def _tone(light: np.ndarray) -> np.ndarray:
    """uint8 sRGB of linear light, through a filmic curve (Narkowicz's fit of ACES)."""
    x = 1.05 * light
    x = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    srgb = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.uint8)

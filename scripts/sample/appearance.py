"""Appearance of the sample person: colours, roughness, and strands of hair and brows.

All of it is computed once, in the rest pose.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from scripts.sample.mesh import Head, Part
from scripts.sample.raster import vertex_normals

HAIR_STRANDS, BROW_STRANDS, STRAND_POINTS = 9000, 420, 9
# Side view of the hairline: over these heights hair grows behind these depths.
HAIRLINE_Y = [5.70, 5.95, 6.30, 6.60, 6.72, 6.90, 7.10, 7.25, 7.62]
HAIRLINE_Z = [-0.60, -0.12, 0.12, 0.20, 0.50, 0.62, 0.72, 0.88, 2.00]
COLLAR_Y = 5.36  # height of the collar at depth COLLAR_Z; it falls towards the front
COLLAR_Z, COLLAR_FALL = 0.2, 0.22


def linear(*srgb: float) -> np.ndarray:
    """Linear light [3] of an sRGB colour in 0..1."""
    c = np.array(srgb, float)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(points: np.ndarray, frequency: float, seed: int = 0) -> np.ndarray:
    """Value noise [n] in 0..1 at points [n, 3], a lattice of `frequency` cells a unit."""
    scaled = points * frequency
    cell = np.floor(scaled).astype(np.int64)
    t = scaled - cell
    t, total = t * t * (3 - 2 * t), np.zeros(len(points))
    for corner in np.ndindex(2, 2, 2):
        j = cell + np.array(corner)
        h = (j[:, 0] * 73856093) ^ (j[:, 1] * 19349663) ^ (j[:, 2] * 83492791) ^ (seed * 2654435761)
        h = (h ^ (h >> 13)) * 1274126177 & 0x7FFFFFFF
        total += np.prod(np.where(np.array(corner), t, 1 - t), 1) * (
            ((h ^ (h >> 16)) & 0xFFFF) / 65535.0
        )
    return total


def mix(base: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return base + (colour - base) * amount[:, None]


def inside_hair(points: np.ndarray) -> np.ndarray:
    """Depth [n] behind the hairline, positive where hair grows, with a wavy edge."""
    ragged = 0.10 * (noise(points, 6, 5) - 0.5) + 0.05 * (noise(points, 17, 6) - 0.5)
    ragged *= 1 + 2 * step(
        7.0, 7.3, points[:, 1]
    )  # over the forehead the line runs across the slope
    return np.interp(points[:, 1], HAIRLINE_Y, HAIRLINE_Z) - points[:, 2] + ragged


def brow_height(x: np.ndarray) -> np.ndarray:
    return np.interp(
        x, [0.10, 0.18, 0.28, 0.36, 0.44, 0.52], [6.80, 6.835, 6.875, 6.89, 6.865, 6.80]
    )


def collar_height(points: np.ndarray) -> np.ndarray:
    """Height [n] at which the jumper ends, over the depth of each point."""
    return COLLAR_Y - COLLAR_FALL * (points[:, 2] - COLLAR_Z)


def skin_appearance(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Linear colour [n, 3] and roughness [n] of the skin's vertices."""
    part = head.parts["skin"]
    r = part.rest

    def spot(x: float, y: float, z: float, size: float) -> np.ndarray:
        return np.exp(
            -(
                ((np.abs(r[:, 0]) - x) ** 2 + (r[:, 1] - y) ** 2 + (r[:, 2] - z) ** 2)
                / (2 * size**2)
            )
        )

    grain = noise(r, 9, 1) * 0.5 + noise(r, 22, 2) * 0.3 + noise(r, 50, 3) * 0.2 - 0.5
    flush = (
        0.75 * spot(0.38, 6.32, 1.05, 0.16)
        + 0.7 * spot(0, 6.33, 1.5, 0.10)
        + 0.35 * spot(0, 5.72, 1.3, 0.13)
        + 0.8 * head.painted(part, "ears")
        + 0.25 * spot(0.29, 6.55, 1.2, 0.1)
        + 0.5 * grain
    )
    colour = linear(0.76, 0.57, 0.47) * (
        1 - np.clip(flush, 0, 1)[:, None] * np.array([0.02, 0.28, 0.30])
    )
    colour *= (1 + 0.18 * grain)[:, None]
    freckles = step(0.74, 0.86, noise(r, 34, 7)) * (0.6 * spot(0.25, 6.4, 1.2, 0.2) + 0.25)
    colour *= 1 - freckles[:, None] * np.array([0.14, 0.24, 0.30])
    lips = step(0.25, 0.75, head.painted(part, "lips"))
    furrows = 1 + 0.2 * (noise(r * np.array([1, 0.25, 1]), 60, 4) - 0.5)
    colour = mix(colour, linear(0.70, 0.40, 0.38) * furrows[:, None], lips)
    mouth = step(0.3, 0.8, head.painted(part, "inside-mouth"))
    colour = mix(colour, linear(0.42, 0.14, 0.14), mouth)
    scalp = step(-0.06, 0.24, inside_hair(r)) * (1 - mouth) * step(5.55, 5.75, r[:, 1])
    colour = mix(colour, linear(0.22, 0.15, 0.10), 0.85 * scalp)
    x = np.abs(r[:, 0])
    under_brow = (
        np.exp(-(((r[:, 1] - brow_height(x)) / 0.035) ** 2))
        * step(0.10, 0.17, x)
        * (1 - step(0.44, 0.52, x))
    )
    colour *= 1 - 0.45 * (under_brow * (r[:, 2] > 0.8))[:, None]
    colour *= 1 - step(0.4, 0.8, head.painted(part, "eyelids"))[:, None] * np.array(
        [0.10, 0.16, 0.14]
    )
    rough = (
        0.52
        - 0.17 * lips
        + 0.08 * grain
        - 0.06 * spot(0, 6.33, 1.5, 0.12)
        - 0.04 * spot(0, 7.0, 1.3, 0.25)
    )
    return np.clip(colour, 0, 1), np.where(mouth > 0.5, 0.3, rough)


def eye_appearance(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Colour and roughness of an eyeball: sclera, iris with rays and rim, pupil, by the angle from
    its axis.
    """
    way = part.rest - (part.rest.min(0) + part.rest.max(0)) / 2
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    angle, turn = np.degrees(np.arccos(np.clip(way[:, 2], -1, 1))), np.arctan2(way[:, 1], way[:, 0])
    white = linear(0.86, 0.83, 0.81) * (
        1 - 0.35 * step(40, 85, angle)[:, None] * np.array([0, 0.5, 0.5])
    )
    rays = noise(np.stack([np.cos(turn) * 4, np.sin(turn) * 4, angle * 0.02], 1), 2.5, 9)
    iris = (
        linear(0.42, 0.28, 0.17)
        * (0.7 + 0.9 * rays)[:, None]
        * (1 - 0.45 * step(19, 26, angle))[:, None]
    )
    colour = (
        mix(white, iris, 1 - step(25.0, 27.5, angle))
        * (1 - 0.97 * (1 - step(9.5, 11.5, angle)))[:, None]
    )
    return np.clip(colour, 0, 1), np.full(len(part), 0.08)


def cloth_appearance(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """A blue knitted jumper with a darker ribbed collar."""
    r = part.rest
    weave = noise(r, 40, 1) * 0.5 + noise(r * np.array([1, 4, 1]), 16, 2) * 0.5 - 0.5
    colour = linear(0.16, 0.27, 0.38) * (1 + 0.35 * weave)[:, None]
    band = 1 - step(0.13, 0.16, collar_height(r) - r[:, 1])
    return colour * (1 - 0.3 * band)[:, None], np.full(len(part), 0.85)


def teeth_appearance(part: Part) -> tuple[np.ndarray, np.ndarray]:
    front = 0.3 + 0.7 * step(1.08, 1.24, part.rest[:, 2])
    side = step(0.11, 0.21, np.abs(part.rest[:, 0]))  # gum-dark towards the corners of the mouth
    return mix(linear(0.86, 0.76, 0.68) * front[:, None], linear(0.30, 0.10, 0.10), side), np.full(
        len(part), 0.45
    )


@dataclass(frozen=True)
class Strands:
    """m strands of k points in the rest pose; each moves with the skin vertex `root`."""

    points: np.ndarray  # float32 [m, k, 3]
    root: np.ndarray  # int64 [m]
    radius: np.ndarray  # float32 [m], 10 cm
    colour: np.ndarray  # float32 [m, 3], linear


def hair(head: Head, seed: int = 0) -> Strands:
    """Hair combed back from a parting: strands walk over the scalp, rooted thinner and finer at the
    hairline.
    """
    part, rng = head.parts["skin"], np.random.default_rng(seed)
    r, triangles = part.rest, part.triangles
    normals = vertex_normals(r.astype(np.float32), triangles).astype(float)
    tree, every_second = cKDTree(r[::2]), np.arange(len(r))[::2]
    depth = inside_hair(r)
    barred = (head.painted(part, "inside-mouth") > 0.2) | (head.painted(part, "ears") > 0.5)
    first = r[triangles[:, 0]]
    area = np.linalg.norm(np.cross(r[triangles[:, 1]] - first, r[triangles[:, 2]] - first), axis=1)
    density = step(-0.03, 0.16, depth[triangles].mean(1))
    ear_gap = (np.abs(first[:, 0]) > 0.66) & (first[:, 1] < 6.72) & (first[:, 2] > 0.15)
    area *= density * ~barred[triangles].any(1) * (first[:, 1] > 5.75) * ~ear_gap
    chosen = rng.choice(len(area), HAIR_STRANDS, p=area / area.sum())
    weights = rng.dirichlet([1, 1, 1], HAIR_STRANDS)
    here = (r[triangles[chosen]] * weights[:, :, None]).sum(1)
    root, start = triangles[chosen][:, 0], here.copy()
    length = rng.uniform(0.55, 0.95, HAIR_STRANDS) * np.interp(
        here[:, 1], [5.7, 6.1, 6.5, 7.2], [0.2, 0.4, 0.65, 1.0]
    )
    clump, wave = noise(here, 5, 11) - 0.5, noise(here, 5, 12) - 0.5
    side, rise = np.tanh((here[:, 0] - 0.18) / 0.12), step(-0.02, 0.5, inside_hair(start))
    path = [here.copy()]
    for k in range(1, STRAND_POINTS):
        up = normals[every_second[tree.query(here)[1]]]
        way = np.stack(
            [
                side + 0.5 * clump,
                np.where(np.abs(here[:, 0]) > 0.5, -0.8, 0.05),
                -0.75 + 0.5 * wave,
            ],
            1,
        )
        way += 0.10 * rng.normal(size=way.shape)
        way -= up * (way * up).sum(1, keepdims=True)
        here = (
            here
            + way / np.linalg.norm(way, axis=1, keepdims=True) * (length / STRAND_POINTS)[:, None]
        )
        lift = (
            0.11
            * np.sin(np.pi * min(k / (STRAND_POINTS - 1) * 1.15, 1) * 0.8)
            * (1 + 0.5 * clump)
            * rise
        )
        lift = (
            lift + 0.008 + 0.03 * rng.random(HAIR_STRANDS) * k / STRAND_POINTS * (0.3 + 0.7 * rise)
        )
        nearest = every_second[tree.query(here)[1]]
        up = normals[nearest]
        here = here - up * ((here - r[nearest]) * up).sum(1, keepdims=True) + up * lift[:, None]
        path.append(here.copy())
    points = np.stack(path, 1)
    over_ear = (
        (np.abs(points[:, :, 0]) > 0.70) & (points[:, :, 1] < 6.74) & (points[:, :, 2] > 0.1)
    ).any(1)
    radius = 0.0075 * (0.35 + 0.65 * step(0.0, 0.3, inside_hair(start)))
    colour = linear(0.27, 0.17, 0.11) * rng.uniform(0.6, 1.35, (HAIR_STRANDS, 1))
    keep = ~over_ear
    return Strands(
        points[keep].astype(np.float32),
        root[keep],
        radius[keep].astype(np.float32),
        colour[keep].astype(np.float32),
    )


def brows(head: Head, seed: int = 1) -> Strands:
    """Eyebrow hairs, upright at the nose and flat outwards."""
    part, rng, m = head.parts["skin"], np.random.default_rng(seed), BROW_STRANDS
    normals = vertex_normals(part.rest.astype(np.float32), part.triangles).astype(float)
    x, sign = rng.uniform(0.10, 0.50, m), rng.choice([-1, 1], m)
    y = brow_height(x) + rng.normal(0, 0.015, m) * np.interp(x, [0.1, 0.2, 0.5], [1.1, 1.1, 0.5])
    front = np.where(part.rest[:, 2] > 0.7)[0]
    root = front[cKDTree(part.rest[front][:, :2]).query(np.stack([x * sign, y], 1))[1]]
    angle = np.radians(np.interp(x, [0.1, 0.2, 0.35, 0.5], [75, 40, 15, -25]) + rng.normal(0, 7, m))
    way, up = np.stack([np.cos(angle) * sign, np.sin(angle), np.zeros(m)], 1), normals[root]
    way -= up * (way * up).sum(1, keepdims=True)
    along, k = rng.uniform(0.04, 0.07, m), np.arange(4) / 3
    lift = 0.004 + 0.012 * np.sin(np.pi * k * 0.7)
    points = (
        part.rest[root][:, None]
        + way[:, None] * (along[:, None] * k)[..., None]
        + up[:, None] * lift[:, None]
    )
    colour = np.tile(linear(0.33, 0.23, 0.16), (m, 1))
    return Strands(
        points.astype(np.float32), root, np.full(m, 0.0032, np.float32), colour.astype(np.float32)
    )

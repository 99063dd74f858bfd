"""Patches of the head's skin found again in other frames to a fraction of a pixel: what the eye
holds on to.

A landmark network pulls every face towards the mean frontal one; the skin itself does not lie.
Patches are taken from a few keyframes and looked for in a frame directly, not from frame to frame,
so nothing drifts. A patch is warped as its piece of the face would be by the head's turn; what is
left, a shift, a gain and an offset of light, is solved by inverse compositional Gauss-Newton (Baker
and Matthews 2004) over a coarse and a fine level.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import BROWS, EYE_LEFT, EYE_RIGHT, INNER_LIPS, OUTER_LIPS
from being.preprocess.tracking.geometry import Camera, Poses

FACE_PATCHES, SKULL_PATCHES, UNSTEADY_PATCHES = (
    70,
    60,
    25,
)  # of a keyframe, at most; unsteady: brows and lids
TEXTURE_MIN = 1e-3  # of the best corner's
SPREAD = 7.0  # px at a picture side of 512 px: patches lie at least so far apart
GRID = 5  # samples of a patch from its middle to its edge, both ways: 11 x 11
LEVELS = (
    (4.0, 3.0, 3),
    (2.0, 1.0, 4),
)  # px between samples and blur, px, at 512; Gauss-Newton steps
NOISE_GREY = 2.0  # of 255: texture weaker than the noise of a compressed picture tells nothing
REACH = 8.0  # px at 512: how far from its guess a patch is believed
SHADING = 14.0  # times the blur, side of a box: coarser than this is light, not skin
ALIKE = 0.8  # correlation of a found patch with its template
SETTLED = 0.1  # px at 512: length of the last step
BROW_REACH = 0.12  # head units: skin so near to a brow goes with it
UNSTEADY = 0.1  # what brows and lids may say
SHARP_PX = 0.1  # at 512: error of a patch, from noise, that halves its trust
SLANT = 0.25  # cosine between the skin's normal and the view under which a patch is not used


@dataclass(frozen=True)
class Patches:
    """Patches of one keyframe and the places on the mesh that they show."""

    pixels: np.ndarray  # float32 [N, 2]
    corners: np.ndarray  # int [N, 3]: vertices of the mesh's triangle
    shares: np.ndarray  # float64 [N, 3]: barycentric coordinates in it
    trust: np.ndarray  # float64 [N] in 0..1: what is expected of them
    templates: list[np.ndarray]  # of each level: grey values float32 [N, S]
    solvers: list[np.ndarray]  # of each level: float32 [N, 2, S], residual to shift in the keyframe

    def __len__(self) -> int:
        return len(self.pixels)

    def on(self, values: np.ndarray) -> np.ndarray:
        """Interpolated values [..., N, C] of values at the mesh's vertices [..., 468, C]."""
        return np.einsum("...ncd,nc->...nd", values[..., self.corners, :], self.shares)


def pyramid(picture: np.ndarray) -> list[np.ndarray]:
    """Grey pictures float32 [H, W] of each level, blurred and free of shading, from a picture uint8
    [H, W, 3] RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = max(grey.shape) / 512
    out = []
    for _, blur, _ in LEVELS:
        fine = cv2.GaussianBlur(grey, (0, 0), blur * scale)
        box = round(SHADING * blur * scale) | 1
        out.append(fine - cv2.blur(fine, (box, box)))
    return out


def choose_patches(
    picture: np.ndarray, points: np.ndarray, triangles: np.ndarray, steady: np.ndarray, face: int
) -> Patches:
    """The best textured places of a keyframe on the part of the head that moves with the skull.

    picture: uint8 [H, W, 3] RGB. points: float [V, 2] px, the mesh in it. triangles: int [T, 3].
    steady: float [V] from `steadiness`. face: so many of the vertices are the face's, the others
    the skull's.
    """
    scale = max(picture.shape) / 512
    levels = pyramid(picture)
    facing, say, skull = (
        _facing(points, triangles),
        steady[triangles].min(1),
        (triangles >= face).any(1),
    )
    chosen = []
    for zone, count in (
        (~skull & (say >= 0.5), FACE_PATCHES),
        (skull, SKULL_PATCHES),
        (~skull & (say > 0) & (say < 0.5), UNSTEADY_PATCHES),
    ):
        mask = np.zeros(levels[-1].shape, np.uint8)
        for triangle in triangles[facing & zone]:
            cv2.fillConvexPoly(mask, points[triangle].round().astype(np.int32), 255)
        found = cv2.goodFeaturesToTrack(
            levels[-1],
            count,
            TEXTURE_MIN,
            SPREAD * scale,
            mask=mask,
            blockSize=round(9 * scale) | 1,
        )
        chosen.append(np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64))
    pixels = np.concatenate(chosen)
    corners, shares, inside = _locate(pixels, points, triangles[facing])
    pixels, corners, shares = pixels[inside], corners[inside], shares[inside]
    templates, solvers, blur = [], [], np.zeros(0)
    for level, blurred in enumerate(levels):
        template, solver, blur = _template(blurred, pixels, LEVELS[level][0] * scale)
        templates.append(template)
        solvers.append(solver)
    trust = (steady[corners] * shares).sum(1) / (1 + (blur / (SHARP_PX * scale)) ** 2)
    return Patches(pixels.astype(np.float32), corners, shares, trust, templates, solvers)


def steadiness(canonical: np.ndarray, face: int) -> np.ndarray:
    """How far each vertex of a mesh [V, 3] goes with the skull, 0 to 1; those after the `face`'s
    all do.
    """
    steady = np.ones(len(canonical))
    brow = np.linalg.norm(canonical[:, None] - canonical[BROWS], axis=-1).min(1) < BROW_REACH
    steady[brow] = UNSTEADY
    steady[np.concatenate([EYE_LEFT, EYE_RIGHT])] = UNSTEADY
    steady[canonical[:, 1] < canonical[OUTER_LIPS, 1].max()] = 0.0
    steady[np.concatenate([INNER_LIPS, OUTER_LIPS])] = 0.0
    steady[face:] = 1.0
    return steady


def find_patches(
    levels: list[np.ndarray],
    patches: Patches,
    use: np.ndarray,
    guess: np.ndarray,
    warp: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels float64 [n, 2] of a keyframe's patches in another frame, and bool [n]: found.

    levels: the frame's `pyramid`. use: int [n], which patches. guess: float [n, 2] px. warp: float
    [n, 2, 2], from the keyframe's pixels to the frame's, about the patch's middle.
    """
    scale = max(levels[0].shape) / 512
    at, warp, step = (
        guess.astype(np.float32),
        warp.astype(np.float32),
        np.zeros((len(use), 2), np.float32),
    )
    for level, (spacing, _, steps) in enumerate(LEVELS):
        template = patches.templates[level][use]
        solver = np.swapaxes(warp @ patches.solvers[level][use], 1, 2)  # [n, S, 2]
        offsets = _grid(spacing * scale) @ np.swapaxes(warp, 1, 2)
        for _ in range(steps):
            seen = _sample(levels[level], at, offsets)
            step = ((seen - template)[:, None] @ solver)[:, 0]
            length = np.linalg.norm(step, axis=1, keepdims=True)
            step *= np.minimum(1, spacing * scale / np.maximum(length, 1e-6))
            at = at - step
    seen = _sample(levels[-1], at, offsets)
    one, other = seen - seen.mean(1, keepdims=True), template - template.mean(1, keepdims=True)
    alike = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1) + 1e-6)
    found = (alike > ALIKE) & (np.linalg.norm(step, axis=1) < SETTLED * scale)
    found &= np.linalg.norm(at - guess, axis=1) < REACH * scale
    return at.astype(np.float64), found


def patch_warp(
    points: np.ndarray,
    normals: np.ndarray,
    camera: Camera,
    before: Poses,
    after: Poses,
) -> tuple[np.ndarray, np.ndarray]:
    """Warps [N, 2, 2] about skin points between two single poses, and bool [N]: seen from the front
    in both.

    points, normals: float64 [N, 3] in head space. before, after: one pose each.
    """
    aside = np.cross(normals, [0.0, 1.0, 0.0])
    aside /= np.linalg.norm(aside, axis=1, keepdims=True) + 1e-9
    tangent = np.stack([aside, np.cross(normals, aside)], -1)  # [N, 3, 2]
    maps, seen = [], np.ones(len(points), bool)
    for pose in (before, after):
        placed = pose.place(points)[0]
        maps.append(camera.jacobian(placed) @ pose.rotation[0] @ tangent)
        outward = normals @ pose.rotation[0].T
        seen &= -(outward * placed).sum(1) > SLANT * np.linalg.norm(placed, axis=1)
    maps[0][~seen] = maps[1][~seen] = np.eye(2)
    return maps[1] @ np.linalg.inv(maps[0]), seen


def _grid(spacing: float) -> np.ndarray:
    line = np.arange(-GRID, GRID + 1, dtype=np.float32) * spacing
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


def _sample(blurred: np.ndarray, at: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Grey values [N, S] at pixels at [N, 2] + offsets [N, S, 2]."""
    if not len(at):
        return np.zeros(offsets.shape[:2], np.float32)
    return cv2.remap(
        blurred,
        at[:, None] + offsets,
        None,
        cv2.INTER_LINEAR,  # type: ignore[call-overload, no-any-return]
        borderMode=cv2.BORDER_REPLICATE,
    )


def _template(
    blurred: np.ndarray, pixels: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey values [N, S] of patches, solvers [N, 2, S] of their shift, and its error [N] px from
    noise.
    """
    at = pixels.astype(np.float32)
    grid = np.broadcast_to(_grid(spacing), (len(at), (2 * GRID + 1) ** 2, 2))
    slopes = [cv2.Sobel(blurred, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0)]
    template = _sample(blurred, at, grid)
    columns = [
        _sample(slopes[0], at, grid),
        _sample(slopes[1], at, grid),
        template - template.mean(1, keepdims=True),
        np.ones_like(template),
    ]
    jacobian = np.stack(columns, -1).astype(np.float64)  # [N, S, 4]
    inverse = np.linalg.inv(
        np.swapaxes(jacobian, 1, 2) @ jacobian + np.diag([1e-3, 1e-3, 1.0, 1e-3])
    )
    solver = (inverse @ np.swapaxes(jacobian, 1, 2))[:, :2]
    error = NOISE_GREY * np.sqrt(np.maximum(inverse[:, 0, 0] + inverse[:, 1, 1], 0))
    return template, solver.astype(np.float32), error


def _facing(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Triangles [T] seen from outside: counter-clockwise, in a picture whose y points down."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    one, other = b - a, c - a
    return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0] < 0


def _locate(
    pixels: np.ndarray, points: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners int [N, 3] and barycentric shares [N, 3] of the triangle round each pixel, and bool
    [N]: there is one.
    """
    a, b, c = (points[triangles[:, i]].astype(np.float64) for i in range(3))
    area = _cross(b - a, c - a)
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    away = pixels[:, None]
    shares = np.stack(
        [_cross(b - away, c - away), _cross(c - away, a - away), _cross(a - away, b - away)], -1
    )
    shares = shares / area[:, None]
    best = shares.min(-1).argmax(1)
    rows = np.arange(len(pixels))
    return triangles[best], shares[rows, best], shares[rows, best].min(-1) >= 0


def _cross(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]

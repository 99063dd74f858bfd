"""Skin patches: chosen in keyframes and located in other frames with subpixel accuracy.

A landmark network is biased towards the mean frontal face; the skin in the image is not. Patches
are taken from a few keyframes and searched for directly in each frame, not from frame to frame, so
there is no drift. A patch is warped as the head's rotation warps its piece of the face. What
remains is a shift, and a gain and an offset of the light. It is solved by inverse compositional
Gauss-Newton (Baker and Matthews 2004) on a coarse and on a fine level.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import BROWS, EYE_LEFT, EYE_RIGHT, INNER_LIPS, OUTER_LIPS
from being.preprocess.tracking.geometry import Camera, Poses

# Largest number of patches of a keyframe: on the face, on the skull, and on brows and lids.
FACE_PATCHES, SKULL_PATCHES, UNSTEADY_PATCHES = 70, 60, 25
TEXTURE_MIN = 1e-3  # corner response of a patch, as a share of the best corner's
SPREAD = 7.0  # px at 512: smallest distance between two patches
GRID = 5  # samples of a patch from its centre to its edge, both ways: 11 x 11
# Coarse and fine level: px between samples and px of blur, at 512; Gauss-Newton steps.
LEVELS = (
    (4.0, 3.0, 3),
    (2.0, 1.0, 4),
)
NOISE_GREY = 2.0  # of 255: noise of a compressed image; weaker texture carries no information
REACH = 8.0  # px at 512: largest distance of a patch from its guess
SHADING = 14.0  # box side over blur: coarser structure is light, not skin, and is removed
CORRELATION_MIN = 0.8  # of a found patch with its template
SETTLED = 0.1  # px at 512: largest length of the last step
BROW_REACH = 0.12  # head units: skin this near to a brow moves with it
UNSTEADY = 0.1  # rigidity of brows and lids
SHARP_PX = 0.1  # px at 512: error of a patch, from noise, that halves its trust
SLANT = 0.25  # cosine between the skin's normal and the view; below it a patch is not used


@dataclass(frozen=True)
class Patches:
    """N patches of one keyframe and their positions on the mesh."""

    pixels: np.ndarray  # float32 [N, 2]
    corners: np.ndarray  # int [N, 3]: vertices of the mesh's triangle
    shares: np.ndarray  # float64 [N, 3]: barycentric coordinates in it
    trust: np.ndarray  # float64 [N] in 0..1: prior trust that they move with the skull
    templates: list[np.ndarray]  # of each level: grey values float32 [N, S]
    solvers: list[np.ndarray]  # of each level: float32 [N, 2, S], residual to shift in the keyframe

    def __len__(self) -> int:
        return len(self.pixels)

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Values [..., N, C] at the patches, from values at the mesh's vertices [..., V, C]."""
        return np.einsum("...ncd,nc->...nd", values[..., self.corners, :], self.shares)


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Grey images float32 [H, W] of each level, blurred and without shading.

    image: uint8 [H, W, 3] RGB.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = max(grey.shape) / 512
    levels = []
    for _, blur, _ in LEVELS:
        fine = cv2.GaussianBlur(grey, (0, 0), blur * scale)
        box = round(SHADING * blur * scale) | 1
        levels.append(fine - cv2.blur(fine, (box, box)))
    return levels


def choose_patches(
    image: np.ndarray,
    points: np.ndarray,
    triangles: np.ndarray,
    rigidity: np.ndarray,
    face_vertices: int,
) -> Patches:
    """The best textured patches of a keyframe on the part of the head that moves with the skull.

    image: uint8 [H, W, 3] RGB. points: float [V, 2] px, the mesh in it. triangles: int [T, 3].
    rigidity: float [V] from `vertex_rigidity`. face_vertices: number of vertices of the face, which
    come first; the others are the skull's.
    """
    scale = max(image.shape) / 512
    levels = pyramid(image)

    # Corners with strong texture in three zones: rigid face, skull, and brows and lids.
    facing = _facing(points, triangles)
    least_rigid = rigidity[triangles].min(1)
    skull = (triangles >= face_vertices).any(1)
    zones = (
        (~skull & (least_rigid >= 0.5), FACE_PATCHES),
        (skull, SKULL_PATCHES),
        (~skull & (least_rigid > 0) & (least_rigid < 0.5), UNSTEADY_PATCHES),
    )
    chosen = []
    for zone, count in zones:
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

    # Their positions on the mesh.
    pixels = np.concatenate(chosen)
    corners, shares, inside = _locate(pixels, points, triangles[facing])
    pixels, corners, shares = pixels[inside], corners[inside], shares[inside]

    # Templates of each level. The error of the finest level reduces the trust.
    templates, solvers, error = [], [], np.zeros(0)
    for level, blurred in enumerate(levels):
        template, solver, error = _template(blurred, pixels, LEVELS[level][0] * scale)
        templates.append(template)
        solvers.append(solver)
    trust = (rigidity[corners] * shares).sum(1) / (1 + (error / (SHARP_PX * scale)) ** 2)
    return Patches(pixels.astype(np.float32), corners, shares, trust, templates, solvers)


def vertex_rigidity(canonical: np.ndarray, face_vertices: int) -> np.ndarray:
    """How far each vertex of a mesh [V, 3] moves with the skull, float [V] in 0..1.

    0 for the mouth and everything below its upper edge, `UNSTEADY` for brows and lids, 1 for the
    rest of the face and all vertices of the skull. canonical: head units. face_vertices: number of
    vertices of the face, which come first.
    """
    rigidity = np.ones(len(canonical))
    brow = np.linalg.norm(canonical[:, None] - canonical[BROWS], axis=-1).min(1) < BROW_REACH
    rigidity[brow] = UNSTEADY
    rigidity[np.concatenate([EYE_LEFT, EYE_RIGHT])] = UNSTEADY
    rigidity[canonical[:, 1] < canonical[OUTER_LIPS, 1].max()] = 0.0
    rigidity[np.concatenate([INNER_LIPS, OUTER_LIPS])] = 0.0
    rigidity[face_vertices:] = 1.0
    return rigidity


def find_patches(
    levels: list[np.ndarray],
    patches: Patches,
    use: np.ndarray,
    guess: np.ndarray,
    warp: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels float64 [n, 2] of a keyframe's patches in another frame, and bool [n]: found.

    levels: the frame's `pyramid`. use: int [n], numbers of the patches. guess: float [n, 2] px.
    warp: float [n, 2, 2], from the keyframe's pixels to the frame's, about the patch's centre.
    """
    scale = max(levels[0].shape) / 512
    at, warp = guess.astype(np.float32), warp.astype(np.float32)
    step = np.zeros((len(use), 2), np.float32)

    # Gauss-Newton steps from the coarse to the fine level.
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

    # A patch is found if it looks like its template, has settled and is near its guess.
    seen = _sample(levels[-1], at, offsets)
    one, other = seen - seen.mean(1, keepdims=True), template - template.mean(1, keepdims=True)
    norm = np.sqrt((one**2).sum(1) * (other**2).sum(1) + 1e-6)
    correlation = (one * other).sum(1) / norm
    found = (correlation > CORRELATION_MIN) & (np.linalg.norm(step, axis=1) < SETTLED * scale)
    found &= np.linalg.norm(at - guess, axis=1) < REACH * scale
    return at.astype(np.float64), found


def patch_warp(
    points: np.ndarray,
    normals: np.ndarray,
    camera: Camera,
    before: Poses,
    after: Poses,
) -> tuple[np.ndarray, np.ndarray]:
    """Warps [N, 2, 2] about skin points between two poses, and bool [N]: visible in both.

    points, normals: float64 [N, 3] in head space. before, after: one pose each.
    """
    # Two tangents of the skin at each point, [N, 3, 2].
    aside = np.cross(normals, [0.0, 1.0, 0.0])
    aside /= np.linalg.norm(aside, axis=1, keepdims=True) + 1e-9
    tangent = np.stack([aside, np.cross(normals, aside)], -1)

    # The map from tangents to pixels in each pose.
    maps, visible = [], np.ones(len(points), bool)
    for pose in (before, after):
        in_camera = pose.to_camera(points)[0]
        maps.append(camera.jacobian(in_camera) @ pose.rotation[0] @ tangent)
        outward = normals @ pose.rotation[0].T
        visible &= -(outward * in_camera).sum(1) > SLANT * np.linalg.norm(in_camera, axis=1)
    maps[0][~visible] = maps[1][~visible] = np.eye(2)
    return maps[1] @ np.linalg.inv(maps[0]), visible


def _grid(spacing: float) -> np.ndarray:
    """Offsets float32 [S, 2] px of a patch's samples from its centre."""
    line = np.arange(-GRID, GRID + 1, dtype=np.float32) * spacing
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


def _sample(blurred: np.ndarray, at: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Grey values float32 [N, S] at the pixels `at` [N, 2] + `offsets` [N, S, 2]."""
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
    """Grey values [N, S] of patches, solvers [N, 2, S] of their shift, and its error [N] px.

    The solver maps the residual of the grey values to the shift. The error is that from noise.
    """
    at = pixels.astype(np.float32)
    grid = np.broadcast_to(_grid(spacing), (len(at), (2 * GRID + 1) ** 2, 2))

    # The parameters are the shift, a gain and an offset of the light.
    slopes = [cv2.Sobel(blurred, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0)]
    template = _sample(blurred, at, grid)
    columns = [
        _sample(slopes[0], at, grid),
        _sample(slopes[1], at, grid),
        template - template.mean(1, keepdims=True),
        np.ones_like(template),
    ]
    jacobian = np.stack(columns, -1).astype(np.float64)  # [N, S, 4]
    transposed = np.swapaxes(jacobian, 1, 2)

    # The rows of the regularised pseudoinverse that belong to the shift.
    inverse = np.linalg.inv(transposed @ jacobian + np.diag([1e-3, 1e-3, 1.0, 1e-3]))
    solver = (inverse @ transposed)[:, :2]
    error = NOISE_GREY * np.sqrt(np.maximum(inverse[:, 0, 0] + inverse[:, 1, 1], 0))
    return template, solver.astype(np.float32), error


def _facing(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Whether each triangle is seen from outside, bool [T].

    points: [V, 2] px. Such a triangle is counter-clockwise in the image, whose y points down.
    """
    a, b, c = (points[triangles[:, i]] for i in range(3))
    one, other = b - a, c - a
    return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0] < 0


def _locate(
    pixels: np.ndarray, points: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners int [N, 3] and barycentric shares [N, 3] of the triangle around each pixel.

    Also bool [N]: there is one.
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
    """Cross products [...] of vectors [..., 2]."""
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]

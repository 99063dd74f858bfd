"""The initial cloud: points on the face mesh, inside the mouth, and on the hull of the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.data.clip import Clip
from being.data.dataset import Dataset
from being.face.morphable_model import align_to_face, read_bfm
from being.face.topology import INNER_LIPS

FACE_SHARE, MOUTH_SHARE = 0.55, 0.05  # of all points; the rest lies on the hull
MOUTH_DEPTH = (0.02, 0.22)  # head units behind the lips, where teeth and tongue are

# The hull
HULL_VIEWS = 24  # frames whose head masks are used
HULL_VOTES = 0.9  # share of the masks that must contain a point
HULL_TRIES = 64  # rounds of random points, when masks and pose disagree
HULL_DEPTH = 1.15  # depth of the ellipsoid, as a multiple of its width
HULL_SHELL = (0.82, 1.02)  # the points lie between these multiples of the ellipsoid
HULL_BACK = -0.35  # z of a unit direction; points further back are never seen


def initial_cloud(
    dataset: Dataset, clip: Clip, train: np.ndarray, count: int, seed: int, bfm: str = ""
) -> tuple[Tensor, Tensor]:
    """Points float32 [count, 3] in head units and their colours [count, 3] in [0, 1].

    train: the training frames, int64 [n]. bfm: path of the Basel Face Model; when set, its vertices
    replace the points on the tracked mesh.
    """
    rng = np.random.default_rng(seed)
    neutral = dataset.mesh[0][train].mean(0)
    views = train[np.linspace(0, len(train) - 1, HULL_VIEWS).astype(int)]
    face_count = round(count * FACE_SHARE)
    if bfm:
        face = sample_face_model(read_bfm(Path(bfm)), neutral, clip, views, face_count, rng)
    else:
        face = sample_mesh_surface(neutral, dataset.mesh[1], face_count, rng)
    mouth = sample_mouth_interior(neutral, round(count * MOUTH_SHARE), rng)
    hull = sample_head_hull(neutral, clip, views, count - len(face) - len(mouth), rng)
    points = torch.from_numpy(np.concatenate([face, mouth, hull]).astype(np.float32))
    return points, median_colours(points, clip, views)


def sample_mesh_surface(
    vertices: np.ndarray, triangles: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Points [count, 3], uniform over the surface of a mesh.

    vertices: [V, 3]; triangles: [T, 3].
    """
    corners = vertices[triangles]
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    weight = rng.dirichlet([1, 1, 1], count)
    return (corners[chosen] * weight[..., None]).sum(1)


def sample_face_model(
    head: np.ndarray,
    face: np.ndarray,
    clip: Clip,
    views: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Points [count, 3]: vertices of a face model inside the head masks of `views`.

    head: the model's vertices [V, 3]; they are aligned to the tracked face [468, 3] first.
    """
    aligned = align_to_face(head, face)
    inside = aligned[_mask_votes(aligned, clip, views) >= HULL_VOTES]
    if not len(inside):  # masks and pose disagree
        inside = aligned
    return inside[rng.choice(len(inside), count, replace=len(inside) < count)]


def sample_mouth_interior(vertices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points [count, 3] behind the lips: within their inner outline, as deep as teeth and tongue.

    vertices: the face mesh [V, 3]. The points spread a little up and down, as in an open mouth.
    """
    rim = vertices[INNER_LIPS]
    weight = rng.dirichlet([0.5] * len(rim), count)
    points = weight @ rim
    points[:, 1] += rng.normal(0, 0.04, count)
    points[:, 2] -= rng.uniform(*MOUTH_DEPTH, count)
    return points


def sample_head_hull(
    face: np.ndarray, clip: Clip, views: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Points [count, 3] on an ellipsoid around the head: hair, ears, neck line.

    The head masks of `views` give the ellipsoid's width and height, the face mesh [V, 3] its depth.
    Points inside fewer than HULL_VOTES of the masks are dropped.
    """
    # Corners of the masks, at the depth of the face
    spread = []
    for i in views:
        top, bottom, left, right = _mask_limits(clip, int(i))
        spread.append(_back_project(clip, int(i), np.array([[left, top], [right, bottom]]), face))
    low = np.median([s.min(0) for s in spread], 0)
    high = np.median([s.max(0) for s in spread], 0)

    # The ellipsoid touches the front of the face.
    centre, radius = (low + high) / 2, (high - low) / 2
    radius[2] = HULL_DEPTH * radius[0]
    centre[2] = face[:, 2].max() - radius[2]

    # Draw points in its shell until enough lie inside the masks.
    kept: list[np.ndarray] = []
    for _ in range(HULL_TRIES):
        direction = rng.normal(size=(4 * count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        direction = direction[direction[:, 2] > HULL_BACK]
        points = centre + radius * direction * rng.uniform(*HULL_SHELL, (len(direction), 1))
        kept.append(points[_mask_votes(points, clip, views) >= HULL_VOTES])
        if sum(map(len, kept)) >= count:
            break
    points = np.concatenate(kept)
    if len(points) < count:  # masks and pose disagree: use points of the face instead
        points = np.concatenate([points, face[rng.integers(0, len(face), count - len(points))]])
    return points[:count]


def median_colours(points: Tensor, clip: Clip, views: np.ndarray) -> Tensor:
    """Median colour [N, 3] of points [N, 3] over the frames `views` whose head mask contains them.

    A point inside no mask is grey.
    """
    found = []
    for i in views:
        uv = _project(points.numpy(), clip, int(i))
        at = np.clip(uv.round().astype(int), 0, clip.size - 1)
        colour = clip.frames[int(i)].cpu().numpy()[:, at[:, 1], at[:, 0]].T / 255.0
        inside = clip.head[int(i), 0].cpu().numpy()[at[:, 1], at[:, 0]] > 127
        found.append(np.where(inside[:, None], colour, np.nan))
    stacked = np.stack(found)
    visible = ~np.isnan(stacked[..., 0]).all(0)
    median = np.full(stacked.shape[1:], 0.5)
    median[visible] = np.nanmedian(stacked[:, visible], 0)
    return torch.from_numpy(median.astype(np.float32))


def _project(points: np.ndarray, clip: Clip, i: int) -> np.ndarray:
    """Pixels [N, 2] (x, y) of points [N, 3] in frame `i`."""
    matrix = clip.world_to_camera[i].cpu().numpy()
    camera = points @ matrix[:3, :3].T + matrix[:3, 3]
    return camera[:, :2] / camera[:, 2:] * clip.focal + (clip.size - 1) / 2


def _back_project(clip: Clip, i: int, pixels: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Head-space points [n, 3] of pixels [n, 2] in frame `i`, at the mean depth of the face."""
    matrix = clip.world_to_camera[i].cpu().numpy().astype(np.float64)
    depth = (face @ matrix[2, :3] + matrix[2, 3]).mean()
    xy = (pixels - (clip.size - 1) / 2) / clip.focal * depth
    camera = np.concatenate([xy, np.full((len(pixels), 1), depth)], 1)
    return (camera - matrix[:3, 3]) @ matrix[:3, :3]


def _mask_limits(clip: Clip, i: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the head mask of frame `i`, px; the whole image if empty."""
    mask = clip.head[i, 0].cpu().numpy() > 127
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, clip.size - 1, 0, clip.size - 1
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _mask_votes(points: np.ndarray, clip: Clip, views: np.ndarray) -> np.ndarray:
    """Share [N] of the frames `views` whose head mask contains each point [N, 3]."""
    votes = np.zeros(len(points))
    for i in views:
        uv = _project(points, clip, int(i)).round().astype(int)
        in_image = ((uv >= 0) & (uv < clip.size)).all(1)
        at = np.clip(uv, 0, clip.size - 1)
        votes += in_image & (clip.head[int(i), 0].cpu().numpy()[at[:, 1], at[:, 0]] > 127)
    return votes / len(views)

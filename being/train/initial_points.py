"""The initial cloud: points on the tracked face mesh, inside the mouth, and on the hull of the head
masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.data.clip import Clip
from being.data.dataset import Dataset
from being.face.morphable_model import laid_on, read_bfm
from being.face.topology import INNER_LIPS

FACE_SHARE, MOUTH_SHARE = 0.55, 0.05
HULL_VIEWS, HULL_VOTES = 24, 0.9
MOUTH_DEPTH = (0.02, 0.22)  # head units behind the lips, where teeth and tongue are


def initial_cloud(
    dataset: Dataset, clip: Clip, train: np.ndarray, count: int, seed: int, bfm: str = ""
) -> tuple[Tensor, Tensor]:
    """Points float32 [count, 3] in head units and their colours [count, 3] in [0, 1], seen in the
    training frames.

    bfm: path of the Basel Face Model, whose vertices then take the place of points on the tracked
    mesh.
    """
    rng = np.random.default_rng(seed)
    rest = dataset.mesh[0][train].mean(0)
    views = train[np.linspace(0, len(train) - 1, HULL_VIEWS).astype(int)]
    wanted = round(count * FACE_SHARE)
    face = (
        on_model(read_bfm(Path(bfm)), rest, clip, views, wanted, rng)
        if bfm
        else on_mesh(rest, dataset.mesh[1], wanted, rng)
    )
    mouth = in_mouth(rest, round(count * MOUTH_SHARE), rng)
    hull = on_hull(rest, clip, views, count - len(face) - len(mouth), rng)
    points = torch.from_numpy(np.concatenate([face, mouth, hull]).astype(np.float32))
    return points, colours(points, clip, views)


def on_mesh(
    vertices: np.ndarray, triangles: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Points [count, 3] spread evenly over the surface of a mesh: vertices [V, 3], triangles [T,
    3].
    """
    corners = vertices[triangles]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    weight = rng.dirichlet([1, 1, 1], count)
    return (corners[chosen] * weight[..., None]).sum(1)


def on_model(
    head: np.ndarray,
    face: np.ndarray,
    clip: Clip,
    views: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Points [count, 3]: vertices of a face model's `head` [V, 3], laid on the tracked `face` [468,
    3], that the masks of `views` hold."""
    placed = laid_on(head, face)
    held = placed[_votes(placed, clip, views) >= HULL_VOTES]
    held = held if len(held) else placed  # masks and pose disagree
    return held[rng.choice(len(held), count, replace=len(held) < count)]


def in_mouth(vertices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points [count, 3] behind the lips: in their inner outline, opened a little, as deep as teeth
    and tongue.
    """
    rim = vertices[INNER_LIPS]
    weight = rng.dirichlet([0.5] * len(rim), count)
    points = weight @ rim
    points[:, 1] += rng.normal(0, 0.04, count)
    points[:, 2] -= rng.uniform(*MOUTH_DEPTH, count)
    return points


def on_hull(
    face: np.ndarray, clip: Clip, views: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Points [count, 3] on an ellipsoid round the head that the masks of `views` agree with: hair,
    ears, neck line.

    The masks give the ellipsoid's width and height, the face its depth; points that fewer than nine
    in ten masks hold are dropped.
    """
    spread = []
    for i in views:
        top, bottom, left, right = _mask_limits(clip, int(i))
        spread.append(_back_project(clip, int(i), np.array([[left, top], [right, bottom]]), face))
    low = np.median([s.min(0) for s in spread], 0)
    high = np.median([s.max(0) for s in spread], 0)
    centre, radius = (low + high) / 2, (high - low) / 2
    radius[2] = 1.15 * radius[0]
    centre[2] = face[:, 2].max() - radius[2]
    kept: list[np.ndarray] = []
    for _ in range(64):
        direction = rng.normal(size=(4 * count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        direction = direction[direction[:, 2] > -0.35]
        points = centre + radius * direction * rng.uniform(0.82, 1.02, (len(direction), 1))
        kept.append(points[_votes(points, clip, views) >= HULL_VOTES])
        if sum(map(len, kept)) >= count:
            break
    points = np.concatenate(kept)
    if len(points) < count:  # masks and pose disagree: the face alone has to do
        points = np.concatenate([points, face[rng.integers(0, len(face), count - len(points))]])
    return points[:count]


def colours(points: Tensor, clip: Clip, views: np.ndarray) -> Tensor:
    """Median colour [N, 3] of `points` [N, 3] over the frames `views`, where the head mask holds
    them.
    """
    seen = []
    for i in views:
        uv = _project(points.numpy(), clip, int(i))
        at = np.clip(uv.round().astype(int), 0, clip.size - 1)
        colour = clip.frames[int(i)].cpu().numpy()[:, at[:, 1], at[:, 0]].T / 255.0
        inside = clip.head[int(i), 0].cpu().numpy()[at[:, 1], at[:, 0]] > 127
        seen.append(np.where(inside[:, None], colour, np.nan))
    stacked = np.stack(seen)
    held = ~np.isnan(stacked[..., 0]).all(0)
    median = np.full(stacked.shape[1:], 0.5)
    median[held] = np.nanmedian(stacked[:, held], 0)
    return torch.from_numpy(median.astype(np.float32))


def _project(points: np.ndarray, clip: Clip, i: int) -> np.ndarray:
    matrix = clip.world_to_camera[i].cpu().numpy()
    camera = points @ matrix[:3, :3].T + matrix[:3, 3]
    return camera[:, :2] / camera[:, 2:] * clip.focal + (clip.size - 1) / 2


def _back_project(clip: Clip, i: int, pixels: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Head-space points of pixels [n, 2] at the depth of the middle of the face."""
    matrix = clip.world_to_camera[i].cpu().numpy().astype(np.float64)
    depth = (face @ matrix[2, :3] + matrix[2, 3]).mean()
    camera = np.concatenate(
        [(pixels - (clip.size - 1) / 2) / clip.focal * depth, np.full((len(pixels), 1), depth)], 1
    )
    return (camera - matrix[:3, 3]) @ matrix[:3, :3]


def _mask_limits(clip: Clip, i: int) -> tuple[int, int, int, int]:
    mask = clip.head[i, 0].cpu().numpy() > 127
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, clip.size - 1, 0, clip.size - 1
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _votes(points: np.ndarray, clip: Clip, views: np.ndarray) -> np.ndarray:
    held = np.zeros(len(points))
    for i in views:
        uv = _project(points, clip, int(i)).round().astype(int)
        inside = ((uv >= 0) & (uv < clip.size)).all(1)
        at = np.clip(uv, 0, clip.size - 1)
        held += inside & (clip.head[int(i), 0].cpu().numpy()[at[:, 1], at[:, 0]] > 127)
    return held / len(views)

"""Measure how steady the head poses of a dataset are.

They are compared with per-frame PnP and with the optical flow of the skin.

    python -m scripts.measure.track DATASET

Prints one JSON object, px at a picture side of 512. `bend`: standard deviation of the second
difference over time of the 33 projected rigid points, of our poses, of solvePnP's (see
`pnp_poses.py`, same focal length) and of the skin at these points by optical flow, which is
neither's: real motion, that a smoother must not take away. `jitter`: the same of what is left when
each frame's flow is subtracted (median over the points, as flow of single points errs). `follows`:
slope of our second difference on the skin's; 1 where nothing is smoothed away. Nothing crosses a
cut. `reprojection_px`: median distance of the projected mesh to the landmarks; `_rigid`: of the 33
points of the mean face.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from being.conventions import CENTIMETRES_PER_UNIT
from being.data.cameras import euler_to_rotation
from being.data.dataset import Dataset
from being.data.frames import FrameFolder
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import MESH_POINTS
from being.face.topology import RIGID
from being.preprocess.tracking.geometry import Camera, Poses
from scripts.measure.pnp_poses import pnp_poses

WINDOW, RETURN_MAX = (
    21,
    0.3,
)  # px at 512: of Lucas-Kanade, and how near forth and back must end to the start


def skin_motion(frames: FrameFolder, points: np.ndarray, side: int) -> np.ndarray:
    """Motion [F - 1, N, 2] px of the skin at points [F, N, 2] to the next frame; NaN where it
    cannot be trusted.
    """
    motion, scale = np.full((len(points) - 1, *points.shape[1:]), np.nan), side / 512
    size = round(WINDOW * scale) | 1
    before = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    for i in range(len(motion)):
        after = cv2.cvtColor(frames[i + 1], cv2.COLOR_RGB2GRAY)
        if np.isfinite(points[i]).all():
            start = np.ascontiguousarray(points[i][:, None], np.float32)
            there, seen, _ = cv2.calcOpticalFlowPyrLK(
                before, after, start, start.copy(), winSize=(size, size)
            )
            back, again, _ = cv2.calcOpticalFlowPyrLK(
                after, before, there, there.copy(), winSize=(size, size)
            )
            good = (seen[:, 0] == 1) & (again[:, 0] == 1)
            good &= np.linalg.norm(back - start, axis=-1)[:, 0] < RETURN_MAX * scale
            motion[i, good] = (there - start)[good, 0]
        before = after
    return motion


def figures(
    ours: np.ndarray,
    single: np.ndarray,
    skin: np.ndarray,
    segments: list[tuple[int, int]],
    scale: float,
) -> dict[str, object]:
    """The figures of projected rigid points [F, 33, 2] of our poses and of PnP's; scale: picture
    side over 512.
    """

    def second(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.diff(values[a:b], 2, axis=0) for a, b in segments]) / scale

    def jitter(values: np.ndarray) -> np.ndarray:
        left = np.nanmedian(np.diff(values, axis=0) - skin, axis=1)
        return np.concatenate([np.diff(left[a : b - 1], axis=0) for a, b in segments]) / scale

    moved = (
        np.concatenate(
            [np.diff(np.nanmedian(skin[a : b - 1], axis=1), axis=0) for a, b in segments]
        )
        / scale
    )
    bend, known = np.median(second(ours), axis=1), np.isfinite(moved).all(1)
    spread = {
        "ours": float(second(ours).std()),
        "pnp": float(second(single).std()),
        "skin": float(np.nanstd(moved)),
    }
    left = {"ours": float(np.nanstd(jitter(ours))), "pnp": float(np.nanstd(jitter(single)))}
    return {
        "bend": {
            **spread,
            "ours_over_pnp": spread["ours"] / spread["pnp"],
            "skin_over_pnp": spread["skin"] / float(np.median(second(single), axis=1).std()),
        },
        "jitter": {**left, "ours_over_pnp": left["ours"] / left["pnp"]},
        "follows": float((bend[known] * moved[known]).sum() / (moved[known] ** 2).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.dataset)
    width, height = dataset.manifest["width"], dataset.manifest["height"]
    side, camera = (
        max(width, height),
        Camera(dataset.focal, np.array([(width - 1) / 2, (height - 1) / 2])),
    )
    with np.load(arguments.dataset / "landmarks.npz") as file:
        points = file["points"][:, :MESH_POINTS, :2].astype(np.float64)
    with np.load(arguments.dataset / "mesh.npz") as file:
        vertices = file["vertices"].astype(np.float64)
    poses = Poses(euler_to_rotation(dataset.euler), dataset.trans.astype(np.float64))
    ours = camera.project(poses.to_camera(vertices.mean(0)[RIGID]))
    shape = canonical_mesh()[0].astype(np.float64) / CENTIMETRES_PER_UNIT
    single = camera.project(pnp_poses(points, shape, camera).to_camera(shape[RIGID]))
    skin = skin_motion(
        FrameFolder(arguments.dataset / "ori_imgs", dataset.frames), points[:, RIGID], side
    )
    shown = camera.project(poses.to_camera(vertices))
    reprojection = np.nanmedian(np.linalg.norm(shown - points, axis=-1)) * 512 / side
    rigid = np.nanmedian(np.linalg.norm(ours - points[:, RIGID], axis=-1)) * 512 / side
    segments = [(int(a), int(b)) for a, b in dataset.segments]
    result = {
        **figures(ours, single, skin, segments, side / 512),
        "reprojection_px": float(reprojection),
        "reprojection_rigid_px": float(rigid),
        "focal_over_side": dataset.focal / side,
    }
    print(json.dumps(result, default=float))


if __name__ == "__main__":
    main()

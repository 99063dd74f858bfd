"""Copy a dataset with per-frame PnP head poses, to compare them with the tracker's.

    python -m scripts.measure.pnp_poses DATASET OUT

OUT has the same layout and the same focal length; pictures and features are hard links. Each
frame's pose is OpenCV's solvePnP by itself (SQPNP, then iterative) on the canonical mesh's 33 rigid
points; the face is the canonical mesh with the expression that these poses leave of the landmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from being.conventions import CENTIMETRES_PER_UNIT
from being.data.cameras import TRACKER_TO_RENDER
from being.data.dataset import Dataset
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import MESH_POINTS
from being.face.smoothing import interpolate_missing
from being.face.topology import RIGID
from being.preprocess import dataset_files
from being.preprocess.tracking.geometry import Camera, Poses, rotation_to_vector, vector_to_rotation
from being.preprocess.tracking.head_pose import track_from_poses

WRITTEN = (
    "track_params.pt",
    "mesh.npz",
    "transforms_train.json",
    "transforms_val.json",
    "dataset.json",
)


def pnp_poses(points: np.ndarray, canonical: np.ndarray, camera: Camera) -> Poses:
    """Poses of F frames, each by itself, in units of `canonical` [468, 3]; frames without a face
    are interpolated.

    points: float [F, 468, 2] px, NaN without a face.
    """
    matrix = np.array(
        [[camera.focal, 0, camera.centre[0]], [0, camera.focal, camera.centre[1]], [0, 0, 1]]
    )
    rigid, found = canonical[RIGID].astype(np.float64), np.isfinite(points).all(axis=(1, 2))
    values, first = np.zeros((len(points), 6)), None
    for i in np.flatnonzero(found):
        frame = np.ascontiguousarray(points[i, RIGID], np.float64)
        _, turn, offset = cv2.solvePnP(rigid, frame, matrix, None, flags=cv2.SOLVEPNP_SQPNP)
        _, turn, offset = cv2.solvePnP(
            rigid, frame, matrix, None, turn, offset, True, cv2.SOLVEPNP_ITERATIVE
        )
        rotation = TRACKER_TO_RENDER @ cv2.Rodrigues(turn)[0]
        first = rotation if first is None else first
        vector = rotation_to_vector(rotation[None] @ first.T)[0]
        values[i] = np.concatenate([vector, TRACKER_TO_RENDER @ offset[:, 0]])
    values = interpolate_missing(values, found)
    return Poses(vector_to_rotation(values[:, :3]) @ first, values[:, 3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.dataset)
    shutil.copytree(arguments.dataset, arguments.out, copy_function=os.link)
    for name in WRITTEN:
        (arguments.out / name).unlink(missing_ok=True)  # a hard link must not be written through
    width, height = dataset.manifest["width"], dataset.manifest["height"]
    camera = Camera(dataset.focal, np.array([(width - 1) / 2, (height - 1) / 2]))
    canonical, triangles = canonical_mesh()
    shape = canonical.astype(np.float64) / CENTIMETRES_PER_UNIT
    with np.load(arguments.dataset / "landmarks.npz") as file:
        points = file["points"][:, :MESH_POINTS, :2].astype(np.float64)
    rigidity = np.isin(np.arange(MESH_POINTS), RIGID).astype(float)
    track = track_from_poses(points, pnp_poses(points, shape, camera), shape, camera, rigidity)
    dataset_files.write_track(arguments.out, track, triangles)
    dataset_files.write_transforms(arguments.out, track, width, height, dataset.missing)
    manifest = {**dataset.manifest, "name": f"{dataset.manifest['name']}_pnp"}
    (arguments.out / "dataset.json").write_text(json.dumps(manifest, indent=1))
    print(
        json.dumps(
            {
                "out": str(arguments.out),
                "frames": dataset.frames,
                "focal": dataset.focal,
                "reprojection_px": round(float(np.nanmedian(track.residual)), 3),
            }
        )
    )


if __name__ == "__main__":
    main()

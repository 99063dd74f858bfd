"""Writes landmarks, head pose, cameras and mouth masks of a dataset, in AD-NeRF's file formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from being.data.cameras import camera_to_world_json
from being.data.frames import write_image
from being.face.landmarks import Landmarks
from being.face.topology import BLENDSHAPE_NAMES, IBUG_68, INNER_LIPS
from being.preprocess.tracking.head_pose import HeadTrack

# Widths of `id` and `exp` in the track_params.pt of AD-NeRF and its successors.
IDENTITY_WIDTH, EXPRESSION_WIDTH = 100, 79
SUBPIXEL_BITS = 4  # of the polygon corners for OpenCV


def write_landmarks(folder: Path, landmarks: Landmarks) -> None:
    """Write `landmarks.npz`, and `ori_imgs/%d.lms` of every frame with a face.

    A .lms file has the 68 iBUG points, one "x y" a line, px.
    """
    np.savez_compressed(
        folder / "landmarks.npz",
        points=landmarks.points,
        blendshapes=landmarks.blendshapes,
        confidence=landmarks.confidence,
        names=np.array(BLENDSHAPE_NAMES),
    )
    for i in np.flatnonzero(landmarks.found):
        np.savetxt(folder / f"ori_imgs/{i}.lms", landmarks.points[i, IBUG_68, :2], "%f")


def write_track(folder: Path, track: HeadTrack, triangles: np.ndarray) -> None:
    """Write `track_params.pt` and `mesh.npz`.

    track_params.pt: float32 id [1, 100] (zeros: there is no BFM identity), exp [F, 79] (our
    coefficients, then zeros), euler [F, 3] radians, trans [F, 3], focal [1] px, vertices
    [1, 468, 3] (the mean face; its readers average over the first axis). mesh.npz: vertices float32
    [F, 468, 3] without the head pose, triangles int32 [T, 3].
    """
    import torch

    expression = np.zeros((len(track.euler), EXPRESSION_WIDTH), np.float32)
    expression[:, : track.coefficients.shape[1]] = track.coefficients
    values = {
        "id": np.zeros((1, IDENTITY_WIDTH), np.float32),
        "exp": expression,
        "euler": track.euler,
        "trans": track.trans,
        "focal": np.array([track.focal], np.float32),
        "vertices": track.vertices.mean(0, keepdims=True),
    }
    tensors = {key: torch.from_numpy(value.astype(np.float32)) for key, value in values.items()}
    torch.save(tensors, folder / "track_params.pt")
    np.savez(folder / "mesh.npz", vertices=track.vertices, triangles=triangles.astype(np.int32))


def write_transforms(
    folder: Path, track: HeadTrack, width: int, height: int, missing: Sequence[int]
) -> None:
    """Write `transforms_train.json` (the first 10/11 of the frames) and `transforms_val.json`.

    missing: frames without a face. They are left out: they have no .lms file, and every reader of
    the transforms opens it.
    """
    matrices = camera_to_world_json(track.euler, track.trans)
    frames = len(matrices)
    border = frames * 10 // 11
    without_face = set(missing)
    for part, numbers in (("train", range(border)), ("val", range(border, frames))):
        entries = [
            {"img_id": i, "aud_id": i, "transform_matrix": matrices[i].tolist()}
            for i in numbers
            if i not in without_face
        ]
        value = {"focal_len": track.focal, "cx": width / 2, "cy": height / 2, "frames": entries}
        (folder / f"transforms_{part}.json").write_text(json.dumps(value, indent=1))


def write_mouth_masks(folder: Path, landmarks: Landmarks, width: int, height: int) -> None:
    """Write `mouth_mask/%d.png`: the inside of the lips, uint8 [H, W], 255 inside.

    The mask of a frame without a face is empty.
    """
    (folder / "mouth_mask").mkdir()

    def write(i: int) -> None:
        write_image(folder / f"mouth_mask/{i}.png", mouth_mask(landmarks.points[i], width, height))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(len(landmarks))))


def mouth_mask(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """The mask uint8 [height, width], 0 or 255, of the inside of the lips; empty for NaN.

    points: landmarks float [478, 2 or 3] px.
    """
    mask = np.zeros((height, width), np.uint8)
    corners = points[INNER_LIPS, :2]
    if np.isfinite(corners).all():
        fixed = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [fixed[:, None]], (255,), lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)
    return mask

"""The files of a dataset in the family's layout (AD-NeRF to GaussianTalker), and those beside them."""

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
from being.preprocess.tracking.head_pose import Track

IDENTITY_NUMBERS, EXPRESSION_NUMBERS = (
    100,
    79,
)  # widths of `id` and `exp` in the family's track_params.pt
SUBPIXEL_BITS = 4  # of polygon corners given to OpenCV


def write_landmarks(folder: Path, landmarks: Landmarks) -> None:
    """`landmarks.npz` for ourselves and `ori_imgs/%d.lms` (68 points, "x y" a line) for every frame
    with a face.
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


def write_track(folder: Path, track: Track, triangles: np.ndarray) -> None:
    """`track_params.pt` and `mesh.npz`.

    track_params.pt: float32 id [1, 100] (zeros: there is no BFM identity), exp [F, 79] (our
    coefficients, then zeros), euler [F, 3], trans [F, 3], focal [1], vertices [1, 468, 3] (the mean
    face; its readers average over the first axis). mesh.npz: vertices float32 [F, 468, 3] without
    pose, triangles int32 [T, 3].
    """
    import torch

    expression = np.zeros((len(track.euler), EXPRESSION_NUMBERS), np.float32)
    expression[:, : track.coefficients.shape[1]] = track.coefficients
    values = {
        "id": np.zeros((1, IDENTITY_NUMBERS), np.float32),
        "exp": expression,
        "euler": track.euler,
        "trans": track.trans,
        "focal": np.array([track.focal], np.float32),
        "vertices": track.vertices.mean(0, keepdims=True),
    }
    torch.save(
        {key: torch.from_numpy(value.astype(np.float32)) for key, value in values.items()},
        folder / "track_params.pt",
    )
    np.savez(folder / "mesh.npz", vertices=track.vertices, triangles=triangles.astype(np.int32))


def write_transforms(
    folder: Path, track: Track, width: int, height: int, missing: Sequence[int]
) -> None:
    """`transforms_train.json` (the first 10/11 of the frames) and `transforms_val.json` (the rest).

    Frames without a face are left out: their .lms do not exist, and every reader opens it.
    """
    matrices = camera_to_world_json(track.euler, track.trans)
    frames = len(matrices)
    border = frames * 10 // 11
    for part, numbers in (("train", range(border)), ("val", range(border, frames))):
        listed = [
            {"img_id": i, "aud_id": i, "transform_matrix": matrices[i].tolist()}
            for i in numbers
            if i not in set(missing)
        ]
        value = {"focal_len": track.focal, "cx": width / 2, "cy": height / 2, "frames": listed}
        (folder / f"transforms_{part}.json").write_text(json.dumps(value, indent=1))


def write_mouth_masks(folder: Path, landmarks: Landmarks, width: int, height: int) -> None:
    """`mouth_mask/%d.png`: the inside of the lips, uint8 [H, W], 255 inside; empty where there is
    no face.
    """
    (folder / "mouth_mask").mkdir()

    def write(i: int) -> None:
        write_image(folder / f"mouth_mask/{i}.png", mouth_mask(landmarks.points[i], width, height))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(len(landmarks))))


def mouth_mask(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Inside of the lips uint8 [height, width], 0 or 255, of landmarks float [478, 2 or 3] px;
    empty for NaN.
    """
    mask = np.zeros((height, width), np.uint8)
    corners = points[INNER_LIPS, :2]
    if np.isfinite(corners).all():
        fixed = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [fixed[:, None]], (255,), lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)
    return mask

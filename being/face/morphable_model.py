"""The mean head of the Basel Face Model 2009, read from its file and aligned to a tracked face.

Its points can be the initial points of the Gaussians. Paysan et al., "A 3D Face Model for Pose and
Illumination Invariant Face Recognition" (2009). The file, `01_MorphableModel.mat`, comes from its
authors and may not be used commercially. Nothing in this package needs it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from being.errors import UsageError
from being.reading.content import Unreadable, check_regular, reason

UNITS_PER_MICROMETRE = 1e-5  # the file is in micrometres; a head unit is 10 cm
ITERATIONS = 60  # of the closest-point alignment
INLIER_SHARE = 0.8  # the share of the matches, the closest ones, that decides the alignment
NOSE_TIP = 1  # vertex of the tracked mesh
VERTICES_MIN, VERTICES_MAX = 5_000, 500_000  # the model has 53,490
FILE_MAX = 1 << 30  # bytes
FIX = (
    "Give 01_MorphableModel.mat of the Basel Face Model 2009, "
    "or leave data.bfm empty: it is not needed"
)


def read_bfm(path: Path) -> np.ndarray:
    """The mean head float64 [V, 3] in head units: x to the face's left, y up, z out of the face.

    Raises UsageError for a file that is missing, no MATLAB file, or without such a mean shape.
    """
    from scipy.io import loadmat, whosmat

    if not path.is_file():
        raise UsageError(f"there is no face model {path}", "data.bfm names it", FIX)
    try:
        check_regular(path, FILE_MAX)
        # The sizes are read first: a small compressed file may expand to gigabytes.
        shapes = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        if "shapeMU" not in shapes:
            raise UsageError(f"{path} is not the Basel Face Model", "it holds no shapeMU", FIX)
        shape, kind = shapes["shapeMU"]
        if math.prod(shape) > 3 * VERTICES_MAX or kind not in ("double", "single"):
            raise Unreadable(f"shapeMU is {kind} {shape}")
        mean = np.asarray(loadmat(path, variable_names=["shapeMU"])["shapeMU"], np.float64)
    except UsageError:
        raise
    except Exception as error:  # scipy raises many types for a broken file
        raise UsageError(f"{path} cannot be read as a MATLAB file", reason(error), FIX) from error
    if mean.size % 3 or mean.size < 3 * VERTICES_MIN or not np.isfinite(mean).all():
        raise UsageError(
            f"{path} is not the Basel Face Model", f"shapeMU has the shape {mean.shape}", FIX
        )
    return mean.reshape(-1, 3) * UNITS_PER_MICROMETRE


def align_to_face(head: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The points [V, 3] of `head`, rotated, moved and scaled onto the tracked mesh `face` [468, 3].

    Iterative closest points (Besl and McKay 1992) with a scale. The worst matches of each
    iteration are left out, so parts that only one of the two has do not distort the alignment.
    """
    from scipy.spatial import cKDTree

    # Start with the two noses at one point.
    aligned = head + face[NOSE_TIP] - head[head[:, 2].argmax()]
    for _ in range(ITERATIONS):
        distance, nearest = cKDTree(aligned).query(face)
        inliers = np.argsort(distance)[: round(INLIER_SHARE * len(face))]
        rotation, translation, scale = fit_similarity(aligned[nearest[inliers]], face[inliers])
        aligned = scale * aligned @ rotation.T + translation
    return aligned


def fit_similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], translation [3] and scale that map `source` [n, 3] best onto `target`.

    Least squares (Umeyama 1991): target = scale * rotation @ source + translation.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (a**2).sum())
    return rotation, target_mean - scale * rotation @ source_mean, scale

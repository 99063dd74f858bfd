"""The mean head of the Basel Face Model 2009, laid on a tracked face: initial points for those who
have its file.

Paysan et al., "A 3D Face Model for Pose and Illumination Invariant Face Recognition" (2009). The
file, `01_MorphableModel.mat`, comes from its makers and may not be used commercially; nothing here
needs it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being.errors import UsageError

SCALE = 1e-5  # head units (10 cm) per micrometre, the file's unit
ROUNDS = 60  # of matching each point to the nearest and moving
TRUSTED = 0.8  # share of the matches, the closest ones, by which the head is moved
NOSE_TIP = 1  # vertex of the tracked mesh
LEAST = 5_000  # vertices; the model has 53,490
FIX = "Give 01_MorphableModel.mat of the Basel Face Model 2009, or leave data.bfm empty: it is not needed"


def read_bfm(path: Path) -> np.ndarray:
    """The mean head float64 [V, 3] in head units: x to the face's left, y up, z out of the face.

    Raises UsageError for a file that is missing, no MATLAB file, or without such a mean shape.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise UsageError(f"there is no face model {path}", "data.bfm names it", FIX)
    try:
        mean = np.asarray(loadmat(path, variable_names=["shapeMU"])["shapeMU"], np.float64)
    except KeyError:
        raise UsageError(
            f"{path} is not the Basel Face Model", "it holds no shapeMU", FIX
        ) from None
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise UsageError(
            f"{path} cannot be read as a MATLAB file", str(error).split("\n")[0], FIX
        ) from error
    if mean.size % 3 or mean.size < 3 * LEAST or not np.isfinite(mean).all():
        raise UsageError(
            f"{path} is not the Basel Face Model", f"shapeMU has the shape {mean.shape}", FIX
        )
    return mean.reshape(-1, 3) * SCALE


def laid_on(head: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The points [V, 3] of `head` turned, moved and scaled so that its surface meets the tracked
    mesh `face` [468, 3].

    Iterated closest points (Besl and McKay 1992) with a scale, trimmed: parts that one of the two
    lacks do not pull.
    """
    from scipy.spatial import cKDTree

    placed = head + face[NOSE_TIP] - head[head[:, 2].argmax()]
    for _ in range(ROUNDS):
        distance, nearest = cKDTree(placed).query(face)
        trusted = np.argsort(distance)[: round(TRUSTED * len(face))]
        rotation, shift, scale = similarity(placed[nearest[trusted]], face[trusted])
        placed = scale * placed @ rotation.T + shift
    return placed


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], shift [3] and scale that bring points [n, 3] closest to others (Umeyama
    1991).
    """
    middle, goal = source.mean(0), target.mean(0)
    a, b = source - middle, target - goal
    u, spread, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((spread * sign).sum() / (a**2).sum())
    return rotation, goal - scale * rotation @ middle, scale

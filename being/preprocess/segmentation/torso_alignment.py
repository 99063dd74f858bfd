"""Alignment of torsos between frames: an affine map estimated from the images."""

from __future__ import annotations

import cv2
import numpy as np

SIDES = (32, 128)  # px: image heights at which the map is estimated, one after the other
MIN_MOVE = 0.2  # px: a smaller measured motion may be noise
MAX_MOVE = 0.1  # of the image height; a larger motion is a failed alignment
# Strength of the prior that a torso shifts rather than rotates, shears or scales; in squared grey
# levels.
STIFFNESS = 2.0


def torso_motion(reference: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Affine map float32 [2, 3] px that moves `reference` onto `frame` inside `mask`.

    reference, frame: [H, W, 3] RGB. mask: uint8 [H, W], nonzero on the torso. None if the motion is
    too small or too large, or the mask is too small. Gauss-Newton steps of the optical flow
    equation (Lucas and Kanade 1981) at 32 and 128 px, with a prior towards a pure shift.
    """
    rows, columns = np.nonzero(mask[::8, ::8])
    if len(rows) < 4:
        return None
    points = np.stack([columns, rows], -1) * 8.0
    centre = points.mean(0)
    reach = float(np.abs(points - centre).max()) + 1

    # Two numbers of the shift, then the four of the linear part times `reach`, so that all six are
    # px of the whole image.
    parameters = np.zeros(6)
    for side in SIDES:
        parameters = _refine(reference, frame, mask, side, parameters, centre, reach)

    # The measured motion is reduced by MIN_MOVE. So noise moves nothing, and there is no jump at
    # the threshold.
    matrix = _affine(parameters, centre, reach)
    largest = np.abs(points @ matrix[:, :2].T + matrix[:, 2] - points).max()
    if not MIN_MOVE < largest < MAX_MOVE * frame.shape[0]:
        return None
    return _affine(parameters * (1 - MIN_MOVE / largest), centre, reach)


def align_to_middle(
    images: list[np.ndarray], labels: list[np.ndarray], torso: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels [N, H, W, ...], moved so that the torso lies as in the middle frame.

    torso: the label of the torso. The lists are changed in place.
    """
    middle = len(images) // 2
    size = labels[middle].shape[::-1]
    always_torso = np.all([part == torso for part in labels], 0).astype(np.uint8)
    reference = images[middle].astype(np.float32)
    for i, (image, part) in enumerate(zip(images, labels, strict=True)):
        matrix = torso_motion(reference, image, always_torso)
        if matrix is None:
            continue
        border, back = cv2.BORDER_REPLICATE, cv2.WARP_INVERSE_MAP
        images[i] = cv2.warpAffine(
            image, matrix, size, flags=cv2.INTER_CUBIC | back, borderMode=border
        )
        labels[i] = cv2.warpAffine(
            part, matrix, size, flags=cv2.INTER_NEAREST | back, borderMode=border
        )
    return np.stack(images), np.stack(labels)


def _refine(
    reference: np.ndarray,
    frame: np.ndarray,
    mask: np.ndarray,
    side: int,
    parameters: np.ndarray,
    centre: np.ndarray,
    reach: float,
) -> np.ndarray:
    """The six `parameters` of an affine map, refined on images of `side` px height."""
    # Pixels of the small image that lie well inside the mask.
    step = frame.shape[0] / side
    size = (round(frame.shape[1] / step), side)
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.99
    inside &= cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    rows, columns = np.nonzero(inside)
    if len(rows) < 20:
        return parameters
    still, moved = _small_grey(reference, size), _small_grey(frame, size)

    # Positions in the whole image, relative to the centre, and the prior on the linear part.
    points = ((np.stack([columns, rows], -1) + 0.5) * step - 0.5 - centre) / reach
    prior = np.diag([10.0, 10.0] + [STIFFNESS * len(rows) / 100] * 4)
    is_linear = np.array([0, 0, 1, 1, 1, 1])

    for _ in range(4):
        # Warp the reference by the current map, in px of the small image.
        matrix = _affine(parameters, centre, reach)
        offset = matrix[:, 2] + (matrix[:, :2].sum(1) - 1) * (step - 1) / 2
        matrix[:, 2] = offset / step
        warped = cv2.warpAffine(still, matrix, size, borderMode=cv2.BORDER_REPLICATE)

        # Derivative of the warped grey values by the six parameters.
        slope_x = cv2.Sobel(warped, cv2.CV_32F, 1, 0, scale=1 / 8)[inside]
        slope_y = cv2.Sobel(warped, cv2.CV_32F, 0, 1, scale=1 / 8)[inside]
        gradient = np.stack([slope_x, slope_y], -1).astype(np.float64) / step
        linear_part = (gradient[:, :, None] * points[:, None]).reshape(-1, 4)
        jacobian = np.concatenate([gradient, linear_part], 1)

        # One Gauss-Newton step with Cauchy weights.
        error = (moved - warped)[inside]
        weighted = jacobian * (1 / (1 + (error / 8) ** 2))[:, None]
        pull = weighted.T @ error + is_linear * (prior @ parameters)
        parameters = parameters - np.linalg.solve(weighted.T @ jacobian + prior, pull)
    return parameters


def _small_grey(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Grey values float32 of an image [H, W, 3] RGB, resized to (width, height) px."""
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def _affine(parameters: np.ndarray, centre: np.ndarray, reach: float) -> np.ndarray:
    """Affine map float32 [2, 3] of six parameters (see `torso_motion`)."""
    linear = np.eye(2) + parameters[2:].reshape(2, 2) / reach
    return np.column_stack([linear, centre + parameters[:2] - linear @ centre]).astype(np.float32)

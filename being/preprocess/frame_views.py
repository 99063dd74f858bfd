"""Pictures a person judges by: labelled grids, and the views of a dataset's frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.data.parsing import LABEL_COLOURS
from being.face.topology import FACE_OVAL, INNER_LIPS
from being.preprocess.segmentation.plates import over
from being.report.sheet import PAPER

LOUD = (255, 0, 255)  # behind the cut-out head: any background kept shows
SUBPIXEL_BITS = 4  # of coordinates given to OpenCV


@dataclass(frozen=True)
class Views:
    """One frame as a person judges it, five pictures uint8 [H, W, 3] RGB."""

    mesh: (
        np.ndarray
    )  # the frame, or its face, with the tracked mesh, face oval, inner lips and the head's axes
    parts: np.ndarray  # its parts in the family's palette over it
    plate: np.ndarray  # the torso over the background: what is seen behind the head
    head: np.ndarray  # the head alone on a loud colour
    mouth: np.ndarray  # the mouth enlarged, with the edge of the inner lips


def views(
    frame: np.ndarray,
    meshed: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    head_alpha: np.ndarray,
    torso: np.ndarray,
    background: np.ndarray,
) -> Views:
    """The pictures of one frame uint8 [H, W, 3] RGB.

    meshed: the frame as `with_mesh` drew on it; points: float [478, 3] px, NaN without a face;
    labels, head_alpha: uint8 [H, W]; torso: uint8 [H, W, 4] RGBA; background: uint8 [H, W, 3].
    """
    alpha = head_alpha[..., None] / np.float32(255)
    head = (frame * alpha + np.array(LOUD, np.float32) * (1 - alpha) + 0.5).astype(np.uint8)
    return Views(
        meshed,
        cv2.addWeighted(frame, 0.5, LABEL_COLOURS[labels], 0.5, 0),
        over(torso, background),
        head,
        _mouth(frame, points),
    )


def with_mesh(
    frame: np.ndarray,
    points: np.ndarray,
    mesh: np.ndarray | None = None,
    edges: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """The frame uint8 [H, W, 3] RGB with the tracked mesh, the landmarks of face oval and inner
    lips, the head's axes.

    points: float [478, >= 2] px, NaN without a face; mesh: float [V, 2] px with edges int [E, 2];
    axes: float [4, 2] px. What is None is left out.
    """
    picture = frame.copy()
    size = max(1, round(frame.shape[0] / 512))
    if mesh is not None and edges is not None:
        lines = picture.copy()
        cv2.polylines(
            lines, list(_fixed(mesh[edges])), False, (0, 255, 0), size, cv2.LINE_AA, SUBPIXEL_BITS
        )
        picture = cv2.addWeighted(picture, 0.65, lines, 0.35, 0)
    if np.isfinite(points).all():
        for ring in (FACE_OVAL, INNER_LIPS):
            cv2.polylines(
                picture,
                [_fixed(points[ring, :2])],
                True,
                (255, 255, 0),
                size,
                cv2.LINE_AA,
                SUBPIXEL_BITS,
            )
    if axes is not None and np.isfinite(axes).all():
        for end, colour in zip(
            _fixed(axes[1:]), ((255, 0, 0), (0, 255, 0), (0, 128, 255)), strict=True
        ):
            cv2.line(
                picture,
                _fixed(axes[0]).tolist(),
                end.tolist(),
                colour,
                3 * size,
                cv2.LINE_AA,
                SUBPIXEL_BITS,
            )
    return picture


def mesh_edges(triangles: np.ndarray) -> np.ndarray:
    """Edges int [E, 2] of triangles int [T, 3], each once."""
    pairs = np.concatenate([triangles[:, (0, 1)], triangles[:, (1, 2)], triangles[:, (2, 0)]])
    return np.unique(np.sort(pairs, 1), axis=0)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Pixels as OpenCV's fixed-point numbers."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _mouth(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The mouth, enlarged, with the edge of the inner lips drawn."""
    height, width = frame.shape[:2]
    lips = points[INNER_LIPS, :2]
    if not np.isfinite(lips).all():
        return np.full_like(frame, PAPER)
    centre, half = lips.mean(0), max(float(np.ptp(lips, 0).max()) * 0.75, 4)
    scale = height / (2 * half)
    matrix = np.array(
        [[scale, 0, width / 2 - centre[0] * scale], [0, scale, height / 2 - centre[1] * scale]],
        np.float32,
    )
    picture = cv2.warpAffine(
        frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    edge = (lips @ matrix[:, :2].T + matrix[:, 2]).round().astype(np.int32)
    cv2.polylines(picture, [edge], True, (255, 255, 0), max(1, height // 256), cv2.LINE_AA)
    return picture

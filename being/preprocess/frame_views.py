"""Images of a dataset's frame for the report: mesh overlay, parts, plate, head and mouth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.data.parsing import LABEL_COLOURS
from being.face.topology import FACE_OVAL, INNER_LIPS
from being.preprocess.segmentation.torso_plates import composite_plate
from being.report.frame_grid import BACKGROUND

CUTOUT_COLOUR = (255, 0, 255)  # behind the head: background that was kept is easy to see
LANDMARK_COLOUR = (255, 255, 0)
MESH_COLOUR = (0, 255, 0)
AXIS_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 128, 255))  # right, up, out of the face
MESH_OPACITY = 0.35
SUBPIXEL_BITS = 4  # of the coordinates for OpenCV
MOUTH_MARGIN = 0.75  # half the side of the enlarged square over the size of the inner lips


@dataclass(frozen=True)
class FrameViews:
    """Five views of one frame, uint8 [H, W, 3] RGB."""

    # the frame, or its face, with the tracked mesh, face oval, inner lips and the head's axes
    mesh: np.ndarray
    # the parts in the colours of `data.parsing` over the frame
    parts: np.ndarray
    # the torso over the background: what is behind the head
    plate: np.ndarray
    # the head alone on CUTOUT_COLOUR
    head: np.ndarray
    # the mouth enlarged, with the edge of the inner lips
    mouth: np.ndarray


def render_views(
    frame: np.ndarray,
    mesh_view: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    head_alpha: np.ndarray,
    torso: np.ndarray,
    background: np.ndarray,
) -> FrameViews:
    """The views of one frame uint8 [H, W, 3] RGB.

    mesh_view: the image of `draw_mesh`. points: float [478, 3] px, NaN without a face. labels,
    head_alpha: uint8 [H, W]. torso: uint8 [H, W, 4] RGBA. background: uint8 [H, W, 3].
    """
    alpha = head_alpha[..., None] / np.float32(255)
    head = frame * alpha + np.array(CUTOUT_COLOUR, np.float32) * (1 - alpha)
    return FrameViews(
        mesh_view,
        cv2.addWeighted(frame, 0.5, LABEL_COLOURS[labels], 0.5, 0),
        composite_plate(torso, background),
        (head + 0.5).astype(np.uint8),
        _mouth_view(frame, points),
    )


def draw_mesh(
    frame: np.ndarray,
    points: np.ndarray,
    mesh: np.ndarray | None = None,
    edges: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """The frame uint8 [H, W, 3] RGB with mesh, face oval, inner lips and the head's axes drawn.

    points: float [478, >= 2] px, NaN without a face. mesh: float [V, 2] px, with edges int [E, 2].
    axes: float [4, 2] px, the origin and the three ends. What is None is left out.
    """
    image = frame.copy()
    width = max(1, round(frame.shape[0] / 512))

    # Mesh, half transparent.
    if mesh is not None and edges is not None:
        lines = image.copy()
        segments = list(_fixed_point(mesh[edges]))
        cv2.polylines(lines, segments, False, MESH_COLOUR, width, cv2.LINE_AA, SUBPIXEL_BITS)
        image = cv2.addWeighted(image, 1 - MESH_OPACITY, lines, MESH_OPACITY, 0)

    # Landmarks.
    if np.isfinite(points).all():
        for ring in (FACE_OVAL, INNER_LIPS):
            outline = [_fixed_point(points[ring, :2])]
            cv2.polylines(image, outline, True, LANDMARK_COLOUR, width, cv2.LINE_AA, SUBPIXEL_BITS)

    # Axes of the head.
    if axes is not None and np.isfinite(axes).all():
        origin, *ends = (corner.tolist() for corner in _fixed_point(axes))
        for end, colour in zip(ends, AXIS_COLOURS, strict=True):
            cv2.line(image, origin, end, colour, 3 * width, cv2.LINE_AA, SUBPIXEL_BITS)
    return image


def mesh_edges(triangles: np.ndarray) -> np.ndarray:
    """Edges int [E, 2] of triangles int [T, 3], each once."""
    pairs = np.concatenate([triangles[:, (0, 1)], triangles[:, (1, 2)], triangles[:, (2, 0)]])
    return np.unique(np.sort(pairs, 1), axis=0)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV's fixed-point numbers int32."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _mouth_view(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The mouth, enlarged, with the edge of the inner lips drawn; plain without a face."""
    height, width = frame.shape[:2]
    lips = points[INNER_LIPS, :2]
    if not np.isfinite(lips).all():
        return np.full_like(frame, BACKGROUND)
    centre, half = lips.mean(0), max(float(np.ptp(lips, 0).max()) * MOUTH_MARGIN, 4)
    scale = height / (2 * half)
    matrix = np.array(
        [[scale, 0, width / 2 - centre[0] * scale], [0, scale, height / 2 - centre[1] * scale]],
        np.float32,
    )
    image = cv2.warpAffine(
        frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    edge = (lips @ matrix[:, :2].T + matrix[:, 2]).round().astype(np.int32)
    cv2.polylines(image, [edge], True, LANDMARK_COLOUR, max(1, height // 256), cv2.LINE_AA)
    return image

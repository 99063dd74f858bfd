"""Pictures a person judges by: labelled grids, and the contact sheet of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from being.preprocess.facemap import FACE_OVAL, INNER_LIPS
from being.preprocess.matting import LABEL_COLOURS
from being.preprocess.plates import over

LOUD = (255, 0, 255)  # behind the cut-out head: any background kept shows
PAPER = (24, 24, 24)
INK = (235, 235, 235)
TEXT_PX = 22  # height of a label line
GAP = 4
SHEET_FRAMES = 12
SHEET_CELL = 256
ROWS = ("frame, mesh, pose", "parsing", "torso over background", "head alone", "inner mouth")


def frame_grid(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], cell: int | None = None) -> np.ndarray:
    """A labelled grid uint8 [h, w, 3] RGB: one row of equal-sized pictures for each label.

    rows: for each row pictures uint8 [H, W, 3] RGB of any size; cell: height of a picture in the grid, px (the first
    picture's own by default; all take the first picture's proportions).
    """
    assert len(rows) == len(labels) and len(rows) > 0, (len(rows), len(labels))
    first = next(picture for row in rows for picture in row)
    height = cell or first.shape[0]
    width = round(first.shape[1] * height / first.shape[0])
    across = max(len(row) for row in rows)
    grid = np.full((len(rows) * (height + TEXT_PX + GAP), across * (width + GAP) - GAP, 3), PAPER, np.uint8)
    for r, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = r * (height + TEXT_PX + GAP)
        cv2.putText(grid, label, (4, top + TEXT_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
        for c, picture in enumerate(row):
            assert picture.dtype == np.uint8 and picture.ndim == 3, (picture.dtype, picture.shape)
            left = c * (width + GAP)
            grid[top + TEXT_PX:top + TEXT_PX + height, left:left + width] = _fit(picture, width, height)
    return grid


def contact_sheet(frames: Sequence[np.ndarray], points: np.ndarray, labels: Callable[[int], np.ndarray],
                  head_alpha: Callable[[int], np.ndarray], torso: Callable[[int], np.ndarray], background: np.ndarray,
                  axes: np.ndarray | None = None, count: int = SHEET_FRAMES, cell: int = SHEET_CELL) -> np.ndarray:
    """One picture uint8 [h, w, 3] RGB by which a dataset is judged: `count` frames over the clip, five rows.

    frames: uint8 [H, W, 3] RGB each; points: float [F, 478, 3] px, NaN where no face; labels(i), head_alpha(i): uint8
    [H, W]; torso(i): uint8 [H, W, 4] RGBA; background: uint8 [H, W, 3]; axes: float [F, 4, 2] px, the head's origin
    and the ends of its x, y and z axes.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    rows: list[list[np.ndarray]] = [[] for _ in ROWS]
    for i in map(int, chosen):
        frame, part = frames[i], labels(i)
        rows[0].append(_numbered(_mesh(frame, points[i], None if axes is None else axes[i]), i))
        rows[1].append(cv2.addWeighted(frame, 0.5, LABEL_COLOURS[part], 0.5, 0))
        rows[2].append(over(torso(i), background))
        alpha = head_alpha(i)[..., None] / np.float32(255)
        rows[3].append((frame * alpha + np.array(LOUD, np.float32) * (1 - alpha) + 0.5).astype(np.uint8))
        rows[4].append(_mouth(frame, points[i]))
    return frame_grid(rows, ROWS, cell)


def pose_axes(project: Callable[[np.ndarray], np.ndarray], length: float = 0.8) -> np.ndarray:
    """Pixels [F, 4, 2] of the head's origin and axis ends. project: head-space points [4, 3] -> [F, 4, 2] px."""
    return project(np.concatenate([np.zeros((1, 3)), np.eye(3) * length]).astype(np.float32))


def _fit(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = picture.shape[0] > height
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _numbered(picture: np.ndarray, number: int) -> np.ndarray:
    size = picture.shape[0] / 512
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.putText(picture, str(number), (round(8 * size), round(36 * size)), cv2.FONT_HERSHEY_SIMPLEX, 1.1 * size,
                    colour, max(1, round(thickness * size)), cv2.LINE_AA)
    return picture


def _mesh(frame: np.ndarray, points: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    picture = frame.copy()
    size = max(1, round(frame.shape[0] / 512))
    if np.isfinite(points).all():
        for x, y in points[:, :2]:
            cv2.circle(picture, (round(float(x)), round(float(y))), size, (0, 255, 0), -1)
        for ring in (FACE_OVAL, INNER_LIPS):
            cv2.polylines(picture, [points[ring, :2].round().astype(np.int32)], True, (255, 255, 0), size, cv2.LINE_AA)
    if axes is not None and np.isfinite(axes).all():
        for end, colour in zip(axes[1:], ((255, 0, 0), (0, 255, 0), (0, 128, 255)), strict=True):
            cv2.line(picture, axes[0].round().astype(int).tolist(), end.round().astype(int).tolist(), colour, 3 * size,
                     cv2.LINE_AA)
    return picture


def _mouth(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The mouth, enlarged, with the edge of the inner lips drawn."""
    height, width = frame.shape[:2]
    lips = points[INNER_LIPS, :2]
    if not np.isfinite(lips).all():
        return np.full_like(frame, PAPER)
    centre, half = lips.mean(0), max(float(np.ptp(lips, 0).max()) * 0.75, 4)
    scale = height / (2 * half)
    matrix = np.array([[scale, 0, width / 2 - centre[0] * scale], [0, scale, height / 2 - centre[1] * scale]],
                      np.float32)
    picture = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    edge = (lips @ matrix[:, :2].T + matrix[:, 2]).round().astype(np.int32)
    cv2.polylines(picture, [edge], True, (255, 255, 0), max(1, height // 256), cv2.LINE_AA)
    return picture

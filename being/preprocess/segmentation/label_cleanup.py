"""Cleanup of parsing labels: removes disconnected parts, small holes, spikes and specks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO
from being.face.topology import FACE_OVAL
from being.preprocess.segmentation.jawline import COLLAR_REACH, FaceAxes
from being.preprocess.segmentation.soft_edge import dilate, disc

SPIKE = 0.02  # of the face height: thinner parts of the head beside the jaw are cloth
HOLE_AREA = 0.002  # of the image: larger holes in a person stay open


def tidy_labels(labels: np.ndarray, position: np.ndarray, remove_spikes: bool) -> None:
    """Clean labels uint8 [H, W] in place.

    The head becomes one connected part, the neck stays only where it touches the head, and specks
    of torso become neck. position: landmarks [478, 2] px. remove_spikes: thin parts of the head
    beside the jaw become torso.
    """
    face = FaceAxes.from_landmarks(position)
    head = labels == HEAD
    if remove_spikes:
        _remove_spikes(head, labels, face)
    head = face_component(head, position)
    labels[(labels == HEAD) & ~head] = TORSO
    labels[head & (labels != BACKGROUND)] = HEAD
    _tidy_neck(labels, face)
    _remove_specks(labels, face)


def face_component(mask: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The connected part of a mask bool [H, W] that holds the face, without small holes.

    position: landmarks [478, 2] px. If no part holds the face's centre, the largest part.
    """
    contours, family = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    if not len(contours):
        return mask

    # The outer contour around the face's centre, the largest of several.
    x, y = (float(number) for number in position[FACE_OVAL].mean(0))
    areas = np.array([cv2.contourArea(contour) for contour in contours])
    is_outer = family[0, :, 3] < 0
    around_face = np.array(
        [
            bool(outer) and cv2.pointPolygonTest(contour, (x, y), False) >= 0
            for outer, contour in zip(is_outer, contours, strict=True)
        ]
    )
    candidates = around_face if around_face.any() else is_outer
    chosen = int(np.argmax(np.where(candidates, areas, -1)))

    # Fill it, then open its large holes again.
    filled = _fill_contour(mask.shape, contours, chosen)
    for hole in np.flatnonzero((family[0, :, 3] == chosen) & (areas > HOLE_AREA * mask.size)):
        opening = _fill_contour(mask.shape, contours, int(hole))
        filled[(opening > 0) & ~mask] = 0
    return filled > 0


def touching_components(mask: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The connected parts of a mask uint8 [H, W] that reach into `area`; both bool [H, W]."""
    count, components = cv2.connectedComponents(mask)
    wanted = np.zeros(count, bool)
    wanted[components[area]] = True
    wanted[0] = False
    return wanted[components]


def _remove_spikes(head: np.ndarray, labels: np.ndarray, face: FaceAxes) -> None:
    """Remove thin parts beside the jaw that touch cloth from `head` bool [H, W], in place."""
    # Only the rows beside the jaw, with a margin for the opening.
    level = face.ear_level - 0.5 * COLLAR_REACH * face.height
    beside = face.coordinates(*head.shape)[1] > level
    first = max(int(np.argmax(beside.any(1))) - 2 * round(SPIKE * face.height) - 2, 0)
    low = slice(first, len(head))

    # An opening keeps the blunt parts. Thin parts that touch no cloth stay: ear lobes.
    kernel = disc(SPIKE * face.height)
    blunt = cv2.morphologyEx(head[low].astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0
    thin = (head[low] & ~blunt & beside[low]).astype(np.uint8)
    head[low] &= ~touching_components(thin, dilate(labels[low] == TORSO, 1.0))


def _tidy_neck(labels: np.ndarray, face: FaceAxes) -> None:
    """Keep the neck only where it touches the head; in place."""
    rows = np.flatnonzero((labels == NECK).any(1))
    if not len(rows):
        return
    reach = round(0.1 * face.height) + 2
    part = labels[max(rows[0] - reach, 0) : rows[-1] + reach]

    # Thin slivers of neck along the jaw are jaw that lies outside its landmarks.
    body = ((part == NECK) | (part == TORSO)).astype(np.uint8)
    wide = cv2.morphologyEx(body, cv2.MORPH_OPEN, disc(SPIKE * face.height))
    sliver = (part == NECK) & ~dilate(wide > 0, 0.05 * face.height)
    part[sliver & dilate(part == HEAD, 0.03 * face.height)] = HEAD

    # Neck that touches the head, smoothed; the rest becomes torso.
    opened = cv2.morphologyEx(
        (part == NECK).astype(np.uint8), cv2.MORPH_OPEN, disc(0.02 * face.height)
    )
    attached = touching_components(opened, dilate(part == HEAD, 0.02 * face.height))
    closed = cv2.morphologyEx(attached.astype(np.uint8), cv2.MORPH_CLOSE, disc(0.03 * face.height))
    body = (part == NECK) | (part == TORSO)
    part[body] = TORSO
    part[body & (closed > 0)] = NECK


def _remove_specks(labels: np.ndarray, face: FaceAxes) -> None:
    """Turn small parts of torso that do not reach the image's lower border into neck; in place."""
    contours, _ = cv2.findContours(
        (labels == TORSO).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    bottom = len(labels) - 1
    for contour in contours:
        if cv2.contourArea(contour) < 0.01 * face.area and contour[..., 1].max() < bottom:
            speck = _fill_contour(labels.shape, [contour], 0)
            labels[(speck > 0) & (labels == TORSO)] = NECK


def _fill_contour(
    shape: tuple[int, ...], contours: Sequence[np.ndarray], number: int
) -> np.ndarray:
    """Mask uint8 [H, W] of the inside of one of the contours."""
    return cv2.drawContours(np.zeros(shape, np.uint8), contours, number, (1,), cv2.FILLED)

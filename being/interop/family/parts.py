"""Parts of the head that TalkingGaussian and InsTaG tell apart and our masks do not, and the depth
InsTaG reads.

Hair is told by colour against the person's own skin, learnt over the whole clip. The family uses
BiSeNet for it; what that made is used instead where a dataset carries it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from being.conventions import PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO
from being.data.parsing import PARSING_HAIR, PARSING_MOUTH
from being.face.topology import EYE_LEFT, EYE_RIGHT, FACE_OVAL, OUTER_LIPS

HEAD = 1  # of `matting`'s labels
COLOURS = np.array(
    [PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO, PARSING_HAIR, PARSING_MOUTH],
    np.uint8,
)
HAIR, MOUTH = 4, 5  # places in COLOURS
LEARN_FRAMES = 24
BARE = 6.0  # squared Mahalanobis distance from skin under which the crown is bare
LEAST_HAIR = 500  # pixels
SHADING = np.diag(
    [200.0, 4.0, 4.0]
)  # variance in Lab added to what was seen: ears and chin lie in shadow
RIM = 0.08  # of the face's height: the dark rim under the jaw, which is no hair
OVAL_SHRINK = 0.8  # of the face oval, where skin is learnt


@dataclass(frozen=True)
class Skin:
    """Skin and hair of one person in Lab: means [3] and covariances [3, 3]; no hair where none was
    seen.
    """

    mean: np.ndarray
    covariance: np.ndarray
    hair: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def learn(
        cls, frames: Sequence[np.ndarray], points: np.ndarray, labels: Callable[[int], np.ndarray]
    ) -> Skin:
        """From frames uint8 [H, W, 3] RGB, their landmarks [F, 478, 2 or 3] px (NaN where there is
        no face), and what gives the parts of a frame, uint8 [H, W]."""
        found = np.flatnonzero(np.isfinite(points[..., :2]).all((1, 2)))
        seen, above = [], []
        for i in found[np.unique(np.linspace(0, len(found) - 1, LEARN_FRAMES).astype(int))]:
            picture, at = frames[int(i)], points[i, :, :2]
            oval = at[FACE_OVAL]
            inside = _filled(oval.mean(0) + OVAL_SHRINK * (oval - oval.mean(0)), picture.shape)
            for hole in (EYE_LEFT, EYE_RIGHT, OUTER_LIPS):
                middle = at[hole].mean(0)
                inside &= ~_filled(middle + 1.6 * (at[hole] - middle), picture.shape)
            lab = _lab(picture)
            seen.append(lab[inside])
            top = (labels(int(i)) == HEAD) & ~_filled(oval, picture.shape)
            top[int(oval[:, 1].min() + 0.2 * np.ptp(oval[:, 1])) :] = False
            above.append(lab[top])
        mean, covariance = _spread(np.concatenate(seen))
        crown = np.concatenate(above)
        away = np.einsum("ni,ij,nj->n", crown - mean, np.linalg.inv(covariance), crown - mean)
        crown = crown[away > BARE]
        return cls(mean, covariance, _spread(crown) if len(crown) > LEAST_HAIR else None)

    def hairy(self, lab: np.ndarray) -> np.ndarray:
        """bool [H, W]: Lab values [H, W, 3] more like the hair than like the skin."""
        if self.hair is None:
            return np.zeros(lab.shape[:2], bool)
        return _unlikely(lab, self.mean, self.covariance) > _unlikely(lab, *self.hair)


def rich_parsing(
    picture: np.ndarray,
    labels: np.ndarray,
    points: np.ndarray,
    mouth: np.ndarray,
    teeth: np.ndarray,
    skin: Skin,
) -> np.ndarray:
    """Parsing in TalkingGaussian's palette, uint8 [H, W, 3].

    labels: uint8 [H, W] of `matting`; points: [478, 2 or 3] px, NaN without a face; mouth, teeth:
    bool [H, W]. Hair is what of the head lies outside the face and is coloured more like the crown
    than like skin. Teeth stay in the face's colour: their reader takes them out of it by the teeth
    mask (exclusive or), so only so the two masks do not overlap.
    """
    parts = labels.copy()
    head = labels == HEAD
    if np.isfinite(points[:, :2]).all():
        oval = points[FACE_OVAL, :2]
        rim = oval + [0, RIM * np.ptp(oval[:, 1])]
        outside = head & ~_filled(oval, labels.shape) & ~_filled(rim, labels.shape)
        hairy = cv2.medianBlur(skin.hairy(_lab(picture)).astype(np.uint8), 7) > 0
        parts[outside & hairy] = HAIR
    parts[mouth & head & ~teeth] = MOUTH
    parts[teeth & head] = HEAD
    return COLOURS[parts]


def depth_of(
    camera: np.ndarray, pixels: np.ndarray, triangles: np.ndarray, head: np.ndarray
) -> np.ndarray:
    """Distance float32 [H, W] from the camera, head units: of the mesh, continued over the rest of
    the head, 0 outside.

    camera: [V, 3] tracker camera space (looking along -z); pixels: [V, 2]; triangles: [T, 3]; head:
    bool [H, W].
    """
    depth = np.zeros(head.shape, np.float32)
    distance = -camera[triangles][..., 2].mean(1)
    corners = np.round(pixels[triangles] * 16).astype(np.int32)
    for k in np.argsort(-distance):  # far ones first
        cv2.fillConvexPoly(depth, corners[k], float(distance[k]), lineType=cv2.LINE_8, shift=4)
    known = depth > 0
    if known.any():
        _, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        value = np.zeros(nearest.max() + 1, np.float32)
        value[nearest[known]] = depth[known]
        depth = value[nearest]
    return np.where(head, depth, 0).astype(np.float32)


def subdivided(vertices: np.ndarray, triangles: np.ndarray, least: int) -> np.ndarray:
    """The vertices [n, 3] of a mesh whose triangles are quartered until there are at least `least`."""
    while len(vertices) < least:
        edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
        unique, place = np.unique(edges, axis=0, return_inverse=True)
        a, b, c = (len(vertices) + place.reshape(-1, 3)).T
        x, y, z = triangles.T
        vertices = np.concatenate([vertices, vertices[unique].mean(1)])
        triangles = np.concatenate(
            [np.stack(corner, 1) for corner in ((x, a, c), (y, b, a), (z, c, b), (a, b, c))]
        )
    return vertices


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of Lab values [n, 3], the tenth that is furthest out left out, shading
    added.
    """
    away = np.linalg.norm(values - np.median(values, 0), axis=1)
    near = values[away <= np.percentile(away, 90)]
    return near.mean(0), np.cov(near.T) + SHADING


def _unlikely(lab: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Twice the negative log-likelihood [H, W] of Lab values, up to a constant."""
    away = lab - mean
    return (
        np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(covariance), away)
        + np.linalg.slogdet(covariance)[1]
    )


def _filled(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], (1,))
    return mask > 0


def _lab(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2Lab).astype(np.float32)

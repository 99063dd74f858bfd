"""Hair, mouth and face masks for TalkingGaussian and InsTaG, and the depth maps that InsTaG reads.

Our masks do not separate hair from skin. Here hair is separated by colour, with a colour model of
the person's skin and hair fitted over the whole clip. The family uses BiSeNet for this; a dataset
that carries BiSeNet's masks does not need this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from being.conventions import PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO
from being.data.parsing import HEAD, PARSING_HAIR, PARSING_MOUTH
from being.face.topology import EYE_LEFT, EYE_RIGHT, FACE_OVAL, OUTER_LIPS

PALETTE = np.array(
    [PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO, PARSING_HAIR, PARSING_MOUTH],
    np.uint8,
)
# Rows of PALETTE.
HAIR, MOUTH = 4, 5

SAMPLED_FRAMES = 24  # for the colour model
BARE_CROWN = 6.0  # squared Mahalanobis distance from skin under which the crown counts as bare
MIN_HAIR = 500  # pixels
# Variance in Lab added to that of the samples: ears and chin lie in shadow.
SHADING = np.diag([200.0, 4.0, 4.0])
# Of the face's height: the dark rim under the jaw is not hair.
RIM = 0.08
OVAL_SHRINK = 0.8  # of the face oval in which skin is sampled
HOLE_GROWTH = 1.6  # of eyes and lips, which are left out of the skin samples


@dataclass(frozen=True)
class SkinHairModel:
    """Skin and hair colours of one person in Lab: means [3] and covariances [3, 3]."""

    mean: np.ndarray
    covariance: np.ndarray
    # mean and covariance of the hair, or None for a bare head
    hair: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def fit(
        cls, frames: Sequence[np.ndarray], points: np.ndarray, labels: Callable[[int], np.ndarray]
    ) -> SkinHairModel:
        """The model of a clip.

        frames: uint8 [H, W, 3] RGB; points: landmarks [F, 478, 2 or 3] px, NaN where there is no
        face; labels: function of a frame's number that returns its parts, uint8 [H, W].
        """
        found = np.flatnonzero(np.isfinite(points[..., :2]).all((1, 2)))
        skin_samples, crown_samples = [], []
        for i in found[np.unique(np.linspace(0, len(found) - 1, SAMPLED_FRAMES).astype(int))]:
            image, face = frames[int(i)], points[i, :, :2]
            oval = face[FACE_OVAL]
            lab = _lab(image)

            # Skin: the middle of the face without eyes and lips.
            inside = _filled(oval.mean(0) + OVAL_SHRINK * (oval - oval.mean(0)), image.shape)
            for hole in (EYE_LEFT, EYE_RIGHT, OUTER_LIPS):
                middle = face[hole].mean(0)
                inside &= ~_filled(middle + HOLE_GROWTH * (face[hole] - middle), image.shape)
            skin_samples.append(lab[inside])

            # Crown: the head above the face.
            crown = (labels(int(i)) == HEAD) & ~_filled(oval, image.shape)
            crown[int(oval[:, 1].min() + 0.2 * np.ptp(oval[:, 1])) :] = False
            crown_samples.append(lab[crown])

        # Hair is what of the crown does not look like skin.
        mean, covariance = _mean_and_covariance(np.concatenate(skin_samples))
        crown_lab = np.concatenate(crown_samples)
        offset = crown_lab - mean
        distance = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset)
        hair_lab = crown_lab[distance > BARE_CROWN]
        hair = _mean_and_covariance(hair_lab) if len(hair_lab) > MIN_HAIR else None
        return cls(mean, covariance, hair)

    def is_hair(self, lab: np.ndarray) -> np.ndarray:
        """bool [H, W]: Lab values [H, W, 3] that are more likely hair than skin."""
        if self.hair is None:
            return np.zeros(lab.shape[:2], bool)
        skin_score = _negative_log_likelihood(lab, self.mean, self.covariance)
        return skin_score > _negative_log_likelihood(lab, *self.hair)


def talkinggaussian_parsing(
    image: np.ndarray,
    labels: np.ndarray,
    points: np.ndarray,
    mouth: np.ndarray,
    teeth: np.ndarray,
    model: SkinHairModel,
) -> np.ndarray:
    """Parsing in TalkingGaussian's palette, uint8 [H, W, 3].

    labels: uint8 [H, W] of `matting`; points: [478, 2 or 3] px, NaN without a face; mouth, teeth:
    bool [H, W]. Hair is the part of the head outside the face that has the colour of hair. Teeth
    keep the colour of the face: TalkingGaussian computes the face as (blue xor teeth), so the face
    mask and the teeth mask do not overlap.
    """
    parts = labels.copy()
    head = labels == HEAD
    if np.isfinite(points[:, :2]).all():
        oval = points[FACE_OVAL, :2]
        rim = oval + [0, RIM * np.ptp(oval[:, 1])]
        outside = head & ~_filled(oval, labels.shape) & ~_filled(rim, labels.shape)
        hair = cv2.medianBlur(model.is_hair(_lab(image)).astype(np.uint8), 7) > 0
        parts[outside & hair] = HAIR
    parts[mouth & head & ~teeth] = MOUTH
    parts[teeth & head] = HEAD
    return PALETTE[parts]


def mesh_depth(
    camera: np.ndarray, pixels: np.ndarray, triangles: np.ndarray, head: np.ndarray
) -> np.ndarray:
    """Distance of the head from the camera, float32 [H, W] in head units, 0 outside the head.

    Pixels of the head outside the mesh get the depth of the nearest pixel of the mesh. camera:
    [V, 3] tracker camera space (looking along -z); pixels: [V, 2]; triangles: [T, 3]; head: bool
    [H, W].
    """
    # Painter's algorithm: far triangles first.
    depth = np.zeros(head.shape, np.float32)
    distance = -camera[triangles][..., 2].mean(1)
    corners = np.round(pixels[triangles] * 16).astype(np.int32)
    for k in np.argsort(-distance):
        cv2.fillConvexPoly(depth, corners[k], float(distance[k]), lineType=cv2.LINE_8, shift=4)

    # Nearest known depth for the other pixels.
    known = depth > 0
    if known.any():
        _, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        value = np.zeros(nearest.max() + 1, np.float32)
        value[nearest[known]] = depth[known]
        depth = value[nearest]
    return np.where(head, depth, 0).astype(np.float32)


def subdivide_mesh(vertices: np.ndarray, triangles: np.ndarray, min_count: int) -> np.ndarray:
    """Vertices [n, 3] of a mesh whose triangles are split in four until n >= `min_count`."""
    while len(vertices) < min_count:
        # One new vertex in the middle of each edge.
        edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
        unique, index = np.unique(edges, axis=0, return_inverse=True)
        a, b, c = (len(vertices) + index.reshape(-1, 3)).T
        x, y, z = triangles.T
        vertices = np.concatenate([vertices, vertices[unique].mean(1)])
        quarters = ((x, a, c), (y, b, a), (z, c, b), (a, b, c))
        triangles = np.concatenate([np.stack(corner, 1) for corner in quarters])
    return vertices


def _mean_and_covariance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of Lab values [n, 3] without the farthest tenth, plus SHADING."""
    distance = np.linalg.norm(values - np.median(values, 0), axis=1)
    near = values[distance <= np.percentile(distance, 90)]
    return near.mean(0), np.cov(near.T) + SHADING


def _negative_log_likelihood(
    lab: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Twice the negative log-likelihood [H, W] of Lab values [H, W, 3], up to a constant."""
    offset = lab - mean
    distance = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset)
    return distance + np.linalg.slogdet(covariance)[1]


def _filled(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inside of a polygon [n, 2] px as a mask, bool [H, W]."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], (1,))
    return mask > 0


def _lab(image: np.ndarray) -> np.ndarray:
    """An RGB image uint8 [H, W, 3] in Lab, float32."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2Lab).astype(np.float32)

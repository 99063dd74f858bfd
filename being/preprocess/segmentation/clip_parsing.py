"""Face parsing of a clip: head, neck, torso or background for every pixel, and a soft head alpha.

1. A parser network (by default MediaPipe selfie segmentation, 256 px) finds the person to within a
   few pixels.
2. `soft_edge.soft_edge` refines the outline from the image and the clip's background. The outlines
   of neighbouring frames are moved onto each frame and averaged.
3. If the parser does not know the parts, the head is cut from neck and torso along the jaw line of
   the landmarks and outward below the ears. Hair that hangs below that line is separated from skin
   and cloth by colours that are measured over the whole clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO
from being.errors import InputRejected
from being.face.smoothing import interpolate_missing
from being.face.topology import RIGID
from being.preprocess.segmentation.background import (
    background_statistics,
    fill_unknown,
    sample_frames,
)
from being.preprocess.segmentation.jawline import (
    COLLAR_REACH,
    FaceAxes,
    above_jaw,
    fit_similarity,
)
from being.preprocess.segmentation.label_cleanup import (
    face_component,
    tidy_labels,
    touching_components,
)
from being.preprocess.segmentation.parser import Parser, SelfieSegmentation
from being.preprocess.segmentation.part_colours import UNKNOWN_COLOUR, PartColours
from being.preprocess.segmentation.soft_edge import BackgroundModel, dilate, disc, soft_edge

MODEL_FRAMES = 40  # frames from which the clip's background and colours are measured
CHUNK_FRAMES = 32  # frames of one task
AGREE = 0.35  # alpha: neighbouring frames that differ by more are not averaged
FACE_IN_HEAD_MIN = 0.5  # share of the face that must lie in the parser's head
# Along the face's own axes, in face heights (brow to chin) or widths.
# Area of hair below the jaw over that of the face, from which hair is long: 0.63 and more in a clip
# with hair down to the chest, 0.08 at most in clips with hair down to the jaw.
LONG_HAIR = 0.1
SHORT_HAIR = 5.0  # penalty, in log-likelihood, on hair below the ears of a person with short hair
NECK_REACH = 0.9  # how far down skin can be neck
OVAL_MISS = 0.012  # by how much the mesh's border may lie outside the jaw
OUTLINE_PX = 4  # at 512: how far the soft outline reaches beyond the labels


@dataclass(frozen=True)
class Parsing:
    """The parts of one frame."""

    labels: np.ndarray  # uint8 [H, W]: BACKGROUND, HEAD, NECK or TORSO
    head_alpha: np.ndarray  # uint8 [H, W]: 255 where the head covers the whole pixel


def parse_clip(
    frames: Sequence[np.ndarray],
    points: np.ndarray,
    segments: Sequence[Sequence[int]] | None = None,
    parser: Parser | None = None,
    workers: int = 2,
) -> Iterator[Parsing]:
    """The parts of every frame, in order; memory does not grow with the length of the clip.

    frames: uint8 [H, W, 3] RGB each, indexed from several threads. points: float32 [F, 478, 3] px,
    NaN where no face was found; those frames take interpolated landmarks. segments: (start, stop)
    frames without a cut, the whole clip by default; nothing is averaged across a cut. parser: see
    `parser.load_parser`, SelfieSegmentation by default. Raises InputRejected when the parser does
    not find the faces.
    """
    count = len(frames)
    assert points.shape[:2] == (count, 478), points.shape
    found = np.isfinite(points[:, :, :2]).all((1, 2))
    assert found.any(), "no face in any frame"
    positions = interpolate_missing(points[:, :, :2].reshape(count, -1), found)
    positions = positions.reshape(count, 478, 2)
    parser = parser or SelfieSegmentation()
    segmenter = ClipSegmenter.from_clip(frames, positions, parser)

    # Only a few chunks wait at a time.
    waiting: deque[Future[list[Parsing]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for chunk, segment in _chunks(segments or [(0, count)], count):
            task = pool.submit(_parse_chunk, segmenter, parser, frames, positions, chunk, segment)
            waiting.append(task)
            if len(waiting) > max(1, workers):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _chunks(segments: Sequence[Sequence[int]], count: int) -> list[tuple[range, range]]:
    """(frames of one task, frames of the segment around them), covering all frames in order."""
    starts = sorted({0, *(edge for segment in segments for edge in segment if 0 <= edge < count)})
    chunks = []
    for start, stop in zip(starts, [*starts[1:], count], strict=True):
        for first in range(start, stop, CHUNK_FRAMES):
            chunks.append((range(first, min(first + CHUNK_FRAMES, stop)), range(start, stop)))
    return chunks


def _parse_chunk(
    segmenter: ClipSegmenter,
    parser: Parser,
    frames: Sequence[np.ndarray],
    positions: np.ndarray,
    chunk: range,
    segment: range,
) -> list[Parsing]:
    """The parts of the frames of `chunk`, with the help of their neighbours in the segment."""

    def neighbour(i: int, offset: int) -> int:
        return min(max(i + offset, segment.start), segment.stop - 1)

    # An outline needs the parser's result of its two neighbours, and each frame of the chunk needs
    # the outlines of its two neighbours.
    with_outline = range(neighbour(chunk.start, -1), neighbour(chunk.stop, 0) + 1)
    images = {i: frames[i] for i in range(neighbour(chunk.start, -2), neighbour(chunk.stop, 1) + 1)}
    raw_parts = {i: parser(image) for i, image in images.items()}

    # Parser results, landmarks and outlines, each smoothed over three frames.
    parts, faces, alphas = {}, {}, {}
    for i in with_outline:
        before, after = neighbour(i, -1), neighbour(i, 1)
        parts[i] = _averaged(raw_parts[i], raw_parts[before], raw_parts[after])
        faces[i] = (positions[before] + 2 * positions[i] + positions[after]) / 4
        alphas[i] = segmenter.person_alpha(images[i], faces[i], parts[i])

    parsed = []
    for i in chunk:
        others = []
        for j in (neighbour(i, -1), neighbour(i, 1)):
            others.append((alphas[j], fit_similarity(faces[j][RIGID], faces[i][RIGID])))
        steady = _steady_alpha(alphas[i], others)
        parsed.append(segmenter.parse(images[i], faces[i], parts[i], alphas[i], steady))
    return parsed


def _steady_alpha(own: np.ndarray, others: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """An outline float32 [H, W] averaged with those of the frames before and after.

    others: outlines and the matrices [2, 3] that move them onto this frame. The median of the
    three removes what only this frame shows. What the neighbours show alike is averaged with the
    weights 1, 2, 1.
    """
    before, after = (
        cv2.warpAffine(alpha, matrix, own.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        for alpha, matrix in others
    )
    median = np.clip(own, np.minimum(before, after), np.maximum(before, after))
    return _averaged(median, before, after)


def _averaged(own: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Half of `own` and a quarter of each of two others where they agree, else `own`; float32."""
    result = own.copy()
    for other in others:
        change = other - own
        result += change * np.clip(1 - np.abs(change) / AGREE, 0, 1) / 4
    return result


@dataclass(frozen=True)
class ClipSegmenter:
    """The background and the colours of skin, hair and cloth of a clip; parses single frames."""

    background: BackgroundModel
    colours: PartColours
    long_hair: bool  # hair hangs below the ears

    @classmethod
    def from_clip(
        cls, frames: Sequence[np.ndarray], positions: np.ndarray, parser: Parser
    ) -> ClipSegmenter:
        """The model of a clip.

        frames: uint8 [H, W, 3] RGB each. positions: landmarks float [F, 478, 2] px. Raises
        InputRejected when the parser does not find the faces.
        """
        # Person masks of sampled frames. Ears are uncertain where the parser gives background.
        chosen = sample_frames(len(frames), MODEL_FRAMES)
        images, faces = [frames[i] for i in chosen], positions[chosen]
        height, width = images[0].shape[:2]
        parts = [_resized(parser(image), height, width) for image in images]
        _check_faces(parts, faces)
        masks = []
        for part, face in zip(parts, faces, strict=True):
            mask = part[0] if len(part) == 1 else 1 - part[BACKGROUND]
            ears = FaceAxes.from_landmarks(face).ears(height, width)
            masks.append(np.where((mask < 0.5) & ears, 0.5, mask).astype(np.float32))

        # Background and colours.
        plate, known, spread = background_statistics(
            images, lambda i: (masks[i] > 0.3).astype(np.uint8)
        )
        background = BackgroundModel.from_plate(fill_unknown(plate, known), spread)
        colours = PartColours.from_clip(images, masks, faces)

        # Hair is long if it covers enough area below the jaw in most frames.
        segmenter = cls(background, colours, False)
        areas = []
        for image, face, mask in zip(images, faces, masks, strict=True):
            hair = segmenter.hair_below_jaw(image, face, mask > 0.5)
            areas.append(hair.sum() / FaceAxes.from_landmarks(face).area)
        return cls(background, colours, bool(np.median(areas) > LONG_HAIR))

    def person_alpha(
        self, frame: np.ndarray, position: np.ndarray, parts: np.ndarray
    ) -> np.ndarray:
        """Soft silhouette float32 [H, W] of the person in a frame uint8 [H, W, 3] RGB.

        position: landmarks [478, 2] px. parts: float32 [1 or 4, h, w] of a parser.
        """
        height, width = frame.shape[:2]
        rough = _resized(parts[:1] if len(parts) == 1 else 1 - parts[:1], height, width)[0]
        ears = FaceAxes.from_landmarks(position).ears(height, width)
        return soft_edge(frame, rough, ears, self.background, self.colours.person_probability)

    def parse(
        self,
        frame: np.ndarray,
        position: np.ndarray,
        parts: np.ndarray,
        own: np.ndarray,
        steady: np.ndarray,
    ) -> Parsing:
        """The parts of one frame uint8 [H, W, 3] RGB.

        position: landmarks [478, 2] px. parts: float32 [1 or 4, h, w] of a parser. own, steady:
        soft silhouettes float32 [H, W]: of this frame alone, used for the body, and averaged over
        neighbouring frames, used for the head.
        """
        height, width = frame.shape[:2]
        outline = OUTLINE_PX * height / 512
        by_parts = _resized(parts, height, width) if len(parts) > 1 else None

        # Share of the head in each pixel of the person.
        if by_parts is None:
            share = above_jaw(position, height, width)
        else:
            share = by_parts[HEAD] / np.maximum(1 - by_parts[BACKGROUND], 1e-3)

        # The person in one part. The soft outline may reach a little beyond it.
        alpha = np.where(share > 0, steady, own)
        person = face_component(alpha > 0.5, position)
        outside = np.where(dilate(person, outline), alpha, 0)
        alpha = np.where(person, np.maximum(alpha, 0.5), outside)

        # Neck, and corrections of the head's share, by colour where the parser knows no parts.
        if by_parts is None:
            neck, collar = self._neck_and_collar(frame, position, person, share > 0.5)
            share *= 1 - cv2.GaussianBlur(collar.astype(np.float32), (3, 3), 0)
            if self.long_hair:
                hair = self.hair_below_jaw(frame, position, person)
                share = np.maximum(share, hair.astype(np.float32))
        else:
            neck = person & (by_parts[NECK] > by_parts[TORSO])

        labels = np.where(person, TORSO, BACKGROUND).astype(np.uint8)
        labels[neck] = NECK
        labels[person & (share > 0.5)] = HEAD
        tidy_labels(labels, position, remove_spikes=not self.long_hair)

        # The head's alpha agrees with the labels.
        share[((labels == NECK) | (labels == TORSO)) & (share > 0.5)] = 0
        share[(labels == HEAD) & (share <= 0.5)] = 1
        head = alpha * np.clip(share, 0, 1) * dilate(labels == HEAD, outline)
        return Parsing(labels, (head * 255 + 0.5).astype(np.uint8))

    def hair_below_jaw(
        self, frame: np.ndarray, position: np.ndarray, person: np.ndarray
    ) -> np.ndarray:
        """Hair below the jaw cut that is connected to hair above it, bool [H, W].

        frame: uint8 [H, W, 3] RGB. position: landmarks [478, 2] px. person: bool [H, W].
        """
        face = FaceAxes.from_landmarks(position)
        share = above_jaw(position, *frame.shape[:2])
        above = share > 0.5

        # Pixels whose colour is hair.
        hair, skin, cloth, _ = self.colours.log_likelihoods(frame)
        is_hair = person & (hair > np.maximum(skin, cloth) + 1) & ~face.oval(*frame.shape[:2])
        is_hair = cv2.morphologyEx(
            is_hair.astype(np.uint8), cv2.MORPH_OPEN, disc(0.012 * face.height)
        )

        # Parts of it that cross the level of the ears beside the face.
        across, down = face.coordinates(*frame.shape[:2])
        level = face.ear_level
        crossing = above & (np.abs(down - level) < 0.06 * face.height)
        crossing &= np.abs(across) < 1.1 * face.width
        low_hair = is_hair * (down > level - 0.06 * face.height)
        hanging = touching_components(low_hair, crossing)
        # With the pixels on the cut, so that it leaves no line in the hair.
        return hanging & (share < 1) & (down < level + 1.6 * face.height)

    def _neck_and_collar(
        self, frame: np.ndarray, position: np.ndarray, person: np.ndarray, above: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Neck below the jaw cut, and cloth above it beside the jaw, both bool [H, W].

        person, above: bool [H, W], the person and the head's side of the cut.
        """
        height, width = frame.shape[:2]
        face = FaceAxes.from_landmarks(position)
        across, down = face.coordinates(height, width)
        neck, collar = np.zeros((height, width), bool), np.zeros((height, width), bool)

        # Only the rows from beside the jaw to the lower border.
        beside = down > face.ear_level - COLLAR_REACH * face.height
        rows = np.flatnonzero((beside & (np.abs(across) < face.width)).any(1))
        if not len(rows):
            return neck, collar
        part = slice(rows[0], height)
        person, above, across, down = person[part], above[part], across[part], down[part]

        # Neck: skin rather than cloth, more likely near the jaw and near the middle.
        hair, skin, cloth, _ = np.maximum(self.colours.log_likelihoods(frame[part]), -14)
        kernel = (2 * round(0.012 * face.height) + 1,) * 2
        reach = np.clip((down - face.ear_level) / (NECK_REACH * face.height), 0, 1)
        prior = 2 - 4 * reach - 4 * np.clip(np.abs(across) / (0.5 * face.width) - 0.8, 0, 2)
        cloth = np.maximum(cloth, UNKNOWN_COLOUR)
        odds = cv2.blur(np.clip(skin - cloth, -6, 6) + prior, kernel)
        neck[part] = person & ~above & (odds > 0) & (reach < 1)
        if self.long_hair:
            return neck, collar

        # Collar: cloth rather than hair or skin, outside the face and connected to cloth below.
        hair = hair - SHORT_HAIR * (down > face.ear_level)
        odds = cv2.blur(np.clip(cloth - np.maximum(hair, skin), -6, 6), kernel)
        oval = face.oval(height, width)[part].astype(np.uint8)
        inner = cv2.erode(oval, disc(OVAL_MISS * face.height)) > 0
        outside = person & above & beside[part] & ~inner
        is_cloth = (outside | (person & ~above & ~neck[part])) & (odds > 0)
        opened = cv2.morphologyEx(
            is_cloth.astype(np.uint8), cv2.MORPH_OPEN, disc(0.01 * face.height)
        )
        collar[part] = touching_components(opened, ~above) & outside
        return neck, collar


def _resized(parts: np.ndarray, height: int, width: int) -> np.ndarray:
    """A parser's probabilities float32 [C, h, w] at the image's size, float32 [C, H, W]."""
    if parts.shape[1:] == (height, width):
        return parts
    return np.stack(
        [cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in parts]
    )


def _check_faces(parts: list[np.ndarray], faces: np.ndarray) -> None:
    """Raise InputRejected if the parser's person or head is not where the landmarks are."""
    shares = []
    for part, face in zip(parts, faces, strict=True):
        oval = FaceAxes.from_landmarks(face).oval(*part.shape[1:])
        shares.append(float(part[0 if len(part) == 1 else HEAD][oval].mean()))
    if np.median(shares) < FACE_IN_HEAD_MIN:
        raise InputRejected(
            "the parser does not find the faces of this clip",
            f"only {np.median(shares):.0%} of the face lies in the area that it labels as head",
            "Check the model's classes and its normalisation (docs/dataset.md), or use the default",
        )

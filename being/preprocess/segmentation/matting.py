"""Frames and landmarks -> head, neck, torso or background for every pixel, and a soft head alpha at
the hair's edge.

A parser (by default a small network, MediaPipe selfie segmentation, 256 px) says where the person
is to within a few pixels; `edge.soft_edge` takes the outline from the picture and the clip's
background, and the outlines of neighbouring frames, laid on one head, are averaged. Where the
parser knows no parts, the head is cut from neck and torso along the jaw line of the landmarks and
outward below the ears; hair that hangs below that line is told from skin and cloth by colours
learned over the whole clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from being.data.parsing import (
    BACKGROUND,
    HEAD,
    NECK,
    TORSO,
)
from being.errors import InputRejected
from being.face.smoothing import fill
from being.face.topology import FACE_OVAL, RIGID
from being.preprocess.segmentation.jawline import Face, above_jaw, similarity
from being.preprocess.segmentation.parser import Parser, SelfieSegmentation
from being.preprocess.segmentation.part_colours import UNKNOWN_COLOUR, PartColours
from being.preprocess.segmentation.soft_edge import Backdrop, disc, grown, soft_edge

LEARN_FRAMES = 40
CHUNK = 32  # frames of one piece of work
AGREE = 0.35  # alpha: neighbours that differ by more are not averaged
KNOWN_FACE = 0.5  # of the face must be in the parser's head, else it does not know heads
# Along the face's own axes, in face heights (brow to chin) or widths.
COLLAR_REACH = 0.25  # cloth may stand this far above the cut, beside the jaw
SHORT_HAIR = 5.0  # by how much, in log-likelihood, short hair is the less likely below the ears
NECK_REACH = 0.9  # how far down skin can be neck
OVAL_MISS = 0.012  # by how much the mesh's rim may pass the jaw
SPIKE = 0.02  # thinner bits of head beside the jaw are cloth
HOLE_AREA = 0.002  # of the picture: larger holes in a person stay open
OUTLINE_PX = 4  # at 512: how far the soft outline reaches beyond the labels


@dataclass(frozen=True)
class Parsing:
    """One frame's parts."""

    labels: np.ndarray  # uint8 [H, W]: BACKGROUND, HEAD, NECK or TORSO
    head_alpha: np.ndarray  # uint8 [H, W]: 255 where the head covers the pixel wholly


def sample(length: int, count: int) -> list[int]:
    """Up to `count` frame numbers spread evenly over a clip of `length` frames."""
    return sorted({int(i) for i in np.linspace(0, length - 1, min(length, count)).round()})


def parse_clip(
    frames: Sequence[np.ndarray],
    points: np.ndarray,
    segments: Sequence[Sequence[int]] | None = None,
    parser: Parser | None = None,
    workers: int = 2,
) -> Iterator[Parsing]:
    """The parts of every frame, in order; memory stays flat in the length of the clip.

    frames: uint8 [H, W, 3] RGB each, read by index from several threads; points: float32 [F, 478,
    3] px, NaN where no face was found (those frames take their neighbours'); segments: (start,
    stop) frames that follow each other without a cut (the whole clip by default): nothing is
    averaged across a break. parser: says where the person and its parts are (`parser.parser(name)`;
    SelfieSegmentation by default). Raises InputRejected when the parser does not find the faces.
    """
    count = len(frames)
    assert points.shape[:2] == (count, 478), points.shape
    found = np.isfinite(points[:, :, :2]).all((1, 2))
    assert found.any(), "no face in any frame"
    positions = fill(points[:, :, :2].reshape(count, -1), found).reshape(count, 478, 2)
    pieces = _pieces(segments or [(0, count)], count)
    parser = parser or SelfieSegmentation()
    matting = Matting.learn(frames, positions, parser)
    waiting: deque[Future[list[Parsing]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for piece in pieces:
            waiting.append(pool.submit(_parse_piece, matting, parser, frames, positions, *piece))
            if len(waiting) > max(1, workers):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _pieces(segments: Sequence[Sequence[int]], count: int) -> list[tuple[range, range]]:
    """(frames of a piece of work, frames of the segment it lies in), covering all frames in order."""
    starts = sorted({0, *(edge for segment in segments for edge in segment if 0 <= edge < count)})
    shots = [range(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]
    return [
        (range(start, min(start + CHUNK, shot.stop)), shot)
        for shot in shots
        for start in range(shot.start, shot.stop, CHUNK)
    ]


def _parse_piece(
    matting: Matting,
    parser: Parser,
    frames: Sequence[np.ndarray],
    positions: np.ndarray,
    piece: range,
    shot: range,
) -> list[Parsing]:
    """The parts of the frames of `piece`, with what its neighbours in the same shot lend."""

    def near(i: int, to: int) -> int:
        return min(max(i + to, shot.start), shot.stop - 1)

    shown = range(near(piece.start, -1), near(piece.stop, 0) + 1)
    pictures = {i: frames[i] for i in range(near(piece.start, -2), near(piece.stop, 1) + 1)}
    parts = {i: parser(picture) for i, picture in pictures.items()}
    parts = {i: _averaged(parts[i], parts[near(i, -1)], parts[near(i, 1)]) for i in shown}
    faces = {
        i: (positions[near(i, -1)] + 2 * positions[i] + positions[near(i, 1)]) / 4 for i in shown
    }
    alphas = {i: matting.person_alpha(pictures[i], faces[i], parts[i]) for i in shown}
    done = []
    for i in piece:
        steady = _steady(
            alphas[i],
            [
                (alphas[j], similarity(faces[j][RIGID], faces[i][RIGID]))
                for j in (near(i, -1), near(i, 1))
            ],
        )
        done.append(matting.parse(pictures[i], faces[i], parts[i], alphas[i], steady))
    return done


def _steady(own: np.ndarray, others: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """An outline float32 [H, W] averaged with those of the frames before and after, which [2, 3]
    matrices lay on it.

    What only this frame shows goes (median of three), what the neighbours show alike is averaged
    with weights 1, 2, 1.
    """
    before, after = (
        cv2.warpAffine(alpha, matrix, own.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        for alpha, matrix in others
    )
    return _averaged(
        np.clip(own, np.minimum(before, after), np.maximum(before, after)), before, after
    )


def _averaged(own: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """A quarter of each of two others and half of `own`, where they agree; `own` where they do not.
    All float32.
    """
    result = own.copy()
    for other in others:
        change = other - own
        result += change * np.clip(1 - np.abs(change) / AGREE, 0, 1) / 4
    return result


@dataclass(frozen=True)
class Matting:
    """What a clip teaches: its background and the colours of skin, hair and cloth. Then each frame
    by itself.
    """

    backdrop: Backdrop
    colours: PartColours
    long_hair: bool  # hair hangs below the ears

    @classmethod
    def learn(cls, frames: Sequence[np.ndarray], positions: np.ndarray, parser: Parser) -> Matting:
        """From frames uint8 [H, W, 3] RGB spread over the clip and their landmarks float [F, 478,
        2] px.
        """
        from being.preprocess.segmentation.plates import background_statistics, complete

        chosen = sample(len(frames), LEARN_FRAMES)
        pictures, faces = [frames[i] for i in chosen], positions[chosen]
        height, width = pictures[0].shape[:2]
        parts = [_resized(parser(picture), height, width) for picture in pictures]
        _check_faces(parts, faces)
        masks = [part[0] if len(part) == 1 else 1 - part[BACKGROUND] for part in parts]
        masks = [
            np.where((mask < 0.5) & Face.of(face).ears(height, width), 0.5, mask).astype(np.float32)
            for mask, face in zip(masks, faces, strict=True)
        ]
        plate, known, spread = background_statistics(
            pictures, lambda i: (masks[i] > 0.3).astype(np.uint8)
        )
        colours = PartColours.learn(pictures, masks, faces)
        short = cls(Backdrop.of(complete(plate, known), spread), colours, False)
        areas = [
            short.hanging_hair(picture, face, mask > 0.5).sum() / Face.of(face).area
            for picture, mask, face in zip(pictures, masks, faces, strict=True)
        ]
        return cls(short.backdrop, colours, bool(np.median(areas) > 0.04))

    def person_alpha(
        self, frame: np.ndarray, position: np.ndarray, parts: np.ndarray
    ) -> np.ndarray:
        """Soft silhouette float32 [H, W] of a frame uint8 [H, W, 3] from landmarks [478, 2] px and
        a parser's parts.
        """
        height, width = frame.shape[:2]
        rough = _resized(parts[:1] if len(parts) == 1 else 1 - parts[:1], height, width)[0]
        return soft_edge(
            frame, rough, Face.of(position).ears(height, width), self.backdrop, self.colours.person
        )

    def parse(
        self,
        frame: np.ndarray,
        position: np.ndarray,
        parts: np.ndarray,
        own: np.ndarray,
        steady: np.ndarray,
    ) -> Parsing:
        """Parts of one frame uint8 [H, W, 3] RGB.

        position: landmarks [478, 2] px; parts: what the parser says, float32 [1 or 4, h, w]; own,
        steady: soft silhouettes float32 [H, W], of this frame alone (for the body) and averaged on
        the head (for the head).
        """
        height, width = frame.shape[:2]
        outline = OUTLINE_PX * height / 512
        by_parts = _resized(parts, height, width) if len(parts) > 1 else None
        share = (
            above_jaw(position, height, width)
            if by_parts is None
            else by_parts[HEAD] / np.maximum(1 - by_parts[BACKGROUND], 1e-3)
        )
        alpha = np.where(share > 0, steady, own)
        person = _one_piece(alpha > 0.5, position)
        alpha = np.where(person, np.maximum(alpha, 0.5), np.where(grown(person, outline), alpha, 0))
        if by_parts is None:
            neck, collar = self._neck_and_collar(frame, position, person, share > 0.5)
            share *= 1 - cv2.GaussianBlur(collar.astype(np.float32), (3, 3), 0)
            if self.long_hair:
                share = np.maximum(
                    share, self.hanging_hair(frame, position, person).astype(np.float32)
                )
        else:
            neck = person & (by_parts[NECK] > by_parts[TORSO])
        labels = np.where(person, TORSO, BACKGROUND).astype(np.uint8)
        labels[neck] = NECK
        labels[person & (share > 0.5)] = HEAD
        _tidy(labels, position, not self.long_hair)
        share[((labels == NECK) | (labels == TORSO)) & (share > 0.5)] = 0
        share[(labels == HEAD) & (share <= 0.5)] = 1
        head = alpha * np.clip(share, 0, 1) * grown(labels == HEAD, outline)
        return Parsing(labels, (head * 255 + 0.5).astype(np.uint8))

    def hanging_hair(
        self, frame: np.ndarray, position: np.ndarray, person: np.ndarray
    ) -> np.ndarray:
        """Hair below the jaw cut that hangs together with hair above it, bool [H, W]."""
        face = Face.of(position)
        above = above_jaw(position, *frame.shape[:2]) > 0.5
        scores = self.colours.scores(frame)
        hair = (
            person
            & (scores[0] > np.maximum(scores[1], scores[2]) + 1)
            & ~face.oval(*frame.shape[:2])
        )
        hair = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, disc(0.012 * face.height))
        across, down = face.coordinates(*frame.shape[:2])
        level = face.ear_level
        crossing = (
            above
            & (np.abs(down - level) < 0.06 * face.height)
            & (np.abs(across) < 1.1 * face.width)
        )
        hanging = _touching(hair * (down > level - 0.06 * face.height), crossing)
        return hanging & ~above & (down < level + 1.6 * face.height)

    def _neck_and_collar(
        self, frame: np.ndarray, position: np.ndarray, person: np.ndarray, above: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Neck below the cut and cloth that reaches above it beside the jaw, both bool [H, W]."""
        height, width = frame.shape[:2]
        face = Face.of(position)
        across, down = face.coordinates(height, width)
        beside = down > face.ear_level - COLLAR_REACH * face.height
        rows = np.flatnonzero((beside & (np.abs(across) < face.width)).any(1))
        neck, collar = np.zeros((height, width), bool), np.zeros((height, width), bool)
        if not len(rows):
            return neck, collar
        part = slice(rows[0], height)
        person, above, across, down = person[part], above[part], across[part], down[part]
        hair, skin, cloth, _ = np.maximum(self.colours.scores(frame[part]), -14)
        soft = (2 * round(0.012 * face.height) + 1,) * 2
        reach = np.clip((down - face.ear_level) / (NECK_REACH * face.height), 0, 1)
        prior = 2 - 4 * reach - 4 * np.clip(np.abs(across) / (0.5 * face.width) - 0.8, 0, 2)
        cloth = np.maximum(cloth, UNKNOWN_COLOUR)
        odds = cv2.blur(np.clip(skin - cloth, -6, 6) + prior, soft)
        neck[part] = person & ~above & (odds > 0) & (reach < 1)
        if not self.long_hair:
            hair = hair - SHORT_HAIR * (down > face.ear_level)
            odds = cv2.blur(np.clip(cloth - np.maximum(hair, skin), -6, 6), soft)
            inner = (
                cv2.erode(
                    face.oval(height, width)[part].astype(np.uint8), disc(OVAL_MISS * face.height)
                )
                > 0
            )
            outside = person & above & beside[part] & ~inner
            cloths = cv2.morphologyEx(
                ((outside | (person & ~above & ~neck[part])) & (odds > 0)).astype(np.uint8),
                cv2.MORPH_OPEN,
                disc(0.01 * face.height),
            )
            collar[part] = _touching(cloths, ~above) & outside
        return neck, collar


def _one_piece(mask: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The connected part of a mask bool [H, W] that the face is in, without small holes."""
    contours, family = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    if not len(contours):
        return mask
    centre = position[FACE_OVAL].mean(0)
    areas = np.array([cv2.contourArea(contour) for contour in contours])
    outer = family[0, :, 3] < 0
    around = [
        bool(o) and cv2.pointPolygonTest(c, (float(centre[0]), float(centre[1])), False) >= 0
        for o, c in zip(outer, contours, strict=True)
    ]
    chosen = int(np.argmax(np.where(np.array(around) if any(around) else outer, areas, -1)))
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, chosen, (1,), cv2.FILLED)
    for hole in np.flatnonzero((family[0, :, 3] == chosen) & (areas > HOLE_AREA * mask.size)):
        opening = cv2.drawContours(
            np.zeros(mask.shape, np.uint8), contours, int(hole), (1,), cv2.FILLED
        )
        filled[(opening > 0) & ~mask] = 0
    return filled > 0


def _tidy(labels: np.ndarray, position: np.ndarray, spikes: bool) -> None:
    """Keep the head in one piece, the neck only where it hangs on the head, and no specks of torso;
    in place.

    spikes: thin bits of head beside the jaw go too.
    """
    face = Face.of(position)
    head = labels == HEAD
    if spikes:
        beside = (
            face.coordinates(*head.shape)[1] > face.ear_level - 0.5 * COLLAR_REACH * face.height
        )
        low = slice(
            max(int(np.argmax(beside.any(1))) - 2 * round(SPIKE * face.height) - 2, 0), len(head)
        )
        blunt = (
            cv2.morphologyEx(head[low].astype(np.uint8), cv2.MORPH_OPEN, disc(SPIKE * face.height))
            > 0
        )
        thin = (head[low] & ~blunt & beside[low]).astype(np.uint8)
        head[low] &= ~_touching(
            thin, grown(labels[low] == TORSO, 1.0)
        )  # an ear's lobe touches no cloth
    head = _one_piece(head, position)
    labels[(labels == HEAD) & ~head] = TORSO
    labels[head & (labels != BACKGROUND)] = HEAD
    rows = np.flatnonzero((labels == NECK).any(1))
    if len(rows):
        reach = round(0.1 * face.height) + 2
        part = labels[max(rows[0] - reach, 0) : rows[-1] + reach]
        wide = cv2.morphologyEx(
            ((part == NECK) | (part == TORSO)).astype(np.uint8),
            cv2.MORPH_OPEN,
            disc(SPIKE * face.height),
        )
        part[
            (part == NECK)
            & ~grown(wide > 0, 0.05 * face.height)
            & grown(part == HEAD, 0.03 * face.height)
        ] = HEAD  # slivers of jaw that pass its line
        opened = cv2.morphologyEx(
            (part == NECK).astype(np.uint8), cv2.MORPH_OPEN, disc(0.02 * face.height)
        )
        hanging = _touching(opened, grown(part == HEAD, 0.02 * face.height))
        neck = (
            cv2.morphologyEx(hanging.astype(np.uint8), cv2.MORPH_CLOSE, disc(0.03 * face.height))
            > 0
        )
        body = (part == NECK) | (part == TORSO)
        part[body] = TORSO
        part[body & neck] = NECK
    contours, _ = cv2.findContours(
        (labels == TORSO).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    bottom = len(labels) - 1
    for contour in contours:
        if cv2.contourArea(contour) < 0.01 * face.area and contour[..., 1].max() < bottom:
            speck = cv2.drawContours(
                np.zeros(labels.shape, np.uint8), [contour], 0, (1,), cv2.FILLED
            )
            labels[(speck > 0) & (labels == TORSO)] = NECK


def _touching(mask: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The connected parts of a mask uint8 [H, W] that reach into `place` bool [H, W], bool [H, W]."""
    count, pieces = cv2.connectedComponents(mask)
    wanted = np.zeros(count, bool)
    wanted[pieces[place]] = True
    wanted[0] = False
    return wanted[pieces]


def _resized(parts: np.ndarray, height: int, width: int) -> np.ndarray:
    """A parser's probabilities float32 [C, h, w] at the picture's size, float32 [C, H, W]."""
    if parts.shape[1:] == (height, width):
        return parts
    return np.stack(
        [cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in parts]
    )


def _check_faces(parts: list[np.ndarray], faces: np.ndarray) -> None:
    """Refuse a parser whose person or head is not where the landmarks have the face."""
    share = [
        float(part[0 if len(part) == 1 else HEAD][Face.of(face).oval(*part.shape[1:])].mean())
        for part, face in zip(parts, faces, strict=True)
    ]
    if np.median(share) < KNOWN_FACE:
        raise InputRejected(
            "the parser does not find the faces of this clip",
            f"{np.median(share):.0%} of the face lies in what it calls the head",
            "Check the model's classes and its normalisation (docs/dataset.md), or use the default",
        )

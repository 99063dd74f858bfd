"""Frames and landmarks -> head, neck, torso or background for every pixel, and a soft head alpha at the hair's edge.

A small network (MediaPipe selfie segmentation, 256 px) says where the person is to within a few pixels. The edge comes
from the picture: in the band round the network's edge, alpha is how far a pixel's colour has moved from the background
(known from the clip's other frames, since the camera stands still) towards the person's colour next to it; a guided
filter (He et al. 2010) joins both. The head is cut from neck and torso along the jaw line of the landmarks and outward
below the ears; hair that hangs below that line is told from skin and cloth by colours learned over the whole clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np

from being.conventions import PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO
from being.errors import EnvironmentFault
from being.preprocess.facemap import CHIN, FACE_OVAL
from being.preprocess.jawline import Face, above_jaw
from being.preprocess.smoothing import fill

BACKGROUND, HEAD, NECK, TORSO = range(4)
LABEL_COLOURS = np.array([PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO], np.uint8)
# Other members of the family also paint these; both belong to the head.
PARSING_HAIR, PARSING_MOUTH = (0, 0, 0), (100, 100, 100)

LEARN_FRAMES = 40
CHUNK = 16  # frames of one piece of work
# Lengths in px at a picture height of 512.
BAND_PX = 7  # the network's edge is believed to this
NEAR_PX = 9  # neighbourhood of a pixel that lends its foreground and background colour
GUIDE_PX = 3
NOISE_FLOOR = 4.0  # grey levels: smaller differences from the background plate are noise
GUESS_FLOOR = 25.0  # the same where the background was never seen and is guessed from beside
CRISP = (0.1, 0.9)  # alpha below and above is none and full
CONTRAST = 24.0  # grey levels between person and background at which colour counts as much as the network
GUESS_CONTRAST = 80.0  # the same where the background is guessed
# Along the face's own axes, in face heights (brow to chin) or widths.
COLLAR_REACH = 0.25  # cloth may stand this far above the cut, beside the jaw
NECK_REACH = 0.9  # how far down skin can be neck
HOLE_AREA = 0.002  # of the picture: larger holes in a person stay open
UNKNOWN_COLOUR = -9.0  # log-likelihood of a colour bin by chance
BINS = (12, 24, 24)  # of lightness, a, b

Person = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> float32 [h, w] in [0, 1]


@dataclass(frozen=True)
class Parsing:
    """One frame's parts."""

    labels: np.ndarray  # uint8 [H, W]: BACKGROUND, HEAD, NECK or TORSO
    head_alpha: np.ndarray  # uint8 [H, W]: 255 where the head covers the pixel wholly


def encode(labels: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] in the family's palette, uint8 [H, W, 3] RGB."""
    return LABEL_COLOURS[labels]


def decode(picture: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] of a picture uint8 [H, W, 3] RGB in the palette of any member of the family."""
    code = picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    labels = np.full(picture.shape[:2], BACKGROUND, np.uint8)
    for colour, label in ((PARSING_HEAD, HEAD), (PARSING_HAIR, HEAD), (PARSING_MOUTH, HEAD), (PARSING_NECK, NECK),
                          (PARSING_TORSO, TORSO)):
        labels[code == (colour[0] << 16 | colour[1] << 8 | colour[2])] = label
    return labels


def sample(length: int, count: int) -> list[int]:
    """Up to `count` frame numbers spread evenly over a clip of `length` frames."""
    return sorted({int(i) for i in np.linspace(0, length - 1, min(length, count)).round()})


class PersonNetwork:
    """The person's silhouette by MediaPipe's selfie segmentation; one object for each thread."""

    def __init__(self, model: Path | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise EnvironmentFault("masks need the package ai-edge-litert", str(error),
                                   "Install being with its preprocess extra: pip install 'being[preprocess]'"
                                   ) from error
        if model is None:
            from being import assets

            model = assets.fetch("selfie_segmentation")
        self._network = Interpreter(model_content=Path(model).read_bytes(), num_threads=1)
        self._network.allocate_tensors()
        self._input, self._output = self._network.get_input_details()[0], self._network.get_output_details()[0]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probability of person float32 [256, 256] of a frame uint8 [H, W, 3] RGB."""
        _, height, width, _ = self._input["shape"]
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        self._network.set_tensor(self._input["index"], small.astype(np.float32)[None] / 255)
        self._network.invoke()
        return self._network.get_tensor(self._output["index"])[0, :, :, 0].copy()


def parse_clip(frames: Sequence[np.ndarray], points: np.ndarray, workers: int = 2,
               network: Callable[[], Person] = PersonNetwork) -> Iterator[Parsing]:
    """The parts of every frame, in order; memory stays flat in the length of the clip.

    frames: uint8 [H, W, 3] RGB each, read by index from several threads; points: float32 [F, 478, 3] px, NaN where no
    face was found (those frames take their neighbours'); network makes one silhouette finder for each thread.
    """
    count = len(frames)
    assert points.shape[:2] == (count, 478), points.shape
    found = np.isfinite(points[:, :, :2]).all((1, 2))
    assert found.any(), "no face in any frame"
    positions = fill(points[:, :, :2].reshape(count, -1), found).reshape(count, 478, 2)
    idle: SimpleQueue[Person] = SimpleQueue()
    people = [network() for _ in range(max(1, workers))]
    matting = Matting.learn(frames, positions, people[0])
    for person in people:
        idle.put(person)

    def chunk(start: int) -> list[Parsing]:
        person = idle.get()
        try:
            stop = min(start + CHUNK, count)
            first, last = max(start - 1, 0), min(stop + 1, count)
            seen = {i: person(frames[i]) for i in range(first, last)}
            return [matting.parse(frames[i], positions[i],
                                  (seen[max(i - 1, 0)] + 2 * seen[i] + seen[min(i + 1, count - 1)]) / 4)
                    for i in range(start, stop)]
        finally:
            idle.put(person)

    waiting: deque[Future[list[Parsing]]] = deque()
    with ThreadPoolExecutor(len(people)) as pool:
        for start in range(0, count, CHUNK):
            waiting.append(pool.submit(chunk, start))
            if len(waiting) > len(people):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


@dataclass(frozen=True)
class Matting:
    """What a clip teaches: its background and the colours of skin, hair and cloth. Then each frame by itself."""

    background: np.ndarray  # float32 [H, W, 3]
    noise: np.ndarray  # float32 [H, W], grey levels: how far a pixel of the background may be from `background`
    colours: np.ndarray  # float32 [4, bins]: log-likelihood of hair, skin, cloth, background
    long_hair: bool  # hair hangs below the ears

    @classmethod
    def learn(cls, frames: Sequence[np.ndarray], positions: np.ndarray, person: Person) -> Matting:
        """From frames uint8 [H, W, 3] RGB spread over the clip and their landmarks float [F, 478, 2] px."""
        from being.preprocess.plates import background_statistics, complete

        chosen = sample(len(frames), LEARN_FRAMES)
        pictures = [frames[i] for i in chosen]
        height, width = pictures[0].shape[:2]
        masks = [cv2.resize(person(picture), (width, height), interpolation=cv2.INTER_LINEAR) for picture in pictures]
        masks = [np.where((mask < 0.5) & Face.of(positions[i]).ears(height, width), 0.5, mask).astype(np.float32)
                 for mask, i in zip(masks, chosen, strict=True)]
        plate, known, spread = background_statistics(pictures, lambda i: (masks[i] > 0.3).astype(np.uint8))
        plate = complete(plate, known)
        counts = np.full((4, int(np.prod(BINS))), 1e-3, np.float32)
        for picture, mask, i in zip(pictures, masks, chosen, strict=True):
            _count_colours(counts, picture, mask, positions[i])
        smooth = np.stack([_smooth_bins(row) for row in counts])
        colours = np.log(smooth / smooth.sum(1, keepdims=True))
        noise = np.where(spread < 255, NOISE_FLOOR + 2 * spread, GUESS_FLOOR)
        short = cls(plate.astype(np.float32), noise.astype(np.float32), colours, False)
        hanging = [short.hanging_hair(picture, positions[i], mask > 0.5)
                   for picture, mask, i in zip(pictures, masks, chosen, strict=True)]
        areas = [hair.sum() / Face.of(positions[i]).area for hair, i in zip(hanging, chosen, strict=True)]
        return cls(short.background, short.noise, colours, bool(np.median(areas) > 0.04))

    def parse(self, frame: np.ndarray, position: np.ndarray, probability: np.ndarray) -> Parsing:
        """Parts of one frame uint8 [H, W, 3] RGB from landmarks [478, 2] px and the network's float32 [h, w]."""
        height, width = frame.shape[:2]
        rough = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        alpha = self.person_alpha(frame, rough, Face.of(position).ears(height, width))
        person = _one_piece(alpha > 0.5, position)
        alpha = np.where(person, np.maximum(alpha, 0.5), np.where(_grown(person, 4 * height / 512), alpha, 0))
        share = above_jaw(position, height, width)
        neck, collar = self._neck_and_collar(frame, position, person, share > 0.5)
        share[collar] = 0
        if self.long_hair:
            share = np.maximum(share, self.hanging_hair(frame, position, person).astype(np.float32))
        labels = np.where(person, TORSO, BACKGROUND).astype(np.uint8)
        labels[neck] = NECK
        labels[person & (share > 0.5)] = HEAD
        _tidy(labels, position)
        head = alpha * share * _grown(labels == HEAD, 4 * height / 512)
        return Parsing(labels, (head * 255 + 0.5).astype(np.uint8))

    def person_alpha(self, frame: np.ndarray, rough: np.ndarray, doubt: np.ndarray) -> np.ndarray:
        """Soft silhouette float32 [H, W] of a frame, from the network's rough one of the same size.

        doubt: bool [H, W], where the network is not believed when it says background (it drops ears).
        """
        scale = frame.shape[0] / 512
        disc = _disc(BAND_PX * scale)
        inner = cv2.erode((rough > 0.8).astype(np.uint8), disc, borderValue=1)
        outer = cv2.erode(((rough < 0.2) & ~doubt).astype(np.uint8), disc, borderValue=1)
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        edge = _guided(grey, rough, max(1, round(GUIDE_PX * scale)))
        band = np.nonzero((inner == 0) & (outer == 0))
        near = 2 * round(NEAR_PX * scale / 2) + 1  # colours of the neighbourhood: at half the size
        half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
        at = tuple(np.minimum(i // 2, n - 1) for i, n in zip(band, half.shape, strict=False))
        fore = _local_colour(half, cv2.resize(inner, half.shape[1::-1], interpolation=cv2.INTER_NEAREST), near)[at]
        back = _local_colour(half, cv2.resize(outer, half.shape[1::-1], interpolation=cv2.INTER_NEAREST), near)[at]
        floor = np.minimum(self.noise[band], GUESS_FLOOR)
        still = floor < GUESS_FLOOR
        back = np.where(still[:, None], self.background[band], back)
        contrast, moved = fore - back, frame[band] - back
        strength = (contrast ** 2).sum(-1)
        along = (moved * contrast).sum(-1) / (strength + 1)
        length = np.sqrt((moved ** 2).sum(-1)) - floor
        away = np.minimum(length / np.maximum(np.sqrt(strength) - floor, CONTRAST), 1)
        colour = np.clip(np.maximum(along, away), 0, 1)
        scores = np.maximum(self.colours[:, _bins(frame[band][None])[0]], UNKNOWN_COLOUR)
        likely = 1 / (1 + np.exp(scores[3] - scores[:3].max(0)))
        colour = np.where(still, colour, (colour + likely) / 2)
        trust = strength / (strength + np.where(still, CONTRAST, GUESS_CONTRAST) ** 2)
        trust = np.maximum(trust, np.where(away > 0.9, 0.7, 0))
        alpha = (1.0 - outer).astype(np.float32)
        alpha[band] = edge[band] + trust * (colour - edge[band])
        depth = cv2.distanceTransform((rough > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / scale
        alpha = _guided(grey, np.maximum(alpha, np.clip((depth - 4) / 3, 0, 1)), 1)
        alpha = np.clip((alpha - CRISP[0]) / (CRISP[1] - CRISP[0]), 0, 1)
        return np.where(inner > 0, 1, np.where(outer > 0, 0, alpha)).astype(np.float32)

    def hanging_hair(self, frame: np.ndarray, position: np.ndarray, person: np.ndarray) -> np.ndarray:
        """Hair below the jaw cut that hangs together with hair above it, bool [H, W]."""
        face = Face.of(position)
        above = above_jaw(position, *frame.shape[:2]) > 0.5
        scores = self._scores(frame)
        hair = person & (scores[0] > np.maximum(scores[1], scores[2]) + 1) & ~face.oval(*frame.shape[:2])
        hair = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, _disc(0.012 * face.height))
        across, down = face.coordinates(*frame.shape[:2])
        level = face.ear_level
        crossing = above & (np.abs(down - level) < 0.06 * face.height) & (np.abs(across) < 1.1 * face.width)
        hanging = _touching(hair * (down > level - 0.06 * face.height), crossing)
        return hanging & ~above & (down < level + 1.6 * face.height)

    def _neck_and_collar(self, frame: np.ndarray, position: np.ndarray, person: np.ndarray, above: np.ndarray
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
        hair, skin, cloth, _ = np.maximum(self._scores(frame[part]), -14)
        soft = (2 * round(0.012 * face.height) + 1,) * 2
        reach = np.clip((down - face.ear_level) / (NECK_REACH * face.height), 0, 1)
        prior = 2 - 4 * reach - 4 * np.clip(np.abs(across) / (0.5 * face.width) - 0.8, 0, 2)
        cloth = np.maximum(cloth, UNKNOWN_COLOUR)
        odds = cv2.blur(np.clip(skin - cloth, -6, 6) + prior, soft)
        neck[part] = person & ~above & (odds > 0) & (reach < 1)
        if not self.long_hair:
            odds = cv2.blur(np.clip(cloth - np.maximum(hair, skin), -6, 6), soft)
            outside = person & above & beside[part] & ~face.oval(height, width)[part]
            cloths = cv2.morphologyEx(((outside | (person & ~above & ~neck[part])) & (odds > 0)).astype(np.uint8),
                                      cv2.MORPH_OPEN, _disc(0.01 * face.height))
            collar[part] = _touching(cloths, ~above) & outside
        return neck, collar

    def _scores(self, frame: np.ndarray) -> np.ndarray:
        return self.colours[:, _bins(frame)]


def _one_piece(mask: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The connected part of a mask bool [H, W] that the face is in, without small holes."""
    contours, family = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not len(contours):
        return mask
    centre = position[FACE_OVAL].mean(0)
    areas = np.array([cv2.contourArea(contour) for contour in contours])
    outer = family[0, :, 3] < 0
    around = [bool(o) and cv2.pointPolygonTest(c, (float(centre[0]), float(centre[1])), False) >= 0
              for o, c in zip(outer, contours, strict=True)]
    chosen = int(np.argmax(np.where(np.array(around) if any(around) else outer, areas, -1)))
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, chosen, (1,), cv2.FILLED)
    for hole in np.flatnonzero((family[0, :, 3] == chosen) & (areas > HOLE_AREA * mask.size)):
        opening = cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, int(hole), (1,), cv2.FILLED)
        filled[(opening > 0) & ~mask] = 0
    return filled > 0


def _tidy(labels: np.ndarray, position: np.ndarray) -> None:
    """Keep the head in one piece, the neck only where it hangs on the head, and no specks of torso; in place."""
    face = Face.of(position)
    head = _one_piece(labels == HEAD, position)
    labels[(labels == HEAD) & ~head] = TORSO
    labels[head & (labels != BACKGROUND)] = HEAD
    found = (labels == NECK).astype(np.uint8)
    opened = cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(0.02 * face.height))
    hanging = _touching(opened, _grown(head, 0.02 * face.height))
    neck = cv2.morphologyEx(hanging.astype(np.uint8), cv2.MORPH_CLOSE, _disc(0.03 * face.height)) > 0
    body = (labels == NECK) | (labels == TORSO)
    labels[body] = TORSO
    labels[body & neck] = NECK
    contours, _ = cv2.findContours((labels == TORSO).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    bottom = len(labels) - 1
    for contour in contours:
        if cv2.contourArea(contour) < 0.01 * face.area and contour[..., 1].max() < bottom:
            speck = cv2.drawContours(np.zeros(labels.shape, np.uint8), [contour], 0, (1,), cv2.FILLED)
            labels[(speck > 0) & (labels == TORSO)] = NECK


def _touching(mask: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The connected parts of a mask uint8 [H, W] that reach into `place` bool [H, W], bool [H, W]."""
    count, pieces = cv2.connectedComponents(mask)
    wanted = np.zeros(count, bool)
    wanted[pieces[place]] = True
    wanted[0] = False
    return wanted[pieces]


def _count_colours(counts: np.ndarray, picture: np.ndarray, mask: np.ndarray, position: np.ndarray) -> None:
    """Add one frame's pixels to the histograms of hair, skin, cloth and background. mask: float32 [H, W] in [0, 1]."""
    person = mask > 0.9
    height, width = picture.shape[:2]
    face = Face.of(position)
    bins = _bins(picture)
    across, down = face.coordinates(height, width)
    oval = face.oval(height, width)
    chin = float((position[CHIN] - face.centre) @ face.down)
    top = float((position[FACE_OVAL[0]] - face.centre) @ face.down)
    cheeks = oval & (np.abs(across) < 0.33 * face.width) & (down > 0.5 * top) & (down < 0.9 * chin)
    crown = person & ~oval & (down < 0.5 * top) & ~_grown(oval, 0.07 * face.height)
    cloth = person & (down > chin + 0.35 * face.height)
    cloth |= person & (down > chin) & (np.abs(across) > 0.75 * face.width)
    for row, part in enumerate((crown, cheeks, cloth, mask < 0.02)):
        counts[row] += np.bincount(bins[part], minlength=counts.shape[1])


def _bins(picture: np.ndarray) -> np.ndarray:
    """Colour bin int32 [H, W] of a picture uint8 [H, W, 3] RGB."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    stride = (BINS[1] * BINS[2], BINS[2], 1)
    lightness, a, b = (cv2.LUT(lab[..., c], step) for c, step in enumerate(
        (np.minimum((np.arange(256) - low) * n // span, n - 1).clip(0).astype(np.uint8)
         for n, low, span in zip(BINS, (0, 80, 80), (256, 96, 96), strict=True))))
    return lightness.astype(np.int32) * stride[0] + a.astype(np.int32) * stride[1] + b


def _smooth_bins(counts: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(counts.reshape(BINS), (1.5, 1.0, 1.0)).ravel() + 1e-5 * counts.sum() / counts.size + 1e-9


def _local_colour(picture: np.ndarray, weight: np.ndarray, near: int) -> np.ndarray:
    """Mean colour float32 [H, W, 3] of the weighted pixels in the neighbourhood, wider where there are none near."""
    wide, weight = 3 * near, weight.astype(np.float32)
    weighted = picture * weight[..., None]
    total, sum_ = cv2.blur(weight, (near, near)), cv2.blur(weighted, (near, near))
    far_total, far_sum = cv2.blur(weight, (wide, wide)), cv2.blur(weighted, (wide, wide))
    total, sum_ = total + 0.01 * far_total, sum_ + 0.01 * far_sum
    return sum_ / (total + 1e-6)[..., None]


def _guided(guide: np.ndarray, values: np.ndarray, radius: int, eps: float = 1e-3) -> np.ndarray:
    """Guided filter float32 [H, W] of `values` by a grey guide in [0, 1]."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean_g, mean_v = cv2.blur(guide, size), cv2.blur(values, size)
    slope = (cv2.blur(guide * values, size) - mean_g * mean_v) / (cv2.blur(guide * guide, size) - mean_g ** 2 + eps)
    return cv2.blur(slope, size) * guide + cv2.blur(mean_v - slope * mean_g, size)


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

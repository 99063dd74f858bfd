"""What is behind the head: the clean background plate, and each frame's torso, continued behind the
jaw.

The family fills the strip behind the chin with streaks pulled up from the visible rim. Here the
clip's own frames show most of it at some time: `TorsoPlates.learn` keeps the median colour of neck
and torso at every pixel, continues it where the head always was, and a frame's plate takes the
hidden part from there, moved with the torso and matched to the colours of that frame's rim (the
smooth membrane of Perez et al. 2003, "Poisson image editing", solved by a pyramid), so that there
is neither a seam nor a jump from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from being.preprocess.segmentation.matting import BACKGROUND, HEAD, NECK, TORSO, sample

FAR_PX = 6.0  # at 512: nearer to a person than this a pixel may be mixed with their colour
SURE_PX = 12.0  # at 512: beyond this the median over frames is taken
MIN_FRAMES = 3  # of clear sight for a median
SEEN = 0.02  # of the frames: what is torso less often is a mistake of the masks
PLATE_FRAMES = 64
STRIP = 0.30  # of the face height: how far neck and torso continue behind the head
# at 512: the torso's rim along the head that carries the head's colour (the cut runs outside the
# jaw)
RIM_PX = 1.0
# at 512: nearer to the head than this a pixel does not teach the clip's torso: jaws pass the cut
CLEAR_PX = 5.0
# grey levels between a frame's rim and the clip's torso; more is another thing, not other light
MAX_CHANGE = 40.0
EDGE_PX = 3.0  # at 512: the torso's soft outline, taken from the frame as it is
MOVE_SIDES = (
    32,
    128,
)  # px: heights at which a frame's torso is laid on the clip's, one after the other
MIN_MOVE = 0.2  # px: what is measured may be noise
MAX_MOVE = 0.1  # of the picture; more is a failed alignment
# at 512: where the clip's torso contradicts a frame's rim, the rim is continued this far instead
RIM_REACH_PX = 10.0
STIFF = 2.0  # how much torsos shift rather than turn, lean or grow; in squared grey levels
BLUR_PX = (4.0, 12.0)  # at 512: what is continued that far from anything seen is blurred by as much

Labels = Callable[[int], np.ndarray]


def background_plate(
    frames: Sequence[np.ndarray], labels: Labels, count: int = PLATE_FRAMES
) -> np.ndarray:
    """The picture without the person, uint8 [H, W, 3] RGB.

    frames: uint8 [H, W, 3] RGB each; labels(i): uint8 [H, W], BACKGROUND where frame i shows the
    background. Median over the frames that see a pixel well clear of the person; else the colour of
    the frame in which the person is farthest (the family's rule); else a smooth continuation.
    """
    plate, known, _ = background_statistics(frames, labels, count)
    return complete(plate, known)


def background_statistics(
    frames: Sequence[np.ndarray], labels: Labels, count: int = PLATE_FRAMES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Background uint8 [H, W, 3], where it was ever seen bool [H, W], and its spread over time
    float32 [H, W] (grey levels, median absolute deviation of the worst channel)."""
    chosen = sample(len(frames), count)
    pictures = np.stack([frames[i] for i in chosen])
    scale = pictures.shape[1] / 512
    far = np.stack(
        [
            cv2.distanceTransform((labels(i) == BACKGROUND).astype(np.uint8), cv2.DIST_L2, 5)
            for i in chosen
        ]
    ).astype(np.float16)
    best = far.argmax(0)
    known = far.max(0) > FAR_PX * scale
    plate = np.take_along_axis(pictures, best[None, ..., None], 0)[0]
    spread = np.full(best.shape, 255, np.float32)
    clear = far > SURE_PX * scale
    often = clear.sum(0) >= MIN_FRAMES
    for row in np.flatnonzero(
        often.any(1)
    ):  # a row at a time: masked medians are hungry for memory
        columns = often[row]
        seen = np.where(clear[:, row, columns, None], pictures[:, row, columns], np.nan).astype(
            np.float32
        )
        middle = np.nanmedian(seen, 0)
        plate[row, columns] = middle + 0.5
        spread[row, columns] = np.nanmedian(np.abs(seen - middle), 0).max(-1)
    return plate, known, spread


def complete(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`picture` uint8 [H, W, 3] with the unknown pixels continued smoothly from the known ones."""
    if not known.any():
        return np.full_like(picture, 127)
    filled = membrane(picture.astype(np.float32), known)
    return np.where(known[..., None], picture, (filled + 0.5).clip(0, 255).astype(np.uint8))


def membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float32 [H, W, C]: `values` where known bool [H, W], a smooth surface through them elsewhere.

    Push-pull (Gortler et al. 1996, "The lumigraph"), then a few relaxations of the Laplace equation
    at every level.
    """
    height, width = known.shape
    weight = known.astype(np.float32)
    if height <= 2 or width <= 2 or known.all():
        total = max(float(weight.sum()), 1e-6)
        mean = (values * weight[..., None]).sum((0, 1)) / total
        return np.where(known[..., None], values, mean).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values * weight[..., None], half, interpolation=cv2.INTER_AREA)
    small = _channels(small) / np.maximum(small_weight, 1e-6)[..., None]
    coarse = membrane(small, small_weight > 0)
    result = _channels(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    result[known] = values[known]
    for _ in range(4):
        relaxed = _channels(cv2.blur(result, (3, 3)))
        relaxed[known] = values[known]
        result = relaxed
    return result


def _channels(picture: np.ndarray) -> np.ndarray:
    return picture[..., None] if picture.ndim == 2 else picture


@dataclass(frozen=True)
class TorsoPlates:
    """The clip's torso without the head, from which every frame's plate takes what its head hides."""

    colour: (
        np.ndarray
    )  # float32 [H, W, 3] RGB, complete inside `inside` and wherever a head was near it
    inside: np.ndarray  # bool [H, W]: neck and torso, continued behind the head
    always: np.ndarray  # bool [H, W]: neck or torso in nearly every frame: what is aligned
    strip: int  # px: how far neck and torso continue behind the head
    scale: float  # picture height / 512

    @classmethod
    def learn(
        cls,
        frames: Sequence[np.ndarray],
        labels: Labels,
        face_height: float,
        count: int = PLATE_FRAMES,
    ) -> TorsoPlates:
        """From `count` frames uint8 [H, W, 3] RGB and their labels uint8 [H, W]. face_height: px,
        brow to chin.
        """
        chosen = sample(len(frames), count)
        pictures, parts = _on_one_torso([frames[i] for i in chosen], [labels(i) for i in chosen])
        scale = pictures.shape[1] / 512
        body = (parts == NECK) | (parts == TORSO)
        clear = np.stack([_away_from(part, HEAD, RIM_PX * scale) for part in parts])
        seen = body & np.stack([_away_from(part, HEAD, CLEAR_PX * scale) for part in parts])
        seen &= np.stack([_away_from(part, BACKGROUND, 2 * EDGE_PX * scale) for part in parts])
        votes = body.sum(0) / np.maximum((parts != HEAD).sum(0), 1)
        visible = (votes > 0.5) & (body.mean(0) > SEEN)
        colour = np.zeros(pictures.shape[1:], np.float32)
        known = (seen.sum(0) >= min(MIN_FRAMES, len(chosen))) & visible
        for row in np.flatnonzero(known.any(1)):
            columns = known[row]
            values = np.where(
                seen[:, row, columns, None], pictures[:, row, columns], np.nan
            ).astype(np.float32)
            colour[row, columns] = np.nanmedian(values, 0)
        strip = round(STRIP * face_height)
        inside = _continue_upward(visible, (parts == HEAD).mean(0) > 0.5, strip)
        reach = (parts == HEAD).any(0) | body.any(0)
        reach[: max(int(np.argmax(inside.any(1))) - strip, 0)] = False
        colour = _continue_colours(colour, known, inside | reach)
        return cls(colour, inside, (body & clear).mean(0) > 0.95, strip, scale)

    def plate(self, frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Torso of one frame uint8 [H, W, 4] RGBA, alpha 0 or 255, RGB zero where alpha is 0.

        frame: uint8 [H, W, 3] RGB; labels: uint8 [H, W] of that frame.
        """
        head, body = labels == HEAD, (labels == NECK) | (labels == TORSO)
        rim = (
            cv2.dilate(
                body.astype(np.uint8), np.ones((2 * round(EDGE_PX * self.scale) + 1,) * 2, np.uint8)
            )
            > 0
        )
        far = cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 3)
        rim &= (labels == BACKGROUND) & (far > (RIM_PX + EDGE_PX) * self.scale)
        own = rim | (body & (far > RIM_PX * self.scale))
        colour, inside = self._aligned(frame, own)
        inside = inside | _continue_upward(body, head, self.strip)
        hidden = (head | (body & ~own)) & (inside | body)
        plate = np.zeros((*labels.shape, 4), np.uint8)
        plate[own, :3] = frame[own]
        plate[own, 3] = 255
        if hidden.any():
            rows, columns = _box(hidden, round(16 * self.scale))
            near = (own & _away_from(labels, BACKGROUND, 2 * EDGE_PX * self.scale))[rows, columns]
            painted = _painted(
                frame[rows, columns], colour[rows, columns], near, inside[rows, columns], self.scale
            )
            here = hidden[rows, columns]
            plate[rows, columns, :3][here] = painted[here]
            plate[rows, columns, 3][here] = 255
        return plate

    def _aligned(self, frame: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The clip's torso moved onto this frame's: colour float32 [H, W, 3], inside bool [H, W]."""
        matrix = _move(self.colour, frame, (self.always & own).astype(np.uint8))
        if matrix is None:
            return self.colour, self.inside
        size = own.shape[::-1]
        colour = cv2.warpAffine(self.colour, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.warpAffine(
            self.inside.astype(np.uint8),
            matrix,
            size,
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return colour, inside > 0


def _painted(
    frame: np.ndarray, colour: np.ndarray, near: np.ndarray, inside: np.ndarray, scale: float
) -> np.ndarray:
    """Colours uint8 [H, W, 3] for what the head hides: the clip's torso `colour` float32 [H, W, 3]
    matched to the frame's own `near` bool [H, W]; close to a rim that contradicts it, that rim
    continued."""
    change = frame - colour
    agrees = near & inside & (np.abs(change).max(-1) < MAX_CHANGE)
    light = np.median(change[agrees], 0) if agrees.any() else np.zeros(3, np.float32)
    far, nearest = cv2.distanceTransformWithLabels(
        (~near).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    fades = np.exp(-np.square(far / (RIM_REACH_PX * scale)))
    painted = colour + light + fades[..., None] * (_offset(change, agrees) - light)
    if near.any():
        place = np.zeros(int(nearest.max()) + 1, np.int64)
        place[nearest[near]] = np.flatnonzero(near)
        rim = place[nearest]
        differs = np.abs(change).max(-1).reshape(-1)[rim]
        size = 2 * round(2 * scale) + 1
        share = np.clip(2 * differs / MAX_CHANGE - 1, 0, 1) * fades
        share = cv2.blur(share.astype(np.float32), (size, size))[..., None]
        weight = near.astype(np.float32)[..., None]
        calm = (
            cv2.blur(frame * weight, (size, size))
            / np.maximum(cv2.blur(weight, (size, size)), 1e-3)[..., None]
        )
        own = cv2.blur(calm.reshape(-1, 3)[rim], (size, size))
        painted = painted + share * (own - painted)
    return (painted + 0.5).clip(0, 255).astype(np.uint8)


def _offset(change: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A smooth surface float32 [H, W, 3] through the changes where they are known bool [H, W]; at a
    quarter of the size, so that the camera's noise on the rim is not carried inward."""
    size = ((known.shape[1] + 3) // 4, (known.shape[0] + 3) // 4)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(
        change * known[..., None].astype(np.float32), size, interpolation=cv2.INTER_AREA
    )
    smooth = membrane(total / np.maximum(weight, 1e-6)[..., None], weight > 0.2)
    return cv2.resize(smooth, known.shape[::-1], interpolation=cv2.INTER_LINEAR)


def over(plate: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A plate uint8 [H, W, 4] RGBA with alpha 0 or 255 laid over a background uint8 [H, W, 3]."""
    return np.where(plate[..., 3:] > 0, plate[..., :3], background)


def _on_one_torso(
    pictures: list[np.ndarray], parts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels [N, H, W, ...] moved so that the torso lies where the middle frame has it."""
    middle = len(pictures) // 2
    size = parts[middle].shape[::-1]
    steady = np.all([part == TORSO for part in parts], 0).astype(np.uint8)
    still = pictures[middle].astype(np.float32)
    for i, (picture, part) in enumerate(zip(pictures, parts, strict=True)):
        matrix = _move(still, picture, steady)
        if matrix is not None:
            back = cv2.WARP_INVERSE_MAP
            pictures[i] = cv2.warpAffine(
                picture, matrix, size, flags=cv2.INTER_CUBIC | back, borderMode=cv2.BORDER_REPLICATE
            )
            parts[i] = cv2.warpAffine(
                part, matrix, size, flags=cv2.INTER_NEAREST | back, borderMode=cv2.BORDER_REPLICATE
            )
    return np.stack(pictures), np.stack(parts)


def _away_from(labels: np.ndarray, part: int, distance: float) -> np.ndarray:
    return cv2.distanceTransform((labels != part).astype(np.uint8), cv2.DIST_L2, 3) > distance


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )


def _continue_upward(visible: np.ndarray, head: np.ndarray, height: int) -> np.ndarray:
    """`visible` bool [H, W] with the columns that end under the head continued into it, bool [H,
    W].

    All end at one row, `height` px above the lowest point of the jaw, so that the strip has a
    straight top.
    """
    tops = np.argmax(visible, 0)
    columns = np.flatnonzero(visible.any(0) & (tops > 0))
    columns = columns[head[tops[columns] - 1, columns]]
    inside = visible.copy()
    if len(columns):
        end = max(int(tops[columns].max()) - height, 0)
        for column in columns:
            inside[end : tops[column], column] |= head[end : tops[column], column]
    return inside


def _continue_colours(colour: np.ndarray, known: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`colour` float32 [H, W, 3] with the rest of `inside` taken from the nearest known pixel, the
    farther the softer: collars and the neck's sides go on where they point, and leave no streaks.
    """
    wanted = inside & ~known
    if not wanted.any() or not known.any():
        return colour
    scale = colour.shape[0] / 512
    far, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    place = np.zeros(int(nearest.max()) + 1, np.int64)
    place[nearest[known]] = np.flatnonzero(known)
    filled = colour.reshape(-1, 3)[place[nearest]]
    result = filled
    for radius in BLUR_PX:
        share = np.clip(far / (radius * scale) - 0.5, 0, 1)[..., None]
        result = result + share * (cv2.GaussianBlur(filled, (0, 0), radius * scale) - result)
    return np.where(wanted[..., None], result, colour)


def _move(reference: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Affine map float32 [2, 3] px that lays `reference` on `frame` inside `mask`; None if it is
    nothing or too much.

    Gauss-Newton steps of the optical flow's equation (Lucas and Kanade 1981) at 32 and 128 px, held
    towards a shift.
    """
    rows, columns = np.nonzero(mask[::8, ::8])
    if len(rows) < 4:
        return None
    place = np.stack([columns, rows], -1) * 8.0
    middle = place.mean(0)
    reach = float(np.abs(place - middle).max()) + 1
    numbers = np.zeros(6)  # shift, then the linear part times `reach`; px of the whole picture
    for side in MOVE_SIDES:
        numbers = _moved_more(reference, frame, mask, side, numbers, middle, reach)
    matrix = _affine(numbers, middle, reach)
    largest = np.abs(place @ matrix[:, :2].T + matrix[:, 2] - place).max()
    if not MIN_MOVE < largest < MAX_MOVE * frame.shape[0]:
        return None
    return _affine(
        numbers * (1 - MIN_MOVE / largest), middle, reach
    )  # so that noise moves nothing, without a step


def _moved_more(
    reference: np.ndarray,
    frame: np.ndarray,
    mask: np.ndarray,
    side: int,
    numbers: np.ndarray,
    middle: np.ndarray,
    reach: float,
) -> np.ndarray:
    """`numbers` of an affine map, improved on pictures `side` px high."""
    step = frame.shape[0] / side
    size = (round(frame.shape[1] / step), side)
    weight = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.99
    weight &= cv2.erode(weight.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    rows, columns = np.nonzero(weight)
    if len(rows) < 20:
        return numbers
    still, moved = (
        cv2.cvtColor(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32),
            cv2.COLOR_RGB2GRAY,
        )
        for picture in (reference, frame)
    )
    place = ((np.stack([columns, rows], -1) + 0.5) * step - 0.5 - middle) / reach
    hold = np.diag([10.0, 10.0] + [STIFF * len(rows) / 100] * 4)
    straight = np.array([0, 0, 1, 1, 1, 1])  # the numbers that are held towards 0
    for _ in range(4):
        matrix = _affine(numbers, middle, reach)
        matrix[:, 2] = (
            matrix[:, 2] + (matrix[:, :2].sum(1) - 1) * (step - 1) / 2
        ) / step  # in px of `size`
        warped = cv2.warpAffine(still, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        gradient = (
            np.stack(
                [
                    cv2.Sobel(warped, cv2.CV_32F, 1, 0, scale=1 / 8)[weight],
                    cv2.Sobel(warped, cv2.CV_32F, 0, 1, scale=1 / 8)[weight],
                ],
                -1,
            ).astype(np.float64)
            / step
        )
        slope = np.concatenate(
            [gradient, (gradient[:, :, None] * place[:, None]).reshape(-1, 4)], 1
        )
        error = (moved - warped)[weight]
        trusted = slope * (1 / (1 + (error / 8) ** 2))[:, None]
        pull = trusted.T @ error + straight * (hold @ numbers)
        numbers = numbers - np.linalg.solve(trusted.T @ slope + hold, pull)
    return numbers


def _affine(numbers: np.ndarray, middle: np.ndarray, reach: float) -> np.ndarray:
    linear = np.eye(2) + numbers[2:].reshape(2, 2) / reach
    return np.column_stack([linear, middle + numbers[:2] - linear @ middle]).astype(np.float32)

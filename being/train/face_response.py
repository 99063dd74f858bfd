"""Measures how a trained face follows its mouth code, so that what it shows is what is asked for.

A face that was learnt from a short clip moves less than its code says in poses and mouths that it
has not seen together, and its lips may stay apart at the code of closed lips. How much differs from
avatar to avatar. So the avatar renders codes of some frames at the poses of others, and the
landmark network reads the lips that it shows. The mapping from the voice is corrected by this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from being.console import Progress
from being.conventions import FPS
from being.data.clip import Clip
from being.data.mouth import CODE_GAIN, MouthCode
from being.face.face_reader import FaceReader
from being.face.mouth_code import LENGTHS, MOUTH_CHANNELS, mouth_lengths
from being.model.clip_rendering import BATCH, to_uint8
from being.model.talking_head import TalkingHead
from being.model.voice_to_mouth import VoiceToMouth, closing_amounts
from being.splat import composite
from being.train.voice_fit import CLOSED_SHARE

PROBES, CLOSED_PROBES = 96, 24  # rendered frames: of the response, of each try to close the mouth
FIRST_PROBES, MOST_MISSES = 12, 0.5  # without a face in most of the first ones, nothing is measured
# Channels that are corrected together, by the mean of what is measured in some of them.
OPENING = ("lip_opening", "opening_area", "upper_lip", "lower_lip", "jaw_open")
WIDTH = ("lip_width", "inner_width")
MEASURED = {OPENING: ("lip_opening", "opening_area", "lower_lip"), WIDTH: WIDTH}
SHARES = 0.6, 1.1  # limits of a share; a face below them is not amplified further
# Tries to close the mouth: by how much the lips press, in ranges of the channels, and whether the
# upper lip moves down, stays or moves up. What closes best differs from face to face.
PRESSES = (0.0, 0.15, 0.3, 0.5, 0.8)
UPPER_LIP = (-1.0, 0.0, 1.0)
# Where the lips stay apart in more than one of ten frames, the whole mouth goes to the closed one,
# by half and wholly: a face that was learnt from a short clip has not seen every width closed.
ENOUGH = 0.9
WHOLE_MOUTH = (0.5, 1.0)
HARDEST = 1.2
PRESSED = ("lip_opening", "opening_area", "lower_lip")
NEARLY = 0.05  # a gentler try that closes the lips in so much fewer frames is preferred
Reading = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FaceResponse:
    """How a face follows its mouth code, K channels."""

    share: np.ndarray  # float32 [K], deviation that the face shows over that of its code
    closed: np.ndarray  # float32 [K], the code that closes its lips
    closing: np.ndarray  # float32 [K], how far its channels have to go there, in 0..1
    closes: int  # frames of CLOSED_PROBES in which it does
    opening: float  # share of the opening channels
    width: float  # share of the width channels

    def corrected(self, mapping: VoiceToMouth) -> VoiceToMouth:
        """The mapping with codes at which this face shows what the mapping says."""
        speed = mapping.speed * mapping.face_share / self.share
        return replace(
            mapping,
            face_share=self.share,
            closed=self.closed,
            closing=self.closing,
            speed=speed,
        )


def measure_face_response(
    model: TalkingHead, clip: Clip, code: MouthCode, frames: np.ndarray
) -> FaceResponse | None:
    """The response of a trained model in the training frames int [n] of its clip.

    None where the landmark network finds no face in most rendered frames. Raises EnvironmentFault
    where the network cannot be loaded.
    """
    frames = frames[code.found[frames]]
    if len(frames) < FPS:
        return None
    reader = FaceReader()

    def read(poses: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Codes float [n, 14] that the face shows, NaN without a face."""
        points = reader.read(render_codes(model, clip, poses, codes))[0].points
        found = np.isfinite(points).all((1, 2))
        shown = np.full((len(points), LENGTHS), np.nan)
        units = code.units
        if found.any():
            lengths = mouth_lengths(points[found])
            shown[found] = (lengths - units.neutral[:LENGTHS]) / units.span[:LENGTHS]
        return shown

    with Progress("face response"):
        return response_of(read, code, frames)


def response_of(read: Reading, code: MouthCode, frames: np.ndarray) -> FaceResponse | None:
    """The response of a face in frames int [n]; None where most of them show no face.

    read: gives the codes float [m, 14] that the face shows, NaN without a face, at the poses of
    frames int [m] with codes float [m, K].
    """
    # Codes of frames half a clip away, so that pose and mouth were not learnt together.
    places = np.linspace(0, len(frames) - 1, min(PROBES, len(frames))).astype(int)
    codes = code.values[frames[(places + len(frames) // 2) % len(frames)]]
    few = slice(None, None, PROBES // FIRST_PROBES)
    if np.isnan(read(frames[places[few]], codes[few])).any(1).mean() > MOST_MISSES:
        return None
    shown = read(frames[places], codes)
    found = np.isfinite(shown).all(1)
    if 1 - found.mean() > MOST_MISSES:
        return None

    ratio = shown[found].std(0) / (codes[found, :LENGTHS].std(0) + 1e-6)
    groups = {
        group: float(np.clip(np.mean([ratio[_channel(n)] for n in names]), *SHARES))
        for group, names in MEASURED.items()
    }
    share = np.ones(len(code.units), np.float32)
    for group, value in groups.items():
        share[[_channel(name) for name in group]] = value
    closed, closing, closes = _closed_code(read, code, frames)
    return FaceResponse(share, closed, closing, closes, groups[OPENING], groups[WIDTH])


def _closed_code(
    read: Reading, code: MouthCode, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """The gentlest code [K] that closes the lips, how far the channels go there [K], and in how
    many frames of CLOSED_PROBES that closes them.
    """
    values = code.values[frames]
    low, high = np.percentile(values[:, 0], (2, 98))
    limit = low + CLOSED_SHARE * (high - low)
    rest = values[values[:, 0] <= limit].mean(0)
    places = np.linspace(0, len(frames) - 1, CLOSED_PROBES).astype(int)
    others = code.values[frames[(places + len(frames) // 3) % len(frames)]]
    tried: dict[_Try, int] = {}

    def attempt(free: float, press: float, upper: float) -> None:
        if (free, press, upper) not in tried:
            target = _pressed(rest, press, upper)
            codes = others + closing_amounts(len(rest), free) * (target - others)
            shown = read(frames[places], codes)[:, 0]
            tried[free, press, upper] = int((shown <= limit).sum())

    # How much the lips press, then what the upper lip does meanwhile
    for press in PRESSES:
        attempt(0.0, press, 0.0)
    press = _gentlest(tried)[1]
    for upper in UPPER_LIP:
        for harder in (press, max(press, PRESSES[-2])):
            attempt(0.0, harder, upper)

    # Then whether the rest of the mouth has to go along, and at last harder
    for free in WHOLE_MOUTH:
        if max(tried.values()) < ENOUGH * CLOSED_PROBES:
            best = max(tried, key=lambda key: tried[key])
            for press, upper in ((0.0, 0.0), best[1:], *((PRESSES[-1], up) for up in UPPER_LIP)):
                attempt(free, press, upper)
    if max(tried.values()) < ENOUGH * CLOSED_PROBES:
        for upper in UPPER_LIP:
            attempt(WHOLE_MOUTH[-1], HARDEST, upper)
    free, press, upper = best = _gentlest(tried)
    closed = _pressed(rest, press, upper).astype(np.float32)
    return closed, closing_amounts(len(rest), free), tried[best]


# How far the free channels go along, how much the lips press, how the upper lip moves
_Try = tuple[float, float, float]


def _gentlest(tried: dict[_Try, int]) -> _Try:
    """Of the tries that close the lips nearly as often as the best, the one that changes least."""
    enough = max(tried.values()) - NEARLY * CLOSED_PROBES
    return min(
        (key for key, count in tried.items() if count >= enough),
        key=lambda key: (key[0], key[1], abs(key[2]), -tried[key]),
    )


def _pressed(rest: np.ndarray, press: float, upper: float) -> np.ndarray:
    """The code [K] of closed lips `rest` that press; upper: how far the upper lip goes with it."""
    code = rest.copy()
    code[[_channel(name) for name in PRESSED]] -= press
    code[_channel("upper_lip")] += upper * press
    return code


def _channel(name: str) -> int:
    return MOUTH_CHANNELS.index(name)


@torch.no_grad()
def render_codes(
    model: TalkingHead, clip: Clip, frames: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """Images uint8 [n, S, S, 3] of the clip's frames int [n], with mouth codes float [n, K]."""
    model.eval()
    images = []
    for part in np.array_split(np.arange(len(frames)), -(-len(frames) // BATCH[clip.device.type])):
        index = torch.from_numpy(frames[part]).to(clip.device)
        conditions = clip.conditions(index)
        rows = torch.from_numpy(np.float32(codes[part] * CODE_GAIN)).to(clip.device)
        conditions.audio = rows[:, None, :, None].expand_as(conditions.audio).contiguous()
        rendering = model(conditions, clip.world_to_camera[index], clip.focal, clip.size)
        pictures = composite(rendering.output, clip.plate(index))
        images += [to_uint8(picture) for picture in pictures.clamp(0, 1)]
    return np.stack(images)

"""What a face does beside its lips while it speaks new sound: blinks, brows, moods, what a user
asks for.

Blinks (`blinks`) and brows (`brows`) follow the sound, moods and wishes hold, curves rule every
frame. The lips belong to the sound: mouth channels stay neutral unless somebody asks. All of it is
made frame by frame as the sound comes in, with bounded look-ahead: a frame needs no more than the
20 s of sound before it and the look-ahead after it, so sound of any length takes the same memory
and chunks of any size give the same face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from being.console import warn
from being.data.expression_channels import BLINK, GAZE, Channels
from being.errors import UsageError
from being.inference.animation.blinks import Blinks
from being.inference.animation.brows import Brows
from being.inference.animation.curve_files import Curves, read_curves
from being.inference.animation.moods import mood, shares_of
from being.inference.animation.prosody import MARGIN, STEP, Ear

AHEAD = (
    250  # frames (10 s) of sound after a frame that are known before it, where nobody waits for it
)
HOP = 5  # frames decided at once, and the least look-ahead: 0.2 s
RATE_MAX = 60.0  # blinks a minute
BROWS = {"brow_inner_up": 1.0, "brow_outer_up": 0.8}
REACH = 1.25  # times what the clip shows: beyond, the avatar has learnt nothing
VALUE_MAX = 2.0  # of what may be asked for


@dataclass(frozen=True)
class Wish:
    """What a user asks of the face."""

    mood: str = "neutral"
    expression: Mapping[str, float] = field(
        default_factory=dict
    )  # name to value, 1: the strongest of the clip
    blink_rate: float | None = None  # a minute; None: as people do
    curves: Path | None = None  # values for every frame, `inference.curves`
    seed: int = 0


class FaceStream:
    """Sound in, the expression of each frame out as soon as its look-ahead has come in.

    A frame comes out once the sound of the `ahead` frames from it on, and 12 ms more, has come in
    or the sound has ended. With the whole of a phrase's surroundings known (2.2 s and more) blinks
    and brows lie where they should; with less, down to 0.2 s, blinks at the ends of phrases and
    rises of the brows follow up to 0.4 s late. One seed gives one result.
    """

    def __init__(self, channels: Channels, wish: Wish | None = None, ahead: int = AHEAD):
        """channels: the avatar's; ahead: look-ahead in frames, at least `HOP`.

        Raises UsageError for a mood or an expression that the avatar lacks and for values out of
        range, InputRejected for curves that cannot be used.
        """
        assert ahead >= HOP, ahead
        wish = wish or Wish()
        _check(wish)
        self.ahead, self._channels = ahead, channels
        self._place = {name: k for k, name in enumerate(channels.names)}
        asked = np.zeros(len(channels))
        for name, value in mood(wish.mood, channels).items():
            asked[self._place[name]] += value
        for name, value in wish.expression.items():
            for channel, share in shares_of(name, channels).items():
                asked[self._place[channel]] += value * share
        self._least, self._most = limits(channels)
        _warn_of(asked, self._least, self._most, channels)
        self._held = np.clip(asked, self._least, self._most)
        self._curves: Curves | None = None
        if wish.curves is not None:
            self._curves = read_curves(wish.curves)
            for name in self._curves.columns:
                shares_of(name, channels)
        self._ear, self._blinks, self._brows = (
            Ear(),
            Blinks(wish.blink_rate, wish.seed),
            Brows(wish.seed),
        )
        self._made = np.zeros(
            (0, len(channels))
        )  # frames that were made and not taken, from `taken` on
        self.taken = 0  # frames

    def push(self, samples: np.ndarray) -> None:
        """Take in the next samples, float32 [n] at 16 kHz, n of any size."""
        self._ear.push(samples)

    def finish(self, frames: int | None = None) -> None:
        """The sound ends here; `frames` in all where silence is to follow, or as many as it begins."""
        self._ear.finish(frames)

    @property
    def ready(self) -> int:
        """Frames that can be taken now."""
        stop = self._ear.end
        if stop is None:
            stop = (
                (self._ear.known - self.ahead) // HOP * HOP + HOP
                if self._ear.known >= self.ahead
                else 0
            )
        return stop - self.taken

    def take(self, own: np.ndarray) -> np.ndarray:
        """The expression float32 [B, E] of the next B frames, at most `ready`, for `Conditions`.

        own: float [B, E], that of the poses shown (`Avatar.expression`): the gaze is taken from it,
        as eyes turn against the head; nothing else is, so no blink is seen twice. Values are kept
        within what the clip shows, times 1.25.
        """
        count = len(own)
        assert count <= self.ready and own.shape[1:] == (len(self._channels),), (
            count,
            self.ready,
            own.shape,
        )
        hops, made = [self._made], len(self._made)
        while made < count:
            hops.append(self._hop(self.taken + made))
            made += len(hops[-1])
        together = np.concatenate(hops)
        values, self._made = together[:count].copy(), together[count:].copy()
        for name in sorted(GAZE & self._place.keys()):
            values[:, self._place[name]] += own[:, self._place[name]]
        if self._curves is not None:
            for name, course in self._curves.between(self.taken, self.taken + count).items():
                for channel, share in shares_of(name, self._channels).items():
                    values[:, self._place[channel]] = course * share
        self.taken += count
        return np.clip(values, self._least, self._most).astype(np.float32)

    def _hop(self, start: int) -> np.ndarray:
        """What is held, the brows and the lids of the frames from `start` on, float [k, E], k `HOP`
        but at the end.
        """
        stop = start + HOP if self._ear.end is None else min(start + HOP, self._ear.end)
        heard = self._ear.around(start, self.ahead)
        values = np.tile(self._held, (stop - start, 1))
        raised = self._brows.height(heard, start, stop)
        for name, share in BROWS.items():
            if name in self._place:
                values[:, self._place[name]] += share * raised
        closed = np.maximum(self._blinks.closure(heard, start, stop), values[:, 0])
        if "lid_up" in self._place:
            values[:, self._place["lid_up"]] *= 1 - closed  # a shut eye is not wide open
        values[:, 0] = closed
        return values


def drive(
    samples: np.ndarray,
    frames: int,
    channels: Channels,
    wish: Wish | None = None,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """Expression float32 [F, E] of `frames` frames that speak `samples` (float32 [T] at 16 kHz) at
    once.

    own: float [F, E], by default zero. See `FaceStream`.
    """
    assert frames > 0 and (own is None or own.shape == (frames, len(channels))), (frames, own)
    stream = FaceStream(channels, wish)
    stream.push(samples[: frames * STEP + MARGIN])
    stream.finish(frames)
    return stream.take(np.zeros((frames, len(channels))) if own is None else own)


def limits(channels: Channels) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value [E] that each channel is given: a quarter more than the clip shows;
    the blink 0 and 1.
    """
    least, most = REACH * np.minimum(channels.least, 0), REACH * np.maximum(channels.most, 0)
    least[0], most[0] = 0, 1
    return least, most


def _check(wish: Wish) -> None:
    """Raise UsageError for values out of range."""
    if wish.blink_rate is not None and not 0 <= wish.blink_rate <= RATE_MAX:
        raise UsageError(
            f"a blink rate of {wish.blink_rate:g} a minute",
            f"it must be between 0 and {RATE_MAX:g}",
            "People blink 17 to 26 times",
        )
    for name, value in wish.expression.items():
        if not abs(value) <= VALUE_MAX:
            raise UsageError(
                f"expression '{name}' is {value:g}",
                "1 is the strongest that the clip shows",
                f"Give it a value between {-VALUE_MAX:g} and {VALUE_MAX:g}",
            )


def _warn_of(asked: np.ndarray, least: np.ndarray, most: np.ndarray, channels: Channels) -> None:
    """Say where the clip shows less than is asked for."""
    for name, value, low, high in zip(channels.names, asked, least, most, strict=True):
        if not low - 1e-6 <= value <= high + 1e-6 and name != BLINK:
            warn(
                f"{name} {value:.2f} is cut to {min(max(value, low), high):.2f}: the clip shows no more of it"
            )

"""What a face does beside its lips while it speaks new sound: blinks, brows, moods, what a user asks for.

Blinks: 26 a minute while speaking, 17 at rest (means of Bentivoglio et al., "Analysis of blink rate patterns in normal
subjects", Movement Disorders 12, 1997, where the rates of people are log-normal; that one person's intervals are, too,
and how much they spread, is assumed). They are drawn to where a phrase ends, as speakers' and listeners' blinks are
(Nakano and Kitazawa, "Eyeblink entrainment at breakpoints of speech", Experimental Brain Research 205, 2010); how many
and how far is chosen. Their course is the mean of 36 blinks of two people measured at 25 frames/s: shut within
two frames, then an exponential return. Brows rise at accents of loudness and pitch: of quick rises of the brows 71 %
come with one of pitch (Cavé et al., "About the relationship between eyebrow movements and F0 variations", ICSLP 1996);
how many accents raise them that does not say: it is chosen. The first and the last are cited by their abstracts, the
second from memory. The lips belong to the sound: mouth channels stay neutral unless somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.data.expression import BLINK, GAZE, Channels
from being.errors import UsageError
from being.inference.curves import read_curves
from being.inference.moods import mood, shares_of
from being.inference.prosody import Prosody, prosody
from being.progress import warn

RATE_AT_REST, RATE_SPEAKING, RATE_MAX = 17.0, 26.0, 60.0  # blinks a minute
INTERVAL_SPREAD = 0.6  # deviation of the logarithm of an interval
LEAST_INTERVAL = 0.4  # s from one blink to the next
TO_PHRASE_END = 0.9  # s over which a blink is drawn to the end of a phrase
DRAWN = 0.8  # share of such blinks that are, chosen
SHUT_BY, STAY, RETURN = 0.08, 0.03, 0.085  # s: closing, staying shut, time constant of opening
OVER = 0.6  # s after which a blink is over
LEAST_CLOSURE = 0.88  # blinks close the eyes to between this and 1
RAISED = 0.7  # share of accents at which the brows rise, chosen
RAISE = (0.12, 0.4)  # how far, in what the person shows at most: at a slight accent, at the strongest
RISE, FALL = 0.16, 0.36  # s from rest to the accent and back
STRONG_ACCENT = 3.0  # prominence in deviations that raises the brows as far as they go
DRIFT, DRIFT_SECONDS = 0.04, 2.5  # of brows at rest: size and pace
BROWS = {"brow_inner_up": 1.0, "brow_outer_up": 0.8}
REACH = 1.25  # times what the clip shows: beyond, the avatar has learnt nothing
VALUE_MAX = 2.0  # of what may be asked for


@dataclass(frozen=True)
class Wish:
    """What a user asks of the face."""

    mood: str = "neutral"
    expression: Mapping[str, float] = field(default_factory=dict)  # name to value, 1: the strongest of the clip
    blink_rate: float | None = None  # a minute; None: as people do
    curves: Path | None = None  # values for every frame, `inference.curves`
    seed: int = 0


def drive(samples: np.ndarray, frames: int, channels: Channels, wish: Wish | None = None,
          own: np.ndarray | None = None) -> np.ndarray:
    """Expression float32 [F, E] of `frames` frames that speak `samples` (float32 [T] at 16 kHz), for `Conditions`.

    channels: the avatar's. own: float [F, E], the expression of the poses shown (`Avatar.expression` along the pose
    path): the gaze is taken from it, as eyes turn against the head; nothing else is, so no blink is seen twice. Values
    are kept within what the clip shows, times 1.25; the lips belong to the sound. One seed gives one result. Raises
    UsageError for a mood or an expression that the avatar lacks and for values out of range, InputRejected for curves
    that cannot be used.
    """
    assert frames > 0 and (own is None or own.shape == (frames, len(channels))), (frames, own)
    wish = wish or Wish()
    _check(wish)
    place = {name: k for k, name in enumerate(channels.names)}
    asked = np.zeros(len(channels))
    for name, value in mood(wish.mood, channels).items():
        asked[place[name]] += value
    for name, value in wish.expression.items():
        for channel, share in shares_of(name, channels).items():
            asked[place[channel]] += value * share
    least, most = limits(channels)
    _warn_of(asked, least, most, channels)
    heard = prosody(samples, frames)
    values = np.tile(np.clip(asked, least, most), (frames, 1))
    if own is not None:
        for name in sorted(GAZE & place.keys()):
            values[:, place[name]] += own[:, place[name]]
    for name, share in BROWS.items():
        if name in place:
            values[:, place[name]] += share * brows(heard, frames, wish.seed)
    closed = np.maximum(blinks(heard, frames, wish.blink_rate, wish.seed), values[:, 0])
    if "lid_up" in place:
        values[:, place["lid_up"]] *= 1 - closed  # a shut eye is not wide open
    values[:, 0] = closed
    if wish.curves is not None:
        for name, course in read_curves(wish.curves, frames).items():
            for channel, share in shares_of(name, channels).items():
                values[:, place[channel]] = course * share
    return np.clip(values, least, most).astype(np.float32)


def limits(channels: Channels) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value [E] that each channel is given: a quarter more than the clip shows; the blink 0 and 1."""
    least, most = REACH * np.minimum(channels.least, 0), REACH * np.maximum(channels.most, 0)
    least[0], most[0] = 0, 1
    return least, most


def blinks(heard: Prosody, frames: int, rate: float | None = None, seed: int = 0) -> np.ndarray:
    """Closure of the lids float [F] in [0, 1]. rate: blinks a minute; None: as people do at rest and while speaking."""
    random = np.random.default_rng((seed, 1))
    closed = np.zeros(frames)
    seconds = np.arange(frames) / FPS
    for peak in _blink_times(heard, frames, rate, random):
        since = seconds - peak  # from the frame that shows the eyes shut
        course = np.where(since < 0, 0.5 + 0.5 * np.cos(np.pi * np.clip(-since / SHUT_BY, 0, 1)),
                          np.exp(-np.maximum(since - STAY, 0) / (RETURN * random.uniform(0.85, 1.3))))
        course[since > OVER] = 0
        closed = np.maximum(closed, random.uniform(LEAST_CLOSURE, 1.0) * course)
    return closed


def _blink_times(heard: Prosody, frames: int, rate: float | None, random: np.random.Generator) -> list[float]:
    """Seconds, each that of a frame, at which the eyes are shut, ascending."""
    if rate == 0:
        return []
    ends = heard.phrase_ends / FPS
    times: list[float] = []
    clock = -random.uniform(0, 60 / (rate or RATE_SPEAKING))  # as if it had begun before
    while True:
        speaking = heard.speaking[min(max(round(clock * FPS), 0), frames - 1)]
        mean = 60 / (rate or (RATE_SPEAKING if speaking else RATE_AT_REST))
        spread = random.lognormal(-INTERVAL_SPREAD**2 / 2, INTERVAL_SPREAD)  # mean 1
        clock += LEAST_INTERVAL + max(mean - LEAST_INTERVAL, 0) * spread
        if clock * FPS >= frames:
            return times
        time, drawn = clock, random.random() < DRAWN
        near = ends[np.abs(ends - clock) < TO_PHRASE_END]
        if len(near) and drawn:
            time = near[np.abs(near - clock).argmin()] + random.uniform(0, 0.15)
        time = round(time * FPS) / FPS
        if 0 <= time and (not times or time - times[-1] >= LEAST_INTERVAL):
            times.append(time)


def brows(heard: Prosody, frames: int, seed: int = 0) -> np.ndarray:
    """How far the brows are raised, float [F]: they drift by a few percent and rise at accents of the sound."""
    random = np.random.default_rng((seed, 2))
    knots = np.arange(0, frames / FPS + 2 * DRIFT_SECONDS, DRIFT_SECONDS)
    seconds = np.arange(frames) / FPS
    drift, raised = DRIFT * np.interp(seconds, knots, random.normal(size=len(knots))), np.zeros(frames)
    for at, prominence in zip(heard.accents, heard.prominence, strict=True):
        low, high = RAISE
        size = (low + (high - low) * min(prominence / STRONG_ACCENT, 1)) * random.uniform(0.7, 1.0)
        if random.random() < RAISED:
            since = seconds - at / FPS
            way = np.clip(np.where(since < 0, -since / RISE, since / FALL), 0, 1)
            raised = np.maximum(raised, size * (0.5 + 0.5 * np.cos(np.pi * way)))
    return raised + drift * heard.speaking.any()


def _check(wish: Wish) -> None:
    """Raise UsageError for values out of range."""
    if wish.blink_rate is not None and not 0 <= wish.blink_rate <= RATE_MAX:
        raise UsageError(f"a blink rate of {wish.blink_rate:g} a minute", f"it must be between 0 and {RATE_MAX:g}",
                         "People blink 17 to 26 times")
    for name, value in wish.expression.items():
        if not abs(value) <= VALUE_MAX:
            raise UsageError(f"expression '{name}' is {value:g}", "1 is the strongest that the clip shows",
                             f"Give it a value between {-VALUE_MAX:g} and {VALUE_MAX:g}")


def _warn_of(asked: np.ndarray, least: np.ndarray, most: np.ndarray, channels: Channels) -> None:
    """Say where the clip shows less than is asked for."""
    for name, value, low, high in zip(channels.names, asked, least, most, strict=True):
        if not low - 1e-6 <= value <= high + 1e-6 and name != BLINK:
            warn(f"{name} {value:.2f} is cut to {min(max(value, low), high):.2f}: the clip shows no more of it")

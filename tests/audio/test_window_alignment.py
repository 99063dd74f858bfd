"""Speech features are aligned with their frames to better than half a frame."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from needs import load_or_skip

from being import media, sample
from being.audio import clip_features, encoders, feature_windows
from being.conventions import FEATURE_RATE, FEATURE_WINDOW, FPS, SAMPLE_RATE

HALF_FRAME = 0.5 / FPS  # s
FRAME = SAMPLE_RATE // FPS  # samples
WHOLE = (
    0.12  # s to either side of a burst in which its response lies; bursts nearer to an end are cut
)
MOVED = np.arange(-0.04, 0.0401, 0.005)  # s


@pytest.fixture(scope="module", params=["hama"])
def encoder(request: pytest.FixtureRequest) -> str:
    load_or_skip(lambda: encoders.load_encoder(request.param))
    return request.param


def bursts(count: int, frames: list[int], kind: str) -> np.ndarray:
    """Bursts of 10 ms centred on the times of `frames`: hiss as of an s, or the buzz of a voice at
    150 Hz.
    """
    rng, sound = np.random.default_rng(1), np.zeros(count, np.float32)
    for frame in frames:
        at = np.arange(max(0, frame * FRAME - 80), min(count, frame * FRAME + 80))
        buzz = np.sign(np.sin(2 * np.pi * 150 / SAMPLE_RATE * at))
        sound[at] = 0.3 * (rng.standard_normal(len(at)) if kind == "hiss" else buzz)
    return sound


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        *itertools.product((2.0, 2.013, 1.987), ("hiss", "buzz")),
        (50.0, "hiss"),
        (49.987, "buzz"),
        *(
            pytest.param(seconds, kind, marks=pytest.mark.slow)
            for seconds, kind in (
                (50.0, "buzz"),
                (50.013, "hiss"),
                (50.013, "buzz"),
                (49.987, "hiss"),
            )
        ),
    ],
)
def test_bursts_change_the_features_of_their_own_frames_at_their_own_times(
    encoder: str, seconds: float, kind: str
) -> None:
    """Read with its time in the middle, a frame's window shows a burst where it was: at the start,
    inside, at the end.

    One burst's centre of change wanders by up to 23 ms with what the network makes of it, so six
    are taken together.
    """
    count = round(seconds * SAMPLE_RATE)
    quiet = (0.003 * np.random.default_rng(0).standard_normal(count)).astype(np.float32)
    frames = feature_windows.frame_count(quiet)
    base = clip_features.encode_frames(quiet, frames, encoder)
    steps = (np.arange(FEATURE_WINDOW) - (FEATURE_WINDOW - 1) / 2) / FEATURE_RATE
    places = (4, frames // 2 - 3, frames - 10)  # nearer to an end the response to a burst is cut
    weights = np.zeros((len(places), FEATURE_WINDOW))
    for number in range(6):
        there = [place + number for place in places]
        heard = clip_features.encode_frames(quiet + bursts(count, there, kind), frames, encoder)
        for weight, frame in zip(weights, there, strict=True):
            change = np.square(heard[frame] - base[frame]).sum(1) * (np.abs(steps) < WHOLE)
            weight += change / change.sum()
    assert np.abs(weights @ steps / weights.sum(1)).max() < HALF_FRAME


@pytest.mark.parametrize("seconds", [2.0, 2.013, 1.987, 20.507])
@pytest.mark.parametrize("begin", [5.0, 6.25, 10.0])
def test_the_ends_of_a_clip_lie_where_the_same_speech_lies_inside_a_longer_one(
    encoder: str, begin: float, seconds: float
) -> None:
    """Of the longer sound moved by -40 to 40 ms, the one that is like a clip's first and last 4
    frames is unmoved.
    """
    whole = np.tile(media.read_audio(Path(sample.__file__).parent / "speaker.mp4"), 2)
    first, count = round(begin * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    clip = whole[first : first + count]
    frames = feature_windows.frame_count(clip)
    got = clip_features.encode_frames(clip, frames, encoder)
    best = {}
    for name, at, inside in (("start", 0, 25), ("end", frames - 4, 46)):
        own = got[at : at + 4]
        real = np.abs(own).sum(2) > 0  # steps outside the clip are zero
        likeness = []
        for moved in MOVED:
            start = first + (at - inside) * FRAME + round(moved * SAMPLE_RATE)
            longer = clip_features.encode_frames(
                whole[start : start + (inside + 8) * FRAME], inside + 4, encoder
            )[inside:]
            likeness.append(np.corrcoef(_less_mean(own[real]), _less_mean(longer[real]))[0, 1])
        best[name] = float(MOVED[np.argmax(likeness)])
    assert max(abs(moved) for moved in best.values()) < HALF_FRAME / 2, best


def _less_mean(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(0)).ravel()

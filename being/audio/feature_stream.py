"""Speech features as sound comes in: bounded look-ahead, the same output for any chunking.

Everything is counted from a frame's own time i / 25 s. The network's eight windows reach 0.28 s
past it; the encoder needs some sound besides, its look-ahead. A low-latency form moves the windows
into the past: the window of frame i then holds the sound round i / 25 s less the shift, and a
network trained on such windows finds the lips in their later half.

    total look-ahead = 0.28 s + ahead - shift

Attention and convolutions of the encoders are not causal, so a step is computed from a stretch of
sound that ends `ahead` after it: two steps (one frame) at a time, each time with the last `PAST` of
sound. That costs more than one pass over the whole, and gives a step that depends on nothing but
its own stretch: chunks of any size give the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from being.audio.encoders import (
    SAMPLES_PER_STEP,
    Encoder,
    Name,
    PieceEncoder,
    encoder,
    piece_of,
    width_of,
)
from being.audio.feature_windows import SAMPLES_PER_FRAME, frame_count
from being.audio.waveform import checked
from being.conventions import (
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    FEATURE_RATE,
    FEATURE_WINDOW,
    STEPS_PER_FRAME,
)
from being.errors import UsageError

PAST = 100  # steps (2 s) of sound seen before the steps that are computed
HOP = STEPS_PER_FRAME  # steps computed at once
CHECKED = 1 << 22  # samples looked at at once
TOGETHER = 64  # stretches of a whole clip that go through the network side by side
FUTURE_FRAMES = (
    ATTENTION_WINDOW - 1 - ATTENTION_PAST
)  # windows after a frame's own that the network hears
REACH = (
    FUTURE_FRAMES * STEPS_PER_FRAME + FEATURE_WINDOW // 2
)  # steps from a frame's time to the end of its last window


@dataclass(frozen=True)
class Latency:
    """A look-ahead: of the encoder, and how far the windows are moved into the past; in steps of 20
    ms.
    """

    name: str
    ahead: int
    shift: int  # a multiple of HOP

    @property
    def seconds(self) -> float:
        """Sound after a frame's time that must have come in before the frame's windows are
        complete, s.
        """
        return (REACH + self.ahead - self.shift) / FEATURE_RATE


LATENCIES = {known.name: known for known in (Latency("stream", 11, 0), Latency("low", 4, 6))}


def latency_of(name: str) -> Latency:
    """The latency called `name`. Raises UsageError for an unknown one."""
    if name not in LATENCIES:
        near = difflib.get_close_matches(name, LATENCIES, 1)
        raise UsageError(
            f"no latency is called {name!r}",
            "known are: whole, " + ", ".join(LATENCIES),
            f"Did you mean {near[0]!r}?" if near else "",
        )
    return LATENCIES[name]


class BoundedEncoder:
    """An encoder that never hears more than its latency allows; the form for whole clips, to train
    on.

    Equal to what `StreamEncoder` gives for the same sound, to rounding.
    """

    rate = FEATURE_RATE

    def __init__(self, inner: Encoder, latency: Latency):
        """inner: an encoder of pieces. Raises UsageError for one that cannot stream (arrays)."""
        if not hasattr(inner, "encode_pieces"):
            raise UsageError(
                f"the encoder {inner.name!r} has no streaming form",
                "its features are read from a file",
                "Leave the latency out",
            )
        self.inner: PieceEncoder = inner  # type: ignore[assignment]
        self.latency = latency
        self.name, self.width, self.shift = (
            f"{inner.name}@{latency.name}",
            inner.width,
            latency.shift,
        )
        self.states = getattr(inner, "states", None)

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """float32 [ceil(T / 320), width] of samples float32 [T]: step k describes the sound around
        (k + 1/2) / 50 s, heard from 2 s before it to `ahead` after."""
        return np.concatenate(list(self.stretches(samples)))

    def stretches(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """The steps of `encode_clip` one stretch after the other, float32 [s, width]; see
        `PieceEncoder.stretches`.
        """
        steps = -(-samples.size // SAMPLES_PER_STEP) if steps is None else steps
        assert samples.ndim == 1 and steps >= HOP, (samples.shape, steps)
        waiting: list[tuple[np.ndarray, int, int]] = []
        for start in range(0, steps, HOP):
            first, last = max(0, start - PAST), min(steps, start + HOP + self.latency.ahead)
            sound = piece_of(samples, first, last)
            if waiting and (sound.size != waiting[0][0].size or len(waiting) == TOGETHER):
                yield self._together(waiting)
                waiting = []
            waiting.append((sound, start - first, min(HOP, steps - start)))
        yield self._together(waiting)

    def _together(self, stretches: list[tuple[np.ndarray, int, int]]) -> np.ndarray:
        """The wanted steps of stretches of equal length, each with the place and number of its
        wanted steps.
        """
        found = self.inner.encode_pieces(np.stack([sound for sound, _, _ in stretches]))
        return np.concatenate(
            [steps[at : at + count] for steps, (_, at, count) in zip(found, stretches, strict=True)]
        )


class StreamEncoder:
    """Chunks of sound in, feature steps out as soon as their look-ahead has come in.

    name: of the encoder, with or without its latency ("hama@low"); latency: "stream" or "low".
    """

    def __init__(self, name: str = "hama", latency: str | None = None, device: str = "cpu"):
        """Raises UsageError for unknown names and encoders without a streaming form, and as
        `encoders.encoder`.
        """
        given = Name.of(name).latency
        base = name.removesuffix(f"@{given}") if given else name
        self.latency = latency_of(given or latency or "stream")
        if given and latency and given != latency:
            raise UsageError(
                f"the latency is {given!r} by the encoder's name and {latency!r} besides",
                fix="Leave one of them out",
            )
        inner = BoundedEncoder(encoder(base, device), self.latency).inner
        self._encoder, self.width, self.name = inner, inner.width, f"{base}@{self.latency.name}"
        self._sound = np.zeros(0, np.float32)  # from step `_first` on
        self._first = 0  # step at which the kept sound begins
        self._done = 0  # steps computed
        self._heard = 0  # samples that came in
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The steps that are complete now, float32 [k, C], k even and often 0.

        samples: float32 [n] in [-1, 1] at 16 kHz, n of any size, 0 too. Raises InputRejected for
        samples that are not numbers.
        """
        assert not self._finished, "the stream is finished"
        if samples.size:
            self._sound = np.concatenate([self._sound, checked(samples)])
            self._heard += samples.size
        ready = (
            self._first * SAMPLES_PER_STEP + self._sound.size
        ) // SAMPLES_PER_STEP - self.latency.ahead
        return self._until(ready // HOP * HOP, None)

    def finish(self) -> np.ndarray:
        """The rest, float32 [k, C]: as if the sound ended here. In all there are two steps a frame
        begun.
        """
        assert not self._finished, "the stream is finished"
        self._finished = True
        total = HOP * -(-self._heard // SAMPLES_PER_FRAME)
        missing = total * SAMPLES_PER_STEP - self._first * SAMPLES_PER_STEP - self._sound.size
        self._sound = np.pad(self._sound, (0, missing))
        return self._until(total, total)

    @property
    def steps(self) -> int:
        """Steps that have come out."""
        return self._done

    def _until(self, stop: int, end: int | None) -> np.ndarray:
        """Steps `_done` to `stop`, the sound ending at step `end` where that is known."""
        found = [np.zeros((0, self.width), np.float32)]
        while self._done < stop:
            first, last = max(0, self._done - PAST), self._done + HOP + self.latency.ahead
            last = last if end is None else min(end, last)
            offset = (first - self._first) * SAMPLES_PER_STEP
            sound = self._sound[offset : offset + (last - first) * SAMPLES_PER_STEP]
            steps = self._encoder.encode_pieces(sound[None])[0]
            found.append(steps[self._done - first : self._done - first + HOP])
            self._done += HOP
        keep = max(0, self._done - PAST)
        self._sound = self._sound[(keep - self._first) * SAMPLES_PER_STEP :]
        self._first = keep
        return np.concatenate(found)


class StreamWindows:
    """Chunks of sound in, the attention windows of each frame out as soon as they are complete.

    Frame by frame equal to `features.windows` of the features of the whole sound (`features.encode`
    with the name `NAME@LATENCY`). `seconds` is the look-ahead of the chain: a frame comes out once
    its time + `seconds` has come in.
    """

    def __init__(self, name: str = "hama", latency: str | None = None, device: str = "cpu"):
        """As `StreamEncoder`."""
        self.encoder = StreamEncoder(name, latency, device)
        self.seconds, self.width = self.encoder.latency.seconds, self.encoder.width
        self._cut = WindowCutter(self.width, self.encoder.latency.shift)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Windows float32 [k, 8, C, 16] of the frames that are complete now, k often 0; see
        `StreamEncoder.push`.
        """
        return self._cut.push(self.encoder.push(samples))

    def finish(self) -> np.ndarray:
        """Windows of the remaining frames: in all as many as the sound begins, at least one."""
        steps = self.encoder.finish()
        return self._cut.finish(steps, max(1, self.encoder.steps // STEPS_PER_FRAME))


class WindowCutter:
    """Feature steps in, attention windows out: frame i's as soon as its last step is there."""

    def __init__(self, width: int, shift: int = 0):
        """width: channels of a step; shift: of the latency, steps."""
        self.width = width
        self._first = -(
            FEATURE_WINDOW // 2
        )  # number of the first kept row, which is that of its step and the shift
        self._rows = np.zeros((FEATURE_WINDOW // 2 + shift, width), np.float32)
        self._frame = 0  # next to come out

    def push(self, steps: np.ndarray) -> np.ndarray:
        """Windows float32 [k, 8, C, 16] that are complete with these further steps float32 [s, C]."""
        self._rows = np.concatenate([self._rows, steps])
        known = self._first + len(self._rows)  # rows before this one are there
        return self._until((known - REACH) // STEPS_PER_FRAME + 1, None)

    def finish(self, steps: np.ndarray, frames: int) -> np.ndarray:
        """The rest of the windows of `frames` frames in all; steps float32 [s, C]: the last ones."""
        missing = (
            STEPS_PER_FRAME * (frames - 1)
            + FEATURE_WINDOW // 2
            - self._first
            - len(self._rows)
            - len(steps)
        )
        self._rows = np.concatenate([self._rows, np.pad(steps, ((0, max(0, missing)), (0, 0)))])
        return self._until(frames, frames)

    def _until(self, stop: int, frames: int | None) -> np.ndarray:
        """Windows of the frames before `stop` that have not come out; frames: how many there are,
        once known.
        """
        stop = max(stop, self._frame)
        heard = np.arange(self._frame, stop)[:, None] + np.arange(
            -ATTENTION_PAST, ATTENTION_WINDOW - ATTENTION_PAST
        )
        outside = (heard < 0) | (
            False if frames is None else heard >= frames
        )  # their windows are zero
        first = STEPS_PER_FRAME * heard - FEATURE_WINDOW // 2 - self._first
        rows = np.where(outside[..., None], 0, first[..., None] + np.arange(FEATURE_WINDOW))
        out = np.ascontiguousarray(self._rows[rows].swapaxes(2, 3))
        out[outside] = 0
        self._frame = stop
        keep = STEPS_PER_FRAME * (stop - ATTENTION_PAST) - FEATURE_WINDOW // 2
        if keep > self._first:
            self._rows, self._first = self._rows[keep - self._first :], keep
        return out


def feature_blocks(
    samples: np.ndarray, name: str = "hama", width: int | None = None
) -> Iterator[np.ndarray]:
    """Speech features float32 [k, 16, C] of all frames of a sound, some seconds at a time.

    One after the other they are `features.encode`, for sound of any length: memory does not grow
    with it. samples: float [T], mono at 16 kHz; width: as for `features.encode`. Raises as it does,
    before the first block.
    """
    for start in range(0, max(1, samples.size), CHECKED):
        checked(samples[start : start + CHECKED])
    frames, chosen = frame_count(samples), encoder(name)
    if not hasattr(chosen, "stretches"):
        chosen.encode_clip(samples)  # says why it cannot
    width = width_of(chosen, width)
    rows = np.zeros((FEATURE_WINDOW // 2 + getattr(chosen, "shift", 0), width), np.float32)
    done = 0  # frames; `rows` begin with the first of the next one's window
    for steps in chosen.stretches(samples, STEPS_PER_FRAME * frames):  # type: ignore[attr-defined]
        rows = np.concatenate([rows, steps[:, :width]])
        count = min((len(rows) - FEATURE_WINDOW) // STEPS_PER_FRAME + 1, frames - done)
        if count > 0:
            yield _windows_of(rows, count)
            rows, done = rows[STEPS_PER_FRAME * count :], done + count
    if done < frames:
        missing = STEPS_PER_FRAME * (frames - done - 1) + FEATURE_WINDOW - len(rows)
        yield _windows_of(np.pad(rows, ((0, missing), (0, 0))), frames - done)


def _windows_of(rows: np.ndarray, count: int) -> np.ndarray:
    """The windows [count, 16, C] of frames whose first begins with the first of the rows [S, C]."""
    view = np.lib.stride_tricks.sliding_window_view(rows, FEATURE_WINDOW, axis=0)
    return view[: STEPS_PER_FRAME * count : STEPS_PER_FRAME].transpose(0, 2, 1).copy("C")

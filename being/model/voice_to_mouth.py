"""From speech features to the mouth code: calibrated kernel ridge regression, and lips that close.

A frame's input is the strip of the 30 feature steps that GaussianTalker's audio attention reads.
The strip is reduced by two fixed linear maps (principal components of the steps and of the weighted
strips), compared with the strips of the training clip by a Gaussian kernel, and the code is a
weighted sum of these similarities (kernel ridge regression, Saunders et al. 1998). With 10 to 40 s
of one person this predicts lips better than a network trained by gradient steps (docs/lab_log.md).

A regression predicts means, so its mouths are too small. Three steps follow for each frame:

1. Calibration: every channel is mapped so that its distribution is the person's own (quantile
   matching; the quantiles of the predictions are those of clip parts that were not trained on). It
   is enlarged by as much as the face falls short of its code (`train/face_response.py`).
2. The code is limited to the person's range, with a margin.
3. Closures: where the features say p, b or m (`audio.articulation`), lips, jaw and teeth move to
   the code at which this face closes its mouth. This holds for every voice.

Two more need the frames before (`VoiceToMouth.follow`):

4. Pauses: where the features say that nothing is said (`audio.pauses`) for longer than in any pause
   of the clip, the mouth closes in the same way, and opens again before the next word.
5. No channel changes faster than this person's does.

`train/voice_fit.py` makes it in seconds. C speech feature channels, K channels of the mouth code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from being.audio.articulation import ARTICULATION_CHANNELS, CHANNEL_MAX
from being.audio.feature_windows import STRIP, join_windows, strips
from being.audio.pauses import MOST_QUIET, quiet_around, quiet_so_far, quietness
from being.conventions import (
    ATTENTION_FUTURE,
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    FEATURE_WINDOW,
    STEPS_PER_FRAME,
)
from being.data.mouth import code_rows
from being.errors import InputRejected
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.files import write_bytes
from being.reading.content import RESTORE_HINT, Unreadable, reason
from being.reading.structured import parse_json
from being.reading.tensors import load_metadata, load_tensor_arrays

# Channels that keep their values at p, b and m, because these have any width and protrusion. The
# others move to the closed mouth, so that lips, jaw and teeth agree as in the footage. On a face
# whose lips do not close so, these go along (`VoiceToMouth.closing`).
FREE_CHANNELS = (
    "lip_width",
    "inner_width",
    "corner_height",
    "corner_skew",
    "upper_protrusion",
    "lower_protrusion",
)
CLOSING_CHANNELS = tuple(k for k, name in enumerate(MOUTH_CHANNELS) if name not in FREE_CHANNELS)
MAX_CLOSURE = 0.9  # how far they move where the closure channel is fully on
OPENING_WEIGHT = 0.5  # how much an opening reduces a closure next to it
ANTICIPATION = 0.5  # share of a closure that the frame before it shows: lips set out early
# Steps of 20 ms in which a mouth closes in a pause and opens before the next word, and steps before
# the word at which it is open again.
PAUSE_RAMP, PAUSE_LEAD = 6, 2
RANGE_MARGIN = 0.15  # codes may leave the person's range by this share of it
ANY_SPEED = 1e3  # change from frame to frame of a code without a limit
MAX_DELAY = 8  # frames, of `audio_delay`
BLOCK = 512  # frames that are computed at once
VOICE_FILE = "voice.safetensors"  # in a run and in an avatar bundle
LIVE_VOICE_FILE = "live_voice.safetensors"  # beside it: the mapping of live sessions
FACTS = "facts"  # key of the file's metadata
TENSORS = (
    "step_mean",
    "step_basis",
    "window",
    "strip_mean",
    "strip_basis",
    "centres",
    "weights",
    "code_mean",
    "predicted_quantiles",
    "true_quantiles",
    "closed",
    "closing",
    "face_share",
    "pause_readout",
    "speed",
)
# Tensors and facts that files of older versions lack.
LATER_TENSORS = ("closing", "face_share", "pause_readout", "speed")
LATER_FACTS = {"audio_delay", "pause_wait"}


@dataclass(frozen=True)
class CodeState:
    """What the next frame's code depends on."""

    code: np.ndarray | None = None  # [K] of the frame before; None at the start
    quiet: float = MOST_QUIET  # steps for which nothing has been said; audio starts after silence


@dataclass(frozen=True)
class VoiceToMouth:
    """A fitted mapping; arrays are float32."""

    units: MouthUnits
    step_mean: np.ndarray  # [C]
    step_basis: np.ndarray  # [C, P] principal components of feature steps
    window: np.ndarray  # [30] weight of each step of a strip
    strip_mean: np.ndarray  # [30 P]
    strip_basis: np.ndarray  # [30 P, D], scaled: strips have a mean squared length of 1
    gamma: float  # of the kernel exp(-gamma |x - c|^2)
    centres: np.ndarray  # [N, D] strips of the training clip
    weights: np.ndarray  # [N, K]
    code_mean: np.ndarray  # [K]
    predicted_quantiles: np.ndarray  # [K, Q] ascending
    true_quantiles: np.ndarray  # [K, Q] ascending
    closed: np.ndarray  # [K] code at which the face shows a closed mouth
    # [K] how far each channel moves there where a closure is fully on, in 0..1
    closing: np.ndarray
    face_share: np.ndarray  # [K] how far the face goes with its code, as a share of it
    # [C + 1] weights and bias of `audio.pauses`; [0] for features that do not say pauses
    pause_readout: np.ndarray
    speed: np.ndarray  # [K] largest change of the code from frame to frame
    closure_step: int  # step of a strip at the frame's time; -1: no articulation channels
    # Quiet steps of 20 ms after which the mouth starts to close.
    pause_wait: int = 0
    # Frames by which the audio of the training clip comes after its mouth (`predicted_rows`). Other
    # audio is in step.
    audio_delay: int = 0

    @property
    def width(self) -> int:
        """Channels C of the speech features."""
        return len(self.step_mean)

    @cached_property
    def _centre_squares(self) -> np.ndarray:
        """Squared lengths [N] of the centres."""
        return (self.centres**2).sum(1)

    def codes(self, strips: np.ndarray) -> np.ndarray:
        """Mouth codes float32 [B, K] of strips float32 [B, 30, C]."""
        assert strips.shape[1:] == (STRIP, self.width), strips.shape
        parts = [self._codes(strips[k : k + BLOCK]) for k in range(0, len(strips), BLOCK)]
        return np.concatenate(parts or [np.zeros((0, len(self.units)), np.float32)])

    def _codes(self, strips: np.ndarray) -> np.ndarray:
        return self.codes_of(self.project(strips.reshape(-1, self.width)), strips)

    def codes_of(self, projected: np.ndarray, strips: np.ndarray) -> np.ndarray:
        """As `codes`, where the steps of the strips are `project`ed already: float32 [30 B, P]."""
        code = self.calibrate(self.predict(self._reduced(projected)))
        code = self.code_mean + (code - self.code_mean) / self.face_share
        margin = RANGE_MARGIN * (self.units.most - self.units.least)
        code = np.clip(code, self.units.least - margin, self.units.most + margin)
        if self.closure_step >= 0:
            said = np.maximum(
                self._closure(strips, 0), ANTICIPATION * self._closure(strips, STEPS_PER_FRAME)
            )
            code += said[:, None] * self.closing * (self.closed - code)
        return code.astype(np.float32)

    def _closure(self, strips: np.ndarray, later: int) -> np.ndarray:
        """How surely p, b or m closes the lips so many steps after the frame, [B] in 0..1."""
        step = min(self.closure_step + later, STRIP - 1)
        near = strips[:, step - 1 : step + 1, -ARTICULATION_CHANNELS:]
        closure, opening = (near.mean(1) / CHANNEL_MAX).T
        return np.clip(closure - OPENING_WEIGHT * opening, 0, 1)

    def pauses(self, strips: np.ndarray) -> np.ndarray | None:
        """What strips float32 [B, 30, C] say of pauses (`audio.pauses.quiet_around`), or None."""
        if not len(self.pause_readout):
            return None
        return quiet_around(quietness(strips, self.pause_readout), self.closure_step)

    def follow(
        self, codes: np.ndarray, pauses: np.ndarray | None, state: CodeState
    ) -> tuple[np.ndarray, CodeState]:
        """Codes float32 [n, K] of successive frames with pauses and limited speed, and the state
        after them.

        codes, pauses: of the frames' strips; state: after the frame before them.
        """
        found, last, quiet = codes.copy(), state.code, state.quiet
        if pauses is not None and len(codes):
            so_far = quiet_so_far(pauses[:, :-1], quiet)
            ramp = STRIP - self.closure_step - PAUSE_LEAD
            amount = pause_closure(so_far, pauses[:, -1], self.pause_wait, ramp)[:, None]
            found += amount * self.closing * (self.closed - found)
            quiet = float(so_far[-1])
        for k in range(len(found)):
            if last is not None:
                found[k] = np.clip(found[k], last - self.speed, last + self.speed)
            last = found[k]
        return found, CodeState(last, quiet)

    def follow_each(
        self, codes: np.ndarray, pauses: np.ndarray | None, states: Sequence[CodeState]
    ) -> tuple[np.ndarray, list[CodeState]]:
        """As `follow`, for the next frame of each of B streams: codes float32 [B, K], and states.

        codes, pauses: of the frames' strips, [B, ...]; states: of the streams, before the frames.
        """
        found, quiet = codes.copy(), np.array([state.quiet for state in states], np.float32)
        if pauses is not None and len(codes):
            for k in range(STEPS_PER_FRAME):
                quiet = np.minimum((quiet + 1) * pauses[:, k], np.float32(MOST_QUIET))
            ramp = STRIP - self.closure_step - PAUSE_LEAD
            amount = pause_closure(quiet, pauses[:, -1], self.pause_wait, ramp)[:, None]
            found += amount * self.closing * (self.closed - found)
        rows = [k for k, state in enumerate(states) if state.code is not None]
        if rows:
            last = np.stack([code for state in states if (code := state.code) is not None])
            found[rows] = np.clip(found[rows], last - self.speed, last + self.speed)
        after = zip(found, quiet.tolist(), strict=True)
        return found, [CodeState(code, still) for code, still in after]

    def project(self, steps: np.ndarray) -> np.ndarray:
        """Steps float32 [n, C] in the space of their principal components, [n, P]."""
        # One product of all steps: a product for each strip takes twice as long.
        return (steps - self.step_mean) @ self.step_basis

    def reduce(self, strips: np.ndarray) -> np.ndarray:
        """Strips [B, 30, C] in the space of the centres, float32 [B, D]."""
        return self._reduced(self.project(strips.reshape(-1, self.width)))

    def _reduced(self, projected: np.ndarray) -> np.ndarray:
        steps = projected.reshape(-1, STRIP, projected.shape[1]) * self.window[:, None]
        return (steps.reshape(len(steps), -1) - self.strip_mean) @ self.strip_basis

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predicted mean codes float32 [B, K] of reduced strips [B, D]."""
        squares = self._centre_squares
        return gaussian_kernel(x, self.centres, self.gamma, squares) @ self.weights + self.code_mean

    def calibrate(self, code: np.ndarray) -> np.ndarray:
        """Predicted codes [B, K] mapped so that each channel has the person's distribution."""
        columns = [
            match_quantiles(code[:, k], self.predicted_quantiles[k], self.true_quantiles[k])
            for k in range(code.shape[1])
        ]
        return np.stack(columns, 1).astype(np.float32)

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in TENSORS}

    def facts(self) -> dict[str, Any]:
        """What is no array, as JSON types."""
        return {
            "units": self.units.to_dict(),
            "gamma": self.gamma,
            "closure_step": self.closure_step,
            "audio_delay": self.audio_delay,
            "pause_wait": self.pause_wait,
        }

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], facts: Any) -> VoiceToMouth:
        """The mapping of `tensors` and `facts`. Raises ValueError for parts that do not fit."""
        needed = {"units", "gamma", "closure_step"}
        if not isinstance(facts, dict) or set(facts) - LATER_FACTS != needed:
            raise ValueError("units, gamma and closure_step are needed")
        units = MouthUnits.from_dict(facts["units"])
        defaults = {
            "closing": closing_amounts(len(units)),
            "face_share": np.ones(len(units), np.float32),
            "pause_readout": np.zeros(0, np.float32),
            "speed": np.full(len(units), ANY_SPEED, np.float32),
        }
        tensors = {**{name: defaults[name] for name in LATER_TENSORS}, **tensors}
        if set(tensors) != set(TENSORS):
            raise ValueError(f"the tensors must be {', '.join(TENSORS)}")
        gamma, step = facts["gamma"], facts["closure_step"]
        delay, wait = facts.get("audio_delay", 0), facts.get("pause_wait", 0)
        if not isinstance(gamma, (int, float)) or not 0 < gamma < 1e6:
            raise ValueError(f"gamma is {gamma!r}")
        if not isinstance(step, int) or not -1 <= step <= STRIP:
            raise ValueError(f"closure_step is {step!r}")
        if not isinstance(delay, int) or not 0 <= delay <= MAX_DELAY:
            raise ValueError(f"audio_delay is {delay!r}")
        if not isinstance(wait, int) or not 0 <= wait <= MOST_QUIET:
            raise ValueError(f"pause_wait is {wait!r}")
        mapping = cls(
            units=units,
            gamma=float(gamma),
            closure_step=step,
            audio_delay=delay,
            pause_wait=wait,
            **tensors,
        )
        mapping._check_shapes()
        return mapping

    def save(self, path: Path) -> None:
        """Write the mapping as a safetensors file, whole or not at all."""
        write_bytes(path, save(self.tensors(), {FACTS: json.dumps(self.facts())}))

    @classmethod
    def load(cls, path: Path) -> VoiceToMouth:
        """The mapping in a file of `save`. Raises InputRejected for anything else."""
        tensors = {k: v.astype(np.float32) for k, v in load_tensor_arrays(path).items()}
        try:
            facts = parse_json(load_metadata(path).get(FACTS, "{}"))
            return cls.from_parts(tensors, facts)
        except (ValueError, Unreadable) as error:
            raise InputRejected(
                f"{path} is no mapping from a voice to a mouth", reason(error), RESTORE_HINT
            ) from error

    def _check_shapes(self) -> None:
        k = len(self.units)
        if any(getattr(self, name).ndim not in (1, 2) for name in TENSORS):
            raise ValueError("the tensors must have one or two axes")
        if self.step_basis.ndim != 2 or self.strip_basis.ndim != 2 or self.centres.ndim != 2:
            raise ValueError("the bases and the centres must have two axes")
        p, d = self.step_basis.shape[1], self.strip_basis.shape[1]
        quantiles = self.true_quantiles.shape[-1]
        expected = {
            "step_mean": (self.step_basis.shape[0],),
            "window": (STRIP,),
            "strip_mean": (STRIP * p,),
            "strip_basis": (STRIP * p, d),
            "centres": (len(self.centres), d),
            "weights": (len(self.centres), k),
            "code_mean": (k,),
            "predicted_quantiles": (k, quantiles),
            "true_quantiles": (k, quantiles),
            "closed": (k,),
            "closing": (k,),
            "face_share": (k,),
            "speed": (k,),
            "pause_readout": (self.width + 1 if len(self.pause_readout) else 0,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is {getattr(self, name).shape}, expected {shape}")
        if not (self.face_share.min() > 0 and self.speed.min() > 0):
            raise ValueError("face_share and speed must be above 0")
        if not (self.closing.min() >= 0 and self.closing.max() <= 1):
            raise ValueError("closing must be in 0..1")


def closing_amounts(channels: int = len(MOUTH_CHANNELS), free: float = 0.0) -> np.ndarray:
    """How far each channel moves to the closed mouth at p, b and m, float32 [channels] in 0..1.

    free: how far the FREE_CHANNELS go with the others. With 1 all channels go all the way.
    """
    amounts = np.full(channels, free, np.float32)
    amounts[list(CLOSING_CHANNELS)] = MAX_CLOSURE + (1 - MAX_CLOSURE) * free
    return amounts


def pause_closure(
    so_far: np.ndarray, ahead: np.ndarray, wait: float, ramp: int = PAUSE_RAMP
) -> np.ndarray:
    """How far a pause closes the mouth, float32 [B] in 0..1.

    so_far, ahead: quiet steps [B] before and after a frame; wait: quiet steps after which the mouth
    starts to close; ramp: steps in which it opens, where fewer than PAUSE_RAMP are known.
    """
    closing = np.clip((so_far - wait) / PAUSE_RAMP, 0, 1)
    opening = (ahead - PAUSE_LEAD) / max(1, min(PAUSE_RAMP, ramp))
    return (closing * np.clip(opening, 0, 1)).astype(np.float32)


def gaussian_kernel(
    x: np.ndarray, centres: np.ndarray, gamma: float, centre_squares: np.ndarray | None = None
) -> np.ndarray:
    """exp(-gamma |x - c|^2) [B, N] of x [B, D] and centres [N, D].

    centre_squares: |c|^2 [N], where it is known.
    """
    if centre_squares is None:
        centre_squares = (centres**2).sum(1)
    squares = (x**2).sum(1)[:, None] + centre_squares - 2 * x @ centres.T
    return np.exp(-gamma * np.maximum(squares, 0))


def match_quantiles(values: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Values [B] mapped piecewise linearly from the quantiles `before` [Q] to `after` [Q].

    Beyond the first and last quantile the map goes on with slope 1.
    """
    inside = np.interp(values, before, after)
    return inside + np.minimum(values - before[0], 0) + np.maximum(values - before[-1], 0)


class MouthRowStream:
    """Turns rows of speech features into rows of mouth codes as they come.

    Row i needs the speech rows up to i + 3, so rows come out three frames later.
    """

    def __init__(self, voice: VoiceToMouth):
        self._voice = voice
        # The last four speech rows and those that are not used yet; before the first they are zero.
        self._state = CodeState()
        self._rows = np.zeros((ATTENTION_PAST, FEATURE_WINDOW, voice.width), np.float32)

    def push(self, rows: np.ndarray) -> np.ndarray:
        """Rows float32 [k, 16, K] that the next speech rows [n, 16, C] complete; k may be 0."""
        self._rows = np.concatenate([self._rows, rows])
        count = max(0, len(self._rows) - ATTENTION_WINDOW + 1)
        if not count:
            return np.zeros((0, FEATURE_WINDOW, len(self._voice.units)), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._rows, ATTENTION_WINDOW, axis=0)
        found = join_windows(np.moveaxis(windows, -1, 1))
        voice = self._voice
        codes, self._state = voice.follow(voice.codes(found), voice.pauses(found), self._state)
        self._rows = self._rows[count:]
        return code_rows(codes)

    def finish(self) -> np.ndarray:
        """The remaining rows float32 [k, 16, K]; no speech row follows."""
        return self.push(np.zeros((ATTENTION_FUTURE, *self._rows.shape[1:]), np.float32))


def predicted_rows(voice: VoiceToMouth, features: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Rows float32 [F, 16, K] of the speech features [F, 16, C] of the clip that was learnt.

    Its audio has the delay of `audio_delay`, so a frame reads the strip of as many frames later.
    bounds: int [F, 2], first and last frame of each frame's segment.
    """
    heard = np.minimum(np.arange(len(features)) + voice.audio_delay, bounds[:, 1])
    found = strips(features, bounds)[heard]
    codes, pauses = voice.codes(found), voice.pauses(found)
    for first, last in np.unique(bounds, axis=0):
        part = slice(first, last + 1)
        own = None if pauses is None else pauses[part]
        codes[part] = voice.follow(codes[part], own, CodeState())[0]
    return code_rows(codes)

"""Head motion of the sample person: turns, sway, blinks, glances and brows.

All are functions of time and of the stress of the speech.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from scripts.sample.mouth import FPS

SEED = 3
BLINK_CLOSE, BLINK_HOLD, BLINK_OPEN = 0.09, 0.04, 0.16  # s
BLINK_EVERY = (2.2, 4.2)  # s between blinks, drawn evenly
START_STILL = 1.0  # s over which the head starts to move
END_SMILE = 1.2  # s before the end in which a smile comes up

Wave = tuple[float, float, float]  # amplitude, Hz, phase
YAW: tuple[Wave, ...] = ((17.0, 0.075, 0.0), (5.0, 0.19, 0.9), (2.0, 0.33, 1.2))  # degrees
PITCH: tuple[Wave, ...] = ((4.0, 0.11, 0.5), (1.5, 0.37, 2.0))
ROLL: tuple[Wave, ...] = ((3.5, 0.09, 2.0), (1.2, 0.31, 0.0))
NOD = 2.0  # degrees of pitch at a stressed vowel
SWAY_X: tuple[Wave, ...] = ((0.05, 0.09, 0.0),)  # 10 cm
SWAY_Y: tuple[Wave, ...] = ((0.012, 0.24, 1.0),)


@dataclass(frozen=True)
class Motion:
    """Motion of F frames: yaw, pitch, roll [F, 3] rad; sway [F, 3] in 10 cm; face units [F]."""

    angles: np.ndarray
    sway: np.ndarray
    weights: dict[str, np.ndarray]


def _waves(time: np.ndarray, waves: tuple[Wave, ...]) -> np.ndarray:
    return np.sum(
        [a * np.sin(2 * np.pi * hertz * time + phase) for a, hertz, phase in waves], axis=0
    )


def blinks(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Eyelid closure float64 [F], 0 open to 1 closed: closing faster than opening."""
    time, closure, now = np.arange(frames) / FPS, np.zeros(frames), 1.1
    while now < frames / FPS - 0.3:
        since = time - now
        opening = np.clip(1 - (since - BLINK_HOLD) / BLINK_OPEN, 0, 1)
        closure = np.maximum(
            closure, np.where(since < 0, np.clip(1 + since / BLINK_CLOSE, 0, 1), opening)
        )
        now += rng.uniform(*BLINK_EVERY)
    return closure * closure * (3 - 2 * closure)


def motion(frames: int, stress: np.ndarray) -> Motion:
    """Head angles, sway and the weights of eyes, brows and smile of a clip; stress [F] from the
    voice, 0 to 1.
    """
    time, rng = np.arange(frames) / FPS, np.random.default_rng(SEED)
    emphasis = gaussian_filter1d(stress, 4)
    start = np.clip(time / START_STILL, 0, 1)
    start = start * start * (3 - 2 * start)
    pitch = _waves(time, PITCH) + NOD * emphasis
    angles = (
        np.radians(np.stack([_waves(time, YAW), pitch, _waves(time, ROLL)], 1)) * start[:, None]
    )
    sway = np.stack([_waves(time, SWAY_X), _waves(time, SWAY_Y), 0 * time], 1) * start[:, None]
    closure = blinks(frames, rng)
    raised = emphasis * (np.sin(0.9 * time) > 0)
    inner = np.clip(
        0.08 + _waves(time, ((0.06, 0.17, 0.0), (0.06, 0.31, 1.0))) + 0.4 * raised, 0, 0.5
    )
    outer = np.clip(0.03 + 0.35 * raised, 0, 0.45)
    glance = (
        np.round(2 * np.sin(1.7 * time) + 1.5 * np.sin(0.83 * time + 1)) * 0.05
        - 0.35 * angles[:, 0]
    )
    glance = gaussian_filter1d(glance, 0.6)
    right, left = 2 * np.clip(glance, 0, 0.4), 2 * np.clip(-glance, 0, 0.4)
    smile = 0.25 * np.clip((time - (frames / FPS - END_SMILE)) / 0.7, 0, 1)
    weights = dict(
        eyeBlinkLeft=closure,
        eyeBlinkRight=closure,
        browInnerUp=gaussian_filter1d(inner, 2),
        browOuterUpLeft=gaussian_filter1d(outer, 2),
        browOuterUpRight=gaussian_filter1d(outer, 2),
        eyeLookOutLeft=right,
        eyeLookInRight=right,
        eyeLookInLeft=left,
        eyeLookOutRight=left,
        mouthSmileLeft=smile,
        mouthSmileRight=smile,
    )
    return Motion(angles, sway, weights)

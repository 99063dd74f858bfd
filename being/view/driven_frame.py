"""The Gaussians of an avatar in one frame that audio drives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from being.audio.feature_windows import frame_count
from being.conventions import ATTENTION_WINDOW, FPS, SAMPLES_PER_FRAME
from being.errors import InputRejected, UsageError
from being.inference.backends.torch import TorchRenderer
from being.inference.engine import Engine
from being.media import read_audio
from being.model.avatar import Avatar
from being.splat import Gaussians


@dataclass(frozen=True)
class Speech:
    """Audio that drives an avatar."""

    file: Path
    label: str  # for people: whose audio it is
    features: Path | None = None  # .npy with its speech features; None: they are computed
    dataset: Path | None = None  # the dataset of the clip whose audio it is


def loudest_frame(samples: np.ndarray) -> int:
    """The frame with the largest mean square of audio float32 [T] at 16 kHz, T at least 640.

    There the mouth is open in most voices.
    """
    whole = len(samples) // SAMPLES_PER_FRAME
    frames = samples[: whole * SAMPLES_PER_FRAME].reshape(whole, SAMPLES_PER_FRAME)
    return int((frames.astype(np.float64) ** 2).mean(-1).argmax())


def driven_gaussians(
    avatar: Avatar, speech: Speech, pose: int, frame: int | None = None
) -> tuple[Gaussians, int]:
    """The Gaussians [1, N, ...] of `avatar` at one frame of the audio, and the frame.

    pose: gives camera and expression. frame: of the audio (default: the loudest). Raises UsageError
    for a frame that the audio does not have, InputRejected for audio that cannot be read or is too
    short, and as `Engine.check_encoder`.
    """
    samples = read_audio(speech.file)
    if len(samples) < SAMPLES_PER_FRAME:
        raise InputRejected(
            f"{speech.file} is too short",
            f"it has {len(samples)} samples at 16 kHz, 640 are one frame",
        )
    count = frame_count(samples)
    check_frame(frame, count, speech.label)
    chosen = loudest_frame(samples) if frame is None else frame

    # Rows of features around the frame; the mouth code of a frame needs all rows before it.
    engine = Engine(avatar, precision="float32", renderer="torch")
    renderer = engine.renderer
    assert isinstance(renderer, TorchRenderer), renderer
    if speech.features is None:
        blocks = engine.encode(samples)
    else:
        blocks = engine.read_features(speech.features, count)
    first, stop = max(0, chosen - ATTENTION_WINDOW), chosen + ATTENTION_WINDOW
    near = torch.cat([block for block in blocks])[first:stop]

    # One frame through the model's own modules
    with torch.no_grad(), engine.track(near) as track:
        rows, poses = track.rows(np.array([chosen - first])), np.array([pose])
        conditions = renderer.conditions(rows, poses, engine.expression[poses])
        gaussians = renderer.activate(renderer.deform(renderer.tokens(conditions)))
    return gaussians, chosen


def check_frame(frame: int | None, count: int, what: str) -> None:
    """Raise UsageError unless `frame` is None or one of `count` frames of `what`."""
    if frame is not None and not 0 <= frame < count:
        raise UsageError(
            f"there is no frame {frame}",
            f"{what} has the frames 0 to {count - 1}, {FPS} a second",
            "Choose one of them with --frame",
        )

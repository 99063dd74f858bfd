"""A player of the tiny avatar whose pictures and sound say which turn they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from live_server import WIDTH, LoudnessFeatures
from tiny_avatar import tiny_avatar

from being.adapters.player import AvatarPlayer
from being.conventions import FEATURE_WINDOW
from being.inference.engine import Engine
from being.session.avatar_facts import AvatarFacts
from being.session.live_session import FrameOrder
from being.session.motion import AvatarMotion

RATE = 24_000
AMPLITUDE = 100  # of the sound of turn 1; turn n has n times as much


class MarkedPlayer(AvatarPlayer):
    """Its pictures are of one grey: the number of interrupts when they were ordered."""

    def _render(self, order: FrameOrder) -> np.ndarray:
        epoch = self.epoch
        picture = super()._render(order)
        picture[: self.size**2] = epoch % 256
        return picture


@contextmanager
def marked_player(folder: Path) -> Iterator[MarkedPlayer]:
    """A player of the tiny avatar."""
    avatar = tiny_avatar(folder)
    engine = Engine(avatar, precision="float32")
    facts = AvatarFacts(
        "tiny",
        avatar.size,
        "none",
        np.full((FEATURE_WINDOW, WIDTH), 0.1, np.float32),
        AvatarMotion(avatar.pose_count, avatar.channels, engine.expression),
        None,
        "",
    )
    player = MarkedPlayer(engine, features=LoudnessFeatures, facts=facts, watermark=False)
    try:
        yield player
    finally:
        player.close()
        engine.close()


def turn_sound(turn: int, seconds: float) -> np.ndarray:
    """Sound int16 at RATE that says its turn."""
    return np.full(round(seconds * RATE), AMPLITUDE * turn, np.int16)


def turn_of(samples: np.ndarray) -> int:
    """The turn of some sound; 0 for silence."""
    return round(float(np.abs(samples.astype(np.int32)).max()) / AMPLITUDE)

"""The avatar in a Pipecat pipeline, run by Pipecat's own test tools: order, interrupts, ends."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from avatar_player import RATE, marked_player, turn_of, turn_sound

frames = pytest.importorskip("pipecat.frames.frames")
from pipecat.tests.utils import SleepFrame, run_test  # noqa: E402

from being.adapters.pipecat import AvatarProcessor  # noqa: E402

INTERRUPTS = 100


def say(turn: int, seconds: float) -> list[Any]:
    """The frames of a voice."""
    return [
        frames.TTSAudioRawFrame(part.tobytes(), RATE, 1)
        for part in np.array_split(turn_sound(turn, seconds), max(1, round(seconds / 0.1)))
    ]


class Watched(AvatarProcessor):
    """Notes sound of a turn that reaches it after the turn's interrupt."""

    def __init__(self, player: Any):
        super().__init__(player)
        self.interrupts, self.late = 0, set[int]()

    async def process_frame(self, frame: Any, direction: Any) -> None:
        if isinstance(frame, frames.InterruptionFrame):
            self.interrupts += 1
        elif isinstance(frame, frames.TTSAudioRawFrame) and sound_of(frame) <= self.interrupts:
            self.late.add(sound_of(frame))
        await super().process_frame(frame, direction)


def run(player: Any, sent: list[Any], late: set[int] | None = None) -> list[Any]:
    """What comes out of the processor; `late` gets the turns whose sound came after their end."""

    async def talk() -> list[Any]:
        processor = Watched(player)
        down, _ = await run_test(processor, frames_to_send=sent, start_timeout=10.0)
        if late is not None:
            late.update(processor.late)
        return list(down)

    return asyncio.run(asyncio.wait_for(talk(), 120))


def sound_of(frame: Any) -> int:
    return turn_of(np.frombuffer(frame.audio, np.int16))


def test_a_voice_becomes_sound_and_pictures_and_its_end_comes_last(tmp_path: Path) -> None:
    sent = [frames.TTSStartedFrame(), *say(1, 0.6), frames.TTSStoppedFrame(), frames.TextFrame("x")]
    with marked_player(tmp_path) as player:
        out = run(player, sent)
    sound = [f for f in out if isinstance(f, frames.SpeechOutputAudioRawFrame)]
    assert len(sound) == 15 and all(sound_of(frame) == 1 for frame in sound)
    assert not any(isinstance(frame, frames.TTSAudioRawFrame) for frame in out)
    pictures = [f for f in out if isinstance(f, frames.OutputImageRawFrame)]
    synced = [f for f in pictures if f.sync_with_audio]
    assert len(synced) > 10 and pictures[0].size == (32, 32) and len(pictures[0].image) == 3072
    kinds = [type(frame) for frame in out]
    assert kinds.index(frames.TTSStartedFrame) < kinds.index(frames.SpeechOutputAudioRawFrame)
    last = max(k for k, kind in enumerate(kinds) if kind is frames.SpeechOutputAudioRawFrame)
    assert kinds.index(frames.TTSStoppedFrame) > last
    assert frames.TextFrame in kinds, "other frames pass"
    # Each sound comes after its picture.
    first = out.index(sound[0])
    assert out[first - 1] is synced[0]


def test_a_hundred_interrupts_without_a_frame_of_the_old_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_byte(i420: np.ndarray, size: int) -> np.ndarray:
        return np.full((size, size, 3), i420[0], np.uint8)

    monkeypatch.setattr("being.adapters.pipecat.rgb_picture", first_byte)
    dice, late = random.Random(0), set[int]()
    sent: list[Any] = []
    for turn in range(1, INTERRUPTS + 1):
        sent += [*say(turn, 1.0), SleepFrame(dice.uniform(0.05, 0.25)), frames.InterruptionFrame()]
    with marked_player(tmp_path) as player:
        out = run(player, [*sent, *say(INTERRUPTS + 1, 0.3), frames.TTSStoppedFrame()], late)
    # An interrupt overtakes sound that waits before the processor: that of a few turns comes late.
    assert len(late) < INTERRUPTS / 5
    epoch, spoken = 0, set()
    for frame in out:
        if isinstance(frame, frames.InterruptionFrame):
            epoch += 1
        elif isinstance(frame, frames.SpeechOutputAudioRawFrame):
            assert sound_of(frame) == epoch + 1 or sound_of(frame) in late, (epoch, late)
            spoken.add(epoch)
        elif isinstance(frame, frames.OutputImageRawFrame):
            assert frame.image[0] == epoch, "a picture of an old turn"
    assert epoch == INTERRUPTS and len(spoken) > INTERRUPTS / 2

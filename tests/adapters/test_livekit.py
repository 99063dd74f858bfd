"""The avatar in LiveKit's own runner, with a fake room: order, interrupts, positions."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from avatar_player import RATE, marked_player, turn_of, turn_sound

rtc = pytest.importorskip("livekit.rtc")
pytest.importorskip("livekit.agents")
from livekit.agents.voice.avatar import QueueAudioOutput  # noqa: E402

from being.adapters.livekit import AvatarVideoGenerator, new_runner  # noqa: E402

INTERRUPTS = 100


class Publication:
    async def wait_for_subscription(self) -> None:
        pass


class Participant:
    async def publish_track(self, track: Any, options: Any) -> Publication:
        return Publication()


class Room(rtc.EventEmitter):
    """All of a room that the runner uses."""

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = Participant()

    def isconnected(self) -> bool:
        return True


class Watched:
    """A runner with what reaches the room: ("sound", turn) and ("picture", interrupts)."""

    def __init__(self, player: Any) -> None:
        self.output = QueueAudioOutput(sample_rate=RATE)
        self.generator = AvatarVideoGenerator(player)
        self.runner = new_runner(Room(), self.output, self.generator)
        self.log: list[tuple[str, int]] = []
        self.finished: list[Any] = []
        self.output.on("playback_finished", self.finished.append)
        size = player.size
        sound, pictures = self.runner._audio_source, self.runner._video_source
        capture_sound, capture_picture = sound.capture_frame, pictures.capture_frame

        async def note_sound(frame: Any) -> None:
            self.log.append(("sound", turn_of(np.frombuffer(frame.data, np.int16))))
            await capture_sound(frame)

        def note_picture(frame: Any, **settings: Any) -> None:
            self.log.append(("picture", bytes(frame.data)[size * size // 2]))
            capture_picture(frame, **settings)

        sound.capture_frame, pictures.capture_frame = note_sound, note_picture

    async def say(self, turn: int, seconds: float, end: bool = True) -> None:
        for part in np.array_split(turn_sound(turn, seconds), max(1, round(seconds / 0.1))):
            await self.output.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, part.size))
        if end:
            self.output.flush()

    async def until(self, wanted: Any, seconds: float = 20) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not wanted():
            assert asyncio.get_running_loop().time() < deadline, self.log[-20:]
            await asyncio.sleep(0.005)


def test_a_segment_is_played_to_its_end_and_told(tmp_path: Path) -> None:
    async def talk() -> None:
        watched = Watched(player)
        await watched.runner.start()
        await watched.say(1, 0.6)
        await watched.until(lambda: watched.finished)
        assert watched.runner._audio_source.queued_duration < 0.05, "told before it was heard"
        await watched.runner.aclose()
        (event,) = watched.finished
        assert not event.interrupted and event.playback_position == pytest.approx(0.6, abs=0.05)
        kinds = [kind for kind, _ in watched.log]
        assert kinds.count("sound") == 15 and kinds.count("picture") > 10

    with marked_player(tmp_path) as player:
        asyncio.run(asyncio.wait_for(talk(), 60))


def test_a_hundred_interrupts_without_a_frame_of_the_old_turn(tmp_path: Path) -> None:
    dice = random.Random(0)

    async def talk() -> None:
        watched = Watched(player)
        await watched.runner.start()
        for turn in range(1, INTERRUPTS + 1):
            await watched.say(turn, 1.0, end=False)
            await watched.until(lambda turn=turn: ("sound", turn) in watched.log)
            await asyncio.sleep(dice.uniform(0, 0.15))
            handed = watched.log.count(("sound", turn)) * 0.04
            watched.output.flush()
            watched.output.clear_buffer()
            await watched.until(lambda turn=turn: len(watched.finished) == turn)
            after = len(watched.log)
            event = watched.finished[-1]
            assert event.interrupted and event.playback_position <= handed + 0.041
            await asyncio.sleep(0.06)
            old = [
                entry
                for entry in watched.log[after:]
                if entry == ("sound", turn) or entry == ("picture", turn - 1)
            ]
            assert not old, (turn, old)
        await watched.runner.aclose()
        heard = [event.playback_position for event in watched.finished]
        assert 0 < sum(heard) < 0.4 * INTERRUPTS

    with marked_player(tmp_path) as player:
        asyncio.run(asyncio.wait_for(talk(), 120))

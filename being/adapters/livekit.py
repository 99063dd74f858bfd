"""LiveKit agents: an avatar as a `VideoGenerator` for their `AvatarRunner` (extra `livekit`).

    generator = AvatarVideoGenerator(AvatarPlayer(engine))
    runner = new_runner(room, audio_output, generator)
    await runner.start()

`audio_output` is a `QueueAudioOutput` of the agent session, or a `DataStreamAudioReceiver`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioReceiver,
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    VideoGenerator,
)

from being.adapters.player import AvatarPlayer, SegmentEnd, Shown

QUEUE_MS = 100  # of sound and pictures between the generator and the room
CLEAR_S = 1.0  # that the runner may take to hand over what it holds
STEP_S = 0.001
logger = logging.getLogger("being")


class AvatarVideoGenerator(VideoGenerator):
    """Sound of the agent in, sound and pictures of the avatar out."""

    def __init__(self, player: AvatarPlayer):
        self.player = player
        self.runner: AvatarRunner | None = None  # `new_runner` sets it
        self.unheard_s = 0.0  # of what was handed over, at the last interrupt
        self._in_hand: rtc.AudioFrame | rtc.VideoFrame | None = None  # the runner deals with it
        self._in_hand_epoch = 0
        self._clearing = False

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """See `VideoGenerator.push_audio`. Several channels are mixed."""
        if isinstance(frame, AudioSegmentEnd):
            self.player.end()
            return
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        mono = samples[:, 0] if frame.num_channels == 1 else samples.mean(1).astype(np.int16)
        self.player.push(mono.copy(), frame.sample_rate)

    async def clear_buffer(self) -> None:
        """Forget the segment, also what the runner has queued and has in its hands.

        The runner does not empty its own queues, and it may wait for room in them with a frame of
        the old turn.
        """
        self.player.interrupt()
        epoch = self.player.epoch
        if self.runner is None:
            return
        queue = self.runner.av_sync
        held = self._in_hand
        self.unheard_s = self._queued_s()
        if isinstance(held, rtc.AudioFrame) and self._in_hand_epoch < epoch:
            self.unheard_s += held.duration
        self._clearing = True
        try:
            await asyncio.wait_for(self._empty(queue, epoch), CLEAR_S)
        except asyncio.TimeoutError:
            logger.warning("LiveKit's runner held frames of an old turn for %g s", CLEAR_S)
        finally:
            self._clearing = False

    async def _empty(self, queue: rtc.AVSynchronizer, epoch: int) -> None:
        """Empty the runner's queues until it holds nothing of older epochs."""
        while self._in_hand is not None and self._in_hand_epoch < epoch:
            await queue.clear_queue()
            await asyncio.sleep(STEP_S)
        await queue.clear_queue()
        # One picture may wait for its time outside the queue.
        await queue.wait_for_playout()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._frames()

    async def _frames(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        size = self.player.size
        ends: deque[tuple[int, int]] = deque()  # (epoch, moments until its sound was heard)
        async for item in self.player.play():
            if isinstance(item, SegmentEnd):
                # The runner says "finished" at once, but what it has queued is not heard yet.
                ends.append((item.epoch, self._moments_queued()))
                continue
            while ends and (ends[0][0] < item.epoch or ends[0][1] <= 0):
                epoch, _ = ends.popleft()
                if epoch == self.player.epoch:
                    yield AudioSegmentEnd()
            ends = deque((epoch, left - 1) for epoch, left in ends)
            for frame in self._frames_of(item, size):
                while self._clearing:
                    await asyncio.sleep(STEP_S)
                if item.epoch < self.player.epoch:
                    break
                self._in_hand, self._in_hand_epoch = frame, item.epoch
                yield frame
                self._in_hand = None

    def _frames_of(self, item: Shown, size: int) -> list[rtc.VideoFrame | rtc.AudioFrame]:
        """The picture, then its sound. There is sound in segments only: the runner counts it."""
        frames: list[rtc.VideoFrame | rtc.AudioFrame] = []
        if item.picture is not None:
            kind = rtc.VideoBufferType.I420
            frames.append(rtc.VideoFrame(size, size, kind, item.picture.tobytes()))
        if item.samples is not None:
            count = item.samples.size
            frames.append(rtc.AudioFrame(item.samples.tobytes(), self.player.rate, 1, count))
        return frames

    def _queued_s(self) -> float:
        """Sound that the runner has queued for the room, s."""
        assert self.runner is not None
        return float(self.runner._audio_source.queued_duration)

    def _moments_queued(self) -> int:
        """Moments of 40 ms after which the queued sound was heard."""
        queued = 0.0 if self.runner is None else self._queued_s()
        return -(-round(1000 * queued) * self.player.fps // 1000)


class HeardReceiver(AudioReceiver):
    """The receiver of a runner, told of positions that were heard instead of handed over."""

    def __init__(self, inner: AudioReceiver, generator: AvatarVideoGenerator):
        super().__init__()
        self._inner, self._generator = inner, generator
        inner.on("clear_buffer", self._clear)

    def _clear(self) -> None:
        self.emit("clear_buffer")

    async def start(self) -> None:
        """See `AudioReceiver.start`."""
        await self._inner.start()

    def notify_playback_started(self) -> None | Coroutine[None, None, None]:
        """See `AudioReceiver.notify_playback_started`."""
        return self._inner.notify_playback_started()

    def notify_playback_finished(
        self, playback_position: float, interrupted: bool
    ) -> None | Coroutine[None, None, None]:
        """The position that was heard, s."""
        if interrupted:
            playback_position = max(0.0, playback_position - self._generator.unheard_s)
        return self._inner.notify_playback_finished(playback_position, interrupted)

    def __aiter__(self) -> AsyncIterator[rtc.AudioFrame | AudioSegmentEnd]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        """See `AudioReceiver.aclose`."""
        await self._inner.aclose()


def new_runner(
    room: Any, receiver: AudioReceiver, generator: AvatarVideoGenerator, **settings: Any
) -> AvatarRunner:
    """A runner whose interrupts and positions are right. settings: further ones of AvatarRunner."""
    player = generator.player
    options = AvatarOptions(player.size, player.size, player.fps, player.rate, 1)
    runner = AvatarRunner(
        room,
        audio_recv=HeardReceiver(receiver, generator),
        video_gen=generator,
        options=options,
        _queue_size_ms=QUEUE_MS,
        **settings,
    )
    generator.runner = runner
    return runner

"""Pipecat: an avatar as a `FrameProcessor` between a voice and the output (extra `pipecat`).

    pipeline = Pipeline([..., tts, AvatarProcessor(AvatarPlayer(engine)), transport.output(), ...])

The transport needs `video_out_enabled`, `video_out_is_live` and the avatar's width and height.
"""

from __future__ import annotations

import asyncio
from collections import deque

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    SpeechOutputAudioRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from being.adapters.player import AvatarPlayer, SegmentEnd, Shown
from being.media.live_frames import rgb_picture

DRAIN_S = 60.0  # that an end waits for the last words
STEP_S = 0.01


class AvatarProcessor(FrameProcessor):
    """Takes the sound of a voice, gives sound and pictures in step; all other frames pass."""

    def __init__(self, player: AvatarPlayer):
        super().__init__()
        self.player = player
        self._playing: asyncio.Task[None] | None = None
        self._stops: deque[TTSStoppedFrame] = deque()  # that wait for the end of their sound
        # Held while a frame is handed on, so that none of an old turn follows an interrupt.
        self._handing_on = asyncio.Lock()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See `FrameProcessor.process_frame`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.player.push(_mono(frame), frame.sample_rate)
            return
        if isinstance(frame, TTSStoppedFrame) and self._speaks:
            self._stops.append(frame)
            self.player.end()
            return
        if isinstance(frame, InterruptionFrame):
            async with self._handing_on:
                self.player.interrupt()
                self._stops.clear()
                await self.push_frame(frame, direction)
            return
        if isinstance(frame, EndFrame):
            await self._drain()
            await self._stop()
        elif isinstance(frame, CancelFrame):
            await self._stop()
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame) and self._playing is None:
            self._playing = self.create_task(self._play())

    async def cleanup(self) -> None:
        """See `FrameProcessor.cleanup`."""
        await super().cleanup()
        await self._stop()

    @property
    def _speaks(self) -> bool:
        return self.player.pending

    async def _play(self) -> None:
        async for item in self.player.play():
            async with self._handing_on:
                if item.epoch < self.player.epoch:
                    continue
                for frame in self._frames_of(item):
                    await self.push_frame(frame)

    def _frames_of(self, item: Shown | SegmentEnd) -> list[Frame]:
        """The picture, which waits for the sound before it, then its sound."""
        if isinstance(item, SegmentEnd):
            return [self._stops.popleft()] if self._stops else []
        frames: list[Frame] = []
        if item.picture is not None:
            size = self.player.size
            pixels = rgb_picture(item.picture, size).tobytes()
            image = OutputImageRawFrame(pixels, (size, size), "RGB")
            image.sync_with_audio = item.samples is not None
            frames.append(image)
        if item.samples is not None:
            sound = item.samples.tobytes()
            frames.append(SpeechOutputAudioRawFrame(sound, self.player.rate, 1))
        return frames

    async def _drain(self) -> None:
        """Let the avatar say its last words."""
        self.player.end()
        waited = 0.0
        while self.player.pending and self._playing is not None and waited < DRAIN_S:
            await asyncio.sleep(STEP_S)
            waited += STEP_S

    async def _stop(self) -> None:
        if self._playing is not None:
            playing, self._playing = self._playing, None
            await self.cancel_task(playing)


def _mono(frame: TTSAudioRawFrame) -> np.ndarray:
    """The samples of a frame, int16 [n]."""
    samples = np.frombuffer(frame.audio, "<i2").reshape(-1, frame.num_channels)
    if frame.num_channels == 1:
        return samples[:, 0].astype(np.int16)
    return samples.mean(1).round().astype(np.int16)

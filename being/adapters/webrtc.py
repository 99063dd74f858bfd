"""WebRTC by aiortc: one peer with a track of pictures, a track of sound and a data channel.

What the peer is for lies elsewhere: sound, pictures and messages come from a live session (extra
`webrtc`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from being.errors import InputRejected
from being.media.live_frames import audio_frame, mono_samples, video_frame
from being.session.timeline import FRAME, RATE

PIECE = RATE // 50  # samples of a packet of sound: 20 ms
MOST_PIECES, MOST_PICTURES = 25, 3  # that wait to be sent
MOST_TEXTS = 500  # messages that wait for the data channel
MOST_UNSENT = 1 << 20  # bytes in the data channel
CONNECT_S = 10.0


class _Track(MediaStreamTrack):
    """Frames that a session makes, the newest ones where the peer is slow."""

    def __init__(self, most: int):
        super().__init__()
        self._frames: deque[Any] = deque(maxlen=most)
        self._filled = asyncio.Event()

    def put(self, frame: Any) -> None:
        """Append a frame of PyAV."""
        self._frames.append(frame)
        self._filled.set()

    def clear(self) -> None:
        """Forget what was not sent."""
        self._frames.clear()

    async def recv(self) -> Any:
        """The next frame; waits for one."""
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._filled.clear()
            await self._filled.wait()
        return self._frames.popleft()

    def stop(self) -> None:
        """See `MediaStreamTrack.stop`."""
        super().stop()
        self._filled.set()


class _Pictures(_Track):
    kind = "video"


class _Sound(_Track):
    kind = "audio"


class Peer:
    """One peer. Callbacks are called in the event loop."""

    def __init__(
        self,
        on_text: Callable[[str], None],
        on_sound: Callable[[np.ndarray, int], None],
        on_end: Callable[[], None],
    ):
        """on_text: a message of the data channel. on_sound: sound of the peer's microphone, int16
        [n] mono and its rate. on_end: the peer has gone, or did not connect in CONNECT_S.
        """
        self._on_text, self._on_sound, self._on_end = on_text, on_sound, on_end
        # No server of others is asked for this machine's address.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._pictures, self._sound = _Pictures(MOST_PICTURES), _Sound(MOST_PIECES)
        self._channel: RTCDataChannel | None = None
        self._texts: deque[str] = deque(maxlen=MOST_TEXTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self._connection.on("datachannel", self._open_channel)
        self._connection.on("track", self._open_track)
        self._connection.on("connectionstatechange", self._state_changed)

    async def answer(self, sdp: str) -> str:
        """The answer (SDP) to an offer. Raises InputRejected for one that cannot be used."""
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            kinds = {transceiver.kind for transceiver in self._connection.getTransceivers()}
            if "video" not in kinds:
                raise ValueError("it asks for no video")
            self._connection.addTrack(self._pictures)
            if "audio" in kinds:
                self._connection.addTrack(self._sound)
            answer = await self._connection.createAnswer()
            await self._connection.setLocalDescription(answer)
        except Exception as error:  # aiortc raises many types for text that is no offer
            await self.close()
            raise InputRejected(
                "the offer of WebRTC cannot be used",
                f"{type(error).__name__}: {error}"[:200],
                "Send the sdp of RTCPeerConnection.createOffer, with a transceiver for video",
            ) from error
        asyncio.get_running_loop().call_later(CONNECT_S, self._check_connected)
        return str(self._connection.localDescription.sdp)

    def show(self, i420: np.ndarray, size: int, at: int) -> None:
        """Send a picture, I420 uint8 [1.5 S^2], of sample `at` at RATE."""
        self._pictures.put(video_frame(i420, size, at, RATE))

    def sound(self, samples: np.ndarray | None, at: int) -> None:
        """Send 40 ms of sound, int16 [960] at RATE, or silence."""
        samples = np.zeros(FRAME, np.int16) if samples is None else samples
        for start in range(0, samples.size, PIECE):
            piece = np.ascontiguousarray(samples[start : start + PIECE])
            self._sound.put(audio_frame(piece, at + start, RATE))

    def say(self, text: str) -> None:
        """Send a message. Before the channel is open, messages wait."""
        self._texts.append(text)
        self._send_texts()

    def clear(self) -> None:
        """Forget media that was not sent."""
        self._pictures.clear()
        self._sound.clear()

    @property
    def slow(self) -> bool:
        """Whether the peer does not read its messages."""
        return self._channel is not None and self._channel.bufferedAmount > MOST_UNSENT

    async def close(self) -> None:
        """End the connection."""
        self._end()
        self._pictures.stop()
        self._sound.stop()
        for task in list(self._tasks):
            task.cancel()
        await self._connection.close()

    def _send_texts(self) -> None:
        while self._texts and self._channel is not None and self._channel.readyState == "open":
            self._channel.send(self._texts.popleft())

    def _open_channel(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("message", lambda text: self._on_text(text) if isinstance(text, str) else None)
        self._send_texts()

    def _open_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            task = asyncio.get_running_loop().create_task(self._hear(track))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _hear(self, track: MediaStreamTrack) -> None:
        """Hand the peer's sound on until it ends."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                self._on_sound(mono_samples(frame), frame.sample_rate)

    def _state_changed(self) -> None:
        if self._connection.connectionState in ("failed", "closed", "disconnected"):
            self._end()

    def _check_connected(self) -> None:
        if self._connection.connectionState != "connected":
            self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._on_end()

"""Live sessions by WebRTC: POST `webrtc` with an offer; the answer opens a session.

It is the session of the WebSocket: its JSON messages pass through a data channel, its sound and
pictures are tracks, and the peer's own track of sound is the microphone.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from being.api import messages
from being.api.connection import Connection
from being.api.packets import CLIENT_RATES, HEADER, Flag, Kind, unpack
from being.errors import InputRejected
from being.reading.content import Unreadable
from being.reading.structured import parse_json
from being.session.refusals import Refusal

if TYPE_CHECKING:
    from being.api.front import Front

OFFER_MAX = 1 << 18  # bytes
MOST_WAITING = 500  # messages of the peer that wait
log = logging.getLogger("being")


class Offer(messages.Message):
    """The body of a request."""

    sdp: Annotated[str, Field(min_length=1, max_length=OFFER_MAX)]
    type: Annotated[str, Field(pattern="^offer$")] = "offer"
    start: dict[str, Any] = Field(default_factory=dict)  # the fields of the message `start`


class RawPictures:
    """In place of an encoder: the peer's connection encodes. Implements `PictureEncoder`."""

    codec = "h264"

    def encode(self, i420: np.ndarray, key: bool, mark: bytes) -> tuple[bytes, bool]:
        """The picture as it is."""
        return i420.tobytes(), True


def raw_pictures(codec: str, width: int, height: int) -> RawPictures:
    """In place of an encoder of pictures of this size.

    Raises Refusal where they are not square: with a matte, or whole source frames.
    """
    if width != height:
        raise Refusal(
            "unknown_background",
            "this background is not sent by WebRTC",
            "its pictures are square and have no matte",
            "Choose another one, or use the WebSocket",
            close=4404,
        )
    return RawPictures()


class PeerSocket:
    """A peer, as a connection uses it. Implements `connection.Socket`."""

    def __init__(self, start: str) -> None:
        """start: the message `start` of the peer."""
        from being.adapters.webrtc import Peer

        self._incoming: asyncio.Queue[bytes | str | None] = asyncio.Queue(MOST_WAITING)
        self._incoming.put_nowait(start)
        self.peer = Peer(self._take, self._take_sound, lambda: self._take(None))
        self._size = 0
        self._listener: Callable[[bytes | str], None] | None = None

    async def receive(self) -> bytes | str | None:
        """See `Socket.receive`."""
        return await self._incoming.get()

    def listen(self, take: Callable[[bytes | str], None], refill: Callable[[], None]) -> None:
        """See `Socket.listen`."""
        waiting = [self._incoming.get_nowait() for _ in range(self._incoming.qsize())]
        self._listener = take
        for message in waiting:
            self._take(message)

    @property
    def writable(self) -> bool:
        """See `Socket.writable`; the tracks drop what is not taken."""
        return True

    def write(self, contents: Sequence[bytes | str]) -> None:
        """See `Socket.write`."""
        for content in contents:
            self._send(content)

    def _send(self, content: bytes | str) -> None:
        if isinstance(content, str):
            message = json.loads(content)
            if message["type"] == "interrupted":
                self.peer.clear()
            self._size = message.get("width", self._size)
            self.peer.say(content)
            if self.peer.slow:
                self.abort()
            return
        packet, payload = unpack(content)
        if packet.kind is Kind.PCM:
            samples = np.frombuffer(payload, "<i2") if payload else None
            self.peer.sound(samples, packet.timestamp)
        else:
            self.peer.show(np.frombuffer(payload, np.uint8), self._size, packet.timestamp)

    async def close(self, code: int, reason: str) -> None:
        """See `Socket.close`."""
        self._listener = None
        await self.peer.close()

    def abort(self) -> None:
        """See `Socket.abort`."""
        self._take(None)

    def _take(self, message: bytes | str | None) -> None:
        """Something of the peer; where it sends more than is read, the newest is thrown away."""
        if self._listener is not None and message is not None:
            self._listener(message)
            return
        if self._incoming.full():
            if message is not None:
                return
            self._incoming.get_nowait()
        self._incoming.put_nowait(message)

    def _take_sound(self, samples: np.ndarray, rate: int) -> None:
        if rate not in CLIENT_RATES:
            return
        head = HEADER.pack(Kind.PCM, Flag.LIVE, rate, (1 << 32) - 1, 0, samples.size)
        self._take(head + samples.astype("<i2").tobytes())


async def open_peer(front: Front, content: bytes, address: str, token: str | None) -> str:
    """The answer to an offer (SDP); the session runs until the peer goes.

    Raises Refusal for a request that cannot be used.
    """
    try:
        offer = Offer.model_validate(parse_json(content.decode("utf-8")))
        start = json.dumps({**offer.start, "type": "start"})
    except (Unreadable, UnicodeDecodeError, ValidationError, RecursionError) as error:
        raise Refusal(
            "bad_message",
            "the request is no offer",
            str(error).splitlines()[0][:200],
            'Send {"sdp": ..., "type": "offer", "start": {...}}',
        ) from error
    socket = PeerSocket(start)
    try:
        answer = await socket.peer.answer(offer.sdp)
    except InputRejected as error:
        raise Refusal("bad_message", error.what, error.why, error.fix) from error
    connection = Connection(front, socket, address, token, raw_pictures, can_draw=False)
    task = asyncio.get_running_loop().create_task(_serve(connection))
    front.peers.add(task)
    task.add_done_callback(front.peers.discard)
    return answer


async def _serve(connection: Connection) -> None:
    try:
        await connection.run()
    except Exception:
        log.exception("a session by WebRTC failed and is ended")

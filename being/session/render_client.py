"""A front process's side of the link: places for its sessions, and their orders.

When the render process ends, the client connects again as soon as a new one listens, and opens the
places of all sessions again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from being.session.avatar_facts import AvatarFacts
from being.session.live_session import FrameOrder
from being.session.refusals import Refusal
from being.session.render_link import (
    BUFFERS,
    FrontMemory,
    Kind,
    MemoryLayout,
    MessageReader,
    pack,
    pack_close,
    pack_json,
    pack_order,
    pack_sound,
    unpack_code,
    unpack_done,
)

RETRY_S = 0.1
READ_BYTES = 1 << 16

# Called with the token of an order and its picture, uint8 [1.5 S^2], which must be read before the
# call returns.
PictureReceiver = Callable[[int, np.ndarray], None]
# Called with utterance, frame and mouth code float32 [K].
CodeReceiver = Callable[[int, int, np.ndarray], None]


class Place:
    """The place of one session in the render process. Implements `SoundPlace`."""

    def __init__(
        self,
        client: RenderClient,
        slot: int,
        facts: AvatarFacts,
        codec: str,
        address: str,
        drawn: bool = False,
    ):
        """drawn: the client draws; the place is only counted, and no picture can be ordered."""
        self._client, self.slot, self.facts = client, slot, facts
        self.codec, self.address, self.drawn = codec, address, drawn
        self._tell_nobody()
        self._utterance = 0  # number of the last one
        self._free = list(range(BUFFERS))
        self.opened: asyncio.Future[dict[str, Any]] | None = None

    def _tell_nobody(self) -> None:
        """Let go of who is told."""
        self.receive: PictureReceiver = lambda token, picture: None
        # Called when the render process was lost, and when a new one has taken over.
        self.on_lost: Callable[[], None] = lambda: None
        self.on_back: Callable[[], None] = lambda: None
        self.receive_code: CodeReceiver = lambda utterance, frame, code: None

    @property
    def in_flight(self) -> int:
        """Pictures that are under way."""
        return BUFFERS - len(self._free)

    def order(self, order: FrameOrder, token: int) -> bool:
        """Order a picture; False where it cannot be ordered now."""
        if not self._free or not self._client.connected:
            return False
        memory, buffer = self._client.memory, self._free.pop()
        for number, row in order.rows:
            memory.row(self.slot, number, self.facts.width)[:] = row
        self._client.send(pack_order(self.slot, buffer, token, order))
        return True

    def finished(self, buffer: int, token: int) -> None:
        """A picture is in its buffer."""
        try:
            self.receive(
                token, self._client.memory.picture(self.slot, buffer, self.facts.picture_bytes)
            )
        finally:
            self._free.append(buffer)

    def new_utterance(self) -> int:
        """See `SoundPlace.new_utterance`."""
        self._utterance += 1
        self.send_sound(self._utterance, 0, 0, np.zeros(0, np.float32))
        return self._utterance

    def send_sound(self, utterance: int, first: int, frames: int, samples: np.ndarray) -> None:
        """See `SoundPlace.send_sound`."""
        self._client.send(pack_sound(self.slot, utterance, first, frames, samples))

    def lost(self) -> None:
        """Nothing that is under way will come."""
        self._free = list(range(BUFFERS))
        self.on_lost()

    def close(self) -> None:
        """Free the place. Nobody is told of it any more, so the session is freed at once."""
        self._client.close_place(self)
        self._tell_nobody()


class RenderClient:
    """The connection of one front process to the render process."""

    def __init__(self, path: str, facts: list[AvatarFacts], slots: int, drawn_slots: int = 0):
        """path: of the render process's socket; slots: the most sessions of this front;
        drawn_slots: the most beside them whose clients draw, which need no memory.
        """
        self._path = path
        self.facts = {known.key: known for known in facts}
        self._layout = MemoryLayout.of(facts, slots)
        self.memory = FrontMemory(self._layout)
        self._free = list(range(slots - 1, -1, -1))
        self._free_drawn = list(range(slots + drawn_slots - 1, slots - 1, -1))
        self._places: dict[int, Place] = {}
        self._writer: asyncio.StreamWriter | None = None
        # Of all fronts, at the last opening: pictures are rendered, and clients draw.
        self.sessions, self.limit = 0, 0
        self.drawn_sessions, self.drawn_limit = 0, 0

    @property
    def connected(self) -> bool:
        """Whether a render process serves."""
        return self._writer is not None

    async def run(self) -> None:
        """Keep the connection, for ever."""
        while True:
            with contextlib.suppress(OSError):
                await self._serve()
            await asyncio.sleep(RETRY_S)

    async def _serve(self) -> None:
        """One connection, until it ends."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, self._path)
        hello = pack(Kind.HELLO, json.dumps(asdict(self._layout)).encode())
        socket.send_fds(connection, [hello], [self.memory.descriptor])
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        again = [place for place in self._places.values() if place.opened is None]
        try:
            for place in self._places.values():
                self._send_open(place, again=place.opened is None)
            messages = MessageReader()
            back = set(again)
            while content := await reader.read(READ_BYTES):
                for kind, body in messages.push(content):
                    self._handle(kind, body, back)
        finally:
            self._writer.close()
            self._writer = None
            for place in list(self._places.values()):
                place.lost()

    def _handle(self, kind: Kind, body: bytes, back: set[Place]) -> None:
        if kind is Kind.DONE:
            slot, buffer, token = unpack_done(body)
            place = self._places.get(slot)
            if place is not None and place.opened is None:
                place.finished(buffer, token)
        elif kind is Kind.CODE:
            slot, utterance, frame, code = unpack_code(body)
            place = self._places.get(slot)
            if place is not None:
                place.receive_code(utterance, frame, code)
        elif kind is Kind.OPENED:
            answer = json.loads(body)
            self.sessions, self.limit = answer["sessions"], answer["limit"]
            self.drawn_sessions = answer["drawn_sessions"]
            self.drawn_limit = answer["drawn_limit"]
            place = self._places.get(answer["slot"])
            if place is None:
                return
            if place in back:
                back.discard(place)
                place.on_back()
            elif place.opened is not None and not place.opened.done():
                place.opened.set_result(answer)

    def send(self, message: bytes) -> None:
        """Send a message; it is lost where no render process serves."""
        if self._writer is not None:
            self._writer.write(message)

    async def open(
        self, key: str, codec: str, address: str, timeout_s: float = 10.0, drawn: bool = False
    ) -> Place:
        """A place for a session. Raises Refusal where it is not admitted.

        key: of the facts of its avatar. drawn: its client draws.
        """
        free = self._free_drawn if drawn else self._free
        if not free:
            raise Refusal(
                "full",
                "all places are taken",
                "this front process serves as many sessions as it can",
                "Try again in a minute",
                close=4429,
            )
        place = Place(self, free.pop(), self.facts[key], codec, address, drawn)
        place.opened = asyncio.get_running_loop().create_future()
        self._places[place.slot] = place
        self._send_open(place, again=False)
        try:
            answer = await asyncio.wait_for(place.opened, timeout_s)
        except asyncio.TimeoutError as error:
            self.close_place(place)
            raise Refusal(
                "render_lost",
                "nothing renders at the moment",
                "the render process does not answer",
                "Connect again in some seconds",
                close=1012,
            ) from error
        except BaseException:
            self.close_place(place)
            raise
        place.opened = None
        if not answer["ok"]:
            name, what, why, fix, close = answer["error"]
            self._forget(place)
            raise Refusal(name, what, why, fix, close=close)
        return place

    def _send_open(self, place: Place, again: bool) -> None:
        fields = {
            "slot": place.slot,
            "avatar": place.facts.key,
            "codec": place.codec,
            "address": place.address,
            "again": again,
            "drawn": place.drawn,
        }
        self.send(pack_json(Kind.OPEN, fields))

    def close_place(self, place: Place) -> None:
        """Free a place; done twice, it does nothing."""
        if self._places.get(place.slot) is place:
            self.send(pack_close(place.slot))
            self._forget(place)

    def _forget(self, place: Place) -> None:
        if self._places.pop(place.slot, None) is not None:
            (self._free_drawn if place.drawn else self._free).append(place.slot)

    def close(self) -> None:
        """Free the memory."""
        if self._writer is not None:
            self._writer.close()
        self.memory.close()

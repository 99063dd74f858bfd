"""A scripted server for tests of the live page: it speaks docs/protocol.md with a drawn picture.

In silence the picture stands still. Each word is a tone, and the drawn mouth opens with it. The
word "click" is a click, and the picture of its moment is white. Sound from the client is repeated.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import time
from collections import deque
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiohttp import WSMsgType, web
from PIL import Image

PAGE = Path(__file__).resolve().parents[2] / "being/api/page"
RATE = 24_000
FRAME = 960
SIZE = 192
# How far ahead of what is heard sound is sent: at first, and at most where the client runs dry.
LEAD, MOST_LEAD = 3 * FRAME, 7 * FRAME
LOW = 480  # samples in the client's buffer
HEADER = struct.Struct("<BBHIQI")
H264, JPEG, PCM = 1, 2, 3
KEY, SILENCE, MATTE, SPEECH = 1, 2, 8, 16
WORD = round(0.28 * RATE)  # a tone and the pause after it
CLICK = 0.01  # s
LIMITS = {
    "text_characters": 2000,
    "message_bytes": 1 << 20,
    "audio_seconds": 30,
    "ahead_ms": 300,
}


@lru_cache
def drawn(opening: float, white: bool, mood: str) -> np.ndarray:
    """The picture, uint8 [SIZE, SIZE, 3]: a head whose mouth is `opening` (0 to 1) wide open."""
    if white:
        return np.full((SIZE, SIZE, 3), 255, np.uint8)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    image = np.full((SIZE, SIZE, 3), (96, 116, 122), np.uint8)
    image[y > 0.78 + 0.5 * (x - 0.5) ** 2] = (52, 70, 92)
    image[((x - 0.5) / 0.26) ** 2 + ((y - 0.45) / 0.34) ** 2 < 1] = (206, 164, 140)
    for side in (0.4, 0.6):
        image[((x - side) / 0.035) ** 2 + ((y - 0.4) / 0.022) ** 2 < 1] = (40, 30, 30)
    width = 0.11 if mood == "happy" else 0.08
    image[((x - 0.5) / width) ** 2 + ((y - 0.62) / (0.012 + 0.06 * opening)) ** 2 < 1] = (
        110,
        30,
        40,
    )
    return image


@lru_cache
def matte() -> np.ndarray:
    """Where the person is, uint8 [SIZE, SIZE]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    head = ((x - 0.5) / 0.26) ** 2 + ((y - 0.45) / 0.34) ** 2 < 1
    return np.where(head | (y > 0.78 + 0.5 * (x - 0.5) ** 2), 255, 0).astype(np.uint8)


def stacked(image: np.ndarray) -> np.ndarray:
    """The picture over its matte, with the colours multiplied by it."""
    alpha = matte()[..., None]
    return np.concatenate([image * (alpha > 0), np.repeat(alpha, 3, 2)]).astype(np.uint8)


def spoken(text: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The sound of a text, float32 in [-1, 1], and its words with times in samples."""
    pieces, words, at = [], [], 0
    for number, word in enumerate(text.split()):
        if word.strip(".,").lower() == "click":
            # Clicks lie at the beginning of a picture, 0.4 s apart.
            piece = np.zeros(10 * FRAME, np.float32)
            piece[: round(CLICK * RATE)] = 0.9
        else:
            time_s = np.arange(WORD) / RATE
            tone = np.sin(2 * np.pi * (180 + 25 * (number % 5)) * time_s)
            loudness = 0.05 + 0.4 * np.sin(np.pi * np.minimum(1, time_s / 0.22))
            piece = (tone * loudness).astype(np.float32)
        pieces.append(piece)
        words.append({"text": word.strip(".,!?"), "start": at, "end": at + len(piece)})
        at += len(piece)
    sound = np.concatenate([*pieces, np.zeros(-at % FRAME, np.float32)])
    return sound, words


class Encoder:
    """Pictures to H.264 access units or JPEG files."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.begin()

    def begin(self) -> None:
        """The next picture is a key picture."""
        if self.codec == "jpeg":
            return
        encoder = av.CodecContext.create("libx264", "w")
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
        encoder.options |= {"x264-params": "annexb=1:repeat-headers=1:keyint=100:threads=1"}
        encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
        encoder.thread_count = 1
        self._encoder, self._count = encoder, 0

    def encode(self, image: np.ndarray) -> tuple[bytes, bool]:
        """The encoded picture, and whether it can be decoded alone."""
        if self.codec == "jpeg":
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=85)
            return file.getvalue(), True
        if not self._count:
            self._encoder.height, self._encoder.width = image.shape[:2]
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        frame.pts = self._count
        self._count += 1
        packet = next(iter(self._encoder.encode(frame)))
        return bytes(packet), packet.is_keyframe


class Session:
    """One connection: what it is asked for and what it plays."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.epoch, self.at = 0, 0
        self.state, self.mood = "idle", "neutral"
        self.queue: deque[np.ndarray] = deque()  # sound of the utterance, frame by frame
        self.rest = np.zeros(0, np.float32)  # of sound from the client, less than a frame
        self.words: list[dict[str, Any]] = []
        self.utterance: str | None = None
        self.open = False
        self.begun = False
        self.lead, self.raised = LEAD, 0.0  # samples; when it was raised, s

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        await self.socket.send_str(json.dumps({"type": kind, "epoch": self.epoch, **fields}))

    def resume(self) -> dict[str, Any]:
        """What the client needs to go on with this session elsewhere."""
        return {"epoch": self.epoch, "at": self.at, "mood": self.mood, "avatar": self.avatar}

    async def start(self, message: dict[str, Any]) -> None:
        """Answer `start` with `ready`."""
        kept = message.get("resume") or {}
        self.avatar = message.get("avatar", "Ada")
        if self.avatar not in ("Ada", "Ben"):
            await self.refuse(
                "unknown_avatar", f"there is no avatar '{self.avatar}'", "start", True
            )
            return
        self.mood = kept.get("mood", self.mood)
        self.epoch, self.at = kept.get("epoch", 0) + 1, kept.get("at", 0)
        self.matte = message.get("matte") or message.get("background") == "transparent"
        self.encoder = Encoder(message.get("video", "h264"))
        await self.say(
            "ready",
            protocol=1,
            session="s-1",
            resumed=bool(kept),
            at=self.at,
            rate=RATE,
            fps=25,
            frame=FRAME,
            width=SIZE,
            height=SIZE,
            video={"codec": self.encoder.codec, "string": "avc1.42E01F", "matte": self.matte},
            avatar=self.avatar,
            avatars=["Ada", "Ben"],
            background="transparent" if self.matte else "filmed",
            backgrounds=["filmed", "transparent"],
            moods=["neutral", "happy", "serious", "surprised"],
            expressions=["smile", "brow_raise", "look_left"],
            voices=["hibari", "espeak"],
            state=self.state,
            ai_generated=True,
            notice="This person is generated by AI.",
            consent={"given": True, "note": "a drawn person, nobody's likeness"},
            limits=LIMITS,
            look_ahead_ms=240,
            resume=self.resume(),
        )
        self.set_heard(self.at)
        self.player = asyncio.create_task(self.play())

    async def refuse(self, code: str, what: str, about: str, fatal: bool = False) -> None:
        """Send an error."""
        text = {"what": what, "why": "the test asks for it", "fix": "Ask for another one"}
        await self.say("error", code=code, fatal=fatal, about=about, **text)
        if fatal:
            await self.socket.close(code=4404)

    def set_heard(self, position: int) -> None:
        """The client hears this position now."""
        self.anchor = time.monotonic() - position / RATE

    async def take(self, message: dict[str, Any]) -> None:
        """Handle a JSON message."""
        kind = message["type"]
        if kind == "start":
            await self.start(message)
        elif kind == "speak":
            await self.speak(message)
        elif kind == "speak_end":
            self.open = False
        elif kind == "interrupt":
            await self.interrupt(message)
        elif kind == "heard" and message["epoch"] == self.epoch:
            self.set_heard(message["samples"])
            if message["buffered"] < LOW and time.monotonic() > self.raised + 1:
                self.lead, self.raised = min(MOST_LEAD, self.lead + FRAME), time.monotonic()
        elif kind == "expression":
            self.mood = message.get("mood", self.mood)
        elif kind == "stats":
            await self.say("stats", state=self.state, resume=self.resume())

    async def speak(self, message: dict[str, Any]) -> None:
        if self.utterance:
            await self.refuse("already_speaking", "the avatar is speaking", "speak")
        elif message["text"].startswith("unspeakable"):
            await self.refuse("text_rejected", "the voice cannot say this text", "speak")
        else:
            sound, self.words = spoken(message["text"])
            self.utterance, self.open, self.begun = message["utterance"], False, False
            self.queue.extend(sound.reshape(-1, FRAME))

    def take_sound(self, data: bytes) -> None:
        """Repeat a PCM packet."""
        if self.utterance is None:
            self.utterance, self.open, self.begun = "sound", True, False
        pcm = np.frombuffer(data, "<i2", offset=HEADER.size) / 32768
        sound = np.concatenate([self.rest, pcm.astype(np.float32)])
        whole = len(sound) // FRAME * FRAME
        self.queue.extend(sound[:whole].reshape(-1, FRAME))
        self.rest = sound[whole:]

    async def interrupt(self, message: dict[str, Any]) -> None:
        self.queue.clear()
        self.words, self.rest = [], np.zeros(0, np.float32)
        name, self.utterance, self.open = self.utterance, None, False
        self.epoch += 1
        self.encoder.begin()
        self.set_heard(self.at)
        heard = {"samples": message["heard"]["samples"], "seconds": 0, "text": None}
        where = {"at": self.at, "resume": self.resume()}
        await self.say("interrupted", utterance=name, heard=heard, **where)
        await self.set_state("idle")

    async def play(self) -> None:
        """Send sound and pictures up to `lead` ahead of what is heard."""
        while not self.socket.closed:
            if self.at < (time.monotonic() - self.anchor) * RATE + self.lead:
                await self.send_frame()
            else:
                await asyncio.sleep(0.004)

    async def send_frame(self) -> None:
        sound = self.queue.popleft() if self.queue else None
        if sound is not None and not self.begun:
            self.begun = True
            await self.say("speaking_started", utterance=self.utterance, at=self.at)
            await self.set_state("speaking")
            times = {"start": self.at, "end": self.at}
            words = [{**w, **{k: w[k] + times[k] for k in times}} for w in self.words]
            await self.say("words", utterance=self.utterance, words=words)
        await self.send_media(sound)
        self.at += FRAME
        if self.utterance and not self.queue and not self.open:
            ended, self.utterance = self.utterance, None
            await self.say("speaking_ended", utterance=ended, at=self.at, seconds=0)
            await self.set_state("idle")

    async def send_media(self, sound: np.ndarray | None) -> None:
        """Send 40 ms of sound and their picture."""
        speech = SPEECH if sound is not None else 0
        pcm = b"" if sound is None else (sound * 32767).astype("<i2").tobytes()
        flags = speech or SILENCE
        head = HEADER.pack(PCM, flags, RATE, self.epoch, self.at, FRAME)
        await self.socket.send_bytes(head + pcm)

        loudness = 0.0 if sound is None else float(np.sqrt(np.mean(sound**2)))
        white = sound is not None and float(sound.max()) > 0.8
        image = drawn(min(10, round(40 * loudness)) / 10, white, self.mood)
        data, key = self.encoder.encode(stacked(image) if self.matte else image)
        kind = JPEG if self.encoder.codec == "jpeg" else H264
        flags = speech | (KEY if key else 0) | (MATTE if self.matte else 0)
        await self.socket.send_bytes(HEADER.pack(kind, flags, 0, self.epoch, self.at, FRAME) + data)

    async def set_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            await self.say("state", at=self.at, state=state, resume=self.resume())


class StandIn:
    """The server: the page at `prefix`, the session beside it, and a log of all messages."""

    def __init__(self, prefix: str = "/") -> None:
        self.prefix = prefix
        self.port = 0
        self.log: list[dict[str, Any]] = []  # JSON messages of all clients, and "sound" samples
        self.sessions: dict[web.WebSocketResponse, Session] = {}

    async def start(self) -> None:
        """Listen, at the port of the last time if there was one."""
        app = web.Application()
        app.router.add_get(self.prefix, self._index)
        app.router.add_get(f"{self.prefix}session", self._session)
        app.router.add_get(f"{self.prefix}info", self._info)
        app.router.add_static(self.prefix, PAGE)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response({"ai_generated": True, "placement": False})

    async def stop(self) -> None:
        """Go away as a killed server does: no close frame."""
        for socket in list(self.sessions):
            request = socket._req
            if request is not None and request.transport is not None:
                request.transport.abort()
        await self.runner.cleanup()

    async def interrupt(self) -> float:
        """Interrupt all sessions by the server's own decision; the time of it, s since 1970."""
        at = time.time()
        for session in self.sessions.values():
            await session.interrupt({"heard": {"samples": 0}})
        return at

    def said(self, kind: str) -> list[dict[str, Any]]:
        """All messages of a kind that clients sent."""
        return [message for message in self.log if message["type"] == kind]

    async def _index(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _session(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        session = self.sessions[socket] = Session(socket)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    self.log.append(json.loads(message.data))
                    await session.take(self.log[-1])
                elif message.type == WSMsgType.BINARY:
                    self.log.append({"type": "sound", "samples": (len(message.data) - 20) // 2})
                    session.take_sound(message.data)
        finally:
            del self.sessions[socket]
            if task := getattr(session, "player", None):
                task.cancel()
        return socket

"""The live server in this process: a tiny avatar, a voice that hums, features of loudness."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import uvicorn
from placed_avatar import write_placed_avatar
from tiny_avatar import tiny_avatar
from web_avatar import write_web_avatar

from being.api.front import Front, stream_features
from being.api.front_process import uvicorn_config
from being.api.limits import Access, Limits
from being.api.server import create_app
from being.api.talk import TalkService
from being.api.web_avatars import WebAvatars
from being.conventions import FEATURE_WINDOW, SAMPLES_PER_FRAME
from being.errors import InputRejected
from being.inference.engine import Engine
from being.inference.live_look import FILMED, live_look
from being.interop.web import export_web
from being.interop.web.exporter import PAGE as MODULES
from being.model.avatar import load_avatar
from being.session.admission import Admission
from being.session.avatar_facts import AvatarFacts
from being.session.engine_facts import avatar_facts
from being.session.motion import AvatarMotion
from being.session.render_client import RenderClient
from being.session.render_process import RenderProcess
from being.session.render_worker import RenderWorker
from being.tts.speech import Speech

WIDTH = 7  # of the tiny avatar's speech features
RATE = 24_000
SECONDS_A_LETTER = 0.05


class LoudnessFeatures:
    """Speech features without an encoder: each row holds the loudness of its frame."""

    seconds = 0.12

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        self._samples = np.concatenate([self._samples, samples])
        count = max(0, len(self._samples) // SAMPLES_PER_FRAME - 3)
        return self._rows(count)

    def finish(self) -> np.ndarray:
        return self._rows(-(-len(self._samples) // SAMPLES_PER_FRAME))

    def _rows(self, count: int) -> np.ndarray:
        used, self._samples = (
            self._samples[: count * SAMPLES_PER_FRAME],
            self._samples[count * SAMPLES_PER_FRAME :],
        )
        used = np.pad(used, (0, count * SAMPLES_PER_FRAME - used.size))
        loudness = np.abs(used).reshape(count, -1).mean(1) if count else np.zeros(0)
        shape = (count, FEATURE_WINDOW, WIDTH)
        return np.broadcast_to(loudness[:, None, None] + 0.1, shape).astype(np.float32)


def hum(text: str, voice: str, speed: float) -> Speech:
    """A tone for each letter of the text."""
    if "unspeakable" in text:
        raise InputRejected("the voice cannot say this", "it is unspeakable", "Say something else")
    time_s = np.arange(round(len(text) * SECONDS_A_LETTER * RATE)) / RATE
    samples = (0.3 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32)
    words, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        words.append((word, at * SECONDS_A_LETTER, (at + len(word)) * SECONDS_A_LETTER))
    return Speech(samples, RATE, words)


@dataclass
class LocalServer:
    """The server; use it as a context."""

    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    sessions: int = 8
    sessions_by_address: int = 8
    page: Path | None = None
    talk: TalkService | None = None
    ledger: str | None = None  # path of a `SessionLedger`
    looks: tuple[str, ...] = ()  # beside the filmed one; then the avatar has mattes and a surround
    # Clients can draw: the avatar has bases, the voice of the live encoder, and a bundle.
    drawn: bool = False

    def __enter__(self) -> LocalServer:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        avatar = tiny_avatar(folder)
        if self.looks:
            avatar = load_avatar(write_placed_avatar(folder / "placed", width=WIDTH))
        self.web = WebAvatars()
        if self.drawn:
            avatar = write_web_avatar(folder / "web")
            export_web(avatar, folder / "export")
            self.web = WebAvatars({"web": folder / "export/avatar"}, MODULES)
        self.engine = Engine(avatar, precision="float32")
        self.facts = (
            avatar_facts(self.engine, "web")
            if self.drawn
            else AvatarFacts(
                "tiny",
                avatar.size,
                "none",
                np.full((FEATURE_WINDOW, WIDTH), 0.1, np.float32),
                AvatarMotion(avatar.pose_count, avatar.channels, self.engine.expression),
                {"confirmed": True, "statement": "agreed"},
                "Consent: agreed",
            )
        )
        self._looks = [live_look(avatar, text) for text in (FILMED, *self.looks)]
        self.all_facts = [
            replace(self.facts, look=x.name, shown=(x.width, x.height), matte=x.matte)
            for x in self._looks
        ]
        self._path = str(folder / "render")
        self._unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unix.bind(self._path)
        self._unix.listen(8)
        self.start_renderer()
        self._start_front(folder)
        return self

    def start_renderer(self) -> None:
        """Start a render process, as a thread."""
        admission = Admission(self.sessions, self.sessions_by_address)
        workers = {}
        for facts, look in zip(self.all_facts, self._looks, strict=True):
            own = look.avatar is self.engine.avatar
            engine = self.engine if own else Engine(look.avatar, precision="float32")
            workers[facts.key] = RenderWorker(engine, None, look)
        duplicate = self._unix.dup()
        drawn_admission = Admission(self.sessions, self.sessions_by_address)
        self.process = RenderProcess(
            duplicate, workers, self.all_facts, admission, None, drawn_admission
        )
        read, self._write = os.pipe()
        self.process.watch_parent(read)
        self._renderer = threading.Thread(target=self.process.run, daemon=True)
        self._renderer.start()

    def stop_renderer(self) -> None:
        """End the render process."""
        os.close(self._write)
        self._renderer.join(5)
        self.process.close()

    def _start_front(self, folder: Path) -> None:
        def load_front() -> Front:
            slots = self.sessions + 2
            client = RenderClient(self._path, self.all_facts, slots, slots)
            self.front = Front(
                client,
                self.limits,
                self.access,
                stream_features if self.drawn else lambda facts: LoudnessFeatures(),
                hum,
                talk=self.talk,
                ledger=self.ledger,
                web=self.web,
                drawn_sessions=slots,
            )
            return self.front

        app = create_app(load_front, self.page or folder, self.web)
        config = uvicorn_config(app, self.limits, host="127.0.0.1", port=0)
        config.backlog = 128
        self.server = uvicorn.Server(config)
        self.server.capture_signals = _no_signals  # type: ignore[method-assign]
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()))
        self._thread.start()
        while not self.server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        deadline = time.monotonic() + 5
        while not self.front.renderer.connected and time.monotonic() < deadline:
            time.sleep(0.01)

    @property
    def url(self) -> str:
        """The address of a session."""
        return f"ws://127.0.0.1:{self.port}/session"

    @property
    def http(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.port}"

    def settled(self) -> bool:
        """Whether no session is left, anywhere."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            worker = self.process.workers[self.facts.key]
            admitted = self.process.admission.sessions + self.process.drawn_admission.sessions
            left = (len(self.front.connections), admitted, worker.sessions)
            if left == (0, 0, 0):
                return True
            time.sleep(0.02)
        return False

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self._thread.join(10)
        self.stop_renderer()
        self._unix.close()
        self._folder.cleanup()


class _no_signals:
    """In place of uvicorn's handlers, which only the main thread may set."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

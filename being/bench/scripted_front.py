"""A live server with a scripted voice and renderer: clicks, and pictures that are white at them.

Session, sockets, H.264 and page are the real ones. So what is seen and heard in the page shows how
far pictures and sound are apart, by their content.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import uvicorn

from being.api.front import Front
from being.api.front_process import uvicorn_config
from being.api.limits import Access, Limits
from being.api.readiness import bound_socket
from being.api.server import create_app
from being.conventions import ATTENTION_PAST, FEATURE_WINDOW, SAMPLES_PER_FRAME
from being.data.expression_channels import BLINK, ExpressionChannels
from being.inference.i420 import i420_bytes
from being.session.avatar_facts import AvatarFacts
from being.session.live_session import SILENT_ROW, FrameOrder
from being.session.motion import AvatarMotion
from being.session.timeline import RATE
from being.tts.speech import Speech

SIZE = 512  # px
WORD_S, CLICK_AT_S, CLICK_S = 0.5, 0.44, 0.002
LOUD = 0.5
GREY, WHITE = 90, 235  # luma
START_S = 60.0


def click_voice(text: str, voice: str, speed: float) -> Speech:
    """A click for each word, late in its half second, at the beginning of a frame."""
    words = text.split()
    samples = np.zeros(int(WORD_S * RATE) * max(1, len(words)), np.float32)
    for k in range(len(words)):
        at = int((k * WORD_S + CLICK_AT_S) * RATE)
        samples[at : at + int(CLICK_S * RATE)] = 0.9
    samples[::7] += 0.01  # so that nothing of it counts as silence before the first word
    times = [(word, k * WORD_S, (k + 1) * WORD_S) for k, word in enumerate(words)]
    return Speech(samples, RATE, times)


class ClickFeatures:
    """Rows [k, 16, 1] that are 1 in frames with a click. Implements `FeatureSource`."""

    seconds = 0.16

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """See `FeatureSource.push`."""
        self._samples = np.concatenate([self._samples, samples])
        return self._rows(self._samples.size // SAMPLES_PER_FRAME)

    def finish(self) -> np.ndarray:
        """See `FeatureSource.finish`."""
        return self._rows(-(-self._samples.size // SAMPLES_PER_FRAME))

    def _rows(self, count: int) -> np.ndarray:
        used = self._samples[: count * SAMPLES_PER_FRAME]
        self._samples = self._samples[count * SAMPLES_PER_FRAME :]
        used = np.pad(used, (0, count * SAMPLES_PER_FRAME - used.size))
        loud = np.abs(used).reshape(count, SAMPLES_PER_FRAME).max(1, initial=0) > LOUD
        # Never 0, which would be filled with silence.
        values = np.where(loud, 1.0, 0.01).astype(np.float32)
        return np.repeat(values[:, None, None], FEATURE_WINDOW, 1)


class ScriptedPlace:
    """The place of one session; used like `render_client.Place`."""

    in_flight = 0
    codec = "h264"

    def __init__(self, facts: AvatarFacts):
        self.facts = facts
        self.receive: Callable[[int, np.ndarray], None] = lambda token, picture: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_back: Callable[[], None] = lambda: None
        self._rows: dict[int, float] = {SILENT_ROW: 0.0}
        self._picture = np.full(i420_bytes(SIZE), 128, np.uint8)

    def order(self, order: FrameOrder, token: int) -> bool:
        """Paint the picture of an order; it is there in the loop's next turn."""
        for number, row in order.rows:
            self._rows[number] = float(row[0, 0])
        white = self._rows[int(order.window[ATTENTION_PAST])] > LOUD
        self._picture[: SIZE * SIZE] = WHITE if white else GREY
        asyncio.get_running_loop().call_soon(self._painted, token, self._picture.copy())
        return True

    def _painted(self, token: int, picture: np.ndarray) -> None:
        self.receive(token, picture)

    def close(self) -> None:
        """No picture comes any more."""
        self.receive = lambda token, picture: None


class ScriptedRenderer:
    """Stands for the render process; used like `RenderClient`."""

    connected, sessions, limit = True, 1, 1

    def __init__(self) -> None:
        channels = ExpressionChannels((BLINK,), (0.0,), (1.0,), (0.0,), (1.0,))
        motion = AvatarMotion(2, channels, np.zeros((2, 1), np.float32))
        row = np.zeros((FEATURE_WINDOW, 1), np.float32)
        facts = AvatarFacts("clicks", SIZE, "clicks", row, motion, None, "scripted")
        self.facts = {facts.key: facts}

    async def run(self) -> None:
        """Serve for ever."""
        await asyncio.Event().wait()

    async def open(self, key: str, codec: str, address: str) -> ScriptedPlace:
        """A place for a session."""
        return ScriptedPlace(self.facts[key])

    def close(self) -> None:
        """Nothing is held."""


class ScriptedServer:
    """The server, in a thread of this process; use it as a context."""

    def __enter__(self) -> ScriptedServer:
        """Start it. Raises RuntimeError where it does not start."""

        def load_front() -> Front:
            renderer: Any = ScriptedRenderer()
            return Front(renderer, Limits(), Access(), lambda facts: ClickFeatures(), click_voice)

        listener = bound_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        self._server = uvicorn.Server(uvicorn_config(create_app(load_front), Limits()))
        # Not `run`: signals are the main thread's.
        work = self._server._serve([listener])
        self._thread = threading.Thread(target=asyncio.run, args=[work], daemon=True)
        self._thread.start()
        end = time.monotonic() + START_S
        while not self._server.started:
            if time.monotonic() > end or not self._thread.is_alive():
                raise RuntimeError("the scripted server does not start")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self._server.should_exit = True
        self._thread.join(10)

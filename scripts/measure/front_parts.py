"""Processor time of the parts of a front process: wraps its functions and adds up their own time.

The own time of a function is that of its thread between its call and its return, without that of
wrapped functions which it calls. Functions that a version lacks are left out.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
import time
import types
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator
from typing import Any

# Part of the front -> its functions: module, name in it.
PARTS: dict[str, list[tuple[str, str]]] = {
    "H.264": [("being.media.live_video", "H264Encoder.encode")],
    "copy of the picture into the encoder's frame": [("being.media.live_video", "_fill")],
    "mark (JSON and SEI unit)": [
        ("being.media.live_video", "insert_sei"),
        ("being.api.connection", "mark_json"),
    ],
    "moments: sound, windows of rows, states": [
        ("being.session.live_session", "LiveSession.advance"),
        ("being.session.live_session", "LiveSession.add_speech"),
    ],
    "motion: blinks, brows, gaze": [("being.session.motion", "Motion.advance")],
    "orders to the render process": [("being.session.render_client", "Place.order")],
    "answers of the render process": [
        ("being.session.render_client", "RenderClient._serve"),
        ("being.session.render_client", "RenderClient._handle"),
        ("being.session.render_client", "RenderClient._read"),
    ],
    "sound to the render process, codes to rows": [
        ("being.session.batched_features", "BatchedFeatures._take"),
        ("being.session.batched_features", "BatchedFeatures._receive"),
        ("being.session.render_client", "Place.send_sound"),
    ],
    "sound in: resampling, blocks": [
        ("being.api.workshop", "SpeechTask.step"),
        ("being.api.workshop", "SpeechTask.put"),
    ],
    "workshop threads": [
        ("being.api.workshop", "Workshop._run"),
        ("being.api.workshop", "Workshop.schedule"),
    ],
    "messages of the client": [
        ("being.api.connection", "Connection._take"),
        ("being.api.connection", "Connection._speech_made"),
    ],
    "WebSocket in": [
        ("being.api.server", "LiveWebSocketProtocol.data_received"),
        ("being.api.server", "FastApiSocket.receive"),
        ("being.api.server", "LiveSocket.receive"),
    ],
    "WebSocket out": [
        ("being.api.server", "FastApiSocket.send"),
        ("being.api.server", "LiveWebSocketProtocol.write"),
    ],
    "write to the sockets (kernel)": [
        ("asyncio.selector_events", "_SelectorSocketTransport.write"),
        ("asyncio.selector_events", "_SelectorSocketTransport.writelines"),
    ],
    "read from the sockets (kernel)": [
        ("asyncio.selector_events", "_SelectorSocketTransport._read_ready"),
    ],
    "outbox": [
        ("being.api.connection", "Connection._write"),
        ("being.api.connection", "Connection._send"),
        ("being.api.outbox", "Outbox.put_media"),
        ("being.api.outbox", "Outbox.put_json"),
    ],
    "ticks": [
        ("being.api.front", "Front.beat"),
        ("being.api.connection", "Connection._tick_safely"),
        ("being.api.connection", "Connection._plan"),
        ("being.api.connection", "Connection.tick"),
        ("being.api.connection", "Connection._send_moment"),
    ],
    "counters": [
        ("prometheus_client", "Counter.inc"),
        ("prometheus_client", "Histogram.observe"),
    ],
    "pictures to packets": [("being.api.connection", "Connection._picture")],
    "waiting for events (kernel)": [("selectors", "EpollSelector.select")],
}
REST = "event loop and the rest"


class Ledger:
    """Own processor time of each part, over all threads."""

    def __init__(self) -> None:
        self.ns = defaultdict[str, int](int)
        self._local = threading.local()

    def install(self) -> None:
        """Wrap the functions of all parts."""
        for part, functions in PARTS.items():
            for module, name in functions:
                owner: Any = importlib.import_module(module)
                *path, last = name.split(".")
                for step in path:
                    owner = getattr(owner, step, None)
                if owner is not None and hasattr(owner, last):
                    setattr(owner, last, self._wrapped(part, getattr(owner, last)))

    def _wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            def call(*arguments: Any, **named: Any) -> Awaitable[Any]:
                return self._steps(part, function(*arguments, **named))

            return call

        @functools.wraps(function)
        def plain(*arguments: Any, **named: Any) -> Any:
            self._enter(part)
            try:
                return function(*arguments, **named)
            finally:
                self._leave()

        return plain

    @types.coroutine
    def _steps(self, part: str, work: Any) -> Generator[Any, Any, Any]:
        """The coroutine `work`; each of its steps counts."""
        send, value = work.send, None
        while True:
            self._enter(part)
            try:
                waited = send(value)
            except StopIteration as end:
                return end.value
            finally:
                self._leave()
            try:
                send, value = work.send, (yield waited)
            except BaseException as error:
                send, value = work.throw, error

    def _enter(self, part: str) -> None:
        stack = self._local.__dict__.setdefault("stack", [])
        now = time.thread_time_ns()
        if stack:
            self.ns[stack[-1][0]] += now - stack[-1][1]
        stack.append([part, now])

    def _leave(self) -> None:
        stack = self._local.stack
        now = time.thread_time_ns()
        part, since = stack.pop()
        self.ns[part] += now - since
        if stack:
            stack[-1][1] = now

"""Headless Chromium for benchmarks of the live page, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from being.errors import EnvironmentFault

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-sandbox",  # needs a helper or rights that machines may lack; the page is our own
    "--no-first-run",
    "--disable-gpu-compositing",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
)
START_S = 60.0
POLL_S = 0.02


def find_chromium() -> str | None:
    """The path of Chromium, or None. The environment variable BEING_CHROMIUM may name it."""
    for name in [os.environ.get("BEING_CHROMIUM", ""), *NAMES]:
        if name and (path := shutil.which(name)):
            return path
    return None


class Browser:
    """A running browser with one page at a time. Use it as an asynchronous context."""

    def __init__(self, flags: tuple[str, ...] = ()):
        """flags: further ones of the program."""
        self._flags = flags

    async def __aenter__(self) -> Browser:
        """Start it. Raises EnvironmentFault where there is none, or it does not start."""
        path = find_chromium()
        if path is None:
            raise EnvironmentFault(
                "there is no Chromium",
                "the page is measured in one",
                "apt-get install chromium, or name one in BEING_CHROMIUM",
            )
        self._profile = tempfile.mkdtemp(prefix="being-chromium-")
        self._process = subprocess.Popen(
            [path, *FLAGS, *self._flags, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port, address = await self._address()
            self._socket: ClientConnection = await connect(
                f"ws://127.0.0.1:{port}{address}", max_size=None, compression=None, proxy=None
            )
        except BaseException:
            self._kill()
            raise
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())
        self._session = self._target = ""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it and remove its profile."""
        self._reader.cancel()
        await self._socket.close()
        self._kill()

    async def open(self, url: str, script: str) -> None:
        """Open a page in place of the last one. script: JavaScript that runs before its own."""
        if self._target:
            await self._send("Target.closeTarget", targetId=self._target)
        self._session = ""
        self._target = (await self._send("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._send("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        await self._send("Page.enable")
        await self._send("Page.addScriptToEvaluateOnNewDocument", source=script)
        await self._send("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression. Raises RuntimeError for one that throws."""
        answer = await self._send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"])[:300])
        return answer["result"].get("value")

    async def wait(self, script: str, seconds: float = 30.0) -> Any:
        """The value of an expression as soon as it is true. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not (value := await self.run(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"not true within {seconds:g} s: {script}")
            await asyncio.sleep(POLL_S)
        return value

    async def click(self, selector: str) -> None:
        """Click an element as a mouse does: the gesture that lets a page sound."""
        x, y = await self.run(
            f"(() => {{const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self._send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def type(self, text: str) -> None:
        """Type a text and Enter into what has the focus."""
        await self._send("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            await self._send(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                text="\r",
                windowsVirtualKeyCode=13,
            )

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a DevTools command."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send(json.dumps(message))
        data = await asyncio.wait_for(answer, 60)
        if "error" in data:
            raise RuntimeError(f"{method}: {data['error']}")
        return dict(data["result"])

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message)
            answer = self._answers.pop(data.get("id", 0), None)
            if answer is not None and not answer.done():
                answer.set_result(data)

    async def _address(self) -> tuple[str, str]:
        """Port and path of the DevTools socket, which Chromium writes when it is ready."""
        file, end = Path(self._profile, "DevToolsActivePort"), time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            await asyncio.sleep(POLL_S)
        raise EnvironmentFault("Chromium does not start", "", "Start it by hand to see why")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

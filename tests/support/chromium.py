"""Headless Chromium for tests of pages: started once, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

Result = TypeVar("Result")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A name that is this machine but, unlike localhost, no secure context.
PLAIN_HOST = "being.test"
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-sandbox",  # needs a helper or rights that test machines lack; the pages are our own
    "--no-first-run",
    "--no-default-browser-check",
    # An emulated graphics chip costs half a core for what the processor does in passing.
    "--disable-gpu-compositing",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,MediaRouter,OptimizationHints",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
)


class LoopThread:
    """An asyncio loop in a thread of its own, so that tests stay ordinary functions."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result], timeout: float = 60) -> Result:
        """What the coroutine returns, waited for at most `timeout` s."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        """Stop the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def page_probe() -> str:
    """The script that watches the live page; it runs before the page's own."""
    return (files("being.bench") / "page_probe.js").read_text(encoding="utf-8")


def find_chromium() -> str:
    """The path of Chromium; skips the test where there is none.

    `BEING_CHROMIUM` names the one to use. Then the test fails where it is missing.
    """
    wanted = os.environ.get("BEING_CHROMIUM")
    for name in [wanted] if wanted else NAMES:
        if path := shutil.which(name):
            return path
    if wanted:
        pytest.fail(f"BEING_CHROMIUM is '{wanted}', which is not there")
    pytest.skip("no Chromium: apt-get install chromium")


class Chromium:
    """A running browser. Pages come from `open` and are closed by the test."""

    def __init__(self, loop: LoopThread, flags: tuple[str, ...] = ()) -> None:
        """flags: further ones of the program."""
        self.loop = loop
        self._profile = tempfile.mkdtemp(prefix="being-chromium-")
        self._process = subprocess.Popen(
            [find_chromium(), *FLAGS, *flags, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self._kill)  # also when a test is interrupted
        port, path = self._address()
        self.loop.run(self._connect(f"ws://127.0.0.1:{port}{path}"))

    def _address(self) -> tuple[str, str]:
        """Port and path of the DevTools socket, which Chromium writes when it is ready."""
        file = Path(self._profile, "DevToolsActivePort")
        for _ in range(600):
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"Chromium did not start (exit status {self._process.poll()})")

    async def _connect(self, url: str) -> None:
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(url, max_msg_size=0, compress=0)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            data = message.json()
            if answer := self._answers.pop(data.get("id", 0), None):
                if not answer.done():
                    answer.set_result(data)
            elif page := self._pages.get(data.get("sessionId", "")):
                page.take_event(data["method"], data["params"])

    async def send(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """The result of a DevTools command."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        await self._socket.send_json({**message, "sessionId": session} if session else message)
        data = await asyncio.wait_for(answer, 30)
        if "error" in data:
            raise RuntimeError(f"{method}: {data['error']}")
        return dict(data["result"])

    def open(
        self, url: str, width: int = 1280, height: int = 800, script: str = "", **media: str
    ) -> Page:
        """Open a page in a tab of its own and wait until it is loaded.

        script: JavaScript that runs before the page's own. media: CSS media features by name with
        - as _, such as `prefers_color_scheme="dark"`.
        """
        return self.loop.run(self._open(url, width, height, script, media))

    async def _open(
        self, url: str, width: int, height: int, script: str, media: dict[str, str]
    ) -> Page:
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"], target["targetId"])
        self._pages[page.session] = page
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page.send(f"{domain}.enable")
        await page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        await page.send("Emulation.setEmulatedMedia", features=features)
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=script)
        await page.send("Page.navigate", url=url)
        await asyncio.wait_for(page.loaded.wait(), 30)
        return page

    def close(self) -> None:
        """End the browser and remove its profile."""
        self.loop.run(self._disconnect())
        self._kill()
        atexit.unregister(self._kill)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _disconnect(self) -> None:
        await self._socket.close()
        await self._http.close()
        self._reader.cancel()


class Page:
    """A page of the browser. Collects its console messages, exceptions and requests."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.loaded = asyncio.Event()
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def take_event(self, method: str, params: dict[str, Any]) -> None:
        """Note what the page does by itself."""
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(str(details.get("exception", details).get("description")))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(" ".join(str(arg.get("value")) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a DevTools command for this page."""
        return await self.browser.send(method, self.session, **params)

    def run(self, script: str, timeout: float = 30) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        return self.browser.loop.run(self._run(script), timeout)

    async def _run(self, script: str) -> Any:
        answer = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(str(details.get("exception", details).get("description", details)))
        return answer["result"].get("value")

    def wait(self, script: str, timeout: float = 10) -> Any:
        """The value of the expression as soon as it is true; fails after `timeout` s."""
        end = time.monotonic() + timeout
        while not (value := self.run(script)):
            if time.monotonic() > end:
                raise AssertionError(f"not true within {timeout} s: {script}; {self.complaints}")
            time.sleep(0.03)
        return value

    def click(self, selector: str) -> None:
        """Click the middle of an element as a mouse does: a gesture for the autoplay rule."""
        self.browser.loop.run(self._click(selector))

    async def _click(self, selector: str) -> None:
        place = await self._run(
            f"(()=>{{const e=document.querySelector({selector!r});e.scrollIntoView"
            "({block:'nearest'});const b=e.getBoundingClientRect();"
            "return [b.x+b.width/2,b.y+b.height/2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def type(self, text: str) -> None:
        """Type the text into the element that has the focus."""
        self.browser.loop.run(self.send("Input.insertText", text=text))

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key (its name and its Windows key code)."""
        self.browser.loop.run(self._press(key, code, text))

    async def _press(self, key: str, code: int, text: str) -> None:
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def reload(self) -> None:
        """Load the page again and wait until it is loaded."""
        self.browser.loop.run(self._reload())

    async def _reload(self) -> None:
        self.loaded.clear()
        await self.send("Page.reload")
        await asyncio.wait_for(self.loaded.wait(), 30)

    def screenshot(self, path: Path) -> Path:
        """Write a picture of the page as PNG."""
        data = self.browser.loop.run(self.send("Page.captureScreenshot", format="png"))["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def accessibility(self) -> list[dict[str, Any]]:
        """The nodes of the accessibility tree, as a screen reader is told."""
        return list(self.browser.loop.run(self.send("Accessibility.getFullAXTree"))["nodes"])

    def close(self) -> None:
        """Close the page."""
        self.browser.loop.run(self.browser.send("Target.closeTarget", targetId=self.target))

"""The live page draws the avatar by itself in headless Chromium, and lets the server when slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from chromium import Chromium, LoopThread, Page, page_probe

from being.face.mouth_code import MOUTH_CHANNELS

PAGE = pytest.importorskip("being.api.server").PAGE
Access = pytest.importorskip("being.api.limits").Access
LocalServer = pytest.importorskip("live_server").LocalServer

MAIN = "import(new URL('main.js', document.baseURI)).then((main) => %s)"
IDLE = "document.body.dataset.state === 'idle'"
SPEAKING = "document.body.dataset.state === 'speaking'"
TEXT = "Hello there, my friend. How do you do today? I am very well, and I hope that you are too."
# Notes a figure of the pixels of each frame that is drawn. The machine of a test may be busy.
WATCH = (
    MAIN
    % """{
  const drawing = main.currentDrawing();
  drawing.pace.tooSlow = () => false;
  window.marks = [];
  const { draw } = drawing;
  drawing.draw = function (frame, stage) {
    draw.call(this, frame, stage);
    const pixels = this.renderer.read();
    let sum = 0;
    for (let i = 0; i < pixels.length; i += 4) sum += (i % 1021) * pixels[i];
    window.marks.push(sum);
  };
  main.session.send({ type: "pose", mode: "hold" });
}"""
)
DISTINCT = "[new Set(window.marks).size, window.marks.length]"
AT_REST = "window.marks.length > 3 && new Set(window.marks.slice(-4)).size === 1"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """Its coefficients depend on the mouth code alone."""
    with LocalServer(drawn=True, page=PAGE, access=Access(token="a b")) as started:
        started.facts.net.layers[0][0][:, len(MOUTH_CHANNELS) :] = 0
        yield started


@pytest.fixture
def page(server: Any) -> Iterator[Page]:
    loop = LoopThread()
    chromium = Chromium(loop)
    opened = chromium.open(
        f"http://localhost:{server.port}/?token=a%20b&render=client", script=page_probe()
    )
    yield opened
    opened.close()
    chromium.close()
    loop.close()


def say(page: Page, text: str) -> None:
    page.click("#text")
    page.type(text)
    page.press("Enter", 13, "\r")


def test_the_page_draws_what_is_said_and_falls_back(page: Page) -> None:
    page.wait("document.body.dataset.render === 'client'")
    page.run(WATCH)
    page.click("#stats-toggle")
    page.wait("document.getElementById('stat-path').textContent.startsWith('drawn here')")

    # In silence the picture comes to stand still; it moves with speech.
    page.wait(AT_REST)
    say(page, TEXT)
    page.wait(SPEAKING)
    page.run("window.marks.length = 0")
    page.wait("window.marks.length > 8")
    assert page.run(DISTINCT)[0] > 3

    # An interrupt cuts the sound, and the mouth comes to rest.
    page.click("#interrupt")
    page.wait(IDLE)
    page.run("window.marks.length = 0")
    page.wait(AT_REST)
    page.run("probe.sounds.length = 0")
    time.sleep(0.5)
    assert page.run("probe.sounds.length") == 0

    # A machine that draws too slowly gets pictures from the server, and is told so.
    page.run(MAIN % "{ main.currentDrawing().pace.tooSlow = () => true; }")
    page.wait("document.body.dataset.render === 'server'")
    page.run("probe.frames.length = 0")
    page.wait("probe.frames.length > 3")
    page.wait("document.getElementById('stat-path').textContent.startsWith('H.264')")
    assert "too slowly" in page.run("document.getElementById('notice').innerText")
    assert not page.complaints, page.complaints

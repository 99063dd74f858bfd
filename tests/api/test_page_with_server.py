"""The live page in headless Chromium against the live server itself, with a tiny avatar."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
from chromium import PLAIN_HOST, Chromium, LoopThread, Page, page_probe

# The server needs the extra `serve`.
PAGE = pytest.importorskip("being.api.server").PAGE
Access = pytest.importorskip("being.api.limits").Access
LocalServer = pytest.importorskip("live_server").LocalServer

PROBE = page_probe()
TOKEN = "a/+ &"
ENTER = ("Enter", 13, "\r")
SPEAKING = "document.body.dataset.state === 'speaking'"
IDLE = "document.body.dataset.state === 'idle' && document.getElementById('interrupt').disabled"
SESSION = "import(new URL('main.js', document.baseURI)).then(({session}) => %s)"
TEXT = "Hello there, my friend. How do you do today? I am very well, and I hope that you are too."
HOSTS = pytest.mark.parametrize("host", ["localhost", PLAIN_HOST], ids=["secure", "plain"])
# test_page_in_browser.py tests the interrupt of a plain page, with the stand-in of the server; what
# becomes of a lost link does not depend on the kind of page.
PLAIN_IS_SLOW = pytest.mark.parametrize(
    "host",
    [
        pytest.param("localhost", id="secure"),
        pytest.param(PLAIN_HOST, id="plain", marks=pytest.mark.slow),
    ],
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    loop = LoopThread()
    chromium = Chromium(loop)
    yield chromium
    chromium.close()
    loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The `LocalServer`."""
    with LocalServer(page=PAGE, access=Access(token=TOKEN)) as started:
        yield started


@pytest.fixture
def page(browser: Chromium, server: Any, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, connected, as a secure or a plain one."""
    host = request.node.callspec.params.get("host", "localhost")
    query = "?token=a%2F%2B%20%26"
    opened = browser.open(f"http://{host}:{server.port}/{query}", script=PROBE)
    opened.wait(f"document.body.dataset.link === 'open' && {IDLE}")
    yield opened
    complaints = opened.complaints
    opened.close()
    assert not complaints, complaints


def say(page: Page, text: str) -> None:
    page.click("#text")
    page.type(text)
    page.press(*ENTER)


@HOSTS
def test_the_avatar_speaks_with_captions(page: Page, host: str) -> None:
    page.click("#stats-toggle")
    say(page, TEXT)
    page.wait(SPEAKING)
    page.wait("document.getElementById('captions').innerText.includes('my friend.')")
    page.run("probe.frames.length = probe.sounds.length = 0")
    time.sleep(1)
    assert page.run("probe.sounds.length") > 5
    assert page.run("probe.frames.length") > 8
    assert len(page.run("[...new Set(probe.frames.map(([at, mouth]) => mouth))]")) > 3
    page.wait(IDLE)
    told = page.run("document.getElementById('spoken').innerText")
    assert told.split() == TEXT.split()
    first = page.run("document.getElementById('stat-first').textContent")
    assert 0 < int(first.removesuffix(" ms")) < 3000


@PLAIN_IS_SLOW
def test_an_interrupt_is_silent_within_60_ms(page: Page, host: str) -> None:
    taken = []
    for _ in range(3):
        say(page, TEXT)
        page.wait(SPEAKING)
        time.sleep(0.4)
        page.run("probe.sounds.length = 0")
        page.click("#interrupt")
        time.sleep(0.4)
        taken.append(page.run("probe.sounds.at(-1) - probe.interrupts.at(-1)"))
        page.run("probe.sounds.length = 0")
        time.sleep(0.2)
        assert page.run("probe.sounds.length") == 0
    print("decision to silence, ms:", [round(ms) for ms in taken])
    assert statistics.median(taken) <= 60, taken


@PLAIN_IS_SLOW
def test_after_a_lost_link_the_rest_is_spoken(page: Page, host: str) -> None:
    say(page, TEXT)
    page.wait("document.getElementById('captions').innerText.includes('How do')")
    page.run(SESSION % "session.socket.close(4000)")
    page.wait("document.body.dataset.link === 'lost'")
    page.wait("document.body.dataset.link === 'open'")
    rest = page.run(SESSION % "session.outbox.text.text")
    assert TEXT.endswith(rest) and 20 < len(rest) < len(TEXT) - 20, rest
    page.wait(SPEAKING)
    page.wait(IDLE)


@pytest.mark.parametrize("host", ["localhost"])
def test_the_microphone_speaks_through_the_avatar(page: Page, host: str) -> None:
    page.click("#microphone")
    page.wait(SPEAKING)
    page.wait("probe.sounds.length > 0")
    page.click("#microphone")
    page.wait(IDLE)
    assert not page.run("document.getElementById('error').innerText")


@pytest.mark.parametrize("host", ["localhost"])
def test_a_text_that_the_voice_cannot_say_comes_back(page: Page, host: str) -> None:
    say(page, "unspeakable")
    error = page.wait("document.getElementById('error').innerText")
    assert "The voice cannot say this. It is unspeakable. Say something else." in error
    assert page.run("document.getElementById('text').value") == "unspeakable"
    page.run("document.getElementById('text').value = ''")
    say(page, "Hello.")
    page.wait(SPEAKING)


@pytest.mark.parametrize("host", ["localhost"])
def test_a_lost_render_process_is_told_until_pictures_come_again(
    page: Page, server: Any, host: str
) -> None:
    server.stop_renderer()
    error = page.wait("document.getElementById('error').innerText")
    assert "The render process has ended." in error
    time.sleep(0.7)
    page.run("probe.frames.length = 0")
    server.start_renderer()
    page.wait("!document.getElementById('error').innerText && probe.frames.length > 3")


def test_a_wrong_token_is_told_and_not_tried_again(browser: Chromium, server: Any) -> None:
    page = browser.open(f"http://localhost:{server.port}/?token=other")
    page.wait("document.body.dataset.link === 'closed'")
    error = page.run("document.getElementById('error').innerText")
    assert "The token is wrong." in error and "being serve" in error
    time.sleep(1)
    assert sum(url.startswith("ws:") for url in page.requests) == 1
    page.close()

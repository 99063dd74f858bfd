"""What `bench-live` measures in the live page, in headless Chromium: on the screen, at the ear.

Two servers are used: the one that is measured, and for sync a scripted one whose pictures turn
white at the clicks of its voice (`scripted_front.py`). Times come from the page itself, and from
a script that watches it (`page_probe.js`).
"""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from typing import Any

import numpy as np

from being.bench.browser import Browser
from being.bench.live_measures import INTERRUPT_WITHIN_S, TEXTS, summary
from being.bench.scripted_front import ScriptedServer

CONNECTED = "document.body?.dataset.link === 'open' && window.probe?.frames.length > 0"
SPEAKING = "document.body.dataset.state === 'speaking'"
IDLE = "document.body.dataset.state === 'idle' && document.getElementById('interrupt').disabled"
ASKED = "import(new URL('main.js', document.baseURI)).then(({session}) => session.asked && %s)"
INTERRUPT = "import(new URL('main.js', document.baseURI)).then(m => m.session.interrupt())"
REFRESH_MS = 1000 / 60  # from the drawing of a picture to its place on the screen
SILENCE_S = 0.4  # after an interrupt, in which nothing old may sound
CLICKS_A_TEXT = 20
CLICK_APART_S = 0.5


async def page_figures(url: str, repeats: int, interrupts: int, sync_s: float) -> dict[str, Any]:
    """Figures of the page at `url` (http), JSON types.

    repeats: connections and texts; interrupts: their number; sync_s: seconds of clicks. Raises
    EnvironmentFault without Chromium.
    """
    probe = (files("being.bench") / "page_probe.js").read_text(encoding="utf-8")
    async with Browser() as browser:
        opened = []
        for _ in range(repeats):
            await browser.open(url, probe)
            await browser.wait(CONNECTED)
            opened.append(await browser.run("probe.frames[0][0] - probe.opened"))
        found = {"connect_to_first_picture": _milliseconds(opened)}
        found |= await _texts(browser, repeats)
        found |= await _interrupts(browser, interrupts)
        if sync_s > 0:
            with ScriptedServer() as scripted:
                await browser.open(scripted.url, probe)
                await browser.wait(CONNECTED)
                found["picture_and_sound_apart"] = await _sync(browser, sync_s)
    return found


def _milliseconds(values: list[float]) -> dict[str, Any]:
    return summary([value / 1000 for value in values])


async def _say(browser: Browser, text: str) -> None:
    await browser.click("#text")
    await browser.type(text)


async def _texts(browser: Browser, repeats: int) -> dict[str, Any]:
    """From Enter to the first sound at the ear and the first picture of speech on the screen.

    The first text of a page starts its sound card; it is told apart.
    """
    sounds, pictures = [], []
    for k in range(repeats + 1):
        await _say(browser, TEXTS[k % len(TEXTS)])
        await browser.wait(ASKED % "session.asked.firstSound && session.asked.firstFrame")
        sound, picture = await browser.run(
            ASKED % "[session.asked.firstSound, session.asked.firstFrame]"
        )
        sounds.append(sound)
        pictures.append(picture)
        await browser.click("#interrupt")
        await browser.wait(IDLE)
        await asyncio.sleep(SILENCE_S + 0.013 * (k % 7))
    return {
        "text_to_sound_at_the_ear": _milliseconds(sounds[1:]),
        "text_to_picture_on_the_screen": _milliseconds(pictures[1:]),
        "first_text_of_the_page_ms": [round(sounds[0], 1), round(pictures[0], 1)],
    }


async def _interrupts(browser: Browser, count: int) -> dict[str, Any]:
    """From the page's decision to the first silent block, and the output's latency."""
    random = np.random.default_rng(16)
    taken, sounds_after = [], 0
    for _ in range(count):
        await _say(browser, TEXTS[2])
        await browser.wait(SPEAKING)
        await asyncio.sleep(0.2 + random.uniform(0, INTERRUPT_WITHIN_S))
        # The page's own figure, which its panel shows too.
        taken.append(await browser.run(INTERRUPT))
        await browser.run("probe.sounds.length = 0")
        await asyncio.sleep(0.1)
        await browser.run("probe.sounds.length = 0")
        await asyncio.sleep(SILENCE_S)
        sounds_after += await browser.run("probe.sounds.length")
    return {"stop_to_silence": _milliseconds(taken), "sounds_after_silence": sounds_after}


async def _sync(browser: Browser, seconds: float) -> dict[str, Any]:
    """How far white pictures are from the clicks that they belong to; a picture lasts 40 ms."""
    await _say(browser, "click")  # the first speech starts sound card and decoder
    await browser.wait(SPEAKING)
    await browser.wait(IDLE)
    apart: list[float] = []
    clicks, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        await browser.run("probe.clicks.length = probe.frames.length = 0")
        count = min(CLICKS_A_TEXT, max(2, round(seconds / CLICK_APART_S)))
        await _say(browser, "click " * count)
        await browser.wait(SPEAKING)
        await browser.wait(IDLE, seconds=3 * count)
        await asyncio.sleep(0.2)
        heard, frames = await browser.run("[probe.clicks, probe.frames]")
        flashes = [
            b[0] + REFRESH_MS
            for a, b in zip(frames, frames[1:], strict=False)
            if a[2] < 200 <= b[2]
        ]
        clicks += len(heard)
        if heard:
            apart += [abs(min((flash - click for click in heard), key=abs)) for flash in flashes]
    return {**_milliseconds(apart), "clicks": clicks} if apart else {"clicks": clicks}

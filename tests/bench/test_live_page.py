"""The figures of the page in headless Chromium: each is there, and none is of another moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from live_server import LocalServer

from being.api.server import PAGE
from being.bench.browser import find_chromium
from being.bench.live_page import page_figures

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")
INTERRUPTS, SYNC_S = 1, 3.0


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    with LocalServer(page=PAGE) as server:
        return asyncio.run(page_figures(server.http + "/", 1, INTERRUPTS, SYNC_S))


def test_each_part_was_counted(figures: dict[str, Any]) -> None:
    counts = {name: part["count"] for name, part in figures.items() if isinstance(part, dict)}
    sync = counts.pop("picture_and_sound_apart")
    assert counts == {
        "connect_to_first_picture": 1,
        "text_to_sound_at_the_ear": 1,
        "text_to_picture_on_the_screen": 1,
        "stop_to_silence": INTERRUPTS,
    }
    # A click each half a second, and its white picture; a busy machine shows some too late.
    assert figures["picture_and_sound_apart"]["clicks"] >= 2 and sync >= 1


def test_the_times_can_be(figures: dict[str, Any]) -> None:
    """They are no measurement here: a wrong clock is seconds or years away."""
    for name, part in figures.items():
        if isinstance(part, dict):
            assert 0 <= part["min_ms"] <= part["p50_ms"] < 5000, name
    assert figures["sounds_after_silence"] == 0

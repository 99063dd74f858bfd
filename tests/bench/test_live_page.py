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
INTERRUPTS, SYNC_S = 1, 1.0


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
    """The bounds hold on a busy machine; a wrong clock or a wrong event is far outside of them."""
    for name, part in figures.items():
        if isinstance(part, dict):
            assert 0 <= part["min_ms"] <= part["p50_ms"] < 5000, name
    # A white picture belongs to its own click and not to the next one, half a second away.
    assert figures["picture_and_sound_apart"]["p50_ms"] < 120
    assert figures["stop_to_silence"]["p50_ms"] < 400
    assert figures["sounds_after_silence"] == 0

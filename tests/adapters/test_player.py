"""The avatar in this process: segments, interrupts, order of what comes out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from avatar_player import RATE, MarkedPlayer, marked_player, turn_of, turn_sound

from being.adapters.player import SegmentEnd, Shown
from being.session.timeline import FRAME


async def collect(player: MarkedPlayer, until: Any, seconds: float = 20.0) -> list[Any]:
    """What comes out until `until(item)`."""
    items: list[Any] = []

    async def play() -> None:
        async for item in player.play():
            items.append(item)
            if until(item):
                return

    await asyncio.wait_for(play(), seconds)
    return items


def test_segments_come_out_whole_in_order_and_in_step(tmp_path: Path) -> None:
    async def talk() -> list[Any]:
        for turn in (1, 2):
            for part in np.array_split(turn_sound(turn, 0.5), 7):
                player.push(part, RATE)
            player.end()
        ends: list[Any] = []
        return await collect(
            player, lambda item: isinstance(item, SegmentEnd) and (ends.append(1) or len(ends) == 2)
        )

    with marked_player(tmp_path) as player:
        items = asyncio.run(talk())
    moments = [item for item in items if isinstance(item, Shown)]
    assert [item.at for item in moments] == [k * FRAME for k in range(len(moments))]
    spoken = [turn_of(item.samples) for item in moments if item.samples is not None]
    assert spoken == sorted(spoken) and spoken.count(1) in (12, 13) and spoken.count(2) in (12, 13)
    pictures = [item.picture for item in moments if item.picture is not None]
    assert len(pictures) > 0.8 * len(moments) and pictures[0].size == player.size**2 * 3 // 2
    first_end = next(k for k, item in enumerate(items) if isinstance(item, SegmentEnd))
    assert all(turn_of(i.samples) < 2 for i in items[:first_end] if i.samples is not None)


def test_after_an_interrupt_nothing_of_the_old_turn_comes(tmp_path: Path) -> None:
    async def talk() -> None:
        turn = 1
        player.push(turn_sound(turn, 5), RATE)
        seen = 0
        async for item in player.play():
            assert isinstance(item, Shown) and item.epoch == turn - 1
            if item.samples is not None:
                assert turn_of(item.samples) == turn
                seen += 1
            if seen == 3:
                assert player.interrupt() <= 0.13
                turn, seen = turn + 1, 0
                player.push(turn_sound(turn, 5), RATE)
            if turn == 8:
                return

    with marked_player(tmp_path) as player:
        asyncio.run(asyncio.wait_for(talk(), 30))

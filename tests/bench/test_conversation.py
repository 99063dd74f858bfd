"""What bench-live --conversation measures: the moments of a turn, with stand-ins of known delay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from live_server import LocalServer
from talk_service import talk_service

from being.bench.conversation import QUESTION, REPLY, Turn, _figures, _turns
from being.bench.stand_ins import StandIns
from being.conversation.turns import Patience
from being.media.resampling import resample
from being.session.timeline import RATE
from being.tts import speak

FIRST_WORD_S = 0.4


@pytest.fixture(scope="module")
def turns() -> Iterator[list[Turn]]:
    speech = speak(QUESTION)
    samples = resample(speech.samples, speech.rate, RATE)
    question = (samples.clip(-1, 1) * 32767).astype(np.int16)
    with StandIns(reply=REPLY) as stand_ins:
        stand_ins.first_word_s = FIRST_WORD_S
        with LocalServer(talk=talk_service(stand_ins, Patience(5.0, 5.0, 5.0, 5.0))) as server:
            yield asyncio.run(asyncio.wait_for(_turns(server.url, question, 1), 60))


def test_the_moments_of_a_turn_follow_each_other(turns: list[Turn]) -> None:
    assert len(turns) == 1  # the first turn is not counted
    turn = turns[0]
    assert 0 < turn.last_sound < turn.end < turn.first_sound <= turn.first_picture


def test_the_delay_of_the_endpoints_is_in_the_figures(turns: list[Turn]) -> None:
    assert _figures(turns)["to_first_sound"]["min_ms"] >= 1000 * FIRST_WORD_S

"""Measures how soon the avatar answers speech, over loopback, with stand-ins for the endpoints.

The stand-ins answer at once for our own share, and then with stated delays. The end of the user's
speech is when the server says so (`hearing`): END_S after the last block of speech.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from being.api.packets import HEADER, Flag, Kind
from being.api.talk_options import TalkOptions
from being.bench.live import LiveBenchOptions, live_server, setup_facts, without_series
from being.bench.live_load import BenchClient, audible_from, is_event, is_picture
from being.bench.live_measures import summary
from being.bench.stand_ins import StandIns
from being.conversation.ear import EARLY_S, END_S
from being.media.resampling import resample
from being.session.timeline import FRAME, RATE
from being.tts import speak

QUESTION = "When do the trains run?"
REPLY = "Well, that is easy to say. The trains run every ten minutes until midnight."
# Delays of the stand-ins, s: of a transcript, of a reply's first piece, and between its pieces.
DELAYS = {"transcript_s": 0.3, "first_word_s": 0.4, "word_s": 0.03}
CHUNK = round(0.02 * RATE)
NOISE = 30  # amplitude of a quiet room, of 32767
PAUSE_S = 1.0  # between two turns


@dataclasses.dataclass
class Turn:
    """Moments of one turn, s (time.perf_counter)."""

    last_sound: float = 0.0  # the last sample of speech was sent
    end: float = 0.0  # the server says that the speech has ended
    first_sound: float = 0.0
    first_picture: float = 0.0


def bench_conversation(options: LiveBenchOptions) -> dict[str, Any]:
    """All figures (JSON types). Raises as `Supervisor.start`."""
    speech = speak(QUESTION)
    samples = resample(speech.samples, speech.rate, RATE)
    audible = np.flatnonzero(np.abs(samples) > 0.01)
    question = (samples[: audible[-1]].clip(-1, 1) * 32767).astype(np.int16)
    with StandIns(reply=REPLY) as stand_ins, tempfile.TemporaryDirectory() as name:
        talk = TalkOptions(stand_ins.url, transcribe=stand_ins.url)
        options = dataclasses.replace(options, talk=talk)
        with live_server(options, Path(name)) as supervisor:
            url = f"ws://127.0.0.1:{supervisor.port}/session"
            result = {**setup_facts(options, supervisor), "pause_s": END_S, "early_s": EARLY_S}
            for part, delays in (("own_share", {}), ("with_stand_ins", DELAYS)):
                for field in DELAYS:
                    setattr(stand_ins, field, delays.get(field, 0.0))
                turns = asyncio.run(_turns(url, question, options.repeats))
                result[part] = {"delays": delays, **without_series(_figures(turns))}
    return result


async def _turns(url: str, question: np.ndarray, repeats: int) -> list[Turn]:
    """Ask the question `repeats` times in one session; the first time is not counted."""
    client = BenchClient(url)
    await client.open()
    await client.send({"type": "converse"})
    microphone = _Microphone(client)
    pushing = asyncio.create_task(microphone.run())
    turns = []
    try:
        for number in range(repeats + 1):
            turn = await asyncio.wait_for(_turn(client, microphone, question), 30)
            if number:
                turns.append(turn)
    finally:
        pushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pushing
        await client.close()
    return turns


async def _turn(client: BenchClient, microphone: _Microphone, question: np.ndarray) -> Turn:
    """One question and the beginning of its answer."""
    turn, first = Turn(), None
    until = time.perf_counter() + PAUSE_S
    while time.perf_counter() < until:
        await client.receive()
    microphone.say(question)
    while not turn.first_picture:
        message, now = await client.receive()
        if is_event(message, "error"):
            raise RuntimeError(f"{message['what']}: {message['why']}")
        if is_event(message, "hearing") and not message["on"]:
            turn.end, turn.last_sound = now, microphone.said
        elif isinstance(message, tuple) and turn.end:
            packet, payload = message
            if packet.kind is Kind.PCM and first is None:
                first = audible_from(packet, payload)
                turn.first_sound = now if first is not None else 0.0
            elif is_picture(message) and first is not None and packet.timestamp + FRAME > first:
                turn.first_picture = now
    return turn


class _Microphone:
    """Sends the sound of a quiet room, and what is said, in real time."""

    def __init__(self, client: BenchClient):
        self._client, self._speech = client, np.zeros(0, np.int16)
        self.said = 0.0  # when the last sample of speech was sent, s

    def say(self, speech: np.ndarray) -> None:
        """Speech int16 [n] at 24 kHz comes next."""
        self._speech = speech

    async def run(self) -> None:
        """Send for ever."""
        assert self._client.socket is not None
        dice, start, count = np.random.default_rng(0), time.perf_counter(), 0
        while True:
            count += 1
            await asyncio.sleep(max(0.0, start + count * CHUNK / RATE - time.perf_counter()))
            chunk = dice.normal(0, NOISE, CHUNK)
            part, self._speech = self._speech[:CHUNK], self._speech[CHUNK:]
            chunk[: part.size] += part
            head = HEADER.pack(Kind.PCM, Flag.LIVE, RATE, self._client.epoch, 0, CHUNK)
            await self._client.socket.send(head + chunk.clip(-32768, 32767).astype("<i2").tobytes())
            if part.size:
                self.said = time.perf_counter()


def _figures(turns: list[Turn]) -> dict[str, Any]:
    return {
        "to_first_sound": summary([turn.first_sound - turn.end for turn in turns]),
        "to_first_picture": summary([turn.first_picture - turn.end for turn in turns]),
        "from_last_sound_to_first_sound": summary(
            [turn.first_sound - turn.last_sound for turn in turns]
        ),
    }

"""Clients that draw by themselves: coefficients, switches, refusals, and the bundle they load."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from live_client import LiveClient
from live_server import LocalServer

from being.api.limits import Access
from being.api.packets import MOST_DRAWN, Flag, Kind, Packet, unpack_coefficients
from being.data.mouth import CODE_GAIN
from being.face.mouth_code import MOUTH_CHANNELS
from being.session.live_session import ONSET_FRAMES
from being.session.speech_source import SpeechSource, pcm16_to_float
from being.session.timeline import FRAME

# Speech-like sound: a tone that comes and goes; int16 at 24 kHz.
_TIMES = np.arange(24_000) / 24_000
LOUD = (9000 * np.sin(1400 * _TIMES) * np.sin(25 * _TIMES)).astype(np.int16)
CHUNK = 1920
CLIENT = {"render": "client"}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """Its coefficients depend on the mouth code alone: blinks and poses would hide what is said."""
    with LocalServer(drawn=True) as started:
        assert started.facts.net is not None
        started.facts.net.layers[0][0][:, len(MOUTH_CHANNELS) :] = 0
        yield started


def run(talk: Any) -> Any:
    return asyncio.run(asyncio.wait_for(talk, 60))


def drawn(client: LiveClient) -> list[tuple[Packet, int, int, np.ndarray]]:
    """Packet, time, pose and coefficients of each frame that came."""
    frames = []
    for _, packet, content in client.media(Kind.COEFFICIENTS):
        own = unpack_coefficients(packet, content)
        assert 1 <= len(own) <= MOST_DRAWN
        frames += [
            (packet, packet.timestamp + k * FRAME, pose, values)
            for k, (pose, values) in enumerate(own)
        ]
    return frames


def coefficients_of_speech(server: LocalServer) -> np.ndarray:
    """The coefficients [F, K] of LOUD, by the stream of a single session."""
    facts = server.facts
    assert facts.net is not None
    source = SpeechSource(facts.stream(), 24_000, facts.silent_row[0])
    blocks = [*source.push(pcm16_to_float(LOUD.tobytes())), *source.finish()]
    codes = np.concatenate([block.rows for block in blocks])[:, 0] / CODE_GAIN
    channels = np.zeros((len(codes), len(facts.motion.channels)), np.float32)
    return facts.net.coefficients(codes.astype(np.float32), channels, np.zeros(len(codes), int))


async def speak(client: LiveClient) -> None:
    for start in range(0, LOUD.size, CHUNK):
        await client.send_sound(LOUD[start : start + CHUNK])
    await client.send({"type": "speak_end"})


def test_a_client_that_draws_gets_sound_and_coefficients(server: LocalServer) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url, CLIENT) as client:
            await client.listen(0.3)
            await speak(client)
            await client.until("speaking_ended")
            await client.listen(0.3)
            await client.send({"type": "stats"})
            await client.until("stats")
            return client

    client = run(talk())
    ready, bases = client.ready, server.engine.avatar.bases
    assert bases is not None
    assert ready["render"] == "client" and ready["watermark"] is False
    assert ready["drawing"] == {"bases": bases.count, "bundle": "web-avatars/web/"}
    assert ready["manifest"]["watermark"] is None
    assert ready["ai_generated"] is True and ready["consent"]["given"] is True
    assert not client.media(Kind.H264, Kind.JPEG)

    frames = drawn(client)
    times = [at for _, at, _, _ in frames]
    assert times == sorted(set(times)) and all(at % FRAME == 0 for at in times)
    sound = {packet.timestamp for _, packet, _ in client.media(Kind.PCM)}
    assert set(times) <= sound and len(times) > 0.9 * len(sound)
    assert all(values.shape == (bases.count,) for *_, values in frames)
    steps = [abs(b - a) for (_, _, a, _), (_, _, b, _) in itertools.pairwise(frames)]
    assert max(steps) <= 2 and max(pose for *_, pose, _ in frames) < server.engine.avatar.pose_count

    # At rest the coefficients stand still; of speech they are those of its mouth codes.
    resting = np.stack([values for packet, *_, values in frames if not packet.flags & Flag.SPEECH])
    assert np.abs(resting[:4] - resting[0]).max() < 1e-3
    (started,) = client.messages("speaking_started")
    expected = coefficients_of_speech(server)
    found = [
        np.abs(values - expected[number]).max() < 0.01
        for packet, at, _, values in frames
        if packet.flags & Flag.SPEECH
        and ONSET_FRAMES <= (number := (at - started["at"]) // FRAME) < len(expected)
    ]
    assert len(found) > 10 and np.mean(found) > 0.6, found
    assert expected.std(0).max() > 0.05
    stats = client.messages("stats")[-1]
    assert stats["frames_sent"] >= len(frames) > 20
    assert server.settled()


def test_an_interrupt_empties_what_waits(server: LocalServer) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url, CLIENT) as client:
            await speak(client)
            await client.until(lambda m: isinstance(m, tuple) and m[0].flags & Flag.SPEECH)
            await client.send({"type": "interrupt"})
            await client.until("interrupted")
            await client.listen(0.4)
            return client

    client = run(talk())
    cut = next(k for k, (_, m) in enumerate(client.log) if m == client.messages("interrupted")[0])
    later = [m[0] for _, m in client.log[cut:] if isinstance(m, tuple)]
    assert later and all(packet.epoch == client.epoch for packet in later)
    assert not any(packet.flags & Flag.SPEECH for packet in later)
    assert any(packet.kind is Kind.COEFFICIENTS for packet in later)


def test_a_session_changes_between_client_and_server(server: LocalServer) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url, CLIENT) as client:
            await client.send({"type": "speak", "text": "A sentence of some length, said twice."})
            await client.until("speaking_started")
            for render in ("server", "client", "client"):
                await client.send({"type": "render", "render": render})
                message = await client.until("render")
                assert message["render"] == render and message["watermark"] is False
                await client.listen(0.3)
            await client.until("speaking_ended")
            return client

    client = run(talk())
    kinds = [
        (packet.kind, packet.flags) for _, packet, _ in client.media(Kind.H264, Kind.COEFFICIENTS)
    ]
    order = [kind for kind, _ in itertools.groupby(kind for kind, _ in kinds)]
    assert order == [Kind.COEFFICIENTS, Kind.H264, Kind.COEFFICIENTS]
    first = next(flags for kind, flags in kinds if kind is Kind.H264)
    assert first & Flag.KEY
    sound = [packet for _, packet, _ in client.media(Kind.PCM)]
    for before, after in itertools.pairwise(sound):
        assert after.timestamp == before.timestamp + before.length
    # Sound and words went on through the changes.
    words = [word["text"] for m in client.messages("words") for word in m["words"]]
    assert words == ["A", "sentence", "of", "some", "length,", "said", "twice."]
    assert server.settled()


def test_a_session_of_the_server_can_become_one_whose_client_draws(server: LocalServer) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            assert client.ready["render"] == "server" and client.ready["drawing"]
            await client.send({"type": "render", "render": "client"})
            await client.until("render")
            await speak(client)
            await client.until("speaking_ended")
            return client

    assert any(packet.flags & Flag.SPEECH for packet, *_ in drawn(run(talk())))
    assert server.settled()


def test_an_avatar_without_bases_is_refused_with_the_way_to_add_them() -> None:
    async def talk(url: str) -> None:
        async with LiveClient(url, CLIENT) as client:
            (error,) = client.messages("error")
            assert error["code"] == "not_drawable" and error["fatal"] is True
            assert "being export AVATAR --bases" in error["fix"]
        async with LiveClient(url) as client:
            assert client.ready["drawing"] is None
            await client.send({"type": "render", "render": "client"})
            error = await client.until("error")
            assert error["code"] == "not_drawable" and error["fatal"] is False
            await client.send({"type": "stats"})
            await client.until("stats")

    with LocalServer() as server:
        run(talk(server.url))
        assert server.settled()


def test_sessions_over_the_limit_are_refused_and_a_session_goes_on(server: LocalServer) -> None:
    limit = server.process.drawn_admission.limit

    async def talk() -> None:
        async with LiveClient(server.url) as other:
            clients = [LiveClient(server.url, CLIENT) for _ in range(limit)]
            for client in clients:
                await client.open()
                assert client.ready
            async with LiveClient(server.url, CLIENT) as late:
                (error,) = late.messages("error")
                assert error["code"] == "full" and error["fatal"]
            # Those that the server renders have places of their own.
            await other.send({"type": "render", "render": "client"})
            error = await other.until("error")
            assert error["code"] == "full" and not error["fatal"] and error["about"] == "render"
            await other.until(lambda m: isinstance(m, tuple) and m[0].kind is Kind.H264)
            for client in clients:
                await client.__aexit__()

    run(talk())
    assert server.settled()


def test_the_bundle_needs_the_token_and_the_origin(server: LocalServer) -> None:
    address = f"{server.http}/web-avatars/web/"
    manifest = httpx.get(f"{address}manifest.json")
    assert manifest.status_code == 200 and manifest.json()["name"] == "web"
    assert httpx.get(f"{server.http}/web-avatar-modules/renderer.js").status_code == 200
    assert httpx.get(f"{address}..%2Findex.html").status_code == 404
    assert httpx.get(f"{server.http}/web-avatars/other/manifest.json").status_code == 404
    stranger = httpx.get(f"{address}tensors.bin", headers={"Origin": "https://elsewhere.example"})
    assert stranger.status_code == 403 and stranger.json()["code"] == "wrong_origin"

    open_access, server.front.access = server.front.access, Access(token="secret")
    try:
        assert httpx.get(f"{address}tensors.bin").json()["code"] == "wrong_token"
        assert httpx.get(f"{address}tensors.bin?token=secret").status_code == 200
    finally:
        server.front.access = open_access


def test_the_processor_time_is_counted_by_part(server: LocalServer) -> None:
    async def talk() -> None:
        async with LiveClient(server.url, CLIENT) as client:
            await speak(client)
            await client.until("speaking_ended")

    run(talk())
    spent = server.front.coefficients.spent
    assert spent.encoder > 0 and spent.net > 0 and spent.sending > 0

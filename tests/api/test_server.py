"""The live server over a real socket: sessions, interrupts, limits, refusals, faults of clients."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bad_clients import deaf_client, killed_client
from live_client import LiveClient
from live_server import LocalServer, LoudnessFeatures
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from being.api.limits import Access, Limits
from being.api.packets import HEADER, Flag, Kind
from being.media.live_video import LivePictureDecoder, read_marks
from being.session.timeline import FRAME

FAST = Limits(start_s=0.5, audio_seconds=5.0)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(limits=FAST) as started:
        yield started


def run(talk: Any) -> Any:
    return asyncio.run(asyncio.wait_for(talk, 60))


def check_media(client: LiveClient) -> None:
    """Sound without a gap in each epoch, epochs in order, each begins with a key frame."""
    sound = [packet for _, packet, _ in client.media(Kind.PCM)]
    for before, after in itertools.pairwise(sound):
        assert after.epoch >= before.epoch
        if after.epoch == before.epoch:
            assert after.timestamp == before.timestamp + before.length
    seen = set()
    for _, packet, _ in client.media(Kind.H264, Kind.JPEG):
        if packet.epoch not in seen:
            assert packet.flags & Flag.KEY, "an epoch begins with a picture that needs others"
        seen.add(packet.epoch)


@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_a_text_is_spoken_with_captions_sound_and_pictures(server: LocalServer, codec: str) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url, {"video": codec}) as client:
            await client.listen(0.3)
            await client.send(
                {"type": "speak", "text": "Hello there, my friend.", "utterance": "u"}
            )
            await client.until("speaking_ended")
            await client.listen(0.4)
            await client.send({"type": "stats"})
            await client.until("stats")
            return client

    client = run(talk())
    check_media(client)
    ready = client.ready
    assert ready["ai_generated"] is True and "AI-generated" in ready["notice"]
    assert ready["consent"] == {"given": True, "note": "Consent: agreed"}
    assert ready["watermark"] is False and ready["manifest"]["session"] == ready["session"]
    assert ready["video"]["codec"] == codec and ready["width"] == 32

    # The sound is the voice's, at the time that was told.
    (started,), (ended,) = client.messages("speaking_started"), client.messages("speaking_ended")
    spoken = [m for m in client.media(Kind.PCM) if m[1].flags & Flag.SPEECH]
    assert spoken[0][1].timestamp == started["at"]
    assert spoken[-1][1].timestamp + FRAME == ended["at"]
    samples = np.concatenate([np.frombuffer(content, "<i2") for _, _, content in spoken])
    assert np.abs(samples).max() == pytest.approx(0.3 * 32767, rel=0.02)
    words = [word for message in client.messages("words") for word in message["words"]]
    assert [word["text"] for word in words] == ["Hello", "there,", "my", "friend."]
    assert words[0]["start"] - started["at"] == pytest.approx(0, abs=600)

    # Every picture can be decoded, has its own time and its mark.
    decoder, times = LivePictureDecoder(codec), []
    for _, packet, content in client.media(Kind.H264, Kind.JPEG):
        picture = decoder.decode(content)
        assert picture is not None and picture.shape == (32, 32, 3)
        (mark,) = read_marks(content)
        assert mark["t"] == packet.timestamp and mark["consent"] is True
        times.append(packet.timestamp)
    assert times == sorted(set(times)) and all(at % FRAME == 0 for at in times)
    stats = client.messages("stats")[-1]
    assert stats["frames_sent"] >= len(times) and stats["first_sound_ms"] < 1000
    assert [state["state"] for state in client.messages("state")] == ["speaking", "idle"]


def test_text_that_comes_in_pieces_is_one_utterance(server: LocalServer) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            for piece in ("Hello the", "re, one. Two and", " three", "."):
                await client.send({"type": "speak", "text": piece, "more": True})
            await client.send({"type": "speak_end"})
            await client.until("speaking_ended")
            return client

    client = run(talk())
    words = [word["text"] for m in client.messages("words") for word in m["words"]]
    assert words == ["Hello", "there,", "one.", "Two", "and", "three."]
    assert len(client.messages("speaking_started")) == 1
    check_media(client)


def spoken_words(server: LocalServer, messages: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """The words of one utterance and their times, in samples from its start."""

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            for message in messages:
                await client.send(message)
            await client.until("speaking_ended")
            return client

    client = run(talk())
    (started,) = client.messages("speaking_started")
    words = [word for m in client.messages("words") for word in m["words"]]
    return [(w["text"], w["start"] - started["at"], w["end"] - started["at"]) for w in words]


def test_markdown_and_pauses_are_read_in_whole_texts_and_in_pieces(server: LocalServer) -> None:
    text = "[pause 0.4] Go **on**\n- two [pause 0.5] three <b>four</b>"
    pieces = [text[k : k + 5] for k in range(0, len(text), 5)]
    end = {"type": "speak_end"}
    for messages in (
        [{"type": "speak", "text": text}],
        [*({"type": "speak", "text": piece, "more": True} for piece in pieces), end],
    ):
        words = spoken_words(server, messages)
        said = [word.strip(".") for word, _, _ in words]
        assert said == ["Go", "on", "two", "three", "four"]
        by_name = {word.strip("."): (start, end) for word, start, end in words}
        assert words[0][1] == pytest.approx(0.4 * 24_000, abs=600)
        gap = by_name["three"][0] - by_name["two"][1]
        assert 0.5 * 24_000 <= gap < 0.7 * 24_000


def test_a_pause_that_cannot_be_used_is_refused_and_the_utterance_ends(server: LocalServer) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            await client.send({"type": "speak", "text": "Hello [pause 99] there"})
            assert (await client.until("error"))["code"] == "text_rejected"
            await client.send({"type": "speak", "text": "Hello, one. ", "more": True})
            await client.send({"type": "speak", "text": "Two [pause 3"})
            assert "no end" in (await client.until("error"))["why"]
            await client.until("speaking_ended")
            return client

    client = run(talk())
    assert [w["text"] for m in client.messages("words") for w in m["words"]][:1] == ["Hello,"]


def test_features_that_come_late_hold_up_neither_this_text_nor_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Features at a tenth of real time: the sound goes on, and ends when it should."""
    push = LoudnessFeatures.push

    def slow(self: LoudnessFeatures, samples: np.ndarray) -> np.ndarray:
        time.sleep(10 * samples.size / 16_000)
        return push(self, samples)

    monkeypatch.setattr(LoudnessFeatures, "push", slow)

    async def talk() -> list[float]:
        spent = []
        async with LiveClient(server.url) as client:
            for _ in range(2):
                start = time.perf_counter()
                await client.send({"type": "speak", "text": "A sentence of two seconds, or so."})
                await client.until("speaking_ended")
                spent.append(time.perf_counter() - start)
            check_media(client)
        return spent

    with LocalServer() as server:
        spent = run(talk())
        assert server.settled()
    # 1.65 s of sound; the first row of features takes 1.6 s, all of them 16 s.
    assert max(spent) < 8, spent


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_sound_of_any_rate_comes_back_with_pictures(server: LocalServer, rate: int) -> None:
    tone = (9000 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate)).astype(np.int16)

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            for start in range(0, rate, rate // 50):
                await client.send_sound(tone[start : start + rate // 50], rate)
                await asyncio.sleep(0.01)
            await client.send({"type": "speak_end"})
            await client.until("speaking_ended")
            return client

    client = run(talk())
    check_media(client)
    spoken = [m for m in client.media(Kind.PCM) if m[1].flags & Flag.SPEECH]
    samples = np.concatenate([np.frombuffer(content, "<i2") for _, _, content in spoken])
    assert len(samples) == 25 * FRAME
    spectrum = np.abs(np.fft.rfft(samples[2000:22_000]))
    assert spectrum.argmax() * 24_000 / 20_000 == pytest.approx(300, abs=2)


def test_after_an_interrupt_nothing_of_the_old_epoch_comes(server: LocalServer) -> None:
    random = np.random.default_rng(0)

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            for k in range(25):
                text = "A long sentence that goes on and on, until somebody stops it."
                await client.send({"type": "speak", "text": text, "utterance": f"u{k}"})
                await client.listen(float(random.uniform(0, 0.3)))
                heard = {"epoch": client.epoch, "samples": client.ready["at"]}
                await client.send({"type": "interrupt", "heard": heard})
                message = await client.until("interrupted")
                assert message["utterance"] in (f"u{k}", None) and message["epoch"] == k + 1
            await client.listen(0.2)
            return client

    client = run(talk())
    epoch = 0
    for _, message in client.log:
        if isinstance(message, tuple):
            assert message[0].epoch == epoch, "media of an old epoch"
        elif message["type"] == "interrupted":
            epoch = message["epoch"]
    check_media(client)


def test_the_session_lives_on_after_every_malformed_message(server: LocalServer) -> None:
    pcm = HEADER.pack(Kind.PCM, 0, 24_000, 0, 0, 2)
    bad: list[tuple[str | bytes, str]] = [
        ("no json", "bad_json"),
        ("[1]", "bad_json"),
        ("[" * 5000, "bad_json"),
        ('{"a": 1}', "unknown_type"),
        ('{"type": "sing"}', "unknown_type"),
        ('{"type": ["speak"]}', "unknown_type"),
        ('{"type": "speak"}', "bad_message"),
        ('{"type": "speak", "text": 3}', "bad_message"),
        ('{"type": "speak", "text": "a", "speed": NaN}', "bad_message"),
        ('{"type": "speak", "text": "a", "loud": true}', "bad_message"),
        ('{"type": "speak", "text": ""}', "text_rejected"),
        ('{"type": "speak", "text": "\\ud800"}', "text_rejected"),
        ('{"type": "speak", "text": "unspeakable"}', "text_rejected"),
        (json.dumps({"type": "speak", "text": "a " * 50_000}), "too_large"),
        ('{"type": "speak", "text": "a", "voice": "nobody"}', "unknown_voice"),
        ('{"type": "speak_end"}', "nothing_open"),
        ('{"type": "expression", "mood": "furious"}', "unknown_mood"),
        ('{"type": "expression", "values": {"ears": 1.0}}', "unknown_expression"),
        ('{"type": "pose", "mode": "hold", "at": 7}', "bad_message"),
        ('{"type": "start"}', "already_started"),
        (b"", "bad_packet"),
        (b"\x09" * 40, "bad_packet"),
        (pcm + b"\0\0\0", "bad_packet"),
        (pcm + b"\0" * 5, "bad_packet"),
        (HEADER.pack(Kind.PCM, 0, 44_100, 0, 0, 2) + b"\0" * 4, "bad_packet"),
        (HEADER.pack(Kind.H264, 0, 0, 0, 0, 2) + b"\0" * 4, "bad_packet"),
        (HEADER.pack(Kind.PCM, 0xE0, 24_000, 0, 0, 2) + b"\0" * 4, "bad_packet"),
    ]

    async def talk() -> None:
        async with LiveClient(server.url) as client:
            assert client.socket is not None
            for message, code in bad:
                await client.socket.send(message)
                error = await client.until("error")
                assert error["code"] == code, (message[:60], error)
                assert error["what"] and (error["why"] or error["fix"]) and not error["fatal"]
            await client.send({"type": "speak", "text": "Still here."})
            await client.until("speaking_ended")
            # While it speaks: no second text, and no sound between.
            await client.send({"type": "speak", "text": "One sentence, a long one."})
            await client.until("speaking_started")
            await client.send({"type": "speak", "text": "Another one."})
            assert (await client.until("error"))["code"] == "already_speaking"
            await client.send_sound(np.zeros(480, np.int16))
            assert (await client.until("error"))["code"] == "already_speaking"
            await client.until("speaking_ended")

    run(talk())
    assert server.settled()


def test_too_much_sound_is_refused_and_messages_that_come_too_fast(server: LocalServer) -> None:
    async def talk() -> None:
        async with LiveClient(server.url) as client:
            second = np.zeros(24_000, np.int16)
            for _ in range(8):
                await client.send_sound(second)
            assert (await client.until("error"))["code"] == "too_much_audio"
            await client.send({"type": "interrupt"})
            await client.until("interrupted")
            for _ in range(600):
                await client.send({"type": "listen", "on": True})
            assert (await client.until("error"))["code"] == "too_fast"
            await asyncio.sleep(0.5)
            await client.send({"type": "stats"})
            await client.until("stats")

    run(talk())


async def _fatal(url: str, **settings: Any) -> tuple[dict[str, Any], int]:
    """The error and the close code of a client that may not connect."""
    client = LiveClient(url, **settings)
    await client.open()
    assert client.socket is not None
    with pytest.raises(ConnectionClosed) as closed:
        for _ in range(10):
            await client.receive(3)
    (error,) = client.messages("error")
    assert error["fatal"] and closed.value.rcvd is not None
    return error, closed.value.rcvd.code


def test_who_may_not_connect_is_told_why(server: LocalServer) -> None:
    error, code = run(_fatal(server.url, start={"avatar": "nobody"}))
    assert (error["code"], code) == ("unknown_avatar", 4404) and "tiny" in error["fix"]
    error, code = run(_fatal(server.url, origin="https://evil.example"))
    assert (error["code"], code) == ("wrong_origin", 4403)
    assert "--allow-origin https://evil.example" in error["fix"]
    error, code = run(_fatal(server.url, start={"type": "stats"}))
    assert (error["code"], code) == ("no_start", 4400)
    error, code = run(_fatal(server.url, start={"mood": "furious"}))
    assert (error["code"], code) == ("unknown_mood", 4400)
    # A page of this machine, and a program without an origin, may.
    for origin in (f"http://localhost:{server.port}", None):
        run(_greet(server.url.replace("127.0.0.1", "localhost"), origin=origin))


async def _greet(url: str, **settings: Any) -> dict[str, Any]:
    async with LiveClient(url, **settings) as client:
        assert client.ready, client.log
        return client.ready


def test_a_client_that_says_nothing_is_closed(server: LocalServer) -> None:
    async def wait() -> None:
        async with connect(server.url, proxy=None) as silent:
            assert json.loads(await silent.recv())["code"] == "idle_timeout"
            with pytest.raises(ConnectionClosed):
                await silent.recv()

    run(wait())


def test_a_token_and_a_full_house() -> None:
    access = Access(token="secret")
    with LocalServer(access=access, sessions=2) as guarded:
        for url in (guarded.url, guarded.url + "?token=wrong"):
            error, code = run(_fatal(url))
            assert (error["code"], code) == ("wrong_token", 4401)
        error, _ = run(_fatal(guarded.url, start={"token": "no"}))
        assert error["code"] == "wrong_token"
        # A page behind a proxy: its host is in X-Forwarded-Host.
        run(
            _greet(
                guarded.url + "?token=secret",
                origin="https://proxy.example",
                headers={"X-Forwarded-Host": "proxy.example"},
            )
        )

        async def fill() -> None:
            async with LiveClient(guarded.url, {"token": "secret"}) as first:
                async with LiveClient(guarded.url + "?token=secret") as second:
                    assert first.ready and second.ready
                    error, code = await _fatal(guarded.url + "?token=secret")
                    assert (error["code"], code) == ("full", 4429)
                await asyncio.sleep(0.3)
                await _greet(guarded.url + "?token=secret")

        run(fill())
        assert guarded.settled()


def test_messages_that_come_before_ready_are_taken_in_order(server: LocalServer) -> None:
    async def talk() -> list[Any]:
        async with connect(server.url, compression=None, proxy=None) as client:
            for message in ('{"type": "start"}', "no json", HEADER.pack(9, 0, 0, 0, 0, 0)):
                await client.send(message)
            await client.send('{"type": "listen", "on": true}')
            await client.send('{"type": "stats"}')
            told: list[Any] = []
            while not told or told[-1]["type"] != "stats":
                content = await client.recv()
                if isinstance(content, str):
                    told.append(json.loads(content))
            return told

    told = run(talk())
    names = [message.get("code", message["type"]) for message in told]
    assert [name for name in names if name != "state"] == [
        "ready",
        "bad_json",
        "bad_packet",
        "stats",
    ]


def test_a_client_that_never_reads_sheds_pictures_and_is_let_go() -> None:
    """Its neighbour stays on time."""
    with LocalServer(limits=Limits(slow_s=1.0, queued_bytes=1 << 20)) as server:
        never_read(server)
        assert server.settled()


def never_read(server: LocalServer) -> None:
    """A client that never reads, beside one that does."""
    raw = deaf_client(server.port)

    async def neighbour() -> LiveClient:
        async with LiveClient(server.url) as client:
            deadline = time.monotonic() + 20
            while len(server.front.connections) < 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            # The kernel holds some megabytes for the silent client: fill them.
            for connection in list(server.front.connections):
                for _ in range(200):
                    content = bytes(1 << 16)
                    if connection.id != client.ready["session"]:
                        connection.outbox.put_media(content, 0, False, connection.front.now())
            await client.listen(3.0)
            return client

    client = run(neighbour())
    assert len(client.media(Kind.H264)) > 60
    # It was let go: its connection is gone on the server's side, though it is open here. That of
    # the neighbour may still be closing.
    left = {connection.id for connection in server.front.connections}
    assert left <= {client.ready["session"]}
    raw.close()


def test_killed_and_half_open_clients_leave_nothing(server: LocalServer) -> None:
    async def vanish() -> None:
        for number in range(10):
            await killed_client(server.url, bool(number % 2))

    run(vanish())
    assert server.settled()


def test_a_session_goes_on_when_the_render_process_comes_back() -> None:
    with LocalServer() as restarted:

        async def talk() -> LiveClient:
            async with LiveClient(restarted.url) as client:
                await client.listen(0.3)
                await asyncio.to_thread(restarted.stop_renderer)
                error = await client.until("error")
                assert error["code"] == "render_lost" and not error["fatal"]
                await client.listen(0.3)
                before = len(client.media(Kind.H264))
                await asyncio.to_thread(restarted.start_renderer)
                await client.send({"type": "speak", "text": "I am back, all the same."})
                await client.until("speaking_ended")
                await client.listen(0.2)
                assert len(client.media(Kind.H264)) > before + 10
                return client

        client = run(talk())
        check_media(client)
        assert len(client.media(Kind.PCM)) > 30
        assert restarted.settled()


def test_a_session_is_resumed_by_what_the_client_kept(server: LocalServer) -> None:
    async def talk() -> None:
        async with LiveClient(server.url) as client:
            await client.send({"type": "pose", "mode": "hold", "at": 1.0})
            await client.listen(0.5)
            await client.send({"type": "interrupt"})
            kept = (await client.until("interrupted"))["resume"]
        async with LiveClient(server.url, {"resume": kept, "avatar": kept["avatar"]}) as again:
            assert again.ready["resumed"] and again.ready["session"] == client.ready["session"]
            assert again.ready["epoch"] == kept["epoch"] + 1 and again.ready["at"] >= kept["at"]
            assert again.ready["resume"]["hold"] and again.ready["resume"]["phase"] == 4
            await again.listen(0.3)
            check_media(again)

    run(talk())


def test_http_answers(server: LocalServer) -> None:
    info = httpx.get(server.http + "/info").json()
    assert info["avatars"] == ["tiny"] and info["token_needed"] is False
    health = httpx.get(server.http + "/health")
    assert health.status_code == 200 and health.json()["ok"]
    metrics = httpx.get(server.http + "/metrics").text
    assert "being_frames_sent_total" in metrics and "being_sessions " in metrics
    page = httpx.get(server.http + "/")
    assert page.status_code == 200 and page.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(server.http + "/../../etc/passwd").status_code == 404
    assert httpx.post(server.http + "/health").status_code == 405


def test_the_page_is_served_with_its_modules(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>being</title>")
    (tmp_path / "main.js").write_text("export const a = 1;")
    with LocalServer(page=tmp_path) as served:
        assert "being" in httpx.get(served.http + "/?token=x").text
        script = httpx.get(served.http + "/main.js")
        assert "javascript" in script.headers["content-type"]
        assert httpx.get(served.http + "/health").json()["ok"]

"""Voices: speech of the text, true word times, and refusals of text that a voice cannot say."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import stat
import sys
import threading

import av
import numpy as np
import pytest

from being.errors import BeingError, EnvironmentFault, InputRejected, UsageError
from being.media.resampling import resample
from being.tts import Speech, edge_voice, espeak_voice, speak, voices

TEXT = "Hello, and welcome. I am a synthetic person; my mother bought five big blue boxes."


# --- the built-in voice
# -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hello() -> Speech:
    pytest.importorskip("hibari")
    return speak(TEXT)


def test_the_built_in_voice_speaks_at_a_human_pace_and_level(hello):
    assert hello.rate == 24_000 and hello.samples.dtype == np.float32 and hello.samples.ndim == 1
    assert 4 < hello.seconds < 10  # 15 words
    assert 0.1 < np.abs(hello.samples).max() < 1 and hello.samples.std() > 0.01
    assert hello.unspoken == ""
    again = speak(TEXT)
    assert np.array_equal(again.samples, hello.samples) and again.words == hello.words


def test_word_times_agree_with_the_audio(hello):
    said = [word for word, _, _ in hello.words]
    assert said == TEXT.translate(str.maketrans("", "", ",.;")).split()
    times = np.array([(start, end) for _, start, end in hello.words])
    assert (times[:, 1] > times[:, 0]).all() and (times[1:, 0] >= times[:-1, 1]).all()
    assert 0 <= times[0, 0] and times[-1, 1] <= hello.seconds
    level = np.sqrt(np.convolve(np.square(hello.samples), np.ones(480) / 480, "same"))
    inside = np.zeros(len(level), bool)
    for start, end in times:
        inside[int(start * 24_000) : int(end * 24_000)] = True
    assert np.median(level[inside]) > 20 * np.median(level[~inside])
    pause = level[
        int((times[2, 1] + 0.1) * 24_000) : int((times[3, 0] - 0.1) * 24_000)
    ]  # between the two sentences
    assert len(pause) and pause.max() < 0.1 * level.max()


def test_the_audio_is_that_of_hibari_itself(hello):
    hibari = pytest.importorskip("hibari")
    assert np.array_equal(hello.samples, hibari.Hibari()(TEXT, seed=0))


def test_speed_changes_the_duration_and_the_word_times(hello):
    fast = speak(TEXT, speed=1.5)
    assert 0.55 < fast.seconds / hello.seconds < 0.8
    assert fast.words[-1][2] <= fast.seconds
    for speed in (0.0, 0.4, 3.0, float("nan")):
        with pytest.raises(UsageError):
            speak(TEXT, speed=speed)


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "...", "?! -- \"'", "😀🎉", "\u200b", "\x00\x07", "\udcff"]
)
def test_text_without_words_is_rejected(text):
    with pytest.raises(InputRejected):
        speak(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("你好", "你 好"),
        ("Hello 世界, hello", "世 界"),
        ("Привет", "П р"),
        ("an α helix", "α"),
        ("नमस्ते", "न"),
        ("مرحبا", "م"),
        ("안녕", "안"),
    ],
)
def test_letters_that_the_built_in_voice_would_skip_are_refused_by_name(text, named):
    pytest.importorskip("hibari")
    with pytest.raises(InputRejected) as caught:
        speak(text)
    assert named in caught.value.message() and "edge:NAME" in caught.value.message()


def test_accents_digits_and_symbols_are_read_and_emoji_left_out_with_a_note(hello):
    def words(text):
        return [word for word, _, _ in speak(text).words]

    assert words("café naïve Zürich") == ["café", "naïve", "Zürich"]
    assert words("cafe\u0301") == ["café"] and words("ph\u1edf") == [
        "pho"
    ]  # composed; an accent it does not know
    assert words("\uff11\uff12 \u0663 \u2160") == [
        "12",
        "3",
        "I",
    ]  # full-width, Arabic and Roman digits
    assert len(words("50 % of ½ is ¼")) >= 6
    # A link in Markdown, and no hidden phoneme markup.
    assert words("see [this](/bæd/) page") == ["see", "this", "page"]
    noted = speak("Hello 😀 there 👍🏽 😀 ≠")
    assert [word for word, _, _ in noted.words] == ["Hello", "there"]
    assert noted.unspoken[0] == "😀" and "≠" in noted.unspoken and noted.unspoken.count("😀") == 1


def test_a_sentence_without_an_end_is_cut_between_words(hello):
    speech = speak("one after another " * 60)
    assert len(speech.words) == 180 and [word for word, _, _ in speech.words[:3]] == [
        "one",
        "after",
        "another",
    ]
    assert 40 < speech.seconds < 90


def test_an_unknown_voice_is_a_usage_error():
    for voice in ("nobody", "", "edge", "edge:not a voice", "hibari:emma"):
        with pytest.raises(UsageError):
            speak("Hello", voice)


def test_a_voice_that_returns_silence_is_an_error(monkeypatch):
    for samples in (
        np.zeros(0, np.float32),
        np.zeros(10, np.float32),
        np.full(10, np.nan, np.float32),
    ):
        monkeypatch.setitem(
            voices.VOICES, "espeak", lambda text, name, speed, s=samples: Speech(s, 16_000)
        )
        with pytest.raises(BeingError, match="no usable audio"):
            speak("Hello", "espeak")


# --- online voices, against a stand-in of the service
# -----------------------------------------------------------------


def mp3(seconds: float = 1.0) -> bytes:
    """A 440 Hz tone of half level as the service sends it: MP3, 24 kHz, mono."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=24_000, layout="mono")
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 24_000)) / 24_000)
        frame = av.AudioFrame.from_ndarray(
            tone[None].astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 24_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


class Service:
    """A local web-socket server that speaks the service's protocol; `behave` chooses what it does
    wrong.
    """

    def __init__(self):
        self.requests, self.behave = [], "well"
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    def _run(self):
        from aiohttp import web

        async def start():
            application = web.Application()
            application.router.add_get("/voice", self._answer)
            self.runner = web.AppRunner(application, shutdown_timeout=0.1)
            await self.runner.setup()
            site = web.TCPSite(self.runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"ws://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/voice?token=none"
            self.ready.set()

        self.loop.run_until_complete(start())
        self.loop.run_forever()
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    async def _answer(self, request):
        from aiohttp import web

        if self.behave == "refuse":
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.requests.append((await socket.receive_str(), await socket.receive_str()))
        if self.behave == "stall":
            await asyncio.sleep(30)
        await socket.send_str("X-RequestId:1\r\nPath:turn.start\r\n\r\n{}")
        if self.behave != "mute":
            sound = mp3() if self.behave == "well" else bytes(3000)
            for part in (sound[:1500], sound[1500:]):
                head = b"X-RequestId:1\r\nContent-Type:audio/mpeg\r\nPath:audio\r\n"
                await socket.send_bytes(len(head).to_bytes(2, "big") + head + part)
            for word, start, length in (("Hello", 0.1, 0.3), ("there", 0.45, 0.4)):
                data = {
                    "Offset": int(start * 1e7),
                    "Duration": int(length * 1e7),
                    "text": {"Text": word},
                }
                meta = json.dumps({"Metadata": [{"Type": "WordBoundary", "Data": data}]})
                await socket.send_str(f"X-RequestId:1\r\nPath:audio.metadata\r\n\r\n{meta}")
        await socket.send_str("X-RequestId:1\r\nPath:turn.end\r\n\r\n{}")
        await socket.close()
        return socket


@pytest.fixture
def service(monkeypatch):
    communicate = pytest.importorskip("edge_tts.communicate")
    server = Service()
    monkeypatch.setattr(communicate, "WSS_URL", server.url)
    for name in ("http_proxy", "HTTP_PROXY", "ws_proxy", "WS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.close()


def test_an_online_voice_returns_the_decoded_audio_and_word_times(service):
    speech = speak('Hello there & "you" 你好', "edge:en-US-AriaNeural", 1.25)
    assert speech.rate == 24_000 and speech.samples.dtype == np.float32
    assert speech.seconds == pytest.approx(1, abs=0.1)
    middle = speech.samples[6_000:18_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 24_000 / len(middle) == pytest.approx(440, abs=3)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)
    assert speech.words == [
        ("Hello", pytest.approx(0.1), pytest.approx(0.4)),
        ("there", pytest.approx(0.45), pytest.approx(0.85)),
    ]
    config, ssml = service.requests[0]
    assert '"wordBoundaryEnabled":"true"' in config
    assert "AriaNeural" in ssml and "rate='+25%'" in ssml and 'Hello there &amp; "you" 你好' in ssml
    assert len(resample(speech.samples, speech.rate, 16_000)) == -(-len(speech.samples) * 2 // 3)


def test_an_online_voice_speaks_inside_a_running_event_loop(service):
    async def cell():
        return speak("Hello there", "edge:en-US-AriaNeural")

    assert asyncio.run(cell()).seconds == pytest.approx(1, abs=0.1)
    service.behave = "refuse"
    with pytest.raises(EnvironmentFault, match="503"):
        asyncio.run(cell())


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        ("refuse", EnvironmentFault, "503"),
        ("stall", EnvironmentFault, "no answer"),
        ("garbage", EnvironmentFault, "no audio that can be decoded"),
        ("mute", InputRejected, "returned no audio"),
    ],
)
def test_a_service_that_fails_is_reported_with_its_reason(
    service, monkeypatch, behave, error, words
):
    service.behave = behave
    monkeypatch.setattr(edge_voice, "STALL", 0.5)
    with pytest.raises(error, match=words):
        speak("Hello there", "edge:en-US-AriaNeural")


def test_an_online_voice_without_network_says_so(monkeypatch):
    communicate = pytest.importorskip("edge_tts.communicate")
    monkeypatch.setattr(communicate, "WSS_URL", "ws://127.0.0.1:9/voice?token=none")
    with pytest.raises(EnvironmentFault, match="cannot be reached") as caught:
        speak("Hello there", "edge:en-US-AriaNeural")
    assert "hibari" in caught.value.fix


# --- espeak-ng


STAND_IN = """#!{python}
import sys, wave
words = sys.argv[1:]
text = sys.stdin.buffer.read().decode()
if words[words.index("-v") + 1] == "xx":
    sys.exit("Error: The specified espeak-ng voice does not exist.")
assert "--stdin" in words and text == "-hello \\u00e9", text
rate = int(words[words.index("-s") + 1])
with wave.open(words[words.index("-w") + 1], "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(22050)
    file.writeframes(b"\\x00\\x40" * (22050 * 175 // rate))
"""


@pytest.mark.skipif(os.name == "nt", reason="the stand-in program is a script")
def test_espeak_gets_the_text_and_pace_and_its_errors_are_reported(tmp_path, monkeypatch):
    program = tmp_path / "espeak-ng"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    speech = speak("-hello é", "espeak:fr", 2.0)
    assert speech.rate == 22_050 and speech.words is None and speech.samples[5] == 0.5
    assert speech.seconds == pytest.approx(0.5, abs=0.01)
    with pytest.raises(UsageError, match="no voice 'xx'"):
        speak("-hello é", "espeak:xx")
    with pytest.raises(EnvironmentFault, match="espeak-ng failed"):
        speak("other", "espeak")
    program.unlink()
    with pytest.raises(EnvironmentFault, match="not installed"):
        speak("Hello", "espeak")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_real_espeak_speaks_several_languages():
    for name, text in (
        ("", "Hello, and welcome."),
        ("de", "Guten Morgen zusammen."),
        ("cmn", "你好，欢迎。"),
    ):
        speech = espeak_voice.speak_espeak(text, name, 1.0)
        assert 0.5 < speech.seconds < 5 and 0.05 < np.abs(speech.samples).max() <= 1
    with pytest.raises(UsageError):
        speak("Hello", "espeak:xx")

"""The voice of live text: the language of each clause, one rate, times of words, endpoints."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from being.errors import EnvironmentFault, InputRejected, UsageError
from being.tts import live_voice
from being.tts.live_voice import LIVE_RATE, LiveVoice, estimated_words, slow_voice_note
from being.tts.speech import Speech
from being.tts.speech_endpoint import KEY, URL, check_address, speak_endpoint

GERMAN = "Der nächste Zug nach Köln fährt um zehn, und er ist nicht teuer."


class Voices:
    """Notes which voice says what; a tone of 22,050 Hz."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def __call__(self, text: str, voice: str, speed: float) -> Speech:
        self.said.append((voice, text))
        return Speech(np.sin(np.arange(22_050) / 9).astype(np.float32), 22_050)


def says(*texts: str, voice: str = "hibari", user: str = "", espeak: bool = True) -> list[Speech]:
    voices = Voices()
    live = LiveVoice(voices, espeak)
    if user:
        live.user_wrote(user)
    found = [live(text, voice, 1.0) for text in texts]
    says.voices = [name for name, _ in voices.said]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("texts", "user", "voices"),
    [
        (("Well, it is late.", "Good night."), "", ["hibari", "hibari"]),
        (("Guten Tag!", GERMAN, "Gute Fahrt!"), "", ["hibari", "espeak:de", "espeak:de"]),
        (("Guten Tag!", GERMAN), GERMAN, ["espeak:de", "espeak:de"]),
        (("Sure, I can help you with it.",), GERMAN, ["hibari"]),
        (("你好，我很高兴。",), "", ["espeak:cmn"]),
        (("Привет, как дела?",), "", ["espeak:ru"]),
    ],
)
def test_each_clause_gets_a_voice_that_speaks_its_language(
    texts: tuple[str, ...], user: str, voices: list[str]
) -> None:
    says(*texts, user=user)
    assert says.voices == voices  # type: ignore[attr-defined]


def test_another_voice_is_told_once() -> None:
    spoken = says(GERMAN, GERMAN, "And now it is in English, as you can hear.")
    assert [len(speech.notes) for speech in spoken] == [1, 0, 0]
    assert "German" in spoken[0].notes[0] and "espeak:de" in spoken[0].notes[0]


def test_a_language_without_a_voice_is_refused() -> None:
    with pytest.raises(InputRejected, match="no voice here speaks German"):
        says(GERMAN, espeak=False)
    # A voice of many languages, or of this one, says it.
    says(GERMAN, voice="speech:alloy", espeak=False)
    says(GERMAN, voice="edge:de-DE-KatjaNeural", espeak=False)


def test_all_voices_have_one_rate_and_times_of_words() -> None:
    (speech,) = says("One two three.")
    assert speech.rate == LIVE_RATE and speech.samples.size == LIVE_RATE
    assert speech.words is not None and [word for word, _, _ in speech.words] == [
        "One",
        "two",
        "three.",
    ]


def test_words_are_spread_over_what_is_audible() -> None:
    samples = np.zeros(24_000, np.float32)
    samples[6_000:18_000] = 0.5
    words = estimated_words("aa bb", samples, 24_000)
    assert words[0][1:] == pytest.approx((0.25, 0.5), abs=0.01)
    assert words[1][1:] == pytest.approx((0.5, 0.75), abs=0.01)
    assert estimated_words("aa", np.zeros(9, np.float32), 24_000) == []


def test_a_voice_that_is_too_slow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_voice, "allowed_cores", lambda: 2)
    assert "too slow" in slow_voice_note("kokoro:af_heart") and not slow_voice_note("hibari")
    monkeypatch.setattr(live_voice, "allowed_cores", lambda: 16)
    assert not slow_voice_note("kokoro")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_takes_over_in_the_middle_of_an_answer() -> None:
    from being.tts.voices import speak_plain

    live = LiveVoice(lambda text, voice, speed: speak_plain(text, voice, speed))
    speech = live(GERMAN, "hibari", 1.0)
    assert speech.notes and speech.rate == LIVE_RATE and speech.seconds > 2
    assert speech.words is not None and len(speech.words) == len(GERMAN.split())


def test_an_endpoint_of_speech_is_a_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    from being.bench.stand_ins import StandIns

    monkeypatch.setenv(KEY, "sk-secret")
    with StandIns() as stand_ins:
        monkeypatch.setenv(URL, stand_ins.url)
        speech = speak_endpoint("Hello there.", "alloy", 1.0)
        assert speech.rate == 22_050 and speech.seconds == pytest.approx(0.6, abs=0.01)
        assert stand_ins.requests[0]["headers"]["authorization"] == "Bearer sk-secret"
        for behaviour, what in (("refuses", "refuses the voice"), ("html", "no audio")):
            stand_ins.behaviour = behaviour
            with pytest.raises(EnvironmentFault, match=what) as caught:
                speak_endpoint("Hello there.", "alloy", 1.0)
            assert "sk-secret" not in str(caught.value)
    with pytest.raises(EnvironmentFault, match="cannot be reached"):
        speak_endpoint("Hello there.", "alloy", 1.0)


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://a", "http://[x"])
def test_a_speech_endpoint_needs_an_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, url)
    with pytest.raises(UsageError):
        check_address()

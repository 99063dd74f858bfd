"""The page in headless Chromium in a conversation: questions, answers, a microphone, barge-in."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, LoopThread, Page, page_probe
from needs import load_or_skip
from spoken_turns import RATE, turns_in_noise, write_wav

pytest.importorskip("being.api.server")
from live_server import LocalServer  # noqa: E402
from talk_service import talk_service  # noqa: E402

from being.api.server import PAGE  # noqa: E402
from being.bench.stand_ins import StandIns  # noqa: E402

PROBE = page_probe()
# Notes what the microphone brings, and when the server's decisions arrive.
EARS = """
import(new URL('main.js', document.baseURI)).then(({ conversation, session }) => {
  window.ears = { pieces: [], sound: [], ducks: [], cuts: [], hearing: [] };
  const note = (object, name, list, value) => {
    const run = object[name].bind(object);
    object[name] = (...given) => {
      list.push(value(...given));
      return run(...given);
    };
  };
  const now = () => performance.now();
  note(conversation, 'hear', ears.pieces, (pcm) => {
    const { length } = ears.pieces;
    if (length >= 1000 && length < 1400) ears.sound.push(...pcm);
    return [Math.round(now() * 10) / 10, pcm.length];
  });
  note(conversation, 'duck', ears.ducks, now);
  note(session, 'serverInterrupts', ears.cuts, now);
  note(session, 'take_hearing', ears.hearing, ({ on }) => [now(), on]);
  return true;
})
"""
ENTER = ("Enter", 13, "\r")
SPEAKING = "document.body.dataset.state === 'speaking'"
TALK = "document.getElementById('talk').innerText"
REPLY = "Well, the trains run all day long."
SILENCE_MS = 120
FIRST_S, EVERY_S = 15.0, 7.0  # of noise before the first turn; between two turns


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[StandIns]:
    with StandIns(reply=REPLY) as started:
        yield started


@pytest.fixture(scope="module")
def server(stand_ins: StandIns) -> Iterator[LocalServer]:
    with LocalServer(page=PAGE, talk=talk_service(stand_ins)) as started:
        yield started


def fake_microphone(path: Path, sound: np.ndarray) -> tuple[str, ...]:
    """Flags that let Chromium's microphone play the sound once."""
    return (f"--use-file-for-fake-audio-capture={write_wav(path, sound)}%noloop",)


@pytest.fixture(scope="module")
def browser(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Its microphone brings quiet noise, and a loud sound after two seconds and after five."""
    dice = np.random.default_rng(0)
    sound = dice.normal(0, 0.003, 12 * RATE).astype(np.float32)
    for at in (2, 5):
        sound[at * RATE : at * RATE + RATE // 2] += dice.normal(0, 0.25, RATE // 2)
    path = tmp_path_factory.mktemp("microphone") / "sound.wav"
    chromium = Chromium(loop, fake_microphone(path, sound))
    yield chromium
    chromium.close()


@pytest.fixture
def page(browser: Chromium, server: LocalServer) -> Iterator[Page]:
    opened = browser.open(f"http://localhost:{server.port}/", script=PROBE)
    opened.wait("document.body.dataset.link === 'open'")
    opened.run(EARS)
    yield opened
    complaints = opened.complaints
    opened.close()
    assert not complaints, complaints


def test_a_question_in_writing_is_answered_and_both_can_be_read(page: Page) -> None:
    assert page.run("document.getElementById('text').placeholder") == "Write to tiny"
    assert page.run("document.getElementById('speak').innerText").strip() == "Ask"
    page.click("#text")
    page.type("When do the trains run?")
    page.press(*ENTER)
    page.wait(SPEAKING)
    page.wait(f"{TALK}.includes('all day long.')")
    lines = page.run(f"{TALK}.split('\\n').filter(Boolean)")
    assert lines == ["You When do the trains run?", f"tiny {REPLY}"]
    page.wait("probe.sounds.length > 3")
    names = {
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in page.accessibility()
        if "role" in node
    }
    assert {("log", "Conversation"), ("textbox", "Write to tiny")} <= names
    page.wait("document.getElementById('interrupt').disabled")


def test_who_speaks_interrupts_and_is_answered(page: Page, stand_ins: StandIns) -> None:
    stand_ins.reply = "one two three four five six seven eight nine ten, " * 4
    page.click("#text")
    page.type("Count.")
    page.press(*ENTER)
    page.wait(SPEAKING)
    page.click("#microphone")
    page.wait("ears.ducks.length > 0")
    page.wait("ears.cuts.length > 0")
    page.wait(f"{TALK}.includes({stand_ins.transcript!r})")
    page.wait(SPEAKING)
    heard = page.run(f"{TALK}.split('\\n').filter(Boolean)")[1]
    assert heard.startswith("tiny one two") and len(heard) < 150, heard
    stand_ins.reply = REPLY
    page.click("#interrupt")
    page.click("#microphone")
    assert not page.run("document.getElementById('error').innerText")


def test_an_endpoint_that_refuses_is_told_on_the_page(page: Page, stand_ins: StandIns) -> None:
    stand_ins.behaviour = "refuses"
    page.click("#text")
    page.type("Hello?")
    page.press(*ENTER)
    error = page.wait("document.getElementById('error').innerText")
    assert "The chat endpoint refuses." in error and "Check the key" in error
    stand_ins.behaviour = "good"
    page.click("#text")
    page.type("Hello?")
    page.press(*ENTER)
    page.wait(SPEAKING)


def test_a_microphone_that_is_denied_is_told_on_the_page_and_in_the_log(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    page.run(
        "navigator.mediaDevices.getUserMedia = "
        "() => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    )
    page.click("#microphone")
    error = page.wait("document.getElementById('error').innerText")
    assert "The microphone is not allowed." in error
    deadline = time.monotonic() + 3
    while "NotAllowedError" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "NotAllowedError" in caplog.text


def barge_ins(loop: LoopThread, folder: Path, turns: int, seed: int) -> dict[str, Any]:
    """Speak `turns` times into a speaking avatar, with Silero's network and noise at 15 dB.

    Chromium's microphone runs from the moment it is asked for; the first turns may be over before
    the page gets any of it, and are not counted.
    """
    from being.conversation.voice_activity import SileroActivity

    load_or_skip(SileroActivity)
    sound, begins, ends = turns_in_noise(turns, FIRST_S, EVERY_S, seed)
    count = "one two three four five six seven eight nine ten, "
    with StandIns(reply=count * 40) as talkers:
        service = talk_service(talkers)
        service.activity = SileroActivity
        with LocalServer(page=PAGE, talk=service) as served:
            chromium = Chromium(loop, fake_microphone(folder / "turns.wav", sound))
            try:
                log = _conversed(chromium, served, len(sound) / RATE)
            finally:
                chromium.close()
    return judged(json.loads(log), sound, begins, ends)


def _conversed(chromium: Chromium, server: LocalServer, seconds: float) -> str:
    """The log of a page whose microphone plays for some seconds, as JSON."""
    page = chromium.open(f"http://localhost:{server.port}/", script=PROBE)
    page.wait("document.body.dataset.link === 'open'", 60)
    page.run(EARS)
    page.click("#text")
    page.type("Count.")
    page.press(*ENTER)
    page.wait(SPEAKING, 60)
    page.click("#microphone")
    page.wait("ears.pieces.length > 0", 60)
    time.sleep(seconds + 1)
    return str(page.run("JSON.stringify({ ...ears, sounds: probe.sounds })", 60))


def judged(
    log: dict[str, Any], sound: np.ndarray, begins: list[float], ends: list[float]
) -> dict[str, Any]:
    """Times from the first sound of each turn to ducking, silence and the cut; missed and false."""
    # Where the recording lies in what the page got: the best correlation of four seconds.
    pieces = log["pieces"]
    starts = np.cumsum([0, *(count for _, count in pieces)])
    window, rate = np.array(log["sound"]) / 32768, 24_000
    clean = sound[: 30 * RATE : 2]
    spectrum = np.fft.rfft(clean, 2 * clean.size) * np.conj(np.fft.rfft(window, 2 * clean.size))
    offset = int(np.argmax(np.fft.irfft(spectrum)[: clean.size])) - int(starts[1000])

    def captured(at: float) -> float:
        """The time of the page, ms, at which this moment of the recording was captured."""
        index = round(at * rate) - offset
        number = int(np.searchsorted(starts, index, "right")) - 1
        number = min(max(number, 0), len(pieces) - 1)
        return float(pieces[number][0]) - (starts[number + 1] - index) / rate * 1000

    heard = [(b, e) for b, e in zip(begins, ends, strict=True) if b * rate - offset > rate]
    cuts, ducks, sounds = log["cuts"], log["ducks"], log["sounds"]
    silences, cut_times, missed, matched = [], [], 0, set()
    for begin, end in heard:
        first, last = captured(begin), captured(end)
        own = [k for k, at in enumerate(cuts) if first - 50 < at < last + 700]
        matched.update(own)
        if not own:
            missed += 1
            continue
        cut_times.append(cuts[own[0]] - first)
        before = [at for at in sounds if at < cuts[own[0]] + 300]
        silences.append(before[-1] - first)
    false_ducks = [
        at for at in ducks if not any(captured(b) - 50 < at < captured(e) + 700 for b, e in heard)
    ]
    return {
        "turns": len(heard),
        "missed": missed,
        "false_cuts": len(cuts) - len(matched),
        "false_ducks": len(false_ducks),
        "silence_ms": silences,
        "cut_ms": cut_times,
    }


def figures(values: list[float]) -> dict[str, float]:
    values = sorted(values) or [float("nan")]
    return {
        "p50": round(statistics.median(values), 1),
        "p95": round(values[min(len(values) - 1, round(0.95 * len(values)))], 1),
        "max": round(values[-1], 1),
    }


@pytest.mark.slow
def test_fifty_barge_ins_in_noise(loop: LoopThread, tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    # In parts: a page is asked for its log at the end of each.
    parts = [barge_ins(loop, tmp_path, 13, seed) for seed in range(4)]
    found = joined(parts)
    print(json.dumps(found))
    assert found["turns"] >= 50 and found["missed"] == 0 and found["false_cuts"] == 0, found
    assert found["silence_ms"]["p95"] <= SILENCE_MS, found


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several parts."""
    sums = ("turns", "missed", "false_cuts", "false_ducks")
    found: dict[str, Any] = {name: sum(part[name] for part in parts) for name in sums}
    for name in ("silence_ms", "cut_ms"):
        found[name] = figures([value for part in parts for value in part[name]])
    return found

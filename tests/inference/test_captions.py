"""Captions: written words in step with spoken ones, cues that fit, WebVTT, legible drawing."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import av
import numpy as np
import pytest

from being.errors import BeingError, EnvironmentFault, InputRejected, UsageError
from being.inference import caption_drawing
from being.inference.caption_drawing import CaptionDrawer, check_letters, drawn_columns
from being.inference.caption_files import (
    check_caption_file,
    check_captions,
    is_ours,
    timed_words,
    write_captions,
)
from being.inference.caption_words import CaptionWord, caption_words
from being.inference.captions import (
    LEAST_S,
    Cue,
    caption_cues,
    joined_words,
    text_width,
    vtt_text,
)
from being.media.writing import AI_NOTICE
from being.tts import Speech, speak
from being.tts.script import Pause, read_script

STORY = (
    "Hi. My name is Anna, and I will tell you a long story which goes on and on, without an end, "
    "until you are tired of it! Extraordinarily incomprehensible circumlocutions notwithstanding "
    "everybody understood immediately what had happened there yesterday evening. OK? Yes."
)


def spoken_evenly(text: str, pace: float = 0.06) -> list[CaptionWord]:
    """The words of a text, `pace` s a character."""
    said, at = [], 0.0
    for word in text.split():
        said.append((word.strip(".,!?"), at, at + pace * len(word)))
        at += pace * (len(word) + 1)
    return caption_words([text], said)


# --- words


def test_written_words_get_the_times_of_spoken_ones() -> None:
    said = [
        ("It", 0.0, 0.2),
        ("costs", 0.3, 0.6),
        ("five", 0.7, 0.9),
        ("dollars", 0.9, 1.3),
        ("and", 1.4, 1.5),
        ("more", 1.6, 2.0),
        ("you", 4.0, 4.2),
        ("know", 4.2, 4.5),
    ]
    words = caption_words(["It costs $5 — and\nmore!", Pause(2), "“You know”"], said)
    assert [(w.text, w.start, w.end) for w in words] == [
        ("It", 0.0, 0.2),
        ("costs", 0.3, 0.6),
        ("$5 —", 0.7, 1.3),
        ("and", 1.4, 1.5),
        ("more!", 1.6, 2.0),
        ("“You", 4.0, 4.2),
        ("know”", 4.2, 4.5),
    ]
    assert joined_words(words) == "It costs $5 — and more! “You know”"
    assert [w.ends for w in words] == [False, False, False, True, True, False, True]


def test_a_clause_that_is_spoken_as_one_word_is_divided_by_its_letters() -> None:
    words = caption_words(["Il fait beau."], [("Il fait beau", 1.0, 2.0)])
    assert [w.text for w in words] == ["Il", "fait", "beau."]
    assert [w.end for w in words] == pytest.approx([1.2, 1.6, 2.0])


def test_chinese_stands_without_spaces() -> None:
    said = [(c, 0.2 * k, 0.2 * k + 0.2) for k, c in enumerate("你好世界")]
    cues = caption_cues(caption_words(["你好，世界。"], said), 2.0)
    assert [cue.lines for cue in cues] == [("你好，世界。",)]


# --- cues


def check_cues(cues: list[Cue], seconds: float, columns: int) -> None:
    for before, after in itertools.pairwise(cues):
        assert before.end <= after.start
    for cue in cues:
        assert 0 <= cue.start < cue.end <= seconds
        assert 1 <= len(cue.lines) <= 2
        assert all(text_width(line) <= columns for line in cue.lines)


@pytest.mark.parametrize("columns", [42, 31, 20])
def test_cues_fit_hold_all_words_and_never_overlap(columns: int) -> None:
    words = spoken_evenly(STORY)
    cues = caption_cues(words, words[-1].end + 0.5, columns)
    check_cues(cues, words[-1].end + 0.5, columns)
    assert " ".join(line for cue in cues for line in cue.lines).split() == STORY.split()
    for cue, after in itertools.pairwise(cues):
        assert cue.end - cue.start >= LEAST_S - 1e-9 or cue.end == after.start


def test_cues_end_at_clauses_and_at_long_silences() -> None:
    cues = caption_cues(spoken_evenly(STORY), 60)
    assert [cue.lines[-1][-1] for cue in cues[:2]] == [",", "!"]
    said = [("one", 0.0, 0.3), ("two", 3.0, 3.2)]
    cues = caption_cues(caption_words(["one two"], said), 4.0)
    assert [(c.lines, round(c.start, 2), round(c.end, 2)) for c in cues] == [
        (("one",), 0.0, 1.0),
        (("two",), 3.0, 4.0),
    ]


def test_odd_words_and_times_give_valid_cues() -> None:
    choice = random.Random(1)
    for _ in range(60):
        texts = [choice.choice(["a", "b,", "c.", "x" * 50, "你好", "<&>", "😀"]) for _ in range(30)]
        said = []
        for text in texts:
            start = choice.uniform(0, 5)
            said.append((text, start, start + choice.uniform(-1, 1)))
        words = caption_words([" ".join(texts)], choice.sample(said, choice.randint(1, 30)))
        check_cues(caption_cues(words, 6.0, 24), 6.0, 24)


def test_the_file_is_webvtt_that_ffmpeg_reads(tmp_path: Path) -> None:
    cues = [
        Cue(0.0, 1.5, ("a < b & c --> d", "second line")),
        Cue(3599.9996, 3661.25, ("later",)),
    ]
    text = vtt_text(cues, "a note")
    assert text.startswith("WEBVTT\n\nNOTE a note\n\n00:00:00.000 --> 00:00:01.500\n")
    assert "a &lt; b &amp; c --&gt; d\nsecond line\n" in text
    assert "01:00:00.000 --> 01:01:01.250\nlater\n" in text
    (tmp_path / "a.vtt").write_text(text)
    with av.open(str(tmp_path / "a.vtt")) as container:
        packets = [p for p in container.demux(subtitles=0) if p.size]
    assert [float(p.pts * p.time_base) for p in packets] == [0.0, 3600.0]
    assert [float(p.duration * p.time_base) for p in packets] == pytest.approx([1.5, 61.25])


def test_the_built_in_voice_is_captioned_word_for_word() -> None:
    pytest.importorskip("hibari")
    script = read_script("# Welcome\n\nIt's **$5** & 50%. [pause 1.2] Bye!")
    speech = speak("# Welcome\n\nIt's **$5** & 50%. [pause 1.2] Bye!")
    cues = caption_cues(timed_words(script, speech, "hibari"), speech.seconds)
    assert [" ".join(cue.lines) for cue in cues] == ["Welcome.", "It's $5 & 50%.", "Bye!"]
    bye = next(start for word, start, _ in speech.words or [] if word == "Bye")
    assert bye - 0.5 <= cues[2].start <= bye and cues[1].end <= cues[2].start


# --- files


def test_captions_replace_only_files_of_their_own(tmp_path: Path) -> None:
    video, foreign = tmp_path / "a.mp4", tmp_path / "a.vtt"
    words = spoken_evenly("Hello there.")
    foreign.write_text("WEBVTT\n\nmine")
    with pytest.raises(BeingError, match="not made by being"):
        check_caption_file(video, (), force=False)
    with pytest.raises(UsageError, match="while"):
        check_caption_file(video, (foreign,), force=True)
    written = write_captions(video, words, 2.0, free_name=True)
    assert written == tmp_path / "a-2.vtt" and is_ours(written)
    assert foreign.read_text() == "WEBVTT\n\nmine"
    assert write_captions(video, words, 2.0, free_name=False) == foreign and is_ours(foreign)
    check_caption_file(video, (), force=False)
    assert AI_NOTICE in foreign.read_text() and "Hello there." in foreign.read_text()


@pytest.mark.parametrize(
    ("kind", "voice", "message"),
    [
        ("srt", "hibari", "no captions are called 'srt'.*none, vtt, burn"),
        ("vtt", "espeak:de", "espeak:de gives no captions.*without word times"),
        ("burn", "espeak", "espeak gives no captions"),
    ],
)
def test_captions_that_cannot_be_are_refused(kind: str, voice: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_captions(kind, voice)
    check_captions("none", voice)


def test_a_voice_that_gave_no_times_is_told() -> None:
    speech = Speech(np.ones(100, np.float32), 100, [])
    with pytest.raises(InputRejected, match="without word times"):
        timed_words(read_script("Hello"), speech, "edge:xx")


# --- drawing


@pytest.mark.parametrize("size", [(512, 512), (128, 96), (270, 480), (64, 64)])
def test_captions_are_white_on_dark_at_the_bottom_and_scale(size: tuple[int, int]) -> None:
    words = spoken_evenly("Hello there, my old friend from far away. Bye.")
    drawer = CaptionDrawer(words, 10.0)
    height, width = size
    for grey in (255, 128, 0):
        frame = np.full((height, width, 3), grey, np.uint8)
        drawn = CaptionDrawer(words, 10.0)(1.0, frame)
        rows, columns = np.nonzero((drawn != frame).any(2))
        assert rows.min() > 0.5 * height and rows.max() < height
        assert columns.min() > 0 and columns.max() < width - 1
        centre = (columns.min() + columns.max()) / 2
        assert abs(centre - width / 2) < 0.04 * width
        inside = drawn[rows.min() : rows.max(), columns.min() : columns.max()]
        assert inside.max() == 255 and inside.min() < 70
        assert (frame == grey).all(), "the frame that came in is not changed"
    assert (drawer(0.0, frame) != frame).any()
    assert drawer(9.9, frame) is frame, "no cue is shown at this time"


def test_letters_that_the_font_lacks_are_refused_and_symbols_left_out() -> None:
    assert check_letters("Héllo, Привет, Ελλά, 你好 €5?") == "Héllo, Привет, Ελλά, 你好 €5?"
    assert check_letters("so 😀 good") == "so  good"
    for text, named in (("नमस्ते", "न"), ("שלום", "ש"), ("مرحبا", "م"), ("สวัสดี", "ส")):
        with pytest.raises(InputRejected, match="font cannot draw.*--captions vtt") as caught:
            check_letters(f"Hello {text}")
        assert named in caught.value.what


def test_lines_are_as_long_as_the_picture_allows() -> None:
    assert drawn_columns(1920, 1080) == 42
    assert 26 <= drawn_columns(512, 512) <= 34 and drawn_columns(300, 1000) < 20


def test_without_a_font_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.delattr(cv2, "FontFace")
    with pytest.raises(EnvironmentFault, match="no font.*--captions vtt"):
        check_captions("burn", "hibari")
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(EnvironmentFault, match="without OpenCV"):
        caption_drawing.check_drawing()

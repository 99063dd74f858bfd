"""What the face does beside its lips: blinks and brows as people's, moods and wishes by name, the
lips left to the sound."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from being.cli.expression_options import wish
from being.conventions import FPS, SAMPLE_RATE
from being.data.expression_channels import BLINK_ALONE, MOUTH, SOURCES, Channels
from being.errors import InputRejected, UsageError
from being.inference.animation.blinks import Blinks
from being.inference.animation.brows import Brows
from being.inference.animation.curve_files import read_curves
from being.inference.animation.face_controls import (
    AHEAD,
    HOP,
    REACH,
    FaceStream,
    Wish,
    drive,
    limits,
)
from being.inference.animation.moods import MOODS, NAMES, known
from being.inference.animation.prosody import Ear

WHOLE = Channels(
    ("blink", *(source.name for source in SOURCES)),
    (0.0,) * 19,
    (1.0,) * 19,
    (-1.0,) * 19,
    (1.0,) * 19,
)
SHORT = Channels(
    ("blink", "brow_inner_up", "smile"), (0.0,) * 3, (1.0,) * 3, (0.0, -0.5, 0.0), (1.0, 1.0, 0.2)
)


def speech(phrases=6, seconds=2.0, pause=0.6, pitch=110.0):
    """Sound float32 [T]: buzzing phrases with a loud, high stress in the middle of each, silence
    between; and the seconds at which phrases end and stresses lie."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    stress = np.exp(-(((time - seconds / 2) / 0.12) ** 2))
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.5 * stress)) / SAMPLE_RATE
    phrase = sum(np.sin(k * phase) / k for k in range(1, 9)) * 0.1 * (1 + 2 * stress)
    quiet = np.zeros(round(pause * SAMPLE_RATE))
    sound = np.concatenate([np.concatenate([phrase, quiet]) for _ in range(phrases)]).astype(
        np.float32
    )
    starts = np.arange(phrases) * (seconds + pause)
    return sound, starts + seconds, starts + seconds / 2


def frames_of(sound):
    return len(sound) * FPS // SAMPLE_RATE


def prosody(samples, frames):
    """What the whole sound is like, the whole of it known at its start."""
    ear = Ear()
    ear.push(samples[: frames * SAMPLE_RATE // FPS])
    ear.finish(frames)
    return ear.around(0, frames + 1)


def blinks(heard, frames, rate=None, seed=0):
    return Blinks(rate, seed).closure(heard, 0, frames)


def brows(heard, frames, seed=0):
    return Brows(seed).height(heard, 0, frames)


def peaks(closed):
    return np.flatnonzero(
        (closed > 0.85) & (closed >= np.roll(closed, 1)) & (closed > np.roll(closed, -1))
    )


def test_phrases_and_accents_are_heard_where_they_are():
    sound, ends, stresses = speech()
    heard = prosody(sound, frames_of(sound))
    assert np.abs(heard.phrase_ends / FPS - ends).max() <= 0.08
    assert all(np.abs(heard.accents / FPS - at).min() <= 0.12 for at in stresses)
    assert len(heard.accents) <= 2 * len(stresses)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(SAMPLE_RATE * 4, np.float32),
        np.zeros(0, np.float32),
        np.full(SAMPLE_RATE * 4, 1e-5, np.float32),
    ],
)
def test_nobody_speaks_in_silence(samples):
    heard = prosody(samples, 100)
    assert not heard.speaking.any() and not len(heard.accents) and not len(heard.phrase_ends)
    assert not brows(heard, 100).any()


@pytest.mark.parametrize(("rate", "expected"), [(None, 17.0), (30.0, 30.0), (6.0, 6.0)])
def test_blinks_come_as_often_as_peoples(rate, expected):
    frames = 40 * 60 * FPS
    heard = prosody(np.zeros(0, np.float32), frames)
    times = peaks(blinks(heard, frames, rate, seed=3)) / FPS
    assert len(times) / 40 == pytest.approx(expected, rel=0.12)
    gaps = np.diff(times)
    assert gaps.min() >= 0.39 and 0.3 < np.log(gaps).std() < 0.8  # log-normal, not a metronome


def test_a_blink_closes_within_three_frames_opens_slower_and_shuts_the_eye():
    heard = prosody(np.zeros(0, np.float32), 3000)
    closed = blinks(heard, 3000, 8.0, seed=1)
    assert closed.min() >= 0 and closed.max() <= 1
    for peak in peaks(closed)[1:-1]:
        before, after = closed[peak - 3 : peak], closed[peak + 1 : peak + 9]
        assert closed[peak] >= 0.88 and before[0] < 0.02 and (np.diff(after) <= 0).all()
        assert (after > 0.3).sum() > (before > 0.3).sum() and after[-1] < 0.1


def test_blinks_gather_where_phrases_end():
    sound, ends, _ = speech(phrases=60)
    frames = frames_of(sound)
    times = peaks(blinks(prosody(sound, frames), frames, 20.0, seed=0)) / FPS
    near = np.abs(times[:, None] - ends).min(1) < 0.24
    assert near.mean() > 0.45  # 0.18 by chance


def test_brows_rise_at_stresses_and_no_farther_than_the_person():
    sound, _, stresses = speech(phrases=30)
    raised = brows(prosody(sound, frames_of(sound)), frames_of(sound), seed=0)
    at = np.array([raised[round(t * FPS) - 2 : round(t * FPS) + 3].max() for t in stresses])
    assert 0.4 < (at > 0.15).mean() < 0.95 and raised.max() < 0.6 and abs(np.median(raised)) < 0.1


def test_the_lips_belong_to_the_sound_unless_asked():
    sound, _, _ = speech()
    frames = frames_of(sound)
    mouth = WHOLE.mouth
    assert {name for name, hers in zip(WHOLE.names, mouth, strict=True) if hers} == MOUTH
    own = np.random.default_rng(0).normal(size=(frames, len(WHOLE))).astype(np.float32)
    assert not drive(sound, frames, WHOLE, own=own)[:, mouth].any()
    asked = drive(sound, frames, WHOLE, Wish(expression={"smile": 0.6}))
    assert (asked[:, WHOLE.names.index("smile")] == np.float32(0.6)).all()
    assert not np.delete(asked, WHOLE.names.index("smile"), 1)[
        :, np.delete(mouth, WHOLE.names.index("smile"))
    ].any()


def test_the_gaze_is_the_poses_own_and_their_blinks_are_not():
    frames = 200
    own = np.random.default_rng(0).uniform(-1, 1, (frames, len(WHOLE))).astype(np.float32)
    made = drive(np.zeros(0, np.float32), frames, WHOLE, Wish(blink_rate=0), own)
    gaze = [WHOLE.names.index(name) for name in ("gaze_right", "gaze_up")]
    assert np.array_equal(made[:, gaze], own[:, gaze])
    assert not np.delete(made, gaze, 1).any()


def test_one_seed_gives_one_face():
    sound, _, _ = speech()
    faces = [drive(sound, frames_of(sound), WHOLE, Wish(seed=seed)) for seed in (1, 1, 2)]
    assert faces[0].dtype == np.float32 and np.array_equal(faces[0], faces[1])
    assert not np.array_equal(faces[0], faces[2])


def streamed(samples, ahead, seed, wish=Wish()):  # noqa: B008
    """The face of a sound that comes in pieces of random sizes, taken as soon as it can be."""
    stream, rng, made, start = FaceStream(WHOLE, wish, ahead), np.random.default_rng(seed), [], 0
    while start < len(samples):
        count = int(rng.choice([0, 1, 321, 640, 7000, 90_000]))
        stream.push(samples[start : start + count])
        start += count
        made.append(stream.take(np.zeros((int(rng.integers(0, stream.ready + 1)), len(WHOLE)))))
    stream.finish()
    return np.concatenate([*made, stream.take(np.zeros((stream.ready, len(WHOLE))))])


@pytest.mark.parametrize("ahead", [HOP, 12, AHEAD])
def test_sound_in_pieces_of_any_size_gives_the_same_face(ahead, tmp_path):
    sound, _, _ = speech(phrases=9)
    sound = np.concatenate([sound, np.zeros(333, np.float32)])
    (tmp_path / "a.csv").write_text("time,smile\n0,0\n20,1\n")
    wish = Wish("happy", {"brow_raise": 0.2}, curves=tmp_path / "a.csv")
    faces = [streamed(sound, ahead, seed, wish) for seed in range(3)]
    assert len(faces[0]) == -(-len(sound) // 640) and all(
        np.array_equal(faces[0], face) for face in faces[1:]
    )
    if ahead == AHEAD:
        assert np.array_equal(faces[0], drive(sound, len(faces[0]), WHOLE, wish))


@pytest.mark.parametrize("ahead", [HOP, 60])
def test_a_frame_comes_out_with_its_look_ahead_and_hears_nothing_later(ahead):
    sound, _, _ = speech(phrases=4)
    stream, margin = FaceStream(WHOLE, ahead=ahead), 192  # 12 ms, in the docstring of FaceStream
    for start in range(0, len(sound), 640):
        stream.push(sound[start : start + 640])
        stream.take(np.zeros((stream.ready, len(WHOLE))))
        assert stream.taken >= (start + 640 - margin) // 640 - ahead + 1
    at = 150
    cut = np.concatenate([sound[: (at + ahead) * 640 + margin], np.ones(20_000, np.float32)])
    one, other = streamed(sound, ahead, 0), streamed(cut, ahead, 0)
    assert np.array_equal(one[: at + 1], other[: at + 1])


@pytest.mark.parametrize(("ahead", "late"), [(60, 0.0), (25, 0.2), (HOP, 0.45)])
def test_with_less_look_ahead_blinks_and_brows_follow_a_little_later(ahead, late):
    sound, ends, stresses = speech(phrases=60)
    face = streamed(sound, ahead, 0, Wish(blink_rate=20.0))
    times = peaks(face[:, 0]) / FPS
    since = times[:, None] - ends
    assert ((since > -0.1) & (since < 0.24 + late)).any(1).mean() > 0.45
    assert len(times) / (len(face) / FPS / 60) == pytest.approx(20, rel=0.2)
    raised = face[:, WHOLE.names.index("brow_inner_up")]
    frames = [(round((t - 0.08) * FPS), round((t + 0.08 + late) * FPS) + 1) for t in stresses]
    assert 0.4 < np.mean([raised[a:b].max() > 0.15 for a, b in frames[3:]]) < 0.95


def test_what_a_face_keeps_does_not_grow():
    sound, _, _ = speech(phrases=10)
    stream = FaceStream(WHOLE)
    for _ in range(20):
        stream.push(sound)
        stream.take(np.zeros((stream.ready, len(WHOLE))))
        kept = (
            len(stream._ear._loud),
            len(stream._ear._sound),
            len(stream._made),
            len(stream._blinks._running),
        )
        assert np.all(np.array(kept) <= (500 + AHEAD + 700, 2000, HOP, 16)), kept


@pytest.mark.parametrize("mood", list(MOODS))
def test_moods_are_told_apart(mood):
    faces = {
        name: drive(np.zeros(0, np.float32), 50, WHOLE, Wish(mood=name, blink_rate=0)).mean(0)
        for name in MOODS
    }
    others = [np.abs(faces[mood] - face).max() for name, face in faces.items() if name != mood]
    assert min(others) >= 0.3


def test_wishes_are_added_to_the_mood_and_kept_within_what_the_clip_shows(capsys):
    made = drive(np.zeros(0, np.float32), 5, SHORT, Wish("happy", {"AU01": 0.3, "smile": 1.0}, 0))
    assert np.allclose(made, [[0, 0.4, 0.2 * REACH]] * 5)
    assert "smile 1.70 is cut to 0.25: the clip shows no more of it" in capsys.readouterr().err
    least, most = limits(SHORT)
    assert list(least) == [0, -0.5 * REACH, 0] and list(most) == [1, REACH, 0.2 * REACH]


def test_half_closed_eyes_still_blink_and_shut_ones_are_not_wide():
    frames = 2000
    made = drive(
        np.zeros(0, np.float32), frames, WHOLE, Wish(expression={"blink": 0.4, "eye_wide": 0.5})
    )
    lids, wide = made[:, 0], made[:, WHOLE.names.index("lid_up")]
    assert lids.min() == np.float32(0.4) and lids.max() > 0.88
    assert np.allclose(wide, 0.5 * (1 - lids), atol=1e-6)


def test_an_avatar_that_knows_the_blink_alone_blinks_and_says_what_it_lacks():
    sound, _, _ = speech()
    made = drive(sound, frames_of(sound), BLINK_ALONE)
    assert made.shape == (frames_of(sound), 1) and made.max() > 0.85
    with pytest.raises(UsageError, match="no expression 'smile'. *It has blink$"):
        drive(sound, 9, BLINK_ALONE, Wish(expression={"smile": 1}))
    with pytest.raises(UsageError, match="cannot look happy"):
        drive(sound, 9, BLINK_ALONE, Wish("happy"))
    with pytest.raises(UsageError, match="brow_raise"):
        drive(sound, 9, SHORT, Wish(expression={"brow_raise": 1}))
    assert set(known(WHOLE)) == {*WHOLE.names, *NAMES}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Wish("gloomy"), "unknown mood 'gloomy'.*neutral, happy"),
        (Wish(blink_rate=-1), "blink rate of -1"),
        (Wish(blink_rate=float("nan")), "blink rate of nan"),
        (Wish(blink_rate=1000), "between 0 and 60"),
        (Wish(expression={"smile": 9}), "'smile' is 9"),
        (Wish(expression={"smile": float("nan")}), "'smile' is nan"),
        (Wish(expression={"grin": 1}), "no expression 'grin'.*brow_raise"),
    ],
)
def test_wishes_that_cannot_be_are_refused_in_one_line(asked, says):
    with pytest.raises(UsageError) as error:
        drive(np.zeros(0, np.float32), 9, WHOLE, asked)
    assert re.search(says, error.value.message()) and len(error.value.message()) < 700


def test_curves_rule_every_frame(tmp_path):
    (tmp_path / "a.csv").write_text(
        "blink,brow_raise\n" + "".join(f"{k / 10},{-k / 20}\n" for k in range(5))
    )
    made = drive(np.zeros(0, np.float32), 8, WHOLE, Wish("happy", curves=tmp_path / "a.csv"))
    assert np.allclose(made[:, 0], [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    for name in ("brow_inner_up", "brow_outer_up"):
        assert np.allclose(made[:, WHOLE.names.index(name)], -made[:, 0] / 2)
    assert np.allclose(
        made[:, WHOLE.names.index("smile")], 0.7
    )  # what has no curve is as it would be
    (tmp_path / "b.json").write_text(json.dumps({"time": [0.0, 0.16], "AU12": [0.0, 1.0]}))
    assert np.allclose(
        read_curves(tmp_path / "b.json").between(0, 6)["AU12"], [0, 0.25, 0.5, 0.75, 1, 1]
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "smile\n", "no rows"),
        ("a.csv", "smile,smile\n1,1\n", "different names"),
        ("a.csv", "smile,blink\n1\n", "row 2 has 1 cells"),
        ("a.csv", "smile\nwide\n", "wide"),
        ("a.csv", "smile\nnan\n", "not finite"),
        ("a.csv", "time,smile\n0,1\n0,1\n", "do not rise"),
        ("a.json", "[1]", "no object"),
        ("a.json", "{}", "no curve"),
        ("a.json", '{"smile": [1, "2"]}', "list of numbers"),
        ("a.json", '{"smile": [1], "blink": [1, 2]}', "several lengths"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.csv", None, "cannot be read"),
        ("a.csv", b"\xff\xfe\x00\x01", "cannot be read"),
    ],
)
def test_curve_files_that_will_not_do_are_refused(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputRejected) as error:
        read_curves(tmp_path / name)
    assert says in error.value.message()


def test_options_are_read():
    made = wish("serious", "smile=0.6, brow_raise=-0.3", 12.0, None, 7)
    assert made == Wish("serious", {"smile": 0.6, "brow_raise": -0.3}, 12.0, None, 7)
    assert wish("neutral", None, None, None, 0) == Wish()
    for text in ("smile", "smile=", "smile=much", "=1", "smile=1,smile=1", "smile=1,,"):
        with pytest.raises(UsageError, match="--expression"):
            wish("neutral", text, None, None, 0)


@pytest.mark.parametrize("name", ["render", "tts-video"])
def test_both_commands_take_them(name):
    from being.cli.app import app

    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert all(
        option in shown
        for option in ("--mood", "--expression", "--blink-rate", "--curves", "--seed")
    )

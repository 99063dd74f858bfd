"""Expression beside the lips: blinks, brows, moods and the controls of the user."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from being.cli.render_options import face_controls
from being.conventions import FPS, SAMPLE_RATE
from being.data.expression_channels import (
    BLINK_ONLY,
    CHANNEL_SOURCES,
    MOUTH_CHANNELS,
    ExpressionChannels,
)
from being.errors import InputRejected, UsageError
from being.inference.animation.blinks import Blinks
from being.inference.animation.brows import Brows
from being.inference.animation.curve_files import read_curves
from being.inference.animation.face_controls import (
    HOP,
    LOOK_AHEAD_FRAMES,
    RANGE_FACTOR,
    FaceControls,
    FaceStream,
    animate_face,
    channel_limits,
)
from being.inference.animation.moods import EXPRESSIONS, MOODS, expression_names
from being.inference.animation.prosody import ProsodyTracker

WHOLE = ExpressionChannels(
    ("blink", *(source.name for source in CHANNEL_SOURCES)),
    (0.0,) * 19,
    (1.0,) * 19,
    (-1.0,) * 19,
    (1.0,) * 19,
)
SHORT = ExpressionChannels(
    ("blink", "brow_inner_up", "smile"), (0.0,) * 3, (1.0,) * 3, (0.0, -0.5, 0.0), (1.0, 1.0, 0.2)
)


def speech(phrases=6, seconds=2.0, pause=0.6, pitch=110.0):
    """Audio float32 [T] of buzzing phrases with silence between them, and the seconds at which the
    phrases end and their accents lie: loud and high, in the middle of each phrase.
    """
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    accent = np.exp(-(((time - seconds / 2) / 0.12) ** 2))
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.5 * accent)) / SAMPLE_RATE
    phrase = sum(np.sin(k * phase) / k for k in range(1, 9)) * 0.1 * (1 + 2 * accent)
    quiet = np.zeros(round(pause * SAMPLE_RATE))
    audio = np.concatenate([np.concatenate([phrase, quiet]) for _ in range(phrases)]).astype(
        np.float32
    )
    starts = np.arange(phrases) * (seconds + pause)
    return audio, starts + seconds, starts + seconds / 2


def frames_of(audio):
    return len(audio) * FPS // SAMPLE_RATE


def prosody(samples, frames):
    """The prosody of the whole audio, all of it known at its start."""
    tracker = ProsodyTracker()
    tracker.push(samples[: frames * SAMPLE_RATE // FPS])
    tracker.finish(frames)
    return tracker.around(0, frames + 1)


def blinks(found, frames, rate=None, seed=0):
    return Blinks(rate, seed).closure(found, 0, frames)


def brows(found, frames, seed=0):
    return Brows(seed).height(found, 0, frames)


def peaks(closed):
    return np.flatnonzero(
        (closed > 0.85) & (closed >= np.roll(closed, 1)) & (closed > np.roll(closed, -1))
    )


def test_phrase_ends_and_accents_are_found_where_they_are():
    audio, ends, accents = speech()
    found = prosody(audio, frames_of(audio))
    assert np.abs(found.phrase_ends / FPS - ends).max() <= 0.08
    assert all(np.abs(found.accents / FPS - at).min() <= 0.12 for at in accents)
    assert len(found.accents) <= 2 * len(accents)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(SAMPLE_RATE * 4, np.float32),
        np.zeros(0, np.float32),
        np.full(SAMPLE_RATE * 4, 1e-5, np.float32),
    ],
)
def test_silence_has_no_speech(samples):
    found = prosody(samples, 100)
    assert not found.speaking.any() and not len(found.accents) and not len(found.phrase_ends)
    assert not brows(found, 100).any()


@pytest.mark.parametrize(
    ("rate", "expected", "minutes"), [(None, 17.0, 20), (30.0, 30.0, 12), (6.0, 6.0, 40)]
)
def test_blinks_come_at_human_rates(rate, expected, minutes):
    frames = minutes * 60 * FPS
    found = prosody(np.zeros(0, np.float32), frames)
    times = peaks(blinks(found, frames, rate, seed=3)) / FPS
    assert len(times) / minutes == pytest.approx(expected, rel=0.12)
    gaps = np.diff(times)
    assert gaps.min() >= 0.39 and 0.3 < np.log(gaps).std() < 0.8  # log-normal, not a metronome


def test_a_blink_closes_within_three_frames_opens_slower_and_shuts_the_eye():
    found = prosody(np.zeros(0, np.float32), 3000)
    closed = blinks(found, 3000, 8.0, seed=1)
    assert closed.min() >= 0 and closed.max() <= 1
    for peak in peaks(closed)[1:-1]:
        before, after = closed[peak - 3 : peak], closed[peak + 1 : peak + 9]
        assert closed[peak] >= 0.88 and before[0] < 0.02 and (np.diff(after) <= 0).all()
        assert (after > 0.3).sum() > (before > 0.3).sum() and after[-1] < 0.1


def test_blinks_gather_where_phrases_end():
    audio, ends, _ = speech(phrases=60)
    frames = frames_of(audio)
    times = peaks(blinks(prosody(audio, frames), frames, 20.0, seed=0)) / FPS
    near = np.abs(times[:, None] - ends).min(1) < 0.24
    assert near.mean() > 0.45  # 0.18 by chance


def test_brows_rise_at_stresses_and_no_farther_than_the_person():
    audio, _, accents = speech(phrases=30)
    raised = brows(prosody(audio, frames_of(audio)), frames_of(audio), seed=0)
    at = np.array([raised[round(t * FPS) - 2 : round(t * FPS) + 3].max() for t in accents])
    assert 0.4 < (at > 0.15).mean() < 0.95 and raised.max() < 0.6 and abs(np.median(raised)) < 0.1


def test_mouth_channels_stay_neutral_unless_asked_for():
    audio, _, _ = speech()
    frames = frames_of(audio)
    mouth = WHOLE.is_mouth
    assert {
        name for name, mouth_channel in zip(WHOLE.names, mouth, strict=True) if mouth_channel
    } == MOUTH_CHANNELS
    pose_expression = np.random.default_rng(0).normal(size=(frames, len(WHOLE))).astype(np.float32)
    assert not animate_face(audio, frames, WHOLE, pose_expression=pose_expression)[:, mouth].any()
    smiling = animate_face(audio, frames, WHOLE, FaceControls(expression={"smile": 0.6}))
    assert (smiling[:, WHOLE.names.index("smile")] == np.float32(0.6)).all()
    assert not np.delete(smiling, WHOLE.names.index("smile"), 1)[
        :, np.delete(mouth, WHOLE.names.index("smile"))
    ].any()


def test_the_gaze_is_the_poses_own_and_their_blinks_are_not():
    frames = 200
    pose_expression = (
        np.random.default_rng(0).uniform(-1, 1, (frames, len(WHOLE))).astype(np.float32)
    )
    values = animate_face(
        np.zeros(0, np.float32), frames, WHOLE, FaceControls(blink_rate=0), pose_expression
    )
    gaze = [WHOLE.names.index(name) for name in ("gaze_right", "gaze_up")]
    assert np.array_equal(values[:, gaze], pose_expression[:, gaze])
    assert not np.delete(values, gaze, 1).any()


def test_one_seed_gives_one_face():
    audio, _, _ = speech()
    faces = [
        animate_face(audio, frames_of(audio), WHOLE, FaceControls(seed=seed)) for seed in (1, 1, 2)
    ]
    assert faces[0].dtype == np.float32 and np.array_equal(faces[0], faces[1])
    assert not np.array_equal(faces[0], faces[2])


def streamed(samples, look_ahead, seed, controls=FaceControls()):  # noqa: B008
    """The expression of audio in chunks of random sizes, taken as soon as it can be."""
    stream, rng = FaceStream(WHOLE, controls, look_ahead), np.random.default_rng(seed)
    values, start = [], 0
    while start < len(samples):
        count = int(rng.choice([0, 1, 321, 640, 7000, 90_000]))
        stream.push(samples[start : start + count])
        start += count
        values.append(stream.take(np.zeros((int(rng.integers(0, stream.ready + 1)), len(WHOLE)))))
    stream.finish()
    return np.concatenate([*values, stream.take(np.zeros((stream.ready, len(WHOLE))))])


@pytest.mark.parametrize("look_ahead", [HOP, 12, LOOK_AHEAD_FRAMES])
def test_chunks_of_any_size_give_the_same_face(look_ahead, tmp_path):
    audio, _, _ = speech(phrases=9)
    audio = np.concatenate([audio, np.zeros(333, np.float32)])
    (tmp_path / "a.csv").write_text("time,smile\n0,0\n20,1\n")
    controls = FaceControls("happy", {"brow_raise": 0.2}, curves=tmp_path / "a.csv")
    faces = [streamed(audio, look_ahead, seed, controls) for seed in range(3)]
    assert len(faces[0]) == -(-len(audio) // 640) and all(
        np.array_equal(faces[0], face) for face in faces[1:]
    )
    if look_ahead == LOOK_AHEAD_FRAMES:
        assert np.array_equal(faces[0], animate_face(audio, len(faces[0]), WHOLE, controls))


@pytest.mark.parametrize("look_ahead", [HOP, 60])
def test_a_frame_comes_out_with_its_look_ahead_and_depends_on_nothing_later(look_ahead):
    audio, _, _ = speech(phrases=4)
    stream = FaceStream(WHOLE, look_ahead=look_ahead)
    margin = 192  # samples, 12 ms: see the docstring of FaceStream
    for start in range(0, len(audio), 640):
        stream.push(audio[start : start + 640])
        stream.take(np.zeros((stream.ready, len(WHOLE))))
        assert stream.taken >= (start + 640 - margin) // 640 - look_ahead + 1
    at = 150
    cut = np.concatenate([audio[: (at + look_ahead) * 640 + margin], np.ones(20_000, np.float32)])
    one, other = streamed(audio, look_ahead, 0), streamed(cut, look_ahead, 0)
    assert np.array_equal(one[: at + 1], other[: at + 1])


@pytest.mark.parametrize(("look_ahead", "late"), [(60, 0.0), (25, 0.2), (HOP, 0.45)])
def test_with_less_look_ahead_blinks_and_brows_follow_a_little_later(look_ahead, late):
    audio, ends, accents = speech(phrases=60)
    face = streamed(audio, look_ahead, 0, FaceControls(blink_rate=20.0))
    times = peaks(face[:, 0]) / FPS
    since = times[:, None] - ends
    assert ((since > -0.1) & (since < 0.24 + late)).any(1).mean() > 0.45
    assert len(times) / (len(face) / FPS / 60) == pytest.approx(20, rel=0.2)
    raised = face[:, WHOLE.names.index("brow_inner_up")]
    frames = [(round((t - 0.08) * FPS), round((t + 0.08 + late) * FPS) + 1) for t in accents]
    assert 0.4 < np.mean([raised[a:b].max() > 0.15 for a, b in frames[3:]]) < 0.95


def test_memory_does_not_grow():
    audio, _, _ = speech(phrases=10)
    stream = FaceStream(WHOLE)
    for _ in range(20):
        stream.push(audio)
        stream.take(np.zeros((stream.ready, len(WHOLE))))
        kept = (
            len(stream._prosody._loudness),
            len(stream._prosody._samples),
            len(stream._computed),
            len(stream._blinks._running),
        )
        assert np.all(np.array(kept) <= (500 + LOOK_AHEAD_FRAMES + 700, 2000, HOP, 16)), kept


@pytest.mark.parametrize("mood", list(MOODS))
def test_moods_differ(mood):
    faces = {
        name: animate_face(
            np.zeros(0, np.float32), 50, WHOLE, FaceControls(mood=name, blink_rate=0)
        ).mean(0)
        for name in MOODS
    }
    others = [np.abs(faces[mood] - face).max() for name, face in faces.items() if name != mood]
    assert min(others) >= 0.3


def test_expressions_are_added_to_the_mood_and_limited_to_the_range_of_the_clip(capsys):
    values = animate_face(
        np.zeros(0, np.float32), 5, SHORT, FaceControls("happy", {"AU01": 0.3, "smile": 1.0}, 0)
    )
    assert np.allclose(values, [[0, 0.4, 0.2 * RANGE_FACTOR]] * 5)
    assert "smile 1.70 is limited to 0.25: the clip shows no more of it" in capsys.readouterr().err
    least, most = channel_limits(SHORT)
    assert list(least) == [0, -0.5 * RANGE_FACTOR, 0] and list(most) == [
        1,
        RANGE_FACTOR,
        0.2 * RANGE_FACTOR,
    ]


def test_half_closed_eyes_still_blink_and_shut_ones_are_not_wide():
    frames = 2000
    values = animate_face(
        np.zeros(0, np.float32),
        frames,
        WHOLE,
        FaceControls(expression={"blink": 0.4, "eye_wide": 0.5}),
    )
    lids, wide = values[:, 0], values[:, WHOLE.names.index("lid_up")]
    assert lids.min() == np.float32(0.4) and lids.max() > 0.88
    assert np.allclose(wide, 0.5 * (1 - lids), atol=1e-6)


def test_an_avatar_with_the_blink_alone_blinks_and_refuses_the_rest():
    audio, _, _ = speech()
    values = animate_face(audio, frames_of(audio), BLINK_ONLY)
    assert values.shape == (frames_of(audio), 1) and values.max() > 0.85
    with pytest.raises(UsageError, match="no expression 'smile'. *It has blink$"):
        animate_face(audio, 9, BLINK_ONLY, FaceControls(expression={"smile": 1}))
    with pytest.raises(UsageError, match="cannot look happy"):
        animate_face(audio, 9, BLINK_ONLY, FaceControls("happy"))
    with pytest.raises(UsageError, match="brow_raise"):
        animate_face(audio, 9, SHORT, FaceControls(expression={"brow_raise": 1}))
    assert set(expression_names(WHOLE)) == {*WHOLE.names, *EXPRESSIONS}


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        (FaceControls("gloomy"), "unknown mood 'gloomy'.*neutral, happy"),
        (FaceControls(blink_rate=-1), "blink rate of -1"),
        (FaceControls(blink_rate=float("nan")), "blink rate of nan"),
        (FaceControls(blink_rate=1000), "between 0 and 60"),
        (FaceControls(expression={"smile": 9}), "'smile' is 9"),
        (FaceControls(expression={"smile": float("nan")}), "'smile' is nan"),
        (FaceControls(expression={"grin": 1}), "no expression 'grin'.*brow_raise"),
    ],
)
def test_controls_out_of_range_are_refused(controls, message):
    with pytest.raises(UsageError) as error:
        animate_face(np.zeros(0, np.float32), 9, WHOLE, controls)
    assert re.search(message, error.value.message()) and len(error.value.message()) < 700


def test_curves_replace_the_values_of_every_frame(tmp_path):
    (tmp_path / "a.csv").write_text(
        "blink,brow_raise\n" + "".join(f"{k / 10},{-k / 20}\n" for k in range(5))
    )
    values = animate_face(
        np.zeros(0, np.float32), 8, WHOLE, FaceControls("happy", curves=tmp_path / "a.csv")
    )
    assert np.allclose(values[:, 0], [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    for name in ("brow_inner_up", "brow_outer_up"):
        assert np.allclose(values[:, WHOLE.names.index(name)], -values[:, 0] / 2)
    assert np.allclose(values[:, WHOLE.names.index("smile")], 0.7)  # a channel without a curve
    (tmp_path / "b.json").write_text(json.dumps({"time": [0.0, 0.16], "AU12": [0.0, 1.0]}))
    assert np.allclose(
        read_curves(tmp_path / "b.json").at_frames(0, 6)["AU12"], [0, 0.25, 0.5, 0.75, 1, 1]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "smile\n", "no rows"),
        ("a.csv", "smile,smile\n1,1\n", "different names"),
        ("a.csv", "smile,blink\n1\n", "row 2 has 1 cells"),
        ("a.csv", "smile\nwide\n", "wide"),
        ("a.csv", "smile\nnan\n", "not finite"),
        ("a.csv", "time,smile\n0,1\n0,1\n", "do not rise"),
        ("a.json", "[1]", "not an object"),
        ("a.json", "{}", "no curve"),
        ("a.json", '{"smile": [1, "2"]}', "not a list of numbers"),
        ("a.json", '{"smile": [1], "blink": [1, 2]}', "different lengths"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.csv", None, "cannot be read"),
        ("a.csv", b"\xff\xfe\x00\x01", "cannot be read"),
    ],
)
def test_bad_curve_files_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputRejected) as error:
        read_curves(tmp_path / name)
    assert message in error.value.message()


def test_options_are_read():
    values = face_controls("serious", "smile=0.6, brow_raise=-0.3", 12.0, None, 7)
    assert values == FaceControls("serious", {"smile": 0.6, "brow_raise": -0.3}, 12.0, None, 7)
    assert face_controls("neutral", None, None, None, 0) == FaceControls()
    for text in ("smile", "smile=", "smile=much", "=1", "smile=1,smile=1", "smile=1,,"):
        with pytest.raises(UsageError, match="--expression"):
            face_controls("neutral", text, None, None, 0)


@pytest.mark.parametrize("name", ["render", "tts-video"])
def test_both_commands_take_them(name):
    from being.cli.app import app

    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert all(
        option in shown
        for option in ("--mood", "--expression", "--blink-rate", "--curves", "--seed")
    )

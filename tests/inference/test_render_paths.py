"""Every way from a sound to a video, from the command line: features of each kind of encoder or
from a file, sound of every kind and length, blocks of any size."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_audio import TAKEN, write
from program import being, refused
from tiny_avatar import write_tiny_avatar
from tiny_home import hum

from being.audio import encoders, feature_stream, feature_windows
from being.cli.render_options import RenderOptions
from being.inference import video
from being.inference.engine import Engine
from being.inference.video import Times, render_video
from being.media import probe, read_audio, read_frames, write_wav
from being.model.avatar import load_avatar

STEP = encoders.SAMPLES_PER_STEP


class Loudness(encoders.PieceEncoder):
    """A stand-in: each step's own loudness, so that pieces of any size give the same."""

    name, width = "loudness", 2

    def encode_pieces(self, sounds: np.ndarray) -> np.ndarray:
        steps = np.abs(sounds).reshape(len(sounds), -1, STEP).mean(2)
        return np.stack([8 * steps, np.ones_like(steps)], 2).astype(np.float32)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An empty current folder, the stand-in among the encoders, none kept from another test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEING_OFFLINE", "1")
    monkeypatch.setitem(encoders.ENCODERS, "loudness", Loudness)
    encoders.encoder.cache_clear()
    yield
    encoders.encoder.cache_clear()


def rendered(avatar: Path, sound: Path, *options: Any) -> list[np.ndarray]:
    """The frames of `being render`."""
    result = being(
        "render",
        avatar,
        "--audio",
        sound,
        "--out",
        "one.mp4",
        "--device",
        "cpu",
        "--json",
        *options,
    )
    assert result.exit_code == 0, result.stderr
    frames = list(read_frames(Path("one.mp4")))
    assert json.loads(result.stdout)["frames"] == len(frames)
    return frames


def array(frames: int, width: int = 29, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, 16, width)).astype(np.float32)


# --- sound of every kind
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAKEN)
def test_the_video_is_as_long_as_its_sound(name: str) -> None:
    samples, rate, floats = TAKEN[name]
    avatar, sound = (
        write_tiny_avatar(Path("avatar"), "loudness", 2),
        write(Path("s.wav"), samples, rate, floats),
    )
    frames = rendered(avatar, sound)
    assert abs(len(frames) - len(samples) / rate * 25) <= 1
    heard = read_audio(Path("one.mp4"))
    assert (
        np.isfinite(heard).all()
        and abs(len(heard) / 640 - len(frames)) <= 2
        and probe(Path("one.mp4")).fps == 25
    )
    assert (np.abs(heard).max() > 0.03) == (name != "silence")


@pytest.mark.parametrize(
    ("seconds", "nan", "says"), [(0.01, False, "10 ms long"), (1.0, True, "not (numbers|finite)")]
)
def test_what_is_no_sound_is_refused_in_one_message(seconds: float, nan: bool, says: str) -> None:
    avatar, sound = write_tiny_avatar(Path("avatar"), "loudness", 2), hum(seconds)
    sound[80:90] = np.nan if nan else 0
    refused(
        4,
        says,
        "render",
        avatar,
        "--audio",
        write(Path("s.wav"), sound, 16_000, True),
        "--device",
        "cpu",
    )


# --- encoders of every kind
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hama", "hama@low", "hama@stream"])
def test_the_encoder_that_the_avatar_names_is_the_one_it_hears(name: str, hearing: None) -> None:
    write_wav(Path("s.wav"), hum(1.1) * np.linspace(0, 1, 17_600, dtype=np.float32))
    sound = read_audio(Path("s.wav"))
    avatar = write_tiny_avatar(Path("avatar"), name, encoders.encoder(name).width)
    assert len(rendered(avatar, Path("s.wav"))) == 28
    engine = Engine(load_avatar(avatar), "float32")
    own = torch.from_numpy(feature_windows.encode(sound, 28, name))
    assert torch.allclose(torch.cat(list(engine.encode(sound))), own, atol=1e-4)
    other = torch.from_numpy(
        feature_windows.encode(sound, 28, "hama@low" if name == "hama" else "hama")
    )
    mine, theirs = (np.stack(list(engine.stream(f))).astype(int) for f in (own, other))
    assert (mine != theirs).any()


def test_a_transformers_model_in_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=1,
            num_conv_pos_embedding_groups=2,
        )
    )
    model.save_pretrained(tmp_path / "model")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "model")
    write_wav(Path("s.wav"), hum(0.9))
    for name in (f"{tmp_path}/model", f"{tmp_path}/model:1", f"{tmp_path}/model@low"):
        assert len(rendered(write_tiny_avatar(Path("avatar"), name, 16), Path("s.wav"))) == 23
    gone = write_tiny_avatar(Path("gone"), f"{tmp_path}/nowhere", 16)
    refused(
        3, "encoder.*nowhere.*cannot be had", "render", gone, "--audio", "s.wav", "--device", "cpu"
    )


# --- features that another program has made
# --------------------------------------------------------------------------


def test_features_come_from_a_file_where_another_program_makes_them() -> None:
    avatar = write_tiny_avatar(Path("avatar"), "deepspeech", 29)
    write_wav(Path("s.wav"), hum(1.3))
    for command in (["render", "--audio", "s.wav"], ["tts-video", "--text", "Hello"]):
        refused(
            2,
            "hears 'deepspeech' features.*another program.*--features FILE.npy",
            *command,
            avatar,
            "--out",
            "new/one.mp4",
            "--device",
            "cpu",
        )
    videos = []
    for rows, seed in ((33, 0), (33, 1), (31, 0), (35, 0)):  # 33 frames
        np.save("s.npy", array(rows, seed=seed))
        videos.append(np.stack(rendered(avatar, Path("s.wav"), "--features", "s.npy")).astype(int))
        assert len(videos[-1]) == 33
    assert (videos[0] != videos[1]).any(), "the lips follow the file"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (array(33, 28), "28 wide.*expected 29"),
        (array(29), "29 rows.*33 frames"),
        (array(90), "90 rows.*33 frames"),
        (array(33)[:, :8], r"expected float \[frames, 16"),
        (array(33).astype(int), "expected float"),
        (np.full((33, 16, 29), np.inf, np.float32), "not finite"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_features_that_will_not_do(values: np.ndarray | None, says: str) -> None:
    avatar = write_tiny_avatar(Path("avatar"), "deepspeech", 29)
    write_wav(Path("s.wav"), hum(1.3))
    if values is not None:
        np.save("s.npy", values)
    refused(
        4,
        says,
        "render",
        avatar,
        "--audio",
        "s.wav",
        "--features",
        "s.npy",
        "--out",
        "new/one.mp4",
        "--device",
        "cpu",
    )


def test_features_of_the_clip_s_own_sound_are_those_of_the_dataset(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a run that was trained on another program's features renders its own sound without any
    file.
    """
    monkeypatch.setattr(Engine, "encode", lambda *_: pytest.fail("they are there"))
    assert being("render", run, "--out", "one.mp4", "--device", "cpu").exit_code == 0


# --- sound of any length
# ---------------------------------------------------------------------------------------------


def test_blocks_of_any_size_give_the_same_video(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load_avatar(write_tiny_avatar(Path("avatar"), "loudness", 2)))
    sound = hum(25) * np.abs(np.sin(np.arange(400_000) / 5000)).astype(np.float32)
    made: list[np.ndarray] = []
    written: list[np.ndarray] = []  # before the encoder: its threads may end in other bits
    whole = video.WritingThread.write
    monkeypatch.setattr(
        video.WritingThread,
        "write",
        lambda self, frame: written.append(frame) or whole(self, frame),
    )
    for pieces, block in ((8 * 50, 1 << 20), (40, 1000)):
        monkeypatch.setattr(encoders, "PIECE", pieces)
        monkeypatch.setattr(video, "BLOCK", block)
        written.clear()
        render_video(engine, sound, Path("one.mp4"), "hum", Times())
        made.append(np.stack(written))
    assert len(made[0]) == 625 and np.array_equal(made[0], made[1])


def test_memory_does_not_grow_with_the_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sound itself takes none here: one number stands for all samples."""
    engine = Engine(load_avatar(write_tiny_avatar(Path("avatar"), "loudness", 2)))
    monkeypatch.setattr(video, "BLOCK", 16_000)
    monkeypatch.setattr(feature_stream, "CHECKED", 16_000)
    peaks = []
    for seconds in (20, 60):
        tracemalloc.start()
        sound = np.broadcast_to(np.float32(0.25), seconds * 16_000)
        made = render_video(engine, sound, Path("one.mp4"), "one number", Times())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made["frames"] == seconds * 25
    assert peaks[1] < peaks[0] + 2**20, peaks


# --- options
# ---------------------------------------------------------------------------------------------------------


def test_each_second_counts_for_one_step() -> None:
    times, clock = Times(), [0.0]
    video_clock = video.time.perf_counter
    try:
        video.time.perf_counter = lambda: clock[0]

        def blocks() -> Any:
            for _ in range(3):
                clock[0] += 2
                yield 0

        with times.step("render"):
            for _ in times.each("features", blocks()):
                clock[0] += 1
    finally:
        video.time.perf_counter = video_clock
    assert times.rounded() == {"features": 6.0, "render": 3.0}


@pytest.mark.parametrize(
    "option", [["--prune-to", "0.5"], ["--deform-every", "2"], ["--precision", "float32"]]
)
def test_options_of_the_engine_reach_it(option: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    avatar, given = write_tiny_avatar(Path("avatar"), "loudness", 2), []
    whole = Engine.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Engine, "load", classmethod(lambda cls, *a: given.append(a[2:]) or whole(cls, *a))
    )
    write_wav(Path("s.wav"), hum(0.5))
    try:
        assert len(rendered(avatar, Path("s.wav"), *option)) == 13
    except AssertionError as error:
        if "native engine" not in str(error):
            raise
        pytest.skip("no native engine here")
    assert option[1] in map(str, given[0])


def test_render_and_tts_video_share_their_options() -> None:
    import inspect

    from being.cli.avatar_commands import render, tts_video
    from being.cli.render_options import spread

    shared = list(inspect.signature(RenderOptions).parameters)
    for command in (render, tts_video):
        assert list(inspect.signature(spread(command)).parameters)[-len(shared) :] == shared

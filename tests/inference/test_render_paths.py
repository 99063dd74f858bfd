"""From audio to video on the command line: every kind of encoder, feature files, any audio."""

from __future__ import annotations

import json
import tracemalloc
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loudness_encoder import LoudnessEncoder
from odd_audio import TAKEN, write
from PIL import Image
from placed_avatar import HEIGHT, WIDTH, write_placed_avatar
from program import being, refused
from tiny_avatar import SIZE, write_tiny_avatar
from tiny_home import hum

from being.audio import clip_features, encoder_interface, encoders, feature_stream
from being.cli.render_options import RenderOptions
from being.inference import video
from being.inference.engine import Engine
from being.inference.video import StepTimes, render_video
from being.media import probe, read_audio, read_frames, read_original_audio, write_wav
from being.media.loudness import measure_loudness
from being.model.avatar import load_avatar


@pytest.fixture(autouse=True)
def working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An empty current folder; the test encoder is registered; no encoder is cached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEING_OFFLINE", "1")
    monkeypatch.setitem(encoders.ENCODERS, "loudness", LoudnessEncoder)
    encoders.load_encoder.cache_clear()
    yield
    encoders.load_encoder.cache_clear()


def rendered(avatar: Path, audio: Path, *options: Any) -> list[np.ndarray]:
    """The frames of `being render`."""
    result = being(
        "render",
        avatar,
        "--audio",
        audio,
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


# --- audio of every kind ---


@pytest.mark.parametrize("name", TAKEN)
def test_the_video_is_as_long_as_its_audio(name: str) -> None:
    samples, rate, floats = TAKEN[name]
    avatar = write_tiny_avatar(Path("avatar"), "loudness", 2)
    frames = rendered(avatar, write(Path("s.wav"), samples, rate, floats))
    assert abs(len(frames) - len(samples) / rate * 25) <= 1
    assert probe(Path("one.mp4")).fps == 25

    audio = read_audio(Path("one.mp4"))
    assert np.isfinite(audio).all() and abs(len(audio) / 640 - len(frames)) <= 2
    assert (np.abs(audio).max() > 0.03) == (name != "silence")


@pytest.mark.parametrize(
    ("seconds", "nan", "message"), [(0.01, False, "10 ms long"), (1.0, True, "not finite")]
)
def test_audio_that_cannot_be_used_is_refused(seconds: float, nan: bool, message: str) -> None:
    avatar, audio = write_tiny_avatar(Path("avatar"), "loudness", 2), hum(seconds)
    audio[80:90] = np.nan if nan else 0
    refused(
        4,
        message,
        "render",
        avatar,
        "--audio",
        write(Path("s.wav"), audio, 16_000, True),
        "--device",
        "cpu",
    )


# --- encoders of every kind ---


@pytest.mark.parametrize("name", ["hama", "hama@low", "hama@stream"])
def test_the_encoder_that_the_avatar_names_is_used(name: str, speech_encoder: None) -> None:
    write_wav(Path("s.wav"), hum(1.1) * np.linspace(0, 1, 17_600, dtype=np.float32))
    audio = read_audio(Path("s.wav"))
    avatar = write_tiny_avatar(Path("avatar"), name, encoders.load_encoder(name).width)
    assert len(rendered(avatar, Path("s.wav"))) == 28
    engine = Engine(load_avatar(avatar), "float32")
    own = torch.from_numpy(clip_features.encode_frames(audio, 28, name))
    assert torch.allclose(torch.cat(list(engine.encode(audio))), own, atol=1e-4)
    other = torch.from_numpy(
        clip_features.encode_frames(audio, 28, "hama@low" if name == "hama" else "hama")
    )
    images, others = (np.stack(list(engine.stream(f))).astype(int) for f in (own, other))
    assert (images != others).any()


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


# --- features that another program wrote ---


def test_features_of_another_program_come_from_a_file() -> None:
    avatar = write_tiny_avatar(Path("avatar"), "deepspeech", 29)
    write_wav(Path("s.wav"), hum(1.3))
    for command in (["render", "--audio", "s.wav"], ["tts-video", "--text", "Hello"]):
        refused(
            2,
            "needs 'deepspeech' speech features.*another program.*--features FILE.npy",
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
        (None, "is missing"),
    ],
)
def test_a_bad_feature_file_is_refused(values: np.ndarray | None, says: str) -> None:
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


def test_features_of_the_clips_own_audio_are_those_of_the_dataset(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run trained on another program's features renders its own audio without a file."""
    monkeypatch.setattr(Engine, "encode", lambda *_: pytest.fail("the dataset has them"))
    assert being("render", run, "--out", "one.mp4", "--device", "cpu").exit_code == 0


# --- the file


def stereo_wav(path: Path, rate: int, seconds: float) -> np.ndarray:
    """Two tones, the right one of 10 kHz, as 16-bit PCM; returns float [T, 2]."""
    t = np.arange(round(rate * seconds)) / rate
    samples = np.stack([0.1 * np.sin(2 * np.pi * 300 * t), 0.1 * np.sin(2 * np.pi * 1e4 * t)], 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32767 * samples).round().astype("<i2").tobytes())
    return samples


def test_the_video_keeps_the_audio_that_was_given(tmp_path: Path) -> None:
    """Rate, channels, and content above 8 kHz; at the loudness that was asked for."""
    avatar = write_placed_avatar(Path("placed"), "loudness", 2)
    given = stereo_wav(Path("given.wav"), 48_000, 1.0)
    rendered(avatar, Path("given.wav"))
    found, rate = read_original_audio(Path("one.mp4"))
    assert rate == 48_000 and found.shape[1] == 2 and abs(len(found) - 48_000) <= 1024
    assert np.abs(found[9600:38400] - given[9600:38400]).max() < 0.04
    assert (found[9600:38400, 1] ** 2).mean() > 0.9 * (given[:, 1] ** 2).mean()

    rendered(avatar, Path("given.wav"), "--loudness", -23, "--force")
    louder, _ = read_original_audio(Path("one.mp4"))
    assert abs(measure_loudness(louder, 48_000).integrated + 23) < 0.5
    assert (louder[9600:38400, 1] ** 2).mean() > 0.5 * (louder[9600:38400, 0] ** 2).mean()


def test_looks_of_the_command_line_reach_the_file(tmp_path: Path) -> None:
    avatar = write_placed_avatar(Path("placed"), "loudness", 2)
    write_wav(Path("speech.wav"), hum(0.4))
    usual = np.stack(rendered(avatar, Path("speech.wav")))
    assert usual.shape[1:] == (SIZE, SIZE, 3)
    whole = rendered(avatar, Path("speech.wav"), "--into-source", "--force")
    assert len(whole) == len(usual) and whole[0].shape == (HEIGHT, WIDTH, 3)
    words = ("render", avatar, "--audio", "speech.wav", "--device", "cpu")
    result = being(*words, "--fps", 60, "--crf", 30, "--out", "fast.mp4", "--json")
    assert json.loads(result.stdout)["frames"] == 24
    assert round(probe(Path("fast.mp4")).fps) == 60

    result = being(*words, "--background", "transparent", "--codec", "png", "--out", "frames")
    assert result.exit_code == 0, result.stderr
    names = sorted(path.name for path in Path("frames").iterdir())
    assert names == [*(f"{k:06d}.png" for k in range(10)), "audio.wav"]
    picture = np.asarray(Image.open("frames/000003.png"))
    assert picture.shape == (SIZE, SIZE, 4) and picture[..., 3].min() < 100
    for options, code, said in (
        (("--background", "transparent", "--out", "a.mp4"), 2, "no transparency"),
        (("--codec", "divx", "--out", "a.mp4"), 2, "unknown codec"),
        (("--bitrate", "fast", "--out", "a.mp4"), 2, "--bitrate fast"),
        (("--loudness", -60, "--out", "a.mp4"), 2, "-60 is not from -40 to -5"),
        (("--fps", 24, "--out", "a.mp4"), 2, "--fps 24 is not possible"),
        (("--codec", "png", "--out", "frames"), 1, "exists"),
    ):
        refused(code, said, *words, *options)
    assert not Path("a.mp4").exists()


# --- audio of any length ---


def test_blocks_of_any_size_give_the_same_video(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load_avatar(write_tiny_avatar(Path("avatar"), "loudness", 2)))
    audio = hum(25) * np.abs(np.sin(np.arange(400_000) / 5000)).astype(np.float32)
    videos: list[np.ndarray] = []
    # The frames before the video encoder: its threads may give other bits.
    written: list[np.ndarray] = []
    write_frame = video.FrameWriter.write
    monkeypatch.setattr(
        video.FrameWriter,
        "write",
        lambda self, frame: written.append(frame) or write_frame(self, frame),
    )
    for pieces, block in ((8 * 50, 1 << 20), (40, 1000)):
        monkeypatch.setattr(encoder_interface, "PIECE_STEPS", pieces)
        monkeypatch.setattr(video, "BLOCK_SAMPLES", block)
        written.clear()
        render_video(engine, audio, Path("one.mp4"), "hum", StepTimes())
        videos.append(np.stack(written))
    assert len(videos[0]) == 625 and np.array_equal(videos[0], videos[1])


def test_memory_does_not_grow_with_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audio itself takes no memory here: one number stands for all samples."""
    engine = Engine(load_avatar(write_tiny_avatar(Path("avatar"), "loudness", 2)))
    monkeypatch.setattr(video, "BLOCK_SAMPLES", 16_000)
    monkeypatch.setattr(feature_stream, "CHECK_BLOCK", 16_000)
    peaks = []
    for seconds in (20, 60):
        tracemalloc.start()
        audio = np.broadcast_to(np.float32(0.25), seconds * 16_000)
        figures = render_video(engine, audio, Path("one.mp4"), "one number", StepTimes())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert figures["frames"] == seconds * 25
    assert peaks[1] < peaks[0] + 2**20, peaks


# --- options ---


def test_each_second_counts_for_one_step() -> None:
    times, clock = StepTimes(), [0.0]
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
    avatar, arguments = write_tiny_avatar(Path("avatar"), "loudness", 2), []
    load = Engine.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Engine, "load", classmethod(lambda cls, *a: arguments.append(a[2:]) or load(cls, *a))
    )
    write_wav(Path("s.wav"), hum(0.5))
    try:
        assert len(rendered(avatar, Path("s.wav"), *option)) == 13
    except AssertionError as error:
        if "native renderer" not in str(error):
            raise
        pytest.skip("no native renderer here")
    assert option[1] in map(str, arguments[0])


def test_render_and_tts_video_share_their_options() -> None:
    import inspect

    from being.cli.avatar_commands import render, tts_video
    from being.cli.render_options import with_render_options

    shared = list(inspect.signature(RenderOptions).parameters)
    for command in (render, tts_video):
        parameters = list(inspect.signature(with_render_options(command)).parameters)
        assert parameters[-len(shared) :] == shared

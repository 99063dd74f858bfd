"""Media files read and written: timestamps, frame counts, offsets, complete files or none."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from odd_clips import write_odd

from being.errors import BeingError, InputRejected
from being.media import (
    AI_NOTICE,
    VideoWriter,
    probe,
    read_audio,
    read_audio_track,
    read_frames,
    read_timed_frames,
    rgb_image,
    write_wav,
)


def grey(value, size=64):
    return np.full((size, size, 3), value, np.uint8)


def write(path, frames=30, audio=None, **settings):
    with VideoWriter(path, 64, 64, audio=audio, **settings) as video:
        for i in range(frames):
            video.write(grey(5 * i))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_frames_and_audio_come_back_aligned(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    click = np.zeros(30 * 640, np.float32)
    click[10 * 640 : 11 * 640] = 0.5 * np.sin(np.arange(640) * 0.3)
    write(path, audio=click)
    frames = list(read_frames(path))
    assert len(frames) == 30
    assert max(abs(int(f.mean()) - 5 * i) for i, f in enumerate(frames)) <= 6
    heard = read_audio(path)
    assert abs(len(heard) - len(click)) <= 1600
    energy = np.add.reduceat(heard[: 30 * 640] ** 2, np.arange(0, 30 * 640, 640))
    assert energy.argmax() == 10
    assert AI_NOTICE in str(av.open(str(path)).metadata)


def test_variable_frame_rate_is_resampled_by_timestamps(tmp_path):
    path = tmp_path / "vfr.mp4"
    times = [
        0,
        2,
        3,
        4,
        8,
        9,
        10,
        11,
        12,
        20,
    ]  # in units of 1/50 s; what is shown at frame i is the nearest one
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=50)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for k, t in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(20 * k), "rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = [round(f.mean() / 20) for f in read_frames(path)]
    nearest = [min(range(len(times)), key=lambda k: (abs(times[k] - 2 * i), -k)) for i in range(11)]
    assert shown == nearest


def test_an_interrupt_while_a_video_is_opened_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("being.media.writing.tag_stream_as_bt709", interrupted)
    with pytest.raises(KeyboardInterrupt):
        VideoWriter(tmp_path / "a.mp4", 64, 64)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_video_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", 64, 64) as video:
        video.write(grey(1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a.mp4", tmp_path / "a.txt", tmp_path / "noname"):
        with pytest.raises(BeingError, match="cannot write"):
            VideoWriter(path, 64, 64)


def test_files_that_are_no_media_are_rejected(tmp_path):
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "empty.mp4").touch()
    write_wav(tmp_path / "audio.wav", np.zeros(1000, np.float32))
    write(tmp_path / "mute.mp4")
    for name in ("text.mp4", "empty.mp4", "audio.wav", "missing.mp4", "."):
        with pytest.raises(InputRejected):
            probe(tmp_path / name)
    with pytest.raises(InputRejected, match="no audio"):
        read_audio(tmp_path / "mute.mp4")


def test_an_audio_frame_that_the_filter_refuses_costs_only_itself(tmp_path, monkeypatch):
    """A damaged header gives such frames."""
    write_wav(tmp_path / "a.wav", np.full(16000, 0.5, np.float32))
    resampler, calls = av.AudioResampler, []

    class Refusing:
        def __init__(self, *arguments):
            self.resampler = resampler(*arguments)

        def resample(self, frame):
            calls.append(frame)
            if len(calls) == 2:
                raise av.error.ArgumentError(22, "Invalid argument")
            return self.resampler.resample(frame)

    monkeypatch.setattr(av, "AudioResampler", Refusing)
    samples = read_audio(tmp_path / "a.wav")
    assert len(calls) > 3 and abs(len(samples) - 16000) <= calls[1].samples


def test_wav_round_trip(tmp_path):
    samples = 0.5 * np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    write_wav(tmp_path / "a.wav", samples)
    assert np.abs(read_audio(tmp_path / "a.wav") - samples).max() < 1e-3


def moving(count=50, height=48, width=64):
    """A white bar that moves over a coloured ground; its position gives the frame's number."""
    pictures = []
    for i in range(count):
        rgb_image = np.full((height, width, 3), (40, 90, 200), np.uint8)
        rgb_image[:, i : i + 6] = 255
        pictures.append(rgb_image)
    return pictures


def bar_at(rgb_image):
    return int(
        np.argmax(
            np.convolve(rgb_image[rgb_image.shape[0] // 2, :, 0].astype(float), np.ones(6), "valid")
        )
    )


ODD = {
    "ten bits": (
        "a.mp4",
        {"codec": "libx265", "pixels": "yuv420p10le", "options": {"x265-params": "log-level=0"}},
    ),
    "full colour": ("a.mkv", {"codec": "ffv1", "pixels": "yuv444p"}),
    "grey": ("a.mp4", {"pixels": "gray"}),
    "vp9": (
        "a.webm",
        {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    ),
    "animation": ("a.gif", {"codec": "gif", "pixels": "rgb8"}),
    "stream": ("a.ts", {}),
    "before 0": ("a.mkv", {"times": [i / 25 - 2 for i in range(50)]}),
    "late": ("a.mkv", {"times": [i / 25 + 90_000 for i in range(50)]}),
}


@pytest.mark.parametrize("kind", ODD)
def test_unusual_files_are_read_completely(tmp_path, kind):
    name, settings = ODD[kind]
    path = write_odd(tmp_path / name, moving(), **settings)
    info = probe(path)
    assert (info.width, info.height) == (64, 48) and info.duration == pytest.approx(2, abs=0.1)
    times, shown = zip(
        *((time, rgb_image(frame, 64, 48)) for time, frame in read_timed_frames(path)), strict=True
    )
    assert np.allclose(np.diff(times), 0.04, atol=2e-3)
    assert [abs(bar_at(p) - i) <= 1 for i, p in enumerate(shown)] == [True] * 50


def test_rotated_and_stretched_images_are_made_upright(tmp_path):
    tall = [np.ascontiguousarray(np.rot90(p, -1)) for p in moving()]
    info = probe(path := write_odd(tmp_path / "turned.mp4", tall, turn=90))
    assert (info.width, info.height, info.rotation) == (64, 48, 90)
    assert [abs(bar_at(p) - i) <= 1 for i, p in enumerate(read_frames(path))] == [True] * 50
    info = probe(write_odd(tmp_path / "wide.mp4", moving(5), aspect=Fraction(3, 2)))
    assert (info.width, info.height) == (96, 48)


def test_transparency_becomes_grey(tmp_path):
    clear = [
        np.dstack(
            [p, np.where(np.arange(64) < 32, 0, 255).astype(np.uint8) * np.ones((48, 1), np.uint8)]
        )
        for p in moving(5)
    ]
    path = write_odd(
        tmp_path / "a.mov",
        clear,
        codec="prores_ks",
        pixels="yuva444p10le",
        options={"profile": "4444"},
    )
    shown = next(read_frames(path))
    assert probe(path).alpha and np.abs(shown[:, :30].astype(int) - 128).max() <= 3
    assert np.abs(shown[:, 34:].mean((0, 1)) - [40, 90, 200]).max() < 5


def test_damage_costs_only_the_damaged_frames(tmp_path):
    whole = write_odd(tmp_path / "a.mkv", moving(100, 48, 128), options={"g": "10"})
    data = bytearray(whole.read_bytes())
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    assert 30 < len(list(read_timed_frames(tmp_path / "cut.mkv"))) < 100
    whole = write_odd(tmp_path / "a.mp4", moving(100, 48, 128), options={"g": "10"})
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:-200])
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = np.random.default_rng(0).bytes(60)
    (tmp_path / "hurt.mp4").write_bytes(data)
    times = [time for time, _ in read_timed_frames(tmp_path / "hurt.mp4")]
    assert len(times) > 80 and times[-1] > 3.9
    with pytest.raises(InputRejected):
        probe(tmp_path / "cut.mp4")


def test_times_always_rise(tmp_path):
    for times in ([(i - (i % 10 == 5)) / 25 for i in range(50)], [0.0] * 50):
        path = write_odd(
            tmp_path / "a.mkv", moving(), times=times, codec="mjpeg", pixels="yuvj420p"
        )
        stamps = [time for time, _ in read_timed_frames(path)]
        assert len(stamps) == 50 and min(np.diff(stamps)) > 0


def test_images_of_changing_size_are_scaled_to_one_size(tmp_path):
    pictures = moving(10) + [np.repeat(np.repeat(p, 2, 0), 2, 1) for p in moving(10)]
    path = write_odd(tmp_path / "a.mkv", pictures, codec="mjpeg", pixels="yuvj420p")
    assert {p.shape for p in read_frames(path)} == {(48, 64, 3)}
    assert [frame.width for _, frame in read_timed_frames(path)] == [64] * 10 + [128] * 10


def test_audio_is_on_the_clock_of_the_video(tmp_path):
    click = np.zeros(32_000, np.float32)
    click[16_000:16_400] = 0.5 * np.sin(np.arange(400) * 0.5)
    for start in (-0.08, 0.0, 0.3):
        path = write_odd(
            tmp_path / "a.mkv",
            moving(),
            times=[i / 25 + 1 for i in range(50)],
            sound=click,
            sound_from=1 + start,
        )
        heard = read_audio_track(path).samples_from(1.0, 40_000)
        assert abs(int(np.argmax(np.abs(heard) > 0.2)) - round(16_000 * (1 + start))) < 16 * 5
        same = read_audio(path)
        assert np.array_equal(heard[: len(same)], same[: len(heard)])

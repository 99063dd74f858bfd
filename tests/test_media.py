"""Video and sound in and out: timestamps, counts, offsets, whole files or none."""

from fractions import Fraction

import av
import numpy as np
import pytest

from being.errors import BeingError, InputRejected
from being.media import AI_NOTICE, VideoWriter, probe, read_audio, read_frames, write_wav


def grey(value, size=64):
    return np.full((size, size, 3), value, np.uint8)


def write(path, frames=30, sound=None, **settings):
    with VideoWriter(path, 64, 64, sound=sound, **settings) as video:
        for i in range(frames):
            video.write(grey(5 * i))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_frames_and_sound_come_back_in_step(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    click = np.zeros(30 * 640, np.float32)
    click[10 * 640:11 * 640] = 0.5 * np.sin(np.arange(640) * 0.3)
    write(path, sound=click)
    frames = list(read_frames(path))
    assert len(frames) == 30
    assert max(abs(int(f.mean()) - 5 * i) for i, f in enumerate(frames)) <= 6
    heard = read_audio(path)
    assert abs(len(heard) - len(click)) <= 1600
    energy = np.add.reduceat(heard[:30 * 640] ** 2, np.arange(0, 30 * 640, 640))
    assert energy.argmax() == 10
    assert AI_NOTICE in str(av.open(str(path)).metadata)


def test_variable_frame_rate_is_resampled_by_timestamps(tmp_path):
    path = tmp_path / "vfr.mp4"
    times = [0, 2, 3, 4, 8, 9, 10, 11, 12, 20]  # in units of 1/50 s; what is shown at frame i is the nearest one
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


def test_a_failed_video_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", 64, 64) as video:
        video.write(grey(1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a.mp4", tmp_path / "a.txt", tmp_path / "noname"):
        with pytest.raises(BeingError, match="cannot write"):
            VideoWriter(path, 64, 64)


def test_files_that_are_no_media_are_rejected(tmp_path):
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "empty.mp4").touch()
    write_wav(tmp_path / "sound.wav", np.zeros(1000, np.float32))
    write(tmp_path / "mute.mp4")
    for name in ("text.mp4", "empty.mp4", "sound.wav", "missing.mp4", "."):
        with pytest.raises(InputRejected):
            probe(tmp_path / name)
    with pytest.raises(InputRejected, match="no sound"):
        read_audio(tmp_path / "mute.mp4")


def test_wav_round_trip(tmp_path):
    samples = 0.5 * np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    write_wav(tmp_path / "a.wav", samples)
    assert np.abs(read_audio(tmp_path / "a.wav") - samples).max() < 1e-3

"""Videos made by the engine: exact frame count, sound and picture in step, memory flat, failures
told once.
"""

import numpy as np
import pytest
import torch
from tiny_avatar import WIDTH, tiny_avatar

from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError
from being.inference.engine import Engine
from being.inference.frame_writer import WAITING, WritingThread
from being.inference.video import Times, render_video
from being.media import read_audio, read_frames


class Flashing:
    """An engine's place: pictures black, but white while the sound is loud."""

    def __init__(self, engine, samples):
        self.avatar, self._samples = engine.avatar, samples

    def encode(self, samples):
        return [torch.zeros(-(-len(samples) // 640), 16, WIDTH)]

    def stream(self, features, expression):
        for k in range(sum(map(len, features))):
            loud = np.abs(self._samples[k * 640 : (k + 1) * 640]).max() > 0.5
            yield np.full((64, 64, 3), 255 * loud, np.uint8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(tiny_avatar(tmp_path_factory.mktemp("avatar"), size=64))


@pytest.mark.parametrize("seconds", [0.04, 0.5, 2.02])
def test_frames_of_sounds_shorter_and_longer_than_the_poses(engine, tmp_path, monkeypatch, seconds):
    """Five poses last 0.2 s."""
    monkeypatch.setattr(
        engine, "encode", lambda samples: [torch.zeros(-(-len(samples) // 640), 16, WIDTH)]
    )
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    made = render_video(engine, samples, tmp_path / "a.mp4", "silence", Times())
    frames = list(read_frames(tmp_path / "a.mp4"))
    assert len(frames) == made["frames"] == -(-len(samples) // 640)
    assert "render and encode" in made["times"] and made["encoder_busy_seconds"] > 0


def test_sound_and_picture_are_in_step_to_a_frame(engine, tmp_path):
    """Read back, the picture turns white in the frame in which the sound becomes loud."""
    samples = np.zeros(4 * SAMPLE_RATE, np.float32)
    for start in (0.6, 1.52, 2.84):
        at = round(start * SAMPLE_RATE)
        samples[at : at + 3200] = 0.8 * np.sin(np.arange(3200) * 0.6)
    render_video(Flashing(engine, samples), samples, tmp_path / "a.mp4", "beeps", Times())
    white = np.array([frame.mean() > 128 for frame in read_frames(tmp_path / "a.mp4")])
    heard = read_audio(tmp_path / "a.mp4")[: len(white) * 640]
    heard = np.pad(heard, (0, len(white) * 640 - len(heard)))
    loud = np.abs(heard.reshape(-1, 640)).max(1) > 0.4
    shifts = range(-3, 4)
    agree = [np.mean(np.roll(loud, shift) == white) for shift in shifts]
    assert abs(shifts[int(np.argmax(agree))]) <= 1 and max(agree) > 0.95
    onsets = np.flatnonzero(np.diff(white.astype(int)) == 1) + 1
    assert np.abs(onsets / FPS - [0.6, 1.52, 2.84]).max() <= 1 / FPS + 1e-9


class Slow:
    """A writer that keeps what it is given, and breaks when told to."""

    def __init__(self, breaks_at=None):
        self.written, self.breaks_at = [], breaks_at

    def write(self, frame):
        if len(self.written) == self.breaks_at:
            raise BeingError("the disk is full")
        self.written.append(int(frame))


def test_frames_come_in_order_and_few_wait():
    video = Slow()
    with WritingThread(video) as writing:
        for k in range(100):
            writing.write(np.int64(k))
            assert writing._frames.qsize() <= WAITING
    assert video.written == list(range(100))


@pytest.mark.parametrize("after", [3, 90])
def test_an_encoder_that_fails_ends_the_rendering(after):
    with pytest.raises(BeingError, match="the disk is full"), WritingThread(Slow(after)) as writing:
        for k in range(after + 1 + 3 * WAITING):
            writing.write(np.int64(k))


def test_a_renderer_that_fails_ends_the_encoding():
    video = Slow()
    with pytest.raises(KeyError), WritingThread(video) as writing:
        writing.write(np.int64(0))
        raise KeyError
    assert not writing._thread.is_alive() and len(video.written) <= 1

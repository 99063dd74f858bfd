"""Videos: exact frame count, audio and images in step, and errors of the writer thread."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_avatar import WIDTH, tiny_avatar

from being.conventions import FPS, SAMPLE_RATE
from being.data.mouth import CODE_GAIN
from being.errors import BeingError
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.inference.animation.face_controls import FaceControls
from being.inference.engine import Engine
from being.inference.frame_writer import QUEUE_FRAMES, FrameWriter
from being.inference.look import Look, view_of
from being.inference.video import StepTimes, render_video
from being.media import read_audio, read_frames


class FlashingEngine:
    """In place of an engine: images are black, and white while the audio is loud."""

    def __init__(self, engine, samples):
        self.avatar, self.view, self._samples = engine.avatar, engine.view, samples

    def encode(self, samples):
        return [torch.zeros(-(-len(samples) // 640), 16, WIDTH)]

    def video(self, features, frames, expression):
        for k in range(sum(map(len, features))):
            loud = np.abs(self._samples[k * 640 : (k + 1) * 640]).max() > 0.5
            yield np.full((64, 64, 3), 255 * loud, np.uint8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(tiny_avatar(tmp_path_factory.mktemp("avatar"), size=64))


@pytest.mark.parametrize("seconds", [0.04, 0.5, 2.02])
def test_audio_shorter_and_longer_than_the_pose_loop(engine, tmp_path, monkeypatch, seconds):
    """The five poses last 0.2 s."""
    monkeypatch.setattr(
        engine, "encode", lambda samples: [torch.zeros(-(-len(samples) // 640), 16, WIDTH)]
    )
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    figures = render_video(engine, samples, tmp_path / "a.mp4", "silence", StepTimes())
    frames = list(read_frames(tmp_path / "a.mp4"))
    assert len(frames) == figures["frames"] == -(-len(samples) // 640)
    assert "render and encode" in figures["times"] and figures["encoder_busy_seconds"] > 0


def test_audio_and_images_are_in_step_to_a_frame(engine, tmp_path):
    """In the file, the image turns white in the frame in which the audio becomes loud."""
    samples = np.zeros(4 * SAMPLE_RATE, np.float32)
    for start in (0.6, 1.52, 2.84):
        at = round(start * SAMPLE_RATE)
        samples[at : at + 3200] = 0.8 * np.sin(np.arange(3200) * 0.6)
    render_video(FlashingEngine(engine, samples), samples, tmp_path / "a.mp4", "beeps", StepTimes())
    white = np.array([frame.mean() > 128 for frame in read_frames(tmp_path / "a.mp4")])
    audio = read_audio(tmp_path / "a.mp4")[: len(white) * 640]
    audio = np.pad(audio, (0, len(white) * 640 - len(audio)))
    loud = np.abs(audio.reshape(-1, 640)).max(1) > 0.4
    shifts = range(-3, 4)
    agree = [np.mean(np.roll(loud, shift) == white) for shift in shifts]
    assert abs(shifts[int(np.argmax(agree))]) <= 1 and max(agree) > 0.95
    onsets = np.flatnonzero(np.diff(white.astype(int)) == 1) + 1
    assert np.abs(onsets / FPS - [0.6, 1.52, 2.84]).max() <= 1 / FPS + 1e-9


class RecordingWriter:
    """A video writer that keeps its frames, and fails at frame `breaks_at`."""

    def __init__(self, breaks_at=None):
        self.written, self.breaks_at = [], breaks_at

    def write(self, frame):
        if len(self.written) == self.breaks_at:
            raise BeingError("the disk is full")
        self.written.append(int(frame))


def test_frames_are_written_in_order_and_the_queue_is_short():
    video = RecordingWriter()
    with FrameWriter(video) as writer:
        for k in range(100):
            writer.write(np.int64(k))
            assert writer._frames.qsize() <= QUEUE_FRAMES
    assert video.written == list(range(100))


@pytest.mark.parametrize("after", [3, 90])
def test_an_encoder_that_fails_ends_the_rendering(after):
    with (
        pytest.raises(BeingError, match="the disk is full"),
        FrameWriter(RecordingWriter(after)) as writer,
    ):
        for k in range(after + 1 + 3 * QUEUE_FRAMES):
            writer.write(np.int64(k))


def test_a_renderer_that_fails_ends_the_encoding():
    video = RecordingWriter()
    with pytest.raises(KeyError), FrameWriter(video) as writer:
        writer.write(np.int64(0))
        raise KeyError
    assert not writer._thread.is_alive() and len(video.written) <= 1


def test_curves_of_the_mouth_replace_the_code_that_the_audio_gave(tmp_path):
    """jawOpen for 0.4 s, then shut: the network gets these codes, and the other channels' own."""
    (tmp_path / "a.csv").write_text("time,jawOpen\n0,0.5\n0.399,0.5\n0.4,0\n1,0\n")
    avatar = tiny_avatar(tmp_path, size=64)
    units = MouthUnits(
        MOUTH_CHANNELS,
        *(np.full(16, value, np.float32) for value in (0.0, 1.0, -0.2, 1.0)),
    )
    avatar = replace(avatar, voice=SimpleNamespace(units=units))
    seen = []

    class CodeEngine:
        def __init__(self):
            self.avatar, self.view = avatar, view_of(avatar, Look())

        def encode(self, samples):
            return iter([torch.full((10, 16, 16), 0.25), torch.full((15, 16, 16), 0.25)])

        def video(self, features, frames, expression):
            for rows in features:
                seen.append(rows)
                yield from np.zeros((len(rows), 64, 64, 3), np.uint8)

    samples = np.zeros(SAMPLE_RATE, np.float32)
    controls = FaceControls(curves=tmp_path / "a.csv")
    render_video(CodeEngine(), samples, tmp_path / "a.mp4", "silence", StepTimes(), controls)
    rows = torch.cat(seen).numpy()
    driven = [MOUTH_CHANNELS.index(n) for n in ("jaw_open", "lip_opening", "lower_lip")]
    expected = CODE_GAIN * 0.5 * 1.4
    assert np.allclose(rows[:10][..., driven], expected) and np.allclose(rows[10:][..., driven], 0)
    assert (np.delete(rows, [*driven, MOUTH_CHANNELS.index("opening_area")], 2) == 0.25).all()

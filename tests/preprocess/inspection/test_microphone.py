"""A separate recording of the voice: what replaces the camera's audio, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER
from drawn_face import talking_head, write_clip
from needs import load_or_skip
from recorded_takes import RATE, put_audio_into, speech, through_camera, through_microphone

from being.data.manifest import manifest_fault
from being.errors import InputRejected
from being.face.landmarks import FaceLandmarker
from being.media import probe, read_audio, write_wav
from being.preprocess.inspection.microphone import Recording, check_recording, read_clip_audio
from being.preprocess.step_graph import StopFlag, run_steps
from being.preprocess.steps import STEPS, Settings, StepContext
from being.preprocess.workspace import Workspace

OFFSET, DRIFT = 1.23456, 2e-4


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in clip with audio of a camera in a room."""
    camera = 0.5 * through_camera(speech(30.0), 1)
    return put_audio_into(SPEAKER, camera, tmp_path_factory.mktemp("video") / "video.mkv")


def write_recording(folder: Path, samples: np.ndarray) -> Path:
    write_wav(folder / "mic.wav", samples)
    return folder / "mic.wav"


def test_the_recording_replaces_the_cameras_audio_to_the_sample(
    video: Path, tmp_path: Path
) -> None:
    voice = speech(30.0)
    audio = write_recording(tmp_path, through_microphone(voice, OFFSET, DRIFT, 2))
    track, recording = read_clip_audio(probe(video), audio)
    assert recording is not None and not recording.filled
    assert abs(recording.offset - OFFSET) < 1e-3 and abs(recording.drift - DRIFT) < 2e-5
    assert recording.sha256 == hashlib.sha256(audio.read_bytes()).hexdigest()

    # The voice without echoes and noise, at its place at both ends of the clip.
    for start in (2.0, 25.0):
        found, wanted = track.samples_from(start, RATE), 0.3 * speech(1.0, start)
        lags = np.arange(-16, 17)
        match = [np.dot(found[16:-16], np.roll(wanted, lag)[16:-16]) for lag in lags]
        assert abs(lags[int(np.argmax(match))]) <= 2
        assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    finding = check_recording(recording)
    assert finding.level == "ok" and "mic.wav" in finding.what and "ppm" in finding.what
    assert Recording.from_json({**recording.__dict__, "filled": []}) == recording


def test_where_the_recording_is_missing_the_camera_fills(video: Path, tmp_path: Path) -> None:
    recording = through_microphone(speech(30.0), -1.5, 0, 3, after=-0.5)
    track, facts = read_clip_audio(probe(video), write_recording(tmp_path, recording))
    assert facts is not None
    (start, middle), (late, end) = facts.filled
    assert start == 0 and abs(middle - 1.5) < 0.01 and abs(end - late - 0.5) < 0.1
    assert track.pieces[0][0] <= 0.01 and track.stop > 29.3, "no picture loses its audio"

    # The filled part has the loudness of the recording.
    filled, beside = track.samples_from(0.0, int(1.4 * RATE)), speech(1.4)
    assert 0.5 < filled.std() / (0.3 * beside.std()) < 2
    finding = check_recording(facts)
    assert finding.level == "warning" and finding.at == facts.filled
    assert "2.0 s" in finding.what and "camera's audio" in finding.fix


def test_a_recording_that_lacks_much_is_refused(video: Path, tmp_path: Path) -> None:
    recording = through_microphone(speech(30.0), -6.0, 0, 4)
    with pytest.raises(InputRejected, match=r"lacks 6\.\d s of the 29"):
        read_clip_audio(probe(video), write_recording(tmp_path, recording))


def test_another_take_is_refused(video: Path, tmp_path: Path) -> None:
    audio = write_recording(tmp_path, np.ascontiguousarray(speech(29.0)[::-1]))
    with pytest.raises(InputRejected, match="not a recording of the take.*chance"):
        read_clip_audio(probe(video), audio)


def test_a_recording_that_was_cut_is_refused(video: Path, tmp_path: Path) -> None:
    recording = np.delete(through_microphone(speech(30.0), 1.0, 0, 5), slice(RATE * 15, RATE * 16))
    with pytest.raises(InputRejected, match=r"fits only a part.*differs at (0 to 15|15 to 29) s:"):
        read_clip_audio(probe(video), write_recording(tmp_path, recording))


def test_a_camera_without_audio_says_what_to_do(tmp_path: Path) -> None:
    audio = write_recording(tmp_path, speech(5.0))
    mute = put_audio_into(SPEAKER, None, tmp_path / "mute.mkv")
    with pytest.raises(InputRejected, match="no audio track.*aligned.*video editor"):
        read_clip_audio(probe(mute), audio)
    silent = put_audio_into(SPEAKER, np.zeros(29 * RATE, np.float32), tmp_path / "silent.mkv")
    with pytest.raises(InputRejected, match="silent.*aligned.*video editor"):
        read_clip_audio(probe(silent), audio)


def test_another_recording_makes_the_steps_again(tmp_path: Path) -> None:
    """The audio of the dataset is the recording's; a resumed run notices another file."""
    voice, camera = speech(5.0), through_camera(speech(5.0), 1)
    video = write_clip(tmp_path / "video.mp4", talking_head(125, 96)[0], camera)
    steps = [step for step in STEPS if step.name in ("inspection", "audio")]
    quiet, loud = tmp_path / "quiet.wav", tmp_path / "loud.wav"
    write_wav(quiet, through_microphone(voice, 0.5, 0, 2, gain=0.2))
    write_wav(loud, through_microphone(voice, 0.5, 0, 2, gain=0.4))

    def audio_with(recording: Path) -> tuple[np.ndarray, dict[str, str], StepContext]:
        with Workspace(tmp_path / "data") as workspace:
            workspace.resume("video")
            settings = Settings(96, audio=recording)
            context = StepContext(video, workspace.folder, settings, StopFlag())
            context.__dict__["_landmarker"] = landmarker
            finished = run_steps(steps, context, workspace, context.stop)
            inputs = {name: step.inputs for name, step in finished.items()}
            return read_audio(workspace.folder / "aud.wav"), inputs, context

    landmarker = load_or_skip(lambda: FaceLandmarker(workers=1))
    first, with_quiet, _ = audio_with(quiet)
    second, with_loud, context = audio_with(loud)
    assert not with_quiet.items() & with_loud.items()
    assert np.corrcoef(first, second)[0, 1] > 0.97
    assert np.corrcoef(first, camera[: len(first)])[0, 1] < 0.9
    assert 1.8 < second.std() / first.std() < 2.2

    # What dataset.json says of it.
    assert context.record.recording is not None
    entry = context.record.recording.manifest()
    assert (entry["file"], abs(entry["offset"] - 0.5) < 0.05) == ("loud.wav", True)
    manifest = {"name": "a", "frames": 9, "width": 64, "height": 64, "features": {}}
    assert not manifest_fault({**manifest, "source": {"audio": entry}})
    for key, value in (("sha256", 1), ("offset", "x"), ("filled", [1]), ("drift", None)):
        assert "audio" in manifest_fault({**manifest, "source": {"audio": {**entry, key: value}}})


@pytest.mark.parametrize("name", ["none.wav", "https://example.org/a.wav", "text.wav", "."])
def test_a_bad_recording_gives_one_error(video: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    path = Path(name) if "://" in name else tmp_path / name
    with pytest.raises(InputRejected) as error:
        read_clip_audio(probe(video), path)
    assert "\n" not in str(error.value) and error.value.fix or name == "."

"""Several audio channels and tracks become one channel without loss of the voice."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from being.media import read_audio, read_audio_track
from being.media.resampling import mix_channels

RATE = 16_000


def voice(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = np.convolve(rng.normal(size=round(seconds * RATE)), np.ones(8) / 8, "same")
    return (0.15 * noise * (1 + np.sin(np.arange(len(noise)) / 900))).astype(np.float32)


def write_tracks(path: Path, *tracks: np.ndarray) -> Path:
    """An audio file of the tracks, float32 [C, T] at 16 kHz each, as PCM."""
    with av.open(str(path), "w") as container:
        streams = [
            container.add_stream(
                "pcm_f32le", rate=RATE, layout="mono" if len(track) == 1 else "stereo"
            )
            for track in tracks
        ]
        for stream, track in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(track.T.reshape(1, -1), np.float32),
                "flt",
                "mono" if len(track) == 1 else "stereo",
            )
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "left, right, repair",
    [
        (1, 1, ""),
        (1, 0.6, ""),
        (1, 0, "right channel is dead"),
        (0, 1, "left channel is dead"),
        (1, -1, "opposite"),
        (1, -0.7, "opposite"),
    ],
)
def test_two_channels_keep_the_voice(
    tmp_path: Path, left: float, right: float, repair: str
) -> None:
    audio = voice()
    found = read_audio_track(
        write_tracks(tmp_path / "a.mkv", np.stack([left * audio, right * audio]))
    )
    gain = np.dot(found.pieces[0][1][: len(audio)], audio) / np.dot(audio, audio)
    one = max(abs(left), abs(right)) if 0 in (left, right) else (abs(left) + abs(right)) / 2
    assert abs(gain) == pytest.approx(one, rel=0.01)
    assert repair in " ".join(found.repairs) and bool(repair) == bool(found.repairs)


def test_channels_that_differ_are_averaged_and_one_is_left_as_it_is() -> None:
    left, right = voice(seed=1), voice(seed=2)
    got, repair = mix_channels(np.stack([left, right]))
    assert np.allclose(got, (left + right) / 2) and not repair
    assert np.array_equal(mix_channels(left[None])[0], left)
    assert not mix_channels(np.zeros((2, 100), np.float32))[0].any()
    assert np.isnan(
        mix_channels(np.full((2, 100), np.nan, np.float32))[0]
    ).all()  # whoever reads it refuses it


def test_of_several_tracks_the_first_that_is_not_silent_is_read(tmp_path: Path) -> None:
    audio, other = voice(seed=3), voice(seed=4)
    silent = np.zeros((1, len(audio)), np.float32)
    for name, tracks, number in (
        ("a", (silent, audio[None], other[None]), 2),
        ("b", (audio[None], other[None]), 1),
    ):
        path = write_tracks(tmp_path / f"{name}.mkv", *tracks)
        assert read_audio_track(path).repairs == (
            f"of {len(tracks)} audio tracks number {number} is used",
        )
        assert np.allclose(read_audio(path)[: len(audio)], audio, atol=1e-4)
    assert not read_audio(write_tracks(tmp_path / "c.mkv", silent, silent)).any()


def test_the_inspection_of_a_clip_reports_which_channel_is_used(tmp_path: Path) -> None:
    from drawn_face import talking_head, write_clip
    from needs import load_or_skip

    from being.face.landmarks import FaceLandmarker
    from being.preprocess.inspection.picture import inspect_picture

    pictures = talking_head(50, 128)[0]
    path = write_clip(tmp_path / "picture.mp4", pictures, voice())
    stereo = np.stack([voice(), np.zeros(2 * RATE, np.float32)])
    with av.open(str(path)) as source, av.open(str(tmp_path / "clip.mkv"), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        audio = target.add_stream("pcm_f32le", rate=RATE, layout="stereo")
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(stereo.T.reshape(1, -1)), "flt", "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        target.mux([*audio.encode(frame), *audio.encode(None)])
    checked = inspect_picture(
        tmp_path / "clip.mkv", load_or_skip(lambda: FaceLandmarker(workers=1))
    )
    track = next(finding for finding in checked.findings if finding.check == "audio track")
    assert track.level == "ok" and "right channel is dead" in track.what

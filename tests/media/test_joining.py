"""Joining videos: frames, times, audio at the joins, copied and encoded pictures, refusals."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from being import media
from being.errors import InputRejected
from being.media.joining import join_videos
from being.media.video_formats import VideoSettings

SIDE, FRAMES = 96, 30
LENGTH = FRAMES * 640  # samples at 16 kHz


def pictures(first: int, count: int = FRAMES) -> list[np.ndarray]:
    """Smooth colours that move, uint8 [SIDE, SIDE, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = [
        np.stack([np.sin(6 * x + i / 5), np.cos(5 * y - i / 7), np.sin(4 * (x + y) + i / 9)], 2)
        for i in range(first, first + count)
    ]
    return [(128 + 90 * wave).astype(np.uint8) for wave in waves]


def noise(seed: int, count: int = LENGTH) -> np.ndarray:
    """Noise float32 [count], smoothed so that AAC keeps it."""
    white = np.random.default_rng(seed).normal(0, 0.3, count)
    return np.convolve(white, np.ones(8) / 8, "same").astype(np.float32)


def write(path: Path, images: list[np.ndarray], sound: np.ndarray, fps: int = 25, **how) -> Path:
    height, width = images[0].shape[:2]
    settings = VideoSettings(**how)
    with media.VideoWriter(path, width, height, fps, sound, settings=settings) as video:
        for image in images:
            video.write(image)
    return path


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("halves")
    return (
        write(folder / "a.mp4", pictures(0), noise(1)),
        write(folder / "b.mp4", pictures(FRAMES), noise(2)),
    )


def decoded(video: Path) -> list[np.ndarray]:
    return [frame.to_ndarray(format="rgb24") for _, frame in media.read_timed_frames(video)]


def lag(one: np.ndarray, other: np.ndarray) -> float:
    """By how much `one` is later than `other`, both [n] at 16 kHz, s."""
    count = min(len(one), len(other))
    spectrum = np.fft.rfft(one[:count], 2 * count) * np.fft.rfft(other[:count], 2 * count).conj()
    best = int(np.fft.irfft(spectrum).argmax())
    return (best if best < count else best - 2 * count) / 16000


def test_equal_streams_are_copied_bit_by_bit(halves: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "joined.mkv"
    joined = join_videos(halves, out)
    assert joined.copied and joined.frames == (FRAMES, FRAMES)
    wanted = [frame for half in halves for frame in decoded(half)]
    assert all(np.array_equal(a, b) for a, b in zip(decoded(out), wanted, strict=True))
    times = np.array([time for time, _ in media.read_timed_frames(out)])
    assert np.abs(times - times[0] - np.arange(2 * FRAMES) / 25).max() < 0.0015


def test_the_audio_of_each_part_stays_at_its_picture(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    """The first part's audio ends early: silence follows, and the second part begins in time."""
    short = write(tmp_path / "short.mp4", pictures(0), noise(1)[: LENGTH - 2000])
    join_videos([short, *halves], tmp_path / "joined.mkv")
    sound = media.read_audio(tmp_path / "joined.mkv")
    for i, seed in enumerate((1, 1, 2)):
        assert abs(lag(sound[i * LENGTH : (i + 1) * LENGTH], noise(seed))) < 0.010
    assert np.abs(sound[LENGTH - 600 : LENGTH - 100]).max() < 0.05
    assert abs(len(sound) - 3 * LENGTH) < 160


def test_other_streams_are_encoded_without_visible_loss(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    other = write(tmp_path / "b.mkv", pictures(FRAMES), noise(2), codec="vp9")
    joined = join_videos([halves[0], other], tmp_path / "joined.mkv")
    assert not joined.copied and joined.frames == (FRAMES, FRAMES)
    info = media.probe(tmp_path / "joined.mkv")
    shown = list(media.read_frames(tmp_path / "joined.mkv"))
    wanted = [*media.read_frames(halves[0]), *media.read_frames(other)]
    assert (info.width, info.height, len(shown)) == (SIDE, SIDE, 2 * FRAMES)
    errors = [a.astype(float) - b for a, b in zip(shown, wanted, strict=True)]
    assert 10 * np.log10(255**2 / np.mean(np.square(errors))) > 43


def test_two_runs_write_the_same_file(halves: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("one.mkv", "two.mkv"):
        join_videos(halves, tmp_path / name)
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "two.mkv").read_bytes()


def test_of_twice_the_rate_every_second_frame_is_taken(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    doubled = [image for image in pictures(0) for _ in range(2)]
    fast = write(tmp_path / "fast.mp4", doubled, noise(1), fps=50)
    joined = join_videos([fast, halves[1]], tmp_path / "joined.mkv")
    assert joined.frames == (FRAMES, FRAMES)
    times = np.array([time for time, _ in media.read_timed_frames(tmp_path / "joined.mkv")])
    assert np.abs(np.diff(times) - 0.04).max() < 0.0015


def test_picture_without_audio_at_the_end_is_left_out(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    images = pictures(0, 2 * FRAMES)
    path = write(tmp_path / "long.mp4", images, noise(1, 2 * LENGTH))
    with av.open(str(path)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            late = packet.stream.type == "audio" and float(packet.pts or 0) > 16000 * 1.2
            if packet.dts is not None and not late:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    joined = join_videos([tmp_path / "cut.mp4", halves[1]], tmp_path / "joined.mkv")
    assert FRAMES <= joined.frames[0] < FRAMES + 10 and joined.frames[1] == FRAMES


def test_other_sizes_and_rates_are_refused(halves: tuple[Path, Path], tmp_path: Path) -> None:
    wide = write(tmp_path / "wide.mp4", [image[: SIDE // 2] for image in pictures(0)], noise(1))
    with pytest.raises(InputRejected, match=r"wide.mp4 is 96x48 px.*a.mp4 is 96x96 px"):
        join_videos([halves[0], wide], tmp_path / "joined.mkv")
    odd = write(tmp_path / "odd.mp4", pictures(0, 36), noise(1), fps=30)
    with pytest.raises(InputRejected, match=r"odd.mp4 has 30.00 frames/s.*25.00"):
        join_videos([halves[0], odd], tmp_path / "joined.mkv")
    assert not (tmp_path / "joined.mkv").exists()

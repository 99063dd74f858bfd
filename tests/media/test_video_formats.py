"""Videos of every codec keep pictures, transparency and audio in step; others are refused."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from being.errors import BeingError, UsageError
from being.media import FileMarks, VideoSettings, VideoWriter, read_frames, read_original_audio
from being.media.png_sequence import PngSequenceWriter
from being.media.video_formats import CODECS, CONTAINERS, choose_format, parse_bitrate

RATE, SIDE, FRAMES = 48_000, 96, 25
PAIRS = [(suffix, codec) for suffix, codecs in CONTAINERS.items() for codec in codecs]


def stereo() -> np.ndarray:
    """One second of noise with a tone of 10 kHz on the right."""
    rng = np.random.default_rng(0)
    found = rng.normal(0, 0.1, (RATE, 2))
    found[:, 1] += 0.2 * np.sin(2 * np.pi * 10_000 * np.arange(RATE) / RATE)
    return found.astype(np.float32)


def lag(one: np.ndarray, other: np.ndarray) -> int:
    """Samples by which `other` comes later."""
    count = min(len(one), len(other))
    spectrum = np.fft.rfft(other[:count], 2 * count) * np.fft.rfft(one[:count], 2 * count).conj()
    best = int(np.argmax(np.fft.irfft(spectrum)))
    return best if best < count else best - 2 * count


def tone(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples[:RATE]))[9_990:10_010].max())


@pytest.mark.parametrize("suffix, codec", PAIRS)
def test_stereo_audio_comes_back_in_step_with_its_high_tones(
    suffix: str, codec: str, tmp_path: Path
) -> None:
    audio, path = stereo(), tmp_path / f"a{suffix}"
    settings = VideoSettings(codec=codec)
    with VideoWriter(path, SIDE, SIDE, audio=audio, rate=RATE, settings=settings) as video:
        for k in range(FRAMES):
            video.write(np.full((SIDE, SIDE, 3), 8 * k, np.uint8))

    found, rate = read_original_audio(path)
    assert rate == RATE and found.shape[1] == 2 and abs(len(found) - RATE) <= 1024
    # 0.1 ms; the bar is 1 ms
    assert all(abs(lag(audio[:, c], found[:, c])) <= RATE // 10_000 for c in (0, 1))
    assert tone(found[:, 1]) > 0.9 * tone(audio[:, 1])
    frames = list(read_frames(path))
    assert len(frames) == FRAMES and np.abs(frames[20].astype(int) - 160).max() <= 4
    with av.open(str(path)) as container:
        assert codec in (container.streams.video[0].codec_context.codec.canonical_name)


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_transparency_comes_back(suffix: str, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
    picture = np.dstack([np.full_like(ramp, 180), np.full_like(ramp, 90), ramp.T, ramp])
    settings = VideoSettings(alpha=True, crf=10 if suffix == ".webm" else None)
    with VideoWriter(tmp_path / f"a{suffix}", SIDE, SIDE, settings=settings) as video:
        for _ in range(5):
            video.write(picture)
    decoder = av.CodecContext.create("libvpx-vp9" if suffix == ".webm" else "prores", "r")
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        stream = container.streams.video[0]
        if suffix == ".mov":
            frames = list(container.decode(stream))
        else:  # ffmpeg's own VP9 decoder leaves the transparency out
            frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
    found = frames[2].to_ndarray(format="rgba")
    assert np.abs(found[..., 3].astype(int) - ramp).mean() < 2.55  # 0.01


def test_a_folder_of_pictures_holds_frames_audio_and_the_notice(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (3, SIDE, SIDE, 4), dtype=np.uint8)
    with PngSequenceWriter(tmp_path / "a", stereo(), RATE, FileMarks("Consent: given")) as video:
        for frame in frames:
            video.write(frame)
    assert sorted(p.name for p in tmp_path.glob("a/*.png")) == [f"{k:06d}.png" for k in range(3)]
    picture = Image.open(tmp_path / "a/000001.png")
    assert (np.asarray(picture) == frames[1]).all() and "AI-generated" in picture.info["Comment"]
    found, rate = read_original_audio(tmp_path / "a/audio.wav")
    assert rate == RATE and np.abs(found - stereo().clip(-1, 1)).max() < 1e-4
    with pytest.raises(BeingError, match="exists"):
        PngSequenceWriter(tmp_path / "a")


def test_mp4_can_be_played_while_it_is_loaded(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", SIDE, SIDE) as video:
        for k in range(FRAMES):
            video.write(np.full((SIDE, SIDE, 3), k, np.uint8))
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_quality_and_bit_rate_change_the_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    sizes = []
    for number, settings in enumerate(
        (VideoSettings(crf=15), VideoSettings(crf=40), VideoSettings(bitrate=200_000))
    ):
        path = tmp_path / f"{number}.mp4"
        with VideoWriter(path, SIDE, SIDE, settings=settings) as video:
            for frame in frames:
                video.write(frame)
        sizes.append(path.stat().st_size)
    assert sizes[0] > 2 * sizes[1] and sizes[2] < sizes[0] / 2


@pytest.mark.parametrize(
    "name, settings, said",
    [
        ("a.avi", VideoSettings(), "unknown video type"),
        ("a.mp4", VideoSettings(codec="divx"), "unknown codec"),
        ("a.webm", VideoSettings(codec="h264"), "holds no h264"),
        ("a.mp4", VideoSettings(alpha=True), "no transparency"),
        ("a.mov", VideoSettings(codec="h264", alpha=True), "no transparency"),
        ("a.mp4", VideoSettings(crf=60), "out of range"),
        ("a.mov", VideoSettings(codec="prores", crf=3), "does not fit"),
        ("a.mp4", VideoSettings(crf=20, bitrate=10**6), "Give one"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(
    name: str, settings: VideoSettings, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refusal:
        VideoWriter(tmp_path / name, SIDE, SIDE, settings=settings)
    assert said in refusal.value.message() and list(tmp_path.iterdir()) == []


def test_bit_rates_are_read() -> None:
    assert parse_bitrate("2.5M") == 2_500_000 and parse_bitrate("800k") == 800_000
    for wrong in ("", "fast", "1", "1T", "-4M", "nan", "1e99M"):
        with pytest.raises(UsageError, match="bits a second|cannot be used"):
            parse_bitrate(wrong)


def test_every_default_is_a_codec_that_is_here() -> None:
    for suffix, codecs in CONTAINERS.items():
        assert choose_format(Path(f"a{suffix}")).encoder == CODECS[codecs[0]].encoder

"""The watermark: invisible, found after compression, scaling and cropping, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from being.errors import UsageError
from being.media import VideoSettings, VideoWriter
from being.provenance.watermark import KEY_VARIABLE, Watermark, chosen_key, payload_of
from being.provenance.watermark_pattern import (
    MAX_WAVE,
    MIN_WAVE,
    PAYLOAD_BITS,
    PEAK,
    PERIOD,
    PUBLIC_KEY,
    parse_key,
    pattern_of,
    waves_of,
)
from being.provenance.watermark_reading import (
    read_watermark,
    read_watermark_of_images,
)

IDENTITY = "3c9f1b7e" * 8
SIDE, FRAMES = 320, 12


@pytest.fixture(scope="module")
def plain() -> list[np.ndarray]:
    """Frames with flat, shaded and rough parts, in which a head-like disc moves."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    wall = 150 + x / 8 + 6 * np.sin(y / 19)
    rough = Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).resize((SIDE, SIDE))
    frames = []
    for k in range(FRAMES):
        inside = (x - 160 - 2 * k) ** 2 + (y - 130) ** 2 < 80**2
        grey = np.where(inside, 90 + 30 * np.sin((x - 2 * k) / 7) * np.cos(y / 9), wall)
        grey = np.where(y > 250, np.asarray(rough) * 0.6, grey)
        frames.append(np.stack([grey, 0.9 * grey, 0.8 * grey], 2).astype(np.uint8))
    return frames


@pytest.fixture(scope="module")
def marked(plain: list[np.ndarray]) -> list[np.ndarray]:
    watermark = Watermark(IDENTITY, PUBLIC_KEY)
    return [watermark.marked(frame.copy()) for frame in plain]


def video(path: Path, frames: list[np.ndarray], crf: int = 28) -> Path:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, settings=VideoSettings(crf=crf)) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))
    return path


def test_the_pattern_is_weak_and_has_the_waves_of_its_key_alone() -> None:
    tile = pattern_of(PUBLIC_KEY, 12345).astype(float)
    assert tile.shape == (PERIOD, PERIOD) and np.abs(tile).max() <= PEAK
    assert abs(tile.mean()) < 0.02 and 10 * np.log10(255**2 / (tile**2).mean()) > 45.2
    power = np.abs(np.fft.fft2(tile)) ** 2
    y, x = waves_of(PUBLIC_KEY).frequencies.T
    assert 2 * power[y, x].sum() > 0.93 * power.sum(), "the rest is rounding"
    waves = PERIOD / np.hypot(y, x)
    assert MIN_WAVE <= waves.min() and waves.max() <= MAX_WAVE
    assert np.bincount(waves_of(PUBLIC_KEY).groups).min() >= len(y) // 3
    other = pattern_of(bytes(16), 12345).astype(float)
    assert abs((tile * other).mean()) < 0.1


@pytest.mark.parametrize("shape", [(257, 131), (257, 131, 3), (257, 131, 4)])
def test_each_pixel_changes_by_the_pattern_as_far_as_its_range_goes(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    image[:50] = 255
    image[50:100] = 0
    before = image.copy()
    watermark = Watermark(IDENTITY, PUBLIC_KEY)
    watermark.add(image)
    rows, columns = np.arange(257) % PERIOD, np.arange(131) % PERIOD
    change = pattern_of(PUBLIC_KEY, watermark.payload)[rows][:, columns].astype(int)
    for channel in range(3 if len(shape) == 3 else 1):
        pick = (..., channel) if len(shape) == 3 else (...,)
        expected = (before[pick].astype(int) + change).clip(0, 255)
        assert (image[pick] == expected).all()
    if shape[-1] == 4:
        assert (image[..., 3] == before[..., 3]).all()


def test_a_marked_frame_is_within_45_db(plain: list[np.ndarray], marked: list[np.ndarray]) -> None:
    error = (plain[3].astype(float) - marked[3]) ** 2
    assert 45.1 < 10 * np.log10(255**2 / error.mean()) < 47


@pytest.mark.parametrize("attack", ["crf28", "scaled", "cropped", "stretched"])
def test_it_is_read_back_with_its_payload(
    marked: list[np.ndarray], attack: str, tmp_path: Path
) -> None:
    frames = marked
    if attack == "scaled":
        size = (round(0.75 * SIDE), round(0.75 * SIDE))
        frames = [np.asarray(Image.fromarray(frame).resize(size)) for frame in marked]
    elif attack == "stretched":
        frames = [np.asarray(Image.fromarray(frame).resize((410, 410))) for frame in marked]
    elif attack == "cropped":
        frames = [frame[21 : 21 + 256, 45 : 45 + 256] for frame in marked]
    found = read_watermark(video(tmp_path / "a.mp4", frames), PUBLIC_KEY)
    assert found.found and found.payload == payload_of(IDENTITY), found
    scale = {"scaled": 0.75, "stretched": 410 / SIDE}.get(attack, 1.0)
    assert abs(found.scale / scale - 1) < 0.02 and found.false_alarm < 1e-6


def test_other_files_and_other_keys_give_no_alarm(
    plain: list[np.ndarray], marked: list[np.ndarray]
) -> None:
    luma = [np.asarray(Image.fromarray(frame).convert("L")) for frame in plain]
    assert not read_watermark_of_images(luma, PUBLIC_KEY).found
    luma = [np.asarray(Image.fromarray(frame).convert("L")) for frame in marked]
    found = read_watermark_of_images(luma, bytes(16))
    assert not found.found and found.payload is None and found.false_alarm > 1e-6
    assert not read_watermark_of_images([], PUBLIC_KEY).found
    assert not read_watermark_of_images([luma[0][:80, :80]], PUBLIC_KEY).found


def test_the_statistic_keeps_its_bound_for_random_keys(plain: list[np.ndarray]) -> None:
    """The bound is that of one place and scale; the tail over keys must lie below it."""
    from being.provenance.watermark_reading import _correlation, _turned, flattened

    total = flattened(plain[0][..., 1])
    values = []
    for number in range(60):
        waves = waves_of(number.to_bytes(16, "big"))
        turned, weights = _turned(total, waves, 1.0)
        values.append(_correlation(turned, weights, waves, 0)[::16, ::16].ravel())
    found = np.concatenate(values)
    for t in (1.5, 2.5, 3.5):
        assert (found > t).mean() < np.exp(-t * t / 2)
    assert abs(found.std() - 1) < 0.1


def test_keys_have_128_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert chosen_key() == PUBLIC_KEY and len(PUBLIC_KEY) == 16
    monkeypatch.setenv(KEY_VARIABLE, "00112233445566778899aabbccddeeff")
    assert chosen_key() == parse_key(" 00112233445566778899AABBCCDDEEFF\n") != PUBLIC_KEY
    for text in ("0011", "x" * 32, "00" * 17):
        with pytest.raises(UsageError, match="32 hexadecimal digits"):
            parse_key(text)
    assert payload_of("") == 0 and payload_of("f" * 64) == (1 << PAYLOAD_BITS) - 1

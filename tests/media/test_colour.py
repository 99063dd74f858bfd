"""Colour of media files: matrices as players take them, HLG and PQ as standard range, tags."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from being.media import VideoWriter, probe, read_frames
from being.media.colour import to_standard_range, to_standard_range_by_table

HLG, PQ = int(ColorTrc.ARIB_STD_B67), int(ColorTrc.SMPTE2084)
BT2020, BT709 = int(ColorPrimaries.BT2020), int(ColorPrimaries.BT709)
TO_2020 = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]  # BT.2087
)


def as_hdr(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """uint16 [..., 3]: the HDR signal that shows the colours uint8 [..., 3] of standard range.

    By the formulas of BT.2100 and BT.1886, with white at 203 cd/m2.
    """
    nits = 203 * ((rgb / 255) ** 2.4 @ TO_2020.T)
    if transfer == PQ:
        power = (nits / 10_000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        luminance = np.maximum(nits @ [0.2627, 0.6780, 0.0593], 1e-6)[..., None] / 1000
        scene = nits / 1000 * luminance ** (1 / 1.2 - 1)
        upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-6)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)
    return (65535 * signal + 0.5).astype(np.uint16)


def colours() -> np.ndarray:
    """uint8 [6, 36, 3]: greys, skins and saturated colours, none brighter than the knee."""
    levels = np.linspace(10, 225, 6)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1)
    return grid.reshape(6, 36, 3).astype(np.uint8)


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_hdr_shows_the_colours_of_standard_range(transfer: int) -> None:
    rgb = colours()
    shown = to_standard_range(as_hdr(rgb, transfer), transfer, BT2020).astype(int)
    assert np.abs(shown - rgb).max() <= 3
    by_table = to_standard_range_by_table(as_hdr(rgb, transfer), transfer, BT2020).astype(int)
    assert np.abs(by_table - rgb).mean() < 4


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_highlights_are_compressed_in_order_and_keep_their_hue(transfer: int) -> None:
    steps = np.linspace(0, 65535, 64).astype(np.uint16)
    grey = to_standard_range(np.stack([steps] * 3, -1)[None], transfer, BT2020)[0].astype(int)
    assert (np.diff(grey[:, 0]) >= 0).all() and grey[0, 0] == 0 and grey[-1, 0] == 255
    assert np.ptp(grey, axis=1).max() <= 1
    white = to_standard_range(as_hdr(np.full((1, 1, 3), 255.0), transfer), transfer, BT2020)
    assert 240 <= white[0, 0, 0] <= 252
    warm = np.array([[[60000, 52000, 45000]]], np.uint16)
    red, green, blue = to_standard_range(warm, transfer, BT709)[0, 0].astype(int)
    assert 255 >= red > green > blue


def write_tagged(path: Path, rgb: np.ndarray, matrix: Colorspace, tags: dict[str, int]) -> Path:
    """Three pictures of an array uint8 or uint16 [H, W, 3], with this matrix and these tags."""
    wide = rgb.dtype == np.uint16
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = rgb.shape[:2]
        stream.pix_fmt = "yuv444p10le" if wide else "yuv444p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb48le" if wide else "rgb24")
            frame = frame.reformat(
                format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
            )
            frame.colorspace = tags.get("colorspace", 2)
            frame.color_trc = tags.get("color_trc", 2)
            frame.color_primaries = tags.get("color_primaries", 2)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", [HLG, PQ])
@pytest.mark.parametrize("tagged", [True, False], ids=["matrix tagged", "matrix untagged"])
def test_an_hdr_file_is_read_in_standard_range(transfer: int, tagged: bool, tmp_path: Path) -> None:
    rgb = np.repeat(np.repeat(colours(), 8, 0), 8, 1)
    tags = {"color_trc": transfer, "color_primaries": BT2020}
    if tagged:
        tags["colorspace"] = int(Colorspace.BT2020)
    file = write_tagged(tmp_path / "a.mkv", as_hdr(rgb, transfer), Colorspace.BT2020, tags)
    assert probe(file).hdr == ("HLG" if transfer == HLG else "PQ")
    shown = next(read_frames(file)).astype(int)
    # Ten bits of PQ are coarse where one channel is dark beside bright ones.
    assert np.abs(shown - rgb).mean() < 2 and np.abs(shown - rgb).max() < 24


@pytest.mark.parametrize(
    ("size", "tag", "matrix"),
    [
        ((640, 480), None, Colorspace.ITU601),
        ((1280, 720), None, Colorspace.ITU709),
        ((720, 1280), None, Colorspace.ITU709),
        ((640, 480), Colorspace.ITU709, Colorspace.ITU709),
        ((1280, 720), Colorspace.ITU601, Colorspace.ITU601),
    ],
)
def test_the_matrix_is_that_of_the_tag_or_as_players_take_it(
    size: tuple[int, int], tag: Colorspace | None, matrix: Colorspace, tmp_path: Path
) -> None:
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    rgb[:] = (190, 60, 110)
    tags = {} if tag is None else {"colorspace": int(tag)}
    file = write_tagged(tmp_path / "a.mkv", rgb, matrix, tags)
    assert np.abs(next(read_frames(file)).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_video_is_written_with_its_tags(suffix: str, tmp_path: Path) -> None:
    rgb = np.zeros((96, 128, 3), np.uint8)
    rgb[:] = (190, 60, 110)
    with VideoWriter(tmp_path / f"a{suffix}", 128, 96) as video:
        for _ in range(5):
            video.write(rgb)
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
    assert (frame.color_trc, frame.color_primaries) == (ColorTrc.BT709, ColorPrimaries.BT709)
    assert np.abs(next(read_frames(tmp_path / f"a{suffix}")).astype(int) - rgb).max() <= 4

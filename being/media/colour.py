"""Colour of decoded frames: the matrix that players use, and HDR brought to standard range.

HLG and PQ frames become what a display of standard range shows: light relative to the white of
paper (203 cd/m2, ITU-R BT.2408), in BT.709 primaries, with highlights compressed under white.
"""

from __future__ import annotations

from functools import lru_cache

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

# Values of ffmpeg's AVColorSpace.
UNSPECIFIED, RGB = 2, 0
# px; larger pictures without a tag have the matrix of BT.709, as players take it.
SD_WIDTH, SD_HEIGHT = 1280, 576
HDR_NAMES = {int(ColorTrc.ARIB_STD_B67): "HLG", int(ColorTrc.SMPTE2084): "PQ"}
# cd/m2: white of paper, and the peak of the display for which HLG is defined (BT.2100).
WHITE, HLG_PEAK = 203.0, 1000.0
HLG_GAMMA = 1.2
LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
# Linear light to BT.709 primaries: from BT.2020 (BT.2087), and from P3 with white D65.
FROM_2020 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
FROM_P3 = ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979))
# Share of white above which light is compressed; brighter light approaches white.
KNEE = 0.85
DISPLAY_GAMMA = 2.4  # of displays of standard range (BT.1886)
TABLE_BITS = 7  # of each channel, of the table for measurements


def source_matrix(frame: av.VideoFrame) -> Colorspace | None:
    """The matrix of a frame where its tag is missing, as players take it; None: that of its tag."""
    if frame.colorspace != UNSPECIFIED or frame.format.is_rgb:
        return None
    if int(frame.color_trc) in HDR_NAMES:
        return Colorspace.BT2020
    large = frame.width >= SD_WIDTH or frame.height > SD_HEIGHT
    return Colorspace.ITU709 if large else Colorspace.ITU601


def tagged_as_bt709(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """An RGB frame in a YUV format with the matrix, range and tags of BT.709."""
    return frame.reformat(
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        dst_color_trc=ColorTrc.BT709,
        dst_color_primaries=ColorPrimaries.BT709,
    )


def tag_stream_as_bt709(stream: av.VideoStream) -> None:
    """Write the tags of BT.709 into the stream's header."""
    context = stream.codec_context
    context.colorspace, context.color_range = int(Colorspace.ITU709), int(ColorRange.MPEG)
    context.color_trc, context.color_primaries = int(ColorTrc.BT709), int(ColorPrimaries.BT709)


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame has an HLG or PQ transfer."""
    return int(frame.color_trc) in HDR_NAMES


def to_standard_range(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """HDR pixels uint16 [H, W, 3] RGB of full range as uint8 [H, W, 3] RGB of standard range.

    transfer, primaries: the frame's, as ffmpeg numbers them.
    """
    assert pixels.dtype == np.uint16 and pixels.shape[2] == 3, (pixels.dtype, pixels.shape)
    light = _light_table(transfer)[pixels]
    if transfer == ColorTrc.ARIB_STD_B67:
        # Scene light to the light of the display.
        scene = np.maximum(light @ LUMINANCE_2020, 1e-6)
        light *= scene[..., None] ** np.float32(HLG_GAMMA - 1)
    light = np.maximum(light @ _to_bt709(primaries).T, 0)

    # Highlights are compressed by the brightest channel, so that hues stay.
    peak = light.max(2)
    bright = peak > KNEE
    over = peak[bright] - KNEE
    shown = KNEE + (1 - KNEE) * (1 - np.exp(-over / (1 - KNEE)))
    light[bright] *= (shown / peak[bright])[:, None]
    return _display_table()[(65535 * np.sqrt(light) + 0.5).astype(np.uint16)]


def to_standard_range_by_table(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """As `to_standard_range`, faster and accurate to a few levels: for measurements."""
    index = (pixels >> (16 - TABLE_BITS)).astype(np.int32)
    index = (index[..., 0] << 2 * TABLE_BITS) | (index[..., 1] << TABLE_BITS) | index[..., 2]
    return _colour_table(transfer, primaries)[index]


@lru_cache(maxsize=4)
def _light_table(transfer: int) -> np.ndarray:
    """Light over the white of paper for each 16-bit value of a channel, float32 [65536].

    For HLG it is the light of the scene, scaled so that the display's light follows from it.
    """
    value = np.linspace(0, 1, 65536)
    if transfer == ColorTrc.ARIB_STD_B67:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        # light = peak * Y^(gamma - 1) * scene; `to_standard_range` takes Y from this table.
        scale = (HLG_PEAK / WHITE) ** (1 / HLG_GAMMA)
        return (scene * scale).astype(np.float32)
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = value ** (1 / m2)
    nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return (nits / WHITE).astype(np.float32)


@lru_cache(maxsize=1)
def _display_table() -> np.ndarray:
    """uint8 [65536], the value that shows light 0..1, by the square root of the light."""
    light = np.linspace(0, 1, 65536) ** 2
    return (255 * light ** (1 / DISPLAY_GAMMA) + 0.5).astype(np.uint8)


def _to_bt709(primaries: int) -> np.ndarray:
    """The map float32 [3, 3] of linear light in these primaries to those of BT.709."""
    if primaries == ColorPrimaries.BT709:
        return np.eye(3, dtype=np.float32)
    p3 = primaries in (ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432)
    return np.array(FROM_P3 if p3 else FROM_2020, np.float32)


@lru_cache(maxsize=2)
def _colour_table(transfer: int, primaries: int) -> np.ndarray:
    """uint8 [2 ** (3 * TABLE_BITS), 3], the colour of standard range of each HDR colour."""
    levels = ((np.arange(1 << TABLE_BITS) + 0.5) * (1 << (16 - TABLE_BITS))).astype(np.uint16)
    planes = [
        to_standard_range(
            np.stack(np.meshgrid(red, levels, levels, indexing="ij"), -1)[0], transfer, primaries
        )
        for red in levels[:, None]
    ]
    return np.stack(planes).reshape(-1, 3)

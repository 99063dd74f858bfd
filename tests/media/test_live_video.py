"""Live encoders: one picture in, one decodable picture out, marked as AI-generated."""

from __future__ import annotations

import av
import numpy as np
import pytest

from being.inference.i420 import JPEG_COLOURS, VIDEO_COLOURS, i420_bytes, write_i420
from being.media.live_video import (
    MARK_UUID,
    LivePictureDecoder,
    codec_string,
    insert_sei,
    mark_json,
    new_encoder,
    read_marks,
)
from being.media.resampling import StreamResampler, resample

SIZE = 64
COLOURS = {"h264": VIDEO_COLOURS, "jpeg": JPEG_COLOURS}


def picture(k: int) -> np.ndarray:
    """A smooth image uint8 [64, 64, 3] that moves."""
    y, x = np.mgrid[:SIZE, :SIZE]
    waves = [np.sin((x + 2 * k) / 9), np.cos((y - k) / 11), np.sin((x + y) / 15)]
    return np.stack([(110 + 80 * wave).astype(np.uint8) for wave in waves], 2)


@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_each_picture_comes_out_at_once_and_carries_its_mark(codec: str) -> None:
    encoder, decoder = new_encoder(codec, SIZE, SIZE), LivePictureDecoder(codec)
    i420 = np.zeros(i420_bytes(SIZE), np.uint8)
    for k in range(30):
        write_i420(picture(k), i420, COLOURS[codec])
        content, key = encoder.encode(i420, k == 17, mark_json("Zoë", None, 960 * k))
        assert key == (codec == "jpeg" or k in (0, 17))
        (mark,) = read_marks(content)
        assert mark["ai"] is True and mark["avatar"] == "Zoë" and mark["consent"] is None
        assert mark["type"] == "trainedAlgorithmicMedia" and mark["t"] == 960 * k
        shown = decoder.decode(content)
        assert shown is not None, "the decoder kept the picture back"
        assert np.abs(shown.astype(int) - picture(k)).mean() < 4


def test_the_stream_is_constrained_baseline_without_b_frames() -> None:
    encoder = new_encoder("h264", SIZE, SIZE)
    content, _ = encoder.encode(np.full(i420_bytes(SIZE), 90, np.uint8), True, b"{}")
    at = content.index(b"\x00\x00\x01\x67") + 4
    profile, constraints = content[at], content[at + 1]
    assert profile == 66 and constraints & 0x40, "constrained baseline"
    assert content.startswith(b"\x00\x00\x00\x01") or content.startswith(b"\x00\x00\x01")
    assert codec_string(512, 512) == "avc1.42E01F" and codec_string(1080, 1920) == "avc1.42E028"


def test_another_decoder_reads_the_mark() -> None:
    """libavcodec gives the SEI unit as side data of the picture."""
    encoder = new_encoder("h264", SIZE, SIZE)
    content, _ = encoder.encode(np.full(i420_bytes(SIZE), 90, np.uint8), True, b'{"ai":true}')
    decoder = av.CodecContext.create("h264", "r")
    frames = decoder.decode(av.Packet(content)) + decoder.decode(None)
    found = [bytes(data) for frame in frames for data in frame.side_data]
    assert any(data.startswith(MARK_UUID.bytes) and b'{"ai":true}' in data for data in found)


def test_emulation_is_prevented_in_long_marks() -> None:
    slice_unit = b"\x00\x00\x00\x01\x65" + bytes(20)
    mark = b'{"x":"' + b"\x00\x00\x00" + b"a" * 300 + b'"}'
    content = insert_sei(slice_unit, mark)
    sei = content[4 : content.rindex(b"\x00\x00\x00\x01\x65")]
    assert b"\x00\x00\x00" not in sei and b"\x00\x00\x01" not in sei and sei[0] == 6


@pytest.mark.parametrize(
    "rates",
    [
        (16_000, 24_000),
        (24_000, 16_000),
        (48_000, 24_000),
        (48_000, 16_000),
        (22_050, 24_000),
        (24_000, 24_000),
    ],
)
def test_chunks_of_any_size_are_resampled_as_the_whole(rates: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    time = np.arange(rates[0]) / rates[0]
    samples = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    stream, parts, start = StreamResampler(*rates), [], 0
    while start < samples.size:
        size = int(random.choice([0, 1, 7, 160, 480, 3001]))
        parts.append(stream.push(samples[start : start + size]))
        start += size
    parts.append(stream.finish())
    whole = resample(samples, *rates)
    together = np.concatenate(parts)
    assert together.size == whole.size == rates[1]
    # After the end of the audio one assumes silence, the other mirrors it.
    assert np.abs(together - whole)[:-32].max() < 2e-6


def test_a_very_short_sound_comes_out_whole() -> None:
    stream = StreamResampler(16_000, 24_000)
    short = np.full(10, 0.5, np.float32)
    assert stream.push(short).size + stream.finish().size == 15
    assert StreamResampler(16_000, 24_000).finish().size == 0

"""Images beyond the limit, broken ones, and those under paths that are no UTF-8."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from being.data.frames import read_image, write_image
from being.errors import InputRejected
from being.reading.content import Unreadable
from being.reading.images import decode_image, image_size

NOT_UTF8 = os.fsdecode(b"a\xff\xfe.")


def encoded(form: str, size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">II", width, height) + bytes([8, 2, 0, 0, 0])
    content = encoded("PNG")
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_sizes_are_read_from_the_header(form: str, options: dict[str, object]) -> None:
    content = encoded(form, **options)
    assert image_size(content) == (40, 30)
    assert decode_image(content, "RGB").size == (40, 30)


@pytest.mark.parametrize(
    "content",
    [
        png_of_size(60_000, 60_000),
        png_of_size(2**31 - 1, 2**31 - 1),
        png_of_size(0, 9),
        png_of_size(8193, 8192),
        encoded("GIF"),
        encoded("BMP"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"",
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff" * 99,
        b"\xff\xd8\xff\xe0" + bytes(99),
        encoded("PNG")[:40],
    ],
)
def test_an_image_beyond_the_limit_or_of_another_kind_is_refused(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputRejected, match="cannot be read"):
        read_image(tmp_path / "a.png")
    with pytest.raises(Unreadable):
        decode_image(content, "RGB")


@pytest.mark.parametrize("length", [200, 2**31 - 1, 2**32 - 1])
def test_a_part_that_claims_more_than_the_file_is_refused_before_it_is_decoded(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenCV allocates up to 4 GB for it.
    content = encoded("PNG")
    place = content.index(b"IDAT") - 4
    content = content[:place] + struct.pack(">I", length) + content[place + 4 : place + 30]
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr("cv2.imdecode", None)
    with pytest.raises(InputRejected, match="longer than the file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="longer than the file"):
        decode_image(content, "L")


def test_sixteen_bits_a_channel_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputRejected, match="8 bits"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_path_that_is_no_utf8_is_read_and_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"{NOT_UTF8}{suffix}"
    write_image(path, np.full((9, 9, 3), 7, np.uint8))
    assert read_image(path).shape == (9, 9, 3)
    with pytest.raises(InputRejected, match="missing"):
        read_image(tmp_path / f"{NOT_UTF8}none.png")


def test_media_and_tables_under_a_path_that_is_no_utf8_are_read(tmp_path: Path) -> None:
    import torch

    from being.files import save_tensors, write_json
    from being.interop.ply import read_ply
    from being.media import VideoWriter, probe, read_audio, write_wav
    from being.reading.arrays import load_array
    from being.reading.structured import read_json
    from being.reading.tensors import load_pickled, load_tensors

    def path(suffix: str) -> Path:
        return tmp_path / f"{NOT_UTF8}{suffix}"

    write_wav(path("wav"), np.zeros(1600, np.float32))
    assert len(read_audio(path("wav"))) == 1600
    with VideoWriter(path("mp4"), 16, 16) as video:
        for _ in range(3):
            video.write(np.zeros((16, 16, 3), np.uint8))
    assert probe(path("mp4")).width == 16
    np.save(path("npy"), np.zeros(3))
    assert load_array(path("npy")).shape == (3,)
    torch.save({"a": torch.zeros(3)}, path("pt"))
    assert load_pickled(path("pt"))["a"].shape == (3,)
    save_tensors(path("safetensors"), {"a": torch.zeros(3)})
    assert load_tensors(path("safetensors"))["a"].shape == (3,)
    write_json(path("json"), {"a": 1})
    assert read_json(path("json")) == {"a": 1}
    path("ply").write_bytes(b"no")
    with pytest.raises(InputRejected):
        read_ply(path("ply"))

"""JPEG and PNG images that are not trusted: the size is read before the pixels are decoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import Image, PngImagePlugin

from being.reading.content import Unreadable, read_content, reason

PIXELS_MAX = 1 << 26  # 8192 x 8192
FILE_MAX = 256 << 20  # bytes
FORMATS = ("JPEG", "PNG")
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# Markers of a JPEG file: those of a frame header, and those without a length.
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PLAIN_MARKERS = {0x01, *range(0xD0, 0xD9)}


def read_image_bytes(path: Path) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a JPEG or PNG file, and its width and height. Raises Unreadable, OSError."""
    content = read_content(path, FILE_MAX)
    return content, image_size(content)


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height in px that the header of a JPEG or PNG file names.

    Raises Unreadable for another kind of file, and for more than PIXELS_MAX.
    """
    if content.startswith(PNG_START) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        _check_chunks(content)
    elif content.startswith(b"\xff\xd8"):
        width, height = _jpeg_size(content)
    else:
        raise Unreadable("it is neither a JPEG nor a PNG image")
    if not width or not height or width * height > PIXELS_MAX:
        raise Unreadable(f"it claims {width} x {height} px, at most {PIXELS_MAX} px are decoded")
    return width, height


def _check_chunks(content: bytes) -> None:
    """Raise Unreadable when a chunk of a PNG file claims more bytes than the file has.

    OpenCV allocates what a chunk claims, up to 4 GB, before it reads.
    """
    at = 8
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        at += 12 + length  # with its length, its kind and its check sum
        if at > len(content):
            raise Unreadable("it is a broken PNG image: a part is longer than the file")
        if kind == b"IEND":
            break


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height in the first frame header of a JPEG file."""
    at = 2
    while at + 9 < len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in PLAIN_MARKERS:
            at += 2
        elif marker in FRAME_HEADERS:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise Unreadable("it is a broken JPEG image")


def image_texts(content: bytes) -> list[str]:
    """The comments and other texts in a JPEG or PNG file. Raises Unreadable."""
    image_size(content)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if isinstance(image, PngImagePlugin.PngImageFile):
                image.load()  # texts may stand behind the pixels
            values = image.info.values()
            texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
            return [str(text) for text in texts if isinstance(text, str)]
    except Exception as error:  # PIL raises many types for a broken file
        raise Unreadable(reason(error)) from error


def decode_image(content: bytes, mode: str, draft: tuple[int, int] | None = None) -> Image.Image:
    """The image of a JPEG or PNG file in a mode of PIL ("RGB", "L", "RGBA").

    draft: a size to which a JPEG file may be decoded smaller, but no smaller than that. Raises
    Unreadable.
    """
    image_size(content)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if draft is not None:
                image.draft(mode, draft)
            return image.convert(mode)
    except Exception as error:  # PIL raises many types for a broken file
        raise Unreadable(reason(error)) from error

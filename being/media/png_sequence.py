"""Writing of a video as a folder of PNG pictures, with the audio as a wav file."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, PngImagePlugin

from being.conventions import SAMPLE_RATE
from being.errors import BeingError
from being.files import Part
from being.media.writing import NO_MARKS, FileMarks
from being.paths import check_writable, user_path

AUDIO_FILE = "audio.wav"
PATTERN = "{:06d}.png"


def check_picture_folder(path: Path) -> Path:
    """`path` as a Path, checked: a new folder. Raises BeingError where something is there."""
    path = user_path(path)
    if path.exists():
        raise BeingError(
            f"{path} exists",
            "pictures are written to a new folder",
            "Choose another one with --out",
        )
    check_writable(path)
    return path


class PngSequenceWriter:
    """Writes RGB or RGBA frames as `000000.png`, `000001.png`, ... in a folder, and `audio.wav`.

    The folder appears under its name when it is complete. Used as `VideoWriter` is.
    """

    def __init__(
        self,
        path: Path,
        audio: np.ndarray | None = None,
        rate: int = SAMPLE_RATE,
        marks: FileMarks = NO_MARKS,
        free_name: bool = False,
    ):
        """audio, rate, marks, free_name: as of `VideoWriter`. Raises as `check_picture_folder`."""
        self.path = user_path(path) if free_name else check_picture_folder(path)
        self.frames = 0
        try:
            self._part = Part(self.path, folder=True, free_name=free_name)
        except OSError as error:
            raise BeingError(f"cannot write {path}", str(error), "Choose another --out") from error
        self._facts = PngImagePlugin.PngInfo()
        self._marks = marks
        self._facts.add_text("Comment", marks.comment)
        if marks.facts:
            self._facts.add_text("Description", marks.facts)
        if marks.xmp:
            self._facts.add_itxt("XML:com.adobe.xmp", marks.xmp)
        if audio is not None:
            said = f"{marks.comment} {marks.facts}".strip()
            _write_wav(self._part.path / AUDIO_FILE, audio, rate, said)

    def __enter__(self) -> PngSequenceWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one image, uint8 [H, W, 3] RGB or [H, W, 4] RGBA."""
        file = self._part.path / PATTERN.format(self.frames)
        Image.fromarray(frame).save(file, compress_level=3, pnginfo=self._facts)
        self.frames += 1

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._part:
            if kind is None:
                if self._marks.seal is not None:
                    for file in sorted(self._part.path.iterdir()):
                        self._marks.seal(file)
                self.path = self._part.publish()
                return
            self._part.discard()


def _write_wav(path: Path, audio: np.ndarray, rate: int, comment: str) -> None:
    """Write float32 [T] or [T, C] in [-1, 1] as 16-bit PCM, with a comment in its metadata."""
    channels = audio[:, None] if audio.ndim == 1 else audio
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(channels, -1, 1) * 32767).round().astype("<i2").tobytes())

    # The module `wave` writes no metadata: add a list of them, and the new length of the file.
    text = comment.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    part = b"INFOICMT" + struct.pack("<I", len(text)) + text
    with open(path, "r+b") as written:
        written.seek(0, 2)
        written.write(b"LIST" + struct.pack("<I", len(part)) + part)
        length = written.tell() - 8
        written.seek(4)
        written.write(struct.pack("<I", length))

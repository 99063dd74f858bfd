"""Image files of a clip: lossless .png, nearly lossless .jpg, and a folder as a sequence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from being.data.frames import read_image, write_frames, write_image
from being.errors import BeingError, InputRejected


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4)])
def test_a_png_is_read_as_it_was_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_image(tmp_path / "image.png", image)
    assert np.array_equal(read_image(tmp_path / "image.png"), image)


def test_frames_come_back_in_order_with_their_colours(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(0, 255, (12, 24, 32, 3)).astype(np.float32)
    frames = [cv2.GaussianBlur(frame, (0, 0), 2).astype(np.uint8) for frame in noise]
    counted: list[int] = []
    folder = write_frames(iter(frames), tmp_path / "ori_imgs", counted.append)
    assert len(folder) == len(frames) == sum(counted)
    for frame, read in zip(frames, folder, strict=True):
        assert np.abs(frame.astype(int) - read).mean() < 2
    assert np.array_equal(folder[-1], folder[11]) and len(folder[2:5]) == 3
    with pytest.raises(IndexError):
        folder[12]


def test_files_that_cannot_be_read_or_written_are_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(InputRejected, match="bad.jpg cannot be read"):
        read_image(tmp_path / "bad.jpg")
    with pytest.raises(BeingError, match="cannot write"):
        write_image(tmp_path / "missing" / "image.png", np.zeros((4, 4), np.uint8))

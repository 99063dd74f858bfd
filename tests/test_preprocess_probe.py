"""Clips that will not do are refused at once with the reason; a wide picture is cut to a square round the head."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from drawn_face import talking_head, write_clip
from needs import had

from being.errors import ExitCode, InputRejected
from being.preprocess.landmarks import FaceBox, FaceLandmarker
from being.preprocess.probe import FACE_SIDE_MIN, check_length, preflight, square_around_face

SIDE = 224


@pytest.fixture(scope="module")
def landmarker() -> FaceLandmarker:
    return had(lambda: FaceLandmarker(workers=1))


@pytest.fixture(scope="module")
def pictures(landmarker: FaceLandmarker) -> list[np.ndarray]:
    return talking_head(60, SIDE)[0]


def hum(frames: int) -> np.ndarray:
    return (0.2 * np.sin(np.arange(frames * 640) * 0.3)).astype(np.float32)


def test_a_good_clip_passes_whole(landmarker: FaceLandmarker, pictures: list[np.ndarray], tmp_path: Path) -> None:
    start = time.monotonic()
    checked = preflight(write_clip(tmp_path / "good.mp4", pictures, hum(60)), landmarker)
    assert checked.crop == (0, 0, SIDE) and checked.size == SIDE and checked.cut(pictures[0]).shape == (SIDE, SIDE, 3)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("fault", ["missing", "text", "empty", "folder", "sound only", "no sound", "silent", "short",
                                   "no face", "rarely a face", "two faces", "tiny face"])
def test_a_clip_that_will_not_do_is_refused(fault: str, landmarker: FaceLandmarker, pictures: list[np.ndarray],
                                            tmp_path: Path) -> None:
    file, said = tmp_path / "clip.mp4", {
        "missing": "does not exist", "text": "not a readable", "empty": "empty", "folder": "directory",
        "sound only": "no video", "no sound": "no sound", "silent": "silent", "short": "too short",
        "no face": "no face", "rarely a face": "part of the time", "two faces": "several faces",
        "tiny face": "too small"}[fault]
    grey = [np.full((SIDE, SIDE, 3), 110, np.uint8)] * 60
    if fault == "text":
        file.write_text("this is not a video\n" * 50)
    elif fault == "empty":
        file.touch()
    elif fault == "folder":
        file.mkdir()
    elif fault == "sound only":
        from being.media import write_wav

        file = tmp_path / "sound.wav"
        write_wav(file, hum(60))
    elif fault == "no sound":
        write_clip(file, pictures, None)
    elif fault == "silent":
        write_clip(file, pictures, np.zeros(60 * 640, np.float32))
    elif fault == "short":
        write_clip(file, pictures[:30], hum(30))
    elif fault == "no face":
        write_clip(file, grey, hum(60))
    elif fault == "rarely a face":
        write_clip(file, pictures[:18] + grey[18:], hum(60))
    elif fault == "two faces":
        write_clip(file, [np.concatenate([picture, picture], 1) for picture in pictures], hum(60))
    elif fault == "tiny face":
        small = [np.full((SIDE, SIDE, 3), 140, np.uint8) for _ in pictures]
        for canvas, picture in zip(small, pictures, strict=True):
            canvas[60:60 + SIDE // 2, 60:60 + SIDE // 2] = picture[::2, ::2]
        write_clip(file, small, hum(60))
    with pytest.raises(InputRejected, match=said) as refusal:
        preflight(file, landmarker)
    assert refusal.value.code == ExitCode.REJECTED


def test_a_wide_clip_is_cut_to_the_head(landmarker: FaceLandmarker, pictures: list[np.ndarray],
                                        tmp_path: Path) -> None:
    wide = [np.pad(picture, ((0, 0), (150, 26), (0, 0)), "edge") for picture in pictures]
    checked = preflight(write_clip(tmp_path / "wide.mp4", wide, hum(60)), landmarker, size=128)
    left, top, side = checked.crop
    assert left > 120 and side <= SIDE and left + side <= 400 and checked.size == 128
    cut = landmarker.detect(checked.cut(wide[10]))
    assert cut.found[0] and 0.3 * 128 < cut.points[0, 1, 0] < 0.7 * 128


def test_the_square_stays_inside_the_picture() -> None:
    def face(x: float, y: float, side: float) -> FaceBox:
        return FaceBox(np.array([x, y]), np.array([side, side]), np.zeros((2, 2)), 1.0)

    for width, height, where in ((1920, 1080, face(1850, 60, 300)), (1080, 1920, face(540, 1800, 700)),
                                 (640, 360, face(100, 180, 120))):
        left, top, side = square_around_face(width, height, [where])
        assert left >= 0 and top >= 0 and left + side <= width and top + side <= height and side > where.size[0]
    assert square_around_face(512, 512, [face(100, 100, 50)]) == (0, 0, 512)


def test_length_is_counted_in_frames() -> None:
    check_length(Path("clip.mp4"), 50)
    with pytest.raises(InputRejected, match="too short"):
        check_length(Path("clip.mp4"), 49)
    assert FACE_SIDE_MIN < SIDE

"""Clips that will not do are refused with the reason; what can be mended is, and becomes segments, pictures, sound."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from drawn_face import talking_head, write_clip
from needs import had

from being.errors import ExitCode, InputRejected
from being.preprocess.crop import square_round_head
from being.preprocess.landmarks import FaceLandmarker
from being.preprocess.preflight import preflight

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
    start = time.process_time()
    checked = preflight(write_clip(tmp_path / "good.mp4", pictures, hum(60)), landmarker)
    assert time.process_time() - start < 15
    assert checked.crop == (0, 0, SIDE) and checked.size == SIDE and checked.segments == ((0, 60),)
    assert {finding.check for finding in checked.findings if finding.level != "ok"} == {"face size"}  # 91 px
    shown = list(checked.pictures())
    assert len(shown) == checked.frames == 60 and len(checked.sound) == 60 * 640
    assert max(np.abs(a.astype(float) - b).mean() for a, b in zip(shown, pictures, strict=True)) < 3


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
    cut = landmarker.detect(list(checked.pictures())[10])
    assert cut.found[0] and 0.3 * 128 < cut.points[0, 1, 0] < 0.7 * 128


def test_the_square_stays_inside_the_picture() -> None:
    for width, height, x, y, face in ((1920, 1080, 1850, 60, 300), (1080, 1920, 540, 1800, 700),
                                      (640, 360, 100, 180, 120)):
        box = np.array([[x - face / 2, y - face / 2, x + face / 2, y + face / 2]])
        left, top, side = square_round_head(width, height, box)
        assert left >= 0 and top >= 0 and left + side <= width and top + side <= height and side > face
    assert square_round_head(512, 512, np.array([[130.0, 120, 390, 420]])) == (0, 0, 512)

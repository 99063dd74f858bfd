"""Pictures of right and wrong recordings for docs/recording.md, made of the built-in clip.

    python -m scripts.site.recording_pictures            # writes docs/images/recording_*.webp
    python -m scripts.site.recording_pictures --check    # inspects each as a clip

The person of the clip does not exist. With --check, each fault is put into the first seconds of the
clip, `being preprocess --check` inspects it, and its findings that are not ok are printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from being import media, sample
from being.conventions import FPS, SAMPLE_RATE

FOLDER = Path(__file__).parents[2] / "docs/images"
SIDE = 256  # px of a picture
SHOWN = 300  # frame of the clip that is shown
CHECKED_S = 12.0  # s of the clip that are inspected
QUALITY = 80  # of WebP
Fault = Callable[[np.ndarray, int], np.ndarray]


def right(frame: np.ndarray, _: int) -> np.ndarray:
    """The clip as it is."""
    return frame


def cut_off(frame: np.ndarray, _: int) -> np.ndarray:
    """The top of the head is beyond the picture."""
    part = frame[150:, 90:452]
    return cv2.resize(part, frame.shape[:2], interpolation=cv2.INTER_CUBIC)


def far_away(frame: np.ndarray, _: int) -> np.ndarray:
    """The person is small, before a wall that fills the picture."""
    side = frame.shape[0]
    small = cv2.resize(frame, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    wall = np.repeat(small[:1].mean(1, keepdims=True), side, 0).repeat(side, 1)
    picture = wall.astype(np.uint8)
    low = cv2.GaussianBlur(picture, (0, 0), 9)
    left = (side - small.shape[1]) // 2
    low[-small.shape[0] :, left : left + small.shape[1]] = small
    return low


def blurred(frame: np.ndarray, _: int) -> np.ndarray:
    """The camera is focused on something else."""
    return cv2.GaussianBlur(frame, (0, 0), 5)


def covered(frame: np.ndarray, _: int) -> np.ndarray:
    """A microphone before the mouth."""
    picture = frame.copy()
    side = frame.shape[0]
    middle = (round(0.47 * side), round(0.69 * side))
    cv2.line(picture, middle, (round(0.2 * side), side), (40, 40, 44), side // 16, cv2.LINE_AA)
    cv2.circle(picture, middle, side // 9, (58, 58, 62), -1, cv2.LINE_AA)
    cv2.circle(
        picture, (middle[0] - 14, middle[1] - 14), side // 30, (96, 96, 102), -1, cv2.LINE_AA
    )
    return picture


def changing_light(frame: np.ndarray, number: int) -> np.ndarray:
    """The exposure follows passing clouds; the picture of the page shows both ends."""
    gain = 0.7 + 0.3 * np.cos(number / 50)
    return (frame * gain).clip(0, 255).astype(np.uint8)


def two_people(frame: np.ndarray, _: int) -> np.ndarray:
    """A second person beside the first."""
    half = cv2.resize(frame, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    height, side = half.shape[0], frame.shape[0]
    both = np.concatenate([half[:, 26:-26], half[:, ::-1][:, 26:-26]], 1)
    both = cv2.resize(both, (side, round(height * side / both.shape[1])))
    above = np.repeat(both[:1], side - both.shape[0], 0)
    return np.concatenate([cv2.GaussianBlur(above, (0, 0), 5), both])


def moving_camera(frame: np.ndarray, number: int) -> np.ndarray:
    """The camera is held in the hand."""
    by = 18 * np.sin(number / 9), 12 * np.sin(number / 7)
    matrix = np.array([[1, 0, by[0]], [0, 1, by[1]]])
    return cv2.warpAffine(frame, matrix, frame.shape[:2], borderMode=cv2.BORDER_REPLICATE)


FAULTS: dict[str, Fault] = {
    function.__name__: function
    for function in (
        right,
        cut_off,
        far_away,
        blurred,
        covered,
        changing_light,
        two_people,
        moving_camera,
    )
}


def picture_of(name: str, frames: list[np.ndarray]) -> np.ndarray:
    """The picture of a fault, uint8 [SIDE, SIDE, 3]."""
    fault = FAULTS[name]
    picture = fault(frames[SHOWN], SHOWN)
    if fault is changing_light:
        half = picture.shape[1] // 2
        picture = frames[SHOWN].copy()
        picture[:, half:] = (0.4 * picture[:, half:]).astype(np.uint8)
    if fault is moving_camera:
        moved = [moving_camera(frames[SHOWN], number) for number in (4, 14, 24)]
        picture = np.mean(moved, 0).astype(np.uint8)
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def check(name: str, frames: list[np.ndarray], audio: np.ndarray) -> list[str]:
    """The findings of the inspection, of a clip with the fault, that are not ok."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / f"{name}.mp4"
        side = frames[0].shape[0]
        with media.VideoWriter(clip, side, side, audio=audio) as video:
            for number in range(round(CHECKED_S * FPS)):
                video.write(FAULTS[name](frames[number], number))
        done = subprocess.run(
            [sys.executable, "-m", "being.cli.app", "preprocess", clip, "--check", "--json"],
            capture_output=True,
            text=True,
            cwd=folder,
        )
    answer = json.loads(done.stdout)
    if "findings" not in answer:
        return [str(answer)]
    return [f"{f['check']}: {f['what']}" for f in answer["findings"] if f["level"] != "ok"]


def main() -> None:
    """Write the pictures, or inspect clips with the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="inspect clips with these faults")
    options = parser.parse_args()
    frames = list(itertools.islice(media.read_frames(sample.sample_clip()), SHOWN + 1))
    if options.check:
        audio = media.read_audio(sample.sample_clip())[: round(CHECKED_S * SAMPLE_RATE)]
        for name in FAULTS:
            print(name, json.dumps(check(name, frames, audio)), flush=True)
        return
    for name in FAULTS:
        file = FOLDER / f"recording_{name}.webp"
        Image.fromarray(picture_of(name, frames)).save(file, quality=QUALITY, method=6)
        print(file, file.stat().st_size)


if __name__ == "__main__":
    main()

"""Cut detection: exact frames; no cut for motion, light changes, flashes, dissolves or noise."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_face import BACKDROP, DISTANCE, draw, face_points

from being import media
from being.preprocess.inspection.cuts import CutDetector

SIDE, FRAMES = 128, 60


@lru_cache
def shot(
    seed: int, frames: int = FRAMES, speed: float = 1.0, turn: float = 0.2
) -> list[np.ndarray]:
    """Grey pictures of a drawn face that sways in front of a patterned wall.

    The seed chooses the position of face and wall.
    """
    rng = np.random.default_rng(seed)
    wall = cv2.GaussianBlur(rng.uniform(60, 200, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 6)
    wall = np.clip(
        np.array(BACKDROP) + rng.uniform(-40, 40) + 5 * (wall - wall.mean()), 0, 255
    ).astype(np.uint8)
    phase, pictures = rng.uniform(0, 6), []
    for i in range(frames):
        sway = np.sin(0.05 * speed * i + phase)
        trans = np.array([0.5 * sway + rng.normal(0, 0.003), 0.1 * np.cos(0.1 * i), -DISTANCE])
        picture = wall.copy()
        draw(face_points(np.array([0, turn * sway, 0]), trans, SIDE, abs(np.sin(0.5 * i))), picture)
        noisy = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) + rng.normal(0, 0.5, (SIDE, SIDE))
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return pictures


def find_cuts(pictures: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    for picture in pictures:
        detector.add(picture)
    return detector.finish()


def lit(pictures: list[np.ndarray], gain: np.ndarray) -> list[np.ndarray]:
    return [
        np.clip(picture * g, 0, 255).astype(np.uint8)
        for picture, g in zip(pictures, gain, strict=True)
    ]


def test_cuts_are_found_to_the_frame() -> None:
    first, second, third = shot(1)[:40], shot(2)[:33], shot(3)[:30]
    assert find_cuts(first + second + third) == [40, 73]
    # A jump cut: the same wall and light, the head turned.
    jump = first[:20] + shot(1, 30, turn=-0.8)
    assert find_cuts(jump) == [20]
    assert find_cuts(first[:3] + second) == [3], "near the beginning"
    twice = [picture for picture in first + second for _ in range(2)]
    assert find_cuts(twice) == [80], "every frame doubled"


@pytest.mark.parametrize(
    "change",
    [
        "still",
        "fast motion",
        "start and stop",
        "light on",
        "fade",
        "flash",
        "long flash",
        "flicker",
        "dissolve",
        "zoom",
        "pan",
        "copies",
    ],
)
def test_other_changes_are_no_cut(change: str) -> None:
    calm = shot(4)
    gain = np.ones(FRAMES)
    if change == "still":
        pictures = [calm[0]] * FRAMES
    elif change == "fast motion":
        pictures = shot(4, speed=10.0, turn=0.6)
    elif change == "start and stop":
        fast = shot(5, speed=10.0, turn=0.6)
        pictures = [fast[0]] * 20 + fast[:10] + [fast[10]] * 20
    elif change == "light on":
        gain[30:] = 1.4
        pictures = lit(calm, gain)
    elif change == "fade":
        pictures = lit(calm, np.clip(np.arange(FRAMES) / 20, 0.1, 1))
    elif change in ("flash", "long flash"):
        gain[30 : 31 if change == "flash" else 36] = 2.5
        pictures = lit(calm, gain)
    elif change == "flicker":
        pictures = lit(calm, 1 + 0.15 * np.sin(2.2 * np.arange(FRAMES)))
    elif change == "dissolve":
        share = np.clip((np.arange(FRAMES) - 20) / 12, 0, 1)
        pictures = [
            np.uint8(a * (1 - s) + b * s) for a, b, s in zip(calm, shot(1), share, strict=True)
        ]
    elif change == "zoom":
        pictures = [
            cv2.resize(picture, None, fx=1 + 0.02 * i, fy=1 + 0.02 * i)[:SIDE, :SIDE]
            for i, picture in enumerate(calm)
        ]
    elif change == "pan":
        wide = np.concatenate([calm[0], shot(2)[0], shot(3)[0]], 1)
        pictures = [wide[:, 4 * i : 4 * i + SIDE] for i in range(FRAMES)]
    else:
        pictures = [calm[i - (i % 6 == 3)] for i in range(FRAMES)]
    assert find_cuts(pictures) == []


@pytest.mark.shared
@pytest.mark.parametrize(
    "clip, cuts",
    [
        ("address_fr_50s.mp4", []),
        ("newsdesk_en_21s.mp4", []),
        ("raw/address_fr_30fps_dup.mp4", []),
        ("newsdesk_en_71s_cuts.mp4", [176, 702, 953, 1429]),
    ],
)
def test_the_cuts_of_real_clips(clip: str, cuts: list[int], shared_dir: Path) -> None:
    detector = CutDetector()
    for _, frame in media.read_timed_frames(shared_dir / "clips" / clip):
        detector.add(media.grey_image(frame, 128, 128))
    assert detector.finish() == cuts

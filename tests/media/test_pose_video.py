"""A video of poses gives its frames in any order, and refuses other content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from being.media.pose_video import GROUP, DamagedVideo, PoseVideo, write_pose_video

WIDTH, HEIGHT, FRAMES = 96, 64, 21


def frame(number: int) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    picture[:, 4 * number : 4 * number + 8] = (200, 8 * number, 30)
    return picture


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    path = tmp_path / "a.mp4"
    count = write_pose_video(path, map(frame, range(FRAMES)), WIDTH, HEIGHT, 100_000)
    assert count == FRAMES
    return path.read_bytes()


def test_frames_come_in_any_order(content: bytes) -> None:
    video = PoseVideo(content, WIDTH, HEIGHT, FRAMES)
    back_and_forth = [*range(FRAMES), *range(FRAMES - 1, -1, -1)]
    for number in [*back_and_forth, 0, 20, 3, GROUP, GROUP - 1]:
        assert np.abs(video[number].astype(int) - frame(number)).mean() < 6, number


def test_the_size_is_bounded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(50)]
    write_pose_video(tmp_path / "a.mp4", noise, 256, 256, 4_000)
    assert (tmp_path / "a.mp4").stat().st_size < 50 * 4_000 * 1.6  # the buffer starts full


def test_other_content_is_refused(content: bytes) -> None:
    for wrong in (b"", b"no video", content[:30], content[:60], content[: len(content) // 2]):
        with pytest.raises(DamagedVideo):
            PoseVideo(wrong, WIDTH, HEIGHT, FRAMES)
    for size in ((WIDTH, HEIGHT, FRAMES + 1), (WIDTH * 2, HEIGHT, FRAMES)):
        with pytest.raises(DamagedVideo):
            PoseVideo(content, *size)
    with pytest.raises(DamagedVideo, match="no H.264"):  # a codec that is not known
        PoseVideo(content.replace(b"avc1", b"xyz1"), WIDTH, HEIGHT, FRAMES)
    broken = bytearray(content)
    start = content.index(b"mdat") + 600
    broken[start : start + 400] = bytes(400)
    with pytest.raises(DamagedVideo):
        video = PoseVideo(bytes(broken), WIDTH, HEIGHT, FRAMES)
        for number in range(FRAMES):
            video[number]

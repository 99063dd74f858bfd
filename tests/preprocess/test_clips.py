"""Several clips as one dataset: segments at the joins, framing, person, refusals, resume."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_face import talking_head, write_clip
from needs import load_or_skip

from being.data.cameras import euler_to_rotation
from being.errors import InputRejected, UsageError
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import FaceLandmarker
from being.media import read_audio
from being.media.joining import join_videos
from being.preprocess import clips
from being.preprocess.clips import check_clips, join_clips
from being.preprocess.inspection.clip import raise_rejection
from being.preprocess.inspection.clip_parts import ClipPart, check_parts
from being.preprocess.inspection.measurements import SampledFrame
from being.preprocess.inspection.picture import ClipInspection, inspect_picture
from being.sample import sample_clip

SIDE, FRAMES = 192, 50


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return talking_head(2 * FRAMES, SIDE)[0]


@pytest.fixture(scope="module")
def halves(
    pictures: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A drawn person who goes on without a change from the first clip to the second one."""
    folder = tmp_path_factory.mktemp("halves")
    speech = read_audio(sample_clip())[: 2 * FRAMES * 640]
    return (
        write_clip(folder / "a.mp4", pictures[:FRAMES], speech[: FRAMES * 640]),
        write_clip(folder / "b.mp4", pictures[FRAMES:], speech[FRAMES * 640 :]),
    )


def inspect_joined(videos: list[Path], folder: Path) -> ClipInspection:
    """The inspection of the joined clips; raises InputRejected for a rejection."""
    landmarker = load_or_skip(lambda: FaceLandmarker(workers=1))
    joined = join_clips(videos, check_clips(videos), folder)
    inspection = inspect_picture(joined.video, landmarker, parts=joined.clips)
    raise_rejection(joined.video, inspection.findings)
    return inspection


def test_the_segments_are_the_clips(halves: tuple[Path, Path], tmp_path: Path) -> None:
    inspection = inspect_joined(list(halves), tmp_path)
    assert inspection.segments == ((0, FRAMES), (FRAMES, 2 * FRAMES))
    assert inspection.source_frames.tolist() == list(range(2 * FRAMES))
    assert len(inspection.audio) == 2 * FRAMES * 640
    assert inspection.findings[0].check == "clips" and inspection.findings[0].level == "ok"


def test_a_clip_framed_otherwise_is_refused(
    halves: tuple[Path, Path], pictures: list[np.ndarray], tmp_path: Path
) -> None:
    edge = SIDE // 8
    near = [
        cv2.resize(picture[edge:-edge, edge:-edge], (SIDE, SIDE)) for picture in pictures[:FRAMES]
    ]
    path = write_clip(tmp_path / "near.mp4", near, read_audio(sample_clip())[: FRAMES * 640])
    with pytest.raises(InputRejected, match=r"near.mp4 is framed otherwise than a.mp4.*times as"):
        inspect_joined([halves[0], path], tmp_path)


def faces(stretch: tuple[float, float, float], seed: int) -> list[np.ndarray]:
    """Landmarks [478, 3] px of a face in many poses; stretch: of its three axes."""
    rng = np.random.default_rng(seed)
    vertices = canonical_mesh()[0] * np.array(stretch) * [1, -1, -1]
    found = []
    for _ in range(12):
        points = np.zeros((478, 3), np.float32)
        turned = vertices @ euler_to_rotation(rng.normal(0, 0.2, 3)).T
        points[:468] = rng.uniform(6, 6.2) * turned + rng.normal(0, 0.3, (468, 3)) + 100
        found.append(points)
    return found


@pytest.mark.parametrize(
    "stretch, same", [((1, 1, 1), True), ((1.02, 1, 1), True), ((1.2, 1, 1), False)]
)
def test_another_person_is_told_by_lengths_of_the_face(
    stretch: tuple[float, float, float], same: bool
) -> None:
    parts = [ClipPart("a.mp4", "a", 12), ClipPart("b.mp4", "b", 12)]
    samples = [
        SampledFrame(i, points, np.zeros(52), 1, None, 1.0, np.zeros(3), None)
        for i, points in enumerate([*faces((1, 1, 1), 1), *faces(stretch, 2)])
    ]
    spans = [(0, 12), (12, 24)]
    (finding,) = check_parts(parts, spans, spans, samples)
    assert finding.level == ("ok" if same else "rejection")
    assert same or "b.mp4 shows another person than a.mp4" in finding.what


def test_a_clip_without_a_face_is_named() -> None:
    parts = [ClipPart("a.mp4", "a", 12), ClipPart("b.mp4", "b", 12)]
    samples = [
        SampledFrame(i, points, np.zeros(52), 1, None, 1.0, np.zeros(3), None)
        for i, points in enumerate(faces((1, 1, 1), 1))
    ]
    (finding,) = check_parts(parts, [(0, 12)], [(0, 12)], samples)
    assert finding.level == "rejection" and "nothing of the clip b.mp4" in finding.what


def test_what_needs_no_look_at_the_picture_is_refused_first(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = halves
    with pytest.raises(InputRejected, match="is the same clip as"):
        check_clips([first, second, first])
    silent = write_clip(tmp_path / "silent.mp4", [np.zeros((64, 64, 3), np.uint8)] * FRAMES, None)
    with pytest.raises(InputRejected, match=r"silent.mp4 has no audio"):
        check_clips([first, silent])
    with pytest.raises(UsageError, match="--audio was given with 2 clips"):
        check_clips(halves, audio=tmp_path / "voice.wav")
    with pytest.raises(UsageError, match="17 clips"):
        check_clips([first] * 17)


def test_a_joined_video_is_found_again(
    halves: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = check_clips(halves)
    made = join_clips(halves, digests, tmp_path)
    runs: list[Path] = []

    def counted(videos, out, advance=None):  # type: ignore[no-untyped-def]
        runs.append(out)
        return join_videos(videos, out, advance)

    monkeypatch.setattr(clips, "join_videos", counted)
    assert join_clips(halves, digests, tmp_path) == made and not runs

    # Damaged, or of other clips, it is made again, and the old one is removed.
    made.video.write_bytes(made.video.read_bytes()[:-100])
    assert join_clips(halves, digests, tmp_path) == made and len(runs) == 1
    other = join_clips(halves[::-1], digests[::-1], tmp_path)
    assert other.video != made.video and not made.video.exists()

"""Picture inspection: rejected clips, corrected faults, reported faults, odd files, real clips."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_face import BACKDROP, talking_head, write_clip
from needs import load_or_skip
from odd_clips import write_odd

from being.errors import ExitCode, InputRejected
from being.face.landmarks import FaceLandmarker
from being.media.resampling import resample
from being.preprocess.inspection.clip import raise_rejection
from being.preprocess.inspection.crop import head_square
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.picture import ClipInspection, Lateness, LipOffset, inspect_picture

SIDE = 224


@pytest.fixture(scope="module")
def landmarker() -> FaceLandmarker:
    return load_or_skip(lambda: FaceLandmarker(workers=1))


@pytest.fixture(scope="module")
def pictures(landmarker: FaceLandmarker) -> list[np.ndarray]:
    return talking_head(60, SIDE)[0]


def inspect(
    video: Path, landmarker: FaceLandmarker, size: int = 512, lip_offset: LipOffset | None = None
) -> ClipInspection:
    """The inspection of a clip; raises InputRejected for a rejection."""
    inspection = inspect_picture(video, landmarker, size, lip_offset)
    raise_rejection(video, inspection.findings)
    return inspection


def hum(frames: int) -> np.ndarray:
    return (0.2 * np.sin(np.arange(frames * 640) * 0.3)).astype(np.float32)


def test_a_good_clip_passes_whole(
    landmarker: FaceLandmarker, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    start = time.process_time()
    inspection = inspect(write_clip(tmp_path / "good.mp4", pictures, hum(60)), landmarker)
    assert time.process_time() - start < 15
    assert (
        inspection.crop == (0, 0, SIDE)
        and inspection.size == SIDE
        and inspection.segments == ((0, 60),)
    )
    # The drawn face has 91 px.
    assert {finding.check for finding in inspection.findings if finding.level != "ok"} == {
        "face size"
    }
    shown = list(inspection.decode_frames())
    assert len(shown) == inspection.frames == 60 and len(inspection.audio) == 60 * 640
    assert max(np.abs(a.astype(float) - b).mean() for a, b in zip(shown, pictures, strict=True)) < 3


@pytest.mark.parametrize(
    "fault",
    [
        "missing",
        "text",
        "empty",
        "folder",
        "audio only",
        "no audio",
        "silent",
        "short",
        "no face",
        "rarely a face",
        "two faces",
        "tiny face",
    ],
)
def test_an_unusable_clip_is_rejected(
    fault: str, landmarker: FaceLandmarker, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    file = tmp_path / "clip.mp4"
    message = {
        "missing": "does not exist",
        "text": "not a readable",
        "empty": "empty",
        "folder": "directory",
        "audio only": "no video",
        "no audio": "no audio",
        "silent": "silent",
        "short": "too short",
        "no face": "no face",
        "rarely a face": "part of the time",
        "two faces": "several faces",
        "tiny face": "too small",
    }[fault]
    grey = [np.full((SIDE, SIDE, 3), 110, np.uint8)] * 60
    if fault == "text":
        file.write_text("this is not a video\n" * 50)
    elif fault == "empty":
        file.touch()
    elif fault == "folder":
        file.mkdir()
    elif fault == "audio only":
        from being.media import write_wav

        file = tmp_path / "audio.wav"
        write_wav(file, hum(60))
    elif fault == "no audio":
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
            canvas[60 : 60 + SIDE // 2, 60 : 60 + SIDE // 2] = picture[::2, ::2]
        write_clip(file, small, hum(60))
    with pytest.raises(InputRejected, match=message) as rejection:
        inspect(file, landmarker)
    assert rejection.value.code == ExitCode.REJECTED


def test_a_wide_clip_is_cropped_to_the_head(
    landmarker: FaceLandmarker, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    wide = [np.pad(picture, ((0, 0), (150, 26), (0, 0)), "edge") for picture in pictures]
    inspection = inspect(write_clip(tmp_path / "wide.mp4", wide, hum(60)), landmarker, size=128)
    left, top, side = inspection.crop
    assert left > 120 and side <= SIDE and left + side <= 400 and inspection.size == 128
    cut = landmarker.detect(list(inspection.decode_frames())[10])
    assert cut.found[0] and 0.3 * 128 < cut.points[0, 1, 0] < 0.7 * 128


def test_the_square_stays_inside_the_picture() -> None:
    for width, height, x, y, face in (
        (1920, 1080, 1850, 60, 300),
        (1080, 1920, 540, 1800, 700),
        (640, 360, 100, 180, 120),
    ):
        box = np.array([[x - face / 2, y - face / 2, x + face / 2, y + face / 2]])
        left, top, side = head_square(width, height, box)
        assert (
            left >= 0 and top >= 0 and left + side <= width and top + side <= height and side > face
        )
    assert head_square(512, 512, np.array([[130.0, 120, 390, 420]])) == (0, 0, 512)


def test_a_tight_crop_gives_the_head_more_of_the_square():
    """It still holds the crown of the head, the chin, and a margin at both ears."""
    faces = np.array([[700.0, 600, 850, 780], [720, 610, 870, 790]])  # 180 px high
    left, top, side = head_square(1080, 1920, faces, tight=True)
    usual = head_square(1080, 1920, faces)[2]
    assert side < 0.8 * usual
    assert top < 600 - 0.45 * 180 and top + side > 790 + 0.2 * 180
    assert left < 700 - 0.2 * 150 and left + side > 870 + 0.2 * 150


# --- faults that are corrected

Pictures = list[np.ndarray]


def speechlike(frames: int) -> np.ndarray:
    """Noise in syllables, float32 [640 * frames] at 16 kHz: no stretch of it is like another."""
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0, 0.3, frames), 640)
    low = cv2.GaussianBlur(rng.normal(0, 1, frames * 640).astype(np.float32)[None], (0, 0), 4)[0]
    return (loud * low / low.std()).clip(-1, 1).astype(np.float32)


def finding_of(inspection: ClipInspection, check: str) -> Finding:
    return next(finding for finding in inspection.findings if finding.check == check)


def closer(pictures: Pictures) -> Pictures:
    """The same pictures from nearer: another framing."""
    return [
        cv2.resize(p[20:-20, 20:-20], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures
    ]


def alike(shown: Pictures, true: Pictures) -> bool:
    """Whether each picture is nearer to its true picture than to the next true one."""
    assert len(shown) == len(true), (len(shown), len(true))
    off = np.array([np.abs(a.astype(float) - b).mean() for a, b in zip(shown, true, strict=True)])
    beside = np.array(
        [np.abs(a.astype(float) - b).mean() for a, b in zip(shown[:-1], true[1:], strict=True)]
    )
    return bool(off.max() < 3 and (off[:-1] < beside + 0.2).all())


def close_audio(audio: np.ndarray, true: np.ndarray) -> bool:
    return audio.shape == true.shape and float(np.corrcoef(audio, true)[0, 1]) > 0.95


def test_other_framings_are_dropped_with_their_audio(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    clip = pictures[:30] + closer(pictures[:28]) + pictures[30:60]
    audio = speechlike(len(clip))
    inspection = inspect(write_odd(tmp_path / "a.mkv", clip, sound=audio), landmarker)
    assert inspection.segments == ((0, 30), (30, 60)) and alike(
        list(inspection.decode_frames()), pictures
    )
    assert close_audio(inspection.audio, np.concatenate([audio[: 30 * 640], audio[58 * 640 :]]))
    assert finding_of(inspection, "cuts").at == ((1.2, 1.2), (2.32, 2.32))
    framing = finding_of(inspection, "framing")
    assert framing.level == "warning" and "1.1 s" in framing.what and framing.at == ((1.2, 2.32),)


def test_stretches_without_the_face_and_black_ones_are_cut_away(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    wall, black = np.full((SIDE, SIDE, 3), BACKDROP, np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)
    clip = [black] * 7 + pictures[:30] + [wall] * 20 + pictures[30:]
    audio = speechlike(len(clip))
    inspection = inspect(write_odd(tmp_path / "a.mkv", clip, sound=audio), landmarker)
    assert inspection.segments == ((0, 30), (30, 60)) and alike(
        list(inspection.decode_frames()), pictures
    )
    assert close_audio(
        inspection.audio, np.concatenate([audio[7 * 640 : 37 * 640], audio[57 * 640 :]])
    )
    assert finding_of(inspection, "face").level == "warning" and finding_of(
        inspection, "picture"
    ).at[0] == (
        0.0,
        0.28,
    )


def test_a_second_person_is_cut_away(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    alone = [np.pad(p, ((0, 0), (0, SIDE), (0, 0)), "edge") for p in pictures]
    both = [np.concatenate([p, p[:, ::-1]], 1) for p in pictures[:30]]
    inspection = inspect(write_clip(tmp_path / "a.mp4", alone + both, hum(90)), landmarker)
    assert 50 <= inspection.frames <= 60 and finding_of(inspection, "people").level == "warning"


def test_copies_are_dropped_one_to_one(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    """25 fps in a 30 fps container; the picture starts 80 ms after the audio."""
    clip, audio = [pictures[i * 5 // 6] for i in range(72)], speechlike(62)
    inspection = inspect(
        write_odd(
            tmp_path / "a.mkv",
            clip,
            rate=30,
            times=[i / 30 + 1.08 for i in range(72)],
            sound=audio,
            sound_from=1.0,
        ),
        landmarker,
    )
    rate, start = finding_of(inspection, "frame rate"), finding_of(inspection, "audio track")
    assert (
        "25 frames/s in a container of 30: 12 frames are copies" in rate.what and rate.level == "ok"
    )
    assert "80 ms after the audio" in start.what and start.level == "ok"
    assert alike(list(inspection.decode_frames()), pictures)
    lag = (
        np.argmax(
            [
                np.dot(inspection.audio[4000:20000], audio[4000 + k : 20000 + k])
                for k in range(800, 1800)
            ]
        )
        + 800
    )
    assert abs(lag - 0.08 * 16_000) <= 0.02 * 16_000


def test_copies_at_no_regular_cadence_are_dropped(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    """60 even pictures in 72 frames of a compressed clip, 12 of them copies at any place.

    The head hardly moves at one of them: one more or one less may be found.
    """
    copied = [3, 9, 16, 18, 25, 28, 33, 40, 46, 52, 55, 58]
    shown = np.repeat(np.arange(60), 1 + np.isin(np.arange(60), copied))
    clip, audio = [pictures[i] for i in shown], speechlike(72)
    inspection = inspect(write_odd(tmp_path / "a.mkv", clip, sound=audio), landmarker)
    rate = finding_of(inspection, "frame rate")
    assert rate.level == "warning", rate
    assert any(f"{count} frames are copies" in rate.what for count in (11, 12, 13)), rate
    assert "no regular cadence" in rate.what and "show the one before again" in rate.fix

    # The dataset keeps 25 frames/s: each frame shows the picture whose true time is nearest.
    used = shown[inspection.source_frames]
    off = np.arange(len(used)) * 60 / 72 - used
    assert 70 <= inspection.frames <= 73 and np.abs(off - np.median(off)).max() < 1
    assert (np.diff(used) >= 0).all() and len(np.unique(used)) >= 58
    assert len(inspection.audio) == inspection.frames * 640


@pytest.mark.parametrize("rate", [24, 30, 50, 0])
def test_other_rates_become_25(
    rate: int, landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    """Each frame shows the nearest true picture; 0: a variable rate."""
    steps = (
        np.random.default_rng(1).choice([1 / 30, 1 / 20], 60)
        if rate == 0
        else np.full(60, 1 / (rate or 1))
    )
    times = np.cumsum(steps) - steps[0] + 0.5
    inspection = inspect_picture(
        write_odd(
            tmp_path / "a.mkv",
            pictures,
            rate=rate or 30,
            times=times.tolist(),
            sound=hum(80),
            sound_from=0.5,
        ),
        landmarker,
    )
    wanted = 0.5 + np.arange(inspection.frames) / 25
    nearest = np.abs(times[None] - wanted[:, None]).min(1)
    assert np.abs(np.abs(times[inspection.source_frames] - wanted) - nearest).max() < 2e-3
    shown = inspection.source_frames
    assert len(inspection.repeated) == len(shown) - len(np.unique(shown))
    assert len(np.unique(np.delete(shown, inspection.repeated))) == len(np.unique(shown))
    rate_finding = finding_of(inspection, "frame rate")
    assert ("variable" in rate_finding.what) == (
        rate == 0
    ) and f"{1e3 * nearest.max():.0f} ms" in rate_finding.fix.replace("21", "20")


def test_the_audio_is_shifted_to_the_lips(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    audio = speechlike(64)
    lengths = []

    def late(face_samples: object, audio: np.ndarray, segments: int) -> Lateness:
        lengths.append(len(audio))
        assert segments == 1
        return Lateness(0.1)

    inspection = inspect(
        write_odd(tmp_path / "a.mkv", pictures, sound=audio), landmarker, lip_offset=late
    )
    assert close_audio(inspection.audio, audio[1600 : 1600 + 60 * 640]) and lengths == [60 * 640]
    assert "100 ms after the lips" in finding_of(inspection, "audio track").what


@pytest.mark.parametrize("late, at", [(0.6, [(1.8, 2.4)]), (-0.6, [(0.0, 0.6)]), (0.1, [])])
def test_the_picture_that_moved_audio_no_longer_covers_is_cut_away(
    late: float,
    at: list[tuple[float, float]],
    landmarker: FaceLandmarker,
    pictures: Pictures,
    tmp_path: Path,
) -> None:
    audio = speechlike(60)
    video = write_odd(tmp_path / "a.mkv", pictures, sound=audio)
    inspection = inspect_picture(video, landmarker, lip_offset=lambda *_: Lateness(late))
    track = finding_of(inspection, "audio track")
    assert track.level == ("warning" if at else "ok")
    assert np.allclose(track.at, at, atol=0.05) and ("cut away" in track.fix) == bool(at)

    # All pictures that are left have audio, but for AUDIO_SHORT.
    lost = max(0.0, abs(late) - 0.2)
    assert abs(inspection.frames - (60 - 25 * lost)) <= 1
    first = max(0.0, -late - 0.2)
    assert inspection.segment_starts[0] == pytest.approx(first, abs=0.05)
    whole = np.pad(audio, (16_000, 16_000))
    start = 16_000 + round(16_000 * (inspection.segment_starts[0] + late))
    assert close_audio(inspection.audio, whole[start : start + len(inspection.audio)])


def test_audio_that_drifts_is_stretched_to_the_lips(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    audio, rate = speechlike(60), 0.01
    slow = resample(audio, 100, 101)
    inspection = inspect(
        write_odd(tmp_path / "a.mkv", pictures, sound=slow),
        landmarker,
        lip_offset=lambda *_: Lateness(0.0, rate),
    )
    assert len(inspection.audio) == 60 * 640
    assert np.corrcoef(inspection.audio, audio)[0, 1] > 0.9 > np.corrcoef(slow[:38400], audio)[0, 1]
    assert "1.00% slow" in finding_of(inspection, "audio track").what


@pytest.mark.parametrize("sound_from, seconds", [(0.6, 2.4), (0.0, 1.6)])
def test_late_and_short_audio_is_no_other_framing(
    sound_from: float,
    seconds: float,
    landmarker: FaceLandmarker,
    pictures: Pictures,
    tmp_path: Path,
) -> None:
    sound = hum(60)[: round(16_000 * (seconds - sound_from))]
    video = write_odd(tmp_path / "a.mkv", pictures, sound=sound, sound_from=sound_from)
    inspection = inspect_picture(video, landmarker)
    track = finding_of(inspection, "audio track")
    assert finding_of(inspection, "framing").what == "one framing"
    assert track.level == "warning" and "cut away" in track.fix and len(track.at) == 1


def test_a_speaker_in_the_corner_of_a_recording_is_judged_at_the_face(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    """The face stops for 2 s while the recorded screen moves; a slide changes after 0.8 s."""
    slides = np.random.default_rng(0).uniform(0, 255, (2, 18, 32, 3)).astype(np.uint8)
    side, screens = 360, []
    for i, picture in enumerate([*pictures, *pictures[-1:] * 50, *pictures[::-1]]):
        screen = cv2.resize(slides[int(i >= 20)], (1024, 576), interpolation=cv2.INTER_NEAREST)
        screen[:20, : 4 * i] = 255
        screen[-side - 60 :, -side - 60 :] = BACKDROP
        screen[-side:, -side:] = cv2.resize(picture, (side, side))
        screens.append(screen)
    inspection = inspect(write_clip(tmp_path / "a.mp4", screens, hum(170)), landmarker)
    stopped = finding_of(inspection, "picture")
    assert "the picture stops" in stopped.what
    assert np.allclose(stopped.at, [(60 / 25, 110 / 25)], atol=0.25)
    for check in ("cuts", "framing", "camera", "light"):
        finding = finding_of(inspection, check)
        assert finding.level == "ok" and not finding.at, finding
    assert inspection.frames == pytest.approx(120, abs=8) and len(inspection.segments) == 2


# --- faults that are only reported


def lit(gain: Callable[[int], object]) -> Callable[[Pictures], Pictures]:
    return lambda pictures: [
        np.clip(p * np.asarray(gain(i)), 0, 255).astype(np.uint8) for i, p in enumerate(pictures)
    ]


def shaken(pictures: Pictures) -> Pictures:
    """The same in front of a patterned wall that moves, as with a hand-held camera."""
    rng = np.random.default_rng(1)
    wall = cv2.GaussianBlur(
        rng.uniform(0, 255, (SIDE + 40, SIDE + 40, 3)).astype(np.float32), (0, 0), 3
    )
    wall = np.clip(128 + 4 * (wall - wall.mean()), 0, 255).astype(np.uint8)
    shifted = []
    for i, picture in enumerate(pictures):
        x, y = round(20 + 9 * np.sin(0.21 * i)), round(20 + 7 * np.cos(0.17 * i))
        shifted.append(
            np.where(
                (picture == BACKDROP).all(-1, keepdims=True),
                wall[y : y + SIDE, x : x + SIDE],
                picture,
            )
        )
    return shifted


FAULTS: dict[str, tuple[str, str, Callable[[Pictures], Pictures]]] = {
    "drift": ("light", "light changes by", lit(lambda i: 1 - 0.004 * i)),
    "white balance": (
        "light",
        "colours change by",
        lit(lambda i: [1 - 0.003 * i, 1, 1 + 0.003 * i]),
    ),
    "flicker": ("light", "flickers", lit(lambda i: 1 + 0.02 * np.sin(2.1 * i))),
    "shake": ("camera", "the camera moves", shaken),
    "blur": (
        "sharpness",
        "the face is blurred",
        lambda pictures: [cv2.GaussianBlur(p, (0, 0), 4) for p in pictures],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_give_warnings(
    fault: str, landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    check, message, spoil = FAULTS[fault]
    inspection = inspect(write_clip(tmp_path / "a.mp4", spoil(pictures), hum(60)), landmarker)
    finding = finding_of(inspection, check)
    assert finding.level == "warning" and message in finding.what and finding.fix
    others = {f.check for f in inspection.findings if f.level != "ok"} - {
        check,
        "face size",
        "sharpness",
    }
    assert others <= {"camera"} & ({"camera"} if fault == "shake" else set()), inspection.findings


def test_an_inspection_reports_all_rejections(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    inspection = inspect_picture(
        write_clip(tmp_path / "a.mp4", [pictures[0]] * 60, None), landmarker
    )
    assert {f.check for f in inspection.findings if f.level == "rejection"} == {
        "audio track",
        "picture",
    }
    assert all(f.what and (f.fix or f.level == "ok") for f in inspection.findings)


# --- odd files


@pytest.mark.parametrize(
    "case", ["turned", "grey", "transparent", "odd size", "4K", "ten bits", "sizes change"]
)
def test_odd_clips_become_datasets(
    case: str, landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    """The 4K clip has 5 frames/s, and its last frame is not shown for its full time."""
    audio, file, frames = hum(60), tmp_path / "a.mkv", 60
    if case == "turned":
        file = write_odd(
            tmp_path / "a.mp4",
            [np.ascontiguousarray(np.rot90(p, -1)) for p in pictures],
            turn=90,
            sound=audio,
        )
    elif case == "grey":
        write_odd(file, pictures, pixels="gray", sound=audio)
    elif case == "transparent":
        clear = [
            np.dstack([p, np.where((p == BACKDROP).all(-1), 0, 255).astype(np.uint8)])
            for p in pictures
        ]
        file = write_odd(
            tmp_path / "a.mov",
            clear,
            codec="prores_ks",
            pixels="yuva444p10le",
            options={"profile": "4444"},
            sound=audio,
        )
    elif case == "odd size":
        odd = [np.pad(p, ((10, 7), (100, 103), (0, 0)), "edge") for p in pictures]
        write_odd(file, odd, codec="ffv1", pixels="yuv444p", sound=audio)
    elif case == "4K":
        big = [
            cv2.resize(np.pad(p, ((0, 0), (80, 94), (0, 0)), "edge"), (3840, 2160))
            for p in pictures[::5]
        ]
        write_odd(file, big, rate=5, options={"preset": "ultrafast"}, sound=audio)
    elif case == "ten bits":
        write_odd(
            file,
            pictures,
            codec="libx265",
            pixels="yuv420p10le",
            options={"x265-params": "log-level=0"},
            sound=audio,
        )
    else:
        small = [cv2.resize(p, None, fx=0.5, fy=0.5) for p in pictures]
        write_odd(file, pictures + small, codec="mjpeg", pixels="yuvj444p", sound=hum(120))
        frames = 120
    inspection = inspect(file, landmarker)
    shown = list(inspection.decode_frames())
    assert len(shown) == inspection.frames and abs(inspection.frames - frames) <= (
        4 if case == "4K" else 0
    )
    assert {p.shape for p in shown} == {
        (inspection.size, inspection.size, 3)
    } and inspection.size % 2 == 0
    assert landmarker.detect(shown[10]).found[0], "upright, the head in it"
    expected = {
        "turned": "turned by 90",
        "transparent": "transparency",
        "4K": "3840x2160",
        "ten bits": "yuv420p10le",
        "odd size": "427x241",
    }
    assert expected.get(case, "") in finding_of(inspection, "file").what


def test_half_a_face_is_rejected(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    half = [
        np.pad(p[:, SIDE // 2 - 5 :], ((0, 0), (0, SIDE // 2 - 5), (0, 0)), "edge")
        for p in pictures
    ]
    with pytest.raises(InputRejected, match="cut off|no face|part of the time"):
        inspect(write_clip(tmp_path / "a.mp4", half, hum(60)), landmarker)


def test_an_animation_has_no_audio(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    with pytest.raises(InputRejected, match="no audio track"):
        inspect(write_odd(tmp_path / "a.gif", pictures, codec="gif", pixels="rgb8"), landmarker)


@pytest.mark.slow
def test_a_long_clip_needs_little_memory(
    landmarker: FaceLandmarker, pictures: Pictures, tmp_path: Path
) -> None:
    """20 minutes at 4 frames/s; the step between samples grows, so their number hardly does."""
    small = [cv2.resize(p, (96, 96), interpolation=cv2.INTER_AREA) for p in pictures]
    clip = write_odd(
        tmp_path / "a.mkv",
        [small[i % 60] for i in range(1200 * 4)],
        rate=4,
        sound=hum(1200 * 25),
        options={"preset": "ultrafast"},
    )
    before, seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    inspection = inspect_picture(clip, landmarker, advance=seen.append)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, (
        "kB; 77 MB of it are the audio"
    )
    assert sum(seen) == 1200 * 4 and len(inspection.face_samples) < 1150
    length = finding_of(inspection, "length")
    assert length.level == "warning" and "about 50 min" in length.what


# --- real clips


@pytest.mark.shared
@pytest.mark.slow
def test_the_raw_clip_gives_the_frames_of_its_clean_copy(
    landmarker: FaceLandmarker, shared_dir: Path
) -> None:
    clean = inspect(shared_dir / "clips/address_fr_50s.mp4", landmarker)
    raw = inspect(shared_dir / "clips/raw/address_fr_30fps_dup.mp4", landmarker)
    assert (
        clean.segments == ((0, 1259),)
        and abs(raw.frames - clean.frames) <= 1
        and raw.crop == clean.crop
    )
    psnr = [
        10 * np.log10(255**2 / np.mean((a.astype(np.float32) - b) ** 2))
        for a, b in zip(clean.decode_frames(), raw.decode_frames(), strict=False)
    ]
    samples = min(len(clean.audio), len(raw.audio))
    spectra = [np.fft.rfft(part.audio[:samples], 2 * samples) for part in (clean, raw)]
    lag = int(np.fft.irfft(spectra[0] * spectra[1].conj()).argmax())
    lag = lag - 2 * samples if lag > samples else lag
    print(
        f"frames {clean.frames} and {raw.frames}; PSNR {min(psnr):.1f} dB at least, "
        f"{np.median(psnr):.1f} dB median; "
        f"audio offset {lag / 16:.2f} ms"
    )
    assert min(psnr) > 40 and abs(lag) <= 0.02 * 16_000


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "clip, segments, warned",
    [
        ("address_fr_50s.mp4", ((0, 1259),), set()),
        ("newsdesk_en_21s.mp4", ((0, 526),), set()),
        ("raw/address_fr_30fps_dup.mp4", ((0, 1258),), set()),
        ("newsdesk_en_71s_cuts.mp4", ((0, 176), (176, 702), (702, 953)), {"framing"}),
    ],
)
def test_real_clips(
    clip: str,
    segments: tuple[tuple[int, int], ...],
    warned: set[str],
    landmarker: FaceLandmarker,
    shared_dir: Path,
) -> None:
    start = time.process_time()
    inspection = inspect(shared_dir / "clips" / clip, landmarker)
    print(f"{clip}: {time.process_time() - start:.1f} s of processor time")
    assert inspection.segments == segments and inspection.crop == (0, 0, 512)
    assert {finding.check for finding in inspection.findings if finding.level != "ok"} == warned

"""Bad inputs of `being preprocess`: exit code, one clear line, no files left; odd ones are used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from drawn_face import talking_head
from needs import load_or_skip
from odd_clips import write_odd
from program import being, refused

from being.face.landmarks import FaceLandmarker
from being.media import read_audio, write_wav
from being.sample import sample_clip

SIDE, FRAMES = 192, 54
MakeClip = Callable[["ClipMaker"], Path]


class ClipMaker:
    """Makes clips for one test: images of a drawn head, its speech, good clips, a folder."""

    def __init__(self, folder: Path):
        self.pictures = talking_head(FRAMES, SIDE)[0]
        self.speech = read_audio(sample_clip())[16_000 : 16_000 + FRAMES * 640]
        self.good = write_odd(folder / "good.mp4", self.pictures, sound=self.speech)
        self.matroska = write_odd(
            folder / "good.mkv", self.pictures, sound=self.speech, options={"g": "6"}
        )
        self.folder = folder

    def clip(
        self, pictures: list[np.ndarray] | None = None, name: str = "clip.mp4", **settings: Any
    ) -> Path:
        """A clip in the test's folder; by default the drawn head that speaks."""
        settings.setdefault("sound", self.speech)
        return write_odd(
            self.folder / name, self.pictures if pictures is None else pictures, **settings
        )

    def file(self, content: bytes, name: str = "clip.mp4") -> Path:
        """A file of these bytes."""
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def changed(self, change: Callable[[bytearray], object], of: Path | None = None) -> Path:
        """The good clip, or `of`, with its bytes changed in place."""
        data = bytearray((of or self.good).read_bytes())
        change(data)
        return self.file(bytes(data), f"clip{(of or self.good).suffix}")


@pytest.fixture(scope="module")
def good_clips(tmp_path_factory: pytest.TempPathFactory) -> ClipMaker:
    """The images and good clips, made once for all tests."""
    load_or_skip(FaceLandmarker)
    return ClipMaker(tmp_path_factory.mktemp("good_clips"))


@pytest.fixture
def clips(
    good_clips: ClipMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ClipMaker]:
    """The clips with an empty current folder, which is also BEING_HOME."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEING_HOME", str(tmp_path))
    kept, good_clips.folder = good_clips.folder, tmp_path
    yield good_clips
    good_clips.folder = kept


def grey(side: int = SIDE, count: int = FRAMES) -> list[np.ndarray]:
    return [np.full((side, side, 3), 110, np.uint8)] * count


def cut(share: float, of: str = "good") -> MakeClip:
    return lambda clips: clips.changed(
        lambda data: data.__delitem__(slice(int(share * len(data)), None)), getattr(clips, of)
    )


def scrambled(start: float, stop: float, of: str = "good") -> MakeClip:
    """Noise over a part of the file."""

    def change(data: bytearray) -> None:
        low, high = int(start * len(data)), int(stop * len(data))
        data[low:high] = np.random.default_rng(0).bytes(high - low)

    return lambda clips: clips.changed(change, getattr(clips, of))


def renamed(old: bytes, new: bytes) -> MakeClip:
    def change(data: bytearray) -> None:
        assert old in data
        data[:] = data.replace(old, new)

    return lambda clips: clips.changed(change)


def fifo(clips: ClipMaker) -> Path:
    os.mkfifo(clips.folder / "clip.mp4")
    return clips.folder / "clip.mp4"


def link(target: str) -> MakeClip:
    def make(clips: ClipMaker) -> Path:
        (clips.folder / "clip.mp4").symlink_to(target)
        return clips.folder / "clip.mp4"

    return make


def still(suffix: str) -> MakeClip:
    return lambda clips: clips.file(
        cv2.imencode(suffix, clips.pictures[0][..., ::-1])[1].tobytes(), f"clip{suffix}"
    )


def sound_only(clips: ClipMaker) -> Path:
    write_wav(clips.folder / "clip.wav", clips.speech)
    return clips.folder / "clip.wav"


def not_numbers(clips: ClipMaker) -> Path:
    """A clip whose sound is NaN."""
    path = clips.folder / "clip.mkv"
    with av.open(str(clips.good)) as good, av.open(str(path), "w") as out:
        stream, track = (
            out.add_stream_from_template(good.streams.video[0]),
            out.add_stream("pcm_f32le", rate=16_000),
        )
        for packet in good.demux(good.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
        piece = av.AudioFrame.from_ndarray(
            np.full((1, len(clips.speech)), np.nan, np.float32), "flt", "mono"
        )
        piece.sample_rate = 16_000
        out.mux(track.encode(piece))
    return path


def no_frames(clips: ClipMaker) -> Path:
    """A video stream without a single picture beside good sound."""
    path = clips.folder / "clip.mkv"
    with av.open(str(path), "w") as out:
        video, track = (
            out.add_stream("libx264", rate=25),
            out.add_stream("pcm_s16le", rate=16_000, layout="mono"),
        )
        video.width = video.height = SIDE
        piece = av.AudioFrame.from_ndarray(
            (clips.speech * 30_000).astype(np.int16)[None], "s16", "mono"
        )
        piece.sample_rate = 16_000
        out.mux(track.encode(piece))
    return path


def huge(clips: ClipMaker) -> Path:
    return clips.file(
        b"YUV4MPEG2 W100000 H90000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(4096), "clip.y4m"
    )


def too_large(clips: ClipMaker) -> Path:
    return clips.clip(
        [np.zeros((128, 8448, 3), np.uint8)] * 3, codec="mjpeg", pixels="yuvj420p", name="clip.mkv"
    )


def playlist(content: str, name: str) -> MakeClip:
    return lambda clips: clips.file(content.format(clips.good).encode(), name)


def archive(clips: ClipMaker) -> Path:
    with zipfile.ZipFile(clips.folder / "clip.mp4", "w") as file:
        file.write(clips.good, "good.mp4")
    return clips.folder / "clip.mp4"


def halves(clips: ClipMaker) -> list[np.ndarray]:
    """Only one side of the face is in the picture."""
    return [
        np.ascontiguousarray(np.pad(p[:, SIDE // 2 :], ((0, 0), (0, SIDE // 2), (0, 0)), "edge"))[
            :, : SIDE // 2
        ]
        for p in clips.pictures
    ]


def tiny(clips: ClipMaker) -> list[np.ndarray]:
    canvases = [np.full((480, 480, 3), 140, np.uint8) for _ in clips.pictures]
    for canvas, picture in zip(canvases, clips.pictures, strict=True):
        canvas[300:396, 200:296] = picture[::2, ::2]
    return canvases


NO_MEDIA = "not a readable media file|no decodable|no video stream"
REJECTED: dict[str, tuple[MakeClip, str]] = {
    "missing": (lambda clips: Path("none.mp4"), "does not exist"),
    "empty": (lambda clips: clips.file(b""), "empty"),
    "a folder": (lambda clips: clips.folder, "directory"),
    "text called mp4": (lambda clips: clips.file(b"this is not a video\n" * 99), NO_MEDIA),
    "a web page": (
        lambda clips: clips.file(b"<!DOCTYPE html><html><body>404</body></html>" * 9),
        NO_MEDIA,
    ),
    "noise": (lambda clips: clips.file(np.random.default_rng(1).bytes(50_000)), NO_MEDIA),
    "a zip": (archive, NO_MEDIA),
    "a download that stopped at once": (cut(0.01), NO_MEDIA),
    "a download that stopped": (cut(0.5), NO_MEDIA),
    "a download that nearly ended": (cut(0.97), NO_MEDIA),
    "half a matroska file": (cut(0.4, "matroska"), "too short|seconds|s are needed"),
    "a corrupt header": (scrambled(0, 0.02), NO_MEDIA),
    "a corrupt index": (scrambled(0.95, 1), NO_MEDIA),
    "corrupt pictures": (scrambled(0.08, 0.9), "."),
    "an unknown codec": (renamed(b"avc1", b"zzzz"), "codec|no decodable|not a readable"),
    "a pipe": (fifo, "not a file"),
    "a device": (lambda clips: Path("/dev/zero"), "not a file"),
    "a link to nothing": (link("nowhere.mp4"), "does not exist"),
    "a link to itself": (link("clip.mp4"), "does not exist|cannot be read|not a readable|too many"),
    "a path that is too long": (
        lambda clips: Path("x" * 300, "clip.mp4"),
        "does not exist|cannot be read|too long",
    ),
    "a photograph": (still(".png"), "too short|no audio|one picture"),
    "a jpeg": (still(".jpg"), "too short|no audio|one picture"),
    "sound only": (sound_only, "no video stream"),
    "a playlist": (
        playlist("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n", "clip.m3u8"),
        NO_MEDIA,
    ),
    "a playlist from the net": (
        playlist(
            "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n"
            "#EXT-X-ENDLIST\n",
            "clip.mp4",
        ),
        NO_MEDIA,
    ),
    "a list of files": (playlist("ffconcat version 1.0\nfile '{}'\n", "clip.mp4"), NO_MEDIA),
    "a header that claims 9 gigapixels": (huge, NO_MEDIA),
    "a picture beyond any screen": (too_large, "larger than"),
    "no pictures": (no_frames, "no image|no decodable|no video|no frames"),
    "one picture": (lambda clips: clips.clip(clips.pictures[:1]), "too short"),
    "one second": (
        lambda clips: clips.clip(clips.pictures[:25], sound=clips.speech[:16_000]),
        "too short",
    ),
    "no sound track": (lambda clips: clips.clip(sound=None), "no audio track"),
    "silence": (lambda clips: clips.clip(sound=0 * clips.speech), "silent"),
    "sound that is no number": (not_numbers, "not numbers|silent"),
    "a tone": (
        lambda clips: clips.clip(sound=np.sin(np.arange(FRAMES * 640) * 0.2).astype("f4") / 4),
        "speech",
    ),
    "an animated gif": (
        lambda clips: clips.clip(name="clip.gif", codec="gif", pixels="rgb8", sound=None),
        "no audio track",
    ),
    "no face": (
        lambda clips: clips.clip(grey()),
        "no face|picture does not|stands still|same picture",
    ),
    "a face now and then": (
        lambda clips: clips.clip([*clips.pictures[:15], *grey()[15:]]),
        "face|can be used",
    ),
    "half a face": (lambda clips: clips.clip(halves(clips)), "face"),
    "two faces": (
        lambda clips: clips.clip([np.concatenate([p, p], 1) for p in clips.pictures]),
        "several|two|faces",
    ),
    "a tiny face": (lambda clips: clips.clip(tiny(clips)), "too small|face"),
    "a photograph that speaks": (
        lambda clips: clips.clip([clips.pictures[0]] * FRAMES),
        "still|does not move|same",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_video_that_cannot_be_used_is_rejected(case: str, clips: ClipMaker) -> None:
    make, message = REJECTED[case]
    refused(4, message, "preprocess", make(clips), "--out", "data/new")


def test_a_video_without_read_permission_is_rejected(
    clips: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips.clip()
    clip.chmod(0)
    if os.access(clip, os.R_OK):  # root reads everything

        def denied(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied", str(clip))

        monkeypatch.setattr(av, "open", denied)
    refused(4, "permission denied", "preprocess", clip, "--out", "data/new")


SETTINGS: dict[str, tuple[int, str, list[str]]] = {
    "size 0": (2, "size", ["--size", "0"]),
    "size that is no number": (2, "size", ["--size", "large"]),
    "size beyond the limit": (2, "size", ["--size", "100000"]),
    "name with a slash": (2, "cannot be the name", ["--name", "a/b"]),
    "name that leads out": (2, "cannot be the name", ["--name", ".."]),
    "name with a backslash": (2, "cannot be the name", ["--name", "a\\b"]),
    "name of nothing": (2, "cannot be the name", ["--name", " "]),
    "name that is too long": (2, "cannot be the name", ["--name", "n" * 300]),
    "name with a line break": (2, "cannot be the name", ["--name", "a\nb"]),
    "hidden name": (2, "cannot be the name", ["--name", ".me"]),
    "consent of a novel's length": (2, "consent", ["--consent", "I agree. " * 2000]),
    "parser that is not there": (4, "none.onnx", ["--parser", "none.onnx"]),
    "parser of junk": (4, "junk.onnx", ["--parser", "junk.onnx"]),
    "action units that are not there": (4, "none.csv", ["--au", "none.csv"]),
    "speech encoder without a name": (2, "no speech encoder is named", ["--encoder", " "]),
    "action units of junk": (4, "junk.csv", ["--au", "junk.csv"]),
    "action units of another clip": (4, "does not belong|30 rows", ["--au", "other.csv"]),
    "recording that is not there": (4, "none.wav does not exist", ["--audio", "none.wav"]),
    "recording of junk": (4, "junk.csv is not a readable", ["--audio", "junk.csv"]),
    "recording on the net": (4, "is a URL", ["--audio", "https://example.org/a.wav"]),
    "out in a file": (1, "cannot write.*is a file", ["--out", "file/below"]),
    "out is a file": (1, "not a dataset", ["--out", "file"]),
    "out is another folder": (1, "not a dataset", ["--out", "mine", "--force"]),
    "out where nothing can be made": (1, "cannot write", ["--out", "/proc/new/data"]),
    "out is a dataset": (1, "exists already.*--force", ["--out", "old"]),
    "a flag that is none": (2, "--sizes", ["--sizes", "3"]),
    "a second video that is not there": (4, "second.mp4 does not exist", ["second.mp4"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_wrong_settings_are_refused(case: str, clips: ClipMaker) -> None:
    code, message, arguments = SETTINGS[case]
    Path("file").write_text("a file")
    for folder, inside in (("mine", "thesis.txt"), ("old", "dataset.json")):
        Path(folder).mkdir()
        Path(folder, inside).write_text("{}")
    Path("junk.onnx").write_bytes(b"junk" * 99)
    Path("junk.csv").write_text("junk\n" * 9)
    rows = [f"{i + 1}, {i / 30:.3f}, 0.9, 1, 0.1" for i in range(30)]
    Path("other.csv").write_text(
        "\n".join(["frame, timestamp, confidence, success, AU45_r", *rows])
    )
    refused(code, message, "preprocess", clips.good, *arguments)


# Name -> the clip, the side of its images, and how many there are at least.
USABLE: dict[str, tuple[MakeClip, int, int]] = {
    "matroska": (lambda clips: clips.matroska, SIDE, 52),
    "damage in the middle": (scrambled(0.5, 0.52, "matroska"), SIDE, 50),
    "ten bits": (
        lambda clips: clips.clip(
            codec="libx265", pixels="yuv420p10le", options={"x265-params": "log-level=0"}
        ),
        SIDE,
        52,
    ),
    "transparent": (
        lambda clips: clips.clip(
            [np.dstack([p, np.full(p.shape[:2], 255, np.uint8)]) for p in clips.pictures],
            "clip.webm",
            codec="libvpx-vp9",
            pixels="yuva420p",
            options={"cpu-used": "8", "deadline": "realtime"},
        ),
        SIDE,
        52,
    ),
    "odd sides": (
        lambda clips: clips.clip(
            [p[1:, 2:191] for p in clips.pictures], "clip.mkv", codec="ffv1", pixels="yuv444p"
        ),
        188,
        52,
    ),
    "portrait": (
        lambda clips: clips.clip(
            [np.pad(p, ((80, 70), (0, 0), (0, 0)), "edge") for p in clips.pictures]
        ),
        SIDE,
        52,
    ),
    "turned by a flag": (
        lambda clips: clips.clip(
            [np.ascontiguousarray(np.rot90(p, -1)) for p in clips.pictures], turn=90
        ),
        SIDE,
        52,
    ),
    "a rate that varies": (
        lambda clips: clips.clip(times=[(i + 0.3 * (i % 2)) / 25 for i in range(FRAMES)]),
        SIDE,
        50,
    ),
    "late sound": (lambda clips: clips.clip(name="clip.mkv", sound_from=0.12), SIDE, 48),
    "a name of all kinds": (
        lambda clips: clips.clip(name="Größe 'eins\" 日本 (1).MP4".replace('"', "")),
        SIDE,
        52,
    ),
    "no suffix": (lambda clips: clips.file(clips.good.read_bytes(), "clip"), SIDE, 52),
}


@pytest.mark.parametrize("case", USABLE)
def test_an_odd_video_that_can_be_used_is_accepted(case: str, clips: ClipMaker) -> None:
    from being.preprocess.inspection.clip import inspect_clip, raise_rejection

    make, side, least = USABLE[case]
    video = make(clips)
    inspection = inspect_clip(video, FaceLandmarker(workers=1))
    raise_rejection(video, inspection.findings)
    images = list(inspection.decode_frames())
    assert inspection.size == side and len(images) == inspection.frames >= least
    assert all(image.shape == (side, side, 3) for image in images)


@pytest.mark.slow
def test_four_k_becomes_a_dataset(clips: ClipMaker) -> None:
    wide = [
        cv2.resize(np.pad(p, ((12, 12), (96, 96), (0, 0)), "edge"), (3840, 2160))
        for p in clips.pictures
    ]
    clip = clips.clip(wide, options={"preset": "ultrafast"})
    result = being("preprocess", clip, "--out", "data/new", "--consent", "nobody's face")
    assert result.exit_code == 0, result.stderr
    assert cv2.imread("data/new/ori_imgs/0.jpg").shape == (512, 512, 3)


@pytest.mark.slow
def test_names_of_all_kinds_become_datasets(clips: ClipMaker) -> None:
    clip = clips.file(clips.good.read_bytes(), "Größe 'eins' 日本 (1).MP4")
    result = being("preprocess", clip, "--consent", 'nobody\'s "face"; é\n$(ls)')
    assert result.exit_code == 0, result.stderr
    assert Path("data/Größe 'eins' 日本 (1)/dataset.json").is_file()


def test_a_full_disk_is_reported_and_leaves_no_dataset(
    clips: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from being.data import frames

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frames.Path, "write_bytes", full)
    result = being("preprocess", clips.good, "--out", "data/new")
    assert result.exit_code == 1 and "No space left" in result.stderr, result.stderr
    assert result.stderr.count("error: ") == 1 and "Traceback" not in result.stderr
    assert not Path("data/new").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts a small disk"
)
def test_a_disk_that_is_really_full(clips: ClipMaker) -> None:
    disk = clips.folder / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        result = being("preprocess", clips.good, "--out", disk / "data/new")
        assert result.exit_code == 1 and "No space left" in result.stderr, result.stderr
        assert not (disk / "data/new").exists()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_killed_run_leaves_only_the_hidden_part(clips: ClipMaker) -> None:
    program = [
        sys.executable,
        "-m",
        "being.cli.app",
        "preprocess",
        str(clips.good),
        "--out",
        "data/new",
    ]
    run = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part = Path("data/.new.part")
    deadline = time.monotonic() + 120
    while (
        not list(part.glob("parsing/*.png")) and time.monotonic() < deadline and run.poll() is None
    ):
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert [path.name for path in Path("data").iterdir()] == [part.name]
    result = being("preprocess", clips.good, "--out", "data/new")
    assert result.exit_code == 0 and [path.name for path in Path("data").iterdir()] == ["new"], (
        result.stderr
    )
    shutil.rmtree("data")

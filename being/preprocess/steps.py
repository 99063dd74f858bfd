"""The steps from a video to a dataset's files, each one real work of another module, and what they
hand to each other.

A step reads what the others wrote, never what they hold in memory: a run that goes on after a kill
reads the same.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from being import media
from being.console import warn
from being.data.frames import FrameFolder, read_image, write_frames, write_image
from being.data.parsing import decode_parsing, encode_parsing
from being.errors import InputRejected
from being.face.action_units import write_au
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import MESH_POINTS, FaceLandmarker, Landmarks
from being.face.openface import read_columns, read_openface, write_openface
from being.face.topology import BROW_TOP, CHIN
from being.preprocess import dataset_files
from being.preprocess.inspection.clip import look_at, refuse
from being.preprocess.inspection.picture import PICTURE_SIDE, Preflight
from being.preprocess.inspection.record import Checked
from being.preprocess.segmentation.matting import parse_clip
from being.preprocess.segmentation.parser import parser as find_parser
from being.preprocess.segmentation.plates import TorsoPlates, background_plate
from being.preprocess.segmentation.teeth import read_teeth, teeth_masks
from being.preprocess.speech_features import ENCODER, OUTPUTS, STEP, Choice, write_features
from being.preprocess.step_graph import Advance, Step, Stop
from being.preprocess.tracking.head_pose import track_head
from being.preprocess.workspace import OWN, sha256

FACES_IN_MIN = 0.5  # share of the frames that must show a face
CHECKED = f"{OWN}/checked.json"


@dataclass(frozen=True)
class Settings:
    """What the user chose that changes the files."""

    size: int = PICTURE_SIDE  # px, largest side of the pictures
    parser: str | None = None  # who says where the person is (`parser.parser`)
    au: Path | None = None  # OpenFace's csv of the video, taken instead of our own action units
    features: Choice | None = None  # speech features besides the default ones

    @property
    def all_features(self) -> list[Choice]:
        """The default speech features, then the others."""
        chosen = [] if self.features is None else [self.features]
        return [Choice(ENCODER), *(choice for choice in chosen if choice.name != ENCODER)]


def check_settings(settings: Settings) -> None:
    """Raise what is wrong with the settings before any long work."""
    if settings.parser is not None:
        find_parser(settings.parser)
    if settings.au is not None:
        if not settings.au.is_file():
            raise InputRejected(
                f"{settings.au} is not there",
                "it was to hold OpenFace's action units",
                "Check the path",
            )
        read_columns(settings.au)


@dataclass
class Work:
    """What the steps share; `folder` is the dataset in the making. Properties read what earlier
    steps wrote.
    """

    video: Path
    folder: Path
    settings: Settings
    stop: Stop
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _landmarker: FaceLandmarker | None = None
    _preflight: Preflight | None = None

    @property
    def landmarker(self) -> FaceLandmarker:
        """The landmark networks, loaded when first needed; used by one step at a time."""
        if self._landmarker is None:
            self._landmarker = FaceLandmarker()
        return self._landmarker

    def preflight(self, advance: Advance | None = None) -> Preflight:
        """The look at the clip, taken when first needed: a run that goes on may not need it again."""
        with self._lock:
            if self._preflight is None:
                self._preflight = look_at(self.video, self.landmarker, self.settings.size, advance)
                refuse(self.video, self._preflight.findings)
            return self._preflight

    @cached_property
    def checked(self) -> Checked:
        """What the look decided."""
        return Checked.read(self.folder / CHECKED)

    @property
    def size(self) -> int:
        """Side of the pictures in px."""
        return self.checked.size

    @cached_property
    def frames(self) -> FrameFolder:
        """The dataset's pictures."""
        return _Frames(self.folder / "ori_imgs", self.checked.frames, self.stop)

    @cached_property
    def landmarks(self) -> Landmarks:
        """Landmarks of every frame."""
        data = np.load(self.folder / "landmarks.npz", allow_pickle=False)
        return Landmarks(data["points"], data["blendshapes"], data["confidence"])

    @property
    def missing(self) -> list[int]:
        """Frames without a face."""
        return np.flatnonzero(~self.landmarks.found).tolist()

    def labels(self, i: int) -> np.ndarray:
        """Parts of frame i, uint8 [H, W] as `matting` numbers them."""
        return decode_parsing(read_image(self.folder / f"parsing/{i}.png"))


class _Frames(FrameFolder):
    """Frames whose readers end soon after the run is told to stop."""

    def __init__(self, folder: Path, count: int, stop: Stop):
        super().__init__(folder, count)
        self._stop = stop

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # both overloads of the base
        self._stop.check()
        return super().__getitem__(index)


def _look(work: Work, advance: Advance) -> None:
    found = work.preflight(advance)
    for finding in found.findings:
        if finding.level == "warning":
            warn(f"{finding.check}: {finding.what}" + (f". {finding.fix}" if finding.fix else ""))
    Checked.of(found).write(work.folder / CHECKED)


def _frames(work: Work, advance: Advance) -> None:
    shutil.rmtree(work.folder / "ori_imgs", ignore_errors=True)
    written = len(write_frames(work.preflight().pictures(), work.folder / "ori_imgs", advance))
    assert written == work.checked.frames, (written, work.checked.frames)


def _sound(work: Work, advance: Advance) -> None:
    media.write_wav(work.folder / "aud.wav", work.preflight().sound)


def _landmarks(work: Work, advance: Advance) -> None:
    landmarks = work.landmarker.track(work.frames, advance)
    found = int(landmarks.found.sum())
    if found < FACES_IN_MIN * len(work.frames):
        raise InputRejected(
            f"{work.video} shows a face only part of the time",
            f"in {found} of {len(work.frames)} frames",
            "Record one person who looks at the camera, with the whole head in the picture",
        )
    dataset_files.write_landmarks(work.folder, landmarks)
    dataset_files.write_mouth_masks(work.folder, landmarks, work.size, work.size)


def _head_pose(work: Work, advance: Advance) -> None:
    vertices, triangles = canonical_mesh()
    points, segments = work.landmarks.points[:, :MESH_POINTS, :2], work.checked.segments
    track = track_head(
        points, work.size, work.size, vertices, triangles, work.frames, segments, advance
    )
    dataset_files.write_track(work.folder, track, triangles)
    dataset_files.write_transforms(work.folder, track, work.size, work.size, work.missing)


def _masks(work: Work, advance: Advance) -> None:
    (work.folder / "parsing").mkdir()
    (work.folder / "head_alpha").mkdir()
    chosen = find_parser(work.settings.parser)
    clip = parse_clip(work.frames, work.landmarks.points, work.checked.segments, chosen)
    for i, parts in enumerate(clip):
        write_image(work.folder / f"parsing/{i}.png", encode_parsing(parts.labels))
        write_image(work.folder / f"head_alpha/{i}.png", parts.head_alpha)
        advance(1)


def _given_teeth(work: Work) -> list[str]:
    """Digests of the teeth masks that lie beside the video."""
    return [sha256(path) for path in sorted(work.video.with_name("teeth_mask").glob("*.npy"))]


def _teeth(work: Work, advance: Advance) -> None:
    (work.folder / "teeth_mask").mkdir()
    given, count = work.video.with_name("teeth_mask"), len(work.frames)
    masks: Iterator[np.ndarray]
    if given.is_dir() and len(list(given.glob("*.npy"))) == count:
        masks = (read_teeth(given, i, work.size, work.size) for i in range(count))
    else:
        masks = teeth_masks(work.frames, work.landmarks.points, work.checked.segments)
    for i, mask in enumerate(masks):
        write_image(work.folder / f"teeth_mask/{i}.png", mask)
        advance(1)


def _plates(work: Work, advance: Advance) -> None:
    points = work.landmarks.points[work.landmarks.found]
    face_height = float(
        np.median(np.linalg.norm(points[:, CHIN, :2] - points[:, BROW_TOP, :2], axis=1))
    )
    write_image(work.folder / "bc.jpg", background_plate(work.frames, work.labels))
    torso = TorsoPlates.learn(work.frames, work.labels, face_height)
    (work.folder / "torso_imgs").mkdir()

    def write(i: int) -> None:
        write_image(
            work.folder / f"torso_imgs/{i}.png", torso.plate(work.frames[i], work.labels(i))
        )

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, range(len(work.frames))):
            advance(1)


def _speech(work: Work, advance: Advance) -> None:
    sound = media.read_audio(work.folder / "aud.wav")
    for choice in work.settings.all_features:
        write_features(work.folder, choice, sound, work.checked.segments)
    advance(work.checked.frames)


def _further_features(work: Work) -> list[str | None] | None:
    """The features besides the default ones, with the digest of the file that they come from."""
    chosen = work.settings.features
    if chosen is None:
        return None
    return [chosen.name, None if chosen.array is None else sha256(chosen.array)]


def _expression(work: Work, advance: Advance) -> None:
    if work.settings.au is None:
        write_au(work.folder / "au.csv", work.landmarks, work.checked.segments)
    else:
        seconds, times = work.checked.source_seconds, work.checked.times
        write_openface(
            work.folder / "au.csv",
            read_openface(work.settings.au, len(work.frames), seconds, times),
        )
    advance(len(work.frames))


def _count(work: Work) -> int:
    return work.checked.frames


STEPS: Sequence[Step[Work]] = (
    Step("look at the clip", _look, (CHECKED,), settings=lambda work: work.settings.size),
    Step("frames", _frames, ("ori_imgs/*.jpg",), ("look at the clip",), total=_count),
    Step("sound", _sound, ("aud.wav",), ("look at the clip",)),
    Step(
        "landmarks",
        _landmarks,
        ("landmarks.npz", "ori_imgs/*.lms", "mouth_mask"),
        ("frames",),
        total=_count,
    ),
    Step(
        "masks",
        _masks,
        ("parsing", "head_alpha"),
        ("frames", "landmarks"),
        total=_count,
        settings=lambda work: work.settings.parser,
    ),
    Step(
        "head pose",
        _head_pose,
        ("track_params.pt", "mesh.npz", "transforms_*.json"),
        ("frames", "landmarks"),
        total=_count,
    ),
    Step(STEP, _speech, OUTPUTS, ("sound",), total=_count, settings=_further_features),
    Step(
        "expression",
        _expression,
        ("au.csv",),
        ("landmarks",),
        total=_count,
        settings=lambda work: work.settings.au and sha256(work.settings.au),
    ),
    Step(
        "teeth",
        _teeth,
        ("teeth_mask",),
        ("frames", "landmarks"),
        total=_count,
        settings=_given_teeth,
    ),
    Step(
        "plates", _plates, ("bc.jpg", "torso_imgs"), ("frames", "landmarks", "masks"), total=_count
    ),
)

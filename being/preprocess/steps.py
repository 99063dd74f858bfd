"""The steps from a video to a dataset's files, and the context that they share.

A step reads the files that the others wrote, never what they hold in memory: so a resumed run reads
the same as an uninterrupted one.
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
from being.console import console
from being.data.frames import FrameFolder, read_image, write_frames, write_image
from being.data.parsing import decode_parsing, encode_parsing
from being.errors import InputRejected
from being.face.action_units import write_action_units
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import MESH_POINTS, FaceLandmarker, Landmarks
from being.face.openface import read_openface, read_openface_columns, write_openface
from being.face.topology import BROW_TOP, CHIN
from being.preprocess import dataset_files
from being.preprocess.inspection.clip import inspect_clip, raise_rejection
from being.preprocess.inspection.clip_parts import ClipPart
from being.preprocess.inspection.picture import PICTURE_SIDE, ClipInspection
from being.preprocess.inspection.record import InspectionRecord
from being.preprocess.segmentation.background import background_plate
from being.preprocess.segmentation.clip_parsing import parse_clip
from being.preprocess.segmentation.parser import load_parser
from being.preprocess.segmentation.teeth import read_teeth, teeth_masks
from being.preprocess.segmentation.torso_plates import TorsoPlates
from being.preprocess.speech_features import (
    DEFAULT_ENCODER,
    FEATURE_FILES,
    SPEECH_STEP,
    FeatureChoice,
    write_features,
)
from being.preprocess.step_graph import Advance, Step, StopFlag
from being.preprocess.tracking.head_pose import track_head
from being.preprocess.workspace import WORK_FOLDER, sha256
from being.reading.arrays import load_arrays

FACES_MIN = 0.5  # share of the frames that must show a face
INSPECTION_FILE = f"{WORK_FOLDER}/inspection.json"


@dataclass(frozen=True)
class Settings:
    """The user's choices that change the files of a dataset."""

    # px, largest side of the pictures
    size: int = PICTURE_SIDE
    # crop tightly round the head
    tight: bool = False
    # name of the face parser (`load_parser`)
    parser: str | None = None
    # OpenFace's csv of the video, used instead of our own action units
    au: Path | None = None
    # separate recording of the voice, used instead of the video's audio
    audio: Path | None = None
    # speech features besides the default ones
    features: FeatureChoice | None = None

    @property
    def all_features(self) -> list[FeatureChoice]:
        """The default speech features, then the others."""
        choices = [FeatureChoice(DEFAULT_ENCODER)]
        if self.features is not None and self.features.name != DEFAULT_ENCODER:
            choices.append(self.features)
        return choices


def check_settings(settings: Settings) -> None:
    """Raise what is wrong with the settings before any long work."""
    if settings.parser is not None:
        load_parser(settings.parser)
    if settings.au is not None:
        if not settings.au.is_file():
            raise InputRejected(
                f"{settings.au} is not there",
                "OpenFace's action units are read from it",
                "Check the path",
            )
        read_openface_columns(settings.au)


@dataclass
class StepContext:
    """What the steps share: the video, the dataset's folder, and what earlier steps wrote."""

    video: Path
    # the dataset being made
    folder: Path
    settings: Settings
    stop: StopFlag
    # the clips that the video was joined of; none for a video of one clip
    parts: tuple[ClipPart, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _landmarker: FaceLandmarker | None = None
    _inspection: ClipInspection | None = None

    @property
    def landmarker(self) -> FaceLandmarker:
        """The landmark networks, loaded when first needed; used by one step at a time."""
        if self._landmarker is None:
            self._landmarker = FaceLandmarker()
        return self._landmarker

    def inspection(self, advance: Advance | None = None) -> ClipInspection:
        """The inspection of the clip, made when first needed: a resumed run may not need it."""
        with self._lock:
            if self._inspection is None:
                self._inspection = inspect_clip(
                    self.video,
                    self.landmarker,
                    self.settings.size,
                    advance,
                    self.settings.tight,
                    self.settings.audio,
                    self.parts,
                )
                raise_rejection(self.video, self._inspection.findings)
            return self._inspection

    @cached_property
    def record(self) -> InspectionRecord:
        """The saved result of the inspection."""
        return InspectionRecord.read(self.folder / INSPECTION_FILE)

    @property
    def size(self) -> int:
        """Side of the pictures in px."""
        return self.record.size

    @cached_property
    def frames(self) -> FrameFolder:
        """The dataset's frames."""
        return _StoppableFrames(self.folder / "ori_imgs", self.record.frames, self.stop)

    @cached_property
    def landmarks(self) -> Landmarks:
        """Landmarks of every frame."""
        names = ("points", "blendshapes", "confidence")
        data = load_arrays(self.folder / "landmarks.npz", names)
        return Landmarks(data["points"], data["blendshapes"], data["confidence"])

    @property
    def missing(self) -> list[int]:
        """Frames without a face."""
        return np.flatnonzero(~self.landmarks.found).tolist()

    def labels(self, i: int) -> np.ndarray:
        """Parts of frame i, uint8 [H, W], numbered as in `clip_parsing`."""
        return decode_parsing(read_image(self.folder / f"parsing/{i}.png"))


class _StoppableFrames(FrameFolder):
    """Frames whose readers end soon after the run is told to stop."""

    def __init__(self, folder: Path, count: int, stop: StopFlag):
        super().__init__(folder, count)
        self._stop = stop

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # both overloads of the base
        self._stop.check()
        return super().__getitem__(index)


def inspect(context: StepContext, advance: Advance) -> None:
    """Inspect the clip, warn of its faults, and save the result."""
    inspection = context.inspection(advance)
    for finding in inspection.findings:
        if finding.level == "warning":
            fix = f". {finding.fix}" if finding.fix else ""
            console.warn(f"{finding.check}: {finding.what}{fix}")
    InspectionRecord.from_inspection(inspection).write(context.folder / INSPECTION_FILE)


def extract_frames(context: StepContext, advance: Advance) -> None:
    """Write the frames at 25 frames/s."""
    folder = context.folder / "ori_imgs"
    shutil.rmtree(folder, ignore_errors=True)
    written = len(write_frames(context.inspection().decode_frames(), folder, advance))
    assert written == context.record.frames, (written, context.record.frames)


def extract_audio(context: StepContext, advance: Advance) -> None:
    """Write the audio that belongs to the frames."""
    media.write_wav(context.folder / "aud.wav", context.inspection().audio)


def find_landmarks(context: StepContext, advance: Advance) -> None:
    """Write the landmarks of every frame, and the masks of the mouth."""
    landmarks = context.landmarker.track(context.frames, advance)
    found = int(landmarks.found.sum())
    if found < FACES_MIN * len(context.frames):
        raise InputRejected(
            f"{context.video} shows a face only part of the time",
            f"in {found} of {len(context.frames)} frames",
            "Record one person who looks at the camera, with the whole head in the picture",
        )
    dataset_files.write_landmarks(context.folder, landmarks)
    dataset_files.write_mouth_masks(context.folder, landmarks, context.size, context.size)


def track_head_pose(context: StepContext, advance: Advance) -> None:
    """Write the head pose and the face mesh of every frame, and the cameras."""
    vertices, triangles = canonical_mesh()
    size = context.size
    track = track_head(
        context.landmarks.points[:, :MESH_POINTS, :2],
        size,
        size,
        vertices,
        triangles,
        context.frames,
        context.record.segments,
        advance,
    )
    dataset_files.write_track(context.folder, track, triangles)
    dataset_files.write_transforms(context.folder, track, size, size, context.missing)


def segment_parts(context: StepContext, advance: Advance) -> None:
    """Write the parts of every frame and the alpha of the head."""
    (context.folder / "parsing").mkdir()
    (context.folder / "head_alpha").mkdir()
    parser = load_parser(context.settings.parser)
    points, segments = context.landmarks.points, context.record.segments
    for i, parts in enumerate(parse_clip(context.frames, points, segments, parser)):
        write_image(context.folder / f"parsing/{i}.png", encode_parsing(parts.labels))
        write_image(context.folder / f"head_alpha/{i}.png", parts.head_alpha)
        advance(1)


def segment_teeth(context: StepContext, advance: Advance) -> None:
    """Write the masks of the teeth: those beside the video where all are there, else our own."""
    (context.folder / "teeth_mask").mkdir()
    existing, count = context.video.with_name("teeth_mask"), len(context.frames)
    masks: Iterator[np.ndarray]
    if existing.is_dir() and len(list(existing.glob("*.npy"))) == count:
        masks = (read_teeth(existing, i, context.size, context.size) for i in range(count))
    else:
        masks = teeth_masks(context.frames, context.landmarks.points, context.record.segments)
    for i, mask in enumerate(masks):
        write_image(context.folder / f"teeth_mask/{i}.png", mask)
        advance(1)


def make_plates(context: StepContext, advance: Advance) -> None:
    """Write the background plate, and the torso plate of every frame."""
    points = context.landmarks.points[context.landmarks.found]
    heights = np.linalg.norm(points[:, CHIN, :2] - points[:, BROW_TOP, :2], axis=1)
    background = background_plate(context.frames, context.labels)
    write_image(context.folder / "bc.jpg", background)
    torso = TorsoPlates.from_clip(context.frames, context.labels, float(np.median(heights)))
    (context.folder / "torso_imgs").mkdir()

    def write(i: int) -> None:
        plate = torso.plate(context.frames[i], context.labels(i))
        write_image(context.folder / f"torso_imgs/{i}.png", plate)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, range(len(context.frames))):
            advance(1)


def encode_speech(context: StepContext, advance: Advance) -> None:
    """Write the speech features, of the default encoder and of the chosen one."""
    samples = media.read_audio(context.folder / "aud.wav")
    for choice in context.settings.all_features:
        write_features(context.folder, choice, samples, context.record.segments)
    advance(context.record.frames)


def measure_expression(context: StepContext, advance: Advance) -> None:
    """Write the action units of every frame: OpenFace's where they are given, else our own."""
    path, record = context.folder / "au.csv", context.record
    if context.settings.au is None:
        write_action_units(path, context.landmarks, record.segments)
    else:
        seconds, times = record.source_seconds, record.frame_times
        table = read_openface(context.settings.au, len(context.frames), seconds, times)
        write_openface(path, table)
    advance(len(context.frames))


def _teeth_settings(context: StepContext) -> list[str]:
    """Digests of the teeth masks beside the video."""
    return [sha256(path) for path in sorted(context.video.with_name("teeth_mask").glob("*.npy"))]


def _speech_settings(context: StepContext) -> list[str | None] | None:
    """The features besides the default ones, with the digest of the file that they come from."""
    chosen = context.settings.features
    if chosen is None:
        return None
    return [chosen.name, None if chosen.array is None else sha256(chosen.array)]


def _inspection_settings(context: StepContext) -> list[int | bool | str | None]:
    """Size and crop, and the digest of the separate recording of the voice."""
    settings, audio = context.settings, context.settings.audio
    return [settings.size, settings.tight, None if audio is None else sha256(audio)]


def _expression_settings(context: StepContext) -> str | None:
    """Digest of OpenFace's table."""
    return None if context.settings.au is None else sha256(context.settings.au)


def _frame_count(context: StepContext) -> int:
    return context.record.frames


# Step names of earlier versions, as datasets and packs record them, and their names of today.
FORMER_STEP_NAMES = {"look at the clip": "inspection", "sound": "audio"}

# Whoever changes a step's code so that its outputs change raises the step's version: a resumed run
# then makes the files of an earlier version again (tests/preprocess/test_step_versions.py).
STEPS: Sequence[Step[StepContext]] = (
    Step(
        "inspection",
        inspect,
        (INSPECTION_FILE,),
        version=5,
        settings=_inspection_settings,
    ),
    Step(
        "frames",
        extract_frames,
        ("ori_imgs/*.jpg",),
        after=("inspection",),
        version=2,
        total=_frame_count,
    ),
    Step("audio", extract_audio, ("aud.wav",), after=("inspection",), version=2),
    Step(
        "landmarks",
        find_landmarks,
        ("landmarks.npz", "ori_imgs/*.lms", "mouth_mask"),
        after=("frames",),
        version=1,
        total=_frame_count,
    ),
    Step(
        "masks",
        segment_parts,
        ("parsing", "head_alpha"),
        after=("frames", "landmarks"),
        version=2,
        settings=lambda context: context.settings.parser,
        total=_frame_count,
    ),
    Step(
        "head pose",
        track_head_pose,
        ("track_params.pt", "mesh.npz", "transforms_*.json"),
        after=("frames", "landmarks"),
        version=1,
        total=_frame_count,
    ),
    Step(
        SPEECH_STEP,
        encode_speech,
        FEATURE_FILES,
        after=("audio",),
        version=1,
        settings=_speech_settings,
        total=_frame_count,
    ),
    Step(
        "expression",
        measure_expression,
        ("au.csv",),
        after=("landmarks",),
        version=1,
        settings=_expression_settings,
        total=_frame_count,
    ),
    Step(
        "teeth",
        segment_teeth,
        ("teeth_mask",),
        after=("frames", "landmarks"),
        version=1,
        settings=_teeth_settings,
        total=_frame_count,
    ),
    Step(
        "plates",
        make_plates,
        ("bc.jpg", "torso_imgs"),
        after=("frames", "landmarks", "masks"),
        version=1,
        total=_frame_count,
    ),
)

"""Steps of the dataset import that write images: frames, landmarks, masks, plates, teeth masks.

Each step keeps the files of the family directory where they exist and computes the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from being.console import Progress
from being.data.frames import FrameFolder, read_image, write_image
from being.data.parsing import (
    HEAD,
    PARSING_HAIR,
    PARSING_MOUTH,
    decode_parsing,
    encode_parsing,
)
from being.errors import InputRejected
from being.face.landmarks import Landmarks
from being.face.topology import BLENDSHAPE_NAMES, BROW_TOP, CHIN, IBUG_68
from being.interop.family import layout
from being.interop.family.alignment import Alignment
from being.interop.family.writers import for_each_frame, link
from being.preprocess.dataset_files import write_mouth_masks
from being.preprocess.segmentation.background import background_plate
from being.preprocess.segmentation.clip_parsing import parse_clip
from being.preprocess.segmentation.teeth import read_teeth, teeth_masks
from being.preprocess.segmentation.torso_plates import TorsoPlates

PALETTE_SAMPLES = 16  # masks that are read to find out which palette they use
# Largest distance of the .lms from the detected landmarks, as a share of the image's side.
# Landmarks farther away belong to other images.
LANDMARK_DISTANCE_MAX = 0.05
LANDMARK_SHIFT_MAX = 3  # frames to either side that the .lms may be off
# A shift of the .lms is corrected when it reduces their distance by this share of the motion a
# frame, by this many pixels, and to this share of the distance without a shift.
SHIFT_GAIN_MOTION, SHIFT_GAIN_PX, SHIFT_RATIO = 0.3, 0.2, 0.7
NOSE_AND_EYES = slice(27, 48)  # of the 68 landmarks: they move little when a person speaks


@dataclass
class ImportReport:
    """The dataset that was written, and what was found, rebuilt and is missing."""

    path: Path
    system: str
    frames: int
    found: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class SquareImages(Sequence[np.ndarray]):
    """The clip's images uint8 [S, S, 3] RGB, read on access and cropped to the square."""

    def __init__(self, files: list[Path], square: tuple[int, int, int]):
        self.files, self.square = files, square

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return np.ascontiguousarray(to_rgb(crop(read_image(self.files[index]), self.square)))


@dataclass
class ImportJob:
    """The state that the steps of an import share."""

    source: layout.FamilyFolder
    # folder of the dataset while it is written
    target: Path
    # left, top, side px
    square: tuple[int, int, int]
    alignment: Alignment
    landmarks: Landmarks
    report: ImportReport
    features: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of frames F."""
        return len(self.alignment.image_numbers)

    @property
    def numbers(self) -> list[int]:
        """The number of each frame's image in the family directory."""
        return [int(n) for n in self.alignment.image_numbers]

    @property
    def uncropped(self) -> bool:
        """Whether the images keep their size."""
        return self.square[2] == self.source.width == self.source.height

    @property
    def images(self) -> FrameFolder:
        """The dataset's frames, after `write_frames`."""
        return FrameFolder(self.target / "ori_imgs", self.frames)

    @property
    def missing(self) -> list[int]:
        """Frames without a face or a camera."""
        return np.flatnonzero(~(self.landmarks.found & self.alignment.has_camera)).tolist()

    def labels(self, i: int) -> np.ndarray:
        """Parts of frame i, uint8 [H, W] with the labels of `matting`, after `write_parsing`."""
        return decode_parsing(read_image(self.target / f"parsing/{i}.png"))


def crop(image: np.ndarray, square: tuple[int, int, int]) -> np.ndarray:
    """The square (left, top, side) of an image [H, W, ...]."""
    left, top, side = square
    return image[top : top + side, left : left + side]


def centre_square(folder: layout.FamilyFolder) -> tuple[int, int, int]:
    """The largest square with the image's centre, which is the cameras' principal point."""
    side = min(folder.width, folder.height)
    # An even difference keeps the centre on the same half pixel.
    side -= (max(folder.width, folder.height) - side) % 2
    return (folder.width - side) // 2, (folder.height - side) // 2, side


def to_rgb(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] of an image that may be grey or have an alpha channel."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image[..., :3]


# --- frames and landmarks


def write_frames(job: ImportJob) -> None:
    """Write ori_imgs/%d.jpg."""
    (job.target / "ori_imgs").mkdir()
    files = [job.source.images[n] for n in job.numbers]
    for_each_frame(
        lambda i: _copy_image(job, files[i], job.target / f"ori_imgs/{i}.jpg"),
        job.frames,
        "frames",
    )
    if job.source.image_folder != "ori_imgs":
        job.report.missing.append(
            f"ori_imgs: {job.source.image_folder} is used, its background is already replaced"
        )
    if not job.uncropped:
        job.report.rebuilt.append(f"images cropped to the middle {job.square[2]} px square")
    elif files[0].suffix.lower() == ".png":
        job.report.rebuilt.append("images written as JPEG")


def write_points(job: ImportJob) -> None:
    """Write landmarks.npz, the mouth masks and ori_imgs/%d.lms.

    A frame without a .lms gets one from the detected landmarks when it shows a face.
    """
    points, found = job.landmarks.points, job.landmarks.found
    np.savez_compressed(
        job.target / "landmarks.npz",
        points=points,
        blendshapes=job.landmarks.blendshapes,
        confidence=job.landmarks.confidence,
        names=np.array(BLENDSHAPE_NAMES),
    )
    write_mouth_masks(job.target, job.landmarks, job.square[2], job.square[2])

    # Read the .lms, again with other numbers when they are shifted against the images.
    imported = _read_all_landmarks(job, job.numbers)
    shift = _landmark_shift(job, imported) if imported else 0
    if shift:
        first = job.numbers[0]
        imported = _read_all_landmarks(job, [first + i + shift for i in range(job.frames)])
        job.report.found.append(f".lms are {shift:+d} frames against the images: corrected")

    for i in range(job.frames):
        if i in imported or found[i]:
            landmarks = imported.get(i, points[i, IBUG_68, :2])
            np.savetxt(job.target / f"ori_imgs/{i}.lms", landmarks, "%f")
    detected = int(sum(bool(found[i]) for i in range(job.frames) if i not in imported))
    if imported:
        job.report.found.append(f"68 landmarks of {len(imported)} frames")
    if detected:
        job.report.rebuilt.append(f"68 landmarks of {detected} frames")
    job.report.rebuilt.append(f"478 landmarks and blendshapes of {int(found.sum())} frames")


def _read_all_landmarks(job: ImportJob, numbers: list[int]) -> dict[int, np.ndarray]:
    """Frame -> landmarks float32 [68, 2] px in the square, of the .lms with the given numbers."""
    corner = np.array(job.square[:2], np.float32)
    return {
        i: layout.read_landmarks(job.source.landmarks[n]) - corner
        for i, n in enumerate(numbers)
        if n in job.source.landmarks
    }


def _landmark_shift(job: ImportJob, imported: dict[int, np.ndarray]) -> int:
    """The images by which the .lms lag. Raises InputRejected when they fit no near image."""
    found = job.landmarks.found
    detected = job.landmarks.points[:, IBUG_68[NOSE_AND_EYES], :2].mean(1)
    centre = np.where(found[:, None], detected, np.nan)

    def distance(shift: int) -> float:
        """Median distance in px of the .lms from the detected landmarks at this shift."""
        distances = [
            np.linalg.norm(imported[i + shift][NOSE_AND_EYES].mean(0) - centre[i])
            for i in range(job.frames)
            if i + shift in imported and found[i]
        ]
        return float(np.median(distances)) if distances else np.inf

    shifts = range(-LANDMARK_SHIFT_MAX, LANDMARK_SHIFT_MAX + 1)
    distances = {shift: distance(shift) for shift in shifts}
    best = min(distances, key=lambda shift: (distances[shift], abs(shift)))
    if distances[best] > LANDMARK_DISTANCE_MAX * job.square[2]:
        raise InputRejected(
            f"{job.source.path / 'ori_imgs'}: the .lms are {distances[best]:.0f} px from the face "
            "that the images show",
            "they belong to other images",
            "Remove the .lms: the import then computes new ones",
        )

    # Correct the shift only when it clearly fits better.
    motion = float(np.nanmedian(np.linalg.norm(np.diff(centre, axis=0), axis=1)))
    gain = distances[0] - distances[best]
    clear = gain > max(SHIFT_GAIN_MOTION * motion, SHIFT_GAIN_PX)
    return best if clear and distances[best] < SHIFT_RATIO * distances[0] else 0


# --- masks and plates


def write_parsing(job: ImportJob) -> None:
    """Write parsing/%d.png in our palette.

    Masks in TalkingGaussian's palette, which separates hair and mouth, are also kept as they are,
    in parsing_hair.
    """
    (job.target / "parsing").mkdir()
    files = _file_of_each_frame(job, job.source.parsing, "parsing")
    if not files:
        _compute_parsing(job)
        return
    has_hair = _has_hair_colours(files)
    if has_hair:
        (job.target / "parsing_hair").mkdir()
        for_each_frame(
            lambda i: _copy_image(job, files[i], job.target / f"parsing_hair/{i}.png"),
            job.frames,
            "parsing",
        )

    def write(i: int) -> None:
        if has_hair or not job.uncropped or files[i].suffix.lower() != ".png":
            image = to_rgb(crop(read_image(files[i]), job.square))
            write_image(job.target / f"parsing/{i}.png", encode_parsing(decode_parsing(image)))
        else:
            link(files[i], job.target / f"parsing/{i}.png")

    for_each_frame(write, job.frames, "parsing")
    job.report.found.append(
        f"masks in {'TalkingGaussian' if has_hair else 'AD-NeRF'}'s palette"
        + (", hair and mouth joined to the head" if has_hair else "")
    )


def _compute_parsing(job: ImportJob) -> None:
    """Write parsing/%d.png and head_alpha/%d.png with our own segmentation."""
    (job.target / "head_alpha").mkdir()
    with Progress("masks", job.frames, "frames") as progress:
        for i, parts in enumerate(parse_clip(job.images, job.landmarks.points)):
            write_image(job.target / f"parsing/{i}.png", encode_parsing(parts.labels))
            write_image(job.target / f"head_alpha/{i}.png", parts.head_alpha)
            progress.advance()
    job.report.rebuilt.append("head, neck and torso masks")


def _has_hair_colours(files: list[Path]) -> bool:
    """Whether hair or mouth have their own colours. Raises InputRejected when no head is shown."""
    has_hair, head_pixels = False, 0
    for i in np.unique(np.linspace(0, len(files) - 1, PALETTE_SAMPLES).astype(int)):
        image = to_rgb(read_image(files[i]))
        for colour in (PARSING_HAIR, PARSING_MOUTH):
            has_hair |= bool((image == colour).all(-1).any())
        head_pixels += int((decode_parsing(image) == HEAD).sum())
    if not head_pixels:
        raise InputRejected(
            f"{files[0].parent} shows no head",
            "expected the head in blue (0, 0, 255), hair blue or "
            "black, neck green, torso red, on white",
            "Remove the folder parsing: the import then computes new masks",
        )
    return has_hair


def write_plates(job: ImportJob) -> None:
    """Write bc.jpg and torso_imgs/%d.png."""
    # The background.
    if job.source.background is not None:
        _copy_image(job, job.source.background, job.target / "bc.jpg")
        job.report.found.append("background")
    else:
        write_image(job.target / "bc.jpg", background_plate(job.images, job.labels))
        job.report.rebuilt.append("background")

    # The torso of each frame.
    (job.target / "torso_imgs").mkdir()
    files = _file_of_each_frame(job, job.source.torso, "torso_imgs")
    if not files:
        _compute_torso(job)
        return
    if read_image(files[0]).shape[-1] != 4:
        raise InputRejected(
            f"{files[0]} has no alpha channel",
            "expected RGBA, alpha 0 where there is no torso",
            "Remove the folder torso_imgs: the import then computes new images",
        )
    for_each_frame(
        lambda i: _copy_image(job, files[i], job.target / f"torso_imgs/{i}.png"),
        job.frames,
        "torso",
    )
    job.report.found.append("torso images")


def _compute_torso(job: ImportJob) -> None:
    """Write torso_imgs/%d.png with our own segmentation."""
    points = job.landmarks.points[job.landmarks.found]
    heights = np.linalg.norm(points[:, CHIN, :2] - points[:, BROW_TOP, :2], axis=1)
    plates = TorsoPlates.from_clip(job.images, job.labels, float(np.median(heights)))

    def write(i: int) -> None:
        plate = plates.plate(job.images[i], job.labels(i))
        write_image(job.target / f"torso_imgs/{i}.png", plate)

    for_each_frame(write, job.frames, "torso")
    job.report.rebuilt.append("torso images")


def write_teeth(job: ImportJob) -> None:
    """Write teeth_mask/%d.png: EasyPortrait's masks where every frame has one, else our own."""
    (job.target / "teeth_mask").mkdir()
    complete = all(n in job.source.teeth for n in job.numbers)
    masks: Iterator[np.ndarray]
    if complete:
        size = (job.source.height, job.source.width)
        folder = job.source.path / "teeth_mask"
        masks = (crop(read_teeth(folder, n, *size), job.square) for n in job.numbers)
    else:
        masks = teeth_masks(job.images, job.landmarks.points)
    with Progress("teeth", job.frames, "frames") as progress:
        for i, mask in enumerate(masks):
            write_image(job.target / f"teeth_mask/{i}.png", np.ascontiguousarray(mask))
            progress.advance()
    (job.report.found if complete else job.report.rebuilt).append("teeth masks")


def _copy_image(job: ImportJob, source: Path, target: Path) -> None:
    """Write the image `source` as `target`: a link, or a cropped copy."""
    if job.uncropped and source.suffix.lower().replace("jpeg", "jpg") == target.suffix:
        link(source, target)
    else:
        write_image(target, np.ascontiguousarray(crop(read_image(source), job.square)))


def _file_of_each_frame(job: ImportJob, files: dict[int, Path], name: str) -> list[Path]:
    """The file of every frame, or an empty list for an empty folder.

    Raises InputRejected when only some frames have a file.
    """
    if not files:
        return []
    absent = [n for n in job.numbers if n not in files]
    if absent:
        raise InputRejected(
            f"{job.source.path / name} lacks {len(absent)} files, the first is {absent[0]}.png",
            f"expected one for each of {job.frames} frames",
            f"Remove the folder {name}: the import then computes new files",
        )
    return [files[n] for n in job.numbers]

"""The pictures of a dataset that is imported: frames, landmarks, masks, plates; theirs, or made
from what they show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from being.console import Progress
from being.data.frames import FrameFolder, read_image, write_image
from being.data.parsing import PARSING_HAIR, PARSING_MOUTH, decode_parsing, encode_parsing
from being.errors import InputRejected
from being.face.landmarks import Landmarks
from being.face.topology import BLENDSHAPE_NAMES, BROW_TOP, CHIN, IBUG_68
from being.interop.family import layout
from being.interop.family.alignment import Alignment
from being.interop.family.writing import each, link
from being.preprocess.dataset_files import write_mouth_masks
from being.preprocess.segmentation.matting import parse_clip
from being.preprocess.segmentation.plates import TorsoPlates, background_plate
from being.preprocess.segmentation.teeth import read_teeth, teeth_masks

LOOKED_AT = 16  # pictures of the parsing that are looked at to learn the palette
LANDMARKS_APART = (
    0.05  # of the picture's side: .lms further from what is seen belong to other pictures
)
LAGS = 3  # frames to either side that .lms may be off


@dataclass
class Imported:
    """The dataset made and what there is to say about it."""

    path: Path
    system: str
    frames: int
    found: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class Pictures(Sequence[np.ndarray]):
    """The clip's pictures uint8 [S, S, 3] RGB, cut to the square, read when asked for."""

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
        return np.ascontiguousarray(rgb(cut(read_image(self.files[index]), self.square)))


@dataclass
class Job:
    """What the steps of an import share."""

    folder: layout.Folder
    part: Path  # the dataset in the making
    square: tuple[int, int, int]  # left, top, side px
    alignment: Alignment
    landmarks: Landmarks
    report: Imported
    features: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """F."""
        return len(self.alignment.numbers)

    @property
    def whole(self) -> bool:
        """Whether pictures stay as they are."""
        return self.square[2] == self.folder.width == self.folder.height

    @property
    def pictures(self) -> FrameFolder:
        """The dataset's pictures, once they are written."""
        return FrameFolder(self.part / "ori_imgs", self.frames)

    @property
    def missing(self) -> list[int]:
        """Frames without a face or a camera."""
        return np.flatnonzero(~(self.landmarks.found & self.alignment.posed)).tolist()

    def labels(self, i: int) -> np.ndarray:
        """Parts of frame i, uint8 [H, W] as `matting` numbers them."""
        return decode_parsing(read_image(self.part / f"parsing/{i}.png"))


def cut(picture: np.ndarray, square: tuple[int, int, int]) -> np.ndarray:
    """The square (left, top, side) of a picture [H, W, ...]."""
    left, top, side = square
    return picture[top : top + side, left : left + side]


def centre_square(folder: layout.Folder) -> tuple[int, int, int]:
    """The square round the picture's centre: the cameras' principal point stays in the middle."""
    side = min(folder.width, folder.height)
    side -= (
        max(folder.width, folder.height) - side
    ) % 2  # so that the centre is the same half pixel
    return (folder.width - side) // 2, (folder.height - side) // 2, side


def rgb(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] of a picture that may be grey or have an alpha."""
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture[..., :3]


def _place(job: Job, source: Path, target: Path) -> None:
    """The picture `source` as `target`: linked, or cut and written anew."""
    if job.whole and source.suffix.lower().replace("jpeg", "jpg") == target.suffix:
        link(source, target)
    else:
        write_image(target, np.ascontiguousarray(cut(read_image(source), job.square)))


def write_frames(job: Job) -> None:
    """ori_imgs/%d.jpg."""
    (job.part / "ori_imgs").mkdir()
    files = [job.folder.pictures[int(n)] for n in job.alignment.numbers]
    each(lambda i: _place(job, files[i], job.part / f"ori_imgs/{i}.jpg"), job.frames, "pictures")
    if job.folder.place != "ori_imgs":
        job.report.missing.append(
            f"ori_imgs: {job.folder.place} is used, its background is already replaced"
        )
    if not job.whole:
        job.report.rebuilt.append(f"pictures cut to the middle {job.square[2]} px square")
    elif files[0].suffix.lower() == ".png":
        job.report.rebuilt.append("pictures written as JPEG")


def write_points(job: Job) -> None:
    """landmarks.npz, mouth masks and .lms: theirs where they are, ours for the other frames with a
    face.
    """
    points, found = job.landmarks.points, job.landmarks.found
    np.savez_compressed(
        job.part / "landmarks.npz",
        points=points,
        blendshapes=job.landmarks.blendshapes,
        confidence=job.landmarks.confidence,
        names=np.array(BLENDSHAPE_NAMES),
    )
    write_mouth_masks(job.part, job.landmarks, job.square[2], job.square[2])
    theirs = {
        i: layout.read_landmarks(job.folder.landmarks[int(n)])
        - np.array(job.square[:2], np.float32)
        for i, n in enumerate(job.alignment.numbers)
        if int(n) in job.folder.landmarks
    }
    shift = _landmark_shift(job, theirs) if theirs else 0
    if shift:
        first = int(job.alignment.numbers[0])
        theirs = {
            i: layout.read_landmarks(job.folder.landmarks[first + i + shift])
            - np.array(job.square[:2], np.float32)
            for i in range(job.frames)
            if first + i + shift in job.folder.landmarks
        }
        job.report.found.append(f".lms are {shift:+d} frames against the pictures: put right")
    for i in range(job.frames):
        if i in theirs or found[i]:
            np.savetxt(job.part / f"ori_imgs/{i}.lms", theirs.get(i, points[i, IBUG_68, :2]), "%f")
    ours = int(sum(bool(found[i]) for i in range(job.frames) if i not in theirs))
    if theirs:
        job.report.found.append(f"68 landmarks of {len(theirs)} frames")
    if ours:
        job.report.rebuilt.append(f"68 landmarks of {ours} frames")
    job.report.rebuilt.append(f"478 landmarks and blendshapes of {int(found.sum())} frames")


def _landmark_shift(job: Job, theirs: dict[int, np.ndarray]) -> int:
    """By how many pictures the .lms lag; raises InputRejected when they fit nowhere near."""
    found = job.landmarks.found
    centre = np.where(found[:, None], job.landmarks.points[:, IBUG_68[27:48], :2].mean(1), np.nan)

    def apart(shift: int) -> float:
        near = [
            np.linalg.norm(theirs[i + shift][27:48].mean(0) - centre[i])
            for i in range(job.frames)
            if i + shift in theirs and found[i]
        ]
        return float(np.median(near)) if near else np.inf

    still = float(np.nanmedian(np.linalg.norm(np.diff(centre, axis=0), axis=1)))
    distances = {shift: apart(shift) for shift in range(-LAGS, LAGS + 1)}
    best = min(distances, key=lambda shift: (distances[shift], abs(shift)))
    if distances[best] > LANDMARKS_APART * job.square[2]:
        raise InputRejected(
            f"{job.folder.path / 'ori_imgs'}: the .lms are {distances[best]:.0f} px from the face that "
            "the pictures show",
            "they belong to other pictures",
            "Remove the .lms to have them made anew",
        )
    gain = distances[0] - distances[best]
    return best if gain > max(0.3 * still, 0.2) and distances[best] < 0.7 * distances[0] else 0


def _complete(job: Job, files: dict[int, Path], name: str) -> list[Path]:
    """The file of every frame; none at all when the folder is empty. Raises InputRejected for a
    folder with holes.
    """
    if not files:
        return []
    absent = [int(n) for n in job.alignment.numbers if int(n) not in files]
    if absent:
        raise InputRejected(
            f"{job.folder.path / name} lacks {len(absent)} files, the first is {absent[0]}.png",
            f"expected one for each of {job.frames} frames",
            f"Remove the folder {name} to have it made anew",
        )
    return [files[int(n)] for n in job.alignment.numbers]


def write_parsing(job: Job) -> None:
    """parsing/%d.png in our palette; TalkingGaussian's, which tells hair and mouth apart, is kept
    beside it.
    """
    (job.part / "parsing").mkdir()
    files = _complete(job, job.folder.parsing, "parsing")
    if not files:
        (job.part / "head_alpha").mkdir()
        with Progress("masks", job.frames, "frames") as progress:
            for i, parts in enumerate(parse_clip(job.pictures, job.landmarks.points)):
                write_image(job.part / f"parsing/{i}.png", encode_parsing(parts.labels))
                write_image(job.part / f"head_alpha/{i}.png", parts.head_alpha)
                progress.advance()
        job.report.rebuilt.append("head, neck and torso masks")
        return
    rich = _palette(job, files)
    if rich:
        (job.part / "parsing_hair").mkdir()
        each(
            lambda i: _place(job, files[i], job.part / f"parsing_hair/{i}.png"),
            job.frames,
            "parsing",
        )

    def write(i: int) -> None:
        if rich or not job.whole or files[i].suffix.lower() != ".png":
            picture = rgb(cut(read_image(files[i]), job.square))
            write_image(job.part / f"parsing/{i}.png", encode_parsing(decode_parsing(picture)))
        else:
            link(files[i], job.part / f"parsing/{i}.png")

    each(write, job.frames, "parsing")
    job.report.found.append(
        f"masks in {'TalkingGaussian' if rich else 'AD-NeRF'}'s palette"
        + (", hair and mouth joined to the head" if rich else "")
    )


def _palette(job: Job, files: list[Path]) -> bool:
    """Whether hair or mouth have colours of their own. Raises InputRejected when no head is to be
    seen.
    """
    rich, head = False, 0
    for i in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int)):
        picture = rgb(read_image(files[i]))
        rich |= any(
            bool((picture == colour).all(-1).any()) for colour in (PARSING_HAIR, PARSING_MOUTH)
        )
        head += int((decode_parsing(picture) == 1).sum())
    if not head:
        raise InputRejected(
            f"{files[0].parent} shows no head",
            "expected the head in blue (0, 0, 255), hair blue or "
            "black, neck green, torso red, on white",
            "Remove the folder parsing to have it made anew",
        )
    return rich


def write_plates(job: Job) -> None:
    """bc.jpg and torso_imgs."""
    if job.folder.background is not None:
        _place(job, job.folder.background, job.part / "bc.jpg")
        job.report.found.append("background")
    else:
        write_image(job.part / "bc.jpg", background_plate(job.pictures, job.labels))
        job.report.rebuilt.append("background")
    (job.part / "torso_imgs").mkdir()
    files = _complete(job, job.folder.torso, "torso_imgs")
    if files:
        if read_image(files[0]).shape[-1] != 4:
            raise InputRejected(
                f"{files[0]} has no alpha channel",
                "expected RGBA, alpha 0 where there is no torso",
                "Remove the folder torso_imgs to have it made anew",
            )
        each(lambda i: _place(job, files[i], job.part / f"torso_imgs/{i}.png"), job.frames, "torso")
        job.report.found.append("torso pictures")
    else:
        points = job.landmarks.points[job.landmarks.found]
        height = float(
            np.median(np.linalg.norm(points[:, CHIN, :2] - points[:, BROW_TOP, :2], axis=1))
        )
        torso = TorsoPlates.learn(job.pictures, job.labels, height)
        each(
            lambda i: write_image(
                job.part / f"torso_imgs/{i}.png", torso.plate(job.pictures[i], job.labels(i))
            ),
            job.frames,
            "torso",
        )
        job.report.rebuilt.append("torso pictures")


def write_teeth(job: Job) -> None:
    """teeth_mask/%d.png: EasyPortrait's where every frame has one, else ours."""
    (job.part / "teeth_mask").mkdir()
    numbers = [int(n) for n in job.alignment.numbers]
    theirs = all(n in job.folder.teeth for n in numbers)
    masks = (
        (
            cut(
                read_teeth(job.folder.path / "teeth_mask", n, job.folder.height, job.folder.width),
                job.square,
            )
            for n in numbers
        )
        if theirs
        else teeth_masks(job.pictures, job.landmarks.points)
    )
    with Progress("teeth", job.frames, "frames") as progress:
        for i, mask in enumerate(masks):
            write_image(job.part / f"teeth_mask/{i}.png", np.ascontiguousarray(mask))
            progress.advance()
    (job.report.found if theirs else job.report.rebuilt).append("teeth masks")

"""Steps of the dataset export that write images: frames, masks, teeth masks, depth maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from being.data.dataset import Dataset
from being.data.frames import FrameFolder, read_image, write_image
from being.data.parsing import BACKGROUND, HEAD, decode_parsing
from being.face.landmarks import Landmarks
from being.interop.family.head_parts import SkinHairModel, mesh_depth, talkinggaussian_parsing
from being.interop.family.mesh_fitting import Cameras
from being.interop.family.writers import for_each_frame, link
from being.preprocess.segmentation.teeth import teeth_masks
from being.reading.tensors import load_pickled

# InsTaG reads depth and normals of the first frames only.
DEPTH_FRAMES = 500


@dataclass(frozen=True)
class System:
    """The files that one system reads from a directory."""

    title: str
    # file of its speech features
    feature_file: str
    # the line of its code that fixes their width
    width_line: str
    # whether it reads masks of hair, mouth and teeth
    reads_head_parts: bool
    # whether it reads depth and normals, as InsTaG does
    reads_depth: bool


SYSTEMS = {
    "gaussiantalker": System(
        "GaussianTalker",
        "aud_ds.npy",
        "scene/deformation.py, Deformation.__init__: self.audio_in_dim = 29",
        reads_head_parts=False,
        reads_depth=False,
    ),
    "talkinggaussian": System(
        "TalkingGaussian",
        "aud_ds.npy",
        "scene/motion_net.py, MotionNetwork.__init__ and "
        "MouthMotionNetwork.__init__, under 'deepspeech': self.audio_in_dim = 29",
        reads_head_parts=True,
        reads_depth=False,
    ),
    "instag": System(
        "InsTaG",
        "aud.npy",
        "scene/motion_net.py, under 'deepspeech': self.audio_in_dim = 29",
        reads_head_parts=True,
        reads_depth=True,
    ),
}


@dataclass
class ExportReport:
    """The directory that was written, its files, and notes about them."""

    path: Path
    system: str
    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # the one line of the system's code to change; empty when none has to
    code_change: str = ""


@dataclass
class ExportJob:
    """The state that the steps of an export share."""

    dataset: Dataset
    system: System
    # folder of the export while it is written
    target: Path
    report: ExportReport
    landmarks: Landmarks
    full_width: bool

    @property
    def images(self) -> FrameFolder:
        """The frames of the dataset."""
        return FrameFolder(self.dataset.path / "ori_imgs", self.dataset.frames)

    @property
    def usable_frames(self) -> list[int]:
        """Frames that the split files may name: the systems' readers open the .lms of each."""
        missing = set(self.dataset.missing)
        return [
            i
            for i in range(self.dataset.frames)
            if (self.dataset.path / f"ori_imgs/{i}.lms").is_file() and i not in missing
        ]

    def labels(self, i: int) -> np.ndarray:
        """Parts of frame i, uint8 [H, W] with the labels of `being.data.parsing`."""
        return decode_parsing(read_image(self.dataset.path / f"parsing/{i}.png"))

    def has_all(self, folder: str) -> bool:
        """Whether the dataset has `folder`/%d.png of every frame."""
        files = (self.dataset.path / f"{folder}/{i}.png" for i in range(self.dataset.frames))
        return all(file.is_file() for file in files)


def write_images(job: ExportJob) -> None:
    """Write ori_imgs with .lms, torso_imgs, bc.jpg, and gt_imgs.

    gt_imgs are the frames with their background replaced by bc.jpg.
    """
    source, background = job.dataset.path, read_image(job.dataset.path / "bc.jpg")
    for name in ("ori_imgs", "torso_imgs", "gt_imgs"):
        (job.target / name).mkdir()
    link(source / "bc.jpg", job.target / "bc.jpg")

    def write(i: int) -> None:
        for name in (f"ori_imgs/{i}.jpg", f"ori_imgs/{i}.lms", f"torso_imgs/{i}.png"):
            if (source / name).is_file():
                link(source / name, job.target / name)
        is_background = job.labels(i)[..., None] == BACKGROUND
        image = np.where(is_background, background, job.images[i])
        write_image(job.target / f"gt_imgs/{i}.jpg", image)

    for_each_frame(write, job.dataset.frames, "images")
    job.report.written.append(
        f"ori_imgs, gt_imgs, torso_imgs, bc.jpg: {job.dataset.frames} frames of "
        f"{job.dataset.width} x {job.dataset.height} px"
    )


def write_masks(job: ExportJob) -> None:
    """Write parsing/%d.png in the system's palette, and teeth masks where it reads them."""
    source, target = job.dataset.path, job.target
    (target / "parsing").mkdir()
    if not job.system.reads_head_parts:
        for_each_frame(
            lambda i: link(source / f"parsing/{i}.png", target / f"parsing/{i}.png"),
            job.dataset.frames,
            "masks",
        )
        job.report.written.append("parsing")
        return

    # Teeth, limited to the head.
    (target / "teeth_mask").mkdir()
    for i, mask in enumerate(_teeth_masks(job)):
        np.save(target / f"teeth_mask/{i}.npy", (mask > 127) & (job.labels(i) == HEAD))

    # Hair and mouth: imported masks where every frame has one, else by colour.
    skin_hair = SkinHairModel.fit(job.images, job.landmarks.points, job.labels)
    imported = job.has_all("parsing_hair")

    def write(i: int) -> None:
        if imported:
            link(source / f"parsing_hair/{i}.png", target / f"parsing/{i}.png")
            return
        labels = job.labels(i)
        parsing = talkinggaussian_parsing(
            job.images[i],
            labels,
            job.landmarks.points[i],
            _mouth_mask(source / f"mouth_mask/{i}.png", labels.shape) & (labels == HEAD),
            np.load(target / f"teeth_mask/{i}.npy"),
            skin_hair,
        )
        write_image(target / f"parsing/{i}.png", parsing)

    for_each_frame(write, job.dataset.frames, "masks")
    job.report.written.append("parsing with hair and mouth, teeth_mask")
    if not imported:
        job.report.notes.append(
            "hair is separated from skin by colour: the system's own face_parsing makes better "
            "masks of a person whose hair has the colour of skin"
        )


def _teeth_masks(job: ExportJob) -> Iterator[np.ndarray]:
    """Teeth masks uint8 [H, W] of all frames: the dataset's where it has them, else computed."""
    if job.has_all("teeth_mask"):
        folder = job.dataset.path / "teeth_mask"
        return (read_image(folder / f"{i}.png") for i in range(job.dataset.frames))
    return teeth_masks(job.images, job.landmarks.points, job.dataset.segments)


def _mouth_mask(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W], all False without a file."""
    return read_image(file) > 127 if file.is_file() else np.zeros(shape[:2], bool)


def write_depth_and_normals(job: ExportJob) -> None:
    """Write sapiens/depth of the tracked face and sapiens/normal with zeros.

    Zero normals leave InsTaG's normal loss without effect.
    """
    dataset, (vertices, triangles) = job.dataset, job.dataset.mesh
    track = load_pickled(dataset.path / "track_params.pt")
    cameras = Cameras(
        track["euler"].float().numpy(),
        track["trans"].float().numpy(),
        dataset.focal,
        dataset.width,
        dataset.height,
    )
    depths, normals = (job.target / f"sapiens/{name}/sapiens_0.3b" for name in ("depth", "normal"))
    depths.mkdir(parents=True)
    normals.mkdir(parents=True)
    frames = job.usable_frames[:DEPTH_FRAMES]

    # All normal files are links to the first.
    zeros = np.zeros((dataset.height, dataset.width, 3), np.float32)
    np.save(normals / f"{frames[0]}.npy", zeros)

    def write(k: int) -> None:
        i = frames[k]
        camera = cameras.to_camera(vertices[i].astype(np.float64), np.array([i]))
        depth = mesh_depth(camera[0], cameras.project(camera)[0], triangles, job.labels(i) == HEAD)
        np.save(depths / f"{i}.npy", depth)
        if k:
            link(normals / f"{frames[0]}.npy", normals / f"{i}.npy")

    for_each_frame(write, len(frames), "depth")
    job.report.written.append(f"sapiens/depth and sapiens/normal of the first {len(frames)} frames")
    job.report.notes.append(
        "depth is that of the tracked face, normals are zero and have no effect: run InsTaG's "
        "sapiens scripts for better ones, or train with --long"
    )

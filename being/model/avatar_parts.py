"""Optional parts of an avatar bundle: torso mattes with the background, the surround, bases.

The mattes allow another background. The surround is the whole source frame of each pose, into which
the head is put back. The bases give the offsets of a frame without the network. P poses, S image
side of the avatar.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from being.data.surround import HEAD_MASK_SIDE, Surround, Torsos
from being.errors import InputRejected
from being.files import save_tensors
from being.media.pose_video import DamagedVideo, PoseVideo, write_pose_video
from being.model.bases import BASES_FILE, Bases, check_fits
from being.model.talking_head import TalkingHead
from being.reading.content import Unreadable, rejected
from being.reading.images import decode_image, image_size
from being.reading.tensors import load_tensors

BACKGROUND_FILE, MATTE_FILE = "background.jpg", "mattes/{:06d}.png"
SURROUND_VIDEO, SURROUND_HEADS = "surround.mp4", "surround.safetensors"
BACKGROUND_QUALITY = 95  # of JPEG
# Bytes of a source frame, and the pixels of the frame for which they are meant.
FRAME_BYTES, FRAME_PIXELS = 120_000, 1920 * 1080
COPY_AGAIN = "Copy the bundle again"
ADD_PARTS = "Add them with: being export AVATAR --surround"


class PoseImages(Protocol):
    """The plates of an avatar and their mattes."""

    def plate(self, pose: int) -> np.ndarray:
        """The image behind the head, uint8 [S, S, 3] RGB."""

    def matte(self, pose: int) -> np.ndarray:
        """How much of the plate is torso, uint8 [S, S]."""


@dataclass(frozen=True)
class TorsoMattes:
    """The torso mattes of a bundle, and the background behind its torsos."""

    path: Path  # of the bundle
    background: np.ndarray  # uint8 [S, S, 3] RGB
    files: list[bytes]  # PNG of each pose

    def matte(self, pose: int) -> np.ndarray:
        """The matte uint8 [S, S] at `pose`. Raises InputRejected for a damaged file."""
        try:
            found = np.asarray(decode_image(self.files[pose], "L"))
        except Unreadable as error:
            raise _damaged(self.path / MATTE_FILE.format(pose), str(error)) from error
        if found.shape != self.background.shape[:2]:
            raise _damaged(self.path / MATTE_FILE.format(pose), f"{found.shape} px")
        return found


@dataclass(frozen=True)
class SourceSurround:
    """The source frames of a bundle's poses, and where the avatar's square lies in them."""

    path: Path  # of the bundle
    width: int  # px of a source frame
    height: int
    crop: tuple[float, float, float]  # left, top, side of the square, px of the source frame
    heads: np.ndarray  # uint8 [P, m, m], the mask of the person's own head in the square
    video: bytes  # mp4

    def open(self) -> PoseVideo:
        """The source frames, by pose. Raises InputRejected where they cannot be decoded."""
        try:
            return PoseVideo(self.video, self.width, self.height, len(self.heads))
        except DamagedVideo as error:
            raise _damaged(self.path / SURROUND_VIDEO, str(error)) from error


def write_parts(folder: Path, torsos: Torsos | None, surround: Surround | None) -> dict[str, Any]:
    """Write the parts into the folder of a bundle; returns their entries of the manifest."""
    entries: dict[str, Any] = {}
    if torsos is not None:
        (folder / "mattes").mkdir(exist_ok=True)
        Image.fromarray(torsos.background).save(
            folder / BACKGROUND_FILE, quality=BACKGROUND_QUALITY, subsampling=0
        )
        for k, matte in enumerate(torsos.mattes()):
            Image.fromarray(matte).save(folder / MATTE_FILE.format(k))
        entries["matte"] = True
    if surround is not None:
        width, height = surround.width, surround.height
        budget = max(1, FRAME_BYTES * width * height // FRAME_PIXELS)
        count = write_pose_video(folder / SURROUND_VIDEO, surround.frames(), width, height, budget)
        if count == len(surround.heads):
            save_tensors(folder / SURROUND_HEADS, {"heads": torch.from_numpy(surround.heads)})
            crop = [round(value, 4) for value in surround.crop]
            entries["surround"] = {"width": width, "height": height, "crop": crop}
        else:  # the video that the dataset holds is no longer whole
            (folder / SURROUND_VIDEO).unlink()
    return entries


def part_files(manifest: dict[str, Any]) -> list[str]:
    """The files of the parts that a manifest names."""
    files = []
    if manifest.get("matte"):
        files += [BACKGROUND_FILE, *(MATTE_FILE.format(k) for k in range(manifest["poses"]))]
    if manifest.get("surround"):
        files += [SURROUND_VIDEO, SURROUND_HEADS]
    if manifest.get("bases"):
        files.append(BASES_FILE)
    return files


def load_mattes(
    folder: Path, manifest: dict[str, Any], content: dict[str, bytes]
) -> TorsoMattes | None:
    """The mattes of a bundle; content: its files by name. Raises InputRejected."""
    if not manifest.get("matte"):
        return None
    size = (manifest["size"], manifest["size"])
    files = [content[MATTE_FILE.format(k)] for k in range(manifest["poses"])]
    file = folder / BACKGROUND_FILE
    try:
        sizes = {image_size(found) for found in (content[BACKGROUND_FILE], *files)}
        if sizes != {size}:
            raise _damaged(folder / "mattes", f"{len(sizes)} sizes, expected {size[0]} px a side")
        background = np.asarray(decode_image(content[BACKGROUND_FILE], "RGB"))
    except Unreadable as error:
        raise rejected(file, error, COPY_AGAIN) from error
    return TorsoMattes(folder, background, files)


def load_surround(
    folder: Path, manifest: dict[str, Any], content: dict[str, bytes]
) -> SourceSurround | None:
    """The surround of a bundle; content: its files by name. Raises InputRejected."""
    entry = manifest.get("surround")
    if not entry:
        return None
    heads = load_tensors(folder / SURROUND_HEADS).get("heads")
    shape = (manifest["poses"], HEAD_MASK_SIDE, HEAD_MASK_SIDE)
    if heads is None or heads.dtype != torch.uint8 or tuple(heads.shape) != shape:
        raise _damaged(folder / SURROUND_HEADS, f"expected heads uint8 {list(shape)}")
    left, top, side = map(float, entry["crop"])
    return SourceSurround(
        folder,
        entry["width"],
        entry["height"],
        (left, top, side),
        heads.numpy(),
        content[SURROUND_VIDEO],
    )


def load_bases(folder: Path, manifest: dict[str, Any], model: TalkingHead) -> Bases | None:
    """The bases of a bundle with this model. Raises InputRejected."""
    entry = manifest.get("bases")
    if not entry:
        return None
    bases = Bases.load(folder / BASES_FILE)
    network = model.network
    try:
        if bases.count != entry["count"]:
            raise ValueError(f"{bases.count} bases, the manifest says {entry['count']}")
        check_fits(bases, network.audio_width, network.expression_width, model.gaussians)
    except ValueError as error:
        raise _damaged(folder / BASES_FILE, str(error)) from error
    device = model.gaussians.means.device
    return bases.to(device).eval().requires_grad_(False)


def _damaged(file: Path, why: str) -> InputRejected:
    return InputRejected(f"{file} cannot be used", why, COPY_AGAIN)

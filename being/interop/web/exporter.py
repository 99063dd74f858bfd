"""Writes an avatar as a static page that needs no server: the page, its modules and the bundle.

DIR/index.html and the modules are those of `page/`; DIR/avatar/ holds
- `manifest.json`: sizes, poses, expression channels, mark and consent, and the bytes and sha256 of
  the other files;
- `tensors.bin`: all tensors (`scene.py`, `speech.py`), deflated;
- `plates.mp4`: the plates of the poses, and below each its torso matte where the avatar has them;
- `plate.jpg`: the plate of the first pose, for pages without a video decoder;
- `background.jpg`, where there are mattes: what shows through the plates.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import being
from being.conventions import FPS
from being.errors import BeingError, InputRejected
from being.files import new_folder, write_json
from being.interop.web.quantisation import pack_tensors
from being.interop.web.scene import scene_tensors
from being.interop.web.speech import causal_voice, resting_code, speech_facts, speech_tensors
from being.media.pose_video import sample_table, write_pose_video
from being.model.avatar import LICENCE_NOTE, Avatar, digest
from being.model.avatar_parts import BACKGROUND_FILE
from being.model.bases import ADD_BASES, required_bases
from being.paths import check_writable
from being.provenance.mark import Mark
from being.reading.structured import read_json

PAGE = Path(__file__).with_name("page")
# Modules of the live page that this page uses too.
SHARED = (Path(being.__file__).with_name("api") / "page" / "resampler.js",)
BUNDLE = "avatar"  # folder of the bundle
FORMAT, VERSION = "being-web-avatar", 1  # also in page/bundle.js
PLATE_QUALITY = 14  # crf of x264; the bound of the bundle may lower it
# Bytes that a browser loads for the avatar. The plates get what the tensors leave of it, but at
# least PLATE_BYTES a pose.
BUNDLE_MAX, PLATE_BYTES = 12_000_000, 2_000
MANIFEST_BYTES = 80  # about, a pose
STILL_QUALITY = 92  # of JPEG
RANGE_FACTOR = 1.25  # expressions may leave the clip's range by this


@dataclass(frozen=True)
class WebExport:
    """What was written."""

    folder: Path
    bases: int
    sizes: dict[str, int]  # bytes by part: gaussians, bases, net, speech, plates, page
    speaks: bool  # whether the page makes mouth codes of sound by itself

    @property
    def bundle_bytes(self) -> int:
        """Bytes that a browser loads for the avatar, the page's own modules left out."""
        return sum(size for part, size in self.sizes.items() if part != "page")


def export_web(avatar: Avatar, folder: Path, force: bool = False) -> WebExport:
    """Write the page of an avatar into `folder`; it appears whole or not at all.

    force: replace a folder that is no earlier export. Raises InputRejected for an avatar without
    bases, BeingError for a folder with other content.
    """
    if avatar.bases is None:
        raise InputRejected(
            f"the avatar {avatar.path} has no bases", "a page renders by them", ADD_BASES
        )
    check_writable(folder)
    if folder.exists() and not force and any(folder.iterdir()) and not is_web_export(folder):
        raise BeingError(
            f"{folder} exists and was not made by being export --web",
            "its content would be lost",
            "Choose another folder, or replace it with --force",
        )
    with new_folder(folder) as part:
        for file in (*sorted(PAGE.iterdir()), *SHARED):
            shutil.copyfile(file, part / file.name)
        page_bytes = sum(file.stat().st_size for file in part.iterdir())
        (part / BUNDLE).mkdir()
        sizes, speaks = write_bundle(part / BUNDLE, avatar)
    return WebExport(folder, required_bases(avatar).count, {**sizes, "page": page_bytes}, speaks)


def is_web_export(folder: Path) -> bool:
    """Whether a folder is an earlier export."""
    try:
        manifest = read_json(folder / BUNDLE / "manifest.json")
    except InputRejected:
        return False
    return manifest.get("format") == FORMAT


def write_bundle(folder: Path, avatar: Avatar) -> tuple[dict[str, int], bool]:
    """Write the bundle into an empty folder; returns bytes by part, and whether it can speak."""
    bases, voice = required_bases(avatar), causal_voice(avatar)
    world_to_camera = avatar.world_to_camera.cpu().numpy()
    channels = bases.input_width - 12 - avatar.expression.shape[1]
    parts = {"scene": scene_tensors(avatar.model.gaussians.cpu(), bases)}
    parts["poses"] = {
        "poses.camera": world_to_camera.reshape(-1, 16).astype(np.float32),
        "poses.expression": avatar.expression.cpu().numpy().astype(np.float32),
        "rest_code": resting_code(avatar, channels).astype(np.float32),
    }
    if voice is not None:
        parts["speech"] = speech_tensors(voice)
    content, entries = pack_tensors({k: v for part in parts.values() for k, v in part.items()})
    (folder / "tensors.bin").write_bytes(content)
    left = BUNDLE_MAX - len(content) - MANIFEST_BYTES * avatar.pose_count
    plates = _write_plates(folder, avatar, left)

    limits = _expression_limits(avatar)
    files = sorted(file for file in folder.iterdir())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": avatar.manifest["name"],
        "size": avatar.size,
        "focal": avatar.focal,
        "fps": FPS,
        "gaussians": len(avatar.model.gaussians),
        "sh_degree": avatar.model.network.config.sh_degree,
        "bases": bases.count,
        "poses": avatar.pose_count,
        "expression": limits,
        "speech": None if voice is None else speech_facts(voice),
        "plates": plates,
        "tensors": entries,
        "mark": Mark.of(avatar.manifest, None).facts(),
        "licence": avatar.manifest.get("licence", LICENCE_NOTE),
        "files": {
            file.name: {"bytes": file.stat().st_size, "sha256": digest(file.read_bytes())}
            for file in files
        },
    }
    write_json(folder / "manifest.json", manifest)
    return _sizes(folder, parts["scene"], parts.get("speech", {})), voice is not None


def _sizes(
    folder: Path, scene: dict[str, np.ndarray], speech: dict[str, np.ndarray]
) -> dict[str, int]:
    """Bytes by part, tensors deflated on their own."""

    def packed(tensors: dict[str, np.ndarray]) -> int:
        return len(pack_tensors(tensors)[0]) if tensors else 0

    groups = {
        "gaussians": {k: v for k, v in scene.items() if k.startswith("base.")},
        "bases": {k: v for k, v in scene.items() if k.startswith("basis")},
        "net": {k: v for k, v in scene.items() if k.startswith("net.")},
        "speech": speech,
    }
    sizes = {name: packed(tensors) for name, tensors in groups.items()}
    whole = (folder / "tensors.bin").stat().st_size
    pictures = sum(file.stat().st_size for file in folder.iterdir()) - whole
    manifest = (folder / "manifest.json").stat().st_size
    sizes["plates"] = pictures - manifest
    # Poses, and what the parts pack better together.
    sizes["other"] = whole + manifest - sum(packed(tensors) for tensors in groups.values())
    return sizes


def _write_plates(folder: Path, avatar: Avatar, budget: int) -> dict[str, Any]:
    """Write the pictures behind the head; returns their entry of the manifest.

    budget: bytes of all.
    """
    size, stacked = avatar.size, avatar.torsos is not None
    even = size + size % 2
    height = 2 * even if stacked else even

    def frames() -> Iterator[np.ndarray]:
        for pose in range(avatar.pose_count):
            frame = np.zeros((height, even, 3), np.uint8)
            frame[:size, :size] = avatar.plate(pose)
            if stacked:
                frame[even : even + size, :size] = avatar.matte(pose)[..., None]
            yield frame

    Image.fromarray(avatar.plate(0)).save(folder / "plate.jpg", quality=STILL_QUALITY)
    if stacked:
        shutil.copyfile(avatar.path / BACKGROUND_FILE, folder / BACKGROUND_FILE)
    budget -= sum(file.stat().st_size for file in folder.glob("*.jpg"))
    file = folder / "plates.mp4"
    bound = max(PLATE_BYTES, budget // avatar.pose_count)
    write_pose_video(file, frames(), even, height, bound, PLATE_QUALITY)
    table = sample_table(file)
    return {
        "codec": table.codec,
        "description": base64.b64encode(table.description).decode(),
        "width": even,
        "height": height,
        "stacked": stacked,
        "frames": [[offset, length, int(key)] for offset, length, key in table.frames],
    }


def _expression_limits(avatar: Avatar) -> dict[str, list[Any]]:
    """Names of the expression channels, and the smallest and largest value of each."""
    channels = avatar.channels
    least = [min(0.0, RANGE_FACTOR * value) for value in channels.least]
    most = [max(0.0, RANGE_FACTOR * value) for value in channels.most]
    least[0], most[0] = 0.0, 1.0  # the blink
    return {"names": list(channels.names), "least": least, "most": most}

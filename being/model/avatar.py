"""The avatar bundle: a self-contained folder that renders with no dataset present.

`manifest.json` (schema, name, size, fps, focal, encoder and its width, expression channels, model
config, poses, consent, licence note, and the sha256 of every other file), `model.safetensors`
(Gaussians and network), `poses.safetensors` (`world_to_camera` [P, 4, 4], `expression` [P, E]: a
looping sequence of poses of the training clip with what the face did in them, the mouth neutral),
`plates/%06d.jpg` (the picture behind the head for each pose). No path inside is absolute. Bundles
of schema 1 know the blink alone, as `blink` [P, 1].
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from being.config import Config, from_dict
from being.conventions import FPS
from being.data.clip import Clip
from being.data.consent import consent_note
from being.data.dataset import Dataset
from being.data.expression_channels import BLINK_ALONE, Channels
from being.errors import InputRejected, UsageError
from being.files import load_tensors, read_json, write_json
from being.model.talking_head import TalkingHead
from being.paths import replace_folder

SCHEMA = 2
BLINK_SCHEMA = 1  # of bundles that know the blink alone
MANIFEST_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "size": int,
    "focal": (int, float),
    "encoder": str,
    "audio_width": int,
    "model": dict,
    "poses": int,
    "files": dict,
}


@dataclass
class Avatar:
    """A loaded bundle."""

    path: Path
    manifest: dict[str, Any]
    model: TalkingHead
    world_to_camera: Tensor  # [P, 4, 4]
    expression: Tensor  # [P, E], `data.expression`: the blink first, the mouth neutral
    plates: list[bytes]  # JPEG files, decoded when a frame needs them
    channels: Channels = BLINK_ALONE  # names and units of the expression

    @property
    def size(self) -> int:
        """Side of the square picture in px."""
        return self.manifest["size"]

    @property
    def focal(self) -> float:
        """Focal length in px."""
        return self.manifest["focal"]

    @property
    def poses(self) -> int:
        """Poses in the loop."""
        return len(self.plates)

    def plate(self, pose: int) -> np.ndarray:
        """The picture behind the head at `pose`, uint8 [S, S, 3]."""
        with Image.open(io.BytesIO(self.plates[pose])) as image:
            return np.asarray(image.convert("RGB"))

    @property
    def note(self) -> str:
        """What the metadata of every video made from this avatar say of consent."""
        return consent_note(self.manifest.get("consent"))


@dataclass
class Loop:
    """Where an avatar stands and what is behind it: neighbouring frames of one person's clip."""

    name: str
    size: int  # px
    focal: float  # px
    world_to_camera: Tensor  # [P, 4, 4] float32
    expression: Tensor  # [P, E] float32, the blink in [0, 1] first
    plates: Iterable[np.ndarray]  # P pictures uint8 [S, S, 3] RGB
    consent: dict[str, Any] | None
    channels: Channels = BLINK_ALONE


def save_avatar(
    path: Path, model: TalkingHead, config: Config, dataset: Dataset, clip: Clip
) -> Path:
    """Write the bundle of a model trained on `clip` at `path`; it appears whole or not at all."""
    poses = dataset.longest_stretch(round(config.avatar.seconds * FPS))
    plates = (clip.plates[i].permute(1, 2, 0).cpu().numpy() for i in poses)
    width = model.network.expression_width
    expression = clip.expression[poses.start : poses.stop].masked_fill(clip.mouth, 0.0)[:, :width]
    return write_avatar(
        path,
        model,
        config,
        Loop(
            dataset.name,
            clip.size,
            clip.focal,
            clip.world_to_camera[poses.start : poses.stop],
            expression,
            plates,
            dataset.manifest.get("consent"),
            clip.channels.first(width),
        ),
    )


def write_avatar(path: Path, model: TalkingHead, config: Config, loop: Loop) -> Path:
    """Write the bundle of a model and its loop of poses at `path`; it appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_bundle(part, model, config, loop)
        replace_folder(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _write_bundle(part: Path, model: TalkingHead, config: Config, loop: Loop) -> None:
    (part / "plates").mkdir(parents=True)
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()},
        part / "model.safetensors",
    )
    save_file(
        {
            "world_to_camera": loop.world_to_camera.cpu().contiguous(),
            "expression": loop.expression.cpu().contiguous(),
        },
        part / "poses.safetensors",
    )
    for k, plate in enumerate(loop.plates):
        Image.fromarray(plate).save(
            part / f"plates/{k:06d}.jpg", quality=config.avatar.plate_quality, subsampling=0
        )
    files = {
        str(f.relative_to(part)): digest(f.read_bytes())
        for f in sorted(part.rglob("*"))
        if f.is_file()
    }
    write_json(
        part / "manifest.json",
        {
            "schema": SCHEMA,
            "name": loop.name,
            "size": loop.size,
            "fps": FPS,
            "focal": loop.focal,
            "encoder": config.data.encoder,
            "audio_width": model.network.audio_width,
            "expression": loop.channels.to_dict(),
            "model": dataclasses.asdict(config.model),
            "poses": len(loop.expression),
            "gaussians": len(model.gaussians),
            "consent": loop.consent,
            "files": files,
            "licence": "Made from footage of the person named; their consent and the footage's licence govern its use.",
        },
    )


def load_avatar(path: Path, device: torch.device | str = "cpu") -> Avatar:
    """The bundle at `path`, or that of the run at `path`; every file is checked against the
    manifest.

    Raises InputRejected naming the file that is missing, altered, of another schema or not finite.
    """
    path = Path(path)
    folder = path if (path / "manifest.json").is_file() else path / "avatar"
    if not (folder / "manifest.json").is_file():
        if (path / "run.json").is_file():
            raise InputRejected(
                f"the run {path} has no avatar yet",
                "its fine stage has not finished",
                "Finish it with: being train --stage fine",
            )
        raise InputRejected(
            f"{path} is not an avatar",
            "it has no manifest.json",
            "Train one with: being train DATA",
        )
    manifest = read_json(folder / "manifest.json")
    if manifest.get("schema") not in (BLINK_SCHEMA, SCHEMA):
        raise InputRejected(
            f"{folder} has avatar schema {manifest.get('schema')}, this version reads up to {SCHEMA}",
            fix="Use the version of being that made it, or train again",
        )
    wrong = [key for key, kind in MANIFEST_KEYS.items() if not isinstance(manifest.get(key), kind)]
    if (
        wrong
        or not 0 < manifest["focal"] < np.inf
        or min(manifest["size"], manifest["audio_width"], manifest["poses"]) <= 0
    ):
        raise InputRejected(
            f"{folder / 'manifest.json'} does not describe an avatar",
            f"missing or wrong: {', '.join(wrong) or 'size, focal, audio_width or poses'}",
            "Copy the bundle again",
        )
    plates = [f"plates/{k:06d}.jpg" for k in range(manifest["poses"])]
    content: dict[str, bytes] = {}
    for name in ["model.safetensors", "poses.safetensors", *plates]:
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputRejected(
                f"{folder / name} is missing", str(error), "Copy the bundle again"
            ) from error
        if digest(content[name]) != manifest["files"].get(name):
            raise InputRejected(
                f"{folder / name} was altered",
                "its sha256 is not the manifest's",
                "Copy the bundle again",
            )
        if name in plates and not _is_picture(content[name], manifest["size"]):
            raise InputRejected(
                f"{folder / name} will not do",
                f"it is no picture of {manifest['size']} px a side",
                "Copy the bundle again",
            )
    state, poses = (
        load_tensors(folder / "model.safetensors"),
        load_tensors(folder / "poses.safetensors"),
    )
    try:
        config = from_dict({"model": manifest["model"]})
        model = (
            TalkingHead.from_state(config.model, manifest["audio_width"], state).to(device).eval()
        )
    except (UsageError, RuntimeError, KeyError, AssertionError) as error:
        raise InputRejected(
            f"{folder / 'model.safetensors'} does not fit its manifest",
            (str(error).splitlines() or [type(error).__name__])[0],
            "Copy the bundle again",
        ) from error
    channels, key = _channels(folder, manifest)
    shapes = {
        name: tuple(poses[name].shape) if name in poses else None
        for name in ("world_to_camera", key)
    }
    if (
        shapes != {"world_to_camera": (len(plates), 4, 4), key: (len(plates), len(channels))}
        or len(channels) != model.network.expression_width
    ):
        raise InputRejected(
            f"{folder / 'poses.safetensors'} does not fit its manifest",
            f"{shapes} for {len(plates)} poses and {len(channels)} channels of expression",
            "Copy the bundle again",
        )
    return Avatar(
        folder,
        manifest,
        model.requires_grad_(False),
        poses["world_to_camera"].to(device),
        poses[key].to(device),
        [content[name] for name in plates],
        channels,
    )


def _channels(folder: Path, manifest: dict[str, Any]) -> tuple[Channels, str]:
    """The expression channels of a bundle, and what its poses call them."""
    if manifest["schema"] == BLINK_SCHEMA:
        return BLINK_ALONE, "blink"
    try:
        return Channels.from_dict(manifest.get("expression")), "expression"
    except (ValueError, TypeError) as error:
        raise InputRejected(
            f"{folder / 'manifest.json'} does not describe an avatar",
            f"expression: {error}",
            "Copy the bundle again",
        ) from error


def _is_picture(content: bytes, size: int) -> bool:
    """Whether a file's head is that of a picture of size x size px."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size == (size, size)
    except (OSError, SyntaxError):
        return False


def digest(content: bytes) -> str:
    """sha256 of a file's content, hexadecimal."""
    return hashlib.sha256(content).hexdigest()

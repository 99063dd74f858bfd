"""The avatar bundle: a self-contained folder that renders without the dataset.

The folder holds:
- `manifest.json`: schema, name, size, fps, focal, encoder and its width, expression channels, model
  config, number of poses, consent, licence note, and the sha256 of every other file;
- `model.safetensors`: Gaussians and network;
- `poses.safetensors`: `world_to_camera` [P, 4, 4] and `expression` [P, E]: consecutive frames of
  the training clip, played back and forth, with the expression of the face; mouth channels are 0;
- `voice.safetensors`, where the network reads the mouth code: the mapping from speech features to
  it (`model.voice_to_mouth`);
- `live_voice.safetensors`, where the manifest names a `live_encoder`: the same mapping for the
  speech features of that encoder, which live sessions use;
- `plates/%06d.jpg`: the image behind the head of each pose;
- `background.jpg` and `mattes/%06d.png`, where the manifest has `matte`: what shows through the
  plates, and how much of each is torso (`being.model.avatar_parts`);
- `surround.mp4` and `surround.safetensors`, where the manifest has `surround`: the whole source
  frame of each pose;
- `bases.safetensors`, where the manifest has `bases`: linear bases of the offsets, and the net that
  computes a frame's coefficients (`being.model.bases`).

No path inside is absolute. Bundles of schema 1 have the blink as their only channel, as `blink`
[P, 1]. P poses, E expression channels, S image side.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.config import from_dict
from being.data.consent import consent_note
from being.data.expression_channels import BLINK_ONLY, ExpressionChannels
from being.errors import InputRejected, UsageError
from being.model.avatar_manifest import (
    BLINK_SCHEMA,
    COPY_AGAIN,
    read_avatar_manifest,
)
from being.model.avatar_parts import (
    ADD_PARTS,
    PoseImages,
    SourceSurround,
    TorsoMattes,
    load_bases,
    load_mattes,
    load_surround,
    part_files,
)
from being.model.bases import Bases
from being.model.talking_head import TalkingHead
from being.model.voice_to_mouth import LIVE_VOICE_FILE, VOICE_FILE, VoiceToMouth
from being.paths import check_folder, user_path
from being.reading.content import Unreadable, read_content, reason, rejected
from being.reading.images import decode_image, image_size
from being.reading.tensors import load_tensors

FILE_MAX = 2 << 30  # bytes
# Pixels of all plates together: so many for each byte of their files, and some besides.
PLATE_PIXELS_PER_BYTE, PLATE_PIXELS_FREE = 64, 1 << 27
LICENCE_NOTE = (
    "Made from footage of the person named; their consent and the footage's licence govern its use."
)


@dataclass
class Avatar:
    """A loaded bundle."""

    path: Path
    manifest: dict[str, Any]
    model: TalkingHead
    world_to_camera: Tensor  # [P, 4, 4]
    expression: Tensor  # [P, E] as in `data.expression`: the blink first, mouth channels 0
    plates: list[bytes]  # JPEG files, decoded when a frame needs them
    channels: ExpressionChannels = BLINK_ONLY  # names and units of the expression
    # From speech features to the mouth code; None: the network reads speech features.
    voice: VoiceToMouth | None = None
    # The same for the speech features of `live_encoder`; None: live sessions use `voice`.
    live_voice: VoiceToMouth | None = None
    torsos: TorsoMattes | None = None
    surround: SourceSurround | None = None
    # Takes the place of the stored plates and mattes.
    images: PoseImages | None = None
    # Give the offsets of a frame without the network.
    bases: Bases | None = None

    @property
    def live_encoder(self) -> str:
        """Speech encoder of live sessions."""
        return self.manifest["encoder" if self.live_voice is None else "live_encoder"]

    @property
    def feature_width(self) -> int:
        """Channels of the speech features that drive the avatar."""
        return self.manifest["audio_width"] if self.voice is None else self.voice.width

    @property
    def size(self) -> int:
        """Side of the square image in px."""
        return self.manifest["size"]

    @property
    def focal(self) -> float:
        """Focal length in px."""
        return self.manifest["focal"]

    @property
    def pose_count(self) -> int:
        """Number of poses in the loop."""
        return len(self.world_to_camera)

    def plate(self, pose: int) -> np.ndarray:
        """Return the image behind the head at `pose`, uint8 [S, S, 3].

        Raises InputRejected for a plate that cannot be decoded.
        """
        if self.images is not None:
            return self.images.plate(pose)
        try:
            return np.asarray(decode_image(self.plates[pose], "RGB"))
        except Unreadable as error:
            raise InputRejected(
                f"{self.path}/plates/{pose:06d}.jpg cannot be decoded", str(error), COPY_AGAIN
            ) from error

    def matte(self, pose: int) -> np.ndarray:
        """Return how much of the plate at `pose` is torso, uint8 [S, S]; 255 is torso.

        Raises InputRejected where the bundle has no mattes, or one cannot be decoded.
        """
        if self.images is not None:
            return self.images.matte(pose)
        return self.torso_mattes.matte(pose)

    @property
    def torso_mattes(self) -> TorsoMattes:
        """Return the mattes of the plates. Raises InputRejected where the bundle has none."""
        if self.torsos is None:
            raise InputRejected(
                f"the avatar {self.path} has no mattes", "its background is not known", ADD_PARTS
            )
        return self.torsos

    @property
    def consent_note(self) -> str:
        """The note on consent for the metadata of every video of this avatar."""
        return consent_note(self.manifest.get("consent"))


def load_avatar(path: Path, device: torch.device | str = "cpu") -> Avatar:
    """Return the bundle at `path`, or the bundle of the run at `path`.

    Every file is checked against the manifest. Raises InputRejected, with the name of the file, for
    a file that is missing, was altered, has another schema or holds numbers that are not finite.
    """
    folder = _bundle_folder(user_path(path))
    manifest = read_avatar_manifest(folder)
    plates = [f"plates/{k:06d}.jpg" for k in range(manifest["poses"])]
    content = _read_files(folder, manifest, plates)
    voice = live_voice = None
    if _has_code(manifest):
        voice = _load_voice(folder / VOICE_FILE, manifest)
        if "live_encoder" in manifest:
            live_voice = _load_voice(folder / LIVE_VOICE_FILE, manifest)
    state = load_tensors(folder / "model.safetensors")
    poses = load_tensors(folder / "poses.safetensors")

    # The network. Its sizes are compared with the stored tensors before it is built.
    try:
        config = from_dict({"model": manifest["model"]})
        model = TalkingHead.from_state(config.model, manifest["audio_width"], state)
        model = model.to(device).eval().requires_grad_(False)
    except (UsageError, RuntimeError, KeyError, AssertionError) as error:
        raise InputRejected(
            f"{folder / 'model.safetensors'} does not fit its manifest",
            reason(error),
            COPY_AGAIN,
        ) from error

    # The poses, with as many channels as the network has.
    channels, key = _expression_channels(folder, manifest)
    expected = {"world_to_camera": (len(plates), 4, 4), key: (len(plates), len(channels))}
    shapes = {name: tuple(poses[name].shape) if name in poses else None for name in expected}
    if shapes != expected or len(channels) != model.network.expression_width:
        raise InputRejected(
            f"{folder / 'poses.safetensors'} does not fit its manifest",
            f"{shapes} for {len(plates)} poses and {len(channels)} expression channels",
            COPY_AGAIN,
        )

    return Avatar(
        folder,
        manifest,
        model,
        poses["world_to_camera"].to(device),
        poses[key].to(device),
        [content[name] for name in plates],
        channels,
        voice,
        live_voice,
        load_mattes(folder, manifest, content),
        load_surround(folder, manifest, content),
        bases=load_bases(folder, manifest, model),
    )


def _load_voice(file: Path, manifest: dict[str, Any]) -> VoiceToMouth:
    """Return a bundle's mapping to the mouth code."""
    voice = VoiceToMouth.load(file)
    if len(voice.units) != manifest["audio_width"]:
        raise InputRejected(
            f"{file} does not fit its manifest",
            f"{len(voice.units)} channels, the network reads {manifest['audio_width']}",
            COPY_AGAIN,
        )
    return voice


def _bundle_folder(path: Path) -> Path:
    """Return the folder of the bundle at `path`, or of the run at `path`."""
    check_folder(path, "an avatar", "Give the folder of a run or of an avatar bundle")
    folder = path if (path / "manifest.json").is_file() else path / "avatar"
    if (folder / "manifest.json").is_file():
        return folder
    if (path / "run.json").is_file():
        raise InputRejected(
            f"the run {path} has no avatar yet",
            "its fine stage has not finished",
            f"Finish it with: being train --run {path}",
        )
    raise InputRejected(
        f"{path} is not an avatar",
        "it has no manifest.json",
        "Train one with: being train DATA",
    )


def _has_code(manifest: dict[str, Any]) -> bool:
    """Return whether the network of a bundle reads the mouth code."""
    return manifest["model"].get("mouth", "audio") == "code"


def _read_files(folder: Path, manifest: dict[str, Any], plates: list[str]) -> dict[str, bytes]:
    """Return the content of the bundle's files by name, checked against the manifest."""
    content: dict[str, bytes] = {}
    voice = [VOICE_FILE] if _has_code(manifest) or VOICE_FILE in manifest["files"] else []
    if "live_encoder" in manifest or LIVE_VOICE_FILE in manifest["files"]:
        voice.append(LIVE_VOICE_FILE)
    others = part_files(manifest)
    for name in ["model.safetensors", "poses.safetensors", *voice, *plates, *others]:
        try:
            content[name] = read_content(folder / name, FILE_MAX)
        except (OSError, Unreadable) as error:
            raise rejected(folder / name, error, COPY_AGAIN) from error
        if digest(content[name]) != manifest["files"].get(name):
            raise InputRejected(
                f"{folder / name} was altered",
                "its sha256 is not the manifest's",
                COPY_AGAIN,
            )
        if name in plates and not _is_image(content[name], manifest["size"]):
            raise InputRejected(
                f"{folder / name} is not a usable plate",
                f"it is not a JPEG image of {manifest['size']} px a side",
                COPY_AGAIN,
            )
    size, count = sum(len(content[name]) for name in plates), manifest["size"] ** 2 * len(plates)
    if count > PLATE_PIXELS_PER_BYTE * size + PLATE_PIXELS_FREE:
        raise InputRejected(
            f"{folder / 'plates'} expands to {count / 1e6:.0f} million px",
            f"its files have {size} bytes",
            COPY_AGAIN,
        )
    return content


def _expression_channels(folder: Path, manifest: dict[str, Any]) -> tuple[ExpressionChannels, str]:
    """Return the expression channels of a bundle, and the name of their tensor."""
    if manifest["schema"] == BLINK_SCHEMA:
        return BLINK_ONLY, "blink"
    try:
        return ExpressionChannels.from_dict(manifest.get("expression")), "expression"
    except (ValueError, TypeError) as error:
        raise InputRejected(
            f"{folder / 'manifest.json'} does not describe an avatar",
            f"expression: {error}",
            COPY_AGAIN,
        ) from error


def _is_image(content: bytes, size: int) -> bool:
    """Return whether a file's header is that of a JPEG image of size x size px."""
    try:
        return content.startswith(b"\xff\xd8") and image_size(content) == (size, size)
    except Unreadable:
        return False


def digest(content: bytes) -> str:
    """Return the sha256 of a file's content, hexadecimal."""
    return hashlib.sha256(content).hexdigest()

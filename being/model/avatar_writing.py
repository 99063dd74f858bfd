"""Writing of avatar bundles: a trained model with the poses of its clip (`being.model.avatar`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from being.config import Config
from being.conventions import FPS
from being.data.clip import Clip
from being.data.dataset import Dataset
from being.data.expression_channels import BLINK_ONLY, ExpressionChannels
from being.data.surround import Surround, Torsos, surround_of, torsos_of
from being.files import new_folder, save_tensors, write_json
from being.model.avatar import LICENCE_NOTE, digest, load_avatar
from being.model.avatar_manifest import SCHEMA
from being.model.avatar_parts import write_parts
from being.model.bases import BASES_FILE, Bases
from being.model.talking_head import TalkingHead
from being.model.voice_to_mouth import LIVE_VOICE_FILE, VOICE_FILE, VoiceToMouth


@dataclass
class PoseLoop:
    """Camera, expression and plate of consecutive frames of one clip, for a bundle."""

    name: str
    size: int  # px
    focal: float  # px
    world_to_camera: Tensor  # [P, 4, 4] float32
    expression: Tensor  # [P, E] float32, the blink in [0, 1] first
    plates: Iterable[np.ndarray]  # P images uint8 [S, S, 3] RGB
    consent: dict[str, Any] | None
    channels: ExpressionChannels = BLINK_ONLY
    torsos: Torsos | None = None
    surround: Surround | None = None


def save_avatar(
    path: Path,
    model: TalkingHead,
    config: Config,
    dataset: Dataset,
    clip: Clip,
    voice: VoiceToMouth | None = None,
    live_voice: VoiceToMouth | None = None,
) -> Path:
    """Write the bundle of a model trained on `clip`, with poses of the clip; as `write_avatar`."""
    poses = dataset.longest_face_run(round(config.avatar.seconds * FPS))
    width = model.network.expression_width
    expression = clip.expression[poses.start : poses.stop].masked_fill(clip.mouth_channels, 0.0)
    loop = PoseLoop(
        dataset.name,
        clip.size,
        clip.focal,
        clip.world_to_camera[poses.start : poses.stop],
        expression[:, :width],
        (clip.plates[i].permute(1, 2, 0).cpu().numpy() for i in poses),
        dataset.manifest.get("consent"),
        clip.channels.first(width),
        torsos_of(dataset, poses, clip.size),
        surround_of(dataset, poses) if config.avatar.surround else None,
    )
    return write_avatar(path, model, config, loop, voice, live_voice)


def write_avatar(
    path: Path,
    model: TalkingHead,
    config: Config,
    loop: PoseLoop,
    voice: VoiceToMouth | None = None,
    live_voice: VoiceToMouth | None = None,
) -> Path:
    """Write the bundle of a model and its pose loop at `path`; return the path.

    voice: the mapping to the mouth code, of a model that reads it; live_voice: the one from the
    features of `config.avatar.live_encoder`, if any. The folder appears complete or not at all.
    """
    assert (config.model.mouth == "code") == (voice is not None), config.model.mouth
    assert voice is not None or live_voice is None
    with new_folder(path) as part:
        _write_bundle(part, model, config, loop, voice, live_voice)
    return path


def _write_bundle(
    folder: Path,
    model: TalkingHead,
    config: Config,
    loop: PoseLoop,
    voice: VoiceToMouth | None,
    live_voice: VoiceToMouth | None,
) -> None:
    # Weights, poses and plates.
    (folder / "plates").mkdir()
    save_tensors(folder / "model.safetensors", model.state_dict())
    poses = {"world_to_camera": loop.world_to_camera, "expression": loop.expression}
    save_tensors(folder / "poses.safetensors", poses)
    if voice is not None:
        voice.save(folder / VOICE_FILE)
    if live_voice is not None:
        live_voice.save(folder / LIVE_VOICE_FILE)
    for k, plate in enumerate(loop.plates):
        Image.fromarray(plate).save(
            folder / f"plates/{k:06d}.jpg", quality=config.avatar.plate_quality, subsampling=0
        )

    parts = write_parts(folder, loop.torsos, loop.surround)

    # The manifest, with the sha256 of the files.
    manifest = {
        "schema": SCHEMA,
        "name": loop.name,
        "size": loop.size,
        "fps": FPS,
        "focal": loop.focal,
        "encoder": config.data.encoder,
        "audio_width": model.network.audio_width,
        "expression": loop.channels.to_dict(),
        "model": config.model.to_dict(),
        "poses": len(loop.expression),
        "gaussians": len(model.gaussians),
        "consent": loop.consent,
        "files": file_digests(folder),
        "licence": LICENCE_NOTE,
        **parts,
    }
    if live_voice is not None:
        manifest["live_encoder"] = config.avatar.live_encoder
    write_json(folder / "manifest.json", manifest)


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a bundle but its manifest, by its path inside."""
    return {
        str(file.relative_to(folder)): digest(file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / "manifest.json"
    }


def add_parts(path: Path, torsos: Torsos, surround: Surround | None) -> Path:
    """Write the bundle at `path` again with mattes and, if given, a surround; return its folder.

    Both are of the bundle's own poses. It appears complete or not at all.
    """
    return _add(path, lambda part: write_parts(part, torsos, surround))


def add_bases(path: Path, bases: Bases, figures: dict[str, Any]) -> Path:
    """Write the bundle at `path` again with these bases; return its folder.

    figures: JSON types, what the bases keep. It appears complete or not at all.
    """

    def write(part: Path) -> dict[str, Any]:
        bases.save(part / BASES_FILE)
        return {"bases": {"count": bases.count, **figures}}

    return _add(path, write)


def _add(path: Path, write: Callable[[Path], dict[str, Any]]) -> Path:
    """Write the bundle at `path` again with the parts of `write`; return its folder.

    write: writes the files into the new folder and returns their entries of the manifest.
    """
    avatar = load_avatar(path)
    with new_folder(avatar.path) as part:
        for name in avatar.manifest["files"]:
            (part / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(avatar.path / name, part / name)
        manifest = {**avatar.manifest, **write(part)}
        write_json(part / "manifest.json", {**manifest, "files": file_digests(part)})
    return avatar.path

"""What a view of an avatar shows: its Gaussians at rest and driven, tri-planes and camera path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from being.console import console
from being.data.dataset import Dataset
from being.errors import BeingError
from being.model.avatar import Avatar, load_avatar
from being.model.triplane import PlaneGrid
from being.provenance.content_credentials import configured_key
from being.provenance.file_marks import file_marks
from being.provenance.mark import Mark
from being.runs.run_directory import Run
from being.sample import sample_clip
from being.view.content import CameraPath, Cloud, Content, Mesh, Picture
from being.view.driven_frame import Speech, driven_gaussians

PLANE_NAMES = ("xy (front)", "xz (from above)", "yz (from the side)")
PLANE_ROWS_MAX, PLANE_PX = 6, 256  # resolutions that are shown, and their pictures' side at most
# Colours of a tri-plane from its least to its largest value, RGB.
RAMP = (
    (13, 17, 45),
    (60, 40, 120),
    (150, 55, 120),
    (225, 105, 75),
    (250, 190, 90),
    (252, 250, 200),
)


def avatar_content(path: Path, audio: Path | None = None, frame: int | None = None) -> Content:
    """The content of the avatar, or of the run's avatar, at `path`.

    audio: drives the driven frame (default: the clip of the run; else the built-in sample). frame:
    of this audio (default: the loudest). Where the default audio cannot drive it, a warning says
    why, and there is no driven frame. Raises as `load_avatar`, and as `driven_gaussians` where
    audio or frame is given.
    """
    avatar = load_avatar(path)
    matrices = avatar.world_to_camera.numpy()
    cameras = CameraPath.of(matrices, avatar.focal, (avatar.size, avatar.size))
    whole = CameraPath(matrices, avatar.focal, avatar.size, avatar.size)
    eye, pose = whole.centres[whole.middle], whole.middle

    canonical = avatar.model.gaussians.activate()
    clouds, mesh = [Cloud.of("canonical", canonical, eye)], None
    speech = Speech(audio, str(audio)) if audio is not None else default_speech(path, avatar)
    try:
        driven, chosen = driven_gaussians(avatar, speech, pose, frame)
    except BeingError as error:
        if audio is not None or frame is not None:
            raise
        console.warn(f"the driven frame is left out: {error.message()}")
    else:
        clouds.append(Cloud.of("driven", driven, eye))
        mesh = _mesh_of(speech, chosen)

    facts = [
        f"{len(avatar.model.gaussians)} Gaussians, {avatar.pose_count} poses, {avatar.size} px, "
        f"speech encoder {avatar.manifest['encoder']}"
    ]
    if len(clouds) > 1:
        facts.append(f"Driven frame: frame {chosen} of {speech.label}, pose {pose}")
    if clouds[0].left_out:
        facts.append(f"{clouds[0].left_out} Gaussians with the smallest contribution are left out")
    return Content(
        kind="avatar",
        name=str(avatar.manifest["name"]),
        source=path,
        consent_note=avatar.consent_note,
        facts=facts,
        cameras=cameras,
        clouds=clouds,
        mesh=mesh,
        planes=plane_pictures(avatar.model.network.tri_plane.grid),
        marks=file_marks(Mark.of(avatar.manifest, None), configured_key()),
    )


def default_speech(path: Path, avatar: Avatar) -> Speech:
    """The audio of the clip on which the run at `path` was trained; else the built-in sample."""
    if (path / "run.json").is_file():
        try:
            dataset = Dataset.open(Run.open(path).dataset)
        except BeingError as error:
            console.warn(f"{error.what}; the built-in sample drives the frame instead")
        else:
            known = dataset.manifest["features"].get(avatar.manifest["encoder"], {})
            fits = known.get("width") == avatar.feature_width
            features = dataset.path / known["file"] if fits else None
            return Speech(dataset.audio_file, "the clip", features, dataset.path)
    return Speech(sample_clip(), "the built-in sample")


def _mesh_of(speech: Speech, frame: int) -> Mesh | None:
    """The tracked mesh of the clip's frame; None where the audio is not a clip's."""
    if speech.dataset is None:
        return None
    vertices, triangles = Dataset.open(speech.dataset).mesh
    if frame >= len(vertices):
        return None
    return Mesh.of(f"frame {frame} of the clip", vertices[frame], triangles)


def plane_pictures(grid: PlaneGrid) -> list[list[Picture]]:
    """Mean absolute value over the channels of each plane: a row of three for each resolution.

    All have one colour scale. The pictures are turned so that x is to the right, y up, and z to the
    right in yz and down in xz, like the head that faces the reader.
    """
    values = [
        [p.detach()[0].abs().mean(0).cpu().numpy() for p in row.parameters()] for row in grid.grids
    ]
    low = min(float(plane.min()) for row in values for plane in row)
    high = max(float(plane.max()) for row in values for plane in row)
    rows = []
    for row in values[:PLANE_ROWS_MAX]:
        pictures = []
        for number, (plane, name) in enumerate(zip(row, PLANE_NAMES, strict=True)):
            shown = coloured((oriented(plane, number) - low) / max(high - low, 1e-9))
            pictures.append(Picture(f"{name}, {len(plane)} cells a side", _small(shown)))
        rows.append(pictures)
    return rows


def _small(pixels: np.ndarray) -> np.ndarray:
    """A picture of at most PLANE_PX px a side."""
    if len(pixels) <= PLANE_PX:
        return pixels
    image = Image.fromarray(pixels).resize((PLANE_PX, PLANE_PX), Image.Resampling.BOX)
    return np.asarray(image)


def oriented(plane: np.ndarray, number: int) -> np.ndarray:
    """Plane `number` (xy, xz, yz) [side, side] as a picture seen by the reader.

    The first axis of a stored plane is the second coordinate, and both run from the maximum of the
    box to its minimum (`PlaneGrid.forward`).
    """
    if number == 0:  # columns x, rows y: x to the right, y up
        return plane[:, ::-1]
    if number == 1:  # columns x, rows z: x to the right, the face (large z) below
        return plane[::-1, ::-1]
    return plane.T[:, ::-1]  # columns y, rows z: y up, the face to the right


def coloured(values: np.ndarray) -> np.ndarray:
    """Values float [H, W] in [0, 1] as colours uint8 [H, W, 3], dark to light."""
    places = np.linspace(0, 1, len(RAMP))
    ramp = np.array(RAMP)
    channels = [np.interp(values, places, ramp[:, k]) for k in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)

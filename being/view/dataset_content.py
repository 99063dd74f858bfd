"""What a view of a dataset shows: the tracked mesh of a frame, the camera path, some frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.data.consent import consent_note
from being.data.dataset import Dataset
from being.data.manifest import PREPROCESS_AGAIN
from being.reading.content import Unreadable, rejected
from being.reading.images import decode_image, read_image_bytes
from being.view.content import CameraPath, Content, Mesh, Picture
from being.view.driven_frame import check_frame

SHOWN = 6  # frames, spread over the clip
SIDE = 320  # px, of their pictures at most


def dataset_content(path: Path, frame: int | None = None) -> Content:
    """The content of the dataset at `path`.

    frame: whose mesh is shown (default: one in the middle that shows a face). Raises as
    `Dataset.open`, UsageError for a frame that the clip does not have, InputRejected for a picture
    that cannot be read.
    """
    dataset = Dataset.open(path)
    check_frame(frame, dataset.frames, "the clip")
    if frame is None:
        run = dataset.longest_face_run(dataset.frames)
        frame = run[len(run) // 2] if len(run) else dataset.frames // 2
    vertices, triangles = dataset.mesh
    starts = tuple(start for start, _ in dataset.segments[1:])
    size = (dataset.manifest["width"], dataset.manifest["height"])
    shown = np.linspace(0, dataset.frames - 1, min(SHOWN, dataset.frames)).round().astype(int)
    missing = f", {len(dataset.missing)} without a face" if dataset.missing else ""
    return Content(
        kind="dataset",
        name=dataset.name,
        source=path,
        consent_note=consent_note(dataset.manifest.get("consent")),
        facts=[
            f"{dataset.frames} frames ({dataset.frames / FPS:.1f} s){missing}, "
            f"{size[0]} x {size[1]} px, focal length {dataset.focal:.0f} px",
            f"Mesh: {vertices.shape[1]} vertices, {len(triangles)} triangles, frame {frame}",
        ],
        cameras=CameraPath.of(dataset.world_to_camera, dataset.focal, size, starts),
        mesh=Mesh.of(f"frame {frame}", vertices[frame], triangles),
        frames=[_frame(dataset, int(k)) for k in np.unique([*shown, frame])],
    )


def _frame(dataset: Dataset, frame: int) -> Picture:
    """A small picture of a frame."""
    file = dataset.path / f"ori_imgs/{frame}.jpg"
    try:
        content, (width, height) = read_image_bytes(file)
        scale = min(1.0, SIDE / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = decode_image(content, "RGB", size).resize(size)
    except (OSError, Unreadable) as error:
        raise rejected(file, error, PREPROCESS_AGAIN) from error
    return Picture(f"frame {frame}, {frame / FPS:.1f} s", np.asarray(image))

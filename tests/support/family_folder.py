"""Writes a small directory in the ER-NeRF layout: a painted head under known cameras.

The grey value of an image's top left corner encodes its number. The fake landmarker reads the
number and returns the true landmarks of that image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from being.data.cameras import camera_to_world_json, euler_to_rotation
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import BLENDSHAPES, POINTS, Landmarks
from being.face.topology import FACE_OVAL, IBUG_68, LIP_LOWER
from being.media import write_wav

FRAMES, SIZE, FOCAL = 44, 128, 300.0
GREY_STEP = 5
BLUE, GREEN, RED, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)
BLACK, GREY = (0, 0, 0), (100, 100, 100)


@dataclass(frozen=True)
class Truth:
    """The true cameras, vertices and landmarks of the images."""

    euler: np.ndarray  # float32 [F, 3]
    trans: np.ndarray  # float32 [F, 3]
    vertices: np.ndarray  # float64 [F, 468, 3]
    points: np.ndarray  # float32 [F, 478, 3] px


def truth(frames: int = FRAMES, seed: int = 0) -> Truth:
    """The truth of a head that turns and talks."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(frames, 6)), 0)
    walk -= walk.mean(0)
    euler = (0.02 * walk[:, :3]).astype(np.float32)
    trans = (0.03 * walk[:, 3:] + [0.05, -0.1, -7.0]).astype(np.float32)
    rest = canonical_mesh()[0].astype(np.float64) / 10
    vertices = np.repeat(rest[None], frames, 0)
    below = rest[:, 1] < rest[LIP_LOWER, 1] + 0.02
    vertices[:, below, 1] -= 0.06 * (1 + np.sin(np.arange(frames)))[:, None]
    camera = np.einsum("fij,fvj->fvi", euler_to_rotation(euler), vertices) + trans[:, None]
    points = np.zeros((frames, POINTS, 3), np.float32)
    points[:, :468, :2] = (SIZE - 1) / 2 + FOCAL * camera[..., :2] / -camera[..., 2:] * [1, -1]
    points[:, 468:, :2] = points[:, :10, :2]
    return Truth(euler, trans, vertices, points)


class Landmarker:
    """A fake landmarker: the true landmarks of `write_folder`'s images, by their grey corner."""

    def __init__(self, known: Truth, offset: int = 0):
        self.known, self.offset = known, offset

    def track(self, frames, progress=None) -> Landmarks:
        """As `FaceLandmarker.track`."""
        numbers = [round(float(frames[i][:4, :4].mean()) / GREY_STEP) for i in range(len(frames))]
        points = self.known.points[numbers].copy()
        points[..., 0] -= self.offset
        return Landmarks(
            points,
            np.full((len(numbers), BLENDSHAPES), 0.1, np.float32),
            np.full(len(numbers), 0.9, np.float32),
        )


def paint(known: Truth, i: int, rich: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image uint8 [S, S, 3], parsing [S, S, 3] and torso [S, S, 4] of frame i.

    rich: parsing in TalkingGaussian's palette.
    """
    image = np.full((SIZE, SIZE, 3), (90, 120, 100), np.uint8)
    parsing = np.full((SIZE, SIZE, 3), WHITE, np.uint8)
    oval = known.points[i, FACE_OVAL, :2]
    centre = oval.mean(0)
    hair, face = (
        np.round(centre + grown * (oval - centre)).astype(np.int32) for grown in (1.25, 1.0)
    )
    chin = int(face[:, 1].max())
    for target, colours in (
        (image, ((60, 60, 160), (150, 110, 90), (60, 40, 30), (200, 150, 120))),
        (parsing, (RED, GREEN, BLACK if rich else BLUE, BLUE)),
    ):
        cv2.rectangle(target, (8, min(chin + 16, SIZE - 2)), (SIZE - 9, SIZE), colours[0], -1)
        cv2.rectangle(
            target,
            (int(centre[0]) - 12, chin - 10),
            (int(centre[0]) + 12, chin + 16),
            colours[1],
            -1,
        )
        cv2.fillPoly(target, [hair], colours[2])
        cv2.fillPoly(target, [face], colours[3])
    if rich:
        lips = known.points[i, [13, 14], :2].mean(0).astype(int)
        cv2.rectangle(
            parsing, tuple(int(v) for v in lips - 2), tuple(int(v) for v in lips + 2), GREY, -1
        )
    torso = np.zeros((SIZE, SIZE, 4), np.uint8)
    below = (parsing == RED).all(-1) | (parsing == GREEN).all(-1)
    torso[below] = [*(100, 80, 120), 255]
    image[:8, :8] = GREY_STEP * i
    return image, parsing, torso


def write_folder(
    folder: Path,
    known: Truth,
    *,
    rich: bool = False,
    first: int = 0,
    suffix: str = ".jpg",
    widths: dict[str, int] | None = None,
    blank: str = " ",
    vertices: bool = True,
    border: int | None = None,
) -> Path:
    """Write a family directory of a clip; returns `folder`.

    It has images, .lms, masks, torso, background, cameras, audio, features and au.csv. first:
    number of the first image. widths: file name -> width of speech features (default:
    aud_ds.npy of 29). border: first frame of the validation split.
    """
    frames = len(known.euler)
    for name in ("ori_imgs", "parsing", "torso_imgs"):
        (folder / name).mkdir(parents=True)
    for i in range(frames):
        image, parsing, torso = paint(known, i, rich)
        save(folder / f"ori_imgs/{i + first}{suffix}", image)
        save(folder / f"parsing/{i + first}.png", parsing)
        save(folder / f"torso_imgs/{i + first}.png", torso)
        np.savetxt(folder / f"ori_imgs/{i + first}.lms", known.points[i, IBUG_68, :2], "%f")
    save(folder / "bc.jpg", np.full((SIZE, SIZE, 3), (90, 120, 100), np.uint8))
    track = {
        "id": torch.zeros(1, 100),
        "exp": torch.zeros(frames, 79),
        "euler": torch.from_numpy(known.euler),
        "trans": torch.from_numpy(known.trans),
        "focal": torch.tensor([FOCAL]),
    }
    if vertices:
        track["vertices"] = torch.from_numpy(known.vertices.astype(np.float32))
    torch.save(track, folder / "track_params.pt")
    write_transforms(folder, known, border=border)
    rng = np.random.default_rng(1)
    for file, width in (widths or {"aud_ds.npy": 29}).items():
        np.save(folder / file, rng.normal(size=(frames, 16, width)).astype(np.float32))
    write_wav(folder / "aud.wav", (0.1 * rng.normal(size=frames * 640)).astype(np.float32))
    names = ["frame", "confidence", "AU01_r", "AU25_r", "AU45_r"]
    rows = [f"{i + 1}, 0.98, 0.5, {i % 5:.2f}, {i % 3:.2f}" for i in range(frames)]
    (folder / "au.csv").write_text(
        "\n".join([",".join([names[0], *(blank + n for n in names[1:])]), *rows]) + "\n"
    )
    return folder


def write_transforms(
    folder: Path,
    known: Truth,
    *,
    border: int | None = None,
    ids: int = 0,
    audio: int = 0,
    trans: np.ndarray | None = None,
) -> None:
    """Write the split files; `ids` and `audio` are added to img_id and aud_id."""
    frames = len(known.euler)
    matrices = camera_to_world_json(known.euler, known.trans if trans is None else trans)
    border = frames * 10 // 11 if border is None else border
    for part, numbers in (("train", range(border)), ("val", range(border, frames))):
        listed = [
            {
                "img_id": i + ids,
                "aud_id": i + ids + audio,
                "transform_matrix": matrices[i].tolist(),
                "face_rect": [1, 2, 3, 4],
            }
            for i in numbers
        ]
        (folder / f"transforms_{part}.json").write_text(
            json.dumps({"focal_len": FOCAL, "cx": SIZE / 2, "cy": SIZE / 2, "frames": listed})
        )


def save(path: Path, image: np.ndarray) -> None:
    """Write an image uint8 [H, W, 3] RGB or [H, W, 4] RGBA."""
    order = [2, 1, 0, 3][: image.shape[2]]
    cv2.imwrite(str(path), image[..., order])

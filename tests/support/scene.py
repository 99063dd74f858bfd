"""A tiny synthetic talking head with known truth, written as a dataset: what the training tests
learn from.

A few hundred Gaussians on a half ellipsoid; those of the "mouth" move down as far as the sound
says, the whole turns left and right. Pictures are rendered with the torch twin, so a trained model
can in principle reach them exactly.
"""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial import Delaunay

from being.conventions import PARSING_BACKGROUND, PARSING_HEAD, SAMPLE_RATE
from being.data.cameras import world_to_camera
from being.media import write_wav
from being.splat import Cameras, Gaussians, composite, rasterize

SIZE, FRAMES, WIDTH, FOCAL = 48, 44, 6, 110.0


def opening(frames: int = FRAMES) -> np.ndarray:
    """How far the mouth is open in each frame [F], 0 to 1."""
    t = np.arange(frames)
    return 0.5 + 0.5 * np.sin(0.9 * t) * np.cos(0.23 * t)


def head_mesh(count: int = 468) -> tuple[np.ndarray, np.ndarray]:
    """A half ellipsoid: vertices [V, 3] in head units and triangles [T, 3]."""
    k = np.arange(count) + 0.5
    radius, angle = np.sqrt(k / count), np.pi * (1 + 5**0.5) * k
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    vertices = np.stack([0.7 * x, 0.9 * y, 0.5 * np.sqrt(np.clip(1 - radius**2, 0, 1))], 1)
    return vertices, Delaunay(np.stack([x, y], 1)).simplices


def write_scene(
    folder: Path, frames: int = FRAMES, seed: int = 0, breaks: tuple[int, ...] = ()
) -> Path:
    """Write the dataset at `folder` and return it; a segment begins at each frame of `breaks`."""
    rng = np.random.default_rng(seed)
    for name in ("ori_imgs", "parsing", "torso_imgs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rest, triangles = head_mesh()
    wide = opening(frames)
    mouth = np.exp(-((rest[:, 0] / 0.3) ** 2) - ((rest[:, 1] + 0.4) / 0.2) ** 2)
    vertices = rest[None] - wide[:, None, None] * mouth[None, :, None] * np.array([0, 0.15, 0])
    euler = np.stack([0 * wide, 0.2 * np.sin(0.15 * np.arange(frames)), 0 * wide], 1)
    trans = np.tile([0.0, 0.0, -7.0], (frames, 1))
    matrices = torch.from_numpy(world_to_camera(euler, trans))
    colour = np.clip(0.5 + 0.3 * rng.normal(size=(len(rest), 3)), 0, 1)
    colour[mouth > 0.5] = (0.7, 0.1, 0.1)
    sh = torch.from_numpy((colour - 0.5) / 0.28209479)[None, :, None].float()
    gaussians = Gaussians(
        torch.from_numpy(vertices).float(),
        torch.tensor([1.0, 0, 0, 0]).repeat(1, len(rest), 1),
        torch.full((1, len(rest), 3), 0.07),
        torch.full((1, len(rest)), 0.9),
        sh,
    )
    output = rasterize(gaussians, Cameras(matrices, FOCAL, SIZE, SIZE), backend="reference")
    background = np.full((SIZE, SIZE, 3), (90, 120, 100), np.uint8)
    plate = torch.from_numpy(background).permute(2, 0, 1)[None].float() / 255
    pictures = (composite(output, plate).clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"ori_imgs/{i}.jpg", quality=98, subsampling=0)
        inside = output.alpha[i, 0].numpy() > 0.5
        parsing = np.where(inside[..., None], PARSING_HEAD, PARSING_BACKGROUND).astype(np.uint8)
        Image.fromarray(parsing).save(folder / f"parsing/{i}.png")
        Image.fromarray(np.zeros((SIZE, SIZE, 4), np.uint8)).save(folder / f"torso_imgs/{i}.png")
    Image.fromarray(background).save(folder / "bc.jpg", quality=98)
    steps = np.zeros((2 * frames + 16, WIDTH), np.float32)
    steps[8 : 8 + 2 * frames, 0] = np.repeat(wide, 2)
    steps[:, 1:] = 0.1 * rng.normal(size=(len(steps), WIDTH - 1))
    np.save(folder / "aud_hama.npy", np.stack([steps[2 * i : 2 * i + 16] for i in range(frames)]))
    write_wav(
        folder / "aud.wav",
        0.1 * np.sin(np.arange(frames * SAMPLE_RATE // 25) * 0.2).astype(np.float32),
    )
    project = (
        np.einsum("fij,fvj->fvi", matrices[:, :3, :3].numpy(), vertices)
        + matrices[:, None, :3, 3].numpy()
    )
    pixels = project[..., :2] / project[..., 2:] * FOCAL + (SIZE - 1) / 2
    points = np.zeros((frames, 478, 3), np.float32)
    points[:, :468, :2] = pixels
    points[:, list(range(468, 478)), :2] = pixels[:, :10]
    np.savez(folder / "landmarks.npz", points=points, confidence=np.ones(frames, np.float32))
    np.savez(folder / "mesh.npz", vertices=vertices.astype(np.float32), triangles=triangles)
    torch.save(
        {
            "euler": torch.from_numpy(euler).float(),
            "trans": torch.from_numpy(trans).float(),
            "focal": torch.tensor([FOCAL]),
        },
        folder / "track_params.pt",
    )
    with open(folder / "au.csv", "w", newline="") as file:
        csv.writer(file).writerows([["frame", " AU45_r"], *[[i, 0.0] for i in range(frames)]])
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "name": "scene",
                "fps": 25,
                "width": SIZE,
                "height": SIZE,
                "frames": frames,
                "segments": [list(s) for s in pairwise((0, *breaks, frames))],
                "missing": [],
                "consent": None,
                "features": {"hama": {"file": "aud_hama.npy", "width": WIDTH}},
            }
        )
    )
    return folder

"""Pictures of a view: the head from several sides, the face mesh, the camera path."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

from being.splat import Cameras, composite, rasterize
from being.view.content import Cloud, Content, Mesh, Picture

YAWS = (-75, -50, -25, 0, 25, 50, 75)  # degrees: the camera goes round the head, 0 is in front
PAPER = (251, 251, 250)
BACKDROP = (226, 229, 232)
INK, QUIET, LINE = (28, 33, 38), (92, 102, 112), (206, 210, 214)
MESH_COLOUR = (20, 110, 90)
PATH_START, PATH_END = (63, 143, 210), (209, 73, 91)
FILLED = 0.86  # share of half a picture that the head's radius takes
SUPERSAMPLING = 3  # of drawn lines
SPLAT_BATCH = 4  # views that are rasterized at once


def view_matrices(content: Content, yaws: tuple[int, ...] = YAWS) -> tuple[np.ndarray, float]:
    """Cameras round the head, world to camera float32 [n, 4, 4], and their distance, head units.

    They are at the height and the distance of the clip's middle camera.
    """
    centre = content.centre
    offset = content.cameras.centres[content.cameras.middle] - centre
    distance = max(float(np.linalg.norm(offset)), 3 * content.radius)
    pitch = float(np.arctan2(offset[1], np.hypot(offset[0], offset[2])))
    matrices = np.zeros((len(yaws), 4, 4))
    for matrix, yaw in zip(matrices, np.deg2rad(yaws), strict=True):
        cos, sin = np.cos(yaw), np.sin(yaw)
        about_y = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        cos, sin = np.cos(pitch), np.sin(pitch)
        about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        rotation = np.diag([1.0, -1.0, -1.0]) @ about_x @ about_y
        matrix[:3, :3], matrix[3, 3] = rotation, 1
        matrix[:3, 3] = np.array([0, 0, distance]) - rotation @ centre
    return matrices.astype(np.float32), distance


def turntable(
    content: Content, cloud: Cloud, side: int, yaws: tuple[int, ...] = YAWS
) -> list[Picture]:
    """The Gaussians from the sides `yaws`, by the rasterizer; pictures of `side` px."""
    matrices, distance = view_matrices(content, yaws)
    focal = FILLED * side / 2 * distance / content.radius
    plate = torch.tensor(BACKDROP).float()[None, :, None, None].expand(1, 3, side, side) / 255
    pictures = []
    with torch.no_grad():
        for first in range(0, len(yaws), SPLAT_BATCH):
            part = torch.from_numpy(matrices[first : first + SPLAT_BATCH])
            output = rasterize(cloud.gaussians, Cameras(part, focal, side, side))
            images = composite(output, plate).clamp(0, 1).mul(255).add(0.5).byte()
            pictures += list(images.permute(0, 2, 3, 1).numpy())
    return [Picture(_side_name(yaw), pixels) for yaw, pixels in zip(yaws, pictures, strict=True)]


def mesh_turntable(
    content: Content, mesh: Mesh, side: int, yaws: tuple[int, ...] = YAWS
) -> list[Picture]:
    """The edges of the mesh from the sides `yaws`; pictures of `side` px."""
    matrices, distance = view_matrices(content, yaws)
    edges = mesh.edges
    focal = FILLED * side / 2 * distance / content.radius
    pictures = []
    for yaw, matrix in zip(yaws, matrices, strict=True):
        seen = mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3]
        pixels = focal * seen[:, :2] / np.maximum(seen[:, 2:], 1e-3) + (side - 1) / 2
        near = seen[:, 2].min(), seen[:, 2].max()
        image = Image.new("RGB", (side * SUPERSAMPLING, side * SUPERSAMPLING), BACKDROP)
        draw = ImageDraw.Draw(image)
        # Far edges first, paler than near ones.
        depth = seen[edges, 2].mean(1)
        for k in np.argsort(-depth):
            share = (depth[k] - near[0]) / max(near[1] - near[0], 1e-6)
            colour = _mixed(MESH_COLOUR, BACKDROP, 0.75 * float(share))
            line = [tuple((SUPERSAMPLING * p).tolist()) for p in pixels[edges[k]]]
            draw.line(line, fill=colour, width=2)
        small = image.resize((side, side), Image.Resampling.BOX)
        pictures.append(Picture(_side_name(yaw), np.asarray(small)))
    return pictures


def camera_path(content: Content, width: int, height: int) -> list[Picture]:
    """The cameras and the head from above and from the side; pictures of width x height px.

    The path goes from blue to red. The distance is to the right in both.
    """
    centres, radius = content.cameras.centres, content.radius
    points = content.points[:: max(1, len(content.points) // 4000)]
    pictures = []
    for label, axes in (("from above", (2, 0)), ("from the side", (2, 1))):
        everything = np.concatenate([centres, points])[:, axes]
        low, high = everything.min(0) - 0.4 * radius, everything.max(0) + 0.4 * radius
        scale = SUPERSAMPLING * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
        middle = (low + high) / 2
        half = np.array([width, height]) * SUPERSAMPLING / 2

        def place(positions: np.ndarray, axes=axes, middle=middle, scale=scale, half=half) -> list:
            flat = (positions[:, axes] - middle) * scale
            # Up in the picture: y from the side, and from above the head's left.
            return [tuple(p) for p in (half + flat * np.array([1, -1])).tolist()]

        size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
        image = Image.new("RGB", size, BACKDROP)
        draw = ImageDraw.Draw(image)
        for x, y in place(points):
            draw.rectangle([x - 1, y - 1, x + 1, y + 1], fill=QUIET)
        for pose in np.unique(np.linspace(0, len(centres) - 1, 5).round().astype(int)):
            corners = place(content.cameras.frustum(int(pose), 2 * radius))
            for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
                draw.line([corners[a], corners[b]], fill=QUIET, width=2)
        _draw_path(draw, [place(line) for line in content.cameras.lines])
        small = image.resize((width, height), Image.Resampling.BOX)
        pictures.append(Picture(label, np.asarray(small)))
    return pictures


def _draw_path(draw: ImageDraw.ImageDraw, lines: list[list[tuple[float, float]]]) -> None:
    count, done = sum(map(len, lines)), 0
    for line in lines:
        for a, b in zip(line, line[1:], strict=False):
            colour = _mixed(PATH_START, PATH_END, done / max(count - 1, 1))
            draw.line([a, b], fill=colour, width=4)
            done += 1
        if len(line) == 1:
            x, y = line[0]
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=PATH_START)
        done += 1


def _side_name(yaw: int) -> str:
    """Where the camera stands, in words of the reader: the picture's left is the head's right."""
    if yaw == 0:
        return "front"
    return f"{abs(yaw)}\N{DEGREE SIGN} {'left' if yaw < 0 else 'right'}"


def _mixed(one: tuple[int, ...], other: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))

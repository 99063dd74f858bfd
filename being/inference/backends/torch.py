"""The plain model as a head for the engine: what runs where there are no kernels, and what they are
held to.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.data.conditions import Conditions
from being.inference.feature_pool import Sounds
from being.inference.plates import Plates
from being.model.avatar import Avatar
from being.model.gaussiantalker import Offsets
from being.splat import Cameras, Gaussians, RenderOutput, composite, rasterize

KINDS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PlainHead:
    """One avatar rendered by the model's own modules; each step of a frame is a method, so that it
    can be timed.
    """

    def __init__(self, avatar: Avatar, camera: Tensor, precision: str = "float32"):
        self.avatar, self.camera, self.kind, self.precision = (
            avatar,
            camera,
            KINDS[precision],
            precision,
        )
        self.device, self.size = camera.device, avatar.size
        self.plates = Plates(avatar)
        self.face = avatar.expression.cpu().numpy()
        self.network: Any = avatar.model.network  # or compiled
        with torch.no_grad():
            self.queries = avatar.model.network.queries(avatar.model.gaussians.means)
        self.sounds = Sounds(avatar.model.network.audio_width, self.device)

    def conditions(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Conditions:
        """What drives the frames."""
        at, pose = (
            torch.from_numpy(np.asarray(index, np.int64)).to(self.device) for index in (rows, poses)
        )
        face = torch.from_numpy(np.asarray(expression, np.float32)).to(self.device)
        return Conditions(self.sounds.table[at].swapaxes(2, 3), face, self.camera[pose])

    def tokens(self, conditions: Conditions) -> Tensor:
        """[B, 4, D]."""
        return self.network.tokens(conditions)

    def deform(self, tokens: Tensor) -> Offsets:
        """Offsets of every Gaussian, [B, N, ...]."""
        return self.network.deform(self.queries, tokens)

    def activate(self, offsets: Offsets) -> Gaussians:
        """The frames' Gaussians, [B, N, ...]."""
        return self.avatar.model.gaussians.activate(offsets.float())

    def splat(self, gaussians: Gaussians, poses: np.ndarray) -> RenderOutput:
        """Colour and alpha, [B, 3, S, S] and [B, 1, S, S]."""
        matrices = self.avatar.world_to_camera[
            torch.from_numpy(np.asarray(poses, np.int64)).to(self.device)
        ]
        return rasterize(gaussians, Cameras(matrices, self.avatar.focal, self.size, self.size))

    def behind(self, poses: np.ndarray) -> Tensor:
        """The pictures behind the head, float32 [B, 3, S, S] in [0, 1]."""
        return (
            torch.from_numpy(self.plates.of(poses)).to(self.device).permute(0, 3, 1, 2).float()
            / 255
        )

    def pictures(self, output: RenderOutput, plates: Tensor) -> np.ndarray:
        """uint8 [B, S, S, 3] in host memory."""
        picture = composite(output, plates).clamp_(0, 1).mul_(255).add_(0.5).byte()
        return picture.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @torch.no_grad()
    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Made:
        """B frames: rows int32 [B, 8] of the table of sounds, poses int64 [B], expression float32
        [B, E].
        """
        narrow = (
            torch.autocast(self.device.type, self.kind) if self.kind else contextlib.nullcontext()
        )
        with narrow:
            offsets = self.deform(self.tokens(self.conditions(rows, poses, expression)))
        return Made(self.pictures(self.splat(self.activate(offsets), poses), self.behind(poses)))

    def plates_of(self, poses: np.ndarray) -> None:
        """Decode the plates of these poses, so that no frame waits for its own."""
        for pose in np.unique(poses):
            self.plates[int(pose)]

    def warm(self, frames: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to free."""


class Made:
    """Frames that are rendered."""

    ready = True

    def __init__(self, made: np.ndarray):
        self.made = made

    def pictures(self) -> np.ndarray:
        """uint8 [B, S, S, 3]."""
        return self.made

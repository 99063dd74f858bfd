"""An avatar baked for rendering: sound in, uint8 frames out.

One frame is: audio window + expression + pose -> offsets -> splats -> composite over the pose's plate -> uint8. What
does not depend on the frame (the tri-plane queries) is computed once at load. Frames stream: memory does not grow
with length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.audio.features import encode, frame_count, windows
from being.data.cameras import camera_numbers
from being.data.conditions import Conditions
from being.errors import InputRejected
from being.inference.pose_path import pose_path
from being.model.avatar import Avatar, load_avatar
from being.model.gaussiantalker import Offsets
from being.splat import Cameras, Gaussians, RenderOutput, composite, rasterize

BATCH = 8


class Engine:
    """Renders one avatar. The steps of a frame are methods of their own, so that a benchmark can time each."""

    def __init__(self, avatar: Avatar):
        self.avatar = avatar
        self.device = avatar.world_to_camera.device
        self.camera = torch.from_numpy(camera_numbers(avatar.world_to_camera.cpu().numpy())).to(self.device)
        with torch.no_grad():
            self.queries = avatar.model.network.queries(avatar.model.gaussians.means)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Engine:
        """The engine of the bundle, or of the run's bundle, at `path`."""
        return cls(load_avatar(path, device))

    def conditions(self, features: Tensor, frames: Tensor, poses: Tensor,
                   expression: Tensor | None = None) -> Conditions:
        """What drives `frames` [B] of sound features [F, 16, C] in `poses` [B], by default with their expression."""
        face = self.avatar.expression[poses] if expression is None else expression
        return Conditions(windows(features, frames), face, self.camera[poses])

    def tokens(self, conditions: Conditions) -> Tensor:
        """[B, 4, D]."""
        return self.avatar.model.network.tokens(conditions)

    def deform(self, tokens: Tensor) -> Offsets:
        """Offsets of every Gaussian, [B, N, ...]."""
        return self.avatar.model.network.deform(self.queries, tokens)

    def activate(self, offsets: Offsets) -> Gaussians:
        """The frames' Gaussians, [B, N, ...]."""
        return self.avatar.model.gaussians.activate(offsets)

    def splat(self, gaussians: Gaussians, poses: Tensor) -> RenderOutput:
        """Colour and alpha, [B, 3, S, S] and [B, 1, S, S]."""
        size = self.avatar.size
        return rasterize(gaussians, Cameras(self.avatar.world_to_camera[poses], self.avatar.focal, size, size))

    def plates(self, poses: Tensor) -> Tensor:
        """The pictures behind the head, float32 [B, 3, S, S] in [0, 1]."""
        pictures = np.stack([self.avatar.plate(int(pose)) for pose in poses])
        return torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() / 255

    def pictures(self, output: RenderOutput, plates: Tensor) -> np.ndarray:
        """uint8 [B, S, S, 3] in host memory."""
        picture = composite(output, plates).clamp_(0, 1).mul_(255).add_(0.5).byte()
        return picture.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @torch.no_grad()
    def render(self, features: Tensor, frames: Tensor, poses: Tensor, expression: Tensor | None = None) -> np.ndarray:
        """Pictures uint8 [B, S, S, 3] of `frames` [B] of the sound features [F, 16, C] in `poses` [B], by default with
        the poses' expression [B, E]."""
        gaussians = self.activate(self.deform(self.tokens(self.conditions(features, frames, poses, expression))))
        return self.pictures(self.splat(gaussians, poses), self.plates(poses))

    def encode(self, samples: np.ndarray) -> Tensor:
        """Speech features [F, 16, C] of sound float32 [T] at 16 kHz, one row for every frame that it fills.

        Raises InputRejected when the avatar was trained on features of another width.
        """
        name, width = self.avatar.manifest["encoder"], self.avatar.manifest["audio_width"]
        features = encode(samples, frame_count(samples), name)
        if features.shape[2] != width:
            raise InputRejected(f"the avatar {self.avatar.path} hears {width}-wide speech features",
                                f"those of the encoder '{name}' are {features.shape[2]} wide", "Train it again")
        return torch.from_numpy(features).to(self.device)

    def stream(self, features: Tensor, batch: int = BATCH, expression: np.ndarray | None = None
               ) -> Iterator[np.ndarray]:
        """Frames uint8 [S, S, 3], one for every row of `features`; poses go back and forth.

        expression: float32 [F, E] of each frame, by default that of its pose.
        """
        path = torch.from_numpy(pose_path(len(features), self.avatar.poses)).to(self.device)
        for start in range(0, len(features), batch):
            frames = torch.arange(start, min(start + batch, len(features)), device=self.device)
            yield from self.render(features, frames, path[frames], None if expression is None else torch.from_numpy(
                expression[start:start + batch]).to(self.device))

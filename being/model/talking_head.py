"""A whole avatar model: canonical Gaussians and the network that moves them; what is trained, saved
and rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from being.config import ModelConfig
from being.data.conditions import Conditions
from being.model.gaussians import NAMES, CanonicalGaussians
from being.model.gaussiantalker import GaussianTalker, Offsets
from being.splat import Cameras, Gaussians, PairCapacity, RenderOutput, rasterize


@dataclass
class Rendering:
    """A rendered batch and what made it."""

    output: RenderOutput
    gaussians: Gaussians
    offsets: Offsets | None


class TalkingHead(nn.Module):
    """Canonical Gaussians and GaussianTalker's network over them."""

    gaussians: CanonicalGaussians
    network: GaussianTalker

    def __init__(
        self,
        config: ModelConfig,
        audio_width: int,
        gaussians: CanonicalGaussians,
        expression_width: int = 1,
    ):
        super().__init__()
        self.gaussians = gaussians
        self.network = GaussianTalker(config, audio_width, expression_width)
        self.planes_alone = (
            False  # the reference's coarse stage: explicit opacity and SH count nothing
        )
        self.set_box(gaussians.means.detach())

    def set_box(self, points: Tensor) -> None:
        """Fit the tri-planes' box to `points` [N, 3] (kept afterwards: checkpoints mean the same)."""
        self.network.tri_plane.grid.aabb.copy_(
            torch.stack([points.max(0).values, points.min(0).values])
        )

    def canonical(self) -> Gaussians:
        """The coarse stage's Gaussians [1, N, ...]: explicit opacity and SH plus what the planes
        add to them.
        """
        opacity, sh = self._from_planes()
        zero = torch.zeros((), device=opacity.device)
        return self.gaussians.activate(Offsets(zero, zero, zero, opacity[None], sh[None]))

    def _from_planes(self) -> tuple[Tensor, Tensor]:
        """What is added to the explicit opacity logits [N, 1] and SH [N, K, 3]."""
        opacity, sh = self.network.tri_plane.canonical(self.gaussians.means)
        if not self.planes_alone:
            return opacity, sh
        return opacity - self.gaussians.opacity_logits, sh - self.gaussians.sh

    @torch.no_grad()
    def bake_canonical(self) -> None:
        """End of the coarse stage: write the planes' opacity and SH into the explicit parameters."""
        opacity, sh = self._from_planes()
        self.gaussians.opacity_logits += opacity
        self.gaussians.sh_dc += sh[:, :1]
        self.gaussians.sh_rest += sh[:, 1:]

    def forward(
        self,
        conditions: Conditions | None,
        world_to_camera: Tensor,
        focal: float,
        size: int,
        sh_degree: int | None = None,
        screen_offsets: Tensor | None = None,
        low_precision: bool = False,
        room: PairCapacity | None = None,
    ) -> Rendering:
        """Render S x S pictures: talking frames of `conditions`, or without them the coarse stage's
        canonical head.

        `world_to_camera` [B, 4, 4], `focal` in px; `low_precision` runs the network in bfloat16;
        `room`: see `rasterize`.
        """
        offsets = None
        if conditions is not None:
            with torch.autocast(world_to_camera.device.type, torch.bfloat16, enabled=low_precision):
                offsets = self.network(self.gaussians.means, conditions).float()
        gaussians = self.canonical() if offsets is None else self.gaussians.activate(offsets)
        output = rasterize(
            gaussians,
            Cameras(world_to_camera, focal, size, size),
            sh_degree=sh_degree,
            screen_offsets=screen_offsets,
            room=room,
        )
        return Rendering(output, gaussians, offsets)

    @classmethod
    def from_state(
        cls, config: ModelConfig, audio_width: int, state: dict[str, Tensor]
    ) -> TalkingHead:
        """The model of a saved state dict (its numbers of Gaussians and of expression channels are
        read from it).
        """
        gaussians = CanonicalGaussians(*(state[f"gaussians.{name}"] for name in NAMES))
        lift = state.get("network.expression_lift.weight")
        model = cls(config, audio_width, gaussians, 1 if lift is None else 1 + lift.shape[1])
        model.load_state_dict(state)
        return model

"""The trainable head: canonical Gaussians, and the network that deforms them for each frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from being.config import ModelConfig
from being.data.conditions import Conditions
from being.model.gaussians import PARAMETER_NAMES, CanonicalGaussians
from being.model.gaussiantalker import GaussianTalker, Offsets
from being.splat import Cameras, Gaussians, PairCapacity, RenderOutput, rasterize


class ModelMismatch(RuntimeError):
    """A state dict is not one of the model that its config describes."""


@dataclass
class Rendering:
    """A rendered batch, with the Gaussians and the offsets that it was rendered from."""

    output: RenderOutput
    gaussians: Gaussians
    offsets: Offsets | None


class TalkingHead(nn.Module):
    """Canonical Gaussians and GaussianTalker's network over them."""

    gaussians: CanonicalGaussians
    network: GaussianTalker
    backend: str  # of the rasterizer: "auto" or a name that `being.splat.rasterize` knows

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
        self.backend = "auto"
        # True in GaussianTalker's own coarse stage: opacity and SH come from the tri-plane only.
        self.triplane_only = False
        # Takes the place of the network: gives the offsets of conditions. For measurements.
        self.deformation: Callable[[Conditions], Offsets] | None = None
        self.fit_box(gaussians.means.detach())

    def fit_box(self, points: Tensor) -> None:
        """Fit the tri-plane's box to `points` [N, 3].

        The box stays fixed during training, because the plane features are relative to it.
        """
        self.network.tri_plane.grid.aabb.copy_(
            torch.stack([points.max(0).values, points.min(0).values])
        )

    def canonical(self) -> Gaussians:
        """Return the coarse stage's Gaussians [1, N, ...].

        Their opacity and SH are the explicit parameters plus the tri-plane's contribution.
        """
        opacity, sh = self._triplane_contribution()
        zero = torch.zeros((), device=opacity.device)
        return self.gaussians.activate(Offsets(zero, zero, zero, opacity[None], sh[None]))

    def _triplane_contribution(self) -> tuple[Tensor, Tensor]:
        """Return what is added to the explicit opacity logits [N, 1] and SH [N, K, 3]."""
        opacity, sh = self.network.tri_plane.canonical(self.gaussians.means)
        if not self.triplane_only:
            return opacity, sh
        return opacity - self.gaussians.opacity_logits, sh - self.gaussians.sh

    @torch.no_grad()
    def bake_canonical(self) -> None:
        """End the coarse stage: add the tri-plane's opacity and SH to the explicit parameters."""
        opacity, sh = self._triplane_contribution()
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
        capacity: PairCapacity | None = None,
    ) -> Rendering:
        """Render images of S x S px: frames of `conditions`, or the coarse canonical head.

        conditions: of B frames; None renders the canonical head. world_to_camera [B, 4, 4]; focal
        in px; low_precision runs the network in bfloat16; sh_degree, screen_offsets and capacity as
        in `being.splat.rasterize`.
        """
        offsets = None
        if conditions is not None:
            with torch.autocast(world_to_camera.device.type, torch.bfloat16, enabled=low_precision):
                if self.deformation is None:
                    offsets = self.network(self.gaussians.means, conditions).float()
                else:
                    offsets = self.deformation(conditions)
        gaussians = self.canonical() if offsets is None else self.gaussians.activate(offsets)

        output = rasterize(
            gaussians,
            Cameras(world_to_camera, focal, size, size),
            sh_degree=sh_degree,
            screen_offsets=screen_offsets,
            backend=self.backend,
            capacity=capacity,
        )
        return Rendering(output, gaussians, offsets)

    @classmethod
    def from_state(
        cls, config: ModelConfig, audio_width: int, state: dict[str, Tensor]
    ) -> TalkingHead:
        """Return the model of a saved state dict.

        The numbers of Gaussians and of expression channels are read from the state. Raises
        ModelMismatch, before a layer is allocated, when the state is not one of this `config`.
        """
        channels = _check_state(config, audio_width, state)
        gaussians = CanonicalGaussians(*(state[f"gaussians.{name}"] for name in PARAMETER_NAMES))
        model = cls(config, audio_width, gaussians, channels)
        model.load_state_dict(state)
        return model


def _check_state(config: ModelConfig, audio_width: int, state: dict[str, Tensor]) -> int:
    """Return the number of expression channels of a state dict of this `config`.

    Raises ModelMismatch when a tensor is missing, is one too many or has another shape.
    """
    # The Gaussians: their number and their spherical harmonics.
    means = state.get("gaussians.means")
    count = 0 if means is None or not means.ndim else means.shape[0]
    coefficients = (config.sh_degree + 1) ** 2
    widths = ((3,), (3,), (4,), (1,), (1, 3), (coefficients - 1, 3))
    expected = {
        f"gaussians.{name}": (count, *width)
        for name, width in zip(PARAMETER_NAMES, widths, strict=True)
    }

    # The network: its shapes on a device that allocates nothing.
    lift = state.get("network.expression_lift.weight")
    channels = 1 if lift is None or lift.ndim != 2 else 1 + lift.shape[1]
    with torch.device("meta"):
        network = GaussianTalker(config, audio_width, channels)
    expected |= {
        f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()
    }

    if not count or expected.keys() != state.keys():
        different = sorted(expected.keys() ^ state.keys())
        raise ModelMismatch(f"missing or unknown: {', '.join(different[:3]) or 'Gaussians'}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ModelMismatch(f"{name} is {tuple(state[name].shape)}, expected {shape}")
    return channels

"""Tunes bases, their mean and the coefficient net together, on pictures of the network.

The principal components keep the offsets; what counts is the picture. So each step draws frames
(`train.driven_frames`), renders them by the network and by the bases, and reduces the difference of
the pictures. The network's pictures are the target and not the footage: there are as many as one
wants, with any voice and expression, and the bases keep what the network was trained to show.

B frames, N Gaussians, K bases.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from being.console import Progress
from being.metrics.image_quality import ssim
from being.model.bases import BASIS_WIDTH, FIELD_WIDTHS, Bases, offsets_of
from being.model.gaussiantalker import Offsets
from being.train.bases_fit import NetworkOffsets, Pictures
from being.train.driven_frames import DrivenFrames, Frames

STEPS, BATCH = 300, 2
SSIM_WEIGHT = 0.2  # beside the absolute difference
# Adam's rates at the start; they fall to LAST_SHARE of it. Those of bases and mean are shares of
# the deviation that a column of a Gaussian has over frames.
NET_RATE, BASIS_RATE, MEAN_RATE = 5e-4, 0.01, 0.01
LAST_SHARE = 0.05
# A column that hardly moves takes steps of this share of its field's deviation.
LEAST_DEVIATION = 0.1


class _Tuned(nn.Module):
    """Bases whose mean and basis are parameters too, in units of `scale` [N, 14]."""

    def __init__(self, bases: Bases):
        super().__init__()
        self.bases = bases
        deviation = bases.basis.square().sum(0).sqrt()
        floors = [
            LEAST_DEVIATION * part.square().mean().sqrt().expand_as(part)
            for part in deviation.split([*FIELD_WIDTHS.values()], 1)
        ]
        self.scale = torch.maximum(deviation, torch.cat(floors, 1))
        self.basis_change = nn.Parameter(torch.zeros_like(bases.basis))
        self.mean_change = nn.Parameter(torch.zeros_like(self.scale))

    def mean(self) -> Tensor:
        """The mean [N, 11 + 3 S] with its changes."""
        change = self.mean_change * self.scale
        return torch.cat(
            [self.bases.mean[:, :BASIS_WIDTH] + change, self.bases.mean[:, BASIS_WIDTH:]], 1
        )

    def basis(self) -> Tensor:
        """The bases [K, N, 14] with their changes."""
        return self.bases.basis + self.basis_change * self.scale

    def offsets(self, frames: Frames) -> Offsets:
        """The offsets of B frames."""
        found = self.bases.coefficients(frames.code, frames.expression, frames.camera)
        moved = (found @ self.basis().flatten(1)).view(len(found), -1, BASIS_WIDTH)
        return offsets_of(self.mean(), moved)

    @torch.no_grad()
    def result(self) -> Bases:
        """The tuned bases."""
        old = self.bases
        return Bases(self.mean(), self.basis(), old.input_mean, old.input_scale, old.layers()).to(
            self.scale.device
        )


def _note(loss: Tensor) -> str:
    """The progress note of a step."""
    return f"difference {loss.item():.5f}"


def tune_bases(
    bases: Bases, pictures: Pictures, frames: DrivenFrames, seed: int = 0, steps: int = STEPS
) -> Bases:
    """The bases tuned on pictures of frames that `frames` draws; the net of `bases` changes too."""
    generator = torch.Generator().manual_seed(seed + 1)
    network, tuned = NetworkOffsets(pictures.model), _Tuned(bases)
    optimizer = torch.optim.Adam(
        [
            {"params": list(bases.net.parameters()), "lr": NET_RATE},
            {"params": [tuned.basis_change], "lr": BASIS_RATE},
            {"params": [tuned.mean_change], "lr": MEAN_RATE},
        ],
        betas=(0.9, 0.99),
    )
    decay = LAST_SHARE ** (1 / max(steps, 1))
    with Progress("tune bases", steps, "steps") as progress, torch.enable_grad():
        for _ in range(steps):
            drawn = frames.draw(BATCH, generator)
            with torch.no_grad():
                true = pictures.render(network(drawn), drawn.world_to_camera).clamp(0, 1)
            found = pictures.render(tuned.offsets(drawn), drawn.world_to_camera)
            loss = (found - true).abs().mean() + SSIM_WEIGHT * (1 - ssim(found, true))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= decay
            progress.advance(1, partial(_note, loss.detach()))
    return tuned.result()

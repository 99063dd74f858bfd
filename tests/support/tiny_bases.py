"""Random bases of a small avatar that reads the mouth code, for tests that render by bases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tiny_avatar import tiny_avatar

from being.model.avatar import Avatar
from being.model.bases import BASIS_WIDTH, GEOMETRY_WIDTH, Bases

HIDDEN = 12
# Deviations of what a basis adds: means, log scales, quaternions, opacity logits, colours.
SIZES = torch.tensor([0.01] * 3 + [0.03] * 3 + [0.03] * 4 + [0.1] + [0.05] * 3)


def random_bases(avatar: Avatar, count: int = 5, seed: int = 0) -> Bases:
    """Bases whose offsets are large enough to be seen."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    network, size = avatar.model.network, len(avatar.model.gaussians)
    columns = GEOMETRY_WIDTH + 3 * (network.config.sh_degree + 1) ** 2
    inputs = network.audio_width + network.expression_width + 12
    layers = [
        (0.5 * noise(HIDDEN, inputs), 0.1 * noise(HIDDEN)),
        (0.5 * noise(HIDDEN, HIDDEN), 0.1 * noise(HIDDEN)),
        (noise(count, HIDDEN), 0.1 * noise(count)),
    ]
    return Bases(
        0.02 * noise(size, columns),
        noise(count, size, BASIS_WIDTH) * SIZES,
        0.1 * noise(inputs),
        torch.rand(inputs, generator=generator) + 0.5,
        layers,
    ).requires_grad_(False)


def avatar_with_bases(path: Path, *arguments: int, count: int = 5, **options: int) -> Avatar:
    """A small avatar with random bases; arguments as of `tiny_avatar`."""
    avatar = tiny_avatar(path, *arguments, mouth="code", **options)
    return replace(avatar, bases=random_bases(avatar, count))

"""Avatars for benchmarks: an untrained one with a random mapping from voice to mouth, and a trained
one resampled to N Gaussians.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from being.audio.feature_windows import STRIP
from being.bench.splat import HEAD_DISTANCE, head_shell, tiles_per_gaussian
from being.config import ModelConfig
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.inference.pruning import with_gaussians
from being.model.avatar import Avatar
from being.model.bases import BASIS_WIDTH, GEOMETRY_WIDTH, Bases
from being.model.gaussians import PARAMETER_NAMES, CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.model.tokens import CAMERA_WIDTH
from being.model.voice_to_mouth import VoiceToMouth
from being.splat import Cameras

POSES = 50
# Of a random mapping to the mouth code: frames of 50 s of footage, and sizes as in the fit.
CENTRES, STEP_COMPONENTS, STRIP_COMPONENTS, QUANTILES = 1250, 64, 256, 15
AUDIO_WIDTH = 44  # channels of the untrained avatar's speech features
DEFAULT_MODEL = ModelConfig()
# Of random bases: their number, the width of their net, and how far they move a Gaussian.
RANDOM_BASES, BASES_HIDDEN, BASES_SIZE = 16, 128, 1e-3
COPY_SPREAD = 0.5  # deviation of the copies of a Gaussian, in its own deviations


def random_avatar(
    count: int,
    size: int = 512,
    device: torch.device | str = "cpu",
    config: ModelConfig = DEFAULT_MODEL,
    audio_width: int = AUDIO_WIDTH,
) -> Avatar:
    """An untrained avatar: a head-like shell of `count` Gaussians in POSES poses, grey plates."""
    torch.manual_seed(0)
    head, _ = head_shell(count, size)
    degree = config.sh_degree
    raw = CanonicalGaussians(
        head.means[0],
        head.scales[0].log(),
        head.quaternions[0],
        torch.logit(head.opacities[0].clamp(1e-4, 1 - 1e-4))[:, None],
        head.sh[0, :, :1],
        head.sh[0, :, 1 : (degree + 1) ** 2],
    )
    model = TalkingHead(config, audio_width, raw).eval().requires_grad_(False)

    # Poses that turn the head by 15 degrees to both sides.
    turn = torch.linspace(-15, 15, POSES).deg2rad()
    matrices = torch.zeros(POSES, 4, 4)
    matrices[:, 0, 0], matrices[:, 0, 2], matrices[:, 1, 1] = turn.cos(), turn.sin(), -1
    matrices[:, 2, 0], matrices[:, 2, 2] = turn.sin(), -turn.cos()
    matrices[:, 2, 3], matrices[:, 3, 3] = HEAD_DISTANCE, 1

    # One grey plate for all poses.
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), 128, np.uint8)).save(file, "JPEG", quality=95)
    manifest = {
        "name": "random",
        "size": size,
        "focal": 2.4 * size,
        "encoder": "hama",
        "audio_width": audio_width,
    }
    blink = torch.rand(POSES, 1, generator=torch.Generator().manual_seed(0))
    return Avatar(
        Path("random"),
        manifest,
        model.to(device),
        matrices.to(device),
        blink.to(device),
        [file.getvalue()] * POSES,
    )


def with_random_bases(count: int, device: torch.device | str = "cpu") -> Avatar:
    """As `random_avatar`, of an avatar that reads the mouth code and has random bases."""
    avatar = random_avatar(
        count,
        device=device,
        config=DEFAULT_MODEL.replace(mouth="code"),
        audio_width=len(MOUTH_CHANNELS),
    )
    return replace(avatar, bases=random_bases(avatar).to(device).requires_grad_(False))


def random_bases(avatar: Avatar) -> Bases:
    """Random bases of an avatar that reads the mouth code."""
    count = len(avatar.model.gaussians)
    inputs = len(MOUTH_CHANNELS) + avatar.expression.shape[1] + CAMERA_WIDTH
    columns = GEOMETRY_WIDTH + 3 * (avatar.model.network.config.sh_degree + 1) ** 2
    generator = torch.Generator().manual_seed(0)
    sides = [inputs, BASES_HIDDEN, BASES_HIDDEN, RANDOM_BASES]
    layers = [
        (torch.randn(b, a, generator=generator) / a**0.5, torch.zeros(b))
        for a, b in zip(sides, sides[1:], strict=False)
    ]
    return Bases(
        torch.zeros(count, columns),
        BASES_SIZE * torch.randn(RANDOM_BASES, count, BASIS_WIDTH, generator=generator),
        torch.zeros(inputs),
        torch.ones(inputs),
        layers,
    )


def random_voice(width: int, centres: int = CENTRES, seed: int = 0) -> VoiceToMouth:
    """A mapping to the mouth code, as large as one of a clip with `centres` frames, with random
    numbers of the sizes of a fitted one: the code moves with the sound.

    width: channels of the speech features, which are about 1 large.
    """
    rng = np.random.default_rng(seed)
    parts = min(STEP_COMPONENTS, width)
    reduced, channels = min(STRIP_COMPONENTS, STRIP * parts), len(MOUTH_CHANNELS)
    shapes = {
        "step_mean": (width,),
        "step_basis": (width, parts),
        "window": (STRIP,),
        "strip_mean": (STRIP * parts,),
        "strip_basis": (STRIP * parts, reduced),
        "centres": (centres, reduced),
        "weights": (centres, channels),
        "code_mean": (channels,),
        "predicted_quantiles": (channels, QUANTILES),
        "true_quantiles": (channels, QUANTILES),
        "closed": (channels,),
    }
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors["step_basis"] /= np.sqrt(width)
    tensors["strip_basis"] /= np.sqrt(STRIP * parts * reduced)
    tensors["centres"] /= np.sqrt(reduced)
    tensors["weights"] -= tensors["weights"].mean(0)
    tensors["code_mean"] *= 0.1
    for name in ("predicted_quantiles", "true_quantiles"):
        tensors[name] = np.sort(tensors[name], 1)
    zero, one = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    facts = {"units": MouthUnits(MOUTH_CHANNELS, zero, one, -one, one).to_dict()}
    return VoiceToMouth.from_parts(tensors, {**facts, "gamma": 0.5, "closure_step": -1})


def resampled(avatar: Avatar, count: int) -> Avatar:
    """The avatar with `count` Gaussians: copies of trained ones, each moved by half its own spread.

    Scales shrink with the square root of the number of copies, so that coverage stays as trained.
    """
    own = avatar.model.gaussians
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(own), (count,), generator=generator).to(own.means.device)
    noise = torch.randn(count, 3, generator=generator).to(own.means.device)
    raw = {name: getattr(own, name).detach()[chosen] for name in PARAMETER_NAMES}
    raw["means"] = raw["means"] + COPY_SPREAD * raw["log_scales"].exp() * noise
    raw["log_scales"] = raw["log_scales"] + 0.5 * np.log(min(1.0, len(own) / count))
    return with_gaussians(avatar, CanonicalGaussians(*raw.values()), chosen)


def screen_coverage(avatar: Avatar) -> tuple[int, float]:
    """The number of Gaussians on screen in the first pose, and the mean number of 16 px tiles that
    one of them covers (`bench.splat`).
    """
    cameras = Cameras(avatar.world_to_camera[:1], avatar.focal, avatar.size, avatar.size)
    return tiles_per_gaussian(avatar.model.gaussians.activate(), cameras)

"""A small avatar with bases, torso mattes and a voice for the causal encoder, for the web page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from being.audio.encoder_names import CAUSAL
from being.audio.feature_windows import STRIP
from being.audio.pauses import pause_readout
from being.config import ModelConfig, load
from being.data.cameras import world_to_camera
from being.data.expression_channels import ExpressionChannels
from being.data.surround import Torsos
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.model.avatar import Avatar, load_avatar
from being.model.avatar_writing import PoseLoop, add_bases, write_avatar
from being.model.bases import BASIS_WIDTH, GEOMETRY_WIDTH, Bases
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.model.voice_to_mouth import VoiceToMouth

SIZE, POSES, FEATURES = 96, 20, 146
CHANNELS = ExpressionChannels(
    ("blink", "brow_down", "smile"), (0.0,) * 3, (2.0, 1, 1), (0.0, -0.2, 0), (1.0, 0.8, 1.2)
)
COUNT, HIDDEN = 6, 24  # bases, width of the coefficient net


def random_voice(seed: int = 0) -> VoiceToMouth:
    """A mapping of any features of the causal encoder to codes that move."""
    rng = np.random.default_rng(seed)
    k, p, d, n, q = len(MOUTH_CHANNELS), 12, 16, 40, 9

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    quantiles = np.sort(normal(k, q), 1)
    ones = np.ones(k, np.float32)
    readout = pause_readout(CAUSAL, FEATURES)
    assert readout is not None
    return VoiceToMouth(
        units=MouthUnits(MOUTH_CHANNELS, 0 * ones, ones, -0.3 * ones, 1.2 * ones),
        step_mean=normal(FEATURES, scale=0.1),
        step_basis=normal(FEATURES, p, scale=FEATURES**-0.5),
        window=np.linspace(0.2, 1, STRIP, dtype=np.float32),
        strip_mean=normal(STRIP * p, scale=0.1),
        strip_basis=normal(STRIP * p, d, scale=0.1 * (STRIP * p) ** -0.5),
        gamma=0.5,
        centres=normal(n, d, scale=0.3),
        weights=normal(n, k),
        code_mean=normal(k, scale=0.2),
        predicted_quantiles=quantiles,
        true_quantiles=quantiles * 1.3 + 0.1,
        closed=normal(k, scale=0.1),
        closing=np.linspace(0, 1, k, dtype=np.float32),
        face_share=0.8 * ones,
        pause_readout=readout,
        speed=0.5 * ones,
        closure_step=24,
        pause_wait=6,
    )


def write_web_avatar(
    path: Path, gaussians: int = 500, voice: bool = True, mattes: bool = True, degree: int = 3
) -> Avatar:
    """The avatar, written as a bundle at `path` and loaded. POSES poses turn the head."""
    rng = np.random.default_rng(1)
    generator = torch.manual_seed(1)
    points = torch.nn.functional.normalize(torch.randn(gaussians, 3), dim=1) * 0.42
    cloud = CanonicalGaussians.from_points(points, torch.rand(gaussians, 3), degree, 0.7)
    with torch.no_grad():
        cloud.sh_rest.normal_(std=0.6, generator=generator)
        cloud.opacity_logits.normal_(mean=1, std=2, generator=generator)
        cloud.quaternions.normal_(generator=generator)
        cloud.log_scales += 0.4 * torch.randn_like(cloud.log_scales) - 0.3
    config = ModelConfig(plane_resolution=8, sh_degree=degree, n_layer=1, mouth="code")
    model = TalkingHead(config, len(MOUTH_CHANNELS), cloud, len(CHANNELS)).eval()

    euler = np.zeros((POSES, 3))
    euler[:, 1] = np.linspace(-0.25, 0.25, POSES)
    matrices = torch.from_numpy(world_to_camera(euler, np.tile([0.0, 0, -7], (POSES, 1))))
    expression = torch.from_numpy(0.3 * rng.random((POSES, len(CHANNELS)), np.float32))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    background = np.stack([200 * x, 120 + 60 * y, 200 - 150 * x], -1).astype(np.uint8)
    torsos = [np.clip((y - 0.75 - 0.01 * np.sin(k)) * 40, 0, 1) for k in range(POSES)]
    plates = [
        (matte[..., None] * [40, 50, 90] + (1 - matte[..., None]) * background).astype(np.uint8)
        for matte in torsos
    ]
    settings = [
        f"data.encoder={CAUSAL}",
        f"avatar.live_encoder={'none'}",
        "avatar.plate_quality=98",
    ]
    if not voice:
        settings[0] = "data.encoder=hama"
    resolved = load("quick", settings, environment={}).replace(model=config)
    loop = PoseLoop(
        "web",
        SIZE,
        SIZE * 5.0,
        matrices,
        expression,
        plates,
        {"confirmed": True, "statement": "synthetic"},
        CHANNELS,
        Torsos(background, lambda: ((255 * m).astype(np.uint8) for m in torsos))
        if mattes
        else None,
    )
    mapping = random_voice()
    if not voice:
        mapping = replace(mapping, closure_step=-1, pause_readout=np.zeros(0, np.float32))
    write_avatar(path, model, resolved, loop, mapping)
    add_bases(path, random_bases(gaussians, degree), {})
    return load_avatar(path)


def random_bases(gaussians: int, degree: int) -> Bases:
    """Bases whose coefficients move the Gaussians by about 2 px of 96."""
    columns = torch.tensor([0.02] * 3 + [0.1] * 3 + [0.1] * 4 + [0.5] + [0.2] * 3)
    mean = 0.02 * torch.randn(gaussians, GEOMETRY_WIDTH + 3 * (degree + 1) ** 2)
    basis = columns * torch.randn(COUNT, gaussians, BASIS_WIDTH)
    inputs = len(MOUTH_CHANNELS) + len(CHANNELS) + 12
    sides = [inputs, HIDDEN, HIDDEN, COUNT]
    layers = [
        (1.5 * torch.randn(b, a) * a**-0.5, 0.1 * torch.randn(b))
        for a, b in zip(sides, sides[1:], strict=False)
    ]
    mean_input = 0.1 * torch.randn(inputs)
    mean_input[-1] = 7
    return Bases(mean, basis, mean_input, 0.3 + torch.rand(inputs), layers)

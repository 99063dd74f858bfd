"""A small untrained avatar, for tests that render one."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from being.config import ModelConfig, load
from being.data.cameras import world_to_camera
from being.model.avatar import Avatar
from being.model.avatar_writing import PoseLoop, write_avatar
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.model.voice_to_mouth import VoiceToMouth

SIZE, POSES, WIDTH, FOCAL = 32, 5, 7, 150.0


def tiny_avatar(
    path: Path,
    gaussians: int = 60,
    size: int = SIZE,
    layers: int = 1,
    degree: int = 1,
    channels: int = 1,
    width: int = WIDTH,
    mouth: str = "audio",
) -> Avatar:
    """POSES poses turning the head, pose k over a plate of grey 40 k; offsets large enough to be
    seen.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    points = torch.rand(gaussians, 3, generator=generator) - 0.5
    cloud = CanonicalGaussians.from_points(
        points, torch.rand(gaussians, 3, generator=generator), degree, 0.7
    )
    config = ModelConfig(plane_resolution=8, sh_degree=degree, n_layer=layers, mouth=mouth)
    model = TalkingHead(config, width, cloud, channels).eval()
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        if model.network.expression_lift is not None:
            model.network.expression_lift.weight.normal_(generator=generator)
    euler = np.zeros((POSES, 3))
    euler[:, 1] = np.linspace(-0.3, 0.3, POSES)
    matrices = torch.from_numpy(world_to_camera(euler, np.tile([0.0, 0, -7], (POSES, 1))))
    plates = []
    for k in range(POSES):
        file = BytesIO()
        Image.fromarray(np.full((size, size, 3), 40 * k, np.uint8)).save(file, "PNG")
        plates.append(file.getvalue())
    manifest = {"size": size, "focal": FOCAL * size / SIZE, "encoder": "hama", "audio_width": width}
    return Avatar(
        path,
        manifest,
        model.requires_grad_(False),
        matrices,
        torch.rand(POSES, channels, generator=generator),
        plates,
    )


def write_tiny_avatar(
    path: Path,
    encoder: str,
    width: int,
    voice: VoiceToMouth | None = None,
    live: tuple[str, VoiceToMouth] | None = None,
) -> Path:
    """The bundle at `path` of such an avatar, for features of `encoder` with `width` channels.

    voice: it reads the mouth code instead, by this mapping from the features. live: its live
    encoder, with the mapping.
    """
    mouth = "audio" if voice is None else "code"
    made = tiny_avatar(path, width=width if voice is None else len(voice.units), mouth=mouth)
    settings = [f"data.encoder={encoder}", f"avatar.live_encoder={live[0] if live else 'none'}"]
    config = load("quick", settings, environment={})
    config = config.replace(model=made.model.network.config)
    plates = [made.plate(k) for k in range(POSES)]
    return write_avatar(
        path,
        made.model,
        config,
        PoseLoop("tiny", SIZE, FOCAL, made.world_to_camera, made.expression, plates, None),
        voice,
        live[1] if live else None,
    )

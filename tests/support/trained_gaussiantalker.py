"""Writes a trained GaussianTalker directory with random weights; a fake speech encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from being.config import ModelConfig
from being.inference.engine import Engine
from being.interop.ply import write_ply
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead

SMALL = ModelConfig(plane_resolution=8, net_width=32, ffn_hidden=16, sh_degree=1)
FEATURE_WIDTH = 12  # of the fake speech features


def random_gaussians(degree: int, count: int = 50, seed: int = 0) -> CanonicalGaussians:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    return CanonicalGaussians(
        0.5 * normal(count, 3),
        normal(count, 3) - 4,
        normal(count, 4),
        normal(count, 1),
        normal(count, 1, 3),
        normal(count, (degree + 1) ** 2 - 1, 3),
    )


def write_trained(
    folder: Path,
    width: int = 29,
    config: ModelConfig = SMALL,
    iteration: int = 10_000,
    source: str = "/nowhere/May",
) -> TalkingHead:
    """Write a trained directory in GaussianTalker's layout; returns its random model."""
    torch.manual_seed(iteration)
    model = TalkingHead(config, width, random_gaussians(config.sh_degree)).eval()
    iteration_folder = folder / f"point_cloud/iteration_{iteration}"
    iteration_folder.mkdir(parents=True)
    write_ply(iteration_folder / "point_cloud.ply", model.gaussians)
    state = {f"deformation_net.{name}": value for name, value in model.network.state_dict().items()}
    state |= {
        "pos_poc": torch.zeros(10),
        "deformation_net.enc_x_mlp.net.0.weight": torch.zeros(64, 32),
    }
    torch.save(state, iteration_folder / "deformation.pth")
    torch.save(torch.ones(50, dtype=torch.bool), iteration_folder / "deformation_table.pth")
    (folder / "cfg_args").write_text(
        f"Namespace(sh_degree=3, source_path={source!r}, model_path='output/May', "
        "n_head=2, data_device=device(type='cuda'), eval=True)"
    )
    return model


def fake_encode_frames(samples: np.ndarray, frames: int, encoder: str = "hama") -> np.ndarray:
    """Fake speech features float32 [frames, 16, FEATURE_WIDTH], a function of the samples."""
    rng = np.random.default_rng(3)
    steps = np.pad(samples, (0, max(0, 640 * frames - len(samples))))[: 640 * frames].reshape(
        -1, 320
    )[:, :24]
    steps = np.pad(np.tanh(10 * steps @ rng.normal(size=(24, FEATURE_WIDTH))), ((8, 8), (0, 0)))
    return np.stack([steps[2 * i : 2 * i + 16] for i in range(frames)]).astype(np.float32)


def fake_engine_encode(_: Engine, samples: np.ndarray) -> list[torch.Tensor]:
    """`fake_encode_frames` in place of `Engine.encode`."""
    return [torch.from_numpy(fake_encode_frames(samples, -(-len(samples) // 640)))]

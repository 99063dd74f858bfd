"""The sections of a config as typed classes: the fields, their defaults, bounds and help texts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

AT_LEAST = {
    "data.size": 16,
    "data.gaussians": 8,
    "model.plane_resolution": 2,
    "model.sh_degree": 0,
    **dict.fromkeys(
        (
            "model.plane_scales",
            "model.plane_channels",
            "model.net_width",
            "model.d_model",
            "model.n_head",
            "model.n_layer",
            "model.ffn_hidden",
            "train.coarse.steps",
            "train.coarse.batch",
            "train.fine.steps",
            "train.fine.batch",
            "train.sh_every",
            "train.density.every",
            "train.checkpoint_every",
            "train.evaluate_every",
            "train.plateau.evaluations",
            "avatar.plate_quality",
        ),
        1,
    ),
    "avatar.seconds": 0.04,
}  # a frame; every other number: 0


AT_MOST = {
    "data.size": 4096,
    "data.holdout": 0.9,
    "train.silence": 0.9,
    "model.drop_prob": 0.9,
    "model.sh_degree": 3,
    "train.mouth_told": 1.0,
    "train.blink_share": 0.9,
    "avatar.plate_quality": 100,
    "train.plateau.cool_down": 1.0,
}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network and the Gaussians (GaussianTalker's names)."""

    plane_resolution: int = 64
    """Side of the smallest tri-plane in cells."""
    plane_scales: tuple[int, ...] = (1, 2)
    """Multiples of `plane_resolution`, one set of three planes each."""
    plane_channels: int = 32
    """Channels of one plane."""
    net_width: int = 128
    """Hidden width of the decoding heads."""
    d_model: int = 64
    """Width of tokens and queries."""
    n_head: int = 2
    """Attention heads."""
    n_layer: int = 1
    """Attention layers (1 or 2 in the shipped variants)."""
    ffn_hidden: int = 128
    """Hidden width of the feed-forward part of a layer."""
    drop_prob: float = 0.2
    """Dropout inside the attention layers while training."""
    sh_degree: int = 3
    """Degree of the spherical harmonics, 0 to 3."""


@dataclass(frozen=True)
class DataConfig:
    """What part of a dataset is used, and how."""

    size: int = 512
    """Training resolution: side of the square picture in px."""
    holdout: float = 0.0
    """Share of the clip held out at its end; 0 means the family's protocol (9/11 train, 1/11
    validation, 1/11 test).
    """
    seconds: float = 0.0
    """Train on the first so many seconds of what there is to train on, to see what they would give;
    0: all.
    """
    encoder: str = "hama"
    """Speech features, by the name in dataset.json."""
    expression: str = "full"
    """What of the face drives the upper half: full (every action unit and the gaze, see
    docs/expression.md), blink, or dummy (eyes that stay open, to compare)."""
    gaussians: int = 34_650
    """Gaussians in the initial cloud: face mesh plus points in the hull of the head masks."""
    bfm: str = ""
    """Path of 01_MorphableModel.mat (Basel Face Model 2009, not for commercial use): its vertices
    instead of the face mesh in the initial cloud."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms."""

    l1: float = 0.8
    """Absolute difference over the whole picture."""
    ssim: float = 0.2
    """1 - SSIM, window 11."""
    feature: float = 0.01
    """VGG16 feature L1 of a square of 224 px (compat: reference has the whole picture shrunk to
    it).
    """
    lips: float = 0.4
    """Absolute difference in the square round the lips."""
    eyes: float = 0.4
    """Absolute difference in the box round the eyes, without which a short training never learns
    the rare blinks.
    """
    mask: float = 0.4
    """Absolute difference of alpha and the head mask."""
    plane_tv: float = 2e-4
    """Total variation of the tri-planes."""


@dataclass(frozen=True)
class DensityConfig:
    """Densify and prune, coarse stage (steps)."""

    start: int = 1000
    """Densified after this step."""
    stop: int = 7000
    """Densified and pruned before this step."""
    every: int = 100
    """Steps between two times."""
    gradient: float = 0.001
    """Mean gradient of the 2-D mean over which a Gaussian is cloned or split (picture half-sizes,
    as in 3DGS).
    """
    clone_scale: float = 0.01
    """Largest scale that is cloned rather than split, as a share of the scene extent."""
    prune_start: int = 600
    """Pruned from this step on."""
    prune_opacity: float = 0.005
    """Opacity under which a Gaussian is pruned."""
    prune_scale: float = 0.1
    """Largest allowed scale as a share of the extent, after `large_start`."""
    large_start: int = 3000
    """Step after which too large Gaussians are pruned."""
    limit: int = 50_000
    """No densifying at or over this number."""


@dataclass(frozen=True)
class RateConfig:
    """Learning rates (Adam, eps 1e-15); pairs decay log-linearly over the steps of the stage."""

    means: tuple[float, float] = (1.6e-4, 1.6e-6)
    """Of the Gaussians' means, at first and at the end of a stage."""
    network: tuple[float, float] = (1e-4, 1e-5)
    """Of the network but its planes, at first and at the end."""
    planes: tuple[float, float] = (1.6e-3, 1.6e-4)
    """Of the tri-planes, at first and at the end."""
    sound: float = 1.0
    """Of the sound net and its attention, times the network's: under 1 where a warm-up has taught
    them already.
    """
    sh_dc: float = 2.5e-3
    """Of the spherical harmonics of degree 0."""
    sh_rest: float = 1.25e-4
    """Of the spherical harmonics of higher degrees."""
    opacity: float = 0.05
    """Of the opacities' logits."""
    scales: float = 0.005
    """Of the scales' logarithms."""
    rotations: float = 0.001
    """Of the quaternions."""


@dataclass(frozen=True)
class StageConfig:
    """Length of a stage."""

    steps: int = 7999
    """Length of the stage."""
    batch: int = 1
    """Frames a step."""


@dataclass(frozen=True)
class PlateauConfig:
    """When the fine stage counts as levelled off (with `until_plateau`), and how it ends then."""

    gain: float = 0.1
    """What the held-out head-box PSNR must gain to count as better, dB."""
    evaluations: int = 3
    """Evaluations one after the other that are not better."""
    cool_down: float = 0.1
    """Share of the stage's steps over which the rates then fall to their end."""


@dataclass(frozen=True)
class TrainConfig:
    """Schedules, losses and what is kept while training."""

    seed: int = 0
    """Of everything that is drawn at random."""
    coarse: StageConfig = field(default_factory=StageConfig)
    fine: StageConfig = field(default_factory=lambda: StageConfig(10_000, 32))
    mixed_precision: bool = False
    """Fine stage: the network in bfloat16 where the device computes in it (CUDA, AVX512-BF16),
    Gaussians in float32.
    """
    audio_warmup: int = 0
    """Steps of the sound branch on tracked lip motion alone, before the fine stage (seconds of
    work).
    """
    disturb: bool = False
    """Fine stage: disturb what is heard (`train/disturbance.py`), so that no frame is known by its
    sound.
    """
    voices: int = 0
    """How many other voices, rooms and channels say the clip's words while training, each frame in
    one at random: what the sound branch should not care about. 0: the clip's own voice alone."""
    silence: float = 0.0
    """Chance that a frame with a closed mouth hears digital silence while training: silence then
    closes the mouth.
    """
    closing: int = 500
    """Steps of the sound branch after the fine stage, in which it learns to close the lips on p, b
    and m and in silence whoever speaks (a minute of work; docs/encoders.md). Only with features
    that have channels of articulation."""
    splat: str = "auto"
    """Rasterizer backend: auto (the fastest that is here), triton, cpu, torch, gsplat or
    diff-gaussian.
    """
    compat: str = "none"
    """"reference" trains with GaussianTalker's own faults, to compare: opacity and SH overwritten
    by the planes' in the coarse stage, pruning that mostly sees the first opacity, no gradient
    through the mask, rates that grow with how far the head moves and decay over 20,000 steps
    whatever the length. It also sets what REFERENCE in config_files.py lists (dropout 0.2, the
    blink alone, no warm-up, ...), under what is set in the same place or a stronger one."""
    blink_share: float = 0.2
    """Share of the fine stage's samples in which the eyes close, where the clip has fewer: copies
    of these frames that teach the eyes alone. Without them short training leaves the eyes open
    (docs/expression.md)."""
    mouth_told: float = 0.25
    """Share of frames that are told how the true mouth is shaped (smile, jaw, ...): enough to learn
    what an offset means, few enough that the sound does the work. The others, and every frame that
    is measured, have it neutral."""
    sh_every: int = 1000
    """Coarse steps after which one more degree of spherical harmonics is used."""
    loss: LossConfig = field(default_factory=LossConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    rate: RateConfig = field(default_factory=RateConfig)
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    evaluate_every: int = 500
    """Steps between held-out PSNR figures, over at most 16 validation frames."""
    until_plateau: bool = False
    """End the fine stage when its held-out PSNR has levelled off. (The coarse one keeps its steps:
    densifying follows them, and its still head's figure may fall while it still learns.)"""
    plateau: PlateauConfig = field(default_factory=PlateauConfig)
    preview_seconds: float = 4.0
    """Length of the preview videos; 0 makes none."""


@dataclass(frozen=True)
class AvatarConfig:
    """What goes into an avatar bundle."""

    seconds: float = 20.0
    """Length of the pose loop taken from the clip (its longest stretch without cuts)."""
    plate_quality: int = 95
    """JPEG quality of the plates."""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    avatar: AvatarConfig = field(default_factory=AvatarConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict (JSON and YAML types)."""
        return _plain(dataclasses.asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value

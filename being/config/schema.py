"""The sections of a config as frozen dataclasses: keys, defaults, bounds and help texts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

# Smallest allowed value of a key. Every other number must be at least 0.
LOWER_BOUNDS = {
    "data.size": 16,
    "data.initial_gaussians": 8,
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
            "train.sh_degree_every",
            "train.density.every",
            "train.checkpoint_every",
            "train.evaluate_every",
            "train.plateau.evaluations",
            "avatar.plate_quality",
        ),
        1,
    ),
    # one video frame
    "avatar.seconds": 0.04,
}

# The value of `avatar.live_encoder` for no encoder of its own.
NO_LIVE_ENCODER = "none"

# Allowed words of a key.
CHOICES = {"model.mouth": ("code", "audio")}

# Largest whole number of a key without a bound of its own: what 32 bits hold.
INTEGER_MAX = 2**31 - 1
# Largest allowed value of a key. Every other number must be finite.
UPPER_BOUNDS = {
    "model.plane_resolution": 4096,
    "model.plane_scales": 64,
    "model.plane_channels": 4096,
    "model.net_width": 8192,
    "model.d_model": 4096,
    "model.n_head": 256,
    "model.n_layer": 32,
    "model.ffn_hidden": 16_384,
    "data.initial_gaussians": 2_000_000,
    "train.density.limit": 2_000_000,
    "train.augment.voices": 1000,
    "data.size": 4096,
    "data.holdout": 0.9,
    "data.fold": 1000,
    "model.drop_prob": 0.9,
    "model.sh_degree": 3,
    "train.lips.true_mouth_share": 1.0,
    "train.augment.silence_share": 0.9,
    "train.oversample.blink_share": 0.9,
    "train.plateau.cool_down": 1.0,
    "avatar.plate_quality": 100,
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network and of the Gaussians, under GaussianTalker's names."""

    plane_resolution: int = 64
    """Cells along one side of the smallest tri-plane."""
    plane_scales: tuple[int, ...] = (1, 2)
    """One set of three planes for each number: its side is this multiple of `plane_resolution`."""
    plane_channels: int = 32
    """Channels of one plane."""
    net_width: int = 128
    """Hidden width of the decoding heads."""
    d_model: int = 64
    """Width of tokens and queries in the attention."""
    n_head: int = 2
    """Attention heads."""
    n_layer: int = 1
    """Attention layers (1 or 2 in the shipped configs)."""
    ffn_hidden: int = 128
    """Hidden width of the feed-forward part of an attention layer."""
    drop_prob: float = 0.2
    """Dropout probability inside the attention layers during training."""
    sh_degree: int = 3
    """Degree of the spherical harmonics, 0 to 3."""
    mouth: str = "audio"
    """What drives the mouth. code: the network reads the mouth code (docs/encoders.md), and a
    mapping from the voice to this code is fitted apart. audio: the network reads speech features,
    as GaussianTalker does."""


@dataclass(frozen=True)
class DataConfig:
    """Which part of a dataset is used, and in which form."""

    size: int = 512
    """Training resolution: side of the square image in px."""
    holdout: float = 0.0
    """Share of the clip, at its end, that is held out. 0 keeps the split of the ER-NeRF family:
    9/11 train, 1/11 validation, 1/11 test.
    """
    fold: int = 0
    """Which part of the clip `holdout` holds out: 0 its end, 1 its first such share, 2 the second,
    and so on (cross-validation).
    """
    seconds: float = 0.0
    """Train on the first seconds of the training part only, for instance to learn what a shorter
    clip would give. 0 uses all of it.
    """
    encoder: str = "hama"
    """Speech encoder whose features are used, by its name in dataset.json."""
    expression: str = "full"
    """Expression channels that drive the upper face: full (every action unit and the gaze, see
    docs/expression.md), blink (the blink only), or dummy (eyes always open, for comparison)."""
    initial_gaussians: int = 34_650
    """Number of Gaussians at the start. They lie on the face mesh and inside the hull of the head
    masks.
    """
    bfm: str = ""
    """Path of 01_MorphableModel.mat (Basel Face Model 2009, not for commercial use). When set, its
    vertices replace the face mesh in the initial cloud."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms."""

    l1: float = 0.8
    """Weight of the absolute difference over the whole image."""
    ssim: float = 0.2
    """Weight of 1 - SSIM, window 11 px."""
    feature: float = 0.01
    """Weight of the L1 difference of VGG16 features on a square of 224 px cut from the image. With
    `train.compat: reference` the whole image is resized to 224 px instead.
    """
    lips: float = 0.4
    """Weight of the absolute difference in the square around the lips."""
    eyes: float = 0.4
    """Weight of the absolute difference in the box around the eyes. Without it a short training
    does not learn blinks, because they are rare.
    """
    mask: float = 0.4
    """Weight of the absolute difference between alpha and the head mask."""
    plane_tv: float = 2e-4
    """Weight of the total variation of the tri-planes."""


@dataclass(frozen=True)
class DensityConfig:
    """When and how Gaussians are added and removed in the coarse stage."""

    start: int = 1000
    """Gaussians are added after this step."""
    stop: int = 7000
    """Gaussians are added and removed before this step only."""
    every: int = 100
    """Steps between two density updates."""
    gradient: float = 0.001
    """A Gaussian is cloned or split when the mean gradient of its 2-D mean is larger than this (in
    units of half the image side, as in 3DGS).
    """
    clone_scale: float = 0.01
    """Gaussians up to this scale are cloned, larger ones are split. A share of the scene extent."""
    prune_start: int = 600
    """Gaussians are removed from this step on."""
    prune_opacity: float = 0.005
    """A Gaussian with a lower opacity is removed."""
    prune_scale: float = 0.1
    """After `large_start`, a Gaussian with a larger scale is removed. A share of the scene
    extent."""
    large_start: int = 3000
    """Too large Gaussians are removed after this step."""
    limit: int = 50_000
    """No Gaussian is added when there are this many."""


@dataclass(frozen=True)
class RateConfig:
    """Learning rates (Adam, eps 1e-15). Pairs decay log-linearly over the steps of a stage."""

    means: tuple[float, float] = (1.6e-4, 1.6e-6)
    """Rates of the Gaussians' means at the start and at the end of a stage."""
    network: tuple[float, float] = (1e-4, 1e-5)
    """Rates of the network without its planes at the start and at the end of a stage."""
    planes: tuple[float, float] = (1.6e-3, 1.6e-4)
    """Rates of the tri-planes at the start and at the end of a stage."""
    audio: float = 1.0
    """Rate of the audio network and its attention, as a multiple of the network's rate. Use less
    than 1 when the warm-up has trained them already.
    """
    sh_dc: float = 2.5e-3
    """Rate of the spherical harmonics of degree 0."""
    sh_rest: float = 1.25e-4
    """Rate of the spherical harmonics of higher degrees."""
    opacity: float = 0.05
    """Rate of the opacity logits."""
    scales: float = 0.005
    """Rate of the logarithms of the scales."""
    rotations: float = 0.001
    """Rate of the quaternions."""


@dataclass(frozen=True)
class StageConfig:
    """Length and batch size of one training stage."""

    steps: int = 7999
    """Training steps of the stage."""
    batch: int = 1
    """Video frames in one step."""


@dataclass(frozen=True)
class LipConfig:
    """How the lips learn to follow the audio, beside the image losses."""

    warmup_steps: int = 0
    """Steps in which the audio branch learns the tracked lip motion, before the fine stage. No
    image is rendered; this takes seconds.
    """
    closure_steps: int = 500
    """Steps of the lip closure distillation after the fine stage: the audio branch learns to close
    the lips on p, b and m and in silence, for any speaker (about a minute; docs/encoders.md). Needs
    an encoder whose features have articulation channels, and `model.mouth: audio`."""
    true_mouth_share: float = 0.25
    """Share of training frames that get the true expression values of the mouth (smile, jaw, ...).
    The model learns from them what these channels do. All other frames, and every evaluated frame,
    have neutral values, so that the lips follow the audio."""


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of the audio features during training."""

    audio_features: bool = False
    """Add noise to the audio features and drop channels and windows of them in the fine stage
    (train/feature_augmentation.py). It keeps the model from recognising a frame by its audio.
    """
    voices: int = 0
    """Number of variants of the clip's audio (other voice, room and channel). Each training frame
    uses one of them or the original, at random. 0 uses the original only. It has no effect with
    `model.mouth: code`."""
    silence_share: float = 0.0
    """Probability that a training frame with a closed mouth gets the features of digital silence.
    The model then closes the mouth in silence. It has no effect with `model.mouth: code`.
    """


@dataclass(frozen=True)
class OversampleConfig:
    """Rare training frames that are drawn more often."""

    blink_share: float = 0.2
    """Share of the fine stage's samples in which the eyes close. When the clip has fewer, such
    frames are repeated, and the copies train the eyes only. Without them a short training leaves
    the eyes open (docs/expression.md)."""
    rare_mouths: bool = True
    """Repeat frames in the fine stage whose mouth is rare in the clip: wide open, rounded, toothy.
    It has no effect with `model.mouth: audio`."""


@dataclass(frozen=True)
class PlateauConfig:
    """When the fine stage stops early (`train.until_plateau`), and how it then ends."""

    gain: float = 0.1
    """An evaluation counts as better when the held-out head-box PSNR gains at least this, in dB."""
    evaluations: int = 3
    """The stage has levelled off after so many evaluations in a row that are not better."""
    cool_down: float = 0.1
    """Share of the stage's steps in which the learning rates then fall to their end values."""


@dataclass(frozen=True)
class TrainConfig:
    """Schedules, losses, checkpoints and evaluations of a training."""

    seed: int = 0
    """Seed of all random numbers."""
    coarse: StageConfig = field(default_factory=StageConfig)
    fine: StageConfig = field(default_factory=lambda: StageConfig(10_000, 32))
    mixed_precision: bool = False
    """Compute the network in bfloat16 in the fine stage, where the device supports it (CUDA,
    AVX512-BF16). The Gaussians stay in float32.
    """
    lips: LipConfig = field(default_factory=LipConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    oversample: OversampleConfig = field(default_factory=OversampleConfig)
    splat: str = "auto"
    """Rasterizer backend: auto (the fastest that is available), triton, cpu, torch, gsplat or
    diff-gaussian.
    """
    compat: str = "none"
    """"reference" trains with the faults of GaussianTalker's own trainer, for comparison: the
    planes overwrite opacity and SH in the coarse stage, pruning mostly uses the initial opacity,
    the mask loss has no gradient, and the rates grow with the head motion and decay over 20,000
    steps for any length. It also sets the keys of REFERENCE_SETTINGS in config/files.py (dropout
    0.2, the blink only, no warm-up, ...). A key set in the same source or in a stronger one wins.
    """
    sh_degree_every: int = 1000
    """Coarse steps after which one more degree of the spherical harmonics is used."""
    loss: LossConfig = field(default_factory=LossConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    rate: RateConfig = field(default_factory=RateConfig)
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    evaluate_every: int = 500
    """Steps between two evaluations: PSNR over at most 16 validation frames."""
    until_plateau: bool = False
    """End the fine stage when its held-out PSNR has levelled off. The coarse stage always runs all
    its steps: density control follows the step number, and the PSNR of a still head may fall while
    the stage still learns."""
    plateau: PlateauConfig = field(default_factory=PlateauConfig)
    preview_seconds: float = 4.0
    """Length of the preview videos in seconds; 0 writes none."""


@dataclass(frozen=True)
class AvatarConfig:
    """Contents of the avatar bundle."""

    seconds: float = 20.0
    """Length of the pose loop in seconds. It is taken from the longest stretch of the clip without
    cuts."""
    plate_quality: int = 95
    """JPEG quality of the plates, 1 to 100."""
    surround: bool = True
    """Keep the whole source frame of each pose, where the dataset holds its source video and its
    square is a part of the picture: `being render --into-source` needs it. At most 120 kB a pose at
    1080p."""
    bases: bool = False
    """Fit linear bases of the network's offsets after the fine stage, for `--deform bases` (about a
    minute on a GPU, some minutes on a CPU; docs/engine.md). `being export --bases` adds them later.
    It has no effect with `model.mouth: audio`."""
    live_encoder: str = "hama-causal"
    """Speech encoder of live sessions. Training fits a second mapping from the voice to the mouth
    on it; the network stays the same. "none": live sessions use `data.encoder`. It has no effect
    with `model.mouth: audio`."""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    avatar: AvatarConfig = field(default_factory=AvatarConfig)

    def to_dict(self) -> dict[str, Any]:
        """The config as a nested dict of JSON and YAML types."""
        return _to_plain(dataclasses.asdict(self))


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    return value

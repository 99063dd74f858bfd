"""The sections of a config as frozen pydantic models: keys, types, bounds, choices and defaults.

The docstring under a field is its help text. Types are strict: true is no number and 1.5 is no
whole number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from being.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

# The value of `avatar.live_encoder` for no encoder of its own.
NO_LIVE_ENCODER = "none"

# Largest whole number of a key without a bound of its own: what 32 bits hold.
INTEGER_MAX = 2**31 - 1
ITEMS_MAX = 16  # numbers in one list


def _number_of_text(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


READ_NUMBER, READ_LIST = BeforeValidator(_number_of_text), BeforeValidator(_tuple_of_list)

# The types of most keys. Every number is at least 0 and finite.
Count = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Positive = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
Number = Annotated[float, Field(ge=0), READ_NUMBER]
Share = Annotated[float, Field(ge=0, le=1.0), READ_NUMBER]
ShareBelowOne = Annotated[float, Field(ge=0, le=0.9), READ_NUMBER]
Pair = Annotated[tuple[Number, Number], READ_LIST]


class Section(BaseModel):
    """The rules of all sections: frozen, no unknown keys, strict types, finite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """The section as a nested dict of JSON and YAML types."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, which are checked as those of a new section."""
        return type(self)(**{**dict(self), **changes})


class ModelConfig(Section):
    """Sizes of the network and of the Gaussians, under GaussianTalker's names."""

    plane_resolution: Annotated[int, Field(ge=2, le=4096)] = 64
    """Cells along one side of the smallest tri-plane."""
    plane_scales: Annotated[
        tuple[Annotated[int, Field(ge=1, le=64)], ...],
        Field(min_length=1, max_length=ITEMS_MAX),
        READ_LIST,
    ] = (1, 2)
    """One set of three planes for each number: its side is this multiple of `plane_resolution`."""
    plane_channels: Annotated[int, Field(ge=1, le=4096)] = 32
    """Channels of one plane."""
    net_width: Annotated[int, Field(ge=1, le=8192)] = 128
    """Hidden width of the decoding heads."""
    d_model: Annotated[int, Field(ge=1, le=4096)] = 64
    """Width of tokens and queries in the attention."""
    n_head: Annotated[int, Field(ge=1, le=256)] = 2
    """Attention heads."""
    n_layer: Annotated[int, Field(ge=1, le=32)] = 1
    """Attention layers (1 or 2 in the shipped configs)."""
    ffn_hidden: Annotated[int, Field(ge=1, le=16_384)] = 128
    """Hidden width of the feed-forward part of an attention layer."""
    drop_prob: ShareBelowOne = 0.2
    """Dropout probability inside the attention layers during training."""
    sh_degree: Annotated[int, Field(ge=0, le=3)] = 3
    """Degree of the spherical harmonics, 0 to 3."""
    mouth: Literal["code", "audio"] = "audio"
    """What drives the mouth. code: the network reads the mouth code (docs/encoders.md), and a
    mapping from the voice to this code is fitted apart. audio: the network reads speech features,
    as GaussianTalker does."""

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        what = f"config key 'model.d_model' is {self.d_model}"
        if self.d_model % self.n_head:
            raise UsageError(
                what, f"not a multiple of model.n_head, {self.n_head}", "Change one of the two"
            )
        features = self.plane_channels * len(self.plane_scales)
        if features != self.d_model:
            raise UsageError(
                what,
                f"the tri-planes give {features} features: model.plane_channels times the number "
                "of model.plane_scales",
                "Make both equal",
            )
        return self


class DataConfig(Section):
    """Which part of a dataset is used, and in which form."""

    size: Annotated[int, Field(ge=16, le=4096)] = 512
    """Training resolution: side of the square image in px."""
    holdout: ShareBelowOne = 0.0
    """Share of the clip, at its end, that is held out. 0 keeps the split of the ER-NeRF family:
    9/11 train, 1/11 validation, 1/11 test.
    """
    fold: Annotated[int, Field(ge=0, le=1000)] = 0
    """Which part of the clip `holdout` holds out: 0 its end, 1 its first such share, 2 the second,
    and so on (cross-validation).
    """
    seconds: Number = 0.0
    """Train on the first seconds of the training part only, for instance to learn what a shorter
    clip would give. 0 uses all of it.
    """
    encoder: str = "hama"
    """Speech encoder whose features are used, by its name in dataset.json."""
    expression: str = "full"
    """Expression channels that drive the upper face: full (every action unit and the gaze, see
    docs/expression.md), blink (the blink only), or dummy (eyes always open, for comparison)."""
    initial_gaussians: Annotated[int, Field(ge=8, le=2_000_000)] = 34_650
    """Number of Gaussians at the start. They lie on the face mesh and inside the hull of the head
    masks.
    """
    bfm: str = ""
    """Path of 01_MorphableModel.mat (Basel Face Model 2009, not for commercial use). When set, its
    vertices replace the face mesh in the initial cloud."""


class LossConfig(Section):
    """Weights of the loss terms."""

    l1: Number = 0.8
    """Weight of the absolute difference over the whole image."""
    ssim: Number = 0.2
    """Weight of 1 - SSIM, window 11 px."""
    feature: Number = 0.01
    """Weight of the L1 difference of VGG16 features on a square of 224 px cut from the image. With
    `train.compat: reference` the whole image is resized to 224 px instead.
    """
    lips: Number = 0.4
    """Weight of the absolute difference in the square around the lips."""
    eyes: Number = 0.4
    """Weight of the absolute difference in the box around the eyes. Without it a short training
    does not learn blinks, because they are rare.
    """
    mask: Number = 0.4
    """Weight of the absolute difference between alpha and the head mask."""
    plane_tv: Number = 2e-4
    """Weight of the total variation of the tri-planes."""


class DensityConfig(Section):
    """When and how Gaussians are added and removed in the coarse stage."""

    start: Count = 1000
    """Gaussians are added after this step."""
    stop: Count = 7000
    """Gaussians are added and removed before this step only."""
    every: Positive = 100
    """Steps between two density updates."""
    gradient: Number = 0.001
    """A Gaussian is cloned or split when the mean gradient of its 2-D mean is larger than this (in
    units of half the image side, as in 3DGS).
    """
    clone_scale: Number = 0.01
    """Gaussians up to this scale are cloned, larger ones are split. A share of the scene extent."""
    prune_start: Count = 600
    """Gaussians are removed from this step on."""
    prune_opacity: Number = 0.005
    """A Gaussian with a lower opacity is removed."""
    prune_scale: Number = 0.1
    """After `large_start`, a Gaussian with a larger scale is removed. A share of the scene
    extent."""
    large_start: Count = 3000
    """Too large Gaussians are removed after this step."""
    limit: Annotated[int, Field(ge=0, le=2_000_000)] = 50_000
    """No Gaussian is added when there are this many."""


class RateConfig(Section):
    """Learning rates (Adam, eps 1e-15). Pairs decay log-linearly over the steps of a stage."""

    means: Pair = (1.6e-4, 1.6e-6)
    """Rates of the Gaussians' means at the start and at the end of a stage."""
    network: Pair = (1e-4, 1e-5)
    """Rates of the network without its planes at the start and at the end of a stage."""
    planes: Pair = (1.6e-3, 1.6e-4)
    """Rates of the tri-planes at the start and at the end of a stage."""
    audio: Number = 1.0
    """Rate of the audio network and its attention, as a multiple of the network's rate. Use less
    than 1 when the warm-up has trained them already.
    """
    sh_dc: Number = 2.5e-3
    """Rate of the spherical harmonics of degree 0."""
    sh_rest: Number = 1.25e-4
    """Rate of the spherical harmonics of higher degrees."""
    opacity: Number = 0.05
    """Rate of the opacity logits."""
    scales: Number = 0.005
    """Rate of the logarithms of the scales."""
    rotations: Number = 0.001
    """Rate of the quaternions."""


class StageConfig(Section):
    """Length and batch size of one training stage."""

    steps: Positive = 7999
    """Training steps of the stage."""
    batch: Positive = 1
    """Video frames in one step."""


class LipConfig(Section):
    """How the lips learn to follow the audio, beside the image losses."""

    warmup_steps: Count = 0
    """Steps in which the audio branch learns the tracked lip motion, before the fine stage. No
    image is rendered; this takes seconds.
    """
    closure_steps: Count = 500
    """Steps of the lip closure distillation after the fine stage: the audio branch learns to close
    the lips on p, b and m and in silence, for any speaker (about a minute; docs/encoders.md). Needs
    an encoder whose features have articulation channels, and `model.mouth: audio`."""
    true_mouth_share: Share = 0.25
    """Share of training frames that get the true expression values of the mouth (smile, jaw, ...).
    The model learns from them what these channels do. All other frames, and every evaluated frame,
    have neutral values, so that the lips follow the audio."""


class AugmentConfig(Section):
    """Augmentation of the audio features during training."""

    audio_features: bool = False
    """Add noise to the audio features and drop channels and windows of them in the fine stage
    (train/feature_augmentation.py). It keeps the model from recognising a frame by its audio.
    """
    voices: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of variants of the clip's audio (other voice, room and channel). Each training frame
    uses one of them or the original, at random. 0 uses the original only. It has no effect with
    `model.mouth: code`."""
    silence_share: ShareBelowOne = 0.0
    """Probability that a training frame with a closed mouth gets the features of digital silence.
    The model then closes the mouth in silence. It has no effect with `model.mouth: code`.
    """


class OversampleConfig(Section):
    """Rare training frames that are drawn more often."""

    blink_share: ShareBelowOne = 0.2
    """Share of the fine stage's samples in which the eyes close. When the clip has fewer, such
    frames are repeated, and the copies train the eyes only. Without them a short training leaves
    the eyes open (docs/expression.md)."""
    rare_mouths: bool = True
    """Repeat frames in the fine stage whose mouth is rare in the clip: wide open, rounded, toothy.
    It has no effect with `model.mouth: audio`."""


class PlateauConfig(Section):
    """When the fine stage stops early (`train.until_plateau`), and how it then ends."""

    gain: Number = 0.1
    """An evaluation counts as better when the held-out head-box PSNR gains at least this, in dB."""
    evaluations: Positive = 3
    """The stage has levelled off after so many evaluations in a row that are not better."""
    cool_down: Share = 0.1
    """Share of the stage's steps in which the learning rates then fall to their end values."""


class TrainConfig(Section):
    """Schedules, losses, checkpoints and evaluations of a training."""

    seed: Count = 0
    """Seed of all random numbers."""
    coarse: StageConfig = StageConfig()
    fine: StageConfig = StageConfig(steps=10_000, batch=32)
    mixed_precision: bool = False
    """Compute the network in bfloat16 in the fine stage, where the device supports it (CUDA,
    AVX512-BF16). The Gaussians stay in float32.
    """
    lips: LipConfig = LipConfig()
    augment: AugmentConfig = AugmentConfig()
    oversample: OversampleConfig = OversampleConfig()
    splat: str = "auto"
    """Rasterizer backend: auto (the fastest that is available), triton, cpu, torch, gsplat or
    diff-gaussian.
    """
    compat: Literal["none", "reference"] = "none"
    """"reference" trains with the faults of GaussianTalker's own trainer, for comparison: the
    planes overwrite opacity and SH in the coarse stage, pruning mostly uses the initial opacity,
    the mask loss has no gradient, and the rates grow with the head motion and decay over 20,000
    steps for any length. It also sets the keys of REFERENCE_SETTINGS in config/files.py (dropout
    0.2, the blink only, no warm-up, ...). A key set in the same source or in a stronger one wins.
    """
    sh_degree_every: Positive = 1000
    """Coarse steps after which one more degree of the spherical harmonics is used."""
    loss: LossConfig = LossConfig()
    density: DensityConfig = DensityConfig()
    rate: RateConfig = RateConfig()
    checkpoint_every: Positive = 500
    """Steps between two checkpoints."""
    evaluate_every: Positive = 500
    """Steps between two evaluations: PSNR over at most 16 validation frames."""
    until_plateau: bool = False
    """End the fine stage when its held-out PSNR has levelled off. The coarse stage always runs all
    its steps: density control follows the step number, and the PSNR of a still head may fall while
    the stage still learns."""
    plateau: PlateauConfig = PlateauConfig()
    preview_seconds: Number = 4.0
    """Length of the preview videos in seconds; 0 writes none."""


class AvatarConfig(Section):
    """Contents of the avatar bundle."""

    seconds: Annotated[float, Field(ge=0.04), READ_NUMBER] = 20.0
    """Length of the pose loop in seconds. It is taken from the longest stretch of the clip without
    cuts."""
    plate_quality: Annotated[int, Field(ge=1, le=100)] = 95
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


class Config(Section):
    """All settings of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    avatar: AvatarConfig = AvatarConfig()

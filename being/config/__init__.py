"""Configuration: typed sections, and one loader for files, environment and overrides."""

from __future__ import annotations

from being.config.loader import KeyDescription, describe, from_dict, load
from being.config.schema import (
    AugmentConfig,
    AvatarConfig,
    Config,
    DataConfig,
    DensityConfig,
    LipConfig,
    LossConfig,
    ModelConfig,
    OversampleConfig,
    PlateauConfig,
    RateConfig,
    StageConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "AvatarConfig",
    "Config",
    "DataConfig",
    "DensityConfig",
    "KeyDescription",
    "LipConfig",
    "LossConfig",
    "ModelConfig",
    "OversampleConfig",
    "PlateauConfig",
    "RateConfig",
    "StageConfig",
    "TrainConfig",
    "describe",
    "from_dict",
    "load",
]

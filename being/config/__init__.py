"""The one config loader: YAML files with `_base_`, typed sections, overrides."""

from __future__ import annotations

from being.config.loader import field_help, from_dict, load
from being.config.schema import (
    AvatarConfig,
    Config,
    DataConfig,
    DensityConfig,
    LossConfig,
    ModelConfig,
    PlateauConfig,
    RateConfig,
    StageConfig,
    TrainConfig,
)

__all__ = [
    "AvatarConfig",
    "Config",
    "DataConfig",
    "DensityConfig",
    "LossConfig",
    "ModelConfig",
    "PlateauConfig",
    "RateConfig",
    "StageConfig",
    "TrainConfig",
    "field_help",
    "from_dict",
    "load",
]

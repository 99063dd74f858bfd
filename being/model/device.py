"""The device that a model runs on."""

from __future__ import annotations

import torch

from being.errors import EnvironmentFault, UsageError


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one. Raises EnvironmentFault when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise EnvironmentFault(f"there is no device '{name}' on this machine", "torch sees no CUDA GPU",
                               "Use --device cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{name}'", str(error).splitlines()[0], "Use cpu or cuda") from error

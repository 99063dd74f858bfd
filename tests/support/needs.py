"""What a test needs from outside the package: had, or the test is skipped with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from being.errors import EnvironmentFault

Thing = TypeVar("Thing")
INTERPRETED = (
    os.environ.get("TRITON_INTERPRET") == "1"
)  # Triton reads it once, when a kernel is defined


def had(make: Callable[[], Thing]) -> Thing:
    """What `make` returns; skips the test where this machine lacks a package or a pretrained file
    for it.
    """
    try:
        return make()
    except (EnvironmentFault, ModuleNotFoundError) as fault:
        pytest.skip(str(fault))

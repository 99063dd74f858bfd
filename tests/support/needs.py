"""Skips a test where a package or a pretrained file for it is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from being.errors import EnvironmentFault

Thing = TypeVar("Thing")
# Triton reads this variable once, when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def load_or_skip(load: Callable[[], Thing]) -> Thing:
    """What `load` returns; skips the test, with the reason, where something for it is missing."""
    try:
        return load()
    except (EnvironmentFault, ModuleNotFoundError) as fault:
        pytest.skip(str(fault))

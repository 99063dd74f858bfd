"""What a test needs from outside the package: had, or the test is skipped with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import pytest

from being.errors import EnvironmentFault

Thing = TypeVar("Thing")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def had(make: Callable[[], Thing]) -> Thing:
    """What `make` returns; skips the test where this machine lacks a package or a pretrained file for it."""
    try:
        return make()
    except (EnvironmentFault, ModuleNotFoundError) as fault:
        pytest.skip(str(fault))


def run_interpreted(file: str) -> None:
    """Run a test file in Triton's interpreter: it reads its environment once, so that takes a process of its own."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", file], capture_output=True, text=True,
                          env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

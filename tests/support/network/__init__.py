"""Runs a program whose connections and look-ups of names are refused and noted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "block.c"


class BlockedNetwork:
    """A library that is preloaded into a process; see `block.c`."""

    def __init__(self, folder: Path):
        """Build the library in `folder`; skips the test without Linux and a C compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None or not sys.platform.startswith("linux"):
            pytest.skip("needs Linux and a C compiler")
        self.library, self.log = folder / "block.so", folder / "network.log"
        flags = ["-shared", "-fPIC", "-O1", "-o", str(self.library), str(SOURCE), "-ldl"]
        subprocess.run([compiler, *flags], check=True)

    def run(self, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program; its home is an empty folder, so that nothing is cached there."""
        environment = {**os.environ, "HOME": str(self.log.parent / "home"), **variables}
        for name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
            environment.pop(name, None)
        environment |= {"LD_PRELOAD": str(self.library), "BLOCK_LOG": str(self.log)}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )

    @property
    def attempts(self) -> list[str]:
        """The connections and look-ups that were tried."""
        return self.log.read_text().splitlines() if self.log.is_file() else []

"""Tests of the Triton kernels without a GPU: Triton's interpreter runs them in a new process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needs import INTERPRETED

FILES = (
    "splat/test_cuda_interpreted.py",
    "model/test_kernels_interpreted.py",
    "train/test_kernels_interpreted.py",
    "inference/backends/test_cuda_interpreted.py",
)


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
def test_kernels_in_the_interpreter():
    """A new process, because Triton reads its environment once and other tests need it unset."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(str(Path(__file__).parent / f) for f in FILES)],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

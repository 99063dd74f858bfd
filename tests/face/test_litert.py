"""The door to LiteRT: its first network prints nothing on the terminal, and errors stay."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from needs import load_or_skip

from being.face.landmarks import FaceLandmarker
from being.face.litert import STDERR, _without_information


def test_loading_the_networks_prints_nothing() -> None:
    load_or_skip(FaceLandmarker)
    code = "from being.face.landmarks import FaceLandmarker; FaceLandmarker()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_only_information_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), _without_information():
        os.write(STDERR, b"INFO: Created a delegate\nERROR: no memory\n")
        os.write(STDERR, b"a line of another thread\n")
        raise RuntimeError
    print("later", file=sys.stderr)
    assert capfd.readouterr().err == "ERROR: no memory\na line of another thread\nlater\n"

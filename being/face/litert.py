"""The door to LiteRT, the runtime of the landmark and segmentation networks."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from being.errors import EnvironmentFault

STDERR = 2  # file descriptor
INFORMATION = b"INFO:"  # how the runtime begins a line that is no warning

_lock = threading.Lock()
_loaded_before = False


def load_network(content: bytes, wanted_by: str) -> Any:
    """LiteRT's interpreter of a .tflite file's `content`, with one thread and allocated tensors.

    wanted_by: "face landmarks", for the message. Raises EnvironmentFault without LiteRT.
    """
    global _loaded_before
    interpreter = interpreter_class(wanted_by)
    with _lock:
        if _loaded_before:
            return _allocated(interpreter, content)
        # The runtime tells about its delegate once, with the first network of the process.
        with _without_information():
            network = _allocated(interpreter, content)
        _loaded_before = True
        return network


def interpreter_class(wanted_by: str) -> Any:
    """LiteRT's interpreter class. Raises EnvironmentFault without LiteRT."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EnvironmentFault(
            f"{wanted_by} need the package ai-edge-litert",
            str(error),
            "Install being with its preprocess extra: pip install 'being[preprocess]'",
        ) from error
    return Interpreter


def _allocated(interpreter: Any, content: bytes) -> Any:
    network = interpreter(model_content=content, num_threads=1)
    network.allocate_tensors()
    return network


@contextmanager
def _without_information() -> Iterator[None]:
    """Hold back what is written to stderr in the block; afterwards write what is no information.

    Native code writes to the file descriptor, which `sys.stderr` cannot hold back.
    """
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        try:
            terminal = os.dup(STDERR)
        except OSError:  # there is no stderr
            yield
            return
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, STDERR)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if not line.startswith(INFORMATION):
                    os.write(STDERR, line)

"""Voice activity: does somebody speak in this block of sound? Silero's network in onnxruntime."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np

from being import assets
from being.conventions import SAMPLE_RATE
from being.errors import EnvironmentFault
from being.onnx_runtime import load_onnxruntime

BLOCK = 512  # samples at 16 kHz that the network reads at once: 32 ms
BLOCK_S = BLOCK / SAMPLE_RATE
CONTEXT = 64  # samples before a block that it reads too
STATE_SHAPE = (2, 1, 128)


class VoiceActivity(Protocol):
    """Tells blocks with speech from others."""

    def probability(self, block: np.ndarray) -> float:
        """Probability of speech, 0 to 1, in the next block: float32 [512] at 16 kHz."""


class SileroActivity:
    """The network with the state of one stream of sound. Implements `VoiceActivity`."""

    def __init__(self) -> None:
        """Raises as `load_silero`."""
        self._session = load_silero()
        self._rate = np.array(SAMPLE_RATE, np.int64)
        self._state = np.zeros(STATE_SHAPE, np.float32)
        self._input = np.zeros((1, CONTEXT + BLOCK), np.float32)

    def probability(self, block: np.ndarray) -> float:
        """See `VoiceActivity.probability`."""
        assert block.shape == (BLOCK,), block.shape
        self._input[0, :CONTEXT] = self._input[0, -CONTEXT:]
        self._input[0, CONTEXT:] = block
        found, self._state = self._session.run(
            None, {"input": self._input, "state": self._state, "sr": self._rate}
        )
        return float(found[0, 0])


@functools.lru_cache(maxsize=1)
def load_silero() -> Any:
    """The network, loaded once; sessions keep states of their own.

    Raises EnvironmentFault where onnxruntime or the network's file is missing.
    """
    path = assets.fetch("silero_vad")
    try:
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ImportError as error:
        raise EnvironmentFault(
            "onnxruntime is not installed", str(error), "pip install 'being[talk]'"
        ) from error
    except Exception as error:  # onnxruntime's own error types share no public base
        raise EnvironmentFault(
            "the network of voice activity cannot be loaded",
            str(error),
            f"Delete {path} and try again",
        ) from error

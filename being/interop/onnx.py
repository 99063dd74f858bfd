"""Exports an avatar's network as two ONNX files: inputs to tokens, and tokens to offsets.

`audio.onnx`: audio [B, 8, C, 16], expression [B, E], camera [B, 12] -> tokens [B, 4, D].
`deformation.onnx`: tokens [B, 4, D] -> means [B, N, 3], log_scales [B, N, 3], quaternions [B, N,
4], opacity_logits [B, N, 1], sh [B, N, 3 K]. All are float32 and are added to the raw parameters.
The tri-plane queries are constants inside the file. B is any number. onnxruntime runs both files on
random inputs, and the results must agree with torch.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from being.data.conditions import Conditions
from being.errors import BeingError, EnvironmentFault
from being.files import new_file
from being.interop.export_files import MARK
from being.model.avatar import Avatar
from being.model.gaussiantalker import GaussianTalker
from being.onnx_runtime import load_onnxruntime

OPSET = 17
MAX_RELATIVE_DIFFERENCE = 1e-4  # between onnxruntime and torch: rounding
ONNX_FILES = {"audio": "audio.onnx", "deformation": "deformation.onnx"}
OFFSETS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
CHECKED_BATCH_SIZES = (1, 3)


class TokenNetwork(nn.Module):
    """The conditions of a frame -> its tokens."""

    def __init__(self, network: GaussianTalker):
        super().__init__()
        self.network = network

    def forward(self, audio: Tensor, expression: Tensor, camera: Tensor) -> Tensor:
        """[B, 8, C, 16], [B, E], [B, 12] -> [B, 4, D]."""
        return self.network.tokens(Conditions(audio, expression, camera))


class DeformationNetwork(nn.Module):
    """The tokens of a frame -> offsets of the Gaussians, whose queries are a constant buffer."""

    def __init__(self, network: GaussianTalker, means: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("queries", network.queries(means).detach().clone())

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """[B, 4, D] -> OFFSETS."""
        feature, _ = self.network.transformer(self.queries, tokens)
        return tuple(self.network._decode(feature))


def export_onnx(avatar: Avatar, folder: Path) -> dict[str, Any]:
    """Write `audio.onnx` and `deformation.onnx`; returns "files" and their "difference" from torch.

    Raises EnvironmentFault without the packages for it, BeingError when a file does not compute the
    same as the model.
    """
    try:
        import onnx

        load_onnxruntime()
    except ImportError as error:
        raise EnvironmentFault(
            f"the Python package '{error.name}' is not installed",
            "ONNX files are written and checked with it",
            "pip install 'being[export]'",
        ) from error
    network = avatar.model.network.cpu()
    means = avatar.model.gaussians.means.detach().cpu()
    sizes = network.audio_width, network.expression_width, network.config.d_model

    # name -> network, names of its inputs, names of its outputs
    parts = {
        "audio": (TokenNetwork(network), ("audio", "expression", "camera"), ("tokens",)),
        "deformation": (DeformationNetwork(network, means), ("tokens",), OFFSETS),
    }
    result: dict[str, Any] = {"files": {}, "difference": {}}
    for name, (module, inputs, outputs) in parts.items():
        file = folder / ONNX_FILES[name]
        # The file gets its name when it is checked.
        with new_file(file) as part:
            _write(module.eval(), _random_inputs(name, 2, *sizes), part, inputs, outputs)
            described = onnx.load(part)
            described.doc_string = MARK
            onnx.save(described, part)
            difference = max(
                _relative_difference(module, _random_inputs(name, batch, *sizes), part, inputs)
                for batch in CHECKED_BATCH_SIZES
            )
            if not difference <= MAX_RELATIVE_DIFFERENCE:
                raise BeingError(
                    f"{file} does not compute the same as the model",
                    f"it differs by {difference:.1e}",
                    "Report it",
                )
        result["difference"][name] = difference
        result["files"][name] = str(file)
    return result


def _random_inputs(
    name: str, batch: int, audio_width: int, expression_width: int, token_width: int
) -> tuple[Tensor, ...]:
    """Inputs of the network `name` for `batch` frames, the same in every run."""
    generator = torch.Generator().manual_seed(batch)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    if name == "deformation":
        return (normal(4, token_width),)
    audio = normal(8, audio_width, 16)
    return audio, torch.rand(batch, expression_width, generator=generator), normal(12)


def _write(
    module: nn.Module,
    example: tuple[Tensor, ...],
    file: Path,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> None:
    """Write `module` as an ONNX file with a free first axis of all inputs and outputs."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            str(file),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={key: {0: "frames"} for key in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )


@torch.no_grad()
def _relative_difference(
    module: nn.Module, example: tuple[Tensor, ...], file: Path, inputs: tuple[str, ...]
) -> float:
    """The largest relative difference of an output between onnxruntime and torch."""
    # The bytes, because onnxruntime opens no path that is no UTF-8.
    session = load_onnxruntime().InferenceSession(
        file.read_bytes(), providers=["CPUExecutionProvider"]
    )
    feed = {key: value.numpy() for key, value in zip(inputs, example, strict=True)}
    outputs = session.run(None, feed)
    expected = module(*example)
    expected = expected if isinstance(expected, tuple) else (expected,)
    return max(
        float(np.linalg.norm(a - b.numpy()) / max(np.linalg.norm(b.numpy()), 1e-12))
        for a, b in zip(outputs, expected, strict=True)
    )

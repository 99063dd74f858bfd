"""A trained network as ONNX: its tokens of a frame, and the offsets that they give an avatar's
Gaussians.

`audio.onnx`: audio [B, 8, C, 16], expression [B, E], camera [B, 12] -> tokens [B, 4, D].
`deformation.onnx`: tokens [B, 4, D] -> means [B, N, 3], log_scales [B, N, 3], quaternions [B, N,
4], opacity_logits [B, N, 1], sh [B, N, 3 K], all float32, to be added to the raw parameters;
tri-plane queries are constants inside. B is any number. Both are run by onnxruntime on random
inputs and compared before they count as written.
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
from being.model.avatar import Avatar
from being.model.gaussiantalker import GaussianTalker

OPSET = 17
NEAR = 1e-4  # relative difference from torch that is taken for rounding
OFFSETS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
CHECKED = (1, 3)  # batch sizes


class AudioNetwork(nn.Module):
    """What describes a frame -> its tokens."""

    def __init__(self, network: GaussianTalker):
        super().__init__()
        self.network = network

    def forward(self, audio: Tensor, expression: Tensor, camera: Tensor) -> Tensor:
        """[B, 8, C, 16], [B, E], [B, 12] -> [B, 4, D]."""
        return self.network.tokens(Conditions(audio, expression, camera))


class Deformation(nn.Module):
    """A frame's tokens -> offsets of the Gaussians, whose queries it holds."""

    def __init__(self, network: GaussianTalker, means: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("queries", network.queries(means).detach().clone())

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """[B, 4, D] -> OFFSETS."""
        feature, _ = self.network.transformer(self.queries, tokens)
        return tuple(self.network._heads(feature))


def export_onnx(avatar: Avatar, folder: Path) -> dict[str, Any]:
    """Write `audio.onnx` and `deformation.onnx` into `folder`; the files and how far onnxruntime is
    from torch.

    Raises EnvironmentFault without the packages for it, BeingError when what was written does not
    compute the same.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EnvironmentFault(
            f"the Python package '{error.name}' is not installed",
            "ONNX files are made and checked with it",
            "pip install 'being[export]'",
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    network = avatar.model.network.cpu()
    means = avatar.model.gaussians.means.detach().cpu()
    known = network.audio_width, network.expression_width, network.config.d_model
    parts = {
        "audio": (AudioNetwork(network), ("audio", "expression", "camera"), ("tokens",)),
        "deformation": (Deformation(network, means), ("tokens",), OFFSETS),
    }
    result: dict[str, Any] = {"files": {}, "difference": {}}
    for name, (module, inputs, outputs) in parts.items():
        file = folder / f"{name}.onnx"
        _write(module.eval(), _inputs(name, 2, *known), file, inputs, outputs)
        result["difference"][name] = max(
            _difference(module, _inputs(name, b, *known), file, inputs) for b in CHECKED
        )
        result["files"][name] = str(file)
        if not result["difference"][name] <= NEAR:
            file.unlink()
            raise BeingError(
                f"{file} would not compute what the model does",
                f"it differs by {result['difference'][name]:.1e}",
                "Report it",
            )
    return result


def _inputs(name: str, batch: int, audio: int, expression: int, width: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(batch)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    if name == "audio":
        return normal(8, audio, 16), torch.rand(batch, expression, generator=generator), normal(12)
    return (normal(4, width),)


def _write(
    module: nn.Module,
    example: tuple[Tensor, ...],
    file: Path,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> None:
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
def _difference(
    module: nn.Module, example: tuple[Tensor, ...], file: Path, inputs: tuple[str, ...]
) -> float:
    """The largest relative difference of an output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    made = session.run(
        None, {key: value.numpy() for key, value in zip(inputs, example, strict=True)}
    )
    true = module(*example)
    true = true if isinstance(true, tuple) else (true,)
    return max(
        float(np.linalg.norm(a - b.numpy()) / max(np.linalg.norm(b.numpy()), 1e-12))
        for a, b in zip(made, true, strict=True)
    )

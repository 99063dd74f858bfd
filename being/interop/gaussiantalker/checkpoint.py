"""Reads a trained GaussianTalker directory: Gaussians, network weights and layer sizes.

point_cloud/iteration_K/ holds point_cloud.ply and deformation.pth. cfg_args beside it is the text
of a Namespace and is read from its syntax tree. No code is run, and pickles may hold only tensors.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from being.config import ModelConfig, from_dict
from being.errors import InputRejected, UsageError
from being.interop.ply import read_ply
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.reading.content import Unreadable, read_text, reason
from being.reading.structured import SETTINGS_MAX, parse_python, python_literal
from being.reading.tensors import load_pickled

PREFIX = "deformation_net."
# Modules that GaussianTalker builds and never uses, and tables of its training.
UNUSED = (
    "pos_poc",
    "rotation_scaling_poc",
    "opacity_poc",
    "aud_ch_att_net",
    "eye_att_net",
    "enc_x_mlp",
)
PARAMETERS_MAX = 500_000_000  # the model of record has 2.1 million
DEFAULT_HEADS = 2  # attention heads of both shipped configs

GIVE_CHECKPOINT = "Give the deformation.pth of a trained GaussianTalker"
EXPECTED = (
    "expected GaussianTalker's network of arguments/64_dim_1_transformer.py or "
    "64_dim_2_transformer.py"
)


@dataclass
class GaussianTalkerCheckpoint:
    """One iteration of a trained GaussianTalker."""

    model: TalkingHead
    config: ModelConfig
    audio_width: int
    iteration: int
    # folder of the iteration
    folder: Path
    # values of cfg_args
    settings: dict[str, Any]

    @property
    def source(self) -> Path | None:
        """The data directory it was trained on, or None when that directory is gone."""
        text = self.settings.get("source_path")
        # os.path.isdir is False for names that no file system takes, where Path.is_dir raises.
        return Path(text) if isinstance(text, str) and text and os.path.isdir(text) else None


def read_checkpoint(
    path: Path, iteration: int | None = None, heads: int | None = None
) -> GaussianTalkerCheckpoint:
    """The model in the trained directory `path`, of the last iteration or of `iteration`.

    heads: attention heads, which the weights do not show (default: cfg_args' n_head, else 2).
    Raises InputRejected naming the file that is wrong and what was expected.
    """
    path = Path(path)
    folder, number = _find_iteration(path, iteration)
    settings = read_cfg_args(path / "cfg_args") if (path / "cfg_args").is_file() else {}
    gaussians = read_ply(folder / "point_cloud.ply")
    file = folder / "deformation.pth"
    state = _read_weights(file)

    # The shape of the network follows from its tensors and the number of heads.
    if not heads:
        heads = settings["n_head"] if isinstance(settings.get("n_head"), int) else DEFAULT_HEADS
    config, width = _model_config(file, state, gaussians, heads)

    # One state dict of the network and the Gaussians.
    model_state = {
        f"network.{name}": value for name, value in state.items() if not name.startswith(UNUSED)
    }
    model_state |= {
        f"gaussians.{name}": value.detach() for name, value in gaussians.named_parameters()
    }
    try:
        model = TalkingHead.from_state(config, width, model_state)
    except (RuntimeError, AssertionError, KeyError) as error:
        raise InputRejected(
            f"{file} does not fit",
            f"{reason(error)}; {EXPECTED}",
            "Import checkpoints of GaussianTalker's main branch only",
        ) from error
    return GaussianTalkerCheckpoint(model.eval(), config, width, number, folder, settings)


def read_cfg_args(file: Path) -> dict[str, Any]:
    """The literals of a cfg_args file, `Namespace(name=literal, ...)`, without other values."""
    try:
        tree = parse_python(read_text(file, SETTINGS_MAX), "eval").body
        if (
            not isinstance(tree, ast.Call)
            or not isinstance(tree.func, ast.Name)
            or tree.func.id != "Namespace"
        ):
            raise Unreadable("it is not the text of a Namespace")
    except (OSError, Unreadable) as error:
        raise InputRejected(
            f"{file} cannot be read",
            reason(error),
            "expected Namespace(...) as GaussianTalker's train.py writes it; "
            "remove the file to import without it",
        ) from error

    values = {}
    for keyword in tree.keywords:
        try:
            if keyword.arg:
                values[keyword.arg] = python_literal(keyword.value)
        except Unreadable:
            continue
    return values


def _find_iteration(path: Path, wanted: int | None) -> tuple[Path, int]:
    """The folder and number of an iteration: the wanted one, or the last of the fine stage.

    `path` may also be the folder of an iteration itself.
    """
    if (path / "point_cloud.ply").is_file() and (path / "deformation.pth").is_file():
        name = re.search(r"(\d+)$", path.resolve().name)
        return path, int(name[1]) if name else 0

    # Folders of the fine stage by iteration.
    clouds = path / "point_cloud"
    found = {
        int(match[1]): folder
        for folder in (clouds.iterdir() if clouds.is_dir() else ())
        if (match := re.fullmatch(r"iteration_(\d+)", folder.name))
    }
    if not found:
        raise _no_iteration(path, clouds)
    if wanted is not None and wanted not in found:
        raise InputRejected(
            f"{clouds} has no iteration_{wanted}",
            f"it has {', '.join(map(str, sorted(found)))}",
            "Choose one of these with --iteration",
        )

    number = max(found) if wanted is None else wanted
    for part in ("point_cloud.ply", "deformation.pth"):
        if not (found[number] / part).is_file():
            raise InputRejected(
                f"{found[number]} lacks {part}",
                "expected point_cloud.ply and deformation.pth",
                "Copy the folder again, or choose another iteration with --iteration",
            )
    return found[number], number


def _no_iteration(path: Path, clouds: Path) -> InputRejected:
    """The error for a directory without an iteration of the fine stage."""
    coarse = sorted(folder.name for folder in clouds.glob("coarse_iteration_*"))
    what = f"{path} holds no trained GaussianTalker"
    if coarse:
        return InputRejected(
            what, f"only the coarse stage is there, {coarse[-1]}", "Finish its training first"
        )
    return InputRejected(
        what,
        "looked for point_cloud/iteration_*/point_cloud.ply and deformation.pth",
        "Give the folder named as --model_path",
    )


def _read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of deformation.pth, float32, by name without their common prefix.

    Raises InputRejected for a file that is no state dict, is too large or is not finite.
    """
    data = load_pickled(file)
    if not isinstance(data, dict) or not all(
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_complex()
        for name, value in data.items()
    ):
        raise InputRejected(f"{file} is not a state dict", EXPECTED, GIVE_CHECKPOINT)
    count = sum(value.numel() for value in data.values())
    if count > PARAMETERS_MAX:
        raise InputRejected(
            f"{file} holds {count} numbers",
            f"at most {PARAMETERS_MAX} are expected",
            GIVE_CHECKPOINT,
        )
    state = {name.removeprefix(PREFIX): value.float() for name, value in data.items()}
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise InputRejected(
                f"{file} holds values that are not finite",
                name,
                "Choose an earlier iteration with --iteration",
            )
    return state


def _model_config(
    file: Path, state: dict[str, Tensor], gaussians: CanonicalGaussians, heads: int
) -> tuple[ModelConfig, int]:
    """The shape of the network from its tensors, and the width of the speech features.

    Raises InputRejected when a tensor is missing or when sizes contradict each other.
    """

    def size(name: str, axis: int) -> int:
        if name not in state or state[name].ndim <= axis:
            raise InputRejected(f"{file} lacks {name}", EXPECTED, GIVE_CHECKPOINT)
        return int(state[name].shape[axis])

    # Tri-planes and attention layers are numbered from 0.
    resolutions: list[int] = []
    while f"tri_plane.grid.grids.{len(resolutions)}.0" in state:
        resolutions.append(size(f"tri_plane.grid.grids.{len(resolutions)}.0", 3))
    layers = 0
    while f"transformer.layers.{layers}.norm1.gamma" in state:
        layers += 1
    if not resolutions or not layers or any(side % resolutions[0] for side in resolutions):
        raise InputRejected(
            f"{file} has tri-planes of {resolutions} cells and {layers} attention layers",
            EXPECTED,
            GIVE_CHECKPOINT,
        )

    # Spherical harmonics and attention heads.
    width = size("transformer.layers.0.enc_dec_attention.w_q.weight", 0)
    coefficients = size("shs_deform.3.weight", 0) // 3
    if coefficients != gaussians.sh.shape[1]:
        raise InputRejected(
            f"{file} changes {coefficients} spherical harmonics",
            f"{file.with_name('point_cloud.ply').name} has {gaussians.sh.shape[1]}",
            "Take both files from one iteration of one run",
        )
    if heads < 1 or width % heads:
        raise InputRejected(
            f"{file} is {width} wide",
            f"that cannot be split among {heads} attention heads",
            "Give its config with --config",
        )

    sizes = {
        "plane_resolution": resolutions[0],
        "plane_scales": [side // resolutions[0] for side in resolutions],
        "plane_channels": size("tri_plane.grid.grids.0.0", 1),
        "net_width": size("pos_deform.1.weight", 0),
        "d_model": width,
        "n_head": heads,
        "n_layer": layers,
        "ffn_hidden": size("transformer.layers.0.ffn.linear1.weight", 0),
        "sh_degree": round(coefficients**0.5) - 1,
    }
    try:
        config = from_dict({"model": sizes}).model
    except UsageError as error:
        why = f"{reason(error)}; {EXPECTED}"
        raise InputRejected(
            f"{file} has a network that cannot be used", why, GIVE_CHECKPOINT
        ) from error
    return config, size("audio_net.encoder_conv.0.weight", 1)

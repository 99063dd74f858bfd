"""A trained GaussianTalker directory as a model of ours: Gaussians, network, the shape of both.

point_cloud/iteration_K/ holds point_cloud.ply and deformation.pth; cfg_args beside it is the text
of a Namespace, read from its syntax tree. Nothing is executed, pickles may hold plain tensors only.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from being.config import ModelConfig
from being.errors import InputRejected
from being.files import load_pickled
from being.interop.ply import read_ply
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead

PREFIX = "deformation_net."
# What the reference builds and never uses, and tables of its training.
UNUSED = (
    "pos_poc",
    "rotation_scaling_poc",
    "opacity_poc",
    "aud_ch_att_net",
    "eye_att_net",
    "enc_x_mlp",
)
CFG_MAX = 1 << 20  # bytes
NUMBERS_MAX = 500_000_000  # the record has 2.1 million
GIVE = "Give the deformation.pth of a trained GaussianTalker"
HEADS = 2  # attention heads of both shipped configs
EXPECTED = "expected GaussianTalker's network as arguments/64_dim_1_transformer.py or 64_dim_2_transformer.py make it"


@dataclass
class Reference:
    """What was read."""

    model: TalkingHead
    config: ModelConfig
    audio_width: int
    iteration: int
    folder: Path  # of the iteration
    settings: dict[str, Any]  # of cfg_args

    @property
    def source(self) -> Path | None:
        """The data directory it was trained on, where that is still there."""
        text = self.settings.get("source_path")
        return Path(text) if isinstance(text, str) and text and Path(text).is_dir() else None


def read_reference(path: Path, iteration: int | None = None, heads: int | None = None) -> Reference:
    """The model in the trained directory `path`, of the last iteration or of `iteration`.

    heads: attention heads, which the weights do not tell (default: cfg_args' n_head, else 2).
    Raises InputRejected naming the file, what was expected and the way out.
    """
    path = Path(path)
    folder, number = _iteration(path, iteration)
    settings = read_cfg(path / "cfg_args") if (path / "cfg_args").is_file() else {}
    gaussians = read_ply(folder / "point_cloud.ply")
    file = folder / "deformation.pth"
    state = _state(file)
    heads = heads or (settings["n_head"] if isinstance(settings.get("n_head"), int) else HEADS)
    config, width = _shape(file, state, gaussians, heads)
    whole = {
        f"network.{name}": value for name, value in state.items() if not name.startswith(UNUSED)
    }
    whole |= {f"gaussians.{name}": value.detach() for name, value in gaussians.named_parameters()}
    try:
        model = TalkingHead.from_state(config, width, whole)
    except (RuntimeError, AssertionError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputRejected(
            f"{file} does not fit",
            f"{' '.join(lines[1:3])[:240]}; {EXPECTED}",
            "Import checkpoints of GaussianTalker's main branch only",
        ) from error
    return Reference(model.eval(), config, width, number, folder, settings)


def read_cfg(file: Path) -> dict[str, Any]:
    """The literals of a cfg_args file: `Namespace(name=literal, ...)`; values that are no literals
    are left out.
    """
    try:
        content = file.read_bytes()
        if len(content) > CFG_MAX:
            raise ValueError(f"{len(content)} bytes")
        tree = ast.parse(content.decode(), mode="eval").body
        if (
            not isinstance(tree, ast.Call)
            or not isinstance(tree.func, ast.Name)
            or tree.func.id != "Namespace"
        ):
            raise ValueError("it is not the text of a Namespace")
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputRejected(
            f"{file} cannot be read",
            str(error).splitlines()[0] if str(error) else "",
            "expected Namespace(...) as GaussianTalker's train.py writes it; remove the file to do "
            "without",
        ) from error
    found = {}
    for keyword in tree.keywords:
        try:
            if keyword.arg:
                found[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            continue
    return found


def _iteration(path: Path, wanted: int | None) -> tuple[Path, int]:
    """The folder of an iteration: the fine stage's last one, or the one wanted."""
    if (path / "point_cloud.ply").is_file() and (path / "deformation.pth").is_file():
        name = re.search(r"(\d+)$", path.resolve().name)
        return path, int(name[1]) if name else 0
    clouds = path / "point_cloud"
    found = {
        int(match[1]): folder
        for folder in (clouds.iterdir() if clouds.is_dir() else ())
        if (match := re.fullmatch(r"iteration_(\d+)", folder.name))
    }
    if not found:
        coarse = (
            sorted(folder.name for folder in clouds.glob("coarse_iteration_*"))
            if clouds.is_dir()
            else []
        )
        raise InputRejected(
            f"{path} holds no trained GaussianTalker",
            f"only the coarse stage is there, {coarse[-1]}"
            if coarse
            else "looked for point_cloud/iteration_*/point_cloud.ply and deformation.pth",
            "Finish its training first" if coarse else "Give the folder named as --model_path",
        )
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


def _state(file: Path) -> dict[str, Tensor]:
    """Tensors of deformation.pth, float32, names without their common prefix."""
    data = load_pickled(file)
    if not isinstance(data, dict) or not all(
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_complex()
        for name, value in data.items()
    ):
        raise InputRejected(f"{file} is not a state dict", EXPECTED, GIVE)
    numbers = sum(value.numel() for value in data.values())
    if numbers > NUMBERS_MAX:
        raise InputRejected(
            f"{file} holds {numbers} numbers", f"at most {NUMBERS_MAX} are expected", GIVE
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


def _shape(
    file: Path, state: dict[str, Tensor], gaussians: CanonicalGaussians, heads: int
) -> tuple[ModelConfig, int]:
    """Shape of the network by its tensors, and the width of the speech features."""

    def size(name: str, axis: int) -> int:
        if name not in state or state[name].ndim <= axis:
            raise InputRejected(f"{file} lacks {name}", EXPECTED, GIVE)
        return int(state[name].shape[axis])

    sides: list[int] = []
    while f"tri_plane.grid.grids.{len(sides)}.0" in state:
        sides.append(size(f"tri_plane.grid.grids.{len(sides)}.0", 3))
    layers = 0
    while f"transformer.layers.{layers}.norm1.gamma" in state:
        layers += 1
    if not sides or not layers or any(side % sides[0] for side in sides):
        raise InputRejected(
            f"{file} has tri-planes of {sides} cells and {layers} attention layers", EXPECTED, GIVE
        )
    width = size("transformer.layers.0.enc_dec_attention.w_q.weight", 0)
    coefficients = size("shs_deform.3.weight", 0) // 3
    if coefficients != gaussians.sh.shape[1]:
        raise InputRejected(
            f"{file} moves {coefficients} spherical harmonics",
            f"{file.with_name('point_cloud.ply').name} has {gaussians.sh.shape[1]}",
            "Take both files from one iteration of one run",
        )
    if heads < 1 or width % heads:
        raise InputRejected(
            f"{file} is {width} wide",
            f"that cannot be split among {heads} attention heads",
            "Give its config with --config",
        )
    config = ModelConfig(
        plane_resolution=sides[0],
        plane_scales=tuple(side // sides[0] for side in sides),
        plane_channels=size("tri_plane.grid.grids.0.0", 1),
        net_width=size("pos_deform.1.weight", 0),
        d_model=width,
        n_head=heads,
        n_layer=layers,
        ffn_hidden=size("transformer.layers.0.ffn.linear1.weight", 0),
        sh_degree=round(coefficients**0.5) - 1,
    )
    return config, size("audio_net.encoder_conv.0.weight", 1)

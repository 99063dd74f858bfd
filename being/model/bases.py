"""Linear bases of the offsets, and the net that computes a frame's coefficients.

The network of an avatar computes offsets for every Gaussian and every frame. They are nearly linear
in a few numbers: offsets = mean + sum over k of coefficient k times basis k. The coefficient net
computes the K coefficients from the frame's mouth code, expression and camera:

    x = clamp((inputs - input_mean) / input_scale, -INPUT_LIMIT, INPUT_LIMIT)
    coefficients = W2 silu(W1 silu(W0 x + b0) + b1) + b2

A basis has 14 columns a Gaussian (`FIELD_WIDTHS`). Of the spherical harmonics it has the constant
one only: what the higher ones change in a frame, seen from the frame's camera, is in it. Their mean
is in `mean`.

`train/bases_fit.py` computes them. B frames, N Gaussians, K bases, S harmonics, M channels of the
mouth code, E expression channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.data.conditions import Conditions
from being.data.mouth import CODE_GAIN
from being.errors import InputRejected
from being.files import save_tensors
from being.model.avatar_manifest import BASES_MAX
from being.model.coefficient_net import INPUT_LIMIT
from being.model.gaussians import PARAMETER_NAMES, CanonicalGaussians
from being.model.gaussiantalker import Offsets
from being.model.tokens import CAMERA_WIDTH
from being.reading.content import RESTORE_HINT
from being.reading.tensors import load_tensors

if TYPE_CHECKING:
    from being.model.avatar import Avatar

BASES_FILE = "bases.safetensors"  # in an avatar bundle
FIELD_WIDTHS = {"means": 3, "log_scales": 3, "quaternions": 4, "opacity_logits": 1, "sh_dc": 3}
BASIS_WIDTH = sum(FIELD_WIDTHS.values())
GEOMETRY_WIDTH = BASIS_WIDTH - FIELD_WIDTHS["sh_dc"]  # columns of `mean` before the harmonics
MOST_HIDDEN = 1024  # width of a hidden layer
NET_LAYERS = 3
ADD_BASES = "Add them with: being export AVATAR --bases"


class Bases(nn.Module):
    """Mean offset, bases and coefficient net of one avatar, float32."""

    mean: Tensor  # [N, 11 + 3 S] means, log scales, quaternions, opacity logits, harmonics
    basis: Tensor  # [K, N, 14] what a coefficient of 1 adds, columns as in FIELD_WIDTHS
    input_mean: Tensor  # [M + E + 12] of the net's inputs
    input_scale: Tensor  # [M + E + 12], above 0

    def __init__(
        self,
        mean: Tensor,
        basis: Tensor,
        input_mean: Tensor,
        input_scale: Tensor,
        layers: list[tuple[Tensor, Tensor]],
    ):
        """layers: weight [out, in] and bias [out] of each layer of the coefficient net."""
        super().__init__()
        for name, value in (
            ("mean", mean),
            ("basis", basis),
            ("input_mean", input_mean),
            ("input_scale", input_scale),
        ):
            self.register_buffer(name, value.detach().float().contiguous())
        self.net = nn.ModuleList()
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight = nn.Parameter(weight.detach().float().contiguous())
            linear.bias = nn.Parameter(bias.detach().float().contiguous())
            self.net.append(linear)

    @property
    def count(self) -> int:
        """Number of bases K."""
        return self.basis.shape[0]

    @property
    def size(self) -> int:
        """Number of Gaussians N."""
        return self.basis.shape[1]

    @property
    def harmonics(self) -> int:
        """Number of spherical harmonics S."""
        return (self.mean.shape[1] - GEOMETRY_WIDTH) // 3

    @property
    def input_width(self) -> int:
        """Number of inputs of the coefficient net."""
        return len(self.input_mean)

    def coefficients(self, code: Tensor, expression: Tensor, camera: Tensor) -> Tensor:
        """The coefficients [B, K] of frames.

        code [B, M] in the units of `VoiceToMouth.codes`; expression [B, E]; camera [B, 12]
        (`data.cameras.camera_vector`).
        """
        inputs = torch.cat([code, expression, camera], 1)
        assert inputs.shape[1] == self.input_width, (inputs.shape, self.input_width)
        x = (inputs - self.input_mean) / self.input_scale
        x = x.clamp(-INPUT_LIMIT, INPUT_LIMIT)
        for layer in self.net[:-1]:
            x = F.silu(layer(x))
        return self.net[-1](x)

    def coefficients_of(self, conditions: Conditions) -> Tensor:
        """The coefficients [B, K] of the conditions of a network that reads the mouth code."""
        return self.coefficients(
            code_of(conditions.audio), conditions.expression, conditions.camera
        )

    def offsets(self, coefficients: Tensor) -> Offsets:
        """The offsets of B frames with coefficients [B, K], mean included."""
        assert coefficients.shape[1] == self.count, (coefficients.shape, self.count)
        moved = (coefficients @ self.basis.flatten(1)).view(-1, self.size, BASIS_WIDTH)
        return offsets_of(self.mean, moved)

    def forward(self, conditions: Conditions) -> Offsets:
        """The offsets of the frames of a batch of conditions."""
        return self.offsets(self.coefficients_of(conditions))

    def base(self, gaussians: CanonicalGaussians) -> Tensor:
        """The raw parameters [N, 11 + 3 S] of the mean frame: canonical Gaussians and `mean`."""
        raw = [getattr(gaussians, name).detach().flatten(1) for name in PARAMETER_NAMES]
        return torch.cat(raw, 1) + self.mean

    def selected(self, index: Tensor) -> Bases:
        """The bases of the Gaussians `index` int64 [n]."""
        return Bases(
            self.mean[index],
            self.basis[:, index],
            self.input_mean,
            self.input_scale,
            self.layers(),
        ).to(self.mean.device)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight [out, in] and bias [out] of each layer of the coefficient net."""
        return [(net.get_parameter("weight"), net.get_parameter("bias")) for net in self.net]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the bundle's file by name; `basis` is float16."""
        found = {name: value.detach().cpu() for name, value in self.state_dict().items()}
        return {**found, "basis": found["basis"].half()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Bases:
        """The bases of `tensors`. Raises ValueError for tensors that do not fit together."""
        names = [f"net.{k}.{part}" for k in range(NET_LAYERS) for part in ("weight", "bias")]
        needed = {"mean", "basis", "input_mean", "input_scale", *names}
        if set(tensors) != needed:
            different = ", ".join(sorted(set(tensors) ^ needed)[:3])
            raise ValueError(f"missing or unknown: {different}")
        for name, value in tensors.items():
            if not value.is_floating_point():
                raise ValueError(f"{name} is {value.dtype}")
        _check_shapes(tensors)
        layers = [(tensors[f"net.{k}.weight"], tensors[f"net.{k}.bias"]) for k in range(NET_LAYERS)]
        return cls(
            tensors["mean"],
            tensors["basis"],
            tensors["input_mean"],
            tensors["input_scale"],
            layers,
        )

    def save(self, path: Path) -> None:
        """Write the bases as a safetensors file, whole or not at all."""
        save_tensors(path, self.tensors())

    @classmethod
    def load(cls, path: Path) -> Bases:
        """The bases in a file of `save`. Raises InputRejected for anything else."""
        tensors = load_tensors(path)
        try:
            return cls.from_tensors(tensors)
        except ValueError as error:
            raise InputRejected(
                f"{path} holds no bases of an avatar", str(error), RESTORE_HINT
            ) from error


def code_of(audio: Tensor) -> Tensor:
    """The mouth code [B, M] in attention windows [B, 8, M, 16] of its rows (`mouth.code_rows`)."""
    return audio[:, 0, :, 0] / CODE_GAIN


def offsets_of(mean: Tensor, moved: Tensor) -> Offsets:
    """The offsets mean [N, 11 + 3 S] + moved [B, N, 14]."""
    widths = [*FIELD_WIDTHS.values()][:-1]
    geometry = mean[:, :GEOMETRY_WIDTH] + moved[..., :GEOMETRY_WIDTH]
    means, log_scales, quaternions, opacity_logits = geometry.split(widths, -1)
    constant = mean[:, GEOMETRY_WIDTH : GEOMETRY_WIDTH + 3] + moved[..., GEOMETRY_WIDTH:]
    rest = mean[:, GEOMETRY_WIDTH + 3 :].expand(len(moved), -1, -1)
    sh = torch.cat([constant, rest], -1).unflatten(-1, (-1, 3))
    return Offsets(means, log_scales, quaternions, opacity_logits, sh)


def required_bases(avatar: Avatar) -> Bases:
    """The bases of an avatar. Raises InputRejected where it has none."""
    if avatar.bases is None:
        raise InputRejected(
            f"the avatar {avatar.path} has no bases", "it can only be deformed by its network",
            f"{ADD_BASES}, or leave --deform out",
        )  # fmt: skip
    return avatar.bases


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless the shapes fit together."""
    basis, mean = tensors["basis"], tensors["mean"]
    if basis.ndim != 3 or not 0 < basis.shape[0] <= BASES_MAX or basis.shape[2] != BASIS_WIDTH:
        raise ValueError(f"basis is {tuple(basis.shape)}, expected [K, N, {BASIS_WIDTH}]")
    count, size = basis.shape[:2]
    if mean.ndim != 2 or len(mean) != size or mean.shape[1] not in _mean_widths():
        raise ValueError(f"mean is {tuple(mean.shape)} for {size} Gaussians")
    for name in ("input_mean", "net.0.bias", "net.1.bias"):
        if tensors[name].ndim != 1:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}")
    inputs = len(tensors["input_mean"])
    sides = [inputs, len(tensors["net.0.bias"]), len(tensors["net.1.bias"]), count]
    if max(sides[1:3]) > MOST_HIDDEN or min(sides) < 1:
        raise ValueError(f"the coefficient net has layers of {sides}")
    expected: dict[str, tuple[int, ...]] = {"input_mean": (inputs,), "input_scale": (inputs,)}
    for k, (side, following) in enumerate(zip(sides, sides[1:], strict=False)):
        expected |= {f"net.{k}.weight": (following, side), f"net.{k}.bias": (following,)}
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, expected {shape}")
    if not bool((tensors["input_scale"] > 0).all()):
        raise ValueError("input_scale must be above 0")


def _mean_widths() -> set[int]:
    """Columns of `mean` for the degrees 0 to 3 of the harmonics."""
    return {GEOMETRY_WIDTH + 3 * (degree + 1) ** 2 for degree in range(4)}


def check_fits(bases: Bases, code: int, expression: int, gaussians: CanonicalGaussians) -> None:
    """Raise ValueError unless the bases are of an avatar of this size.

    code, expression: channels M and E.
    """
    harmonics = gaussians.sh_rest.shape[1] + 1
    found = (bases.size, bases.harmonics, bases.input_width)
    expected = (len(gaussians), harmonics, code + expression + CAMERA_WIDTH)
    if found != expected:
        raise ValueError(
            f"Gaussians, harmonics and inputs are {found}, those of the avatar {expected}"
        )

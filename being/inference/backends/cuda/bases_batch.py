"""A batch of frames on the CUDA device that bases deform, and not the network.

B frames, N Gaussians, K bases, M channels of the mouth code, E expression channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from being.data.mouth import CODE_GAIN
from being.inference.backends.cuda.frame_batch import (
    EXPRESSION,
    GAUSSIANS_PER_PROGRAM,
    POSE,
    TORCH_TYPES,
    DeviceAvatar,
    FrameBatch,
)
from being.inference.backends.cuda.kernels.bases import COLUMNS, deform_by_bases
from being.model.avatar import Avatar
from being.model.bases import BASIS_WIDTH, GEOMETRY_WIDTH, Bases
from being.model.folding import MIN_SIDE
from being.splat.cuda.stages import FUSED_MULTIPLY_ADD


class BasesAvatar(DeviceAvatar):
    """The constants of an avatar that bases deform, on the device."""

    def __init__(self, avatar: Avatar, camera: Tensor, precision: str, bases: Bases):
        """camera: float32 [P, 12], the camera values of every pose; precision: of the bases."""
        self._set_common(avatar, camera)
        self.camera, self.bases = camera.contiguous(), bases.to(self.device)
        base = bases.base(avatar.model.gaussians).to(self.device)
        self.raw = base[:, :GEOMETRY_WIDTH].contiguous()
        self.raw_sh = base[:, GEOMETRY_WIDTH:].contiguous()
        padded = F.pad(bases.basis, (0, COLUMNS.value - BASIS_WIDTH))
        self.basis = padded.to(self.device, TORCH_TYPES[precision]).contiguous()


class BasesBatch(FrameBatch):
    """A batch whose Gaussians are moved by bases."""

    avatar: BasesAvatar

    def _allocate_deformation(self) -> None:
        self.coefficients = torch.zeros(
            self.frames, self.avatar.bases.count, device=self.avatar.device
        )

    def deformation_steps(self) -> list[tuple[str, Callable[[], None]]]:
        """The steps from the inputs to the Gaussians."""
        return [("coefficients", self.make_coefficients), ("bases", self.deform_by_bases)]

    def make_coefficients(self) -> None:
        """Mouth code, expression and pose -> coefficients."""
        avatar = self.avatar
        # A frame reads its own row of the mouth code alone, which holds it in all steps.
        code = self.pool.table[self.inputs[:, 0].long(), 0] / CODE_GAIN
        expression = self.inputs[:, EXPRESSION:].contiguous().view(torch.float32)
        camera = avatar.camera[self.inputs[:, POSE].long()]
        self.coefficients.copy_(avatar.bases.coefficients(code, expression, camera))

    def deform_by_bases(self) -> None:
        """Coefficients and the mean frame -> the frames' activated Gaussians."""
        avatar, harmonics = self.avatar, self.avatar.raw_sh.shape[1]
        self.gaussians = self.new_gaussians(harmonics)
        deform_by_bases[(-(-avatar.count // GAUSSIANS_PER_PROGRAM), self.frames)](
            self.coefficients,
            avatar.basis,
            avatar.raw,
            avatar.raw_sh,
            *self.gaussians,
            avatar.count,
            bases=avatar.bases.count,
            harmonics=harmonics,
            sh_padded=max(MIN_SIDE, 1 << (harmonics - 1).bit_length()),
            rows_=GAUSSIANS_PER_PROGRAM,
            num_warps=4,
            **FUSED_MULTIPLY_ADD,
        )

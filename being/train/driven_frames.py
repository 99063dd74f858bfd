"""Frames of an avatar with any mouth code, expression and camera: what its bases are fitted on.

They come from the training frames of the clip where the dataset is at hand, else from the bundle
alone: its poses, and the codes that its voice gives for the sounds of the clip. B frames, M
channels of the mouth code, E expression channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.data.cameras import camera_vector
from being.data.conditions import Conditions
from being.data.expression_channels import ExpressionChannels
from being.data.mouth import CODE_GAIN
from being.model.avatar import Avatar

# Of drawn frames: the share that keeps code, expression and camera of one frame; of the others, the
# share whose expression is that of a frame, and not one that is held.
OWN_SHARE, USUAL_FACE_SHARE = 0.4, 0.5
# A drawn code lies between two codes of the clip, or a little outside of them; a camera likewise.
BETWEEN = (-0.2, 1.2)
HELD_CHANNELS = 2  # expression channels that a drawn frame holds at a random value
HELD_OUT_SHARE = 0.1  # at the end of a bundle's poses and codes, for measurements


@dataclass(frozen=True)
class Frames:
    """Mouth codes, expressions and cameras of B frames, on one device."""

    code: Tensor  # [B, M] float32, in the units of `VoiceToMouth.codes`
    expression: Tensor  # [B, E] float32
    world_to_camera: Tensor  # [B, 4, 4] float32
    camera: Tensor  # [B, 12] float32

    def __len__(self) -> int:
        return len(self.code)

    def __getitem__(self, index: Tensor | slice) -> Frames:
        return Frames(
            self.code[index],
            self.expression[index],
            self.world_to_camera[index],
            self.camera[index],
        )

    @property
    def inputs(self) -> Tensor:
        """The inputs [B, M + E + 12] of the coefficient net."""
        return torch.cat([self.code, self.expression, self.camera], 1)

    def conditions(self) -> Conditions:
        """The inputs of the network."""
        rows = (self.code * CODE_GAIN)[:, None, :, None]
        audio = rows.expand(-1, ATTENTION_WINDOW, -1, FEATURE_WINDOW).contiguous()
        return Conditions(audio, self.expression, self.camera)

    @classmethod
    def of(cls, code: np.ndarray, expression: np.ndarray, world_to_camera: np.ndarray) -> Frames:
        """Frames of arrays [B, M], [B, E] and [B, 4, 4], on the CPU."""
        parts = (code, expression, world_to_camera, camera_vector(world_to_camera))
        return cls(*(torch.from_numpy(np.array(part, np.float32)) for part in parts))

    def to(self, device: torch.device) -> Frames:
        """The same frames on another device."""
        return Frames(
            self.code.to(device),
            self.expression.to(device),
            self.world_to_camera.to(device),
            self.camera.to(device),
        )


@dataclass(frozen=True)
class DrivenFrames:
    """The frames that bases are fitted on, and those that they are measured on."""

    known: Frames  # of the clip
    held_out: Frames  # of a part of the clip that was not trained on
    channels: ExpressionChannels
    # Whether code, expression and camera of a known frame were seen together.
    together: bool

    def draw(self, count: int, generator: torch.Generator) -> Frames:
        """Frames [count] of the clip, and with codes, expressions and cameras of different frames.

        generator: on the CPU.
        """
        known, total = self.known, len(self.known)
        device = known.code.device

        def pick() -> Tensor:
            return torch.randint(total, (count,), generator=generator)

        def chance(share: float) -> Tensor:
            return torch.rand(count, 1, generator=generator) < share

        own = pick()
        alone = chance(OWN_SHARE if self.together else 0.0)

        # Another code: between two codes of the clip
        def share() -> Tensor:
            low, high = BETWEEN
            return low + (high - low) * torch.rand(count, 1, generator=generator)

        first, second = known.code.cpu()[pick()], known.code.cpu()[pick()]
        code = torch.where(alone, known.code.cpu()[own], first + share() * (second - first))

        # Another expression: that of another frame, or some channels held at any value
        expression = known.expression.cpu()[pick()]
        least, most = (torch.tensor(part) for part in (self.channels.least, self.channels.most))
        anything = least + (most - least) * torch.rand(count, len(least), generator=generator)
        held = torch.rand(count, len(least), generator=generator) < HELD_CHANNELS / len(least)
        held &= ~chance(USUAL_FACE_SHARE)
        expression = torch.where(held, anything, expression)
        expression = torch.where(alone, known.expression.cpu()[own], expression)

        # Another camera: between those of two frames
        matrices = known.world_to_camera.cpu()
        other = between(matrices[own], matrices[pick()], share())
        matrix = torch.where(alone[..., None], matrices[own], other)
        return Frames.of(code.numpy(), expression.numpy(), matrix.numpy()).to(device)

    def to(self, device: torch.device) -> DrivenFrames:
        """The same frames on another device."""
        return DrivenFrames(
            self.known.to(device), self.held_out.to(device), self.channels, self.together
        )


def between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Rigid matrices [B, 4, 4] between `first` and `second`; share [B, 1], 0 is the first."""
    mixed = torch.lerp(first, second, share[..., None])
    # The nearest rotation
    left, _, right = torch.linalg.svd(mixed[:, :3, :3])
    mixed[:, :3, :3] = left @ right
    return mixed


def frames_of_bundle(avatar: Avatar) -> DrivenFrames:
    """The poses of an avatar that reads the mouth code, with codes that its voice gives.

    A tenth of both is held out. The codes are those of the sounds of the training clip; they do not
    belong to the poses.
    """
    voice = avatar.voice
    assert voice is not None, "only an avatar that reads the mouth code has bases"
    codes = voice.calibrate(voice.predict(voice.centres))
    poses = avatar.pose_count
    numbers = np.arange(poses)
    kept, kept_codes = (max(1, round(n * (1 - HELD_OUT_SHARE))) for n in (poses, len(codes)))

    def frames(pose: np.ndarray, code: np.ndarray) -> Frames:
        places = np.linspace(0, len(code) - 1, len(pose)).round().astype(int)
        return Frames.of(
            code[places],
            avatar.expression.cpu().numpy()[pose],
            avatar.world_to_camera.cpu().numpy()[pose],
        )

    if poses == kept:
        kept_poses, held_poses = numbers, numbers
    else:
        kept_poses, held_poses = numbers[:kept], numbers[kept:]
    held_codes = codes[kept_codes:] if kept_codes < len(codes) else codes
    # As many frames as there are codes, so that `draw` takes from all of them.
    count = max(len(kept_poses), kept_codes)
    known = frames(np.resize(kept_poses, count), codes[:kept_codes])
    return DrivenFrames(known, frames(held_poses, held_codes), avatar.channels, together=False)

"""An avatar baked for rendering: sound in, uint8 frames out.

One frame is: audio window + expression + pose -> offsets -> splats -> composite over the pose's
plate -> uint8. What does not depend on the frame is computed once at load, and kernels do the rest:
on CUDA as one graph launch (`graph`), on a CPU in native code (`native_head`). Frames stream:
memory does not grow with length.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.audio.encoders import encoder, width_of
from being.audio.feature_files import array_blocks
from being.audio.feature_stream import feature_blocks
from being.data.cameras import camera_numbers
from being.errors import InputRejected, UsageError
from being.inference.backends.torch import PlainHead
from being.inference.feature_pool import AHEAD, ROOM, Feed, Sound
from being.inference.interpolation import interpolated
from being.inference.pose_path import pose_path
from being.inference.pruning import pruned
from being.model.avatar import Avatar, load_avatar
from being.splat.api import pick_backend

BATCH = 8
IN_FLIGHT = 2  # batches that render or travel while the one before is used
Faces = Callable[
    [np.ndarray], np.ndarray
]  # expression of the next frames' poses -> of the frames, [B, E]
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class Engine:
    """Renders one avatar, for one sound or for many at a time (`submit`). Not for several threads
    at once.
    """

    def __init__(
        self, avatar: Avatar, precision: str = "auto", plain: bool = False, deform_every: int = 1
    ):
        self.avatar, self.deform_every = avatar, deform_every
        self.device = avatar.world_to_camera.device
        self.camera = torch.from_numpy(camera_numbers(avatar.world_to_camera.cpu().numpy())).to(
            self.device
        )
        self.expression = avatar.expression.cpu().numpy()
        self.head = _head(avatar, self.camera, precision, plain)
        self.precision = self.head.precision
        if deform_every < 1:
            raise UsageError(
                f"every {deform_every}th frame cannot be deformed",
                fix="Give 1 (all of them), 2 or 3",
            )
        if deform_every > 1 and not hasattr(self.head, "keep"):
            raise UsageError(
                "only the native engine on the CPU leaves out deformation of frames",
                f"here {type(self.head).__name__} renders",
                "Leave --deform-every out",
            )

    @classmethod
    def load(
        cls,
        path: Path,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        prune_to: float | None = None,
        deform_every: int = 1,
    ) -> Engine:
        """The engine of the bundle, or of the run's bundle, at `path`.

        precision: what the network's products are computed in, "float32", "bfloat16" or "float16"
        (sums are float32); "auto" is float16 on CUDA, on a CPU bfloat16 where the chip multiplies
        it. prune_to: the share of Gaussians that is kept, those that contribute most. deform_every:
        `stream` deforms only each such frame and takes the others from between (native engine on
        the CPU). Raises as `load_avatar`, UsageError for an unknown precision, one that the device
        has no products for, no share, and frames left out where the device does not.
        """
        avatar = load_avatar(path, device)
        kept = pruned(avatar, prune_to) if prune_to is not None else avatar
        return cls(kept, precision, deform_every=deform_every)

    def sound(self, features: Tensor | None = None, room: int = ROOM) -> Sound:
        """A new sound to be heard, `features` [n, 16, C] pushed. `room`: rows that are kept at a
        time.
        """
        sound = Sound(self.head.sounds, room)
        if features is not None:
            sound.push(features)
        return sound

    def submit(
        self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray | None = None
    ) -> Any:
        """Begin to render B frames of any sounds; `.pictures()` of the result waits for uint8 [B,
        S, S, 3].

        rows int32 [B, 8] as `Sound.rows` gives them, poses int64 [B], expression float32 [B, E]
        (default: the pose's own). The pictures lie in memory that is used again: look at them, or
        copy them, before two more calls.
        """
        return self.head.submit(
            rows, poses, self.expression[poses] if expression is None else expression
        )

    def render(
        self,
        features: Tensor,
        frames: np.ndarray,
        poses: np.ndarray,
        expression: np.ndarray | None = None,
    ) -> np.ndarray:
        """Pictures uint8 [B, S, S, 3] of `frames` int64 [B] of sound features [F, 16, C] in `poses`
        int64 [B].
        """
        with self.sound(features, max(ROOM, len(features))) as sound:
            return (
                self.submit(sound.rows(np.asarray(frames)), np.asarray(poses), expression)
                .pictures()
                .copy()
            )

    def encode(self, samples: np.ndarray) -> Iterator[Tensor]:
        """Speech features [k, 16, C] of sound float32 [T] at 16 kHz, one row for every frame that
        it fills, some seconds at a time as they are asked for.

        Raises as `check_hearing`, and InputRejected for samples that are not numbers.
        """
        self.check_hearing()
        manifest = self.avatar.manifest
        return (
            torch.from_numpy(rows)
            for rows in feature_blocks(samples, manifest["encoder"], manifest["audio_width"])
        )

    def check_hearing(self) -> None:
        """Load the encoder whose features the avatar hears.

        Raises UsageError when they come from another program (`features_in`), InputRejected when
        they are of another width now, and as `encoders.encoder`.
        """
        name, width = self.avatar.manifest["encoder"], self.avatar.manifest["audio_width"]
        found = encoder(name)
        if not hasattr(found, "stretches"):
            raise UsageError(
                f"the avatar {self.avatar.path} hears '{name}' features",
                "another program computes them",
                "Let it write those of the sound: being render --audio SOUND --features FILE.npy",
            )
        if width_of(found, width) != width:
            raise InputRejected(
                f"the avatar {self.avatar.path} hears {width}-wide speech features",
                f"those of the encoder '{name}' are {found.width} wide",
                "Train it again",
            )

    def features_in(self, file: Path, frames: int) -> Iterator[Tensor]:
        """Speech features [k, 16, C] that another program has made of a sound of `frames` frames,
        some at a time.

        file: .npy, float [about frames, 16, C]. Raises InputRejected for anything else, before the
        first.
        """
        blocks = array_blocks(file, frames, self.avatar.manifest["audio_width"])
        return (torch.from_numpy(rows) for rows in blocks)

    def stream(
        self,
        features: Tensor | Iterable[Tensor],
        batch: int = BATCH,
        expression: Faces | None = None,
    ) -> Iterator[np.ndarray]:
        """Frames uint8 [S, S, 3], one for every row of `features`; poses go back and forth.

        features: [F, 16, C], whole or as blocks of rows. expression: called for the next B frames
        with that of their poses, float32 [B, E], it gives theirs; by default they are the same.
        While frames are used, later ones render.
        """
        if self.deform_every > 1:
            yield from interpolated(self, features, batch, expression)
            return
        under_way: deque[Any] = deque()
        with self.sound(room=max(ROOM, 4 * batch)) as sound:
            start, heard = 0, Feed(features, sound)
            while count := min(batch, heard.until(start + batch + AHEAD) - start):
                frames, poses = (
                    np.arange(start, start + count),
                    pose_path(count, self.avatar.poses, start),
                )
                face = None if expression is None else expression(self.expression[poses])
                under_way.append(self.submit(sound.rows(frames), poses, face))
                start += count
                if len(under_way) == IN_FLIGHT:
                    yield from under_way.popleft().pictures().copy()
            while under_way:
                yield from under_way.popleft().pictures().copy()

    def close(self) -> None:
        """Free what the device holds for it."""
        self.head.close()


def _head(avatar: Avatar, camera: Tensor, precision: str, plain: bool) -> Any:
    """What renders the avatar here: kernels, native code, or the plain model where another
    rasterizer was chosen.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}'", fix=f"Use {', '.join(PRECISIONS)}")
    rasterizer = pick_backend("auto", avatar.model.gaussians.means)
    interpreted = camera.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    if (rasterizer == "triton" or interpreted) and not plain:
        from being.inference.backends.cuda.renderer import GraphHead, foldable

        if foldable(avatar.model.network):
            return GraphHead(avatar, camera, "float16" if precision == "auto" else precision)
    if camera.device.type == "cpu" and rasterizer == "cpu" and not plain:
        from being.inference.backends.cpu import head

        if head.status().startswith("OK"):
            from being.inference.backends.cpu.renderer import CpuHead

            return CpuHead(avatar, camera, precision)
    return PlainHead(avatar, camera, "float32" if precision == "auto" else precision)

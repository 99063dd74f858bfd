"""The engine: renders a trained avatar from speech features to uint8 frames.

One frame is: attention window + expression + pose -> offsets -> splats -> composite over the pose's
plate -> uint8. What does not depend on the frame is computed once at load. A renderer does the rest
(`protocol`): one CUDA graph, native code on a CPU, or the model's own modules. Frames come as a
stream: memory does not grow with the length of the audio.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.audio.encoder_interface import output_width
from being.audio.encoders import load_encoder
from being.audio.feature_files import feature_file_blocks
from being.audio.feature_stream import FeatureStream, feature_blocks
from being.data.cameras import camera_vector
from being.errors import InputRejected, UsageError
from being.inference.backends.torch import TorchRenderer
from being.inference.feature_pool import (
    DEFAULT_CAPACITY,
    LOOK_AHEAD_FRAMES,
    FeatureFeeder,
    FeatureTrack,
)
from being.inference.frame_rate import ExpressionAtRate, ExpressionSource, FrameClock
from being.inference.interpolation import interpolated_frames
from being.inference.look import Look, View, view_of
from being.inference.mouth_stream import MouthStream, live_stream
from being.inference.pose_path import pose_path
from being.inference.protocol import FrameRenderer, KeyFrameRenderer, PendingFrames
from being.inference.pruning import pruned
from being.model.avatar import Avatar, load_avatar
from being.model.bases import Bases, required_bases
from being.model.voice_to_mouth import MouthRowStream
from being.splat import select_backend

DEFAULT_BATCH = 8  # frames
MAX_PENDING = 2  # batches that render or are copied while the one before is used
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
RENDERERS = ("auto", "torch")
DEFORMATIONS = ("network", "bases")
DATASET_CLOCK = FrameClock()


class Engine:
    """Renders one avatar, for one audio track or for many at a time. Not for several threads.

    A whole file: `for image in engine.stream(engine.encode(samples))`. Live audio:

        stream, track = engine.feature_stream(), engine.track()
        track.push(torch.from_numpy(stream.push(pcm)))
        images = engine.submit(track.rows(frames), poses).images()

    A frame can be submitted once `LOOK_AHEAD_FRAMES` (3) rows after its own row are pushed, or once
    the stream has finished. B frames, C channels of a speech feature, E expression channels, P
    poses, S image side.
    """

    def __init__(
        self,
        avatar: Avatar,
        precision: str = "auto",
        renderer: str = "auto",
        deform_every: int = 1,
        rasterizer: str = "auto",
        view: View | None = None,
        deform: str = "network",
    ):
        """precision, deform_every, deform: as for `load`.

        view: the avatar prepared for another look, `avatar` is then `view.avatar`.

        renderer: "torch" for the model's own modules, "auto" for the fastest that can run here;
        rasterizer: a backend of `being.splat`, by name; "auto" is the model's own
        (`TalkingHead.backend`). Raises as `load` does.
        """
        if deform_every < 1:
            raise UsageError(
                f"deform_every is {deform_every}",
                "each Nth frame is deformed, so N is at least 1",
                "Give 1 (all frames), 2 or 3",
            )
        self.view = view or view_of(avatar, Look())
        if deform_every > 1 and (self.view.clock != DATASET_CLOCK or self.view.alpha):
            raise UsageError(
                "--deform-every does not fit --fps and --background transparent",
                "it interpolates at 25 frames a second over plain plates",
                "Leave --deform-every out",
            )
        self.avatar, self.deform_every = avatar, deform_every
        self.device = avatar.world_to_camera.device
        cameras = camera_vector(avatar.world_to_camera.cpu().numpy())
        self.camera = torch.from_numpy(cameras).to(self.device)
        self.expression = avatar.expression.cpu().numpy()
        wanted = avatar.model.backend if rasterizer == "auto" else rasterizer
        self.rasterizer = select_backend(wanted, self.device)
        bases = _bases_of(avatar, deform)
        self.deform = deform
        self.renderer = _choose_renderer(
            avatar, self.camera, precision, renderer, self.rasterizer, bases
        )
        self.precision = self.renderer.precision
        if deform_every > 1 and not isinstance(self.renderer, KeyFrameRenderer):
            raise UsageError(
                "only the native renderer on a CPU can interpolate frames",
                f"this engine uses {type(self.renderer).__name__}",
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
        rasterizer: str = "auto",
        look: Look | None = None,
        deform: str = "network",
    ) -> Engine:
        """The engine of the bundle, or of the run's bundle, at `path`.

        precision: number format of the network's products, "float32", "bfloat16" or "float16" (sums
        are float32); "auto" is float16 on CUDA, and bfloat16 on a CPU that multiplies it.
        prune_to: the share of Gaussians to keep, those that contribute most.
        deform_every: `stream` deforms only each Nth frame and interpolates the others (native
        renderer on a CPU).
        rasterizer: a backend of `being.splat`, by name.
        look: frame rate and background of `video`.
        deform: what moves the Gaussians: the avatar's "network", or its "bases" (`model.bases`).

        Raises as `load_avatar`, `select_backend` and `view_of`; UsageError for an unknown
        precision or deformation, a precision that the device has no products for, a share out of
        range, and `deform_every` above 1 where the renderer cannot interpolate; InputRejected for
        bases that the avatar lacks.
        """
        avatar = load_avatar(path, device)
        avatar.model.backend = select_backend(rasterizer, avatar.world_to_camera.device)
        if prune_to is not None:
            avatar = pruned(avatar, prune_to)
        view = view_of(avatar, look or Look())
        return cls(view.avatar, precision, deform_every=deform_every, view=view, deform=deform)

    def feature_stream(self, latency: str | None = None) -> FeatureStream | MouthStream:
        """A stream of the avatar's encoder: chunks of audio in, rows for `FeatureTrack.push` out.

        latency: "stream" or "low", of the encoder that the avatar was trained on; default: the
        avatar's live encoder, where it has one, else the latency of the encoder's name
        ("hama@low"), else "stream". Raises as `check_encoder`, and as `FeatureStream` for an
        encoder without a streaming form.
        """
        self.check_encoder()
        avatar = self.avatar
        if latency is None:
            voice = avatar.voice if avatar.live_voice is None else avatar.live_voice
            return live_stream(avatar.live_encoder, voice, avatar.feature_width)
        stream = FeatureStream(avatar.manifest["encoder"], latency, avatar.feature_width)
        return stream if avatar.voice is None else MouthStream(stream, avatar.voice)

    def track(
        self, features: Tensor | None = None, capacity: int = DEFAULT_CAPACITY
    ) -> FeatureTrack:
        """A new audio track; rows of speech features [n, 16, C] are pushed to it as they come.

        features: the first rows; capacity: rows that are kept at a time.
        """
        track = FeatureTrack(self.renderer.pool, capacity)
        if features is not None:
            track.push(features)
        return track

    def submit(
        self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray | None = None
    ) -> PendingFrames:
        """Start to render B frames of any tracks; `.images()` of the result waits for them.

        rows int32 [B, 8] from `FeatureTrack.rows`, poses int64 [B], expression float32 [B, E]
        (default: that of the poses). The images uint8 [B, S, S, 3] lie in memory that is used
        again: read or copy them before two more calls.
        """
        if expression is None:
            expression = self.expression[poses]
        return self.renderer.submit(rows, poses, expression)

    def render(
        self,
        features: Tensor,
        frames: np.ndarray,
        poses: np.ndarray,
        expression: np.ndarray | None = None,
    ) -> np.ndarray:
        """Images uint8 [B, S, S, 3] of `frames` int64 [B] of speech features [F, 16, C].

        poses: int64 [B]; expression: as for `submit`.
        """
        with self.track(features, max(DEFAULT_CAPACITY, len(features))) as track:
            pending = self.submit(track.rows(np.asarray(frames)), np.asarray(poses), expression)
            return pending.images().copy()

    def encode(self, samples: np.ndarray) -> Iterator[Tensor]:
        """Rows [k, 16, C] for a track, of audio float32 [T] at 16 kHz, in blocks of some seconds:
        speech features, or mouth codes where the avatar reads these.

        There is one row for every frame that the audio begins. Raises as `check_encoder`, and
        InputRejected for samples that are not finite.
        """
        self.check_encoder()
        avatar = self.avatar
        return self._rows(feature_blocks(samples, avatar.manifest["encoder"], avatar.feature_width))

    def _rows(self, blocks: Iterator[np.ndarray]) -> Iterator[Tensor]:
        """Rows for a track of blocks of speech features [k, 16, C]."""
        if self.avatar.voice is None:
            yield from map(torch.from_numpy, blocks)
            return
        stream = MouthRowStream(self.avatar.voice)
        yield from (torch.from_numpy(stream.push(rows)) for rows in blocks)
        yield torch.from_numpy(stream.finish())

    def check_encoder(self) -> None:
        """Load the speech encoder that the avatar was trained on.

        Raises UsageError when another program computes its features (see `read_features`),
        InputRejected when the encoder's width has changed, and as `encoders.load_encoder`.
        """
        name, width = self.avatar.manifest["encoder"], self.avatar.feature_width
        found = load_encoder(name)
        if found.reads_files:
            raise UsageError(
                f"the avatar {self.avatar.path} needs '{name}' speech features",
                "another program computes them",
                "Compute them for this audio: being render --audio AUDIO --features FILE.npy",
            )
        if output_width(found, width) != width:
            raise InputRejected(
                f"the avatar {self.avatar.path} needs speech features that are {width} wide",
                f"those of the encoder '{name}' are {found.width} wide",
                "Train it again",
            )

    def read_features(self, file: Path, frames: int) -> Iterator[Tensor]:
        """Rows [k, 16, C] as from `encode`, of the speech features of `frames` frames that another
        program wrote.

        file: .npy, float [about frames, 16, C]. Raises InputRejected for anything else, before the
        first block.
        """
        return self._rows(feature_file_blocks(file, frames, self.avatar.feature_width))

    def video(
        self,
        features: Iterable[Tensor],
        frames: int,
        batch: int = DEFAULT_BATCH,
        expression: ExpressionSource | None = None,
    ) -> Iterator[np.ndarray]:
        """The finished frames of a video in the engine's look: uint8 [H, W, 3], with transparency
        [H, W, 4], `view.width` and `view.height` px.

        frames: number of `features`' rows; expression: as for `stream`, at 25 frames a second.
        """
        view, source = self.view, expression
        if source is not None and view.clock != DATASET_CLOCK:
            source = ExpressionAtRate(source, view.clock, view.pose_expression, frames)
        stream = self.stream_with_alpha if view.alpha else self.stream
        loop = self.avatar.pose_count // (2 if view.alpha else 1)
        for k, image in enumerate(stream(features, batch, source, view.clock)):
            if view.finish is None:
                yield image
            else:
                yield view.finish(int(pose_path(1, loop, k)[0]), image)

    def stream(
        self,
        features: Tensor | Iterable[Tensor],
        batch: int = DEFAULT_BATCH,
        expression: ExpressionSource | None = None,
        clock: FrameClock = DATASET_CLOCK,
    ) -> Iterator[np.ndarray]:
        """Frames uint8 [S, S, 3], one for every row of `features`; the poses go back and forth.

        features: [F, 16, C], whole or as blocks of rows. expression: gives the expression of the
        next frames; default: that of their poses. clock: of another frame rate, for an avatar
        `at_frame_rate`. While frames are used, later ones render.
        """
        if self.deform_every > 1:
            assert isinstance(self.renderer, KeyFrameRenderer)  # __init__ checks it
            assert clock == DATASET_CLOCK, clock  # `__init__` refuses it
            yield from interpolated_frames(
                self.renderer, self.deform_every, self.expression, features, batch, expression
            )
            return

        submit = partial(self._submit_frames, expression, clock)
        yield from (
            image for images in self._batches(features, batch, clock, submit) for image in images
        )

    def stream_with_alpha(
        self,
        features: Tensor | Iterable[Tensor],
        batch: int = DEFAULT_BATCH,
        expression: ExpressionSource | None = None,
        clock: FrameClock = DATASET_CLOCK,
    ) -> Iterator[np.ndarray]:
        """Frames uint8 [S, S, 4] of the head alone: colours times alpha, and alpha.

        For an avatar `on_black_and_white`, whose frames are rendered over both; arguments as for
        `stream`.
        """
        submit = partial(self._submit_frames, expression, clock, sets=2)
        for images in self._batches(features, batch, clock, submit):
            black, white = np.split(images, 2)
            through = (white.astype(np.int16) - black).mean(-1, keepdims=True)
            alpha = (255.5 - through).clip(0, 255).astype(np.uint8)
            yield from np.concatenate([black, alpha], -1)

    def _batches(
        self,
        features: Tensor | Iterable[Tensor],
        batch: int,
        clock: FrameClock,
        submit: Callable[[FeatureTrack, int, int], PendingFrames],
    ) -> Iterator[np.ndarray]:
        """Images of batch after batch; `submit` starts to render `count` frames from `start` on."""
        pending: deque[PendingFrames] = deque()
        capacity = max(DEFAULT_CAPACITY, 4 * batch) * clock.spacing
        with self.track(capacity=capacity) as track:
            feeder, start = FeatureFeeder(clock.rows(features), track), 0
            while True:
                stop = (start + batch) * clock.stride + LOOK_AHEAD_FRAMES * clock.spacing
                known = -(-feeder.until(stop) // clock.stride)  # frames whose own row is there
                count = min(batch, known - start)
                if not count:
                    break
                pending.append(submit(track, start, count))
                start += count
                if len(pending) == MAX_PENDING:
                    yield pending.popleft().images().copy()
            while pending:
                yield pending.popleft().images().copy()

    def _submit_frames(
        self,
        expression: ExpressionSource | None,
        clock: FrameClock,
        track: FeatureTrack,
        start: int,
        count: int,
        sets: int = 1,
    ) -> PendingFrames:
        """Start to render frames of a video, over each of the `sets` plates of their poses."""
        loop = self.avatar.pose_count // sets
        frames = np.arange(start, start + count)
        poses = pose_path(count, loop, start)
        values = None if expression is None else expression(self.expression[poses])
        rows = track.rows(frames * clock.stride, clock.spacing)
        if sets > 1:
            rows = np.concatenate([rows] * sets)
            poses = np.concatenate([poses + k * loop for k in range(sets)])
            values = None if values is None else np.concatenate([values] * sets)
        return self.submit(rows, poses, values)

    def close(self) -> None:
        """Free the memory of the device."""
        self.renderer.close()


def _bases_of(avatar: Avatar, deform: str) -> Bases | None:
    """The bases by which an avatar is deformed, if it is.

    Raises UsageError for an unknown deformation, InputRejected for an avatar without bases.
    """
    if deform not in DEFORMATIONS:
        raise UsageError(f"unknown deformation '{deform}'", fix=f"Use {' or '.join(DEFORMATIONS)}")
    return required_bases(avatar) if deform == "bases" else None


def _choose_renderer(
    avatar: Avatar,
    camera: Tensor,
    precision: str,
    renderer: str,
    rasterizer: str,
    bases: Bases | None,
) -> FrameRenderer:
    """The renderer of the avatar here.

    CUDA kernels, or native code on a CPU, as long as their rasterizer is the one that was chosen;
    else the model's own modules.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}'", fix=f"Use {', '.join(PRECISIONS)}")
    if renderer not in RENDERERS:
        raise UsageError(f"unknown renderer '{renderer}'", fix=f"Use {', '.join(RENDERERS)}")
    on_cpu = camera.device.type == "cpu"

    # The CUDA kernels; Triton's interpreter runs them on a CPU too.
    interpreted = on_cpu and os.environ.get("TRITON_INTERPRET") == "1"
    if renderer == "auto" and (rasterizer == "triton" or interpreted):
        from being.inference.backends.cuda.frame_batch import supports
        from being.inference.backends.cuda.renderer import CudaGraphRenderer

        if bases is not None or supports(avatar.model.network):
            return CudaGraphRenderer(
                avatar, camera, "float16" if precision == "auto" else precision, bases=bases
            )

    if renderer == "auto" and on_cpu and rasterizer == "cpu":
        from being.inference.backends.cpu import head

        if head.status().startswith("OK"):
            from being.inference.backends.cpu.renderer import NativeRenderer

            return NativeRenderer(avatar, camera, precision, bases=bases)

    return TorchRenderer(
        avatar, camera, "float32" if precision == "auto" else precision, rasterizer, bases
    )

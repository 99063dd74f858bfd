"""The CUDA renderer: a CUDA graph renders each batch of frames.

The host writes a few numbers per frame (rows of speech features, pose, expression) into pinned
memory. The graph copies them to the device, makes tokens, deforms, splats and composites over
plates that lie on the device. The images are copied to pinned memory on a stream of their own while
the next batch renders. The host reads nothing back in between. A batch may need more (Gaussian,
tile) pairs than memory was reserved for; its output says so, and it is rendered again with more
memory before its images are returned.

The kernels also run in Triton's interpreter, without a graph: TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.inference.backends.cuda.bases_batch import BasesAvatar, BasesBatch
from being.inference.backends.cuda.frame_batch import (
    EXPRESSION,
    HEADER,
    POSE,
    DeviceAvatar,
    FrameBatch,
)
from being.inference.feature_pool import FeaturePool
from being.inference.i420 import COLOURS, Colours
from being.model.avatar import Avatar
from being.model.bases import Bases
from being.splat.cuda.graph_replay import MAX_PAIRS
from being.splat.graph_capture import capture_graph

# Batch sizes that graphs are made for; other batches are filled up to the next size.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
# Graphs of each size: one renders, one is copied to the host, one is being read.
SLOTS_PER_SIZE = 3
PAIR_MARGIN = 1.4  # reserved pairs of a frame, in pairs of the largest of TRIAL_POSES poses
TRIAL_POSES = 8
# Up to this many frames, the graph itself copies the images to the host: the copy takes less time
# than the request for it.
MAX_FRAMES_COPIED_IN_GRAPH = 2


class CudaGraphRenderer:
    """One avatar on one CUDA device. Implements `FrameRenderer`. Not for several threads."""

    def __init__(self, avatar: Avatar, camera: Tensor, precision: str, bases: Bases | None = None):
        """camera: float32 [P, 12], the camera values of every pose.

        precision: number format of the network's products, "float32", "float16" or "bfloat16".
        bases: deform by them, and not by the network; they are kept in this format.
        """
        self.device, self.size, self.precision = camera.device, avatar.size, precision
        self.cuda = self.device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(self.device) if self.cuda else None
        self.copy_stream: Any = torch.cuda.Stream(self.device) if self.cuda else None
        if self.cuda:
            torch.cuda.synchronize(self.device)  # the model may still be on its way there
        with self.on_stream(), torch.no_grad():
            self._batch: type[FrameBatch] = FrameBatch
            if bases is None:
                self.avatar = DeviceAvatar(avatar, camera, precision)
            else:
                self._batch = BasesBatch
                self.avatar = BasesAvatar(avatar, camera, precision, bases)
            self.pool = FeaturePool(
                avatar.model.network.audio_width,
                self.device,
                on_grow=self.drop_graphs,
                ordered=self.on_stream,
                offsets=avatar.model.network.audio_offsets,
            )
            # By size, and whether the images are I420.
            self.slots: dict[tuple[int, bool], list[GraphSlot]] = {}
            self.pairs = self._trial_pairs() * PAIR_MARGIN  # reserved pairs of a frame

    def new_batch(self, frames: int, pairs: float, planar: bool = False) -> FrameBatch:
        """The buffers of a batch; arguments as for `FrameBatch`."""
        return self._batch(self.avatar, self.pool, frames, pairs, planar)

    def on_stream(self) -> AbstractContextManager[object]:
        """A context in which work is ordered with the frames."""
        return torch.cuda.stream(self.stream) if self.cuda else nullcontext()

    def drop_graphs(self) -> None:
        """Free all graphs; they are made again when they are next needed."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        self.slots.clear()
        if self.cuda:
            torch.cuda.empty_cache()  # the memory of a freed graph serves no other

    def shared_memory(self) -> dict[str, Any]:
        """The argument of a capture that makes all living graphs share their memory.

        It is empty without a living graph: their memory was freed with the last one.
        """
        living = next((slot for slots in self.slots.values() for slot in slots), None)
        return {} if living is None else {"pool": living.graph.pool()}

    def _trial_pairs(self) -> int:
        """(Gaussian, tile) pairs of a frame: the largest of some poses."""
        trial = self.new_batch(1, 0.0)
        expression, most = self.avatar.expression, 1
        poses = np.linspace(0, len(expression) - 1, TRIAL_POSES).round().astype(int)
        for pose in np.unique(poses):
            trial.inputs[0, POSE] = int(pose)
            values = trial.inputs[0, EXPRESSION:].view(torch.float32)
            values.copy_(torch.from_numpy(expression[pose]))
            most = max(most, trial.count_pairs())
        return most

    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> PendingBatch:
        """Start to render B frames; see `FrameRenderer.submit`."""
        return self._submit(rows, poses, expression, None)

    def submit_planar(
        self,
        rows: np.ndarray,
        poses: np.ndarray,
        expression: np.ndarray,
        colours: Sequence[Colours],
    ) -> PendingBatch:
        """Start to render B frames as I420; see `PlanarRenderer.submit_planar`."""
        return self._submit(rows, poses, expression, [COLOURS.index(kind) for kind in colours])

    def _submit(
        self,
        rows: np.ndarray,
        poses: np.ndarray,
        expression: np.ndarray,
        colours: Sequence[int] | None,
    ) -> PendingBatch:
        frames = len(poses)
        assert 0 < frames <= BATCH_SIZES[-1], (
            f"a batch of {frames} frames; it can have 1 to {BATCH_SIZES[-1]}"
        )
        size = next(size for size in BATCH_SIZES if size >= frames)
        planar = colours is not None
        slots = self.slots.setdefault((size, planar), [])
        with self.on_stream():
            # The slot that was used longest ago.
            fresh = len(slots) < SLOTS_PER_SIZE
            slots.append(GraphSlot(self, size, planar) if fresh else slots.pop(0))
            slot = slots[-1]
            slot.write_inputs(rows, poses, expression, colours)
            slot.launch()
        return PendingBatch(self, slot, frames)

    def render_again(self, slot: GraphSlot, frames: int) -> PendingBatch:
        """Render the batch of a slot once more, with memory for the pairs that it needed."""
        inputs = slot.batch.host_inputs.numpy()[:frames].copy()
        pairs = slot.needed_pairs / slot.batch.frames * PAIR_MARGIN
        if pairs * slot.batch.frames > MAX_PAIRS:
            raise MemoryError(
                f"{slot.batch.frames} frames need {slot.needed_pairs:,} (Gaussian, tile) pairs: "
                "the Gaussians are too many or too large"
            )
        if pairs > self.pairs:  # unless an earlier batch has reserved that much already
            self.pairs = pairs
            self.drop_graphs()
        expression = inputs[:, EXPRESSION:].view(np.float32)
        colours = slot.batch.host_colours[:frames].tolist() if slot.batch.planar else None
        return self._submit(inputs[:, :POSE], inputs[:, POSE], expression, colours)

    def decode_plates(self, poses: np.ndarray) -> None:
        """Nothing to do: all plates lie on the device."""

    def warm_up(self, frames: int, planar: bool = False) -> None:
        """Make the graphs for batches of `frames` frames now. planar: for `submit_planar`."""
        for _ in range(SLOTS_PER_SIZE):
            self._submit(
                np.zeros((frames, POSE), np.int32),
                np.zeros(frames, np.int64),
                self.avatar.expression[:1].repeat(frames, 0),
                [0] * frames if planar else None,
            ).images()

    def close(self) -> None:
        """Free the graphs."""
        self.drop_graphs()


class GraphSlot:
    """A batch, its graph, and the pinned memory that its images are copied to."""

    def __init__(self, renderer: CudaGraphRenderer, frames: int, planar: bool = False):
        self.renderer = renderer
        self.batch = renderer.new_batch(frames, renderer.pairs, planar)
        self.host_output = torch.empty(
            len(self.batch.output), dtype=torch.uint8, pin_memory=renderer.cuda
        )
        self.graph: Any = None
        self.copied_in_graph = frames <= MAX_FRAMES_COPIED_IN_GRAPH
        self.uses = 0  # batches that this slot has rendered
        if not renderer.cuda:
            return

        self.rendered, self.copied = torch.cuda.Event(), torch.cuda.Event()
        self.batch.run()  # compiles the kernels
        self.batch.release_intermediates()
        renderer.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with capture_graph(self.graph, **renderer.shared_memory()):
            self.batch.run()
            if self.copied_in_graph:
                self.host_output.copy_(self.batch.output, non_blocking=True)
        self.batch.release_intermediates()  # so that all graphs share this memory

    def write_inputs(
        self,
        rows: np.ndarray,
        poses: np.ndarray,
        expression: np.ndarray,
        colours: Sequence[int] | None = None,
    ) -> None:
        """Write the inputs, once the device has read the last ones.

        Frames that fill up the batch repeat the last frame. colours: numbers of `i420.COLOURS`.
        """
        if self.graph is not None:
            self.copied.synchronize()
        self.uses += 1
        inputs = self.batch.host_inputs.numpy()
        frames = len(poses)
        inputs[:frames, :POSE], inputs[:frames, POSE] = rows, poses
        inputs[:frames, EXPRESSION:] = np.ascontiguousarray(expression, np.float32).view(np.int32)
        inputs[frames:] = inputs[frames - 1]
        if colours is not None:
            self.batch.host_colours.numpy()[:frames] = colours

    def launch(self) -> None:
        """Render, then copy to the host."""
        if self.graph is None:
            self.batch.run()
            self.host_output.copy_(self.batch.output)
            return
        self.graph.replay()
        if self.copied_in_graph:
            self.copied.record()
            return
        self.rendered.record()
        self.renderer.copy_stream.wait_event(self.rendered)
        with torch.cuda.stream(self.renderer.copy_stream):
            self.host_output.copy_(self.batch.output, non_blocking=True)
            self.copied.record()

    @property
    def needed_pairs(self) -> int:
        """(Gaussian, tile) pairs that the batch needed."""
        return int(self.host_output[:8].view(torch.int64))


class PendingBatch:
    """Frames that a slot renders. Implements `PendingFrames`."""

    def __init__(self, renderer: CudaGraphRenderer, slot: GraphSlot, frames: int):
        self.renderer, self.slot, self.frames = renderer, slot, frames
        self.use = slot.uses

    @property
    def ready(self) -> bool:
        """Whether `images` returns at once."""
        return self.slot.graph is None or self.slot.copied.query()

    def images(self) -> np.ndarray:
        """The images uint8 [B, S, S, 3] RGB, or [B, 1.5 S^2] I420; waits until they are there.

        Their memory belongs to the slot: the third batch of the same size after this one overwrites
        it.
        """
        slot = self.slot
        assert slot.uses == self.use, (
            f"the images were not read before {SLOTS_PER_SIZE} later batches of their size"
        )
        if slot.graph is not None:
            slot.copied.synchronize()
        if slot.needed_pairs > slot.batch.pair_capacity:
            return self.renderer.render_again(slot, self.frames).images()
        size = self.renderer.size
        shape = (slot.batch.image_bytes,) if slot.batch.planar else (size, size, 3)
        return slot.host_output[HEADER:].numpy().reshape(-1, *shape)[: self.frames]

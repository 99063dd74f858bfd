"""One training step: render, compare, backpropagate; on CUDA captured and replayed as a graph.

A step launches about seven hundred kernels, which is more work for the host than for the device.
The first step runs normally: it compiles the kernels and shows how many pairs the rasterizer needs.
The next step is captured as a CUDA graph and then replayed. It is captured again when something
that it depends on changes: the SH degree, the number of Gaussians, or the capacity for pairs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from being.config import Config, StageConfig
from being.data.clip import Clip
from being.model.talking_head import Rendering, TalkingHead
from being.splat import PairCapacity, pairs_per_gaussian, resolve_backend
from being.splat.graph_capture import capture_graph
from being.train.compat import reference_pruning_opacity
from being.train.density import DensityControl
from being.train.feature_augmentation import augment_features
from being.train.objective import Objective
from being.train.oversampling import restrict_gradient_to_eyes

GENERATOR_STRIDE = 1_000_003
# Capacity for (Gaussian, tile) pairs, as a multiple of what was needed before the capture
CAPACITY_MARGIN = 1.6
NEARLY_FULL = 0.9  # share of the capacity in use from which on the step is captured with more
STAGES = ("coarse", "fine")


def sample_frames(frames: np.ndarray, seed: int, step: int, batch: int) -> np.ndarray:
    """Frame numbers [batch] of `step` (counted from 0), a function of seed and step only.

    The frames are shuffled anew for each pass.
    """
    passes, positions = np.divmod(np.arange(step * batch, (step + 1) * batch), len(frames))
    return np.array(
        [
            frames[_shuffled(len(frames), seed, int(number))[position]]
            for number, position in zip(passes, positions, strict=True)
        ]
    )


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, number: int) -> np.ndarray:
    """The order of `count` frames in pass `number`."""
    return np.random.default_rng((seed, number)).permutation(count)


class TrainingStep:
    """Runs the steps of one stage; every random number is a function of seed and step."""

    def __init__(
        self,
        config: Config,
        stage: str,
        model: TalkingHead,
        clip: Clip,
        frames: np.ndarray,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        density: DensityControl,
        low_precision: bool,
        copies: np.ndarray | None = None,
    ):
        """stage: "coarse" or "fine"; frames: int [N], the training frames; low_precision: the
        network computes in bfloat16; copies: bool [N], the copies that train the eyes only
        (`oversample_blinks`)."""
        assert stage in STAGES, stage
        self.config = config.train
        self.plan: StageConfig = getattr(config.train, stage)
        self.coarse = stage == "coarse"
        self.sh_degree = config.model.sh_degree
        self.seed = config.train.seed + STAGES.index(stage)
        self.model, self.clip = model, clip
        self.frames, self.copies = frames, copies
        self.objective, self.optimizer, self.density = objective, optimizer, density
        self.low_precision = low_precision
        self.names: list[str] = []  # of the values that a step returns

        # A captured step reads its frames from these tensors.
        self.index = torch.zeros(self.plan.batch, dtype=torch.int64, device=clip.device)
        self.copied = torch.zeros(self.plan.batch, dtype=torch.bool, device=clip.device)
        self.captured: _CapturedStep | None = None
        if clip.device.type == "cuda":
            if resolve_backend(model.backend, model.gaussians.means) == "triton":
                self.captured = _CapturedStep(self)

    def __call__(self, step: int) -> Tensor:
        """Train one step, counted from 1; returns the loss and its terms [T] (see `names`).

        Nothing is read back from the device.
        """
        # The random numbers and the frames of this step
        torch.manual_seed(self.config.seed * GENERATOR_STRIDE + step + (not self.coarse) * 10**9)
        positions = np.arange(len(self.frames))
        drawn = sample_frames(positions, self.seed, step - 1, self.plan.batch)
        self.index.copy_(torch.from_numpy(self.frames[drawn]), non_blocking=True)
        if self.copies is not None:
            self.copied.copy_(torch.from_numpy(self.copies[drawn]), non_blocking=True)

        # Only the coarse stage raises the SH degree and observes the gradients of 2-D means.
        degree = None
        if self.coarse:
            degree = min(self.sh_degree, (step - 1) // self.config.sh_degree_every)
        observed = self.coarse and step < self.config.density.stop
        run = self._run if self.captured is None else self.captured
        values = run(degree, observed)
        if observed and any(self.density.due(step)):
            self._change_density(step)
        return values

    def _run(
        self, degree: int | None, observed: bool, capacity: PairCapacity | None = None
    ) -> Tensor:
        """Render the frames `index`, compare and step; returns the loss and its terms [T]."""
        # 2-D offsets of zero: their gradient is that of the 2-D means.
        offsets = None
        if observed:
            shape = len(self.index), len(self.model.gaussians), 2
            offsets = torch.zeros(shape, device=self.clip.device, requires_grad=True)
        rendering = self._render(degree, offsets, capacity)
        terms = self.objective.terms(rendering, self.index)
        self.names = ["loss", *terms]
        values = torch.stack(list(terms.values()))

        self.optimizer.zero_grad(set_to_none=True)
        values.sum().backward()
        if offsets is not None and offsets.grad is not None:
            self.density.observe(offsets.grad, rendering.output.radii, self.clip.size)

        # When pairs are missing, Adam skips the step.
        if capacity is not None:
            self.optimizer.found_inf = capacity.exceeded()  # type: ignore[attr-defined]
        self.optimizer.step()
        return torch.cat([values.detach().sum()[None], values.detach()])

    def _render(
        self, degree: int | None, offsets: Tensor | None, capacity: PairCapacity | None
    ) -> Rendering:
        """The frames `index`, rendered from their conditions (coarse: without)."""
        clip, index = self.clip, self.index
        conditions = None
        if not self.coarse:
            rows = clip.draw_audio_rows(index)
            conditions = clip.conditions(rows, self.config.lips.true_mouth_share)
            if self.config.augment.audio_features:
                conditions.audio = augment_features(conditions.audio)
        rendering = self.model(
            conditions,
            clip.world_to_camera[index],
            clip.focal,
            clip.size,
            degree,
            offsets,
            self.low_precision,
            capacity,
        )
        if self.copies is None:
            return rendering
        output = restrict_gradient_to_eyes(rendering.output, clip.eyes[index], self.copied)
        return replace(rendering, output=output)

    def _change_density(self, step: int) -> None:
        if self.objective.reference:
            opacity = reference_pruning_opacity(self.model, self.density, step)
        else:
            opacity = self.model.canonical().opacities[0].detach()
        generator = torch.Generator().manual_seed(self.seed * GENERATOR_STRIDE + step)
        if self.captured is not None:
            self.captured.forget()
        self.density.apply(step, self.model.gaussians, opacity, self.optimizer, generator)

    def check_capacity(self) -> None:
        """Let a captured step be captured again when its capacity is nearly full.

        Call it from time to time; it waits for the device.
        """
        if self.captured is not None:
            self.captured.check_capacity()


class _CapturedStep:
    """`TrainingStep._run` as a CUDA graph.

    The first call, and the first one after each change, runs without a graph.
    """

    def __init__(self, step: TrainingStep):
        self.step = step
        # One memory pool for all captures: each reuses the memory of the one before.
        self.pool = torch.cuda.graph_pool_handle()
        self.keeper: torch.cuda.CUDAGraph | None = None
        # Most (Gaussian, tile) pairs per Gaussian that were needed before the last change
        self.pairs = 0.0
        self.capacity: PairCapacity | None = None
        self.forget()

    def forget(self) -> None:
        """Discard the captured graph, because something that it depends on changes."""
        if self.capacity is not None:
            self.pairs = int(self.capacity.peak) / self._splats()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.key: tuple[int | None, bool] | None = None
        self.capacity = None
        self.values: Tensor | None = None
        self.step.optimizer.zero_grad(set_to_none=True)
        self.step.optimizer.found_inf = None  # type: ignore[attr-defined]

    def __call__(self, degree: int | None, observed: bool) -> Tensor:
        step = self.step

        # Something has changed: run without a graph.
        if self.key != (degree, observed):
            self.forget()
            self.key = degree, observed
            self.capacity = self._new_capacity() if self.pairs else None
            return step._run(degree, observed, self.capacity)

        # The second call of its kind: capture it.
        if self.graph is None:
            if not self.pairs:
                size = step.clip.size
                self.pairs = pairs_per_gaussian(step.clip.device, size, size)
            self.capacity = self.capacity or self._new_capacity()
            self._capture(degree, observed)
        assert self.graph is not None and self.values is not None
        self.graph.replay()
        return self.values

    def _splats(self) -> int:
        """Gaussians that a step draws, all frames together."""
        return self.step.plan.batch * len(self.step.model.gaussians)

    def _new_capacity(self) -> PairCapacity:
        pairs = math.ceil(CAPACITY_MARGIN * self.pairs * self._splats())
        return PairCapacity(pairs, self.step.clip.device)

    def _capture(self, degree: int | None, observed: bool) -> None:
        self.keeper = self.keeper or self._keep_pool()
        self.step.optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # the memory of the step that ran without a graph
        graph = torch.cuda.CUDAGraph()
        with capture_graph(graph, pool=self.pool):
            self.values = self.step._run(degree, observed, self.capacity)
        self.graph = graph

    def _keep_pool(self) -> torch.cuda.CUDAGraph:
        """A tiny graph that keeps the memory pool alive while no other graph uses it."""
        torch.cuda.synchronize()
        graph, number = torch.cuda.CUDAGraph(), torch.zeros(1, device=self.step.clip.device)
        with capture_graph(graph, pool=self.pool):
            number += 1
        return graph

    def check_capacity(self) -> None:
        """Discard the graph when its capacity is nearly full, so that the next one gets more.

        A step that needed more than the capacity has changed nothing.
        """
        if (
            self.capacity is not None
            and int(self.capacity.peak) > NEARLY_FULL * self.capacity.pairs
        ):
            self.forget()

"""A training step: frames rendered, compared, the gradient followed; on CUDA one graph, launched as
a whole.

A step is some seven hundred launches, more work for the host than for the device. Once it has run
by itself (which compiles its kernels and tells how much room the rasterizer needs) it is captured,
and replayed until what it works on changes: another degree of spherical harmonics, other Gaussians,
more room.
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
from being.model.talking_head import TalkingHead
from being.splat import PairCapacity, pairs_per_gaussian, pick_backend
from being.splat.graph_capture import captured
from being.train.blink_oversampling import eyes_alone
from being.train.compat import pruned_by
from being.train.density import Density
from being.train.feature_augmentation import disturb
from being.train.objective import Objective

GENERATOR_STRIDE = 1_000_003
ROOM = 1.6  # for pairs of the rasterizer, over what the step before the capture needed
TIGHT = 0.9  # share of the room which, when needed, makes the next capture come
STAGES = ("coarse", "fine")


def sample(frames: np.ndarray, seed: int, step: int, batch: int) -> np.ndarray:
    """Frame numbers [batch] of `step` (counted from 0): shuffled anew each pass, a pure function of
    seed and step.
    """
    laps, places = np.divmod(np.arange(step * batch, (step + 1) * batch), len(frames))
    return np.array(
        [
            frames[_order(len(frames), seed, int(lap))[place]]
            for lap, place in zip(laps, places, strict=True)
        ]
    )


@lru_cache(maxsize=4)
def _order(count: int, seed: int, lap: int) -> np.ndarray:
    return np.random.default_rng((seed, lap)).permutation(count)


class Step:
    """The steps of one stage, "coarse" or "fine", one at a time; every random number is a function
    of seed and step.
    """

    def __init__(
        self,
        config: Config,
        stage: str,
        model: TalkingHead,
        clip: Clip,
        frames: np.ndarray,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        density: Density,
        low_precision: bool,
        copies: np.ndarray | None = None,
    ):
        """frames: int [N], what is sampled; copies: bool [N], those of which only the eyes teach
        (`blinking`).
        """
        assert stage in STAGES, stage
        self.config, self.model, self.clip, self.frames, self.copies = (
            config.train,
            model,
            clip,
            frames,
            copies,
        )
        self.objective, self.optimizer, self.density = objective, optimizer, density
        self.low_precision, self.coarse, self.sh_degree = (
            low_precision,
            stage == "coarse",
            config.model.sh_degree,
        )
        self.plan: StageConfig = getattr(config.train, stage)
        self.seed = config.train.seed + STAGES.index(stage)
        self.names: list[str] = []  # of the numbers that a step returns
        self.index = torch.zeros(self.plan.batch, dtype=torch.int64, device=clip.device)
        self.copied = torch.zeros(self.plan.batch, dtype=torch.bool, device=clip.device)
        self.captured = (
            _Captured(self)
            if clip.device.type == "cuda"
            and pick_backend("auto", model.gaussians.means) == "triton"
            else None
        )

    def __call__(self, step: int) -> Tensor:
        """The loss and its terms [T] (see `names`) after one step, `step` counted from 1; nothing
        is read back.
        """
        torch.manual_seed(self.config.seed * GENERATOR_STRIDE + step + (not self.coarse) * 10**9)
        places = sample(np.arange(len(self.frames)), self.seed, step - 1, self.plan.batch)
        self.index.copy_(torch.from_numpy(self.frames[places]), non_blocking=True)
        if self.copies is not None:
            self.copied.copy_(torch.from_numpy(self.copies[places]), non_blocking=True)
        degree = min(self.sh_degree, (step - 1) // self.config.sh_every) if self.coarse else None
        watched = self.coarse and step < self.config.density.stop
        work = self._work if self.captured is None else self.captured
        values = work(degree, watched)
        if watched and any(self.density.due(step)):
            self._change_density(step)
        return values

    def _work(self, degree: int | None, watched: bool, room: PairCapacity | None = None) -> Tensor:
        """Render the frames `index`, compare, step; the loss and its terms [T]."""
        model, clip, index = self.model, self.clip, self.index
        offsets = (
            torch.zeros(len(index), len(model.gaussians), 2, device=clip.device, requires_grad=True)
            if watched
            else None
        )
        conditions = (
            None if self.coarse else clip.conditions(clip.pick(index), self.config.mouth_told)
        )
        if conditions is not None and self.config.disturb:
            conditions.audio = disturb(conditions.audio)
        rendering = model(
            conditions,
            clip.world_to_camera[index],
            clip.focal,
            clip.size,
            degree,
            offsets,
            self.low_precision,
            room,
        )
        if self.copies is not None:
            rendering = replace(
                rendering, output=eyes_alone(rendering.output, clip.eyes[index], self.copied)
            )
        terms = self.objective.terms(rendering, index)
        self.names = ["loss", *terms]
        values = torch.stack(list(terms.values()))
        self.optimizer.zero_grad(set_to_none=True)
        values.sum().backward()
        if offsets is not None and offsets.grad is not None:
            self.density.observe(offsets.grad, rendering.output.radii, clip.size)
        if room is not None:
            self.optimizer.found_inf = room.exceeded()  # type: ignore[attr-defined]
        self.optimizer.step()
        return torch.cat([values.detach().sum()[None], values.detach()])

    def _change_density(self, step: int) -> None:
        opacity = (
            pruned_by(self.model, self.density, step)
            if self.objective.reference
            else self.model.canonical().opacities[0].detach()
        )
        generator = torch.Generator().manual_seed(self.seed * GENERATOR_STRIDE + step)
        if self.captured is not None:
            self.captured.forget()
        self.density.apply(step, self.model.gaussians, opacity, self.optimizer, generator)

    def look(self) -> None:
        """Now and then: whether the captured step still has room. Waits for the device."""
        if self.captured is not None:
            self.captured.look()


class _Captured:
    """`Step._work` as a CUDA graph; the first call of its kind, and the first after a change, runs
    by itself.
    """

    def __init__(self, step: Step):
        self.step = step
        self.pool = (
            torch.cuda.graph_pool_handle()
        )  # one for all captures, each takes the memory of the one before
        self.keeper: torch.cuda.CUDAGraph | None = None
        # (Gaussian, tile) pairs per Gaussian: the most that were needed before the last change
        self.pairs = 0.0
        self.room: PairCapacity | None = None
        self.forget()

    def forget(self) -> None:
        """What was captured no longer holds."""
        if self.room is not None:
            self.pairs = int(self.room.most) / self._splats()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.key: tuple[int | None, bool] | None = None
        self.room = None
        self.values: Tensor | None = None
        self.step.optimizer.zero_grad(set_to_none=True)
        self.step.optimizer.found_inf = None  # type: ignore[attr-defined]

    def __call__(self, degree: int | None, watched: bool) -> Tensor:
        step = self.step
        if self.key != (degree, watched):
            self.forget()
            self.key = degree, watched
            self.room = self._new_room() if self.pairs else None
            return step._work(degree, watched, self.room)
        if self.graph is None:
            self.pairs = self.pairs or pairs_per_gaussian(
                step.clip.device, step.clip.size, step.clip.size
            )
            self.room = self.room or self._new_room()
            self._capture(degree, watched)
        assert self.graph is not None and self.values is not None
        self.graph.replay()
        return self.values

    def _kept_pool(self) -> torch.cuda.CUDAGraph:
        """A graph of next to nothing, by which the pool lives on while no other graph holds it."""
        torch.cuda.synchronize()
        graph, number = torch.cuda.CUDAGraph(), torch.zeros(1, device=self.step.clip.device)
        with captured(graph, pool=self.pool):
            number += 1
        return graph

    def _splats(self) -> int:
        return self.step.plan.batch * len(self.step.model.gaussians)

    def _new_room(self) -> PairCapacity:
        return PairCapacity(math.ceil(ROOM * self.pairs * self._splats()), self.step.clip.device)

    def _capture(self, degree: int | None, watched: bool) -> None:
        self.keeper = self.keeper or self._kept_pool()
        self.step.optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what the step that ran by itself took
        graph = torch.cuda.CUDAGraph()
        with captured(graph, pool=self.pool):
            self.values = self.step._work(degree, watched, self.room)
        self.graph = graph

    def look(self) -> None:
        """Make more room where it is nearly used up. A step that needed more than there was has
        changed nothing.
        """
        if self.room is not None and int(self.room.most) > TIGHT * self.room.pairs:
            self.forget()

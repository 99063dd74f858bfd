"""A training step captured as a CUDA graph, tested with a stand-in for the graph.

The tests check when a step is captured, and with which capacity. The stand-in does nothing during a
capture and runs the step when it is replayed, so training with it must give the same weights to the
bit. Like CUDA it frees the memory of a pool with the last graph that uses it.
"""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import settings
from torch import Tensor

from being.config import Config
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.model import talking_head
from being.train import step as step_module
from being.train.density import DensityControl
from being.train.initial_points import initial_cloud
from being.train.objective import Objective
from being.train.optimizer import (
    load_optimizer,
    make_optimizer,
    optimizer_state,
    set_learning_rates,
)
from being.train.step import CAPACITY_MARGIN, NEARLY_FULL, TrainingStep, _CapturedStep
from being.train.trainer import untrained_model

GUESS = 2.0  # pairs per Gaussian before a capacity is known (stands for `pairs_per_gaussian`)
PLAN = (
    "train.density.start=4",
    "train.density.every=4",
    "train.density.stop=20",
    "train.density.prune_start=4",
    "train.density.gradient=0.0001",
    "train.sh_degree_every=6",
    "train.fine.batch=2",
)


class Graph:
    """Stand-in for torch.cuda.CUDAGraph.

    `ran`: how each step that was no replay ran; `needed`: pairs that every call of the rasterizer
    needs; `fails`: a capture runs out of memory.
    """

    capturing: Graph | None = None
    pools: dict[int, weakref.WeakSet[Graph]] = {}
    ran: list[str] = []
    needed = 0
    fails = False

    def __init__(self) -> None:
        self.work: Callable[[], Any] | None = None

    def capture_begin(self, pool: int, capture_error_mode: str) -> None:
        assert Graph.capturing is None and capture_error_mode == "thread_local"
        assert pool not in Graph.pools or len(Graph.pools[pool]), (
            "the pool was freed: no graph held it"
        )
        Graph.pools.setdefault(pool, weakref.WeakSet()).add(self)
        Graph.capturing = self

    def capture_end(self) -> None:
        assert Graph.capturing is self
        Graph.capturing = None

    def replay(self) -> None:
        assert Graph.capturing is None and self.work is not None
        self.work()


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs and a rasterizer with a fixed capacity, both on the CPU."""
    rasterize, work = talking_head.rasterize, TrainingStep._run

    def rasterize_with_capacity(*given: Any, capacity: Any = None, **more: Any) -> Any:
        if capacity is not None:
            capacity.record(torch.tensor([Graph.needed]))
        return rasterize(*given, **more)

    def run_or_capture(
        step: TrainingStep, degree: int | None, observed: bool, capacity: Any = None
    ) -> Tensor:
        graph = Graph.capturing
        Graph.ran.append(
            "captured" if graph else "alone" if capacity is None else "alone, with capacity"
        )
        if graph is None:
            return work(step, degree, observed, capacity)
        if Graph.fails:
            raise RuntimeError("CUDA out of memory")
        assert not gc.isenabled(), "garbage collection during a capture would break it"
        values = torch.zeros(len(step.names))
        graph.work = lambda: values.copy_(work(step, degree, observed, capacity))
        return values

    monkeypatch.setattr(Graph, "capturing", None)
    monkeypatch.setattr(Graph, "pools", {})
    monkeypatch.setattr(Graph, "ran", [])
    monkeypatch.setattr(Graph, "needed", 1)
    monkeypatch.setattr(Graph, "fails", False)
    monkeypatch.setattr(talking_head, "rasterize", rasterize_with_capacity)
    monkeypatch.setattr(TrainingStep, "_run", run_or_capture)
    monkeypatch.setattr(step_module, "pairs_per_gaussian", lambda *_: GUESS)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    handles = itertools.count()
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(handles))
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)


@pytest.fixture(scope="module")
def clip(scene: Path) -> Clip:
    return load_clip(Dataset.open(scene), 48, "hama")


def make_step(scene: Path, clip: Clip, config: Config, stage: str, captured: bool) -> TrainingStep:
    """A stage's TrainingStep over a new model; with `captured` it captures graphs."""
    dataset = Dataset.open(scene)
    frames = dataset.split().train
    points, colours = initial_cloud(dataset, clip, frames, config.data.initial_gaussians, 0)
    model = untrained_model(config, clip.features.shape[2], points, colours, len(clip.channels))
    objective = Objective(
        config.train.loss, clip, model.network.tri_plane.grid, reference=False, low_precision=False
    )
    step = TrainingStep(
        config,
        stage,
        model,
        clip,
        frames,
        objective,
        make_optimizer(model, config.train.rate),
        DensityControl(config.train.density, len(model.gaussians), clip.device),
        False,
    )
    assert step.captured is None, "graphs are for CUDA"
    step.captured = _CapturedStep(step) if captured else None
    return step


def run_steps(work: TrainingStep, numbers: range, steps_in_all: int = 12) -> list[list[float]]:
    """The values that each of these steps returns."""
    values = []
    for number in numbers:
        set_learning_rates(work.optimizer, number - 1, steps_in_all)
        values.append(work(number).tolist())
    return values


def same_weights(one: TrainingStep, other: TrainingStep) -> bool:
    """Whether two models are equal to the bit."""
    a, b = one.model.state_dict(), other.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_captured_training_is_the_training(scene: Path, clip: Clip, stage: str) -> None:
    config = settings(12, 12, *PLAN)
    plain, captured = (make_step(scene, clip, config, stage, kind) for kind in (False, True))
    assert run_steps(plain, range(1, 13)) == run_steps(captured, range(1, 13)) and same_weights(
        plain, captured
    )
    assert Graph.ran[:12] == ["alone"] * 12
    if stage == "fine":  # where nothing changes: once alone, then one graph
        assert Graph.ran[12:] == ["alone", "captured"]
    else:
        assert (
            len(captured.model.gaussians) > config.data.initial_gaussians
            and Graph.ran.count("captured") == 4
        )


def test_it_is_captured_again_when_degree_or_gaussians_change_and_the_pool_is_kept(
    scene: Path, clip: Clip
) -> None:
    work = make_step(scene, clip, settings(12, 12, *PLAN), "coarse", True)
    captures, counts = [], []
    for number in range(1, 13):
        before = Graph.ran.count("captured")
        run_steps(work, range(number, number + 1))
        captures.append(Graph.ran.count("captured") - before)
        counts.append(len(work.model.gaussians))
    # step 1 runs alone; densified after 4, 8 and 12; degree 1 from 7 on
    assert captures == [0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0] and counts[3] < counts[7] < counts[11]
    assert work.captured is not None and work.captured.keeper is not None and len(Graph.pools) == 1


def test_the_capacity_is_what_was_needed_plus_a_margin(scene: Path, clip: Clip) -> None:
    work = make_step(scene, clip, settings(12, 12, *PLAN), "fine", True)
    captured, splats = work.captured, 2 * 400
    assert captured is not None
    run_steps(work, range(1, 3))
    assert captured.capacity is not None and captured.capacity.pairs == math.ceil(
        CAPACITY_MARGIN * GUESS * splats
    )
    work.check_capacity()
    graph, Graph.needed = captured.graph, math.floor(NEARLY_FULL * captured.capacity.pairs)
    run_steps(work, range(3, 4))
    work.check_capacity()
    assert captured.graph is graph is not None, "enough: the graph stays"
    Graph.needed += 1
    run_steps(work, range(4, 5))
    work.check_capacity()
    assert captured.graph is None and captured.pairs == Graph.needed / splats
    run_steps(work, range(5, 7))
    assert captured.capacity is not None and captured.capacity.pairs == pytest.approx(
        CAPACITY_MARGIN * Graph.needed, abs=1
    )
    assert Graph.ran == ["alone", "captured", "alone, with capacity", "captured"]


def test_a_step_that_exceeded_its_capacity_changes_nothing(scene: Path, clip: Clip) -> None:
    work = make_step(scene, clip, settings(12, 12, *PLAN), "fine", True)
    run_steps(work, range(1, 4))
    assert work.captured is not None and work.captured.capacity is not None
    before = {key: value.clone() for key, value in work.model.state_dict().items()}
    Graph.needed = work.captured.capacity.pairs + 1
    run_steps(work, range(4, 6))
    after = work.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    work.check_capacity()
    run_steps(work, range(6, 7))
    assert not torch.equal(work.model.gaussians.means, before["gaussians.means"]), (
        "training continues with a larger capacity"
    )


def test_a_resumed_training_ends_with_the_same_weights_to_the_bit(scene: Path, clip: Clip) -> None:
    config = settings(12, 12, *PLAN)
    for stage, stop in (("coarse", 5), ("coarse", 8), ("fine", 3)):
        whole, first, second = (make_step(scene, clip, config, stage, True) for _ in range(3))
        values = run_steps(whole, range(1, 11))
        run_steps(first, range(1, stop + 1))
        second.model = type(second.model).from_state(
            config.model, clip.features.shape[2], first.model.state_dict()
        )
        second.model.train()
        second.objective.planes = second.model.network.tri_plane.grid
        second.optimizer = make_optimizer(second.model, config.train.rate)
        load_optimizer(second.optimizer, optimizer_state(first.optimizer))
        second.density = DensityControl(
            config.train.density, len(second.model.gaussians), clip.device
        )
        second.density.load(first.density.state())
        second.captured = _CapturedStep(second)
        assert run_steps(second, range(stop + 1, 11)) == values[stop:] and same_weights(
            whole, second
        )


def test_a_capture_that_fails_is_ended(
    scene: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_step(scene, clip, settings(12, 12, *PLAN), "fine", True)
    run_steps(work, range(1, 2))
    monkeypatch.setattr(Graph, "fails", True)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_steps(work, range(2, 3))
    assert Graph.capturing is None and work.captured is not None and work.captured.graph is None
    assert gc.isenabled(), "garbage is collected again"


def test_the_captured_part_of_a_step_makes_no_tensor_from_host_data(
    scene: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA refuses copies from pageable host memory during a capture."""
    work = make_step(
        scene, clip, settings(2, 2, *PLAN, "train.augment.audio_features=true"), "fine", False
    )
    run_steps(work, range(1, 2))
    run, rasterize = work._run, talking_head.rasterize

    def refused(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("a tensor is made from host data")

    def rasterize_unwatched(*given: Any, **more: Any) -> Any:
        """The CPU's rasterizer, which CUDA does not use, may make such tensors."""
        with monkeypatch.context() as patch:
            for name, function in original.items():
                patch.setattr(torch, name, function)
            return rasterize(*given, **more)

    original = {name: getattr(torch, name) for name in ("tensor", "from_numpy")}
    monkeypatch.setattr(talking_head, "rasterize", rasterize_unwatched)
    for name in original:
        monkeypatch.setattr(torch, name, refused)
    run(None, False)

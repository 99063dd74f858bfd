"""A training step captured as a graph, on a graph that stands in for CUDA's: what is captured when,
with how much room.

The stand-in does nothing while it captures and does the step's own work when it is replayed, so
that a training by it must end to the bit where one without it ends. Like CUDA it frees a pool's
memory with the last graph that holds it.
"""

from __future__ import annotations

import gc
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
from being.train.density import Density
from being.train.initial_points import initial_cloud
from being.train.objective import Objective
from being.train.optimizer import make_optimizer, set_rates
from being.train.step import ROOM, TIGHT, Step, _Captured
from being.train.trainer import fresh_model, load_optimizer, optimizer_state

GUESS = 2.0  # pairs per Gaussian that the rasterizer is said to have needed before a room was made
PLAN = (
    "train.density.start=4",
    "train.density.every=4",
    "train.density.stop=20",
    "train.density.prune_start=4",
    "train.density.gradient=0.0001",
    "train.sh_every=6",
    "train.fine.batch=2",
)


class Graph:
    """Stands in for torch.cuda.CUDAGraph. `made`: how each step was done that was no replay;
    `needed`: pairs that every rasterizing needs; `fails`: capturing runs out of memory."""

    capturing: Graph | None = None
    pools: dict[int, weakref.WeakSet[Graph]] = {}
    made: list[str] = []
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
    """CUDA's graphs, and a rasterizer with room, on the CPU."""
    rasterize, work = talking_head.rasterize, Step._work

    def with_room(*given: Any, room: Any = None, **more: Any) -> Any:
        if room is not None:
            room.note(torch.tensor([Graph.needed]))
        return rasterize(*given, **more)

    def captured_or_done(step: Step, degree: int | None, watched: bool, room: Any = None) -> Tensor:
        graph = Graph.capturing
        Graph.made.append("captured" if graph else "alone" if room is None else "alone, with room")
        if graph is None:
            return work(step, degree, watched, room)
        if Graph.fails:
            raise RuntimeError("CUDA out of memory")
        assert not gc.isenabled(), "what is freed in the midst of a capture spoils it"
        values = torch.zeros(len(step.names))
        graph.work = lambda: values.copy_(work(step, degree, watched, room))
        return values

    monkeypatch.setattr(Graph, "capturing", None)
    monkeypatch.setattr(Graph, "pools", {})
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(Graph, "needed", 1)
    monkeypatch.setattr(Graph, "fails", False)
    monkeypatch.setattr(talking_head, "rasterize", with_room)
    monkeypatch.setattr(Step, "_work", captured_or_done)
    monkeypatch.setattr(step_module, "pairs_per_gaussian", lambda *_: GUESS)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 7)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)


@pytest.fixture(scope="module")
def clip(scene: Path) -> Clip:
    return load_clip(Dataset.open(scene), 48, "hama")


def steps(scene: Path, clip: Clip, config: Config, stage: str, captured: bool) -> Step:
    """The steps of a stage over a fresh model."""
    dataset = Dataset.open(scene)
    frames = dataset.split().train
    points, colours = initial_cloud(dataset, clip, frames, config.data.gaussians, 0)
    model = fresh_model(config, clip.features.shape[2], points, colours, len(clip.channels))
    objective = Objective(
        config.train.loss, clip, model.network.tri_plane.grid, reference=False, low_precision=False
    )
    made = Step(
        config,
        stage,
        model,
        clip,
        frames,
        objective,
        make_optimizer(model, config.train.rate),
        Density(config.train.density, len(model.gaussians), clip.device),
        False,
    )
    assert made.captured is None, "graphs are for CUDA"
    made.captured = _Captured(made) if captured else None
    return made


def done(work: Step, numbers: range, steps_in_all: int = 12) -> list[list[float]]:
    """The numbers that each of these steps returns."""
    values = []
    for number in numbers:
        set_rates(work.optimizer, number - 1, steps_in_all)
        values.append(work(number).tolist())
    return values


def same(one: Step, other: Step) -> bool:
    """Whether two models are equal to the bit."""
    a, b = one.model.state_dict(), other.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_captured_training_is_the_training(scene: Path, clip: Clip, stage: str) -> None:
    config = settings(12, 12, *PLAN)
    plain, captured = (steps(scene, clip, config, stage, kind) for kind in (False, True))
    assert done(plain, range(1, 13)) == done(captured, range(1, 13)) and same(plain, captured)
    assert Graph.made[:12] == ["alone"] * 12
    if stage == "fine":  # where nothing changes: once alone, then one graph
        assert Graph.made[12:] == ["alone", "captured"]
    else:
        assert (
            len(captured.model.gaussians) > config.data.gaussians
            and Graph.made.count("captured") == 4
        )


def test_it_is_captured_anew_when_degree_or_gaussians_change_and_the_pool_outlives_its_graphs(
    scene: Path, clip: Clip
) -> None:
    work = steps(scene, clip, settings(12, 12, *PLAN), "coarse", True)
    captures, counts = [], []
    for number in range(1, 13):
        before = Graph.made.count("captured")
        done(work, range(number, number + 1))
        captures.append(Graph.made.count("captured") - before)
        counts.append(len(work.model.gaussians))
    # step 1 runs alone; densified after 4, 8 and 12; degree 1 from 7 on
    assert captures == [0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0] and counts[3] < counts[7] < counts[11]
    assert (
        work.captured is not None and work.captured.keeper is not None and list(Graph.pools) == [7]
    )


def test_the_room_is_what_was_needed_and_some(scene: Path, clip: Clip) -> None:
    work = steps(scene, clip, settings(12, 12, *PLAN), "fine", True)
    captured, splats = work.captured, 2 * 400
    assert captured is not None
    done(work, range(1, 3))
    assert captured.room is not None and captured.room.pairs == math.ceil(ROOM * GUESS * splats)
    work.look()
    graph, Graph.needed = captured.graph, math.floor(TIGHT * captured.room.pairs)
    done(work, range(3, 4))
    work.look()
    assert captured.graph is graph is not None, "enough: the graph stays"
    Graph.needed += 1
    done(work, range(4, 5))
    work.look()
    assert captured.graph is None and captured.pairs == Graph.needed / splats
    done(work, range(5, 7))
    assert captured.room is not None and captured.room.pairs == pytest.approx(
        ROOM * Graph.needed, abs=1
    )
    assert Graph.made == ["alone", "captured", "alone, with room", "captured"]


def test_a_step_that_lacked_room_changes_nothing(scene: Path, clip: Clip) -> None:
    work = steps(scene, clip, settings(12, 12, *PLAN), "fine", True)
    done(work, range(1, 4))
    assert work.captured is not None and work.captured.room is not None
    before = {key: value.clone() for key, value in work.model.state_dict().items()}
    Graph.needed = work.captured.room.pairs + 1
    done(work, range(4, 6))
    after = work.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    work.look()
    done(work, range(6, 7))
    assert not torch.equal(work.model.gaussians.means, before["gaussians.means"]), (
        "with more room it goes on"
    )


def test_resumed_it_ends_to_the_bit_where_it_would_have(scene: Path, clip: Clip) -> None:
    config = settings(12, 12, *PLAN)
    for stage, stop in (("coarse", 5), ("coarse", 8), ("fine", 3)):
        whole, first, second = (steps(scene, clip, config, stage, True) for _ in range(3))
        values = done(whole, range(1, 11))
        done(first, range(1, stop + 1))
        second.model = type(second.model).from_state(
            config.model, clip.features.shape[2], first.model.state_dict()
        )
        second.model.train()
        second.objective.planes = second.model.network.tri_plane.grid
        second.optimizer = make_optimizer(second.model, config.train.rate)
        load_optimizer(second.optimizer, optimizer_state(first.optimizer))
        second.density = Density(config.train.density, len(second.model.gaussians), clip.device)
        second.density.load(first.density.state())
        second.captured = _Captured(second)
        assert done(second, range(stop + 1, 11)) == values[stop:] and same(whole, second)


def test_a_capture_that_fails_is_ended(
    scene: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = steps(scene, clip, settings(12, 12, *PLAN), "fine", True)
    done(work, range(1, 2))
    monkeypatch.setattr(Graph, "fails", True)
    with pytest.raises(RuntimeError, match="out of memory"):
        done(work, range(2, 3))
    assert Graph.capturing is None and work.captured is not None and work.captured.graph is None
    assert gc.isenabled(), "garbage is collected again"

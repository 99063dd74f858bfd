"""What a training is told besides its config: the rasterizer, and where its figures go."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from program import being, refused
from tiny_training import TINY, metrics, settings

from being.errors import EnvironmentFault
from being.runs.run_directory import Run
from being.splat import reference
from being.train.training import train

PLAN = [
    argument
    for item in [*TINY, "train.coarse.steps=4", "train.fine.steps=4", "train.evaluate_every=2"]
    for argument in ("-o", item)
]


class Board:
    """Stands for a wandb run: keeps what it is given."""

    def __init__(self, **given: Any):
        self.given, self.rows, self.steps, self.finished = given, [], {}, False  # type: ignore[var-annotated]

    def define_metric(self, name: str, step_metric: str) -> None:
        self.steps[name] = step_metric

    def log(self, row: dict[str, float]) -> None:
        assert not self.finished
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[Board]:
    """The runs that a stand-in of wandb was asked for."""
    made: list[Board] = []
    module = ModuleType("wandb")
    module.init = lambda **given: made.append(Board(**given)) or made[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return made


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BEING_HOME", str(tmp_path))
    return tmp_path


def test_figures_go_to_wandb_too_and_the_same_board_goes_on(
    scene: Path, home: Path, boards: list[Board]
) -> None:
    coarse = being("train", scene, *PLAN, "--stage", "coarse", "--log", "wandb", "--device", "cpu")
    fine = being("train", scene, *PLAN, "--log", "wandb", "--device", "cpu")
    assert coarse.exit_code == fine.exit_code == 0, (coarse.stderr, fine.stderr)
    (path,) = (home / "runs/scene").iterdir()
    run = Run.open(path)
    first, second = boards
    assert (
        first.given["id"] == second.given["id"] == run.record["wandb"]
        and first.given["resume"] == "allow"
    )
    assert first.given["dir"] == str(path) and first.given["config"] == run.config.to_dict()
    assert "mode" not in first.given, "WANDB_MODE holds"
    assert first.steps == {"coarse/*": "coarse/step", "fine/*": "fine/step"}
    assert first.finished and second.finished
    rows = [
        {f"{m['stage']}/{key}": value for key, value in m.items() if key != "stage"}
        for m in metrics(run)
    ]
    assert first.rows + second.rows == rows and len(rows) == 4
    assert list((path / "events").iterdir()), "TensorBoard's events are written all the same"


def test_wandb_is_never_asked_by_default(scene: Path, tmp_path: Path, boards: list[Board]) -> None:
    run = train(scene, settings(1, 1), runs=tmp_path)
    assert boards == [] and "wandb" not in run.record


def test_the_board_is_closed_when_training_fails(
    scene: Path, tmp_path: Path, boards: list[Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("being.train.trainer.evaluate", broken)
    with pytest.raises(MemoryError):
        train(scene, settings(1, 1), runs=tmp_path, log="wandb")
    assert boards[0].finished


def test_without_wandb_it_says_how_to_get_it(
    scene: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    refused(
        3,
        "wandb is not installed.*pip install wandb",
        "train",
        scene,
        *PLAN,
        "--log",
        "wandb",
        watch=(home,),
    )


def test_a_board_that_cannot_start_is_said_in_one_line(
    scene: Path, tmp_path: Path, boards: list[Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty).\ncall wandb.login(key=[your_api_key])")

    monkeypatch.setattr(sys.modules["wandb"], "init", locked)
    with pytest.raises(EnvironmentFault, match="api_key not configured.*WANDB_MODE=offline"):
        train(scene, settings(1, 1), runs=tmp_path, log="wandb")


def test_the_run_records_its_rasterizer_and_goes_on_with_another(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, twin = [], reference.rasterize
    monkeypatch.setattr(reference, "rasterize", lambda *given: calls.append(1) or twin(*given))
    plan = settings(2, 2, "train.splat=torch", "data.gaussians=100")
    first = train(scene, plan, runs=tmp_path, stage="coarse", device="cpu")
    assert (first.record["splat"], first.record["device"]) == ("reference", "cpu") and calls
    calls.clear()
    second = train(scene, plan, runs=tmp_path, device="cpu", splat="auto")
    assert second.path == first.path and second.record["finished"]
    if second.record["splat"] == "cpu":
        assert not calls, "the option stands over the config"


def test_a_rasterizer_that_is_not_there_leaves_no_run(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("being.splat.diff_gaussian.status", lambda: "not installed")
    with pytest.raises(EnvironmentFault, match="diff-gaussian rasterizer cannot run here"):
        train(scene, settings(1, 1, "train.splat=diff-gaussian"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_reference_has_no_plane_regulariser_and_no_term_for_the_eyes_unless_asked(
    scene: Path, tmp_path: Path
) -> None:
    for more, terms in (
        ((), set()),
        (("train.loss.plane_tv=1e-4", "train.loss.eyes=0.4"), {"plane_tv", "eyes"}),
    ):
        run = train(
            scene,
            settings(2, 1, "train.compat=reference", *more),
            runs=tmp_path / str(len(more)),
            stage="coarse",
            fresh=True,
        )
        assert {"plane_tv", "eyes"} & set(metrics(run)[0]) == terms

"""Options of a training beside its config: the rasterizer and the metric loggers."""

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
from being.splat import torch_rasterizer
from being.train.training import run_to_continue, train_avatar

PLAN = [
    argument
    for item in [*TINY, "train.coarse.steps=4", "train.fine.steps=4", "train.evaluate_every=2"]
    for argument in ("-o", item)
]


class WandbRun:
    """Stand-in for a wandb run: keeps its arguments and rows."""

    def __init__(self, **given: Any):
        self.given, self.finished = given, False
        self.rows: list = []
        self.steps: dict = {}

    def define_metric(self, name: str, step_metric: str) -> None:
        self.steps[name] = step_metric

    def log(self, row: dict[str, float]) -> None:
        assert not self.finished
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb_runs(monkeypatch: pytest.MonkeyPatch) -> list[WandbRun]:
    """The runs that the stand-in of wandb has started."""
    made: list[WandbRun] = []
    module = ModuleType("wandb")

    def init(**given: Any) -> WandbRun:
        made.append(WandbRun(**given))
        return made[-1]

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return made


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BEING_HOME", str(tmp_path))
    return tmp_path


def test_metrics_go_to_wandb_too_and_its_run_is_resumed(
    scene: Path, home: Path, wandb_runs: list[WandbRun]
) -> None:
    coarse = being("train", scene, *PLAN, "--stage", "coarse", "--log", "wandb", "--device", "cpu")
    fine = being("train", scene, *PLAN, "--log", "wandb", "--device", "cpu")
    assert coarse.exit_code == fine.exit_code == 0, (coarse.stderr, fine.stderr)
    (path,) = (home / "runs/scene").iterdir()
    run = Run.open(path)
    first, second = wandb_runs
    assert (
        first.given["id"] == second.given["id"] == run.record["wandb"]
        and first.given["resume"] == "allow"
    )
    assert first.given["dir"] == str(path) and first.given["config"] == run.config.to_dict()
    assert "mode" not in first.given, "WANDB_MODE decides"
    assert first.steps == {"coarse/*": "coarse/step", "fine/*": "fine/step"}
    assert first.finished and second.finished
    rows = [
        {f"{m['stage']}/{key}": value for key, value in m.items() if key != "stage"}
        for m in metrics(run)
    ]
    assert first.rows + second.rows == rows and len(rows) == 4
    assert list((path / "events").iterdir()), "TensorBoard event files are always written"


def test_wandb_is_not_used_by_default(
    scene: Path, tmp_path: Path, wandb_runs: list[WandbRun]
) -> None:
    run = train_avatar(scene, settings(1, 1), runs=tmp_path)
    assert wandb_runs == [] and "wandb" not in run.record


def test_the_wandb_run_is_finished_when_training_fails(
    scene: Path, tmp_path: Path, wandb_runs: list[WandbRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("being.train.trainer.evaluate", broken)
    with pytest.raises(MemoryError):
        train_avatar(scene, settings(1, 1), runs=tmp_path, log="wandb")
    assert wandb_runs[0].finished


def test_without_wandb_the_error_says_how_to_install_it(
    scene: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    # `refused` lists the current directory; a small one is faster.
    monkeypatch.chdir(home)
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


def test_a_wandb_error_becomes_one_line(
    scene: Path, tmp_path: Path, wandb_runs: list[WandbRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty).\ncall wandb.login(key=[your_api_key])")

    monkeypatch.setattr(sys.modules["wandb"], "init", locked)
    with pytest.raises(EnvironmentFault, match="api_key not configured.*WANDB_MODE=offline"):
        train_avatar(scene, settings(1, 1), runs=tmp_path, log="wandb")


def test_the_run_records_its_rasterizer_and_goes_on_with_another(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, twin = [], torch_rasterizer.rasterize
    monkeypatch.setattr(
        torch_rasterizer, "rasterize", lambda *given: calls.append(1) or twin(*given)
    )
    plan = settings(2, 2, "train.splat=torch", "data.initial_gaussians=100")
    first = train_avatar(scene, plan, runs=tmp_path, stage="coarse", device="cpu")
    assert (first.record["splat"], first.record["device"]) == ("reference", "cpu") and calls
    calls.clear()
    second = train_avatar(scene, plan, runs=tmp_path, device="cpu", splat="auto")
    assert second.path == first.path and second.record["finished"]
    if second.record["splat"] == "cpu":
        assert not calls, "the option stands over the config"


def test_a_missing_rasterizer_leaves_no_run(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("being.splat.diff_gaussian.status", lambda: "not installed")
    with pytest.raises(EnvironmentFault, match="diff-gaussian rasterizer cannot run here"):
        train_avatar(scene, settings(1, 1, "train.splat=diff-gaussian"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_reference_has_no_plane_regulariser_and_no_term_for_the_eyes_unless_asked(
    scene: Path, tmp_path: Path
) -> None:
    for more, terms in (
        ((), set()),
        (("train.loss.plane_tv=1e-4", "train.loss.eyes=0.4"), {"plane_tv", "eyes"}),
    ):
        run = train_avatar(
            scene,
            settings(2, 1, "train.compat=reference", *more),
            runs=tmp_path / str(len(more)),
            stage="coarse",
            fresh=True,
        )
        assert {"plane_tv", "eyes"} & set(metrics(run)[0]) == terms


def test_a_run_whose_config_is_refused_is_not_continued(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unfinished run of an older version, with an old key, does not stop a new training."""
    first = train_avatar(scene, settings(1, 1), runs=tmp_path, stage="coarse", device="cpu")
    config = first.path / "config.yaml"
    config.write_text(config.read_text().replace("sh_degree_every:", "sh_every:"))
    second = train_avatar(scene, settings(1, 1), runs=tmp_path, device="cpu")
    assert second.path != first.path and second.record["finished"]
    message = capsys.readouterr().err
    assert (
        "is not continued" in message and "train.sh_every is now train.sh_degree_every" in message
    )


def test_the_newest_run_with_a_refused_config_does_not_stop_a_new_training(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`being train` without a dataset looks at the newest run first."""
    monkeypatch.setenv("BEING_HOME", str(tmp_path))
    runs = tmp_path / "runs"
    unfinished = train_avatar(scene, settings(1, 1), runs=runs, stage="coarse", device="cpu")
    assert run_to_continue("fine") == unfinished.path
    config = unfinished.path / "config.yaml"
    config.write_text(config.read_text().replace("sh_degree_every:", "sh_every:"))
    assert run_to_continue("fine") is None
    assert "is not continued" in capsys.readouterr().err

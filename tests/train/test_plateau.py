"""The early end of the fine stage: when it comes, with which rates, and after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import metrics, settings

from being.config import PlateauConfig
from being.errors import UsageError
from being.runs.run_directory import Run
from being.train.plateau import Plateau
from being.train.training import train_avatar

# Held-out head-box PSNR, recorded every 100 fine steps of the quick config on a clip of 50 s. From
# step 600 on it changes within noise only.
RECORDED = (
    33.30,
    33.64,
    34.28,
    34.22,
    34.72,
    34.98,
    35.00,
    34.56,
    34.80,
    35.19,
    34.95,
    35.06,
    35.07,
    34.87,
    34.91,
)
EARLY = (
    "train.until_plateau=true",
    "train.evaluate_every=2",
    "train.checkpoint_every=4",
    "train.plateau.cool_down=0.1",
)


def judged(plateau: Plateau, figures: tuple[float, ...], every: int) -> int | None:
    """The step at which the PSNR figures end the stage."""
    return next(
        (k * every for k, figure in enumerate(figures, 1) if plateau.reached(k * every, figure)),
        None,
    )


def test_a_recorded_curve_ends_when_it_has_levelled_off() -> None:
    plateau = Plateau(PlateauConfig(), 1500)
    assert judged(plateau, RECORDED, 100) == 900 and plateau.last_step == 1050
    assert (
        judged(Plateau(PlateauConfig(), 1500), tuple(30 + 0.11 * k for k in range(15)), 100) is None
    )
    assert judged(Plateau(None, 1500), (30.0,) * 15, 100) is None
    assert judged(Plateau(PlateauConfig(), 1500), (float("nan"),) * 15, 100) is None, (
        "NaN decides nothing"
    )


def test_the_rates_fall_smoothly_to_their_end_in_the_cool_down() -> None:
    plateau = Plateau(PlateauConfig(evaluations=1), 1000)
    assert plateau.reached(300, 30.0) is False and plateau.reached(400, 30.05) is True
    assert plateau.last_step == 500
    places = [plateau.schedule_position(step) for step in range(501)]
    assert places[:401] == list(range(401)) and places[500] == 1000
    strides = {round(b - a, 6) for a, b in zip(places[400:], places[401:], strict=False)}
    assert strides == {6.0}
    assert not plateau.reached(500, 20.0) and plateau.last_step == 500, "decided once"


def test_near_the_end_the_stage_keeps_its_steps() -> None:
    plateau = Plateau(PlateauConfig(evaluations=1), 1000)
    plateau.reached(900, 30.0)
    assert not plateau.reached(950, 30.0) and plateau.last_step == 1000
    assert [plateau.schedule_position(step) for step in (0, 940, 970, 1000)] == [0, 940, 970, 1000]


def test_its_state_survives_json_and_decides_the_same() -> None:
    import json

    for killed_at in range(len(RECORDED)):
        whole, first = Plateau(PlateauConfig(), 1500), Plateau(PlateauConfig(), 1500)
        judged(whole, RECORDED, 100)
        for k, figure in enumerate(RECORDED[:killed_at], 1):
            first.reached(100 * k, figure)
        resumed = Plateau(PlateauConfig(), 1500)
        resumed.load(json.loads(json.dumps(first.state())))
        for k, figure in enumerate(RECORDED[killed_at:], killed_at + 1):
            resumed.reached(100 * k, figure)
        assert (
            (resumed.levelled_off_at, resumed.last_step)
            == (whole.levelled_off_at, whole.last_step)
            == (900, 1050)
        )


class Curve:
    """Stand-in for `evaluate`: returns the figures of a list, and raises KeyboardInterrupt at
    `killed_at`.
    """

    def __init__(self, figures: list[float], start: int = 0, killed_at: int | None = None):
        self.figures: Iterator[float] = iter(figures[start:])
        self.left = None if killed_at is None else killed_at - start

    def __call__(self, model: Any, clip: Any, frames: Any, stage: str) -> dict[str, float]:
        if stage == "coarse":
            return {"psnr": 1.0, "psnr_head": 1.0}
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        figure = next(self.figures)
        return {"psnr": figure, "psnr_head": figure}


def test_training_stops_early_keeps_the_low_rates_and_decides_alike_after_a_kill(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = [
        30.0,
        31.0,
        31.05,
        30.9,
        31.0,
        30.0,
        32.0,
    ]  # level at the 5th, step 10; the cool-down's are 12 and 14
    rates: dict[str, list[float]] = {"whole": [], "resumed": []}
    seen = "whole"

    def noted(optimizer: torch.optim.Optimizer, step: float, steps: int) -> None:
        from being.train.optimizer import set_learning_rates

        set_learning_rates(optimizer, step, steps)
        if steps == 40:
            rates[seen].append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr("being.train.trainer.set_learning_rates", noted)
    monkeypatch.setattr("being.train.trainer.evaluate", Curve(figures))
    plan = settings(2, 40, *EARLY)
    whole = train_avatar(scene, plan, runs=tmp_path / "whole", fresh=True)
    last = whole.load("last")
    assert last is not None and last.state["step"] == 14 and last.state["plateau"]["since"] == 10
    assert whole.record["finished"] and whole.record["best"] == 32.0
    start, end = plan.train.rate.means
    assert end < rates["whole"][-1] < 3 * end and rates["whole"][9] > 0.2 * start, (
        "the end of the decay is kept"
    )

    seen = "resumed"
    runs = tmp_path / "killed"
    for killed_at, start_at in (
        (4, 0),
        (6, 4),
        (None, 6),
    ):  # killed before the decision, and while cooling down
        monkeypatch.setattr("being.train.trainer.evaluate", Curve(figures, start_at, killed_at))
        if killed_at is None:
            run = train_avatar(scene, plan, runs=runs)
        else:
            with pytest.raises(KeyboardInterrupt):
                train_avatar(scene, plan, runs=runs)
    assert len(list((runs / "scene").iterdir())) == 1
    resumed = run.load("last")
    assert resumed is not None and resumed.state == last.state
    assert all(torch.equal(resumed.model[key], value) for key, value in last.model.items())
    assert [(m["step"], m["psnr_head"]) for m in metrics(run)] == [
        (m["step"], m["psnr_head"]) for m in metrics(whole)
    ]


def test_without_it_a_flat_curve_goes_through_all_steps(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("being.train.trainer.evaluate", Curve([30.0] * 10))
    run: Run = train_avatar(
        scene, settings(2, 12, "train.evaluate_every=2"), runs=tmp_path, fresh=True
    )
    assert metrics(run)[-1]["step"] == 12


@pytest.mark.parametrize(
    "item", ["train.plateau.evaluations=0", "train.plateau.cool_down=1.5", "train.plateau.gain=-1"]
)
def test_values_out_of_bounds_are_refused(item: str) -> None:
    with pytest.raises(UsageError, match=item.split("=")[0]):
        settings(1, 1, item)

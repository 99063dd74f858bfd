"""A fine stage that has levelled off ends early: when, with which rates, and the same after a kill."""

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
from being.train.training import train

# Held-out head-box PSNR every 100 fine steps of the quick config on "address 50 s": from step 600
# on, within noise.
ADDRESS = (
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
    """The step at which the figures end the stage."""
    return next(
        (k * every for k, figure in enumerate(figures, 1) if plateau.reached(k * every, figure)),
        None,
    )


def test_a_recorded_curve_ends_where_it_is_flat_and_no_earlier() -> None:
    plateau = Plateau(PlateauConfig(), 1500)
    assert judged(plateau, ADDRESS, 100) == 900 and plateau.last == 1050
    assert (
        judged(Plateau(PlateauConfig(), 1500), tuple(30 + 0.11 * k for k in range(15)), 100) is None
    )
    assert judged(Plateau(None, 1500), (30.0,) * 15, 100) is None
    assert judged(Plateau(PlateauConfig(), 1500), (float("nan"),) * 15, 100) is None, (
        "no figure, no decision"
    )


def test_the_rates_fall_smoothly_to_their_end_in_the_cool_down() -> None:
    plateau = Plateau(PlateauConfig(evaluations=1), 1000)
    assert plateau.reached(300, 30.0) is False and plateau.reached(400, 30.05) is True
    assert plateau.last == 500
    places = [plateau.place(step) for step in range(501)]
    assert places[:401] == list(range(401)) and places[500] == 1000
    strides = {round(b - a, 6) for a, b in zip(places[400:], places[401:], strict=False)}
    assert strides == {6.0}
    assert not plateau.reached(500, 20.0) and plateau.last == 500, "decided once"


def test_near_the_end_the_stage_keeps_its_steps() -> None:
    plateau = Plateau(PlateauConfig(evaluations=1), 1000)
    plateau.reached(900, 30.0)
    assert not plateau.reached(950, 30.0) and plateau.last == 1000
    assert [plateau.place(step) for step in (0, 940, 970, 1000)] == [0, 940, 970, 1000]


def test_its_state_survives_json_and_decides_the_same() -> None:
    import json

    for killed_at in range(len(ADDRESS)):
        whole, first = Plateau(PlateauConfig(), 1500), Plateau(PlateauConfig(), 1500)
        judged(whole, ADDRESS, 100)
        for k, figure in enumerate(ADDRESS[:killed_at], 1):
            first.reached(100 * k, figure)
        resumed = Plateau(PlateauConfig(), 1500)
        resumed.load(json.loads(json.dumps(first.state())))
        for k, figure in enumerate(ADDRESS[killed_at:], killed_at + 1):
            resumed.reached(100 * k, figure)
        assert (resumed.since, resumed.last) == (whole.since, whole.last) == (900, 1050)


class Curve:
    """Stands for `evaluate`: the fine stage's figures are those of a list; "killed" where it is
    told to be.
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
        from being.train.optimizer import set_rates

        set_rates(optimizer, step, steps)
        if steps == 40:
            rates[seen].append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr("being.train.trainer.set_rates", noted)
    monkeypatch.setattr("being.train.trainer.evaluate", Curve(figures))
    plan = settings(2, 40, *EARLY)
    whole = train(scene, plan, runs=tmp_path / "whole", fresh=True)
    last = whole.load("last")
    assert last is not None and last.state["step"] == 14 and last.state["plateau"]["since"] == 10
    assert whole.record["finished"] and whole.record["best"] == 32.0
    start, end = plan.train.rate.means
    assert end < rates["whole"][-1] < 3 * end and rates["whole"][9] > 0.2 * start, (
        "the decay's end is not cut off"
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
            run = train(scene, plan, runs=runs)
        else:
            with pytest.raises(KeyboardInterrupt):
                train(scene, plan, runs=runs)
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
    run: Run = train(scene, settings(2, 12, "train.evaluate_every=2"), runs=tmp_path, fresh=True)
    assert metrics(run)[-1]["step"] == 12


@pytest.mark.parametrize(
    "item", ["train.plateau.evaluations=0", "train.plateau.cool_down=1.5", "train.plateau.gain=-1"]
)
def test_figures_that_make_no_sense_are_refused(item: str) -> None:
    with pytest.raises(UsageError, match=item.split("=")[0]):
        settings(1, 1, item)

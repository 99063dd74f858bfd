"""An interrupted and resumed training ends with the same weights as an uninterrupted one.

The process is killed at different moments and by different signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import TINY, metrics, settings

from being.errors import BeingError, ExitCode
from being.runs.run_directory import Run
from being.train import step as step_module
from being.train.step import TrainingStep
from being.train.training import train_avatar

COARSE, FINE = 32, 12
PLAN = ["train.checkpoint_every=10", "train.evaluate_every=5", "train.mixed_precision=true"]
# `being train`, which writes down the frames of each step and gets a signal at a step or while it
# saves `last` for the n-th time
KILLED = """
import os, sys
from pathlib import Path
import being.files, being.train.step
from being.cli.app import main

noted, signal, moment, count = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
draw, save, saved = being.train.step.sample_frames, being.files.replace_folder, []

def sample(frames, seed, step, batch):
    drawn = draw(frames, seed, step, batch)
    with open(noted, "a") as file:
        print(seed, step, *drawn, file=file)
    if (moment, count) == (("coarse", "fine")[seed], step):
        os.kill(os.getpid(), signal)
    return drawn

def replace(part, folder):
    if folder.name == "last":
        saved.append(folder)
        if (moment, count) == ("save", len(saved)):
            # the worst moment on a system without a swap: the old folder is renamed, the new one
            # does not exist yet
            folder.rename(folder.with_name(".last.old"))
            os.kill(os.getpid(), signal)
    save(part, folder)

being.train.step.sample_frames, being.files.replace_folder = sample, replace
sys.argv = ["being", *sys.argv[5:]]
main()
"""


def drawn(runs: Path) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """The frames of each (seed, step), once for each time that the step ran."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for line in (runs / "drawn.txt").read_text().splitlines():
        seed, step, *frames = line.split()
        found.setdefault((seed, step), []).append(tuple(frames))
    return found


def trained(scene: Path, home: Path, moment: str, count: int, kill: int = signal.SIGKILL) -> int:
    """Run the program in a process of its own; returns its exit code."""
    home.mkdir(exist_ok=True)
    items = [*TINY, f"train.coarse.steps={COARSE}", f"train.fine.steps={FINE}", *PLAN]
    command = [
        "train",
        str(scene),
        "--config",
        "quick",
        "--device",
        "cpu",
        *(f"-o{item}" for item in items),
    ]
    return subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(home / "drawn.txt"),
            str(int(kill)),
            moment,
            str(count),
            *command,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "BEING_HOME": str(home)},
        capture_output=True,
        timeout=240,
    ).returncode


def only_run(runs: Path) -> Run:
    (path,) = (runs / "scene").glob("[!.]*")  # a kill leaves the hidden lock file
    return Run.open(path)


def assert_same_result(whole: Run, resumed: Run) -> None:
    for name in ("last", "best"):
        one, other = whole.load(name), resumed.load(name)
        assert one is not None and other is not None and one.state == other.state
        for kind in ("model", "optimizer"):
            a, b = getattr(one, kind), getattr(other, kind)
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), (
                name,
                kind,
            )
    figures = [
        [(m["stage"], m["step"], m["psnr"], m["psnr_head"], m["gaussians"]) for m in metrics(run)]
        for run in (whole, resumed)
    ]
    assert figures[0] == figures[1] and resumed.record["finished"]


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The uninterrupted run."""
    runs = tmp_path_factory.mktemp("whole")
    return train_avatar(scene, settings(COARSE, FINE, *PLAN), "quick", runs=runs, device="cpu")


def test_a_killed_training_ends_with_the_same_weights(
    scene: Path, whole: Run, tmp_path: Path
) -> None:
    assert trained(scene, tmp_path, "coarse", 27) == -signal.SIGKILL
    assert_resumes(scene, whole, tmp_path / "runs", saved=20, evaluated=5)


def test_a_training_stopped_by_signals_ends_with_the_same_weights(
    scene: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM comes in coarse step 28, SIGHUP in fine step 3; after each the state is saved."""
    draw = step_module.sample_frames
    moments = {(0, 27): signal.SIGTERM, (1, 2): signal.SIGHUP}

    def interrupted(frames: np.ndarray, seed: int, step: int, batch: int) -> np.ndarray:
        if (seed, step) in moments:
            os.kill(os.getpid(), moments.pop((seed, step)))
        return draw(frames, seed, step, batch)

    plan, runs = settings(COARSE, FINE, *PLAN), tmp_path / "runs"
    with monkeypatch.context() as patched:
        patched.setattr(step_module, "sample_frames", interrupted)
        for stopped in ("coarse step 28", "fine step 3"):
            with pytest.raises(BeingError, match=f"stopped at {stopped}") as caught:
                train_avatar(scene, plan, "quick", runs=runs, device="cpu")
            assert caught.value.code == ExitCode.INTERRUPTED
    assert_resumes(scene, whole, runs, saved=3, evaluated=7)


def assert_resumes(scene: Path, whole: Run, runs: Path, saved: int, evaluated: int) -> None:
    """Resume the only run under `runs` to its end. Its `last` is of step `saved` of its stage, and
    it was evaluated so many times.
    """
    stopped = only_run(runs)
    last = stopped.load("last")
    assert last is not None and last.state["step"] == saved and len(metrics(stopped)) == evaluated
    with open(stopped.path / "metrics.jsonl", "a") as file:
        file.write('{"stage": "coarse", "st')  # a line that a kill has cut off
    plan = settings(COARSE, FINE, *PLAN)
    resumed = train_avatar(scene, plan, "quick", runs=runs, device="cpu")
    assert resumed.path == stopped.path
    assert_same_result(whole, resumed)


def moments(step: TrainingStep) -> dict[str, dict[str, torch.Tensor]]:
    """Copies of what Adam stores for each parameter, read from the optimizer itself."""
    optimizer = step.optimizer
    return {
        f"{group['name']}.{k}": {
            key: value.clone() for key, value in optimizer.state.get(parameter, {}).items()
        }
        for group in optimizer.param_groups
        for k, parameter in enumerate(group["params"])
    }


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_the_moments_of_adam_survive_a_resume(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Before step 5 a resumed optimizer holds what the first one held, second moments included."""
    run_step = TrainingStep.__call__
    found: list[dict[str, dict[str, torch.Tensor]]] = []

    def stop_before_step_5(self: TrainingStep, step: int) -> torch.Tensor:
        if self.coarse == (stage == "coarse") and step == 5:
            found.append(moments(self))
            raise KeyboardInterrupt
        return run_step(self, step)

    monkeypatch.setattr(TrainingStep, "__call__", stop_before_step_5)
    plan = settings(6, 6, "train.checkpoint_every=4")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_avatar(scene, plan, runs=tmp_path, device="cpu")
    assert len(list((tmp_path / "scene").iterdir())) == 1, "the second call resumes the run"

    before, after = found
    assert before.keys() == after.keys()
    with_state = [name for name, state in before.items() if state]
    assert {"means.0", "opacity_logits.0", "sh_dc.0"} <= set(with_state)
    for name in with_state:
        assert {"exp_avg", "exp_avg_sq", "step"} == before[name].keys() == after[name].keys(), name
        for key, value in before[name].items():
            assert torch.equal(after[name][key], value), (name, key)
    assert all(after[name]["exp_avg_sq"].abs().sum() > 0 for name in ("means.0", "sh_dc.0"))


@pytest.mark.slow
def test_a_training_killed_many_times_ends_with_the_same_weights(
    scene: Path, whole: Run, tmp_path: Path
) -> None:
    assert trained(scene, tmp_path / "whole", "never", 0) == 0
    # while densifying; in the middle of a step and of saving; when the coarse stage is done; in the
    # fine stage
    kills = [("coarse", 27), ("save", 1), ("save", 2), ("fine", 0), ("fine", 11), ("never", 0)]
    assert [trained(scene, tmp_path / "killed", *moment) for moment in kills] == [-9] * 5 + [0]
    assert trained(scene, tmp_path / "stopped", "coarse", 5, signal.SIGTERM) == 130
    assert_same_result(only_run(tmp_path / "whole/runs"), only_run(tmp_path / "killed/runs"))
    assert_same_result(whole, only_run(tmp_path / "killed/runs"))
    once, again = drawn(tmp_path / "whole"), drawn(tmp_path / "killed")
    assert len(once) == COARSE + FINE and once.keys() == again.keys()
    assert all(set(frames) == set(once[step]) for step, frames in again.items())
    assert max(len(frames) for frames in again.values()) >= 2, "some steps ran twice"

"""A training that is killed, at whatever moment and by whatever signal, ends to the bit where it
would have alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import TINY, metrics, settings

from being.runs.run_directory import Run
from being.train.training import train

COARSE, FINE = 32, 12
PLAN = ["train.checkpoint_every=10", "train.evaluate_every=5", "train.mixed_precision=true"]
# `being train` that notes the frames of each step, and gets a signal at a step or in its n-th
# saving of `last`.
KILLED = """
import os, sys
from pathlib import Path
import being.runs.run_directory, being.train.step
from being.cli.app import main

noted, signal, moment, count = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
draw, save, saved = being.train.step.sample, being.runs.run_directory.replace_folder, []

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
            folder.rename(folder.with_name(".last.old"))  # the worst moment: the old one is away, the new not there
            os.kill(os.getpid(), signal)
    save(part, folder)

being.train.step.sample, being.runs.run_directory.replace_folder = sample, replace
sys.argv = ["being", *sys.argv[5:]]
main()
"""


def drawn(runs: Path) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """The frames drawn, by seed and step, once for every time the step was done."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for line in (runs / "drawn.txt").read_text().splitlines():
        seed, step, *frames = line.split()
        found.setdefault((seed, step), []).append(tuple(frames))
    return found


def trained(scene: Path, home: Path, moment: str, count: int, kill: int = signal.SIGKILL) -> int:
    """The exit code of the program in a process of its own."""
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


def only_run(home: Path) -> Run:
    (path,) = (home / "runs/scene").iterdir()
    return Run.open(path)


def assert_the_same_end(whole: Run, resumed: Run) -> None:
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
    """The run that nobody killed."""
    runs = tmp_path_factory.mktemp("whole")
    return train(scene, settings(COARSE, FINE, *PLAN), "quick", runs=runs, device="cpu")


@pytest.mark.parametrize("kill, code, saved", [("SIGKILL", -9, 20), ("SIGTERM", 130, 28)])
def test_killed_it_ends_to_the_bit_where_it_would_have(
    scene: Path, whole: Run, tmp_path: Path, kill: str, code: int, saved: int
) -> None:
    assert trained(scene, tmp_path, "coarse", 27, signal.Signals[kill]) == code
    killed = only_run(tmp_path)
    last = killed.load("last")
    assert last is not None and last.state["step"] == saved and len(metrics(killed)) == 5
    with open(killed.path / "metrics.jsonl", "a") as file:
        file.write('{"stage": "coarse", "st')  # cut off by a kill
    resumed = train(
        scene, settings(COARSE, FINE, *PLAN), "quick", runs=tmp_path / "runs", device="cpu"
    )
    assert resumed.path == killed.path
    assert_the_same_end(whole, resumed)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_to_the_bit_where_it_would_have(
    scene: Path, whole: Run, tmp_path: Path
) -> None:
    assert trained(scene, tmp_path / "whole", "never", 0) == 0
    # while densifying; in the middle of a step and of saving; when the coarse stage is done; in the
    # fine stage
    moments = [("coarse", 27), ("save", 1), ("save", 2), ("fine", 0), ("fine", 11), ("never", 0)]
    assert [trained(scene, tmp_path / "killed", *moment) for moment in moments] == [-9] * 5 + [0]
    assert_the_same_end(only_run(tmp_path / "whole"), only_run(tmp_path / "killed"))
    assert_the_same_end(whole, only_run(tmp_path / "killed"))
    once, again = drawn(tmp_path / "whole"), drawn(tmp_path / "killed")
    assert len(once) == COARSE + FINE and once.keys() == again.keys()
    assert all(set(frames) == set(once[step]) for step, frames in again.items())
    assert max(len(frames) for frames in again.values()) >= 2, "some steps were done again"

"""A training killed by SIGKILL, at whatever moment, ends to the bit where it would have ended by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import TINY, metrics, settings

from being.train.job import train
from being.train.run import Run

COARSE, FINE = 32, 12
PLAN = ["train.checkpoint_every=10", "train.evaluate_every=5", "train.mixed_precision=true"]
# Trains as `being train` does; notes the frames of each step; kills itself at a step, or in its n-th saving of `last`.
KILLED = """
import os, signal, sys
from pathlib import Path
import being.train.run, being.train.step
from being.config import load
from being.train.job import train

data, runs, moment, count, *items = sys.argv[1:]
draw, save, saved = being.train.step.sample, being.train.run.replace_folder, []

def sample(frames, seed, step, batch):
    drawn = draw(frames, seed, step, batch)
    with open(Path(runs) / "drawn.txt", "a") as file:
        print(seed, step, *drawn, file=file)
    if moment == ("coarse", "fine")[seed] and step == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn

def replace(part, folder):
    if folder.name == "last":
        saved.append(folder)
        if moment == "save" and len(saved) == int(count):
            folder.rename(folder.with_name(".last.old"))  # the worst moment: the old one is away, the new not there
            os.kill(os.getpid(), signal.SIGKILL)
    save(part, folder)

being.train.step.sample, being.train.run.replace_folder = sample, replace
train(Path(data), load("quick", items, environment={}), runs=Path(runs), device="cpu")
"""


def drawn(runs: Path) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """The frames drawn, by seed and step, once for every time the step was done."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for line in (runs / "drawn.txt").read_text().splitlines():
        seed, step, *frames = line.split()
        found.setdefault((seed, step), []).append(tuple(frames))
    return found


def trained(scene: Path, runs: Path, moment: str, count: int) -> int:
    """The exit code of a training in a process of its own."""
    runs.mkdir(exist_ok=True)
    items = [*TINY, f"train.coarse.steps={COARSE}", f"train.fine.steps={FINE}", *PLAN]
    return subprocess.run([sys.executable, "-c", KILLED, str(scene), str(runs), moment, str(count), *items],
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=240).returncode


def assert_the_same_end(whole: Run, resumed: Run) -> None:
    for name in ("last", "best"):
        one, other = whole.load(name), resumed.load(name)
        assert one is not None and other is not None and one.state == other.state
        for kind in ("model", "optimizer"):
            a, b = getattr(one, kind), getattr(other, kind)
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), (name, kind)
    figures = [[(m["stage"], m["step"], m["psnr"], m["psnr_head"], m["gaussians"]) for m in metrics(run)]
               for run in (whole, resumed)]
    assert figures[0] == figures[1] and resumed.record["finished"]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_to_the_bit_where_it_would_have(scene: Path, tmp_path: Path) -> None:
    assert trained(scene, tmp_path / "whole", "never", 0) == 0
    # while densifying; in the middle of a step and of saving; when the coarse stage is done; in the fine stage
    moments = [("coarse", 27), ("save", 1), ("save", 2), ("fine", 0), ("fine", 11), ("never", 0)]
    codes = [trained(scene, tmp_path / "killed", *moment) for moment in moments]
    assert codes == [-9] * 5 + [0]
    (whole,), (resumed,) = ([Run.open(path) for path in (tmp_path / name / "scene").iterdir()]
                            for name in ("whole", "killed"))
    assert_the_same_end(whole, resumed)
    once, again = drawn(tmp_path / "whole"), drawn(tmp_path / "killed")
    assert len(once) == COARSE + FINE and once.keys() == again.keys()
    assert all(set(frames) == set(once[step]) for step, frames in again.items())
    assert max(len(frames) for frames in again.values()) >= 2, "some steps were done again"


def test_killed_by_sigkill_it_ends_to_the_bit_where_it_would_have(scene: Path, tmp_path: Path) -> None:
    whole = train(scene, settings(COARSE, FINE, *PLAN), runs=tmp_path / "whole", device="cpu")
    assert trained(scene, tmp_path / "killed", "coarse", 27) == -9
    (killed,) = (Run.open(path) for path in (tmp_path / "killed/scene").iterdir())
    last = killed.load("last")
    assert last is not None and last.state["step"] == 20 and len(metrics(killed)) == 5
    with open(killed.path / "metrics.jsonl", "a") as file:
        file.write('{"stage": "coarse", "st')  # cut off by a kill
    resumed = train(scene, settings(COARSE, FINE, *PLAN), "config", runs=tmp_path / "killed", device="cpu")
    assert resumed.path == killed.path
    assert_the_same_end(whole, resumed)

"""Measure how much slower training and `being eval` get beside other busy processes.

    python -m scripts.measure.busy DATA RUN [--tree NAME=FOLDER[,VAR=VALUE...]] [--cores 2]
                                   [--beside 0,1,3] [--rounds 5] [--steps 8] [--frames 8]
                                   [--only step,eval]

A step is one of the fine stage with the quick config; `being eval RUN --frames N` is timed as a
whole command. A busy process is an endless loop. Every tree (default: this one) is a checkout with
its native libraries built; its processes get the variables that are named. The trees take turns,
with each number of busy processes in each round, so that other work on the machine meets them
alike: look at the ratios, which are medians over the rounds of the ratio within a round. --cores
pins everything to that many cores. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WARM_UP_STEPS = 6
SETTLING_S = 2.5  # of a turn, before the time is taken: the tree sees how busy the cores are
BUSY = "while True: pass"
COMMAND = "import sys; sys.path[0] = {tree!r}; from being.cli.app import main; main()"


@dataclass
class Tree:
    """A checkout that is measured, with times in s by (what, number of busy processes)."""

    name: str
    folder: Path
    variables: dict[str, str]
    times: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> Tree:
        """Read NAME=FOLDER[,VAR=VALUE...]."""
        name, _, rest = text.partition("=")
        folder, *variables = rest.split(",")
        pairs = dict(item.split("=", 1) for item in variables)
        return Tree(name, Path(folder).resolve(), pairs)

    def environment(self) -> dict[str, str]:
        """Variables of its processes."""
        return {**os.environ, **self.variables, "PYTHONDONTWRITEBYTECODE": "1"}


class Steps:
    """A process of a tree that trains; it takes steps only when it is asked to."""

    def __init__(self, tree: Tree, data: Path):
        command = [sys.executable, __file__, "--worker", str(tree.folder), str(data)]
        self._process = subprocess.Popen(
            command,
            cwd=tree.folder,
            env=tree.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seconds(WARM_UP_STEPS)

    def seconds(self, steps: int) -> float:
        """Mean time of a step, in s."""
        assert self._process.stdin and self._process.stdout
        # Some systems lower the priority of long computations: all threads get ours again.
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness())
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1]) / steps
        raise RuntimeError(f"the training process ended with {self._process.wait()}")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def niceness() -> int:
    """Our own, which everything that is measured has."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def work(tree: Path, data: Path) -> None:
    """In a process of a tree: train, as many steps as each line of stdin says; print their time."""
    sys.path[0] = str(tree)
    prepare_threads = use_free_cores = int  # does nothing
    if (tree / "being/threads.py").is_file():  # not in older trees
        from being.threads import prepare_threads, use_free_cores

    prepare_threads()
    from scripts.measure import step as script

    measure = script.measure

    class OnDemand(getattr(script, "TrainingStep", None) or script.Step):  # type: ignore[misc]
        """A training step that waits until it is asked for."""

        left, began, turn = 0, 0.0, 0.0

        def __call__(self, step: int) -> Any:
            if self.left == 0:
                if self.began:
                    print(f"seconds {time.perf_counter() - self.began}", flush=True)
                self.left, self.began = int(sys.stdin.readline()), 0.0
                self.turn = time.perf_counter()
                prepare_threads()
            if not self.began and time.perf_counter() - self.turn > SETTLING_S:
                self.began = time.perf_counter()
            self.left -= self.began > 0
            use_free_cores()
            return super().__call__(step)

    def on_demand(config: Any, stage: str, *rest: Any) -> list[float]:
        """The coarse stage in a few steps, the fine one for ever."""
        if stage == "fine":
            script.TrainingStep = script.Step = OnDemand
        return measure(config, stage, *rest[:-1], 10**5 if stage == "fine" else 1)

    script.measure = on_demand
    sys.argv = ["step", str(data), "--config", "quick", "--device", "cpu", "--blocks", "1"]
    script.main()


def eval_seconds(tree: Tree, run: Path, frames: int) -> float:
    """The time of `being eval`, in s."""
    command = [sys.executable, "-c", COMMAND.format(tree=str(tree.folder)), "eval", str(run)]
    command += ["--device", "cpu", "--frames", str(frames)]
    start = time.perf_counter()
    done = subprocess.run(command, env=tree.environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return time.perf_counter() - start


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run `count` processes that never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    time.sleep(0.3 if count else 0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_all(options: argparse.Namespace, trees: list[Tree]) -> None:
    """Fill in the times of the trees, in turns."""
    steps = {}
    try:
        if "step" in options.only:
            steps = {tree.name: Steps(tree, options.data) for tree in trees}
        for number in range(options.rounds):
            for count in options.beside:
                for tree in trees if number % 2 == 0 else trees[::-1]:
                    if "step" in options.only:
                        with busy_processes(count):
                            seconds = steps[tree.name].seconds(options.steps)
                        tree.times.setdefault(("step", count), []).append(seconds)
                    if "eval" in options.only:
                        with busy_processes(count):
                            seconds = eval_seconds(tree, options.run, options.frames)
                        tree.times.setdefault(("eval", count), []).append(seconds)
    finally:
        for process in steps.values():
            process.end()


def ratio(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """Median, least and greatest ratio of two lists of paired times."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def report(trees: list[Tree], beside: list[int]) -> list[dict[str, Any]]:
    """Print a line for each figure; returns them."""
    rows = []
    for tree in trees:
        for (what, count), times in sorted(tree.times.items()):
            row: dict[str, Any] = {"tree": tree.name, "what": what, "beside": count}
            row["s"] = round(statistics.median(times), 4)
            row["least_s"], row["most_s"] = round(min(times), 4), round(max(times), 4)
            text = f"{tree.name:<12}{what} beside {count}: {row['s']:.3f} s"
            text += f" ({row['least_s']:.3f} to {row['most_s']:.3f})"
            others = {"alone": (tree, beside[0]), "first": (trees[0], count)}
            for name, (other, other_count) in others.items():
                pair = other.times[(what, other_count)]
                if pair is not times:
                    row[f"to_{name}"] = [round(value, 3) for value in ratio(times, pair)]
                    middle, least, most = row[f"to_{name}"]
                    shown = f"alone (beside {beside[0]})" if name == "alone" else other.name
                    text += f", {middle:.2f} ({least:.2f} to {most:.2f}) times {shown}"
            print(text)
            rows.append(row)
    return rows


def main() -> None:
    """Parse, measure, print."""
    if sys.argv[1:2] == ["--worker"]:
        return work(Path(sys.argv[2]), Path(sys.argv[3]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tree", action="append", help="NAME=FOLDER[,VAR=VALUE...]")
    parser.add_argument("--cores", type=int, help="pin everything to so many cores")
    parser.add_argument("--beside", default="0,1,3", help="numbers of busy processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="steps timed together")
    parser.add_argument("--frames", type=int, default=8, help="frames of `being eval`")
    parser.add_argument("--only", default="step,eval")
    options = parser.parse_args()
    options.data, options.run = options.data.resolve(), options.run.resolve()
    options.beside = [int(count) for count in options.beside.split(",")]
    options.only = options.only.split(",")
    trees = [Tree.parse(text) for text in options.tree or ["this=."]]
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    measure_all(options, trees)
    rows = report(trees, options.beside)
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    print(json.dumps({"cores": cores, "rounds": options.rounds, "load": load, "figures": rows}))


if __name__ == "__main__":
    main()

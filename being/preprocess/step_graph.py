"""Steps that depend on each other: run side by side as soon as what they need is there, and never
twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import being
from being.console import Progress, say
from being.preprocess.workspace import Done, Workspace

Advance = Callable[[int], None]
Work = TypeVar("Work")


class Stopped(Exception):
    """Raised inside a step because another one failed or the run was interrupted."""


@dataclass(frozen=True)
class Step(Generic[Work]):
    """One step: a function that writes `outputs` from the outputs of the steps `after` and from
    `settings`.
    """

    name: str  # as progress, times and manifest call it
    run: Callable[[Work, Advance], None]
    outputs: tuple[str, ...]  # patterns of the files and folders that it alone writes
    after: tuple[str, ...] = ()
    settings: Callable[[Work], Any] = lambda work: (
        None
    )  # of JSON types: what else its outputs depend on
    total: Callable[[Work], int | None] = lambda work: None  # frames that it counts


class Stop:
    """Tells the steps that are running to end soon."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """From now on `check` raises."""
        self._event.set()

    def check(self) -> None:
        """Raise Stopped when the run is to end."""
        if self._event.is_set():
            raise Stopped


def run_steps(
    steps: Sequence[Step[Work]],
    work: Work,
    place: Workspace,
    stop: Stop,
    progress: type[Progress] = Progress,
) -> dict[str, Done]:
    """Run all steps, in the order their needs allow, each in a thread of its own; what was done, by
    name.

    A step that an earlier run finished from the same inputs, and whose outputs are still as it left
    them, is not run. The first error ends the others at their next look at `stop` and is raised.
    """
    done: dict[str, Done] = {}
    waiting, running = list(steps), dict[Future[Done], str]()
    lock = threading.Lock()
    with ThreadPoolExecutor(max(1, len(steps)), "step") as pool:
        try:
            while waiting or running:
                for step in [step for step in waiting if all(name in done for name in step.after)]:
                    waiting.remove(step)
                    inputs = _inputs(step, work, [done[name].digest for name in step.after])
                    running[pool.submit(_do, step, inputs, work, place, stop, progress, lock)] = (
                        step.name
                    )
                assert running, f"steps that wait for each other: {[step.name for step in waiting]}"
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done[running.pop(future)] = future.result()
        except BaseException as error:
            stop.set()
            if isinstance(error, KeyboardInterrupt):
                say("stopping: what is running ends at its next frame")
            raise
    return {step.name: done[step.name] for step in steps}


def _inputs(step: Step[Work], work: Work, digests: list[str]) -> str:
    """Digest over all that a step's outputs depend on."""
    value = [code_digest(), step.name, step.settings(work), digests]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """sha256 over the code that makes a dataset: files of another version are never taken for this
    one's.
    """
    package = Path(being.__file__).parent
    files = [
        *package.glob("*.py"),
        *(package / "preprocess").rglob("*.py"),
        *(package / "audio").rglob("*.py"),
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _do(
    step: Step[Work],
    inputs: str,
    work: Work,
    place: Workspace,
    stop: Stop,
    progress: type[Progress],
    lock: threading.Lock,
) -> Done:
    earlier = place.done.get(step.name)
    if earlier is not None:
        if earlier.inputs == inputs and place.digest(step.outputs) == earlier.digest:
            say(f"{step.name}  done by the run before")
            return earlier
        say(f"{step.name}  done again: its inputs or files are not those of the run before")
    stop.check()
    place.clear(step.outputs)
    with progress(step.name, step.total(work), "frames") as shown:

        def advance(count: int) -> None:
            stop.check()
            shown.advance(count)

        step.run(work, advance)
    finished = Done(inputs, place.digest(step.outputs), round(shown.seconds, 2))
    with lock:
        stop.check()
        place.record(step.name, finished)
    return finished

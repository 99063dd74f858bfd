"""Runs dependent steps in parallel and skips the steps whose inputs did not change."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from being.console import Progress, console
from being.preprocess.workspace import FinishedStep, Workspace

Advance = Callable[[int], None]
Context = TypeVar("Context")


class StepStopped(Exception):
    """Raised inside a step because another step failed or the run was interrupted."""


def _nothing(context: Any) -> None:
    return None


@dataclass(frozen=True)
class Step(Generic[Context]):
    """One step: a function that writes `outputs`.

    The outputs depend on the outputs of the steps `after`, on `settings` and on `version`.
    """

    # as progress, times and manifest name it
    name: str
    run: Callable[[Context, Advance], None]
    # patterns of the files and folders that only this step writes
    outputs: tuple[str, ...]
    # names of the steps whose outputs it reads
    after: tuple[str, ...] = ()
    # version of the code: raise it when a change of the code changes the outputs
    version: int = field(kw_only=True)
    # of JSON types: what else the outputs depend on
    settings: Callable[[Context], Any] = _nothing
    # number of frames that it counts
    total: Callable[[Context], int | None] = _nothing


class StopFlag:
    """Tells the running steps to end soon."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """From now on `check` raises."""
        self._event.set()

    def check(self) -> None:
        """Raise StepStopped when the run is to end."""
        if self._event.is_set():
            raise StepStopped


def run_steps(
    steps: Sequence[Step[Context]],
    context: Context,
    workspace: Workspace,
    stop: StopFlag,
    progress: type[Progress] = Progress,
) -> dict[str, FinishedStep]:
    """Run all steps, each in its own thread as soon as its inputs exist; the results by name.

    A step is skipped when an earlier run finished it with the same inputs and its outputs are
    unchanged. The first error is raised; the other steps end at their next check of `stop`.
    """
    finished: dict[str, FinishedStep] = {}
    waiting = list(steps)
    running: dict[Future[FinishedStep], str] = {}
    run = _Run(context, workspace, stop, progress)
    with ThreadPoolExecutor(max(1, len(steps)), "step") as pool:
        try:
            while waiting or running:
                # Start every step whose inputs exist.
                ready = [step for step in waiting if all(name in finished for name in step.after)]
                for step in ready:
                    waiting.remove(step)
                    inputs = _inputs_digest(
                        step, context, [finished[name].digest for name in step.after]
                    )
                    running[pool.submit(run.finish, step, inputs)] = step.name
                names = [step.name for step in waiting]
                assert running, f"steps that wait for each other: {names}"

                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    finished[running.pop(future)] = future.result()
        except BaseException as error:
            stop.set()
            if isinstance(error, KeyboardInterrupt):
                console.info("stopping: the running steps end at their next frame")
            raise
    return {step.name: finished[step.name] for step in steps}


def _inputs_digest(step: Step[Context], context: Context, digests: list[str]) -> str:
    """sha256 over everything that a step's outputs depend on; digests: of the steps before it."""
    value = [step.name, step.version, step.settings(context), digests]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class _Run(Generic[Context]):
    """What the steps of one run share."""

    def __init__(
        self,
        context: Context,
        workspace: Workspace,
        stop: StopFlag,
        progress: type[Progress],
    ):
        self.context, self.workspace, self.stop = context, workspace, stop
        self.progress = progress
        self._lock = threading.Lock()

    def finish(self, step: Step[Context], inputs: str) -> FinishedStep:
        """Run a step, or take it over from an earlier run. inputs: digest of its inputs."""
        earlier = self.workspace.finished.get(step.name)
        if earlier is not None:
            if earlier.inputs == inputs and self.workspace.digest(step.outputs) == earlier.digest:
                console.info(f"{step.name}  already done by an earlier run")
                return earlier
            console.info(f"{step.name}  done again: its inputs or files have changed")
        self.stop.check()
        self.workspace.clear(step.outputs)
        with self.progress(step.name, step.total(self.context), "frames") as shown:

            def advance(count: int) -> None:
                self.stop.check()
                shown.advance(count)

            step.run(self.context, advance)
        digest = self.workspace.digest(step.outputs)
        finished = FinishedStep(inputs, digest, round(shown.seconds, 2))
        with self._lock:
            self.stop.check()
            self.workspace.record(step.name, finished)
        return finished

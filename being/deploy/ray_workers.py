"""The stages of a farm as Ray tasks: Ray places them by CPUs and GPUs, and repeats crashed ones."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from being.console import console
from being.deploy.farm import Beginning, Outcome
from being.deploy.farm_display import last_line
from being.deploy.farm_manifest import Subject
from being.deploy.farm_stages import Place, SubjectStages
from being.deploy.ray_cluster import own_environment
from being.deploy.stage_process import GRACE_S, STILL_RUNNING, run_attached
from being.errors import BeingError, ExitCode
from being.paths import hidden_name
from being.reading.content import Unreadable
from being.reading.structured import parse_json

# Exit codes that another attempt would only repeat.
FINAL = {ExitCode.USAGE, ExitCode.ENVIRONMENT, ExitCode.REJECTED, ExitCode.QUALITY}


class StageCrashed(Exception):
    """A stage ended in a way that another attempt may not: killed, out of memory, disk full."""


def run_stage(subject: Subject, stage: str, place: Place, environment: dict[str, str]) -> str:
    """Run a stage of a subject in a process of its own; returns what it made.

    environment: of the stage, besides that of this process; config values are part of it. Raises
    BeingError for an honest failure, which another attempt would repeat, else StageCrashed.
    """
    with _environment(environment):
        return _run_stage(SubjectStages(subject, place), stage)


def _run_stage(stages: SubjectStages, stage: str) -> str:
    subject, place = stages.subject, stages.place
    if found := stages.result(stage):  # an earlier attempt ended just after its work
        stages.finish(stage, found)
        return found
    stages.begin(stage)
    log = place.log_file(subject.name)
    lock = place.state / hidden_name(subject.name, ".stage")
    ended = run_attached(lock, log, stages.command(stage))
    answer = _answer(ended.stdout)
    if ended.returncode == 0 and answer.get("ok") is True:
        result = stages.result_of(stage, answer)
        stages.finish(stage, result)
        return result
    raise _failure(ended.returncode, answer, ended.stderr, log)


def _failure(code: int, answer: dict[str, Any], faults: str, log: Path) -> Exception:
    """The error of a stage that ended with `code`."""
    error = answer.get("error")
    if isinstance(error, dict):
        told = BeingError(error.get("what", ""), error.get("why", ""), error.get("fix", ""))
        return told if code in FINAL else StageCrashed(told.message())
    if code == STILL_RUNNING:
        return StageCrashed("the process of an earlier attempt does not end")
    how = f"it was ended by signal {code - 128}" if code > 128 else f"it ended with code {code}"
    said = last_line(log) or " ".join(faults.split())[-200:]
    return StageCrashed(f"{how}; its last words: {said}" if said else how)


def _answer(text: str) -> dict[str, Any]:
    """The JSON object that a command printed; empty where it did not."""
    try:
        value = parse_json(text.strip().rpartition("\n")[2])
    except Unreadable:
        return {}
    return value if isinstance(value, dict) else {}


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Any:
    """Environment variables that child processes get while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Notes:
    """What the workers have begun; an actor."""

    def __init__(self) -> None:
        self._begun: list[Beginning] = []

    def begun(self, subject: str, stage: str, node: str) -> None:
        """A worker begins a stage."""
        self._begun.append(Beginning(subject, stage, node))

    def take(self) -> list[Beginning]:
        """What has begun since the last call."""
        begun, self._begun = self._begun, []
        return begun


def _task(
    subject: Subject, stage: str, place: Place, environment: dict[str, str], notes: Any
) -> str:
    """`run_stage` as a Ray task. An honest failure is returned as its message."""
    import ray

    node = ray.util.get_node_ip_address()
    ray.get(notes.begun.remote(subject.name, stage, node))
    return run_stage(subject, stage, place, environment)


class RayWorkers:
    """Implements `Workers`."""

    def __init__(self, ray: Any, place: Place):
        """ray: the connected module."""
        self._ray, self._place = ray, place
        self._notes = ray.remote(Notes).options(num_cpus=0, max_restarts=0).remote()
        self._running: dict[Any, tuple[str, str]] = {}  # task -> subject, stage
        # Tasks run elsewhere: what they make belongs here.
        self._environment = {**own_environment(), "BEING_HOME": str(place.home), "COLUMNS": "200"}

    def start(self, subject: Subject, stage: str) -> None:
        """See `Workers.start`."""
        gpus = 0 if stage == "preprocess" else subject.gpus
        task = self._ray.remote(_task).options(
            num_cpus=subject.cpus,
            num_gpus=gpus,
            max_retries=subject.attempts - 1,
            retry_exceptions=[StageCrashed],
            name=f"{stage} {subject.name}",
        )
        reference = task.remote(subject, stage, self._place, self._environment, self._notes)
        self._running[reference] = subject.name, stage

    def look(self, seconds: float) -> tuple[list[Beginning], list[Outcome]]:
        """See `Workers.look`."""
        done, _ = self._ray.wait(
            list(self._running), num_returns=1, timeout=seconds, fetch_local=False
        )
        begun = self._ray.get(self._notes.take.remote())
        return begun, [self._outcome(task) for task in done]

    def _outcome(self, task: Any) -> Outcome:
        subject, stage = self._running.pop(task)
        try:
            return Outcome(subject, stage, result=self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if getattr(error, "cause", None) is not None else error
            text = str(cause).strip() or type(cause).__name__
            if not isinstance(cause, (BeingError, StageCrashed)):
                text = f"internal error: {type(cause).__name__}: {text.splitlines()[-1][:300]}"
            return Outcome(subject, stage, error=text)
        except self._ray.exceptions.RayError as error:
            return Outcome(subject, stage, error=f"its worker died: {str(error).splitlines()[0]}")

    def stop(self) -> None:
        """See `Workers.stop`."""
        if self._running:
            console.info("stopping: each stage saves what it has ...")
        for task in self._running:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=False)
        if self._running:
            left = list(self._running)
            self._ray.wait(left, num_returns=len(left), timeout=GRACE_S + 5)
        self._running.clear()

"""A farm: stages of many subjects are started one after the other, and their states are kept.

Which worker runs a stage, and when, is decided by `Workers` (Ray). A subject that fails does not
stop the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from being.deploy.farm_manifest import Subject
from being.deploy.farm_stages import STAGES, Place, SubjectStages
from being.errors import InputRejected

LOOK_S = 0.5  # between two looks at what has happened


@dataclass(frozen=True)
class Outcome:
    """How a stage of a subject ended. `result`: what it made; else `error` says why not."""

    subject: str
    stage: str
    result: str = ""
    error: str = ""


@dataclass(frozen=True)
class Beginning:
    """A worker has begun a stage."""

    subject: str
    stage: str
    node: str


class Workers(Protocol):
    """Runs stages on the machines that there are."""

    def start(self, subject: Subject, stage: str) -> None:
        """Have a stage run, as soon as its resources are free."""

    def look(self, seconds: float) -> tuple[list[Beginning], list[Outcome]]:
        """What has happened; waits at most `seconds` for it."""

    def stop(self) -> None:
        """Stop all stages, and wait until their processes have ended."""


@dataclass
class SubjectState:
    """Where a subject is."""

    name: str
    stage: str = STAGES[0]
    state: str = "waiting"  # waiting, running, done, failed
    attempt: int = 0
    node: str = ""
    since: float = 0.0  # of the state, on the monotonic clock
    results: dict[str, str] = field(default_factory=dict)
    error: str = ""
    made: list[str] = field(default_factory=list)  # stages that this call has done

    def line(self) -> str:
        """The state in one line."""
        if self.state == "failed":
            return f"{self.name}: {self.stage} failed: {' '.join(self.error.split())}"
        if self.state == "done":
            kept = "" if self.made else ", was done before"
            return f"{self.name}: done, {self.results[STAGES[-1]]}{kept}"
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        where = f" on {self.node}" if self.node and self.state == "running" else ""
        return f"{self.name}: {self.stage} {self.state}{where}{again}"

    def facts(self) -> dict[str, Any]:
        """The state for `--json`."""
        found: dict[str, Any] = {"name": self.name, "state": self.state, "made": self.made}
        if self.error:
            found |= {"stage": self.stage, "error": self.error}
        return {**found, "results": self.results}


class Farm:
    """Drives the subjects through their stages."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        place: Place,
        workers: Workers,
        changed: Callable[[SubjectState], None] = lambda state: None,
    ):
        """changed: called with each subject whose state is another."""
        self.place, self.workers, self.changed = place, workers, changed
        self.subjects = {subject.name: subject for subject in subjects}
        self.states = {subject.name: SubjectState(subject.name) for subject in subjects}

    def run(self, tick: Callable[[], None] = lambda: None) -> list[SubjectState]:
        """Run all stages that are not done; the states at the end.

        tick: called between looks. KeyboardInterrupt stops all stages and is raised again.
        """
        try:
            for name in self.subjects:
                self._go_on(name)
            while any(state.state in ("waiting", "running") for state in self.states.values()):
                begun, ended = self.workers.look(LOOK_S)
                for beginning in begun:
                    self._begun(beginning)
                for outcome in ended:
                    self._ended(outcome)
                tick()
        except BaseException:
            self.workers.stop()
            raise
        return list(self.states.values())

    def _go_on(self, name: str) -> None:
        """Start the first stage that is not done."""
        state, stages = self.states[name], SubjectStages(self.subjects[name], self.place)
        try:
            for stage in STAGES:
                found = state.results.get(stage) or stages.result(stage)
                if not found:
                    state.attempt = 0
                    self._change(state, stage, "waiting")
                    self.workers.start(self.subjects[name], stage)
                    return
                state.results[stage] = found
        except OSError as error:  # the clip has gone, or the disk
            state.error = f"{error.filename or 'a file'}: {error.strerror or error}"
            self._change(state, state.stage, "failed")
            return
        self._change(state, STAGES[-1], "done")

    def _begun(self, beginning: Beginning) -> None:
        state = self.states[beginning.subject]
        if state.stage == beginning.stage and state.state in ("waiting", "running"):
            state.attempt += 1
            state.node = beginning.node
            self._change(state, beginning.stage, "running")

    def _ended(self, outcome: Outcome) -> None:
        state = self.states[outcome.subject]
        if not outcome.result:
            state.error = outcome.error
            self._change(state, outcome.stage, "failed")
            return
        state.results[outcome.stage] = outcome.result
        state.made.append(outcome.stage)
        self._go_on(outcome.subject)

    def _change(self, state: SubjectState, stage: str, word: str) -> None:
        state.stage, state.state, state.since = stage, word, time.monotonic()
        self.changed(state)


def check_datasets(subjects: Sequence[Subject], place: Place) -> None:
    """Raise InputRejected where datasets stand that the farm would have to replace."""
    faults = []
    for subject in subjects:
        if fault := SubjectStages(subject, place).conflict():
            faults.append(f"subject '{subject.name}': {fault}")
    if faults:
        raise InputRejected(
            f"{len(faults)} subjects of the manifest have a dataset that is not theirs",
            "; ".join(faults),
            "Nothing was begun; give them other names, or remove the old ones with: being rm NAME",
        )

"""When a stage no longer gets better, and how it is brought to its end then.

A stage's learning rates fall over all its steps, and the last, low ones are worth some tenths of a
dB. So a stage that has levelled off is not cut: what is left of its schedule is run through in a
short cool-down.
"""

from __future__ import annotations

import math
from typing import Any

from being.config import PlateauConfig


class Plateau:
    """The end of a stage of `steps` steps: its last step, or earlier when held-out figures level
    off.

    Without a `config` the stage goes through all its steps. All that a decision rests on is in
    `state`, so a resumed stage decides as one that was never killed.
    """

    def __init__(self, config: PlateauConfig | None, steps: int):
        self.config, self.steps = config, steps
        self.best = -math.inf  # the figure that has to be beaten, dB
        self.waited = 0  # evaluations since it was reached
        self.since: int | None = None  # the step at which the stage had levelled off

    @property
    def last(self) -> int:
        """The stage's last step, as far as it is known by now."""
        if self.since is None or self.config is None:
            return self.steps
        return min(self.steps, self.since + max(1, round(self.config.cool_down * self.steps)))

    def reached(self, step: int, figure: float) -> bool:
        """Count the held-out figure (dB) of `step`; whether with it the stage has levelled off and
        cools down now.
        """
        if self.config is None or self.since is not None or math.isnan(figure):
            return False
        if figure > self.best + self.config.gain:
            self.best, self.waited = figure, 0
        else:
            self.waited += 1
        if self.waited < self.config.evaluations or step >= self.steps:
            return False
        self.since = step
        return self.last < self.steps

    def place(self, step: int) -> float:
        """Where `step` (counted from 0) is on the schedule of all steps: the step itself, longer
        strides cooling down."""
        if self.since is None or step <= self.since:
            return step
        return self.since + (step - self.since) * (self.steps - self.since) / (
            self.last - self.since
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, of JSON types."""
        return {
            "best": self.best if math.isfinite(self.best) else None,
            "waited": self.waited,
            "since": self.since,
        }

    def load(self, state: dict[str, Any] | None) -> None:
        """Take up a checkpoint's state; None, of a checkpoint without one, changes nothing."""
        if state is not None:
            self.best = -math.inf if state["best"] is None else float(state["best"])
            self.waited, self.since = state["waited"], state["since"]

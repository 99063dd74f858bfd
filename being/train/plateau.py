"""Shortens a stage whose held-out PSNR no longer rises: the rates fall to their end sooner.

The learning rates fall over all steps of a stage, and the last, low ones are worth some tenths of a
dB. So a stage that has levelled off is not cut: the rest of its schedule is compressed into a short
cool-down.
"""

from __future__ import annotations

import math
from typing import Any

from being.config import PlateauConfig


class Plateau:
    """Decides at which step a stage ends, and where each step lies on its schedule.

    All that a decision depends on is in `state`, so a resumed stage decides as an uninterrupted
    one.
    """

    def __init__(self, config: PlateauConfig | None, steps: int):
        """config: None lets the stage run all its `steps`."""
        self.config, self.steps = config, steps
        self.best = -math.inf  # PSNR that the next evaluation must exceed, dB
        self.waited = 0  # evaluations since then
        self.levelled_off_at: int | None = None  # step

    @property
    def last_step(self) -> int:
        """The last step of the stage, as far as it is known by now."""
        if self.levelled_off_at is None or self.config is None:
            return self.steps
        cool_down = max(1, round(self.config.cool_down * self.steps))
        return min(self.steps, self.levelled_off_at + cool_down)

    def reached(self, step: int, psnr: float) -> bool:
        """Record the held-out PSNR (dB) at `step`; True when the cool-down begins here."""
        if self.config is None or self.levelled_off_at is not None or math.isnan(psnr):
            return False
        if psnr > self.best + self.config.gain:
            self.best, self.waited = psnr, 0
        else:
            self.waited += 1
        if self.waited < self.config.evaluations or step >= self.steps:
            return False
        self.levelled_off_at = step
        return self.last_step < self.steps

    def schedule_position(self, step: int) -> float:
        """Position of `step` (counted from 0) on the schedule of all steps.

        It is the step itself, and advances faster in the cool-down.
        """
        start = self.levelled_off_at
        if start is None or step <= start:
            return step
        stride = (self.steps - start) / (self.last_step - start)
        return start + (step - start) * stride

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores, of JSON types."""
        return {
            "best": self.best if math.isfinite(self.best) else None,
            "waited": self.waited,
            "since": self.levelled_off_at,
        }

    def load(self, state: dict[str, Any] | None) -> None:
        """Restore the state of a checkpoint; None (a checkpoint without one) changes nothing."""
        if state is not None:
            self.best = -math.inf if state["best"] is None else float(state["best"])
            self.waited, self.levelled_off_at = state["waited"], state["since"]

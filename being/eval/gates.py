"""Quality gates: `--require lip_r=0.7,lag=1` -> which figures must be reached, and which were
missed.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from being.errors import BeingError, ExitCode, UsageError


@dataclass(frozen=True)
class Gate:
    """Where a figure stands, and on which side of the bound it must lie: at least, at most, or at
    most in size.
    """

    path: str  # keys into the figures, joined by dots
    side: str  # ">=", "<=" or "|<="


GATES = {
    **{
        f"{region}.{kind}": Gate(f"{region}.{kind}", "<=" if kind == "lpips" else ">=")
        for region in ("whole", "head", "face", "mouth", "eyes", "brows")
        for kind in ("psnr", "ssim", "lpips")
    },
    "lip_r": Gate("lips.correlation", ">="),
    "lag": Gate("lips.best_lag", "|<="),
    "motion": Gate("lips.motion", ">="),
    "width_r": Gate("lips.width_correlation", ">="),
    "shuffled_r": Gate("lips.shuffled_correlation", "|<="),
    "lmd": Gate("lips.lmd", "<="),
    "blinks": Gate("upper_face.blinks.share", ">="),
    "au": Gate("upper_face.action_unit_error", "<="),
    "cross.closures": Gate("cross.against_footage.closed_on_closures", ">="),
    "cross.vowels": Gate("cross.against_footage.open_on_vowels", ">="),
    "cross.ratio": Gate("cross.against_footage.vowels_over_closures", ">="),
    "cross.silence": Gate("cross.against_footage.closed_in_silence", ">="),
    "cross.jumps": Gate("cross.jumps", "<="),
    "identity": Gate("identity.distance", "<="),
    "jitter": Gate("steadiness.ratio", "<="),
}


def parse(text: str) -> dict[str, float]:
    """Bounds by gate name from "lip_r=0.7,lag=1". Raises UsageError for an unknown name or a bound
    without number.
    """
    bounds = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        if name not in GATES:
            near = difflib.get_close_matches(name, GATES, 1)
            raise UsageError(
                f"no figure is called '{name}'",
                f"known are {', '.join(GATES)}",
                f"Did you mean '{near[0]}'?" if near else "",
            )
        try:
            bounds[name] = float(value)
        except ValueError:
            bounds[name] = math.nan
        if not math.isfinite(bounds[name]):
            raise UsageError(
                f"'{part}' will not do", f"{name} needs a number", f"For instance {name}=0.7"
            )
    return bounds


def missed(figures: dict[str, Any], bounds: dict[str, float]) -> list[str]:
    """What was not reached, each as one phrase; a figure that could not be measured counts as
    missed.
    """
    found = []
    for name, bound in bounds.items():
        gate, value = GATES[name], figures
        for key in gate.path.split("."):
            value = value.get(key) if isinstance(value, dict) else None  # type: ignore[assignment]
        if value is None:
            found.append(f"{name} was not measured")
            continue
        number = float(value)  # type: ignore[arg-type]
        reached = (
            number >= bound
            if gate.side == ">="
            else (abs(number) if gate.side == "|<=" else number) <= bound
        )
        if not reached:
            found.append(
                f"{name} is {number:.3g}, {'at least' if gate.side == '>=' else 'at most'} {bound:g} required"
            )
    return found


def check(figures: dict[str, Any], bounds: dict[str, float]) -> None:
    """Raise BeingError (exit code 5) with the figures as its details when a bound was missed."""
    short = missed(figures, bounds)
    if short:
        error = BeingError("a quality gate was missed", "; ".join(short), code=ExitCode.QUALITY)
        error.details = figures
        raise error

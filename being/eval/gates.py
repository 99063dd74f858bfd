"""Quality gates: bounds on figures, as given by `being eval --require lip_r=0.7,lag=1`."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from being.errors import BeingError, ExitCode, UsageError


@dataclass(frozen=True)
class Gate:
    """A figure that can have a bound, and the side of the bound on which it must lie."""

    path: str  # keys into the figures, joined by dots
    side: str  # ">=": at least; "<=": at most; "|<=": at most in absolute value


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
    "sync_c": Gate("syncnet.rendered.confidence", ">="),
    "sync_d": Gate("syncnet.rendered.distance", "<="),
    "jitter": Gate("steadiness.ratio", "<="),
}


def parse_bounds(text: str) -> dict[str, float]:
    """Bounds by gate name, from text such as "lip_r=0.7,lag=1".

    Raises UsageError for an unknown name or for a bound that is no number.
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
                f"'{part}' is not a valid bound",
                f"{name} needs a number",
                f"For instance {name}=0.7",
            )
    return bounds


def missed_bounds(figures: dict[str, Any], bounds: dict[str, float]) -> list[str]:
    """One phrase for each missed bound; a figure that was not measured counts as missed."""
    phrases = []
    for name, bound in bounds.items():
        gate = GATES[name]

        # Follow the path into the figures.
        value: Any = figures
        for key in gate.path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            phrases.append(f"{name} was not measured")
            continue

        number = float(value)
        compared = abs(number) if gate.side == "|<=" else number
        at_least = gate.side == ">="
        reached = compared >= bound if at_least else compared <= bound
        if not reached:
            side = "at least" if at_least else "at most"
            phrases.append(f"{name} is {number:.3g}, {side} {bound:g} required")
    return phrases


def check_bounds(figures: dict[str, Any], bounds: dict[str, float]) -> None:
    """Raise BeingError (exit code 5), with the figures as its details, when a bound was missed."""
    phrases = missed_bounds(figures, bounds)
    if phrases:
        error = BeingError("a quality gate was missed", "; ".join(phrases), code=ExitCode.QUALITY)
        error.details = figures
        raise error

"""The options of render and tts-video that say what the face does beside speaking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from being.errors import UsageError

if TYPE_CHECKING:
    from being.inference.animation.face_controls import Wish

MoodOption = Annotated[str, typer.Option("--mood", help="neutral, happy, serious or surprised.")]
ExpressionOption = Annotated[
    str | None,
    typer.Option(
        "--expression",
        metavar="NAME=VALUE,...",
        help="Hold an "
        "expression, for instance smile=0.6,brow_raise=0.3; 1 is the "
        "strongest that the avatar's clip shows.",
    ),
]
BlinkRateOption = Annotated[
    float | None,
    typer.Option(
        "--blink-rate", help="Blinks a minute, 0 to 60 (default: 17 at rest, 26 while speaking)."
    ),
]
CurvesOption = Annotated[
    Path | None,
    typer.Option(
        "--curves",
        help="CSV or JSON file with an expression's values for every frame (25 a second).",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", min=0, help="Another number blinks and raises the brows at other moments."
    ),
]


def wish(
    mood: str, expression: str | None, blink_rate: float | None, curves: Path | None, seed: int
) -> Wish:
    """What the options ask for. Raises UsageError for an expression that is not NAME=VALUE,..."""
    from being.inference.animation.face_controls import Wish

    values: dict[str, float] = {}
    for item in (expression or "").split(","):
        name, equals, number = (part.strip() for part in item.partition("="))
        if not item.strip() and not expression:
            continue
        try:
            if not (name and equals) or name in values:
                raise ValueError
            values[name] = float(number)
        except ValueError:
            raise UsageError(
                f"--expression {expression} cannot be read",
                f"at '{item.strip()}'",
                "Write for instance --expression smile=0.6,brow_raise=0.3",
            ) from None
    return Wish(mood, values, blink_rate, curves, seed)

"""The options that render and tts-video share, declared once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.expression_options import (
    BlinkRateOption,
    CurvesOption,
    ExpressionOption,
    MoodOption,
    SeedOption,
    wish,
)
from being.cli.shell import DeviceOption, OutOption, SplatOption

if TYPE_CHECKING:
    from being.inference.animation.face_controls import Wish

PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="The network's products: float32, bfloat16 or (on "
        "CUDA) float16; auto: the narrowest that keeps the picture.",
    ),
]
PruneOption = Annotated[
    float | None,
    typer.Option(
        "--prune-to",
        metavar="SHARE",
        help="Render only this share of the "
        "Gaussians, those that contribute most (bench-fps --compare tells "
        "what is won and lost).",
    ),
]
DeformOption = Annotated[
    int,
    typer.Option(
        "--deform-every",
        metavar="N",
        min=1,
        help="Deform only each Nth frame, on "
        "a CPU: the others lie between two of these. 2 renders 1.5 times as fast, "
        "3 1.8 times; the quickest movements of the lips are softened.",
    ),
]


@dataclass(frozen=True)
class RenderOptions:
    """What the face does, how it is rendered, and where the video goes."""

    mood: MoodOption = "neutral"
    expression: ExpressionOption = None
    blink_rate: BlinkRateOption = None
    curves: CurvesOption = None
    seed: SeedOption = 0
    precision: PrecisionOption = "auto"
    prune_to: PruneOption = None
    deform_every: DeformOption = 1
    out: OutOption = None
    device: DeviceOption = "auto"
    splat: SplatOption = None

    def wish(self) -> Wish:
        """What is asked of the face. Raises UsageError for an expression that is not NAME=VALUE,..."""
        return wish(self.mood, self.expression, self.blink_rate, self.curves, self.seed)

    def place(self, folder: Path, stem: str) -> Path:
        """Where the video goes, by default among those of the run or bundle in `folder`."""
        return self.out or folder / "videos" / f"{stem}.mp4"


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command `function` with the fields of its last parameter, a `RenderOptions`, as
    parameters of its own.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    shared = list(inspect.signature(RenderOptions, eval_str=True).parameters.values())
    last, names = own.pop().name, {field.name for field in dataclasses.fields(RenderOptions)}

    @functools.wraps(function)
    def run(**arguments: Any) -> Any:
        options = RenderOptions(**{name: arguments.pop(name) for name in names})
        return function(**arguments, **{last: options})

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *shared)
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run

"""The options of `being render` and `being tts-video`: face, renderer, output."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.options import DeviceOption, OutOption, SplatOption
from being.errors import UsageError
from being.paths import cut_name

if TYPE_CHECKING:
    from being.inference.animation.face_controls import FaceControls
    from being.inference.look import Look
    from being.inference.video import VideoOutput

STEM_BYTES = 200  # of a video's name that is made from the audio's
MoodOption = Annotated[str, typer.Option("--mood", help="neutral, happy, serious or surprised.")]
ExpressionOption = Annotated[
    str | None,
    typer.Option(
        "--expression",
        metavar="NAME=VALUE,...",
        help="Hold an expression, for instance smile=0.6,brow_raise=0.3; 1 is the strongest that "
        "the avatar's clip shows.",
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
        help="CSV or JSON file with an expression's values for every frame (25 a second), or a CSV "
        "of OpenFace or Live Link Face with its own times.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", min=0, help="Another number moves the blinks and brow raises to other times."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Number format of the network's products: float32, bfloat16 or (on CUDA) float16; "
        "auto: the shortest that does not change the image.",
    ),
]
PruneOption = Annotated[
    float | None,
    typer.Option(
        "--prune-to",
        metavar="SHARE",
        help="Render only this share of the Gaussians, those that contribute most (bench-fps "
        "--compare shows the gain and the loss).",
    ),
]
SourceOption = Annotated[
    bool,
    typer.Option(
        "--into-source",
        help="Show the whole recorded frame, with the head put back into it, instead of the "
        "avatar's square.",
    ),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="FILE|COLOUR|transparent",
        help="Another background: a square picture, a colour such as green or #00b140, or none: "
        "transparent, in a .mov (ProRes 4444) or .webm (VP9) file or with --codec png.",
    ),
]
RateOption = Annotated[
    int,
    typer.Option(
        "--fps",
        help="Frames a second: 25, 30, 50 or 60. Each frame is rendered for its own time.",
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        "--codec",
        help="h264, hevc, vp9, av1, prores, or png: a folder of pictures and audio.wav (default: "
        "the usual one of the file type).",
    ),
]
QualityOption = Annotated[
    int | None,
    typer.Option(
        "--crf",
        help="Quality of the video, lower is better and larger (default: 18 for h264, 20 for "
        "hevc, 30 for vp9 and av1).",
    ),
]
BitRateOption = Annotated[
    str | None,
    typer.Option(
        "--bitrate", metavar="RATE", help="Bits a second, for instance 4M, instead of a quality."
    ),
]
LoudnessOption = Annotated[
    float | None,
    typer.Option(
        "--loudness",
        metavar="LUFS",
        help="Bring the audio of the video to this loudness (EBU R 128), -40 to -5: -16 is usual "
        "on the web, -23 in broadcasting. Peaks stay below -1.5 dB.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a file that being did not make.")
]
WatermarkOption = Annotated[
    bool,
    typer.Option(
        "--watermark/--no-watermark",
        help="Mark the pixels invisibly as AI-generated; being verify reads it.",
    ),
]
DeformationOption = Annotated[
    str,
    typer.Option(
        "--deform",
        metavar="network|bases",
        help="What moves the Gaussians: the avatar's network, or its linear bases, faster "
        "(being export --bases adds them).",
    ),
]
DeformEveryOption = Annotated[
    int,
    typer.Option(
        "--deform-every",
        metavar="N",
        min=1,
        help="On a CPU: deform only each Nth frame and interpolate the others. 2 renders 1.5 times "
        "as fast, 3 1.8 times; the quickest movements of the lips are softened.",
    ),
]


@dataclass(frozen=True)
class RenderOptions:
    """The values of the options that render and tts-video share."""

    mood: MoodOption = "neutral"
    expression: ExpressionOption = None
    blink_rate: BlinkRateOption = None
    curves: CurvesOption = None
    seed: SeedOption = 0
    precision: PrecisionOption = "auto"
    prune_to: PruneOption = None
    deform: DeformationOption = "network"
    deform_every: DeformEveryOption = 1
    into_source: SourceOption = False
    background: BackgroundOption = None
    fps: RateOption = 25
    out: OutOption = None
    codec: CodecOption = None
    crf: QualityOption = None
    bitrate: BitRateOption = None
    loudness: LoudnessOption = None
    watermark: WatermarkOption = True
    force: ForceOption = False
    device: DeviceOption = "auto"
    splat: SplatOption = None

    def face_controls(self) -> FaceControls:
        """What the face does beside speaking. Raises UsageError as `face_controls` does."""
        return face_controls(self.mood, self.expression, self.blink_rate, self.curves, self.seed)

    @property
    def look(self) -> Look:
        """Frame rate and background. Raises UsageError for what does not fit together."""
        from being.inference.look import Look

        return Look(self.background, self.into_source, self.fps)

    def output(self, folder: Path, stem: str, *inputs: Path | None) -> VideoOutput:
        """The video to write; by default in the folder `videos` of the run or bundle `folder`.

        inputs: other files that are read.
        """
        from being.inference.video import VideoOutput
        from being.media.video_formats import VideoSettings, default_suffix, parse_bitrate

        bitrate = None if self.bitrate is None else parse_bitrate(self.bitrate)
        settings = VideoSettings(self.codec, self.crf, bitrate, self.look.alpha)
        name = cut_name(stem, STEM_BYTES) + default_suffix(settings)
        picture = None if self.background is None else Path(self.background)
        return VideoOutput(
            self.out or folder / "videos" / name,
            (*inputs, self.curves, picture if picture and picture.is_file() else None),
            self.force,
            free_name=self.out is None,
            settings=settings,
            loudness=self.loudness,
            watermark=self.watermark,
        )


def face_controls(
    mood: str, expression: str | None, blink_rate: float | None, curves: Path | None, seed: int
) -> FaceControls:
    """The face controls of the options' values.

    Raises UsageError for an expression that is not NAME=VALUE,... .
    """
    from being.inference.animation.face_controls import FaceControls

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
    return FaceControls(mood, values, blink_rate, curves, seed)


def with_render_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command `function` whose last parameter, a `RenderOptions`, is replaced by one parameter
    for each of its fields, so that typer sees them as options.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    shared = list(inspect.signature(RenderOptions, eval_str=True).parameters.values())
    last = own.pop().name
    names = {field.name for field in dataclasses.fields(RenderOptions)}

    @functools.wraps(function)
    def run(**arguments: Any) -> Any:
        options = RenderOptions(**{name: arguments.pop(name) for name in names})
        return function(**arguments, **{last: options})

    keyword_only = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=keyword_only) for parameter in (*own, *shared)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run

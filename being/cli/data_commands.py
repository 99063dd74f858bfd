"""`being preprocess`, `being data pack` and `unpack`: videos to datasets, datasets to single files
and back.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.data_group import group
from being.cli.shell import command

if TYPE_CHECKING:
    from being.data.consent import Consent

WHOSE = (
    "Whose face is it? (Enter alone: consent stays unconfirmed, and every video made will say so) "
)
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Speech features besides those of "
        "hama: wav2vec2-eo, hubert, owner/model or a folder of the "
        "transformers library (owner/model:LAYER for a hidden layer), "
        "deepspeech=FILE.npy.",
    ),
]
LatencyOption = Annotated[
    str | None,
    typer.Option(
        "--latency",
        metavar="NAME",
        help="How far the features may look "
        "ahead: whole (the default), stream (0.5 s), low (0.24 s).",
    ),
]
TrainedByOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Config it will be trained by, a file or a "
        "shipped one's name: its data.encoder is what --encoder "
        "is otherwise.",
    ),
]
EncodedByOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="KEY.PATH=VALUE",
        help="Set one config value, here data.encoder=NAME.",
    ),
]
HOW = "How did they agree to an avatar of it? (for instance: it is me; signed release of 3 May) "


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(
        app,
        "preprocess",
        epilog="Examples: being preprocess me.mp4 --check; "
        "being preprocess me.mp4 --consent 'my own face'",
    )(preprocess)
    data = group(app)
    command(data, "pack", epilog="Example: being data pack data/me --out me.being")(pack)
    command(data, "features", epilog="Example: being data features data/me --latency low")(features)
    command(data, "unpack", epilog="Example: being data unpack me.being")(unpack)


def preprocess(
    video: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO",
            help="Video of one person who speaks to the camera, with sound, 2 s or longer.",
        ),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only look at the clip, for some seconds: say what is "
            "wrong with it and what the avatar would lack.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Dataset directory (default: data/<name>).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the subject (default: the video's).")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            help="Side of the square picture in px (default: the clip's, at most 512).",
            min=128,
            max=2048,
        ),
    ] = None,
    parser: Annotated[
        str | None,
        typer.Option(
            "--parser",
            metavar="NAME|FILE",
            help="What finds the person: "
            "selfie (offline, the default), segformer, or a face-parsing or "
            "portrait model of yours as a .onnx file.",
        ),
    ] = None,
    au: Annotated[
        Path | None,
        typer.Option(
            "--au",
            metavar="FILE",
            help="OpenFace's csv of this video, taken instead of our own action units.",
        ),
    ] = None,
    encoder: EncoderOption = None,
    latency: LatencyOption = None,
    config: TrainedByOption = None,
    override: EncodedByOption = None,
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            help="Whose face it is and how they agreed; recorded "
            "in the dataset and in every video. Asked on a terminal.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset.")] = False,
) -> dict[str, Any]:
    """Turn a video into a dataset: frames, landmarks, head poses, masks, plates, speech features.

    Killed at any moment, the same command goes on after the steps that are done.
    """
    from being.config import load
    from being.console import say
    from being.paths import home
    from being.preprocess import preprocess as run
    from being.preprocess.speech_features import ENCODER

    trained_on = load(config, override, {"data.encoder": encoder}).data.encoder
    if check:
        return _check(video, size)
    subject = name or video.stem
    folder = out or home() / "data" / subject
    agreed = consent if consent is not None else ask_consent if _may_ask() else None
    path = run(
        video,
        folder,
        name=subject,
        size=size,
        parser=parser,
        au=au,
        encoder=None if trained_on == ENCODER else trained_on,
        latency=latency,
        consent=agreed,
        force=force,
    )
    further = _further(path)
    say(
        f"dataset {path}\nlook at {path / 'report.html'}\nnext: being train {path}"
        + (f" -o data.encoder={further}" if further else "")
    )
    return {"dataset": str(path), "report": str(path / "report.html")}


def pack(
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="Dataset directory (default: the most recent one)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file (default: <name>.being).")
    ] = None,
) -> dict[str, Any]:
    """Put a dataset into one small file to carry to another machine: some 30 MB for 50 s."""
    from being.console import say
    from being.interop.pack.packing import pack as work
    from being.paths import latest_dataset

    folder = dataset or latest_dataset()
    file = work(folder, out or Path(f"{folder.resolve().name}.being"))
    size = file.stat().st_size
    say(
        f"{folder} in {file}, {size / 1e6:.1f} MB\non the other machine: being data unpack {file.name}"
    )
    return {"dataset": str(folder), "file": str(file), "bytes": size}


def features(
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="Dataset directory (default: the most recent one)."),
    ] = None,
    encoder: EncoderOption = None,
    latency: LatencyOption = None,
    config: TrainedByOption = None,
    override: EncodedByOption = None,
) -> dict[str, Any]:
    """Add further speech features to a dataset: of another encoder, or with bounded look-ahead for
    live use.
    """
    from being.config import load
    from being.console import say
    from being.paths import latest_dataset
    from being.preprocess.speech_features import add_features

    wanted = load(config, override, {"data.encoder": encoder}).data.encoder
    folder = dataset or latest_dataset()
    name, width = add_features(folder, wanted, latency)
    say(
        f"{folder} has '{name}' features, {width} wide\nnext: being train {folder} -o data.encoder={name}"
    )
    return {"dataset": str(folder), "encoder": name, "width": width}


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `being data pack` wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Dataset directory (default: data/<name>).")
    ] = None,
) -> dict[str, Any]:
    """Make a packed dataset whole again."""
    from being.console import say
    from being.interop.pack.unpacking import unpack as work
    from being.paths import home

    path = work(file, out or home() / "data" / file.stem)
    say(f"dataset {path}\nnext: being train {path}")
    return {"dataset": str(path)}


def _further(dataset: Path) -> str | None:
    """The speech features of a dataset besides the default ones."""
    from being.data.dataset import Dataset
    from being.preprocess.speech_features import ENCODER

    return next(
        (name for name in Dataset.open(dataset).manifest["features"] if name != ENCODER), None
    )


def _check(video: Path, size: int | None) -> dict[str, Any]:
    """Look at a clip, print what was found; raises InputRejected, with the findings, for a clip
    that will not do.
    """
    from being.console import Progress, say
    from being.errors import InputRejected
    from being.face.landmarks import FaceLandmarker
    from being.preprocess.inspection.clip import look_at, refuse, table
    from being.preprocess.inspection.picture import PICTURE_SIDE

    with Progress("look at the clip", None, "frames") as shown:
        checked = look_at(video, FaceLandmarker(), size or PICTURE_SIDE, shown.advance)
    say(table(checked.findings))
    found = {
        "frames": checked.frames,
        "seconds": round(checked.seconds, 2),
        "size": checked.size,
        "crop": list(checked.crop),
        "segments": [list(map(int, segment)) for segment in checked.segments],
        "findings": [asdict(finding) for finding in checked.findings],
        "look_seconds": round(shown.seconds, 1),
    }
    try:
        refuse(video, checked.findings)
    except InputRejected as refusal:
        refusal.details = found
        raise
    count = len(checked.segments)
    say(f"it will do: {checked.seconds:.1f} s" + (f" in {count} segments" if count > 1 else ""))
    return found


def _may_ask() -> bool:
    """Whether somebody is there to answer a question."""
    from being.console import voice

    return sys.stdin.isatty() and sys.stderr.isatty() and not voice.quiet and not voice.json


def ask_consent() -> Consent:
    """What the person at the terminal says of the consent; unconfirmed where an answer is empty."""
    from being.data.consent import Consent

    answers = []
    for question in (WHOSE, HOW):
        sys.stderr.write(question)
        sys.stderr.flush()
        answers.append(sys.stdin.readline().strip())
        if not answers[-1]:
            return Consent()
    return Consent("; ".join(answers))

"""Commands for datasets: preprocess, data features, data pack, data unpack."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.command import command
from being.console import Progress, console
from being.errors import BeingError, InputRejected
from being.paths import user_path

if TYPE_CHECKING:
    from being.data.consent import Consent
    from being.preprocess.inspection.clip_parts import ClipPart

DATA_GROUP = "data"
FACE_QUESTION = (
    "Whose face is it? (Enter alone: consent stays unconfirmed, and every video made will say so) "
)
CONSENT_QUESTION = (
    "How did they agree to an avatar of it? (for instance: it is me; signed release of 3 May) "
)
DatasetArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Dataset directory (default: the most recent one)."),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Speech features in addition to those of hama: wav2vec2-eo, hubert, owner/model of "
        "the transformers library's hub or a folder (owner/model:LAYER for a hidden layer), "
        "deepspeech=FILE.npy.",
    ),
]
LatencyOption = Annotated[
    str | None,
    typer.Option(
        "--latency",
        metavar="NAME",
        help="Look-ahead of the features: whole (the default, unlimited), stream (0.5 s), low "
        "(0.24 s).",
    ),
]
TrainingConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Config of the later training, a file or a shipped one's name: its data.encoder is "
        "the default of --encoder.",
    ),
]
EncoderOverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="KEY.PATH=VALUE",
        help="Set one config value, here data.encoder=NAME.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(
        app,
        "preprocess",
        fetches=True,
        epilog="Examples: being preprocess me.mp4 --check; "
        "being preprocess me.mp4 --consent 'my own face'",
    )(preprocess)
    data = data_group(app)
    command(data, "pack", epilog="Example: being data pack data/me --out me.being")(pack)
    command(
        data, "features", fetches=True, epilog="Example: being data features data/me --latency low"
    )(features)
    command(data, "unpack", fetches=True, epilog="Example: being data unpack me.being")(unpack)


def data_group(app: typer.Typer) -> typer.Typer:
    """The group `being data` of `app`; it is created on the first call."""
    for info in app.registered_groups:
        if info.name == DATA_GROUP and info.typer_instance is not None:
            return info.typer_instance
    group = typer.Typer(
        name=DATA_GROUP, help="Import, export, pack and unpack datasets; add speech features."
    )
    app.add_typer(group, name=DATA_GROUP)
    return group


def preprocess(
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO...",
            help="Video of one person who speaks to the camera, with audio, 2 s or longer; or "
            "several clips of this person in one framing, which become one dataset.",
        ),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only inspect the clip, which takes some seconds: report what is wrong with it "
            "and what the avatar would lack.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Dataset directory (default: data/<name>).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the subject (default: the first video's).")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            help="Side of the square image in px (default: the clip's, at most 512).",
            min=128,
            max=2048,
        ),
    ] = None,
    tight: Annotated[
        bool,
        typer.Option(
            "--tight",
            help="Crop tightly round the head, so that a small face keeps its pixels. Fits videos "
            "that show the whole source frame: being render --into-source.",
        ),
    ] = False,
    parser: Annotated[
        str | None,
        typer.Option(
            "--parser",
            metavar="NAME|FILE",
            help="Network that segments the person: selfie (offline, the default), segformer (from "
            "its hub, once), or your own face-parsing or portrait model as a .onnx file.",
        ),
    ] = None,
    au: Annotated[
        Path | None,
        typer.Option(
            "--au",
            metavar="FILE",
            help="OpenFace's CSV of this video, used instead of our own action units.",
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            "--audio",
            metavar="FILE",
            help="Separate recording of the voice, an audio or video file: it is aligned to the "
            "camera's audio and used instead of it.",
        ),
    ] = None,
    encoder: EncoderOption = None,
    latency: LatencyOption = None,
    config: TrainingConfigOption = None,
    override: EncoderOverrideOption = None,
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            help="Whose face it is and how they agreed; recorded in the dataset and in every "
            "video. On a terminal, the command asks.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset.")] = False,
) -> dict[str, Any]:
    """Turn videos of a person into a dataset: frames, landmarks, poses, masks, plates, speech.

    If it is stopped at any moment, the same command continues after the finished steps.
    """
    from being.config import load
    from being.paths import home
    from being.preprocess.pipeline import preprocess_video
    from being.preprocess.speech_features import DEFAULT_ENCODER

    chosen_encoder = load(config, override, {"data.encoder": encoder}).data.encoder
    if check:
        return _inspect(videos, size, tight, audio, au)
    subject = name or videos[0].stem
    folder = out or home() / "data" / subject
    ask = ask_consent if consent is None and console.can_ask() else None
    path = preprocess_video(
        videos,
        folder,
        name=subject,
        size=size,
        tight=tight,
        parser=parser,
        au=au,
        audio=audio,
        encoder=None if chosen_encoder == DEFAULT_ENCODER else chosen_encoder,
        latency=latency,
        consent=consent if ask is None else ask,
        force=force,
    )
    added = _added_features(path)
    option = f" -o data.encoder={added}" if added else ""
    console.info(
        f"dataset {path}\nlook at {path / 'report.html'}\nnext: being train {path}{option}"
    )
    return {"dataset": str(path), "report": str(path / "report.html")}


def pack(
    dataset: DatasetArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Output file (default: <name>.being; a number is added to a taken name)."
        ),
    ] = None,
) -> dict[str, Any]:
    """Pack a dataset into one small file for another machine: about 30 MB for 50 s."""
    from being.interop.pack.packing import pack as pack_dataset
    from being.paths import latest_dataset

    folder = dataset or latest_dataset()
    default = Path(f"{folder.resolve().name}.being")
    file = pack_dataset(folder, out or default, free_name=out is None)
    size = file.stat().st_size
    console.info(
        f"{folder} packed into {file}, {size / 1e6:.1f} MB\n"
        f"on the other machine: being data unpack {file.name}"
    )
    return {"dataset": str(folder), "file": str(file), "bytes": size}


def features(
    dataset: DatasetArgument = None,
    encoder: EncoderOption = None,
    latency: LatencyOption = None,
    config: TrainingConfigOption = None,
    override: EncoderOverrideOption = None,
) -> dict[str, Any]:
    """Add speech features to a dataset: of another encoder, or with limited look-ahead."""
    from being.config import load
    from being.paths import latest_dataset
    from being.preprocess.speech_features import add_features

    chosen_encoder = load(config, override, {"data.encoder": encoder}).data.encoder
    folder = dataset or latest_dataset()
    name, width = add_features(folder, chosen_encoder, latency)
    console.info(
        f"{folder} has '{name}' features, {width} wide\n"
        f"next: being train {folder} -o data.encoder={name}"
    )
    return {"dataset": str(folder), "encoder": name, "width": width}


def unpack(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File written by `being data pack`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Dataset directory (default: data/<name of the subject>)."),
    ] = None,
) -> dict[str, Any]:
    """Unpack a dataset from a file written by `being data pack`."""
    from being.interop.pack.unpacking import packed_name
    from being.interop.pack.unpacking import unpack as unpack_dataset
    from being.paths import home

    path = unpack_dataset(file, out or home() / "data" / packed_name(file))
    console.info(f"dataset {path}\nnext: being train {path}")
    return {"dataset": str(path)}


def _added_features(dataset: Path) -> str | None:
    """Name of the first speech features of a dataset that are not the default ones."""
    from being.data.dataset import Dataset
    from being.preprocess.speech_features import DEFAULT_ENCODER

    for name in Dataset.open(dataset).manifest["features"]:
        if name != DEFAULT_ENCODER:
            return name
    return None


def _inspect(
    videos: list[Path], size: int | None, tight: bool, audio: Path | None, au: Path | None
) -> dict[str, Any]:
    """Inspect a clip, or several clips joined; print and return the findings.

    Raises InputRejected, with the findings as its details, for what cannot be used.
    """
    if len(videos) == 1:
        return _inspect_video(videos[0], size, tight, audio)
    from being.preprocess.clips import check_clips, join_clips

    videos = [user_path(video) for video in videos]
    digests = check_clips(videos, audio, au)
    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        with Progress("joining", None, "frames") as progress:
            joined = join_clips(videos, digests, Path(folder), progress.advance)
        try:
            return _inspect_video(joined.video, size, tight, None, joined.clips)
        except BeingError as error:
            raise joined.named(error) from error


def _inspect_video(
    video: Path,
    size: int | None,
    tight: bool,
    audio: Path | None,
    parts: Sequence[ClipPart] = (),
) -> dict[str, Any]:
    """Inspect one video, print and return the findings. parts: the clips that it was joined of."""
    from being.face.landmarks import FaceLandmarker
    from being.preprocess.inspection.clip import findings_table, inspect_clip, raise_rejection
    from being.preprocess.inspection.picture import PICTURE_SIDE

    with Progress("inspection", None, "frames") as progress:
        inspection = inspect_clip(
            video, FaceLandmarker(), size or PICTURE_SIDE, progress.advance, tight, audio, parts
        )
    console.info(findings_table(inspection.findings))
    result = {
        "frames": inspection.frames,
        "seconds": round(inspection.seconds, 2),
        "size": inspection.size,
        "crop": list(inspection.crop),
        "segments": [list(map(int, segment)) for segment in inspection.segments],
        "findings": [asdict(finding) for finding in inspection.findings],
        "look_seconds": round(progress.seconds, 1),
    }
    try:
        raise_rejection(video, inspection.findings)
    except InputRejected as rejection:
        rejection.details = result
        raise
    count = len(inspection.segments)
    segments = f" in {count} segments" if count > 1 else ""
    what = "the clips" if parts else "the clip"
    console.info(f"{what} can be used: {inspection.seconds:.1f} s{segments}")
    return result


def ask_consent() -> Consent:
    """The consent that the person at the terminal gives; unconfirmed when an answer is empty."""
    from being.data.consent import Consent

    answers = []
    for question in (FACE_QUESTION, CONSENT_QUESTION):
        answers.append(console.ask(question))
        if not answers[-1]:
            return Consent()
    return Consent("; ".join(answers))

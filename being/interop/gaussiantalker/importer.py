"""`import_checkpoint()`: a trained GaussianTalker directory to a run with checkpoints and an
avatar.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being import media
from being.config import AvatarConfig, Config, from_dict
from being.conventions import FEATURE_WINDOW, FPS
from being.data import cameras
from being.data.consent import Consent
from being.data.dataset import Dataset
from being.data.frames import read_image
from being.errors import BeingError, EnvironmentFault, InputRejected
from being.files import load_arrays
from being.interop.family import layout
from being.interop.family.alignment import align
from being.interop.family.exporter import WIDTH, projection
from being.interop.family.pictures import centre_square, cut
from being.interop.family.writing import sound_of_frames
from being.interop.gaussiantalker.audio_adapter import fold, teach
from being.interop.gaussiantalker.checkpoint import Reference, read_reference
from being.model.avatar import Loop, write_avatar
from being.model.gaussiantalker import GaussianTalker
from being.model.talking_head import TalkingHead
from being.paths import check_place, home
from being.runs.run_directory import Run

LABEL = "gaussiantalker"
ENCODER = "hama"
FRONTAL_SIZE, FRONTAL_FOCAL = (
    512,
    1200 * 512 / 450,
)  # px; of AD-NeRF's well-known clip, where nothing else is known
FRONTAL_DISTANCE = 7.0  # head units
WHITE = 255
BLINK = "AU45_r"


@dataclass
class Adopted:
    """The run made and what there is to say about it."""

    run: Path
    iteration: int
    gaussians: int
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Clip:
    """What is known of the clip the avatar was trained on."""

    loop: Loop
    place: Path  # the directory it lies in
    encoder: str  # name of the features the checkpoint hears
    theirs: np.ndarray | None = None  # float32 [F, 16, W] of that width
    matrix: np.ndarray | None = None  # float32 [C, W]: those features are ours times this
    ours: Callable[[], np.ndarray] | None = None  # gives our features float32 [F, 16, C]


def import_checkpoint(
    path: Path,
    data: Path | None = None,
    out: Path | None = None,
    *,
    name: str | None = None,
    iteration: int | None = None,
    heads: int | None = None,
    consent: str | None = None,
    runs: Path | None = None,
    avatar: AvatarConfig | None = None,
) -> Adopted:
    """A run of the trained GaussianTalker directory `path`; its checkpoint is the reference's,
    weight for weight.

    data: the dataset (imported from the directory it was trained on) that gives poses, plates and
    sound; without it that directory itself when it is still where cfg_args says, else one frontal
    pose on white. The avatar's sound net is taught to hear our speech features where the clip's are
    known (`hearing`). out: where the run goes (default under `runs`). avatar: length of the pose
    loop and quality of its plates. Raises InputRejected naming the file that will not do; nothing
    is left behind then.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputRejected(
            f"{path} is not a directory",
            fix="Give the folder named as --model_path in its training",
        )
    reference = read_reference(path, iteration, heads)
    adopted = Adopted(path, reference.iteration, len(reference.model.gaussians))
    avatar = avatar or AvatarConfig()
    clip = _clip(reference, path, data, adopted, round(avatar.seconds * FPS))
    clip.loop.name = name or clip.loop.name
    if consent or clip.loop.consent is None:
        clip.loop.consent = Consent(consent).record()
    config = from_dict(
        {
            "model": dataclasses.asdict(reference.config),
            "data": {"size": clip.loop.size, "encoder": clip.encoder},
            "avatar": dataclasses.asdict(avatar),
        }
    )
    model, encoder = _hearing(reference, clip, adopted)
    if out is not None:
        out = Path(out).absolute()
        if out.exists():
            raise BeingError(f"{out} exists already", fix="Choose another place with --out")
        check_place(out)
    run = Run.create(
        clip.place,
        clip.loop.name,
        config,
        LABEL,
        (out.parent / f".{out.name}.part") if out else runs or home() / "runs",
    )
    try:
        _fill(run, reference, model, config, encoder, clip.loop, adopted)
        if out is not None:
            run.path.rename(out)
            Run(out).update(dataset=os.path.relpath(clip.place, out))
    except OSError as error:
        raise BeingError(
            f"cannot write {run.path}", str(error), "Make room on the disk or choose another place"
        ) from error
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    finally:
        if out is not None:
            shutil.rmtree(out.parent / f".{out.name}.part", ignore_errors=True)
    adopted.run = out or run.path
    return adopted


def _fill(
    run: Run,
    reference: Reference,
    model: TalkingHead,
    config: Config,
    encoder: str,
    loop: Loop,
    adopted: Adopted,
) -> None:
    """Checkpoints (the reference's network) and the avatar (the network that hears our features) of
    the run.
    """
    state = {
        "stage": "fine",
        "step": reference.iteration,
        "best": 0.0,
        "audio_width": reference.audio_width,
    }
    for name in ("best", "last"):
        run.save(name, reference.model.state_dict(), state)
    hears = dataclasses.replace(config, data=dataclasses.replace(config.data, encoder=encoder))
    write_avatar(run.path / "avatar", model, hears, loop)
    run.update(
        finished=True,
        best=None,
        imported={
            "system": "GaussianTalker",
            "iteration": reference.iteration,
            "notes": adopted.notes,
            "warnings": adopted.warnings,
        },
    )


# --- the clip
# -------------------------------------------------------------------------------------------------------


def _clip(
    reference: Reference, path: Path, data: Path | None, adopted: Adopted, most: int
) -> _Clip:
    """What is known of the clip; at most so many poses."""
    if data is not None:
        return _of_dataset(reference, Dataset.open(data), adopted, most)
    if reference.source is not None:
        try:
            return _of_family(reference, reference.source, adopted, most)
        except InputRejected as error:
            adopted.warnings.append(f"poses cannot be taken from {reference.source}: {error.what}")
    else:
        adopted.warnings.append("the data directory it was trained on is not there")
    adopted.warnings.append("one frontal pose on a white plate: give the clip with --data DATASET")
    return _Clip(
        _frontal(reference, path), path, layout.FEATURE_WIDTHS.get(reference.audio_width, "aud")
    )


def _of_dataset(reference: Reference, dataset: Dataset, adopted: Adopted, most: int) -> _Clip:
    """Poses, plates and sound of a dataset of ours. Raises InputRejected when it has no features of
    the right width.
    """
    if dataset.width != dataset.height:
        raise InputRejected(
            f"{dataset.path} has pictures of {dataset.width} x {dataset.height} px",
            "avatars are square",
            "Import it again",
        )
    width, known = reference.audio_width, dataset.manifest["features"]
    named = [name for name, facts in known.items() if facts["width"] == width]
    matrix = _matrix([dataset.path, *([reference.source] if reference.source else [])], width)
    if not named and matrix is None and ENCODER in known and width == WIDTH:
        matrix = projection(dataset.features(ENCODER))[0]
        adopted.notes.append(f"taken to be trained on an export of {dataset.path}")
    if not named and matrix is None:
        raise InputRejected(
            f"{reference.folder / 'deformation.pth'} hears {width}-wide speech features",
            f"{dataset.path} has {', '.join(known)}",
            "Give the dataset imported from the directory it was trained on: being data import DIR",
        )
    poses = dataset.longest_stretch(most)
    inside = slice(poses.start, poses.stop)
    background = read_image(dataset.path / "bc.jpg")

    def plates() -> Iterator[np.ndarray]:
        for i in poses:
            yield behind(read_image(dataset.path / f"torso_imgs/{i}.png"), background)

    loop = Loop(
        dataset.name,
        dataset.width,
        dataset.focal,
        torch.from_numpy(dataset.world_to_camera[inside]),
        torch.from_numpy(dataset.blink[inside]),
        plates(),
        dataset.manifest.get("consent"),
    )
    encoder = next((name for name in named if name != ENCODER), named[0] if named else "ds")
    return _Clip(
        loop,
        dataset.path,
        encoder,
        dataset.features(encoder) if named else None,
        matrix,
        (lambda: dataset.features(ENCODER)) if ENCODER in known else None,
    )


def _of_family(reference: Reference, source: Path, adopted: Adopted, most: int) -> _Clip:
    """Poses, plates and sound of the directory it was trained on, as it lies there."""
    folder = layout.read_folder(source)
    alignment, square = align(folder), centre_square(folder)
    count = min(len(alignment.numbers), most)
    chosen = alignment.numbers[:count]
    background = (
        np.full((square[2], square[2], 3), WHITE, np.uint8)
        if folder.background is None
        else cut(read_image(folder.background), square)
    )
    missing = sum(int(n) not in folder.torso for n in chosen)
    if missing or folder.background is None:
        adopted.warnings.append(
            f"{source} lacks bc.jpg or {missing} torso pictures: white stands in for them"
        )

    def plates() -> Iterator[np.ndarray]:
        for n in chosen:
            yield (
                background
                if int(n) not in folder.torso
                else behind(cut(read_image(folder.torso[int(n)]), square), background)
            )

    blink = np.zeros((count, 1), np.float32)
    if folder.units is not None:
        column = layout.read_units(folder.units)[BLINK]
        blink[:, 0] = (
            np.clip(np.nan_to_num(column[alignment.units[:count].clip(0, len(column) - 1)]), 0, 2)
            / 2
        )
    loop = Loop(
        source.resolve().name,
        square[2],
        alignment.focal,
        torch.from_numpy(cameras.world_to_camera(alignment.euler[:count], alignment.trans[:count])),
        torch.from_numpy(blink),
        plates(),
        None,
    )
    named = [f for f in folder.features if f.shape[1:] == (FEATURE_WINDOW, reference.audio_width)]
    theirs = (
        np.array(
            layout.load_array(named[0].file)[alignment.audio.clip(0, named[0].shape[0] - 1)],
            np.float32,
        )
        if named
        else None
    )

    def ours() -> np.ndarray:
        from being.audio.feature_windows import encode

        samples = np.concatenate([media.read_audio(file) for file in folder.sound])
        frames = len(alignment.numbers)
        return encode(sound_of_frames(samples, int(alignment.audio[0]), frames), frames, ENCODER)

    adopted.notes.append(f"poses and plates from {source}")
    return _Clip(
        loop,
        source,
        named[0].name if named else layout.FEATURE_WIDTHS.get(reference.audio_width, "aud"),
        theirs,
        _matrix([source], reference.audio_width),
        ours,
    )


def behind(torso: np.ndarray, background: np.ndarray) -> np.ndarray:
    """What stands behind the head, uint8 [H, W, 3]: a torso [H, W, 4] RGBA over a background [H, W,
    3].
    """
    alpha = torso[..., 3:].astype(np.float32) / 255
    plate = np.where(alpha > 0, torso[..., :3], 0) * alpha + background[..., :3] * (1 - alpha)
    return (plate + 0.5).astype(np.uint8)


def _frontal(reference: Reference, path: Path) -> Loop:
    """One pose from the front, the head in the middle of a white picture."""
    middle = reference.model.gaussians.means.detach().median(0).values.numpy()
    trans = np.array([[-middle[0], -middle[1], -FRONTAL_DISTANCE]])
    white = np.full((FRONTAL_SIZE, FRONTAL_SIZE, 3), WHITE, np.uint8)
    return Loop(
        path.resolve().name,
        FRONTAL_SIZE,
        FRONTAL_FOCAL,
        torch.from_numpy(cameras.world_to_camera(np.zeros((1, 3)), trans)),
        torch.zeros(1, 1),
        [white],
        None,
    )


# --- the sound
# ------------------------------------------------------------------------------------------------------


def _hearing(reference: Reference, clip: _Clip, adopted: Adopted) -> tuple[TalkingHead, str]:
    """The model for the avatar and the encoder it hears: ours where that can be known, else the
    checkpoint's own.
    """
    if clip.encoder == ENCODER:
        return reference.model, ENCODER
    try:
        if clip.matrix is not None:
            network = fold(reference.model.network, torch.from_numpy(clip.matrix))
            adopted.notes.append(
                f"sound: hears '{ENCODER}' features exactly, by the matrix of the export"
            )
        elif clip.theirs is not None and clip.ours is not None:
            network, share = teach(reference.model.network, clip.theirs, clip.ours())
            adopted.notes.append(
                f"sound: the net was taught to hear '{ENCODER}' features; on the held-out end of the "
                f"clip it explains {share:.0%} of what the old one says"
            )
        else:
            adopted.warnings.append(
                f"it hears {reference.audio_width}-wide features, which nothing here makes of "
                "sound: bench-fps works, tts-video and render do not. Give the dataset imported "
                "from the directory it was trained on with --data"
            )
            return reference.model, clip.encoder
    except EnvironmentFault as fault:
        adopted.warnings.append(f"the sound net could not be taught our features: {fault.what}")
        return reference.model, clip.encoder
    return with_network(reference.model, network), ENCODER


def with_network(model: TalkingHead, network: GaussianTalker) -> TalkingHead:
    """The same Gaussians moved by another network."""
    gaussians = {
        name: value for name, value in model.state_dict().items() if name.startswith("gaussians.")
    }
    state: dict[str, Tensor] = {
        **gaussians,
        **{f"network.{k}": v for k, v in network.state_dict().items()},
    }
    return TalkingHead.from_state(network.config, network.audio_width, state).eval()


def _matrix(places: list[Path], width: int) -> np.ndarray | None:
    """The map that an export wrote beside its features, from the first place that has one."""
    file = next(
        (place / layout.PROJECTION for place in places if (place / layout.PROJECTION).is_file()),
        None,
    )
    if file is None:
        return None
    data = load_arrays(file, "Remove it, or export again")
    matrix, encoder = data.get("matrix", np.zeros(0)), str(data.get("encoder", ""))
    if (
        matrix.dtype.kind != "f"
        or matrix.ndim != 2
        or not np.isfinite(matrix).all()
        or encoder != ENCODER
    ):
        raise InputRejected(
            f"{file} holds a map {matrix.shape} of '{encoder}'",
            f"expected finite [channels, {width}] of '{ENCODER}'",
            "Remove it, or export again",
        )
    return matrix.astype(np.float32) if matrix.shape[1] == width else None

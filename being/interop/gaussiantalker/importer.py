"""Imports a trained GaussianTalker directory as a run with checkpoints and an avatar."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from being.config import AvatarConfig, Config, from_dict
from being.conventions import FPS
from being.data.consent import Consent
from being.errors import BeingError, EnvironmentFault
from being.interop.gaussiantalker.audio_adapter import fit_audio_adapter, fold_linear_map
from being.interop.gaussiantalker.checkpoint import GaussianTalkerCheckpoint, read_checkpoint
from being.interop.gaussiantalker.training_clip import ENCODER, TrainingClip, find_training_clip
from being.locks import locked
from being.model.avatar_writing import PoseLoop, write_avatar
from being.model.gaussiantalker import GaussianTalker
from being.model.talking_head import TalkingHead
from being.names import check_subject_name
from being.paths import check_folder, check_writable, home, user_path
from being.runs.run_directory import Run

LABEL = "gaussiantalker"


@dataclass
class ImportedRun:
    """The run that was written, with notes and warnings about it."""

    run: Path
    iteration: int
    gaussians: int
    has_dataset: bool = False  # whose frames its renderings can be compared with
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


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
) -> ImportedRun:
    """Write a run of the trained GaussianTalker directory `path`; its checkpoint is unchanged.

    data: the dataset that gives poses, plates and audio, imported from the directory that the
    checkpoint was trained on. Without it that directory itself is used when it is still where
    cfg_args says, else one frontal pose on white. The avatar's audio network is adapted to our
    speech features where the clip's are known (`audio_adapter`). out: folder of the run (default
    under `runs`). avatar: length of the pose loop and quality of its plates. Raises InputRejected
    naming the file that is wrong; then no file is left behind.
    """
    path = user_path(path)
    check_folder(
        path, "a trained GaussianTalker", "Give the folder named as --model_path in its training"
    )

    if out is not None:
        out = user_path(out).absolute()
        _check_out(out)

    if name is not None:
        check_subject_name(name)
    given_consent = Consent(consent).record()

    # Read the checkpoint and its clip.
    checkpoint = read_checkpoint(path, iteration, heads)
    avatar = avatar or AvatarConfig()
    clip = find_training_clip(checkpoint, path, data, round(avatar.seconds * FPS))
    clip.loop.name = name or clip.loop.name
    check_subject_name(clip.loop.name)
    if consent or clip.loop.consent is None:
        clip.loop.consent = given_consent
    imported = ImportedRun(
        path,
        checkpoint.iteration,
        len(checkpoint.model.gaussians),
        (clip.folder / "dataset.json").is_file(),
        notes=clip.notes,
        warnings=clip.warnings,
    )
    model, encoder = _adapt_audio(checkpoint, clip, imported)

    # The checkpoint to measure. Where the clip has our features only, it reads these, exactly.
    trained, trained_on = checkpoint.model, clip.encoder
    if clip.features is None and clip.projection is not None:
        trained, trained_on = model, encoder
    config = from_dict(
        {
            "model": checkpoint.config.to_dict(),
            "data": {"size": clip.loop.size, "encoder": trained_on},
            "avatar": avatar.to_dict(),
        }
    )

    # Write the run, which gets its name when it is complete.
    runs = runs or home() / "runs"
    with nullcontext() if out is None else locked(out, "writes this run"):
        if out is not None:
            _check_out(out)  # another process may have finished just before the lock was free
        try:
            with Run.building(clip.folder, clip.loop.name, config, LABEL, runs, out) as run:
                _write_run(run, trained, model, config, encoder, clip.loop, imported)
        except OSError as error:
            raise BeingError(
                f"cannot write {out or runs}",
                str(error),
                "Free disk space or choose another folder",
            ) from error
    imported.run = run.path
    return imported


def _check_out(out: Path) -> None:
    """Raise BeingError unless a run can be made at `out`."""
    if out.exists():
        raise BeingError(f"{out} exists already", fix="Choose another folder with --out")
    check_writable(out)


def _write_run(
    run: Run,
    trained: TalkingHead,
    model: TalkingHead,
    config: Config,
    encoder: str,
    loop: PoseLoop,
    imported: ImportedRun,
) -> None:
    """Write the checkpoints (the network as `trained`) and the avatar (the adapted `model`)."""
    state = {
        "stage": "fine",
        "step": imported.iteration,
        "best": 0.0,
        "audio_width": trained.network.audio_width,
    }
    for name in ("best", "last"):
        run.save(name, trained.state_dict(), state)
    avatar_config = config.replace(data=config.data.replace(encoder=encoder))
    write_avatar(run.path / "avatar", model, avatar_config, loop)
    run.update(
        finished=True,
        best=None,
        imported={
            "system": "GaussianTalker",
            "iteration": imported.iteration,
            "has_dataset": imported.has_dataset,
            "notes": imported.notes,
            "warnings": imported.warnings,
        },
    )


def _adapt_audio(
    checkpoint: GaussianTalkerCheckpoint, clip: TrainingClip, imported: ImportedRun
) -> tuple[TalkingHead, str]:
    """The model for the avatar, and the encoder of its speech features.

    Its audio network is adapted to our features where that is possible; else the model is that of
    the checkpoint.
    """
    if clip.encoder == ENCODER:
        return checkpoint.model, ENCODER
    try:
        if clip.projection is not None:
            network = fold_linear_map(checkpoint.model.network, torch.from_numpy(clip.projection))
            imported.notes.append(
                f"audio network: uses '{ENCODER}' features exactly, by the matrix of the export"
            )
        elif clip.features is not None and clip.compute_our_features is not None:
            network, share = fit_audio_adapter(
                checkpoint.model.network, clip.features, clip.compute_our_features()
            )
            imported.notes.append(
                f"audio network: fitted to '{ENCODER}' features; on the held-out end of the clip "
                f"it explains {share:.0%} of the variance of the old one's output"
            )
        else:
            imported.warnings.append(
                f"it needs {checkpoint.audio_width}-wide features, which no encoder here computes: "
                "bench-fps works, tts-video and render do not. Give the dataset imported "
                "from the directory it was trained on with --data"
            )
            return checkpoint.model, clip.encoder
    except EnvironmentFault as fault:
        imported.warnings.append(
            f"the audio network could not be adapted to our speech features: {fault.what}"
        )
        return checkpoint.model, clip.encoder
    return with_network(checkpoint.model, network), ENCODER


def with_network(model: TalkingHead, network: GaussianTalker) -> TalkingHead:
    """The model's Gaussians with another network."""
    gaussians = {
        name: value for name, value in model.state_dict().items() if name.startswith("gaussians.")
    }
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    state: dict[str, Tensor] = {**gaussians, **weights}
    return TalkingHead.from_state(network.config, network.audio_width, state).eval()

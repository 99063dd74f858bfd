"""Opens a run for evaluation: loads its checkpoint and the frames to evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from being.config import Config, load
from being.console import console
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.data.mouth import load_mouth_code
from being.errors import InputRejected, UsageError
from being.model.avatar import load_avatar
from being.model.bases import required_bases
from being.model.clip_rendering import render_clip, to_uint8
from being.model.talking_head import TalkingHead
from being.model.voice_to_mouth import VOICE_FILE, VoiceToMouth, predicted_rows
from being.runs.run_directory import Checkpoint, Run

PARTS = ("train", "validation", "test")
# Settings of a run that a measurement may replace.
REPLACEABLE_SETTINGS = ("data.size", "data.holdout")


@dataclass(frozen=True)
class MeasuredRun:
    """What is measured: a checkpoint of a run, and the frames of one part of its clip."""

    run: Run
    config: Config  # the run's; image size and held-out share as measured
    dataset: Dataset
    model: TalkingHead
    clip: Clip  # images of `frames` only
    frames: np.ndarray  # [F] int64, ascending
    part: str
    state: dict[str, Any]  # of the checkpoint
    checkpoint: str

    def true_frame(self, frame: int) -> np.ndarray:
        """The raw frame uint8 [S, S, 3]."""
        return self.clip.frames[frame].permute(1, 2, 0).cpu().numpy()

    def render(
        self, frames: np.ndarray, audio_frames: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Rendered images uint8 [S, S, 3] of `frames`, with the audio of `audio_frames` int [F]
        instead of their own where given.
        """
        for image in render_clip(self.model, self.clip, frames, self.state["stage"], audio_frames):
            yield to_uint8(image)

    def image_pairs(self, positions: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """True and rendered images uint8 [S, S, 3] of the frames at `positions` [n] of the part."""
        chosen = self.frames[positions]
        rendered = self.render(chosen)
        return [
            (self.true_frame(int(frame)), image)
            for frame, image in zip(chosen, rendered, strict=True)
        ]


def open_measured_run(
    run: Run,
    part: str = "test",
    device: torch.device | str = "cpu",
    max_frames: int | None = None,
    override: Sequence[str] = (),
    rasterizer: str = "auto",
    mouth: str = "voice",
    deform: str = "network",
) -> MeasuredRun:
    """The checkpoint of the run's avatar (`Run.avatar_checkpoint`), and the frames of `part`.

    max_frames: measure only the first so many frames; override: "data.size=512" and the like
    (REPLACEABLE_SETTINGS) instead of the run's settings; rasterizer: a backend of `being.splat`;
    mouth: "true" drives a run that reads the mouth code by the true code instead of the voice;
    deform: "bases" moves the Gaussians by the bases of the run's avatar instead of the network.

    Raises UsageError for an unknown part or setting, InputRejected for a run without checkpoint,
    one that does not fit its dataset, and an avatar without bases.
    """
    if part not in PARTS:
        raise UsageError(f"unknown part '{part}'", fix=f"One of {', '.join(PARTS)}")
    chosen = run.avatar_checkpoint()
    if chosen is None:
        raise InputRejected(
            f"{run.path} has no checkpoint yet",
            fix=f"Train it: being train --run {run.path}",
        )
    name, checkpoint = chosen
    config = measurement_config(run, override)
    dataset = _open_dataset(run)
    frames = _frames_of_part(run, config, dataset, part, max_frames)

    has_code = config.model.mouth == "code"
    clip = load_clip(
        dataset,
        config.data.size,
        config.data.encoder,
        device,
        index=frames,
        channel_set=config.data.expression,
        mouth=load_mouth_code(dataset) if has_code else None,
    )
    if has_code and mouth != "true":
        voice = VoiceToMouth.load(run.path / VOICE_FILE)
        rows = predicted_rows(voice, dataset.features(config.data.encoder), dataset.bounds)
        clip.features = torch.from_numpy(rows).to(clip.device)
    model = _load_model(run, name, checkpoint, config, clip)
    model.backend = rasterizer
    if deform == "bases":
        bases = required_bases(load_avatar(run.path, device))
        model.deformation = bases.forward
    return MeasuredRun(run, config, dataset, model, clip, frames, part, checkpoint.state, name)


def _open_dataset(run: Run) -> Dataset:
    """The dataset of the run. Raises InputRejected for a run that was imported without one."""
    imported = run.record.get("imported")
    try:
        path = run.dataset
    except InputRejected as error:
        if not isinstance(imported, dict) or imported.get("has_dataset"):
            raise
        raise InputRejected(
            f"{run.path} was imported without a dataset",
            "there are no true frames to compare with",
            "Import its clip (being data import DIR), then the checkpoint again with --data "
            "DATASET",
        ) from error
    return Dataset.open(path)


def _frames_of_part(
    run: Run, config: Config, dataset: Dataset, part: str, max_frames: int | None
) -> np.ndarray:
    """The first `max_frames` frames of the part. Warns of frames on which the run was trained.

    Raises InputRejected for an empty part.
    """
    own, used = run.config.data, config.data
    frames = getattr(dataset.split(used.holdout, used.seconds, used.fold), part)[:max_frames]
    if not len(frames):
        raise InputRejected(
            f"the {part} part of {dataset.path} is empty",
            f"the clip has {dataset.frames} frames",
            "Choose another one with --part",
        )
    trained = dataset.split(own.holdout, own.seconds, own.fold).train
    seen = int(np.isin(frames, trained).sum())
    if seen and part != "train":
        console.warn(
            f"{seen} of the {len(frames)} frames of the {part} part were trained on: the run held "
            f"out {held_out_phrase(own.holdout, own.fold)}"
        )
    return frames


def _load_model(
    run: Run, name: str, checkpoint: Checkpoint, config: Config, clip: Clip
) -> TalkingHead:
    """The checkpoint's model on the clip's device. Raises InputRejected where it does not fit."""
    width = checkpoint.state["audio_width"]
    if clip.features.shape[2] != width:
        raise InputRejected(
            f"{run.path} was trained on speech features of width {width}",
            f"those of {run.dataset} have width {clip.features.shape[2]}",
            "Train a new run with --fresh",
        )
    try:
        model = TalkingHead.from_state(config.model, width, checkpoint.model)
    except (RuntimeError, KeyError, AssertionError) as error:
        raise InputRejected(
            f"checkpoint {name} of {run.path} does not fit its config",
            (str(error).splitlines() or [type(error).__name__])[0],
            "Train again",
        ) from error
    return model.to(clip.device).eval().requires_grad_(False)


def measurement_config(run: Run, override: Sequence[str] = ()) -> Config:
    """The run's config with the settings of `override` replaced.

    Raises UsageError for a setting that a measurement cannot replace.
    """
    for item in override:
        if item.partition("=")[0].strip() not in REPLACEABLE_SETTINGS:
            raise UsageError(
                f"-o {item} has no effect on a measurement",
                "everything else is as the run was trained",
                f"What can be set: {', '.join(REPLACEABLE_SETTINGS)}",
            )
    if not override:
        return run.config
    return load(run.path / "config.yaml", list(override), environment={})


def held_out_phrase(holdout: float, fold: int = 0) -> str:
    """What a share `data.holdout` and a `data.fold` hold out, as a phrase."""
    if fold:
        return f"part {fold} of {holdout:.0%} of the clip"
    if holdout > 0:
        return f"the last {holdout:.0%} of the clip"
    return "the GaussianTalker family's share, 1/11 and 1/11"

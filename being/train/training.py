"""`train()`: a dataset directory to a run with checkpoints, figures and an avatar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from being.config import Config
from being.console import say
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.model.avatar import save_avatar
from being.model.device import keep_freed_memory, pick_device
from being.model.talking_head import TalkingHead
from being.paths import home, latest_dataset, newest
from being.runs.metric_loggers import check as check_board
from being.runs.run_directory import Checkpoint, Run
from being.splat import using_backend
from being.train.audio_warmup import warm_up_sound
from being.train.compat import is_reference
from being.train.initial_points import initial_cloud
from being.train.lip_closure import close_lips, lesson_of
from being.train.trainer import Trainer, fresh_model

STAGES = ("coarse", "fine", "all")
LEAST_FRAMES = 22  # so that each part of the split has a frame or two


def train(
    data: Path | None,
    config: Config,
    label: str = "config",
    stage: str = "all",
    run: Path | None = None,
    fresh: bool = False,
    device: str = "auto",
    runs: Path | None = None,
    splat: str | None = None,
    log: str | None = None,
) -> Run:
    """Train on the dataset at `data`, through `stage` ("coarse", "fine" or "all"); the run that was
    made or continued.

    With `run`, that run goes on, on its own dataset and config. Otherwise an unfinished run of the
    same dataset and config goes on from its last checkpoint unless `fresh`. "fine" trains coarse
    first where there is no coarse checkpoint. New runs lie under `runs` (default: `runs/` under
    BEING_HOME). `splat`: the rasterizer backend (default: the config's). `log`: "wandb" sends the
    figures there too. Raises InputRejected, UsageError, EnvironmentFault for a device, backend or
    board that is not here, or BeingError (130) when interrupted, with the state saved.
    """
    if stage not in STAGES:
        raise UsageError(f"unknown stage '{stage}'", fix=f"One of {', '.join(STAGES)}")
    check_board(log)
    current = Run.open(run) if run is not None else None
    data = data or (current.dataset if current is not None else latest_dataset())
    dataset = Dataset.open(data)
    if dataset.frames < LEAST_FRAMES:
        raise InputRejected(
            f"{data} has {dataset.frames} frames",
            f"training needs at least {LEAST_FRAMES}",
            "Record some seconds of speech",
        )
    keep_freed_memory()
    where, runs = pick_device(device), runs or home() / "runs"
    torch.backends.cudnn.benchmark = True  # the shapes of a stage stay the same
    if current is None and not fresh:
        current = unfinished(runs, dataset, config, label)
    if current is not None:
        config = current.config
        say(f"run {current.path} goes on")
    is_reference(config.train.compat)  # an unknown word leaves no run behind
    with using_backend(splat or config.train.splat, where) as rasterizer:
        split = dataset.split(config.data.holdout, config.data.seconds)
        clip = load_clip(
            dataset,
            config.data.size,
            config.data.encoder,
            where,
            kind=config.data.expression,
            voices=config.train.voices,
            silence=config.train.silence,
            seed=config.train.seed,
        )
        last = current.load("last") if current is not None else None
        model = _model(config, dataset, clip, split.train, last)
        if current is None:  # only now: a dataset that will not do leaves no run behind
            current = Run.create(data, dataset.name, config, label, runs)
            say(f"run {current.path}")
        current.update(device=str(where), splat=rasterizer)
        current.rewind(last)
        current.open_boards(log)
        try:
            if _through(stage, Trainer(current, config, dataset, clip, split, model), last):
                finish(current, config, dataset, clip, split.train)
        finally:
            current.close_boards()
    return current


def _through(stage: str, trainer: Trainer, last: Checkpoint | None) -> bool:
    """Train from the checkpoint `last` through `stage`; whether the fine stage is done."""
    config, split, clip, model = trainer.config, trainer.split, trainer.clip, trainer.model
    if last is None or last.state["stage"] == "coarse":
        done = last is not None and last.state["step"] >= config.train.coarse.steps
        if stage == "fine" and not done:
            say("no finished coarse stage: training it first")
        if done:
            model.bake_canonical()
        else:
            trainer.train("coarse", last)
        last = None
        if stage == "coarse":
            return False
        if config.train.audio_warmup:
            torch.manual_seed(config.train.seed)
            score = warm_up_sound(
                model.network,
                clip,
                trainer.dataset.mesh[0],
                split.train,
                split.validation,
                config.train.audio_warmup,
                config.train.seed,
            )
            say(
                f"sound to lips before the fine stage: correlation {score:.2f} on validation frames"
            )
    trainer.train("fine", last)
    return True


def finish(run: Run, config: Config, dataset: Dataset, clip: Clip, frames: np.ndarray) -> None:
    """Make the avatar bundle of the best checkpoint and mark the run as finished. Where its lips
    can be taught to close (learnt from `frames`) the avatar is made of what came of it, the
    checkpoint `closed`; `best` stays as it is."""
    best = run.load("best") or run.load("last")
    assert best is not None, run.path
    model = TalkingHead.from_state(config.model, best.state["audio_width"], best.model)
    closed = False
    if config.train.closing:
        lesson = lesson_of(
            model.network.to(clip.device),
            dataset,
            clip,
            frames,
            config.data.encoder,
            config.train.seed,
        )
        if lesson is not None:
            score = close_lips(model.network, lesson, config.train.closing, config.train.seed)
            say(
                f"lips close where they must: {score:.0%} of what the sound branch was to say learnt"
            )
            run.save("closed", model.state_dict(), best.state)
            closed = True
        model.network.cpu()
    save_avatar(run.path / "avatar", model, config, dataset, clip)
    run.update(finished=True, best=best.state["best"], closed=closed)
    if clip.device.type == "cuda":
        most = torch.cuda.max_memory_allocated(clip.device)
        run.update(peak_memory=most)
        say(f"at most {most / 1e9:.1f} GB of the device's memory were in use")


def _model(
    config: Config, dataset: Dataset, clip: Clip, frames: np.ndarray, last: Checkpoint | None
) -> TalkingHead:
    width, channels = clip.features.shape[2], len(clip.channels)
    if last is not None:
        if last.state["audio_width"] != width:
            raise InputRejected(
                f"the checkpoint was trained on {last.state['audio_width']}-wide speech features",
                f"the dataset's are {width} wide",
                "Train afresh with --fresh",
            )
        model = TalkingHead.from_state(config.model, width, last.model)
        if model.network.expression_width not in (1, channels):
            raise InputRejected(
                f"the checkpoint knows {model.network.expression_width} channels of expression",
                f"the dataset has {channels}",
                "Train afresh with --fresh",
            )
        return model.to(clip.device)
    points, colours = initial_cloud(
        dataset, clip, frames, config.data.gaussians, config.train.seed, config.data.bfm
    )
    return fresh_model(config, width, points, colours, channels).to(clip.device)


def continued(stage: str) -> Path | None:
    """The most recent run, where a bare `train --stage fine` means to go on with it: its fine stage
    is not done.
    """
    latest = newest(home() / "runs", "run.json")
    return (
        latest
        if latest is not None and stage != "coarse" and not Run.open(latest).record.get("finished")
        else None
    )


def unfinished(folder: Path, dataset: Dataset, config: Config, label: str) -> Run | None:
    """The newest run under `folder` of this dataset and config that has not finished, if any."""
    for path in sorted((folder / dataset.name).glob(f"*_{label}"), reverse=True):
        if (path / "run.json").is_file():
            run = Run.open(path)
            if (
                not run.record.get("finished")
                and run.dataset == dataset.path.resolve()
                and run.config.to_dict() == config.to_dict()
            ):
                return run
    return None

"""Train an avatar: from a dataset directory to a finished run (`train_avatar`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from being.audio.clip_features import encode_segments
from being.audio.feature_stream import FeatureStream
from being.config import Config
from being.config.schema import NO_LIVE_ENCODER
from being.console import Progress, console
from being.conventions import FPS
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.data.mouth import MouthCode, load_mouth_code, store_mouth_code
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.model.avatar_writing import save_avatar
from being.model.device import keep_freed_memory, pick_device
from being.model.talking_head import ModelMismatch, TalkingHead
from being.model.voice_to_mouth import LIVE_VOICE_FILE, VOICE_FILE, VoiceToMouth
from being.paths import home, latest_dataset, newest_folder
from being.runs.metric_loggers import check_metric_logger
from being.runs.run_directory import Checkpoint, Run
from being.splat import select_backend
from being.train.audio_warmup import warm_up_audio_branch
from being.train.avatar_bases import add_bases
from being.train.face_response import CLOSED_PROBES, measure_face_response
from being.train.initial_points import initial_cloud
from being.train.lip_closure import distil_lip_closure, lip_closure_targets
from being.train.trainer import Trainer, untrained_model
from being.train.voice_fit import VoiceFit, fit_voice_to_mouth

STAGES = ("coarse", "fine", "all")
LEAST_FRAMES = 22  # so that each part of the split has one or two frames


def train_avatar(
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
    started: Callable[[Path], None] = lambda run: None,
) -> Run:
    """Train on the dataset at `data` through `stage`; returns the new or continued run.

    data: a dataset directory (default: that of `run`, or the most recent one). config, label: the
    settings and their name. stage: "coarse", "fine" or "all"; "fine" trains the coarse stage first
    when there is no coarse checkpoint. run: a run to continue, with its own dataset and config.
    Without it, an unfinished run of the same dataset and config continues from its last checkpoint,
    unless `fresh`. runs: the folder of new runs (default: `runs/` under BEING_HOME). splat: the
    rasterizer backend (default: that of the config). log: "wandb" also sends the metrics there.
    started: is told the folder of the run before its first step.

    Raises InputRejected for a dataset that cannot be used, UsageError for a wrong argument,
    EnvironmentFault for a device, backend or logger that is not available, and BeingError when
    another process trains the run, or (exit code 130) when interrupted; the state is then saved.
    """
    # Check the arguments and open the dataset
    if stage not in STAGES:
        raise UsageError(f"unknown stage '{stage}'", fix=f"One of {', '.join(STAGES)}")
    check_metric_logger(log)
    current = Run.open(run) if run is not None else None
    data = data or (current.dataset if current is not None else latest_dataset())
    dataset = _open_dataset(data)
    keep_freed_memory()
    torch_device, runs = pick_device(device), runs or home() / "runs"
    torch.backends.cudnn.benchmark = True  # the shapes of a stage do not change

    # Continue a run, with its own config
    if current is None and not fresh:
        current = find_unfinished_run(runs, dataset, config, label)
    if current is None:
        return _train(None, dataset, config, label, stage, torch_device, runs, splat, log, started)
    with current.locked():
        # What another process wrote just before the lock was free
        current = Run.open(current.path)
        console.info(f"continuing run {current.path}")
        config = current.config
        return _train(
            current, dataset, config, label, stage, torch_device, runs, splat, log, started
        )


def _train(
    current: Run | None,
    dataset: Dataset,
    config: Config,
    label: str,
    stage: str,
    torch_device: torch.device,
    runs: Path,
    splat: str | None,
    log: str | None,
    started: Callable[[Path], None],
) -> Run:
    """The work of `train_avatar`, for a run whose lock is held, or for a new one (None)."""
    # Load everything before a new run directory is made: a wrong config or dataset leaves none.
    rasterizer = select_backend(splat or config.train.splat, torch_device)
    split = dataset.split(config.data.holdout, config.data.seconds, config.data.fold)
    mouth = load_mouth_code(dataset) if config.model.mouth == "code" else None
    clip = load_clip(
        dataset,
        config.data.size,
        config.data.encoder,
        torch_device,
        channel_set=config.data.expression,
        voices=config.train.augment.voices,
        silence_share=config.train.augment.silence_share,
        seed=config.train.seed,
        mouth=mouth,
    )
    last = current.load_newest() if current is not None else None
    if last is None:
        model = _new_model(config, dataset, clip, split.train)
    else:
        model = _model_of_checkpoint(config, clip, last)
    model.backend = rasterizer
    voice = live_voice = None
    if mouth is not None and (current is None or not (current.path / VOICE_FILE).is_file()):
        voice = _fit_voice(config, dataset, mouth, split.train)
    if mouth is not None and (current is None or not (current.path / LIVE_VOICE_FILE).is_file()):
        known = voice.mapping if voice is not None else None
        if known is None and current is not None:
            known = VoiceToMouth.load(current.path / VOICE_FILE)
        assert known is not None
        live_voice = _fit_live_voice(config, dataset, mouth, split.train, known.audio_delay)
    with ExitStack() as stack:
        if current is None:
            current = Run.create(dataset.path, dataset.name, config, label, runs)
            stack.enter_context(current.locked())
            console.info(f"run {current.path}")
        else:
            current.note_dataset(dataset.path)

        # Train
        if mouth is not None:
            store_mouth_code(dataset, mouth)
        current.update(device=str(torch_device), splat=rasterizer)
        current.rewind(last)
        if last is not None:
            current.complete_checkpoints(last)
        current.open_metric_loggers(log)
        stack.callback(current.close_metric_loggers)
        if voice is not None:
            voice.mapping.save(current.path / VOICE_FILE)
            current.update(voice_fit=_voice_figures(voice))
        if live_voice is not None:
            live_voice.mapping.save(current.path / LIVE_VOICE_FILE)
            current.update(live_voice_fit=_voice_figures(live_voice))
        trainer = Trainer(current, config, dataset, clip, split, model)
        started(current.path)
        if _train_stages(stage, trainer, last):
            finish_run(current, config, dataset, clip, split.train)
    return current


def _open_dataset(path: Path) -> Dataset:
    """The dataset at `path`; raises InputRejected when it has too few frames to train on."""
    dataset = Dataset.open(path)
    if dataset.frames < LEAST_FRAMES:
        raise InputRejected(
            f"{path} has {dataset.frames} frames",
            f"training needs at least {LEAST_FRAMES}",
            "Record some seconds of speech",
        )
    return dataset


def _train_stages(stage: str, trainer: Trainer, last: Checkpoint | None) -> bool:
    """Train through `stage` from the checkpoint `last`; True when the fine stage is complete."""
    config = trainer.config
    if last is None or last.state["stage"] == "coarse":
        complete = last is not None and last.state["step"] >= config.train.coarse.steps
        if stage == "fine" and not complete:
            console.info("no finished coarse stage: training it first")
        if complete:
            trainer.model.bake_canonical()
        else:
            trainer.train("coarse", last)
        last = None
        if stage == "coarse":
            return False
        if config.train.lips.warmup_steps:
            _warm_up(trainer)
    trainer.train("fine", last)
    return True


def _warm_up(trainer: Trainer) -> None:
    """Train the audio branch on the tracked lip motion, before the fine stage."""
    config, split = trainer.config, trainer.split
    torch.manual_seed(config.train.seed)
    score = warm_up_audio_branch(
        trainer.model.network,
        trainer.clip,
        trainer.dataset.mesh[0],
        split.train,
        split.validation,
        config.train.lips.warmup_steps,
        config.train.seed,
    )
    what = "the mouth code gives" if config.model.mouth == "code" else "audio predicts"
    console.info(f"{what} the lip motion with correlation {score:.2f} on held-out frames")


def _fit_voice(config: Config, dataset: Dataset, mouth: MouthCode, frames: np.ndarray) -> VoiceFit:
    """The mapping from the voice to the mouth code, fitted on the training frames."""
    encoder = config.data.encoder
    features = dataset.features(encoder)
    fit = fit_voice_to_mouth(features, dataset.bounds, mouth, frames, encoder)
    if fit is None:
        raise InputRejected(
            f"{dataset.path} has too few frames with a face to learn the voice from",
            "one second is needed",
            "Record some seconds of speech, or train with -o model.mouth=audio",
        )
    figures = _voice_figures(fit)
    console.info(
        "the voice predicts the mouth with correlation "
        f"{figures['lip_opening']:.2f} (opening), {figures['lip_width']:.2f} (width), "
        f"{figures['jaw_open']:.2f} (jaw) on parts of the clip that it has not seen"
    )
    if fit.mapping.audio_delay:
        console.warn(
            f"the audio of the clip comes about {fit.mapping.audio_delay / FPS:.2f} s after the "
            "mouth: the avatar's lips will be in step with other audio, not with this one"
        )
    return fit


def _fit_live_voice(
    config: Config, dataset: Dataset, mouth: MouthCode, frames: np.ndarray, delay: int
) -> VoiceFit | None:
    """The mapping from the features of the live encoder; None where the settings name none.

    delay: frames by which the clip's audio comes after its mouth. Raises as `FeatureStream`.
    """
    encoder = config.avatar.live_encoder
    if encoder in (NO_LIVE_ENCODER, config.data.encoder):
        return None
    FeatureStream(encoder)  # Raises where the encoder has no streaming form.
    segments = [(start, stop) for start, stop in dataset.segments]
    features = encode_segments(dataset.audio(), segments, encoder)
    fit = fit_voice_to_mouth(features, dataset.bounds, mouth, frames, encoder, delay)
    assert fit is not None, "the first mapping has been fitted on the same frames"
    opening = _voice_figures(fit)["lip_opening"]
    console.info(f"the same in live sessions ({encoder}): {opening:.2f} (opening)")
    return fit


def _voice_figures(fit: VoiceFit) -> dict[str, float]:
    """Correlation of each channel of the mouth code with its held-out prediction, by name."""
    names = fit.mapping.units.names
    return {
        name: round(float(value), 3) for name, value in zip(names, fit.correlation, strict=True)
    }


def finish_run(run: Run, config: Config, dataset: Dataset, clip: Clip, frames: np.ndarray) -> None:
    """Write the avatar of the best checkpoint and mark the run as finished.

    When the lip closure distillation is possible (on the training frames `frames`), the avatar is
    built from its result, which is saved as the checkpoint `closed`; `best` stays as it is.
    """
    best = run.load_best()
    assert best is not None, run.path
    model = TalkingHead.from_state(config.model, best.state["audio_width"], best.model)

    # Lip closure distillation
    closed = False
    steps, seed = config.train.lips.closure_steps, config.train.seed
    if steps and config.model.mouth == "audio":
        network = model.network.to(clip.device)
        targets = lip_closure_targets(network, dataset, clip, frames, config.data.encoder, seed)
        if targets is not None:
            count = distil_lip_closure(network, targets, steps, seed)
            if count.total:
                console.info(
                    f"lip closures learnt: {count.learnt} of {count.total} (p, b, m in the "
                    "training audio)"
                )
            run.save("closed", model.state_dict(), best.state)
            closed = True
        network.cpu()

    voice = live_voice = None
    if config.model.mouth == "code":
        _fit_voices_to_face(run, model.to(clip.device), dataset, clip, frames)
        voice = VoiceToMouth.load(run.path / VOICE_FILE)
        if (run.path / LIVE_VOICE_FILE).is_file():
            live_voice = VoiceToMouth.load(run.path / LIVE_VOICE_FILE)
        model.cpu()
    with Progress("save avatar"):
        save_avatar(run.path / "avatar", model, config, dataset, clip, voice, live_voice)
    if config.avatar.bases and voice is not None:
        figures = add_bases(run.path, str(clip.device), seed=config.train.seed)
        run.update(bases={name: figures[name] for name in ("count", "variance", "psnr")})
    run.update(finished=True, best=best.state["best"], closed=closed)
    if clip.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(clip.device)
        run.update(peak_memory=peak)
        console.info(f"peak device memory {peak / 1e9:.1f} GB")


def _fit_voices_to_face(
    run: Run, model: TalkingHead, dataset: Dataset, clip: Clip, frames: np.ndarray
) -> None:
    """Correct the run's mappings from the voice by how far the face follows its mouth code.

    Without the landmark network, and for a face that it does not find, they stay as they are.
    """
    try:
        response = measure_face_response(model, clip, load_mouth_code(dataset), frames)
    except EnvironmentFault as error:
        console.warn(f"how far the face follows its mouth code is not measured: {error}")
        return
    if response is None:
        console.warn("no face was found on the rendered frames: the lips are not corrected")
        return
    for name in (VOICE_FILE, LIVE_VOICE_FILE):
        if (run.path / name).is_file():
            response.corrected(VoiceToMouth.load(run.path / name)).save(run.path / name)
    run.update(
        face_response={
            "opening": round(response.opening, 3),
            "width": round(response.width, 3),
            "closes": response.closes,
            "of": CLOSED_PROBES,
        }
    )
    console.info(
        f"lips close in {response.closes} of {CLOSED_PROBES} tries; they move "
        f"{response.opening:.0%} "
        f"as far as they are told in height, {response.width:.0%} in width, which is made up for"
    )


def _new_model(config: Config, dataset: Dataset, clip: Clip, frames: np.ndarray) -> TalkingHead:
    """An untrained model for the clip, whose initial cloud is taken from `frames`."""
    count, seed = config.data.initial_gaussians, config.train.seed
    points, colours = initial_cloud(dataset, clip, frames, count, seed, config.data.bfm)
    width, channels = clip.features.shape[2], len(clip.channels)
    return untrained_model(config, width, points, colours, channels).to(clip.device)


def _model_of_checkpoint(config: Config, clip: Clip, last: Checkpoint) -> TalkingHead:
    """The model of a checkpoint; raises InputRejected when it does not fit the clip."""
    width, channels = clip.features.shape[2], len(clip.channels)
    if last.state["audio_width"] != width:
        raise InputRejected(
            f"the checkpoint was trained on {last.state['audio_width']}-wide speech features",
            f"the dataset's are {width} wide",
            "Train a new run with --fresh",
        )
    try:
        model = TalkingHead.from_state(config.model, width, last.model)
    except ModelMismatch as error:
        raise InputRejected(
            "the checkpoint does not fit the config of its run",
            str(error),
            "Train a new run with --fresh",
        ) from error
    if model.network.expression_width not in (1, channels):
        raise InputRejected(
            f"the checkpoint has {model.network.expression_width} expression channels",
            f"the dataset has {channels}",
            "Train a new run with --fresh",
        )
    return model.to(clip.device)


def run_to_continue(stage: str) -> Path | None:
    """The most recent run when `train --stage fine` without a dataset continues it, else None.

    That is the case unless its fine stage is complete, `stage` is "coarse", or it cannot be read or
    this version refuses its config (with a warning).
    """
    latest = newest_folder(home() / "runs", "run.json")
    if latest is None or stage == "coarse":
        return None
    run = _run_or_warning(latest)
    if run is None or run.record.get("finished") or _config_or_warning(run) is None:
        return None
    return latest


def find_unfinished_run(folder: Path, dataset: Dataset, config: Config, label: str) -> Run | None:
    """The newest unfinished run of this dataset and config under `folder`, or None.

    A run that cannot be read, or whose config this version refuses, is skipped with a warning.
    """
    for path in sorted((folder / dataset.name).glob(f"*_{label}"), reverse=True):
        if not (path / "run.json").is_file():
            continue
        run = _run_or_warning(path)
        if run is None or run.record.get("finished") or not _is_of_dataset(run, dataset):
            continue
        found = _config_or_warning(run)
        if found is not None and found.to_dict() == config.to_dict():
            return run
    return None


def _run_or_warning(path: Path) -> Run | None:
    """The run at `path`; None, with a warning, when it cannot be read."""
    try:
        return Run.open(path)
    except InputRejected as error:
        console.warn(f"run {path} is not continued: {error}")
        return None


def _is_of_dataset(run: Run, dataset: Dataset) -> bool:
    """Whether a run is trained on this dataset; a warning where that cannot be told."""
    try:
        return run.dataset == dataset.path.resolve()
    except InputRejected as error:
        console.warn(f"run {run.path} is not continued: {error}")
        return False


def _config_or_warning(run: Run) -> Config | None:
    """The config of a run; None, with a warning, when it cannot be read or is refused."""
    try:
        return run.config
    except (UsageError, InputRejected) as error:
        console.warn(f"run {run.path} is not continued: {error}")
        return None

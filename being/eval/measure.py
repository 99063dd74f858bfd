"""`measure()`: a run on its held-out frames -> fidelity of the pictures, and whether the lips follow the sound.

Target: the raw frame at training resolution. The render is rounded to 8 bits, as a video shows it, and lies over the
frame's own torso plate (the family's protocol). What drives it: windows of speech features, blink and camera; nothing
of the true mouth enters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.config import Config
from being.conventions import FPS
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.eval.lips import BLOCK, LAGS, LipReader, agreement, shuffled
from being.eval.lpips import Lpips
from being.model.talking_head import TalkingHead
from being.progress import Progress, warn
from being.train.losses import ssim_map
from being.train.preview import psnr, render_clip, to_uint8
from being.train.run import Run

PARTS = ("train", "validation", "test")
SHUFFLE_SEED = 0
INPUTS = "windows of speech features, blink, camera; no jaw, lip or mouth channel of the true frame"
WHOLE = "the family's protocol: the frame's own torso plate behind"
HEAD = "box of the head mask grown by a tenth"
SHORT_HINT = ("lips are measured on 1/11 of the clip, a few syllables: for the figure that counts, train with "
              "data.holdout=0.2")
Sink = Callable[[np.ndarray, np.ndarray], None]  # (true, rendered), uint8 [S, S, 3] each, frame after frame


@dataclass(frozen=True)
class Subject:
    """What is measured: a checkpoint of a run, with the frames of one part of its clip."""

    run: Run
    config: Config
    dataset: Dataset
    model: TalkingHead
    clip: Clip  # pictures of `frames` only
    frames: np.ndarray  # [F] int64, ascending
    part: str
    state: dict[str, Any]  # of the checkpoint
    checkpoint: str

    def true(self, frame: int) -> np.ndarray:
        """The raw frame uint8 [S, S, 3]."""
        return self.clip.frames[frame].permute(1, 2, 0).cpu().numpy()

    def render(self, frames: np.ndarray, heard: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Rendered pictures uint8 [S, S, 3] of `frames`, with the sound of the frames `heard` or their own."""
        for picture in render_clip(self.model, self.clip, frames, self.state["stage"], heard):
            yield to_uint8(picture)


@dataclass(frozen=True)
class Measured:
    """Figures of a run, and the series over its frames behind them."""

    figures: dict[str, Any]  # JSON types; what `being eval --json` prints
    fidelity: dict[str, np.ndarray]  # float64 [F] a measure, "whole.psnr" to "head.lpips"; NaN where there is none
    apertures: dict[str, np.ndarray]  # float32 [F]: "true", "rendered", "shuffled"; empty without lip measures


def evaluate_run(run: Run, *, part: str = "test", lips: bool = True, device: str = "cpu") -> dict[str, Any]:
    """Figures of the run's best checkpoint on the frames of `part` ("train", "validation", "test"); see `measure`."""
    return measure(open_subject(run, part, device), lips).figures


def open_subject(run: Run, part: str = "test", device: torch.device | str = "cpu") -> Subject:
    """The run's best checkpoint (without one its last) and the pictures of `part`, on `device`.

    Raises UsageError for an unknown part, InputRejected for a run without checkpoint or one that does not fit its data.
    """
    if part not in PARTS:
        raise UsageError(f"unknown part '{part}'", fix=f"One of {', '.join(PARTS)}")
    name, checkpoint = "best", run.load("best")
    if checkpoint is None:
        name, checkpoint = "last", run.load("last")
    if checkpoint is None:
        raise InputRejected(f"{run.path} has no checkpoint yet", fix="Train it further: the same command goes on")
    config, dataset = run.config, Dataset.open(run.dataset)
    frames = getattr(dataset.split(config.data.holdout), part)
    if not len(frames):
        raise InputRejected(f"the {part} part of {dataset.path} is empty", f"the clip has {dataset.frames} frames")
    clip = load_clip(dataset, config.data.size, config.data.encoder, device, frames, config.data.expression)
    width = checkpoint.state["audio_width"]
    if clip.features.shape[2] != width:
        raise InputRejected(f"{run.path} was trained on {width}-wide speech features",
                            f"those of {dataset.path} are {clip.features.shape[2]} wide", "Train afresh with --fresh")
    try:
        model = TalkingHead.from_state(config.model, width, checkpoint.model).to(clip.device).eval()
    except (RuntimeError, KeyError, AssertionError) as error:
        raise InputRejected(f"checkpoint {name} of {run.path} does not fit its config",
                            (str(error).splitlines() or [type(error).__name__])[0]) from error
    return Subject(run, config, dataset, model.requires_grad_(False), clip, frames, part, checkpoint.state, name)


def measure(subject: Subject, lips: bool = True, sink: Sink | None = None) -> Measured:
    """Fidelity on the whole frame and the head box, and lip agreement with the truth, over all frames of the subject.

    Every figure is taken per frame and averaged. `sink` is given each pair of pictures in turn. Where LPIPS or the
    landmarker cannot be had its figures are None and the reason stands beside them.
    """
    lpips, lpips_reason = _or_reason(Lpips, subject.clip.device)
    reader, lips_reason = _or_reason(LipReader) if lips else (None, "not asked for")
    if reader is not None and subject.state["stage"] == "coarse":
        reader, lips_reason = None, "the coarse stage does not hear the sound"
    rows: list[dict[str, float]] = []
    apertures: dict[str, list[np.ndarray]] = {"true": [], "rendered": [], "shuffled": []} if reader else {}
    heard = shuffled(subject.frames, SHUFFLE_SEED)
    passes = 5 if reader else 1  # rendered and compared; rendered to shuffled sound; lips read in three series
    with Progress("evaluate", passes * len(subject.frames), "steps") as progress:
        for start in range(0, len(subject.frames), BLOCK):  # pictures of one block at a time: memory stays flat
            block, sound = (numbers[start:start + BLOCK] for numbers in (subject.frames, heard))
            pictures = {"true": [subject.true(i) for i in block], "rendered": [], "shuffled": []}
            for i, true, made in zip(block, pictures["true"], subject.render(block), strict=True):
                pictures["rendered"].append(made)
                rows.append(fidelity(made, true, subject.clip.boxes[i].tolist(), lpips, subject.clip.device))
                if sink:
                    sink(true, made)
                progress.advance(1, f"whole-frame PSNR {np.mean([row['whole.psnr'] for row in rows]):.2f} dB")
            if not reader:
                continue
            for made in subject.render(block, sound):
                pictures["shuffled"].append(made)
                progress.advance()
            for key, series in apertures.items():
                series.append(reader.apertures(np.stack(pictures[key])))
                progress.advance(len(block))
    fidelities = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    lip_series = {key: np.concatenate(values) for key, values in apertures.items()}
    return Measured(_figures(subject, fidelities, lip_series, lpips_reason, lips_reason), fidelities, lip_series)


@torch.no_grad()
def fidelity(picture: np.ndarray, true: np.ndarray, box: list[int], lpips: Lpips | None,
             device: torch.device | str = "cpu") -> dict[str, float]:
    """PSNR in dB, SSIM and LPIPS of one frame, whole ("whole.") and in its head box ("head.", NaN for an empty one).

    picture, true: uint8 [S, S, 3]; box: top, bottom, left, right in px. SSIM (Wang et al. 2004, window 11) of the box
    is the whole frame's map averaged inside; LPIPS of the box is that of the cut-out.
    """
    a, b = (torch.from_numpy(x).to(device).permute(2, 0, 1)[None].float() / 255 for x in (picture, true))
    similarity = ssim_map(a, b)
    top, bottom, left, right = box

    def three(name: str, one: Tensor, other: Tensor, similar: Tensor) -> dict[str, float]:
        if not one.numel():
            return dict.fromkeys((f"{name}.psnr", f"{name}.ssim", f"{name}.lpips"), float("nan"))
        return {f"{name}.psnr": psnr(one, other), f"{name}.ssim": float(similar.mean()),
                f"{name}.lpips": float("nan") if lpips is None else float(lpips(one, other))}

    inside = (..., slice(top, bottom), slice(left, right))
    return {**three("whole", a, b, similarity), **three("head", a[inside], b[inside], similarity[inside])}


def _figures(subject: Subject, series: dict[str, np.ndarray], apertures: dict[str, np.ndarray], lpips_reason: str,
             lips_reason: str) -> dict[str, Any]:
    holdout, count, size = subject.config.data.holdout, len(subject.frames), subject.clip.size
    held = f"last {holdout:.0%} of the clip held out" if holdout > 0 else "family split 9/11, 1/11, 1/11"
    figures: dict[str, Any] = {
        "run": str(subject.run.path), "dataset": subject.dataset.name, "checkpoint": subject.checkpoint,
        "stage": subject.state["stage"], "step": subject.state["step"],
        "part": subject.part, "split": held, "first_frame": int(subject.frames[0]), "frames": count,
        "seconds": count / FPS, "size": size, "target": f"raw frame at {size}x{size} px, the training resolution",
        "inputs": INPUTS, "averaging": "each figure per frame, then the mean",
        "whole": {"protocol": WHOLE, **{k: _mean(series[f"whole.{k}"]) for k in ("psnr", "ssim", "lpips")}},
        "head": {"protocol": HEAD, **{k: _mean(series[f"head.{k}"]) for k in ("psnr", "ssim", "lpips")},
                 "frames_without_box": int(np.isnan(series["head.psnr"]).sum())},
        "lpips_reason": lpips_reason, "lips": None, "lips_reason": lips_reason}
    if apertures:
        segment = subject.dataset.bounds[subject.frames, 0]
        own, other = (agreement(apertures["true"], apertures[key], segment) for key in ("rendered", "shuffled"))
        figures["lips"] = {**asdict(own), "shuffled_correlation": other.correlation, "shuffled_misses": other.misses,
                           "shuffled_chance": own.frames**-0.5 if own.frames else None,
                           "measure": "lip aperture, inner-lip over outer-eye distance of 478-point landmarks, found "
                                      "on raw and rendered frames alike; Pearson at lag 0",
                           "lag_sign": f"positive: the rendered mouth is late; sought within {LAGS} frames",
                           "misses_rule": "a missed rendered frame takes the mean of the found ones",
                           "shuffled": "every frame hears another frame of the part, seed "
                                       f"{SHUFFLE_SEED}; pose and blink stay, so this is what they alone explain"}
        if holdout <= 0 and subject.part == "test":
            figures["lips"]["hint"] = SHORT_HINT
    return figures


def _mean(values: np.ndarray) -> float | None:
    """Mean over the frames that have the figure; None when none has."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else None


def _or_reason(make: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What `make` gives, or None and why this machine cannot give it."""
    try:
        return make(*arguments), ""
    except EnvironmentFault as error:
        warn(error.message())
        return None, error.message()

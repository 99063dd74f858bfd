"""`measure()`: a run on its held-out frames -> fidelity of the pictures, and how far the face does
as the true one.

Target: the raw frame at training resolution. The render is rounded to 8 bits, as a video shows it,
and lies over the frame's own torso plate (the family's protocol). What drives it: windows of speech
features, camera, and the expression of the upper face; nothing of the true mouth enters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from being.audio.feature_windows import SAMPLES_PER_FRAME
from being.config import Config, load
from being.console import Progress, warn
from being.conventions import FPS
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.eval.evaluator import Evaluator, Measured
from being.eval.faces import BLOCK
from being.eval.lips import ORDERS, fair_order
from being.eval.regions import region_boxes
from being.eval.speech import Mouth, heard, mouth_figures
from being.face.landmarks import lip_aperture
from being.media import read_audio
from being.model.clip_rendering import render_clip, to_uint8
from being.model.talking_head import TalkingHead
from being.runs.run_directory import Run

PARTS = ("train", "validation", "test")
MEASURED_WITH = (
    "data.size",
    "data.holdout",
)  # settings of a run in place of which a measurement may have others
INPUTS = (
    "windows of speech features, camera, expression of the upper face; no jaw, lip or mouth channel of the true "
    "frame"
)
PLATE = "the family's protocol: the frame's own torso plate behind"
SHORT_HINT = (
    "lips are measured on 1/11 of the clip, a few syllables: for the figure that counts, train with "
    "data.holdout=0.2"
)
Sink = Callable[
    [np.ndarray, np.ndarray], None
]  # (true, rendered), uint8 [S, S, 3] each, frame after frame


@dataclass(frozen=True)
class Subject:
    """What is measured: a checkpoint of a run, with the frames of one part of its clip."""

    run: Run
    config: Config  # the run's; size and held-out share as measured
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
        """Rendered pictures uint8 [S, S, 3] of `frames`, with the sound of the frames `heard` or
        their own.
        """
        for picture in render_clip(self.model, self.clip, frames, self.state["stage"], heard):
            yield to_uint8(picture)

    def pairs(self, places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """True and rendered pictures uint8 [S, S, 3] of the frames at `places` [n] of the part."""
        chosen = self.frames[places]
        return [
            (self.true(int(i)), made) for i, made in zip(chosen, self.render(chosen), strict=True)
        ]


def evaluate_run(
    run: Run, *, part: str = "test", lips: bool = True, device: str = "cpu"
) -> dict[str, Any]:
    """Figures of the checkpoint that the run's avatar is made of, on the frames of `part` ("train",
    "validation", "test"); see `measure`."""
    return measure(open_subject(run, part, device), lips).figures


def open_subject(
    run: Run,
    part: str = "test",
    device: torch.device | str = "cpu",
    most: int | None = None,
    override: Sequence[str] = (),
) -> Subject:
    """The checkpoint that the run's avatar is made of (`Run.chosen`) and the pictures of `part`, on
    `device`; of its first `most` frames where that is given. override: "data.size=512" and the like
    (MEASURED_WITH) in place of the run's settings.

    Raises UsageError for an unknown part or setting, InputRejected for a run without checkpoint or
    one that does not fit its data.
    """
    if part not in PARTS:
        raise UsageError(f"unknown part '{part}'", fix=f"One of {', '.join(PARTS)}")
    chosen = run.chosen()
    if chosen is None:
        raise InputRejected(
            f"{run.path} has no checkpoint yet", fix="Train it further: the same command goes on"
        )
    name, checkpoint = chosen
    config, dataset = settings(run, override), Dataset.open(run.dataset)
    frames = getattr(dataset.split(config.data.holdout, config.data.seconds), part)[:most]
    learnt = dataset.split(run.config.data.holdout, run.config.data.seconds).train
    known = int(np.isin(frames, learnt).sum())
    if known and part != "train":
        warn(
            f"{known} of the {len(frames)} frames of the {part} part were trained on: the run held out "
            f"{split_name(run.config.data.holdout)}"
        )
    if not len(frames):
        raise InputRejected(
            f"the {part} part of {dataset.path} is empty",
            f"the clip has {dataset.frames} frames",
            "Choose another with --part",
        )
    clip = load_clip(
        dataset,
        config.data.size,
        config.data.encoder,
        device,
        index=frames,
        kind=config.data.expression,
    )
    width = checkpoint.state["audio_width"]
    if clip.features.shape[2] != width:
        raise InputRejected(
            f"{run.path} was trained on {width}-wide speech features",
            f"those of {dataset.path} are {clip.features.shape[2]} wide",
            "Train afresh with --fresh",
        )
    try:
        model = TalkingHead.from_state(config.model, width, checkpoint.model).to(clip.device).eval()
    except (RuntimeError, KeyError, AssertionError) as error:
        raise InputRejected(
            f"checkpoint {name} of {run.path} does not fit its config",
            (str(error).splitlines() or [type(error).__name__])[0],
            "Train again",
        ) from error
    return Subject(
        run,
        config,
        dataset,
        model.requires_grad_(False),
        clip,
        frames,
        part,
        checkpoint.state,
        name,
    )


def settings(run: Run, override: Sequence[str] = ()) -> Config:
    """The run's config with `override` in place of its own. Raises UsageError for what says nothing
    of measuring.
    """
    for item in override:
        if item.partition("=")[0].strip() not in MEASURED_WITH:
            raise UsageError(
                f"-o {item} says nothing about measuring",
                "all else is as the run was trained",
                f"What can be set: {', '.join(MEASURED_WITH)}",
            )
    return (
        load(run.path / "config.yaml", list(override), environment={}) if override else run.config
    )


def split_name(holdout: float) -> str:
    """What a share `data.holdout` holds out, in words."""
    return (
        f"the last {holdout:.0%} of the clip"
        if holdout > 0
        else "the family's share, 1/11 and 1/11"
    )


def measure(
    subject: Subject, lips: bool = True, sink: Sink | None = None, download: bool = False
) -> Measured:
    """Fidelity on the whole frame and in the boxes of head, face, mouth, eyes and brows; lips,
    upper face, steadiness and identity against the truth; and what the mouth does at what is said:
    over all frames of the subject.

    Every figure is taken per frame and averaged. `sink` is given each pair of pictures in turn.
    lips: whether faces are looked at at all; download: whether the network of the identity measure
    is fetched where it is missing. What cannot be had is None and the reason stands beside it.
    """
    coarse = subject.state["stage"] == "coarse"
    ruler = Evaluator(
        subject.clip.device,
        lips and not coarse,
        download,
        "the coarse stage does not hear the sound" if lips else "not asked for",
    )
    size, scale = subject.clip.size, subject.clip.size / subject.dataset.height
    boxes = {
        "head": subject.clip.boxes.cpu().numpy(),
        **region_boxes(subject.dataset.landmarks * scale, size, size),
    }
    heard_frames, by_chance = fair_order(
        subject.frames, lip_aperture(subject.dataset.landmarks)[subject.frames]
    )
    passes = (
        3 if ruler.reader else 1
    )  # rendered and compared; rendered to shuffled sound; faces followed
    with Progress("evaluate", passes * len(subject.frames), "steps") as progress:
        for start in range(
            0, len(subject.frames), BLOCK
        ):  # pictures of one block at a time: memory stays flat
            block, sound = (
                numbers[start : start + BLOCK] for numbers in (subject.frames, heard_frames)
            )
            true, made = [subject.true(int(i)) for i in block], []
            for i, picture in zip(block, subject.render(block), strict=True):
                made.append(picture)
                ruler.pictures(
                    picture, true[len(made) - 1], {name: box[i] for name, box in boxes.items()}
                )
                if sink:
                    sink(true[len(made) - 1], picture)
                progress.advance(
                    1,
                    f"whole-frame PSNR {np.mean([row['whole.psnr'] for row in ruler.rows]):.2f} dB",
                )
            if not ruler.reader:
                continue
            other = []
            for picture in subject.render(block, sound):
                other.append(picture)
                progress.advance()
            ruler.faces(*(np.stack(pictures) for pictures in (true, made, other)))
            progress.advance(len(block))
    measured = ruler.measured(subject.dataset.bounds[subject.frames, 0])
    figures = {**_facts(subject), **measured.figures, "speech": _at_what_is_said(subject, measured)}
    if figures["lips"]:
        figures["lips"] |= {
            "shuffled": f"every frame hears another frame of the part, in the one of {ORDERS} random orders in which "
            "the true mouth goes least with itself; pose and upper face stay, so this is what they alone "
            "explain",
            "shuffled_truth": by_chance,
        }
        if subject.config.data.holdout <= 0 and subject.part == "test":
            figures["lips"]["hint"] = SHORT_HINT
    return Measured(figures, measured.series, measured.boxes)


def part_sound(dataset: Dataset, frames: np.ndarray) -> np.ndarray:
    """Sound float32 [T] at 16 kHz under `frames`, one after the other."""
    return clip_sound(dataset).reshape(dataset.frames, -1)[frames].reshape(-1)


def clip_sound(dataset: Dataset) -> np.ndarray:
    """The clip's sound float32 [640 F] at 16 kHz."""
    sound = read_audio(dataset.sound_file)[: dataset.frames * SAMPLES_PER_FRAME]
    return np.pad(sound, (0, dataset.frames * SAMPLES_PER_FRAME - len(sound)))


def real_mouth(dataset: Dataset) -> tuple[Mouth | None, np.ndarray]:
    """How the mouth of the real footage moves, and its lip aperture float32 [F] over the whole
    clip.
    """
    aperture = lip_aperture(dataset.landmarks)
    return Mouth.of(aperture, dataset.bounds[:, 0]), aperture


def real_speech(dataset: Dataset) -> dict[str, Any] | None:
    """`mouth_figures` of the real footage over the whole clip: what an avatar of it is held
    against.
    """
    mouth, aperture = real_mouth(dataset)
    said = heard(clip_sound(dataset))
    return mouth_figures(aperture, said, mouth, dataset.bounds[:, 0]) if mouth else None


def _at_what_is_said(subject: Subject, measured: Measured) -> dict[str, Any] | None:
    """What rendered and true mouth do at what is said in the part, and the real one in the whole
    clip.
    """
    mouth, _ = real_mouth(subject.dataset)
    if mouth is None or "aperture.true" not in measured.series:
        return None
    said, segment = (
        heard(part_sound(subject.dataset, subject.frames)),
        subject.dataset.bounds[subject.frames, 0],
    )
    figures: dict[str, Any] = {
        key: mouth_figures(measured.series[f"aperture.{key}"], said, mouth, segment)
        for key in ("rendered", "true")
    }
    return {**figures, "footage": real_speech(subject.dataset)}


def _facts(subject: Subject) -> dict[str, Any]:
    holdout, count, size = subject.config.data.holdout, len(subject.frames), subject.clip.size
    held = (
        f"last {holdout:.0%} of the clip held out"
        if holdout > 0
        else "family split 9/11, 1/11, 1/11"
    )
    trained = subject.run.config.data.size
    which = "the training resolution" if size == trained else f"trained at {trained}"
    return {
        "run": str(subject.run.path),
        "dataset": subject.dataset.name,
        "checkpoint": subject.checkpoint,
        "stage": subject.state["stage"],
        "step": subject.state["step"],
        "part": subject.part,
        "split": held,
        "first_frame": int(subject.frames[0]),
        "frames": count,
        "seconds": count / FPS,
        "size": size,
        "target": f"raw frame at {size}x{size} px, {which}",
        "inputs": INPUTS,
        "plate": PLATE,
        "averaging": "each figure per frame, then the mean",
    }

"""Measurement of a run: its frames rendered and compared with the true ones.

Target: the raw frame at training resolution. The rendered frame is rounded to 8 bits, as a video
shows it, and lies over the frame's own torso plate (the protocol of the GaussianTalker family).
The face is driven by windows of speech features, the camera, and the expression of the upper face.
Nothing of the true mouth is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from being.console import Progress
from being.conventions import FPS
from being.eval.evaluator import Evaluator, Measurement
from being.eval.footage import footage_figures, footage_mouth, frames_audio
from being.eval.lips import RANDOM_ORDERS, decorrelated_order
from being.eval.measured_run import MeasuredRun, held_out_phrase, open_measured_run
from being.eval.mouth_figures import mouth_figures
from being.eval.regions import region_boxes
from being.eval.speech_events import recognised_events
from being.face.face_reader import BLOCK_FRAMES
from being.face.landmarks import lip_aperture
from being.runs.run_directory import Run
from being.threads import use_free_cores

INPUTS = (
    "windows of speech features, camera, expression of the upper face; no jaw, lip or mouth "
    "channel of the true frame"
)
PLATE = "the GaussianTalker family's protocol: the frame's own torso plate behind the head"
SHUFFLED = (
    "every frame gets the audio of another frame of the part, in the one of "
    f"{RANDOM_ORDERS} random orders in which the true mouth correlates least with itself; pose and "
    "upper face stay, so this is what they alone explain"
)
SHORT_HINT = (
    "lips are measured on 1/11 of the clip, a few syllables: for a reliable figure, train with "
    "data.holdout=0.2"
)
# Receives (true, rendered) images uint8 [S, S, 3], frame after frame.
FrameSink = Callable[[np.ndarray, np.ndarray], None]


def evaluate_run(
    run: Run, *, part: str = "test", lips: bool = True, device: str = "cpu"
) -> dict[str, Any]:
    """Figures of the checkpoint that the run's avatar is made of, on the frames of `part` ("train",
    "validation", "test"); see `measure_run`.
    """
    return measure_run(open_measured_run(run, part, device), lips).figures


def measure_run(
    measured: MeasuredRun,
    lips: bool = True,
    sink: FrameSink | None = None,
    download: bool = False,
) -> Measurement:
    """All figures of the measured frames: image fidelity of the whole frame and of the boxes of
    head, face, mouth, eyes and brows; lips, upper face, steadiness and identity; mouth at phonemes.

    Every figure is computed per frame and averaged. What cannot be measured is None, with the
    reason beside it.

    lips: whether faces are measured at all; sink: receives each pair of images; download: whether
    the network of the identity measure is downloaded where it is missing.
    """
    coarse = measured.state["stage"] == "coarse"
    evaluator = Evaluator(
        measured.clip.device,
        lips and not coarse,
        download,
        "the coarse stage does not use the audio" if lips else "not asked for",
    )
    order, order_correlation = decorrelated_order(
        measured.frames, lip_aperture(measured.dataset.landmarks)[measured.frames]
    )
    _compare_frames(measured, evaluator, order, sink)
    result = evaluator.measurement(measured.dataset.bounds[measured.frames, 0])

    figures = {
        **_run_facts(measured),
        **result.figures,
        "speech": _phoneme_figures(measured, result),
    }
    if figures["lips"]:
        figures["lips"] |= {"shuffled": SHUFFLED, "shuffled_truth": order_correlation}
        if measured.config.data.holdout <= 0 and measured.part == "test":
            figures["lips"]["hint"] = SHORT_HINT
    return Measurement(figures, result.series, result.boxes, result.landmarks)


def _compare_frames(
    measured: MeasuredRun, evaluator: Evaluator, order: np.ndarray, sink: FrameSink | None
) -> None:
    """Render all frames and give them to the evaluator; `order`: the frames whose audio is used for
    the shuffled rendering.
    """
    size, scale = measured.clip.size, measured.clip.size / measured.dataset.height
    boxes = {
        "head": measured.clip.boxes.cpu().numpy(),
        **region_boxes(measured.dataset.landmarks * scale, size, size),
    }
    # Passes: render and compare; with faces also render with shuffled audio, and track the faces.
    passes = 3 if evaluator.reader else 1
    with Progress("evaluate", passes * len(measured.frames), "steps") as progress:
        # Only the images of one block are held, so memory does not grow with the clip.
        for start in range(0, len(measured.frames), BLOCK_FRAMES):
            block = measured.frames[start : start + BLOCK_FRAMES]
            true = [measured.true_frame(int(i)) for i in block]
            rendered = []
            for i, true_image, image in zip(block, true, measured.render(block), strict=True):
                use_free_cores()
                rendered.append(image)
                evaluator.add_frame(
                    image, true_image, {name: box[i] for name, box in boxes.items()}
                )
                if sink:
                    sink(true_image, image)
                progress.advance(1, f"whole-frame PSNR {evaluator.mean_psnr():.2f} dB")
            if not evaluator.reader:
                continue

            shuffled = []
            for image in measured.render(block, order[start : start + BLOCK_FRAMES]):
                use_free_cores()
                shuffled.append(image)
                progress.advance()
            evaluator.add_faces(np.stack(true), np.stack(rendered), np.stack(shuffled))
            progress.advance(len(block))


def _phoneme_figures(measured: MeasuredRun, result: Measurement) -> dict[str, Any] | None:
    """`mouth_figures` of the rendered and the true mouth in the part, and of the whole footage."""
    mouth = footage_mouth(measured.dataset)
    if mouth is None or "aperture.true" not in result.series:
        return None
    events = recognised_events(frames_audio(measured.dataset, measured.frames))
    segment = measured.dataset.bounds[measured.frames, 0]
    figures: dict[str, Any] = {
        key: mouth_figures(result.series[f"aperture.{key}"], events, mouth, segment)
        for key in ("rendered", "true")
    }
    return {**figures, "footage": footage_figures(measured.dataset)}


def _run_facts(measured: MeasuredRun) -> dict[str, Any]:
    """What was measured: run, checkpoint, frames, target, inputs."""
    holdout = measured.config.data.holdout
    split = f"{held_out_phrase(holdout, measured.config.data.fold)} held out"
    if holdout <= 0:
        split = "family split 9/11, 1/11, 1/11"
    size, trained_size = measured.clip.size, measured.run.config.data.size
    resolution = "the training resolution" if size == trained_size else f"trained at {trained_size}"
    count = len(measured.frames)
    return {
        "run": str(measured.run.path),
        "dataset": measured.dataset.name,
        "checkpoint": measured.checkpoint,
        "stage": measured.state["stage"],
        "step": measured.state["step"],
        "part": measured.part,
        "split": split,
        "first_frame": int(measured.frames[0]),
        "frames": count,
        "seconds": count / FPS,
        "size": size,
        "target": f"raw frame at {size}x{size} px, {resolution}",
        "inputs": INPUTS,
        "plate": PLATE,
        "averaging": "each figure per frame, then the mean",
    }

"""The functions behind `being eval`: measure, write the report, check the quality gates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from being.config import Config
from being.console import console
from being.conventions import FPS
from being.errors import InputRejected
from being.eval.cross_driven import DrivenClip, cross_driven, expand_sources
from being.eval.evaluator import Measurement
from being.eval.footage import frames_audio
from being.eval.gates import check_bounds, parse_bounds
from being.eval.measured_run import open_measured_run
from being.eval.pair_evaluation import VideoPair, measure_pair, pair_audio
from being.eval.report_files import FILES, ReportVideos, report_folder, write_report
from being.eval.report_page import ReportContent
from being.eval.report_sheets import psnr_sheet, worst_frames_sheet
from being.eval.report_tables import terminal_lines
from being.eval.run_evaluation import measure_run
from being.eval.syncnet import PROTOCOL, SyncNet
from being.media.writing import FileMarks
from being.model.device import pick_device
from being.paths import check_not_input, cut_name, free_names, home
from being.provenance.file_marks import file_marks
from being.provenance.mark import Mark
from being.reading.structured import read_json
from being.runs.run_directory import Run

STEM_BYTES = 100  # of each video's name in the name of their report
VIDEO_NOTE = "Left the true frame, right the rendered one"


def evaluate(
    run_path: Path | None = None,
    *,
    part: str = "test",
    lips: bool = True,
    device: str = "auto",
    cross: Sequence[str] = (),
    require: str = "",
    frames: int | None = None,
    identity: bool = False,
    override: Sequence[str] = (),
    rasterizer: str = "auto",
    syncnet: Path | None = None,
    deform: str = "network",
) -> dict[str, Any]:
    """Figures of the run at `run_path` (default: the most recent one), and "files": the paths of
    its report.

    cross: audio files and voices that the avatar also speaks (`expand_sources`); require: bounds
    (`parse_bounds`); frames: measure only the first so many frames of the part; identity: download
    the network of that measure; override: settings instead of the run's, and deform: "network" or
    "bases" (`open_measured_run`); syncnet: weights of SyncNet, for Sync-C and Sync-D.

    Writes `<run>/eval/` for the test part, `<run>/eval_<part>/` for another one, and
    `<run>/eval_size512/`, `<run>/eval_bases/` and the like with other settings; the folder appears
    whole or not at all.

    Raises UsageError, InputRejected, EnvironmentFault as `open_measured_run`, `cross_driven` and
    `Run.find` do; BeingError for a folder that cannot be made, and with exit code 5, after
    everything is written, for a bound that was missed.
    """
    bounds, sources = parse_bounds(require), expand_sources(cross)
    run = Run.find(run_path)
    console.info(f"run {run.path}")
    network = None if syncnet is None else SyncNet(syncnet)
    if sources and not (run.path / "avatar/manifest.json").is_file():
        raise InputRejected(
            f"{run.path} has no avatar yet",
            "only a finished run can speak other audio",
            f"Train it to its end: being train --run {run.path}",
        )
    measured = open_measured_run(
        run, part, pick_device(device), frames, override, rasterizer, deform=deform
    )
    dataset, size = measured.dataset, measured.clip.size
    folder = run.path / _folder_name(part, run.config, measured.config, deform)
    check_not_input(folder, (Path(source) for source in sources))
    with report_folder(folder, "Move it away") as work:
        # Measure the held-out frames, and write them side by side.
        audio = frames_audio(dataset, measured.frames)
        marks = file_marks(Mark.of(dataset.manifest, None), note=VIDEO_NOTE)
        with ReportVideos(work, size, size, audio, marks) as videos:
            measurement = measure_run(measured, lips, videos.write, identity)
        figures = measurement.figures
        if network is not None:
            figures["syncnet"] = _sync_figures(
                network,
                measurement,
                lambda key: (
                    measured.render(measured.frames)
                    if key == "rendered"
                    else (measured.true_frame(int(i)) for i in measured.frames)
                ),
                audio,
            )

        # Let the avatar speak other audio.
        cross_figures: dict[str, Any] | None = None
        driven: list[DrivenClip] = []
        if sources:
            cross_figures, driven = cross_driven(
                run.path,
                dataset,
                sources,
                measured.clip.device,
                rasterizer=rasterizer,
                deform=deform,
            )
            figures["cross"] = cross_figures

        content = ReportContent(
            figures["dataset"],
            _run_sentences(run, figures),
            measurement,
            psnr_sheet(measurement, measured.image_pairs, measured.frames),
            worst_frames_sheet(measurement, measured.image_pairs, measured.frames),
            videos.short_video,
            cross_figures,
            driven,
        )
        _print_figures(
            figures,
            f"{part} part, {figures['frames']} frames, {figures['split']}; "
            f"target: {figures['target']}",
        )
        write_report(work, content, measured.frames)
    return _finish(folder, figures, bounds)


def evaluate_pair(
    pred: Path,
    truth: Path,
    *,
    out: Path | None = None,
    require: str = "",
    frames: int | None = None,
    identity: bool = False,
    syncnet: Path | None = None,
) -> dict[str, Any]:
    """Figures of the video `pred` against the true one `truth`, and "files": the paths of the
    report.

    Writes the folder `out`, by default `eval/<pred>_<truth>/` under BEING_HOME or the current
    folder. Other arguments as of `evaluate`. Raises as `measure_pair` and `evaluate` do.
    """
    bounds = parse_bounds(require)
    pair = VideoPair.open(pred, truth, frames)
    network = None if syncnet is None else SyncNet(syncnet)
    folder = out or _default_folder(pair)
    check_not_input(folder, [pair.pred, pair.truth])
    with report_folder(folder, "Choose another folder with --out") as work:
        audio = pair_audio(pair, frames or pair.frames_at_most())
        with ReportVideos(work, pair.width, pair.height, audio, FileMarks(VIDEO_NOTE)) as videos:
            measurement = measure_pair(pair, videos.write, identity)
        figures = measurement.figures
        if network is not None:
            figures["syncnet"] = _sync_figures(
                network,
                measurement,
                lambda key: (images[key == "rendered"] for images in pair.frames()),
                audio,
            )
        numbers = np.arange(figures["frames"])
        content = ReportContent(
            f"{Path(pred).name} against {Path(truth).name}",
            [
                f"{figures['pred']} against {figures['truth']}: {figures['frames']} frames at "
                f"{FPS} frames/s ({figures['seconds']:.1f} s), both from their first frame on. "
                f"Target: {figures['target']}."
            ],
            measurement,
            psnr_sheet(measurement, pair.image_pairs, numbers),
            worst_frames_sheet(measurement, pair.image_pairs, numbers),
            videos.short_video,
        )
        _print_figures(figures, f"{figures['frames']} frames; target: {figures['target']}")
        write_report(work, content, numbers)
    return _finish(folder, figures, bounds)


def _sync_figures(
    network: SyncNet,
    measurement: Measurement,
    images_of: Callable[[str], Iterable[np.ndarray]],
    audio: np.ndarray | None,
) -> dict[str, Any]:
    """SyncNet's figures of "rendered" and "true" frames, or the reasons why there are none.

    images_of: the images uint8 [H, W, 3] of one of the two, all frames in order; audio: at 16 kHz.
    """
    result: dict[str, Any] = {"protocol": PROTOCOL, "weights": network.weights}
    for key in ("rendered", "true"):
        faces = measurement.landmarks.get(key)
        if audio is None or faces is None:
            reason = "there is no audio" if audio is None else measurement.figures["lips_reason"]
            result |= {key: None, f"{key}_reason": reason}
            continue
        found, reason = network.figures(images_of(key), faces, audio)
        result |= {key: found, f"{key}_reason": reason}
    return result


def _folder_name(part: str, own: Config, used: Config, deform: str) -> str:
    """Name of the report's folder: "eval", the part unless it is "test", and changed settings."""
    words = ["eval"]
    if part != "test":
        words.append(part)
    for name in ("size", "holdout"):
        value = getattr(used.data, name)
        if value != getattr(own.data, name):
            words.append(f"{name}{value:g}")
    if deform != "network":
        words.append(deform)
    return "_".join(words)


def _run_sentences(run: Run, figures: dict[str, Any]) -> list[str]:
    """Sentences that say what was measured."""
    checkpoint = f"{figures['checkpoint']} ({figures['stage']} step {figures['step']})"
    frames = (
        f"{figures['frames']} frames from {figures['first_frame']} on ({figures['seconds']:.1f} s)"
    )
    return [
        f"Run {run.path.name}, checkpoint {checkpoint}. {figures['part'].capitalize()} part, "
        f"{frames}; {figures['split']}. Target: {figures['target']}; {figures['plate']}.",
        f"Inputs of the face: {figures['inputs']}.",
    ]


def _default_folder(pair: VideoPair) -> Path:
    """`eval/<pred>_<truth>/`, or with a number where that is the report of other videos."""
    name = f"{cut_name(pair.pred.stem, STEM_BYTES)}_{cut_name(pair.truth.stem, STEM_BYTES)}"
    for folder in free_names(home() / "eval" / name):
        try:
            earlier = read_json(folder / FILES[0])
        except InputRejected:
            return folder
        if [earlier.get("pred"), earlier.get("truth")] == [str(pair.pred), str(pair.truth)]:
            return folder
    raise AssertionError


def _print_figures(figures: dict[str, Any], what: str) -> None:
    """Print the figures, before the report is written: a full disk must not lose them."""
    console.info("\n".join([what, *terminal_lines(figures)]))


def _finish(folder: Path, figures: dict[str, Any], bounds: dict[str, float]) -> dict[str, Any]:
    """Print the path of the report; return the figures with its files. Raises BeingError where a
    bound was missed.
    """
    console.info(f"report {folder / 'report.html'}")
    files = {name.split(".")[0]: str(folder / name) for name in FILES}
    result = {**figures, "files": files}
    check_bounds(result, bounds)
    return result

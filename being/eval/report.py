"""`evaluate()`: a run's figures as `metrics.json`, `report.html`, a sheet of frames and a side-by-side video."""

from __future__ import annotations

import base64
import io
import shutil
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.audio.features import SAMPLES_PER_FRAME
from being.curves import curves
from being.data.dataset import Dataset, consent_note
from being.errors import BeingError
from being.eval.measure import Measured, Subject, measure, open_subject
from being.files import replace_folder, write_json
from being.media import VideoWriter, read_audio
from being.model.device import pick_device
from being.preprocess.sheet import frame_grid
from being.progress import say
from being.train.run import Run

FILES = ("metrics.json", "report.html", "sheet.jpg", "side_by_side.mp4")
VIDEO_NOTE = "Left the true frame, right the rendered one"
DIFFERENCE_GAIN = 4  # the sheet's third row shows absolute differences brightened so many times

STYLE = ("body{font:15px/1.45 sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1b1b1b}"
         "table{border-collapse:collapse}td{padding:.25em .9em .25em 0;border-bottom:1px solid #e4e4e4;"
         "vertical-align:top}td:nth-child(2){font-weight:600;white-space:nowrap}img,video,svg{max-width:100%}"
         ".note{color:#666}")


def evaluate(run_path: Path | None = None, *, part: str = "test", lips: bool = True,
             device: str = "auto") -> dict[str, Any]:
    """Figures of the run at `run_path` (the most recent one by default) with "files", the paths of its report.

    Writes `<run>/eval/` for the test part, `<run>/eval_<part>/` for another; the folder appears whole or not at all.
    Raises UsageError, InputRejected, EnvironmentFault as `measure` and `Run.find` do, BeingError for an output place
    that cannot be made.
    """
    run = Run.find(run_path)
    say(f"run {run.path}")
    subject = open_subject(run, part, pick_device(device))
    folder = run.path / ("eval" if part == "test" else f"eval_{part}")
    work = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    except OSError as error:
        raise BeingError(f"cannot write {folder}", str(error), "Make the run's folder writable") from error
    try:
        sound, size = part_sound(subject.dataset, subject.frames), subject.clip.size
        with VideoWriter(work / "side_by_side.mp4", 2 * size, size, sound=sound,
                         note=f"{VIDEO_NOTE}. {consent_note(subject.dataset.manifest.get('consent'))}") as video:
            measured = measure(subject, lips, lambda true, made: video.write(np.concatenate([true, made], 1)))
        write_report(work, subject, measured)
        replace_folder(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    held = measured.figures
    say("\n".join([f"{part} part, {held['frames']} frames, {held['split']}; target: {held['target']}",
                   *(f"  {name:18} {value}" for name, value, _ in table(held) if value),
                   f"report {folder / 'report.html'}"]))
    return {**held, "files": {name.split(".")[0]: str(folder / name) for name in FILES}}


def part_sound(dataset: Dataset, frames: np.ndarray) -> np.ndarray:
    """Sound float32 [T] at 16 kHz under `frames`, one after the other."""
    sound = read_audio(dataset.sound_file)
    sound = np.pad(sound, (0, max(0, dataset.frames * SAMPLES_PER_FRAME - len(sound))))
    return sound[:dataset.frames * SAMPLES_PER_FRAME].reshape(dataset.frames, -1)[frames].reshape(-1)


def write_report(folder: Path, subject: Subject, measured: Measured) -> None:
    """Write `metrics.json` (figures and their series), `sheet.jpg` and `report.html` into `folder`."""
    series = {**measured.fidelity, **{f"aperture.{k}": v for k, v in measured.apertures.items()}}
    per_frame = {key: [round(float(v), 5) if np.isfinite(v) else None for v in values]
                 for key, values in series.items()}
    write_json(folder / "metrics.json", {**measured.figures,
                                         "per_frame": {"frame": subject.frames.tolist(), **per_frame}})
    sheet = Image.fromarray(judged_frames(subject, measured))
    sheet.save(folder / "sheet.jpg", quality=92)
    (folder / "report.html").write_text(page(measured, sheet), encoding="utf-8")


def judged_frames(subject: Subject, measured: Measured) -> np.ndarray:
    """A sheet uint8 [H, W, 3]: the frames of best, median and worst head-box PSNR (whole-frame where there is no box),
    true over rendered over their brightened difference."""
    score = measured.fidelity["head.psnr"]
    score = np.where(np.isfinite(score), score, measured.fidelity["whole.psnr"])
    order = np.argsort(-score, kind="stable")
    places = [order[0], order[len(order) // 2], order[-1]]
    chosen = subject.frames[places]
    true, made = [subject.true(int(i)) for i in chosen], list(subject.render(chosen))
    apart = [np.clip(np.abs(a.astype(np.int16) - b) * DIFFERENCE_GAIN, 0, 255).astype(np.uint8)
             for a, b in zip(true, made, strict=True)]
    titles = ", ".join(f"{word} {i} ({score[k]:.1f} dB)" for word, i, k in
                       zip(("best", "median", "worst"), chosen, places, strict=True))
    return frame_grid([true, made, apart], [f"true: {titles}", "rendered", f"difference x {DIFFERENCE_GAIN}"])


def page(measured: Measured, sheet: Image.Image) -> str:
    """The report as HTML; pictures and curves are inside it, the video lies beside it."""
    f = measured.figures
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td><td>{escape(meaning)}</td></tr>"
                   for name, value, meaning in table(f))
    shown = {name: measured.apertures[key] for name, key in
             (("true", "true"), ("rendered", "rendered"), ("sound shuffled", "shuffled")) if key in measured.apertures}
    plot = ("<h2>Lip aperture</h2>" + curves(shown, "lip aperture over time", f["first_frame"]) +
            '<p class="note">Ticks under the axis: frames in which no face was found.</p>') if shown else ""
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=90)
    picture = base64.b64encode(data.getvalue()).decode()
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(f["dataset"])}: evaluation</title>'
            f"<style>{STYLE}</style><h1>{escape(f['dataset'])}</h1>"
            f"<p>Run {escape(Path(f['run']).name)}, checkpoint {f['checkpoint']} ({f['stage']} step {f['step']}). "
            f"{f['part'].capitalize()} part, {f['frames']} frames from {f['first_frame']} on ({f['seconds']:.1f} s); "
            f"{escape(f['split'])}. Target: {escape(f['target'])}. What drives the face: {escape(f['inputs'])}. "
            f"Averages: {escape(f['averaging'])}."
            f"</p><table>{rows}</table>{plot}<h2>Frames of best, median and worst head-box PSNR</h2>"
            f'<img alt="true, rendered, difference" src="data:image/jpeg;base64,{picture}">'
            '<h2>Side by side</h2><p class="note">Left the true frame, right rendered; AI-generated.</p>'
            '<video controls src="side_by_side.mp4"></video></html>\n')


def table(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the report: name, value, what it is."""
    rows = []
    for name, box in (("Whole frame", "whole"), ("Head box", "head")):
        values, where = figures[box], figures[box]["protocol"]
        rows += [(f"{name} PSNR", _text(values["psnr"], "{:.2f} dB"), f"peak signal over mean square error; {where}"),
                 (f"{name} SSIM", _text(values["ssim"]), "structural similarity, window 11; 1 is equal"),
                 (f"{name} LPIPS", _text(values["lpips"]),
                  figures["lpips_reason"] or "learned perceptual distance, AlexNet 0.1; 0 is equal")]
    lips = figures["lips"]
    if lips is None:
        return [*rows, ("Lips", "none", figures["lips_reason"])]
    late = "-" if lips["best_lag"] is None else f"{lips['best_lag']:+d} frames"
    return [*rows,
            ("Lip correlation", _text(lips["correlation"]), lips["reason"] or lips["measure"]),
            ("Best lag", late, f"{lips['lag_sign']}; correlation there {_text(lips['best_correlation'])}"),
            ("Lip motion", _text(lips["motion"], "{:.0%}"),
             "deviation of the rendered aperture over that of the true one; near 0 the mouth hardly moves"),
            ("Sound shuffled", _text(lips["shuffled_correlation"]),
             f"{lips['shuffled']}; chance alone gives 0 with deviation {_text(lips['shuffled_chance'], '{:.2f}')}"),
            ("Misses", f"{lips['misses']} of {lips['frames']}",
             f"frames without a face found on the render; {lips['misses_rule']}. With shuffled sound "
             f"{lips['shuffled_misses']}; on the true frames {lips['true_misses']}, which cannot be compared"),
            *([("Note", "", lips["hint"])] if "hint" in lips else [])]


def _text(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None else form.format(value)

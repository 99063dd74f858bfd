"""`evaluate()` and `evaluate_pair()`: figures as `metrics.json`, `report.html`, a sheet and a
side-by-side video.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.config import Config
from being.console import say
from being.conventions import FPS, SAMPLE_RATE
from being.data.consent import consent_note
from being.errors import BeingError, InputRejected
from being.eval import gates
from being.eval.cross_driven import Driven, cross_driven, sources
from being.eval.evaluator import Measured
from being.eval.page import page
from being.eval.run_figures import measure, open_subject, part_sound
from being.eval.tables import lines
from being.eval.video_pair import Pair, measure_pair, pair_sound
from being.files import write_json
from being.media import VideoWriter
from being.model.device import pick_device
from being.paths import home, replace_folder
from being.report.sheet import frame_grid
from being.runs.run_directory import Run

FILES = ("metrics.json", "report.html", "sheet.jpg", "side_by_side.mp4")
VIDEO_NOTE = "Left the true frame, right the rendered one"
DIFFERENCE_GAIN = 4  # the sheet's third row shows absolute differences brightened so many times
SHORT_SECONDS, SHORT_SIDE, SHORT_QUALITY = (
    8,
    320,
    27,
)  # of the video inside the report: s, px a picture, x264's crf
WORST, WORST_CELL, WORST_GAP = (
    3,
    224,
    5,
)  # worst frames of each kind, px, frames that two of them lie apart at least
Pairs = Callable[
    [np.ndarray], list[tuple[np.ndarray, np.ndarray]]
]  # true and rendered pictures at places [n]


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
) -> dict[str, Any]:
    """Figures of the run at `run_path` (the most recent one by default) with "files", the paths of
    its report.

    cross: sounds and voices that the avatar also speaks (`cross.sources`); require: bounds as
    `gates.parse` reads them; frames: only the first so many of the part; identity: fetch the
    network of that measure; override: settings to measure with in place of the run's
    (`open_subject`). Writes `<run>/eval/` for the test part, `<run>/eval_<part>/` for another,
    `<run>/eval_size512/` and the like with settings; the folder appears whole or not at all. Raises
    UsageError, InputRejected, EnvironmentFault as `measure` and `Run.find` do, BeingError for an
    output place that cannot be made, and with exit code 5, when everything is written, for a bound
    that was missed.
    """
    bounds, names = gates.parse(require), sources(cross)
    run = Run.find(run_path)
    say(f"run {run.path}")
    if names and not (run.path / "avatar/manifest.json").is_file():
        raise InputRejected(
            f"{run.path} has no avatar yet",
            "only a finished run can speak other sound",
            "Train it to its end: the same command goes on",
        )
    subject = open_subject(run, part, pick_device(device), frames, override)
    folder = run.path / _folder_name(part, run.config, subject.config)
    sound, size = part_sound(subject.dataset, subject.frames), subject.clip.size
    note = f"{VIDEO_NOTE}. {consent_note(subject.dataset.manifest.get('consent'))}"
    with _folder(folder) as work:
        with _Videos(work, size, size, sound, note) as videos:
            measured = measure(subject, lips, videos.write, identity)
        spoken, driven = (
            cross_driven(run.path, subject.dataset, names, subject.clip.device)
            if names
            else (None, [])
        )
        if spoken:
            measured.figures["cross"] = spoken
        f = measured.figures
        facts = [
            f"Run {run.path.name}, checkpoint {f['checkpoint']} ({f['stage']} step {f['step']}). "
            f"{f['part'].capitalize()} part, {f['frames']} frames from {f['first_frame']} on "
            f"({f['seconds']:.1f} s); {f['split']}. Target: {f['target']}; {f['plate']}.",
            f"What drives the face: {f['inputs']}.",
        ]
        _write(
            work,
            f["dataset"],
            facts,
            measured,
            subject.pairs,
            subject.frames,
            videos.short,
            spoken,
            driven,
        )
    say(f"{part} part, {f['frames']} frames, {f['split']}; target: {f['target']}")
    return _told(folder, f, bounds)


def _folder_name(part: str, own: Config, used: Config) -> str:
    """Name of a report's folder: what is not measured as usual is told by it."""
    other = [
        f"{name}{getattr(used.data, name):g}"
        for name in ("size", "holdout")
        if getattr(used.data, name) != getattr(own.data, name)
    ]
    return "_".join(["eval", *([part] if part != "test" else []), *other])


def evaluate_pair(
    pred: Path,
    truth: Path,
    *,
    out: Path | None = None,
    require: str = "",
    frames: int | None = None,
    identity: bool = False,
) -> dict[str, Any]:
    """Figures of the video `pred` against the true one `truth`, with "files", the paths of the
    report.

    Writes the folder `out`, by default `eval/<pred>_<truth>/` under BEING_HOME or the current
    folder. Raises as `measure_pair` and `evaluate` do.
    """
    bounds = gates.parse(require)
    pair = Pair.open(pred, truth, frames)
    folder = out or home() / "eval" / f"{Path(pred).stem}_{Path(truth).stem}"
    with _folder(folder, out=True) as work:
        sound = pair_sound(pair, frames or 10**6)
        with _Videos(work, pair.width, pair.height, sound, VIDEO_NOTE) as videos:
            measured = measure_pair(pair, videos.write, identity)
        f = measured.figures
        facts = [
            f"{f['pred']} against {f['truth']}: {f['frames']} frames at {FPS} frames/s ({f['seconds']:.1f} s), "
            f"both from their first picture on. Target: {f['target']}."
        ]
        _write(
            work,
            f"{Path(pred).name} against {Path(truth).name}",
            facts,
            measured,
            pair.pairs,
            np.arange(f["frames"]),
            videos.short,
        )
    say(f"{f['frames']} frames; target: {f['target']}")
    return _told(folder, f, bounds)


def _told(folder: Path, figures: dict[str, Any], bounds: dict[str, float]) -> dict[str, Any]:
    """The figures with the report's files, said on the terminal; raises where a bound was missed."""
    say("\n".join([*lines(figures), f"report {folder / 'report.html'}"]))
    result = {**figures, "files": {name.split(".")[0]: str(folder / name) for name in FILES}}
    gates.check(result, bounds)
    return result


@contextmanager
def _folder(folder: Path, out: bool = False) -> Iterator[Path]:
    """A place to write to that becomes `folder` when all went well, and vanishes otherwise. Only an
    earlier report is replaced."""
    if (
        folder.is_file()
        or folder.is_dir()
        and any(folder.iterdir())
        and not (folder / FILES[0]).is_file()
    ):
        raise BeingError(
            f"{folder} exists and is not a report",
            "it would be replaced",
            "Choose another place with --out" if out else "Move it away",
        )
    work = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    except OSError as error:
        raise BeingError(
            f"cannot write {folder}",
            str(error),
            "Make its folder writable, or choose another place",
        ) from error
    try:
        yield work
        replace_folder(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Videos:
    """The side-by-side video, and a short small one that goes into the report."""

    def __init__(self, work: Path, width: int, height: int, sound: np.ndarray | None, note: str):
        scale = min(1.0, SHORT_SIDE / height)
        self.side = (round(width * scale), round(height * scale))
        self.path = work / "short.mp4"
        self._long = VideoWriter(
            work / "side_by_side.mp4", 2 * width, height, sound=sound, note=note
        )
        self._short = VideoWriter(
            self.path,
            2 * self.side[0],
            self.side[1],
            quality=SHORT_QUALITY,
            note=note,
            sound=None if sound is None else sound[: SHORT_SECONDS * SAMPLE_RATE],
        )
        self.short = b""

    def __enter__(self) -> _Videos:
        return self

    def write(self, true: np.ndarray, made: np.ndarray) -> None:
        """Append a pair of pictures uint8 [H, W, 3]."""
        both = np.concatenate([true, made], 1)
        self._long.write(both)
        if self._short.frames < SHORT_SECONDS * FPS:
            small = Image.fromarray(both).resize(
                (2 * self.side[0], self.side[1]), Image.Resampling.BICUBIC
            )
            self._short.write(np.asarray(small))

    def __exit__(self, *error: Any) -> None:
        self._short.__exit__(*error)
        self._long.__exit__(*error)
        if error[0] is None:
            self.short = self.path.read_bytes()
            self.path.unlink()


def _write(
    folder: Path,
    title: str,
    facts: Sequence[str],
    measured: Measured,
    pairs: Pairs,
    frames: np.ndarray,
    video: bytes,
    cross: dict[str, Any] | None = None,
    driven: Sequence[Driven] = (),
) -> None:
    """Write `metrics.json` (figures and their series), `sheet.jpg` and `report.html` into `folder`.

    pairs: gives true and rendered pictures; frames: int [F], the numbers of the measured frames.
    """
    per_frame = {
        key: [round(float(v), 5) if np.isfinite(v) else None for v in values]
        for key, values in measured.series.items()
    }
    write_json(
        folder / "metrics.json",
        {**measured.figures, "per_frame": {"frame": frames.tolist(), **per_frame}},
    )
    sheet = judged_frames(measured, pairs, frames)
    Image.fromarray(sheet).save(folder / "sheet.jpg", quality=92)
    html = page(
        title, facts, measured, sheet, worst_frames(measured, pairs, frames), video, cross, driven
    )
    (folder / "report.html").write_text(html, encoding="utf-8")


def judged_frames(measured: Measured, pairs: Pairs, frames: np.ndarray) -> np.ndarray:
    """A sheet uint8 [H, W, 3]: the frames of best, median and worst PSNR of the head (of the face
    without a head mask, of the whole frame without either), true over rendered over their
    brightened difference."""
    score = _score(measured)
    order = np.argsort(-score, kind="stable")
    places = np.array([order[0], order[len(order) // 2], order[-1]])
    true, made = zip(*pairs(places), strict=True)
    apart = [
        np.clip(np.abs(a.astype(np.int16) - b) * DIFFERENCE_GAIN, 0, 255).astype(np.uint8)
        for a, b in zip(true, made, strict=True)
    ]
    titles = ", ".join(
        f"{word} {frames[k]} ({score[k]:.1f} dB)"
        for word, k in zip(("best", "median", "worst"), places, strict=True)
    )
    return frame_grid(
        [true, made, apart], [f"true: {titles}", "rendered", f"difference x {DIFFERENCE_GAIN}"]
    )


def worst_frames(measured: Measured, pairs: Pairs, frames: np.ndarray) -> np.ndarray:
    """A sheet uint8 [H, W, 3]: the frames of lowest PSNR, then those of largest LMD, true over
    rendered, and their mouths enlarged."""
    score, distance = _score(measured), measured.series.get("lmd", np.full(len(frames), np.nan))
    by_score, by_lips = _apart(score), _apart(np.where(np.isfinite(distance), -distance, np.inf))
    places = np.array(by_score + [k for k in by_lips if np.isfinite(distance[k])])
    shown = pairs(places)
    true, made = [a for a, _ in shown], [b for _, b in shown]
    titles = [f"{frames[k]} ({score[k]:.1f} dB)" for k in by_score] + [
        f"{frames[k]} (LMD {distance[k]:.1f} px)" for k in places[len(by_score) :]
    ]
    rows, labels = [true, made], [f"true: {', '.join(titles)}", "rendered"]
    mouths = measured.boxes.get("mouth")
    if mouths is not None and all(mouths[k].any() for k in places):
        for pictures, name in ((true, "true mouths"), (made, "rendered mouths")):
            rows.append(
                [_cut(picture, mouths[k]) for picture, k in zip(pictures, places, strict=True)]
            )
            labels.append(name)
    return frame_grid(rows, labels, WORST_CELL)


def _score(measured: Measured) -> np.ndarray:
    """PSNR float [F] of the head, else of the face, else of the whole frame."""
    score = measured.series["whole.psnr"]
    for key in ("face.psnr", "head.psnr"):
        if key in measured.series:
            score = np.where(np.isfinite(measured.series[key]), measured.series[key], score)
    return score


def _apart(values: np.ndarray) -> list[int]:
    """Places of the lowest values, lowest first, that lie WORST_GAP apart."""
    chosen: list[int] = []
    for k in np.argsort(values, kind="stable").tolist():
        if len(chosen) < WORST and all(abs(k - other) >= WORST_GAP for other in chosen):
            chosen.append(k)
    return chosen


def _cut(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box of a picture, brought to the picture's proportions by the grid."""
    top, bottom, left, right = box.tolist()
    part = Image.fromarray(picture[top:bottom, left:right])
    return np.asarray(part.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BICUBIC))

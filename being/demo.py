"""The demo: the whole pipeline on the built-in clip of a synthetic person."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from being.config import load
from being.console import clock, console
from being.errors import BeingError
from being.files import new_file

TEXT = (
    "Hello! I am an avatar. A few minutes ago I was only a short video. Now I can say whatever "
    "you want me to say."
)
HOLDOUT = 0.2  # share of the clip that is not trained on; the figures are measured on it
# The demo fails when the correlation of rendered and true lip aperture is lower.
MIN_LIP_CORRELATION = 0.3


def run_demo(out: Path, config: str, text: str | None) -> dict[str, Any]:
    """Preprocess, train, measure and speak, all under `out`; returns paths and figures.

    After an interruption, the same call continues with the unfinished step.

    config: file or shipped name; text: what the avatar says (default: TEXT).
    """
    from being.data.dataset import Dataset
    from being.eval import evaluate
    from being.inference.engine import Engine
    from being.inference.video import StepTimes, VideoOutput, report_times, speak_video
    from being.preprocess.pipeline import preprocess_video
    from being.sample import sample_clip
    from being.train.training import train_avatar
    from being.tts.speech import checked_text
    from being.tts.voices import speak

    # Refuse wrong arguments before the long work.
    start = time.monotonic()
    text = checked_text(TEXT if text is None else text)
    settings = load(config, flags={"data.holdout": HOLDOUT})
    speak(text)
    _report_rasterizer()
    _make_folder(out)
    VideoOutput(out / "demo.mp4").check()

    console.info("1/4 video to dataset")
    data = out / "data" / "speaker"
    if not (data / "dataset.json").is_file():
        consent = "a synthetic person: nobody's face"
        preprocess_video(sample_clip(), data, name="speaker", consent=consent)
    Dataset.open(data)

    console.info(f"2/4 dataset to avatar ({config} config)")
    run = train_avatar(data, settings, Path(config).stem, runs=out / "runs")

    console.info("3/4 evaluation on held-out frames")
    figures = evaluate(run.path)

    console.info("4/4 text to talking video")
    times = StepTimes()
    with times.step("load"):
        engine = Engine.load(run.path)
    video = speak_video(engine, text, "hibari", 1.0, out / "demo.mp4", times)
    report_times(times.seconds, video["seconds"])

    # Put the most important files of the report beside the video.
    for name in ("sheet", "report", "side_by_side"):
        source = Path(figures["files"][name])
        with new_file(out / source.name) as part:
            shutil.copyfile(source, part)
    lips = figures["lips"]["correlation"] if figures["lips"] else None
    result = {
        "video": str(out / "demo.mp4"),
        "sheet": str(out / "sheet.jpg"),
        "report": str(out / "report.html"),
        "run": str(run.path),
        "psnr_head": figures["head"]["psnr"],
        "lip_correlation": lips,
        "lips_follow": lips is not None and lips >= MIN_LIP_CORRELATION,
        "seconds": round(time.monotonic() - start),
    }
    console.info(_summary(result))
    return result


def _report_rasterizer() -> None:
    """Print whether the fast rasterizer of the CPU can run here."""
    from being.splat import available_backends

    status = available_backends()["cpu"]
    console.info(f"rasterizer on the CPU: {status}")
    if not status.startswith("OK"):
        console.info(
            "without it the demo takes hours instead of minutes; install the compiler named above "
            "and set up again"
        )


def _make_folder(out: Path) -> None:
    """Make the folder of a demo, or take an earlier one. Raises BeingError for any other folder."""
    try:
        if out.is_dir() and any(out.iterdir()) and not (out / "data" / "speaker").is_dir():
            raise BeingError(
                f"{out} is not the folder of a demo",
                "files in it could be replaced",
                "Choose another one with --out",
            )
        # By the empty folder of the dataset a later call knows the demo's folder.
        (out / "data" / "speaker").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BeingError(
            f"cannot make the folder {out}", str(error), "Choose another one with --out"
        ) from error


def _summary(result: dict[str, Any]) -> str:
    lips = result["lip_correlation"]
    correlation = "not measured" if lips is None else f"{lips:.2f}"
    return (
        f"done in {clock(result['seconds'])}; on held-out frames: head-box PSNR "
        f"{result['psnr_head']:.2f} dB, correlation of lip aperture with the truth {correlation}\n"
        f"watch   {result['video']}\nlook at {result['sheet']}\nread    {result['report']}"
    )

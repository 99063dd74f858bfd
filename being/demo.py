"""`being demo`: the whole pipeline on the built-in clip of a person who does not exist."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from being.config import load
from being.console import clock, say
from being.errors import BeingError

TEXT = "Hello! I am an avatar. A few minutes ago I was only a short video. Now I can say whatever you want me to say."
HOLDOUT = 0.2  # share of the clip that training never sees; lip motion is measured on it
LIPS_FOLLOW = (
    0.3  # correlation of rendered and true lip aperture under which the demo counts as failed
)


def run_demo(out: Path, config: str, text: str | None) -> dict[str, Any]:
    """Preprocess, train, measure and speak, all under `out`; paths and figures. Killed, it goes on
    where it stopped.
    """
    from being.data.dataset import Dataset
    from being.eval import evaluate
    from being.inference.engine import Engine
    from being.inference.video import Times, report_times, speak_video
    from being.preprocess import preprocess
    from being.sample import sample_clip
    from being.splat import available_backends
    from being.train.training import train
    from being.tts.speech import checked_text
    from being.tts.voices import speak

    start = time.monotonic()
    text, settings = (
        checked_text(TEXT if text is None else text),
        load(config, flags={"data.holdout": HOLDOUT}),
    )
    speak(text)  # what the voice cannot say is refused now, not after the training
    status = available_backends()["cpu"]
    say(f"rasterizer on the CPU: {status}")
    if not status.startswith("OK"):
        say(
            "without it the demo takes hours instead of minutes; install the compiler named above and set up again"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BeingError(
            f"cannot make the folder {out}", str(error), "Choose another one with --out"
        ) from error
    say("1/4 video to dataset")
    data = out / "data" / "speaker"
    if not (data / "dataset.json").is_file():
        preprocess(sample_clip(), data, name="speaker", consent="a synthetic person: nobody's face")
    Dataset.open(data)
    say(f"2/4 dataset to avatar ({config} config)")
    run = train(data, settings, Path(config).stem, runs=out / "runs")
    say("3/4 measure on frames that training has not seen")
    figures = evaluate(run.path)
    say("4/4 text to talking video")
    times = Times()
    with times.step("load"):
        engine = Engine.load(run.path)
    video = speak_video(engine, text, "hibari", 1.0, out / "demo.mp4", times)
    report_times(times.seconds, video["seconds"])
    for name in ("sheet", "report", "side_by_side"):
        shutil.copy(figures["files"][name], out)
    lips = figures["lips"]["correlation"] if figures["lips"] else None
    result = {
        "video": str(out / "demo.mp4"),
        "sheet": str(out / "sheet.jpg"),
        "report": str(out / "report.html"),
        "run": str(run.path),
        "psnr_head": figures["head"]["psnr"],
        "lip_correlation": lips,
        "lips_follow": lips is not None and lips >= LIPS_FOLLOW,
        "seconds": round(time.monotonic() - start),
    }
    found = "not measured" if lips is None else f"{lips:.2f}"
    say(
        f"done in {clock(result['seconds'])}; on frames never trained on: head-box PSNR {result['psnr_head']:.2f} dB, "
        f"correlation of lip motion with the truth {found}\nwatch   {result['video']}\nlook at {result['sheet']}\n"
        f"read    {result['report']}"
    )
    return result

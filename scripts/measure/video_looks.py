"""Frame rates and transparency of rendered videos against what they should be.

    python -m scripts.measure.video_looks RUN AUDIO [--seconds 10]

Frame rate: the lip opening (face landmarks of the frames) of the video at 60 frames a second, read
at the times of the one at 25, against that: correlation r, and how many neighbouring frames are
equal. Transparency: the matte of the avatar that speaks its own clip against that of the footage,
head and torso: mean error, 1 is opaque. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from being.audio.feature_windows import frame_count
from being.data.clip import head_mask
from being.data.dataset import Dataset
from being.data.surround import torsos_of
from being.face.landmarks import FaceLandmarker, lip_aperture
from being.inference.engine import Engine
from being.inference.look import TRANSPARENT, Look
from being.interop.surround import frames_of
from being.media import read_audio
from being.model.avatar import load_avatar
from being.runs.run_directory import Run


def lip_curve(frames: list[np.ndarray]) -> np.ndarray:
    """Lip opening of each frame, float64."""
    return lip_aperture(FaceLandmarker().track(frames).points)


def rate_figures(run: Path, samples: np.ndarray) -> dict[str, float]:
    """The video at 60 frames a second against that at 25."""
    frames: dict[int, list[np.ndarray]] = {}
    for fps in (25, 60):
        engine = Engine.load(run, look=Look(fps=fps))
        blocks = engine.encode(samples)
        frames[fps] = [image.copy() for image in engine.video(blocks, frame_count(samples))]
    slow, fast = lip_curve(frames[25]), lip_curve(frames[60])
    times = np.arange(len(slow)) / 25
    there = np.interp(times, np.arange(len(fast)) / 60, fast)
    equal = sum(np.array_equal(a, b) for a, b in zip(frames[60], frames[60][1:], strict=False))
    return {"lip_r": round(float(np.corrcoef(there, slow)[0, 1]), 4), "equal_neighbours": equal}


def matte_error(run: Path, seconds: float) -> float:
    """Mean absolute difference of the rendered matte and that of the footage."""
    engine = Engine.load(run, look=Look(background=TRANSPARENT))
    dataset = Dataset.open(Run.open(run).dataset)
    avatar = load_avatar(run)
    poses = frames_of(avatar, dataset)
    count = min(len(poses), round(seconds * 25))
    samples = dataset.audio()[poses.start * 640 : (poses.start + count) * 640]
    torsos = torsos_of(dataset, poses, avatar.size).mattes()
    errors = []
    for k, image in enumerate(engine.video(engine.encode(samples), count)):
        head = head_mask(dataset, poses[k], avatar.size) / 255
        torso = next(torsos) / 255
        truth = head + (1 - head) * torso
        errors.append(np.abs(image[..., 3] / 255 - truth).mean())
    return round(float(np.mean(errors)), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    samples = read_audio(options.audio)[: round(16_000 * options.seconds)]
    figures = rate_figures(options.run, samples)
    print(json.dumps({**figures, "matte_error": matte_error(options.run, options.seconds)}))


if __name__ == "__main__":
    main()
